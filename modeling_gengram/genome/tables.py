"""Rows of labelled sequences from tables, FASTA and BED files, plain or gzip, as `datasets.Dataset`.

A row number in a message counts data rows from 1: the header of a csv or tsv is not a row.
"""

import io
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from datasets import Dataset, DatasetInfo, Features, Value, concatenate_datasets

from gengram.errors import InputError
from gengram.genome.contigs import Genome
from gengram.genome.fasta import read_labelled_fasta
from gengram.genome.formats import (
    DELIMITERS,
    FASTA,
    JSON,
    build_table,
    find_format,
    parse_csv,
    read_bytes,
    read_records,
    require_genome,
    spell_out,
    take_header,
    tell_no_parquet,
)
from gengram.genome.intervals import read_intervals
from gengram.genome.text import open_text
from gengram.genome.values import (
    NoNameError,
    cast_values,
    check_values,
    guess_type,
    is_identifier,
    is_text,
    read_names,
    strip_blanks,
)

SEQUENCE_COLUMNS = ("sequence", "seq", "dna", "dna_sequence", "sequences")
"""Names under which the sequence column is looked for, in this order; upper and lower case are the same."""

_LONGEST = 80  # letters of a value in a message


def read_rows(
    path: str | Path,
    sequence_column: str | None = None,
    text_columns: tuple[str, ...] | list[str] = (),
    genome: str | Path | Genome | None = None,
    needs_labels: bool = True,
) -> Dataset:
    """Read a table of sequences.

    Args:
        path: a `.csv`, `.tsv`, `.jsonl`, `.json` or `.parquet` table, a FASTA file (`.fa`, `.fasta`, `.fna`; see
            `read_labelled_fasta`), a `.bed` file (see `read_intervals`), or one of these with `.gz`. The name tells the
            format; whether it is compressed is seen from its first bytes. A csv or tsv whose first field is a sequence
            of 20 letters or more has no header: its columns are `sequence` and `label`, or `label_0`, `label_1`, ...
        sequence_column: the column of sequences; by default the first of `SEQUENCE_COLUMNS` that there is.
        text_columns: columns of a csv or tsv that are read as text even where all values are numbers, as those of
            sequences and identifiers are.
        genome: the FASTA file that a BED file's intervals are cut from; as a `Genome`, it also finds slices of contigs,
            and has afterwards which contigs were found under other names.
        needs_labels: whether a FASTA header without label is an error.

    Returns:
        `Dataset` in memory, in the file's order: `sequence` (string, without blanks around it), then the file's other
        columns as they are.

    Raises:
        `InputError`: a file that is missing, empty, cut off or of another format, a column that is not there, a row
            without sequence.
    """
    path, suffix = Path(path), find_format(path)
    if suffix in FASTA:
        return arrange_rows(read_labelled_fasta(path, needs_labels), path)
    if suffix == ".bed":
        return arrange_rows(read_intervals(path, require_genome(path, genome)), path)
    text_columns = [*SEQUENCE_COLUMNS, sequence_column or SEQUENCE_COLUMNS[0], *text_columns]
    return arrange_rows(_read_arrow(path, suffix, set(text_columns)), path, sequence_column)


def add_labels(
    rows: Dataset, path: str | Path, label_path: str | Path, text_columns: tuple[str, ...] | list[str] = ()
) -> Dataset:
    """Add the columns of a table of labels to sequences that came without, such as those of a FASTA file.

    Args:
        rows: N rows with `sequence`.
        path: where they are from, for messages.
        label_path: a `.csv`, `.tsv`, `.txt` (separated by tabs), `.jsonl`, `.json` or `.parquet` table, plain or
            `.gz`. If it and the rows have a column `name`, rows are found by it, and the table may have more of them;
            otherwise its rows are those of the sequences, in the same order.
        text_columns: see `read_rows`.

    Returns:
        The rows with the table's columns behind their own.

    Raises:
        `InputError`: see `read_rows`; another number of rows, a name that the table lacks or has twice, a column that
            both have.
    """
    label_path = Path(label_path)
    table = _read_arrow(label_path, find_format(label_path, {".txt": ".tsv"}), {"name", *text_columns})
    refuse_twins(table.column_names, label_path)
    check_values(table, label_path)
    features = find_features(table.schema, label_path)
    if "name" in table.column_names and "name" in rows.column_names:
        table = table.take(_find_names(rows.data.column("name"), table["name"], path, label_path)).drop_columns("name")
    elif table.num_rows != len(rows):
        raise InputError(
            f"{label_path} has {table.num_rows} rows, but {path} has {len(rows)} sequences: without a column 'name' "
            "the two go together row by row"
        )
    if both := [name for name in table.column_names if name in rows.column_names]:
        raise InputError(f"{label_path}: {path} has a column {both[0]!r}, too; rename one of them")
    info = DatasetInfo(features=Features({name: features[name] for name in table.column_names}))
    return concatenate_datasets([rows, Dataset(table, info=info)], axis=1)


def _find_names(names: pa.ChunkedArray, known: pa.ChunkedArray, path: str | Path, label_path: Path) -> list[int]:
    """Return the row of `known` that each name has."""
    wanted, there = read_identifiers(names, path, "name"), read_identifiers(known, label_path, "name")
    places = {name: place for place, name in enumerate(there)}
    if len(places) < len(there):
        twice = Counter(there).most_common(1)[0][0]
        raise InputError(f"{label_path}: several rows are called {twice!r}, so it is not clear which is meant")
    if missing := [name for name in wanted if name not in places]:
        raise InputError(f"{label_path}: no row is called {missing[0]!r}, as a sequence of {path} is")
    return [places[name] for name in wanted]


def read_identifiers(names: pa.ChunkedArray, path: str | Path, column: str) -> list[str]:
    """Return names by which rows are told apart, or those of two files compared: of rows, contigs ... .

    Text is as it is written, without blanks around it and composed (NFC); numbers are their digits, 7.0 is `7`.

    Raises:
        `InputError`: a row without a name, a number that is none.
    """
    if is_text(names.type):
        values = pc.utf8_normalize(strip_blanks(names), form="NFC")
    else:
        try:
            values = read_names(names)
        except (NoNameError, TypeError) as error:
            raise InputError(f"{path}: column {column!r} holds no names ({error})") from error
    refuse_missing(values, path, column)
    return values.to_pylist()


def arrange_rows(table: pa.Table, path: str | Path, sequence_column: str | None = None) -> Dataset:
    """Put the sequences of a table into the column `sequence`, without blanks around them; see `read_rows`."""
    wanted = [sequence_column] if sequence_column else SEQUENCE_COLUMNS
    sequence_column = find_column(table.column_names, path, wanted, "sequence")
    if table.num_rows == 0:
        raise InputError(f"{path}: the file has a header but no data rows")
    refuse_twins(table.column_names, path)
    check_values(table, path)
    features = find_features(table.schema, path)
    columns: dict[str, pa.ChunkedArray] = {"sequence": read_sequences(table, path, sequence_column)}
    for name in table.column_names:
        if name not in {"sequence", sequence_column}:
            columns[name] = table[name]
    kept = {name: features[name] for name in columns if name != "sequence"}
    return Dataset(pa.table(columns), info=DatasetInfo(features=Features({"sequence": Value("string"), **kept})))


def find_features(schema: pa.Schema, path: str | Path) -> Features:
    """Return what `datasets` calls the types of columns.

    Raises:
        `InputError`: values that are neither text nor numbers nor lists of these; names the columns.
    """
    try:
        return Features.from_arrow_schema(schema)
    except (ValueError, TypeError, KeyError, AttributeError, pa.ArrowException) as error:
        kinds = shorten([f"{field.name}: {field.type}" for field in schema])
        raise InputError(
            f"{path}: a column holds values that are neither text nor numbers nor lists of these ({error}); the "
            f"columns are {kinds}. Remove it."
        ) from error


def find_column(names: list[str], path: str | Path, wanted: list[str] | tuple[str, ...], role: str) -> str:
    """Return the first of the wanted names that a file has; upper and lower case, and composed and other
    accents, are the same.

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
        same = [other for other in names if _fold_column(other) == _fold_column(name)]
        if len(same) > 1:
            raise InputError(f"{path}: the {role} column can be {' or '.join(map(repr, same))}; see --{role}_column")
        if same:
            return same[0]
    raise InputError(
        f"{path}: no {role} column {' or '.join(map(repr, wanted))}; the file's columns are {shorten(names)}. Name the "
        f"right one with --{role}_column."
    )


def _fold_column(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip().lower()


def refuse_missing(values: pa.ChunkedArray, path: str | Path, column: str, before: int | None = None) -> None:
    """Raise an `InputError` that names the first row without a value, if there is one.

    Args:
        values: of the column.
        path, column: for the message.
        before: rows of the file before these, if they are a part of it: how many lack a value is not known then.
    """
    if values.null_count:
        row = (before or 0) + values.is_null().to_pylist().index(True) + 1
        many = f" (rows like this: {values.null_count} of {len(values)})" if before is None else ""
        raise InputError(
            f"{path}, data row {row}: column {column!r} has no value{many}. Fill them in or remove the rows."
        )


def shorten(values: list, most: int = 12) -> str:
    """Return the values for a message, the first of them if they are many; long ones are cut."""
    told = (repr(value) for value in values[:most])
    shown = ", ".join(value if len(value) <= _LONGEST else f"{value[:_LONGEST]}..." for value in told)
    return f"{shown}, ... ({len(values)} in all)" if len(values) > most else shown


def refuse_twins(names: list[str], path: str | Path) -> None:
    """Raise an `InputError` if several columns of a file have the same name."""
    if names:
        name, times = Counter(names).most_common(1)[0]
        if times > 1:
            raise InputError(f"{path}: {times} columns are called {name!r}")


def read_sequences(table: pa.Table, path: str | Path, column: str, before: int | None = None) -> pa.ChunkedArray:
    """Return the sequences of a table without blanks around them.

    Args:
        table: with the column.
        path, before: see `refuse_missing`.
        column: that holds them.

    Raises:
        `InputError`: the column holds something else, or a row has none.
    """
    values = table[column]
    if not is_text(values.type):
        raise InputError(f"{path}: column {column!r} holds {values.type}, not sequences. See --sequence_column.")
    values = strip_blanks(values)
    refuse_missing(values, path, column, before)
    return values


def _read_arrow(path: Path, suffix: str, text_columns: set[str]) -> pa.Table:
    if suffix in JSON:
        records = list(read_records(path, suffix))
        if not records:
            raise InputError(f"{path}: the file is empty")
        return build_table(records, path)
    if suffix in DELIMITERS:
        return _read_csv(path, DELIMITERS[suffix], text_columns)
    content = read_bytes(path)
    with tell_no_parquet(path):
        return spell_out(pa.parquet.read_table(pa.BufferReader(content)))


def _read_csv(path: Path, delimiter: str, text_columns: set[str]) -> pa.Table:
    with open_text(path) as file:
        content = file.read()
    if not content or content.isspace():
        raise InputError(f"{path}: the file is empty")
    # In one block a row may be as long as the file.
    header = take_header(io.BytesIO(content), len(content))
    ((names, table),) = parse_csv(path, io.BytesIO(content), header, delimiter, len(content) + 1)
    return type_columns(names, table, text_columns)


def type_columns(names: list[str], table: pa.Table, text_columns: Iterable[str]) -> pa.Table:
    """Give the columns of a csv or tsv, which are text, their names and types, see `guess_type`.

    Args:
        names: of the columns, in their order.
        table: as many columns of text.
        text_columns: which of them stay text, whatever is in them, as identifiers do; upper and lower case are the
            same.
    """
    lower = {name.lower() for name in text_columns}
    columns = []
    for name, values in zip(names, table.columns):
        kind = pa.string() if name.lower() in lower or is_identifier(name) else guess_type(values)
        columns.append(values if pa.types.is_null(kind) else cast_values(values, kind))
    return pa.table(columns, names=names)


__all__ = [
    "SEQUENCE_COLUMNS",
    "add_labels",
    "arrange_rows",
    "find_column",
    "find_features",
    "read_identifiers",
    "read_rows",
    "read_sequences",
    "refuse_missing",
    "refuse_twins",
    "shorten",
    "type_columns",
]
