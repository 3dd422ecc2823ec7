"""Runs of `gengram pretrain` in processes of their own, one or several that train together."""

import contextlib
import multiprocessing
import runpy
import signal
import socket
from pathlib import Path

SCRIPT = str(Path(__file__).with_name("killed_run.py"))


def start(argv: list[str], processes: int = 1, moment: tuple[str, int] | None = None) -> list:
    """Start a run; the processes are returned."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gengram.training.pretraining.pretrain"])
    started = []
    for rank in range(processes):
        names = {"argv": argv, "moment": moment, "rank": rank, "processes": processes, "port": port}
        started.append(context.Process(target=runpy.run_path, args=(SCRIPT, names)))
        started[-1].start()
    return started


def run(argv: list[str], processes: int = 1, moment: tuple[str, int] | None = None, patience: float = 240) -> list[int]:
    """Run to the end; returns the exit codes, minus the signal's number where one has ended a process.

    Where one of several is killed, the others are, too: they would wait for it.
    """
    started = start(argv, processes, moment)
    if moment is None:
        for process in started:
            process.join(patience)
    else:
        multiprocessing.connection.wait([process.sentinel for process in started], patience)
    for process in started:
        if process.is_alive():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        process.join(30)
    return [process.exitcode for process in started]


KILLED = -signal.SIGKILL
