"""The check of the goals on a GPU: its table, what it makes of parts that did not come to their end, a rehearsal."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gengram.benchmarks.speed import gpu_check
from gengram.benchmarks.speed.gpu_check import FULL, ROWS, TINY, main, read_summary, tabulate

SCRIPT = Path(gpu_check.__file__).with_name("gpu_check.sh")


def make_reports(good: bool) -> dict[str, dict]:
    """Reports of every part, of which each row reaches its goal, or none does."""
    fast, slow = (1.0, 100.0) if good else (100.0, 1.0)
    cells = [
        {
            "D": D, "E": E, "T": T, "mode": mode, "ratios": {"eager": {"ratio": 50.0 if good else 1.5}},
            "seconds": {"ours": 1e-4 if good else 1.0}, "peak_bytes": {"ours": 5 if good else 9, "eager": 10},
        }
        for T in FULL.lengths for D, E in FULL.shapes for mode in ("forward", "train")
    ]  # fmt: skip
    calls = [
        {"mode": mode, "launches": 8 if good else 99, "seconds": 1e-6 if good else 1.0, "bytes": 1e6}
        for mode in ("forward", "train")
    ]
    step = [
        {"memory": name, "mode": "eager", "share": 0.02 if good else 0.4, "mfu": 0.3} for name in ("ours", "released")
    ]
    times = {"transformers": slow, "ours": fast}
    verdicts = {"ok": 3, "note": 1, "fails": 0 if good else 1}
    return {
        "memory": {"size": FULL._asdict(), "machine": {"bytes_per_s": 1e12}, "cells": cells, "calls": calls},
        "step": {"steps": [{"cells": step}]},
        "compiled": {"ours compiled": 1.0, "ours eager": slow / 2, "none compiled": 0.99 if good else 0.5},
        "generation": {"static with": slow, "static without": fast, "dynamic with": 1.0},
        "big_bird": {"forward": times, "forward and backward": times, "forward, peak": times,
                     "forward and backward, peak": times},
        "embedding": {"embed": slow, "model": fast, "mfu": 0.5 if good else 0.3},
        "tests": {"summary": "3 passed", "passed": 3, "failed": 0 if good else 1},
        "doctor": {"verdicts": verdicts, "healthy": good, "facts": [{"name": "triton", "verdict": "fails"}]},
    }  # fmt: skip


@pytest.mark.parametrize("good", [True, False])
def test_every_row_has_goal_figure_and_verdict(good, tmp_path):
    for part, report in make_reports(good).items():
        (tmp_path / f"{part}.json").write_text(json.dumps(report))
    table = tabulate(tmp_path, rehearsed=False)
    verdict = "reached" if good else "SHORT OF IT"
    lines = [line for line in table.splitlines() if any(line.startswith(row.path) for row in ROWS)]
    assert len(lines) == len(ROWS) and all(line.endswith(verdict) for line in lines), table
    assert f"{len(ROWS)} {verdict.lower()}" in table.splitlines()[-1]


def test_the_rows_of_the_goals_are_there():
    paths = " ".join(row.path for row in ROWS)
    for word in ("memory forward", "backward", "peak", "1.2B step", "compiled", "static cache", "BigBird", "embedding",
                 "MFU", "pytest -m gpu", "gengram doctor"):  # fmt: skip
        assert word in paths
    assert {row.part for row in ROWS} == {*gpu_check.PARTS, "step", "tests", "doctor"}
    assert FULL.long in FULL.lengths and TINY.long in TINY.lengths and min(FULL.lengths) >= 200


def test_parts_that_did_not_come_to_their_end_say_why(tmp_path):
    """Nothing, half of it, no JSON, another report; the last words of a part, in one line."""
    (tmp_path / "memory.end").write_text("stopped after 50 s\n")
    (tmp_path / "memory.json").write_text(json.dumps({"size": FULL._asdict(), "cells": []}))
    (tmp_path / "step.end").write_text("exit code 1\n")
    (tmp_path / "step.log").write_text("Traceback\nRuntimeError: \x1b[31mno such thing\n")
    (tmp_path / "big_bird.json").write_text("{")
    (tmp_path / "embedding.json").write_text(json.dumps({"model": 10.0, "mfu": 0.5}))
    table = tabulate(tmp_path, rehearsed=False)
    assert "stopped after 50 s" in table and "exit code 1: RuntimeError" in table and "\x1b" not in table
    assert "not begun" in table and "50%" in table
    assert table.splitlines()[-1] == f"1 reached, 0 short of it, {len(ROWS) - 1} not measured"


@pytest.mark.parametrize(
    ("log", "passed", "failed", "stopped"),
    [
        (
            "tests/a.py::b PASSED [ 5%]\ntests/a.py::c[x y] FAILED [ 9%]\n==== 1 failed, 1 passed in 3.2s ====",
            1,
            1,
            False,
        ),
        ("tests/a.py::b PASSED [ 5%]\ntests/a.py::c SKIPPED (no) [ 9%]\ntests/a.py::d", 1, 0, True),
        ("ERROR tests/a.py - ImportError\n==== 1 error in 0.2s ====", 0, 1, False),
        ("", 0, 0, True),
    ],
)
def test_what_pytest_has_said(log, passed, failed, stopped, tmp_path):
    (tmp_path / "tests.log").write_text(log)
    read_summary(tmp_path / "tests.log", tmp_path / "tests.json")
    told = json.loads((tmp_path / "tests.json").read_text())
    assert (told["passed"], told["failed"], told["stopped"]) == (passed, failed, stopped)
    assert ("stopped before the end" in told["summary"]) == stopped


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_without_a_gpu_it_says_so(tmp_path, capsys):
    assert main(["memory", str(tmp_path)]) == 1
    assert "no CUDA device here; --rehearse" in capsys.readouterr().err
    assert main(["memory", str(tmp_path / "no" / "folder"), "--rehearse"]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_a_part_keeps_each_figure_as_it_is_found(tmp_path):
    assert main(["big_bird", str(tmp_path), "--rehearse"]) == 0
    report = json.loads((tmp_path / "big_bird.json").read_text())
    assert 0 <= report["difference"] < 1e-4 and report["forward"]["ours"] > 0
    saved: list[dict] = []
    gpu_check.measure_memory(TINY, report := {"size": TINY._asdict()}, lambda: saved.append(dict(report)))
    assert len(saved) == 2 * 2 * len(TINY.lengths) + 2
    assert [call["mode"] for call in report["calls"]] == ["forward", "train"]
    assert all(call["launches"] > 0 and call["seconds"] > 0 for call in report["calls"])


@pytest.mark.parametrize(("words", "code", "told"), [(["--help"], 0, "--rehearse"), (["--no"], 2, "there is no --no")])
def test_the_script_takes_two_arguments(words, code, told, tmp_path):
    done = subprocess.run(["bash", str(SCRIPT), *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == code and told in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_rehearsal_has_every_row(tmp_path):
    """The script itself, for five minutes at most."""
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    environment.pop("TRITON_INTERPRET", None)
    command = ["bash", str(SCRIPT), "--rehearse", "out"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=330)
    assert done.returncode == 0, done.stderr
    assert f"{len(ROWS)} of {len(ROWS)} rows rehearsed" in done.stdout, done.stdout


def test_only_reports_of_an_earlier_run_are_removed(tmp_path):
    (tmp_path / "trial").mkdir()
    kept, gone = ["mine.json", "train.log", "trial/data.csv"], ["memory.json", "trial/memory.json"]
    for name in kept + gone:
        (tmp_path / name).write_text("{}")
    environment = {**os.environ, "PYTHON": "true"}  # every part ends at once and measures nothing
    subprocess.run(["bash", SCRIPT, "--rehearse", tmp_path], env=environment, check=True, capture_output=True)
    assert all((tmp_path / name).exists() for name in kept) and not any((tmp_path / name).exists() for name in gone)
