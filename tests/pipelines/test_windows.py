"""Windows over sequences: every base is covered, each is kept once."""

import numpy as np
import pytest
import torch
from fake_device import FakeDevice
from hypothesis import given
from hypothesis import strategies as st

from gengram.pipelines import windows as module
from gengram.pipelines.windows import WindowReader, place_windows, share_bases, stitch_windows


@given(st.integers(1, 400), st.integers(1, 60), st.data())
def test_windows_cover_a_sequence_and_the_last_ends_with_it(length, window, data):
    stride = data.draw(st.integers(1, window))
    places = place_windows(length, window, stride)
    covered = np.zeros(length, dtype=int)
    for start, end in places:
        assert 0 <= start < end <= length and end - start == min(window, length)
        covered[start:end] += 1
    assert covered.min() >= 1 and places[-1, 1] == length
    assert (np.diff(places[:-1, 0]) == stride).all() and (np.diff(places[:, 0]) > 0).all()


@given(st.integers(0, 50), st.integers(1, 40), st.integers(1, 9), st.integers(1, 4), st.data())
def test_each_base_is_kept_of_one_window_far_from_its_ends(begin, units, wide, multiple, data):
    window, bp = wide * multiple, units * multiple + data.draw(st.integers(0, multiple - 1))
    overlap = data.draw(st.integers(0, window - 1))
    windows = share_bases(begin, begin + bp, window, overlap, multiple)
    kept = [base for one in windows for base in range(one.kept_from, one.kept_to)]
    assert kept == list(range(begin, begin + bp))
    for one in windows:
        assert (one.end - one.start) % multiple == 0 and one.start <= one.kept_from <= one.kept_to <= one.end
        if bp >= window:
            assert one.kept_from == begin or one.kept_from - one.start >= overlap // 2
            assert one.kept_to == begin + bp or one.end - one.kept_to >= overlap // 2


def make_reader(read) -> WindowReader:
    """What reads texts on a CPU: a stand-in for a model."""

    def make(texts):
        letters = [[ord(letter) for letter in text] for text in texts]
        return texts, {"letters": torch.tensor(letters)}

    def run(letters):
        return torch.from_numpy(read(["".join(map(chr, row)) for row in letters.tolist()]))

    return WindowReader(make, run, lambda texts, found: found, torch.device("cpu"))


@pytest.mark.parametrize("batch_size", [1, 3])
def test_what_windows_say_is_put_where_they_are_kept(batch_size):
    sequence, seen = "ACGTTGCAACGGT" * 9, []

    def read(texts: list[str]) -> np.ndarray:
        assert len({len(text) for text in texts}) == 1 and len(texts) <= batch_size
        seen.extend(texts)
        return np.array([[[ord(letter)] for letter in text] for text in texts], dtype=np.float32)

    windows = [*share_bases(0, 50, 20, 8), *share_bases(70, len(sequence), 16, 4)]
    found = stitch_windows(make_reader(read), sequence, windows, 1, batch_size=batch_size)
    assert len(seen) == len(windows)
    expected = np.array([ord(letter) for letter in sequence], dtype=float)
    expected[50:70] = np.nan
    np.testing.assert_array_equal(found[:, 0], expected)


def test_numbers_that_are_not_finite_are_told_with_their_window():
    def read(texts: list[str]) -> np.ndarray:
        return np.full((len(texts), len(texts[0]), 2), np.inf, dtype=np.float32)

    windows = share_bases(4, 12, 8, 0)
    with pytest.raises(OverflowError, match=r"bases 4 to 12 .*not finite"):
        stitch_windows(make_reader(read), "ACGT" * 4, windows, 2)
    assert np.isinf(stitch_windows(make_reader(read), "ACGT" * 4, windows, 2, may_overflow=True)[4:12]).all()


@pytest.mark.parametrize("running", [0, 2])
def test_windows_share_a_small_memory_until_one_alone_does_not_fit(running, monkeypatch):
    monkeypatch.setattr(module, "find_feeding", lambda device: FakeDevice(running))
    room, seen = 48, []

    def read(texts: list[str]) -> np.ndarray:
        if sum(map(len, texts)) > room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        seen.append(len(texts))
        return np.array([[[ord(letter)] for letter in text] for text in texts], dtype=np.float32)

    sequence = "ACGTTGCAACGGT" * 9
    windows = share_bases(0, len(sequence), 20, 8)
    found = stitch_windows(make_reader(read), sequence, windows, 1, batch_size=5)
    np.testing.assert_array_equal(found[:, 0], [ord(letter) for letter in sequence])
    assert max(seen) == 2 and sum(seen) == len(windows)
    room = 19
    with pytest.raises(ValueError, match=r"the bases 0 to 20 \(counted from 0\) do not fit into the memory"):
        stitch_windows(make_reader(read), sequence, windows, 1, batch_size=5)
