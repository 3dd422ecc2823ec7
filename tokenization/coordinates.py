"""Which bases a token stands for, and which tokens a base is in: for single bases, k-mers and BPE alike.

Intervals are 0-based and half-open, as in BED and in Python, in bases of the sequence or of its chromosome.
"""

from typing import Any, Literal

import numpy as np
from transformers import PreTrainedTokenizerBase

# BPE finds merges of several lengths in it; 840 bp are whole k-mers for every k up to 8.
_PLAIN = ("AACAGATCCGCTGGTTAAAACACCAGCATAACTAGGAATGCATTACCGTCGATCCTGCGGTGTTCA" * 13)[:840]
NOWHERE = -1
"""Start and end of a token that stands for no base, and the token of a base that is in none."""


def locate_tokens(
    tokenizer: PreTrainedTokenizerBase,
    sequence: str,
    *,
    start: int = 0,
    strand: Literal["+", "-"] = "+",
    **kwargs: Any,
) -> np.ndarray:
    """Return the interval of bases that each token of a sequence stands for.

    The tokenizer's own offsets say so: nothing is assumed about the length of its tokens, an `N` may shift the frame,
    and characters that it leaves out (blanks) are in no token.

    Args:
        tokenizer: any with offsets: those of this package, or a `tokenizer.json`.
        sequence: one sequence, as it is given to the tokenizer.
        start: where the sequence begins on its chromosome, in bp.
        strand: `"-"` if the sequence is the reverse complement of the interval that begins at `start`.
        kwargs: of the tokenizer (`truncation`, `max_length`, `add_special_tokens`, `padding`).

    Returns:
        `np.ndarray` int64 [T, 2]: start and end of each token in bp, in the order of the tokens; both -1 (`NOWHERE`)
        for special tokens that the tokenizer adds and for padding.

    Raises:
        `ValueError`: the tokenizer has no offsets, or another strand.

    Example:
        >>> from gengram.tokenization import build_kmer_tokenizer, locate_tokens
        >>> locate_tokens(build_kmer_tokenizer(), "ACGTGTACN", start=1000).tolist()
        [[-1, -1], [1000, 1006], [1006, 1007], [1007, 1008], [1008, 1009]]
    """
    if strand not in ("+", "-"):
        raise ValueError(f"strand={strand!r}: choose '+' or '-'")
    if not tokenizer.is_fast:
        raise ValueError(
            f"{type(tokenizer).__name__} does not say where its tokens lie (no offsets): use one with a "
            "tokenizer.json; for Nucleotide Transformers load_kmer_tokenizer makes it"
        )
    encoded = tokenizer(sequence, return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False, **kwargs)
    offsets = np.array(encoded["offset_mapping"], dtype=np.int64).reshape(-1, 2)
    special = np.array(encoded["special_tokens_mask"], dtype=bool)
    intervals = start + (offsets if strand == "+" else len(sequence) - offsets[:, ::-1])
    intervals[special] = NOWHERE
    return intervals


def find_tokens(intervals: np.ndarray, start: int, end: int) -> np.ndarray:
    """Return the tokens that share at least one base with an interval.

    Args:
        intervals: int64 [T, 2], of `locate_tokens`.
        start, end: in bp, in the same coordinates.

    Returns:
        `np.ndarray` int64 [n]: positions among the T tokens, ascending.

    Raises:
        `ValueError`: the interval has no base.

    Example:
        >>> find_tokens(np.array([[-1, -1], [0, 6], [6, 12], [12, 13]]), 5, 7).tolist()
        [1, 2]
    """
    if start >= end:
        raise ValueError(f"the interval {start}-{end} has no base: intervals are half-open, end > start")
    shares = (intervals[:, 0] < end) & (intervals[:, 1] > start) & (intervals[:, 0] != NOWHERE)
    return np.flatnonzero(shares)


def assign_bases(intervals: np.ndarray, length: int, start: int = 0) -> np.ndarray:
    """Return the token that each base is in: `values[assign_bases(...)]` spreads values of tokens over bases.

    Args:
        intervals: int64 [T, 2], of `locate_tokens`.
        length: bases of the sequence.
        start: what `locate_tokens` was given.

    Returns:
        `np.ndarray` int64 [length]: positions among the T tokens, in the order of the coordinates; -1 (`NOWHERE`) where
        a base is in no token (cut off, or left out by the tokenizer). Where tokens overlap, the one in whose middle the
        base is (of two, the first).

    Raises:
        `ValueError`: a token reaches beyond the sequence: length or start are not those of the intervals.

    Example:
        >>> assign_bases(np.array([[-1, -1], [0, 3], [3, 4]]), 5).tolist()
        [1, 1, 1, 2, -1]
    """
    tokens = np.flatnonzero(intervals[:, 0] != NOWHERE)
    begins, ends = intervals[tokens, 0] - start, intervals[tokens, 1] - start
    if len(tokens) and (begins.min() < 0 or ends.max() > length):
        raise ValueError(
            f"tokens lie at {begins.min() + start}-{ends.max() + start}, outside the sequence at "
            f"{start}-{start + length}"
        )
    assigned = np.full(length, NOWHERE, dtype=np.int64)
    counts = ends - begins
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    bases, owners = np.repeat(begins, counts) + within, np.repeat(tokens, counts)
    if len(bases) and np.bincount(bases).max() > 1:
        # What is written last stays: of a base's tokens the one around it.
        distances = np.abs(2 * within + 1 - np.repeat(counts, counts))
        order = np.lexsort((-owners, -distances))
        bases, owners = bases[order], owners[order]
    assigned[bases] = owners
    return assigned


def measure_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[int, int] | None:
    """Return how many bases a token has, and from one token's first base to the next one's; None where tokens differ.

    It is read from the tokens of a sequence without `N`: (1, 1) for single bases, (6, 6) for k-mers, (6, 1) for k-mers
    of which every base begins one; BPE gives None. N tokens are `(N - 1) * step + bases` bp.

    Args:
        tokenizer: any with offsets.
    """
    intervals = locate_tokens(tokenizer, _PLAIN, add_special_tokens=False, split_special_tokens=True)
    lengths, steps = set((intervals[:, 1] - intervals[:, 0]).tolist()), set(np.diff(intervals[:, 0]).tolist())
    return (lengths.pop(), steps.pop()) if len(lengths) == len(steps) == 1 else None


def find_bases(ids: list[int] | np.ndarray, tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """Return which tokens of a row are bases, booleans (T,): all but those that the tokenizer puts around them.

    Args:
        ids: T tokens of a row, without padding.
        tokenizer: that they are from.
    """
    # Not `all_special_ids`: that has the unknown token, a base like any other here, and NTv3's padding, N.
    around = [getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "cls", "sep")]
    return ~np.isin(ids, [one for one in around if one is not None])


__all__ = ["NOWHERE", "assign_bases", "find_bases", "find_tokens", "locate_tokens", "measure_tokens"]
