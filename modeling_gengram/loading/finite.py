"""Are all numbers of a safetensors file finite? Read in blocks, without torch, so in little time and memory."""

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import safe_open

_BLOCK = 1 << 22  # numbers in memory at once


class _Format(NamedTuple):
    """How numbers lie in the file, and which of them are none or infinite."""

    dtype: str
    is_wrong: Callable[[np.ndarray], Any]


def _holds(mask: int, value: int | None = None) -> Callable[[np.ndarray], Any]:
    return lambda numbers: (numbers & mask) == (mask if value is None else value)


def _is_not_finite(numbers: np.ndarray) -> Any:
    return ~np.isfinite(numbers)


# What numpy has no type for is told by its bits: all ones in the exponent, or the one pattern that is no number.
_FORMATS = {
    "F64": _Format("<f8", _is_not_finite),
    "F32": _Format("<f4", _is_not_finite),
    "F16": _Format("<f2", _is_not_finite),
    "BF16": _Format("<u2", _holds(0x7F80)),
    "F8_E5M2": _Format("u1", _holds(0x7C)),
    "F8_E4M3": _Format("u1", _holds(0x7F)),
    "F8_E5M2FNUZ": _Format("u1", _holds(0xFF, 0x80)),
    "F8_E4M3FNUZ": _Format("u1", _holds(0xFF, 0x80)),
    "F8_E8M0": _Format("u1", _holds(0xFF)),
}


def find_faulty(file: Path) -> list[str]:
    """Return the names of the tensors with a value that is not finite (NaN or infinite); whole numbers always are.

    Raises:
        An error of the safetensors library: it is no such file.
    """
    with safe_open(file, framework="np") as weights:  # which checks the header
        names = list(weights.keys())
    header, begin = _read_header(file)
    with open(file, "rb") as stream:
        return [name for name in names if any(_read_faults(stream, header[name], begin))]


def count_values(file: Path) -> int:
    """Return the number of values in a safetensors file, read from its header.

    Raises:
        An error of the safetensors library: it is no such file.
    """
    with safe_open(file, framework="np") as weights:
        shapes = [weights.get_slice(name).get_shape() for name in weights.keys()]  # noqa: SIM118 - not a dict
    return sum(int(np.prod(shape, dtype=object)) for shape in shapes)


def _read_header(file: Path) -> tuple[dict[str, Any], int]:
    """Return the header of a file that is known to be sound, and where the numbers begin."""
    with open(file, "rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        return json.loads(stream.read(length)), 8 + length


def _read_faults(stream: Any, entry: dict[str, Any], begin: int) -> Iterator[bool]:
    """For each block of a tensor, whether something in it is not finite."""
    form = _FORMATS.get(entry["dtype"])
    if form is None:
        return
    first, last = entry["data_offsets"]
    stream.seek(begin + first)
    left = (last - first) // np.dtype(form.dtype).itemsize
    while left > 0:
        numbers = np.fromfile(stream, form.dtype, min(left, _BLOCK))
        left -= max(len(numbers), 1)
        yield bool(form.is_wrong(numbers).any())


__all__ = ["count_values", "find_faulty"]
