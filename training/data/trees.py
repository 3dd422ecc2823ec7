"""Which rows are in one group so far? Trees of rows, each with its parent: a disjoint-set forest over an array."""

import numpy as np


def find_roots(parents: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return the roots of some rows, int64 like `numbers`, and shorten their ways there."""
    roots = parents[numbers]
    while (parents[roots] != roots).any():
        roots = parents[roots]
    parents[numbers] = roots
    return roots


def join_trees(parents: np.ndarray, one: np.ndarray, other: np.ndarray) -> None:
    """Join the trees of P pairs of rows, int64 (P,) and (P,); the smaller root stays one."""
    while len(one):
        first, second = find_roots(parents, one), find_roots(parents, other)
        apart = first != second
        one, other = np.minimum(first, second)[apart], np.maximum(first, second)[apart]
        parents[other] = one  # of several that one root is to hang from the last is taken; the others come again


__all__ = ["find_roots", "join_trees"]
