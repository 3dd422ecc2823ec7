"""`gengram bench`: the peer is the released algorithm, the report is complete, nothing is timed in a test."""

import json

import pytest
import torch

from gengram.benchmarks.speed import memory as speed
from gengram.benchmarks.speed.released import read_released, run_released
from gengram.gengram.kmer_index import KmerContext


@pytest.fixture(autouse=True)
def small_grid(monkeypatch):
    monkeypatch.setattr(speed, "SHAPES", [(16, 8), (32, 8)])
    monkeypatch.setattr(speed, "QUICK", {(16, 8): [50, 300]})
    monkeypatch.setattr(speed, "LENGTHS", [40])


def test_the_peer_computes_the_same():
    memory = speed.make_memory(16, 8).double()
    letters, hidden = torch.randint(-1, 5, (2, 60)), torch.randn(2, 60, 16, dtype=torch.float64)
    context = KmerContext(letters)
    memory.path = "definition"
    torch.testing.assert_close(run_released(memory, hidden, letters), memory(hidden, context), rtol=0, atol=1e-9)
    for ours, peer in zip(memory.read(context), read_released(memory, letters)):
        torch.testing.assert_close(peer, ours, rtol=0, atol=1e-9)


def test_the_report(tmp_path, capsys):
    path = tmp_path / "bench.json"
    assert speed.main(["--quick", "--rounds", "2", "--json", str(path)]) == 0
    report = json.loads(path.read_text())
    assert [(c["T"], c["mode"]) for c in report["speed"]] == [
        (50, "forward"), (50, "train"), (300, "forward"), (300, "train"), (1, "decode"), (1, "decode"),
    ]  # fmt: skip
    assert all(c["low"] <= c["ratio"] <= c["high"] and c["ours"] > 0 for c in report["speed"])
    assert report["speed"][0]["path"] == "merged"
    bf16 = [row for row in report["exactness"] if row["dtype"] == "bfloat16"]
    assert all(row["merged"] < 5e-3 and row["lifetime"] < 5e-3 < row["released"] for row in bf16)
    table = capsys.readouterr().out
    assert "ratio" in table and "released" in table


def test_cells_whose_peer_does_not_fit_say_so(monkeypatch):
    monkeypatch.setattr(speed, "_free_bytes", lambda device: 1000)
    monkeypatch.setattr(speed, "measure_exactness", lambda *a: [])
    report = speed.run_benchmark(quick=False, rounds=1)
    assert [c["skipped"][:20] for c in report["speed"] if c["mode"] == "train"] == ["the peer would hold "] * 2
    assert "skipped: the peer would hold" in speed.tabulate(report)


def test_the_peer_can_be_compiled(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function: function)
    assert speed.measure_speed(16, 8, 30, "forward", "cpu", 1, compiled=True)["compiled"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_a_missing_device_and_an_unwritable_file(tmp_path, capsys):
    assert speed.main(["--device", "cuda"]) == 1
    assert "no CUDA device" in capsys.readouterr().err
    assert speed.main(["--quick", "--rounds", "1", "--json", str(tmp_path / "no" / "folder" / "x.json")]) == 1
    assert "cannot be written" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        speed.main(["--rounds", "0"])
    assert stopped.value.code == 2
