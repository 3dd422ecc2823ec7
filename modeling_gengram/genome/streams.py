"""Rows of files of any size, some at a time: the formats of `read_rows`, never a whole file in memory."""

import gzip
import itertools
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from gengram.errors import InputError
from gengram.genome.fasta import read_fasta
from gengram.genome.intervals import stream_intervals
from gengram.genome.tables import (
    SEQUENCE_COLUMNS,
    SUFFIXES,
    find_column,
    is_text,
    read_bytes,
    strip_blanks,
)
from gengram.genome.text import read_lines

ROWS = 1024
"""Rows of a block."""

_BLOCK_BYTES = 4 << 20
_DELIMITERS = {".csv": ",", ".tsv": "\t"}


def survey_rows(
    path: str | Path,
    sequence_column: str | None = None,
    genome: str | Path | None = None,
    look: Callable[[int, list[str]], None] = lambda start, sequences: None,
) -> tuple[int, pa.Schema]:
    """Read a file once from end to end: every fault is found, and the types of all columns are known.

    Args:
        path, sequence_column, genome: see `stream_rows`.
        look: is given the number of the first row of each block, from 0, and its sequences.

    Returns:
        The number of rows, and the columns without the sequences: numbers where a csv or tsv has nothing else.

    Raises:
        `InputError`: see `stream_rows`.
    """
    rows, schema = 0, pa.schema([])
    for block in stream_rows(path, sequence_column, genome):
        look(rows, block["sequence"].to_pylist())
        rows += len(block)
        others = block.drop_columns("sequence")
        try:
            if _find_suffix(path) in _DELIMITERS:
                schema = _guess_types(others, schema)
            else:
                schema = pa.unify_schemas([schema, others.schema], promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise InputError(f"{path}: the values of a column are of different kinds ({error})") from error
    # A column in which no row has a value is text.
    return rows, pa.schema(
        [field.with_type(pa.string()) if pa.types.is_null(field.type) else field for field in schema]
    )


def stream_rows(
    path: str | Path, sequence_column: str | None = None, genome: str | Path | None = None
) -> Iterator[pa.Table]:
    """Read a file in blocks of at most `ROWS` rows.

    Args:
        path: a `.csv`, `.tsv`, `.jsonl` or `.parquet` table, a FASTA file or a `.bed` file, or one of these with `.gz`;
            a table without header is not read.
        sequence_column: the column of sequences; by default the first of `SEQUENCE_COLUMNS` that there is.
        genome: the FASTA file that a BED file's intervals are cut from; the contigs that it names are in memory.

    Yields:
        `sequence` (string, without blanks around it), then the other columns: those of a csv or tsv as text, of a FASTA
        file `name`, the whole header.

    Raises:
        `InputError`: a file that is missing, empty, cut off or of another format, a column that is not there, a row
            without sequence, naming it (data rows count from 1).
    """
    path, suffix, row = Path(path), _find_suffix(path), 0
    wanted = [sequence_column] if sequence_column else list(SEQUENCE_COLUMNS)
    for table in _read_tables(path, suffix, genome):
        column = "sequence"
        if suffix not in (".fa", ".fasta", ".fna", ".bed"):
            column = find_column(table.column_names, path, wanted, "sequence")
        if twice := [name for name, times in Counter(table.column_names).items() if times > 1]:
            raise InputError(f"{path}: several columns are called {twice[0]!r}")
        others = [name for name in table.column_names if name not in ("sequence", column)]
        if not is_text(table[column].type):
            raise InputError(f"{path}: column {column!r} holds {table[column].type}, not sequences")
        sequences = strip_blanks(table[column])
        if sequences.null_count:
            number = row + sequences.is_null().to_pylist().index(True) + 1
            raise InputError(
                f"{path}, data row {number}: column {column!r} has no value. Fill it in or remove the row."
            )
        row += len(table)
        arranged = pa.table([sequences, *(table[name] for name in others)], names=["sequence", *others])
        for start in range(0, len(arranged), ROWS):
            yield arranged.slice(start, ROWS)
    if not row:
        raise InputError(f"{path}: the file has no data rows")


def _find_suffix(path: str | Path) -> str:
    path = Path(path)
    return (Path(path.stem) if path.suffix == ".gz" else path).suffix


def _read_tables(path: Path, suffix: str, genome: str | Path | None) -> Iterator[pa.Table]:
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: unknown format {suffix!r}; give a {', '.join(SUFFIXES)} file, plain or .gz")
    if suffix == ".bed":
        if genome is None:
            raise InputError(f"{path}: intervals need a genome to be cut from: give its FASTA file with --genome")
        return stream_intervals(path, genome, ROWS)
    if suffix in _DELIMITERS:
        return _read_csv(path, _DELIMITERS[suffix])
    if suffix == ".jsonl":
        return _read_jsonl(path)
    return _read_parquet(path) if suffix == ".parquet" else _read_fasta(path)


def _read_fasta(path: Path) -> Iterator[pa.Table]:
    records = read_fasta(path)
    while block := list(itertools.islice(records, ROWS)):
        yield pa.table({"sequence": [one for *_, one in block], "name": [header for _, header, _ in block]})


def _read_jsonl(path: Path) -> Iterator[pa.Table]:
    lines = ((number, line) for number, line in read_lines(path, universal=True) if line.strip())
    while block := list(itertools.islice(lines, ROWS)):
        records = []
        for number, line in block:
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise InputError(f"{path}, line {number}: not JSON ({error}), or cut off") from error
            if not isinstance(records[-1], dict):
                raise InputError(f"{path}, line {number}: one JSON object a line is needed")
        names = dict.fromkeys(name for record in records for name in record)
        try:
            yield pa.table({name: pa.array([record.get(name) for record in records]) for name in names})
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            first, last = block[0][0], block[-1][0]
            raise InputError(
                f"{path}, lines {first}-{last}: the values of a column are of different kinds ({error})"
            ) from error


def _read_parquet(path: Path) -> Iterator[pa.Table]:
    try:
        # Compressed once more it has no end to begin with, and is unpacked in memory.
        file = pa.parquet.ParquetFile(pa.BufferReader(read_bytes(path)) if path.suffix == ".gz" else path)
        for batch in file.iter_batches(batch_size=ROWS):
            table = pa.Table.from_batches([batch])
            for position, field in enumerate(table.schema):
                if pa.types.is_dictionary(field.type):
                    table = table.set_column(position, field.name, table[position].cast(field.type.value_type))
            yield table
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: not a Parquet file, or cut off ({error})") from error


def _read_csv(path: Path, delimiter: str) -> Iterator[pa.Table]:
    faults: list[str] = []

    def stop(row: pa.csv.InvalidRow) -> str:
        faults.append(f"{row.actual_columns} columns where the header has {row.expected_columns}: {row.text[:60]!r}")
        return "error"

    reading = pa.csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES)
    parsing = pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=stop)
    row = 0
    try:
        with open(path, "rb") as raw:
            compressed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            with gzip.open(raw) if compressed else raw as file:
                names = pa.csv.open_csv(file, reading, parsing).schema.names
                file.seek(0)
                converting = pa.csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True
                )
                for batch in pa.csv.open_csv(file, reading, parsing, converting):
                    row += batch.num_rows
                    yield pa.Table.from_batches([batch])
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: the gzip file is cut off or damaged ({error}); fetch it again") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except pa.ArrowInvalid as error:
        if "Empty CSV" in str(error):
            raise InputError(f"{path}: the file is empty") from error
        what = f"not a table of text separated by {delimiter!r} ({error})"
        if "straddling" in str(error):
            what = f"a row of more than {_BLOCK_BYTES >> 20} MB; sequences of that length belong in a FASTA file"
        raise InputError(f"{path}, behind data row {row}: {faults[0] if faults else what}") from error


def _guess_types(table: pa.Table, before: pa.Schema) -> pa.Schema:
    """The narrowest types that hold a block's columns of text and the blocks before it."""
    kinds = [pa.null(), pa.int64(), pa.float64(), pa.string()]
    fields = []
    for name in table.column_names:
        known = kinds.index(before.field(name).type) if name in before.names else 0
        fields.append(pa.field(name, next(kind for kind in kinds[known:] if _is_all(table[name], kind))))
    return pa.schema(fields)


def _is_all(values: pa.ChunkedArray, kind: pa.DataType) -> bool:
    try:
        pc.cast(values, kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return False
    return True


__all__ = ["ROWS", "stream_rows", "survey_rows"]
