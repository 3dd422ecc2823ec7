"""What is computed of rows, until all are done: a table for each block, in a folder beside the output."""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from gengram.files import hash_file
from gengram.loading.adapters import hash_base
from gengram.loading.faults import tell_faults
from gengram.pipelines.run_folder import RunFolder
from gengram.pipelines.shares import ALONE, Share

SUFFIX = ".parts"
"""How the folder of finished parts is called, behind the name of the output."""


class Parts(RunFolder):
    """The parts of one run, `OUT.parts/`: one Arrow file for each block of rows.

    Args:
        out: the file that they are for.
        plan: everything that their content depends on; JSON.
        share: which of the blocks this process computes.
        settled: names of the plan that whoever began the run has chosen for all; they are those of `plan` behind it.

    Raises:
        `InputError`: the folder is of a run with another plan, or holds something else.
    """

    plan_file = "plan.json"
    finished = "part-*.arrow"
    # Where the input lies may differ when a run is resumed; what it is may not.
    places = frozenset({"file", "genome", "model"})

    def __init__(self, out: Path, plan: dict[str, Any], share: Share = ALONE, settled: Collection[str] = ()):
        super().__init__(out, name_parts(out), plan, share, settled)

    def has(self, number: int) -> bool:
        """Whether a part is finished."""
        return self._name(number).exists()

    def write(self, number: int, table: pa.Table) -> None:
        """Write a part in one piece.

        Args:
            number: of the part, from 0.
            table: its rows, of as many columns as all parts have.
        """
        with self.open_part(self._name(number)) as stream, pa.ipc.new_file(stream, table.schema) as writer:
            writer.write_table(table)

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

    def _name(self, number: int) -> Path:
        return self.folder / f"part-{number:06d}.arrow"


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
    "SUFFIX",
    "Parts",
    "hash_weights",
    "join_columns",
    "name_parts",
    "pack_lists",
    "pack_vectors",
    "unpack",
]
