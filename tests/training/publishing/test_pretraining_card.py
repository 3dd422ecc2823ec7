"""The card of a pre-trained model: corpus, contigs that it has read, stages, bits per base."""

import json

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from gengram.cli import main
from gengram.model_cards.pretraining import describe_pretraining
from gengram.tokenization import build_nucleotide_tokenizer

SIZE = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
STAGE = {"stage": 1, "steps": 4, "block_size": 8192, "tokens": 32768, "learning_rate": 1e-3, "strand": "random"}
REPORT = {
    "gengram_version": "0.1.0",
    "transformers_version": "5.23.0",
    "torch_version": "2.13.0",
    "model": {"objective": "causal", "model_name_or_path": None},
    "corpus": {
        "name": "**two** | genomes",
        "sha256": "0123456789abcdef" * 4,
        "licence": "unknown",
        "contigs": {
            "yeast": {"train": ["II", "chr22:1-9"], "validation": ["XV"], "left_out": ["I"]},
            "fly": {"train": [f"c{number}" for number in range(70)]},
        },
        "held_out": [
            {"species": "yeast", "record": "XV", "start": 0, "end": 900, "split": "validation"},
            {"species": "yeast", "record": "II", "start": 1000, "end": 2000, "split": "test"},
        ],
        "left_out": [{"species": "yeast", "record": "II", "start": 5000, "end": 6000, "reason": "leave_out"}],
    },
    "stages": [STAGE],
    "results": [{"stage": 1, "loss": 1.25, "bits_per_base": 1.8}],
    "tokens": 32768,
    "bases": 32000,
    "evaluation": {
        "bits_per_base": 1.9,
        "bits_per_base_low": 1.85,
        "bits_per_base_high": 1.95,
        "species/yeast/bits_per_base": 1.92,
    },
}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "model"
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(vocab_size=128, max_position_embeddings=64, **SIZE)).save_pretrained(folder)
    build_nucleotide_tokenizer().save_pretrained(folder)
    (folder / "pretraining.json").write_text(json.dumps(REPORT))
    return folder


def test_the_card_lists_what_was_read_and_what_was_not(folder, capsys):
    assert main(["card", "lab/model", "--model", str(folder), "--quiet"]) == 0
    card = capsys.readouterr().out
    assert r"Corpus \*\*two\*\* &#124; genomes" in card and "licence not stated" in card
    assert "| yeast | II, chr22:1-9 | XV | I |" in card
    assert "c59 and 10 more" in card
    assert "| yeast | II | 1,000 | 2,000 | held out (test) |" in card
    assert "| yeast | II | 5,000 | 6,000 | left out |" in card and "| yeast | XV | 0 |" not in card
    assert "| bits per base | 1.9000 | 1.8500 to 1.9500 |" in card
    assert "| bits per base, species yeast | 1.9200 |" in card
    assert "Pre-trained from random weights." in card and "blocks were at most 8,192 tokens" in card
    assert "gengram 0.1.0, transformers 5.23.0, torch 2.13.0." in card


def test_it_is_pushed_with_its_card_and_without_the_report(folder, capsys):
    assert main(["push", "lab/model", "--model", str(folder), "--dry_run", "--json", "--quiet"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert "pretraining.json" in told["not_published"]
    assert "README.md" in {one["path"] for one in told["files"]}


def test_nothing_measured_is_said(folder, capsys):
    (folder / "pretraining.json").write_text(json.dumps({**REPORT, "evaluation": None}))
    assert main(["card", "lab/model", "--model", str(folder), "--quiet"]) == 0
    assert "Nothing was held out, so this card claims no figures." in capsys.readouterr().out


@pytest.mark.parametrize("content", ["[]", "{}", "{", json.dumps({**REPORT, "corpus": 5})])
def test_a_report_that_is_none_is_refused(content, folder, capsys):
    (folder / "pretraining.json").write_text(content)
    assert main(["card", "lab/model", "--model", str(folder), "--quiet"]) == 1
    err = capsys.readouterr().err
    assert "pretraining.json" in err and "Traceback" not in err


def test_a_report_without_held_out_parts_has_no_table_of_them():
    old = {**REPORT, "corpus": {**REPORT["corpus"], "held_out": None, "left_out": None}}
    assert describe_pretraining(old)["spans"] == ""
