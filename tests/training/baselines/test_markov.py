"""Markov models of bases: counts against a loop, bits against known sources."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gengram.errors import InputError
from gengram.genome.alphabet import reverse_complement
from gengram.training.baselines import markov
from gengram.training.baselines.markov import MarkovModel, count_bases


def as_letters(text):
    return np.frombuffer(text.encode(), dtype=np.uint8)


def count_by_loop(texts, order):
    """(context, base) -> times, contexts as long as the letters before a base allow."""
    counts = Counter()
    for text in texts:
        text = text.upper().replace("U", "T")
        for place, base in enumerate(text):
            if base not in "ACGT":
                continue
            context = ""
            while len(context) < order and place > len(context) and text[place - len(context) - 1] in "ACGT":
                context = text[place - len(context) - 1] + context
            counts[context, base] += 1
    return counts


def number(text):
    return sum("ACGT".index(base) * 4**place for place, base in enumerate(reversed(text)))


def check_counts(counts, expected, order):
    assert counts.bases == sum(expected.values())
    for (context, base), times in expected.items():
        table = counts.full if len(context) == order else counts.heads[len(context)]
        assert table[number(context + base)] == times


def simulate_chain(order, length, seed):
    """A sequence of a chain whose bases depend on `order` bases, and the chain's entropy in bits a base."""
    random = np.random.default_rng(seed)
    chances = random.dirichlet([0.4] * 4, size=4**order)
    ladder, uniform = chances.cumsum(axis=1), random.random(length)
    state, states, bases = 0, np.empty(length, dtype=np.int64), np.empty(length, dtype=np.int64)
    for place in range(length):
        states[place] = state
        bases[place] = min(int(np.searchsorted(ladder[state], uniform[place], side="right")), 3)
        state = (state * 4 + bases[place]) % 4**order
    share = np.linalg.matrix_power(_transition(chances, order), 512)[0]
    entropy = -(share[:, None] * chances * np.log2(np.maximum(chances, 1e-300))).sum()
    return np.frombuffer(b"ACGT", dtype=np.uint8)[bases], entropy


def _transition(chances, order):
    states = 4**order
    matrix = np.zeros((states, states))
    for state in range(states):
        for base in range(4):
            matrix[state, (state * 4 + base) % states] += chances[state, base]
    return matrix


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text("ACGTNacgtuR", max_size=40), max_size=5), order=st.integers(0, 4), both=st.booleans())
def test_counts_are_those_of_a_loop_in_pieces_of_any_size(texts, order, both):
    pieces = [as_letters(text) for text in texts]
    expected = count_by_loop(texts, order)
    if both:
        expected += count_by_loop([reverse_complement(text) for text in texts], order)
    check_counts(count_bases(pieces, order, both), expected, order)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(markov, "_CHUNK", 7)
        check_counts(count_bases(pieces, order, both), expected, order)


def test_counts_of_pieces_add_up():
    random = np.random.default_rng(0)
    pieces = [as_letters("".join(random.choice(list("ACGTN"), 300))) for _ in range(4)]
    whole, added = count_bases(pieces, 3), count_bases(pieces[:1], 3) + count_bases(pieces[1:], 3)
    assert (whole.full == added.full).all()
    assert all((a == b).all() for a, b in zip(whole.heads, added.heads))


def test_a_chain_of_order_three_is_known_from_order_three_on():
    letters, entropy = simulate_chain(3, 300_000, 1)
    counts, held_out = count_bases([letters[:200_000]], 8), count_bases([letters[200_000:]], 8)
    bits = {
        smoothing: [MarkovModel(counts, smoothing).measure_bits(held_out, order) / held_out.bases for order in range(9)]
        for smoothing in ("dirichlet", "witten_bell", 0.5)
    }
    for values in bits.values():
        assert all(value > entropy + 0.02 for value in values[:3])
        # 64 contexts are learned to a thousandth.
        assert values[3] == pytest.approx(entropy, abs=0.005)
        assert values[4:6] == pytest.approx([entropy] * 2, abs=0.02)
    # More contexts than the source has cost what their counts are wrong by, or next to nothing where that is learned.
    assert bits["dirichlet"][3:] == pytest.approx([entropy] * 6, abs=0.01)
    assert bits["witten_bell"][8] > entropy + 0.05 and bits[0.5][8] > entropy + 0.05


def test_both_strands_are_one_model():
    letters, _ = simulate_chain(2, 20_000, 2)
    other = as_letters(reverse_complement(letters.tobytes().decode()))
    model = MarkovModel(count_bases([letters], 4, both_strands=True))
    again = MarkovModel(count_bases([other], 4, both_strands=True))
    for a, b in zip(model.costs, again.costs):
        assert (a == b).all()


@settings(max_examples=40, deadline=None)
@given(
    train=st.text("ACGTN", max_size=60),
    held_out=st.text("ACGTNacgtR", min_size=1, max_size=60),
    order=st.integers(0, 5),
    smoothing=st.sampled_from(["dirichlet", "witten_bell", 0.5, 1, 1e-9]),
)
def test_bits_are_finite_sum_to_one_and_are_those_of_each_base(train, held_out, order, smoothing):
    model = MarkovModel(count_bases([as_letters(train)], 6), smoothing)
    for costs in model.costs:
        assert np.isfinite(costs).all()
        assert np.exp2(-costs).reshape(-1, 4).sum(axis=1) == pytest.approx(1)
    scores = model.score_bases(as_letters(held_out), order)
    is_base = np.array([letter in "ACGTacgt" for letter in held_out])
    assert (np.isnan(scores) == ~is_base).all()
    total = model.measure_bits(count_bases([as_letters(held_out)], 6), order)
    assert total == pytest.approx(np.nansum(scores), abs=1e-6)


def test_witten_bell_by_hand():
    """AACAA at order 1: after A came A twice and C once, after C came A; A stood there four times, C once."""
    model = MarkovModel(count_bases([as_letters("AACAA")], 1), "witten_bell")
    a = (4 + 2 * 0.25) / (5 + 2)
    c = (1 + 2 * 0.25) / (5 + 2)
    other = 2 * 0.25 / 7
    assert model.costs[0] == pytest.approx([-math.log2(each) for each in (a, c, other, other)])
    after_a = [(2 + 2 * a) / 5, (1 + 2 * c) / 5, 2 * other / 5, 2 * other / 5]
    after_c = [(1 + a) / 2, c / 2, other / 2, other / 2]
    assert model.costs[1][:8] == pytest.approx([-math.log2(each) for each in after_a + after_c])
    assert model.costs[1][8:12] == pytest.approx(model.costs[0])  # nothing came after G: as the lower order


def test_strength_of_a_lower_order_by_hand():
    """The strength is the one under which the training bases, each left out in turn, need the fewest bits."""
    counts = count_bases([as_letters("ACGTTGCAACGGTACCATGA" * 3)], 1)
    model = MarkovModel(counts)
    single, pairs = counts.list_tables()

    def cost_left_out(table, lower, strength):
        total = 0.0
        for context, row in enumerate(table):
            for base, times in enumerate(row):
                if times:
                    share = (times - 1 + strength * lower[context][base]) / (row.sum() - 1 + strength)
                    total -= times * math.log2(share)
        return total

    lower = np.full((1, 4), 0.25)
    for table, costs in ((single, model.costs[0]), (pairs, model.costs[1])):
        lower = np.tile(lower, (len(table) // len(lower), 1))
        best = min((2.0**power for power in range(13)), key=lambda one: cost_left_out(table, lower, one))
        lower = (table + best * lower) / (table.sum(axis=1, keepdims=True) + best)
        assert costs == pytest.approx(-np.log2(lower).ravel())


def test_nothing_to_learn_is_two_bits_a_base():
    model = MarkovModel(count_bases([], 8))
    held_out = count_bases([as_letters("ACGTACGTNNNACG")], 8)
    assert model.measure_bits(held_out) == pytest.approx(2 * held_out.bases)
    assert count_bases([as_letters("NNNN"), as_letters("")], 8).bases == 0


def test_what_cannot_be_is_refused():
    counts = count_bases([as_letters("ACGT")], 2)
    for order in (-1, 11):
        with pytest.raises(InputError, match=f"order={order}"):
            count_bases([], order)
    model = MarkovModel(counts)
    with pytest.raises(InputError, match="counted up to order 2"):
        model.measure_bits(counts, 3)
    with pytest.raises(InputError, match="order=-1"):
        model.score_bases(as_letters("ACGT"), -1)
    with pytest.raises(InputError, match="the model has 2"):
        model.measure_bits(count_bases([], 1))
    for smoothing in ("laplace", 0, -1, float("nan"), float("inf"), None):
        with pytest.raises(InputError, match="smoothing="):
            MarkovModel(counts, smoothing)
