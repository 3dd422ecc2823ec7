"""Labelled sequences from csv, tsv or parquet files, plain or gzip, as `datasets.Dataset`.

A row number in a message counts data rows from 1: the header of a csv or tsv is not a row.
"""

import gzip
import hashlib
import re
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from datasets import ClassLabel, Dataset, Features

from gengram.training.errors import InputError

SEQUENCE_COLUMNS = ("sequence", "seq")
"""Names under which the sequence column is looked for, in this order."""

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_GZIP_MAGIC = b"\x1f\x8b"
_INTEGER = re.compile(r"-?\d+")


def read_table(path: str | Path, sequence_column: str | None = None, label_column: str = "label") -> Dataset:
    """Read labelled sequences.

    Args:
        path: a `.csv`, `.tsv` or `.parquet` file, or one of these with `.gz`. The name tells the format; whether it is
            compressed is seen from its first bytes.
        sequence_column: the column of sequences; by default `sequence`, else `seq`.
        label_column: the column of classes: names, or whole numbers. Parquet files with a `ClassLabel` feature give
            the class names.

    Returns:
        `Dataset` in memory: `sequence` (string), `label` (string: the name or the number of the class, in the file's
        row order), then the file's other columns as they are. Blanks around sequences and labels are removed.

    Raises:
        `InputError`: a file that is missing, empty, cut off or of another format, a column that is not there, a row
            without sequence or label, a label that is no class (a fraction, a list).
    """
    path = Path(path)
    table = _read_arrow(path, {*SEQUENCE_COLUMNS, sequence_column or SEQUENCE_COLUMNS[0], label_column})
    sequence_column = _find_column(table, path, [sequence_column] if sequence_column else SEQUENCE_COLUMNS, "sequence")
    label_column = _find_column(table, path, [label_column], "label")
    if table.num_rows == 0:
        raise InputError(f"{path}: the file has a header but no data rows")
    columns = {
        "sequence": _read_sequences(table, path, sequence_column),
        "label": _read_labels(table, path, label_column),
    }
    for name in table.column_names:
        if name not in {"sequence", "label", sequence_column, label_column}:
            columns[name] = table[name]
    return Dataset(pa.table(columns))


def order_classes(dataset: Dataset, path: str | Path) -> list[str]:
    """Return the C class names of a table in the order of their ids: sorted, numbers by value.

    Args:
        dataset: rows of `read_table`.
        path: the file they come from, for messages.

    Raises:
        `InputError`: fewer than two classes, or numbers that are not 0..C-1 without gaps.
    """
    names = set(dataset.unique("label"))
    if len(names) < 2:
        raise InputError(f"{path}: all rows have the label {names.pop()!r}; a classifier needs two classes or more")
    if not all(_INTEGER.fullmatch(name) for name in names):
        return sorted(names)
    codes = sorted(int(name) for name in names)
    if codes != list(range(len(codes))):
        out_of_place = next(code for position, code in enumerate(codes) if code != position)
        row = dataset["label"][:].index(str(out_of_place)) + 1
        raise InputError(
            f"{path}: class numbers must be 0..C-1 without gaps, but {_shorten(codes)} were found "
            f"(label {out_of_place} first in data row {row}). Renumber the classes, or write their names."
        )
    return [str(code) for code in codes]


def encode_labels(dataset: Dataset, classes: list[str], path: str | Path) -> Dataset:
    """Turn class names into ids: `label` becomes a `ClassLabel` feature (int64) with these names.

    Args:
        dataset: rows of `read_table`.
        classes: C class names; the position is the id.
        path: the file that the rows come from, for messages.

    Raises:
        `InputError`: a label that is not among `classes`.
    """
    id_of = {name: label for label, name in enumerate(classes)}
    ids = []
    for row, name in enumerate(dataset["label"], start=1):
        if name not in id_of:
            raise InputError(
                f"{path}, data row {row}: label {name!r} is not one of the training file's classes {_shorten(classes)}"
            )
        ids.append(id_of[name])
    encoded = dataset.remove_columns("label").add_column("label", ids, feature=ClassLabel(names=classes))
    return encoded.select_columns(dataset.column_names)


def hash_file(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _read_arrow(path: Path, text_columns: set[str]) -> pa.Table:
    suffix = (Path(path.stem) if path.suffix == ".gz" else path).suffix
    if suffix != ".parquet" and suffix not in _DELIMITERS:
        raise InputError(f"{path}: unknown format {suffix!r}; give a .csv, .tsv or .parquet file, plain or .gz")
    content = _read_bytes(path)
    if not content or content.isspace():
        raise InputError(f"{path}: the file is empty")
    if suffix == ".parquet":
        try:
            return pa.parquet.read_table(pa.BufferReader(content))
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{path}: not a Parquet file, or cut off ({error})") from error
    return _parse_csv(path, content, _DELIMITERS[suffix], text_columns)


def _read_bytes(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if not content.startswith(_GZIP_MAGIC):
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(f"{path}: the gzip file is cut off or damaged ({error}); fetch it again") from error


def _parse_csv(path: Path, content: bytes, delimiter: str, text_columns: set[str]) -> pa.Table:
    ragged = []

    def stop(row: pa.csv.InvalidRow) -> str:
        ragged.append(row)
        return "error"

    # One thread and one block: only then does the parser know the number of a faulty row.
    reading = pa.csv.ReadOptions(use_threads=False, block_size=len(content) + 1)
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
                f"{path}, data row {row.number - 1}: {row.actual_columns} columns where the header has "
                f"{row.expected_columns}: {row.text[:60]!r}"
            ) from error
        if "cannot infer number of columns" in str(error):
            raise InputError(f"{path}: the file has a header but no data rows") from error
        raise InputError(f"{path}: not a table of text separated by {delimiter!r} ({error})") from error


def _find_column(table: pa.Table, path: Path, names: list[str] | tuple[str, ...], role: str) -> str:
    found = [name for name in names if name in table.column_names]
    if not found:
        raise InputError(
            f"{path}: no {role} column {' or '.join(map(repr, names))}; the file's columns are "
            f"{_shorten(table.column_names)}. Name the right one with --{role}_column."
        )
    if table.column_names.count(found[0]) > 1:
        raise InputError(f"{path}: {table.column_names.count(found[0])} columns are called {found[0]!r}")
    return found[0]


def _read_sequences(table: pa.Table, path: Path, column: str) -> pa.ChunkedArray:
    values = table[column]
    if not _is_text(values.type):
        raise InputError(f"{path}: column {column!r} holds {values.type}, not sequences. See --sequence_column.")
    values = _strip(values)
    _refuse_missing(values, path, column)
    return values


def _read_labels(table: pa.Table, path: Path, column: str) -> pa.ChunkedArray:
    values = table[column]
    feature = Features.from_arrow_schema(table.schema).get(column)
    if isinstance(feature, ClassLabel) and feature.names:
        # In such columns -1 stands for "no label".
        values = pc.take(pa.array(feature.names), pc.if_else(pc.less(values, 0), pa.scalar(None, pa.int64()), values))
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.string())
    if _is_text(values.type):
        values = _strip(values)
        _refuse_missing(values, path, column)
        try:
            values = values.cast(pa.float64())
        except pa.ArrowInvalid:
            return values
    if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
        raise InputError(
            f"{path}: column {column!r} holds {values.type}; one class a row (a name or a whole number) is needed"
        )
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_finite(values), values, pa.scalar(None, values.type))
        _refuse_missing(values, path, column)
        whole = pc.equal(pc.round(values), values).to_pylist()
        if not all(whole):
            row = whole.index(False)
            raise InputError(
                f"{path}, data row {row + 1}: label {values[row].as_py()} in column {column!r} is a fraction; classes "
                "are names or whole numbers (regression is not supported yet)"
            )
    _refuse_missing(values, path, column)
    return values.cast(pa.int64()).cast(pa.string())


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _strip(values: pa.ChunkedArray) -> pa.ChunkedArray:
    values = pc.utf8_trim_whitespace(values.cast(pa.string()))
    return pc.if_else(pc.equal(values, ""), pa.scalar(None, pa.string()), values)


def _refuse_missing(values: pa.ChunkedArray, path: Path, column: str) -> None:
    if values.null_count:
        row = values.is_null().to_pylist().index(True) + 1
        raise InputError(
            f"{path}, data row {row}: column {column!r} has no value (rows like this: {values.null_count} of "
            f"{len(values)}). Fill them in or remove the rows."
        )


def _shorten(values: list, most: int = 12) -> str:
    shown = ", ".join(repr(value) for value in values[:most])
    return f"{shown}, ... ({len(values)} in all)" if len(values) > most else shown


__all__ = ["SEQUENCE_COLUMNS", "encode_labels", "hash_file", "order_classes", "read_table"]
