"""GENA-LM and the recurrent memory in the rest of the package: loading by folder, fine-tuning, prediction, refusals."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BigBirdConfig,
    BigBirdForMaskedLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
)

import gengram
from gengram import GenaBertConfig, GenaBertForMaskedLM, loading
from gengram.pipelines.command import predict
from gengram.tokenization import BpeTokenizer
from gengram.tokenization.train_tokenizer import train_bpe_tokenizer
from gengram.training.command import finetune as main

SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
SEGMENTS = {"num_memory_tokens": 2, "segment_length": 12}


def make_tokenizer() -> BpeTokenizer:
    bases = "".join(np.random.default_rng(0).choice(list("ACGT"), 4000))
    return train_bpe_tokenizer([bases], vocab_size=64)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    """A language model in the published layout: `model_type` bert, foreign code, a tokenizer without length."""
    folder = tmp_path_factory.mktemp("gena")
    torch.manual_seed(0)
    GenaBertForMaskedLM(GenaBertConfig(vocab_size=64, max_position_embeddings=32, **SMALL)).save_pretrained(folder)
    for file in folder.glob("*.py"):
        file.unlink()
    fields = json.loads((folder / "config.json").read_text())
    fields |= {"model_type": "bert", "auto_map": {"AutoModel": "modeling_bert.BertForMaskedLM"}}
    (folder / "config.json").write_text(json.dumps(fields))
    make_tokenizer().save_pretrained(folder)
    described = json.loads((folder / "tokenizer_config.json").read_text())
    described = {"tokenizer_class": "PreTrainedTokenizerFast"} | {
        name: value for name, value in described.items() if name.endswith("_token")
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(described))
    return str(folder)


def read_report(run_folder) -> dict:
    return json.loads((run_folder / "report.json").read_text())


def test_published_folder_is_fine_tuned_and_asked(checkpoint, command, run_folder, task, tmp_path):
    assert main(command(model_name_or_path=checkpoint)) == 0
    report = read_report(run_folder)
    assert report["model"]["class"] == "GenaBertForSequenceClassification"
    assert set(report["model"]["new_weights"]) == {
        *("bert.pooler.dense.weight", "bert.pooler.dense.bias"),
        *("classifier.weight", "classifier.bias"),
    }
    assert report["data"]["max_length"] == 32
    assert predict([str(run_folder), task["test_file"], "--out", str(tmp_path / "answers.parquet")]) == 0
    assert len(pd.read_parquet(tmp_path / "answers.parquet")) == 20


def test_lower_case_and_gaps_are_read(checkpoint):
    tokenizer = loading.load_tokenizer(checkpoint)
    assert isinstance(tokenizer, BpeTokenizer)
    assert tokenizer("acgt")["input_ids"] == tokenizer("ACGT")["input_ids"]
    assert (
        AutoTokenizer.from_pretrained(checkpoint)("acgt")["input_ids"] == tokenizer("acgt")["input_ids"]
    )  # trained here
    assert tokenizer("A" + "N" * 20, return_offsets_mapping=True)["offset_mapping"][-2] == (1, 21)


@pytest.mark.parametrize("problem", ["multi_label", "regression"])
def test_several_labels_and_several_targets(problem, checkpoint, command, run_folder, tmp_path):
    random = np.random.default_rng(0)
    values = random.integers(0, 2, (40, 3)) if problem == "multi_label" else random.normal(size=(40, 3))
    table = pd.DataFrame(values, columns=["label_a", "label_b", "label_c"])
    table.insert(0, "sequence", ["".join(random.choice(list("ACGT"), 40)) for _ in range(40)])
    table.to_csv(tmp_path / "train.csv", index=False)
    given = {"train_file": tmp_path / "train.csv", "test_file": None, "model_name_or_path": checkpoint}
    assert main(command(**given)) == 0
    assert read_report(run_folder)["data"]["problem"] == problem


def test_from_scratch_with_a_trained_tokenizer(command, run_folder, tmp_path):
    make_tokenizer().save_pretrained(tmp_path / "tokenizer")
    fields = {**SMALL, "position_embedding_type": "rotary", "last_layer_norm": True}
    assert (
        main(command(backbone="gena_bert", backbone_config=fields, tokenizer_name_or_path=tmp_path / "tokenizer")) == 0
    )
    report = read_report(run_folder)
    assert report["model"]["backbone"] == "gena_bert"
    config = AutoConfig.from_pretrained(run_folder / "seed-0")
    assert config.get_text_config().vocab_size == 64


@pytest.mark.parametrize("start", ["checkpoint", "scratch"])
def test_sequences_longer_than_the_model_are_read_in_segments(
    start, checkpoint, command, run_folder, task, tmp_path, capsys
):
    rows = pd.read_csv(task["train_file"])
    rows["seq"] = rows["seq"] * 12  # about 300 bp: more than 32 tokens
    rows.to_csv(tmp_path / "long.csv", index=False)
    make_tokenizer().save_pretrained(tmp_path / "tokenizer")
    given = {"train_file": tmp_path / "long.csv", "test_file": None}
    if start == "checkpoint":
        given["model_name_or_path"] = checkpoint
        assert main(command(**given)) == 1
        assert "the limit is 32 tokens" in capsys.readouterr().err
    else:
        given |= {"backbone": "gena_bert", "backbone_config": SMALL, "tokenizer_name_or_path": tmp_path / "tokenizer"}
    assert main(command(rmt=SEGMENTS, **given)) == 0
    report = read_report(run_folder)
    assert report["model"]["class"] == "RmtForSequenceClassification"
    if start == "checkpoint":
        assert "model.memory_tokens.weight" in report["model"]["new_weights"]
        assert "head.classifier.weight" in report["model"]["new_weights"]
    assert predict([str(run_folder), str(tmp_path / "long.csv"), "--out", str(tmp_path / "answers.parquet")]) == 0
    answers = pd.read_parquet(tmp_path / "answers.parquet")
    model = AutoModelForSequenceClassification.from_pretrained(run_folder / "seed-0")
    tokenizer = loading.load_tokenizer(run_folder / "seed-0")
    with torch.no_grad():
        logits = model(**tokenizer(rows["seq"][0], return_tensors="pt")).logits
    expected = logits.softmax(-1)[0, model.config.label2id["with"]].item()
    assert answers["probability_with"][0] == pytest.approx(expected, abs=1e-5)


def test_a_recurrent_memory_is_fine_tuned_again(checkpoint, command, run_folder, tmp_path, draw_table):
    assert main(command(model_name_or_path=checkpoint, rmt=SEGMENTS)) == 0
    draw_table(30, 2, classes=("none", "some", "motif")).to_csv(tmp_path / "three.csv", index=False)
    given = {"train_file": tmp_path / "three.csv", "test_file": None, "output_dir": tmp_path / "again"}
    assert main(command(model_name_or_path=run_folder / "seed-0", **given)) == 0
    report = json.loads((tmp_path / "again" / "report.json").read_text())
    assert set(report["model"]["new_weights"]) == {"head.classifier.weight", "head.classifier.bias"}


def test_labels_of_bases_in_segments(command, run_folder, task, tmp_path):
    rows = pd.read_csv(task["train_file"])
    rows["label"] = ["".join("1" if base == "T" else "0" for base in sequence) for sequence in rows["seq"]]
    rows.to_csv(tmp_path / "bases.csv", index=False)
    given = {"train_file": tmp_path / "bases.csv", "test_file": None, "backbone": "gena_bert", "backbone_config": SMALL}
    given |= {"learning_rate": 0.01, "num_train_epochs": 12, "per_device_train_batch_size": 8}
    assert main(command(rmt=SEGMENTS, **given)) == 0
    report = read_report(run_folder)
    assert report["model"]["class"] == "RmtForTokenClassification"
    assert report["validation"]["mcc"]["mean"] > 0.5  # T can be told from its letter


@pytest.mark.parametrize(
    ("rmt", "message"),
    [
        ({"memory_tokens": 2}, "no field 'memory_tokens'"),
        ({"num_memory_tokens": 40, "segment_length": 12}, "leaves no room for content"),
    ],
)
def test_segments_that_cannot_be_are_refused(rmt, message, checkpoint, command, capsys):
    assert main(command(model_name_or_path=checkpoint, rmt=rmt)) == 1
    assert message in capsys.readouterr().err


def test_an_adapter_has_no_segments(checkpoint, command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(command(model_name_or_path=checkpoint, rmt=SEGMENTS, peft="lora"))
    assert stopped.value.code == 2 and "peft and rmt exclude each other" in capsys.readouterr().err


def test_modern_gena_keeps_its_angles(tmp_path):
    sizes = {**SMALL, "vocab_size": 64, "max_position_embeddings": 1024, "local_attention": 8}
    tokens = {"pad_token_id": 3, "bos_token_id": 1, "cls_token_id": 1, "eos_token_id": 2, "sep_token_id": 2}
    ModernBertForMaskedLM(ModernBertConfig(**sizes, **tokens)).save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    for name in ("rope_parameters", "layer_types"):  # as the published file has them, which an older version wrote
        fields.pop(name)
    fields |= {"global_rope_theta": 10000.0, "local_rope_theta": 10000.0, "global_attn_every_n_layers": 3}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    model = gengram.auto(tmp_path, "masked_lm")
    parameters = model.config.rope_parameters
    assert {parameters[kind]["rope_theta"] for kind in ("full_attention", "sliding_attention")} == {10000.0}
    assert gengram.auto(tmp_path, "sequence_classification", num_labels=3).config.num_labels == 3


def test_big_bird_is_mended_and_fast(tmp_path):
    torch.manual_seed(0)
    config = BigBirdConfig(
        vocab_size=64,
        max_position_embeddings=256,
        block_size=8,
        num_random_blocks=1,
        pad_token_id=3,
        bos_token_id=1,
        eos_token_id=2,
        **SMALL,
    )
    assert config.sep_token_id == 66
    original = BigBirdForMaskedLM(config).eval()
    original.save_pretrained(tmp_path)
    model = gengram.auto(tmp_path, "masked_lm")
    assert model.config.sep_token_id == 2 and model.config.model_type == "big_bird"
    ids = torch.randint(5, 64, (2, 128))
    with torch.no_grad():
        expected = original(ids).logits
        torch.testing.assert_close(model.eval()(ids).logits, expected, atol=1e-5, rtol=1e-5)
        model(ids[:, :16])  # a short input first changes nothing
        torch.testing.assert_close(model(ids).logits, expected, atol=1e-5, rtol=1e-5)
    kinds = {type(layer.attention.self).__name__ for layer in model.bert.encoder.layer}
    assert kinds == {"FastBlockSparseAttention"}


def test_chromatin_of_the_published_format(shared, checkpoint, command, run_folder):
    """Real rows of DeepSEA, 919 labels."""
    table = shared / "data" / "gena" / "deepsea" / "test.dataset.csv.gz"
    given = {"train_file": table, "test_file": None, "too_long": "center", "pos_weight": 8, "max_steps": 2}
    assert main(command(model_name_or_path=checkpoint, **given)) == 0
    report = read_report(run_folder)
    assert len(report["data"]["classes"]) == 919 and report["data"]["train"]["truncated_rows_in_file"] == 100
