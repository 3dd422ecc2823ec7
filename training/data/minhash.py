"""Which sequences may be similar? k-mers, MinHash sketches and their keys, for blocks of sequences at once.

MinHash (Broder 1997, doi:10.1109/SEQUEN.1997.666900): two sets have the same minimum under a random order with the
probability of their Jaccard similarity. Three minima are a key, and sequences that share a key are candidates.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.stats import binom

from gengram.progress import track

_HASHES_A_KEY = 3
MISSED = 1e-9
"""Probability that a pair at the similarity asked for shares no key, or is taken for a pair below it by its sketch."""

_BLOCK = 1 << 18  # letters whose k-mers are in memory, and in a processor's cache, at a time
_CODES = np.full(256, 4, dtype=np.uint8)
_CODES[np.frombuffer(b"ACGTacgtUu", dtype=np.uint8)] = [0, 1, 2, 3, 0, 1, 2, 3, 3, 3]
_NONE = np.uint32(2**32 - 1)


class Sketches:
    """Minimal hashes of N sequences, of which the low 8 bits are kept.

    Args:
        number: N.
        hashes: how many.
        similarity: Jaccard similarity whose pairs have to be found alike.
    """

    def __init__(self, number: int, hashes: int, similarity: float):
        self.minima = np.empty((number, hashes), dtype=np.uint8)
        self.fewest = int(binom.ppf(MISSED, hashes, similarity))

    def are_alike(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Return whether the sequences of P pairs, int64 (P,) and (P,), can be at the similarity asked for."""
        return (self.minima[one] == self.minima[other]).sum(axis=1, dtype=np.int16) >= self.fewest


def sketch_with_keys(sequences: Sequence[str], k: int, similarity: float) -> tuple[Sketches, np.ndarray, np.ndarray]:
    """Make sketches of N sequences and the keys by which pairs are found.

    Args:
        sequences: N texts.
        k: see `find_kmers`.
        similarity: Jaccard similarity whose pairs have to be found; more keys for a smaller one, 16 for 0.9.

    Returns:
        The sketches; the keys, uint64 (keys, N); which sequences have a k-mer, bool (N,).
    """
    number = count_keys(similarity)
    multipliers = draw_odd(_HASHES_A_KEY, np.uint64)
    sketches = Sketches(len(sequences), number * _HASHES_A_KEY, similarity)
    keys = np.empty((number, len(sequences)), dtype=np.uint64)
    has_kmers = np.empty(len(sequences), dtype=bool)
    with track(total=len(sequences), desc="near-duplicates: k-mers", unit=" rows", unit_scale=True) as bar:
        for rows, minima in _list_minima(sequences, k, number * _HASHES_A_KEY):
            sketches.minima[rows] = minima.T.astype(np.uint8)
            has_kmers[rows] = (minima != _NONE).any(axis=0)
            parts = minima.reshape(number, _HASHES_A_KEY, -1).astype(np.uint64) * multipliers[:, None]
            keys[:, rows] = np.bitwise_xor.reduce(parts ^ parts >> np.uint64(29), axis=1)
            bar.update(rows.stop - rows.start)
    return sketches, keys, has_kmers


def count_keys(similarity: float) -> int:
    """Return how many keys of three hashes it takes so that of pairs of a similarity hardly any shares none."""
    return math.ceil(math.log(MISSED) / math.log1p(-(similarity**_HASHES_A_KEY)))


def sketch_sequences(sequences: Sequence[str], k: int, hashes: int, similarity: float) -> Sketches:
    """Make sketches of sequences: the more hashes, the fewer pairs below the similarity are found alike."""
    sketches = Sketches(len(sequences), hashes, similarity)
    for rows, minima in _list_minima(sequences, k, hashes):
        sketches.minima[rows] = minima.T.astype(np.uint8)
    return sketches


def find_kmers(sequences: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the canonical k-mer at every letter of some sequences, as a number: the smaller one of both strands.

    Args:
        sequences: N texts, any case, `U` is `T`.
        k: 1 to 31.

    Returns:
        The k-mers, uint64 (P,), of all letters and of one place more a sequence; whether each is one, bool (P,): not
        where another letter or the end is nearer than k; where each sequence starts, int64 (N,).
    """
    text = ("\n".join(sequences) + "\n" * k).encode("ascii", "replace")
    codes = _CODES[np.frombuffer(text, dtype=np.uint8)]
    places = len(codes) - k + 1
    letters = (codes & 3).astype(np.uint64)
    forward, backward, size = letters, 3 - letters, 1
    for bit in f"{k:b}"[1:]:  # by doubling: from k-mers of one size those of twice the size, and one more
        shift = np.uint64(2 * size)
        backward = backward[:-size] | backward[size:] << shift
        forward = forward[:-size] << shift | forward[size:]
        size *= 2
        if bit == "1":
            backward = backward[:-1] | (3 - letters[size:]) << np.uint64(2 * size)
            forward = forward[:-1] << np.uint64(2) | letters[size:]
            size += 1
    others = np.cumsum(codes > 3, dtype=np.int32)
    valid = others[k - 1 :] == np.concatenate([[0], others[: places - 1]])
    lengths = np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))
    return np.minimum(forward, backward), valid, np.cumsum(lengths + 1) - lengths - 1


def list_blocks(sequences: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield the first row and the one after the last of blocks that have few letters, or one row."""
    first = letters = 0
    for row, sequence in enumerate(sequences):
        letters += len(sequence)
        if letters >= _BLOCK:
            yield first, row + 1
            first, letters = row + 1, 0
    if first < len(sequences):
        yield first, len(sequences)


def _list_minima(sequences: Sequence[str], k: int, hashes: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield rows and their minimal hashes, uint32 (hashes, rows); the largest number where there is no k-mer."""
    multipliers = draw_odd(hashes, np.uint32)
    masks = np.random.default_rng(1).integers(2**32, size=hashes, dtype=np.uint32)
    for first, last in list_blocks(sequences):
        kmers, valid, starts = find_kmers(sequences[first:last], k)
        mixed, others = mix(kmers), ~valid
        minima = np.empty((hashes, last - first), dtype=np.uint32)
        order = np.empty_like(mixed)
        for row, (multiplier, mask) in enumerate(zip(multipliers, masks, strict=True)):
            np.bitwise_xor(mixed, mask, out=order)
            np.multiply(order, multiplier, out=order)
            order[others] = _NONE
            np.minimum.reduceat(order, starts, out=minima[row])
        yield slice(first, last), minima


def draw_odd(number: int, dtype: type) -> np.ndarray:
    """Return fixed random numbers: a multiplication by an odd one orders all numbers of its type anew."""
    return np.random.default_rng(20240607).integers(np.iinfo(dtype).max, size=number, dtype=dtype) | dtype(1)


def mix(kmers: np.ndarray) -> np.ndarray:
    """Spread the k-mers over 32 bits, so that a multiplication orders them anew (the finalizer of MurmurHash3)."""
    mixed = kmers.copy()
    for multiplier in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        mixed ^= mixed >> np.uint64(33)
        mixed *= np.uint64(multiplier)
    return (mixed >> np.uint64(32)).astype(np.uint32)


__all__ = [
    "MISSED",
    "Sketches",
    "count_keys",
    "draw_odd",
    "find_kmers",
    "list_blocks",
    "mix",
    "sketch_sequences",
    "sketch_with_keys",
]
