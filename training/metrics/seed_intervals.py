"""How certain is a mean over seeds? An interval by a rule that goes by how many there are, and the method's name.

A few seeds say little of their spread, and an interval that hides this is worse than none: below three there is none,
up to nine it is Student's t, which widens as it should, from ten on the percentile bootstrap, which assumes no shape.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student

from gengram.training.metrics.bootstrap import CONFIDENCE, draw_resamples, find_interval

FEWEST, FEWEST_DRAWN = 3, 10
"""Values from which on there is an interval, and from which on it is one of the bootstrap."""

_RESAMPLES, _SEED = 2000, 0


def find_seed_interval(values: Sequence[float] | np.ndarray) -> tuple[list[float] | None, str | None]:
    """Return the interval of a mean over seeds and the method's name, see `find_mean_interval`."""
    return find_mean_interval(values, "seeds")


def find_mean_interval(values: Sequence[float] | np.ndarray, what: str) -> tuple[list[float] | None, str | None]:
    """Return the 95 % interval of a mean and the method's name.

    Args:
        values: S floats, such as the score of each seed.
        what: they are of, for the name.

    Returns:
        `[low, high]` and the method, Student's t for 3 to 9 values, the percentile bootstrap for more; twice None for
        fewer, and where a value is not defined (NaN).
    """
    known = np.asarray(values, dtype=np.float64)
    if len(known) < FEWEST or not np.isfinite(known).all():
        return None, None
    if len(known) < FEWEST_DRAWN:
        return find_student_interval(known), f"Student's t over {what}, {CONFIDENCE:.0%}"
    counts = draw_resamples(len(known), _RESAMPLES, _SEED)
    return find_interval(counts @ known / len(known)), f"percentile bootstrap over {what}, {CONFIDENCE:.0%}"


def find_student_interval(values: Sequence[float] | np.ndarray) -> list[float] | None:
    """Return Student's interval of the mean of S floats, S - 1 degrees of freedom; None for fewer than two."""
    size = len(values)
    if size < 2:
        return None
    half = student.ppf((1 + CONFIDENCE) / 2, size - 1) * np.std(values, ddof=1) / np.sqrt(size)
    return [float(np.mean(values) - half), float(np.mean(values) + half)]


__all__ = ["FEWEST", "FEWEST_DRAWN", "find_mean_interval", "find_seed_interval", "find_student_interval"]
