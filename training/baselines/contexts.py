"""What a class of bases can be guessed from alone: how often it was that of a base between the same neighbours."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from gengram.training.problems import IGNORED

WIDTH = 7
"""Tokens of a context: the base and three on each side."""

# More different tokens than these are not told apart: DNA has fewer letters, and a context has to fit into an int64.
_MOST_TOKENS = 64


@dataclasses.dataclass(frozen=True)
class ContextTable:
    """Class frequencies of all contexts of some rows; dimensions K contexts, C classes.

    Attributes:
        tokens: int64, sorted: the token ids that are told apart.
        contexts: int64 (K,), sorted; see `_number_contexts`.
        counts: int64 (K, C), how often a base of this context had each class.
        frequencies: float64 (C,), of the classes in all contexts.
    """

    tokens: np.ndarray
    contexts: np.ndarray
    counts: np.ndarray
    frequencies: np.ndarray

    def predict(self, ids: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return the logarithms of the class probabilities of a row's labelled tokens, float32 (labelled, C).

        A context that was seen n times counts n, the frequencies of the classes in all contexts count 1.
        """
        numbers = _number_contexts(ids, self.tokens)[labels != IGNORED]
        places = np.minimum(np.searchsorted(self.contexts, numbers), len(self.contexts) - 1)
        counts = np.where((self.contexts[places] == numbers)[:, None], self.counts[places], 0)
        shares = (counts + self.frequencies) / (counts.sum(axis=1, keepdims=True) + 1)
        return np.log(shares).astype(np.float32)


def count_contexts(ids: Sequence[np.ndarray], labels: Sequence[np.ndarray], classes: int) -> ContextTable:
    """Count the classes of every context.

    Args:
        ids: token ids of each row, one token a base; special tokens count as neighbours.
        labels: of each row as many class ids, `IGNORED` where there is none; at least one is known.
        classes: how many there are.
    """
    present, times = np.unique(np.concatenate(ids), return_counts=True)
    tokens = np.sort(present[np.argsort(-times, kind="stable")[:_MOST_TOKENS]])
    numbers, known = [], []
    for row, row_labels in zip(ids, labels):
        labelled = row_labels != IGNORED
        numbers.append(_number_contexts(row, tokens)[labelled])
        known.append(row_labels[labelled])
    contexts, places = np.unique(np.concatenate(numbers), return_inverse=True)
    flat = np.concatenate(known)
    counts = np.bincount(places * classes + flat, minlength=len(contexts) * classes).reshape(-1, classes)
    # Half a base more of each class: one that was never seen is rare, not impossible.
    frequencies = (np.bincount(flat, minlength=classes) + 0.5) / (len(flat) + 0.5 * classes)
    return ContextTable(tokens, contexts, counts, frequencies)


def _number_contexts(ids: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Return the number of the context of each token of a row, int64: its digits are the tokens, 0 for none of them."""
    places = np.minimum(np.searchsorted(tokens, ids), len(tokens) - 1)
    digits = np.where(tokens[places] == ids, places + 1, 0).astype(np.int64)
    padded = np.pad(digits, WIDTH // 2)
    powers = (len(tokens) + 1) ** np.arange(WIDTH, dtype=np.int64)
    return np.lib.stride_tricks.sliding_window_view(padded, WIDTH) @ powers


__all__ = ["WIDTH", "ContextTable", "count_contexts"]
