"""How do several processes of this machine do one command together? They run it as if a launcher had started them, and
this one watches: if one fails the others end, and there is one message.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from gengram.command_line import Told
from gengram.errors import InputError
from gengram.files import make_scratch
from gengram.phases import leave_to_others
from gengram.team import STORE, Team, open_team

_PAUSE = 0.05  # seconds between two looks at the processes
_GRACE = 30.0  # seconds to clean up, before a process is killed
_A_CLOSED_PIPE = 128 + 13  # nobody reads the answer: no error to tell

# As the command does, with the modules of this process whatever is in the working folder.
_CODE = "import sys; sys.path[:] = {path!r}; from gengram.cli import main; sys.exit(main())"
_WATCHED = "GENGRAM_WATCHED"


def run_processes(words: Sequence[str], devices: Sequence[str | None]) -> None:
    """Run a command in a process for each device, until all are done.

    Args:
        words: of the command line, the verb first.
        devices: of the processes.

    Raises:
        `Told`: one has failed and has said so; the others have ended.
        `InputError`: one was killed, or has failed without a word.
    """
    leave_to_others()
    with make_scratch() as folder:
        processes: list[subprocess.Popen[bytes]] = []
        team: Team | None = None
        try:
            for rank in range(len(devices)):
                processes.append(_start(words, rank, len(devices), folder / "store"))
            team = open_team(0, len(devices), str(folder / "store"))
            rank, code = _wait(processes)
            if code == 0:
                return
            is_told = not team.claim("error")
            if is_told or code == _A_CLOSED_PIPE:
                raise Told(code if code > 0 else 1)
            raise InputError(f"process {rank + 1} of {len(devices)} ({devices[rank]}) {_describe(code)}")
        except KeyboardInterrupt:
            if team is not None:
                team.claim("error")  # told by this process, and by no other
            raise
        finally:
            _end(processes)


def watch_starter() -> None:
    """End this process as a signal would, if the one that has started it is gone."""
    if os.environ.pop(_WATCHED, None):
        threading.Thread(target=_watch, name="gengram-starter", daemon=True).start()


def _watch() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _start(words: Sequence[str], rank: int, size: int, store: Path) -> "subprocess.Popen[bytes]":
    environment = {
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        STORE: str(store),
        _WATCHED: "1",
    }
    # Each takes its share of the processors, unless somebody has said how many.
    environment.setdefault("OMP_NUM_THREADS", str(max(1, _count_processors() // size)))
    # What ends this process, also from a terminal, ends them by way of `_end`, once and not twice.
    return subprocess.Popen(
        [sys.executable, "-c", _CODE.format(path=sys.path), *words],
        stdin=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )


def _wait(processes: "Sequence[subprocess.Popen[bytes]]") -> tuple[int, int]:
    """Return the number of the first process that fails and its exit code; 0, 0 when all are done."""
    while True:
        codes = [process.poll() for process in processes]
        if failed := next(((rank, code) for rank, code in enumerate(codes) if code), None):
            return failed
        if None not in codes:
            return 0, 0
        time.sleep(_PAUSE)


def _end(processes: "Sequence[subprocess.Popen[bytes]]") -> None:
    """End what still runs, in time to clean up, and wait for it."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + _GRACE
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _describe(code: int) -> str:
    if code >= 0:
        return f"has ended with exit code {code}, without a message of its own"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    remedy = ": the memory may not be enough for so many processes" if name == "SIGKILL" else ""
    return f"was ended by {name}{remedy}; the same command goes on with what is finished"


def _count_processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


__all__ = ["run_processes", "watch_starter"]
