"""Intervals of a study: over windows and over seeds, and the verdict that follows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengram.benchmarks.study.statistics import (
    HELPS,
    HURTS,
    OPEN,
    Estimate,
    estimate_mean,
    explain_difference,
    judge_difference,
    summarize_curves,
)


def test_means_are_over_bases_and_not_over_windows():
    found = estimate_mean(np.array([[10.0, 30.0], [20.0, 40.0]]), np.array([10, 30]))
    assert found.per_seed == [1.0, 1.5] and found.mean == 1.25


def test_the_interval_over_windows_covers_as_often_as_it_says():
    random, inside = np.random.default_rng(1), 0
    for trial in range(200):
        sums = random.normal(0.3, 1.0, size=(1, 60))
        low, high = estimate_mean(sums, np.ones(60), resamples=300, seed=trial).over_windows
        inside += low < 0.3 < high
    assert 180 <= inside <= 198  # 95 %, a little less for a bootstrap


def test_the_interval_over_seeds_is_students():
    # Two seeds: t of one degree of freedom is 12.706, the deviation of 1 and 2 is 0.7071.
    found = estimate_mean(np.array([[10.0], [20.0]]), np.array([10]))
    assert found.over_seeds == pytest.approx([1.5 - 6.353, 1.5 + 6.353], abs=1e-3)
    assert estimate_mean(np.array([[10.0]]), np.array([10])).over_seeds is None


def test_a_window_without_bases_says_nothing():
    with_it = estimate_mean(np.array([[1.0, 0.0, 2.0]]), np.array([1, 0, 1]))
    assert with_it.mean == 1.5
    assert estimate_mean(np.array([[0.0]]), np.array([0])).over_windows is None


def make(mean: float, windows: float, seeds: float, per_seed: tuple[float, ...] = (0.0, 0.0)) -> Estimate:
    return Estimate(mean, list(per_seed), [mean - windows, mean + windows], [mean - seeds, mean + seeds])


@pytest.mark.parametrize(
    ("difference", "verdict", "told"),
    [
        (make(-0.1, 0.05, 0.05), HELPS, "The memory helps: 0.1000 bits per base fewer"),
        (make(0.1, 0.05, 0.05), HURTS, "The memory hurts: 0.1000 bits per base more"),
        (make(-0.1, 0.05, 0.2, (-0.11, -0.09)), OPEN, "better in 2 of 2 seeds; the interval over seeds holds zero"),
        (make(-0.1, 0.2, 0.05, (-0.21, 0.01)), OPEN, "better in 1 of 2 seeds; the interval over windows holds zero"),
        (make(-0.1, 0.2, 0.2), OPEN, "the interval over windows and that over seeds holds zero"),
        (Estimate(-0.1, [-0.1], [-0.2, -0.05], None), OPEN, "one seed does not say what another would"),
        (Estimate(0.0, [0.0, 0.0], None, [0.1, 0.2]), OPEN, "the interval over windows holds zero"),
    ],
)
def test_a_verdict_needs_both_intervals(difference, verdict, told):
    assert judge_difference(difference) == verdict
    assert told in explain_difference(difference)


@given(st.integers(1, 4), st.integers(1, 30), st.integers(0, 99))
def test_swapping_the_models_swaps_the_verdict(seeds, windows, seed):
    random = np.random.default_rng(seed)
    sums, bases = random.normal(size=(seeds, windows)), random.integers(1, 9, windows)
    one, other = (estimate_mean(sign * sums, bases, resamples=50) for sign in (1, -1))
    assert one.mean == pytest.approx(-other.mean)
    swapped = {HELPS: HURTS, HURTS: HELPS, OPEN: OPEN}
    assert judge_difference(one) == swapped[judge_difference(other)]


def test_curves_have_bands_where_all_seeds_were_measured():
    found = summarize_curves([[(1, 2.0), (2, 1.0), (3, 0.5)], [(1, 1.0), (2, 3.0)]])
    assert found == {"x": [1.0, 2.0], "mean": [1.5, 2.0], "low": [1.0, 1.0], "high": [2.0, 3.0]}
    assert summarize_curves([]) == summarize_curves([[(1, 1.0)], [(2, 1.0)]])
