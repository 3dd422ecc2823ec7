"""How many bits does a base need in a gzip or xz file?

What everybody knows of, and a fair warning: written as text, DNA often takes more than the 2 bits of a table of four
letters. The compressors learn from the letters themselves, nothing is fitted before.
"""

import gzip
import lzma
from collections.abc import Iterable

import numpy as np

from gengram.training.baselines.base_codes import NO_BASE, read_codes

_LETTERS = np.frombuffer(b"ACGT", dtype=np.uint8)
_DICTIONARY = 1 << 26  # bytes that xz -9 looks back; more than there are cost memory for nothing


def measure_compression(pieces: Iterable[np.ndarray], most: int = 1 << 23) -> dict[str, float | int]:
    """Measure what gzip -9 and xz -9e make of bases, headers included.

    Args:
        pieces: uint8 [n] each, ASCII letters. Their bases are written one after the other, in upper case; N and other
            codes are left out, so that they cost nothing, as for the models.
        most: bases after which the rest is left out: xz takes about a second for a million.

    Returns:
        `bases` that were compressed, and bits per base `gzip_text`, `xz_text` (a byte a base) and `gzip_packed`,
        `xz_packed` (four bases a byte; 2 bits before they are compressed). NaN where there is no base.
    """
    codes = _take_bases(pieces, most)
    found: dict[str, float | int] = {"bases": len(codes)}
    for form, data in (("text", _LETTERS[codes].tobytes()), ("packed", _pack(codes).tobytes())):
        for name, count in (("gzip", _count_gzip), ("xz", _count_xz)):
            found[f"{name}_{form}"] = 8 * count(data) / len(codes) if len(codes) else float("nan")
    return found


def _take_bases(pieces: Iterable[np.ndarray], most: int) -> np.ndarray:
    kept, taken = [np.empty(0, dtype=np.uint8)], 0
    for piece in pieces:
        codes = read_codes(piece)
        kept.append(codes[codes != NO_BASE][: most - taken])
        taken += len(kept[-1])
        if taken >= most:
            break
    return np.concatenate(kept)


def _pack(codes: np.ndarray) -> np.ndarray:
    """Four bases a byte, the last one filled up with A."""
    fours = np.pad(codes, (0, -len(codes) % 4)).reshape(-1, 4)
    return fours @ np.array([64, 16, 4, 1], dtype=np.uint8)


def _count_gzip(data: bytes) -> int:
    return len(gzip.compress(data, compresslevel=9, mtime=0))


def _count_xz(data: bytes) -> int:
    size = max(1 << 12, min(_DICTIONARY, len(data)))
    return len(
        lzma.compress(data, filters=[{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": size}])
    )


__all__ = ["measure_compression"]
