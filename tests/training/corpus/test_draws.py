"""Numbers of blocks: uniform, independent, functions of their place."""

from collections import Counter

import numpy as np
import pytest
from scipy import stats

from gengram.training.corpus.draws import Permutation, draw_uniform, hash_stream, make_generator

NUMBERS = np.arange(20_000)


def test_numbers_are_uniform():
    drawn = draw_uniform(0, "windows", NUMBERS, 3)
    assert drawn.shape == (20_000, 3) and drawn.min() >= 0 and drawn.max() < 1
    for column in drawn.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3
        # Low bits, too: what is drawn out of many places depends on them.
        low = np.bincount((column * 2**53).astype(np.uint64) % 16, minlength=16)
        assert stats.chisquare(low).pvalue > 1e-3


def test_numbers_are_independent_of_their_neighbours_streams_and_seeds():
    drawn = draw_uniform(0, "windows", NUMBERS, 2)
    others = [
        drawn[:, 1],
        np.roll(drawn[:, 0], 1),
        draw_uniform(1, "windows", NUMBERS, 1)[:, 0],
        draw_uniform(0, "strands", NUMBERS, 1)[:, 0],
        draw_uniform(0, ("windows", 1), NUMBERS, 1)[:, 0],
    ]
    for other in others:
        counts = np.histogram2d(drawn[:, 0], other, bins=8, range=[[0, 1], [0, 1]])[0]
        assert stats.chisquare(counts.ravel()).pvalue > 1e-3


def test_a_row_depends_on_its_number_alone():
    whole = draw_uniform(7, "windows", NUMBERS, 6)
    shuffled = np.random.default_rng(0).permutation(NUMBERS)
    assert np.array_equal(draw_uniform(7, "windows", shuffled, 6), whole[shuffled])
    assert np.array_equal(draw_uniform(7, "windows", NUMBERS[[5]], 2, first=4), whole[[5], 4:])
    assert draw_uniform(7, "windows", np.array([2**63 + 5], dtype=np.uint64), 1).shape == (1, 1)
    assert draw_uniform(-1, "windows", NUMBERS[:1], 1) != draw_uniform(1, "windows", NUMBERS[:1], 1)


def test_numbers_stay_what_they_are():
    """Another version that draws others would change every run that goes on."""
    drawn = draw_uniform(0, "windows", np.array([0, 1, 2**40]), 2)
    assert drawn.round(12).tolist() == [
        [0.473741218818, 0.426633415167],
        [0.312618964809, 0.455248882761],
        [0.185883885549, 0.327819353233],
    ]
    assert Permutation(0, "tiles", 10)(np.arange(10)).tolist() == [4, 7, 0, 6, 1, 3, 2, 9, 8, 5]
    assert make_generator(0, "masks", 3).integers(1000, size=3).tolist() == [761, 424, 413]


def test_streams_are_names_or_numbers():
    assert hash_stream(0, 1) == hash_stream(np.int64(0), np.int32(1)) == hash_stream(0, (1,))
    assert len({hash_stream(0, stream) for stream in (1, "1", ("1", 1), (1, 1), 11, "11")}) == 6


def test_generators_are_of_their_block():
    first = make_generator(0, "masks", 1).random(8)
    assert np.array_equal(first, make_generator(0, "masks", 1).random(8))
    for other in (make_generator(0, "masks", 2), make_generator(1, "masks", 1), make_generator(0, "spans", 1)):
        assert not np.array_equal(first, other.random(8))


@pytest.mark.parametrize("size", [*range(1, 40), 255, 256, 257, 10_007])
def test_a_permutation_has_every_number_once(size):
    assert np.array_equal(np.sort(Permutation(3, "tiles", size)(np.arange(size))), np.arange(size))


def test_all_orders_are_equally_likely():
    orders = Counter(tuple(Permutation(seed, "tiles", 4)(np.arange(4)).tolist()) for seed in range(6_000))
    assert len(orders) == 24 and stats.chisquare(list(orders.values())).pvalue > 1e-3


def test_a_large_permutation_takes_no_memory():
    size = 3 * 10**11
    places = np.arange(size - 1000, size)
    found = Permutation(0, "tiles", size)(places)
    assert len(np.unique(found)) == 1000 and found.min() >= 0 and found.max() < size
    assert abs(np.corrcoef(places, found)[0, 1]) < 0.15
    with pytest.raises(ValueError, match="nothing"):
        Permutation(0, "tiles", 0)
