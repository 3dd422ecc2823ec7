"""Which random numbers does the n-th block have? Counter-based: a number is a function of its place, with no state.

SplitMix64's finaliser (Steele, Lea and Flood 2014) mixes a key of seed and stream with the row's number, then with the
column: rows are drawn in any order, by any process, and always the same. A stream is what numbers are for, and keeps
those for different things apart.
"""

import functools
import hashlib
import math

import numpy as np

Stream = int | str | tuple[int | str, ...]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 divided by the golden ratio
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_ROUNDS = 8  # of the permutation


def draw_uniform(seed: int, stream: Stream, numbers: np.ndarray, count: int, first: int = 0) -> np.ndarray:
    """Draw numbers that are uniform on [0, 1).

    Args:
        seed: of the run, any integer.
        stream: what they are for.
        numbers: uint64 [N], of the rows: blocks, windows.
        count: columns.
        first: which is the first column: rows can be continued later.

    Returns:
        float64 [N, count], multiples of 2^-53.

    Example:
        >>> draw_uniform(0, "windows", np.array([7]), 2).round(3).tolist()
        [[0.407, 0.438]]
    """
    return (_draw_bits(seed, stream, numbers, count, first) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def make_generator(seed: int, stream: Stream, number: int) -> np.random.Generator:
    """Return a generator of its own for one block, where the count of numbers is not known beforehand.

    Args:
        seed: of the run, any integer.
        stream: what they are for.
        number: of the block.
    """
    key = hash_stream(seed, stream)
    return np.random.Generator(np.random.Philox(key=np.array([key, number], dtype=np.uint64)))


class Permutation:
    """A random order of 0 .. size-1, looked up at any place, in constant memory.

    A Feistel network on two digits of a mixed base just large enough; what falls outside walks on until it is inside
    (Black and Rogaway 2002).

    Args:
        seed: of the run.
        stream: what it is for.
        size: how many numbers are put in order.

    Example:
        >>> sorted(Permutation(0, "tiles", 5)(np.arange(5)).tolist())
        [0, 1, 2, 3, 4]
    """

    def __init__(self, seed: int, stream: Stream, size: int):
        if size < 1:
            raise ValueError(f"size={size}: there is nothing to put in order")
        self.size = size
        low = math.isqrt(size - 1) + 1
        self._low, self._high = np.uint64(low), np.uint64(-(-size // low))
        self._keys = _mix(np.uint64(hash_stream(seed, stream)) + _GOLDEN * np.arange(1, _ROUNDS + 1, dtype=np.uint64))

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """Return the numbers at these places: int64, of their shape; `places` from 0, below `size`."""
        found = self._step(np.asarray(places).astype(np.uint64))
        while (outside := found >= np.uint64(self.size)).any():
            found[outside] = self._step(found[outside])
        return found.astype(np.int64)

    def _step(self, values: np.ndarray) -> np.ndarray:
        high, low = np.divmod(values, self._low)
        for number, key in enumerate(self._keys):
            if number % 2:
                high = (high + _mix(low ^ key) % self._high) % self._high
            else:
                low = (low + _mix(high ^ key) % self._low) % self._low
        return high * self._low + low


@functools.lru_cache(maxsize=1024)
def hash_stream(seed: int, stream: Stream) -> int:
    """Return the 64-bit key of a stream of a seed; different for all that differ, as far as 64 bits go."""
    parts = stream if isinstance(stream, tuple) else (stream,)
    named = [part if isinstance(part, str) else int(part) for part in (seed, *parts)]
    digest = hashlib.blake2b(repr(named).encode(), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def _draw_bits(seed: int, stream: Stream, numbers: np.ndarray, count: int, first: int) -> np.ndarray:
    """Random bits: uint64 [N, count]."""
    key = np.uint64(hash_stream(seed, stream))
    rows = _mix(_mix(np.asarray(numbers).astype(np.uint64) * _GOLDEN + key))
    columns = np.arange(first + 1, first + count + 1, dtype=np.uint64) * _GOLDEN
    return _mix(rows[:, None] + columns)


def _mix(bits: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser, of each of some uint64."""
    bits = (bits ^ (bits >> np.uint64(30))) * _FIRST
    bits = (bits ^ (bits >> np.uint64(27))) * _SECOND
    return bits ^ (bits >> np.uint64(31))


__all__ = ["Permutation", "Stream", "draw_uniform", "hash_stream", "make_generator"]
