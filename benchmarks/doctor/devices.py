"""What computes here: the processor, GPUs and their memory."""

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from gengram.benchmarks.doctor.facts import Fact, Step, Verdict
from gengram.files import describe_size

GROUP = "devices"


def list_steps() -> list[Step]:
    """The processor first: it is there whatever a driver does."""
    return [Step(GROUP, "processor", examine_processor), Step(GROUP, "GPUs", examine_gpus, spoils=True)]


def count_cores() -> float:
    """Cores that this process may use: by its affinity, and by the share that a container has of them."""
    cores: float = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, int(quota) / int(period))
    except (OSError, ValueError):  # no container, or another kind
        pass
    return cores


def count_memory() -> tuple[int | None, int | None]:
    """Bytes of memory that there are, and that are free, for this process or the container that it is in."""
    total = free = None
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        read = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        free = int(read[1]) * 1024 if read else None
    except (OSError, ValueError, AttributeError):
        pass
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        total, free = min(total or limit, limit), min(limit if free is None else free, max(limit - used, 0))
    except (OSError, ValueError):
        pass
    return total, free


def examine_processor() -> Fact:
    """Its name, cores, memory, and the instructions that PyTorch uses."""
    import torch

    cores, (total, free) = count_cores(), count_memory()
    capability = torch.backends.cpu.get_cpu_capability()
    data = {"name": _name_processor(), "cores": cores, "memory_bytes": total, "free_memory_bytes": free,
            "instructions": capability}  # fmt: skip
    memory = f", {describe_size(free)} of {describe_size(total)} memory free" if free is not None and total else ""
    found = f"{data['name']}, {cores:g} cores, {capability}{memory}"
    return Fact(GROUP, "processor", found, data=data)


def _name_processor() -> str:
    try:
        read = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        read = None
    return read[1].strip() if read else platform.processor() or platform.machine()


def examine_gpus() -> list[Fact]:
    """Each device, or why there is none."""
    import torch

    facts: list[Fact] = []
    built, driver = torch.version.cuda or getattr(torch.version, "hip", None), _find_driver()
    data: dict[str, Any] = {"built_for": built, "driver": driver, "visible": os.environ.get("CUDA_VISIBLE_DEVICES")}
    nodes = sorted(path.name for path in Path("/dev").glob("nvidia[0-9]*"))
    if built is None:
        verdict: Verdict = "ok"
        found, remedy = "PyTorch is a build without CUDA", ""
        if nodes:
            found, verdict = f"{found}, and there are GPUs ({', '.join(nodes)}, driver {driver or 'unknown'})", "fails"
            remedy = "pip install --force-reinstall torch, from the index for your driver (pytorch.org)"
        facts.append(Fact(GROUP, "CUDA", found, verdict, remedy, data))
    else:
        about = f"PyTorch is built for {built}, driver {driver or 'unknown'}"
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count:
            facts.append(Fact(GROUP, "CUDA", about, data={**data, "devices": count}))
        elif nodes and data["visible"] is None:
            remedy = "nvidia-smi says more: a driver that is older than this PyTorch needs, or a container without GPUs"
            facts.append(Fact(GROUP, "CUDA", f"{about}; {', '.join(nodes)} cannot be used", "fails", remedy, data))
        else:
            hidden = f" (CUDA_VISIBLE_DEVICES={data['visible']})" if data["visible"] is not None else ""
            facts.append(Fact(GROUP, "CUDA", f"{about}; no device{hidden}", "note", data=data))
        facts += [_examine_gpu(index) for index in range(count)]
    if torch.backends.mps.is_available():
        facts.append(Fact(GROUP, "mps", "a GPU of Apple: models run, the memory in its PyTorch form", "note"))
    return facts


def _examine_gpu(index: int) -> Fact:
    import torch

    name = f"cuda:{index}"
    properties = torch.cuda.get_device_properties(index)
    capability = f"{properties.major}.{properties.minor}"
    try:
        free, total = torch.cuda.mem_get_info(index)
    except RuntimeError as error:  # in exclusive use, or out of memory
        said = str(error).strip().splitlines()[0]
        remedy = "is another process using it alone? nvidia-smi says so"
        return Fact(GROUP, name, f"{properties.name}, cannot be used: {said}", "fails", remedy)
    data = {"name": properties.name, "capability": capability, "memory_bytes": total, "free_memory_bytes": free}
    found = f"{properties.name}, capability {capability}, {describe_size(free)} of {describe_size(total)} free"
    if free < total / 10:
        return Fact(GROUP, name, found, "note", "other processes hold its memory; nvidia-smi names them", data)
    return Fact(GROUP, name, found, data=data)


def _find_driver() -> str | None:
    """The version of NVIDIA's driver, by its own tool or the kernel's module."""
    if tool := shutil.which("nvidia-smi"):
        asked = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
        try:
            said = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout.split()
        except (OSError, subprocess.SubprocessError):
            said = []
        if said:
            return said[0]
    try:
        read = re.search(r"Kernel Module\D*([\d.]+)", Path("/proc/driver/nvidia/version").read_text())
    except OSError:
        return None
    return read[1] if read else None


__all__ = ["count_cores", "count_memory", "examine_gpus", "examine_processor", "list_steps"]
