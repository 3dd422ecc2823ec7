"""What a run writes about each row: the file holds the rows, the labels and the outputs that were measured."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset
from scipy.special import expit, softmax
from sklearn.metrics import matthews_corrcoef, roc_auc_score
from transformers import EvalPrediction

from gengram.pipelines import predictions
from gengram.pipelines.predict import predict_file
from gengram.pipelines.predictions import name_predictions, read_predictions, write_predictions
from gengram.tokenization import build_nucleotide_tokenizer
from gengram.training.command import parse_arguments
from gengram.training.finetune import finetune

TOKENIZER = build_nucleotide_tokenizer(model_max_length=64)


def write(tmp_path: Path, problem: str, outputs, labels, classes: list[str], rows: dict, **options) -> pd.DataFrame:
    prediction = EvalPrediction(np.asarray(outputs, np.float32), np.asarray(labels))
    path = name_predictions(tmp_path / "new", "test")
    tokenizer, too_long = options.get("tokenizer", TOKENIZER), options.get("too_long", "error")
    write_predictions(path, Dataset.from_dict(rows), prediction, problem, classes, tokenizer, too_long)
    assert [file.name for file in path.parent.iterdir()] == ["predictions-test.parquet"]
    return pd.read_parquet(path)


def test_a_run_writes_what_it_measured(command, task, draw_table):
    report = finetune(*parse_arguments(command(seeds=[0, 1], memory=True)))
    source = draw_table(20, 1)
    for folder in Path(task["train_file"]).parent.glob("run/seed-*"):
        position = report["model_folders"].index(folder.name)
        table = pd.read_parquet(name_predictions(folder, "test"))
        assert list(table.columns) == [
            *("data_row", "chrom", "label", "prediction", "probability_with", "probability_without")
        ]
        assert table["data_row"].tolist() == list(range(1, 21))
        assert table["chrom"].tolist() == source["chrom"].tolist() and table["label"].tolist() == list(source["label"])
        mcc = matthews_corrcoef(table["label"], table["prediction"])
        assert mcc == pytest.approx(report["test"]["mcc"]["per_seed"][position])
        area = roc_auc_score(table["label"] == "without", table["probability_without"])
        assert area == pytest.approx(report["test"]["auroc"]["per_seed"][position], abs=1e-6)
        # Anybody who predicts the same file later gets the same columns.
        later = pd.read_parquet(predict_file(folder, task["test_file"], folder / "later.parquet"))
        assert set(later.columns) == set(table.columns) - {"data_row"}
        np.testing.assert_allclose(later["probability_with"], table["probability_with"], atol=1e-6)

    validation = pd.read_parquet(name_predictions(folder, "validation"))
    rows = draw_table(60, 0).iloc[validation["data_row"] - 1]
    assert len(validation) == 6 and rows["label"].tolist() == validation["label"].tolist(), "rows of the training file"


def test_several_labels(tmp_path):
    logits, labels = np.array([[1.0, -2, 3], [-1, -1, -1]]), np.array([[1, 0, 0], [0, 0, 0.0]])
    names = ["a", "b", "c"]
    table = write(tmp_path, "multi_label", logits, labels, names, {"sequence": ["A", "C"], "data_row": [4, 9]})
    assert [list(one) for one in table["label"]] == [["a"], []]
    assert [list(one) for one in table["prediction"]] == [["a", "c"], []]
    np.testing.assert_allclose(table[[f"probability_{name}" for name in names]], expit(logits), rtol=1e-6)
    ((scores, truth),) = read_predictions(tmp_path / "new/predictions-test.parquet", "multi_label", names)
    np.testing.assert_allclose(scores, expit(logits), rtol=1e-6)
    assert (truth == labels.astype(bool)).all()


def test_targets(tmp_path):
    outputs, labels = np.array([[1.5, 2], [3, 4]], np.float32), np.array([[0.5, 1], [1, 2]], np.float32)
    table = write(tmp_path, "regression", outputs, labels, ["x", "y"], {"sequence": ["A", "C"], "data_row": [1, 2]})
    assert list(table.columns) == ["data_row", "label_x", "label_y", "prediction_x", "prediction_y"]
    ((guesses, truth),) = read_predictions(tmp_path / "new/predictions-test.parquet", "regression", ["x", "y"])
    assert (guesses == outputs).all() and (truth == labels).all()


@pytest.mark.parametrize("side", ["right", "left"])
def test_bases(tmp_path, side):
    """Padding is not written, whichever side it is on; a base without label is null."""
    tokenizer = build_nucleotide_tokenizer(model_max_length=64, padding_side=side)
    random = np.random.default_rng(0)
    sequences, labels = ["ACGTA", "GG"], [[0, 1, -100, 1, 0], [1, -100]]
    ids = [tokenizer(sequence, add_special_tokens=False)["input_ids"] for sequence in sequences]
    outputs, padded = np.full((2, 7, 2), -100.0), np.full((2, 7), -100)
    logits = [random.normal(size=(len(one), 2)) for one in ids]
    for row, (values, label) in enumerate(zip(logits, labels)):
        # A batch of five tokens, which Trainer has padded to seven.
        start = 5 - len(label) if side == "left" else 0
        outputs[row, :5] = 0.25
        outputs[row, start : start + len(label)], padded[row, start : start + len(label)] = values, label
    rows = {"sequence": sequences, "input_ids": ids, "data_row": [1, 2], "name": ["one", "two"]}
    table = write(tmp_path, "token", outputs, padded, ["none", "site"], rows, tokenizer=tokenizer)
    assert list(table.columns[:4]) == ["data_row", "name", "label", "prediction_start"]
    assert list(table["label"][0]) == ["none", "site", None, "site", "none"] and list(table["label"][1]) == [
        "site",
        None,
    ]
    for row, values in enumerate(logits):
        assert [len(table[name][row]) for name in ("label", "prediction", "probability_site")] == [len(values)] * 3
        np.testing.assert_allclose(table["probability_site"][row], softmax(values, axis=1)[:, 1], atol=1e-6)
    ((scores, truth),) = read_predictions(tmp_path / "new/predictions-test.parquet", "token", ["none", "site"])
    assert truth.tolist() == [0, 1, 1, 0, 1] and scores.shape == (5, 2)
    known = np.concatenate(labels) >= 0
    np.testing.assert_allclose(scores, softmax(np.concatenate(logits)[known], axis=1), atol=1e-6)


def test_the_middle_of_a_sequence_says_where_it_begins(tmp_path):
    rows = {"sequence": ["ACGTACGTAC"], "input_ids": [TOKENIZER("TACG", add_special_tokens=False)["input_ids"]]}
    table = write(tmp_path, "token", np.zeros((1, 4, 2)), [[0, 0, 1, 1]], ["x", "y"], rows, too_long="center")
    assert table["prediction_start"].tolist() == [3]


def test_parts_make_no_difference(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(50, 3)), random.integers(0, 3, 50)
    rows = {"sequence": ["A"] * 50, "data_row": list(range(50))}
    whole = write(tmp_path / "whole", "single_label", logits, labels, list("abc"), rows)
    monkeypatch.setattr(predictions, "_CHUNK", 21)
    pd.testing.assert_frame_equal(write(tmp_path / "parts", "single_label", logits, labels, list("abc"), rows), whole)
    path = tmp_path / "parts/new/predictions-test.parquet"
    assert [len(part) for part, _ in read_predictions(path, "single_label", list("abc"))] == [7] * 7 + [1]


def test_nothing_is_left_of_what_cannot_be_written(tmp_path):
    with pytest.raises(IndexError):
        write(tmp_path, "single_label", np.zeros((2, 2)), [0, 5], ["a", "b"], {"sequence": ["A", "C"]})
    assert not list((tmp_path / "new").iterdir())
