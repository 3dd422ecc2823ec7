"""Could a score have come about by chance? Permutation test (Fisher 1935): the predictions as they are, the labels of
the rows in random order.

The mean AUROC, the MCC and the correlations are sums over rows of a number that depends on the row's predictions and on
its label (the marginals, all that is not linear in them, stay when labels change places). So one table of numbers, the
mean over the models of several seeds, is read in a thousand orders.

Dimensions: N rows, C classes, labels or targets, S models.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from gengram.training.problems import Problem

STATISTICS: dict[Problem, tuple[str, ...]] = {
    "single_label": ("auroc", "mcc"),
    "multi_label": ("auroc",),
    "regression": ("pearson", "spearman"),
    "token": ("auroc", "mcc"),
}
"""Metrics that are 0.5 (`auroc`) or 0 for predictions that have nothing to do with the labels."""

_SEED = 0
_MOST, _FEWEST, _BUDGET = 999, 199, 200_000_000


@dataclasses.dataclass(frozen=True)
class Permutations:
    """What came out of a test.

    Attributes:
        better, worse: for each of `STATISTICS` of the problem the share of the orders, the given one among them, with
            at least (at most) the score of the given one; without those that are not defined.
        smallest: the smallest share that can be: that of a perfect score, 1 / the number of different orders.
        orders: how many were drawn.
    """

    better: dict[str, float]
    worse: dict[str, float]
    smallest: float
    orders: int


def permute_labels(problem: Problem, outputs: Sequence[np.ndarray], truth: np.ndarray) -> Permutations:
    """Compare the mean scores of some models with those of the same predictions for labels in random order.

    Args:
        problem: any but `token`: bases of a row are no samples of their own.
        outputs: of each of S models (N, C) floats, higher for the more likely class; of a regression the predictions.
        truth: (N,) class ids, booleans (N, C), or floats (N, C).
    """
    weighed = {name: _weigh(name, problem, outputs, truth) for name in STATISTICS[problem]}
    tables = {name: table for name, table in weighed.items() if table is not None}
    size, columns = outputs[0].shape
    orders = max(_FEWEST, min(_MOST, _BUDGET // max(size * columns, 1)))
    random = np.random.default_rng(_SEED)
    above, below = dict.fromkeys(tables, 1), dict.fromkeys(tables, 1)
    given = {name: _sum_up(*table, np.arange(size)) for name, table in tables.items()}
    for _ in range(orders):
        order = random.permutation(size)
        for name, table in tables.items():
            value = _sum_up(*table, order)
            above[name] += value >= given[name] - 1e-9
            below[name] += value <= given[name] + 1e-9
    shares = [{name: number / (orders + 1) for name, number in side.items()} for side in (above, below)]
    return Permutations(shares[0], shares[1], 1 / _count_orders(truth), orders)


def _weigh(
    name: str, problem: Problem, outputs: Sequence[np.ndarray], truth: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return a table (N, C) and labels, see `_sum_up`, or None where the score is not defined for a model."""
    if problem == "regression":
        sides = [
            rankdata(side, axis=0) if name == "spearman" else side.astype(np.float64) for side in (truth, *outputs)
        ]
        vary = np.all([np.ptp(side, axis=0) > 0 for side in sides], axis=0)
        if not vary.any():
            return None
        measured, *guesses = ((side - side.mean(axis=0)) / side.std(axis=0) for side in (one[:, vary] for one in sides))
        return np.mean(guesses, axis=0) / measured.size, measured
    if name == "mcc":
        tables = [_weigh_mcc(output, truth) for output in outputs]
        return np.mean(tables, axis=0), truth
    hits = truth if problem == "multi_label" else truth[:, None] == np.arange(outputs[0].shape[1])
    number = hits.sum(axis=0)
    defined = (number > 0) & (number < len(hits))
    if problem == "single_label" and len(number) == 2:
        defined[0] = False
    if not defined.any():
        return None
    scale = np.zeros(len(number))
    scale[defined] = 1 / (number * (len(hits) - number) / len(hits))[defined] / defined.sum()
    ranks = [(rankdata(output, axis=0) - (len(hits) + 1) / 2) / len(hits) for output in outputs]
    return np.mean(ranks, axis=0) * scale, truth.astype(np.float64) if problem == "multi_label" else truth


def _weigh_mcc(output: np.ndarray, truth: np.ndarray) -> np.ndarray:
    size, classes = output.shape
    guesses = output.argmax(axis=1)
    true, guessed = (np.bincount(side, minlength=classes).astype(float) for side in (truth, guesses))
    spread = math.sqrt((size**2 - (true**2).sum()) * (size**2 - (guessed**2).sum()))
    table = np.zeros((size, classes))
    if spread > 0:  # else it is 0 by definition
        table[np.arange(size), guesses] = size / spread
    return table


def _sum_up(table: np.ndarray, truth: np.ndarray, order: np.ndarray) -> float:
    """Return the sum over rows of the table's number for the label of the row `order` has in this place."""
    labels = truth[order]
    if truth.ndim == 1:
        return float(table[np.arange(len(table)), labels].sum())
    return float(np.einsum("nc,nc->", table, labels))


def _count_orders(truth: np.ndarray) -> float:
    """Return in how many different ways the labels can be dealt to the rows; infinity where they are too many."""
    _, alike = np.unique(truth, axis=0, return_counts=True)
    logarithm = math.lgamma(len(truth) + 1) - sum(math.lgamma(number + 1) for number in alike)
    return math.exp(logarithm) if logarithm < 700 else math.inf


__all__ = ["STATISTICS", "Permutations", "permute_labels"]
