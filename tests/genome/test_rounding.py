"""Probabilities that are kept in half the bytes: within half the precision, calls as before they were rounded."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as drawn

from gengram.errors import InputError
from gengram.genome.rounding import Rounding

SHARES = st.one_of(st.floats(0, 1, width=32), st.sampled_from([0.0, 1.0, 0.5, 0.4995, 0.49999997, np.nan]))


@given(
    drawn.arrays(np.float32, st.tuples(st.integers(1, 20), st.integers(1, 3)), elements=SHARES),
    st.sampled_from([0.1, 0.06, 0.003, 0.001, 0.0007, 0.0001]),
    st.floats(0, 1),
)
def test_within_half_the_precision(probabilities, precision, threshold):
    rounding = Rounding(precision, threshold)
    kept = rounding.encode(probabilities)
    assert kept.dtype == np.uint16 and kept.shape == probabilities.T.shape
    values, called = rounding.decode(kept)
    assert values.dtype == np.float32 and (np.isnan(values) == np.isnan(probabilities)).all()
    known = ~np.isnan(values)
    assert np.abs(values - probabilities.astype(np.float64))[known].max(initial=0) <= precision / 2 + 1e-7
    assert (values[known] <= 1).all()
    np.testing.assert_array_equal(called, probabilities >= threshold)
    np.testing.assert_array_equal(rounding.encode(values)[known.T] % (1 << 15), kept[known.T] % (1 << 15))


def test_text_has_the_digits_of_the_precision():
    values, _ = Rounding(0.001, 0.5).decode(np.arange(1001, dtype=np.uint16)[None])
    assert [str(one) for one in values[[0, 7, 123, 1000], 0]] == ["0.0", "0.007", "0.123", "1.0"]
    assert max(len(str(one)) for one in values[:, 0]) == 5


def test_not_at_all():
    probabilities = np.random.default_rng(0).random((9, 2), dtype=np.float32)
    values, called = Rounding(0, 0.5).decode(Rounding(0, 0.5).encode(probabilities))
    np.testing.assert_array_equal(values, probabilities)
    np.testing.assert_array_equal(called, probabilities >= 0.5)


@pytest.mark.parametrize("precision", [-0.001, 0.00001, 0.2, float("nan"), float("inf")])
def test_what_is_refused(precision):
    with pytest.raises(InputError, match=r"--precision .*: give 0.0001 to 0.1, or 0"):
        Rounding(precision, 0.5)
