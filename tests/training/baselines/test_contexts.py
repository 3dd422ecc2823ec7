"""Class frequencies between the same neighbours: counted, smoothed, the same for any ids of the tokens."""

import numpy as np
import pytest

from gengram.training.baselines.contexts import count_contexts
from gengram.training.problems import IGNORED


def read(text: str) -> np.ndarray:
    return np.array(["ACGTN#".index(letter) for letter in text])


def test_a_class_that_neighbours_decide_is_learnt():
    random = np.random.default_rng(0)
    rows = ["#" + "".join(random.choice(list("ACGT"), 60)) + "#" for _ in range(60)]
    labels = []
    for row in rows:
        known = [int(row[place : place + 2] == "GT") for place in range(len(row))]
        labels.append(np.array([IGNORED, *known[1:-1], IGNORED]))
    table = count_contexts([read(row) for row in rows[:50]], labels[:50], 2)
    for row, known in zip(rows[50:], labels[50:]):
        shares = table.predict(read(row), known)
        assert shares.shape == (60, 2) and np.exp(shares).sum(axis=1) == pytest.approx(1)
        seen = np.exp(shares).max(axis=1) > 0.95
        assert (shares.argmax(axis=1) == known[1:-1])[seen].all()


def test_shares_are_counts_and_one_more_row_of_the_frequencies():
    ids, labels = read("AAAAAAAAAAAAA"), np.array([IGNORED] * 3 + [0, 0, 1, 1, 1, 1, 0] + [IGNORED] * 3)
    table = count_contexts([ids], [labels], 3)
    shares = np.exp(table.predict(ids, labels))
    frequencies = np.array([3.5, 4.5, 0.5]) / 8.5
    np.testing.assert_allclose(shares, np.tile((np.array([3, 4, 0]) + frequencies) / 8, (7, 1)), rtol=1e-5)
    unseen = np.exp(table.predict(read("CCCCCCC"), np.full(7, 2)))
    np.testing.assert_allclose(unseen, np.tile(frequencies, (7, 1)), rtol=1e-5)


def test_more_tokens_than_fit_into_a_number():
    random = np.random.default_rng(0)
    ids = [random.integers(0, 5000, 400) for _ in range(5)]
    labels = [random.integers(0, 3, 400) for _ in range(5)]
    table = count_contexts(ids, labels, 3)
    assert len(table.tokens) == 64 and np.isfinite(table.predict(ids[0], labels[0])).all()
