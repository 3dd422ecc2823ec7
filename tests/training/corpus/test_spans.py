"""Spans against plain sets of positions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengram.training.corpus import spans

LENGTH = 60
intervals = st.lists(st.tuples(st.integers(-5, LENGTH + 5), st.integers(-5, LENGTH + 5)), max_size=8).map(
    lambda several: np.array(several, dtype=np.int64).reshape(-1, 2)
)
sets = intervals.map(spans.merge_spans)


def list_bases(several: np.ndarray) -> set[int]:
    return {base for start, end in several.tolist() for base in range(start, end)}


def check_form(several: np.ndarray) -> None:
    assert several.dtype == np.int64 and several.ndim == 2
    assert (several[:, 0] < several[:, 1]).all()
    assert (several[1:, 0] >= several[:-1, 1]).all()


@given(intervals)
def test_the_union_has_the_bases_of_all_and_no_two_spans_touch(several):
    merged = spans.merge_spans(several)
    check_form(merged)
    assert list_bases(merged) == list_bases(several)
    assert (merged[1:, 0] > merged[:-1, 1]).all()


@given(sets, sets)
def test_what_is_in_both_in_one_alone_and_in_none(one, other):
    for found, expected in (
        (spans.intersect_spans(one, other), list_bases(one) & list_bases(other)),
        (spans.subtract_spans(one, other), list_bases(one) - list_bases(other)),
        (spans.invert_spans(one, 0, LENGTH), set(range(LENGTH)) - list_bases(one)),
    ):
        check_form(found)
        assert list_bases(found) == expected
        assert spans.count_bases(found) == len(expected)


@given(sets, intervals)
def test_which_positions_and_intervals_are_met(several, others):
    positions = np.arange(-10, LENGTH + 10)
    assert spans.cover(several, positions).tolist() == [base in list_bases(several) for base in positions.tolist()]
    others = others[others[:, 0] < others[:, 1]]
    expected = [bool(list_bases(other[None]) & list_bases(several)) for other in others]
    assert spans.meet_spans(others, several).tolist() == expected


@given(st.text(alphabet="aNnC", max_size=40), st.integers(1, 5), st.sampled_from([1, 2, 3, 7, 1 << 22]))
def test_runs_are_those_of_a_plain_look_at_each_letter(text, minimum, piece):
    letters = np.frombuffer(text.encode(), dtype=np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spans, "_PIECE", piece)
        gaps, masks = spans.find_gaps(letters, minimum), spans.find_soft_masks(letters)
    for found, kind, least in ((gaps, "Nn", minimum), (masks, "an", 1)):
        expected, start = [], None
        for place, letter in enumerate(f"{text}."):
            if letter in kind and start is None:
                start = place
            elif letter not in kind and start is not None:
                expected += [[start, place]] if place - start >= least else []
                start = None
        assert found.dtype == np.int64
        assert found.tolist() == expected
