"""Runs of `gengram pretrain` in processes of their own, one or several that train together."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import runpy
import signal
import socket
import time
from pathlib import Path

import psutil

SCRIPT = str(Path(__file__).with_name("killed_run.py"))


def start(
    argv: list[str], processes: int = 1, moment: tuple[str, int] | None = None, number: int = signal.SIGKILL
) -> list:
    """Start a run; the processes are returned."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gengram.training.pretraining.pretrain"])
    started = []
    for rank in range(processes):
        names = {"argv": argv, "moment": moment, "number": number, "rank": rank, "processes": processes, "port": port}
        started.append(context.Process(target=runpy.run_path, args=(SCRIPT, names)))
        started[-1].start()
    return started


def run(
    argv: list[str],
    processes: int = 1,
    moment: tuple[str, int] | None = None,
    number: int = signal.SIGKILL,
    patience: float = 240,
) -> list[int]:
    """Run to the end; returns the exit codes, minus the signal's number where one has ended a process.

    Where one of several is killed, the others are, too: they would wait for it. Nothing that they have started may
    stay: workers that read ahead end with the process that they read for.
    """
    started = start(argv, processes, moment, number)
    if moment is None or number != signal.SIGKILL:
        for process in started:
            process.join(patience)
    else:
        multiprocessing.connection.wait([process.sentinel for process in started], patience)
    for process in started:
        if process.is_alive():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        process.join(30)
    left = wait_for_workers([process.pid for process in started])
    assert not left, left
    return [process.exitcode for process in started]


def wait_for_workers(groups: list[int], patience: float = 30) -> list[str]:
    """Wait until process groups are empty; what still runs is killed, and its command lines are returned."""
    end = time.monotonic() + patience
    while left := list_group_members(groups):
        if time.monotonic() > end:
            commands = [" ".join(process.cmdline()) for process in left]
            for process in left:
                process.kill()
            return commands
        time.sleep(0.05)
    return []


def list_group_members(groups: list[int]) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(process.pid) in groups and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


KILLED = -signal.SIGKILL
