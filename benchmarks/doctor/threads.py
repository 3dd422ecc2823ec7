"""Do threads help? On few cores, threads that wait actively block each other, and two are slower than one."""

import os
import time

from gengram.benchmarks.doctor.devices import count_cores
from gengram.benchmarks.doctor.facts import Fact, Step

GROUP = "threads"
FEW_CORES = 8
"""Up to so many, active waiting is a trap; virtual machines and containers share their cores with others."""
_ROUNDS = 5


def list_steps() -> list[Step]:
    """One: the second fact needs the first."""
    return [Step(GROUP, "threads", examine_threads)]


def examine_threads() -> list[Fact]:
    """How many there are, how they wait, and what several gain over one in a step of a small training."""
    import torch

    threads, cores = torch.get_num_threads(), count_cores()
    set_, policy = os.environ.get("OMP_NUM_THREADS"), os.environ.get("OMP_WAIT_POLICY", "")
    data = {"threads": threads, "cores": cores, "OMP_NUM_THREADS": set_, "OMP_WAIT_POLICY": policy}
    found = f"{threads} for {cores:g} cores" + (f" (OMP_NUM_THREADS={set_})" if set_ else "")
    crowded = threads > cores + 0.5
    remedy = f"export OMP_NUM_THREADS={max(int(cores), 1)}" if crowded else ""
    facts = [Fact(GROUP, "threads", found, "note" if crowded else "ok", remedy, data)]
    shown = f"OMP_WAIT_POLICY={policy}" if policy else "OMP_WAIT_POLICY is not set: threads wait actively"
    if threads < 2:
        facts.append(Fact(GROUP, "waiting", f"{shown}; one thread waits for nobody"))
        return facts
    one, several = _time_training(1), _time_training(threads)
    torch.set_num_threads(threads)
    seconds = {"seconds": {"1": one, str(threads): several}}
    measured = (
        f"{shown}; a small training step takes {several * 1e3:.0f} ms with {threads}, {one * 1e3:.0f} ms with one"
    )
    passive = policy.upper() == "PASSIVE"
    if passive or (several < 1.2 * one and cores > FEW_CORES):
        facts.append(Fact(GROUP, "waiting", measured, data=seconds))
    else:
        remedy = (
            "export OMP_WAIT_POLICY=PASSIVE, before Python starts: on few or shared cores it can be twenty times faster"
        )
        facts.append(Fact(GROUP, "waiting", measured, "note", remedy, seconds))
    return facts


def _time_training(threads: int) -> float:
    """Seconds of the fastest of some steps."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
    inputs, times = torch.randn(8, 64, 64), []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        layer(inputs).sum().backward()
        times.append(time.perf_counter() - begun)
    return sorted(times)[_ROUNDS // 2]


__all__ = ["FEW_CORES", "examine_threads", "list_steps"]
