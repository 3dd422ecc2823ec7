"""Which rows are for training, which for the test? Whole chromosomes; or, of a genome without these, whole blocks.

Windows that overlap are never in two splits: where blocks are dealt, a window of the training that shares a base with
one of validation or test is left out, and one of the validation that does so with one of the test.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from gengram.errors import InputError
from gengram.genome.contigs import fold_name

from .genome import StoredGenome
from .splits import draw_blocks

SPLITS = ("train", "validation", "test")
NAMES = {"valid": "validation", "val": "validation", "dev": "validation", "eval": "validation"}
_BLOCKS = 100  # of a genome, at most
_WIDTH = 10  # windows of a block, at least


class SplitRule(NamedTuple):
    """How rows are dealt.

    Attributes:
        test, validation: contigs of these splits.
        given: whether a user has named them: then they have to be there.
        test_share, validation_share: of the rows, where blocks are dealt.
        block: bp of a block; None: a hundredth of the genome, or ten windows if that is more, and a tenth at most.
        seed: of the order in which blocks are dealt.
    """

    test: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    given: bool = False
    test_share: float = 0.2
    validation_share: float = 0.1
    block: int | None = None
    seed: int = 0


def deal_rows(plan: pa.Table, genome: StoredGenome, rule: SplitRule, files: str) -> tuple[np.ndarray, str]:
    """Return the split of each row, int8: an index of `SPLITS`, or -1 where a row is in none; and how it was done.

    Args:
        plan: rows with `record`, `start` and `end`; where there is a column `split`, it says it.
        genome: that they are of.
        rule: for the others.
        files: that they are of, for messages.

    Raises:
        `InputError`: no row is left for the training or the test; a split of another name.
    """
    if "split" in plan.column_names:
        return _read_splits(plan["split"].to_pylist(), files), "as the table says"
    chroms = [fold_name(chrom) for chrom in genome.chroms]
    record = plan["record"].to_numpy()
    found = {split: set(map(fold_name, getattr(rule, split))) for split in ("test", "validation")}
    if both := found["test"] & found["validation"]:
        raise InputError(f"chromosome {min(both)!r} cannot be of the test and of the validation; leave one out")
    code = np.zeros(max(len(chroms), 1), dtype=np.int8)
    for number, chrom in enumerate(chroms):
        code[number] = 2 if chrom in found["test"] else 1 if chrom in found["validation"] else 0
    splits = code[record]
    has = {name: bool((splits == number).any()) for number, name in enumerate(SPLITS)}
    if has["test"] and has["train"] and (has["validation"] or rule.given or not rule.validation):
        return splits, _describe_contigs(rule)
    if rule.given:
        there = ", ".join(dict.fromkeys(genome.chroms[number] for number in np.unique(record)[:8]))
        lacking = "test" if not has["test"] else "train"
        raise InputError(
            f"{files}: no row is left for {lacking}: the rows lie on {there}; choose other --test_contigs, or leave "
            "them out: then blocks are dealt"
        )
    return _deal_blocks(plan, genome, rule, files)


def _describe_contigs(rule: SplitRule) -> str:
    told = f"contigs: test {', '.join(rule.test)}"
    return f"{told}; validation {', '.join(rule.validation)}" if rule.validation else told


def _read_splits(values: Sequence[str | None], files: str) -> np.ndarray:
    codes = {name: number for number, name in enumerate(SPLITS)}
    codes |= {name: codes[split] for name, split in NAMES.items()}
    found = []
    for row, value in enumerate(values, 1):
        code = codes.get(str(value).strip().lower())
        if code is None:
            raise InputError(
                f"data row {row}: the split {value!r} is none of {', '.join(SPLITS)}; mend the column split"
            )
        found.append(code)
    return np.array(found, dtype=np.int8)


def _deal_blocks(plan: pa.Table, genome: StoredGenome, rule: SplitRule, files: str) -> tuple[np.ndarray, str]:
    record, start, end = (plan[name].to_numpy() for name in ("record", "start", "end"))
    width = int((end - start).max(initial=1))
    bases = sum(genome.lengths)
    size = rule.block or min(max(_WIDTH * width, bases // _BLOCKS), max(bases // _WIDTH, width))
    # Positions of slices of one contig are those of the contig, so that records which overlap share their blocks.
    chroms = {chrom: number for number, chrom in enumerate(dict.fromkeys(genome.chroms))}
    chrom = np.array([chroms[name] for name in genome.chroms], dtype=np.int64)[record]
    offset = np.array(genome.offsets, dtype=np.int64)[record]
    middle = ((start + end) // 2 + offset) // size
    home = chrom * (int(middle.max(initial=0)) + 1) + middle
    blocks, place = np.unique(home, return_inverse=True)
    shares = np.array([rule.test_share, rule.validation_share])
    if shares.sum() >= 1:
        raise InputError(f"--test_share and --validation_share: {shares.sum():g} together, and they must be below 1")
    if len(blocks) <= (shares > 0).sum():
        raise InputError(
            f"{files}: the rows lie in {len(blocks)} block(s) of {size:,} bp, fewer than there are splits; give "
            "a smaller --block, more rows, or --test_contigs"
        )
    labels = _number_labels(plan)
    table = np.zeros((len(blocks), int(labels.max(initial=0)) + 1), dtype=np.int64)
    np.add.at(table, (place, labels), 1)
    splits = draw_blocks(table, shares, rule.seed)[place]
    for split in (2, 1):
        chosen = splits == split
        splits[(splits >= 0) & (splits < split) & _find_met(chrom, start + offset, end + offset, chosen)] = -1
    return splits, f"blocks of {size:,} bp, dealt by chance (seed {rule.seed})"


def _number_labels(plan: pa.Table) -> np.ndarray:
    """Return a number for the class of each row, int64; 0 for all where labels are no names."""
    if "label" not in plan.column_names or not pa.types.is_string(plan["label"].type):
        return np.zeros(len(plan), dtype=np.int64)
    return plan["label"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)


def _find_met(chrom: np.ndarray, start: np.ndarray, end: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return which windows share a base with one of the chosen ones, booleans."""
    met = np.zeros(len(chrom), dtype=bool)
    for number in np.unique(chrom[chosen]):
        there = chosen & (chrom == number)
        order = np.argsort(start[there], kind="stable")
        starts, ends = start[there][order], np.maximum.accumulate(end[there][order])
        here = chrom == number
        before = np.searchsorted(starts, end[here])  # how many of them begin before the window's end
        met[here] = (before > 0) & (ends[np.maximum(before - 1, 0)] > start[here])
    return met


__all__ = ["NAMES", "SPLITS", "SplitRule", "deal_rows"]
