"""Bits per base of gzip and xz: of known files, and what is counted."""

import gzip
import lzma

import numpy as np
import pytest

from gengram.training.baselines.compression import measure_compression


def test_bits_are_those_of_the_files():
    text = np.random.default_rng(0).choice(list(b"ACGT"), 10_000).astype(np.uint8)
    found = measure_compression([text])
    assert found["bases"] == 10_000
    assert found["gzip_text"] == 8 * len(gzip.compress(text.tobytes(), 9)) / 10_000
    assert found["xz_text"] == pytest.approx(
        8 * len(lzma.compress(text.tobytes(), preset=9 | lzma.PRESET_EXTREME)) / 1e4
    )
    # Random bases have 2 bits each: packed they have nothing left to press out, as text more than that.
    assert 2 < found["gzip_packed"] < 2.05 and 2 < found["xz_packed"] < 2.1
    assert 2.1 < found["gzip_text"] < 2.7 and 2.1 < found["xz_text"] < 2.7


def test_packed_bases_are_four_a_byte():
    repeated = measure_compression([np.frombuffer(b"A" * 40_000, dtype=np.uint8)])
    assert repeated["gzip_packed"] < 0.02 and repeated["xz_text"] < 0.05
    packed = np.random.default_rng(1).integers(0, 256, 2500, dtype=np.uint8)
    codes = np.stack([packed >> 6, packed >> 4, packed >> 2, packed], axis=1) & 3
    letters = np.frombuffer(b"ACGT", dtype=np.uint8)[codes.ravel()]
    assert measure_compression([letters])["gzip_packed"] == 8 * len(gzip.compress(packed.tobytes(), 9)) / 10_000


def test_n_and_case_cost_nothing_and_pieces_are_joined():
    whole = measure_compression([np.frombuffer(b"ACGTTGCA" * 100, dtype=np.uint8)])
    pieces = [np.frombuffer(b"acgtNNtgca" * 60, dtype=np.uint8), np.frombuffer(b"ACGURUGCA-" * 40, dtype=np.uint8)]
    assert measure_compression(pieces) == whole


def test_no_more_bases_than_were_allowed_and_none_at_all():
    letters = np.frombuffer(b"ACGTN" * 100, dtype=np.uint8)
    assert measure_compression([letters, letters], most=301)["bases"] == 301
    nothing = measure_compression([np.frombuffer(b"NNNN", dtype=np.uint8)])
    assert nothing.pop("bases") == 0
    assert all(np.isnan(value) for value in nothing.values())
