"""The benchmark of k-mer tokenization: identical ids are a condition, the report is complete, nothing is timed here."""

import json

import pytest

from gengram.benchmarks.speed import kmer_tokenizer as speed


@pytest.fixture(autouse=True)
def small_grid(monkeypatch):
    monkeypatch.setattr(speed, "LENGTHS", [50, 500])
    monkeypatch.setattr(speed, "SHARES", [0.0, 0.05])


def test_the_report(tmp_path, capsys):
    path = tmp_path / "kmer.json"
    assert speed.main(["--total", "1000", "--rounds", "1", "--k", "3", "--json", str(path)]) == 0
    report = json.loads(path.read_text())
    assert [(cell["length"], cell["share"], cell["sequences"]) for cell in report["cells"]] == [
        (50, 0.0, 20), (50, 0.05, 20), (500, 0.0, 2), (500, 0.05, 2),
    ]  # fmt: skip
    assert all(cell["bulk_ratio"] > 0 and cell["mbp_per_second"]["peer"] > 0 for cell in report["cells"])
    assert "KmerEncoder" in capsys.readouterr().out


def test_other_ids_stop_it(monkeypatch):
    right = speed.make_peer
    monkeypatch.setattr(speed, "make_peer", lambda k: right(2))
    with pytest.raises(RuntimeError, match="ids differ from EsmTokenizer's at 50 bp"):
        speed.run_benchmark(6, 500, 1)


def test_the_same_sequences_every_time():
    assert speed.draw_sequences(40, 80, 0.1) == speed.draw_sequences(40, 80, 0.1)
    assert "N" in "".join(speed.draw_sequences(40, 80, 0.1)) and "N" not in "".join(speed.draw_sequences(40, 80, 0.0))
