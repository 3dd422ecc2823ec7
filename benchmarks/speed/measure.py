"""Measuring side by side on a machine that is not quiet: turns, medians, memory; and what the machine can do."""

import ctypes
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from gengram.errors import InputError
from gengram.gengram.fallback import KernelError, require_kernels


def take_turns(
    runs: Mapping[str, Callable[[], Any]], rounds: int, wait: Callable[[], None] = lambda: None, seconds: float = 30.0
) -> dict[str, list[float]]:
    """
    Time several functions in turns, so that a machine that slows down slows all of them.

    Args:
        runs: by name; each is called once before the first round.
        rounds (`int`): at most; fewer, but two at least, where they would take longer than `seconds`.
        wait: returns when the device has done its work.

    Returns:
        Seconds of each round, by name.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    wait()
    begun = time.perf_counter()
    for done in range(rounds):
        spent = time.perf_counter() - begun
        if done >= 2 and spent * (done + 1) / done > seconds:
            break
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            wait()
            times[name].append(time.perf_counter() - start)
    return times


def compare(
    ours: Callable[[], Any], peer: Callable[[], Any], rounds: int, wait: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """
    Time two functions in turns.

    Returns:
        `ours`, `peer`: median seconds; `ratio`: median over rounds of peer / ours; `low`, `high`: its extremes.
    """
    times = take_turns({"ours": ours, "peer": peer}, rounds, wait)
    middle = {name: statistics.median(found) for name, found in times.items()}
    return {**middle, **summarize_ratio(times["peer"], times["ours"])}


def summarize_ratio(peer: list[float], ours: list[float]) -> dict[str, float]:
    """`ratio`: median over rounds of peer / ours; `low`, `high`: its extremes."""
    ratios = [b / a for a, b in zip(ours, peer)]
    return {"ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}


def measure_peak(run: Callable[[], Any], device: str) -> int | None:
    """Bytes that `run` takes at its peak beyond what is there before it; None where the system does not tell."""
    if device == "cuda":
        torch.cuda.synchronize()
        resting = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - resting
    if device != "cpu":
        return None
    reset = Path("/proc/self/clear_refs")
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)  # memory that was freed but kept by the allocator would hide what `run` takes
    try:
        reset.write_text("5")  # the peak of the resident memory starts anew (Linux)
    except OSError:
        return None
    resting = read_status("VmRSS")
    run()
    return max(read_status("VmHWM") - resting, 0)


def read_status(name: str) -> int:
    """Bytes that this process has: `VmRSS` now, `VmHWM` at its peak (not getrusage: after a fork, that starts at the
    parent's); Linux."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


@contextmanager
def refuse_fallbacks(device: str) -> Iterator[None]:
    """On a GPU, where kernels are what is measured, refuse to measure what runs in their place.

    Raises:
        `InputError`: a kernel does not run here.
    """
    if device != "cuda":
        yield
        return
    try:
        with require_kernels():
            yield
    except KernelError as error:
        raise InputError(f"{error}. Nothing else is measured on a GPU") from error


def measure_machine(
    device: str, wait: Callable[[], None] = lambda: None, dtype: torch.dtype = torch.float32
) -> dict[str, float]:
    """Bytes a second of a copy (read and written) and operations a second of a product, as found here."""
    numbers = 2**28 if device == "cuda" else 2**25
    source, target = torch.ones(numbers, device=device), torch.empty(numbers, device=device)
    left = torch.randn(2048, 2048, device=device, dtype=dtype)
    times = take_turns({"copy": lambda: target.copy_(source), "product": lambda: left @ left}, 5, wait)
    return {"bytes_per_s": 2 * 4 * numbers / min(times["copy"]), "flop_per_s": 2 * 2048**3 / min(times["product"])}


__all__ = [
    "compare",
    "measure_machine",
    "measure_peak",
    "read_status",
    "refuse_fallbacks",
    "summarize_ratio",
    "take_turns",
]
