"""Ids of k-mers alone, with nothing shorter, of many sequences at once, with numpy."""

from collections.abc import Iterator

import numpy as np
from transformers import PreTrainedTokenizerBase

from gengram.tokenization.encode import BLOCK, SEPARATOR, BulkEncoder, OtherKindError, expand, join_letters
from gengram.tokenization.kmer import DIGITS, list_kmers
from gengram.tokenization.parts import TokenizerParts, describe_splits, describe_steps, read_parts
from gengram.tokenization.whole_kmer import drop_left, split_whole

# What a byte is, besides the digits 0..3 of a base: a letter that is none, no letter, the start of a sequence.
_LETTER, _NONE, _START = 4, 5, 6


class WholeKmerEncoder(BulkEncoder):
    """Encode batches of sequences as a tokenizer of whole k-mers does.

    A text of several lines, or with a `<`, goes through the tokenizer itself.

    Args:
        tokenizer: of `build_whole_kmer_tokenizer`, or one of them saved and loaded again.

    Raises:
        `ValueError`: another tokenizer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        parts = read_parts(tokenizer)
        found = None if parts is None else _find_k(parts)
        if parts is None or found is None:
            raise OtherKindError("the tokenizer does not read whole k-mers: build it with build_whole_kmer_tokenizer")
        kmers = list_kmers(found[0])
        words = {word[0] for word in parts.vocabulary.keys() - set(kmers)}
        super().__init__(tokenizer, ["\n", *words, *parts.written], parts.special)
        self.k, self.drops = found
        self._kmers = np.array([parts.vocabulary[kmer] for kmer in kmers], dtype=self.dtype)
        self._unknown = self.dtype.type(parts.vocabulary[parts.model["unk_token"]])
        kinds = bytearray([_NONE]) * 256
        for byte, letter in enumerate(parts.read_as):
            if letter in DIGITS:
                kinds[byte] = DIGITS.index(letter)
            elif "A" <= letter <= "Z":
                kinds[byte] = _LETTER
        kinds[ord(SEPARATOR)] = _START
        self._kinds = bytes(kinds)

    def _encode(self, sequences: list[str]) -> tuple[np.ndarray, np.ndarray]:
        ids, starts = self._join(self._read(SEPARATOR + SEPARATOR.join(sequences)), self.drops)
        return ids, np.diff(starts, append=len(ids))

    def _encode_long(self, sequence: str) -> Iterator[np.ndarray]:
        pieces = range(0, len(sequence), BLOCK)
        drops = self.drops and not any((self._read(sequence[at : at + BLOCK]) == _NONE).any() for at in pieces)
        place = len(sequence) % self.k if drops else 0
        while place < len(sequence):
            kinds = np.concatenate([[np.uint8(_START)], self._read(sequence[place : place + BLOCK])])
            if place + BLOCK < len(sequence):
                run = len(kinds) - 1 - np.flatnonzero(kinds > _LETTER)[-1]
                kinds = kinds[: len(kinds) - run % self.k]
            place += len(kinds) - 1
            yield self._join(kinds, False)[0]

    def _read(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode("ascii").translate(self._kinds), dtype=np.uint8)

    def _join(self, kinds: np.ndarray, drops: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids [N] of what begins with a start, and where each sequence in it begins."""
        # Every run of letters, maybe an empty one, has a start or a character before it that is no letter.
        breaks = np.flatnonzero(kinds > _LETTER)
        is_start = kinds[breaks] == _START
        whole, rest = np.divmod(np.diff(breaks, append=len(kinds)) - 1, self.k)
        begins = breaks + 1
        if drops:
            # Letters and nothing else, from the start to the next one.
            alone = is_start & np.append(is_start[1:], True) & (whole > 0)
            begins, rest = begins + alone * rest, rest * ~alone
        counts = ~is_start + whole + (rest > 0)
        places = np.cumsum(counts) - counts
        ids = np.full(counts.sum(), self._unknown, dtype=self.dtype)

        source = expand(begins, whole, self.k)
        found = self._kmers[join_letters(kinds & 3, self.k)[source]]
        others = np.concatenate([[0], (kinds == _LETTER).cumsum(dtype=np.int32)])
        found[others[source + self.k] > others[source]] = self._unknown
        ids[expand(places + ~is_start, whole, 1)] = found
        return ids, places[is_start]


def _find_k(parts: TokenizerParts) -> tuple[int, bool] | None:
    """The length of the k-mers, and whether first letters are left out; None for a tokenizer that reads otherwise."""
    if parts.model["type"] != "WordLevel" or parts.model["unk_token"] not in parts.vocabulary:
        return None
    for k in range(2, 9):
        if parts.splits == describe_splits(split_whole(k)) and parts.steps in ([], describe_steps([drop_left(k)])):
            return (k, bool(parts.steps)) if all(kmer in parts.vocabulary for kmer in list_kmers(k)) else None
    return None


__all__ = ["WholeKmerEncoder"]
