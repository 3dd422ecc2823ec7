"""Which windows of the held-out contigs is a model measured on? The same ones at every evaluation of a corpus."""

from collections.abc import Sequence

import numpy as np

from gengram.errors import InputError
from gengram.training.corpus.store import Corpus
from gengram.training.corpus.windows import REFERENCE, Windows, find_split


def choose_windows(corpus: Corpus, length: int, bases: int | None = None, split: str = "validation") -> Windows:
    """Tile the segments of a split with windows, and choose as many of these as a number of bases allows.

    A segment of at least `length` bp has as many whole windows as fit, from its start on; a shorter one is one window.
    If those are too many, each contig gives equally many (all of its own where it has fewer), at equal distances. No
    random number is drawn: the same corpus gives the same windows.

    Args:
        corpus: of `open_corpus`.
        length: of a window, in bp.
        bases: at most so many, in bp, but at least one window; None: all.
        split: "validation" or "test" ("train" to see how much is remembered).

    Raises:
        `InputError`: no such split, none of its segments has two bases, or a length or number that is not positive.
    """
    if length < 2:
        raise InputError(f"windows of {length} bp: an evaluation needs 2 bp or more")
    if bases is not None and bases < 1:
        raise InputError(f"an evaluation of {bases} bases: give a positive number, or none for all that are held out")
    segments = corpus.segments
    rows = np.flatnonzero(segments.split == find_split(split))
    lengths = (segments.end - segments.start)[rows]
    counts = np.where(lengths >= length, lengths // length, lengths >= 2)
    if not counts.sum():
        raise InputError(
            f"{corpus.folder}: there is nothing to evaluate on, no contig of the corpus is in the split {split!r}; "
            "name contigs or parts of them under hold_out in its recipe and build it again"
        )
    segment = np.repeat(rows, counts)
    within = np.arange(len(segment)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = segments.start[segment] + within * length
    end = np.minimum(start + length, segments.end[segment])
    none = np.zeros_like(start)
    windows = Windows(
        segments.contig[segment].astype(np.int64), start, end, none, none + REFERENCE, end - start, segment
    )
    return windows if bases is None else windows.take(spread_choice(windows, max(1, bases // length)))


def spread_choice(windows: Windows, most: int) -> np.ndarray:
    """Choose at most so many windows, equally many of each contig where it has them, at equal distances.

    Returns:
        Their places, int64.
    """
    if len(windows.contig) <= most:
        return np.arange(len(windows.contig))
    contigs, counts = np.unique(windows.contig, return_counts=True)
    quotas = share_evenly(counts, most)
    first = np.searchsorted(windows.contig, contigs)  # the windows lie in the order of their contigs
    places = [begin + space_evenly(count, quota) for begin, count, quota in zip(first, counts, quotas)]
    return np.concatenate(places)


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


__all__ = ["choose_windows", "share_evenly", "space_evenly", "spread_choice"]
