"""The tests of the Triton kernels, run where there is no GPU."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
KERNELS = ["test_triton_kernels.py", "test_triton_gate.py", "test_triton_gate_window.py"]
FILES = [
    pytest.param(KERNELS, "not slow", id="kernels"),
    pytest.param(["test_triton_traces.py"], "not slow", id="traces"),
    pytest.param(KERNELS, "slow", id="slow-kernels", marks=pytest.mark.slow),
    pytest.param(["test_triton_matrix.py"], "slow or not slow", id="matrix", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("files, which", FILES)
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton has no release for this system")
def test_kernels_under_the_interpreter(pytestconfig, files, which):
    """In a process of its own, because triton reads TRITON_INTERPRET when it is imported."""
    paths = [str(HERE / file) for file in files]
    command = [sys.executable, "-m", "pytest", *paths, "-m", which, "-q", "-x", "-p", "no:cacheprovider", "--no-header"]
    if (golden := pytestconfig.getoption("--golden-dir")) is not None:
        command += ["--golden-dir", golden]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=pytestconfig.rootpath)
    summary = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "passed" in summary, summary
    print(summary)
