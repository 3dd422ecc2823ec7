"""How much memory has this device, and how fast does it compute? Asked before a training, answered in a second."""

import ctypes
import os
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

from gengram.errors import InputError, suggest

_CGROUPS = Path("/sys/fs/cgroup")
# Limit, use and list of counters of version 2 and version 1.
_FILES = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat", "total_inactive_file"),
)
_SECONDS = 0.3  # of each measurement, about
_LONG = 5.0  # more than that are not spent on one
_COPIED = 1 << 25  # bytes, more than caches hold

PEAKS = {"A100": 312e12, "H100": 989e12, "H200": 989e12, "L40S": 362e12, "A10": 125e12, "4090": 165e12, "V100": 125e12}
"""Dense 16-bit peaks of GPUs, operations a second (the makers' data sheets), by a part of their names."""

MEMORIES = {
    "A100": (80, 40),
    "H100": (80,),
    "H200": (141,),
    "L40S": (48,),
    "A10": (24,),
    "4090": (24,),
    "V100": (32, 16),
}
"""Gigabytes (10^9 bytes) of the same GPUs, the larger kind first."""

MFU = 0.4
"""Share of such a peak that training reaches; 0.3 to 0.5 are usual for transformers."""

_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None


def measure_available_memory(device: torch.device) -> int:
    """Return the bytes that a run can have on a device: what is free, and what this process has by now.

    On a CPU the least of the machine's free memory and of what the limits of its control groups (containers, batch
    systems) leave.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free) + torch.cuda.memory_reserved(device)
    return min([psutil.virtual_memory().available, *_read_limits()]) + measure_resident()


def measure_resident() -> int:
    """Return the bytes of this process that are in memory."""
    return int(psutil.Process().memory_info().rss)


def return_memory() -> None:
    """Give memory that is free back to the system, where the C library is glibc.

    Whatever small is kept of a batch may lie where large tensors were, so that those of the next batch do not fit
    between: the process would hold megabytes more after each batch, almost all of it free.
    """
    if _TRIM is not None:
        _TRIM(0)


def _read_limits() -> list[int]:
    """What each control group that this process is in, and each above it, leaves."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return []
    left = []
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers in ("", "memory"):
            root = _CGROUPS / controllers
            folder = root / path.lstrip("/")
            for place in (folder, *folder.parents):
                left += _read_limit(place)
                if place == root:
                    break
    return left


def _read_limit(folder: Path) -> list[int]:
    for limit, used, counters, cache in _FILES:
        try:
            allowed, taken = (folder / limit).read_text().strip(), int((folder / used).read_text())
            kept = dict(line.split() for line in (folder / counters).read_text().splitlines())
        except (OSError, ValueError):  # no such file, or none of this version
            continue
        # Pages of files that nobody has touched for a while are given back when they are needed.
        return [] if allowed == "max" else [max(int(allowed) - taken + int(kept.get(cache, 0)), 0)]
    return []


def find_peak(device: torch.device, dtype: torch.dtype) -> float | None:
    """Return the operations a second of `PEAKS` for this device and dtype; None if they are not there."""
    if device.type != "cuda" or dtype == torch.float32:
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAKS.items() if part in name), None)


class Gpu(NamedTuple):
    """A GPU by its data sheet.

    Attributes:
        name: as it was found, with its memory where there are two kinds.
        peak: operations a second, dense, in 16 bits.
        memory: bytes.
        smaller: bytes of the smaller kind of this name, where there is one and none was named; else 0.
    """

    name: str
    peak: float
    memory: int
    smaller: int


def find_gpu(name: str) -> Gpu:
    """Return the GPU of `PEAKS` that a name means: `H100`, `a100-40gb`, `NVIDIA GeForce RTX 4090`.

    Raises:
        `InputError`: none of them, or with a memory that it does not come with.
    """
    words = re.findall(r"[a-z0-9]+", name.lower())
    found = next((known for known in PEAKS if known.lower() in words), None)
    if found is None:
        raise InputError(f"gpu={name!r}: choose {', '.join(PEAKS)}{suggest(name, list(PEAKS))}")
    kinds = MEMORIES[found]
    sizes = [int(word.removesuffix("gb")) for word in words if re.fullmatch(r"[0-9]{2,3}(gb)?", word)]
    if sizes and sizes[0] not in kinds:
        raise InputError(f"gpu={name!r}: {found} comes with {' or '.join(map(str, sorted(kinds)))} GB")
    memory = sizes[0] if sizes else kinds[0]
    smaller = 0 if sizes or len(kinds) == 1 else kinds[1]
    full = f"{found} {memory} GB" if len(kinds) > 1 else found
    return Gpu(full, PEAKS[found], memory * 10**9, smaller * 10**9)


def measure_products(device: torch.device, dtype: torch.dtype, most: int = 1024) -> tuple[float, int]:
    """
    Return the floating-point operations a second of a matrix product, and its width.

    The width is `most`, less where a product takes long: some CPUs compute those of 16 bits number by number.
    """
    width = min(256, most)
    while True:
        left, right = (torch.ones(width, width, dtype=dtype, device=device) for _ in range(2))
        begun = time.perf_counter()
        seconds = _time(partial(torch.matmul, left, right), device, 0.0 if width < most else _SECONDS)
        spent = time.perf_counter() - begun
        if width == most or 8 * spent > _LONG:  # the next one, with its repetitions
            return 2 * width**3 / seconds, width
        width = min(2 * width, most)


def measure_bandwidth(device: torch.device) -> float:
    """Return the bytes a second that an addition of large tensors reads and writes."""
    values = torch.ones(_COPIED // 4, device=device)
    return 2 * _COPIED / _time(lambda: values + 1, device)


def _time(call: Callable[[], object], device: torch.device, least: float = _SECONDS) -> float:
    """The median of the seconds that a call takes, of at least three, and of as many as take `least` seconds."""
    seconds: list[float] = []
    end = time.perf_counter() + least
    call()
    while time.perf_counter() < end or len(seconds) < 3:
        begun = time.perf_counter()
        call()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        seconds.append(time.perf_counter() - begun)
    return sorted(seconds)[len(seconds) // 2]


def describe_device(device: torch.device) -> str:
    """Return the name of a device, for people."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} of {os.cpu_count()} threads" if device.type == "cpu" else str(device)


__all__ = [
    "MEMORIES",
    "MFU",
    "PEAKS",
    "Gpu",
    "describe_device",
    "find_gpu",
    "find_peak",
    "measure_available_memory",
    "measure_bandwidth",
    "measure_products",
    "measure_resident",
    "return_memory",
]
