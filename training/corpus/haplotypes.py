"""What does one chromosome of a sample read like? The alternative alleles of a VCF file as edits of the reference.

An edit replaces letters of the reference by others, maybe none. Alleles are cut to what they change: `TA` to `T` takes
away an `A`. Edits of one haplotype never overlap: of two that do, the first in the file is kept. Two that only touch,
as an insertion and the change of the base behind it, do not overlap.

Genotypes are used as the file has them, which differs in places from how GENA-LM's haplotypes were made: alleles that
are not phased are refused, or dealt to the two haplotypes by a coin where that is asked for; the frequency of an allele
is what the file says; an overlap is found; nothing is dropped for being common or rare.
"""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from gengram.errors import InputError, suggest
from gengram.genome.alphabet import IUPAC_BASES
from gengram.genome.variants import Record, read_variants

from .draws import draw_uniform
from .records import OtherContigs, Records

SCHEMA = pa.schema(
    [
        ("haplotype", pa.int32()),
        ("contig", pa.int32()),
        ("position", pa.int64()),
        ("reference_length", pa.int32()),
        ("alternative", pa.large_binary()),
    ]
)
"""Columns of edits: number of the haplotype and of the record; the first base that is replaced, from 0; how many are;
what comes in their place."""

INSERTED = -1
"""The position of a letter that a haplotype has and the reference has not."""

MAX_MISMATCHES = 0.01
"""Share of records whose REF is not what the genome has, above which a VCF file is of another assembly."""

_ROWS = 1 << 18  # edits of a table
_CHUNK = 1024  # records that are drawn together
_EARLY = 1000  # records after which a file of another assembly is seen
_BITS = np.zeros(256, dtype=np.uint8)
for _letter, _bases in IUPAC_BASES.items():
    _BITS[[ord(_letter), ord(_letter.lower())]] = sum(1 << "ACGT".index(base) for base in _bases)
_LETTERS = re.compile(f"[{''.join(IUPAC_BASES)}]+")
_GENOTYPE = re.compile(r"[/|]?(\d+|\.)(?:([/|])(\d+|\.))?")
_KEYS = {key: re.compile(rf"(?:^|;){key}=([^;]*)") for key in ("AF", "AC", "AN")}
_SKIPPED = {
    "other_contigs": "records on contigs that the genome does not have",
    "left_out": "records where no letters are stored",
    "outside": "records outside of the bases that the genome has",
    "mismatched": "records whose REF is not what the genome has",
    "unknown": "records whose REF is N in the genome",
    "without_genotypes": "records without genotypes (GT)",
    "without_frequency": "records without a frequency (AF, or AC and AN)",
    "symbolic": "symbolic alleles (<DEL> and the like)",
    "breakends": "breakends",
    "spanning": "alleles * (spanned by a deletion)",
    "no_bases": "alleles with letters that are no bases",
    "overlapping": "edits that overlap an earlier one",
}
_NOTED = {
    "missing": "genotypes with a missing allele (the reference's is read)",
    "haploid": "haploid genotypes (the second haplotype keeps the reference)",
    "unphased": "heterozygous genotypes without a phase (dealt by a coin)",
}


class HasEdits(Protocol):
    """Edits of one haplotype, sorted, apart from each other: see `SCHEMA`; `alternatives` n arrays of uint8."""

    position: np.ndarray
    reference_length: np.ndarray
    alternatives: list[np.ndarray]


@dataclass
class Tally:
    """What became of the records of VCF files.

    Attributes:
        records: how many there were.
        edits: how many were made of them, over all haplotypes.
        counts: records, alleles and genotypes that were skipped or need a word, by what they are.
        missing: records by contig that the genome does not have.
        files: where the edits of each record of the genome are from.
    """

    records: int = 0
    edits: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    files: dict[str, str] = field(default_factory=dict)

    def count(self) -> dict[str, Any]:
        """Return it as `corpus.json` has it: records, edits, and by kind what was skipped and what needs a word."""
        counts = Counter(other_contigs=self.missing.total()) + self.counts
        skipped, noted = ({key: counts[key] for key in several if counts[key]} for several in (_SKIPPED, _NOTED))
        return {"records": self.records, "edits": self.edits, "skipped": skipped, "noted": noted}


def describe_counts(counts: Mapping[str, Any]) -> str:
    """Return in a line what became of the records of VCF files, see `Tally.count`."""
    skipped, noted = (
        [f"{count:,} {kinds.get(key, key)}" for key, count in counts[name].items()]
        for name, kinds in (("skipped", _SKIPPED), ("noted", _NOTED))
    )
    told = f"{counts['records']:,} records, {counts['edits']:,} edits"
    told += f"; skipped: {', '.join(skipped)}" if skipped else ""
    return told + (f"; {', '.join(noted)}" if noted else "")


class Choice(NamedTuple):
    """Which haplotypes are made of VCF files.

    Attributes:
        samples: two of each of these, in the order of the alleles; or none.
        drawn: where there are no samples: how many are drawn, each allele with its frequency.
        names: of the haplotypes.
        seed: of what is drawn.
        unphased: heterozygous genotypes without a phase are refused, or a coin says which haplotype has which allele.
    """

    samples: tuple[str, ...]
    drawn: int
    names: tuple[str, ...]
    seed: int = 0
    unphased: Literal["refuse", "coin"] = "refuse"


def choose_haplotypes(
    files: Sequence[str | Path],
    samples: Sequence[str] | Literal["all"] | None,
    count: int = 0,
    seed: int = 0,
    unphased: Literal["refuse", "coin"] = "refuse",
) -> Choice:
    """Name the haplotypes of VCF files, which have the same samples.

    Args:
        files: of one genome, as one a chromosome.
        samples: names, or `all`: `NAME.1` has the first allele of genotypes, `NAME.2` the second; None: sites alone.
        count: of haplotypes that are drawn of sites: `drawn.1` and so on.
        seed, unphased: see `Choice`.

    Raises:
        `InputError`: a file without genotypes, or without one of the samples; neither samples nor a count.
    """
    if samples is None:
        if count < 1:
            raise InputError(f"{files[0]}: say whose haplotypes are read (samples), or how many are drawn (haplotypes)")
        return Choice((), count, tuple(f"drawn.{number}" for number in range(1, count + 1)), seed, unphased)
    chosen: tuple[str, ...] = () if samples == "all" else tuple(dict.fromkeys(samples))
    for file in files:
        there = read_variants(file).header.samples
        if not there:
            raise InputError(
                f"{file}: it has no samples, only sites; leave samples out: alleles are drawn with their frequency then"
            )
        chosen = chosen or there
        if lacking := [name for name in chosen if name not in set(there)]:
            raise InputError(f"{file}: it has no sample {lacking[0]!r}{suggest(lacking[0], there)}")
    return Choice(chosen, 0, tuple(f"{name}.{side}" for name in chosen for side in (1, 2)), seed, unphased)


def stream_edits(
    file: str | Path,
    choice: Choice,
    records: Records,
    numbers: Mapping[str, int],
    read: Callable[[str], np.ndarray | None],
    contigs: Mapping[str, tuple[str, int]] | None = None,
    tally: Tally | None = None,
) -> Iterator[pa.Table]:
    """Read the edits of a VCF file, in its order.

    Memory is that of one record's letters and of some hundred thousand edits, however large the file.

    Args:
        file: a VCF file, sorted by position within each contig, plain or gzip.
        choice: of the haplotypes.
        records: of the genome.
        numbers: of the records, for the column `contig`.
        read: returns the letters of a record, uint8; None where none are stored.
        contigs: contig of the file -> what it is (a contig or region, see `Records.find_region`), and the number of
            bases there before the first one of the file; for names that do not tell.
        tally: is added to; one for all files of a genome.

    Yields:
        Tables of `SCHEMA`: sorted by contig and position within each haplotype.

    Raises:
        `InputError`: see `gengram.genome.variants.read_variants`; a file that is not sorted, has no contig of the
            genome (`OtherContigs`, when it was read to its end), or one that another file of the tally has; a record
            past the end of its contig; more than `MAX_MISMATCHES` of the records whose REF is not what the genome has,
            with the first of them; genotypes that are none, of more than two alleles or, if so chosen, without a phase;
            frequencies that are none.
    """
    reader = _Reader(str(file), choice, records, numbers, read, contigs or {}, tally or Tally())
    yield from reader.stream()


class _Place(NamedTuple):
    """Where a contig of the file is: position of the file plus `shift` is that in the record, from `low` to `high`."""

    record: str
    shift: int
    low: int
    high: int
    whole: bool


class _Edit(NamedTuple):
    position: int
    length: int
    alternative: bytes


class _Reader:
    def __init__(
        self,
        file: str,
        choice: Choice,
        records: Records,
        numbers: Mapping[str, int],
        read: Callable[[str], np.ndarray | None],
        contigs: Mapping[str, tuple[str, int]],
        tally: Tally,
    ):
        self.file, self.choice, self.records = file, choice, records
        self.numbers, self.read, self.contigs, self.tally = numbers, read, contigs, tally
        self.header, self.variants = read_variants(file)
        self.places = {name: self._find_region(name) for name in contigs}
        self.doubts: dict[str, str] = {}
        declared = [name for name in self.header.contigs if name not in contigs]
        self._match(dict.fromkeys(declared))
        column = {name: place for place, name in enumerate(self.header.samples)}
        self.chosen = np.array([column[name] for name in choice.samples], dtype=np.int64)
        self.genotypes: dict[str, tuple[int, int, str]] = {}
        self.coins = self._flip()
        self.missing: Counter[str] = Counter()
        self.checked = 0
        self.mismatches: list[str] = []
        self.pending: dict[tuple[int, int], list[_Edit]] = {}
        self.rows: tuple[list, ...] = ([], [], [], [], [])
        self.letters: tuple[str, np.ndarray | None] = ("", None)

    def stream(self) -> Iterator[pa.Table]:
        """Yield the edits of all records."""
        seen: set[str] = set()
        for chrom, several in groupby(self.variants, key=lambda record: record.chrom):
            several = self._check_order(chrom, several, seen)
            if chrom not in self.places:
                self._match({chrom: None})
            places = self.places.get(chrom)
            if places is None:
                count = sum(1 for _ in several)
                self.missing[chrom] += count
                self.tally.records += count
                continue
            for place in places:
                other = self.tally.files.setdefault(place.record, f"{self.file}: {chrom}")
                if other != f"{self.file}: {chrom}":
                    raise InputError(
                        f"{self.file}: contig {chrom!r} is {place.record!r}, as one of another place ({other}); put "
                        "them together, as with bcftools concat or merge"
                    )
            for chunk, carriers in self._find_carriers(chrom, several):
                for record, found in zip(chunk, carriers):
                    yield from self._add(record, found, places)
            yield from self._flush()
        self._judge()
        if self.rows[0]:
            yield self._take_rows()
        self.tally.missing += self.missing
        if self.missing and self.missing.keys() >= seen:
            name = max(self.missing, key=lambda one: bool(self.doubts.get(one)))
            doubt = self.doubts.get(name)
            told = (
                f"{self.file}: the genome {self.records.genome} has none of its contigs, as {name!r}. "
                f"{doubt or 'Say what it is with vcf_contigs, if it is of this assembly'}"
            )
            raise InputError(told) if doubt else OtherContigs(told, self.file, self.missing)
        self.records.tell_renamed(self.file, seen)
        self.records.tell_missing(self.file, self.missing, self.doubts)

    def _find_region(self, name: str) -> list[_Place]:
        text, offset = self.contigs[name]
        whole = text in self.records.lengths and not offset
        return [
            _Place(region.record, region.offset + offset, region.start, region.end, whole)
            for region in self.records.find_region(text, f"{self.file}: contig {name!r}")
        ]

    def _match(self, names: Mapping[str, None]) -> None:
        """Find the records that contigs of the file are."""
        found, doubts = self.records.match(names, self.header.contigs)
        self.doubts |= doubts
        for name, parts in found.items():
            self.places[name] = [
                _Place(part.record, -part.start, 0, part.end - part.start, part.contig == part.record) for part in parts
            ]

    def _check_order(self, chrom: str, several: Iterable[Record], seen: set[str]) -> Iterator[Record]:
        last = 0
        for record in several:
            if record.pos < last or (not last and chrom in seen):
                fault = f"position {record.pos} after {last}" if last else f"contig {chrom!r} comes a second time"
                raise InputError(
                    f"{self.file}, line {record.line}: the file is not sorted: {fault}; sort it, as with bcftools sort"
                )
            last = max(record.pos, 1)
            seen.add(chrom)
            yield record

    # ------------------------------------------------------------ who has which allele

    def _find_carriers(
        self, chrom: str, several: Iterator[Record]
    ) -> Iterator[tuple[list[Record], list[list[tuple[int, int]]]]]:
        """Yield records, and of each the haplotypes that have an alternative allele, with its number from 1."""
        first = 0
        while chunk := list(islice(several, _CHUNK)):
            self.tally.records += len(chunk)
            if self.choice.samples:
                yield chunk, list(map(self._read_genotypes, chunk))
            else:
                yield chunk, self._draw_alleles(chrom, chunk, first)
            first += len(chunk)

    def _draw_alleles(self, chrom: str, chunk: list[Record], first: int) -> list[list[tuple[int, int]]]:
        numbers = np.arange(first, first + len(chunk), dtype=np.uint64)
        drawn = draw_uniform(self.choice.seed, ("haplotypes", chrom), numbers, self.choice.drawn)
        lowest = drawn.min(axis=1).tolist()
        carriers: list[list[tuple[int, int]]] = []
        for record, row, least in zip(chunk, drawn, lowest):
            bounds = np.cumsum(self._read_frequencies(record))
            if not len(bounds) or least >= bounds[-1]:
                carriers.append([])
                continue
            alleles = np.searchsorted(bounds, row, side="right")
            having = np.flatnonzero(alleles < len(bounds)).tolist()
            carriers.append([(haplotype, int(alleles[haplotype]) + 1) for haplotype in having])
        return carriers

    def _read_frequencies(self, record: Record) -> list[float]:
        """Return the frequency of each alternative allele; none where the file does not say it."""
        where = f"{self.file}, line {record.line}"
        info = record.columns[7] if record.alts else ""
        given = _KEYS["AF"].search(info)
        if given and "." not in given[1].split(","):
            values = self._read_numbers(where, "AF", given[1], len(record.alts))
        elif (
            (counts := _KEYS["AC"].search(info)) and (total := _KEYS["AN"].search(info)) and total[1] not in ("0", ".")
        ):
            [whole] = self._read_numbers(where, "AN", total[1], 1)
            values = [count / whole for count in self._read_numbers(where, "AC", counts[1], len(record.alts))]
        else:
            self.tally.counts["without_frequency"] += bool(record.alts)
            return []
        if not all(0 <= value <= 1 for value in values) or sum(values) > 1 + 1e-3 * len(values):
            raise InputError(f"{where}: the frequencies {values} are no shares of one whole; mend AF, or AC and AN")
        return values

    def _read_numbers(self, where: str, key: str, text: str, count: int) -> list[float]:
        try:
            values = [float(value) for value in text.split(",")]
        except ValueError as error:
            raise InputError(f"{where}: {key}={text[:30]!r} is no list of numbers") from error
        if len(values) != count:
            raise InputError(f"{where}: {key} has {len(values)} values, but there are {count} alternative alleles")
        return values

    def _read_genotypes(self, record: Record) -> list[tuple[int, int]]:
        _, _, _, _, _, _, _, _, keys, cells = record.text.rstrip("\r\n").split("\t", 9)
        samples = len(self.header.samples)
        if keys == "GT" and len(cells) == 4 * samples - 1:
            # All are like 0|1, most of them 0|0: looked at together.
            table = np.frombuffer(f"{cells}\t".encode("latin-1", "replace"), dtype=np.uint8).reshape(samples, 4)
            chosen = table[self.chosen]
            alleles = chosen[:, [0, 2]] - ord("0")
            if (table[:, 3] == ord("\t")).all() and (chosen[:, 1] == ord("|")).all() and (alleles < 10).all():
                flat = alleles.ravel()
                having = np.flatnonzero(flat).tolist()
                carriers = [(haplotype, int(flat[haplotype])) for haplotype in having]
                for haplotype, allele in carriers:
                    self._check_allele(record, haplotype // 2, allele)
                return carriers
        names = keys.split(":")
        if "GT" not in names:
            self.tally.counts["without_genotypes"] += 1
            return []
        place, columns, carriers = names.index("GT"), cells.split("\t"), []
        for number, column in enumerate(self.chosen.tolist()):
            fields = columns[column].split(":")
            text = fields[place] if place < len(fields) else "."
            *sides, note = self.genotypes.get(text) or self._parse_genotype(record, number, text)
            if note:
                self.tally.counts[note] += 1
                if note == "unphased" and self._swap(record, number, text):
                    sides.reverse()
            for side, allele in enumerate(sides):
                if allele:
                    self._check_allele(record, number, allele)
                    carriers.append((2 * number + side, allele))
        return carriers

    def _parse_genotype(self, record: Record, number: int, text: str) -> tuple[int, int, str]:
        """Return the alleles of a genotype, 0 for a missing one, too, and what is to be said of it."""
        where = f"{self.file}, line {record.line}: the genotype {text[:30]!r} of sample {self.choice.samples[number]!r}"
        if not (parts := _GENOTYPE.fullmatch(text)):
            if re.fullmatch(r"[/|]?(\d+|\.)([/|](\d+|\.)){2,}", text):
                raise InputError(f"{where} has more than two alleles; haplotypes are read of one or two")
            raise InputError(f"{where} is none; write it like 0|1, or . where it is not known")
        left, right = (int(part) if part and part != "." else 0 for part in (parts[1], parts[3]))
        note = ""
        if "." in (parts[1], parts[3]):
            note = "missing"
        elif parts[2] is None:
            note = "haploid"
        elif parts[2] == "/" and left != right:
            note = "unphased"
        self.genotypes[text] = left, right, note
        return left, right, note

    def _swap(self, record: Record, number: int, text: str) -> bool:
        """Whether the second haplotype gets the first allele of a genotype without a phase."""
        if self.choice.unphased == "refuse":
            raise InputError(
                f"{self.file}, line {record.line}: the genotype {text!r} of sample {self.choice.samples[number]!r} has "
                "no phase: which chromosome has which allele is not known; phase the file (as with whatshap or "
                "beagle), or let a coin say it with unphased: coin (--unphased coin)"
            )
        return next(self.coins)

    def _flip(self) -> Iterator[bool]:
        first = 0
        while True:
            numbers = np.arange(first, first + _CHUNK, dtype=np.uint64)
            yield from (draw_uniform(self.choice.seed, "phases", numbers, 1)[:, 0] < 0.5).tolist()
            first += _CHUNK

    def _check_allele(self, record: Record, number: int, allele: int) -> None:
        if allele > len(record.alts):
            raise InputError(
                f"{self.file}, line {record.line}: sample {self.choice.samples[number]!r} has allele {allele}, but "
                f"there are {len(record.alts)} alternative ones"
            )

    # ------------------------------------------------------------ what an allele changes

    def _add(self, record: Record, carriers: list[tuple[int, int]], places: list[_Place]) -> Iterator[pa.Table]:
        for place in places:
            letters = self._check_reference(record, place)
            if letters is None or not carriers:
                continue
            edits: dict[int, _Edit | None] = {}
            contig = self.numbers[place.record]
            for haplotype, allele in carriers:
                if allele not in edits:
                    edits[allele] = self._make_edit(record, allele, record.pos - 1 + place.shift, letters)
                if (edit := edits[allele]) is not None:
                    self._put(haplotype, contig, edit, record.pos - 1 + place.shift)
            if len(self.rows[0]) >= _ROWS:
                yield self._take_rows()

    def _check_reference(self, record: Record, place: _Place) -> np.ndarray | None:
        """Return the letters of a record of the genome, or None where this record of the file is not to be used."""
        start = record.pos - 1 + place.shift
        end = start + len(record.ref)
        if start < place.low or end > place.high:
            if place.whole and end > place.high + 1:
                raise InputError(
                    f"{self.file}, line {record.line}: {record.chrom}:{record.pos} with {len(record.ref)} bp goes past "
                    f"the end of {place.record!r}, which has {place.high:,} bp in {self.records.genome}; is the file "
                    "of another assembly?"
                )
            self.tally.counts["outside"] += 1
            return None
        letters = self._get_letters(place.record)
        if letters is None:
            self.tally.counts["left_out"] += 1
            return None
        self.checked += 1
        here = letters[start:end]
        reference = record.ref.upper().replace("U", "T").encode()
        if here.tobytes().upper() != reference:
            bits = _BITS[here]
            if not (bits & _BITS[np.frombuffer(reference, dtype=np.uint8)]).all():
                self.tally.counts["mismatched"] += 1
                there = _shorten(here.tobytes().decode())
                self.mismatches.append(f"line {record.line}: REF {_shorten(record.ref)}, the genome has {there}")
                if self.checked >= _EARLY and len(self.mismatches) > self.checked // 4:
                    self._judge()
                return None
            if (bits == 15).any():
                self.tally.counts["unknown"] += 1
                return None
        return letters

    def _get_letters(self, record: str) -> np.ndarray | None:
        if self.letters[0] != record:
            self.letters = record, self.read(record)
        return self.letters[1]

    def _judge(self) -> None:
        """Refuse a file of which too many records are not of this genome."""
        if len(self.mismatches) > MAX_MISMATCHES * self.checked:
            share = len(self.mismatches) / self.checked
            raise InputError(
                f"{self.file}: {share:.1%} of {self.checked:,} records have another REF than the genome "
                f"{self.records.genome} ({'; '.join(self.mismatches[:3])}); up to {MAX_MISMATCHES:.0%} would be "
                "skipped. The file is of another assembly, or its contigs are not those: see vcf_contigs"
            )

    def _make_edit(self, record: Record, allele: int, start: int, letters: np.ndarray) -> _Edit | None:
        """Return what an allele changes, at its place in a record of the genome; None where that is nothing to use."""
        text = record.alts[allele - 1]
        if fault := _find_fault(text):
            self.tally.counts[fault] += 1
            return None
        before, after = record.ref.upper().replace("U", "T"), text.upper().replace("U", "T")
        end = 0
        while end < min(len(before), len(after)) and before[-1 - end] == after[-1 - end]:
            end += 1
        before, after = before[: len(before) - end], after[: len(after) - end]
        skip = 0
        while skip < min(len(before), len(after)) and before[skip] == after[skip]:
            skip += 1
        before, after, start = before[skip:], after[skip:], start + skip
        if not before and not after:
            return None
        # Soft masks go on: the case is that of the first base replaced, or of the one before an insertion.
        beside = start if before or not start else start - 1
        if letters[beside] >= ord("a"):
            after = after.lower()
        return _Edit(start, len(before), after.encode())

    # ------------------------------------------------------------ edits of a haplotype, in order and apart

    def _put(self, haplotype: int, contig: int, edit: _Edit, reached: int) -> None:
        """Take an edit, unless one that is there overlaps with it; let those go that no later record can come before.

        Args:
            reached: position of the record; all later ones begin there or behind.
        """
        waiting = self.pending.setdefault((haplotype, contig), [])
        if waiting and waiting[0].position < reached:
            gone = sum(1 for one in waiting if one.position < reached)
            # What has gone may reach further than where we are; the last one stays to be compared with.
            while gone and waiting[gone - 1].position + waiting[gone - 1].length > reached:
                gone -= 1
            for one in waiting[:gone]:
                self._write(haplotype, contig, one)
            del waiting[:gone]
        if any(_overlap(one, edit) for one in waiting):
            self.tally.counts["overlapping"] += 1
            return
        waiting.append(edit)
        if len(waiting) > 1:
            waiting.sort()

    def _write(self, haplotype: int, contig: int, edit: _Edit) -> None:
        for column, value in zip(self.rows, (haplotype, contig, *edit)):
            column.append(value)
        self.tally.edits += 1

    def _flush(self) -> Iterator[pa.Table]:
        for (haplotype, contig), waiting in self.pending.items():
            for one in waiting:
                self._write(haplotype, contig, one)
        self.pending.clear()
        if len(self.rows[0]) >= _ROWS:
            yield self._take_rows()

    def _take_rows(self) -> pa.Table:
        table = pa.table(dict(zip(SCHEMA.names, self.rows)), schema=SCHEMA)
        self.rows = ([], [], [], [], [])
        return table


def _overlap(one: _Edit, other: _Edit) -> bool:
    """Whether two edits change the same base, or insert at the same place."""
    if one.length and other.length:
        return one.position < other.position + other.length and other.position < one.position + one.length
    if not one.length and not other.length:
        return one.position == other.position
    point, span = (other, one) if one.length else (one, other)
    return span.position < point.position < span.position + span.length


def _find_fault(allele: str) -> str:
    """Return why an alternative allele is no letters that can be read; nothing where it is."""
    if allele.isalpha():
        return "" if _LETTERS.fullmatch(allele.upper()) else "no_bases"
    if allele == "*":
        return "spanning"
    return "symbolic" if allele.startswith("<") else "breakends"


def _shorten(letters: str) -> str:
    return letters if len(letters) <= 12 else f"{letters[:12]}..."


def write_haplotypes(path: Path, tables: Iterable[pa.Table], names: Sequence[str], scratch: Path) -> list[str]:
    """Write edits sorted by haplotype, record and position, in constant memory.

    Args:
        path: an Arrow file that is made.
        tables: of `SCHEMA`, each haplotype's edits of a record in their order.
        names: of the haplotypes.
        scratch: a folder for what is sorted so far; what is written there is removed.

    Returns:
        What there is to say: haplotypes without an edit, and such as are alike; a sentence each.
    """
    runs: list[Path] = []
    written: list[Path] = []
    places: list[np.ndarray] = []  # of each run: haplotype, contig, run, first row, end
    try:
        for number, table in enumerate(tables):
            haplotype, contig = (table[name].to_numpy() for name in ("haplotype", "contig"))
            order = np.lexsort((contig, haplotype))  # stable
            keys = np.stack([haplotype, contig])[:, order]
            first = np.flatnonzero(np.concatenate([[True], (keys[:, 1:] != keys[:, :-1]).any(axis=0)]))
            ends = np.append(first[1:], len(order))
            places.append(np.stack([*keys[:, first], np.full(len(first), number), first, ends], axis=1))
            runs.append(scratch / f"edits-{number:05d}.arrow")
            written.append(runs[-1])
            _write_batch(runs[-1], table.take(order).combine_chunks().to_batches()[0])
        rows = np.concatenate([np.zeros((0, 5), dtype=np.int64), *places])
        rows = rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))]
        digests: dict[int, list] = defaultdict(lambda: [hashlib.blake2b() for _ in range(3)])
        columns = [scratch / f"edits.{name}" for name in (*SCHEMA.names, "bounds")]
        written += columns
        _join_runs([pa.ipc.open_file(pa.memory_map(str(run))).get_batch(0) for run in runs], rows, columns, digests)
        _write_batch(path, _map_columns(columns))
    finally:
        for file in written:
            file.unlink(missing_ok=True)
    joined = {number: b"".join(one.digest() for one in several) for number, several in digests.items()}
    return _describe_twins(names, joined)


def _write_batch(path: Path, batch: pa.RecordBatch) -> None:
    with pa.OSFile(str(path), "wb") as stream, pa.ipc.new_file(stream, SCHEMA) as writer:
        writer.write_batch(batch)


def _join_runs(
    runs: Sequence[pa.RecordBatch], rows: np.ndarray, columns: Sequence[Path], digests: Mapping[int, list]
) -> None:
    """Write the sorted rows of the runs, each column as the plain numbers that Arrow has in memory.

    Args:
        runs: mapped from their files.
        rows: haplotype, contig, run, first row, end of each piece, int64 [pieces, 5], in order.
        columns: files of the columns of `SCHEMA`, the letters of the last one without their bounds, and of these.
        digests: of each haplotype, three, of which those of two haplotypes are equal only where all edits are.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(column.open("wb")) for column in columns]
        size = 0
        files[-1].write(np.int64(0).tobytes())
        for haplotype, _, run, first, end in rows.tolist():
            piece = runs[run].slice(first, end - first)
            numbers = [column.to_numpy() for column in piece.columns[:4]]
            bounds, letters = _view_binary(piece.column(4))
            for file, column in zip(files, (*numbers, letters, bounds[1:] - bounds[0] + size)):
                file.write(column.tobytes())
            size += len(letters)
            places = np.stack(numbers[1:], axis=1)
            for digest, column in zip(digests[haplotype], (places, bounds[1:] - bounds[:-1], letters)):
                digest.update(column.tobytes())


def _map_columns(files: Sequence[Path]) -> pa.RecordBatch:
    """Return one batch of what `_join_runs` has written: as such it is mapped later, too, not copied."""
    buffers = [pa.memory_map(str(file)).read_buffer() if file.stat().st_size else pa.py_buffer(b"") for file in files]
    rows = buffers[0].size // 4
    arrays = [pa.Array.from_buffers(field.type, rows, [None, one]) for field, one in zip(SCHEMA, buffers[:4])]
    arrays.append(pa.Array.from_buffers(pa.large_binary(), rows, [None, buffers[5], buffers[4]]))
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def _view_binary(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds of an array's values, int64 [n + 1], and the letters from the first to the last of them."""
    _, bounds, data = column.buffers()
    view = np.frombuffer(bounds, dtype=np.int64)[column.offset : column.offset + len(column) + 1]
    letters = np.frombuffer(data, dtype=np.uint8) if data is not None else np.empty(0, dtype=np.uint8)
    return view, letters[view[0] : view[-1]]


def _describe_twins(names: Sequence[str], digests: Mapping[int, bytes]) -> list[str]:
    alike: dict[bytes, list[str]] = defaultdict(list)
    for number, name in enumerate(names):
        alike[digests.get(number, b"")].append(name)
    told = []
    for digest, several in alike.items():
        listed = ", ".join(several[:5]) + (f", ... ({len(several)} in all)" if len(several) > 5 else "")
        if not digest:
            told.append(f"without an edit, as the reference: {listed}")
        elif len(several) > 1:
            told.append(f"alike: {listed}")
    return told


def apply_edits(
    letters: np.ndarray, start: int, edits: HasEdits, length: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the letters that a haplotype has in a stretch of the reference.

    Stretches that follow each other give parts that follow each other: a letter that replaces another lies where that
    is, the first on the first; letters in excess lie on the last base that is replaced; those of an insertion on the
    base behind it.

    Args:
        letters: uint8 [n], of the reference; more than `length` where edits take some away.
        start: position of the first one in its record.
        edits: of the haplotype, sorted, not overlapping; at least those with a letter, inserted or replaced, inside.
        length: of the result; None: all.

    Returns:
        The letters, uint8 [length], or fewer if those of the reference do not last; and where each of them is in the
        record, int64 [length]: `INSERTED` for those of insertions and those in excess.
    """
    end = start + len(letters)
    places = np.arange(start, end)
    pieces, origins = [], []
    done = start  # so far the haplotype is written
    for position, replaced, alternative in zip(
        edits.position.tolist(), edits.reference_length.tolist(), edits.alternatives
    ):
        last = position + max(replaced - 1, 0)
        if last < start or position >= end:
            continue
        if done < position:
            pieces.append(letters[done - start : position - start])
            origins.append(places[done - start : position - start])
        paired = min(replaced, len(alternative))
        first, behind = max(start - position, 0), paired if position + paired <= end else end - position
        if first < behind:
            pieces.append(alternative[first:behind])
            origins.append(places[position + first - start : position + behind - start])
        if paired < len(alternative) and last < end:
            pieces.append(alternative[paired:])
            origins.append(np.full(len(alternative) - paired, INSERTED))
        done = max(position + replaced, start)
    if done == start and not pieces:
        return letters[:length], places[:length]
    pieces.append(letters[done - start :])
    origins.append(places[done - start :])
    return np.concatenate(pieces)[:length], np.concatenate(origins)[:length]


__all__ = [
    "INSERTED",
    "MAX_MISMATCHES",
    "SCHEMA",
    "Choice",
    "HasEdits",
    "Tally",
    "apply_edits",
    "choose_haplotypes",
    "describe_counts",
    "stream_edits",
    "write_haplotypes",
]
