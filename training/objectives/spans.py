"""Which runs of tokens are hidden together: runs of random lengths at random places, none over another."""

import numpy as np

from gengram.errors import InputError
from gengram.training.objectives.options import is_number

_RAREST = 1e-9  # geometric lengths that are rarer than this are left out


def list_lengths(kind: str, length: float) -> np.ndarray:
    """Return the cumulative probabilities of the lengths 1, 2, 3 ... of runs, float64 [longest].

    Args:
        kind: `"words"`: always `length`; `"ngrams"`: 1 to `length`, in proportion to 1, 1/2, 1/3 ...; `"spans"`:
            geometric with mean `length`.
        length: tokens, at least 1; a whole number but for `"spans"`.

    Raises:
        `InputError`: another length.
    """
    if not is_number(length) or not 1 <= length < 10_000 or (kind != "spans" and length != int(length)):
        what = "the mean length of spans" if kind == "spans" else f"a whole number, the length of {kind}"
        raise InputError(f"length={length!r}: give {what} in tokens, 1 or more")
    chances: np.ndarray
    if kind == "words":
        chances = np.zeros(int(length))
        chances[-1] = 1
    elif kind == "ngrams":
        chances = 1 / np.arange(1, int(length) + 1)
    else:
        longest = 1 if length == 1 else int(np.ceil(np.log(_RAREST) / np.log1p(-1 / length)))
        chances = (1 - 1 / length) ** np.arange(longest)
    return np.cumsum(chances / chances.sum())


def measure_room(can_be: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return how many tokens from each one on can be hidden together, int64 [T]: 0 where it cannot be itself.

    Args:
        can_be: booleans [T], which tokens can be hidden.
        starts: booleans [T], where documents begin: no run goes over it.
    """
    ends = can_be.copy()
    ends[:-1] &= ~can_be[1:] | starts[1:]
    places = np.flatnonzero(ends)
    room = np.zeros(len(can_be), dtype=np.int64)
    inside = np.flatnonzero(can_be)
    room[inside] = places[np.searchsorted(places, inside)] - inside + 1
    return room


def choose_spans(
    room: np.ndarray, chances: np.ndarray, budget: int, random: np.random.Generator, cuts: bool, reach: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Choose runs until `budget` tokens are chosen; where no run fits any more, tokens alone if runs may be cut.

    As in Megatron's n-gram masking: every token that can be hidden begins a run once, in random order; its length is
    drawn from those that fit; a run over one that came before is left out.

    Args:
        room: int64 [T] of `measure_room`, somewhere above 0.
        chances: of `list_lengths`.
        budget: tokens, at least 1.
        random: what is drawn comes from here.
        cuts: whether the run that goes over the budget is cut; otherwise the choice ends before it, unless it is the
            first.
        reach: how many tokens before the first of a stretch a run may begin; what is before the stretch is cut off. So
            many runs cover its first tokens as its others.

    Returns:
        Indices of the chosen tokens, sorted, and the number of the run of each, int64 both.
    """
    first, last = _list_candidates(room, chances, random, reach)
    owner = np.full(len(room), -1, dtype=np.int64)
    taken, done, runs = 0, 0, 0
    while taken < budget and done < len(first):
        # About as many as are missing, and some more; the rest of the order is looked at only if they do not do.
        size = max(16, int(1.5 * (budget - taken) / (np.mean(last[done : done + 64] - first[done : done + 64]) + 1)))
        begins, ends = first[done : done + size], last[done : done + size]
        done += size
        kept = _keep_apart(begins, ends, owner >= 0)
        begins, counts = begins[kept], ends[kept] - begins[kept] + 1
        total = taken + np.cumsum(counts)
        fits = int(np.searchsorted(total, budget, side="right"))
        over = fits < len(counts)
        if over and cuts:
            counts[fits] -= total[fits] - budget
        if over and (cuts or not (runs or fits)):
            fits += int(counts[fits] > 0)
        begins, counts = begins[:fits], counts[:fits]
        owner[_spread(begins, counts)] = np.repeat(np.arange(runs, runs + len(counts)), counts)
        taken, runs = taken + int(counts.sum()), runs + len(counts)
        if over:
            break
    if cuts and taken < budget:
        alone = random.permutation(np.flatnonzero((room > 0) & (owner < 0)))[: budget - taken]
        owner[alone] = np.arange(runs, runs + len(alone))
    chosen = np.flatnonzero(owner >= 0)
    return chosen, owner[chosen]


def _list_candidates(
    room: np.ndarray, chances: np.ndarray, random: np.random.Generator, reach: int
) -> tuple[np.ndarray, np.ndarray]:
    """First and last token of every run that could be, in random order."""
    inside = np.flatnonzero(room)
    begins, fit = inside, room[inside]
    if reach:
        heads = inside[np.r_[True, (np.diff(inside) > 1) | (np.diff(room[inside]) != -1)]]
        before = (heads[:, None] - np.arange(1, reach + 1)).ravel()
        begins = np.concatenate([begins, before])
        fit = np.concatenate([fit, np.repeat(room[heads], reach) + np.tile(np.arange(1, reach + 1), len(heads))])
    order = random.permutation(len(begins))
    begins, fit = begins[order], fit[order]
    total = chances[np.minimum(fit, len(chances)) - 1]
    # Fixed lengths that do not fit are cut to what does.
    lengths = np.searchsorted(chances, random.random(len(begins)) * total, side="right") + 1
    lasts = begins + np.minimum(lengths, fit) - 1
    if reach:
        lows = np.concatenate([inside, np.repeat(heads, reach)])[order]
        begins = np.maximum(begins, lows)
        some = lasts >= begins
        begins, lasts = begins[some], lasts[some]
    return begins, lasts


def _keep_apart(begins: np.ndarray, ends: np.ndarray, is_taken: np.ndarray) -> np.ndarray:
    """Return the indices of runs that touch no taken token and none of a kept run before them, sorted.

    The result of going through them one by one, found in a few rounds: a run whose tokens no open run before it has is
    kept, and open runs over a kept one fall.
    """
    numbers = np.arange(len(begins))
    counts = ends - begins + 1
    places, owners = _spread(begins, counts), np.repeat(numbers, counts)
    falls = np.zeros(len(begins), dtype=bool)
    falls[owners[is_taken[places]]] = True
    kept = np.zeros(len(begins), dtype=bool)
    rank = np.empty(len(is_taken), dtype=np.int64)
    while True:
        open_ = ~(falls | kept)[owners]
        places, owners = places[open_], owners[open_]
        if not len(places):
            return np.flatnonzero(kept)
        rank[places[::-1]] = owners[::-1]  # of those at a place the first one is written last
        is_first = np.ones(len(begins), dtype=bool)
        is_first[owners[rank[places] != owners]] = False
        new = np.zeros(len(begins), dtype=bool)
        new[owners] = is_first[owners]
        kept |= new
        held = np.zeros(len(is_taken), dtype=bool)
        held[places[new[owners]]] = True
        falls[owners[held[places] & ~new[owners]]] = True


def _spread(begins: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return begins[i], begins[i] + 1, ..., counts[i] of them for each i."""
    before = np.cumsum(counts) - counts
    return np.repeat(begins - before, counts) + np.arange(int(counts.sum()))


__all__ = ["choose_spans", "list_lengths", "measure_room"]
