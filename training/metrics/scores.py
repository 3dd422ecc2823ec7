"""How good is a model on a split? All metrics of a problem: as a whole, for each class or target, and resampled."""

import dataclasses
from typing import Any

import numpy as np
from transformers import EvalPrediction

from gengram.errors import InputError
from gengram.training.metrics.bootstrap import (
    choose_resamples,
    draw_in_parts,
    resample_classification,
    resample_multi_label,
    resample_regression,
)
from gengram.training.metrics.classification import (
    Each,
    measure_classification,
    measure_each_class,
    select_labelled_bases,
)
from gengram.training.metrics.multi_label import measure_each_label, measure_multi_label
from gengram.training.metrics.regression import measure_each_target, measure_regression
from gengram.training.problems import METRICS, Problem

BOOTSTRAP_SEED = 0

# The loss is computed from all rows here: Trainer's is a mean over batches, which depends on their size and number.
_LOSS = {"single_label": "cross_entropy", "multi_label": "cross_entropy", "regression": "mse", "token": "cross_entropy"}


@dataclasses.dataclass(frozen=True)
class Scores:
    """What one model scores on one split.

    Attributes:
        overall: the value of each of `METRICS` of the problem; NaN where it is not defined.
        per_class: for some metrics the list of values of each class, label or target.
        resamples: for each metric float64 (B,), its values in resamples of the rows; None if not asked for.
    """

    overall: dict[str, float]
    per_class: Each
    resamples: dict[str, np.ndarray] | None = None


def measure(problem: Problem, prediction: EvalPrediction) -> dict[str, float]:
    """Compute the `METRICS` of the whole split, as Trainer's `compute_metrics` wants them.

    Their `loss` takes the place of Trainer's own, a mean over batches.

    Raises:
        `InputError`: the model's outputs are not finite.
    """
    outputs, references, _ = _arrange(problem, prediction)
    return _judge(problem, outputs, references)[0]


def score(problem: Problem, prediction: EvalPrediction, with_resamples: bool) -> Scores:
    """Compute everything about one model on one split.

    Args:
        problem: of the task.
        prediction: outputs and references of all rows, in the order of the rows. The same rows give the same
            resamples, whatever the model: differences between models can be taken resample by resample.
        with_resamples: whether intervals are wanted.

    Raises:
        `InputError`: the model's outputs are not finite.
    """
    outputs, references, rows = _arrange(problem, prediction)
    overall, each = _judge(problem, outputs, references)
    if not with_resamples:
        return Scores(overall, each)
    parts = []
    size = count_rows(prediction)
    for counts in draw_in_parts(size, choose_resamples(len(outputs), outputs.shape[1]), BOOTSTRAP_SEED):
        parts.append(resample_outputs(problem, outputs, references, counts, rows))
    return Scores(overall, each, {metric: np.concatenate([part[metric] for part in parts]) for metric in parts[0]})


def measure_outputs(problem: Problem, outputs: np.ndarray, references: np.ndarray) -> dict[str, float]:
    """Compute the `METRICS` of outputs (N, C) of N rows; not for `token`.

    Raises:
        `InputError`: the outputs are not finite.
    """
    return measure(problem, EvalPrediction(outputs, references))


def resample_outputs(
    problem: Problem,
    outputs: np.ndarray,
    references: np.ndarray,
    counts: np.ndarray,
    rows: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Compute the `METRICS` in every resample, float64 (B,) each; see `gengram.training.metrics.bootstrap`."""
    if problem == "regression":
        resampled = resample_regression(outputs, references, counts)
    elif problem == "multi_label":
        resampled = resample_multi_label(outputs, references, counts)
    else:
        resampled = resample_classification(outputs, references, counts, rows)
    return _name_loss(problem, resampled)


def count_rows(prediction: EvalPrediction) -> int:
    """Return how many rows were predicted, whether all together or in batches."""
    labels = prediction.label_ids
    return sum(map(len, labels)) if isinstance(labels, list) else len(labels)


def _judge(problem: Problem, outputs: np.ndarray, references: np.ndarray) -> tuple[dict[str, float], Each]:
    """Return the `METRICS` as a whole, and those of each class, label or target."""
    if problem == "regression":
        each = measure_each_target(outputs, references)
        overall = measure_regression(outputs, references, each)
    elif problem == "multi_label":
        each = measure_each_label(outputs, references)
        overall = measure_multi_label(outputs, references, each)
    else:
        each = measure_each_class(outputs, references)
        overall = measure_classification(outputs, references, each)
    return _name_loss(problem, overall), each


def _arrange(problem: Problem, prediction: EvalPrediction) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return outputs (M, C), references, and for `token`, where M counts bases, the row of each base."""
    batched = isinstance(prediction.predictions, list)
    batches: Any = (
        zip(prediction.predictions, prediction.label_ids)
        if batched
        else [(np.asarray(prediction.predictions), np.asarray(prediction.label_ids))]
    )
    if problem == "token":
        parts, start = [], 0
        for outputs, labels in batches:
            flat, known, rows = select_labelled_bases(outputs, labels)
            parts.append((flat, known, rows + start))
            start += len(labels)
    else:
        parts = [(*batch, None) for batch in batches]
    joined: list[Any] = [
        None if part[0] is None else part[0] if len(part) == 1 else np.concatenate(part) for part in zip(*parts)
    ]
    outputs, references, rows = joined
    if not np.isfinite(outputs).all():
        raise InputError("the training diverged: the model's outputs are not finite. Lower --learning_rate.")
    return outputs, references, rows


def _name_loss(problem: Problem, metrics: dict) -> dict:
    metrics = {**metrics, "loss": metrics[_LOSS[problem]]}
    return {metric: metrics[metric] for metric in METRICS[problem]}


__all__ = [
    "BOOTSTRAP_SEED",
    "METRICS",
    "Scores",
    "count_rows",
    "measure",
    "measure_outputs",
    "resample_outputs",
    "score",
]
