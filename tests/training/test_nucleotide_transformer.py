"""Nucleotide Transformers in the rest of the package: fine-tuning, prediction, adapters, refusals."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from peft import AutoPeftModelForSequenceClassification, IA3Config, LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from gengram import (
    NucleotideTransformerConfig,
    NucleotideTransformerForMaskedLM,
    NucleotideTransformerForSequenceClassification,
)
from gengram.pipelines.command import predict
from gengram.tokenization import build_kmer_tokenizer, list_kmer_vocabulary
from gengram.training.command import finetune as main

FIELDS = {
    "v1": {
        "vocab_size": 4105,
        "gated_mlp": False,
        "mlp_bias": True,
        "position_embedding_type": "absolute",
        "token_dropout": True,
    },
    "v2": {},
}


def save_small(folder, generation: str):
    torch.manual_seed(0)
    config = NucleotideTransformerConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=34,
        **FIELDS[generation],
    )
    NucleotideTransformerForMaskedLM(config).save_pretrained(folder)
    build_kmer_tokenizer(6, generation).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("generation", FIELDS)
def test_fine_tuned_and_asked(generation, command, run_folder, task, tmp_path):
    save_small(tmp_path / "nt", generation)
    assert main(command(model_name_or_path=tmp_path / "nt")) == 0
    report = json.loads((run_folder / "report.json").read_text())
    assert report["test"]["accuracy"]["mean"] is not None
    model = NucleotideTransformerForSequenceClassification.from_pretrained(run_folder / "seed-0")
    assert model.config.label2id.keys() == {"with", "without"}
    assert predict([str(run_folder), task["test_file"], "--out", str(tmp_path / "answers.parquet")]) == 0
    answers = pd.read_parquet(tmp_path / "answers.parquet")
    assert len(answers) == 20 and set(answers["prediction"]) <= {"with", "without"}


def test_published_form_is_fine_tuned(command, run_folder, tmp_path):
    folder = save_small(tmp_path / "nt", "v2")
    weights = load_file(folder / "model.safetensors")
    weights["esm.embeddings.position_embeddings.weight"] = torch.zeros(34, 16)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    fields = json.loads((folder / "config.json").read_text())
    for name in ("model_type", "gated_mlp", "mlp_bias", "auto_map", "rescaling_factor"):
        fields.pop(name, None)
    (folder / "config.json").write_text(json.dumps({**fields, "add_bias_fnn": False}))
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(list_kmer_vocabulary()))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "EsmTokenizer", "eos_token": None, "model_max_length": 2048})
    )
    assert main(command(model_name_or_path=folder)) == 0
    assert json.loads((run_folder / "seed-0" / "config.json").read_text())["model_type"] == "nucleotide_transformer"


def test_longer_than_the_model_is_refused_with_both_numbers(command, tmp_path, capsys):
    save_small(tmp_path / "nt", "v1")
    pd.DataFrame({"sequence": ["ACGTGT" * 32, "TTTACG" * 8] * 10, "label": ["a", "b"] * 10}).to_csv(
        tmp_path / "long.csv", index=False
    )
    arguments = command(model_name_or_path=tmp_path / "nt", train_file=tmp_path / "long.csv", test_file=None)
    assert main(arguments) == 1
    message = capsys.readouterr().err
    assert "33" in message and "32" in message  # 192 bp are 32 k-mers and <cls>; the model takes 32 tokens


def test_memory_is_refused_because_of_the_tokens(command, tmp_path, capsys):
    save_small(tmp_path / "nt", "v2")
    assert main(command(model_name_or_path=tmp_path / "nt", memory=True)) == 1
    message = capsys.readouterr().err
    assert "reads single bases" in message and "'ACGTAC'" in message and "leave --memory out" in message


def test_labels_of_bases_are_refused_because_of_the_tokens(command, tmp_path, capsys):
    save_small(tmp_path / "nt", "v2")
    random = np.random.default_rng(0)
    rows = [{"sequence": "".join(random.choice(list("ACGT"), 24)), "label": [0, 1] * 12} for _ in range(20)]
    pd.DataFrame(rows).to_json(tmp_path / "bases.jsonl", orient="records", lines=True)
    arguments = command(model_name_or_path=tmp_path / "nt", train_file=tmp_path / "bases.jsonl", test_file=None)
    assert main(arguments) == 1
    assert "token" in capsys.readouterr().err


@pytest.mark.parametrize("adapter", [LoraConfig(task_type="SEQ_CLS", r=2), IA3Config(task_type="SEQ_CLS")])
def test_adapters_need_no_list_of_layers(adapter, tmp_path):
    base = save_small(tmp_path / "nt", "v2")
    torch.manual_seed(0)
    model = get_peft_model(NucleotideTransformerForSequenceClassification.from_pretrained(base, num_labels=3), adapter)
    adapted = {
        name.split(".base_layer")[0].split("layer.")[-1].split(".", 1)[1]
        for name, _ in model.named_parameters()
        if ".base_layer.weight" in name
    }
    if isinstance(adapter, LoraConfig):
        assert adapted == {"attention.self.query", "attention.self.value"}
    else:
        assert {"attention.self.key", "attention.self.value", "output.dense"} <= adapted
        assert not {"attention.self.query", "intermediate.dense"} & adapted
    batch = build_kmer_tokenizer()(["ACGTGTTTACGA", "TTTTTTN"], padding=True, return_tensors="pt")
    optimizer = torch.optim.Adam([weight for weight in model.parameters() if weight.requires_grad], lr=1e-2)
    for _ in range(2):
        model(**batch, labels=torch.tensor([0, 2])).loss.backward()
        optimizer.step()
    model.save_pretrained(tmp_path / "adapter")
    assert (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size < 100_000
    again = AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "adapter", num_labels=3)
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(**batch).logits, model.eval()(**batch).logits, rtol=0, atol=1e-6)
