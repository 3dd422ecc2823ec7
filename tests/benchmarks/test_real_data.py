"""The comparison on real tasks, on small simulated ones: what is trained, chosen, kept and reported."""

import csv
import dataclasses
import gzip
import json

import numpy as np
import pytest

from gengram.benchmarks import real_data
from gengram.benchmarks.real_data import QUICK, Size, count_parameters, describe_model, main, widen
from gengram.benchmarks.real_data_report import tabulate

TASKS = ["A/motif", "B/lengths"]


@pytest.fixture
def data(tmp_path):
    """A task that a count of k-mers solves, and one with sequences of several lengths."""
    random = np.random.default_rng(0)
    for task in TASKS:
        folder = tmp_path / "data" / task
        folder.mkdir(parents=True)
        for name, rows in (("train.csv.gz", 60), ("test.csv.gz", 20)):
            lines = ["seq,label"]
            for row in range(rows):
                bases = "".join(random.choice(list("ACG"), 20 + (row % 3 if task == "B/lengths" else 0)))
                lines.append(f"{bases[:6] + 'TTTTTTTT' + bases[14:] if row % 2 else bases},{row % 2}")
            with gzip.open(folder / name, "wt") as file:
                file.write("\n".join(lines) + "\n")
    return tmp_path / "data"


def run(data, output, *more: str) -> int:
    tasks = [] if "--tasks" in more else ["--tasks", *TASKS]
    return main(["--data", str(data), "--output_dir", str(output), "--quick", *tasks, *more])


def test_a_run_compares_the_arms_and_goes_on_where_it_stopped(data, tmp_path, capsys, monkeypatch):
    output, trained = tmp_path / "out", []
    true_finetune = real_data.finetune

    def count(*arguments):
        trained.append(arguments)
        return true_finetune(*arguments)

    monkeypatch.setattr(real_data, "finetune", count)
    assert run(data, output, "--tasks", TASKS[0], "--seeds", "0", "1") == 0
    assert len(trained) == 5  # two seeds of two arms, and the backbone that was not chosen
    found = json.loads((output / "results.json").read_text())["tasks"]["A/motif"]
    assert found["backbone"] == max(found["candidates"], key=found["candidates"].get)
    without, memory = found["arms"]["no_memory"], found["arms"]["memory"]
    assert memory["parameters"] > without["parameters"] and min(memory["cpu_seconds"], without["seconds"]) > 0
    assert without["test_mcc"]["mean"] == pytest.approx(np.mean(without["test_mcc"]["per_seed"]))
    assert len(memory["test_mcc"]["per_seed"]) == len(memory["test_mcc"]["intervals"]) == 2
    capsys.readouterr()

    assert run(data, output, "--seeds", "0") == 0
    assert len(trained) == 8  # of the first task, nothing again
    results = json.loads((output / "results.json").read_text())["tasks"]
    assert results["A/motif"]["arms"]["memory"]["test_mcc"]["per_seed"] == memory["test_mcc"]["per_seed"][:1]
    # Eight T in a row decide, and nothing but composition is needed.
    assert results["A/motif"]["linear"]["kmer_lr"] == 1
    assert results["B/lengths"]["linear"]["one_hot_lr"] is None
    table = (output / "results.md").read_text()
    assert table in capsys.readouterr().out and "| A/motif | 60 / 20 | 0 | 2 | 20 | 1.000 | 1.000 | 1.000 |" in table
    assert (output / "scores.png").stat().st_size > 10_000
    assert not list(output.glob("cells/*.models"))

    # Another size is another cell, with the file of the old one.
    cell = real_data.train_cell(output, data, TASKS[0], "bert", "no_memory", 0, Size(16, 2, 16, steps=4, evaluations=2))
    assert len(trained) == 9 and cell["size"]["steps"] == 4


def test_arms_differ_in_nothing_but_what_they_are_called_after():
    for backbone in real_data.BACKBONES:
        without, memory, wider = (describe_model(backbone, arm, QUICK) for arm in ("no_memory", "memory", "wider"))
        assert without.backbone_config == memory.backbone_config
        assert without.memory == wider.memory == {"memory_layers": []}
        counts = [count_parameters(model) for model in (without, memory, wider)]
        width = widen(backbone, QUICK).hidden_size
        narrower = dataclasses.replace(QUICK, hidden_size=width - 16)
        assert counts[0] < counts[1] <= counts[2]
        assert count_parameters(describe_model(backbone, "no_memory", narrower)) < counts[1]
        assert count_parameters(describe_model(backbone, "memory", real_data.GPU)) < 5e6


def test_three_times_the_steps(data, tmp_path, monkeypatch):
    seen = []

    def stop(model, rows, training):
        seen.append((training.max_steps, training.eval_steps))
        raise KeyboardInterrupt

    monkeypatch.setattr(real_data, "finetune", stop)
    for arm in ("no_memory", "longer"):
        with pytest.raises(KeyboardInterrupt):
            real_data.train_cell(tmp_path, data, TASKS[0], "bert", arm, 0, QUICK)
    assert seen == [(20, 10), (60, 30)]


def test_without_a_gpu_its_tasks_are_said_not_to_have_run(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(real_data.torch.cuda, "is_available", lambda: False)
    assert main(["--data", str(data), "--output_dir", str(tmp_path / "out"), "--gpu"]) == 0
    assert "| NTB/H3 | not run: no GPU |" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "results.json").read_text())["tasks"]["NTB/H3"]["skipped"]


def test_a_task_that_is_not_there_stops_before_anything_is_trained(data, tmp_path, capsys):
    assert run(data, tmp_path / "out", "--tasks", TASKS[0], "A/none") == 1
    assert "A/none: a task is a folder with train.csv.gz and test_shared.csv.gz or" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_table_shows_the_spread_only_of_several_seeds():
    arm = {"test_mcc": {"mean": 0.5, "sd": None, "per_seed": [0.5], "intervals": [[0.4, 0.6]]}, "test_auroc": 0.7}
    arm |= {"parameters": 1000, "seconds": 2.0, "cpu_seconds": 1.5}
    linear = {"kmer_lr": 0.1, "kmer_lr_10000": 0.1, "one_hot_lr": None, "rows": {"train": 9, "test": 3}}
    linear |= {"test_in_train": {"exact": 0, "reverse_complement": 1}}
    report = {
        "tasks": {
            "T": {"linear": linear | {"classes": 2, "length": [5, 7]}, "backbone": "bert", "arms": {"memory": arm}}
        }
    }
    assert "| T | 9 / 3 | 1 | 2 | 5-7 | 0.100 | 0.100 | - | 0.500 |" in tabulate(report)


@pytest.mark.parametrize("task", ["GUE/mouse_3", "GB/human_ocr_ensembl", "other/promoter_ecoli_81"])
def test_the_kmer_model_gives_the_table_that_was_computed_with_other_code(shared, task):
    found = real_data.score_linear(shared / "data" / "benchmarks", task)
    with open(shared / "specs" / "kmer_baseline.csv", newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["task"] == task)
    assert found["rows"] == {"train": int(row["train"]), "test": int(row["test"])}
    assert found["kmer_lr_10000"] == pytest.approx(float(row["mcc"]), abs=2e-4)
