"""Is one model better than another? Paired tests: on the rows of one task, and over the tasks of a suite.

On a task both models have seen the same rows, so the rows are drawn for both alike (paired bootstrap, Efron 1979), and
what is easy or hard for both cancels. A model that was trained with several seeds is the mean over them; how far that
mean may be from the mean over all seeds is drawn from Student's t, from three seeds on. One or two seeds do not tell
how much they vary, so a difference of theirs is one of these trainings, not of the two ways to train.

Over tasks the signed-rank test (Wilcoxon 1945) asks whether the differences go one way, and the p-values of single
tasks are adjusted for their number (Holm 1979).

Dimensions: S seeds, N rows, C classes, labels or targets, B resamples, T tasks.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from gengram.training.metrics.bootstrap import CONFIDENCE, choose_resamples, draw_in_parts, find_interval
from gengram.training.metrics.scores import BOOTSTRAP_SEED, measure_outputs, resample_outputs
from gengram.training.metrics.seed_intervals import FEWEST, find_mean_interval
from gengram.training.problems import METRICS, Problem

RESAMPLES = 5000
"""Of a test set that is not very large; 2 / 5001 is the smallest p-value then, and a suite has dozens of them."""

LOWER_IS_BETTER = ("loss",)
"""Metrics of which less is better."""

LEVEL = 1 - CONFIDENCE
"""p-values below it count as a difference."""

_OVER_ROWS = "paired percentile bootstrap of the rows"
_OVER_BOTH = f"{_OVER_ROWS}, Student's t over seeds"


@dataclasses.dataclass(frozen=True)
class Resampled:
    """The scores of one model, as they are and resampled.

    Attributes:
        metric: one of `METRICS`.
        per_seed: float64 (S,).
        means: float64 (B,), the mean over seeds in each resample of the rows.
        spread: standard deviation of the mean over seeds around that over all seeds, for rows without number; 0 for
            fewer than three seeds, which do not tell.
        rows: N.
    """

    metric: str
    per_seed: np.ndarray
    means: np.ndarray
    spread: float
    rows: int


@dataclasses.dataclass(frozen=True)
class Difference:
    """What one model, A, scores more than another, B, on the same rows.

    Attributes:
        metric: one of `METRICS`.
        a, b: the means over seeds; None where a seed has no score.
        difference: a - b.
        interval: of the difference, 95 %, percentile bootstrap; None where it is not defined.
        p: two-sided; the share of resamples on the other side of zero, twice, the given one counted among them.
        seeds: of A and of B.
        rows: of the test set.
        method: how interval and p were made.
    """

    metric: str
    a: float | None
    b: float | None
    difference: float | None
    interval: list[float] | None
    p: float | None
    seeds: list[int]
    rows: int
    method: str

    @property
    def gain(self) -> float | None:
        """By how much A is better: the difference, of a loss its opposite."""
        if self.difference is None:
            return None
        return -self.difference if self.metric in LOWER_IS_BETTER else self.difference

    def describe(self) -> dict[str, Any]:
        """As JSON has it."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class SuiteDifference:
    """What one model, A, scores more than another, B, over tasks.

    Attributes:
        tasks: how many have a difference.
        mean: of the gains: of a loss, what is less.
        interval, method: of the mean, 95 %, by the rule of `find_mean_interval`; None for fewer than three tasks.
        p: of Wilcoxon's signed-rank test, two-sided, exact; None without a task.
        wins, ties, losses: tasks on which A is better, as good, worse.
        better, worse: tasks on which it is so by Holm's p below 0.05.
        holm: of each task, in the order given, p adjusted for their number; None where the difference is not defined.
    """

    tasks: int
    mean: float | None
    interval: list[float] | None
    method: str | None
    p: float | None
    wins: int
    ties: int
    losses: int
    better: int
    worse: int
    holm: list[float | None]

    def describe(self) -> dict[str, Any]:
        """As JSON has it."""
        return dataclasses.asdict(self)


def compare_rows(
    problem: Problem,
    metric: str,
    outputs_a: np.ndarray,
    outputs_b: np.ndarray,
    labels: np.ndarray,
    most: int = RESAMPLES,
) -> Difference:
    """Compare two models on the same rows.

    Args:
        problem: of the task, not `token`.
        metric: one of its `METRICS`.
        outputs_a, outputs_b: (S, N, C) floats of each model, logits or predictions; the numbers of seeds may differ.
        labels: (N,) class ids, (N, L) of 0 and 1, or (N, R) numbers.
        most: resamples, of a very large test set fewer.

    Raises:
        `InputError`: outputs that are not finite.
        `ValueError`: outputs of other rows or columns, or a metric that the problem does not have.
    """
    if outputs_a.shape[1:] != outputs_b.shape[1:]:
        raise ValueError(f"outputs {outputs_a.shape} and {outputs_b.shape} are not of the same rows")
    return compare_resampled(
        *(resample_model(problem, metric, outputs, labels, most) for outputs in (outputs_a, outputs_b))
    )


def resample_model(
    problem: Problem, metric: str, outputs: np.ndarray, labels: np.ndarray, most: int = RESAMPLES
) -> Resampled:
    """Score the outputs of a model's seeds, as they are and resampled; see `compare_rows`.

    The same number of rows gives the same resamples, whatever the model, so what this returns for one model can be
    compared with what it returns for any other.
    """
    if metric not in METRICS[problem]:
        raise ValueError(f"{problem} has no metric {metric!r}; it has {', '.join(METRICS[problem])}")
    outputs = np.asarray(outputs, dtype=np.float64)
    labels = np.asarray(labels, dtype=np.float32) if problem == "multi_label" else np.asarray(labels)
    per_seed = np.array([measure_outputs(problem, one, labels)[metric] for one in outputs])
    _, rows, columns = outputs.shape
    parts = [
        np.stack([resample_outputs(problem, one, labels, counts)[metric] for one in outputs])
        for counts in draw_in_parts(rows, choose_resamples(rows, columns, most), BOOTSTRAP_SEED)
    ]
    resampled = np.concatenate(parts, axis=1)
    return Resampled(metric, per_seed, resampled.mean(axis=0), _find_spread(per_seed, resampled), rows)


def compare_resampled(a: Resampled, b: Resampled) -> Difference:
    """Compare two models by what `resample_model` returns for each of them.

    Raises:
        `ValueError`: they are of other rows or metrics.
    """
    if (a.metric, a.rows, len(a.means)) != (b.metric, b.rows, len(b.means)):
        raise ValueError(f"{a.metric} of {a.rows} rows and {b.metric} of {b.rows} rows cannot be compared")
    random = np.random.default_rng(BOOTSTRAP_SEED)
    drawn = a.means - b.means
    for one in (a, b):
        drawn = drawn + one.spread * random.standard_t(max(len(one.per_seed) - 1, 1), len(drawn))
    interval = find_interval(drawn)
    seeds = [len(a.per_seed), len(b.per_seed)]
    return Difference(
        metric=a.metric,
        a=_know(a.per_seed.mean()),
        b=_know(b.per_seed.mean()),
        difference=_know(a.per_seed.mean() - b.per_seed.mean()),
        interval=interval,
        p=None if interval is None else _find_share(drawn[~np.isnan(drawn)]),
        seeds=seeds,
        rows=a.rows,
        method=f"{_OVER_BOTH if max(seeds) >= FEWEST else _OVER_ROWS}, {len(drawn)} resamples",
    )


def compare_suite(differences: Sequence[Difference]) -> SuiteDifference:
    """Compare two models over tasks.

    Args:
        differences: of each of T tasks, from `compare_rows`.

    Returns:
        what they are together; those that are not defined are left out.
    """
    known = [place for place, one in enumerate(differences) if one.p is not None]
    adjusted = dict(zip(known, adjust_holm([float(differences[place].p or 0) for place in known])))
    gains = np.array([one.gain for one in differences if one.gain is not None], dtype=np.float64)
    interval, method = find_mean_interval(gains, "tasks")
    certain = [differences[place].gain or 0.0 for place, share in adjusted.items() if share < LEVEL]
    return SuiteDifference(
        tasks=len(gains),
        mean=float(gains.mean()) if len(gains) else None,
        interval=interval,
        method=method,
        p=rank_signs(gains) if len(gains) else None,
        wins=int((gains > 0).sum()),
        ties=int((gains == 0).sum()),
        losses=int((gains < 0).sum()),
        better=sum(gain > 0 for gain in certain),
        worse=sum(gain < 0 for gain in certain),
        holm=[adjusted.get(place) for place in range(len(differences))],
    )


def rank_signs(differences: np.ndarray) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test, exact whatever is tied.

    Args:
        differences: (T,) floats; those that are 0 say nothing and are left out.
    """
    differences = differences[differences != 0]
    ranks = np.rint(2 * rankdata(np.abs(differences))).astype(int)  # twice: ties share the mean of theirs
    # The share of all 2**T signs that have each sum of the ranks of what is above zero.
    shares = np.zeros(ranks.sum() + 1)
    shares[0] = 1
    for rank in ranks:
        shares = (shares + np.concatenate([np.zeros(rank), shares[:-rank]])) / 2
    reached = ranks[differences > 0].sum()
    return float(min(1.0, 2 * min(shares[: reached + 1].sum(), shares[reached:].sum())))


def adjust_holm(shares: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number, in the same order: the chance that any of them is as small (Holm)."""
    order = np.argsort(shares, kind="stable")
    size = len(order)
    stepped = np.maximum.accumulate([min(1.0, (size - place) * shares[row]) for place, row in enumerate(order)])
    adjusted = np.empty(size)
    adjusted[order] = stepped
    return adjusted.tolist()


def _find_spread(per_seed: np.ndarray, resampled: np.ndarray) -> float:
    """Return the `spread` of `Resampled`.

    Seeds differ on few rows more than they would on many: what each gets right by luck on these rows. That part is in
    the resamples already, as the variance between the seeds of a resample, and is taken off the variance between seeds.

    Args:
        per_seed: (S,).
        resampled: (S, B).
    """
    size = len(per_seed)
    if size < FEWEST:
        return 0.0
    by_luck = np.nanvar(resampled - resampled.mean(axis=0), axis=1).sum() / (size - 1)
    return math.sqrt(max(per_seed.var(ddof=1) - by_luck, 0.0) / size)


def _find_share(drawn: np.ndarray) -> float:
    """Return the two-sided p-value of differences (B,): twice the share on the rarer side of zero."""
    sides = [(1 + np.count_nonzero(side)) / (len(drawn) + 1) for side in (drawn <= 0, drawn >= 0)]
    return float(min(1.0, 2 * min(sides)))


def _know(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


__all__ = [
    "LEVEL",
    "LOWER_IS_BETTER",
    "RESAMPLES",
    "Difference",
    "Resampled",
    "SuiteDifference",
    "adjust_holm",
    "compare_resampled",
    "compare_rows",
    "compare_suite",
    "rank_signs",
    "resample_model",
]
