"""Rows of labelled sequences from tables, FASTA and BED files, plain or gzip, as `datasets.Dataset`.

A row number in a message counts data rows from 1: the header of a csv or tsv is not a row.
"""

import io
import itertools
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features, Value, concatenate_datasets

from gengram.errors import InputError
from gengram.genome.columns import make_rows
from gengram.genome.contigs import Genome
from gengram.genome.fasta import read_labelled_fasta
from gengram.genome.formats import (
    DELIMITERS,
    FASTA,
    JSON,
    RowTooLongError,
    build_table,
    find_format,
    open_parquet,
    parse_csv,
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
    narrow_flags,
    read_flags,
    read_names,
    strip_blanks,
)

SEQUENCE_COLUMNS = ("sequence", "seq", "dna", "dna_sequence", "sequences")
"""Names under which the sequence column is looked for, in this order; upper and lower case are the same."""

_LONGEST = 80  # letters of a value in a message
# Bytes of a csv that are parsed at a time: a share of the file, between two bounds. A row may have what Arrow takes.
_LEAST, _MOST, _LONGEST_ROW = 4 << 20, 64 << 20, (2 << 30) - 1
_BLOCKS = 64  # of a file of middling size
_CELLS = 1 << 22  # of a Parquet file that are read at a time
_RECORDS = 1024  # of a JSON file


def read_rows(
    path: str | Path,
    sequence_column: str | None = None,
    text_columns: tuple[str, ...] | list[str] = (),
    genome: str | Path | Genome | None = None,
    needs_labels: bool = True,
    narrow: bool = False,
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
        narrow: keep columns of a table, or lists in them, that have nothing but 0 and 1 as int8, not as int64: of many
            labels that is an eighth of the memory.

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
    return arrange_rows(_read_arrow(path, suffix, set(text_columns), narrow), path, sequence_column)


def read_table(path: str | Path, text_columns: Iterable[str] = (), narrow: bool = False) -> pa.Table:
    """Read the columns of a table as they are, whatever they hold: what of them are sequences is not asked.

    Args:
        path: a `.csv`, `.tsv`, `.jsonl`, `.json` or `.parquet` table, plain or `.gz`; a FASTA file, see
            `read_labelled_fasta`.
        text_columns, narrow: see `read_rows`.

    Raises:
        `InputError`: see `read_rows`; a file of intervals, which has no rows without a genome.
    """
    path, suffix = Path(path), find_format(path)
    if suffix in FASTA:
        return read_labelled_fasta(path, needs_labels=False)
    if suffix == ".bed":
        raise InputError(f"{path}: a .bed file has intervals and no sequences; give a table of sequences")
    return _read_arrow(path, suffix, set(text_columns), narrow)


def add_labels(
    rows: Dataset,
    path: str | Path,
    label_path: str | Path,
    text_columns: tuple[str, ...] | list[str] = (),
    narrow: bool = False,
) -> Dataset:
    """Add the columns of a table of labels to sequences that came without, such as those of a FASTA file.

    Args:
        rows: N rows with `sequence`.
        path: where they are from, for messages.
        label_path: a `.csv`, `.tsv`, `.txt` (separated by tabs), `.jsonl`, `.json` or `.parquet` table, plain or
            `.gz`. If it and the rows have a column `name`, rows are found by it, and the table may have more of them;
            otherwise its rows are those of the sequences, in the same order.
        text_columns, narrow: see `read_rows`.

    Returns:
        The rows with the table's columns behind their own.

    Raises:
        `InputError`: see `read_rows`; another number of rows, a name that the table lacks or has twice, a column that
            both have.
    """
    label_path = Path(label_path)
    table = _read_arrow(label_path, find_format(label_path, {".txt": ".tsv"}), {"name", *text_columns}, narrow)
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
    labels = make_rows(table, Features({name: features[name] for name in table.column_names}))
    return concatenate_datasets([rows, labels], axis=1)


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
    return make_rows(pa.table(columns), Features({"sequence": Value("string"), **kept}))


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


def _read_arrow(path: Path, suffix: str, text_columns: set[str], narrow: bool) -> pa.Table:
    if suffix in JSON:
        return _read_json(path, suffix, narrow)
    if suffix in DELIMITERS:
        return _read_csv(path, DELIMITERS[suffix], text_columns, narrow)
    with tell_no_parquet(path):
        file = open_parquet(path)
        if not narrow or b"huggingface" in (file.schema_arrow.metadata or {}):  # which says what the types are
            return spell_out(file.read())
        rows = max(_CELLS // max(file.metadata.num_columns, 1), 1)
        batches = [narrow_flags(spell_out(pa.Table.from_batches([batch]))) for batch in file.iter_batches(rows)]
        try:
            return join_tables(batches) if batches else spell_out(file.read())
        except pa.ArrowException:  # Lists of two types are not always joined.
            return spell_out(file.read())


def _read_json(path: Path, suffix: str, narrow: bool) -> pa.Table:
    records, tables = read_records(path, suffix), []
    while block := list(itertools.islice(records, _RECORDS)):
        table = build_table(block, path)
        tables.append(narrow_flags(table) if narrow else table)
    if not tables:
        raise InputError(f"{path}: the file is empty")
    try:
        return join_tables(tables)
    except pa.ArrowException:
        return build_table(list(read_records(path, suffix)), path)  # which names the record of another kind


def _read_csv(path: Path, delimiter: str, text_columns: set[str], narrow: bool) -> pa.Table:
    if not path.is_file():  # A pipe can be read once only.
        with open_text(path) as file:
            content = file.read()
        return _parse_blocks(path, lambda: nullcontext(io.BytesIO(content)), delimiter, text_columns, narrow)
    return _parse_blocks(path, lambda: open_text(path), delimiter, text_columns, narrow)


def _parse_blocks(
    path: Path,
    open_file: Callable[[], AbstractContextManager[BinaryIO]],
    delimiter: str,
    text_columns: set[str],
    narrow: bool,
) -> pa.Table:
    """Parse a csv or tsv in blocks; again in larger ones where a row does not fit into two of them."""
    size = path.stat().st_size // _BLOCKS if path.is_file() else 0
    with open_file() as file:
        header = take_header(file, _LONGEST_ROW)
        if not header.strip() and not file.read(1):
            raise InputError(f"{path}: the file is empty")
    for block_bytes in sorted({min(max(size, _LEAST), _MOST), _MOST, _LONGEST_ROW}):
        columns: _TextColumns | None = None
        try:
            with open_file() as file:
                for names, table in parse_csv(path, file, header, delimiter, block_bytes):
                    columns = columns or _TextColumns(names, text_columns)
                    columns.add(table)
        except RowTooLongError:
            if block_bytes < _LONGEST_ROW:
                continue
            raise
        assert columns is not None  # `parse_csv` refuses a file without a row.
        return columns.join(narrow)
    raise AssertionError("unreachable")


class _TextColumns:
    """The columns of a csv or tsv, some rows at a time. Flags, cells that are all 0 or 1, are kept as int8.

    Args:
        names: of the columns, in their order.
        text_columns: which of them stay text, see `type_columns`.
    """

    def __init__(self, names: list[str], text_columns: Iterable[str]):
        lower = {name.lower() for name in text_columns}
        self.names = names
        self.are_text = [name.lower() in lower or is_identifier(name) for name in names]
        self.parts: list[list[pa.Array]] = [[] for _ in names]

    def add(self, table: pa.Table) -> None:
        """Keep a block's cells of text."""
        for parts, is_kept, column in zip(self.parts, self.are_text, table.columns, strict=True):
            for cells in column.chunks:
                flags = None if is_kept else read_flags(cells)
                parts.append(cells if flags is None else pa.array(flags))

    def join(self, narrow: bool) -> pa.Table:
        """Return all rows; columns of flags are int64, or int8 if they may be `narrow`."""
        columns = []
        for place, is_kept in enumerate(self.are_text):
            parts, self.parts[place] = self.parts[place], []
            columns.append(_join_cells(parts, is_kept, narrow))
        return pa.table(columns, names=self.names)


def _join_cells(parts: list[pa.Array], is_text_column: bool, narrow: bool) -> pa.ChunkedArray:
    texts = pa.chunked_array([part for part in parts if is_text(part.type)], pa.string())
    has_flags = texts.num_chunks < len(parts)
    kind = pa.string() if is_text_column else guess_type(texts)
    if has_flags and pa.types.is_null(kind):
        kind = pa.int8() if narrow and not len(texts) else pa.int64()
    if pa.types.is_null(kind):
        return texts
    cast = [cast_values(part, kind) for part in parts]
    if not pa.types.is_string(kind):
        cast = [pa.concat_arrays([piece for part in cast for piece in getattr(part, "chunks", [part])])]
    return pa.chunked_array(cast, kind)


def join_tables(tables: list[pa.Table]) -> pa.Table:
    """Put blocks of one file below each other; a column that one of them lacks is null there.

    Raises:
        `pyarrow.ArrowException`: a column is of different kinds.
    """
    return pa.concat_tables(tables, promote_options="permissive")


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
    "read_table",
    "refuse_missing",
    "refuse_twins",
    "shorten",
    "type_columns",
]
