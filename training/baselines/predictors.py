"""What simple models say of rows, in the form of a trained model's outputs: logits, or predictions of numbers.

One place for what every user of the baselines needs alike: rows of one class only, classes that no training row has,
labels that all rows have, and probabilities of 0, whose logarithm is not finite.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.special import logit
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline

from gengram.training.baselines.linear import make_linear_model
from gengram.training.problems import Problem

Predict = Callable[[Sequence[Any]], np.ndarray]
"""Rows -> float64 (N, C): logarithms of class probabilities, logits of L labels, or R predictions."""

MOST_ROWS = 10_000
"""Training rows that a linear model is fitted on: those of published tables."""

_LEAST = 1e-9  # of a probability: its logarithm is finite


def choose_rows(rows: int, most: int = MOST_ROWS) -> np.ndarray:
    """Return the numbers of the rows to fit on: the first `most` of a permutation by `default_rng(0)`, int64."""
    return np.random.default_rng(0).permutation(rows)[:most]


def guess_constant(problem: Problem, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return what a model that never sees a sequence says of every row: what is most frequent in these labels.

    Args:
        problem: of the task; `token` for the labels of bases.
        labels: (N,) class ids, (N, L) of 0 and 1, or (N, R) numbers.
        classes: how many classes there are; for one class a row or base.

    Returns:
        float64 (C,), (L,) or (R,): logarithms of the classes' shares, logits of the labels' shares, or means.
    """
    if problem == "regression":
        return labels.mean(axis=0)
    if problem == "multi_label":
        return to_logits(problem, labels.mean(axis=0))
    counts = np.bincount(labels, minlength=classes)
    return to_logits(problem, counts / counts.sum())


def fit_linear(
    problem: Problem,
    features: Pipeline,
    rows: Sequence[Any],
    labels: np.ndarray,
    classes: int,
    strength: float = 10.0,
) -> Predict | None:
    """Fit a linear model on some features of rows.

    Args:
        problem: of the task, not `token`.
        features: of the rows, see `gengram.training.baselines.linear`.
        rows: what the features are of, N of them.
        labels: (N,) class ids, (N, L) of 0 and 1, or (N, R) numbers.
        classes: how many classes there are; some may have no row here.
        strength: see `make_linear_model`.

    Returns:
        what gives the outputs for other rows; None where all rows have one class or the same labels.
    """
    if problem != "regression" and len(np.unique(labels, axis=0)) < 2:
        return None
    model = make_linear_model(problem, features, len(rows), strength)
    with warnings.catch_warnings():
        # A label that all rows have, or none; a fit that stops after its last iteration: the model is as good as it is.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", message="Label .* is present in all training examples")
        model.fit(rows, labels)

    def predict(others: Sequence[Any]) -> np.ndarray:
        if problem == "regression":
            return np.asarray(model.predict(others), dtype=np.float64).reshape(len(others), -1)
        shares = np.asarray(model.predict_proba(others), dtype=np.float64)
        if problem == "single_label":
            found = np.zeros((len(others), classes))
            found[:, model.classes_] = shares
            shares = found
        elif labels.shape[1] == 1:  # scikit-learn takes one label for two classes
            shares = shares[:, 1:]
        return to_logits(problem, shares)

    return predict


def to_logits(problem: Problem, shares: np.ndarray) -> np.ndarray:
    """Return probabilities as a model's outputs: logarithms, or for labels that exclude nothing logits; all finite."""
    shares = np.clip(shares, _LEAST, 1 - _LEAST)
    return logit(shares) if problem == "multi_label" else np.log(shares)


__all__ = ["MOST_ROWS", "Predict", "choose_rows", "fit_linear", "guess_constant", "to_logits"]
