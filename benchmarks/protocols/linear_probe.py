"""What does a linear model read out of a frozen model? Logistic regression of classes and labels, ridge regression of
numbers, on standardised embeddings.

Means and deviations are those of the training rows. Layer and penalty are chosen together on the validation rows; what
was fitted on the training rows is then scored as it is. Nothing here is random, so a seed changes nothing.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import log_expit, log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from gengram.benchmarks.protocols.baselines import measure_rows
from gengram.benchmarks.protocols.entrants import Entrant
from gengram.benchmarks.protocols.features import choose_best, embed_task
from gengram.benchmarks.protocols.probe_settings import LinearProbeSettings
from gengram.benchmarks.protocols.table import Outcome
from gengram.errors import InputError
from gengram.phases import phase

if TYPE_CHECKING:
    from gengram.benchmarks.data.prepared import PreparedTask
    from gengram.training.problems import Problem

STRENGTHS = (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0)
"""Inverse penalties C of logistic regressions that are tried, the strongest penalty first."""

PENALTIES = (10000.0, 1000.0, 100.0, 10.0, 1.0, 0.1)
"""Penalties of ridge regressions that are tried, the strongest first."""

_STEPS, _TOLERANCE = 1000, 1e-6  # of the solver (L-BFGS)
_ABSENT = -30.0  # log-probability of a class, or logit of a label, that no training row has


def run_linear_probe(
    model: Entrant, task: "PreparedTask", settings: LinearProbeSettings, seeds: Sequence[int], cache: Path | None
) -> list[Outcome]:
    """Judge a model by `linear-probe`.

    Args:
        model: whose embeddings are read.
        task: of any problem but `token`.
        settings: which layers are offered, and how they are read.
        seeds: the first one names the only outcome, since none changes anything.
        cache: folder, see `embed_rows`.

    Returns:
        One outcome. `chosen` has `layer`, and `C` or `alpha`; `tried` the same of every setting, with the task's metric
        and the loss on the validation rows; `converged` says whether the solver came to its end.

    Raises:
        `InputError`: see `embed_task`; training rows of one class only.
    """
    features = embed_task(model, task, settings, cache)
    started = time.process_time()
    metric, name = task.task.metric, task.task.name
    tried: list[dict[str, Any]] = []
    best: dict[str, Any] = {}
    with phase("Probing"):
        for layer in features.layers:
            scaler = StandardScaler()
            # In float64, as scikit-learn computes.
            inputs = scaler.fit_transform(features.take("train", layer).astype(np.float64))
            validation, test = (
                scaler.transform(features.take(split, layer).astype(np.float64)) for split in ("validation", "test")
            )
            for setting, predict in fit_strengths(task.problem, inputs, task.train.labels, len(task.classes), name):
                scores = measure_rows(task, predict(validation), task.validation)
                tried.append(
                    {"layer": layer, **setting, **{key: scores[key] for key in (metric, "loss") if key in scores}}
                )
                if choose_best(tried, metric) == len(tried) - 1:
                    best = {"outputs": predict(test), "validation": scores, "setting": {"layer": layer, **setting}}
    seconds = round(time.process_time() - started, 3)
    chosen = {**best["setting"], "head": "linear", "tried": tried, "seconds": seconds}
    return [Outcome(seeds[0], best["outputs"], best["validation"], chosen)]


def fit_strengths(
    problem: "Problem", inputs: np.ndarray, labels: np.ndarray, classes: int, name: str
) -> Iterator[tuple[dict[str, Any], Callable[[np.ndarray], np.ndarray]]]:
    """Fit a linear model with every penalty, the strongest first, each fit beginning where the last one ended.

    Args:
        problem: of the task.
        inputs: float64 [N, D], standardised.
        labels: int64 [N] class ids, bool [N, L], or float64 [N, R].
        classes: how many classes there are; some may have no row here.
        name: of the task, for the message.

    Yields:
        The setting, and what gives the outputs for other inputs, [M, D] -> float64 [M, C], until the next is asked for.

    Raises:
        `InputError`: all rows are of one class.
    """
    if problem == "regression":
        for penalty in PENALTIES:
            ridge = Ridge(alpha=penalty).fit(inputs, labels)
            yield {"alpha": penalty}, partial(_tell_numbers, ridge)
        return
    columns = labels.T if problem == "multi_label" else labels[None]
    present = [np.unique(column) for column in columns]
    if all(len(one) < 2 for one in present):
        raise InputError(f"{name}: all training rows are of one class; nothing can be learned from them")
    models = [
        LogisticRegression(max_iter=_STEPS, tol=_TOLERANCE, warm_start=True) if len(one) > 1 else None
        for one in present
    ]

    def predict(others: np.ndarray) -> np.ndarray:
        if problem == "single_label":
            return _tell_classes(models[0], others, classes)
        return np.stack(
            [
                np.full(len(others), -_ABSENT if one[0] else _ABSENT)
                if model is None
                else model.decision_function(others)
                for model, one in zip(models, present)
            ],
            axis=1,
        )

    for strength in STRENGTHS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # it is told as `converged`
            for model, column in zip(models, columns):
                if model is not None:
                    model.set_params(C=strength).fit(inputs, column)
        converged = all(model is None or bool((model.n_iter_ < _STEPS).all()) for model in models)
        yield {"C": strength, "converged": converged}, predict


def _tell_numbers(model: Any, inputs: np.ndarray) -> np.ndarray:
    """Predictions, float64 [N, R]."""
    return model.predict(inputs).reshape(len(inputs), -1)


def _tell_classes(model: Any, inputs: np.ndarray, classes: int) -> np.ndarray:
    """Log-probabilities of all classes, float64 [N, C]."""
    decided = model.decision_function(inputs)
    if decided.ndim == 1:
        shares = np.stack([log_expit(-decided), log_expit(decided)], axis=1)
    else:
        shares = log_softmax(decided, axis=1)
    found = np.full((len(inputs), classes), _ABSENT)
    found[:, model.classes_] = shares
    return found


__all__ = ["PENALTIES", "STRENGTHS", "fit_strengths", "run_linear_probe"]
