"""How the functions of `cpu_kernel.cpp` are compiled and found.

The compiler runs when they are first needed and takes a few seconds; the library is kept for later processes. Without
a compiler the eager forms serve, and `fall_back` is told.
"""

import atexit
import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch

from .fallback import Fallback, fall_back, shorten_reason

SOURCE = Path(__file__).with_name("cpu_kernel.cpp")
FLAGS = ["-O3", "-std=c++17", "-shared", "-fPIC", "-fopenmp"]
# The instructions that PyTorch found on this processor; a file system may serve several kinds.
INSTRUCTIONS = {
    "AVX512": ["-mavx2", "-mfma", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"],
    "AVX2": ["-mavx2", "-mfma"],
}
WORK = 2**14  # numbers a thread should have at least
_NAMES = {torch.float32: "float", torch.float64: "double"}


def load_kernel() -> ctypes.CDLL | None:
    """The compiled kernel; None where it cannot be had, and then `fall_back` is told."""
    library, fallback = _load()
    if fallback is not None:
        fall_back(fallback)
    return library


@functools.cache
def _load() -> tuple[ctypes.CDLL | None, Fallback | None]:
    if not SOURCE.exists():  # A checkpoint's code on the Hub brings the Python files only.
        return None, _describe_fallback(f"{SOURCE.name} does not come with a model's code", "pip install gengram")
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        return None, _describe_fallback(
            "there is no C++ compiler (c++, g++, clang++)", "Install one, or name one in the variable CXX"
        )
    remedy = "Name a compiler of C++17 with OpenMP in the variable CXX (g++ 9, clang 10 or later)"
    try:
        return ctypes.CDLL(str(_compile(compiler))), None
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        if "No space left" in said:
            remedy = "Free space for temporary files (TMPDIR)"
        return None, _describe_fallback(f"{compiler} cannot compile {SOURCE}: {shorten_reason(said)}", remedy)


def _describe_fallback(reason: str, remedy: str) -> Fallback:
    cost = "about ten times slower on long inputs"
    return Fallback("The motif memory's C++ kernels", reason, cost, remedy)


def _compile(compiler: str) -> Path:
    """Path of the library, which is compiled if there is none of this source, these flags and this compiler yet."""
    flags = FLAGS + INSTRUCTIONS.get(torch.backends.cpu.get_cpu_capability(), [])
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    key = hashlib.sha256("\0".join([SOURCE.read_text(), *flags, version]).encode()).hexdigest()[:16]
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gengram"
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=folder))
    except (OSError, RuntimeError):  # no home: for this process alone
        folder = unfinished = Path(tempfile.mkdtemp())
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    library = folder / f"memory_{key}.so"
    try:
        if not library.exists():
            # Under a name of its own first: processes that start together do not wait for each other.
            command = [compiler, *flags, str(SOURCE), "-o", str(unfinished / library.name)]
            subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
            os.replace(unfinished / library.name, library)
    finally:
        if unfinished != folder:
            shutil.rmtree(unfinished, ignore_errors=True)
    return library


def find_function(name: str, dtype: torch.dtype) -> Any:
    """The function of this name for numbers of this dtype, float32 or float64. There must be a kernel."""
    return getattr(load_kernel(), f"{name}_{_NAMES[dtype]}")


def count_threads(numbers: torch.Tensor) -> int:
    """Threads among which the work on a tensor is shared."""
    return max(min(torch.get_num_threads(), numbers.numel() // WORK), 1)


__all__ = ["count_threads", "find_function", "load_kernel"]
