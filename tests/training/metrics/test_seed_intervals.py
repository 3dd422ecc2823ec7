"""Intervals of a mean over seeds: by how many there are, and never of what does not tell."""

import numpy as np
import pytest
from scipy.stats import bootstrap, ttest_1samp

from gengram.training.metrics.seed_intervals import find_mean_interval, find_seed_interval, find_student_interval


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.9], [0.5, 0.6, np.nan], [0.1] * 11 + [np.inf]])
def test_too_few_seeds_or_no_score_have_none(values):
    assert find_seed_interval(values) == (None, None)


@pytest.mark.parametrize("size", [3, 9])
def test_three_to_nine_seeds_are_students(size):
    values = np.random.default_rng(0).normal(size=size)
    interval, method = find_seed_interval(values)
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    assert interval == pytest.approx([expected.low, expected.high])
    assert method == "Student's t over seeds, 95%"


@pytest.mark.parametrize("size", [10, 30])
def test_ten_seeds_are_drawn(size):
    values = np.random.default_rng(0).exponential(size=size)
    interval, method = find_seed_interval(values.tolist())
    expected = bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=1).confidence_interval
    assert interval == pytest.approx([expected.low, expected.high], rel=0.05)
    assert method == "percentile bootstrap over seeds, 95%"
    assert find_seed_interval(values.tolist()) == (interval, method)


def test_the_method_says_what_the_mean_is_over():
    assert find_mean_interval([1.0, 2.0, 4.0], "tasks")[1] == "Student's t over tasks, 95%"


def test_equal_scores_have_no_width():
    assert find_seed_interval([0.25] * 3)[0] == [0.25, 0.25]
    assert find_seed_interval([0.25] * 12)[0] == [0.25, 0.25]


def test_student_needs_two():
    assert find_student_interval([1.0]) is None
    assert find_student_interval([1.0, 2.0]) == pytest.approx([1.5 - 6.353, 1.5 + 6.353], abs=1e-3)
