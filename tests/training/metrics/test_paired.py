"""Paired tests: against exact tests and textbook examples, and as often wrong as they say."""

import dataclasses
import json
from itertools import product

import numpy as np
import pytest
from scipy.stats import kstest, norm, wilcoxon

from gengram.errors import InputError
from gengram.training.metrics.classification import measure_classification
from gengram.training.metrics.paired import (
    Difference,
    adjust_holm,
    compare_resampled,
    compare_rows,
    compare_suite,
    rank_signs,
    resample_model,
)
from gengram.training.metrics.scores import BOOTSTRAP_SEED
from gengram.training.problems import METRICS


def draw_models(random, rows: int, seeds: int, gains: tuple[float, ...], between: float = 0.0):
    """Labels of two classes and outputs (S, N, 2) of models that see the same of each row, and noise of their own."""
    labels, common = random.integers(0, 2, rows), 0.7 * random.normal(size=rows)
    models = []
    for gain in gains:
        scores = (1 + gain + between * random.normal(size=(seeds, 1))) * labels + common
        scores = scores + random.normal(size=(seeds, rows))
        models.append(np.stack([-scores / 2, scores / 2], axis=2))
    return labels, *models


def make_difference(difference: float | None, p: float | None = 0.5, metric: str = "auroc") -> Difference:
    return Difference(metric, 0.5, 0.5, difference, None, p, [1, 1], 10, "by hand")


def test_the_difference_is_that_of_the_means_over_seeds():
    labels, a, b = draw_models(np.random.default_rng(0), 200, 3, (1.0, 0.0))
    for metric in METRICS["single_label"]:
        found = compare_rows("single_label", metric, a, b[:2], labels, most=200)
        name = "cross_entropy" if metric == "loss" else metric
        expected = [np.mean([measure_classification(one, labels)[name] for one in side]) for side in (a, b[:2])]
        assert [found.a, found.b] == pytest.approx(expected) and found.difference == found.a - found.b
        assert found.interval[0] < found.difference < found.interval[1]
        assert found.seeds == [3, 2] and found.rows == 200
        assert (found.gain > 0) == (metric != "loss" or found.a < found.b)


def test_intervals_are_those_of_the_same_drawn_rows():
    labels, a, b = draw_models(np.random.default_rng(1), 80, 1, (0.3, 0.0))
    found = compare_rows("single_label", "accuracy", a, b, labels)
    right = [(one[0].argmax(axis=1) == labels).astype(float) for one in (a, b)]
    random = np.random.default_rng(BOOTSTRAP_SEED)
    drawn = [(right[0] - right[1])[random.integers(80, size=80)].mean() for _ in range(5000)]
    assert found.interval == pytest.approx(np.quantile(drawn, [0.025, 0.975]))
    sides = [1 + np.sum(np.array(drawn) <= 0), 1 + np.sum(np.array(drawn) >= 0)]
    assert found.p == pytest.approx(min(1, 2 * min(sides) / 5001), abs=1e-3)


def test_swapped_models_have_the_opposite_difference():
    labels, a, b = draw_models(np.random.default_rng(2), 200, 2, (0.5, 0.0))
    one, other = (compare_rows("single_label", "mcc", *pair, labels, most=1000) for pair in ((a, b), (b, a)))
    assert one.difference == -other.difference and one.p == other.p
    assert one.interval == pytest.approx([-other.interval[1], -other.interval[0]])


def test_a_model_is_as_good_as_itself():
    labels, a = draw_models(np.random.default_rng(3), 100, 1, (0.5,))
    found = compare_rows("single_label", "auroc", a, a, labels)
    assert (found.difference, found.p, found.interval) == (0.0, 1.0, [0.0, 0.0])


def test_p_is_never_zero():
    labels = np.array([0, 1] * 100)
    right = np.eye(2)[labels][None] * 5
    found = compare_rows("single_label", "accuracy", right, -right, labels)
    assert found.difference == 1 and found.p == pytest.approx(2 / 5001)


def test_seeds_that_differ_widen_the_interval_from_three_on():
    random = np.random.default_rng(4)
    labels, a, b = draw_models(random, 400, 4, (0.3, 0.0), between=0.8)
    narrow = compare_rows("single_label", "auroc", a[:2], b[:2], labels, most=1000)
    wide = compare_rows("single_label", "auroc", a, b, labels, most=1000)
    assert "seeds" not in narrow.method and "Student's t over seeds" in wide.method
    assert np.ptp(wide.interval) > 1.5 * np.ptp(narrow.interval)


def test_labels_and_numbers_are_compared_too():
    random = np.random.default_rng(5)
    truth = random.normal(size=(100, 3))
    near, far = (truth + scale * random.normal(size=(2, 100, 3)) for scale in (0.3, 2.0))
    for problem, labels in (("multi_label", truth > 0), ("regression", truth)):
        for metric in METRICS[problem]:
            found = compare_rows(problem, metric, near, far, labels, most=300)
            assert found.gain > 0 and found.p < 0.01, (problem, metric)


def test_what_is_not_defined_is_no_difference():
    truth = np.random.default_rng(6).normal(size=(30, 1))
    found = compare_rows("regression", "pearson", truth[None], np.ones((1, 30, 1)), truth)
    assert (found.a, found.b, found.difference, found.interval, found.p) == (pytest.approx(1), None, None, None, None)
    assert found.gain is None
    one_class = np.zeros(30, dtype=int)
    outputs = np.random.default_rng(6).normal(size=(2, 1, 30, 2))
    assert compare_rows("single_label", "auroc", *outputs, one_class).p is None


def test_other_rows_and_metrics_are_refused():
    labels, a, b = draw_models(np.random.default_rng(7), 50, 1, (0.5, 0.0))
    with pytest.raises(ValueError, match="not of the same rows"):
        compare_rows("single_label", "auroc", a[:, :40], b, labels)
    with pytest.raises(ValueError, match="has no metric 'pearson'"):
        compare_rows("single_label", "pearson", a, b, labels)
    one = resample_model("single_label", "auroc", a, labels, most=100)
    other = resample_model("single_label", "mcc", b, labels, most=100)
    with pytest.raises(ValueError, match="cannot be compared"):
        compare_resampled(one, other)
    with pytest.raises(InputError, match="not finite"):
        compare_rows("single_label", "auroc", a * np.nan, b, labels)


@pytest.mark.parametrize("size", [1, 2, 5, 12, 25])
def test_signed_ranks_are_scipys_without_ties(size):
    differences = np.random.default_rng(size).normal(0.4, 1, size)
    assert rank_signs(differences) == pytest.approx(wilcoxon(differences, method="exact").pvalue)


def test_signed_ranks_are_exact_with_ties_and_zeros():
    differences = np.array([0.0, 0.1, 0.1, -0.1, 0.3, 0.3, 0.0, 0.5])
    known = differences[differences != 0]
    ranks = np.array([2, 2, 2, 4.5, 4.5, 6])
    sums = [np.dot(ranks, signs) for signs in product([0, 1], repeat=len(known))]
    reached = np.dot(ranks, known > 0)
    expected = min(1, 2 * min(np.mean(np.array(sums) >= reached), np.mean(np.array(sums) <= reached)))
    assert rank_signs(differences) == pytest.approx(expected)
    assert rank_signs(np.zeros(4)) == 1.0 and rank_signs(np.array([])) == 1.0


def test_holm_is_the_textbooks():
    # Four tests: 0.005 x 4, 0.01 x 3, 0.03 x 2 and never less than the one before, capped at 1.
    assert adjust_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjust_holm([0.6, 0.9]) == [1.0, 1.0] and adjust_holm([]) == []


def test_a_suite_counts_what_goes_which_way():
    differences = [make_difference(gain, p) for gain, p in ((0.1, 0.001), (0.2, 0.02), (0.0, 1.0), (-0.1, 0.001))]
    found = compare_suite([*differences, make_difference(None, None), make_difference(-0.3, 0.03, metric="loss")])
    assert (found.tasks, found.wins, found.ties, found.losses) == (5, 3, 1, 1)
    assert (found.better, found.worse) == (1, 1)
    assert found.holm == pytest.approx([0.005, 0.06, 1.0, 0.005, None, 0.06])
    assert found.mean == pytest.approx((0.1 + 0.2 - 0.1 + 0.3) / 5)
    assert found.method == "Student's t over tasks, 95%" and found.interval[0] < found.mean < found.interval[1]
    assert json.loads(json.dumps(dataclasses.asdict(found)))["holm"][4] is None


def test_a_suite_of_few_tasks_has_no_interval():
    assert compare_suite([]).p is None
    found = compare_suite([make_difference(0.1)])
    assert (found.tasks, found.mean, found.interval, found.method, found.p) == (1, 0.1, None, None, 1.0)
    assert compare_suite([make_difference(0.1)] * 12).method == "percentile bootstrap over tasks, 95%"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "seeds", "between", "metric"),
    [
        (100, 1, 0.0, "auroc"),
        (300, 1, 0.0, "mcc"),
        (300, 1, 0.0, "accuracy"),
        (300, 3, 0.3, "auroc"),
        (300, 5, 0.3, "auroc"),
    ],
)
def test_intervals_cover_and_chance_is_found_as_often_as_it_should_be(rows, seeds, between, metric):
    shares, covered = [], []
    for case in range(400):
        labels, a, b = draw_models(np.random.default_rng(case), rows, seeds, (0.0, 0.0), between)
        models = [resample_model("single_label", metric, one, labels, most=1000) for one in (a, b)]
        found = compare_resampled(*models)
        shares.append(found.p)
        covered.append(found.interval[0] <= 0 <= found.interval[1])
    assert 0.92 <= np.mean(covered) <= 0.985
    # With several seeds the spread between them has to be guessed from these few, so chance is found less often.
    assert np.mean(np.array(shares) < 0.05) <= 0.08
    if seeds == 1 and metric == "auroc":
        assert kstest(shares, "uniform").pvalue > 0.01


@pytest.mark.slow
def test_intervals_of_a_true_difference_cover_it():
    deviation = np.sqrt(2 * (0.7**2 + 1))
    true = norm.cdf(1.3 / deviation) - norm.cdf(1 / deviation)
    covered = []
    for case in range(400):
        labels, a, b = draw_models(np.random.default_rng(case), 200, 1, (0.3, 0.0))
        models = [resample_model("single_label", "auroc", one, labels, most=1000) for one in (a, b)]
        low, high = compare_resampled(*models).interval
        covered.append(low <= true <= high)
    assert 0.92 <= np.mean(covered) <= 0.98
