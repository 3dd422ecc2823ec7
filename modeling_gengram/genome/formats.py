"""Which format is a table in, and what do its readers share? Read whole (`read_rows`) and in blocks (`stream_rows`)."""

import gzip
import itertools
import json
import math
import re
import time
import weakref
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from gengram.errors import InputError
from gengram.genome.contigs import Genome
from gengram.genome.text import read_lines
from gengram.genome.values import is_text

DELIMITERS = {".csv": ",", ".tsv": "\t"}
FASTA = (".fa", ".fasta", ".fna")
JSON = (".jsonl", ".json")

_SAME = {
    **dict.fromkeys((".narrowpeak", ".broadpeak", ".gappedpeak", ".bedgraph"), ".bed"),
    **dict.fromkeys((".fas", ".ffn"), ".fa"),
}
COMPRESSED = (".gz", ".bgz")
"""What may be behind the name of a format."""

SUFFIXES = (*DELIMITERS, *JSON, ".parquet", *FASTA, ".bed")
"""What files are called that can be read, among other names of the same formats; each may have `.gz` or `.bgz` behind
it."""

GZIP = b"\x1f\x8b"
"""The first bytes of a gzip file."""

_JSON_EXAMPLE = '{"sequence": "ACGT", "label": 1}'
# Python writes these; they are no JSON. What is not a number is a missing value.
_CONSTANTS = {"NaN": None, "Infinity": math.inf, "-Infinity": -math.inf}
_PATIENCE = 2.0  # seconds
_DEEPEST = 32  # brackets inside each other; Arrow and Parquet go down by recursion

_UTF8_MARK = b"\xef\xbb\xbf"
# A first field like this is a sequence, not the name of a column: the table has no header.
_BARE_SEQUENCE = re.compile(rb"[ACGTUNacgtun]{20,}")
_SEPARATORS = {";": "semicolons", "\t": "tabs", ",": "commas", "|": "bars"}
_WITHOUT_SEQUENCES = (".gff", ".gff3", ".gtf", ".vcf")
_SEPARATOR_LINE = re.compile(r"sep=.?")


def find_format(path: str | Path, aliases: Mapping[str, str] | None = None) -> str:
    """Return which of `SUFFIXES` a file's name ends with, before a `.gz` or `.bgz`; upper and lower case are the same.

    Args:
        path: the file.
        aliases: other endings, and which of `SUFFIXES` they mean.

    Raises:
        `InputError`: none of them.
    """
    path = Path(path)
    suffix = (Path(path.stem) if path.suffix.lower() in COMPRESSED else path).suffix.lower()
    suffix = {**_SAME, **(aliases or {})}.get(suffix, suffix)
    if suffix in _WITHOUT_SEQUENCES:
        raise InputError(
            f"{path}: a {suffix} file has no sequences; write its features or variants as the intervals of a .bed file "
            "(starts count from 0 there), and give that with a genome"
        )
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: unknown format {suffix!r}; give a {', '.join(SUFFIXES)} file, plain or .gz")
    return suffix


def require_genome(path: str | Path, genome: str | Path | Genome | None) -> Genome:
    """Return the genome of a BED file's intervals.

    Raises:
        `InputError`: there is none.
    """
    if genome is None:
        raise InputError(f"{path}: intervals need a genome to be cut from: give its FASTA file with --genome")
    return Genome.of(genome)


def read_bytes(path: Path) -> bytes:
    """Return the content of a file that is no text, decompressed if it is gzip.

    Raises:
        `InputError`: it cannot be read, is cut off or empty.
    """
    with tell_damage(path):
        content = path.read_bytes()
        if content.startswith(GZIP):
            content = gzip.decompress(content)
    if not content:
        raise InputError(f"{path}: the file is empty")
    return content


def open_parquet(path: Path) -> pa.parquet.ParquetFile:
    """Open a Parquet file; one that is compressed once more, or a pipe, is unpacked in memory.

    Raises:
        `InputError`: see `read_bytes`.
        `pyarrow.ArrowException`, `OSError`: it is none, see `tell_no_parquet`.
    """
    with tell_damage(path), path.open("rb") as file:
        whole = not path.is_file() or file.read(len(GZIP)) in (GZIP, b"")
    return pa.parquet.ParquetFile(pa.BufferReader(read_bytes(path)) if whole else path)


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
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, MemoryError) as error:
        raise InputError(f"{path}: not a Parquet file, or cut off ({error or type(error).__name__})") from error


def read_records(path: str | Path, suffix: str = ".jsonl") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place of each object of a JSON file (`line 3`, or in an array `row 3`), and the object.

    Args:
        path: the file, one object a line; blank lines do not count.
        suffix: `.json`: the file may be one array of objects instead.

    Raises:
        `InputError`: see `read_lines`; a line that is no JSON object, has a key twice, a number of more than 64 bits or
            half a letter.
    """
    lines = read_lines(path, universal=True)
    if suffix == ".json":
        first = next(((number, line) for number, line in lines if line.strip()), (1, ""))
        if first[1].lstrip().startswith("["):
            text = first[1] + "".join(line for _, line in lines)
            yield from _read_array(path, text)
            return
        lines = itertools.chain([first] if first[1] else [], lines)
    for number, line in lines:
        if line.strip():
            record = _parse_json(path, f"line {number}", line, suffix)
            yield f"line {number}", _check_record(path, f"line {number}", record, line)


def _read_array(path: str | Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for row, record in enumerate(_parse_json(path, "array", text, ".json"), start=1):
        yield f"row {row}", _check_record(path, f"row {row}", record, text)


def _parse_json(path: str | Path, place: str, text: str, suffix: str) -> Any:
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        what = f"not JSON ({error}), or cut off"
        if suffix == ".json":
            what += f"; needed are an array of objects or one object a line, e.g. {_JSON_EXAMPLE}"
    except RecursionError:
        what = "too many brackets inside each other"
    except _JsonFaultError as error:
        what = str(error)
    raise InputError(f"{path}, {place}: {what}")


class _JsonFaultError(Exception):
    """What is wrong with JSON that a parser lets pass."""


def _join_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise _JsonFaultError(f"the key {twice!r} is there twice; which of the two is meant?")
    return record


def _parse_integer(digits: str) -> int:
    if len(digits) > 18 and not (len(digits) < 21 and -(2**63) <= int(digits) < 2**63):
        raise _JsonFaultError(
            f"{digits[:24]}{'...' * (len(digits) > 24)} has {len(digits)} digits, which no integer of 64 bits holds; "
            "write it as a text, in quotes"
        )
    return int(digits)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_join_pairs, parse_int=_parse_integer, parse_constant=_CONSTANTS.__getitem__
)


def _check_record(path: str | Path, place: str, record: Any, text: str) -> dict[str, Any]:
    if not isinstance(record, dict):
        needed = "one JSON object a line" if place.startswith("line") else "an array of JSON objects"
        raise InputError(f"{path}, {place}: {needed} is needed, e.g. {_JSON_EXAMPLE}")
    if text.count("[") + text.count("{") > _DEEPEST and _is_deep(record):
        raise InputError(f"{path}, {place}: more than {_DEEPEST} brackets inside each other")
    if "\\u" in text:
        try:
            json.dumps(record, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise InputError(f"{path}, {place}: {error.object[error.start]!r} is half a letter, no text") from error
    return record


def _is_deep(record: Any) -> bool:
    level = [record]
    for _ in range(_DEEPEST):
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, dict | list)
        ]
    return bool(level)


def build_table(records: list[tuple[str, dict[str, Any]]], path: str | Path) -> pa.Table:
    """Make a table of the columns of all records, not of the first one only.

    Args:
        records: of `read_records`; what lacks a column has null there.
        path: of the records, for messages.

    Raises:
        `InputError`: the values of a column are of different kinds.
    """
    columns = {}
    for name in dict.fromkeys(name for _, record in records for name in record):
        values = [record.get(name) for _, record in records]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowException, OverflowError) as error:
            place = records[_find_other_kind(values)][0]
            raise InputError(f"{path}, {place}: the values of {name!r} are of different kinds ({error})") from error
    return pa.table(columns)


def _find_other_kind(values: list[Any]) -> int:
    """Return the position of the first value that does not go into one column with those before it."""
    good, bad = 0, len(values)
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            pa.array(values[:middle])
            good = middle
        except (pa.ArrowException, OverflowError):
            bad = middle
    return bad - 1


def take_header(file: BinaryIO, longest: int) -> bytes:
    """Return the first row of a csv or tsv, and maybe more of it; quotes may hold ends of lines."""
    lines, size, is_open, is_blank = list[bytes](), 0, False, True
    while (is_open or is_blank) and size < longest and (line := file.readline(longest)):
        lines.append(line)
        size += len(line)
        is_open ^= line.count(b'"') % 2 == 1
        is_blank = is_blank and not line.strip()
    return b"".join(lines)


def parse_csv(
    path: str | Path, file: BinaryIO, header: bytes, delimiter: str, block_bytes: int
) -> Iterator[tuple[list[str], pa.Table]]:
    """Yield the names of the columns of a csv or tsv, and some of its rows; cells are text, an empty one is null.

    Where the first field is a sequence of 20 letters or more, there is no header: the columns are `sequence` and
    `label`, or `label_0`, `label_1`, ... .

    Args:
        path: the file, for messages.
        file: its text, unpacked.
        header: of `take_header`.
        delimiter: between the columns.
        block_bytes: more than the longest row.

    Yields:
        Names, which may be the same; the table, whose columns are called `f0`, `f1`, ... .

    Raises:
        `InputError`: no table, or a row with another number of columns.
        `RowTooLongError`: a row of more than `block_bytes`.
    """
    ragged: list[pa.csv.InvalidRow] = []

    def stop(row: pa.csv.InvalidRow) -> str:
        ragged.append(row)
        return "error"

    _check_header(path, header, delimiter)
    headed = _has_names(header, delimiter)
    names: list[str] | None = None
    # One thread: only then does the parser know the number of a faulty row.
    reading = pa.csv.ReadOptions(use_threads=False, block_size=block_bytes, autogenerate_column_names=True)
    parsing = pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=stop)
    # To Arrow the header is a row like the others: so every column can be read as text, twins as well.
    kinds = {f"f{position}": pa.string() for position in range(header.count(delimiter.encode()) + 1)}
    converting = pa.csv.ConvertOptions(column_types=kinds, strings_can_be_null=True, null_values=[""])
    row = 0
    try:
        for batch in _open_csv(file, reading, parsing, converting):
            table = pa.Table.from_batches([batch])
            if names is None and headed:
                names = [(column[0].as_py() or "").strip() for column in table.columns]
                if not any(names):
                    raise InputError(f"{path}: the file is empty, or its first row names no columns")
                table = table.slice(1)
            elif names is None:
                labels = table.num_columns - 1
                names = ["sequence", *(["label"] if labels == 1 else [f"label_{label}" for label in range(labels)])]
            row += len(table)
            yield names, table
    except pa.ArrowInvalid as error:
        if "Empty CSV" in str(error):  # or a single line without an end
            what = "has a header but no data rows" if header.strip() else "is empty"
            raise InputError(f"{path}: the file {what}") from error
        where = f"{path}, behind data row {row}"
        what = f"not a table of text separated by {_SEPARATORS[delimiter]} ({error})"
        if ragged:
            where = f"{path}, data row {ragged[0].number - headed}"
            first = "header" if headed else "first row"
            what = f"{ragged[0].actual_columns} columns where the {first} has {ragged[0].expected_columns}"
            what += f": {ragged[0].text[:60]!r}"
        elif "straddling" in str(error):
            what = f"a row of more than {block_bytes >> 20} MB; sequences of that length belong in a FASTA file"
            raise RowTooLongError(f"{where}: {what}") from error
        raise InputError(f"{where}: {what}") from error


class RowTooLongError(InputError):
    """A row of a csv or tsv is longer than a block."""


class _Lent:
    """A file that Arrow reads from in a thread of its own."""

    def __init__(self, file: BinaryIO):
        self.read, self.closed = file.read, False

    def close(self) -> None:
        """It is closed by who has lent it."""


def _open_csv(file: BinaryIO, *options: Any) -> Iterator[pa.RecordBatch]:
    """Yield the batches of a csv, and end when Arrow has given the file back.

    Its thread drops the file some time after the last batch. A Python that ends just then aborts.
    """
    lent, reader = [_Lent(file)], None
    back = weakref.ref(lent[0])
    try:
        reader = pa.csv.open_csv(lent.pop(), *options)
        with reader:
            yield from reader
    finally:
        reader = None
        patience = time.monotonic() + _PATIENCE
        while back() is not None and time.monotonic() < patience:
            time.sleep(0.0005)


def _has_names(header: bytes, delimiter: str) -> bool:
    """Whether the first row names the columns, and does not begin with a sequence."""
    lines = header.removeprefix(_UTF8_MARK).lstrip().splitlines()
    first = lines[0].split(delimiter.encode())[0] if lines else b""
    return not _BARE_SEQUENCE.fullmatch(first.strip().strip(b'"'))


def _check_header(path: str | Path, header: bytes, delimiter: str) -> None:
    """Refuse a file whose columns are separated by something else."""
    lines = header.removeprefix(_UTF8_MARK).decode(errors="replace").strip().splitlines()
    line = lines[0].strip() if lines else ""
    if _SEPARATOR_LINE.fullmatch(line):
        raise InputError(
            f"{path}: the first line, {line!r}, is for a spreadsheet; remove it, and separate the columns by "
            f"{_SEPARATORS[delimiter]}"
        )
    other = next((sign for sign in _SEPARATORS if sign in line), None)
    if other and delimiter not in line:
        remedies = {";": ", and decimals with a point", "\t": ", or call it .tsv", ",": ", or call it .csv"}
        raise InputError(
            f"{path}: the columns are separated by {_SEPARATORS[other]} ({line[:60]!r}), not by "
            f"{_SEPARATORS[delimiter]}; save the file with these{remedies.get(other, '')}"
        )


def spell_out(table: pa.Table) -> pa.Table:
    """Replace columns of dictionary indices, as pandas writes categories, by their values; text is `string`.

    Raises:
        `UnicodeDecodeError`: the name of a column is no text.
    """
    for position, _ in enumerate(table.column_names):  # which decodes them
        field = table.schema.field(position)
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        kind = pa.string() if is_text(kind) else kind
        if kind != field.type:
            table = table.set_column(position, field.with_type(kind), table[position].cast(kind))
    return table


__all__ = [
    "COMPRESSED",
    "DELIMITERS",
    "FASTA",
    "GZIP",
    "JSON",
    "SUFFIXES",
    "RowTooLongError",
    "build_table",
    "find_format",
    "open_parquet",
    "parse_csv",
    "read_bytes",
    "read_records",
    "require_genome",
    "spell_out",
    "take_header",
    "tell_damage",
    "tell_no_parquet",
]
