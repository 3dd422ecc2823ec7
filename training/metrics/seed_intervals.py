"""How certain is a mean over seeds? An interval by a rule that goes by how many there are, and the method's name.

A few seeds say little of their spread, and an interval that hides this is worse than none: below three there is none,
up to nine it is Student's t, which widens as it should, from ten on the percentile bootstrap, which assumes no shape.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student

from gengram.training.metrics.bootstrap import CONFIDENCE, draw_resamples, find_interval

FEWEST, FEWEST_DRAWN = 3, 10
"""Seeds from which on there is an interval, and from which on it is one of the bootstrap."""

STUDENT = f"Student's t over seeds, {CONFIDENCE:.0%}"
BOOTSTRAP = f"percentile bootstrap over seeds, {CONFIDENCE:.0%}"

_RESAMPLES, _SEED = 2000, 0


def find_seed_interval(values: Sequence[float]) -> tuple[list[float] | None, str | None]:
    """Return the interval of a mean over seeds and the method's name.

    Args:
        values: the score of each seed, S floats.

    Returns:
        `[low, high]` and `STUDENT` for 3 to 9 seeds, `BOOTSTRAP` for more; twice None for fewer, and where a score is
        not defined (NaN).
    """
    known = np.asarray(values, dtype=np.float64)
    if len(known) < FEWEST or not np.isfinite(known).all():
        return None, None
    if len(known) < FEWEST_DRAWN:
        return find_student_interval(known), STUDENT
    counts = draw_resamples(len(known), _RESAMPLES, _SEED)
    return find_interval(counts @ known / len(known)), BOOTSTRAP


def find_student_interval(values: Sequence[float] | np.ndarray) -> list[float] | None:
    """Return Student's interval of the mean of S floats, S - 1 degrees of freedom; None for fewer than two."""
    size = len(values)
    if size < 2:
        return None
    half = student.ppf((1 + CONFIDENCE) / 2, size - 1) * np.std(values, ddof=1) / np.sqrt(size)
    return [float(np.mean(values) - half), float(np.mean(values) + half)]


__all__ = ["BOOTSTRAP", "FEWEST", "FEWEST_DRAWN", "STUDENT", "find_seed_interval", "find_student_interval"]
