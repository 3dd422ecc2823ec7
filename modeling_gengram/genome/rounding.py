"""How are probabilities kept until their tracks are written? Rounded to a precision, in half the bytes.

A number of two bytes has the probability in units of the precision, and in its highest bit whether the probability
reached the threshold before it was rounded.
"""

from decimal import Decimal

import numpy as np

from gengram.errors import InputError

PRECISION = 0.001
"""Of the probabilities in tracks, unless another one is asked for."""

_CALLED = 1 << 15
_MISSING = _CALLED - 1
_FINEST, _COARSEST = 0.0001, 0.1


class Rounding:
    """Probabilities as they are kept.

    Args:
        precision: what they are rounded to, 0.0001 to 0.1; 0: not at all, they stay float32.
        threshold: the probability from which on a feature is called.

    Attributes:
        itemsize: bytes of a probability.

    Raises:
        `InputError`: another precision.
    """

    def __init__(self, precision: float, threshold: float):
        if precision and not _FINEST <= precision <= _COARSEST:
            raise InputError(
                f"--precision {precision:g}: give {_FINEST} to {_COARSEST}, or 0 for probabilities that are not rounded"
            )
        self.precision, self.threshold = precision, threshold
        self.itemsize = 2 if precision else 4
        if precision:
            self._steps = np.float32(1 / precision)
            unit = Decimal(repr(precision))
            # By code; decimal numbers, so that text has no more digits than the precision.
            self._values = np.full(_CALLED, np.nan, dtype=np.float32)
            # Where the precision is no whole part of 1, the last multiple may be beyond it.
            known = [float(min(number * unit, Decimal(1))) for number in range(round(1 / precision) + 1)]
            self._values[: len(known)] = known

    def encode(self, probabilities: np.ndarray) -> np.ndarray:
        """Return probabilities, float32 [bp, features], as they are kept: uint16 or float32 [features, bp]."""
        turned = probabilities.T
        if not self.precision:
            return np.ascontiguousarray(turned, dtype=np.float32)
        kept = np.empty(turned.shape, dtype=np.uint16)
        for row, values in zip(kept, turned):  # one feature at a time is in memory twice
            called, scaled = values >= self.threshold, np.rint(values * self._steps)
            row[:] = np.where(np.isnan(scaled), _MISSING, scaled)
            row[called] |= _CALLED
        return kept

    def decode(self, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what `encode` was given, rounded, float32 [bp, features], and where features are called, booleans."""
        if not self.precision:
            values = np.asarray(kept, dtype=np.float32).T
            return values, values >= self.threshold
        return self._values[kept & _MISSING].T, (kept >= _CALLED).T


__all__ = ["PRECISION", "Rounding"]
