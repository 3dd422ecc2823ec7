"""Where are the probabilities of a genome until their tracks are written? In files of about 1 Mb, in the order in which
the genome is read, each with a part of a contig or with some short ones.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gengram.genome.rounding import Rounding
from gengram.genome.tracks import Locus, Piece
from gengram.pipelines.pieces import Pieces
from gengram.pipelines.regions import Stretch

_BASES = 1 << 18  # that are in memory at once when they are read


class Batch(NamedTuple):
    """What is in one file.

    Attributes:
        name: of the file.
        parts: stretches, in the order of the genome's records.
    """

    name: str
    parts: list[Stretch]


class KeptProbabilities:
    """The probabilities of stretches, as far as they are computed.

    Args:
        pieces: the files.
        stretches: in the order of the contigs and of their bases.
        records: the genome's, in its order.
        length: bp of a file; a stretch that is longer is cut into parts of that length.
        features: how many.
        rounding: how a probability is kept.
    """

    def __init__(
        self,
        pieces: Pieces,
        stretches: Sequence[Stretch],
        records: Mapping[str, int],
        length: int,
        features: int,
        rounding: Rounding,
    ):
        self._pieces, self._features, self._rounding = pieces, features, rounding
        self._parts = [part for one in stretches for part in _cut(one, length)]
        order = {record: place for place, record in enumerate(records)}
        batches, room = list[list[Stretch]](), 0
        for part in sorted(self._parts, key=lambda part: (order[part.source.record], part.locus.start)):
            room -= _measure(part.locus)
            if room < 0 or not batches:
                batches.append([])
                room = length - _measure(part.locus)
            batches[-1].append(part)
        self._batches = [Batch(f"{number}-{len(parts)}", parts) for number, parts in enumerate(batches)]
        self._places: dict[Locus, tuple[str, int]] = {}
        for batch in self._batches:
            ends = itertools.accumulate((_measure(part.locus) for part in batch.parts), initial=0)
            self._places.update((part.locus, (batch.name, end)) for part, end in zip(batch.parts, ends))

    def list_missing(self) -> list[Batch]:
        """Return what is to be computed yet, by this process or another."""
        return [batch for batch in self._batches if not self._pieces.has(batch.name)]

    def count(self) -> int:
        """Return how many batches there are."""
        return len(self._batches)

    def list_shared(self) -> Iterator[tuple[Batch, bool]]:
        """Yield what is missing, and whether this process computes it; the others' is dealt out by the bases."""
        takes = self._pieces.share.deal([measure_batch(batch) for batch in self._batches])
        for number, batch in enumerate(self._batches):
            if not self._pieces.has(batch.name):
                yield batch, takes(number)

    def count_bytes(self, batches: Sequence[Batch]) -> int:
        """Return the bytes that batches take."""
        return self._rounding.itemsize * self._features * sum(map(measure_batch, batches))

    def write(self, batch: Batch, compute: Callable[[Stretch], np.ndarray]) -> None:
        """Keep what is computed, float32 [bp, features], of each part of a batch."""
        found = [self._rounding.encode(compute(part)) for part in batch.parts]
        self._pieces.write(batch.name, found[0] if len(found) == 1 else np.concatenate(found, axis=1))

    def read(self, column: int | None = None) -> Iterator[Piece]:
        """Yield the probabilities of one feature, or of all, in the order of the contigs and of their bases."""
        opened, kept = "", np.empty(0)
        for part in self._parts:
            locus = part.locus
            name, first = self._places[locus]
            if name != opened:
                opened, kept = name, self._pieces.read(name, mapped=True)
            rows = slice(None) if column is None else slice(column, column + 1)
            for start in range(0, _measure(locus), _BASES):
                end = min(start + _BASES, _measure(locus))
                some = self._rounding.decode(np.array(kept[rows, first + start : first + end]))
                yield Piece(locus.chrom, locus.start + start, *some)

    def collect(self, locus: Locus) -> np.ndarray:
        """Return the probabilities of a locus, float32 [bp, features]."""
        found = np.full((_measure(locus), self._features), np.nan, dtype=np.float32)
        for part, _ in self._parts:
            start, end = max(part.start, locus.start), min(part.end, locus.end)
            if part.chrom == locus.chrom and start < end:
                name, first = self._places[part]
                kept = self._pieces.read(name, mapped=True)
                some = np.array(kept[:, first + start - part.start : first + end - part.start])
                found[start - locus.start : end - locus.start] = self._rounding.decode(some)[0]
        return found


def measure_batch(batch: Batch) -> int:
    """Return the bases of a batch."""
    return sum(_measure(part.locus) for part in batch.parts)


def _measure(locus: Locus) -> int:
    return locus.end - locus.start


def _cut(stretch: Stretch, length: int) -> list[Stretch]:
    """Cut a stretch into parts, the last of them up to twice as long: a short one would have little to read."""
    locus = stretch.locus
    starts = [*range(locus.start, max(locus.start + 1, locus.end - length), length)]
    return [Stretch(Locus(locus.chrom, *ends), stretch.source) for ends in zip(starts, [*starts[1:], locus.end])]


__all__ = ["Batch", "KeptProbabilities", "measure_batch"]
