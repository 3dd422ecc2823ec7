"""Where in a genome are the rows of a file? What BED and bedGraph need to know, found before anything is computed.

Places are written as BED counts: from 0, the end not included.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gengram.errors import InputError
from gengram.genome.fasta import find_regions
from gengram.genome.formats import FASTA, find_format
from gengram.genome.intervals import read_regions
from gengram.genome.streams import stream_rows
from gengram.genome.tables import shorten
from gengram.genome.values import is_text
from gengram.progress import tell

COLUMNS = ("chrom", "start", "end")
"""The columns of a place; `strand` may be there, too."""

# A blank ends a column of a BED file for many of its readers, and # begins a comment.
_CONTIG = r"^[^\s#\x00-\x1f\x7f][^\s\x00-\x1f\x7f]*$"
_LINES_OF_BROWSERS = ("track", "browser")
_STRANDS = ["+", "-", ".", ""]

Namer = Callable[[int], str]
"""Says which row (from 0) of what is meant, for messages."""


def survey_places(path: str | Path, sequence_column: str | None = None, *, disjoint: bool = False) -> int:
    """Read a file once, and refuse it if a row has no place, or none that a BED file can hold.

    Args:
        path: what `stream_rows` reads. A BED file has places; a table has them in its columns `chrom`, `start`, `end`
            and `strand` (if there is one), FASTA in headers that all begin like `chr1:0-96`.
        sequence_column: see `stream_rows`.
        disjoint: whether places that overlap are refused, too.

    Returns:
        How the first base of a contig is counted, for `place_rows`: 0, as in BED; 1 where each row of a table or FASTA
        file has as many bases as its place has only then, as in headers of samtools faidx. That is told.

    Raises:
        `InputError`: with the row (or the line of a BED file), and what can be written instead.
    """
    if find_format(path) == ".bed":
        regions = read_regions(path)
        named = [region.chrom for region in regions]
        check_contigs(pa.array(named), lambda row: f"{path}, line {regions[row].line}")
        if disjoint:
            start, end = (np.array([region[place] for region in regions]) for place in (2, 3))
            sort_places(np.array(named), start, end, lambda row: f"{path}, line {regions[row].line}")
        return 0
    chroms: list[np.ndarray] = []
    starts: list[np.ndarray] = []
    ends: list[np.ndarray] = []
    row, count_from_1, empty = 0, True, ""
    for block in stream_rows(path, sequence_column):
        block = _read_headers(block, path) if find_format(path) in FASTA else block
        _require_columns(block, path)

        def name(place: int, before: int = row) -> str:
            return f"{path}, data row {before + place + 1}"

        contigs = _read_texts(block["chrom"], "chrom", name)
        check_contigs(contigs, name)
        start, end = (_read_positions(block[column], column, name) for column in ("start", "end"))
        if "strand" in block.column_names:
            _check_strands(block["strand"], name)
        lengths = pc.utf8_length(block["sequence"]).to_numpy()
        count_from_1 = count_from_1 and bool(((end - start + 1 == lengths) & (start > 0)).all())
        for place in np.flatnonzero(end <= start)[:1].tolist():
            empty = empty or f"{name(place)}: the interval {contigs[place]}:{start[place]}-{end[place]} holds no bases"
        if empty and not count_from_1:
            raise InputError(f"{empty}; starts count from 0, ends are not included")
        if disjoint:
            chroms.append(np.asarray(contigs.to_pylist(), dtype=object))
            starts.append(start)
            ends.append(end)
        row += len(block)
    first = int(count_from_1)
    if first:
        tell(f"{path}: places count from 1 (each row has end - start + 1 bases); the output counts from 0, as BED does")
    if disjoint:
        sort_places(
            np.concatenate(chroms),
            np.concatenate(starts) - first,
            np.concatenate(ends),
            lambda place: f"{path}, data row {place + 1}",
        )
    return first


def place_rows(table: pa.Table, first: int = 0) -> pa.Table:
    """Return rows of a file that `survey_places` has read with their places, as BED counts.

    Args:
        table: rows of `read_rows` or `stream_rows`; of a FASTA file with their headers, `name`.
        first: what `survey_places` has returned.

    Returns:
        The rows with `chrom` (string), `start` and `end` (int64) in place of what was called so, and with `strand`
        (`+`, `-`, `.`, empty or missing) where a column or headers of a FASTA file tell it.

    Raises:
        `InputError`: they have none.
    """
    table = table if "chrom" in table.column_names else _read_headers(table)
    table = table if "strand" in table.column_names else _read_strands(table)
    if "strand" in table.column_names:
        is_given = table["strand"].is_valid().combine_chunks()
        strands = pc.if_else(is_given, _check_strands(table["strand"], str), None)
        table = table.set_column(table.column_names.index("strand"), "strand", strands)
    start, end = (_read_positions(table[column], column, str) for column in ("start", "end"))
    found = (_read_texts(table["chrom"], "chrom", str), pa.array(start - first), pa.array(end))
    for name, values in zip(COLUMNS, found):
        table = table.set_column(table.column_names.index(name), name, values)
    return table


def sort_places(chroms: np.ndarray, starts: np.ndarray, ends: np.ndarray, name: Namer) -> np.ndarray:
    """Return the order of places by contig (as bytes) and start, int64 [rows].

    Args:
        chroms, starts, ends: [rows], as BED counts.
        name: of a row (from 0), for messages.

    Raises:
        `InputError`: two of them overlap.
    """
    contigs = np.array([chrom.encode() for chrom in chroms.tolist()], dtype=object)
    codes = np.unique(contigs, return_inverse=True)[1]
    order = np.lexsort((ends, starts, codes))
    same = codes[order][1:] == codes[order][:-1]
    if (overlaps := np.flatnonzero(same & (starts[order][1:] < ends[order][:-1]))).size:
        left, right = order[overlaps[0]], order[overlaps[0] + 1]
        one, other = (f"{chroms[row]}:{starts[row]}-{ends[row]}" for row in (left, right))
        raise InputError(
            f"{name(int(right))}: {other} overlaps with {one} (see {name(int(left))}), and a bedGraph has one value "
            "for a base; write a .bed or .tsv file, or cut the intervals so that they lie apart, as with bedtools merge"
        )
    return order


def _read_headers(block: pa.Table, path: str | Path = "") -> pa.Table:
    """Add the places that the headers of a FASTA file begin with."""
    found = find_regions(block["name"].to_pylist())
    if found is None:
        raise InputError(
            f"{path}: the sequences have no places, since not every header begins like chr1:0-96; write a .tsv, .csv "
            "or .parquet file, or give the intervals as .bed with --genome"
        )
    chrom, start, end, _ = found
    for name, values in (("chrom", chrom), ("start", start), ("end", end)):
        block = block.append_column(name, pa.array(values))
    return block


def _read_strands(table: pa.Table) -> pa.Table:
    """Add the strands that headers tell of their places, such as `chr1:0-96(-)`, where they do."""
    if "name" not in table.column_names or not is_text(table["name"].type):
        return table
    found = find_regions(pc.fill_null(table["name"], "").to_pylist())
    if found is None or found[0] != table["chrom"].to_pylist():
        return table
    return table.append_column("strand", pa.array(found[3], pa.string()))


def _require_columns(block: pa.Table, path: str | Path) -> None:
    if missing := [name for name in COLUMNS if name not in block.column_names]:
        raise InputError(
            f"{path}: the rows have no places: the columns {', '.join(map(repr, missing))} are missing among "
            f"{shorten(block.column_names)}; write a .tsv, .csv or .parquet file, or call the contig 'chrom', its "
            "first base 'start' (from 0) and its end (not included) 'end'"
        )


def _read_texts(values: pa.ChunkedArray, column: str, name: Namer) -> pa.Array:
    """Return values without blanks around them, string [rows]; missing ones are empty."""
    try:
        texts = values.cast(pa.string())
    except pa.ArrowException as error:
        raise InputError(
            f"{name(0)}: {column} {str(values[0].as_py())[:30]!r} is no text; mend the column, or write a .tsv, .csv "
            "or .parquet file"
        ) from error
    return pc.utf8_trim_whitespace(pc.fill_null(texts, "")).combine_chunks()


def check_contigs(contigs: pa.Array, name: Namer) -> None:
    """Refuse names of contigs that no BED file can hold.

    Raises:
        `InputError`: names the row.
    """
    fits = pc.and_(
        pc.match_substring_regex(contigs, _CONTIG), pc.invert(pc.is_in(contigs, pa.array(_LINES_OF_BROWSERS)))
    )
    for row in np.flatnonzero(~fits.to_numpy(zero_copy_only=False))[:1].tolist():
        told = repr(contigs[row].as_py()[:40])
        raise InputError(
            f"{name(row)}: the contig {told} has no place in a BED or bedGraph file (empty, with blanks, or like a "
            "comment); rename it, or write a .tsv, .csv or .parquet file"
        )


def _check_strands(values: pa.ChunkedArray, name: Namer) -> pa.Array:
    strands = _read_texts(values, "strand", name)
    for row in np.flatnonzero(~pc.is_in(strands, pa.array(_STRANDS)).to_numpy(zero_copy_only=False))[:1].tolist():
        raise InputError(
            f"{name(row)}: strand {strands[row].as_py()[:30]!r} is none of + - . as a BED file has them; change it, or "
            "write a .tsv, .csv or .parquet file"
        )
    return strands


def _read_positions(values: pa.ChunkedArray, column: str, name: Namer) -> np.ndarray:
    """Return int64 [rows]."""
    if is_text(values.type):
        text = pc.utf8_trim_whitespace(values)
        fits = pc.fill_null(pc.match_substring_regex(text, r"^[0-9]{1,18}$"), False)
        numbers = pc.if_else(fits, text, "-1").cast(pa.int64()).to_numpy()
    else:
        try:
            found = values.cast(pa.float64()).to_numpy()
        except pa.ArrowException:
            found = np.full(len(values), np.nan)
        fits = (found >= 0) & (found < 2**53) & (found == np.floor(found))
        numbers = np.where(fits, found, -1).astype(np.int64)
    for row in np.flatnonzero(numbers < 0)[:1].tolist():
        value = values[row].as_py()
        told = "is empty" if value is None else f"{str(value)[:30]!r} is not a position (a whole number of at least 0)"
        raise InputError(f"{name(row)}: {column} {told}; a BED or bedGraph file needs it. Mend it, or write .tsv")
    return numbers


__all__ = ["COLUMNS", "check_contigs", "place_rows", "sort_places", "survey_places"]
