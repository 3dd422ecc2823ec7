"""How good is a model on a split? All metrics of a problem: as a whole, for each class or target, and resampled."""

import dataclasses

import numpy as np
from transformers import EvalPrediction

from gengram.errors import InputError
from gengram.training.metrics.bootstrap import (
    choose_resamples,
    draw_resamples,
    resample_classification,
    resample_multi_label,
    resample_regression,
)
from gengram.training.metrics.classification import (
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
    per_class: dict[str, list[float]]
    resamples: dict[str, np.ndarray] | None = None


def measure(problem: Problem, prediction: EvalPrediction) -> dict[str, float]:
    """Compute the `METRICS` of the whole split, as Trainer's `compute_metrics` wants them.

    Their `loss` takes the place of Trainer's own, a mean over batches.

    Raises:
        `InputError`: the model's outputs are not finite.
    """
    outputs, references, _ = _arrange(problem, prediction)
    if problem == "regression":
        return _name_loss(problem, measure_regression(outputs, references))
    if problem == "multi_label":
        return _name_loss(problem, measure_multi_label(outputs, references))
    return _name_loss(problem, measure_classification(outputs, references))


def score(problem: Problem, prediction: EvalPrediction, with_resamples: bool) -> Scores:
    """Compute everything about one model on one split.

    Args:
        problem: of the task.
        prediction: outputs and references of all rows, in the order of the rows. The same rows give the same
            resamples, whatever the model: differences between models can be taken resample by resample.
        with_resamples: whether intervals are wanted.
    """
    outputs, references, rows = _arrange(problem, prediction)
    overall = measure(problem, prediction)
    each = {"multi_label": measure_each_label, "regression": measure_each_target}.get(problem, measure_each_class)
    resampled = None
    if with_resamples:
        size = len(prediction.label_ids)
        counts = draw_resamples(size, choose_resamples(len(outputs), outputs.shape[1]), BOOTSTRAP_SEED)
        if problem == "regression":
            resampled = resample_regression(outputs, references, counts)
        elif problem == "multi_label":
            resampled = resample_multi_label(outputs, references, counts)
        else:
            resampled = resample_classification(outputs, references, counts, rows)
        resampled = _name_loss(problem, resampled)
    return Scores(overall, each(outputs, references), resampled)


def _arrange(problem: Problem, prediction: EvalPrediction) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return outputs (M, C), references, and for `token`, where M counts bases, the row of each base."""
    outputs, references = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
    if not np.isfinite(outputs).all():
        raise InputError("the training diverged: the model's outputs are not finite. Lower --learning_rate.")
    if problem != "token":
        return outputs, references, None
    return select_labelled_bases(outputs, references)


def _name_loss(problem: Problem, metrics: dict) -> dict:
    metrics = {**metrics, "loss": metrics[_LOSS[problem]]}
    return {metric: metrics[metric] for metric in METRICS[problem]}


__all__ = ["BOOTSTRAP_SEED", "METRICS", "Scores", "measure", "score"]
