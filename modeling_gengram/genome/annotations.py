"""Features of a GFF3 or GTF file: a line at a time, its text kept as it is.

A `Feature` has places as the rest of this package has them: bases from 0, ends not included. The file counts from 1 and
includes ends; `Feature.text` is its line. Formats: GFF3 1.26,
https://github.com/The-Sequence-Ontology/Specifications/blob/master/gff3.md; GTF 2.2,
https://mblab.wustl.edu/GTF22.html. GFF of version 2 is read as GTF, whose parent it is.
"""

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias
from urllib.parse import quote, unquote

from gengram.errors import InputError

from .text import MARK, cut_end, open_output, read_lines

Format: TypeAlias = Literal["gff3", "gtf"]
Kind: TypeAlias = Literal["directive", "comment", "track", "fasta", "empty"]

_NAMES = {"gff3": "GFF3", "gtf": "GTF"}

_LOOKED_AT = 1000
_VERSION = re.compile(r"##gff-version\s+(\d+)")
_GFF3_START = re.compile(r'\s*[^\s=;"]+\s?=')
_GTF_START = re.compile(r'\s*[^\s=;"]+\s+[^\s=;]')
# What is between two semicolons; one inside quotes does not count, a quote may be escaped. These match whatever comes,
# so they need no second look, however long a line.
_GTF_ITEM = re.compile(r'(?:[^;"]+|"(?:[^"\\]+|\\.)*(?:"|\\?$))+')
_GTF_QUOTED = re.compile(r'"(?:[^"\\]+|\\.)*("|\\?$)')
_ESCAPED = re.compile(r'\\(["\\])')
_SCORE = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:inf|infinity|nan)", re.IGNORECASE)
# GFF3: "seqids may contain any characters in the set [a-zA-Z0-9.:^*$@!+_?-|]"; the last four as they are meant.
_SEQID_SAFE = ".:^*$@!+_?-|"
_CONTROLS = {code: f"%{code:02X}" for code in [*range(32), 127]}
_COLUMN_CODES = _CONTROLS | {ord("%"): "%25"}
_ATTRIBUTE_CODES = _COLUMN_CODES | {ord(letter): f"%{ord(letter):02X}" for letter in ";=&,"}
_KEY_CODES = _ATTRIBUTE_CODES | {ord(" "): "%20"}


class Feature(NamedTuple):
    """A feature: a line of nine columns.

    Attributes:
        line: its line in the file, from 1.
        seqid: the contig.
        source: who says so, or `.`.
        type: what it is: `gene`, `CDS`, ...
        start: its first base, from 0: the file's number less 1.
        end: the base after its last one, from 0: the file's number.
        score: None where the file has `.`.
        strand: `+`, `-`, `.` (none) or `?` (unknown).
        phase: of a CDS, bases from its first to the next codon; None where the file has `.`.
        format: of the file, which says how `attributes` is read.
        text: the whole line, with its end.
    """

    line: int
    seqid: str
    source: str
    type: str
    start: int
    end: int
    score: float | None
    strand: str
    phase: int | None
    format: Format
    text: str

    @property
    def attributes(self) -> dict[str, tuple[str, ...]]:
        """Values of column 9 by key, in the file's order, decoded; read anew each time.

        GFF3: divided at commas, percent signs decoded. GTF: quotes removed, a key's values from all its places. A key
        without a value has none.
        """
        text = self.text.rstrip("\r\n").split("\t", 8)[8]
        return _read_gff3(text) if self.format == "gff3" else _read_gtf(text)

    @property
    def parents(self) -> tuple[str, ...]:
        """IDs of the features that this one is part of, in GFF3; GTF has `gene_id` and `transcript_id` instead."""
        return self.attributes.get("Parent", ())


class Remark(NamedTuple):
    """A line that is no feature.

    Attributes:
        line: its line in the file, from 1.
        kind: `directive` (`##...`), `comment` (`#...`), `track` (`track` and `browser` of a genome browser), `fasta`
            (all after `##FASTA`, or from the first `>` on) or `empty`.
        text: the whole line, with its end.
    """

    line: int
    kind: Kind
    text: str

    @property
    def words(self) -> list[str]:
        """The words of a directive, as `["sequence-region", "chr1", "1", "1000"]`; none of another line."""
        return self.text.removeprefix(MARK)[2:].split() if self.kind == "directive" else []


Entry: TypeAlias = Feature | Remark


class Annotations(NamedTuple):
    """A GFF3 or GTF file that is being read: its format, and its lines, which can be gone through once."""

    format: Format
    entries: Iterator[Entry]


def read_annotations(path: str | Path) -> Annotations:
    """Read a GFF3 or GTF file, one line at a time.

    It is GFF3 where a line `##gff-version 3` says so. Else the first attributes tell, `key=value` (GFF3) or `key
    "value"` (GTF), and if there are none in the first 1,000 lines, its name.

    Args:
        path: the file, plain, gzip or bgzip, which its bytes say.

    Raises:
        `InputError`, at once or at the line: a file that cannot be read (see `gengram.genome.text.read_lines`) or is
            empty; a line without nine columns, places that are no numbers, count from 0 or end before they start, a
            score, strand, phase or attributes that are none.
    """
    lines = read_lines(path)
    first = list(itertools.islice(lines, 1))
    if not first:
        raise InputError(f"{path}: the file is empty")
    for number, line in lines:
        first.append((number, line))
        if number >= _LOOKED_AT or _see_format(line):
            break
    found: Format = _name_format(path)
    for number, line in first:
        if seen := _see_format(line.removeprefix(MARK) if number == 1 else line):
            found = seen
            break
    return Annotations(found, _read_entries(path, itertools.chain(first, lines), found))


def read_features(path: str | Path) -> Iterator[Feature]:
    """Read the features of a GFF3 or GTF file, one at a time; see `read_annotations`."""
    return (entry for entry in read_annotations(path).entries if isinstance(entry, Feature))


def write_annotations(path: str | Path, entries: Iterable[Entry]) -> None:
    """Write a GFF3 or GTF file; it appears when all is written. Entries that were read are written as they were.

    Args:
        path: the file; bgzip where its name ends with `.gz` or `.bgz`, for which pysam is needed.
        entries: features and other lines, which may come from a file that is still being read.

    Raises:
        `InputError`: the file cannot be written, see `gengram.genome.text.open_output`; what the entries raise.
    """
    with open_output(path) as write:
        for entry in entries:
            write(entry.text)


def make_feature(
    seqid: str,
    type: str,
    start: int,
    end: int,
    attributes: Mapping[str, str | Iterable[str]] | None = None,
    *,
    source: str = "gengram",
    score: float | None = None,
    strand: str = ".",
    phase: int | None = None,
    format: Format = "gff3",
    line: int = 0,
) -> Feature:
    r"""Make a feature, with its line, to be written.

    Args:
        seqid: the contig.
        type: what it is.
        start: its first base, from 0.
        end: the base after its last one.
        attributes: values by key, encoded as the format needs.
        source: who says so.
        score: written with seven significant digits; NaN as none.
        strand: `+`, `-`, `.` or `?`.
        phase: 0, 1 or 2.
        format: of the line; a line of GTF ends its attributes with semicolons.
        line: its number in the file, where it has one.

    Raises:
        `ValueError`: places, strand or phase that are none, an empty name or key, what GTF cannot write.
    """
    if not 0 <= start < end:
        raise ValueError(f"a feature from {start} to {end} holds no bases; starts count from 0, ends are not included")
    if strand not in ("+", "-", ".", "?") or phase not in (None, 0, 1, 2):
        raise ValueError(f"strand {strand!r} is none of + - . ? or phase {phase!r} none of 0, 1, 2")
    values = {key: (value,) if isinstance(value, str) else tuple(value) for key, value in (attributes or {}).items()}
    if format == "gff3":
        names = [quote(seqid, safe=_SEQID_SAFE), source.translate(_COLUMN_CODES), type.translate(_COLUMN_CODES)]
        last = ";".join(
            f"{key.translate(_KEY_CODES)}={','.join(value.translate(_ATTRIBUTE_CODES) for value in several)}"
            for key, several in values.items()
        )
    else:
        names = [seqid, source, type]
        last = " ".join(
            f'{key} "{value}";'
            for key, several in values.items()
            for value in (value.replace("\\", r"\\").replace('"', r"\"") for value in several)
        )
        if any(set(text) & set("\t\r\n\0") for text in (*names, last)) or seqid.startswith(("#", ">")):
            raise ValueError("GTF cannot write a tab or a line end, nor a seqid that begins with # or >")
        if bad := [key for key in values if key.startswith("#") or any(c.isspace() or c in ';="' for c in key)]:
            raise ValueError(f"GTF cannot write the key {bad[0]!r}: no blanks, ; = or quotes, and no # in front")
    if "" in names or "" in values:
        raise ValueError(f"a name is empty: seqid {seqid!r}, source {source!r}, type {type!r}; or a key")
    if score is not None and math.isnan(score):
        score = None
    columns = [
        *names,
        str(start + 1),
        str(end),
        "." if score is None else f"{score:.7g}",
        strand,
        "." if phase is None else str(phase),
        last or ".",
    ]
    return Feature(line, seqid, source, type, start, end, score, strand, phase, format, "\t".join(columns) + "\n")


def _read_entries(path: str | Path, lines: Iterable[tuple[int, str]], format: Format) -> Iterator[Entry]:
    fasta = False
    for number, line in lines:
        text, _ = cut_end(path, number, line)
        if number == 1:
            text = text.removeprefix(MARK)
        fasta = fasta or text.startswith((">", "##FASTA"))
        if fasta:
            kind: Kind = "fasta"
        elif text.startswith("##"):
            kind = "directive"
        elif text.startswith("#"):
            kind = "comment"
        elif not text.strip():
            kind = "empty"
        elif "\t" not in text and text.split()[0] in ("track", "browser"):
            kind = "track"
        else:
            yield _read_feature(path, number, text, line, format)
            continue
        yield Remark(number, kind, line)


def _read_feature(path: str | Path, number: int, text: str, line: str, format: Format) -> Feature:
    where = f"{path}, line {number}"
    columns = text.split("\t")
    if len(columns) != 9:
        blanks = ", divided by blanks where tabs are needed" if len(columns) == 1 and len(text.split()) >= 9 else ""
        raise InputError(
            f"{where}: {len(columns)} columns{blanks}; a feature has 9: seqid, source, type, start, end, score, "
            "strand, phase, attributes ('.' where there is none)"
        )
    seqid, source, kind, first, last, score, strand, phase, attributes = columns
    for name, value in (("start", first), ("end", last)):
        if not (value.isascii() and value.isdigit() and 0 < len(value) < 19):
            raise InputError(f"{where}: {name} {value[:30]!r} is not a position (a whole number of at least 1)")
    start, end = int(first) - 1, int(last)
    if start < 0:
        raise InputError(f"{where}: start 0; positions count from 1 in {_NAMES[format]}, is this a BED file?")
    if start >= end:
        raise InputError(
            f"{where}: start {first} comes after end {last}; write the smaller number first, with strand '-' for the "
            "other strand; a feature across the origin of a circle ends beyond the contig's length"
        )
    if score != "." and not _SCORE.fullmatch(score):
        raise InputError(f"{where}: score {score[:30]!r} is no number; write '.' where there is none")
    if strand not in ("+", "-", ".", "?"):
        raise InputError(f"{where}: strand {strand[:30]!r} is none of + - . ?")
    if phase not in (".", "0", "1", "2"):
        raise InputError(f"{where}: phase {phase[:30]!r} is none of 0, 1, 2 and '.'")
    if not (seqid and kind):
        raise InputError(f"{where}: {'type' if seqid else 'seqid'} is empty; write what it is")
    if attributes not in (".", ""):
        _check_attributes(where, attributes, format)
    if format == "gff3" and "%" in text:
        seqid, source, kind = unquote(seqid), unquote(source), unquote(kind)
    return Feature(
        number,
        seqid,
        source,
        kind,
        start,
        end,
        None if score == "." else float(score),
        strand,
        None if phase == "." else int(phase),
        format,
        line,
    )


def _check_attributes(where: str, text: str, format: Format) -> None:
    if format == "gff3" and "=" not in text:
        remedy = "in GFF3 they are, is this GTF?" if _GTF_START.match(text) else "write them so, or '.'"
        raise InputError(f"{where}: attributes {text[:60]!r} are not key=value; {remedy}")
    if format == "gtf" and _GFF3_START.match(text):
        raise InputError(f"{where}: attributes {text[:60]!r} are those of GFF3, the lines before are GTF; divide them")
    # An even number of quotes without an escape among them is closed.
    odd = format == "gtf" and (text.count('"') % 2 or "\\" in text)
    if odd and any(quoted[1] != '"' for quoted in _GTF_QUOTED.finditer(text)):
        raise InputError(f"{where}: attributes {text[:60]!r} have a quote that is not closed; close it or escape it")


def _see_format(line: str) -> Format | None:
    """Return the format that a line shows."""
    if version := _VERSION.match(line):
        return "gff3" if version[1] == "3" else None
    if line.startswith("#"):
        return None
    columns = line.rstrip("\r\n").split("\t")
    if len(columns) == 9:
        if _GFF3_START.match(columns[8]):
            return "gff3"
        if _GTF_START.match(columns[8]):
            return "gtf"
    return None


def _name_format(path: str | Path) -> Format:
    return "gtf" if re.search(r"\.gtf(\.b?gz)?$", str(path), re.IGNORECASE) else "gff3"


def _read_gff3(text: str) -> dict[str, tuple[str, ...]]:
    attributes: dict[str, tuple[str, ...]] = {}
    if text == ".":
        return attributes
    decode = unquote if "%" in text else str
    for item in text.split(";"):
        key, sign, value = item.partition("=")
        key = key.strip(" ")
        if key:
            values = tuple(map(decode, value.split(","))) if sign else ()
            key = decode(key)
            attributes[key] = attributes.get(key, ()) + values
    return attributes


def _read_gtf(text: str) -> dict[str, tuple[str, ...]]:
    attributes: dict[str, tuple[str, ...]] = {}
    if text == ".":
        return attributes
    for item in _GTF_ITEM.findall(text):
        key, *rest = item.split(None, 1)[:2] or [""]
        if key.startswith("#"):  # A comment goes on to the end of the line.
            break
        value = rest[0].rstrip() if rest else ""
        if len(value) > 1 and value.startswith('"') and value.endswith('"'):
            values: tuple[str, ...] = (_ESCAPED.sub(r"\1", value[1:-1]),)
        else:
            values = (value,) if value else ()
        if key:
            attributes[key] = attributes.get(key, ()) + values
    return attributes


__all__ = [
    "Annotations",
    "Entry",
    "Feature",
    "Format",
    "Kind",
    "Remark",
    "make_feature",
    "read_annotations",
    "read_features",
    "write_annotations",
]
