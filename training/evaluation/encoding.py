"""Which tokens does a model read of a window, and which bases does each of them stand for?"""

from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from gengram.genome.alphabet import BASES
from gengram.tokenization.choose_encoder import find_encoder
from gengram.tokenization.coordinates import NOWHERE, locate_tokens

_DEFINITE = np.zeros(256, dtype=bool)
_DEFINITE[np.frombuffer((BASES + BASES.lower()).encode(), dtype=np.uint8)] = True


@dataclass(frozen=True)
class EncodedWindow:
    """The T tokens of L letters.

    Attributes:
        letters: uint8 [L], ASCII, in the case of the store.
        ids: int64 [T], with what the tokenizer puts around a sequence.
        intervals: int64 [T, 2], the letters of each token; -1 (`NOWHERE`) for special tokens.
    """

    letters: np.ndarray
    ids: np.ndarray
    intervals: np.ndarray

    @property
    def definite(self) -> np.ndarray:
        """Tokens that stand for A, C, G and T alone: no special token, none with an N. Booleans [T]."""
        unknown = np.concatenate([[0], np.cumsum(~_DEFINITE[self.letters])])
        return (self.intervals[:, 0] != NOWHERE) & (unknown[self.intervals[:, 1]] == unknown[self.intervals[:, 0]])

    @property
    def first_new(self) -> np.ndarray:
        """First letter of each token that no token before it has; where tokens overlap, not its first. int64 [T]."""
        reached = np.maximum.accumulate(np.concatenate([[0], self.intervals[:-1, 1]]))
        return np.clip(reached, self.intervals[:, 0], self.intervals[:, 1])


class WindowEncoder:
    """Encodes windows as blocks of training are: upper case, and with the special tokens that the tokenizer adds.

    Args:
        tokenizer: any with offsets.
        most: tokens that the model takes; those beyond are left out, but for the special ones at the end.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, most: int):
        self.tokenizer, self.most = tokenizer, most
        self._encode = find_encoder(tokenizer)
        names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        self._names = np.array([name or "" for name in names], dtype=object)

    def __call__(self, letters: np.ndarray) -> EncodedWindow:
        """Encode the letters of one window, uint8 [L]."""
        text = letters.tobytes().decode("ascii").upper()
        ids = self._encode([text], split_special_tokens=True).ids.astype(np.int64)
        intervals = self._locate(text, ids)
        if len(ids) > self.most:
            after = len(self._encode.after)
            kept = np.r_[0 : self.most - after, len(ids) - after : len(ids)]
            ids, intervals = ids[kept], intervals[kept]
        return EncodedWindow(letters, ids, intervals)

    def _locate(self, text: str, ids: np.ndarray) -> np.ndarray:
        """The tokens' names say where they lie if they are the text, one after the other; else the tokenizer does."""
        before, after = len(self._encode.before), len(self._encode.after)
        inside = slice(before, len(ids) - after)
        names = self._names[ids[inside]]
        if "".join(names) != text:
            return locate_tokens(self.tokenizer, text, split_special_tokens=True)
        intervals = np.full((len(ids), 2), NOWHERE, dtype=np.int64)
        ends = np.cumsum(np.fromiter(map(len, names), dtype=np.int64, count=len(names)))
        intervals[inside, 1] = ends
        intervals[inside, 0] = np.concatenate([[0], ends[:-1]])[: len(ends)]
        return intervals


__all__ = ["EncodedWindow", "WindowEncoder"]
