"""What a sequence is made of, in six numbers: where a model does no better than these, the task is about composition.

Promoters are rich in G and C and CpG, introns are not; and a data set may have cut its classes to different lengths.
"""

from collections.abc import Sequence

import numpy as np
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from gengram.training.baselines.base_codes import NO_BASE, read_codes

NAMES = ("log2 length", "GC share", "CpG observed / expected", "GC skew", "AT skew", "share of other letters")


def measure_composition(sequences: Sequence[str]) -> np.ndarray:
    """Measure sequences by length, bases and CpG.

    Args:
        sequences: N strings of any length; case is ignored, U is T.

    Returns:
        float64 [N, 6], in the order of `NAMES`: the logarithm of the length in bp; (G + C) / bases; CpG times bases /
        (C times G); (G - C) / (G + C); (A - T) / (A + T); letters other than bases / length. 0 where a divisor is 0.
    """
    numbers = np.zeros((len(sequences), 5 + 2))  # A, C, G, T, others, CpG, length
    for row, sequence in zip(numbers, sequences):
        codes = read_codes(np.frombuffer(sequence.encode("ascii", "replace"), dtype=np.uint8))
        row[:5] = np.bincount(codes, minlength=NO_BASE + 1)
        row[5] = np.count_nonzero((codes[:-1] == 1) & (codes[1:] == 2))
        row[6] = len(codes)
    a, c, g, t, others, islands, length = numbers.T
    return np.stack(
        [
            np.log2(np.maximum(length, 1)),
            _divide(g + c, a + c + g + t),
            _divide(islands * (a + c + g + t), c * g),
            _divide(g - c, g + c),
            _divide(a - t, a + t),
            _divide(others, length),
        ],
        axis=1,
    )


def make_composition_features() -> Pipeline:
    """`measure_composition`, each number with mean 0 and deviation 1 over the rows that it is fitted on."""
    return make_pipeline(FunctionTransformer(measure_composition), StandardScaler())


def _divide(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


__all__ = ["NAMES", "make_composition_features", "measure_composition"]
