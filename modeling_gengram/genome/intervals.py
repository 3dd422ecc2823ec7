"""Rows from BED files: the intervals of a genome, or only where they are.

The interval of a line is in its columns 1 to 3, its strand in column 6, whatever a header or a later column says.
"""

import functools
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from gengram.errors import InputError
from gengram.genome.alphabet import reverse_complement
from gengram.genome.contigs import Genome, Part, Places, fold_name
from gengram.genome.fasta import read_fasta
from gengram.genome.text import FileDigest, read_lines
from gengram.progress import tell

BED_COLUMNS = ("chrom", "start", "end", "name", "score", "strand")
"""Columns of a BED file that has no line `#chrom ...` with other names; later ones are `column_7`, `column_8`, ... ."""

_STRANDS = ("+", "-", ".", "")
# What the first three columns are called in the headers of UCSC, bedtools, pandas and R.
_CHROM_NAMES = {"chrom", "chr", "chromosome", "contig", "seqname", "seqnames", "seqid"}
_START_NAMES = re.compile(r"(chrom|chr)?_?(start|begin|beg|from)(_?pos(ition)?)?|pos(ition)?_?start", re.IGNORECASE)


class Region(NamedTuple):
    """An interval of a BED file: the line that it is in, its contig, first base (0-based) and end (not included)."""

    line: int
    chrom: str
    start: int
    end: int


def read_intervals(path: str | Path, genome: str | Path | Genome) -> pa.Table:
    """Cut the intervals of a BED file out of a genome; see `stream_intervals`."""
    return pa.concat_tables(stream_intervals(path, genome))


def stream_intervals(path: str | Path, genome: str | Path | Genome, rows: int = 1024) -> Iterator[pa.Table]:
    """Cut the intervals of a BED file out of a genome, some at a time.

    Args:
        path: a BED file or one that begins like it (narrowPeak, broadPeak, bedGraph, output of bedtools), plain or
            gzip, its columns divided by tabs or blanks: `chrom`, `start` (0-based), `end` (not included), then, as far
            as they are there, `name`, `score`, `strand` and more. A line like `#chrom  start  end  label` names the
            columns; comments and lines of genome browsers are passed over wherever they are.
        genome: a FASTA file with the contigs; a contig's name is its header up to the first blank. How contigs are
            found by their names: see `gengram.genome.contigs`. Contigs without intervals are not kept in memory.
        rows: intervals of a table.

    Yields:
        `sequence`, then the columns of the BED file; `start` and `end` int64, the others text. An interval with strand
        `-` is the reverse complement. Names that a header repeats, or that are the interval's, become `column_N`.

    Raises:
        `InputError`: an interval that is no interval or does not lie in its contig, naming line and contig; a contig
            that the genome lacks; a line with too few columns, a strand that is none.
    """
    layout = _survey_bed(path)
    contigs, places = _read_contigs(path, Genome.of(genome), layout.ends)
    intervals = _read_bed(path)
    while block := list(itertools.islice(intervals, rows)):
        fields = [(row + [""] * layout.width)[: layout.width] for _, row in block]
        columns: dict[str, Any] = {
            "sequence": [
                _cut(path, line, row, layout.strand, contigs, places) for (line, _), row in zip(block, fields)
            ],
            **{name: [row[place] for row in fields] for place, name in enumerate(layout.names)},
        }
        columns |= {name: np.array(columns[name], dtype=np.int64) for name in ("start", "end")}
        yield pa.table(columns)


def require_values(path: str | Path, column: str) -> None:
    """Refuse a BED file with an interval that has no value in a column, such as that of the labels.

    Raises:
        `InputError`: names the line, and the column that a header names twice; see `stream_intervals`.
    """
    layout = _survey_bed(path)
    if column.lower() in layout.repeated:
        raise InputError(f"{path}: two columns are called {column!r}; rename the one that is not meant")
    if column in layout.names:
        place = layout.names.index(column)
        for line, row in _read_bed(path):
            value = "".join(row[place : place + 1])
            if value in ("", "."):
                told = "has no value" if not value else "has no value, which BED writes as '.'"
                raise InputError(
                    f"{path}, line {line}: column {place + 1} ({column!r}) {told}; fill it in, or remove the line"
                )


def _cut(
    path: str | Path,
    line: int,
    row: list[str],
    strand_place: int | None,
    contigs: dict[str, str],
    places: Places,
) -> str:
    region = _read_region(path, line, row)
    part, start = find_region(region, path, places)
    strand = "." if strand_place is None else row[strand_place]
    if strand_place is not None and strand not in _STRANDS:
        remedy = "write one of these, or '.' where there is none"
        if strand.isdigit() or strand in places.parts:
            remedy = "if it is of another interval, as bedtools -wb adds them, keep columns 1 to 3, as with cut -f 1-3"
        raise InputError(
            f"{path}, line {line}: interval {_name(region)}: strand {strand[:30]!r} (column {strand_place + 1}) is "
            f"none of + - .; {remedy}"
        )
    sequence = contigs[part.record][start : start + region.end - region.start]
    return reverse_complement(sequence, keep_others=True) if strand == "-" else sequence


def _read_contigs(path: str | Path, genome: Genome, ends: dict[str, int]) -> tuple[dict[str, str], Places]:
    """Return the records that a BED file's contigs, given with their furthest ends, may be, and where they are."""
    if genome.kept is not None and genome.kept[0] == ends:
        return genome.kept[1]
    folded = set(map(fold_name, ends))
    contigs: dict[str, str] = {}
    lengths: dict[str, int] = {}
    genome.digest = FileDigest()
    for line, header, sequence in read_fasta(genome.path, genome.digest):
        name = header.split()[0]
        if name in lengths:
            raise InputError(f"{genome}, line {line}: a second contig is called {name!r}; rename or remove it")
        lengths[name] = len(sequence)
        if genome.may_hold(name, len(sequence), folded):
            contigs[name] = sequence
    places = genome.match(path, ends, lengths)
    _compare_slices(genome, [part for part in places.parts.values() if part.record in contigs], contigs)
    genome.remember(ends, (contigs, places))
    return contigs, places


def _compare_slices(genome: Genome, parts: Sequence[Part], contigs: dict[str, str]) -> None:
    """Refuse slices that share bases of a contig, but say that they are different ones."""
    furthest: dict[str, Part] = {}  # What the others say was compared with it.
    for part in sorted(parts, key=lambda part: part.start):
        other = furthest.setdefault(part.contig, part)
        if part.start < other.end and other is not part:
            end = min(part.end, other.end)
            one = contigs[other.record][part.start - other.start : end - other.start]
            if one.upper() != contigs[part.record][: end - part.start].upper():
                raise InputError(
                    f"{genome}: the slices {other.record!r} and {part.record!r} differ in the bases that both have; "
                    "are they of one assembly? Remove one of them"
                )
        furthest[part.contig] = max(other, part, key=lambda part: part.end)


def read_regions(path: str | Path) -> list[Region]:
    """Read the intervals of a BED file, plain or gzip, in its order; other columns are not looked at.

    Raises:
        `InputError`: a line with too few columns, a position that is none, a file without intervals.
    """
    regions: list[Region] = []
    _survey_bed(path, regions.append)
    return regions


def read_interval_table(path: str | Path) -> pa.Table:
    """Read the columns of a BED file without a genome: where intervals are, and what the file says about them.

    Args:
        path: see `stream_intervals`.

    Returns:
        `line` (int64, of the file, from 1), `chrom`, `start` and `end` (int64), the others as text.

    Raises:
        `InputError`: see `read_regions`; an interval that holds no bases, a strand that is none.
    """
    layout = _survey_bed(path)
    lines, rows = [], []
    for line, row in _read_bed(path):
        region = _read_region(path, line, row)
        fields = (row + [""] * layout.width)[: layout.width]
        if region.start >= region.end:
            raise InputError(
                f"{path}, line {line}: interval {_name(region)} holds no bases; starts count from 0, ends are not "
                "included"
            )
        if layout.strand is not None and fields[layout.strand] not in _STRANDS:
            raise InputError(
                f"{path}, line {line}: interval {_name(region)}: strand {fields[layout.strand][:30]!r} (column "
                f"{layout.strand + 1}) is none of + - .; write one of these, or '.' where there is none"
            )
        lines.append(line)
        rows.append(fields)
    columns: dict[str, Any] = {"line": np.array(lines, dtype=np.int64)}
    columns |= {name: [row[place] for row in rows] for place, name in enumerate(layout.names) if name != "line"}
    columns |= {name: np.array(columns[name], dtype=np.int64) for name in ("start", "end")}
    return pa.table(columns)


def stream_regions(path: str | Path, column: str) -> Iterator[tuple[Region, str | None]]:
    """Read the intervals of a BED file, plain or gzip, one at a time, each with its value of a column.

    Args:
        path: the file.
        column: its name in the file's header; without a header, or in one that does not name it, values are None.

    Raises:
        `InputError`: see `read_regions`; an interval that holds no bases, with its line.
    """
    named = column in _survey_bed(path).names
    for region, values in stream_fields(path):
        yield region, values.get(column, "") if named else None


def stream_fields(path: str | Path) -> Iterator[tuple[Region, dict[str, str]]]:
    """Read the intervals of a BED file, plain or gzip, one at a time, each with its other columns.

    Args:
        path: the file.

    Yields:
        The interval; its values by column, the first six called as `BED_COLUMNS`, later ones `column_7`, ..., unless a
        header names them. Empty values at the end of a line are left out.

    Raises:
        `InputError`: see `stream_regions`.
    """
    layout = _survey_bed(path)
    for line, row in _read_bed(path):
        region = _read_region(path, line, row)
        if region.start >= region.end:
            raise InputError(
                f"{path}, line {line}: interval {_name(region)} holds no bases; starts count from 0, ends are not "
                "included"
            )
        yield region, dict(zip(layout.names, row))


def find_region(region: Region, path: str | Path, places: Places) -> tuple[Part, int]:
    """Return the record of a genome that an interval lies in, and the interval's first base there, from 0.

    Args:
        region: the interval.
        path: the BED file that it is from, for messages.
        places: where that file's contigs are.

    Raises:
        `InputError`: see `Places.find`.
    """
    return places.find(f"{path}, line {region.line}: interval {_name(region)}", region.chrom, region.start, region.end)


def _name(region: Region) -> str:
    return f"{region.chrom}:{region.start}-{region.end}"


class _Layout(NamedTuple):
    """What a BED file has: columns' names, the strand's place among them, contigs and where their last interval ends;
    names that its header repeats."""

    names: list[str]
    strand: int | None
    ends: dict[str, int]
    repeated: set[str]

    @property
    def width(self) -> int:
        return len(self.names)


def _survey_bed(path: str | Path, keep: Callable[[Region], None] = lambda region: None) -> _Layout:
    """Read a BED file once; `keep` is given each interval.

    A line has as many columns as it has fields, or fewer where the last ones are empty: tabs at the end of some lines,
    or of all, are no columns of their own.
    """
    header: tuple[int, list[str]] | None = None
    ends: dict[str, int] = {}
    # Columns of the line that fills most of them, and of the one that has fewest, and where these are.
    needed, given, reverse = (0, 0), (0, 0), 0
    for line, row, names_columns in _read_lines(path):
        if names_columns:
            if header and header[1] != row:
                raise InputError(f"{path}, line {line}: the columns have other names than in line {header[0]}")
            if ends and not header:
                raise InputError(f"{path}, line {line}: the names of the columns come after intervals; put them first")
            header = (line, row)
            continue
        filled = _count_filled(row)
        if len(row) < 3:
            raise InputError(f"{path}, line {line}: {len(row)} columns, not at least 3: chrom, start, end")
        keep(region := _read_region(path, line, row))
        ends[region.chrom] = max(region.end, ends.get(region.chrom, 0))
        reverse = reverse or (line if row[5:6] == ["-"] else 0)
        if header and not filled <= len(header[1]) <= len(row):
            raise InputError(f"{path}, line {line}: {len(row)} columns where line {header[0]} names {len(header[1])}")
        if given[0] and filled > given[0]:
            raise InputError(f"{path}, line {line}: {filled} columns, not {given[0]} as line {given[1]}")
        if len(row) < needed[0]:
            raise InputError(f"{path}, line {line}: {len(row)} columns, not {needed[0]} as line {needed[1]}")
        needed = (filled, line) if filled > needed[0] else needed
        given = (len(row), line) if not given[0] or len(row) < given[0] else given
    if not ends:
        raise InputError(f"{path}: the file has no intervals")
    if header:
        names = _name_columns(path, *header)
    else:
        names = [*BED_COLUMNS[: given[0]], *(f"column_{place}" for place in range(7, given[0] + 1))]
    # A strand behind the sixth column is that of something else, as of a gene that the interval is in.
    strands = [place for place, name in enumerate(names[:6]) if name.lower() == "strand"]
    if reverse and not strands:
        _tell_once(
            f"{path}: column 6 ({names[5]!r}) has strands ('-' in line {reverse}) but is not called 'strand': all "
            "intervals are read as they are in the genome"
        )
    counts = Counter(name.lower() for name in header[1][3:]) if header else Counter()
    repeated = {name for name, count in counts.items() if count > 1}
    return _Layout(names, strands[0] if strands else None, ends, repeated)


@functools.cache
def _tell_once(note: str) -> None:
    """Tell of a file that is read several times once."""
    tell(note)


def _name_columns(path: str | Path, line: int, header: list[str]) -> list[str]:
    """Return the names of a header's columns, each once."""
    names, renamed = ["chrom", "start", "end"], []
    taken = {*names, "sequence"}
    for place, name in enumerate(header[3:], start=4):
        if name.lower() in taken or not name:
            renamed.append(f"{place} ({name!r})")
            name = f"column_{place}"
            while name in taken:
                name += "_"
        taken.add(name.lower())
        names.append(name)
    if renamed:
        _tell_once(
            f"{path}, line {line}: columns 1 to 3 are the interval, and its bases are those of the genome; columns "
            f"called like these, or like an earlier one, are column_N here: {', '.join(renamed)}"
        )
    return names


def _read_bed(path: str | Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the fields of each interval."""
    return ((number, row) for number, row, names_columns in _read_lines(path) if not names_columns)


def _read_lines(path: str | Path) -> Iterator[tuple[int, list[str], bool]]:
    """Yield line and fields of all that is no comment, and whether they are names of columns."""
    for number, line in read_lines(path, universal=True):
        text = line.rstrip("\n")  # Tabs at the end are empty fields.
        if not text.strip():
            continue
        row = _split(text)
        if text.startswith("#") or not _is_position(row[1:2]):
            if _is_header(names := _split(text.lstrip("# ")), text):
                yield number, names[: _count_filled(names)], True
                continue
            # A contig may be called track1, or even track.
            if text.startswith("#") or text.split(None, 1)[0] in ("track", "browser"):
                continue
        yield number, row, False


def _count_filled(row: list[str]) -> int:
    """Return the number of fields without the empty ones at the end."""
    return next(place for place in range(len(row), -1, -1) if place == 0 or row[place - 1])


def _split(text: str) -> list[str]:
    """Return the fields of a line, divided by tabs or, where there are none but at the end, by blanks."""
    return [field.strip() for field in (text.split("\t") if "\t" in text.rstrip() else text.split())]


def _is_header(row: list[str], text: str) -> bool:
    """Whether a line names the columns: after `#` and divided by tabs, or with a start as second column."""
    if len(row) < 3 or row[0].lower() not in _CHROM_NAMES:
        return False
    return bool(_START_NAMES.fullmatch(row[1])) or (text.startswith("#") and "\t" in text)


def _is_position(fields: list[str]) -> bool:
    return bool(fields) and fields[0].isascii() and fields[0].isdigit() and len(fields[0]) < 19


def _read_region(path: str | Path, line: int, row: list[str]) -> Region:
    if not row[0]:
        raise InputError(f"{path}, line {line}: column 1 (chrom) is empty; name the contig")
    for place, name in ((1, "start"), (2, "end")):
        if not _is_position(row[place : place + 1]):
            raise InputError(
                f"{path}, line {line}: {name} {row[place][:30]!r} is not a position (a whole number of at least 0), in "
                f"column {place + 1}"
            )
    return Region(line, row[0], int(row[1]), int(row[2]))


__all__ = [
    "BED_COLUMNS",
    "Region",
    "find_region",
    "read_interval_table",
    "read_intervals",
    "read_regions",
    "require_values",
    "stream_fields",
    "stream_intervals",
    "stream_regions",
]
