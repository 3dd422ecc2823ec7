"""How do predictions compare with what is true? Counts that curves, confusion and calibration are drawn from.

They are collected from a file of predictions a part at a time, so that the bases of a genome need no more memory than
a hundred sequences.
"""

import dataclasses
from pathlib import Path

import numpy as np
from scipy.special import logit

from gengram.pipelines.predictions import read_predictions
from gengram.training.problems import Problem

# Probabilities fall into bins of equal width in log odds, which are as fine near 0 and 1 as in the middle.
_BINS, _WIDEST = 8192, 20.0
_RELIABILITY_BINS = 10


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """What came out on one split.

    Attributes:
        positives, negatives: int64 (C, bins), the decisions by falling probability; one row of all decisions for a
            multi-label task.
        confusion: int64 (C, C), true classes first; None for a multi-label task.
        reliability: float64 (3, 10): number, sum of the probabilities and number of hits of the decisions in ten bins
            of equal width from 0 to 1. A decision is class 1 of two, the predicted class of more, or each label.
        brier: mean squared difference of probability and truth (Brier 1950): of class 1 of two, summed over more
            classes, averaged over labels.
    """

    positives: np.ndarray
    negatives: np.ndarray
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
    rows = 1 if problem == "multi_label" else size
    positives, negatives = np.zeros((2, rows, _BINS), dtype=np.int64)
    confusion = np.zeros((size, size), dtype=np.int64)
    reliability, squares, decisions = np.zeros((3, _RELIABILITY_BINS)), 0.0, 0
    for scores, truth in read_predictions(path, problem, classes):
        if problem == "multi_label":
            columns, hits = scores.reshape(-1, 1), truth.reshape(-1, 1)
            chosen, right = scores.ravel(), truth.ravel()
            squares += float(np.square(chosen - right).sum(dtype=np.float64))
            decisions += scores.size
        else:
            columns, hits = scores, truth[:, None] == np.arange(size)
            guesses = scores.argmax(axis=1)
            confusion += np.bincount(truth * size + guesses, minlength=size**2).reshape(size, size)
            chosen, right = (scores[:, 1], truth == 1) if size == 2 else (scores.max(axis=1), truth == guesses)
            distances = np.square(chosen - right) if size == 2 else np.square(scores - hits)
            squares += float(distances.sum(dtype=np.float64))
            decisions += len(scores)
        for row, (column, hit) in enumerate(zip(columns.T, hits.T)):
            bins = _find_bins(column)
            positives[row] += np.bincount(bins[hit], minlength=_BINS)
            negatives[row] += np.bincount(bins[~hit], minlength=_BINS)
        bins = np.minimum((chosen * _RELIABILITY_BINS).astype(int), _RELIABILITY_BINS - 1)
        for line, weights in zip(reliability, (None, chosen, right)):
            line += np.bincount(bins, weights, minlength=_RELIABILITY_BINS)
    matrix = None if problem == "multi_label" else confusion
    return Outcomes(positives, negatives, matrix, reliability, squares / max(decisions, 1))


def trace_roc(positives: np.ndarray, negatives: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the shares of negatives (x) and of positives (y) above each threshold, from the highest on."""
    changed = np.r_[True, positives + negatives > 0]
    shares = [np.r_[0, part.cumsum()][changed] / max(part.sum(), 1) for part in (negatives, positives)]
    return shares[0], shares[1]


def trace_precision(positives: np.ndarray, negatives: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return recall (x) and precision (y) at each threshold with positives, from the highest on; recall begins at 0.

    Without positives there are no points.
    """
    hits, alarms = positives.cumsum(), negatives.cumsum()
    found = positives > 0
    precision = hits[found] / (hits + alarms)[found]
    return np.r_[np.zeros(int(found.any())), hits[found] / max(positives.sum(), 1)], np.r_[precision[:1], precision]


def _find_bins(probabilities: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):  # 0 and 1 have infinite log odds, and go to the ends.
        odds = np.clip(logit(probabilities.astype(np.float64)), -_WIDEST, _WIDEST)
    return np.minimum(((_WIDEST - odds) / (2 * _WIDEST) * _BINS).astype(int), _BINS - 1)


__all__ = ["Outcomes", "collect_outcomes", "trace_precision", "trace_roc"]
