"""How good are an entrant's outputs on the test rows, and how sure is that? Every metric, over seeds and over rows.

Two things vary: the seed of what is trained, and the rows that happen to be in the test set. Each has its own interval;
neither stands for the other.
"""

import math
from typing import Any

import numpy as np
from transformers import EvalPrediction

from gengram.training.metrics.bootstrap import CONFIDENCE, find_interval
from gengram.training.metrics.scores import score
from gengram.training.metrics.seed_intervals import find_seed_interval
from gengram.training.problems import METRICS, Problem

ROW_METHOD = f"percentile bootstrap of the test rows, mean over seeds, {CONFIDENCE:.0%}"
"""How the intervals over rows are made."""


def judge(problem: Problem, outputs: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """
    Measure outputs by all `METRICS` of the problem.

    Args:
        problem: of the task.
        outputs: (S, N, C), see `Predictions`.
        labels: (N,), (N, R) or (N, L).

    Returns:
        For each metric `mean`, `per_seed`, `seed_interval` with `seed_interval_method`, and `row_interval`; None where
        a value is not defined.

    Raises:
        `InputError`: outputs that are not finite.
    """
    references = labels.astype(np.float32) if problem == "multi_label" else labels
    scored = [score(problem, EvalPrediction(one.astype(np.float64), references), True) for one in outputs]
    found: dict[str, Any] = {}
    for metric in METRICS[problem]:
        values = [float(one.overall[metric]) for one in scored]
        resampled = np.mean([one.resamples[metric] for one in scored if one.resamples is not None], axis=0)
        interval, method = find_seed_interval(values)
        found[metric] = {
            "mean": _know(np.mean(values)),
            "per_seed": [_know(value) for value in values],
            "seed_interval": interval,
            "seed_interval_method": method,
            "row_interval": find_interval(resampled),
        }
    return found


def _know(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


__all__ = ["ROW_METHOD", "judge"]
