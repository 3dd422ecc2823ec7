"""Which split does a row belong to? By its contig, or by the block of its contig, never by itself.

Rows that overlap are of one split: a row that reaches from a block into one of another split is left out. Blocks are
drawn: of some draws that is taken in which the splits have most nearly their shares of every class.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gengram.errors import InputError

TRAIN, VALIDATION, TEST = 0, 1, 2
_DRAWS = 64


@dataclass(frozen=True)
class Division:
    """How the rows of a genome are divided; the arguments of `add_splits` that are no contigs.

    Attributes:
        block: bases of a block.
        test_share, validation_share: of the rows, by blocks.
        seed: of the draw.
    """

    block: int
    test_share: float
    validation_share: float
    seed: int


def divide_rows(
    contigs: Sequence[str],
    starts: np.ndarray,
    ends: np.ndarray,
    labels: np.ndarray,
    division: Division,
    test_contigs: Sequence[str] = (),
    validation_contigs: Sequence[str] = (),
    genome: str = "the genome",
) -> np.ndarray:
    """Give each of R rows of a genome a split.

    Args:
        contigs: of each row.
        starts, ends: int64 [R], from 0, half-open.
        labels: int64 [R].
        division: see `Division`.
        test_contigs, validation_contigs: whose rows are of these splits; where there are none, blocks are.
        genome: for messages.

    Returns:
        int8 [R]: `TRAIN`, `VALIDATION`, `TEST`; -1 where a row lies across two splits.

    Raises:
        `InputError`: a contig is of both, or there are too few blocks.
    """
    if both := sorted(set(test_contigs) & set(validation_contigs)):
        raise InputError(f"contig {both[0]!r} is in --test_contigs and in --validation_contigs; leave it out of one")
    splits = np.full(len(starts), TRAIN, dtype=np.int8)
    if not len(starts):
        return splits
    names, of_contig = np.unique(np.asarray(contigs, dtype=object).astype(str), return_inverse=True)
    fixed = np.array([TEST if n in test_contigs else VALIDATION if n in validation_contigs else -1 for n in names])
    splits[fixed[of_contig] == TEST], splits[fixed[of_contig] == VALIDATION] = TEST, VALIDATION
    shares = np.array(
        [0.0 if test_contigs else division.test_share, 0.0 if validation_contigs else division.validation_share]
    )
    free = np.flatnonzero(fixed[of_contig] == -1)
    if not len(free) or not shares.any():
        return splits
    if shares.sum() >= 1:
        raise InputError(
            f"--test_share {division.test_share} and --validation_share {division.validation_share}: together they "
            "must be below 1"
        )
    width = int(ends.max()) // division.block + 1
    first = of_contig[free] * width + starts[free] // division.block
    last = of_contig[free] * width + (ends[free] - 1) // division.block
    blocks, place = np.unique(np.concatenate([first, last]), return_inverse=True)
    home = place[: len(free)]
    needed = 1 + int((shares > 0).sum())
    if (count := len(np.unique(home))) < needed:
        raise InputError(
            f"{genome}: its rows lie in {count} block{'s' * (count > 1)} of {division.block:,} bp, and {needed} splits "
            "need one each; give a smaller --block"
        )
    table = np.zeros((len(blocks), int(labels.max()) + 1), dtype=np.int64)
    np.add.at(table, (home, labels[free]), 1)
    chosen = draw_blocks(table, shares, division.seed)
    one, other = chosen[home], chosen[place[len(free) :]]
    # A long row may have blocks between its first and its last one.
    across = one != other
    for row in np.flatnonzero(last - first > 1):
        low, high = np.searchsorted(blocks, (first[row], last[row] + 1))
        across[row] |= len(np.unique(chosen[low:high])) > 1
    splits[free] = np.where(across, -1, one)
    return splits


def draw_blocks(table: np.ndarray, shares: np.ndarray, seed: int) -> np.ndarray:
    """Give each block a split, int8 [B]; `table` has its rows of each class."""
    rng = np.random.default_rng(seed)
    totals = table.sum(0)
    sizes = table.sum(1)
    filled = np.flatnonzero(sizes)
    best, lowest = np.zeros(len(table), dtype=np.int8), np.inf
    for _ in range(_DRAWS):
        order = rng.permutation(filled)
        splits = np.zeros(len(table), dtype=np.int8)
        at = 0
        for split, share in ((TEST, shares[0]), (VALIDATION, shares[1])):
            if not share:
                continue
            # Blocks until they have the share, at least one, and one is left for each split that follows.
            room = len(order) - at - (1 if split == VALIDATION or not shares[1] else 2)
            reach = np.cumsum(sizes[order[at:]])
            count = int(np.abs(reach[: max(room, 1)] - share * totals.sum()).argmin()) + 1
            splits[order[at : at + count]] = split
            at += count
        got = np.stack([table[splits == split].sum(0) for split in (TEST, VALIDATION)])
        wanted = shares[:, None] * totals
        miss = float((np.abs(got - wanted) / np.maximum(totals, 1)).max() + (got[shares > 0] == 0)[:, totals > 0].sum())
        if miss < lowest:
            best, lowest = splits, miss
    return best


__all__ = ["TEST", "TRAIN", "VALIDATION", "Division", "divide_rows", "draw_blocks"]
