"""Rows that overlap are of one split, whatever the blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gengram.benchmarks.builders.splits import TEST, TRAIN, VALIDATION, Division, divide_rows
from gengram.errors import InputError

ROWS = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 900), st.integers(1, 400), st.integers(0, 2)),
    min_size=1,
    max_size=40,
)


@settings(max_examples=40, deadline=None)
@given(ROWS, st.integers(1, 300), st.integers(0, 5))
def test_no_base_is_in_two_splits(rows, block, seed):
    contigs = [row[0] for row in rows]
    starts = np.array([row[1] for row in rows])
    ends = starts + [row[2] for row in rows]
    labels = np.array([row[3] for row in rows])
    try:
        splits = divide_rows(contigs, starts, ends, labels, Division(block, 0.2, 0.1, seed))
    except InputError as error:
        assert "smaller --block" in str(error)
        return
    for one in range(len(rows)):
        for other in range(one):
            overlap = contigs[one] == contigs[other] and starts[one] < ends[other] and starts[other] < ends[one]
            if overlap and splits[one] >= 0 and splits[other] >= 0:
                assert splits[one] == splits[other]


def test_shares_are_met_and_a_seed_repeats():
    rng = np.random.default_rng(1)
    starts = np.sort(rng.integers(0, 1_000_000, 4000))
    labels = rng.integers(0, 3, 4000)
    divide = [divide_rows(["a"] * 4000, starts, starts + 50, labels, Division(10_000, 0.2, 0.1, 7)) for _ in range(2)]
    assert (divide[0] == divide[1]).all()
    for label in range(3):
        of_class = divide[0][labels == label]
        assert abs((of_class == TEST).mean() - 0.2) < 0.04 and abs((of_class == VALIDATION).mean() - 0.1) < 0.04


def test_contigs_and_blocks_together():
    contigs = ["a"] * 50 + ["b"] * 50
    starts = np.tile(np.arange(50) * 100, 2)
    labels = np.zeros(100, dtype=np.int64)
    splits = divide_rows(contigs, starts, starts + 50, labels, Division(500, 0.2, 0.2, 0), test_contigs=["b"])
    assert (splits[50:] == TEST).all() and set(splits[:50]) == {TRAIN, VALIDATION}


def test_too_few_blocks_and_a_contig_of_two_splits_are_told():
    arguments = (["a"] * 3, np.arange(3) * 10, np.arange(3) * 10 + 5, np.zeros(3, dtype=np.int64))
    with pytest.raises(InputError, match="1 block of 250,000 bp, and 3 splits need one each; give a smaller --block"):
        divide_rows(*arguments, Division(250_000, 0.2, 0.1, 0))
    with pytest.raises(InputError, match="'a' is in --test_contigs and in --validation_contigs"):
        divide_rows(*arguments, Division(5, 0.2, 0.1, 0), ["a"], ["a"])
    with pytest.raises(InputError, match="together they must be below 1"):
        divide_rows(*arguments, Division(5, 0.5, 0.5, 0))
