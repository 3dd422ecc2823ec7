"""Variants of a VCF file: a record at a time, its text kept as it is.

What is written back is what was read, byte for byte, but for the INFO keys and header lines that were added. Nothing is
normalised: numbers, unknown keys and undeclared contigs stay as they are written. The format: VCF 4.1 to 4.5,
https://samtools.github.io/hts-specs; where files in the wild differ from it harmlessly, they are read.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import NamedTuple, TypeAlias

from gengram.errors import InputError

from .text import MARK, cut_end, open_output, read_lines

COLUMNS = ("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO")
"""The columns that every VCF file has; where there are genotypes, FORMAT and the samples follow."""

Item: TypeAlias = str | float | None
"""One value of an INFO key: text, a number or, as None, missing."""

_STRUCTURED = re.compile(r"##([^=]+)=<(.*)>\s*$")
# Of `ID=x,Number=1,Description="a, \"b\"",Values=[c, d]`: a key and its value. It matches whatever comes, so that it
# needs no second look, however long a line.
_ENTRY = re.compile(r'([^=,]*)(?:=((?:"(?:[^"\\]+|\\.)*(?:"|\\?$)|\[[^\]]*\]?)?[^,]*))?,?')
_ESCAPED = re.compile(r"\\(.)")
_VERSION = re.compile(r"##fileformat=VCFv(\d+)\.(\d+)")
_KEY = re.compile(r"[A-Za-z_][0-9A-Za-z_.]*|1000G")
# Letters or a single breakend `t.`; `.t`; a spanning deletion; <symbolic>; breakends `t[p[`, `t]p]`, `]p]t`, `[p[t`.
_ALTERNATIVE = re.compile(
    r"[A-Za-z]+\.?|\.[A-Za-z]+|\*|<[^<>\s,]+>|(?:[A-Za-z]+|\.)?([\[\]])[^\s,\[\]]+\1(?:[A-Za-z]+|\.)?"
)
_HIGHEST = 2**63 - 1
# VCF 4.3, 1.2: characters with a meaning are written as a percent sign and two capitals.
_SPECIAL = {"%": "%25", ":": "%3A", ";": "%3B", "=": "%3D", ",": "%2C", "\r": "%0D", "\n": "%0A", "\t": "%09"}
# Between the semicolons of INFO a colon has no meaning.
_TO_ENCODE = str.maketrans({letter: code for letter, code in _SPECIAL.items() if letter != ":"})
_FROM_CODE = {code: letter for letter, code in _SPECIAL.items()}
_CODE = re.compile("|".join(_FROM_CODE), re.IGNORECASE)


@dataclass(frozen=True)
class Header:
    """What is in front of the records.

    Attributes:
        lines: the lines as they are, each with its end; the last one is that of the columns.
        version: of the format, as (4, 3); None where the file does not say it.
        contigs: lengths of the contigs in bp by name, in the file's order; None where the header does not say it. Empty
            where the header declares none.
        info: what the header says of the keys of INFO, by ID: Number, Type, Description and more, without quotes.
        formats: the same of the keys of genotypes.
        filters: the same of the filters.
        samples: the names of the genotypes' columns.
    """

    lines: tuple[str, ...]
    version: tuple[int, int] | None
    contigs: dict[str, int | None]
    info: dict[str, dict[str, str]]
    formats: dict[str, dict[str, str]]
    filters: dict[str, dict[str, str]]
    samples: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, those of the samples included."""
        return _split_columns(self.lines[-1])

    @property
    def encodes(self) -> bool:
        """Whether special characters of INFO are percent-encoded, as from VCF 4.3 on."""
        return self.version is not None and self.version >= (4, 3)


class Record(NamedTuple):
    """A record: places and alleles as the file has them.

    Attributes:
        line: its line in the file, from 1.
        chrom: the contig.
        pos: the first base of REF, from 1; 0 and one past the contig are its telomeres.
        id: names, divided by semicolons, or `.`.
        ref: the reference's letters, in the case that they have.
        alts: the alternative alleles as they are written: letters, `*`, `<DEL>`, breakends; none where ALT is `.`.
        text: the whole line, with its end.
    """

    line: int
    chrom: str
    pos: int
    id: str
    ref: str
    alts: tuple[str, ...]
    text: str

    @property
    def columns(self) -> list[str]:
        """The text of all columns."""
        return self.text.rstrip("\r\n").split("\t")

    @property
    def qual(self) -> str:
        """The quality as it is written."""
        return self._fixed[5]

    @property
    def filters(self) -> tuple[str, ...]:
        """The filters that failed, or `PASS`; none where FILTER is `.`."""
        return () if self._fixed[6] in (".", "") else tuple(self._fixed[6].split(";"))

    @property
    def info(self) -> dict[str, str | None]:
        """Values of INFO by key, as they are written; None of a flag. Of a key given twice, the first value."""
        info: dict[str, str | None] = {}
        for item in self._fixed[7].split(";"):
            key, sign, value = item.partition("=")
            if key and item != ".":
                info.setdefault(key, value if sign else None)
        return info

    @property
    def _fixed(self) -> list[str]:
        return self.text.rstrip("\r\n").split("\t", 8)


class Variants(NamedTuple):
    """A VCF file that is being read: its header, and its records, which can be gone through once."""

    header: Header
    records: Iterator[Record]


def read_variants(path: str | Path) -> Variants:
    """Read a VCF file: the header at once, the records when they are asked for, one at a time.

    Args:
        path: a VCF file, plain, gzip or bgzip, which its bytes say.

    Raises:
        `InputError`, at once or at the record: a file that cannot be read (see `gengram.genome.text.read_lines`), is no
            VCF or has no line of columns; samples of one name; too few or too many columns, a POS that is no number,
            letters that are no allele, an empty line.
    """
    lines = read_lines(path)
    header = _read_header(path, lines)
    return Variants(header, _read_records(path, lines, len(header.columns)))


def write_variants(path: str | Path, header: Header, records: Iterable[Record]) -> None:
    """Write a VCF file; it appears when all is written. `write_variants(path, *read_variants(other))` is a copy.

    Args:
        path: the file; bgzip where its name ends with `.gz` or `.bgz`, for which pysam is needed.
        header: the header.
        records: the records, which may come from a file that is still being read.

    Raises:
        `InputError`: the file cannot be written, see `gengram.genome.text.open_output`; what the records raise.
    """
    with open_output(path) as write:
        for line in header.lines:
            write(line)
        for record in records:
            write(record.text)


def add_header_lines(header: Header, lines: Iterable[str]) -> Header:
    """Add lines in front of that of the columns.

    Args:
        header: the header.
        lines: lines without ends, as `##INFO=<ID=X,Number=A,Type=Float,Description="...">`; they get the file's. One
            with an ID takes the place of a line of the same kind and ID.

    Raises:
        `ValueError`: a line that does not begin with `##` or has an end.
    """
    # The line of the columns may be the file's last, and without an end.
    end = "\r\n" if header.lines[0].endswith("\r\n") else "\n"
    mark = MARK if header.lines[0].startswith(MARK) else ""
    *above, last = (header.lines[0].removeprefix(MARK), *header.lines[1:])
    for line in lines:
        if not line.startswith("##") or "\n" in line or "\r" in line:
            raise ValueError(f"a header line begins with '##' and has no line end, not {line!r}")
        name = _name_line(line)
        same = [place for place, other in enumerate(above) if name and _name_line(other) == name]
        if same:
            above[same[0]] = line + end
            above = [other for place, other in enumerate(above) if place not in same[1:]]
        else:
            above.append(line + end)
    first, *others = (*above, last)
    return parse_header([mark + first, *others])


def add_info(record: Record, values: Mapping[str, Item | bool | Iterable[Item]]) -> Record:
    """Add keys to INFO; every other byte of the record stays.

    Args:
        record: the record.
        values: by key: one value or several; True for a flag, False for none. A key that is there already is replaced
            at its place. Text is percent-encoded (`encode_value`), numbers are written with seven significant digits,
            None, NaN and empty text as `.`.

    Raises:
        `ValueError`: a key that is none.
    """
    body = record.text.rstrip("\r\n")
    end = record.text[len(body) :]
    columns = body.split("\t", 8)
    items = [] if columns[7] in (".", "") else columns[7].split(";")
    for key, value in values.items():
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no key of INFO: letters, digits, '_' and '.', a letter or '_' first")
        places = [place for place, item in enumerate(items) if item.partition("=")[0] == key]
        if value is not False:
            text = key if value is True else f"{key}={_format_values(value)}"
            if places:
                items[places.pop(0)] = text
            elif items and not items[-1]:  # The semicolon at the end of `DB;` does for the next key.
                items[-1] = text
            else:
                items.append(text)
        for place in reversed(places):
            del items[place]
    columns[7] = ";".join(items) or "."
    return record._replace(text="\t".join(columns) + end)


def get_values(record: Record, key: str, header: Header) -> tuple[str | None, ...] | None:
    """Return the values of a key of INFO, divided at commas and decoded where the file's version encodes.

    Returns:
        The values, None for a missing one (`.`); no values for a flag; None where the record lacks the key.
    """
    info = record.info
    if key not in info:
        return None
    text = info[key]
    if text is None:
        return ()
    decode = decode_value if header.encodes else str
    return tuple(None if part in (".", "") else decode(part) for part in text.split(","))


def encode_value(text: str) -> str:
    """Return a text as a value of INFO: `% ; = ,`, tabs and line ends as percent sign and number (VCF 4.3, 1.2)."""
    return text.translate(_TO_ENCODE)


def decode_value(text: str) -> str:
    """Undo `encode_value` and the encoding of a colon; other percent signs stay, for the format encodes no others."""
    return _CODE.sub(lambda code: _FROM_CODE[code[0].upper()], text) if "%" in text else text


def parse_header(lines: Iterable[str], path: str | Path = "header") -> Header:
    """Read a header from its lines, each with its end, the last one that of the columns.

    Raises:
        `InputError`: columns that are not those of VCF, samples of one name.
    """
    lines = tuple(lines)
    samples = _check_columns(path, len(lines), _split_columns(lines[-1]) if lines else ())
    version = _VERSION.match(lines[0].removeprefix(MARK))
    kinds: dict[str, dict[str, dict[str, str]]] = {kind: {} for kind in ("INFO", "FORMAT", "FILTER", "contig")}
    for line in lines[:-1]:
        if (parts := _STRUCTURED.match(line)) and parts[1] in kinds:
            entries = _read_entries(parts[2])
            if "ID" in entries:
                kinds[parts[1]].setdefault(entries["ID"], entries)
    lengths = {name: entries.get("length", "") for name, entries in kinds["contig"].items()}
    return Header(
        lines,
        (int(version[1]), int(version[2])) if version else None,
        {name: int(length) if _is_whole(length) else None for name, length in lengths.items()},
        kinds["INFO"],
        kinds["FORMAT"],
        kinds["FILTER"],
        samples,
    )


def _read_header(path: str | Path, lines: Iterator[tuple[int, str]]) -> Header:
    seen: list[str] = []
    for number, line in lines:
        text, _ = cut_end(path, number, line)
        text = text.removeprefix(MARK) if number == 1 else text
        if number == 1 and not text.startswith("#"):
            raise InputError(
                f"{path}, line 1: not a VCF file: it begins with {text[:30]!r}, not with '##fileformat=VCF'"
            )
        if not text.startswith("#"):
            what = "an empty line" if not text.strip() else "the first record"
            raise InputError(
                f"{path}, line {number}: {what} without a line '#CHROM POS ID REF ALT QUAL FILTER INFO' before it; "
                "put it there, divided by tabs"
            )
        seen.append(line)
        if text[:6].upper() == "#CHROM":
            return parse_header(seen, path)
    if not seen:
        raise InputError(f"{path}: the file is empty; a VCF file without records still has its header")
    raise InputError(f"{path}, line {len(seen)}: the file ends in the header, before its line '#CHROM POS ID ...'")


def _split_columns(line: str) -> tuple[str, ...]:
    return tuple(line.rstrip("\r\n").removeprefix(MARK).split("\t"))


def _check_columns(path: str | Path, number: int, columns: tuple[str, ...]) -> tuple[str, ...]:
    """Return the samples."""
    where = f"{path}, line {number}"
    if columns[:8] != COLUMNS or columns[8:9] not in ((), ("FORMAT",)):
        blanks = ", divided by tabs, not by blanks" if len(columns) < 8 else ""
        raise InputError(
            f"{where}: the columns are {' '.join(columns)[:80]!r}; VCF has {' '.join(COLUMNS)}, then, where there are "
            f"genotypes, FORMAT and the samples{blanks}"
        )
    samples = columns[9:]
    if len(set(samples)) < len(samples):
        twice = next(sample for place, sample in enumerate(samples) if sample in samples[:place])
        raise InputError(f"{where}: two samples are called {twice!r}; give each its own name")
    if "" in samples:
        raise InputError(f"{where}: column {columns.index('', 9) + 1}, a sample, has no name; is there a tab too many?")
    return samples


def _read_records(path: str | Path, lines: Iterator[tuple[int, str]], width: int) -> Iterator[Record]:
    for number, line in lines:
        columns = line.split("\t", 8)
        if len(columns) < 8 or line.count("\t") != width - 1 or "\r" in line or line[0] == "#":
            text, _ = cut_end(path, number, line)
            _check_width(path, number, text, width)
        chrom, place, name, ref, alt = columns[:5]
        if not chrom:
            raise InputError(f"{path}, line {number}: CHROM is empty; name the contig")
        if not _is_whole(place):
            raise InputError(f"{path}, line {number}: POS {place[:30]!r} is no position (a whole number of at least 0)")
        if not (ref.isascii() and ref.isalpha()):
            raise InputError(
                f"{path}, line {number}: REF {ref[:30]!r} is no allele; write the letters of the reference, for an "
                "insertion those of the base before it"
            )
        # Most alleles are letters; the others are looked at more closely.
        if alt.isascii() and alt.isalpha():
            alts: tuple[str, ...] = (alt,)
        else:
            alts = () if alt == "." else tuple(alt.split(","))
            for allele in alts:
                if not _ALTERNATIVE.fullmatch(allele):
                    raise InputError(
                        f"{path}, line {number}: ALT {allele[:30]!r} is no allele: letters, '*', '<...>' or a "
                        "breakend; a deletion is written with the base before it, as REF 'TA', ALT 'T'"
                    )
        yield Record(number, chrom, int(place), name, ref, alts, line)


def _check_width(path: str | Path, number: int, text: str, width: int) -> None:
    """Refuse a line that is no record or whose columns are not those of the header."""
    where = f"{path}, line {number}"
    given = text.count("\t") + 1
    if not text.strip():
        raise InputError(f"{where}: an empty line; remove it")
    if text.startswith("#"):
        raise InputError(
            f"{where}: a header line among the records; were files put together with cat? Use bcftools concat"
        )
    if given < 8:
        blanks = ", divided by blanks where tabs are needed" if given == 1 and len(text.split()) >= 8 else ""
        raise InputError(f"{where}: {given} columns{blanks}; a record has at least 8: {' '.join(COLUMNS)[1:]}")
    if given != width:
        raise InputError(
            f"{where}: {given} columns where the line #CHROM has {width}; "
            + ("columns of samples are missing" if given < width else "remove those too many or name them there")
        )


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= _HIGHEST


def _name_line(line: str) -> tuple[str, str] | None:
    """Return kind and ID of a structured header line."""
    parts = _STRUCTURED.match(line)
    name = _read_entries(parts[2]).get("ID") if parts else None
    return (parts[1], name) if parts and name is not None else None


def _read_entries(text: str) -> dict[str, str]:
    """Return the values by key that stand in a structured header line, without quotes."""
    entries: dict[str, str] = {}
    for key, value in _ENTRY.findall(text):
        if key.strip():
            quoted = value.startswith('"') and len(value.rstrip()) > 1
            entries.setdefault(key.strip(), _ESCAPED.sub(r"\1", value.rstrip()[1:-1]) if quoted else value)
    return entries


def _format_values(value: Item | Iterable[Item]) -> str:
    if value is None or isinstance(value, (str, int, float, Real)):
        return _format_item(value)
    return ",".join(map(_format_item, value)) or "."


def _format_item(value: Item) -> str:
    if value is None or isinstance(value, str):
        return encode_value(value) if value else "."
    if isinstance(value, Integral):
        return str(int(value))
    return "." if math.isnan(value) else f"{float(value):.7g}"


__all__ = [
    "COLUMNS",
    "Header",
    "Item",
    "Record",
    "Variants",
    "add_header_lines",
    "add_info",
    "decode_value",
    "encode_value",
    "get_values",
    "parse_header",
    "read_variants",
    "write_variants",
]
