"""The permutation test: its statistics are the metrics, its shares those of an exact test, chance stays chance."""

import itertools

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import mannwhitneyu
from sklearn.metrics import matthews_corrcoef

from gengram.training.metrics.classification import measure_classification
from gengram.training.metrics.multi_label import measure_multi_label
from gengram.training.metrics.permutation import permute_labels
from gengram.training.metrics.regression import measure_regression

CASES = {
    "two classes": ("single_label", np.array([0, 1, 0, 1, 1]), 2, measure_classification, ("auroc", "mcc")),
    "three classes": ("single_label", np.array([0, 1, 2, 2, 1]), 3, measure_classification, ("auroc", "mcc")),
    "labels": ("multi_label", np.eye(3)[[0, 1, 2, 2, 0]] > 0, 3, measure_multi_label, ("auroc",)),
    "one target": ("regression", np.arange(5.0)[:, None] ** 2, 1, measure_regression, ("pearson", "spearman")),
    "targets": ("regression", np.eye(5)[:, :3] + np.arange(3), 3, measure_regression, ("pearson", "spearman")),
}


@pytest.mark.parametrize("case", CASES)
def test_shares_are_those_of_all_orders(case):
    problem, truth, columns, measure, metrics = CASES[case]
    random = np.random.default_rng(2)
    outputs = random.normal(size=(5, columns))
    # What a model's predictions are read from: probabilities, which have the order of the outputs in each column.
    scores = softmax(outputs, axis=1) if problem == "single_label" else outputs
    found = permute_labels(problem, [scores], truth)
    assert set(found.better) == set(metrics) and found.orders == 999
    given = measure(outputs, truth)
    others = [measure(outputs, truth[list(order)]) for order in itertools.permutations(range(5))]
    for metric in metrics:
        expected = np.mean([other[metric] >= given[metric] - 1e-9 for other in others])
        assert found.better[metric] == pytest.approx(expected, abs=0.05)


def test_of_two_classes_it_is_the_rank_sum_test():
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 200)
    scores = random.normal(size=200) + 0.2 * truth
    found = permute_labels("single_label", [np.stack([-scores, scores], axis=1)], truth)
    expected = mannwhitneyu(scores[truth == 1], scores[truth == 0], alternative="greater").pvalue
    assert found.better["auroc"] == pytest.approx(expected, abs=0.03)
    assert found.better["auroc"] + found.worse["auroc"] == pytest.approx(1, abs=0.02)


def test_few_rows_have_few_orders():
    scores, truth = np.eye(2)[[0, 0, 1, 1]], np.array([0, 0, 1, 1])
    assert permute_labels("single_label", [scores], truth).smallest == pytest.approx(1 / 6)
    assert permute_labels("single_label", [scores], np.zeros(4, int)).smallest == 1
    assert permute_labels("regression", [np.arange(3.0)[:, None]], np.arange(3.0)[:, None]).smallest == pytest.approx(
        1 / 6
    )
    assert permute_labels("single_label", [np.eye(2)[[0, 1] * 5000]], np.array([0, 1] * 5000)).smallest == 0


def test_constant_predictions_are_chance():
    truth = np.array([0, 1] * 20)
    found = permute_labels("single_label", [np.full((40, 2), 0.5)], truth)
    assert found.better == {"auroc": 1, "mcc": 1}
    assert permute_labels("regression", [np.ones((40, 1))], np.arange(40.0)[:, None]).better == {}


@pytest.mark.parametrize("seeds", [1, 2])
def test_chance_is_found_as_often_as_it_should_be(seeds):
    random = np.random.default_rng(0)
    shares = []
    for _ in range(60):
        truth = random.integers(0, 2, 40)
        outputs = [random.normal(size=(40, 2)) for _ in range(seeds)]
        shares.append(permute_labels("single_label", outputs, truth).better["mcc"])
    assert 0.01 <= np.mean(np.array(shares) < 0.1) <= 0.2


def test_the_mean_of_several_models_is_tested():
    random = np.random.default_rng(1)
    truth = random.integers(0, 2, 60)
    outputs = [random.normal(size=(60, 2)) + 0.35 * np.eye(2)[truth] for _ in range(8)]
    assert np.mean([matthews_corrcoef(truth, one.argmax(axis=1)) for one in outputs]) < 0.3
    alone = permute_labels("single_label", outputs[:1], truth).better["mcc"]
    assert permute_labels("single_label", outputs, truth).better["mcc"] < min(alone, 0.01)
