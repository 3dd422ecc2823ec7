"""Scores of cells: every metric over seeds and over rows."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, matthews_corrcoef, roc_auc_score

from gengram.benchmarks.evaluation.judge import judge
from gengram.errors import InputError
from gengram.training.problems import METRICS

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 2, 90)


def make_outputs(seeds: int) -> np.ndarray:
    return (RANDOM.normal(size=(seeds, 90, 2)) + 1.2 * np.eye(2)[LABELS]).astype(np.float32)


def test_means_over_seeds_are_those_of_scikit_learn():
    outputs = make_outputs(3)
    found = judge("single_label", outputs, LABELS)
    assert set(found) == set(METRICS["single_label"])
    scores = outputs[:, :, 1].astype(np.float64) - outputs[:, :, 0]
    for metric, values in {
        "auroc": [roc_auc_score(LABELS, one) for one in scores],
        "auprc": [average_precision_score(LABELS, one) for one in scores],
        "mcc": [matthews_corrcoef(LABELS, one > 0) for one in scores],
    }.items():
        assert found[metric]["per_seed"] == pytest.approx(values)
        assert found[metric]["mean"] == pytest.approx(np.mean(values))
        low, high = found[metric]["row_interval"]
        assert low < found[metric]["mean"] < high


@pytest.mark.parametrize(("seeds", "method"), [(1, None), (2, None), (3, "Student"), (10, "bootstrap")])
def test_the_number_of_seeds_says_which_interval_there_is(seeds, method):
    found = judge("single_label", make_outputs(seeds), LABELS)["auroc"]
    assert (found["seed_interval"] is None) == (method is None)
    assert method is None or method in found["seed_interval_method"]
    assert found["row_interval"] is not None


def test_what_is_not_defined_is_nothing_and_no_number():
    labels = np.zeros(20, dtype=np.int64)
    found = judge("single_label", np.zeros((1, 20, 2), np.float32), labels)
    assert found["auroc"]["mean"] is None and found["auroc"]["per_seed"] == [None]
    assert found["auroc"]["row_interval"] is None and found["accuracy"]["mean"] == 1.0


def test_other_problems_have_their_own_metrics():
    numbers = RANDOM.normal(size=(40, 2))
    found = judge("regression", (numbers + 0.1)[None].astype(np.float32), numbers)
    assert set(found) == set(METRICS["regression"]) and found["pearson"]["mean"] == pytest.approx(1)
    truth = RANDOM.random((40, 3)) > 0.5
    found = judge("multi_label", np.where(truth, 2.0, -2.0)[None].astype(np.float32), truth)
    assert found["auroc"]["mean"] == 1.0 and found["mcc"]["mean"] == 1.0


def test_outputs_that_are_no_numbers_are_refused():
    with pytest.raises(InputError, match="not finite"):
        judge("single_label", np.full((1, 90, 2), np.nan, np.float32), LABELS)
