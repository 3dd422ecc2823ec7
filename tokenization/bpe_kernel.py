"""Byte-pair encoding in one pass from left to right, exact: what numba compiles.

Merging the pair of lowest rank again and again gives the one sequence of tokens whose neighbours are all compatible: a
pair (a, b) is, if encoding their joint text by merges gives a, b again. So tokens can be tried from the left, the
longest first, stepping back where nothing compatible follows. It needs ids in the order of the merges.
Source of the idea: the `bpe` crate of github/rust-gems.
"""

import numba
import numpy as np

BREAK = 255  # a letter that no token has: one unknown token
END = 254  # end of a sequence


@numba.njit(nogil=True, cache=True)
def _hash(left, right, mask):
    return ((np.uint32(left) * np.uint32(2654435769)) ^ (np.uint32(right) * np.uint32(2246822519))) >> np.uint32(
        9
    ) & mask


@numba.njit(nogil=True, cache=True)
def fill_pairs(left, right, merged, pairs):
    """Put the merges into an open-addressed table: int32 [slots, 4] full of -1, a power of two long."""
    mask = np.uint32(len(pairs) - 1)
    for i in range(len(left)):
        slot = _hash(left[i], right[i], mask)
        while pairs[slot, 0] >= 0:
            slot = (slot + np.uint32(1)) & mask
        pairs[slot, 0], pairs[slot, 1], pairs[slot, 2] = left[i], right[i], merged[i]


@numba.njit(nogil=True, cache=True)
def fill_starts(trie, letters, starts):
    """Fill `starts` of `encode`; `letters`: those of the four bases."""
    for code in range(len(starts)):
        node = 0
        token = np.int32(-1)
        for place in range(5, -1, -1):
            node = trie[node, letters[(code >> (2 * place)) & 3]]
            if node < 0:
                break
            if trie[node, -1] >= 0:
                token = trie[node, -1]
        starts[code, 0], starts[code, 1] = node, token


@numba.njit(nogil=True, cache=True)
def _find_pair(a, b, pairs):
    mask = np.uint32(len(pairs) - 1)
    slot = _hash(a, b, mask)
    while pairs[slot, 0] >= 0:
        if pairs[slot, 0] == a and pairs[slot, 1] == b:
            return pairs[slot, 2]
        slot = (slot + np.uint32(1)) & mask
    return np.int32(2147483647)


@numba.njit(nogil=True, cache=True)
def _are_compatible(a, b, lefts, rights, pairs):
    """Whether merges leave the border between the tokens alone; the later merge of the two is undone step by step."""
    limit = np.int32(2147483647)
    while True:
        if _find_pair(a, b, pairs) < limit:
            return False
        if a > b:
            limit = a
            a = rights[a]
            if a == limit:  # a base: it has no right half
                limit = b + 1
                b = lefts[b]
                if b + 1 == limit:
                    return True
        else:
            limit = b + 1
            b = lefts[b]
            if b + 1 == limit:
                limit = a
                a = rights[a]
                if a == limit:
                    return True


@numba.njit(nogil=True, cache=True)
def encode(
    letters,
    trie,
    starts,
    bases,
    lengths,
    shorter,
    lefts,
    rights,
    pairs,
    any_letter,
    gap,
    shortest_gap,
    unknown,
    ids,
    stops,
):
    """
    Encode sequences that lie one after the other.

    Args:
        letters: uint8 [N], the letter of each character, `BREAK` where no token has it, `END` after each sequence.
        trie: int32 [nodes, letters + 1], the next node or -1; in the last column the token that ends at a node, or -1.
        starts: int32 [4**6, 2], for each six bases the node that they lead to, or -1, and the longest token in them.
        bases: uint8 [256], number of a letter that is a base, else 4.
        lengths: int32 [V], letters of each token.
        shorter: int32 [V], the longest token that a token begins with, or -1.
        lefts, rights: int32 [V], the halves of a token; itself for a letter.
        pairs: the merges, of `fill_pairs`.
        any_letter, gap, shortest_gap: a run of at least so many of this letter is one token; gap -1: it is not.
        unknown: token of a `BREAK`.
        ids, stops: int32 [N], int64 [N], filled with the tokens and where each ends.

    Returns:
        The number of tokens.
    """
    count = 0
    N = len(letters)
    ends = trie.shape[1] - 1
    dead = np.zeros(N + 1, dtype=np.uint8)
    begin = 0
    while begin < N:
        letter = letters[begin]
        if letter >= END:
            if letter == BREAK:
                ids[count] = unknown
                stops[count] = begin + 1
                count += 1
            begin += 1
            continue
        # A word: up to the next break, end or gap.
        end = begin
        run = 0
        gap_length = 0
        while end < N and letters[end] < END:
            if gap >= 0 and letters[end] == any_letter:
                run += 1
                if run == shortest_gap:
                    gap_length = run
                    end += 1
                    while end < N and letters[end] == any_letter:
                        gap_length += 1
                        end += 1
                    break
            else:
                run = 0
            end += 1
        stop = end - gap_length
        first = count
        position = begin
        while position < stop:
            # The longest token from here.
            node = 0
            token = np.int32(-1)
            walk = position
            if position + 6 <= stop:
                code = 0
                for i in range(position, position + 6):
                    base = bases[letters[i]]
                    code = -1 if code < 0 or base > 3 else 4 * code + base
                if code >= 0:
                    node, token = starts[code, 0], starts[code, 1]
                    walk = position + 6 if node >= 0 else stop
            while walk < stop:
                node = trie[node, letters[walk]]
                if node < 0:
                    break
                walk += 1
                if trie[node, ends] >= 0:
                    token = trie[node, ends]
            while True:
                if token >= 0:
                    after = position + lengths[token]
                    fits = dead[after] == 0
                    if fits and count > first:
                        fits = _are_compatible(ids[count - 1], token, lefts, rights, pairs)
                    if fits:
                        ids[count] = token
                        stops[count] = after
                        count += 1
                        position = after
                        break
                    token = shorter[token]
                else:
                    # Nothing follows here: what came before was wrong.
                    dead[position] = 1
                    count -= 1
                    token = ids[count]
                    position -= lengths[token]
                    token = shorter[token]
        if gap_length:
            ids[count] = gap
            stops[count] = end
            count += 1
        begin = end
    return count


def build_tables(tokens: dict[str, int], alphabet: dict[str, int], merges: np.ndarray) -> tuple[np.ndarray, ...]:
    """Build the arrays of `encode`, from `trie` to `pairs`.

    Args:
        tokens: ids of all tokens that letters or merges give.
        alphabet: number of each letter, below `END`.
        merges: int32 [M, 3]: left half, right half, merged token.
    """
    size = max(tokens.values()) + 1
    nodes: list[dict[int, int]] = [{}]
    ends = [-1]
    lengths, shorter = np.zeros(size, dtype=np.int32), np.full(size, -1, dtype=np.int32)
    for token, index in sorted(tokens.items(), key=lambda item: len(item[0])):
        node, longest = 0, -1
        for letter in token:
            step = nodes[node].get(alphabet[letter])
            if step is None:
                step = nodes[node][alphabet[letter]] = len(nodes)
                nodes.append({})
                ends.append(-1)
            node = step
            longest = ends[node] if ends[node] >= 0 else longest
        ends[node] = index
        lengths[index], shorter[index] = len(token), longest
    trie = np.full((len(nodes), max(len(alphabet) + 1, 16)), -1, dtype=np.int32)  # a row is a cache line or more
    trie[:, -1] = ends
    for node, steps in enumerate(nodes):
        for number, step in steps.items():
            trie[node, number] = step
    bases = np.full(256, 4, dtype=np.uint8)
    starts = np.full((4**6, 2), -1, dtype=np.int32)
    if alphabet.keys() >= set("ACGT"):
        letters = np.array([alphabet[base] for base in "ACGT"])
        bases[letters] = range(4)
        fill_starts(trie, letters, starts)
    lefts, rights = np.arange(size, dtype=np.int32), np.arange(size, dtype=np.int32)
    lefts[merges[:, 2]], rights[merges[:, 2]] = merges[:, 0], merges[:, 1]
    pairs = np.full((1 << max(4, (2 * len(merges)).bit_length()), 4), -1, dtype=np.int32)
    left, right, merged = (np.ascontiguousarray(column) for column in merges.T)
    fill_pairs(left, right, merged, pairs)
    return trie, starts, bases, lengths, shorter, lefts, rights, pairs


__all__ = ["BREAK", "END", "build_tables", "encode"]
