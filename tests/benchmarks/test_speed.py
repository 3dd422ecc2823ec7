"""`gengram bench`: the peer is the released algorithm, the report is complete, nothing is timed in a test."""

import json
import time
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig

from gengram import GengramConfig
from gengram.benchmarks.command import bench
from gengram.benchmarks.speed import memory as speed
from gengram.benchmarks.speed.measure import measure_peak, take_turns
from gengram.benchmarks.speed.released import read_released, run_released
from gengram.gengram.kmer_index import KmerContext


@pytest.fixture(autouse=True)
def small_grid(monkeypatch):
    monkeypatch.setattr(speed, "SHAPES", [(16, 8), (32, 8)])
    monkeypatch.setattr(speed, "QUICK", {(16, 8): [50, 300]})
    monkeypatch.setattr(speed, "LENGTHS", [40])
    monkeypatch.setattr(speed, "EXACT_LENGTHS", [2000, 4000, 8000])


def test_the_peer_computes_the_same():
    memory = speed.make_memory(16, 8).double()
    letters, hidden = torch.randint(-1, 5, (2, 60)), torch.randn(2, 60, 16, dtype=torch.float64)
    context = KmerContext(letters)
    memory.path = "definition"
    torch.testing.assert_close(run_released(memory, hidden, letters), memory(hidden, context), rtol=0, atol=1e-9)
    for ours, peer in zip(memory.read(context), read_released(memory, letters)):
        torch.testing.assert_close(peer, ours, rtol=0, atol=1e-9)


@pytest.fixture
def quick_parts(monkeypatch):
    """Nothing is compiled, the machine and the backbone are not measured."""
    monkeypatch.setattr(torch, "compile", lambda function, **kwargs: function)
    monkeypatch.setattr(speed, "measure_machine", lambda *a: {"bytes_per_s": 1e10, "flop_per_s": 1e11})
    monkeypatch.setattr(
        speed, "measure_backbone", lambda *a: {"T": 9, "dtype": "float32", "share": {"ours": 0.1, "eager": 0.2}}
    )


def test_the_report(quick_parts, tmp_path, capsys):
    path, picture = tmp_path / "bench.json", tmp_path / "bench.png"
    assert bench(["--quick", "--rounds", "2", "--json", str(path), "--plot", str(picture)]) == 0
    report = json.loads(path.read_text())
    assert [(c["T"], c["mode"]) for c in report["speed"]] == [
        (50, "forward"), (50, "train"), (300, "forward"), (300, "train"), (1, "decode"), (1, "decode"),
    ]  # fmt: skip
    for cell in report["speed"]:
        assert cell["seconds"]["ours"] > 0
        assert all(ratio["low"] <= ratio["ratio"] <= ratio["high"] for ratio in cell["ratios"].values())
    assert [set(c["ratios"]) for c in report["speed"][:4]] == [{"eager"}] * 2 + [{"eager", "compiled"}] * 2
    assert all(set(c["peak_bytes"]) == {"ours", "eager"} for c in report["speed"] if c["mode"] == "train")
    assert report["speed"][0]["path"] in ("fused", "merged")
    for row in report["exactness"]:
        allowed = {"float32": 5e-7, "bfloat16": 5e-3}[row["dtype"]]
        ours = [error for name, error in row.items() if name not in ("dtype", "T", "released")]
        assert len(ours) >= 2 and max(ours) < allowed < row["released"]
    table = capsys.readouterr().out
    assert "ratio" in table and "released" in table and "10.0%" in table
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_half_precision(quick_parts, tmp_path, capsys):
    path = tmp_path / "bench.json"
    assert bench(["--quick", "--rounds", "1", "--no-compiled", "--dtype", "bfloat16", "--json", str(path)]) == 0
    assert json.loads(path.read_text())["dtype"] == "bfloat16" and "batch 1, bfloat16" in capsys.readouterr().out


def test_cells_whose_peer_does_not_fit_say_so(quick_parts, monkeypatch):
    monkeypatch.setattr(speed, "measure_available_memory", lambda device: 1000)
    monkeypatch.setattr(speed, "measure_exactness", lambda *a: [{"dtype": "float32", "T": 1, "released": 0.0}])
    report = speed.run_benchmark(quick=False, rounds=1)
    skipped = [c["skipped"] for c in report["speed"] if c["mode"] == "train"]
    assert len(skipped) == 2 and all(text.startswith("the released algorithm would hold") for text in skipped)
    assert "skipped: the released algorithm would hold" in speed.tabulate(report)


def test_the_backbone_runs_with_either_memory(monkeypatch):
    backbone = LlamaConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, vocab_size=16
    )
    config = GengramConfig(backbone_config=backbone, memory_layers=[0, 1], memory_dim=8)
    monkeypatch.setattr(speed, "describe_backbone", lambda device: (config, 60, torch.float32))
    ran = []
    monkeypatch.setattr(speed, "run_released", lambda *a: ran.append(1) or run_released(*a))
    found = speed.measure_backbone("cpu", rounds=2)
    assert set(found["seconds"]) == {"ours", "eager", "none"} and max(found["share"].values()) < 1
    assert len(ran) == 2 * 3  # layers, rounds and one call before them


def test_turns_stop_where_they_take_too_long():
    times = take_turns({"slow": lambda: time.sleep(0.02)}, rounds=50, seconds=0.1)
    assert 2 <= len(times["slow"]) < 10


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_the_peak_is_what_a_call_takes():
    found = measure_peak(lambda: torch.ones(8 * 2**20), "cpu")  # 32 MiB
    assert 30 * 2**20 < found < 48 * 2**20


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_a_missing_device_and_an_unwritable_file(tmp_path, capsys):
    assert bench(["--device", "cuda"]) == 1
    assert "no CUDA device" in capsys.readouterr().err
    assert bench(["--quick", "--rounds", "1", "--json", str(tmp_path / "no" / "folder" / "x.json")]) == 1
    assert "does not exist" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        bench(["--rounds", "0"])
    assert stopped.value.code == 2
