"""The conversion benchmark on a checkpoint of a few megabytes: it converts, and its figures are there."""

import json
import sys

import pytest
from transformers import MixtralConfig

from gengram import GengramConfig
from gengram.benchmarks.speed import conversion

SIZE = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_local_experts": 4,
}


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are measured on Linux")
def test_there_and_back_with_figures(tmp_path, monkeypatch, capsys):
    config = GengramConfig(backbone_config=MixtralConfig(**SIZE), memory_layers=[1], kmer_sizes=[1, 2], memory_dim=32)
    monkeypatch.setattr(conversion, "choose_config", lambda gigabytes: config)
    report = tmp_path / "report.json"
    assert conversion.main(["--gigabytes", "0.001", "--folder", str(tmp_path), "--json", str(report)]) in (0, 1)
    there, back = json.loads(report.read_text())
    assert (there["direction"], back["direction"]) == ("megatron", "to-megatron")
    assert there["bytes"] > there["largest"] > 100_000 and there["seconds"] > 0
    assert there["tensor"] == 2 * 4 * 2 * 96 * 64  # gate_up_proj of all experts
    assert back["bound"] == back["largest"] + 2 * back["tensor"]
    assert "to-megatron" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_the_size_asked_for():
    assert conversion.choose_config(3.2).num_hidden_layers == 12
    assert conversion.choose_config(0.1).num_hidden_layers == 2


def test_a_full_disk_is_told_before_anything_is_written(tmp_path, capsys):
    assert conversion.main(["--gigabytes", "1e9", "--folder", str(tmp_path)]) == 1
    assert "GB free" in capsys.readouterr().err and not list(tmp_path.iterdir())
