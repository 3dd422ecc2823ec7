"""Windows of a sequence that is longer than a model: complete, in order, never too long."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengram.tokenization.windows import cut_tokens


@given(body=st.integers(0, 60), before=st.integers(0, 2), after=st.integers(0, 2), room=st.integers(1, 20))
def test_windows_hold_every_token_once_and_special_ones_always(body, before, after, room):
    special = np.array([True] * before + [False] * body + [True] * after, dtype=bool)
    limit = before + after + room
    windows = cut_tokens(special, limit, "window")
    assert all(len(window) <= limit for window in windows)
    assert np.concatenate([window[~special[window]] for window in windows]).tolist() == list(
        range(before, before + body)
    )
    assert all(special[window].sum() == before + after for window in windows)
    assert np.ptp([len(window) for window in windows]) <= 1
    assert len(windows) == max(1, -(-body // room))


@pytest.mark.parametrize(("too_long", "kept"), [("truncate", [0, 1, 2, 3, 7]), ("center", [0, 2, 3, 4, 7])])
def test_one_window_keeps_the_beginning_or_the_middle(too_long, kept):
    special = np.array([True, *[False] * 6, True])
    assert [window.tolist() for window in cut_tokens(special, 5, too_long)] == [kept]
    assert [window.tolist() for window in cut_tokens(special, 8, too_long)] == [list(range(8))]


def test_a_limit_without_room_for_bases_is_refused():
    with pytest.raises(ValueError, match="no room for bases beside 2 special tokens"):
        cut_tokens(np.array([True, False, True]), 2, "window")
