"""Memory that is free goes back to the system."""

import pytest

from gengram.training import devices


@pytest.mark.skipif(devices._TRIM is None, reason="the C library is not glibc")
def test_free_memory_between_small_pieces_that_live_is_given_back():
    pieces = [(bytearray(100_000), bytearray(600)) for _ in range(1500)]  # too small to be mapped one by one
    small = [short for _, short in pieces]
    del pieces
    before = devices.measure_resident()
    devices.return_memory()
    assert len(small) == 1500 and devices.measure_resident() < before - 100e6


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(devices, "_TRIM", None)
    devices.return_memory()
