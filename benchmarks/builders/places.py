"""What do tables of places say? Rows of a table, BED or VCF file, each found in a genome."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from gengram.errors import InputError
from gengram.files import find_suffix
from gengram.genome.intervals import read_interval_table
from gengram.genome.tables import read_table, shorten

from .genome import Finder

CHROMS = ("chrom", "chromosome", "chr", "#chrom", "contig", "seqname", "seqnames", "seqid", "region")
STARTS, ENDS = ("start", "chromstart", "chrom_start"), ("end", "stop", "chromend", "chrom_end")
POSITIONS = ("position", "pos", "cage_representative_tss", "tss", "bp")
STRANDS, NAMES = ("strand",), ("name", "id", "symbol", "gene", "gene_id", "rsid", "variant_id")
_PIECE = 1 << 16
_CLASSES, _LONGEST = 1000, 200  # a task has that many, of so many letters


class Place(NamedTuple):
    """A row of a file that the genome has.

    Attributes:
        where: file and row, for messages.
        record, start, end: the number of the genome's record, and the bases there, from 0, the end not included.
        strand: `+`, `-` or `.`.
        name: as the file has it, or none.
        cells: the other columns.
    """

    where: str
    record: int
    start: int
    end: int
    strand: str
    name: str | None
    cells: dict[str, Any]


class RowCollector:
    """Gathers the rows of a plan in columns: a row takes some bytes, not a dictionary."""

    def __init__(self, schema: pa.Schema):
        self.schema = schema
        self._rows: list[tuple] = []
        self._batches: list[pa.RecordBatch] = []

    def add(self, *values: Any) -> None:
        """Add a row, a value for each column."""
        self._rows.append(values)
        if len(self._rows) == _PIECE:
            self._put()

    def _put(self) -> None:
        columns = zip(*self._rows) if self._rows else [[]] * len(self.schema)
        arrays = [pa.array(list(column), field.type) for column, field in zip(columns, self.schema)]
        self._batches.append(pa.RecordBatch.from_arrays(arrays, schema=self.schema))
        self._rows = []

    def finish(self) -> pa.Table:
        """Return all rows."""
        if self._rows or not self._batches:
            self._put()
        return pa.Table.from_batches(self._batches, self.schema)


def plan_schema(*more: tuple[str, pa.DataType]) -> pa.Schema:
    """Return the columns of a plan, `record`, `start`, `end`, `strand`, and more."""
    first = [("record", pa.int32()), ("start", pa.int64()), ("end", pa.int64()), ("strand", pa.string())]
    return pa.schema([*first, *more])


def is_bed(path: str | Path) -> bool:
    """Whether a file's name says that it is BED, or a format that begins like it."""
    return find_suffix(path) in (".bed", ".narrowpeak", ".broadpeak", ".gappedpeak", ".bedgraph")


def is_vcf(path: str | Path) -> bool:
    """Whether a file's name says that it is VCF."""
    return find_suffix(str(path).removesuffix(".bgz")) == ".vcf"


class PlaceTable:
    """The rows of a table or BED file; the columns of their places are found by their names.

    Args:
        path: `.csv`, `.tsv`, `.jsonl`, `.parquet` or BED, plain or `.gz`.
        text_columns: whose cells are text, whatever is in them.
        position_column: of single bases, from 1; None: `start` and `end` (from 0, the end not included) where the table
            has both, or the first of `POSITIONS`.

    Attributes:
        table: the columns.
        others: the names of those that are no place.

    Raises:
        `InputError`: a file that cannot be read, a column that is missing.
    """

    def __init__(self, path: str | Path, text_columns: Sequence[str] = (), position_column: str | None = None):
        self.path, self.bed = str(path), is_bed(path)
        if self.bed:
            self.table = read_interval_table(path)
        else:
            self.table = read_table(path, (*_spell(CHROMS), *_spell(NAMES), *_spell(STRANDS), *text_columns))
        if not len(self.table):
            raise InputError(f"{path}: the file has a header but no data rows")
        self.chrom = self.find_column(CHROMS, "the contig")
        self.start, self.end = (self.seek_column(names) for names in (STARTS, ENDS))
        self.position = None
        if position_column is not None:
            self.position = self.find_column((position_column,), "the position")
        elif not (self.start and self.end):
            self.position = self.find_column(POSITIONS, "the position (from 1), and not both of start and end,")
        self.strand, self.name = (self.seek_column(names) for names in (STRANDS, NAMES))
        used = {self.chrom, self.position, self.strand, self.name, "line"}
        used |= {self.start, self.end} if self.position is None else set()
        self.others = [name for name in self.table.column_names if name not in used]

    def seek_column(self, wanted: Iterable[str]) -> str | None:
        """Return the first of some columns that there is, whatever its case; None if there is none."""
        there = {name.strip().casefold(): name for name in self.table.column_names}
        return next((there[name.casefold()] for name in wanted if name.casefold() in there), None)

    def find_column(self, wanted: Sequence[str], what: str) -> str:
        """Return the first of some columns that there is.

        Raises:
            `InputError`: none is there.
        """
        if (found := self.seek_column(wanted)) is None:
            raise InputError(
                f"{self.path}: no column says {what}: one called {' or '.join(map(repr, wanted[:4]))} is needed; the "
                f"columns are {shorten(self.table.column_names)}"
            )
        return found

    def stream(self, finder: Finder) -> Iterator[Place]:
        """Yield the rows that a genome has, in the file's order; `Finder` counts the others.

        Raises:
            `InputError`: no position, a strand that is none, a place behind the end of its contig.
        """
        ends: dict[str, int] = {}
        for chrom, _, end, _ in self._read():
            ends[chrom] = max(end, ends.get(chrom, 0))
        finder.expect(ends)
        for chrom, start, end, (where, row) in self._read():
            spot = finder.find(where, chrom, start, end)
            if spot is None:
                continue
            strand = str(row[self.strand] or ".").strip() if self.strand else "."
            if strand not in ("+", "-", "."):
                if strand not in ("1", "-1", "+1"):
                    raise InputError(f"{where}: strand {strand[:30]!r} is none of + - .")
                strand = "-" if strand == "-1" else "+"
            name = row[self.name] if self.name else None
            cells = {other: row[other] for other in self.others}
            yield Place(
                where,
                spot.record,
                spot.start,
                spot.start + end - start,
                strand,
                None if name in (None, "", ".") else str(name),
                cells,
            )

    def _read(self) -> Iterator[tuple[str, int, int, tuple[str, dict[str, Any]]]]:
        number = 0
        for batch in self.table.to_batches(max_chunksize=_PIECE):
            for row in batch.to_pylist():
                number += 1
                where = f"{self.path}, " + (f"line {row['line']}" if self.bed else f"data row {number}")
                chrom = row[self.chrom]
                if chrom in (None, ""):
                    raise InputError(f"{where}: the contig ({self.chrom!r}) is empty")
                if self.position is not None:
                    end = _read_whole(row[self.position], where, self.position)
                    start = end - 1
                    if start < 0:
                        raise InputError(f"{where}: position 0 in column {self.position!r}; positions count from 1")
                else:
                    assert self.start and self.end
                    start, end = (_read_whole(row[name], where, name) for name in (self.start, self.end))
                yield str(chrom).strip(), start, end, (where, row)


def _spell(names: Sequence[str]) -> list[str]:
    return [form for name in names for form in (name, name.upper(), name.capitalize(), f"#{name.upper()}")]


def _read_whole(value: Any, where: str, column: str) -> int:
    text = str(value).strip()
    if not re.fullmatch(r"[0-9]{1,18}(\.0*)?", text):
        raise InputError(f"{where}: {text[:30]!r} in column {column!r} is no position (a whole number)")
    return int(text.partition(".")[0])


def order_labels(labels: Iterable[str], files: str) -> list[str]:
    """Return the classes in the order of their ids: numbers by size, other names by letter.

    Args:
        labels: of rows, or each once.
        files: that they are of, for messages.

    Raises:
        `InputError`: fewer than two, or what can only be another column.
    """
    names = sorted(set(labels))
    if len(names) < 2:
        raise InputError(f"{files}: all rows have the label {names[0][:60]!r}; two classes are needed")
    if len(names) > _CLASSES or max(map(len, names)) > _LONGEST:
        longest = max(names, key=len)
        raise InputError(
            f"{files}: {len(names):,} labels, such as {longest[:60]!r} of {len(longest):,} letters, are no classes (up "
            f"to {_CLASSES:,} of {_LONGEST} letters); name the column that has the labels"
        )
    if all(re.fullmatch(r"-?[0-9]{1,18}", name) for name in names):
        return sorted(names, key=int)
    return names


def keep_name(name: str, taken: Sequence[str]) -> str:
    """Return what a further column is called where its name has another meaning in a task's tables."""
    return f"table_{name}" if name.casefold() in taken else name


def read_named_files(texts: Sequence[str]) -> Mapping[str, str]:
    """Return files by the name of what they have, of `NAME=FILE`.

    Raises:
        `InputError`: another form, or a name twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, sign, file = text.partition("=")
        if not (sign and name.strip() and file):
            raise InputError(f"{text!r}: write NAME=FILE, as in promoter=promoters.bed")
        if name.strip() in found:
            raise InputError(f"{text!r}: the name {name.strip()!r} is there twice")
        found[name.strip()] = file
    return found


def sort_plan(plan: pa.Table) -> pa.Table:
    """Return a plan in the order of the genome; rows of one place stay in theirs."""
    order = pa.compute.sort_indices(
        plan.append_column("row", pa.array(range(len(plan)), pa.int64())),
        sort_keys=[("record", "ascending"), ("start", "ascending"), ("row", "ascending")],
    )
    return plan.take(order)


def finish(finders: Iterable[Finder], counts: Counter[str]) -> None:
    """Say of every file what was passed over; see `Finder.finish`."""
    for finder in finders:
        finder.finish(counts)


__all__ = [
    "CHROMS",
    "ENDS",
    "NAMES",
    "POSITIONS",
    "STARTS",
    "STRANDS",
    "Place",
    "PlaceTable",
    "RowCollector",
    "finish",
    "is_bed",
    "is_vcf",
    "keep_name",
    "order_labels",
    "plan_schema",
    "read_named_files",
    "sort_plan",
]
