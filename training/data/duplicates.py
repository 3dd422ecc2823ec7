"""Which sequences are the same, or nearly? Groups of rows that must not be on both sides of a split.

Two sequences are nearly the same if the sets of their canonical k-mers (a k-mer and its reverse complement are one)
have a Jaccard similarity of 0.9 or more. Candidates are those that share a key of their MinHash sketches
(`gengram.training.data.minhash`); those whose sketches are alike are checked exactly.
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components

from gengram.genome.alphabet import IUPAC_BASES, reverse_complement
from gengram.progress import track
from gengram.training.arguments import SIMILARITY
from gengram.training.data.minhash import find_kmers, list_blocks, sketch_sequences, sketch_with_keys
from gengram.training.data.trees import find_roots, join_trees
from gengram.training.data.variants import PAIRS, SMALL, Variants, list_close_pairs

_MANY = 1024  # rows of one key from which on they are taken for variants of one sequence
_COMMON = 0.25  # share of the rows of two such keys that both have, where they are of the same variants
_HASHES = 512  # of rows many of which share keys, as those of a library of variants do
_LETTERS = 1 << 23  # of sequences whose k-mers are kept while they are compared
_PART = 1 << 18  # letters that are folded together
_CODES = ("".join(IUPAC_BASES) + "\n").encode()


def fold_strands(sequence: str) -> str:
    """Return one name for a sequence and its reverse complement: the smaller of the two in alphabetic order.

    Case and RNA spelling (`U`) make no difference. A text with characters that have no complement stands for itself.
    """
    forward = sequence.upper().replace("U", "T")
    try:
        return min(forward, reverse_complement(forward))
    except ValueError:
        return forward


def choose_kmer_size(length: float) -> int:
    """Return the k at which k-mers of unrelated sequences of this length hardly meet by chance: log4(length) + 4."""
    return min(max(math.ceil(math.log(max(length, 1), 4)) + 4, 6), 31)


def group_sequences(sequences: Iterable[str], similarity: float = SIMILARITY) -> np.ndarray:
    """Give rows that are the same or nearly the same one number.

    A sequence, its reverse complement and their near-duplicates share a group, and so do the near-duplicates of those:
    groups are connected components. K-mers with letters other than A, C, G, T (U) do not count; a sequence without any
    other k-mer is only grouped with its copies.

    Args:
        sequences: N texts.
        similarity: the Jaccard similarity of canonical k-mers from which on two sequences are in one group; 1 means
            copies and reverse complements only. `k` follows from the median length, see `choose_kmer_size`.

    Returns:
        int64 (N,): groups numbered in the order of their first rows.
    """
    position: dict[str, int] = {}
    rows = np.fromiter((position.setdefault(name, len(position)) for _, name in _list_names(sequences)), dtype=np.int64)
    names = list(position)
    del position
    parents = np.arange(len(names))
    if similarity < 1 and names:
        kmer_size = choose_kmer_size(float(np.median([len(name) for name in names])))
        joining = _Joining(names, kmer_size, similarity, parents)
        joining.join_variants()
        for number in track(range(len(joining.keys)), desc="near-duplicates: keys", unit=" keys"):
            joining.join_by_key(number)
    roots = find_roots(parents, rows)
    _, first, numbers = np.unique(roots, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[numbers]


def list_kmers(sequence: str, k: int) -> np.ndarray:
    """Return the distinct canonical k-mers of a sequence as sorted uint64 numbers, without those with other letters.

    Args:
        sequence: any case, `U` is `T`.
        k: 1 to 31.
    """
    kmers, valid, _ = find_kmers([sequence], k)
    return np.unique(kmers[valid])


class Names(NamedTuple):
    """What stands for N sequences where they are compared: int64 (N,) hashes of their letters, case and `U` aside, and
    of `fold_strands`. Two of a million are taken for one another with a probability of 3e-8."""

    forward: np.ndarray
    folded: np.ndarray


def hash_sequences(sequences: Iterable[str]) -> Names:
    """Return the names by which sequences are compared."""
    pairs = ((hash(forward), hash(folded)) for forward, folded in _list_names(sequences))
    hashes = np.fromiter(itertools.chain.from_iterable(pairs), dtype=np.int64)
    return Names(hashes[::2], hashes[1::2])


def count_shared(first: Names, second: Names) -> dict[str, int]:
    """Count rows of the second split that the first one has too, see `count_duplicates`."""
    exact = int(np.isin(second.forward, first.forward).sum())
    return {"exact": exact, "reverse_complement": int(np.isin(second.folded, first.folded).sum()) - exact}


def count_duplicates(first: Iterable[str], second: Iterable[str]) -> dict[str, int]:
    """Count rows of the second split that the first one has too.

    Returns:
        `exact`: rows whose sequence is in the first split, case and `U` aside; `reverse_complement`: further rows whose
        reverse complement is.
    """
    return count_shared(hash_sequences(first), hash_sequences(second))


def _list_names(sequences: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each sequence, case and `U` aside, and `fold_strands` of it: many at once where all letters are codes."""
    for block in _list_parts(sequences):
        text = "\n".join(block).upper().replace("U", "T")
        if text.count("\n") >= len(block) or text.encode("ascii", "replace").translate(None, _CODES):
            yield from ((sequence.upper().replace("U", "T"), fold_strands(sequence)) for sequence in block)
            continue
        forward, backward = text.split("\n"), reverse_complement(text, keep_others=True).split("\n")
        yield from zip(forward, map(min, forward, reversed(backward)), strict=True)


def _list_parts(sequences: Iterable[str]) -> Iterator[list[str]]:
    part, letters = list[str](), 0
    for sequence in sequences:
        part.append(sequence)
        letters += len(sequence)
        if letters >= _PART:
            yield part
            part, letters = [], 0
    if part:
        yield part


class _Joining:
    """Joins the trees of rows that are similar.

    Args:
        names: N distinct sequences.
        k: see `find_kmers`.
        similarity: from which on two are joined.
        parents: int64 (N,), changed.
    """

    def __init__(self, names: list[str], k: int, similarity: float, parents: np.ndarray):
        self.names, self.k, self.similarity, self.parents = names, k, similarity, parents
        self.sketches, self.keys, has_kmers = sketch_with_keys(names, k, similarity)
        self.rows = np.flatnonzero(has_kmers)
        self.settled = np.arange(len(names))  # rows with one number have been compared with each other

    def join_variants(self) -> None:
        """Look at keys that very many rows have, together with the others that most of those rows have."""
        buckets = []
        for keys in self.keys if len(self.rows) > _MANY else []:
            distinct, counts = np.unique(keys[self.rows], return_counts=True)
            buckets += [self.rows[keys[self.rows] == key] for key in distinct[counts > _MANY]]
        if not buckets:
            return
        sizes = np.array([len(bucket) for bucket in buckets])
        owners = np.repeat(np.arange(len(buckets)), sizes)
        has = csr_matrix((np.ones(sizes.sum(), dtype=np.int32), (owners, np.concatenate(buckets))))
        both = (has @ has.T).tocoo()
        same = both.data >= _COMMON * np.maximum(sizes[both.row], sizes[both.col])
        edges = coo_matrix((both.data[same], (both.row[same], both.col[same])), shape=both.shape)
        number, cluster = connected_components(edges, directed=False)
        clusters = [
            np.unique(np.concatenate([buckets[one] for one in np.flatnonzero(cluster == name)]))
            for name in range(number)
        ]
        for place, rows in enumerate(sorted(clusters, key=len)):
            if np.ptp(self.settled[rows]) and np.ptp(find_roots(self.parents, rows)):
                Variants([self.names[row] for row in rows], self.k, self.similarity).join(
                    rows, self.parents, self.settled
                )
                self.settled[rows] = len(self.names) + place

    def join_by_key(self, number: int) -> None:
        """Look at all rows that share the key of this number."""
        keys = self.keys[number][self.rows]
        order = np.argsort(keys, kind="stable")
        starts = np.flatnonzero(np.concatenate([[True], keys[order][1:] != keys[order][:-1]]))
        sizes = np.diff(np.concatenate([starts, [len(order)]]))
        rows = self.rows[order]
        for one, other in ((rows[one], rows[other]) for one, other in list_close_pairs(starts, sizes)):
            chosen = self._choose(one, other, number)
            members, places = np.unique(np.concatenate([one[chosen], other[chosen]]), return_inverse=True)
            self._join(members, *places.reshape(2, -1))
        for start, size in zip(starts[sizes > SMALL], sizes[sizes > SMALL], strict=True):
            self._join_many(rows[start : start + size], number)

    def _join_many(self, members: np.ndarray, number: int) -> None:
        """Look at the pairs of many rows that share a key: of one with all others, then of two, four and so on, as
        rows that are alike are soon in one tree and need no further look."""
        sketches = kmers = None
        first, step = 0, 1
        while first < len(members) - 1:
            roots = find_roots(self.parents, members[first:])
            settled = self.settled[members[first:]]
            if (roots == roots[0]).all() or (settled == settled[0]).all():
                return
            one, other = np.nonzero(np.triu((roots[:step, None] != roots) & (settled[:step, None] != settled)))
            one, other = first + one, first + other
            first, step = first + step, max(1, min(2 * step, PAIRS // len(members)))
            chosen = self._choose(members[one], members[other], number)
            if len(chosen) > SMALL and sketches is None:
                names = [self.names[row] for row in members]
                sketches = sketch_sequences(names, self.k, _HASHES, self.similarity)
                kmers = _KmerSets(names, self.k) if sum(map(len, names)) < _LETTERS else None
            if sketches is not None:
                chosen = chosen[sketches.are_alike(one[chosen], other[chosen])]
            self._join(members, one[chosen], other[chosen], kmers)

    def _choose(self, one: np.ndarray, other: np.ndarray, number: int) -> np.ndarray:
        """Return the places of those of P pairs of rows, which share the key of this number, that are in two trees,
        can be similar, and have not been looked at: a pair that shares an earlier key has been."""
        chosen = np.flatnonzero(self.settled[one] != self.settled[other])
        chosen = chosen[find_roots(self.parents, one[chosen]) != find_roots(self.parents, other[chosen])]
        chosen = chosen[self.sketches.are_alike(one[chosen], other[chosen])]
        known = (self.keys[:number, one[chosen]] == self.keys[:number, other[chosen]]).any(axis=0)
        return chosen[~known]

    def _join(self, members: np.ndarray, one: np.ndarray, other: np.ndarray, kmers: "_KmerSets | None" = None) -> None:
        """Join the similar ones of P pairs: places (P,) and (P,) in the rows `members`."""
        if not len(one):
            return
        if kmers is None:
            needed, places = np.unique(np.concatenate([one, other]), return_inverse=True)
            members, (one, other) = members[needed], places.reshape(2, -1)
            kmers = _KmerSets([self.names[row] for row in members], self.k)
        similar = kmers.measure_jaccard(one, other) >= self.similarity
        join_trees(self.parents, members[one[similar]], members[other[similar]])


class _KmerSets:
    """Which k-mers sequences have, as a sparse matrix of ones.

    Args:
        sequences: R texts.
        k: see `find_kmers`.
    """

    def __init__(self, sequences: list[str], k: int):
        kmers, rows = [], []
        for first, last in list_blocks(sequences):
            numbers, valid, starts = find_kmers(sequences[first:last], k)
            lengths = np.diff(starts, append=len(numbers))
            kmers.append(numbers[valid])
            rows.append(np.repeat(np.arange(first, last), lengths)[valid])
        distinct, columns = np.unique(np.concatenate(kmers), return_inverse=True)
        entries = np.sort(np.concatenate(rows) * len(distinct) + columns)
        entries = entries[np.diff(entries, prepend=-1) > 0]
        self.sizes = np.bincount(entries // len(distinct), minlength=len(sequences))
        ones = np.ones(len(entries), dtype=np.int32)
        ends = np.concatenate([[0], np.cumsum(self.sizes)])
        self.matrix = csr_matrix((ones, entries % len(distinct), ends), shape=(len(sequences), len(distinct)))

    def measure_jaccard(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Return the Jaccard similarity of P pairs, places (P,) and (P,) of the sequences: float64 (P,)."""
        shared = np.empty(len(one), dtype=np.int64)
        step = max(_LETTERS // int(self.sizes.max()) // 4, 1)
        for first in range(0, len(one), step):
            block = slice(first, first + step)
            both = self.matrix[one[block]].multiply(self.matrix[other[block]])
            shared[block] = np.asarray(both.sum(axis=1)).ravel()
        return shared / (self.sizes[one] + self.sizes[other] - shared)


__all__ = [
    "SIMILARITY",
    "Names",
    "choose_kmer_size",
    "count_duplicates",
    "count_shared",
    "fold_strands",
    "group_sequences",
    "hash_sequences",
    "list_kmers",
]
