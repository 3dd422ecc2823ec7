"""How many tokens does a batch have? As many as keep a device busy and fit into its memory, as a first batch shows.

On a CPU it is a number; on an accelerator what a token takes is measured, and memory that runs out all the same halves
batches (`Feeder`). Large batches are of like length only if they are cut from many rows.
"""

from collections.abc import Callable
from typing import Protocol

import torch

from gengram.pipelines.feed import is_out_of_memory

CPU_TOKENS = 8192
"""Tokens of a batch, padding included, on a CPU: enough to keep it busy, and little memory."""

MOST_TOKENS = 65_536
"""Of a batch on an accelerator. An H100 is busy with as many; more bring more padding."""

_MORE = (
    4  # with sequences of 600 to 6,000 bp, padding adds 3 % where 4,096 rows are sorted together, 10 % where 1,024 are
)

_SHARE = 0.6  # of the free memory: the rest is for longer rows, whose attention takes more a token, and for holes


class Memory(Protocol):
    """The memory of a device."""

    def read_free(self) -> int:
        """Return the bytes that nobody uses."""

    def measure(self, work: Callable[[], object]) -> int:
        """Return the most bytes that some work has in use, beside those that are in use before."""


class CudaMemory:
    """That of a CUDA device, as the driver and torch's allocator tell."""

    def __init__(self, device: torch.device):
        self._device = device

    def read_free(self) -> int:
        free, _ = torch.cuda.mem_get_info(self._device)
        return free + torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)

    def measure(self, work: Callable[[], object]) -> int:
        before = torch.cuda.memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        work()
        return torch.cuda.max_memory_allocated(self._device) - before


def choose_tokens(memory: Memory, run: Callable[[], object], tokens: int) -> int:
    """Return how many tokens a batch on an accelerator has.

    Args:
        memory: its memory.
        run: runs a batch.
        tokens: of that, padding included.

    Returns:
        A power of two, so that a little more or less of free memory makes no other batches; at most `MOST_TOKENS`.
        Where not even the first batch fits, half of it.
    """
    try:
        run()  # what a first call keeps for good is none of a token's
        taken = memory.measure(run)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return max(1, tokens // 2)
    fit = int(_SHARE * memory.read_free() * tokens / max(1, taken))
    return min(MOST_TOKENS, 1 << max(0, fit.bit_length() - 1))


def scale_blocks(device: torch.device) -> int:
    """Return how many times as many rows as on a CPU are sorted by length together."""
    return 1 if device.type == "cpu" else _MORE


def find_memory(device: torch.device) -> Memory | None:
    """Return the memory that the batches of a device are measured by; None for a CPU, and where nothing tells."""
    return CudaMemory(device) if device.type == "cuda" else None


__all__ = ["CPU_TOKENS", "MOST_TOKENS", "CudaMemory", "Memory", "choose_tokens", "find_memory", "scale_blocks"]
