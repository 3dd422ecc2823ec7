"""What is finished of a long run, and whose run is it? A folder beside the output, or in it, with everything that its
content depends on.

Several processes may share the folder, each with parts of its own (`gengram.pipelines.shares`); one of them puts the
output together.
"""

import errno
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import torch
import transformers

from gengram._version import __version__
from gengram.errors import InputError
from gengram.files import PARTIAL, keep_finished, name_partial, sync, tell_write_faults, write_text
from gengram.loading.faults import tell_faults
from gengram.phases import phase
from gengram.pipelines.shares import ALONE, Member, Share
from gengram.progress import tell
from gengram.team import Team

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_LOCK = "assembling.lock"
_IN_THE_WAY = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
_LATE = 60.0  # seconds until a network file system shows what another machine has finished
_PAUSE = 1.0


class RunFolder:
    """The folder of a run; subclasses know what a finished part is.

    Args:
        out: what the run is for.
        folder: where the parts lie.
        plan: everything that their content depends on; JSON.
        share: which of the parts this process computes.
        settled: names of the plan that whoever began the run has chosen for all; they are those of `plan` behind it.

    Raises:
        `InputError`: the folder is of a run with another plan, or holds something else.
    """

    plan_file: ClassVar[str]
    finished: ClassVar[str]
    """The pattern of the names of finished parts."""
    places: ClassVar[frozenset[str]] = frozenset()
    """What of a plan may differ when a run is resumed."""

    def __init__(
        self, out: Path, folder: Path, plan: dict[str, Any], share: Share = ALONE, settled: Collection[str] = ()
    ):
        self.out, self.folder, self.plan, self.share = out, folder, plan, share
        self._is_shard = share != ALONE and not isinstance(share, Member)
        self.was_begun = (folder / self.plan_file).exists()
        try:
            if not self.was_begun:
                self._begin()
            self._compare(plan, settled)
        except KeyboardInterrupt:
            # Nobody keeps the folder yet; a plan that others have begun to fulfil, or no plan of ours, stays.
            is_begun = not self.was_begun and (folder / self.plan_file).exists()
            if is_begun and not self._is_shard and not any(folder.glob(self.finished)):
                shutil.rmtree(folder, ignore_errors=True)
            raise

    def _compare(self, plan: dict[str, Any], settled: Collection[str]) -> None:
        """Take the plan of whoever began the run, and refuse another one."""
        file = self.folder / self.plan_file
        with tell_faults(f"{file}: cannot be read as JSON; remove {self.folder} to begin anew"):
            self.plan = dict(json.loads(file.read_text(encoding="utf-8")))
        for name in reversed(plan):  # options rather than checksums and versions
            if name in self.places:
                continue
            begun = self.plan.get(name)
            if type(begun) is not type(plan[name]) if name in settled else begun != plan[name]:
                raise InputError(
                    f"{self.folder}: the run that was begun here is another one: {name} was {begun!r} "
                    f"and is {plan[name]!r}. Remove the folder to begin anew, or choose another --out."
                )

    def _begin(self) -> None:
        """Make the folder with its plan, whole; another process may have been first."""
        shared = self.folder.with_name(f"{self.folder.name}.{str(self.share).replace('/', '-')}")
        made = name_partial(self.folder if self.share == ALONE else shared)
        shutil.rmtree(made, ignore_errors=True)
        try:
            with tell_write_faults(self.folder, made):
                made.mkdir(parents=True)
                write_text(json.dumps(self.plan, indent=1), made / self.plan_file)
            os.rename(made, self.folder)
        except (OSError, InputError) as error:
            if (self.folder / self.plan_file).exists():
                return
            if isinstance(error, InputError) or error.errno not in _IN_THE_WAY:
                raise
            raise InputError(f"{self.folder}: it is in the way; remove it, or choose another --out") from error
        finally:
            shutil.rmtree(made, ignore_errors=True)

    def keep(self) -> AbstractContextManager[None]:
        """Leave finished parts after an error or an interrupt, and nothing else; a shard leaves the folder to others,
        too."""
        return keep_finished(self.folder, "*" if self._is_shard else self.finished)

    def count_missing(self, count: int) -> int:
        """Return how many of `count` parts are not finished; 0 if the folder is gone, since all were."""
        if not self.folder.exists():
            return 0
        return count - sum(1 for _ in self.folder.glob(self.finished))

    @contextmanager
    def assemble(self, count: int) -> Iterator[bool]:
        """Say whether this process is the one that puts `count` parts together, and remove the folder then.

        Of processes that were started together it is the main one, when all are done; of several shards the last one to
        end, and where it cannot be known which one that is, none.

        Raises:
            `InputError`: another process is at it, or has been, and this one is no shard; what other processes of
                these have finished cannot be seen.
        """
        if isinstance(self.share, Member):
            self.share.team.leave()
            if self.share.team.rank:
                yield False
                return
            self._wait(self.share.team, lambda: self.count_missing(count))
        elif missing := self.count_missing(count):
            self._give_way()
            tell(f"shard {self.share} is done; {missing:,} of {count:,} parts are still missing in {self.folder}")
            yield False
            return
        with self._lock() as is_ours:
            # What has the lock behind another that had it finds nothing more to do.
            if not is_ours or not (self.folder / self.plan_file).exists():
                self._give_way()
                yield False
                return
            yield True
            self.remove()

    @contextmanager
    def open_part(self, path: Path) -> Iterator[BinaryIO]:
        """Open a part for writing; it has its name when it is whole."""
        # A name of its own: a shard may be started again while the first one is not quite gone.
        partial = path.with_name(f"{path.stem}.{uuid.uuid4().hex[:8]}{PARTIAL}")
        try:
            with tell_write_faults(path, partial):
                with open(partial, "wb") as stream:
                    yield stream
                sync(partial)
                os.replace(partial, path)
        except InputError:
            if not self.folder.exists():
                self._give_way()
            raise
        finally:
            partial.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder: the result is written. It is gone at once, also for another run that writes into it."""
        gone = name_partial(self.folder)
        shutil.rmtree(gone, ignore_errors=True)
        os.replace(self.folder, gone)
        shutil.rmtree(gone)

    def _wait(self, team: Team, count_missing: Callable[[], int]) -> None:
        """Wait until the other processes are done, and what they have finished is to be seen."""
        with phase("Waiting for the others"):
            team.wait()
            begun = time.monotonic()
            while missing := count_missing():
                if time.monotonic() - begun > _LATE:
                    raise InputError(
                        f"{self.folder}: all processes are done, but {missing:,} parts cannot be seen here. All "
                        "machines must see this folder; then the same command goes on"
                    )
                time.sleep(_PAUSE)

    def _give_way(self) -> None:
        """Let another run end what this one has done, too.

        Raises:
            `InputError`: this one is no shard, and does not expect it.
        """
        if isinstance(self.share, Member):
            time.sleep(_PAUSE)  # If one of these has failed and removed it, that one tells why.
        if not self._is_shard:
            raise InputError(
                f"{self.out}: another run has put it together from {self.folder}, or removed that; of runs that share "
                "a folder each needs a --shard of its own"
            )

    @contextmanager
    def _lock(self) -> Iterator[bool]:
        """Say whether no other process puts the parts together; ends with the process, also with a killed one."""
        if fcntl is None:
            yield not self._is_shard
            return
        try:
            place = os.open(self.folder / _LOCK, os.O_WRONLY | os.O_CREAT)
        except FileNotFoundError:  # Another shard has just removed the folder.
            yield False
            return
        try:
            yield self._take_lock(place)
        finally:
            os.close(place)

    def _take_lock(self, place: int) -> bool:
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if not self._is_shard:
                raise InputError(f"{self.out}: another process puts it together from {self.folder} just now") from error
            return False
        except OSError:  # There are file systems without locks.
            if self._is_shard:
                tell(f"{self.folder}: no file can be locked here; the same command without --shard writes {self.out}")
            return not self._is_shard
        return True


def name_versions() -> dict[str, str]:
    """Return what of a plan says by which software the numbers are computed: another one may round them otherwise."""
    return {"gengram": __version__, "transformers": transformers.__version__, "torch": torch.__version__}


__all__ = ["RunFolder", "name_versions"]
