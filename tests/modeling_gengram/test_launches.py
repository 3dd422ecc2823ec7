"""A call of the memory on a GPU launches few kernels, none for which the host waits, in little memory: counted."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton has no release for this system", allow_module_level=True)

PROGRAM = Path(__file__).with_name("launch_counts.py")
MOST = {"evaluation": 8, "training": 45}
# MB that forward and backward take at 8,192 bases, by width; the released algorithm takes 420 and 93.
PEAKS = {1024: 335, 256: 53}
CALLS = [
    pytest.param(preset, D, T, mode, id=f"{preset}-{D}-{T}-{mode}")
    for preset in ("released", "paper")
    for D in (1024, 256)
    for T in (1_000, 8_192)
    for mode in MOST
]


@pytest.fixture(scope="module")
def counted() -> dict:
    """In a process of its own, which imports the kernels in another way."""
    done = subprocess.run([sys.executable, str(PROGRAM), "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    rows = json.loads(done.stdout)
    return {(row["preset"], row["D"], row["T"], row["mode"]): row for row in rows}


@pytest.mark.parametrize("preset, D, T, mode", CALLS)
def test_launches_of_a_call(counted, preset, D, T, mode):
    row = counted[preset, D, T, mode]
    assert row["total"] <= MOST[mode], row["launches"]
    if mode == "training":
        assert row["waits"] == []


@pytest.mark.parametrize("preset", ["released", "paper"])
@pytest.mark.parametrize("D", PEAKS)
def test_memory_of_a_training_call(counted, preset, D):
    assert counted[preset, D, 8_192, "training"]["peak"] <= PEAKS[D] * 1e6


def test_kernels_are_what_is_counted(counted):
    """The calls take the kernels, and their launches are in the table."""
    for row in counted.values():
        assert row["form"] in ("triton", "triton_pooled")
        kernels = sum(count for name, count in row["launches"].items() if not name.startswith("aten::"))
        assert kernels >= 3
