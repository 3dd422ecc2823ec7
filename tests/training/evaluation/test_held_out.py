"""The same windows each time: even among contigs, none over another, no more than asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengram.errors import InputError
from gengram.training.evaluation.held_out import choose_windows, share_evenly, space_evenly


def list_windows(windows):
    return list(zip(windows.contig.tolist(), windows.start.tolist(), windows.end.tolist()))


def test_segments_are_tiled_and_short_ones_are_whole(corpus):
    windows = choose_windows(corpus, 200)
    assert list_windows(windows) == [
        *((1, start, start + 200) for start in range(0, 1_000, 200)),
        (2, 0, 200),
        (3, 0, 90),
    ]
    assert set(windows.strand) == {0} and set(windows.haplotype) == {-1}


def test_each_contig_gives_equally_many(corpus):
    assert list_windows(choose_windows(corpus, 50, bases=300)) == [
        (1, 250, 300),
        (1, 750, 800),
        (2, 50, 100),
        (2, 150, 200),
        (2, 250, 300),
        (3, 0, 50),
    ]
    assert len(choose_windows(corpus, 50, bases=1).contig) == 1
    assert list_windows(choose_windows(corpus, 400, split="test")) == [(4, 0, 400)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 1}, "2 bp or more"),
        ({"length": 10, "bases": 0}, "0 bases"),
        ({"length": 10, "split": "valid"}, "split='valid'"),
    ],
)
def test_what_cannot_be_is_refused(corpus, options, message):
    with pytest.raises(InputError, match=message):
        choose_windows(corpus, **options)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20), st.integers(0, 300))
def test_shares_are_even(counts, total):
    shares = share_evenly(counts, total)
    assert shares.sum() == min(total, sum(counts))
    assert (shares <= counts).all()
    # Nobody who could have had more has less than another by two.
    able = shares < np.array(counts)
    assert not able.any() or shares.max() - shares[able].min() <= 1


@given(st.integers(1, 200), st.integers(1, 200))
def test_places_are_different(count, chosen):
    chosen = min(count, chosen)
    places = space_evenly(count, chosen)
    assert len(set(places.tolist())) == chosen and places.min() >= 0 and places.max() < count
