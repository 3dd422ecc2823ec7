"""Rows of labelled sequences from tables, FASTA and BED files, plain or gzip, as `datasets.Dataset`.

A row number in a message counts data rows from 1: the header of a csv or tsv is not a row.
"""

import gzip
import hashlib
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from datasets import Dataset, DatasetInfo, Features, Value, concatenate_datasets

from gengram.errors import InputError
from gengram.genome.fasta import read_labelled_fasta
from gengram.genome.intervals import read_intervals

SEQUENCE_COLUMNS = ("sequence", "seq", "dna", "dna_sequence", "sequences")
"""Names under which the sequence column is looked for, in this order; upper and lower case are the same."""

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_FASTA = (".fa", ".fasta", ".fna")

SUFFIXES = (*_DELIMITERS, ".jsonl", ".parquet", *_FASTA, ".bed")
"""What files are called that can be read; each may have `.gz` behind it."""

_GZIP_MAGIC = b"\x1f\x8b"
_JSON_EXAMPLE = '{"sequence": "ACGT", "label": 1}'
# A first field like this is a sequence, not the name of a column: the table has no header.
_BARE_SEQUENCE = re.compile(rb"[ACGTUNacgtun]{20,}")


def read_rows(
    path: str | Path,
    sequence_column: str | None = None,
    text_columns: tuple[str, ...] | list[str] = (),
    genome: str | Path | None = None,
    needs_labels: bool = True,
) -> Dataset:
    """Read a table of sequences.

    Args:
        path: a `.csv`, `.tsv`, `.jsonl` or `.parquet` table, a FASTA file (`.fa`, `.fasta`, `.fna`; see
            `read_labelled_fasta`), a `.bed` file (see `read_intervals`), or one of these with `.gz`. The name tells the
            format; whether it is compressed is seen from its first bytes. A csv or tsv whose first field is a sequence
            of 20 letters or more has no header: its columns are `sequence` and `label`, or `label_0`, `label_1`, ...
        sequence_column: the column of sequences; by default the first of `SEQUENCE_COLUMNS` that there is.
        text_columns: columns of a csv or tsv that are read as text even where all values look like numbers.
        genome: the FASTA file that a BED file's intervals are cut from.
        needs_labels: whether a FASTA header without label is an error.

    Returns:
        `Dataset` in memory, in the file's order: `sequence` (string, without blanks around it), then the file's other
        columns as they are.

    Raises:
        `InputError`: a file that is missing, empty, cut off or of another format, a column that is not there, a row
            without sequence.
    """
    path = Path(path)
    suffix = (Path(path.stem) if path.suffix == ".gz" else path).suffix
    if suffix in _FASTA:
        return arrange_rows(read_labelled_fasta(path, needs_labels), path)
    if suffix == ".bed":
        if genome is None:
            raise InputError(f"{path}: intervals need a genome to be cut from: give its FASTA file with --genome")
        return arrange_rows(read_intervals(path, genome), path)
    text_columns = [*SEQUENCE_COLUMNS, sequence_column or SEQUENCE_COLUMNS[0], *text_columns]
    return arrange_rows(_read_arrow(path, suffix, set(text_columns)), path, sequence_column)


def add_labels(
    rows: Dataset, path: str | Path, label_path: str | Path, text_columns: tuple[str, ...] | list[str] = ()
) -> Dataset:
    """Add the columns of a table of labels to sequences that came without, such as those of a FASTA file.

    Args:
        rows: N rows with `sequence`.
        path: where they are from, for messages.
        label_path: a `.csv`, `.tsv`, `.txt` (separated by tabs), `.jsonl` or `.parquet` table, plain or `.gz`. If it
            and the rows have a column `name`, rows are found by it, and the table may have more of them; otherwise its
            rows are those of the sequences, in the same order.
        text_columns: see `read_rows`.

    Returns:
        The rows with the table's columns behind their own.

    Raises:
        `InputError`: see `read_rows`; another number of rows, a name that the table lacks or has twice, a column that
            both have.
    """
    label_path = Path(label_path)
    suffix = (Path(label_path.stem) if label_path.suffix == ".gz" else label_path).suffix
    table = _read_arrow(label_path, ".tsv" if suffix == ".txt" else suffix, {"name", *text_columns})
    if "name" in table.column_names and "name" in rows.column_names:
        table = table.take(_find_names(rows["name"], table["name"].to_pylist(), path, label_path)).drop_columns("name")
    elif table.num_rows != len(rows):
        raise InputError(
            f"{label_path} has {table.num_rows} rows, but {path} has {len(rows)} sequences: without a column 'name' "
            "the two go together row by row"
        )
    if both := [name for name in table.column_names if name in rows.column_names]:
        raise InputError(f"{label_path}: {path} has a column {both[0]!r}, too; rename one of them")
    return concatenate_datasets([rows, Dataset(table.replace_schema_metadata())], axis=1)


def _find_names(names: Iterable[str], known: list[str], path: str | Path, label_path: Path) -> list[int]:
    """Return the row of `known` that each name has."""
    places = {name: place for place, name in enumerate(known)}
    if len(places) < len(known):
        twice = Counter(known).most_common(1)[0][0]
        raise InputError(f"{label_path}: several rows are called {twice!r}, so it is not clear which is meant")
    if missing := [name for name in names if name not in places]:
        raise InputError(f"{label_path}: no row is called {missing[0]!r}, as a sequence of {path} is")
    return [places[name] for name in names]


def arrange_rows(table: pa.Table, path: str | Path, sequence_column: str | None = None) -> Dataset:
    """Put the sequences of a table into the column `sequence`, without blanks around them; see `read_rows`."""
    wanted = [sequence_column] if sequence_column else SEQUENCE_COLUMNS
    sequence_column = find_column(table.column_names, path, wanted, "sequence")
    if table.num_rows == 0:
        raise InputError(f"{path}: the file has a header but no data rows")
    name, times = Counter(table.column_names).most_common(1)[0]
    if times > 1:
        raise InputError(f"{path}: {times} columns are called {name!r}")
    features = Features.from_arrow_schema(table.schema)
    columns: dict[str, pa.ChunkedArray] = {"sequence": _read_sequences(table, path, sequence_column)}
    for name in table.column_names:
        if name not in {"sequence", sequence_column}:
            columns[name] = table[name]
    kept = {name: features[name] for name in columns if name != "sequence"}
    return Dataset(pa.table(columns), info=DatasetInfo(features=Features({"sequence": Value("string"), **kept})))


def find_column(names: list[str], path: str | Path, wanted: list[str] | tuple[str, ...], role: str) -> str:
    """Return the first of the wanted names that a file has; upper and lower case are the same unless both occur.

    Args:
        names: of the file's columns.
        path: the file, for messages.
        wanted: in the order of preference.
        role: `sequence` or `label`, for messages.

    Raises:
        `InputError`: the file has none of them.
    """
    for name in wanted:
        if name in names:
            return name
        if same := [other for other in names if other.lower() == name.lower()]:
            return same[0]
    raise InputError(
        f"{path}: no {role} column {' or '.join(map(repr, wanted))}; the file's columns are {shorten(names)}. Name the "
        f"right one with --{role}_column."
    )


def hash_file(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def is_text(kind: pa.DataType) -> bool:
    """Whether an Arrow type holds text."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def strip_blanks(values: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray:
    """Remove blanks around texts; what is empty then is missing (null)."""
    values = pc.utf8_trim_whitespace(values.cast(pa.string()))
    return pc.if_else(pc.equal(values, ""), pa.scalar(None, pa.string()), values)


def refuse_missing(values: pa.ChunkedArray, path: str | Path, column: str) -> None:
    """Raise an `InputError` that names the first row without a value, if there is one."""
    if values.null_count:
        row = values.is_null().to_pylist().index(True) + 1
        raise InputError(
            f"{path}, data row {row}: column {column!r} has no value (rows like this: {values.null_count} of "
            f"{len(values)}). Fill them in or remove the rows."
        )


def shorten(values: list, most: int = 12) -> str:
    """Return the values for a message, the first of them if they are many."""
    shown = ", ".join(repr(value) for value in values[:most])
    return f"{shown}, ... ({len(values)} in all)" if len(values) > most else shown


def read_bytes(path: Path) -> bytes:
    """Return the content of a file, decompressed if it is gzip.

    Raises:
        `InputError`: it cannot be read, is cut off, or holds nothing but blanks.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if content.startswith(_GZIP_MAGIC):
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise InputError(f"{path}: the gzip file is cut off or damaged ({error}); fetch it again") from error
    if not content or content.isspace():
        raise InputError(f"{path}: the file is empty")
    return content


def _read_arrow(path: Path, suffix: str, text_columns: set[str]) -> pa.Table:
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: unknown format {suffix!r}; give a {', '.join(SUFFIXES)} file, plain or .gz")
    content = read_bytes(path)
    if suffix == ".jsonl":
        return _parse_lines(path, content)
    if suffix in _DELIMITERS:
        return _parse_csv(path, content, _DELIMITERS[suffix], text_columns)
    try:
        table = pa.parquet.read_table(pa.BufferReader(content))
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: not a Parquet file, or cut off ({error})") from error
    for position, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            plain = table[field.name].cast(field.type.value_type)
            table = table.set_column(position, pa.field(field.name, plain.type, metadata=field.metadata), plain)
    return table


def _parse_lines(path: Path, content: bytes) -> pa.Table:
    records = []
    try:
        for number, line in enumerate(content.decode("utf-8-sig").split("\n"), start=1):
            if line.strip():
                records.append(json.loads(line))
                if not isinstance(records[-1], dict):
                    raise InputError(f"{path}, line {number}: one JSON object a line is needed, e.g. {_JSON_EXAMPLE}")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not text ({error})") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {number}: not JSON ({error}), or cut off") from error
    # The columns of all rows, not of the first one only.
    names = list(dict.fromkeys(name for record in records for name in record))
    columns = {}
    for name in names:
        try:
            columns[name] = pa.array([record.get(name) for record in records])
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise InputError(f"{path}: the values of {name!r} are of different kinds ({error})") from error
    return pa.table(columns)


def _parse_csv(path: Path, content: bytes, delimiter: str, text_columns: set[str]) -> pa.Table:
    ragged = []

    def stop(row: pa.csv.InvalidRow) -> str:
        ragged.append(row)
        return "error"

    fields = content.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0].split(delimiter.encode())
    names = None
    if _BARE_SEQUENCE.fullmatch(fields[0].strip().strip(b'"')):
        labels = ["label"] if len(fields) == 2 else [f"label_{position}" for position in range(len(fields) - 1)]
        names = ["sequence", *labels]
    # One thread and one block: only then does the parser know the number of a faulty row.
    reading = pa.csv.ReadOptions(use_threads=False, block_size=len(content) + 1, column_names=names)
    parsing = pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=stop)
    # As text: the labels 0 and 1 and "N" in one column are names. The usual spellings of "missing" (empty, NA, NaN,
    # null ...) are missing here too.
    converting = pa.csv.ConvertOptions(column_types=dict.fromkeys(text_columns, pa.string()), strings_can_be_null=True)
    try:
        return pa.csv.read_csv(pa.BufferReader(content), reading, parsing, converting)
    except pa.ArrowInvalid as error:
        if ragged:
            row = ragged[0]
            raise InputError(
                f"{path}, data row {row.number - (names is None)}: {row.actual_columns} columns where the "
                f"{'header' if names is None else 'first row'} has {row.expected_columns}: {row.text[:60]!r}"
            ) from error
        if "cannot infer number of columns" in str(error):
            raise InputError(f"{path}: the file has a header but no data rows") from error
        raise InputError(f"{path}: not a table of text separated by {delimiter!r} ({error})") from error


def _read_sequences(table: pa.Table, path: str | Path, column: str) -> pa.ChunkedArray:
    values = table[column]
    if not is_text(values.type):
        raise InputError(f"{path}: column {column!r} holds {values.type}, not sequences. See --sequence_column.")
    values = strip_blanks(values)
    refuse_missing(values, path, column)
    return values


__all__ = [
    "SEQUENCE_COLUMNS",
    "SUFFIXES",
    "add_labels",
    "arrange_rows",
    "find_column",
    "hash_file",
    "is_text",
    "read_bytes",
    "read_rows",
    "refuse_missing",
    "shorten",
    "strip_blanks",
]
