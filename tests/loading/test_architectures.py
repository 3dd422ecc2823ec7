"""Other architectures of transformers, with a BPE of DNA: what each does in its own way must not show in a verb."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
)

import gengram
from gengram.loading import load_tokenizer, measure_capacity
from gengram.pipelines.command import embed, predict
from gengram.pipelines.embed import embed_sequences
from gengram.training.command import finetune

SIZE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
LENGTH = {"max_position_embeddings": 64, "pad_token_id": 3, "bos_token_id": 1, "eos_token_id": 2}
SHORT = {"d_model": 32, "pad_token_id": 3, "eos_token_id": 2, "decoder_start_token_id": 3}
BART = {"max_position_embeddings": 64, "bos_token_id": 1} | {
    f"{part}_{name}": size
    for part in ("encoder", "decoder")
    for name, size in (("layers", 2), ("attention_heads", 4), ("ffn_dim", 48))
}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
# model_type -> head, fields, the longest input in tokens.
FORMS = {
    "bert": (AutoModelForMaskedLM, SIZE | LENGTH, 64),
    "roberta": (AutoModelForMaskedLM, SIZE | LENGTH, 60),  # Positions are counted from the padding's id.
    "camembert": (AutoModelForMaskedLM, SIZE | LENGTH, 60),
    "longformer": (AutoModelForMaskedLM, SIZE | LENGTH | {"attention_window": [8, 8]}, 60),
    "mpnet": (AutoModelForMaskedLM, SIZE | LENGTH, 60),
    "deberta-v2": (AutoModelForMaskedLM, SIZE | LENGTH, 64),
    "qwen2": (AutoModelForCausalLM, SIZE | LENGTH | {"num_key_value_heads": 2}, 64),  # Its class adds a token.
    "codegen": (
        AutoModelForCausalLM,
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "rotary_dim": 4},
        64,
    ),
    "bart": (AutoModelForSeq2SeqLM, SHORT | BART, 64),
    "t5": (AutoModelForSeq2SeqLM, SHORT | {"d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}, 512),
    # They see padding.
    "fnet": (AutoModelForMaskedLM, SIZE | LENGTH, 64),
    "convbert": (AutoModelForMaskedLM, SIZE | LENGTH | {"embedding_size": 32}, 64),
    "xlnet": (AutoModelForCausalLM, {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48, "pad_token_id": 3}, 512),
}
WITHOUT_CLASSES = ("codegen",)
SEQUENCES = ["".join(np.random.default_rng(n).choice(list("ACGT"), n)) for n in (20, 36, 25, 44)]


def write_form(model_type: str, folder: Path) -> None:
    names = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    words = [*names, *"ACGT", "AC", "GT"]
    tokenizer = Tokenizer(
        BPE({word: index for index, word in enumerate(words)}, [("A", "C"), ("G", "T")], unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = Split("\n", "isolated")
    around = [("[CLS]", 1), ("[SEP]", 2)]
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=around)
    tokenizer.add_special_tokens(names)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512}
    settings |= {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "cls", "sep", "pad", "mask")}
    auto_class, fields, _ = FORMS[model_type]
    torch.manual_seed(0)
    auto_class.from_config(AutoConfig.for_model(model_type, vocab_size=len(words), **fields)).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


@pytest.fixture(params=FORMS, scope="module")
def form(request, tmp_path_factory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("form")
    write_form(request.param, folder)
    return request.param, folder


@torch.no_grad()
def test_vectors_are_the_encoders(form, tmp_path):
    _, folder = form
    pd.DataFrame({"sequence": SEQUENCES}).to_csv(tmp_path / "t.csv")
    options = ["--model", str(folder), "--out", str(tmp_path / "out.npz"), "--dtype", "float32"]
    assert embed([str(tmp_path / "t.csv"), *options]) == 0
    model, tokenizer = gengram.auto(folder).eval(), load_tokenizer(folder)
    model = model.get_encoder() if model.config.is_encoder_decoder else model
    expected = [
        model(input_ids=tokenizer(each, return_tensors="pt")["input_ids"]).last_hidden_state[0].mean(0).numpy()
        for each in SEQUENCES
    ]
    np.testing.assert_allclose(np.load(tmp_path / "out.npz")["embeddings"], np.stack(expected), rtol=0, atol=1e-5)


def test_the_longest_input_is_read_and_no_longer_one_is_tried(form):
    name, folder = form
    model, tokenizer = gengram.auto(folder), load_tokenizer(folder)
    limit = measure_capacity(model.config, tokenizer)
    assert limit == FORMS[name][2]
    longest = "A" * (limit - 2)
    assert len(tokenizer(longest)["input_ids"]) == limit
    assert np.isfinite(embed_sequences(model, tokenizer, [longest])).all()
    with pytest.raises(ValueError, match=rf"\b{limit}\b"):
        embed_sequences(model, tokenizer, [f"{longest}A"])


def test_finetune_and_predict(form, tmp_path, capsys):
    name, folder = form
    table, run = tmp_path / "t.csv", tmp_path / "run"
    pd.DataFrame({"sequence": SEQUENCES * 2, "label": ["a", "b"] * 4}).to_csv(table)
    argv = ["--train_file", table, "--model", folder, "--output_dir", run, "--max_steps", 1, "--report_to", "none"]
    code = finetune([*map(str, argv), "--validation_fraction", "0"])
    told = capsys.readouterr().err
    if name in WITHOUT_CLASSES:
        assert code == 1 and f"there is no class of {name} for sequence_classification" in told
        return
    assert code == 0, told
    assert predict([str(run), str(table), "--out", str(tmp_path / "out.csv")]) == 0
    model, tokenizer = gengram.auto(run, "sequence_classification").eval(), load_tokenizer(run)
    with torch.no_grad():
        logits = [model(tokenizer(each, return_tensors="pt")["input_ids"]).logits[0] for each in SEQUENCES * 2]
    found = pd.read_csv(tmp_path / "out.csv")[["probability_a", "probability_b"]].to_numpy()
    np.testing.assert_allclose(found, torch.stack(logits).softmax(-1).numpy(), rtol=0, atol=1e-5)


def test_a_tokenizer_gets_no_token_that_its_file_lacks(form):
    _, folder = form
    assert len(load_tokenizer(folder)) == Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size()
    assert len(gengram.tokenization.load_bpe_tokenizer(folder)) == 11


def test_a_configuration_of_other_sizes_is_told(tmp_path, capsys):
    """The weights fit; the first batch does not run."""
    write_form("t5", tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(fields | {"relative_attention_num_buckets": 32, "num_heads": 2}))
    pd.DataFrame({"sequence": SEQUENCES}).to_csv(tmp_path / "t.csv")
    assert embed([str(tmp_path / "t.csv"), "--model", str(tmp_path), "--out", str(tmp_path / "out.npz")]) == 1
    assert str(tmp_path) in capsys.readouterr().err and not (tmp_path / "out.npz").exists()
