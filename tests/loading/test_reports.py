"""A report.json that somebody has edited is refused with the key, before anything is made of it."""

import copy
import json
from pathlib import Path

import pytest

from gengram.errors import InputError
from gengram.loading.checkpoints import find_checkpoint
from gengram.loading.reports import check_report, list_baselines
from gengram.training.reports.report import clear_earlier_run

MEASURED = {"mean": 0.5, "sd": 0.1, "per_seed": [0.4, 0.6]}
SPLIT = {"file": "train.csv", "sha256": "0" * 64, "rows": 3, "rows_per_class": {"a": 3}}
REPORT = {
    "torch_version": "2.11",
    "seeds": [0, 1],
    "model_folders": ["seed-0", "seed-1"],
    "model": {"checkpoint": None, "new_weights": "all"},
    "data": {"problem": "single_label", "classes": ["a"], "train": SPLIT, "validation": None, "test": SPLIT},
    "arguments": {"data": {"validation_chromosomes": None}, "training": {"learning_rate": 1, "optim": "adamw"}},
    "test": {"mcc": MEASURED, "loss": MEASURED},
    "validation": None,
    "intervals": {"resamples": 10, "metrics": {"mcc": {"mean": [0.1, 0.9], "per_seed": [[0.1, 0.9], None]}}},
    "per_class": {"test": {"f1": {"a": None}}},
    "plots": [{"file": "plots/loss.png", "title": "Loss"}],
    "baselines": {"chance": {"title": "random scores", "test": {"mcc": 0.0, "loss": None}}},
    "verdict": {"lines": ["No better."]},
}


def test_what_runs_write_is_fine():
    assert check_report(copy.deepcopy(REPORT), Path("report.json")) == REPORT
    assert check_report({}, Path("report.json")) == {}
    assert list_baselines(REPORT) == {"chance": "chance"}
    for older in ({}, {"baselines": None}):
        assert list_baselines(older) == {}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seeds", "0"),
        ("seeds", [True, 1]),
        ("seeds", [0]),
        ("model_folders", {"a": 1}),
        ("model_folders", ["seed-0", ".."]),
        ("model_folders", ["", "seed-1"]),
        ("model_folders", ["seed-0", "seed-1/.."]),
        ("torch_version", ["2.11"]),
        ("model", "bert"),
        ("model.checkpoint", 3),
        ("data", None),
        ("data.classes", ["a", 1]),
        ("data.train", []),
        ("data.test.rows", "many"),
        ("data.test.rows_per_class", {"a": "3"}),
        ("arguments.training.learning_rate", "\x1b[31mfast"),
        ("arguments.data.validation_chromosomes", "chr1"),
        ("test", [1]),
        ("test.mcc", 0.5),
        ("test.mcc.mean", [0.5]),
        ("test.mcc.per_seed", None),
        ("test.mcc.per_seed", [0.4]),
        ("intervals.metrics.mcc.per_seed", [0.1, 0.2]),
        ("per_class.test", {"f1": 0.5}),
        ("plots", [{"file": "loss.png", "title": None}]),
        ("plots", [{"file": "..", "title": "Loss"}]),
        ("baselines", [1]),
        ("baselines.chance", 0.5),
        ("baselines.chance.title", ["x"]),
        ("baselines.chance.test", 0.5),
        ("baselines.chance.test", {"mcc": "0.5"}),
        ("verdict", "good"),
        ("verdict.lines", "good"),
    ],
)
def test_another_value_is_refused_with_its_key(key, value, tmp_path):
    report = copy.deepcopy(REPORT)
    *above, last = key.split(".")
    place = report
    for part in above:
        place = place[part]
    place[last] = value
    file = tmp_path / "run" / "report.json"
    file.parent.mkdir()
    file.write_text(json.dumps(report))
    (tmp_path / "precious").write_text("stays")
    for name in ("seed-0", "seed-1"):
        (file.parent / name).mkdir()
    with pytest.raises(InputError) as refused:
        find_checkpoint(file.parent)
    told = str(refused.value)
    assert told.startswith(f"{file}: ") and "\x1b" not in told and "restore it, or train again" in told
    assert key.split(".")[-1] in told or "no name of a folder or file" in told or "for 1 seeds" in told
    with pytest.raises(InputError):
        clear_earlier_run(file.parent)
    assert file.exists() and (tmp_path / "precious").exists() and (file.parent / "seed-0").is_dir()


def test_the_report_of_something_else_above_a_model_is_not_read(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "report.json").write_text(json.dumps({"seeds": "many", "data": [1]}))
    assert find_checkpoint(tmp_path / "model").report is None
