"""Which windows of the held-out contigs is a model measured on? The same ones at every evaluation of a corpus."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gengram.errors import InputError

SPLITS = ("train", "validation", "test")
"""Names of the splits; a segment of the store has the position of its own here."""


@dataclass(frozen=True)
class HeldOutWindows:
    """W windows of one corpus, in the order of contigs and positions.

    Attributes:
        contig: int32 [W], row number in the corpus's table of contigs.
        start, end: int64 [W], 0-based, half-open, in bp of the contig's record.
        haplotype: int64 [W], number of the haplotype whose letters are read; -1: those of the reference.
    """

    contig: np.ndarray
    start: np.ndarray
    end: np.ndarray
    haplotype: np.ndarray

    def __len__(self) -> int:
        return len(self.contig)

    @property
    def bases(self) -> int:
        """Of the reference, in all windows together."""
        return int((self.end - self.start).sum())

    def take(self, places: np.ndarray | slice) -> "HeldOutWindows":
        """Return some of the windows."""
        return HeldOutWindows(self.contig[places], self.start[places], self.end[places], self.haplotype[places])


def choose_windows(corpus: Any, length: int, bases: int | None = None, split: str = "validation") -> HeldOutWindows:
    """Tile the segments of a split with windows, and choose as many of these as a number of bases allows.

    A segment of at least `length` bp has as many whole windows as fit, from its start on; a shorter one is one window.
    If those are too many, each contig gives equally many (all of its own where it has fewer), at equal distances. No
    random number is drawn: the same corpus gives the same windows.

    Args:
        corpus: `gengram.training.corpus.store.Corpus`.
        length: of a window, in bp.
        bases: at most so many, in bp, but at least one window; None: all.
        split: "validation" or "test" ("train" to see how much is remembered).

    Raises:
        `InputError`: no such split, none of its segments has two bases, or a length or number that is not positive.
    """
    if split not in SPLITS:
        raise InputError(f"split {split!r}: choose one of {', '.join(SPLITS)}")
    if length < 2:
        raise InputError(f"windows of {length} bp: an evaluation needs 2 bp or more")
    if bases is not None and bases < 1:
        raise InputError(f"an evaluation of {bases} bases: give a positive number, or none for all that are held out")
    segments = corpus.segments
    chosen = np.flatnonzero(np.asarray(segments.split) == SPLITS.index(split))
    contig, start, end = (np.asarray(getattr(segments, name))[chosen] for name in ("contig", "start", "end"))
    tiles = np.where(end - start >= length, (end - start) // length, (end - start >= 2).astype(np.int64))
    if not tiles.sum():
        raise InputError(
            f"{corpus.folder}: there is nothing to evaluate on, no contig of the corpus is in the split {split!r}; "
            "name contigs or parts of them under hold_out in its recipe and build it again"
        )
    owner = np.repeat(np.arange(len(tiles)), tiles)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(tiles) - tiles, tiles)
    starts = start[owner] + number * length
    windows = HeldOutWindows(
        contig[owner].astype(np.int32),
        starts.astype(np.int64),
        np.minimum(starts + length, end[owner]).astype(np.int64),
        np.full(len(owner), -1, dtype=np.int64),
    )
    return windows if bases is None else thin_windows(windows, max(1, bases // length))


def thin_windows(windows: HeldOutWindows, most: int) -> HeldOutWindows:
    """Choose at most so many windows, equally many of each contig where it has them, at equal distances."""
    if len(windows) <= most:
        return windows
    contigs, counts = np.unique(windows.contig, return_counts=True)
    quotas = share_evenly(counts, most)
    first = np.searchsorted(windows.contig, contigs)  # the windows lie in the order of their contigs
    places = [begin + space_evenly(count, quota) for begin, count, quota in zip(first, counts, quotas)]
    return windows.take(np.concatenate(places))


def share_evenly(counts: Sequence[int] | np.ndarray, total: int) -> np.ndarray:
    """Share `total` among groups of some sizes: equally, but no group gets more than it has. int64, one a group.

    What is left of a division goes to groups at equal distances.
    """
    sizes = np.asarray(counts, dtype=np.int64)
    shares = np.zeros_like(sizes)
    while (left := min(total, int(sizes.sum())) - int(shares.sum())) > 0:
        open_groups = np.flatnonzero(shares < sizes)
        if left < len(open_groups):
            shares[open_groups[space_evenly(len(open_groups), left)]] += 1
        else:
            more = np.minimum(sizes[open_groups] - shares[open_groups], left // len(open_groups))
            shares[open_groups] += more
    return shares


def space_evenly(count: int, chosen: int) -> np.ndarray:
    """Return `chosen` of the numbers 0 to `count` - 1 at equal distances, the middle ones of as many equal parts."""
    return (2 * np.arange(chosen, dtype=np.int64) + 1) * count // (2 * max(chosen, 1))


__all__ = ["SPLITS", "HeldOutWindows", "choose_windows", "share_evenly", "space_evenly", "thin_windows"]
