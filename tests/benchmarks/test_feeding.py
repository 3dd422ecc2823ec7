"""The share of the model in the time of `gengram embed`, on a CPU and on stand-ins."""

import json

import numpy as np
import pytest
import torch

from gengram.benchmarks.speed.feeding import StandIn, main


def test_the_table(tmp_path, capsys):
    words = ["--sequences", "12", "--rounds", "2", "--layers", "1", "--width", "16", "--rates", "1e6"]
    assert main([*words, "--devices", "cpu", "--dtype", "float32", "--json", str(tmp_path / "out.json")]) == 0
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert list(rows) == [
        "cpu",
        "stand-in of 1,000,000 tokens/s, fed ahead",
        "stand-in of 1,000,000 tokens/s, waited for",
    ]
    for one in rows.values():
        assert one["share"] == pytest.approx(one["whole"] / one["full"]) and 0 < one["share"] < 1.5
    assert capsys.readouterr().out.count("\n") == 5


@pytest.mark.parametrize("running", [0, 2])
def test_a_stand_in_is_busy_as_long_as_its_rate_says(running, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    monkeypatch.setattr("time.sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    device = StandIn(1000, running)
    model = torch.nn.Linear(1, 1)
    model.config = type("Config", (), {"hidden_size": 3})
    waits = []
    for _ in range(3):
        waits.append(device.fetch(device.run(model, torch.zeros(2, 250))))
        assert now[0] == (100.0 if running else 100.0 + 0.5 * len(waits))
    assert [np.shape(wait()) for wait in waits] == [(2, 3)] * 3
    assert now[0] == 101.5
