"""How do predictions compare with what is true? Counts and curves that plots are drawn from.

A file of predictions is read a part at a time: what is counted needs no more memory for the bases of a genome than for
a hundred sequences. Curves are those of the scores themselves, in order; of more than ten million rows (or bases),
those of 65,536 of the scores as thresholds.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from gengram.pipelines.predictions import read_predictions
from gengram.training.problems import Problem

_RELIABILITY_BINS = 10
# Scores that are in memory at once (float32, with their labels 50 MB). Where a class has more of them, so many
# thresholds are chosen from so many of its scores.
_MOST_SCORES, _THRESHOLDS, _SAMPLE = 10_000_000, 65_536, 1_000_000
# Points of a curve as it is drawn.
_MOST_POINTS = 4000
# Where the curves of several labels are averaged: shares of negatives, finer near 0, and of positives.
_SHARES = np.unique(np.r_[0, np.geomspace(1e-5, 1, 1000), np.linspace(0, 1, 1001)])

Curve = tuple[np.ndarray, np.ndarray]
"""x and y."""

Counts = tuple[np.ndarray, np.ndarray]
"""How many positives and how many negatives have each score, from the highest score on."""


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """What came out on one split.

    Attributes:
        positives: int64 (C,), the rows (or bases) of each class or label.
        total: the number of rows (or bases).
        confusion: int64 (C, C), true classes first; None for a multi-label task.
        reliability: float64 (3, 10): number, sum of the probabilities and number of hits of the decisions in ten bins
            of equal width from 0 to 1. A decision is class 1 of two, the predicted class of more, or each label.
        brier: mean squared difference of probability and truth (Brier 1950): of class 1 of two, summed over more
            classes, averaged over labels.
    """

    positives: np.ndarray
    total: int
    confusion: np.ndarray | None
    reliability: np.ndarray
    brier: float

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: mean distance of probability and share of hits, weighted by the bins' numbers."""
        number, probability, hits = self.reliability
        return float(np.abs(probability - hits).sum() / number.sum())


def collect_outcomes(path: Path, problem: Problem, classes: list[str]) -> Outcomes:
    """Count the outcomes of a file of `write_predictions`; of any problem but a regression."""
    size = len(classes)
    positives, total = np.zeros(size, dtype=np.int64), 0
    confusion = np.zeros((size, size), dtype=np.int64)
    reliability, squares, decisions = np.zeros((3, _RELIABILITY_BINS)), 0.0, 0
    for scores, truth in read_predictions(path, problem, classes):
        total += len(scores)
        if problem == "multi_label":
            positives += truth.sum(axis=0)
            chosen, right = scores.ravel(), truth.ravel()
            squares += float(np.square(chosen - right).sum(dtype=np.float64))
            decisions += scores.size
        else:
            hits = truth[:, None] == np.arange(size)
            positives += hits.sum(axis=0)
            guesses = scores.argmax(axis=1)
            confusion += np.bincount(truth * size + guesses, minlength=size**2).reshape(size, size)
            chosen, right = (scores[:, 1], truth == 1) if size == 2 else (scores.max(axis=1), truth == guesses)
            distances = np.square(chosen - right) if size == 2 else np.square(scores - hits)
            squares += float(distances.sum(dtype=np.float64))
            decisions += len(scores)
        bins = np.minimum((chosen * _RELIABILITY_BINS).astype(int), _RELIABILITY_BINS - 1)
        for line, weights in zip(reliability, (None, chosen, right)):
            line += np.bincount(bins, weights, minlength=_RELIABILITY_BINS)
    matrix = None if problem == "multi_label" else confusion
    return Outcomes(positives, total, matrix, reliability, squares / max(decisions, 1))


def trace_curves(
    path: Path, problem: Problem, classes: list[str], shown: Sequence[int], total: int
) -> dict[int, tuple[Curve, Curve]]:
    """Return the ROC and the precision-recall curve of some classes or labels, thinned to some thousand points.

    Args:
        path, problem, classes: see `collect_outcomes`.
        shown: the classes.
        total: of `Outcomes`.

    Returns:
        For each class the curves of `trace_roc` and `trace_precision`.
    """
    return {
        label: (thin_roc(*trace_roc(*counts)), thin_precision(*trace_precision(*counts)))
        for label, counts in _count_thresholds(path, problem, classes, shown, total)
    }


def trace_mean_curves(path: Path, problem: Problem, classes: list[str], outcomes: Outcomes) -> tuple[Curve, Curve]:
    """Return the means of the ROC and of the precision-recall curves of all labels with positives and negatives.

    ROC curves are averaged over equal shares of negatives, precision over equal recall, so the areas are the means of
    the labels' areas. Without such a label, the curves have no points.
    """
    shown = np.flatnonzero((outcomes.positives > 0) & (outcomes.positives < outcomes.total)).tolist()
    sums = np.zeros((2, len(_SHARES)))
    for _, counts in _count_thresholds(path, problem, classes, shown, outcomes.total):
        shares, found = trace_roc(*counts)
        # At a share where the curve rises straight up, its upper end counts, as it does for the area behind it.
        sums[0] += np.interp(_SHARES, shares, found)
        sums[1] += np.maximum(0, _average_steps(*trace_precision(*counts), _SHARES))
    if not shown:
        return (np.empty(0), np.empty(0)), (np.empty(0), np.empty(0))
    roc, precision = sums / len(shown)
    return (np.r_[0, _SHARES], np.r_[0, roc]), (_SHARES, precision)


def trace_roc(positives: np.ndarray, negatives: np.ndarray) -> Curve:
    """Return the shares of negatives (x) and of positives (y) above each threshold, from the highest on.

    Args:
        positives, negatives: how many have each score, from the highest score on.
    """
    shares = [np.r_[0, part.cumsum()] / max(part.sum(), 1) for part in (negatives, positives)]
    return shares[0], shares[1]


def trace_precision(positives: np.ndarray, negatives: np.ndarray) -> Curve:
    """Return recall (x) and precision (y) at each threshold with positives, from the highest on; recall begins at 0.

    Between two points the precision is that of the second one (steps), so that the area is the average precision.
    Without positives there are no points.
    """
    hits, alarms = positives.cumsum(), negatives.cumsum()
    found = positives > 0
    precision = hits[found] / (hits + alarms)[found]
    return np.r_[np.zeros(int(found.any())), hits[found] / max(positives.sum(), 1)], np.r_[precision[:1], precision]


def thin_roc(x: np.ndarray, y: np.ndarray) -> Curve:
    """Return some thousand points of a curve, evenly along it: what is left out is within a pixel of what is drawn."""
    kept = _choose_points(x, y)
    return x[kept], y[kept]


def thin_precision(x: np.ndarray, y: np.ndarray) -> Curve:
    """Return some thousand steps in the place of many: each has the mean height of those that it stands for."""
    kept = _choose_points(x, y)
    if len(kept) == len(x):
        return x, y
    heights = _average_steps(x, y, x[kept])
    return x[kept], np.r_[heights[1], heights[1:]]


def _choose_points(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if len(x) <= _MOST_POINTS:
        return np.arange(len(x))
    way = np.r_[0, (np.abs(np.diff(x)) + np.abs(np.diff(y))).cumsum()]
    return np.unique(np.r_[0, np.searchsorted(way, np.linspace(0, way[-1], _MOST_POINTS)).clip(max=len(x) - 1)])


def _average_steps(x: np.ndarray, y: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the mean height of steps (the height at x[i] is that from x[i-1] on) between each edge and the one before.

    Between two edges that are equal it is the height there; the first is that of the first step.
    """
    area = np.r_[0, (np.diff(x) * y[1:]).cumsum()]
    widths = np.diff(edges)
    heights = y[np.searchsorted(x, edges).clip(max=len(x) - 1)]
    means = np.divide(np.diff(np.interp(edges, x, area)), widths, out=heights[1:].copy(), where=widths > 0)
    return np.r_[heights[0], means]


def _count_thresholds(
    path: Path, problem: Problem, classes: list[str], shown: Sequence[int], total: int
) -> Iterator[tuple[int, Counts]]:
    """Yield for each class how many positives and negatives have each score, from the highest score on."""
    together = max(1, _MOST_SCORES // max(total, 1))
    for start in range(0, len(shown), together):
        labels = list(shown[start : start + together])
        parts = functools.partial(_read_scores, path, problem, classes, labels)
        if total > _MOST_SCORES:
            yield labels[0], _count_between(parts, total)
            continue
        scores, hits = np.empty((len(labels), total), dtype=np.float32), np.empty((len(labels), total), dtype=bool)
        end = 0
        for part, truth in parts():
            scores[:, end : end + len(part)], hits[:, end : end + len(part)] = part.T, truth.T
            end += len(part)
        for label, row, hit in zip(labels, scores, hits):
            values, places = np.unique(row, return_inverse=True)
            yield label, _count(places, hit, len(values))


def _count_between(parts: Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]], total: int) -> Counts:
    """Count the scores of one class between thresholds: quantiles of all scores, and of those of the positives.

    A class of few positives has all their scores as thresholds.
    """
    every: list[np.ndarray] = []
    positive: list[np.ndarray] = []
    step = -(-total // _SAMPLE)
    for scores, hits in parts():
        every.append(scores[::step, 0])
        positive.append(scores[hits[:, 0], 0])
        if sum(map(len, positive)) > 2 * _SAMPLE:
            positive = [np.concatenate(positive)[::2]]
    shares = np.linspace(0, 1, _THRESHOLDS // 2)
    sides = [np.concatenate(side) for side in (every, positive)]
    edges = np.unique(np.concatenate([np.quantile(side, shares, method="nearest") for side in sides if len(side)]))
    counts = np.zeros((2, len(edges) + 1), dtype=np.int64)
    for scores, hits in parts():
        places = np.searchsorted(edges, scores[:, 0], side="right")
        counts += _count(places, hits[:, 0], len(edges) + 1)
    return counts[0], counts[1]


def _count(places: np.ndarray, hits: np.ndarray, size: int) -> Counts:
    positives, negatives = (np.bincount(places[side], minlength=size)[::-1] for side in (hits, ~hits))
    return positives, negatives


def _read_scores(
    path: Path, problem: Problem, classes: list[str], labels: list[int]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield float32 (some, labels), which rise with the probability of a class, and whether the class is the true one.

    Near 1, probabilities are coarser than what they were made from: the odds of a class are those against the sum of
    the others, which are small there.
    """
    for scores, truth in read_predictions(path, problem, classes):
        if problem == "multi_label":
            yield scores[:, labels], truth[:, labels]
            continue
        wide = scores.astype(np.float64)
        others = np.zeros_like(wide)
        others[:, 1:] += wide.cumsum(axis=1)[:, :-1]
        others[:, :-1] += wide[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
        with np.errstate(divide="ignore"):  # 0 and 1 have infinite odds
            odds = np.log(wide[:, labels]) - np.log(others[:, labels])
        yield odds.astype(np.float32), truth[:, None] == np.array(labels)


__all__ = [
    "Outcomes",
    "collect_outcomes",
    "thin_precision",
    "thin_roc",
    "trace_curves",
    "trace_mean_curves",
    "trace_precision",
    "trace_roc",
]
