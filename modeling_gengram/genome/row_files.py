"""How are rows written so that other programs open them? Parquet, TSV, CSV, BED and bedGraph, by the file's name.

- Numbers have the digits that give them back exactly: a float32 in text is read as the same float32.
- TSV and CSV begin with the names of the columns. A cell with the separator, a quote or a line end is in quotes (RFC
  4180). A missing value is an empty cell. A list has its values between semicolons, as lists of labels have; where a
  text in it has a semicolon, it is JSON, and so are lists of lists, and objects.
- BED has the six columns that it begins with, then all others of the rows; a line that begins with `#` names them. What
  would end a column is written as an escape (`\\t`), a missing value is `.`.
- bedGraph is sorted by contig (as bytes) and start, and has no line for a row without a value.
- With `.gz` behind the name they are bgzip, which gunzip, pandas and tabix read.
"""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from gengram.files import find_suffix, replace_whole
from gengram.genome.formats import DELIMITERS
from gengram.genome.places import COLUMNS, sort_places
from gengram.genome.text import open_output, open_text
from gengram.genome.values import is_list, is_text
from gengram.printable import make_printable

BED = (*COLUMNS, "name", "score", "strand")

_ROWS = 1024  # as text in memory at once
_GROUP_ROWS, _GROUP_BYTES = 1 << 16, 64 << 20  # of a Parquet file, in memory at once
_CONTROL = r"[\x00-\x1f\x7f-\x9f\x{2028}\x{2029}]"


def write_rows(
    out: Path, tables: pa.Table | Iterable[pa.Table], *, values: Sequence[str] = (), label: str | None = None
) -> None:
    """Write rows in the format that the file's name tells, in one piece; one table is in memory at a time.

    Args:
        out: `.parquet`, `.tsv`, `.csv`, `.bed` or `.bedgraph`, all but the first also with `.gz`; replaced if it is
            there. `gengram.pipelines.outputs.check_output` has looked at the name.
        tables: at least one, all with the same columns. For BED and bedGraph with `chrom`, `start` and `end` as BED
            counts (see `gengram.genome.places.place_rows`); for BED with `name` and `strand` where there are any.
        values: columns of numbers. The score of a BED line is 1000 times the highest of them, which are probabilities,
            and 0 where there are none. A bedGraph has exactly one, and its places are in memory, all of them.
        label: what a bedGraph calls this column; by default as it is called here.

    Raises:
        `InputError`: it cannot be written; rows of a bedGraph that overlap.
    """
    parts = iter([tables] if isinstance(tables, pa.Table) else tables)
    first = next(parts)
    rows = itertools.chain([first], parts)
    suffix = find_suffix(out)
    if suffix == ".parquet":
        with replace_whole(out) as partial, pa.parquet.ParquetWriter(partial, first.schema) as writer:
            for table in _gather(rows):
                writer.write_table(table)
        return
    with open_output(out) as write:
        if suffix in DELIMITERS:
            _write_table(write, rows, first.column_names, DELIMITERS[suffix])
        elif suffix == ".bed":
            write_bed(write, rows, values)
        else:
            _write_bedgraph(write, rows, *values, label=label or values[0], out=out)


def count_rows(path: Path) -> tuple[int, list[str]]:
    """Return the number of rows of a file that `write_rows` or `write_track` has written, and its columns' names."""
    suffix = find_suffix(path)
    if suffix == ".parquet":
        file = pa.parquet.ParquetFile(path)
        return file.metadata.num_rows, file.schema_arrow.names
    with open_text(path) as file:
        if suffix not in DELIMITERS:
            header = file.readline().decode()
            return sum(1 for _ in file), header.removeprefix("#").rstrip("\n").split("\t")
        options = {"parse_options": pa.csv.ParseOptions(delimiter=DELIMITERS[suffix], newlines_in_values=True)}
        with pa.csv.open_csv(file, **options) as reader:
            return sum(len(batch) for batch in reader), reader.schema.names


def name_column(label: str) -> str:
    """Return the line with which a bedGraph file of a class, target or feature begins; all readers pass over it.

    A line `track type=bedGraph` would stop tabix and bedGraphToBigWig.
    """
    return "\t".join(("#chrom", "start", "end", _escape(label))) + "\n"


def _write_table(write: Callable[[str], None], tables: Iterator[pa.Table], names: list[str], separator: str) -> None:
    header = _quote(pa.array(names), separator).to_pylist()
    write(separator.join(header) + "\n")
    for batch in _cut(tables):
        cells = [_quote(_spell(column), separator) for column in batch.columns]
        if len(cells) == 1:  # An empty line is no row for most readers.
            cells = [pc.if_else(pc.equal(cells[0], ""), '""', cells[0])]
        _write_lines(write, cells, separator)


def write_bed(write: Callable[[str], Any], tables: Iterator[pa.Table], values: Sequence[str]) -> None:
    """Write rows as BED; arguments as those of `write_rows`."""
    first = next(tables)
    names, tables = first.column_names, itertools.chain([first], tables)
    others = [name for name in names if name not in {*COLUMNS, "name", "strand"}]
    called = list(others)
    if "score" in called:
        free = next(name for number in itertools.count() if (name := f"input_score{'_' * number}") not in names)
        called[called.index("score")] = free
    write("\t".join(("#chrom", *BED[1:], *map(_escape, called))) + "\n")
    for batch in _cut(tables):
        dots = pa.array(["."] * len(batch))
        name, strand = (batch[name] if name in batch.column_names else dots for name in ("name", "strand"))
        columns = [*(batch[name] for name in COLUMNS), name, _score(batch, values), strand]
        _write_lines(write, [_clean(column) for column in (*columns, *(batch[one] for one in others))], "\t")


def _score(batch: pa.Table, values: Sequence[str]) -> pa.Array:
    highest = pc.max_element_wise(*(batch[name] for name in values)) if values else pa.nulls(len(batch), pa.float32())
    return pc.round(pc.multiply(pc.fill_null(highest, 0).cast(pa.float64()), 1000)).cast(pa.int64())


def _write_bedgraph(
    write: Callable[[str], None], tables: Iterator[pa.Table], value: str, *, label: str, out: Path
) -> None:
    rows = pa.concat_tables(table.select([*COLUMNS, value]) for table in tables)
    order = sort_places(
        np.asarray(rows["chrom"].to_pylist(), dtype=object),
        rows["start"].to_numpy(),
        rows["end"].to_numpy(),
        lambda row: f"{out}, data row {row + 1}",
    )
    write(name_column(label))
    rows = rows.take(order)
    rows = rows.filter(pc.is_valid(rows[value]))
    for batch in _cut(iter([rows])):
        _write_lines(write, [_spell(column) for column in batch.columns], "\t")


def _gather(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Put small tables together: each that is written to a Parquet file is a group of rows, with its own header."""
    waiting: list[pa.Table] = []
    rows = size = 0
    for table in tables:
        if waiting and (rows + len(table) > _GROUP_ROWS or size + table.nbytes > _GROUP_BYTES):
            yield pa.concat_tables(waiting).combine_chunks()
            waiting, rows, size = [], 0, 0
        waiting.append(table)
        rows, size = rows + len(table), size + table.nbytes
    yield pa.concat_tables(waiting).combine_chunks()


def _cut(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    for table in tables:
        for start in range(0, len(table), _ROWS):
            yield table.slice(start, _ROWS).combine_chunks()


def _write_lines(write: Callable[[str], Any], cells: Sequence[pa.Array], separator: str) -> None:
    lines = pc.binary_join_element_wise(*cells, separator) if len(cells) > 1 else cells[0]
    write("\n".join([*lines.to_pylist(), ""]))


def _spell(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return each value as text; a missing one is empty."""
    values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if is_list(values.type) and (joined := _join(values)) is not None:
        return joined
    if not pa.types.is_nested(values.type) and not pa.types.is_binary(values.type):
        return pc.fill_null(values.cast(pa.string()), "")
    return pa.array(["" if value is None else _dump(value) for value in values.to_pylist()], pa.string())


def _join(values: pa.Array) -> pa.Array | None:
    """Return lists as their values between semicolons; None where they are not to be told apart like that."""
    flat = pc.list_flatten(values)
    if pa.types.is_nested(flat.type) or pa.types.is_binary(flat.type):
        return None
    texts = _spell(flat)
    lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy()
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), texts), ";")
    if not is_text(flat.type) or not pc.any(unclear := pc.match_substring_regex(texts, r";|^\[")).as_py():
        return joined
    rows = np.unique(np.searchsorted(offsets, np.flatnonzero(unclear.to_numpy(zero_copy_only=False)), "right") - 1)
    cells = joined.to_pylist()
    for row in rows.tolist():
        cells[row] = _dump(values[row].as_py())
    return pa.array(cells)


def _dump(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False, default=str)


def _quote(cells: pa.Array, separator: str) -> pa.Array:
    needed = pc.match_substring_regex(cells, f'["\r\n{separator}]')
    if not pc.any(needed).as_py():
        return cells
    quoted = pc.binary_join_element_wise('"', pc.replace_substring(cells, '"', '""'), '"', "")
    return pc.if_else(needed, quoted, cells)


def _clean(values: pa.Array) -> pa.Array:
    """Return values as text in which nothing ends a column or a line of a BED file; what is empty is a dot."""
    cells = _spell(values)
    kind = values.type
    if (pa.types.is_integer(kind) or pa.types.is_floating(kind)) and not values.null_count:
        return cells
    cells = pc.if_else(pc.equal(cells, ""), ".", cells)
    if not pc.any(pc.match_substring_regex(cells, _CONTROL)).as_py():
        return cells
    return pa.array([_escape(cell) for cell in cells.to_pylist()])


def _escape(text: str) -> str:
    return make_printable(text) or "."


__all__ = ["BED", "count_rows", "name_column", "write_bed", "write_rows"]
