"""The benchmark of all tokenizers: identical ids are a condition, the report is complete, nothing is timed here."""

import json

import pytest

from gengram.benchmarks.speed import tokenizers as speed
from gengram.tokenization import build_nucleotide_tokenizer, find_encoder


def test_the_report(tmp_path, capsys):
    genome = tmp_path / "a.fa"
    genome.write_text(">a\nACGTNACGTT\n>b\n" + "acgtn" * 20 + "\n")
    path = tmp_path / "out.json"
    kinds = ["nucleotide", "kmer", "overlapping", "whole_kmer"]
    given = ["--total", "500", "--length", "40", "--genomes", str(genome), "--json", str(path), "--kinds", *kinds]
    assert speed.main(given) == 0
    cells = json.loads(path.read_text())["cells"]
    assert [cell["kind"] for cell in cells] == kinds and all(cell["bp"] == 500 for cell in cells)
    assert all(cell["ratio"] > 0 and cell["mbp_per_second"]["tokenizer"] > 0 for cell in cells)
    assert "KmerEncoder" in capsys.readouterr().out


def test_other_ids_stop_it(monkeypatch):
    other = build_nucleotide_tokenizer(template="plain")
    monkeypatch.setattr(speed, "find_encoder", lambda tokenizer: find_encoder(other))
    with pytest.raises(RuntimeError, match="nucleotide: ids differ from the tokenizer's in the block that ends at 300"):
        speed.run_benchmark(["nucleotide"], 300, 100, [])
