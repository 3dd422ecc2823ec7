"""In the place of transformers' helper for tests of several processes, which its source distribution lacks (5.23).

Processes run on CPUs and speak by gloo. A process that raises ends the others, and its traceback is the test's.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def _get_distributed_device_type() -> str:
    return "cpu"


def _get_distributed_backend() -> str:
    return "gloo"


def _get_rank_device(rank: int) -> torch.device:
    return torch.device("cpu")


def _set_rank_device(rank: int) -> None:
    """CPUs are not numbered."""


def _start_rank_processes(function: Callable[..., None], args: tuple[Any, ...], nprocs: int) -> None:
    """
    Run `function(rank, *args)` in processes of their own, to the end of all or the first exception.

    They are forked: to import everything again takes longer than most tests.
    """
    mp.start_processes(function, args=args, nprocs=nprocs, start_method="fork")


def fork_ranks(mixin: ModuleType) -> None:
    """Let a module of 5.17, which starts processes by itself, start them here."""
    if hasattr(mixin, "mp"):
        mixin.mp = SimpleNamespace(spawn=_start_rank_processes)


def run_distributed(world_size: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make of `function(rank, ...)` one that runs as the ranks of a process group, and returns when all have."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> None:
            with tempfile.TemporaryDirectory() as folder:
                rendezvous = (Path(folder) / "rendezvous").as_uri()
                _start_rank_processes(_run_rank, (function, world_size, rendezvous, args, kwargs), world_size)

        return run

    return decorate


def _run_rank(rank: int, function: Callable[..., None], world_size: int, rendezvous: str, args, kwargs) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    torch.set_num_threads(1)
    dist.init_process_group(_get_distributed_backend(), init_method=rendezvous, rank=rank, world_size=world_size)
    function(rank, *args, **kwargs)
    dist.barrier()
    dist.destroy_process_group()
