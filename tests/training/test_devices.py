"""Memory that is free goes back to the system."""

import subprocess
import sys

import pytest

from gengram.training import devices

# In a process of its own: what others have freed before is where these pieces would lie.
_FREE = """
from gengram.training import devices
pieces = [(bytearray(100_000), bytearray(600)) for _ in range(1500)]  # too small to be mapped one by one
small = [short for _, short in pieces]
del pieces
before = devices.measure_resident()
devices.return_memory()
print(len(small), before - devices.measure_resident())
"""


@pytest.mark.skipif(devices._TRIM is None, reason="the C library is not glibc")
def test_free_memory_between_small_pieces_that_live_is_given_back():
    found = subprocess.run([sys.executable, "-c", _FREE], capture_output=True, text=True, check=True).stdout
    living, returned = map(int, found.split())
    assert living == 1500 and returned > 100e6


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(devices, "_TRIM", None)
    devices.return_memory()
