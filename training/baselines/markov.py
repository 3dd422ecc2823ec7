"""How many bits does a base need when only the few before it are known? Markov models of orders 0 to 10.

What a language model of DNA has to beat: order 1 knows that CG is rare, order 5 codons and half-repeats. Everything is
in tables of counts: one pass over the letters, whatever there are of them, serves all orders and smoothings.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import numpy as np

from gengram.errors import InputError
from gengram.training.baselines.base_codes import NO_BASE, read_codes

Smoothing = Literal["dirichlet", "witten_bell"] | float

HIGHEST_ORDER = 10
"""4**11 counts of 8 bytes are 34 MB; a gigabase shows each of these contexts a thousand times."""

_STRENGTHS = 2.0 ** np.arange(13)  # that a lower order may have, in bases
_CHUNK = 1 << 20  # letters that are counted at a time
_BREAK = np.frombuffer(b"N", dtype=np.uint8)


@dataclasses.dataclass(frozen=True)
class BaseCounts:
    """How often each base stood behind each context; K the highest order.

    Attributes:
        full: int64 [4**(K+1)], of bases with K bases before them, number = digits of context and base in base 4 with
            A 0, C 1, G 2, T 3.
        heads: K tables, int64 [4**(j+1)] for j = 0 ... K-1: of bases with only j before them, where a piece begins and
            behind an N.
    """

    full: np.ndarray
    heads: tuple[np.ndarray, ...]

    @property
    def order(self) -> int:
        """How many bases before a base the context has."""
        return len(self.heads)

    @property
    def bases(self) -> int:
        """Bases that were counted: all letters but N and other codes."""
        return int(self.full.sum()) + sum(int(head.sum()) for head in self.heads)

    def __add__(self, other: "BaseCounts") -> "BaseCounts":
        return BaseCounts(self.full + other.full, tuple(a + b for a, b in zip(self.heads, other.heads, strict=True)))

    def list_tables(self) -> list[np.ndarray]:
        """Return for the orders 0 ... K the counts of each base behind each context of so many, int64 [4**j, 4]."""
        tables = [self.full]
        for head in reversed(self.heads):
            tables.append(tables[-1].reshape(4, -1).sum(axis=0) + head)
        return [table.reshape(-1, 4) for table in reversed(tables)]


def count_bases(pieces: Iterable[np.ndarray], order: int = 8, both_strands: bool = False) -> BaseCounts:
    """Count the bases of some pieces behind each context; memory does not grow with them.

    Args:
        pieces: uint8 [n] each, ASCII letters; case is ignored, U is T, contexts do not go over another letter or from
            one piece to the next.
        order: bases before a base, 0 to 10.
        both_strands: whether the reverse complement of each piece is counted as well.

    Raises:
        `InputError`: another order.
    """
    _check_order(order)
    full = np.zeros(4 ** (order + 1), dtype=np.int64)
    heads = [np.zeros(4 ** (j + 1), dtype=np.int64) for j in range(order)]
    for piece in _join_short(pieces):
        for start in range(0, len(piece), _CHUNK):
            own = min(_CHUNK, len(piece) - start)
            before = min(start, order)
            _add(read_codes(piece[start - before : start + own]), before, full, heads)
            if both_strands:
                codes = read_codes(piece[start : start + own + order])
                _add(np.where(codes == NO_BASE, NO_BASE, 3 - codes)[::-1], len(codes) - own, full, heads)
    return BaseCounts(full, tuple(heads))


def _join_short(pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield short pieces together, an N between them: each count has a price, whatever there is to count."""
    short: list[np.ndarray] = []
    size = 0
    for piece in pieces:
        if len(piece) >= _CHUNK:
            yield piece
            continue
        short += [piece, _BREAK]
        size += len(piece) + 1
        if size >= _CHUNK:
            yield np.concatenate(short)
            short, size = [], 0
    if short:
        yield np.concatenate(short)


def _add(codes: np.ndarray, before: int, full: np.ndarray, heads: Sequence[np.ndarray]) -> None:
    """Count the bases of a chunk, whose first `before` codes are context alone."""
    order = len(heads)
    numbers, ages = _number_contexts(codes, order)
    numbers, ages = numbers[before:], ages[before:]
    full += np.bincount(numbers[ages > order], minlength=len(full))
    few = np.flatnonzero(ages <= order)
    for j, head in enumerate(heads):
        head += np.bincount(numbers[few[ages[few] == j + 1]] % len(head), minlength=len(head))


def _number_contexts(codes: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Number of each base with its context, int32 [n], and how many bases it ends: 0 for an N, at most order + 1."""
    places = np.arange(len(codes), dtype=np.int32)
    is_base = codes != NO_BASE
    last = np.maximum.accumulate(np.where(is_base, -1, places))
    ages = np.minimum(places - last, order + 1)
    digits = np.where(is_base, codes, 0).astype(np.int32)
    numbers = digits.copy()
    for shift in range(1, order + 1):
        numbers[shift:] += digits[:-shift] << (2 * shift)
    return numbers, ages


class MarkovModel:
    """Probabilities of a base behind the bases before it, as bits.

    Where fewer than K bases stand before a base, it has the probability of that lower order.

    Attributes:
        order: K.
        costs: for the orders j = 0 ... K, float64 [4**(j+1)]: bits of a base behind a context, -log2 of its
            probability; always finite.
    """

    def __init__(self, counts: BaseCounts, smoothing: Smoothing = "dirichlet"):
        """Fit the models of all orders to counts.

        Args:
            counts: of training letters; none at all give 2 bits a base.
            smoothing: what a context that was seen too rarely falls back on.
                `"dirichlet"`: n counts of a context and s of the next lower order, down to 1/4 each (MacKay and Peto
                1995, doi:10.1017/S1351324900000218); s, one for each order, is the power of two from 1 to 4,096 under
                which the training bases, each left out of the counts in turn, need the fewest bits. Where these repeat
                each other, s is too small: ask lower orders as well.
                `"witten_bell"`: likewise, but s is the number of kinds of bases that the context was seen with, at most
                4 (Witten and Bell 1991, doi:10.1109/18.87000, method C, interpolated as in Chen and Goodman 1999,
                doi:10.1006/csla.1999.0128). Made for words: with four letters the highest orders fit too closely.
                A number above 0: it is added to each count, there are no lower orders. 1 is Laplace's, 0.5 that of
                Krichevsky and Trofimov (1981, doi:10.1109/TIT.1981.1056331).

        Raises:
            `InputError`: another smoothing.
        """
        is_number = isinstance(smoothing, int | float) and 0 < smoothing < float("inf")
        if smoothing not in ("dirichlet", "witten_bell") and not is_number:
            raise InputError(
                f'smoothing={smoothing!r}: give "dirichlet", "witten_bell", or a number above 0 that is added to counts'
            )
        self.order = counts.order
        self.costs: list[np.ndarray] = []
        uniform = lower = np.full((1, 4), 0.25)
        for table in counts.list_tables():
            strength: float | np.ndarray
            # The rows of the lower order, four times over: a context without its first base.
            lower = np.tile(lower, (len(table) // len(lower), 1))
            if smoothing == "dirichlet":
                strength = _choose_strength(table, lower)
            elif smoothing == "witten_bell":
                strength = np.maximum((table > 0).sum(axis=1, keepdims=True), 1)
            else:
                strength, lower = 4 * float(smoothing), np.tile(uniform, (len(table), 1))
            lower = (table + strength * lower) / (table.sum(axis=1, keepdims=True) + strength)
            self.costs.append(-np.log2(lower).ravel())

    def measure_bits(self, counts: BaseCounts, order: int | None = None) -> float:
        """Return the bits of all bases that were counted; divide them by `counts.bases`.

        Args:
            counts: of held-out letters, of this order or a higher one.
            order: of the model that is asked, by default the highest.

        Raises:
            `InputError`: an order that there is not.
        """
        order = self._check_order(order)
        if counts.order < order:
            raise InputError(f"these letters were counted up to order {counts.order}: the model has {order}")
        heads = sum(float(head @ costs) for head, costs in zip(counts.heads, self.costs[:order]))
        return heads + float(counts.list_tables()[order].ravel() @ self.costs[order])

    def score_bases(self, letters: np.ndarray, order: int | None = None) -> np.ndarray:
        """Return the bits of each base, float64 [n]; NaN where there is none.

        Args:
            letters: uint8 [n], ASCII.
            order: of the model that is asked, by default the highest.

        Raises:
            `InputError`: an order that there is not.
        """
        order = self._check_order(order)
        numbers, ages = _number_contexts(read_codes(letters), order)
        bits = np.full(len(numbers), np.nan)
        for j, costs in enumerate(self.costs[: order + 1]):
            here = ages == j + 1
            bits[here] = costs[numbers[here] % len(costs)]
        return bits

    def _check_order(self, order: int | None) -> int:
        if order is None:
            return self.order
        _check_order(order)
        if order > self.order:
            raise InputError(f"order={order}: the letters were counted up to order {self.order}")
        return order


def _choose_strength(table: np.ndarray, lower: np.ndarray) -> float:
    """Return how many bases the lower order counts: under which the counted bases, each left out in turn, cost least.

    Args:
        table: int64 [contexts, 4], how often each base stood there.
        lower: float64 [contexts, 4], its probability by the lower order.
    """
    context, base = np.nonzero(table)
    times, chance = table[context, base], lower[context, base]
    others = table.sum(axis=1)[context] - 1
    bits = [-(times @ np.log2((times - 1 + one * chance) / (others + one))) for one in _STRENGTHS]
    return float(_STRENGTHS[int(np.argmin(bits))])


def _check_order(order: int) -> None:
    if not 0 <= order <= HIGHEST_ORDER:
        raise InputError(f"order={order}: give the bases before a base that are known, 0 to {HIGHEST_ORDER}")


__all__ = ["HIGHEST_ORDER", "BaseCounts", "MarkovModel", "Smoothing", "count_bases"]
