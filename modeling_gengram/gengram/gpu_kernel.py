"""The Triton kernels of the memory: whether they serve an input, and one place to import them from.

`triton_index` finds which table rows each position reads, `triton_rows` sums them, `triton_tables` projects and merges
the tables that they belong to, `triton_gate` scores the gate, applies it and runs the mixer. All of them are operators
of PyTorch with gradients, so that `torch.compile` takes them as they are.
"""

import functools
import os

import torch
from transformers.utils import logging

logger = logging.get_logger(__name__)

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Triton's interpreter runs the kernels on a CPU, for tests; it must be asked for before triton is imported.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
missing: Exception | None = None

# Without a device for them the kernels, and triton, are not imported at all.
gate_and_mix = pool_rows = project_tables = read_rows = None
if INTERPRETED or torch.backends.cuda.is_built():
    try:
        from .triton_gate import gate_and_mix
        from .triton_rows import pool_rows, read_rows
        from .triton_tables import project_tables
    except ImportError as error:
        missing = error


@torch.compiler.assume_constant_result
def can_run_kernels(device_type: str, dtype: torch.dtype) -> bool:
    """
    Whether the kernels serve tensors of this dtype on the current device of this type. Where they should but cannot
    (no triton, a GPU that is too old, a broken compiler), the answer is no, with one warning.
    """
    if dtype not in DTYPES or device_type != ("cpu" if INTERPRETED else "cuda"):
        return False
    return _try_kernels(torch.cuda.current_device() if device_type == "cuda" else -1, dtype)


@functools.cache
def _try_kernels(index: int, dtype: torch.dtype) -> bool:
    """Compile and run every kernel once, on a few numbers."""
    try:
        if missing is not None:
            raise missing
        device = torch.device("cpu") if index < 0 else torch.device("cuda", index)
        _run_once(device, dtype)
    except Exception as error:  # whatever a compiler or driver raises, the other forms of the memory still work
        _warn_once(f"{type(error).__name__}: {error}")
        return False
    return True


def _run_once(device: torch.device, dtype: torch.dtype) -> None:
    from .kmer_index import KmerWindow

    with torch.enable_grad(), torch.autocast(device.type, enabled=False):
        letters = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2]], device=device)
        window = KmerWindow((1, 2), 4, 0, False, False)
        tables = [torch.ones(5**k, 16, dtype=dtype, device=device, requires_grad=True) for k in window.kmer_sizes]
        weight = torch.ones(16, 32, dtype=dtype, device=device)
        projected = project_tables(tables, weight, weight, window)
        key_value = read_rows(projected.rows, projected.layout, letters, window)
        hidden = pool_rows(tables, letters, window)[..., :16]
        ones = torch.ones(16, dtype=dtype, device=device)
        for mixer, mixer_weight in (("silu_norm", ones), ("conv_residual", ones[:, None, None].repeat(1, 1, 2))):
            hidden = gate_and_mix(
                hidden, [key_value], [ones, ones], [1e-5] * 3, "signed_sqrt", mixer, mixer_weight, dilation=2
            )
        hidden.sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)


@functools.cache
def _warn_once(reason: str) -> None:
    logger.warning(f"The motif memory's GPU kernels do not run here, its slower PyTorch form does: {reason}")


__all__ = ["can_run_kernels", "gate_and_mix", "pool_rows", "project_tables", "read_rows"]
