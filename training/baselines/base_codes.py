"""Letters as numbers: what the baselines count."""

import numpy as np

NO_BASE = 4
"""Code of a letter that is no base: N, the other IUPAC codes, gaps."""

_CODES = np.full(256, NO_BASE, dtype=np.uint8)
_CODES[np.frombuffer(b"ACGTUacgtu", dtype=np.uint8)] = [0, 1, 2, 3, 3] * 2


def read_codes(letters: np.ndarray) -> np.ndarray:
    """Return the codes of ASCII letters: A 0, C 1, G 2, T and U 3 in either case, all others `NO_BASE`.

    Args:
        letters: uint8 [n].

    Returns:
        uint8 [n].
    """
    return _CODES[letters]


__all__ = ["NO_BASE", "read_codes"]
