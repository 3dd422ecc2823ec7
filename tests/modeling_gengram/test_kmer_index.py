"""Rows, lifetimes and counts of k-mers against plain Python on strings."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gengram.gengram.kmer_index import (
    KmerWindow,
    count_lifetimes,
    count_occurrences,
    find_documents,
    index_kmers,
    mirror_rows,
    shift,
)
from gengram.gengram.modeling_gengram import count_within

LETTERS = "ACGTN"
COMPLEMENT = dict(zip("ACGTN", "TGCAN"))


def to_letters(text: str) -> torch.Tensor:
    return torch.tensor([[LETTERS.find(letter) for letter in text]])


def to_row(kmer: str) -> int:
    row = 0
    for letter in kmer:  # leftmost most significant
        row = 5 * row + LETTERS.index(letter)
    return row


@settings(max_examples=60, deadline=None)
@given(st.text("ACGTN-", min_size=1, max_size=30), st.integers(1, 6), st.booleans())
def test_rows_are_base_five_of_the_bases_that_end_at_a_position(text, k, tie):
    rows, valid = index_kmers(to_letters(text), k, tie_reverse_complement=tie)
    for end in range(len(text)):
        kmer = text[max(end - k + 1, 0) : end + 1]
        complete = len(kmer) == k and "-" not in kmer
        assert bool(valid[0, end]) is complete
        if complete:
            row = to_row(kmer)
            if tie:
                row = min(row, to_row("".join(COMPLEMENT[letter] for letter in reversed(kmer))))
            assert int(rows[0, end]) == row


@pytest.mark.parametrize("k", [1, 2, 3])
def test_mirror_rows_pair_every_kmer_with_its_reverse_complement(k):
    rows = mirror_rows(k)
    assert rows.shape == (5**k,)
    assert torch.equal(rows[rows], rows)  # a representative represents itself
    assert int(rows[to_row("ACG"[:k])]) == min(to_row("ACG"[:k]), to_row("CGT"[3 - k :]))


def test_kmers_do_not_span_documents():
    letters = to_letters("ACGTACGT")
    documents = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1]])
    _, valid = index_kmers(letters, 3, documents)
    assert valid.tolist() == [[False, False, True, False, False, True, True, True]]


@settings(max_examples=80, deadline=None)
@given(
    st.text("ACN-", min_size=1, max_size=24),
    st.integers(1, 3),
    st.sampled_from([None, 3, 4, 7]),
    st.sampled_from([0, 1, -2]),
    st.booleans(),
    st.lists(st.integers(0, 23), max_size=3),
)
def test_lifetimes_and_counts_equal_sets_of_kmers_in_windows(text, k, size, first_lag, deduplicate, starts):
    """For every position, list the occurrences in its window on strings; lifetimes must select exactly those."""
    documents = [sum(start <= place for start in starts) for place in range(len(text))]
    window = KmerWindow((k,), size, first_lag, deduplicate, False)
    index = torch.tensor([documents])
    rows, valid = index_kmers(to_letters(text), k, index)
    first, last = count_lifetimes(rows, valid, k, window, index)
    counts = count_occurrences(first, last)
    places = 1 if size is None else size - k + 1
    lag0 = 0 if size is None else first_lag
    for t in range(len(text)):
        inside = [
            e
            for e in range(t - lag0 - places + 1, t - lag0 + 1)
            if 0 <= e < len(text)
            and e - k + 1 >= 0
            and "-" not in text[e - k + 1 : e + 1]
            and len(set(documents[e - k + 1 : e + 1]) | {documents[t]}) == 1
        ]
        if deduplicate:
            inside = list({text[e - k + 1 : e + 1]: e for e in inside}.values())  # the last copy
        selected = [e for e in range(len(text)) if int(first[0, e]) <= t - e <= int(last[0, e])]
        assert selected == sorted(inside)
        assert int(counts[0, t]) == len(inside)


def test_documents_begin_where_positions_start_anew():
    positions = torch.tensor([[0, 1, 2, 0, 1, 0], [3, 4, 5, 6, 7, 8]])
    assert find_documents(positions).tolist() == [[0, 0, 0, 1, 1, 2], [0, 0, 0, 0, 0, 0]]


def test_count_within_is_the_inverse_of_find_documents():
    numbers = torch.tensor([[4, 4, 4, 7, 7, 2]])
    assert count_within(numbers).tolist() == [[0, 1, 2, 0, 1, 0]]
    assert find_documents(count_within(numbers)).tolist() == [[0, 0, 0, 1, 1, 2]]


@pytest.mark.parametrize("lag", [-9, -2, 0, 1, 3, 9])
def test_shift_fills_what_does_not_exist(lag):
    x = torch.arange(4)[None]
    expected = [t - lag if 0 <= t - lag < 4 else -1 for t in range(4)]
    assert shift(x, lag, -1).tolist() == [expected]
