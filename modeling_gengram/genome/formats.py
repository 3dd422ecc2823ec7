"""Which format is a table in, and what do its readers share? Read whole (`read_rows`) and in blocks (`stream_rows`)."""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from gengram.errors import InputError
from gengram.genome.text import read_lines

DELIMITERS = {".csv": ",", ".tsv": "\t"}
FASTA = (".fa", ".fasta", ".fna")

SUFFIXES = (*DELIMITERS, ".jsonl", ".parquet", *FASTA, ".bed")
"""What files are called that can be read; each may have `.gz` behind it."""

GZIP = b"\x1f\x8b"
"""The first bytes of a gzip file."""

_JSON_EXAMPLE = '{"sequence": "ACGT", "label": 1}'


def find_format(path: str | Path, aliases: Mapping[str, str] | None = None) -> str:
    """Return which of `SUFFIXES` a file's name ends with, before a `.gz`.

    Args:
        path: the file.
        aliases: other endings, and which of `SUFFIXES` they mean.

    Raises:
        `InputError`: none of them.
    """
    path = Path(path)
    suffix = (Path(path.stem) if path.suffix == ".gz" else path).suffix
    suffix = (aliases or {}).get(suffix, suffix)
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: unknown format {suffix!r}; give a {', '.join(SUFFIXES)} file, plain or .gz")
    return suffix


def require_genome(path: str | Path, genome: str | Path | None) -> str | Path:
    """Return the genome of a BED file's intervals.

    Raises:
        `InputError`: there is none.
    """
    if genome is None:
        raise InputError(f"{path}: intervals need a genome to be cut from: give its FASTA file with --genome")
    return genome


def read_bytes(path: Path) -> bytes:
    """Return the content of a file, decompressed if it is gzip.

    Raises:
        `InputError`: it cannot be read, is cut off, or holds nothing but blanks.
    """
    with tell_damage(path):
        content = path.read_bytes()
        if content.startswith(GZIP):
            content = gzip.decompress(content)
    if not content or content.isspace():
        raise InputError(f"{path}: the file is empty")
    return content


@contextmanager
def tell_damage(path: str | Path) -> Iterator[None]:
    """Turn what reading a file, plain or gzip, can raise into an `InputError`."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: the gzip file is cut off or damaged ({error}); fetch it again") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


@contextmanager
def tell_no_parquet(path: str | Path) -> Iterator[None]:
    """Turn what reading a Parquet file can raise into an `InputError`."""
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: not a Parquet file, or cut off ({error})") from error


def read_records(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number of each line of a JSON Lines file that is not blank, from 1, and its object.

    Raises:
        `InputError`: see `read_lines`; a line that is no JSON object.
    """
    for number, line in read_lines(path, universal=True):
        if line.strip():
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(f"{path}, line {number}: not JSON ({error}), or cut off") from error
            if not isinstance(record, dict):
                raise InputError(f"{path}, line {number}: one JSON object a line is needed, e.g. {_JSON_EXAMPLE}")
            yield number, record


def build_table(records: list[dict[str, Any]], place: str) -> pa.Table:
    """Make a table of the columns of all records, not of the first one only.

    Args:
        records: what lacks a column has null there.
        place: of the records, for messages.

    Raises:
        `InputError`: the values of a column are of different kinds.
    """
    columns = {}
    for name in dict.fromkeys(name for record in records for name in record):
        try:
            columns[name] = pa.array([record.get(name) for record in records])
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise InputError(f"{place}: the values of {name!r} are of different kinds ({error})") from error
    return pa.table(columns)


def plan_csv(
    delimiter: str, block_bytes: int, names: list[str] | None = None
) -> tuple[pa.csv.ReadOptions, pa.csv.ParseOptions, list[pa.csv.InvalidRow]]:
    """Return how a csv or tsv is read and parsed, and a list that a row with another number of columns is put into.

    Args:
        delimiter: between the columns.
        block_bytes: more than the longest row; in a file of one block, the number of a faulty row is known.
        names: of the columns; by default the first row has them.
    """
    ragged: list[pa.csv.InvalidRow] = []

    def stop(row: pa.csv.InvalidRow) -> str:
        ragged.append(row)
        return "error"

    # One thread: only then does the parser know the number of a faulty row.
    reading = pa.csv.ReadOptions(use_threads=False, block_size=block_bytes, column_names=names)
    parsing = pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=stop)
    return reading, parsing, ragged


def describe_ragged(row: pa.csv.InvalidRow, first: str = "header") -> str:
    """Say what is wrong with a row of a csv or tsv; `first` is what the first row is."""
    return f"{row.actual_columns} columns where the {first} has {row.expected_columns}: {row.text[:60]!r}"


def keep_text(columns: Iterable[str]) -> pa.csv.ConvertOptions:
    """Return how the values of a csv or tsv are read: these columns as text.

    So the labels 0 and 1 and "N" in one column are names. The usual spellings of "missing" (empty, NA, NaN, null ...)
    are missing in text, too.
    """
    return pa.csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=True)


def spell_out(table: pa.Table) -> pa.Table:
    """Replace columns of dictionary indices, as pandas writes categories, by their values."""
    for position, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            plain = table[position].cast(field.type.value_type)
            table = table.set_column(position, pa.field(field.name, plain.type, metadata=field.metadata), plain)
    return table


__all__ = [
    "DELIMITERS",
    "FASTA",
    "GZIP",
    "SUFFIXES",
    "build_table",
    "describe_ragged",
    "find_format",
    "keep_text",
    "plan_csv",
    "read_bytes",
    "read_records",
    "require_genome",
    "spell_out",
    "tell_damage",
    "tell_no_parquet",
]
