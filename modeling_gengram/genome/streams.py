"""Rows of files of any size, some at a time: the formats of `read_rows`, never a whole file in memory."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa

from gengram.errors import InputError
from gengram.genome import formats
from gengram.genome.contigs import Genome
from gengram.genome.fasta import read_fasta
from gengram.genome.intervals import stream_intervals
from gengram.genome.tables import SEQUENCE_COLUMNS, find_column, read_sequences, refuse_twins
from gengram.genome.text import open_text
from gengram.genome.values import cast_values, check_values, guess_type, is_identifier

ROWS = 1024
"""Rows of a block."""

_BLOCK_BYTES = 4 << 20


def survey_rows(
    path: str | Path,
    sequence_column: str | None = None,
    genome: str | Path | Genome | None = None,
    look: Callable[[int, pa.Table], None] = lambda start, block: None,
) -> tuple[int, pa.Schema]:
    """Read a file once from end to end: every fault is found, and the types of all columns are known.

    Args:
        path, sequence_column, genome: see `stream_rows`.
        look: is given the number of the first row of each block, from 0, and the block.

    Returns:
        The number of rows, and the columns without the sequences: numbers where a csv or tsv has nothing else.

    Raises:
        `InputError`: see `stream_rows`.
    """
    rows, schema = 0, pa.schema([])
    for block in stream_rows(path, sequence_column, genome):
        look(rows, block)
        rows += len(block)
        others = block.drop_columns("sequence")
        try:
            if formats.find_format(path) in formats.DELIMITERS:
                schema = _unify_types(others, schema)
            else:
                schema = pa.unify_schemas([schema, others.schema], promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            where = f"{path}, data rows {rows - len(block) + 1} to {rows}"
            raise InputError(f"{where}: a column holds another kind of values than before ({error})") from error
    # A column in which no row has a value is text.
    return rows, pa.schema(
        [field.with_type(pa.string()) if pa.types.is_null(field.type) else field for field in schema]
    )


def stream_rows(
    path: str | Path, sequence_column: str | None = None, genome: str | Path | Genome | None = None
) -> Iterator[pa.Table]:
    """Read a file in blocks of at most `ROWS` rows.

    Args:
        path: a `.csv`, `.tsv`, `.jsonl`, `.json` or `.parquet` table, a FASTA file or a `.bed` file, or one of these
            with `.gz`. An array of JSON and a `.parquet.gz` are in memory as a whole.
        sequence_column: the column of sequences; by default the first of `SEQUENCE_COLUMNS` that there is.
        genome: the FASTA file that a BED file's intervals are cut from, see `read_rows`; the contigs that it names are
            in memory.

    Yields:
        `sequence` (string, without blanks around it), then the other columns: those of a csv or tsv as text, of a FASTA
        file `name`, the whole header.

    Raises:
        `InputError`: a file that is missing, empty, cut off or of another format, a column that is not there, a row
            without sequence, naming it (data rows count from 1).
    """
    path, suffix, row = Path(path), formats.find_format(path), 0
    wanted = [sequence_column] if sequence_column else SEQUENCE_COLUMNS
    for table in _read_tables(path, suffix, genome):
        column = "sequence"
        if suffix not in (*formats.FASTA, ".bed"):
            column = find_column(table.column_names, path, wanted, "sequence")
        refuse_twins(table.column_names, path)
        check_values(table, path, before=row)
        others = [name for name in table.column_names if name not in ("sequence", column)]
        sequences = read_sequences(table, path, column, before=row)
        row += len(table)
        arranged = pa.table([sequences, *(table[name] for name in others)], names=["sequence", *others])
        for start in range(0, len(arranged), ROWS):
            yield arranged.slice(start, ROWS)
    if not row:
        raise InputError(f"{path}: the file has no data rows")


def fit_columns(block: pa.Table, schema: pa.Schema, names: list[str]) -> pa.Table:
    """Give a block the columns and types of the whole file.

    Args:
        block: of `stream_rows`.
        schema: of `survey_rows`.
        names: of the columns that are kept, in this order.
    """
    columns = []
    for name in names:
        kind = schema.field(name).type
        columns.append(cast_values(block[name], kind) if name in block.column_names else pa.nulls(len(block), kind))
    return pa.table(columns, schema=pa.schema([schema.field(name) for name in names]))


def _read_tables(path: Path, suffix: str, genome: str | Path | Genome | None) -> Iterator[pa.Table]:
    if suffix == ".bed":
        return stream_intervals(path, formats.require_genome(path, genome), ROWS)
    if suffix in formats.DELIMITERS:
        return _read_csv(path, formats.DELIMITERS[suffix])
    if suffix in formats.JSON:
        return _read_json(path, suffix)
    return _read_parquet(path) if suffix == ".parquet" else _read_fasta(path)


def _read_fasta(path: Path) -> Iterator[pa.Table]:
    """Read records, as many as are short together, or a long one alone: a genome is never in memory as a whole."""
    headers, sequences, bases = list[str](), list[str](), 0
    for _, header, sequence in read_fasta(path):
        if headers and (len(headers) == ROWS or bases + len(sequence) > _BLOCK_BYTES):
            yield pa.table({"sequence": sequences, "name": headers})
            headers, sequences, bases = [], [], 0
        headers.append(header)
        sequences.append(sequence)
        bases += len(sequence)
    yield pa.table({"sequence": sequences, "name": headers})


def _read_json(path: Path, suffix: str) -> Iterator[pa.Table]:
    records = formats.read_records(path, suffix)
    while block := list(itertools.islice(records, ROWS)):
        yield formats.build_table(block, path)


def _read_parquet(path: Path) -> Iterator[pa.Table]:
    with formats.tell_no_parquet(path):
        for batch in formats.open_parquet(path).iter_batches(batch_size=ROWS):
            yield formats.spell_out(pa.Table.from_batches([batch]))


def _read_csv(path: Path, delimiter: str) -> Iterator[pa.Table]:
    with open_text(path) as file:
        header = formats.take_header(file, _BLOCK_BYTES)
    with open_text(path) as file:
        for names, table in formats.parse_csv(path, file, header, delimiter, _BLOCK_BYTES):
            refuse_twins(names, path)
            yield table.rename_columns(names)


def _unify_types(table: pa.Table, before: pa.Schema) -> pa.Schema:
    """The narrowest types that hold a block's columns of text and the blocks before it."""
    kinds = [pa.null(), pa.int64(), pa.float64(), pa.string()]
    fields = []
    for name in table.column_names:
        kind = before.field(name).type if name in before.names else pa.null()
        if kind != pa.string():
            kind = max(kind, pa.string() if is_identifier(name) else guess_type(table[name]), key=kinds.index)
        fields.append(pa.field(name, kind))
    return pa.schema(fields)


__all__ = ["ROWS", "fit_columns", "stream_rows", "survey_rows"]
