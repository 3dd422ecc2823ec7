"""K-mer ids of many sequences at once, with numpy: the tokenizer's ids at a hundred times its speed."""

from collections.abc import Iterator

import numpy as np
from transformers import PreTrainedTokenizerBase

from gengram.genome.alphabet import ANY_BASE
from gengram.tokenization.encode import BLOCK, SEPARATOR, BulkEncoder, OtherKindError, expand, join_letters
from gengram.tokenization.kmer import DIGITS, list_kmers, split_kmers
from gengram.tokenization.parts import TokenizerParts, describe_splits, read_parts

# What a byte is, besides the digits 0..3 of a base.
_ANY, _UNKNOWN, _SILENT, _START = 4, 5, 6, 7
_LONG_RUN = 1 << 10  # bases from break to break, on average
_BLANKS = " \t\n\v\f\r"
_UNKNOWN_NAME = "<unk>"


class KmerEncoder(BulkEncoder):
    """Encode batches of sequences as a k-mer tokenizer does.

    Policies and vocabulary are the tokenizer's. A text with a character outside ASCII, or with a `<` (where the name of
    a special token may begin), goes through it itself.

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
        parts = read_parts(tokenizer)
        k = None if parts is None else _find_k(parts)
        if parts is None or k is None:
            raise OtherKindError("the tokenizer does not read k-mers in this package's way: see build_kmer_tokenizer")
        vocabulary = parts.vocabulary
        letters = {*DIGITS, ANY_BASE}
        # A run of unknown characters may be the name of a token: such texts go through the tokenizer.
        words = {word[0] for word in vocabulary if not set(word) <= letters}
        super().__init__(tokenizer, [*words, *parts.written], parts.special)
        self.k = k
        self._kmers = np.array([vocabulary[kmer] for kmer in list_kmers(k)], dtype=self.dtype)
        # Silent ones have no token: theirs is never looked up.
        tokens = [*DIGITS, ANY_BASE, _UNKNOWN_NAME, _UNKNOWN_NAME, _UNKNOWN_NAME]
        self._tokens = np.array([vocabulary.get(token, vocabulary[_UNKNOWN_NAME]) for token in tokens], self.dtype)
        kinds = bytearray([_UNKNOWN]) * 256
        for byte, letter in enumerate(parts.read_as):
            if letter in DIGITS:
                kinds[byte] = DIGITS.index(letter)
            elif letter == ANY_BASE:
                kinds[byte] = _ANY
            elif letter in _BLANKS:
                kinds[byte] = _SILENT
        kinds[ord(SEPARATOR)] = _START
        self._kinds = bytes(kinds)

    def _encode(self, sequences: list[str]) -> tuple[np.ndarray, np.ndarray]:
        ids, starts = self._join(self._read(SEPARATOR + SEPARATOR.join(sequences)))
        return ids, np.diff(starts, append=len(ids))

    def _encode_long(self, sequence: str) -> Iterator[np.ndarray]:
        place, before = 0, _START
        while place < len(sequence):
            # In front the end of the piece before: unknown characters there and here are one token.
            kinds = np.concatenate([[np.uint8(before)], self._read(sequence[place : place + BLOCK])])
            if place + BLOCK < len(sequence):
                run = len(kinds) - 1 - np.flatnonzero(kinds > 3)[-1]
                kinds = kinds[: len(kinds) - run % self.k]
            place += len(kinds) - 1
            before = _UNKNOWN if kinds[-1] == _UNKNOWN else _START
            yield self._join(kinds)[0]

    def _read(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode("ascii").translate(self._kinds), dtype=np.uint8)

    def _join(self, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids [N] of what begins with a break that has no token, and where each sequence in it begins."""
        k = self.k
        # Every run of bases, maybe an empty one, has a break before it: a start, an N, a blank or something unknown.
        breaks = np.flatnonzero(kinds > 3)
        kind = kinds[breaks]
        emits = kind < _SILENT
        # A run of unknown characters is one token.
        continued = (kind[1:] == _UNKNOWN) & (kind[:-1] == _UNKNOWN) & (breaks[1:] == breaks[:-1] + 1)
        emits[1:] &= ~continued
        emits[0] = False
        whole, rest = np.divmod(np.diff(breaks, append=len(kinds)) - 1, k)
        places = np.cumsum(emits + whole + rest)
        ids = np.empty(places[-1], dtype=self.dtype)
        places = places - (emits + whole + rest)  # where the tokens of each break and its run begin
        ids[places[emits]] = self._tokens[kind[emits]]

        numbers = join_letters(kinds, k)
        if len(breaks) * _LONG_RUN < len(kinds):
            # Few runs, long ones: slices are faster than as many indices.
            for begin, place, count in zip(breaks + 1, places + emits, whole):
                ids[place : place + count] = self._kmers[numbers[begin : begin + count * k : k]]
        else:
            source = expand(breaks + 1, whole, k)
            ids[expand(places + emits, whole, 1)] = self._kmers[numbers[source]]
        source = expand(breaks + 1 + whole * k, rest, 1)
        ids[expand(places + emits + whole, rest, 1)] = self._tokens[kinds[source]]
        return ids, places[kind == _START]


def _find_k(parts: TokenizerParts) -> int | None:
    """The length of the k-mers of a tokenizer that reads as `build_kmer_tokenizer` has it; None for any other."""
    if parts.model["type"] != "WordLevel" or parts.model["unk_token"] != _UNKNOWN_NAME or parts.steps:
        return None
    if _UNKNOWN_NAME not in parts.vocabulary:
        return None
    for k in range(1, 9):
        if parts.splits == describe_splits(split_kmers(k)):
            return k if all(kmer in parts.vocabulary for kmer in [*list_kmers(k), *DIGITS, ANY_BASE]) else None
    return None


__all__ = ["KmerEncoder"]
