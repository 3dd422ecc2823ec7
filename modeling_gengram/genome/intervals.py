"""Rows from BED files: the intervals of a genome, or only where they are."""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from gengram.errors import InputError
from gengram.genome.alphabet import reverse_complement
from gengram.genome.fasta import read_fasta
from gengram.genome.text import read_lines

BED_COLUMNS = ("chrom", "start", "end", "name", "score", "strand")
"""Columns of a BED file that has no line `#chrom ...` with other names; later ones are `column_7`, `column_8`, ... ."""


class Region(NamedTuple):
    """An interval of a BED file: the line that it is in, its contig, first base (0-based) and end (not included)."""

    line: int
    chrom: str
    start: int
    end: int


def read_intervals(path: str | Path, genome: str | Path) -> pa.Table:
    """Cut the intervals of a BED file out of a genome; see `stream_intervals`."""
    return pa.concat_tables(stream_intervals(path, genome))


def stream_intervals(path: str | Path, genome: str | Path, rows: int = 1024) -> Iterator[pa.Table]:
    """Cut the intervals of a BED file out of a genome, some at a time.

    Args:
        path: a BED file, plain or gzip: `chrom`, `start` (0-based), `end` (not included), then, as far as they are
            there, `name`, `score`, `strand` and more. A line like `#chrom  start  end  label` names the columns.
        genome: a FASTA file with the contigs; a contig's name is its header up to the first blank. Contigs without
            intervals are not kept in memory.
        rows: intervals of a table.

    Yields:
        `sequence`, then the columns of the BED file; `start` and `end` int64, the others text. An interval with strand
        `-` is the reverse complement.

    Raises:
        `InputError`: an interval that is no interval or does not lie in its contig, naming line and contig; a contig
            that the genome lacks; a line with too few columns, a strand that is none.
    """
    wanted = {_read_region(path, line, row).chrom for _, line, row in _read_bed(path)}
    contigs, lengths = _read_contigs(genome, wanted)
    intervals = _read_bed(path)
    while block := list(itertools.islice(intervals, rows)):
        names = block[0][0]
        columns: dict[str, Any] = {
            "sequence": [_cut(path, line, dict(zip(names, row)), contigs, lengths, genome) for _, line, row in block],
            **{name: [row[place] for *_, row in block] for place, name in enumerate(names)},
        }
        columns |= {name: np.array(columns[name], dtype=np.int64) for name in ("start", "end")}
        yield pa.table(columns)


def _cut(
    path: str | Path,
    line: int,
    fields: dict[str, str],
    contigs: dict[str, str],
    lengths: dict[str, int],
    genome: str | Path,
) -> str:
    chrom, start, end, strand = fields["chrom"], int(fields["start"]), int(fields["end"]), fields.get("strand", ".")
    check_region(Region(line, chrom, start, end), path, lengths, genome)
    where = f"{path}, line {line}: interval {chrom}:{start}-{end}"
    if strand not in ("+", "-", ".", ""):
        raise InputError(f"{where}: strand {strand!r} is none of + - .")
    sequence = contigs[chrom][start:end]
    try:
        return reverse_complement(sequence) if strand == "-" else sequence
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error


def _read_contigs(genome: str | Path, wanted: set[str]) -> tuple[dict[str, str], dict[str, int]]:
    """Return the wanted contigs by name, and the lengths of all."""
    contigs: dict[str, str] = {}
    lengths: dict[str, int] = {}
    for line, header, sequence in read_fasta(genome):
        name = header.split()[0]
        if name in contigs:
            raise InputError(f"{genome}, line {line}: a second contig is called {name!r}")
        lengths[name] = len(sequence)
        if name in wanted:
            contigs[name] = sequence
    return contigs, lengths


def read_regions(path: str | Path) -> list[Region]:
    """Read the intervals of a BED file, plain or gzip, in its order; other columns are not looked at.

    Raises:
        `InputError`: a line with too few columns, a position that is none, a file without intervals.
    """
    return [_read_region(path, line, row) for _, line, row in _read_bed(path)]


def check_region(region: Region, path: str | Path, lengths: Mapping[str, int], genome: str | Path) -> None:
    """Refuse an interval that does not lie in a genome.

    Args:
        region: the interval.
        path: the BED file that it is from, for messages.
        lengths: of the genome's contigs, in bp.
        genome: the file with the genome, for messages.

    Raises:
        `InputError`: an unknown contig, no bases, an end past that of the contig.
    """
    where = f"{path}, line {region.line}: interval {region.chrom}:{region.start}-{region.end}"
    if region.chrom not in lengths:
        shown = ", ".join(list(lengths)[:8]) + (", ..." if len(lengths) > 8 else "")
        raise InputError(f"{where}: the genome {genome} has no contig {region.chrom!r}; it has {shown}")
    if not 0 <= region.start < region.end:
        raise InputError(f"{where} holds no bases; starts count from 0, ends are not included")
    if region.end > lengths[region.chrom]:
        raise InputError(f"{where} goes past the end of contig {region.chrom!r}, which has {lengths[region.chrom]} bp")


def _read_bed(path: str | Path) -> Iterator[tuple[list[str], int, list[str]]]:
    """Yield of each interval the names of its columns, its line and its fields."""
    names: list[str] = []
    given = 0
    for number, line in read_lines(path, universal=True):
        text = line.rstrip("\r\n")  # Tabs at the end are empty fields.
        row = text.split("\t") if "\t" in text else text.split()
        if text.startswith("#chrom") and not given:
            names = ["chrom", "start", "end", *(name.strip() for name in row[3:])]
            for name in names[3:]:
                if name == "sequence" or names.count(name) > 1:
                    meant = "the bases of the genome" if name == "sequence" else "the interval or an earlier column"
                    raise InputError(f"{path}, line {number}: a column is called {name!r}, which is {meant}; rename it")
        elif text.strip() and not text.startswith(("#", "track", "browser")):
            while len(row) > given > 0 and not row[-1].strip():  # some rows only end with a tab
                row.pop()
            if len(row) < 3 or (given and len(row) != given):
                needed = f"{given} as the lines before" if given else "at least 3: chrom, start, end"
                raise InputError(f"{path}, line {number}: {len(row)} columns, not {needed}")
            if names and len(names) != len(row):
                raise InputError(f"{path}, line {number}: {len(row)} columns where the line #chrom has {len(names)}")
            given = len(row)
            names = names or [*BED_COLUMNS[:given], *(f"column_{position}" for position in range(7, given + 1))]
            yield names, number, [field.strip() for field in row]
    if not given:
        raise InputError(f"{path}: the file has no intervals")


def _read_region(path: str | Path, line: int, row: list[str]) -> Region:
    for name, value in zip(("start", "end"), row[1:]):
        if not value.isascii() or not value.isdigit():
            raise InputError(f"{path}, line {line}: {name} {value!r} is not a position (a whole number of at least 0)")
    return Region(line, row[0], int(row[1]), int(row[2]))


__all__ = ["BED_COLUMNS", "Region", "check_region", "read_intervals", "read_regions", "stream_intervals"]
