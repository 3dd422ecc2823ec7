"""How certain is a difference between two models? Over held-out windows by bootstrap, over seeds by Student's t.

Two things vary: which windows were held out, and the seed, which draws weights and data. An interval over windows
keeps the trained models and asks what other windows would say; an interval over seeds keeps the windows and asks what
other trainings would say. A difference is called certain only where both leave zero out on the same side.

Dimensions: S seeds, W windows.
"""

import dataclasses
from typing import Any

import numpy as np

from gengram.training.metrics.bootstrap import draw_resamples, find_interval
from gengram.training.metrics.seed_intervals import find_student_interval

RESAMPLES = 2000
HELPS, HURTS, OPEN = "helps", "hurts", "cannot be told"


@dataclasses.dataclass(frozen=True)
class Estimate:
    """
    A mean, and how certain it is.

    Attributes:
        mean: over seeds, each over all bases of the windows.
        per_seed: of each seed.
        over_windows: 95 % percentile interval of the bootstrap over windows; None where it is not defined.
        over_seeds: 95 % interval of Student's t over seeds; None for one seed.
    """

    mean: float
    per_seed: list[float]
    over_windows: list[float] | None
    over_seeds: list[float] | None

    def describe(self) -> dict[str, Any]:
        """As JSON has it."""
        return dataclasses.asdict(self)


def estimate_mean(bits: np.ndarray, bases: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """
    Estimate bits per base, or a difference of them.

    Args:
        bits: float64 (S, W), the sum of each window, or the difference of two models' sums.
        bases: int64 (W,), how many bases each sum is over; windows without any say nothing.
        resamples, seed: of the bootstrap. The same numbers of windows and seed give the same resamples, so that
            intervals of several models are over the same ones.
    """
    bits, bases = np.asarray(bits, dtype=np.float64), np.asarray(bases, dtype=np.float64)
    total = bases.sum()
    per_seed = bits.sum(axis=1) / total if total else np.full(len(bits), np.nan)
    counts = draw_resamples(len(bases), resamples, seed).astype(np.float64)
    drawn = counts @ bases
    means = np.divide(counts @ bits.mean(axis=0), drawn, out=np.full(resamples, np.nan), where=drawn > 0)
    return Estimate(float(per_seed.mean()), per_seed.tolist(), find_interval(means), find_student_interval(per_seed))


def judge_difference(difference: Estimate) -> str:
    """Return `helps`, `hurts` or `cannot be told` of a difference in bits per base, memory minus none."""
    intervals = (difference.over_windows, difference.over_seeds)
    if all(interval is not None and interval[1] < 0 for interval in intervals):
        return HELPS
    if all(interval is not None and interval[0] > 0 for interval in intervals):
        return HURTS
    return OPEN


def explain_difference(difference: Estimate) -> str:
    """Return the verdict on a difference in bits per base, memory minus none, as a sentence with its reason."""
    verdict, seeds = judge_difference(difference), len(difference.per_seed)
    size = f"{abs(difference.mean):.4f} bits per base {'fewer' if difference.mean < 0 else 'more'} with memory"
    if verdict != OPEN:
        return f"The memory {verdict}: {size}, with either interval on this side of zero."
    if seeds < 2:
        return f"It cannot be told: {size}, but one seed does not say what another would."
    below = sum(value < 0 for value in difference.per_seed)
    counted = f"better in {below} of {seeds} seeds"
    missed = [
        name
        for name, interval in (("windows", difference.over_windows), ("seeds", difference.over_seeds))
        if interval is None or interval[0] <= 0 <= interval[1]
    ]
    if not missed:
        return f"It cannot be told: {size}, {counted}; the intervals are on different sides of zero."
    return f"It cannot be told: {size}, {counted}; the interval over {' and that over '.join(missed)} holds zero."


def summarize_curves(curves: list[list[tuple[float, float]]]) -> dict[str, list[float]]:
    """
    Return mean and extremes over seeds of curves at the places that all of them have.

    Args:
        curves: of each seed, (place, value).

    Returns:
        `x`, `mean`, `low` and `high`, lists of the same length.
    """
    values = [dict(curve) for curve in curves]
    places = sorted(set.intersection(*(set(each) for each in values))) if values else []
    table = np.array([[each[place] for place in places] for each in values]).reshape(len(values), len(places))
    empty: list[float] = []
    if not places:
        return {"x": empty, "mean": empty, "low": empty, "high": empty}
    return {
        "x": [float(place) for place in places],
        "mean": table.mean(axis=0).tolist(),
        "low": table.min(axis=0).tolist(),
        "high": table.max(axis=0).tolist(),
    }


__all__ = [
    "HELPS",
    "HURTS",
    "OPEN",
    "RESAMPLES",
    "Estimate",
    "estimate_mean",
    "explain_difference",
    "judge_difference",
    "summarize_curves",
]
