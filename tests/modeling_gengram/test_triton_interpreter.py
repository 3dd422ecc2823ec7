"""The tests of the Triton kernels, run where there is no GPU."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

KERNELS = [str(Path(__file__).with_name(f"test_triton_{name}.py")) for name in ("kernels", "gate")]


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton has no release for this system")
def test_kernels_under_the_interpreter(pytestconfig):
    """In a process of its own, because triton reads TRITON_INTERPRET when it is imported."""
    command = [sys.executable, "-m", "pytest", *KERNELS, "-q", "-x", "-p", "no:cacheprovider", "--no-header"]
    if (golden := pytestconfig.getoption("--golden-dir")) is not None:
        command += ["--golden-dir", golden]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=pytestconfig.rootpath)
    summary = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "passed" in summary, summary
    print(summary)
