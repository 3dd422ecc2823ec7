"""Ids of many sequences at once: what the encoders of all kinds of tokenizers give, and how each takes its texts."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

BLOCK = 1 << 18
"""Characters that are worked on together: what belongs to them stays in the processor's cache."""
SEPARATOR = "\0"
"""Stands between the sequences of a block; a text that has it itself goes through the tokenizer."""
# Of texts that go through the tokenizer: its lists take a hundred bytes a character.
_SLOW_BLOCK = 1 << 20


class OtherKindError(ValueError):
    """A tokenizer is not of the kind that an encoder is for."""


class EncodedSequences(NamedTuple):
    """Ids of B sequences, one sequence after the other, as Arrow and ragged batches keep them.

    Attributes:
        ids: [N], the narrowest unsigned integers that hold the vocabulary: widen them before you calculate.
        offsets: int64 [B + 1]: sequence i has `ids[offsets[i] : offsets[i + 1]]`.
    """

    ids: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def split(self) -> list[np.ndarray]:
        """Return the ids of each sequence: B views."""
        return [self.ids[start:end] for start, end in zip(self.offsets[:-1].tolist(), self.offsets[1:].tolist())]


class BulkEncoder(ABC):
    """Encode batches of sequences as a tokenizer does: the same ids, whatever the text.

    A text with a character outside ASCII, or with a name that the tokenizer makes one token of, goes through it itself.

    Attributes:
        before, after: ids that the tokenizer puts around each sequence.
        is_fast: whether ordinary texts of DNA do not go through the tokenizer.
    """

    is_fast = True

    def __init__(self, tokenizer: PreTrainedTokenizerBase, names: Iterable[str] = (), special: Iterable[str] = ()):
        """Names: what a text must not have, to be encoded here; `special`: nor these, unless they are split."""
        self.tokenizer = tokenizer
        self.dtype = np.min_scalar_type(max(tokenizer.get_vocab().values(), default=0))
        self.before, self.after = (np.array(ids, dtype=self.dtype) for ids in _find_around(tokenizer))
        self._set_names(names, special)

    def _set_names(self, names: Iterable[str], special: Iterable[str]) -> None:
        self._names = {True: _shorten(names), False: _shorten([*names, *special])}

    def __call__(
        self,
        sequences: Sequence[str],
        *,
        add_special_tokens: bool = True,
        split_special_tokens: bool | None = None,
    ) -> EncodedSequences:
        """Encode sequences; nothing is cut off and nothing padded.

        Args:
            sequences: B texts.
            add_special_tokens: whether what the tokenizer puts around a sequence, `[CLS]` and its like, is there.
            split_special_tokens: whether names of special tokens in a text are letters; by default as the tokenizer
                says. Give True for text of files.
        """
        split = self.tokenizer.split_special_tokens if split_special_tokens is None else split_special_tokens
        is_slow = np.zeros(len(sequences), dtype=bool)
        if self.is_fast:
            names = self._names[bool(split)]
            for index, sequence in enumerate(sequences):
                if not sequence.isascii():
                    is_slow[index] = True
                    continue
                for name in names:
                    if name in sequence:
                        is_slow[index] = True
                        break
        else:
            is_slow[:] = True
        if is_slow.any():
            slow_rows = np.flatnonzero(is_slow).tolist()
            slow = [sequences[index] for index in slow_rows]
            slow_ids, slow_counts = self._ask(slow, add_special_tokens, split)
            quick: Sequence[str] = [sequences[index] for index in np.flatnonzero(~is_slow).tolist()]
        else:
            quick = sequences
        ids, counts = join(self._encode_blocks(quick, add_special_tokens), self.dtype)
        if is_slow.any():
            ids, counts = _merge(is_slow, ids, counts, slow_ids, slow_counts)
        return EncodedSequences(ids, np.concatenate([[0], counts.cumsum()]))

    def _encode_blocks(self, sequences: Sequence[str], add: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the ids, and their number a sequence, of block after block."""
        before, after = self._choose_around(add)
        for block in cut_blocks(sequences, BLOCK):
            if len(block) == 1 and len(block[0]) > BLOCK:
                pieces = [before, *self._encode_long(block[0]), after]
                ids = np.concatenate([piece for piece in pieces if len(piece)] or [before])
                yield ids, np.array([len(ids)])
            else:
                yield surround(*self._encode(block), before, after)

    def _choose_around(self, add: bool) -> tuple[np.ndarray, np.ndarray]:
        return (self.before, self.after) if add else (self.before[:0], self.after[:0])

    def _ask(self, texts: list[str], add: bool, split: bool) -> tuple[np.ndarray, np.ndarray]:
        """What the tokenizer itself says."""
        found: list[tuple[np.ndarray, np.ndarray]] = []
        for block in cut_blocks(texts, _SLOW_BLOCK):
            told: Any = self.tokenizer(
                block,
                add_special_tokens=add,
                split_special_tokens=split,
                return_attention_mask=False,
                return_token_type_ids=False,
                verbose=False,
            )["input_ids"]
            counts = np.fromiter(map(len, told), dtype=np.int64, count=len(told))
            chained = itertools.chain.from_iterable(told)
            found.append((np.fromiter(chained, dtype=self.dtype, count=int(counts.sum())), counts))
        return join(found, self.dtype)

    @abstractmethod
    def _encode(self, sequences: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids [N] of one or more plain texts, without what is put around, and their number int64 [B]."""

    @abstractmethod
    def _encode_long(self, sequence: str) -> Iterator[np.ndarray]:
        """Yield the ids of one plain text of more than a block, in pieces of about a block."""


class TokenizerEncoder(BulkEncoder):
    """What has no faster way: the tokenizer itself, called with many sequences at a time."""

    is_fast = False

    def _encode(self, sequences: list[str]) -> tuple[np.ndarray, np.ndarray]:
        return self._ask(sequences, False, True)

    def _encode_long(self, sequence: str) -> Iterator[np.ndarray]:
        yield self._ask([sequence], False, True)[0]


def join(parts: Iterable[tuple[np.ndarray, np.ndarray]], dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids and counts of parts that follow each other, a single one as it is."""
    found = list(parts)
    if len(found) == 1:
        return found[0]
    ids, counts = [part for part, _ in found], [each for _, each in found]
    return np.concatenate([np.empty(0, dtype), *ids]), np.concatenate([np.empty(0, np.int64), *counts])


def surround(
    ids: np.ndarray, counts: np.ndarray, before: np.ndarray, after: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Put ids before and after each of B sequences; `counts` int64 [B]."""
    if not len(before) + len(after):
        return ids, counts
    counts = counts + len(before) + len(after)
    ends = counts.cumsum()
    starts = ends - counts
    whole = np.empty(len(ids) + len(counts) * (len(before) + len(after)), dtype=ids.dtype)
    is_body = np.ones(len(whole), dtype=bool)
    added = [(starts + place, token) for place, token in enumerate(before)]
    added += [(ends - len(after) + place, token) for place, token in enumerate(after)]
    for places, token in added:
        whole[places] = token
        is_body[places] = False
    whole[is_body] = ids
    return whole, counts


def expand(starts: np.ndarray, counts: np.ndarray, step: int) -> np.ndarray:
    """Return `starts[i], starts[i] + step, ...`, `counts[i]` of them for each i, one after the other: int64."""
    before = np.cumsum(counts) - counts
    return np.repeat(starts - step * before, counts) + step * np.arange(counts.sum())


def join_letters(digits: np.ndarray, k: int) -> np.ndarray:
    """Return the number, base 4, that each k neighbours make: uint16 [N - k + 1], for k up to 8."""
    # Of every window, as if each were bases: adding neighbours is faster than gathering letters.
    letters = digits.astype(np.uint16)
    window, width = letters, 1
    while 2 * width <= k:
        window, width = window[:-width] * np.uint16(4**width) + window[width:], 2 * width
    while width < k:
        window, width = window[: len(letters) - width] * np.uint16(4) + letters[width:], width + 1
    return window


def _merge(
    is_slow: np.ndarray, ids: np.ndarray, counts: np.ndarray, slow_ids: np.ndarray, slow_counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Put two groups of sequences back into their order."""
    if is_slow.all():
        return slow_ids, slow_counts
    merged_counts = np.empty(len(is_slow), dtype=np.int64)
    merged_counts[is_slow], merged_counts[~is_slow] = slow_counts, counts
    of_slow = np.repeat(is_slow, merged_counts)
    merged = np.empty(len(of_slow), dtype=ids.dtype)
    merged[of_slow], merged[~of_slow] = slow_ids, ids
    return merged, merged_counts


def cut_blocks(sequences: Sequence[str], limit: int) -> Iterator[list[str]]:
    """Yield the sequences in lists of at most `limit` characters, rows counted as some; a longer one is alone."""
    block: list[str] = []
    size = 0
    for sequence in sequences:
        # Each may bring a few tokens more than letters.
        length = len(sequence) + 4
        if block and size + length > limit:
            yield block
            block, size = [], 0
        block.append(sequence)
        size += length
    if block:
        yield block


def _shorten(names: Iterable[str]) -> tuple[str, ...]:
    """Names whose absence tells that of all."""
    kept: list[str] = []
    for name in sorted({SEPARATOR, *names}, key=len):
        if name and not any(shorter in name for shorter in kept):
            kept.append(name)
    return tuple(kept)


def _find_around(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and after a sequence."""
    probe = "ACGT" * 8
    plain = list(tokenizer(probe, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"])
    whole = list(tokenizer(probe, split_special_tokens=True, verbose=False)["input_ids"])
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return whole[:start], whole[start + len(plain) :]
    return [], []


__all__ = [
    "BLOCK",
    "SEPARATOR",
    "BulkEncoder",
    "EncodedSequences",
    "OtherKindError",
    "TokenizerEncoder",
    "cut_blocks",
    "expand",
    "join",
    "join_letters",
    "surround",
]
