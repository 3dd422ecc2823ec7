"""The quickstart at toy size: what it writes, what it says, what it does when it cannot write."""

import csv
import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModelForSequenceClassification

from gengram import GengramForSequenceClassification
from gengram.benchmarks import command, quickstart
from gengram.training.command import parse_arguments
from gengram.training.finetune import finetune

SIZES = {"train_pairs": 24, "validation_pairs": 4, "test_pairs": 10, "num_train_epochs": 1, "seeds": (0, 1)}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, dict]:
    output = tmp_path_factory.mktemp("runs") / "quickstart"
    return output, quickstart.run_quickstart(output, **SIZES)


def test_report_is_what_is_returned(run):
    output, report = run
    assert json.loads((output / "report.json").read_text()) == report


def test_report_has_the_scores_of_all_four_models(run):
    _, report = run
    for name in ("gengram", "baseline"):
        assert len(report[name]["per_seed"]) == 2
        assert report[name]["test_mcc"] == pytest.approx(np.mean(report[name]["per_seed"]))
    assert report["gengram"]["parameters"] > report["baseline"]["parameters"]
    assert -1 <= report["one_hot_lr"]["test_mcc"] <= 1
    assert report["kmer_lr"]["test_mcc"] == 0, "decoys have their sites' counts"
    assert report["seconds"] > 0
    assert report["task"] == {"train_rows": 48, "validation_rows": 8, "test_rows": 20}


def test_the_baseline_is_the_same_backbone_without_memory(run):
    output, _ = run
    models = [
        AutoModelForSequenceClassification.from_pretrained(output / name / "seed-0") for name in ("gengram", "baseline")
    ]
    assert all(type(model) is GengramForSequenceClassification for model in models)
    with_memory, without = (model.config for model in models)
    assert with_memory.memory_layers and without.memory_layers == []
    assert with_memory.backbone_config.to_dict() == without.backbone_config.to_dict()
    assert with_memory.pooling == without.pooling


def test_a_reloaded_model_answers_as_the_trained_one(run):
    output, report = run
    assert report["reload_max_abs_diff"] == 0.0
    assert report["model_folder"] == "gengram/seed-1"
    sequences, labels = quickstart.read_rows(output / "data" / "test.csv")
    predicted = quickstart.predict_probabilities(output / report["model_folder"], sequences).argmax(axis=1)
    scores = json.loads((output / "gengram" / "report.json").read_text())
    assert (predicted == labels).mean() == pytest.approx(scores["test"]["accuracy"]["per_seed"][-1])


def test_a_model_that_changed_after_saving_would_show(tmp_path, monkeypatch):
    """What is compared with is the model in memory, not the file that is loaded again."""

    def finetune_and_spoil(*arguments):
        report = finetune(*arguments)
        folder = Path(arguments[-1].output_dir) / report["model_folders"][-1]
        model = AutoModelForSequenceClassification.from_pretrained(folder)
        with torch.no_grad():
            list(model.parameters())[-1].view(-1)[0] += 1e-3  # of the head
        model.save_pretrained(folder)
        return report

    monkeypatch.setattr(quickstart, "finetune", finetune_and_spoil)
    report = quickstart.run_quickstart(tmp_path, **SIZES | {"seeds": (0,)})
    assert 1e-7 < report["reload_max_abs_diff"] < 1e-2


def test_recipe_is_one_for_gengram_finetune(run):
    output, _ = run
    model, data, training = parse_arguments([str(output / "recipe.yaml"), "--train_file", "my.csv"])
    assert model.memory == yaml.safe_load((output / "recipe.yaml").read_text())["memory"]
    assert (model.backbone, data.train_file, training.seeds) == ("bert", "my.csv", [0, 1])


def test_table_names_every_model_and_seed(run):
    _, report = run
    lines = quickstart.tabulate(report).splitlines()
    assert lines[0].split()[-5:] == ["mean", "seed", "0", "seed", "1"]
    assert lines[1].split()[-2:] == [f"{score:.3f}" for score in report["gengram"]["per_seed"]]
    assert len(lines) == 1 + len(quickstart.TITLES)


def test_command_prints_what_came_out_and_replaces_an_earlier_run_if_asked(run, tmp_path, capsys, monkeypatch):
    small = SIZES | {"seeds": (0,), "train_pairs": 8}
    monkeypatch.setattr(quickstart, "run_quickstart", functools.partial(quickstart.run_quickstart, **small))
    (tmp_path / "report.json").write_text("{}")
    assert command.quickstart(["--out", str(tmp_path)]) == 1
    assert "--overwrite" in capsys.readouterr().err and (tmp_path / "report.json").read_text() == "{}"
    assert command.quickstart(["--output_dir", str(tmp_path), "--overwrite"]) == 0
    text = capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    assert quickstart.tabulate(report) in text
    assert f"{report['reload_max_abs_diff']}" in text
    assert "gengram finetune" in text and "load_dataset" in text
    with open(tmp_path / "data" / "train.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 16
    assert not list(tmp_path.rglob("*.partial*"))


def test_plot(run, tmp_path):
    pytest.importorskip("matplotlib")
    quickstart.plot_scores(run[1], tmp_path / "scores.png")
    assert (tmp_path / "scores.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert [path.name for path in tmp_path.iterdir()] == ["scores.png"]


def test_an_output_that_is_a_file_is_refused_and_left_alone(tmp_path, capsys):
    (tmp_path / "notes").write_text("mine")
    assert command.quickstart(["--output_dir", str(tmp_path / "notes")]) == 1
    error = capsys.readouterr().err
    assert str(tmp_path / "notes") in error and "not a folder" in error
    assert (tmp_path / "notes").read_text() == "mine"
