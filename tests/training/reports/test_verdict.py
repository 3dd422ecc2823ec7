"""Is a result better than chance, and than simple models? What a run says of itself at its end."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset
from transformers import EvalPrediction

from gengram.model_cards.card import render_card
from gengram.pipelines.predictions import name_predictions, write_predictions
from gengram.training.command import finetune as main
from gengram.training.metrics.scores import Scores, score
from gengram.training.reports.baselines import Baselines
from gengram.training.reports.report import summarize_seeds
from gengram.training.reports.verdict import judge


def judge_outputs(
    folder: Path, problem: str, outputs: list[np.ndarray], truth: np.ndarray, other: np.ndarray | None = None
) -> dict:
    """The verdict on a run of as many seeds as outputs; `other` are those of the 6-mer model."""
    classes = [f"c{number}" for number in range(outputs[0].shape[-1])]
    rows = Dataset.from_dict({"sequence": ["A"] * len(truth)})
    scores = []
    for seed, output in enumerate(outputs):
        prediction = EvalPrediction(output.astype(np.float32), truth)
        if problem != "token":
            path = name_predictions(folder / f"seed-{seed}", "test")
            write_predictions(path, rows, prediction, problem, classes, None, "error")
        scores.append(score(problem, prediction, with_resamples=True))
    if problem == "regression":
        described = {"targets": {"x": {"min": float(truth.min()), "max": float(truth.max())}}}
    else:
        known = truth[truth >= 0] if problem != "multi_label" else truth
        counts = known.sum(axis=0) if problem == "multi_label" else np.bincount(known, minlength=len(classes))
        described = {"rows_per_class": dict(zip(classes, counts.tolist()))}
    report = {
        "data": {"problem": problem, "classes": classes, "test": {"rows": len(truth), **described}},
        "test": summarize_seeds(scores),
        "validation": None,
        "seeds": list(range(len(outputs))),
        "model_folders": [f"seed-{seed}" for seed in range(len(outputs))],
    }
    baselines = None
    if other is not None:
        found = score(problem, EvalPrediction(other, truth), with_resamples=True)
        baselines = Baselines({"kmer": {"test": Scores(found.overall, {}, found.resamples)}}, 10)
    verdict = judge(report, folder, {"test": scores, "validation": []}, baselines)
    json.dumps(verdict, allow_nan=False)
    return verdict


def draw(rows: int, classes: int, signal: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, rows)
    return random.normal(size=(rows, classes)) + signal * np.eye(classes)[truth], truth


@pytest.mark.parametrize("classes", [2, 3])
def test_a_good_result_has_no_line(tmp_path, classes):
    outputs, truth = draw(300, classes, 1.5)
    verdict = judge_outputs(tmp_path, "single_label", [outputs], truth, np.zeros_like(outputs))
    assert verdict["chance"]["apart"] is True and verdict["lines"] == []
    assert verdict["baselines"]["kmer"]["difference"][0] > 0
    assert verdict["lead"] == "The result is better than chance and the 6-mer regression on these 300 test rows."
    alone = judge_outputs(tmp_path, "single_label", [outputs], truth)
    assert alone["lead"] == "The result is better than chance on these 300 test rows."


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_result_at_chance_has_a_line(tmp_path, seeds):
    _, truth = draw(300, 2, 0)
    outputs = [draw(300, 2, 0, seed + 5)[0] for seed in range(seeds)]
    verdict = judge_outputs(tmp_path, "single_label", outputs, truth)
    (line,) = verdict["lines"]
    assert verdict["lead"] is None
    assert line.startswith("The result is not distinguishable from chance: AUROC 0.") and "300 test rows (p 0." in line


def test_a_perfect_result_on_a_handful_of_rows_says_nothing(tmp_path):
    truth = np.array([0, 0, 1, 1])
    outputs = 5 * np.eye(2)[truth]
    verdict = judge_outputs(tmp_path, "single_label", [outputs], truth, np.zeros((4, 2)))
    assert verdict["chance"]["apart"] is None
    (line,) = verdict["lines"]
    assert line.startswith("These rows cannot tell the result from chance, they are too few: AUROC 1.000")
    same = judge_outputs(tmp_path, "single_label", [outputs], np.zeros(4, int))
    assert same["chance"]["apart"] is None and "their labels are all the same" in same["lines"][0]


def test_few_rows_at_chance_are_called_few(tmp_path):
    outputs, truth = draw(30, 2, 0)
    (line,) = judge_outputs(tmp_path, "single_label", [outputs], truth)["lines"]
    assert line.endswith("So few rows can only tell large effects.")


def test_a_ranking_without_classes(tmp_path):
    outputs, truth = draw(300, 2, 1.5)
    (line,) = judge_outputs(tmp_path, "single_label", [outputs + [9, 0]], truth)["lines"]
    assert line.startswith("The classes that are named are no better than chance, though the ranking is: AUROC 0.")


def test_labels_that_are_swapped(tmp_path):
    outputs, truth = draw(300, 2, 1.5)
    (line,) = judge_outputs(tmp_path, "single_label", [outputs], 1 - truth)["lines"]
    assert line.startswith("The result is worse than chance")


def test_a_simple_model_that_is_better_or_as_good(tmp_path):
    outputs, truth = draw(400, 2, 0.7)
    better, _ = draw(400, 2, 2.5)
    (line,) = judge_outputs(tmp_path, "single_label", [outputs], truth, better)["lines"]
    assert line.startswith("The 6-mer regression is better on these rows: MCC 0.")
    random = np.random.default_rng(7)
    alike = 0.7 * np.eye(2)[truth] + random.normal(size=outputs.shape)
    (line,) = judge_outputs(tmp_path, "single_label", [outputs], truth, alike)["lines"]
    assert line.startswith("The result is not distinguishable from the 6-mer regression")


def test_labels_and_numbers(tmp_path):
    random = np.random.default_rng(0)
    truth = (random.random((200, 4)) < 0.3).astype(np.float32)
    noise = random.normal(size=(200, 4))
    assert judge_outputs(tmp_path, "multi_label", [noise + 2 * truth], truth)["lines"] == []
    assert "AUROC" in judge_outputs(tmp_path, "multi_label", [noise], truth)["lines"][0]
    values = random.normal(size=(200, 2)).astype(np.float32)
    assert judge_outputs(tmp_path, "regression", [noise[:, :2] + values], values)["lines"] == []
    assert "Pearson" in judge_outputs(tmp_path, "regression", [noise[:, :2]], values)["lines"][0]
    constant = judge_outputs(tmp_path, "regression", [np.ones((200, 2))], values)
    assert constant["chance"]["apart"] is False and "Pearson not defined" in constant["lines"][0]


def test_bases_of_a_row_are_no_rows_of_their_own(tmp_path):
    """In each row all bases are of one class and get one score: a hundred bases say what one does."""
    random = np.random.default_rng(0)
    truth = np.repeat(random.integers(0, 2, (24, 1)), 100, axis=1)
    outputs = np.repeat(random.normal(size=(24, 1, 2)), 100, axis=1)
    verdict = judge_outputs(tmp_path, "token", [outputs], truth)
    assert verdict["chance"]["apart"] is False and verdict["chance"]["method"] == "bootstrap over rows"
    assert judge_outputs(tmp_path, "token", [outputs + 2 * np.eye(2)[truth]], truth)["lines"] == []
    assert judge_outputs(tmp_path, "token", [outputs[:5]], truth[:5])["chance"]["apart"] is None


@pytest.fixture
def no_plots(monkeypatch):
    monkeypatch.setattr("gengram.training.finetune.write_plots", lambda *_: [])


def test_a_run_on_random_labels_says_so(command, run_folder, tmp_path, no_plots, capsys):
    random = np.random.default_rng(0)
    for split, rows in (("train", 80), ("test", 200)):
        sequences = ["".join(random.choice(list("ACGT"), 24)) for _ in range(rows)]
        labels = random.integers(0, 2, rows)
        pd.DataFrame({"seq": sequences, "label": labels}).to_csv(tmp_path / f"random-{split}.csv", index=False)
    argv = command(train_file=tmp_path / "random-train.csv", test_file=tmp_path / "random-test.csv")
    assert main(argv) == 0
    report = json.loads((run_folder / "report.json").read_text())
    line = report["verdict"]["lines"][0]
    assert line.startswith("The result is not distinguishable from chance") and report["verdict"]["split"] == "test"
    assert line in capsys.readouterr().err
    text = (run_folder / "report.md").read_text()
    assert text.index("not distinguishable from chance") < text.index("## Results")
    config = json.loads((run_folder / "seed-0/config.json").read_text())
    card = str(render_card(run_folder / "seed-0", config, repo_id="lab/x", report=report, seed=0))
    assert "not distinguishable from chance" in card


def test_validation_rows_are_judged_where_there_are_no_others(command, run_folder, no_plots):
    assert main(command(test_file=None, validation_fraction=0.5, seeds=[0, 1])) == 0
    verdict = json.loads((run_folder / "report.json").read_text())["verdict"]
    assert verdict["split"] == "validation" and len(verdict["baselines"]["kmer"]["difference"]) == 2
