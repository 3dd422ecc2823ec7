"""Which of many sequences that have most k-mers in common are similar? In libraries of variants, all may be.

What such sequences share says nothing about which two are similar. They are compared by what they do not share: with D
the k-mers in which a set S differs from those that most sets have, |S1 ^ S2| = |D1 ^ D2|, and the Jaccard similarity is
t or more if

    |D1 & D2| >= (w1 + w2) / 2    with    w = |D| - c |S|,    c = (1 - t) / (1 + t).

Sets that differ in little (a small w) and their partners have one of their rarest differences in common (prefix
filter: Chaudhuri et al. 2006, doi:10.1109/ICDE.2006.9). Where both differ in much, most of the differences are the
same, and MinHash keys of D find the pairs. What is found is checked exactly, unless it is in one tree already.
"""

from collections.abc import Callable, Iterator

import numpy as np
from scipy.sparse import csr_matrix
from scipy.stats import binom

from gengram.progress import track
from gengram.training.data.minhash import MISSED, count_keys, draw_odd, find_kmers, list_blocks, mix
from gengram.training.data.trees import find_roots, join_trees

_SAMPLE = 512  # sequences that say which k-mers most have
PAIRS = 1 << 18
"""Pairs that are looked at together."""

SMALL = 64
"""Rows of one key whose pairs are all looked at together, at most."""

_CHECKED = 1 << 15  # pairs that are checked together
_FAR = 2  # w / (c |S|) from which on two sets are far: at least half of all their differences are the same if similar
_HASHES = 192  # of sketches of differences
_ENTRIES = 1 << 22  # of a sparse product
_BLOCK = 1 << 17  # differences that are hashed at a time, in a processor's cache
_ROUNDING = 1e-9

_Judge = Callable[[np.ndarray], np.ndarray]


class Variants:
    """R sequences and their differences from what most of them have.

    Args:
        sequences: R texts, each with a k-mer.
        k: see `find_kmers`.
        similarity: the Jaccard similarity from which on two are joined, below 1.
    """

    def __init__(self, sequences: list[str], k: int, similarity: float):
        self.similarity = similarity
        common = self._find_common(sequences, k)
        self.sizes = np.empty(len(sequences), dtype=np.int64)
        rows, kmers = [], []
        for first, last, numbers, owners in _list_sets(sequences, k):
            self.sizes[first:last] = np.bincount(owners, minlength=last - first)
            places = np.searchsorted(common, numbers)
            has = (
                common[np.minimum(places, len(common) - 1)] == numbers if len(common) else np.zeros(len(numbers), bool)
            )
            lacks = np.ones((last - first, len(common)), dtype=bool)
            lacks[owners[has], places[has]] = False
            without, lost = np.nonzero(lacks)
            rows.append(np.concatenate([owners[~has], without]) + first)
            kmers.append(np.concatenate([numbers[~has], common[lost]]))
        _, names, counts = np.unique(np.concatenate(kmers), return_inverse=True, return_counts=True)
        del kmers
        rank = np.empty(len(counts), dtype=np.int64)
        rank[np.argsort(counts, kind="stable")] = np.arange(len(counts))
        entries = np.concatenate(rows) * len(counts) + rank[names]
        del names, rows
        entries.sort()
        # Differences, the rarest of all first, of one row after the other.
        self.rows, self.ranks = entries // max(len(counts), 1), (entries % max(len(counts), 1)).astype(np.int32)
        self.numbers = np.bincount(self.rows, minlength=len(sequences))
        self.starts = np.cumsum(self.numbers) - self.numbers
        ones = np.ones(len(self.ranks), dtype=np.int16)
        ends = np.append(self.starts, len(self.ranks))
        self.matrix = csr_matrix((ones, self.ranks, ends), shape=(len(sequences), max(len(counts), 1)))
        # Rows with one set of differences: the first stands for all.
        names = np.append(np.cumsum(np.random.default_rng(3).integers(2**63, size=max(len(counts), 1))[self.ranks]), 0)
        names = names[ends[1:] - 1] - np.where(self.starts > 0, names[self.starts - 1], 0)
        names[self.numbers == 0] = 0
        _, firsts, places = np.unique(names, return_index=True, return_inverse=True)
        self.firsts = firsts[places]
        self.is_first = self.firsts == np.arange(len(sequences))
        share = (1 - similarity) / (1 + similarity)
        self.allowed = share * self.sizes
        self.weights = self.numbers - self.allowed
        self.far = self.weights > _FAR * self.allowed.max()

    def join(self, members: np.ndarray, parents: np.ndarray, settled: np.ndarray) -> None:
        """Join the trees of all that are similar.

        Args:
            members: which rows of all the sequences are, int64 (R,).
            parents: of the trees, changed, see `find_roots`.
            settled: a number for each row; pairs of rows with the same one have been looked at.
        """
        join_trees(parents, members, members[self.firsts])
        centre = int(self.weights.argmin())
        near = np.flatnonzero(self.weights <= _ROUNDING - self.weights[centre])
        self._check(np.full(len(near), centre), near, members, parents)
        found, number = list[tuple[np.ndarray, np.ndarray]](), 0
        for one, other in self._list_candidates(members, parents, settled):
            apart = find_roots(parents, members[one]) != find_roots(parents, members[other])
            apart &= settled[members[one]] != settled[members[other]]
            found.append((one[apart], other[apart]))
            number += len(found[-1][0])
            if number >= _CHECKED:
                self._check_all(found, members, parents)
                found, number = [], 0
        if found:
            self._check_all(found, members, parents)

    def _list_candidates(
        self, members: np.ndarray, parents: np.ndarray, settled: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        def find_open(rows: np.ndarray) -> np.ndarray:
            """Return which rows are not in the tree of most of them; none if all have been looked at."""
            if not np.ptp(settled[members[rows]]):
                return np.zeros(len(rows), dtype=bool)
            _, places, counts = np.unique(find_roots(parents, members[rows]), return_inverse=True, return_counts=True)
            return places != counts.argmax() if 2 * counts.max() > len(rows) else np.ones(len(rows), dtype=bool)

        yield from self._list_near(find_open)
        yield from self._list_far(find_open)

    def _list_near(self, find_open: _Judge) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield pairs of a near row and one of the same or a larger weight that have rare differences in common."""
        needed = np.maximum(np.ceil(self.weights - _ROUNDING), 1)
        short = np.where(self.far, 0, self.numbers - needed + 1)
        needed = np.maximum(np.ceil(self.weights - self.allowed / self.similarity - _ROUNDING), 1)
        long = np.maximum(self.numbers - needed + 1, short)
        places = np.arange(len(self.rows)) - self.starts[self.rows]
        kept = np.flatnonzero((places < long[self.rows]) & self.is_first[self.rows])
        probing = places[kept] < short[self.rows[kept]]
        order = np.argsort(self.ranks[kept], kind="stable")
        kept, probing = kept[order], probing[order]
        ranks, rows = self.ranks[kept], self.rows[kept]
        weights = self.weights
        for one, other in _list_pairs(ranks, rows, find_open):
            # One of both probes, and is the lighter one: its differences are the ones that must be met.
            lighter = np.where(weights[rows[one]] <= weights[rows[other]], one, other)
            chosen = probing[lighter] | (weights[rows[one]] == weights[rows[other]]) & probing[one + other - lighter]
            yield rows[one[chosen]], rows[other[chosen]]

    def _list_far(self, find_open: _Judge) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield pairs of far rows whose differences can be alike."""
        rows = np.flatnonzero(self.far & self.is_first)
        if len(rows) < 2:
            return
        length, allowed = self.numbers[rows], self.allowed.max()
        alike = (length.min() - allowed) / (length.min() + allowed)  # what similar ones at least are
        number = max(count_keys(alike), _HASHES // 3)
        keys = np.empty((number, len(rows)), dtype=np.uint32)
        minima = np.empty((len(rows), _HASHES), dtype=np.uint8)
        multipliers = draw_odd(3 * number, np.uint32)
        masks = np.random.default_rng(2).integers(2**32, size=3 * number, dtype=np.uint32)
        ends = np.cumsum(length)
        first = 0
        while first < len(rows):
            done = ends[first - 1] if first else 0
            last = max(int(np.searchsorted(ends, done + _BLOCK)), first + 1)
            starts = ends[first:last] - length[first:last] - done
            entries = np.arange(ends[last - 1] - done) + np.repeat(
                self.starts[rows[first:last]] - starts, length[first:last]
            )
            mixed = mix(self.ranks[entries].astype(np.uint64))
            for one in range(number):
                key = np.zeros(last - first, dtype=np.uint32)
                for part in range(3 * one, 3 * one + 3):
                    least = np.minimum.reduceat((mixed ^ masks[part]) * multipliers[part], starts)
                    if part < _HASHES:
                        minima[first:last, part] = least
                    key = (key ^ least) * np.uint32(0x9E3779B1)
                    key ^= key >> np.uint32(15)
                keys[one, first:last] = key
            first = last
        fewest = int(binom.ppf(MISSED, _HASHES, alike))
        for one in track(range(number), desc="near-duplicates: variants, keys of differences", unit=" keys"):
            order = np.argsort(keys[one], kind="stable")
            for left, right in _list_pairs(keys[one][order], rows[order], find_open):
                left, right = order[left], order[right]
                close = (minima[left] == minima[right]).sum(axis=1, dtype=np.int16) >= fewest
                yield rows[left[close]], rows[right[close]]

    def _check_all(self, pairs: list[tuple[np.ndarray, np.ndarray]], members: np.ndarray, parents: np.ndarray) -> None:
        one, other = (np.concatenate(side) for side in zip(*pairs, strict=True))
        self._check(one, other, members, parents)

    def _check(self, one: np.ndarray, other: np.ndarray, members: np.ndarray, parents: np.ndarray) -> None:
        step = max(_ENTRIES // max(int(self.numbers.max()), 1), 1)
        for first in range(0, len(one), step):
            block = slice(first, first + step)
            similar = self._measure(one[block], other[block]) >= self.similarity
            join_trees(parents, members[one[block][similar]], members[other[block][similar]])

    def _measure(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Return the Jaccard similarity of P pairs: float64 (P,)."""
        both = np.asarray(self.matrix[one].multiply(self.matrix[other]).sum(axis=1)).ravel().astype(np.int64)
        apart = self.numbers[one] + self.numbers[other] - 2 * both
        sizes = self.sizes[one] + self.sizes[other]
        shared = (sizes - apart) // 2
        return shared / (sizes - shared)

    @staticmethod
    def _find_common(sequences: list[str], k: int) -> np.ndarray:
        """Return the k-mers that more than half of the sequences, or of a sample of them, have: uint64, sorted."""
        chosen = np.random.default_rng(0).permutation(len(sequences))[:_SAMPLE]
        kmers = [numbers for _, _, numbers, _ in _list_sets([sequences[row] for row in chosen], k)]
        distinct, counts = np.unique(np.concatenate(kmers), return_counts=True)
        return distinct[2 * counts > len(chosen)]


def _list_sets(sequences: list[str], k: int) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """Yield first and last row of blocks, their distinct k-mers, uint64, and of which row of the block each is."""
    for first, last in list_blocks(sequences):
        numbers, valid, starts = find_kmers(sequences[first:last], k)
        owners = np.repeat(np.arange(last - first), np.diff(starts, append=len(numbers)))[valid]
        numbers = numbers[valid]
        order = np.lexsort((numbers, owners))
        owners, numbers = owners[order], numbers[order]
        kept = np.flatnonzero((np.diff(numbers, prepend=~numbers[:1]) != 0) | (np.diff(owners, prepend=-1) != 0))
        yield first, last, numbers[kept], owners[kept]


def list_close_pairs(starts: np.ndarray, sizes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the places of all pairs in buckets of few rows, integers (P,) and (P,); a bucket is `sizes[i]` places from
    `starts[i]` on, and those of many rows are left out."""
    for size in np.unique(sizes[(sizes > 1) & (sizes <= SMALL)]):
        one, other = np.triu_indices(size, 1)
        chosen = starts[sizes == size]
        step = max(PAIRS // len(one), 1)
        for first in range(0, len(chosen), step):
            block = chosen[first : first + step, None]
            yield (block + one).ravel(), (block + other).ravel()


def _list_pairs(keys: np.ndarray, rows: np.ndarray, find_open: _Judge) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the places of pairs that have one key, of sorted keys; of many with one key those with an open row."""
    starts = np.flatnonzero(np.diff(keys, prepend=keys[0] ^ 1 if len(keys) else 0))
    sizes = np.diff(starts, append=len(keys))
    yield from list_close_pairs(starts, sizes)
    for start, size in zip(starts[sizes > SMALL].tolist(), sizes[sizes > SMALL].tolist(), strict=True):
        first, step = 0, PAIRS // size + 1
        is_open = find_open(rows[start : start + size])
        while first < size:
            here = np.flatnonzero(is_open)
            here = here[here >= first][:step]
            if not len(here):
                break
            first = int(here[-1]) + 1
            one, other = np.repeat(here, size), np.tile(np.arange(size), len(here))
            # Two open rows once, an open one and another in any order.
            chosen = (one < other) | ~is_open[other]
            yield start + one[chosen], start + other[chosen]
            is_open &= find_open(rows[start : start + size])


__all__ = ["PAIRS", "SMALL", "Variants", "list_close_pairs"]
