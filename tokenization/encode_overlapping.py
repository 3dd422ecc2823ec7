"""Ids of overlapping k-mers of many sequences at once, with numpy."""

from collections.abc import Iterator

import numpy as np
from transformers import PreTrainedTokenizerBase

from gengram.genome.alphabet import ANY_BASE
from gengram.tokenization.encode import BLOCK, SEPARATOR, BulkEncoder, OtherKindError, expand, join_letters
from gengram.tokenization.kmer import DIGITS, list_kmers
from gengram.tokenization.overlapping import split_windows, write_kmers
from gengram.tokenization.parts import TokenizerParts, describe_splits, describe_steps, read_parts

_OTHER = 4  # a letter that is no base: k-mers with it are unknown


class OverlappingKmerEncoder(BulkEncoder):
    """Encode batches of sequences as a tokenizer of overlapping k-mers does.

    Args:
        tokenizer: of `build_overlapping_tokenizer`, or one of them saved and loaded again.

    Raises:
        `ValueError`: another tokenizer.

    Example:
        >>> from gengram.tokenization.overlapping import build_overlapping_tokenizer, list_overlapping_vocabulary
        >>> encoder = OverlappingKmerEncoder(build_overlapping_tokenizer(list_overlapping_vocabulary(3)))
        >>> encoder(["ACGTN"]).ids.tolist()
        [2, 16, 44, 1, 3]
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        parts = read_parts(tokenizer)
        found = None if parts is None else _find_k(parts)
        if parts is None or found is None:
            raise OtherKindError("the tokenizer does not read overlapping k-mers: see build_overlapping_tokenizer")
        super().__init__(tokenizer, parts.written, parts.special)
        self.k, self.stride = found
        vocabulary, unknown = parts.vocabulary, parts.vocabulary[parts.model["unk_token"]]
        self._kmers = np.array([vocabulary[kmer] for kmer in list_kmers(self.k)], dtype=self.dtype)
        # With single bases, N may have a token; with more, its k-mers are none of the vocabulary.
        self._other = self.dtype.type(vocabulary.get(ANY_BASE * self.k, unknown))
        kinds = bytearray([_OTHER]) * 256
        for byte, letter in enumerate(parts.read_as):
            if letter in DIGITS:
                kinds[byte] = DIGITS.index(letter)
        self._kinds = bytes(kinds)

    def _encode(self, sequences: list[str]) -> tuple[np.ndarray, np.ndarray]:
        lengths = np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))
        counts = np.maximum(lengths - self.k + self.stride, 0) // self.stride
        windows = self._read(SEPARATOR.join(sequences))
        begins = np.concatenate([[0], (lengths + 1).cumsum()[:-1]])
        return windows[expand(begins, counts, self.stride)], counts

    def _encode_long(self, sequence: str) -> Iterator[np.ndarray]:
        step = BLOCK // self.stride * self.stride
        for start in range(0, len(sequence) - self.k + 1, step):
            yield self._read(sequence[start : start + step + self.k - 1])[:: self.stride]

    def _read(self, text: str) -> np.ndarray:
        """The token of the k characters from each on: [N - k + 1]."""
        kinds = np.frombuffer(text.encode("ascii").translate(self._kinds), dtype=np.uint8)
        ids = self._kmers[join_letters(kinds & 3, self.k)]
        is_other = kinds == _OTHER
        if is_other.any():
            # How many of them lie before each place: those of a window are a difference.
            before = np.concatenate([[0], is_other.cumsum(dtype=np.int32)])
            ids[before[self.k :] > before[: len(ids)]] = self._other
        return ids


def _find_k(parts: TokenizerParts) -> tuple[int, int] | None:
    """The length of the k-mers and the bases from one to the next; None for a tokenizer that reads otherwise."""
    model, vocabulary = parts.model, parts.vocabulary
    if model["type"] != "WordLevel" or model["unk_token"] not in vocabulary:
        return None
    for k in range(1, 9):
        if parts.splits != describe_splits(split_windows(k)):
            continue
        for stride in range(1, k + 1):
            if parts.steps == describe_steps(write_kmers(k, stride)):
                return (k, stride) if all(kmer in vocabulary for kmer in list_kmers(k)) else None
    return None


__all__ = ["OverlappingKmerEncoder"]
