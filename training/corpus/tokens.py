"""Which tokens do letters of a corpus have? Ids straight from bytes where each letter is a token, else through text."""

from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

from gengram.tokenization.choose_encoder import find_encoder
from gengram.tokenization.coordinates import locate_tokens, measure_tokens
from gengram.tokenization.encode_bases import BaseEncoder
from gengram.training.corpus.reading import PARTNERS

_ASCII_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class LetterEncoder:
    """Gives letters the ids that a tokenizer gives them as text.

    Args:
        tokenizer: any of transformers.

    Attributes:
        tokenizer: as given.
        before, after: ids that it puts around a sequence: int64.
        tables: where each letter is a token of its own: the id of each of 256 bytes, and that of the letter that pairs
            with it, as bytes; else None.
        sizes: bases of a token, and from one to the next one, see `measure_tokens`; None where tokens differ.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer
        self._encode = find_encoder(tokenizer)
        self.before, self.after = self._encode.before.astype(np.int64), self._encode.after.astype(np.int64)
        self.tables = _find_tables(self._encode, tokenizer)
        self.sizes = (1, 1) if self.tables is not None else _measure(tokenizer)

    def encode(self, pieces: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the ids of each piece of letters, uint8 [n], without what is put around: integers [tokens] each."""
        if self.tables is not None:
            return [np.frombuffer(piece.tobytes().translate(self.tables[0]), dtype=np.uint8) for piece in pieces]
        texts = [piece.tobytes().decode("ascii") for piece in pieces]
        return self._encode(texts, add_special_tokens=False, split_special_tokens=True).split()

    def encode_strands(self, letters: np.ndarray, strands: np.ndarray) -> np.ndarray:
        """Return the ids of letters that are not turned yet, where each is a token of its own.

        Args:
            letters: uint8 [N, length].
            strands: [N], 1 for those that are read as their reverse complement.

        Returns:
            uint8 [N, length].
        """
        assert self.tables is not None
        # Row by row: what a row needs stays in the processor's cache.
        read = [row.tobytes().translate(self.tables[strand]) for row, strand in zip(letters, strands.tolist())]
        turned = [row[::-1] if strand else row for row, strand in zip(read, strands.tolist())]
        return np.frombuffer(bytearray().join(turned), dtype=np.uint8).reshape(letters.shape)

    def locate(self, letters: np.ndarray) -> np.ndarray:
        """Return the letters that each token of `encode` stands for: int64 [tokens, 2], first and last, half-open."""
        if self.tables is not None:
            firsts = np.arange(len(letters))
            return np.stack([firsts, firsts + 1], axis=1)
        text = letters.tobytes().decode("ascii")
        return locate_tokens(self.tokenizer, text, add_special_tokens=False, split_special_tokens=True)


def _find_tables(encoder: object, tokenizer: PreTrainedTokenizerBase) -> tuple[bytes, bytes] | None:
    if not isinstance(encoder, BaseEncoder) or encoder.table.dtype != np.uint8:
        return None
    # A token with a name of several letters would be found in a sequence.
    if any(len(token) > 1 and not set(token) - set(_ASCII_LETTERS) for token in tokenizer.added_tokens_encoder):
        return None
    return encoder.table.tobytes(), encoder.table[PARTNERS].tobytes()


def _measure(tokenizer: PreTrainedTokenizerBase) -> tuple[int, int] | None:
    return measure_tokens(tokenizer) if tokenizer.is_fast else None


__all__ = ["LetterEncoder"]
