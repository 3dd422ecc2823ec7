"""Which tokens does a model read of a window, and which bases does each of them stand for?"""

from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from gengram.genome.alphabet import BASES
from gengram.tokenization.coordinates import NOWHERE
from gengram.training.corpus.tokens import LetterEncoder

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
    """Encodes windows as those of training are, with the special tokens that the tokenizer puts around them.

    Args:
        tokenizer: any with offsets.
        most: tokens that the model takes; those beyond are left out, but for the special ones at the end.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, most: int):
        self._letters, self.most = LetterEncoder(tokenizer), most
        names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        self._names = np.array([name or "" for name in names], dtype=object)

    def __call__(self, letters: np.ndarray) -> EncodedWindow:
        """Encode the letters of one window, uint8 [L]."""
        before, after = self._letters.before, self._letters.after
        ids = self._letters.encode([letters])[0].astype(np.int64)
        intervals = self._locate(letters, ids)
        room = max(self.most - len(before) - len(after), 0)
        ids, intervals = ids[:room], intervals[:room]
        around = [np.full((len(some), 2), NOWHERE, dtype=np.int64) for some in (before, after)]
        ids = np.concatenate([before, ids, after])
        return EncodedWindow(letters, ids, np.concatenate([around[0], intervals, around[1]]))

    def _locate(self, letters: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """The tokens' names say where they lie if they are the text, one after the other; else the tokenizer does."""
        names = self._names[ids]
        if self._letters.tables is not None or "".join(names) != letters.tobytes().decode("ascii").upper():
            return self._letters.locate(letters)
        ends = np.cumsum(np.fromiter(map(len, names), dtype=np.int64, count=len(names)))
        return np.stack([np.concatenate([[0], ends[:-1]])[: len(ends)], ends], axis=1)


__all__ = ["EncodedWindow", "WindowEncoder"]
