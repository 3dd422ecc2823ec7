"""K-mer ids of many sequences at once, with numpy: the tokenizer's ids at a hundred times its speed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from gengram.genome.alphabet import ANY_BASE
from gengram.tokenization.kmer import DIGITS

# What a byte is, besides the digits 0..3 of a base.
_ANY, _UNKNOWN, _BLANK, _START = 4, 5, 6, 7
_BLANKS = " \t\n\v\f\r"
# Goes in front of every sequence; one that has it itself goes the slow way.
_SEPARATOR = "\0"
# Bytes that are worked on together: what belongs to them stays in the processor's cache.
_BLOCK = 1 << 18


class EncodedSequences(NamedTuple):
    """Ids of B sequences, one sequence after the other, as Arrow and ragged batches keep them.

    Attributes:
        ids: int32 [N].
        offsets: int64 [B + 1]: sequence i has `ids[offsets[i] : offsets[i + 1]]`.
    """

    ids: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def split(self) -> list[np.ndarray]:
        """Return the ids of each sequence: B views."""
        return [self.ids[start:end] for start, end in zip(self.offsets[:-1].tolist(), self.offsets[1:].tolist())]


class KmerEncoder:
    """Encode batches of sequences as a k-mer tokenizer does.

    Policies, vocabulary and `<cls>` are the tokenizer's: what it reads a character as is asked of it once. A text with
    a character outside ASCII, or with a `<` (where the name of a special token may begin), goes through it itself.

    Args:
        tokenizer: of `build_kmer_tokenizer` or `load_kmer_tokenizer`, or one of them saved and loaded again.

    Raises:
        `ValueError`: another tokenizer.

    Example:
        >>> from gengram.tokenization import build_kmer_tokenizer
        >>> encoder = KmerEncoder(build_kmer_tokenizer())
        >>> [ids.tolist() for ids in encoder(["ACGTGTACN", "ATTCCG"]).split()]
        [[3, 739, 4102, 4104, 4106], [3, 369]]
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer
        vocabulary = tokenizer.get_vocab()
        self.k = max((len(token) for token in vocabulary if set(token) <= set(DIGITS)), default=0)
        self.first = vocabulary.get(DIGITS[0] * self.k, -1)
        last = vocabulary.get(DIGITS[-1] * self.k, -1)
        names = [*DIGITS, ANY_BASE, "<unk>", "<cls>"]
        if (
            not 2 <= self.k <= 8
            or last - self.first != 4**self.k - 1
            or not set(names) <= vocabulary.keys()
            or not tokenizer.is_fast
        ):
            raise ValueError("the tokenizer has no k-mers in this package's order: build it with build_kmer_tokenizer")
        # The blank has no token: it is never looked up.
        tokens = [*DIGITS, ANY_BASE, "<unk>", "<unk>", "<cls>"]
        self.token_ids = np.array([vocabulary[token] for token in tokens], dtype=np.int32)
        self.kinds = self._read_kinds()

    def __call__(self, sequences: Sequence[str], split_special_tokens: bool | None = None) -> EncodedSequences:
        """Encode sequences, `<cls>` in front of each; nothing is cut off and nothing padded.

        Args:
            sequences: B texts.
            split_special_tokens: whether names of special tokens in a text are letters; by default as the tokenizer
                says. Give True for text of files.
        """
        split = self.tokenizer.split_special_tokens if split_special_tokens is None else split_special_tokens
        ids: list[np.ndarray] = []
        counts = np.empty(len(sequences), dtype=np.int64)
        block: list[str] = []
        size = begin = 0
        for index, sequence in enumerate(sequences):
            if not sequence.isascii() or "<" in sequence or _SEPARATOR in sequence:
                self._flush(block, ids, counts[begin:index])
                slow = self.tokenizer(sequence, split_special_tokens=split, verbose=False)["input_ids"]
                ids.append(np.array(slow, dtype=np.int32))
                counts[index] = len(slow)
                block, size, begin = [], 0, index + 1
                continue
            block.append(sequence)
            size += len(sequence)
            if size >= _BLOCK:
                self._flush(block, ids, counts[begin : index + 1])
                block, size, begin = [], 0, index + 1
        self._flush(block, ids, counts[begin:])
        offsets = np.concatenate([[0], counts.cumsum()])
        return EncodedSequences(np.concatenate(ids) if ids else np.empty(0, dtype=np.int32), offsets)

    def _flush(self, block: list[str], ids: list[np.ndarray], counts: np.ndarray) -> None:
        if block:
            encoded, starts = self._encode(block)
            ids.append(encoded)
            counts[:] = np.diff(starts, append=len(encoded))

    def _encode(self, sequences: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids int32 [N] of plain sequences, and where each begins, int64 [B]."""
        k = self.k
        text = _SEPARATOR + _SEPARATOR.join(sequences)
        kinds = np.frombuffer(text.encode("ascii").translate(self.kinds), dtype=np.uint8)
        # Every run of bases, maybe an empty one, has a break before it: a start, an N, a blank or something unknown.
        breaks = np.flatnonzero(kinds > 3)
        kind = kinds[breaks]
        emits = kind != _BLANK
        # A run of unknown characters is one token.
        continued = (kind[1:] == _UNKNOWN) & (kind[:-1] == _UNKNOWN) & (breaks[1:] == breaks[:-1] + 1)
        emits[1:] &= ~continued
        whole, rest = np.divmod(np.diff(breaks, append=len(kinds)) - 1, k)
        places = np.cumsum(emits + whole + rest)
        ids = np.empty(places[-1], dtype=np.int32)
        places = places - (emits + whole + rest)  # where the tokens of each break and its run begin
        ids[places[emits]] = self.token_ids[kind[emits]]

        source = _expand(breaks + 1, whole, k)
        ids[_expand(places + emits, whole, 1)] = self._join(kinds, source)
        source = _expand(breaks + 1 + whole * k, rest, 1)
        ids[_expand(places + emits + whole, rest, 1)] = self.token_ids[kinds[source]]
        return ids, places[kind == _START]

    def _join(self, kinds: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Return the ids of the k-mers that begin at `starts`."""
        # Of every window, as if each were bases: adding neighbours is faster than gathering letters.
        window, width = kinds.astype(np.uint16), 1
        letters = window
        while 2 * width <= self.k:
            window, width = window[:-width] * np.uint16(4**width) + window[width:], 2 * width
        while width < self.k:
            window, width = window[: len(letters) - width] * np.uint16(4) + letters[width:], width + 1
        return window[starts].astype(np.int32) + self.first

    def _read_kinds(self) -> bytes:
        """What each of the 256 bytes is, as the tokenizer's policies read it."""
        normalizer = self.tokenizer.backend_tokenizer.normalizer
        kinds = bytearray([_UNKNOWN]) * 256
        for byte in range(128):
            character = chr(byte)
            letter = normalizer.normalize_str(character) if normalizer is not None else character
            if letter in DIGITS:
                kinds[byte] = DIGITS.index(letter)
            elif letter == ANY_BASE:
                kinds[byte] = _ANY
            elif letter in _BLANKS:
                kinds[byte] = _BLANK
        kinds[ord(_SEPARATOR)] = _START
        return bytes(kinds)


def _expand(starts: np.ndarray, counts: np.ndarray, step: int) -> np.ndarray:
    """Return `starts[i], starts[i] + step, ...`, `counts[i]` of them for each i, one after the other: int64."""
    before = np.cumsum(counts) - counts
    return np.repeat(starts - step * before, counts) + step * np.arange(counts.sum())


__all__ = ["EncodedSequences", "KmerEncoder"]
