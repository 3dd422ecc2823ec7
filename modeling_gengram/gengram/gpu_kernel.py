"""The Triton kernels of the memory: whether they serve an input, and one place to import them from.

`triton_index` finds which table rows each position reads, `triton_rows` sums them, `triton_tables` projects and merges
the tables first, `triton_gate` scores the gate, applies it and runs the mixer: operators of PyTorch with gradients, so
that `torch.compile` takes them as they are. `triton_gate_window` is all of it in evaluation, from tables that are kept.
"""

import functools
import os

import torch

from .fallback import Fallback, fall_back, shorten_reason
from .kernel_trial import FULL, PRESETS, SMALL, try_memory

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Triton's interpreter runs the kernels on a CPU, for tests; it must be asked for before triton is imported.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
missing: Exception | None = None

# Without a device for them the kernels, and triton, are not imported at all.
find_reads = gate_and_mix = gate_window = pool_rows = project_tables = read_rows = read_tables = None
if INTERPRETED or torch.backends.cuda.is_built():
    try:
        from .triton_gate import gate_and_mix
        from .triton_gate_window import gate_window
        from .triton_index import find_reads
        from .triton_rows import pool_rows
        from .triton_tables import project_tables, read_rows, read_tables
    except Exception as error:  # no triton, or a broken one: what it raises is told where the kernels are needed
        missing = error


def serves_device(device_type: str) -> bool:
    """Whether devices of this type are those that the kernels are written for."""
    return device_type == ("cpu" if INTERPRETED else "cuda")


@torch.compiler.assume_constant_result
def can_run_kernels(device: torch.device | str, dtype: torch.dtype, memory: type) -> bool:
    """
    Whether the kernels serve tensors of this dtype on this device. Where they should but cannot (no triton, a GPU that
    is too old, a broken compiler), the answer is no, and `fall_back` is told.

    Args:
        device (`torch.device` or `str`): without a number, the current one. dtype (`torch.dtype`).
        memory (`type`): `MotifMemory`, which is tried once.

    Raises:
        torch.OutOfMemoryError: there is no room for the trial, which says nothing about the kernels.
        RuntimeError: a CUDA graph is being captured, and the kernels have not been tried before.
    """
    device = torch.device(device)
    if dtype not in DTYPES or not serves_device(device.type):
        return False
    index = -1
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
    fallback = _try_kernels(index, dtype, memory)
    if fallback is not None:
        fall_back(fallback)
    return fallback is None


@functools.cache
def _try_kernels(index: int, dtype: torch.dtype, memory: type) -> Fallback | None:
    """Compile and run every kernel once; why the memory has to do without them, if it has to."""
    name = str(dtype).removeprefix("torch.")
    kernel = f"The motif memory's Triton kernels ({name}, {'interpreter' if index < 0 else f'cuda:{index}'})"
    cost = "about ten times slower on a GPU"
    if missing is not None:
        reason = shorten_reason(f"{type(missing).__name__}: {missing}")
        return Fallback(kernel, reason, cost, "pip install triton; PyTorch's CUDA builds for Linux bring it")
    if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            "The motif memory compiles and tries its kernels at first use, which a CUDA graph cannot record: run the "
            "model once, forward and backward, before the capture."
        )
    try:
        fault = _run_once(torch.device("cpu") if index < 0 else torch.device("cuda", index), dtype, memory)
    except torch.OutOfMemoryError:
        raise  # a smaller batch may try again
    except Exception as error:  # whatever a compiler or driver raises, the other forms of the memory still work
        fault = f"{type(error).__name__}: {error}"
    if fault is None:
        return None
    return Fallback(kernel, shorten_reason(fault), cost, "gengram doctor runs them one by one and says more")


def _run_once(device: torch.device, dtype: torch.dtype, memory: type) -> str | None:
    """Both forms with both presets, forward and backward; what is wrong with what they give."""
    scale = SMALL if INTERPRETED else FULL
    for preset in PRESETS:
        for path in ("triton", "triton_pooled"):
            found = try_memory(memory, path, preset, device, dtype, scale, packed=preset == "released")
            # Far from any rounding, also of a caller who lets products of float32 be coarse (TF32).
            if max(found.evaluation, found.training) > 0.05 or found.gradients > 0.1:
                errors = f"error of values {found.training:.1e}, of gradients {found.gradients:.1e}"
                return f"the results of {path} ({preset}) are wrong, {errors}"
    return None


__all__ = [
    "can_run_kernels",
    "find_reads",
    "gate_and_mix",
    "gate_window",
    "pool_rows",
    "project_tables",
    "read_rows",
    "read_tables",
    "serves_device",
]
