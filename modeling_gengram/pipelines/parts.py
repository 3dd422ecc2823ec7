"""Which parts of a long run are finished? Tables in a folder beside the output, and everything that they depend on.

Several processes may share the folder, each with blocks of its own (`Shard`); the last one puts the output together.
"""

import dataclasses
import errno
import json
import os
import shutil
import uuid
from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from gengram.errors import InputError
from gengram.files import PARTIAL, hash_file, keep_finished, name_partial, sync, tell_write_faults, write_text
from gengram.loading.adapters import hash_base
from gengram.loading.faults import tell_faults
from gengram.progress import tell

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SUFFIX = ".parts"
"""How the folder of finished parts is called, behind the name of the output."""

# Where the input lies may differ when a run is resumed; what it is may not.
_PLACES = {"file", "genome", "model"}
_PLAN, _LOCK = "plan.json", "assembling.lock"
_IN_THE_WAY = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)


@dataclasses.dataclass(frozen=True)
class Shard:
    """One of `count` processes that share the blocks of a run, `index` from 1."""

    index: int = 1
    count: int = 1

    def takes(self, block: int) -> bool:
        """Whether a block, counted from 0, is one of its own."""
        return block % self.count == self.index - 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


ALONE = Shard()
"""A process that does all itself."""


class Parts:
    """The parts of one run, `OUT.parts/`: one Arrow file for each block of rows.

    Args:
        out: the file that they are for.
        plan: everything that their content depends on; JSON.
        shard: which of the blocks this process computes.
        settled: names of the plan that whoever began the run has chosen for all; they are those of `plan` behind it.

    Raises:
        `InputError`: the folder is of a run with another plan, or holds something else.
    """

    def __init__(self, out: Path, plan: dict[str, Any], shard: Shard = ALONE, settled: Collection[str] = ()):
        self.out, self.plan, self.shard = out, plan, shard
        self.folder = name_parts(out)
        file = self.folder / _PLAN
        if not file.exists():
            self._begin()
        with tell_faults(f"{file}: cannot be read as JSON; remove {self.folder} to begin anew"):
            self.plan = dict(json.loads(file.read_text(encoding="utf-8")))
        for name in plan.keys() - _PLACES:
            begun = self.plan.get(name)
            if type(begun) is not type(plan[name]) if name in settled else begun != plan[name]:
                raise InputError(
                    f"{self.folder}: the run that was begun here is another one: {name} was {begun!r} "
                    f"and is {plan[name]!r}. Remove the folder to begin anew, or choose another --out."
                )

    def _begin(self) -> None:
        """Make the folder with its plan, whole; another shard may have been first."""
        shared = self.folder.with_name(f"{self.folder.name}.{self.shard.index}-{self.shard.count}")
        made = name_partial(shared if self.shard.count > 1 else self.folder)
        shutil.rmtree(made, ignore_errors=True)
        try:
            with tell_write_faults(self.folder, made):
                made.mkdir()
                write_text(json.dumps(self.plan, indent=1), made / _PLAN)
            os.rename(made, self.folder)
        except OSError as error:
            if error.errno not in _IN_THE_WAY:
                raise
            if not (self.folder / _PLAN).exists():
                raise InputError(f"{self.folder}: it is in the way; remove it, or choose another --out") from error
        finally:
            shutil.rmtree(made, ignore_errors=True)

    def keep(self) -> AbstractContextManager[None]:
        """Leave finished parts after an error or an interrupt, and nothing else; a shard leaves the folder to others,
        too."""
        return keep_finished(self.folder, "part-*.arrow" if self.shard == ALONE else "*")

    def has(self, number: int) -> bool:
        """Whether a part is finished."""
        return self._name(number).exists()

    def write(self, number: int, table: pa.Table) -> None:
        """Write a part in one piece.

        Args:
            number: of the part, from 0.
            table: its rows, of as many columns as all parts have.
        """
        name = self._name(number)
        # A name of its own: a shard may be started again while the first one is not quite gone.
        partial = name.with_name(f"{name.stem}.{uuid.uuid4().hex[:8]}{PARTIAL}")
        try:
            with tell_write_faults(name, partial):
                with open(partial, "wb") as stream, pa.ipc.new_file(stream, table.schema) as writer:
                    writer.write_table(table)
                sync(partial)
                os.replace(partial, name)
        finally:
            partial.unlink(missing_ok=True)

    def read(self, numbers: Iterable[int]) -> Iterator[pa.Table]:
        """Yield parts, one in memory at a time."""
        for number in numbers:
            name = self._name(number)
            said = f"{name}: cannot be read; remove it, and give the same command again"
            with (
                tell_faults(said, (pa.ArrowException,)),
                pa.OSFile(str(name), "rb") as source,
                pa.ipc.open_file(source) as reader,
            ):
                table = reader.read_all()
            yield table

    @contextmanager
    def assemble(self, count: int) -> Iterator[bool]:
        """Say whether this process is the one that puts parts 0 to `count - 1` together, and remove the folder then.

        Of several shards that is the last one to end; where it cannot be known which one that is, none.

        Raises:
            `InputError`: another process is at it, and this one is no shard.
        """
        missing = self.count_missing(count)
        if missing:
            tell(f"shard {self.shard} is done; {missing:,} of {count:,} parts are still missing in {self.folder}")
            yield False
            return
        with self._lock() as is_ours:
            # What has the lock behind another that had it finds nothing more to do.
            if not is_ours or not (self.folder / _PLAN).exists():
                yield False
                return
            yield True
            self.remove()

    def count_missing(self, count: int) -> int:
        """Return how many of parts 0 to `count - 1` are not finished; 0 if the folder is gone, since all were."""
        if not self.folder.exists():
            return 0
        there = {entry.name for entry in os.scandir(self.folder)}
        return sum(self._name(number).name not in there for number in range(count))

    def remove(self) -> None:
        """Remove the folder: the result is written."""
        shutil.rmtree(self.folder)

    def _name(self, number: int) -> Path:
        return self.folder / f"part-{number:06d}.arrow"

    @contextmanager
    def _lock(self) -> Iterator[bool]:
        """Say whether no other process puts the parts together; ends with the process, also with a killed one."""
        if fcntl is None:
            yield self.shard == ALONE
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
            if self.shard == ALONE:
                raise InputError(f"{self.out}: another process puts it together from {self.folder} just now") from error
            return False
        except OSError:  # There are file systems without locks.
            if self.shard != ALONE:
                tell(f"{self.folder}: no file can be locked here; the same command without --shard writes {self.out}")
            return self.shard == ALONE
        return True


def name_parts(out: Path) -> Path:
    """Return the folder of finished parts of an output."""
    return out.with_name(out.name + SUFFIX)


def hash_weights(model_path: str) -> Any:
    """Return what tells a model's weights from others: checksums of its files, by name, or a Hub id as it is."""
    if not Path(model_path).is_dir():
        return hash_base(model_path) or model_path
    files = sorted(path for end in ("safetensors", "bin") for path in Path(model_path).glob(f"*.{end}"))
    return {path.name: hash_file(path) for path in files}


def join_columns(rows: pa.Table, columns: dict[str, pa.Array]) -> pa.Table:
    """Return rows with further columns behind their own; a table of no columns does not know how many rows it has."""
    schema = pa.schema([*rows.schema, *(pa.field(name, column.type) for name, column in columns.items())])
    return pa.Table.from_arrays([*rows.columns, *columns.values()], schema=schema)


def pack_vectors(matrix: np.ndarray) -> pa.FixedSizeListArray:
    """Return the rows of a matrix [N, D] as lists of D numbers, without a copy of them."""
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(matrix).reshape(-1)), matrix.shape[1])


def pack_lists(matrices: list[np.ndarray]) -> pa.ListArray:
    """Return matrices [T, D] as lists of lists of D numbers."""
    offsets = np.cumsum([0, *map(len, matrices)], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pack_vectors(np.concatenate(matrices)))


def unpack(column: pa.ChunkedArray) -> np.ndarray:
    """Return all numbers in lists, or in lists of lists, one after the other."""
    values = column.combine_chunks().flatten()
    while pa.types.is_nested(values.type):
        values = values.flatten()
    return values.to_numpy()


__all__ = [
    "ALONE",
    "SUFFIX",
    "Parts",
    "Shard",
    "hash_weights",
    "join_columns",
    "name_parts",
    "pack_lists",
    "pack_vectors",
    "unpack",
]
