"""Do held-out contigs share letters with those of training? Stretches on either strand, and common 31-mers, exactly.

A stretch of `length` bases that two sequences share holds one of the other's blocks of half that length which lie side
by side from its start on. So the blocks of what is held out are hashed, those of its other strand too, and a hash is
rolled along the letters of training; where the two are equal, letters are compared, as far as they agree. Letters that
are no base agree with none; case does not matter.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

K = 31
"""Length of the k-mers that are counted: two bits a base fill 62 of 64 bits."""
MOST_KMERS = 1 << 25
"""More distinct k-mers than about so many are sampled, by a hash of theirs."""

_CHUNK = 1 << 20
_APART = np.frombuffer(b"N", dtype=np.uint8)  # between stretches that are looked at together: no k-mer has it
_OTHER = 4  # the code of a letter that is no base; in what is held out 5, so that the two differ
_CODES = np.full(256, _OTHER, dtype=np.uint8)
for _code, _letters in enumerate((b"Aa", b"Cc", b"Gg", b"Tt")):
    _CODES[list(_letters)] = _code
# Of the rolling hash: what each base counts, and the base of the powers, odd so that it has an inverse modulo 2^64.
_VALUES = np.array([0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93, 0], np.uint64)
_BASE = 0xA0761D6478BD642F
_MIX = np.uint64(0xFF51AFD7ED558CCD)


class Stretch(NamedTuple):
    """Letters of a record, uint8, from a position on; `split` says what they are for."""

    contig: int
    start: int
    letters: np.ndarray
    split: str


class Shared(NamedTuple):
    """Bases of training that something held out has, too.

    Attributes:
        contig, start, end: of training.
        other, other_start: the record that has them, and where they begin there, in its own direction.
        split: of that.
        strand: 0 as they are, 1 on the other strand.
    """

    contig: int
    start: int
    end: int
    other: int
    other_start: int
    split: str
    strand: int


class Common(NamedTuple):
    """Common 31-mers, both strands being one.

    Attributes:
        kmers: distinct ones of what is held out.
        shared: those that training has, too.
        every: of how many one was looked at; 1: all.
    """

    kmers: int
    shared: int
    every: int

    @property
    def share(self) -> float:
        """Of the distinct k-mers, how many training has, 0 to 1; 0 where there is none."""
        return self.shared / self.kmers if self.kmers else 0.0


class SharedStretches:
    """Finds bases of training that what is held out shares.

    Args:
        held: what is held out; its letters stay in memory, with those of its other strand, a byte each.
        length: bases that a stretch has at least.
    """

    def __init__(self, held: Iterable[Stretch], length: int):
        self.length, self.block = length, (length + 1) // 2
        self._held: list[tuple[Stretch, np.ndarray, int]] = []
        hashes, places = [], []
        for stretch in held:
            codes = _CODES[stretch.letters]
            other = np.where(codes < _OTHER, 3 - codes, 5).astype(np.uint8)[::-1]
            for strand, one in enumerate((np.where(codes < _OTHER, codes, 5).astype(np.uint8), other)):
                count = len(one) // self.block
                rows = one[: count * self.block].reshape(count, self.block)
                fine = np.flatnonzero((rows < _OTHER).all(axis=1))
                hashes.append(_hash_rows(rows[fine]))
                places.append(np.stack([np.full(len(fine), len(self._held)), fine * self.block], axis=1))
                self._held.append((stretch, one, strand))
        joined = np.concatenate(hashes) if hashes else np.empty(0, np.uint64)
        order = np.argsort(joined, kind="stable")
        self._hashes = joined[order]
        self._places = (np.concatenate(places) if places else np.empty((0, 2), np.int64))[order]
        self._filter = _Filter(self._hashes)

    def find(self, contig: int, start: int, letters: np.ndarray) -> list[Shared]:
        """Return what of a stretch of training is shared: every base that lies in a shared stretch outside of those
        that are returned lies in one that is shorter than `length` there.

        Args:
            contig, start: of the letters.
            letters: uint8.
        """
        found: list[Shared] = []
        if not len(self._hashes) or len(letters) < self.length:
            return found
        covered, ends = 0, dict[tuple[int, int], int]()  # a diagonal -> the end of what was compared on it
        for first in range(0, len(letters) - self.block + 1, _CHUNK):
            codes = _CODES[letters[first : first + _CHUNK + self.block - 1]]
            for place in self._filter.find_hits(_roll(codes, self.block), first).tolist():
                if place + self.block <= covered:
                    continue
                one = self._extend(contig, start, letters, place, ends)
                if one is not None:
                    found.append(one)
                    covered = one.end - start
        return found

    def _extend(
        self, contig: int, start: int, letters: np.ndarray, place: int, ends: dict[tuple[int, int], int]
    ) -> Shared | None:
        """The longest stretch around a block of training that is shared, if it is long enough."""
        block = _CODES[letters[place : place + self.block]]
        value = _hash_rows(block[None])[0]
        low, high = np.searchsorted(self._hashes, value, "left"), np.searchsorted(self._hashes, value, "right")
        best: Shared | None = None
        for number, other in self._places[low:high].tolist():
            if place < ends.get((number, place - other), 0):
                continue
            stretch, held, strand = self._held[number]
            after = _count_equal(letters[place:], held[other:])
            if after < self.block:  # two blocks of one hash
                continue
            before = _count_equal(letters[:place][::-1], held[:other][::-1])
            ends[number, place - other] = place + after
            size = before + after
            if size >= self.length and (best is None or place + after > best.end - start):
                begin = other - before if not strand else len(held) - (other + after)
                best = Shared(
                    contig,
                    start + place - before,
                    start + place + after,
                    stretch.contig,
                    stretch.start + begin,
                    stretch.split,
                    strand,
                )
        return best


class CommonKmers:
    """Counts the 31-mers that what is held out and training have in common.

    Args:
        held: what is held out.
        most: see `MOST_KMERS`.
    """

    def __init__(self, held: Sequence[Stretch], most: int = MOST_KMERS):
        self.every = max(1, -(-sum(len(one.letters) for one in held) // most))
        self._splits = list(dict.fromkeys(one.split for one in held))
        sets = [self._collect([one for one in held if one.split == split]) for split in self._splits]
        self._kmers = _take_once(sets)
        self._of = [np.searchsorted(self._kmers, one) for one in sets]
        self._seen = np.zeros(len(self._kmers), dtype=bool)
        self._waiting: list[np.ndarray] = []
        self._size = 0
        self._filter = _Filter(np.sort(self._kmers * _MIX))

    def look(self, letters: np.ndarray) -> None:
        """Look at a stretch of training, uint8; short ones wait until there are many."""
        if not len(self._kmers):
            return
        if len(letters) >= _CHUNK:
            self._mark(letters)
            return
        self._waiting += [letters, _APART]
        self._size += len(letters)
        if self._size >= _CHUNK:
            self._mark_waiting()

    def _mark_waiting(self) -> None:
        if self._waiting:
            self._mark(np.concatenate(self._waiting))
        self._waiting, self._size = [], 0

    def _mark(self, letters: np.ndarray) -> None:
        """Remember which k-mers of what is held out some letters have."""
        for kmers in self._list(letters):
            kmers = kmers[self._filter.may_have(kmers * _MIX)]
            places = np.searchsorted(self._kmers, kmers)
            there = places < len(self._kmers)
            places, kmers = places[there], kmers[there]
            self._seen[places[self._kmers[places] == kmers]] = True

    def count(self) -> dict[str, Common]:
        """Return the counts by split."""
        self._mark_waiting()
        return {
            split: Common(len(of), int(self._seen[of].sum()), self.every) for split, of in zip(self._splits, self._of)
        }

    def _collect(self, held: Iterable[Stretch]) -> np.ndarray:
        return _take_once([_take_once([kmers]) for one in held for kmers in self._list(one.letters)])

    def _list(self, letters: np.ndarray) -> Iterable[np.ndarray]:
        limit = np.uint64(((1 << 64) - 1) // self.every)
        for first in range(0, len(letters) - K + 1, _CHUNK):
            kmers = list_kmers(_CODES[letters[first : first + _CHUNK + K - 1]])
            yield kmers[kmers * _MIX <= limit] if self.every > 1 else kmers


def list_kmers(codes: np.ndarray) -> np.ndarray:
    """Return the 31-mers of a stretch as numbers: the smaller one of its two strands, uint64.

    Args:
        codes: 0 to 3 of bases, uint8 [n]; others have no k-mer.
    """
    bad = np.concatenate([[0], np.cumsum(codes >= _OTHER)])
    fine = bad[K:] == bad[:-K]
    forward = {1: (codes & 3).astype(np.uint64)}
    reverse = {1: 3 - forward[1]}
    for half in (1, 2, 4, 8):
        shift = np.uint64(2 * half)
        forward[2 * half] = forward[half][:-half] << shift | forward[half][half:]
        reverse[2 * half] = reverse[half][:-half] | reverse[half][half:] << shift
    count = len(codes) - K + 1
    one, other, done = np.zeros(count, np.uint64), np.zeros(count, np.uint64), 0
    for size in (16, 8, 4, 2, 1):
        one = one << np.uint64(2 * size) | forward[size][done : done + count]
        other |= reverse[size][done : done + count] << np.uint64(2 * done)
        done += size
    return np.minimum(one, other)[fine]


class _Filter:
    """Tells quickly of most hashes that they are not among some, by their first bits."""

    def __init__(self, hashes: np.ndarray):
        self.hashes = hashes
        bits = min(max(len(hashes).bit_length() + 3, 16), 26)
        self._shift = np.uint64(64 - bits)
        self._table = np.zeros(1 << bits, dtype=bool)
        self._table[hashes >> self._shift] = True

    def may_have(self, hashes: np.ndarray) -> np.ndarray:
        """Return which hashes may be there, bool [n]."""
        return self._table[hashes >> self._shift]

    def find_hits(self, rolled: tuple[np.ndarray, np.ndarray], first: int) -> np.ndarray:
        """Return the places, from `first` on, of hashes that are there."""
        hashes, fine = rolled
        places = np.flatnonzero(self.may_have(hashes) & fine)
        found = np.searchsorted(self.hashes, hashes[places])
        there = found < len(self.hashes)
        places, found = places[there], found[there]
        return places[self.hashes[found] == hashes[places]] + first


def _take_once(several: Sequence[np.ndarray]) -> np.ndarray:
    """All numbers of some arrays once, sorted; sorting is several times as fast here as numpy's table of hashes."""
    joined = np.sort(np.concatenate(several)) if several else np.empty(0, np.uint64)
    return joined[np.concatenate([[True], joined[1:] != joined[:-1]])] if len(joined) else joined


def _powers(count: int, base: int = _BASE) -> np.ndarray:
    """Powers of a number modulo 2^64, from the 0th on."""
    powers = np.full(count, base, dtype=np.uint64)
    powers[:1] = 1
    return np.multiply.accumulate(powers)


def _hash_rows(codes: np.ndarray) -> np.ndarray:
    """Hash blocks of codes, uint8 [n, block]."""
    return (_VALUES[np.minimum(codes, _OTHER)] * _powers(codes.shape[1])).sum(axis=1, dtype=np.uint64)


def _roll(codes: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of all blocks of some codes, uint64 [n - block + 1], and whether they hold bases only."""
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(_VALUES[codes] * _powers(len(codes)), dtype=np.uint64)])
    bad = np.concatenate([[0], np.cumsum(codes >= _OTHER)])
    inverse = _powers(len(codes) - block + 1, pow(_BASE, -1, 1 << 64))
    return (sums[block:] - sums[:-block]) * inverse, bad[block:] == bad[:-block]


def _count_equal(letters: np.ndarray, held: np.ndarray) -> int:
    """How many letters agree with codes, from the first one on."""
    done, size = 0, 512
    most = min(len(letters), len(held))
    while done < most:
        step = min(size, most - done)
        differ = np.flatnonzero(_CODES[letters[done : done + step]] != held[done : done + step])
        if len(differ):
            return done + int(differ[0])
        done, size = done + step, size * 4
    return most


__all__ = ["MOST_KMERS", "Common", "CommonKmers", "K", "Shared", "SharedStretches", "Stretch", "list_kmers"]
