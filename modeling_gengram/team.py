"""Is this one of several processes that do one command together? Which one is it, and what have they agreed on?

`accelerate launch`, torchrun or `--devices` start them, and tell each with RANK and WORLD_SIZE which one it is. They
exchange no tensors, so they need no process group: what they agree on are counters in the store of what started them.
"""

import datetime
import os
import threading
import time
import warnings
from typing import Any

from gengram.errors import InputError

STORE = "GENGRAM_STORE"
"""The environment variable that names the file of the counters, where a command has started the processes itself."""

_PAUSE = 0.05  # seconds between two looks at a counter
_SOON = 10.0  # seconds until it is said that the others are waited for
_PATIENCE = datetime.timedelta(minutes=5)  # for which they are


class Team:
    """The processes of a command, seen by one of them.

    Args:
        rank: which one this is, from 0; the main process.
        size: how many there are.
        store: of torch.distributed, the same for all.

    Attributes:
        local_rank: which one this is on its machine, from 0.
    """

    def __init__(self, rank: int, size: int, store: Any):
        self.rank, self.size, self._store = rank, size, store
        self.local_rank = _read_number("LOCAL_RANK", rank)

    def claim(self, what: str) -> bool:
        """Whether this process is the first one of all to ask for something by this name."""
        return self._count(f"claim {what}", 1) == 1

    def leave(self) -> None:
        """Say that this process has done its share."""
        self._count("done", 1)

    def wait(self) -> None:
        """Return when every process has left."""
        while self._count("done", 0) < self.size:
            time.sleep(_PAUSE)

    def _count(self, name: str, step: int) -> int:
        try:
            return int(self._store.add(name, step))
        except RuntimeError as error:  # torch's own are kinds of it
            raise InputError(f"what has started the {self.size} processes does not answer any more") from error


_joined = 0
_team: Team | None = None
_is_lost = False  # the others have not been found: nobody else can tell


def is_main() -> bool:
    """Whether this is the only process, or the one of several that speaks for all; with variables that make no sense it
    speaks for itself."""
    try:
        return not 0 < _read_number("RANK", 0) < count_processes()
    except InputError:
        return True


def count_processes() -> int:
    """Return how many processes a launcher has started for this command; 1 without one."""
    return _read_number("WORLD_SIZE", 1)


def join() -> Team | None:
    """Return the processes that this one belongs to, or None if it is alone.

    Raises:
        `InputError`: the launcher's variables make no sense, or its store cannot be reached.
    """
    global _joined, _team, _is_lost
    size, rank = count_processes(), _read_number("RANK", 0)
    if size <= 1:
        return None
    if not os.environ.get("RANK"):
        raise InputError(
            f"WORLD_SIZE is {size} in the environment, and there is no RANK: a launcher sets both, or nobody does; for "
            "one process, unset WORLD_SIZE"
        )
    if not 0 <= rank < size:
        raise InputError(f"RANK is {rank} and WORLD_SIZE is {size}: a launcher counts its processes from 0")
    _joined += 1
    try:
        _team = open_team(rank, size, os.environ.get(STORE))
    except InputError:
        _is_lost = True
        raise
    _is_lost = False
    return _team


def open_team(rank: int, size: int, file: str | None) -> Team:
    """Return a team by its store: a file, where a command has started the processes itself; without one the launcher's.

    Raises:
        `InputError`: the launcher's cannot be reached.
    """
    from torch.distributed import FileStore, PrefixStore

    try:
        if file is not None:
            os.stat(os.path.dirname(file))  # FileStore waits for minutes where there is no such folder
            return Team(rank, size, FileStore(file, size))
        store = _meet(rank, size)
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(
            f"WORLD_SIZE is {size}, but the other processes cannot be found ({str(error).splitlines()[0]}). Start them "
            "with accelerate launch, torchrun or --devices; for one process, unset WORLD_SIZE and RANK"
        ) from error
    # The counters of one command are not those of the next, nor of the one that a launcher starts again.
    prefix = f"gengram {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')} {_joined}"
    return Team(rank, size, PrefixStore(prefix, store))


def _meet(rank: int, size: int) -> Any:
    """Return the launcher's store. torch waits for it in C++, where nothing interrupts it: a thread does so here."""
    from torch.distributed import rendezvous

    found: list[Any] = []

    def look() -> None:
        try:
            found.extend(next(rendezvous("env://", rank, size, timeout=_PATIENCE)))
        except (RuntimeError, ValueError, OSError) as error:
            found.append(error)

    thread = threading.Thread(target=look, name="gengram-team", daemon=True)
    thread.start()
    thread.join(_SOON)
    if thread.is_alive():
        place = ":".join(os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT"))
        warnings.warn(
            f"process {rank + 1} of {size} waits for the others at {place} (WORLD_SIZE, RANK, MASTER_ADDR and "
            f"MASTER_PORT say so), for {_PATIENCE.seconds // 60} minutes at most",
            stacklevel=2,
        )
        thread.join()
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


def speaks() -> bool:
    """Whether this process is the one to tell an error: the first one to ask of those that have joined."""
    if _is_lost or _team is None:
        return _is_lost or is_main()
    try:
        return _team.claim("error")
    except InputError:
        return is_main()


def _read_number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    if not text:
        return default
    try:
        return int(text)
    except ValueError as error:
        raise InputError(f"{name}={text!r} in the environment is no number; a launcher sets it, or nobody") from error


__all__ = ["STORE", "Team", "count_processes", "is_main", "join", "open_team", "speaks"]
