"""Sets of bases of one record, as spans: int64 [n, 2], start and end from 0, sorted, apart from each other.

Whole chromosomes are looked at in pieces, so that no array as long as one is made.
"""

import numpy as np

_PIECE = 1 << 22  # letters that are looked at together

_LOWER = np.zeros(256, dtype=bool)
_LOWER[ord("a") : ord("z") + 1] = True
_ANY_BASE = np.zeros(256, dtype=bool)
_ANY_BASE[[ord("N"), ord("n")]] = True


def merge_spans(spans: np.ndarray) -> np.ndarray:
    """Return the union of intervals of any order, int64 [n, 2] or none at all; those that touch become one."""
    spans = np.asarray(spans, dtype=np.int64).reshape(-1, 2)
    spans = spans[spans[:, 0] < spans[:, 1]]
    if not len(spans):
        return spans
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    reach = np.maximum.accumulate(spans[:, 1])
    first = np.flatnonzero(np.concatenate([[True], spans[1:, 0] > reach[:-1]]))
    last = np.concatenate([first[1:], [len(spans)]]) - 1
    return np.stack([spans[first, 0], reach[last]], axis=1)


def invert_spans(spans: np.ndarray, start: int, end: int) -> np.ndarray:
    """Return what of [start, end) is in none of the spans."""
    spans = intersect_spans(spans, np.array([[start, end]]))
    bounds = np.concatenate([[start], spans.ravel(), [end]]).reshape(-1, 2)
    return bounds[bounds[:, 0] < bounds[:, 1]]


def intersect_spans(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the bases that are in both."""
    one, other = (np.asarray(spans, dtype=np.int64).reshape(-1, 2) for spans in (one, other))
    if not len(one) or not len(other):
        return np.zeros((0, 2), dtype=np.int64)
    # Span k of one meets those of the other from first[k] to last[k] - 1.
    first = np.searchsorted(other[:, 1], one[:, 0], side="right")
    last = np.searchsorted(other[:, 0], one[:, 1], side="left")
    counts = np.maximum(last - first, 0)
    rows = np.repeat(np.arange(len(one)), counts)
    meets = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts - first, counts)
    return np.stack([np.maximum(one[rows, 0], other[meets, 0]), np.minimum(one[rows, 1], other[meets, 1])], axis=1)


def subtract_spans(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the bases of one that are not in the other."""
    if not len(one) or not len(other):
        return np.asarray(one, dtype=np.int64).reshape(-1, 2)
    return intersect_spans(one, invert_spans(other, int(one[0, 0]), int(one[-1, 1])))


def meet_spans(intervals: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """Return which intervals of any order (int64 [n, 2]) share a base with the spans, bool [n]."""
    return np.searchsorted(spans[:, 1], intervals[:, 0], side="right") < np.searchsorted(
        spans[:, 0], intervals[:, 1], side="left"
    )


def count_bases(spans: np.ndarray) -> int:
    """Return how many bases spans hold."""
    return int((spans[:, 1] - spans[:, 0]).sum())


def cover(spans: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return which positions lie in a span, bool [n]."""
    place = np.searchsorted(spans[:, 0], positions, side="right") - 1
    return (place >= 0) & (positions < spans[place, 1]) if len(spans) else np.zeros(len(positions), dtype=bool)


def find_runs(letters: np.ndarray, table: np.ndarray, minimum: int = 1) -> np.ndarray:
    """Return the runs of at least `minimum` letters of a kind.

    Args:
        letters: of a record, uint8.
        table: which letters are meant, bool [256].
    """
    starts, ends = [], []
    before = False
    for start in range(0, len(letters), _PIECE):
        mask = table[letters[start : start + _PIECE]]
        if not before and not mask.any():
            continue
        change = np.flatnonzero(mask[1:] != mask[:-1]) + (start + 1)
        change = np.concatenate([[start], change]) if mask[0] != before else change
        # What changes is in turn the start and the end of a run.
        starts.append(change[int(before) :: 2])
        ends.append(change[1 - int(before) :: 2])
        before = bool(mask[-1])
    if before:
        ends.append(np.array([len(letters)]))
    if not starts:
        return np.zeros((0, 2), dtype=np.int64)
    runs = np.stack([np.concatenate(starts), np.concatenate(ends)], axis=1).astype(np.int64)
    return runs[runs[:, 1] - runs[:, 0] >= minimum]


def find_soft_masks(letters: np.ndarray) -> np.ndarray:
    """Return the runs of lower-case letters of a record (uint8): repeats, where its genome was soft-masked."""
    return find_runs(letters, _LOWER)


def find_gaps(letters: np.ndarray, minimum: int = 1) -> np.ndarray:
    """Return the runs of at least `minimum` N (either case) of a record (uint8)."""
    return find_runs(letters, _ANY_BASE, minimum)


__all__ = [
    "count_bases",
    "cover",
    "find_gaps",
    "find_runs",
    "find_soft_masks",
    "intersect_spans",
    "invert_spans",
    "meet_spans",
    "merge_spans",
    "subtract_spans",
]
