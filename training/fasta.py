"""Rows from FASTA files: labelled records, or labelled BED intervals of a genome.

Sequences keep the case and the IUPAC codes that the file has; what they mean is the tokenizer's business.
"""

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from gengram.tokenization import reverse_complement
from gengram.training.errors import InputError

BED_COLUMNS = ("chrom", "start", "end", "name", "score", "strand")
"""Columns of a BED file that has no line `#chrom ...` with other names; later ones are `column_7`, `column_8`, ... ."""

_REGION = re.compile(r"([^\s:|]+):(\d+)-(\d+)(?:\(?([+-])\)?)?")
_GZIP_MAGIC = b"\x1f\x8b"


def read_fasta(path: str | Path) -> Iterator[tuple[int, str, str]]:
    """Read the records of a FASTA file, plain or gzip (seen from its first bytes), one at a time.

    Yields:
        The line of the header, counted from 1; the header without `>`; the sequence, its lines joined, blanks removed.

    Raises:
        `InputError`: a file that is missing, empty, cut off or no FASTA, a record without a name or without a sequence.
    """
    header: str | None = None
    header_line, parts = 0, list[str]()
    for number, line in _read_lines(path):
        if line.startswith(">"):
            if header is not None:
                yield header_line, header, _join(parts, path, header_line, header)
            header, header_line, parts = line[1:].strip(), number, []
            if not header:
                raise InputError(f"{path}, line {number}: a record without a name")
        elif line.strip():
            if header is None:
                raise InputError(f"{path}, line {number}: a FASTA file begins with '>', not with {line.strip()[:30]!r}")
            parts.append(line)
    if header is None:
        raise InputError(f"{path}: the file is empty")
    yield header_line, header, _join(parts, path, header_line, header)


def read_labelled_fasta(path: str | Path, needs_labels: bool = True) -> pa.Table:
    """Read records whose headers are `name|label`, as those of the Nucleotide Transformer's tasks.

    Args:
        path: the file.
        needs_labels: whether a header without label is an error; if not, and no header has one, there is no `label`.

    Returns:
        Columns `sequence`, `label` (text after the header's last `|`), `name` (what is before it), and where all names
        begin with a region like `chr3:100-200`, `chrom`, `start` and `end` as they are written.

    Raises:
        `InputError`: see `read_fasta`; a header without label.
    """
    names, labels, sequences = list[str](), list[str](), list[str]()
    for line, header, sequence in read_fasta(path):
        name, bar, label = header.rpartition("|")
        if not (bar and label.strip()):
            if needs_labels or labels:
                raise InputError(
                    f"{path}, line {line}: the header {header[:60]!r} has no label; write it as '>name|label'"
                )
            name = header
        elif names and not labels:
            raise InputError(f"{path}, line {line}: the header {header[:60]!r} has a label, the ones before have none")
        else:
            labels.append(label.strip())
        names.append(name.strip())
        sequences.append(sequence)
    columns: dict[str, list] = {"sequence": sequences, **({"label": labels} if labels else {}), "name": names}
    regions = [_REGION.match(name) for name in names]
    if all(regions):
        columns["chrom"] = [region[1] for region in regions if region]
        columns["start"] = [int(region[2]) for region in regions if region]
        columns["end"] = [int(region[3]) for region in regions if region]
    return pa.table(columns)


def read_intervals(path: str | Path, genome: str | Path) -> pa.Table:
    """Cut the intervals of a BED file out of a genome.

    Args:
        path: a BED file, plain or gzip: `chrom`, `start` (0-based), `end` (not included), then, as far as they are
            there, `name`, `score`, `strand` and more. A line like `#chrom  start  end  label` names the columns.
        genome: a FASTA file with the contigs; a contig's name is its header up to the first blank. Contigs without
            intervals are not kept in memory.

    Returns:
        `sequence`, then the columns of the BED file; `start` and `end` int64, the others text. An interval with strand
        `-` is the reverse complement.

    Raises:
        `InputError`: an interval that is no interval or does not lie in its contig, naming line and contig; a contig
            that the genome lacks; a line with too few columns, a strand that is none.
    """
    names, lines, fields = _read_bed(path)
    table: dict[str, list] = {name: [row[position] for row in fields] for position, name in enumerate(names)}
    starts, ends = (_read_positions(table[name], name, path, lines) for name in ("start", "end"))
    strands = table.get("strand", ["."] * len(lines))
    wanted = set(table["chrom"])
    contigs: dict[str, str] = {}
    present: list[str] = []
    for line, header, sequence in read_fasta(genome):
        name = header.split()[0]
        present.append(name)
        if name in contigs:
            raise InputError(f"{genome}, line {line}: a second contig is called {name!r}")
        if name in wanted:
            contigs[name] = sequence
    sequences = []
    for line, chrom, start, end, strand in zip(lines, table["chrom"], starts, ends, strands):
        where = f"{path}, line {line}: interval {chrom}:{start}-{end}"
        if chrom not in contigs:
            shown = ", ".join(present[:8]) + (", ..." if len(present) > 8 else "")
            raise InputError(f"{where}: the genome {genome} has no contig {chrom!r}; it has {shown}")
        if not 0 <= start < end:
            raise InputError(f"{where} holds no bases; starts count from 0, ends are not included")
        if end > len(contigs[chrom]):
            raise InputError(f"{where} goes past the end of contig {chrom!r}, which has {len(contigs[chrom])} bp")
        if strand not in ("+", "-", ".", ""):
            raise InputError(f"{where}: strand {strand!r} is none of + - .")
        sequence = contigs[chrom][start:end]
        try:
            sequences.append(reverse_complement(sequence) if strand == "-" else sequence)
        except ValueError as error:
            raise InputError(f"{where}: {error}") from error
    others = {name: values for name, values in table.items() if name not in ("start", "end")}
    return pa.table({"sequence": sequences, **others, "start": starts, "end": ends}).select(["sequence", *names])


def _read_bed(path: str | Path) -> tuple[list[str], list[int], list[list[str]]]:
    """Return the names of the columns, and of each interval its line and its fields."""
    names: list[str] = []
    lines, fields = list[int](), list[list[str]]()
    for number, line in _read_lines(path):
        text = line.rstrip()
        row = text.split("\t") if "\t" in text else text.split()
        if text.startswith("#chrom"):
            names = ["chrom", "start", "end", *row[3:]]
        elif text and not text.startswith(("#", "track", "browser")):
            if len(row) < 3 or (fields and len(row) != len(fields[0])):
                needed = f"{len(fields[0])} as the lines before" if fields else "at least 3: chrom, start, end"
                raise InputError(f"{path}, line {number}: {len(row)} columns, not {needed}")
            lines.append(number)
            fields.append([field.strip() for field in row])
    if not fields:
        raise InputError(f"{path}: the file has no intervals")
    given = len(fields[0])
    if names and len(names) != given:
        raise InputError(f"{path}, line {lines[0]}: {given} columns where the line #chrom has {len(names)}")
    return names or [*BED_COLUMNS[:given], *(f"column_{position}" for position in range(7, given + 1))], lines, fields


def _read_positions(values: list[str], name: str, path: str | Path, lines: list[int]) -> np.ndarray:
    for value, line in zip(values, lines):
        if not value.isascii() or not value.isdigit():
            raise InputError(f"{path}, line {line}: {name} {value!r} is not a position (a whole number of at least 0)")
    return np.array(values, dtype=np.int64)


def _read_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    try:
        with open(path, "rb") as raw:
            compressed = raw.read(2) == _GZIP_MAGIC
        with gzip.open(path, "rt", encoding="utf-8") if compressed else open(path, encoding="utf-8") as file:
            yield from enumerate(file, start=1)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not text ({error})") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: the gzip file is cut off or damaged ({error}); fetch it again") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def _join(parts: list[str], path: str | Path, line: int, header: str) -> str:
    sequence = "".join("".join(parts).split())
    if not sequence:
        raise InputError(f"{path}, line {line}: the record {header[:60]!r} has no sequence")
    return sequence


__all__ = ["BED_COLUMNS", "read_fasta", "read_intervals", "read_labelled_fasta"]
