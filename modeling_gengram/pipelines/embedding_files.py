"""Embeddings on their way to a file: the columns of finished parts, and how these are put together in each format."""

import json
import struct
import zipfile
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from gengram.files import Numbers, find_suffix, open_safetensors, open_whole
from gengram.genome.places import place_rows
from gengram.genome.row_files import count_rows, write_rows
from gengram.pipelines.embed import Embedded
from gengram.pipelines.outputs import PLACES
from gengram.pipelines.parts import Parts, pack_lists, pack_vectors, unpack

COLUMN = "embedding"
"""The column of vectors; in text each dimension has its own, `embedding_0`, `embedding_1`, ..."""

TOKENS = "token_interval"
"""The column of the bases of tokens."""


def assemble_vectors(parts: Parts, count: int, counted_from: int = 0) -> None:
    """Put parts 0 to `count - 1` together in the output's format.

    Args:
        parts: each with the columns of the rows, then those of `build_columns`.
        count: of the parts.
        counted_from: of a BED file, how its rows' places are counted, see `survey_places`.
    """
    suffix = find_suffix(parts.out)
    if suffix in _WRITERS:
        _WRITERS[suffix](parts, count)
        return
    tables = _spread(parts, count)
    write_rows(parts.out, (place_rows(table, counted_from) for table in tables) if suffix in PLACES else tables)


def _spread(parts: Parts, count: int) -> Iterator[pa.Table]:
    first = 1
    for table in parts.read(range(count)):
        yield spread_vectors(table, first)
        first += len(table)


def build_columns(embedded: list[Embedded]) -> dict[str, pa.Array]:
    """Return the columns of N embeddings without a copy of the numbers: `embedding`, float32 [N, D] as a fixed-size
    list, or lists of them; where tokens have intervals `token_interval`, lists of int64 [2]."""
    if embedded[0].vectors.ndim == 1:
        return {COLUMN: pack_vectors(np.stack([one.vectors for one in embedded]))}
    columns = {COLUMN: pack_lists([one.vectors for one in embedded])}
    intervals = [one.intervals for one in embedded if one.intervals is not None]
    if intervals:
        columns[TOKENS] = pack_lists(intervals)
    return columns


def spread_vectors(table: pa.Table, first: int = 1) -> pa.Table:
    """Give each dimension a column of its own, `embedding_0`, `embedding_1` ..., and each vector a row.

    Args:
        table: N rows with the columns of `build_columns` behind others.
        first: number of the first row.

    Returns:
        The other columns, and of pooled vectors N rows with the dimensions. Of tokens or bases a row for each of them:
        `data_row`, the row that it is of; `token`, its number in that, and `token_start` and `token_end`, its bases
        (-1 of special tokens); or `base`, its number; then the dimensions.
    """
    vectors = table[COLUMN].combine_chunks()
    others = table.drop_columns([name for name in (COLUMN, TOKENS) if name in table.column_names])
    columns: dict[str, Any] = {}
    if not pa.types.is_fixed_size_list(vectors.type):
        lengths = np.diff(vectors.offsets.to_numpy())
        rows = np.repeat(np.arange(len(table)), lengths)
        others = others.take(rows)
        numbers = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        columns["data_row"] = pa.array(first + rows)
        if TOKENS in table.column_names:
            intervals = unpack(table[TOKENS]).reshape(-1, 2)
            columns |= dict(zip(("token", "token_start", "token_end"), map(pa.array, (numbers, *intervals.T))))
        else:
            columns["base"] = pa.array(numbers)
    matrix = unpack(table[COLUMN]).reshape(-1, _find_width(table[COLUMN].type))
    columns |= {f"{COLUMN}_{place}": pa.array(values) for place, values in enumerate(matrix.T)}
    names = [*others.column_names, *columns]
    # Not made of a dictionary: names of others may be repeated there no more than here.
    return pa.Table.from_arrays([*others.columns, *columns.values()], names=names)


def _find_width(kind: pa.DataType) -> int:
    return kind.list_size if pa.types.is_fixed_size_list(kind) else kind.value_type.list_size


class _Stream(NamedTuple):
    """An array that is written piece by piece."""

    shape: tuple[int, ...]
    dtype: np.dtype
    pieces: Iterable[np.ndarray]


def _list_arrays(parts: Parts, count: int) -> dict[str, _Stream]:
    """The arrays of all parts: `embeddings` [V, D]; of tokens or bases `offsets` [N + 1], where in them each row
    begins, and of tokens `intervals` [V, 2]."""
    lengths: list[np.ndarray] = []
    vectors = rows = width = 0
    names: list[str] = []
    for table in parts.read(range(count)):
        column = table[COLUMN].combine_chunks()
        if not pa.types.is_fixed_size_list(column.type):
            lengths.append(np.diff(column.offsets.to_numpy()))
            column = column.flatten()
        rows, vectors, width, names = (
            rows + len(table),
            vectors + len(column),
            column.type.list_size,
            table.column_names,
        )
    arrays = {
        "embeddings": _Stream((vectors, width), np.dtype("<f4"), (unpack(t[COLUMN]) for t in parts.read(range(count))))
    }
    if lengths:
        offsets = np.cumsum(np.concatenate([[0], *lengths]), dtype=np.int64)
        arrays["offsets"] = _Stream((rows + 1,), np.dtype("<i8"), [offsets])
    if TOKENS in names:
        pieces = (unpack(table[TOKENS]) for table in parts.read(range(count)))
        arrays["intervals"] = _Stream((vectors, 2), np.dtype("<i8"), pieces)
    return arrays


def _write_parquet(parts: Parts, count: int) -> None:
    first = next(parts.read(range(1)))
    others = [name for name in first.column_names if name not in (COLUMN, TOKENS)]
    schema = first.schema.with_metadata({b"gengram": json.dumps(parts.plan).encode()})
    # Vectors hardly repeat and hardly shrink: without a dictionary and without compression they are just copied.
    options: dict[str, Any] = {"use_dictionary": others or False, "write_statistics": others or False}
    options["compression"] = dict.fromkeys(others, "snappy") if others else "none"
    with (
        open_whole(parts.out) as stream,
        pa.parquet.ParquetWriter(stream, schema, **options) as writer,
    ):
        for table in parts.read(range(count)):
            writer.write_table(table.replace_schema_metadata(schema.metadata))


def _write_npz(parts: Parts, count: int) -> None:
    with open_whole(parts.out) as stream, zipfile.ZipFile(stream, "w") as archive:
        for name, array in _list_arrays(parts, count).items():
            # A ZipInfo of its own has no time of day in it.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                header = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape}
                np.lib.format.write_array_header_2_0(member, header)
                for piece in array.pieces:
                    member.write(np.ascontiguousarray(piece, dtype=array.dtype).data)


def _write_safetensors(parts: Parts, count: int) -> None:
    arrays = _list_arrays(parts, count)
    numbers = {
        name: Numbers("F32" if array.dtype.kind == "f" else "I64", array.shape, array.dtype.itemsize)
        for name, array in arrays.items()
    }
    with open_safetensors(parts.out, numbers, {"gengram": json.dumps(parts.plan)}) as stream:
        for array in arrays.values():
            for piece in array.pieces:
                stream.write(np.ascontiguousarray(piece, dtype=array.dtype).data)


_WRITERS = {".parquet": _write_parquet, ".npz": _write_npz, ".safetensors": _write_safetensors}


def describe_vectors(path: Path) -> dict[str, int]:
    """Return what is in a written file: the number of `vectors` and their `dimension`."""
    suffix = find_suffix(path)
    if suffix not in _WRITERS:
        rows, columns = count_rows(path)
        return {"vectors": rows, "dimension": next(place for place in count() if f"{COLUMN}_{place}" not in columns)}
    if suffix == ".parquet":
        file = pyarrow.parquet.ParquetFile(path)
        kind = file.schema_arrow.field(COLUMN).type
        width = _find_width(kind)
        leaf = next(i for i in range(len(file.schema.names)) if file.schema.column(i).path.startswith(f"{COLUMN}."))
        numbers = sum(file.metadata.row_group(i).column(leaf).num_values for i in range(file.num_row_groups))
        return {"vectors": numbers // width, "dimension": width}
    if suffix == ".npz":
        with zipfile.ZipFile(path) as archive, archive.open("embeddings.npy") as member:
            np.lib.format.read_magic(member)
            shape, _, _ = np.lib.format.read_array_header_2_0(member)
    else:
        with open(path, "rb") as stream:
            (size,) = struct.unpack("<Q", stream.read(8))
            shape = json.loads(stream.read(size))["embeddings"]["shape"]
    return {"vectors": shape[0], "dimension": shape[1]}


__all__ = ["COLUMN", "TOKENS", "assemble_vectors", "build_columns", "describe_vectors", "spread_vectors"]
