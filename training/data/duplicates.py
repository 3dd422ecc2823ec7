"""Which sequences are the same, or nearly? Groups of rows that must not be on both sides of a split.

Two sequences are nearly the same if the sets of their canonical k-mers (a k-mer and its reverse complement are one)
have a Jaccard similarity of 0.9 or more. Candidates are found by MinHash (Broder 1997, doi:10.1109/SEQUEN.1997.666900):
pairs of minimal hashes are keys, sequences that share a key are candidates, and every candidate is checked exactly.
"""

import math
from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from scipy.sparse import csr_matrix

from gengram.genome.alphabet import reverse_complement
from gengram.training.arguments import SIMILARITY

# With 12 keys of 2 minimal hashes each, a pair of similarity 0.9 shares no key with probability (1 - 0.9^2)^12 = 2e-9.
_KEYS, _HASHES_A_KEY = 12, 2
# Odd 64-bit multipliers from fixed random bits: a multiplication modulo 2^64, mixed by shifts, orders the k-mers anew.
_MULTIPLIERS = np.random.default_rng(20240607).integers(2**63, size=_KEYS * _HASHES_A_KEY, dtype=np.uint64) | np.uint64(
    1
)
_CODES = np.full(256, 4, dtype=np.uint8)
_CODES[np.frombuffer(b"ACGTacgtUu", dtype=np.uint8)] = [0, 1, 2, 3, 0, 1, 2, 3, 3, 3]


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
    folded = [fold_strands(sequence) for sequence in sequences]
    names = list(dict.fromkeys(folded))
    position = {name: number for number, name in enumerate(names)}
    parents = np.arange(len(names))
    if similarity < 1 and names:
        kmer_size = choose_kmer_size(float(np.median([len(name) for name in names])))
        kmers = [list_kmers(name, kmer_size) for name in names]
        _join_similar(kmers, similarity, parents)
    roots = np.array([_find_root(parents, position[name]) for name in folded])
    _, first, numbers = np.unique(roots, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[numbers]


def list_kmers(sequence: str, k: int) -> np.ndarray:
    """Return the distinct canonical k-mers of a sequence as sorted uint64 numbers, without those with other letters.

    Args:
        sequence: any case, `U` is `T`.
        k: 1 to 31.
    """
    codes = _CODES[np.frombuffer(sequence.encode("ascii", "replace"), dtype=np.uint8)]
    places = len(codes) - k + 1
    if places < 1:
        return np.empty(0, dtype=np.uint64)
    forward, backward, valid = (np.zeros(places, dtype=np.uint64) for _ in range(3))
    for offset in range(k):
        letters = codes[offset : offset + places].astype(np.uint64)
        forward = forward << np.uint64(2) | letters & np.uint64(3)
        backward |= (np.uint64(3) - (letters & np.uint64(3))) << np.uint64(2 * offset)
        valid += letters > 3
    return np.unique(np.minimum(forward, backward)[valid == 0])


def count_duplicates(first: Iterable[str], second: Iterable[str]) -> dict[str, int]:
    """Count rows of the second split that the first one has too.

    Returns:
        `exact`: rows whose sequence is in the first split, case and `U` aside; `reverse_complement`: further rows whose
        reverse complement is.
    """
    forward = {sequence.upper().replace("U", "T") for sequence in first}
    folded = {fold_strands(sequence) for sequence in forward}
    exact = both = 0
    for sequence in second:
        exact += sequence.upper().replace("U", "T") in forward
        both += fold_strands(sequence) in folded
    return {"exact": exact, "reverse_complement": both - exact}


def _join_similar(kmers: list[np.ndarray], similarity: float, parents: np.ndarray) -> None:
    minima = np.full((len(kmers), len(_MULTIPLIERS)), np.iinfo(np.uint64).max, dtype=np.uint64)
    for row, numbers in enumerate(kmers):
        if len(numbers):
            for column, multiplier in enumerate(_MULTIPLIERS):
                mixed = (numbers + np.uint64(1)) * multiplier
                minima[row, column] = (mixed ^ mixed >> np.uint64(32)).min()
    sizes = np.array([len(numbers) for numbers in kmers])
    for key in range(_KEYS):
        pair = minima[:, key * _HASHES_A_KEY : (key + 1) * _HASHES_A_KEY]
        buckets = defaultdict(list)
        for row, hashes in enumerate(map(bytes, np.ascontiguousarray(pair))):
            if sizes[row]:
                buckets[hashes].append(row)
        earlier = minima[:, : key * _HASHES_A_KEY].reshape(len(kmers), key, _HASHES_A_KEY)
        for members in buckets.values():
            if len(members) > 1:
                _join_bucket(np.array(members), kmers, sizes, earlier, similarity, parents)


def _join_bucket(
    members: np.ndarray,
    kmers: list[np.ndarray],
    sizes: np.ndarray,
    earlier: np.ndarray,
    similarity: float,
    parents: np.ndarray,
) -> None:
    """Check the pairs of rows that share a key, each row with all others at once; `earlier` are the keys (N, keys,
    hashes) before this one: a pair that shares one of those has been checked."""
    if len(set(_find_roots(parents, members).tolist())) == 1:
        return
    _, columns = np.unique(np.concatenate([kmers[row] for row in members]), return_inverse=True)
    ends = np.cumsum([0, *sizes[members]])
    # Which k-mers each row has, as a matrix of ones.
    presence = csr_matrix((np.ones(len(columns), dtype=np.int32), columns, ends))
    for place, row in enumerate(members[:-1]):
        others = members[place + 1 :]
        # Sets whose sizes differ too much cannot be similar.
        small, large = np.minimum(sizes[others], sizes[row]), np.maximum(sizes[others], sizes[row])
        apart = _find_roots(parents, others) != _find_root(parents, row)
        places = place + 1 + np.flatnonzero(apart & (small >= similarity * large))
        others = members[places]
        known = (earlier[others] == earlier[row]).all(axis=2).any(axis=1)
        places, others = places[~known], others[~known]
        if len(places):
            shared = presence[places] @ presence[[place]].toarray()[0]
            for other in others[shared >= similarity * (sizes[row] + sizes[others] - shared)]:
                one, two = _find_root(parents, row), _find_root(parents, other)
                parents[max(one, two)] = min(one, two)


def _find_roots(parents: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    roots = parents[numbers]
    while (parents[roots] != roots).any():
        roots = parents[roots]
    parents[numbers] = roots
    return roots


def _find_root(parents: np.ndarray, number: int) -> int:
    while parents[number] != number:
        parents[number] = number = parents[parents[number]]
    return int(number)


__all__ = ["SIMILARITY", "choose_kmer_size", "count_duplicates", "fold_strands", "group_sequences", "list_kmers"]
