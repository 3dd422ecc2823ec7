"""Which contig of a genome does another file mean? `chr7` and `7`, `M` and `MT`, slices as `chr20:1000001-2000000`.

One rule for all verbs, in three steps. A name that is there is that contig. Else it is the one that another custom
calls so, if only one fits, nothing known of its length speaks against it and no other name of the file means it. Else
it is unknown. Names are compared as they are: no text like `CONTIG:START-END` is made of them.
"""

import dataclasses
import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gengram.errors import InputError
from gengram.genome.text import FileDigest
from gengram.progress import tell

_PREFIXED = re.compile(r"chr(.+)", re.IGNORECASE | re.DOTALL)
_NUMBER = r"(\d{1,3}(?:,\d{3})+|\d{1,18})"
_SLICE = re.compile(rf"(.+):{_NUMBER}-{_NUMBER}", re.DOTALL | re.ASCII)
# RefSeq (NC_000007.14), and GenBank of a chromosome, a scaffold or a whole-genome project (CM000669.2, GL000220.1).
_ACCESSION = re.compile(r"(?:[A-Z]{2}_[A-Z]{0,4}\d{6,}|[A-Z]{1,2}\d{5,8}|[A-Z]{4,6}\d{8,})\.\d{1,2}", re.ASCII)
# The mitochondrion of UCSC's hg19, chrM, is NC_001807; MT, and chrM of later assemblies, is NC_012920.
_OLD_MITOCHONDRION, _MITOCHONDRION = 16_571, 16_569
_HG19_CHR1 = 249_250_621


class Part(NamedTuple):
    """What a record of a genome is: a contig, or some bases of one.

    Attributes:
        record: its name in the file.
        contig: the contig; another name than the record's if that is a slice.
        start: its first base in the contig, from 0.
        end: the base after its last one; that of a whole contig is its length.
    """

    record: str
    contig: str
    start: int
    end: int


class Match(NamedTuple):
    """What names mean.

    Attributes:
        found: contig by name.
        doubts: of names that nearly mean a contig: why they do not, a sentence without its end.
    """

    found: dict[str, str]
    doubts: dict[str, str]

    @property
    def renamed(self) -> dict[str, str]:
        """Contig by name, of those that it has under another name."""
        return {name: contig for name, contig in self.found.items() if name != contig}


def fold_name(name: str) -> str:
    """Return what names of one contig have in common: `chr7`, `Chr7` and `7`; `chrM`, `M`, `MT` and `chrMT`."""
    bare = prefixed[1] if (prefixed := _PREFIXED.fullmatch(name)) else name
    return "MT" if bare.upper() in ("M", "MT") else bare


def match_names(
    names: Mapping[str, int | None],
    contigs: Mapping[str, int | None],
    lengths: Mapping[str, int | None] | None = None,
) -> Match:
    """Find which contigs the names of another file mean.

    Args:
        names: of one file, each with the end of its furthest interval in bp, if it has intervals.
        contigs: of the genome, or of whatever else is looked up, with their lengths in bp as far as they are known.
        lengths: of the contigs that are named, in bp, where their file says so, as the header of a VCF file does.
    """
    alike = defaultdict(list)
    for contig in contigs:
        alike[fold_name(contig)].append(contig)
    old = any(contigs[contig] == _HG19_CHR1 for contig in alike["1"])
    found: dict[str, str] = {}
    doubts: dict[str, str] = {}
    for name, end in names.items():
        if name in contigs:
            found[name] = name
            continue
        others = alike.get(fold_name(name), ())
        faults = {
            other: _contradict(name, end, (lengths or {}).get(name), other, contigs[other], old) for other in others
        }
        fits = [other for other, fault in faults.items() if fault is None]
        if len(fits) == 1:
            found[name] = fits[0]
        elif fits:
            doubts[name] = f"It may be {' or '.join(map(repr, fits))}: give it the name of the one that is meant"
        elif others:
            other, fault = next(iter(faults.items()))
            doubts[name] = f"It is not {other!r}, {fault}"
    shared = {contig for contig, times in Counter(found.values()).items() if times > 1}
    for name, contig in list(found.items()):
        if name != contig and contig in shared:
            rivals = [other for other in found if other != name and found[other] == contig]
            doubts[name] = (
                f"It would be {contig!r}, but {rivals[0]!r} is that already; if both are one contig, give them one name"
            )
    return Match({name: contig for name, contig in found.items() if name not in doubts}, doubts)


def _contradict(
    name: str, end: int | None, declared: int | None, contig: str, length: int | None, hg19: bool
) -> str | None:
    """Return what is known against a name that another custom writes as this contig's."""
    if length is None:
        return None
    if declared is not None:
        return None if declared == length else f"which has {length:,} bp: {name!r} is declared with {declared:,}"
    if end is not None and end > length:
        return f"which has {length:,} bp: {name!r} has positions up to {end:,}"
    if fold_name(name) == "MT":
        modern = name.upper().endswith("MT")
        remedy = "give it the same name in both files if it is the same sequence"
        if modern and length == _OLD_MITOCHONDRION:
            return f"which has {length:,} bp, as that of hg19: MT has {_MITOCHONDRION:,}; {remedy}"
        if not modern and length == _MITOCHONDRION and hg19:
            return f"which has {length:,} bp: that of hg19, chrM, has {_OLD_MITOCHONDRION:,}; {remedy}"
    return None


@dataclasses.dataclass
class Genome(os.PathLike):
    """A FASTA file, and how the contigs that other files name are found in it. It can stand for the file's path.

    Attributes:
        path: the file.
        slices: whether records that samtools faidx has cut, named like `chr20:1000001-2000000` (from 1, the end
            included) and of that length, are these bases of `chr20`, unless there is a record `chr20`.
        renamed: what was found under another name so far: the genome's name by the other file's.
        kept: the contigs that were read last, if they are kept (`keep`): what asked for them, and the answer.
        digest: of the file's bytes, taken while it was read.
    """

    path: str | Path
    slices: bool = False
    renamed: dict[str, str] = dataclasses.field(default_factory=dict, compare=False)
    kept: tuple[Mapping, Any] | None = dataclasses.field(default=None, compare=False, repr=False)
    digest: FileDigest = dataclasses.field(default_factory=FileDigest, compare=False, repr=False)
    _keeps: bool = dataclasses.field(default=False, compare=False, repr=False)
    _told: set[str] = dataclasses.field(default_factory=set, compare=False, repr=False)

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __str__(self) -> str:
        return str(self.path)

    @classmethod
    def of(cls, path: "str | Path | Genome") -> "Genome":
        """Return the genome of a path; a genome is itself."""
        return path if isinstance(path, Genome) else cls(path)

    def keep(self) -> "Genome":
        """Keep contigs that are read in memory, for one who reads the same intervals again; returns the genome."""
        self._keeps = True
        return self

    def remember(self, asked: Mapping, answer: Any) -> None:
        """Keep an answer, if that is asked for."""
        if self._keeps:
            self.kept = (dict(asked), answer)

    def hash(self) -> str:
        """Return the SHA-256 of the file's bytes, read for that only as far as nobody has read them yet."""
        return self.digest.finish(self.path)

    def split(self, lengths: Mapping[str, int]) -> dict[str, Part]:
        """Return what each record is, in the order of the file.

        Args:
            lengths: of all records, in bp.
        """
        parts = {}
        for record, length in lengths.items():
            part = read_slice(record, length) if self.slices else None
            parts[record] = part if part and part.contig not in lengths else Part(record, record, 0, length)
        if self.slices and all(part.contig == part.record for part in parts.values()):
            self._tell(f"{self}: no record is a slice: none is named like chr20:1000001-2000000, and of that length")
        return parts

    def may_hold(self, record: str, length: int, folded: set[str]) -> bool:
        """Whether a record may be, or be a part of, one of the contigs that another file names.

        Args:
            record, length: its name, and its length in bp.
            folded: `fold_name` of the names.
        """
        part = read_slice(record, length) if self.slices else None
        return fold_name(record) in folded or (part is not None and fold_name(part.contig) in folded)

    def match(
        self,
        path: str | Path,
        names: Mapping[str, int | None],
        lengths: Mapping[str, int],
        declared: Mapping[str, int | None] | None = None,
    ) -> "Places":
        """Find the contigs that a file names, and tell of those that have another name here.

        Args:
            path: the file, for messages.
            names, declared: see `match_names`, where `declared` is `lengths`.
            lengths: of all records of the genome, in bp.
        """
        parts = self.split(lengths)
        slices = {part.contig: None for part in parts.values() if part.contig != part.record}
        match = match_names(names, {**lengths, **slices}, declared)
        self.renamed |= match.renamed
        if told := tell_renamed(match.renamed, f"{path}: contigs have other names in {self}"):
            self._tell(told)
        return Places(self, parts, match)

    def _tell(self, note: str) -> None:
        """Say something once, however often the genome is read."""
        if note not in self._told:
            self._told.add(note)
            tell(note)


def tell_renamed(renamed: Mapping[str, str], what: str) -> str:
    """Return a note on names that mean contigs of another name, the first of them if they are many; none on none."""
    pairs = [f"{name} is {contig}" for name, contig in renamed.items()]
    more = f", ... ({len(pairs)} in all)" if len(pairs) > 4 else ""
    return f"{what}: {', '.join(pairs[:4])}{more}" if pairs else ""


def read_slice(record: str, length: int) -> Part | None:
    """Return of which bases a record is, by its name and its length in bp; None if it is no slice."""
    if not (match := _SLICE.fullmatch(record)):
        return None
    first, end = (int(match[group].replace(",", "")) for group in (2, 3))
    return Part(record, match[1], first - 1, end) if 0 < first <= end and end - first + 1 == length else None


class Places:
    """Where the contigs that a file names are in a genome; of `Genome.match`.

    Attributes:
        parts: what each record of the genome is.
        match: what the names mean.
    """

    def __init__(self, genome: Genome, parts: dict[str, Part], match: Match):
        self.genome, self.parts, self.match = genome, parts, match
        self._slices = defaultdict(list)
        for part in parts.values():
            if part.contig != part.record:
                self._slices[part.contig].append(part)

    def find(self, where: str, chrom: str, start: int, end: int) -> tuple[Part, int]:
        """Return the record that an interval lies in, and the interval's first base there, from 0.

        Args:
            where: file, line and interval, for messages.
            chrom, start, end: the interval as its file has it, from 0, the end not included.

        Raises:
            `InputError`: an unknown contig, no bases, bases that no record has, or none has as a whole.
        """
        contig = self.match.found.get(chrom)
        if contig is None:
            raise InputError(f"{where}: {self._tell_unknown(chrom)}")
        if not start < end:
            raise InputError(f"{where} holds no bases; starts count from 0, ends are not included")
        if part := self.parts.get(contig):
            if end > (length := part.end - part.start):
                raise InputError(f"{where} goes past the end of contig {contig!r}, which has {length} bp")
            return part, start
        slices = self._slices[contig]
        if whole := [part for part in slices if part.start <= start and end <= part.end]:
            # Where slices overlap, the one with the widest context.
            best = max(whole, key=lambda part: min(start - part.start, part.end - end))
            return best, start - best.start
        met = [part.record for part in slices if part.start < end and start < part.end]
        if len(met) > 1:
            raise InputError(
                f"{where} does not lie in one slice: some of its bases are in {_list(met)}; leave it out, or give one "
                "slice that has all"
            )
        if met:
            raise InputError(
                f"{where} goes past the end of the slice {met[0]!r}; leave it out, or give more of {contig!r}"
            )
        there = _list([part.record for part in slices])
        raise InputError(
            f"{where} lies in no slice of {contig!r}: the genome {self.genome} has {there}; leave it out, or give more "
            f"of {contig!r}"
        )

    def _tell_unknown(self, chrom: str) -> str:
        doubt = self.match.doubts.get(chrom) or self._suggest(chrom)
        names = _list([*self._slices, *(record for record, part in self.parts.items() if part.contig == record)], str)
        return f"the genome {self.genome} has no contig {chrom!r}; it has {names}{f'. {doubt}' if doubt else ''}"

    def _suggest(self, chrom: str) -> str | None:
        """Return what may be meant by a name that the genome lacks, and what to do."""
        sliced: list[Part] = []
        cut: list[Part] = []
        for record, part in self.parts.items():
            like = _SLICE.fullmatch(record)
            if like and fold_name(like[1]) == fold_name(chrom):
                (sliced if read_slice(record, part.end - part.start) else cut).append(part)
        if sliced and not self.genome.slices:
            return f"{_list([part.record for part in sliced])} may be of it: --slices finds its positions there"
        if cut:
            return _tell_no_slice(cut[0])
        cases = [record for record in self.parts if fold_name(record).lower() == fold_name(chrom).lower()]
        if cases:
            return f"Is it {cases[0]!r}? Give it the same name in both files"
        accession = next(filter(_ACCESSION.fullmatch, [chrom, *self.parts]), None)
        if accession and not self.match.found:
            return (
                f"{accession!r} is an accession: the assembly report of NCBI has the contigs' other names; write one "
                "kind of names in both files"
            )
        return None if self.match.found else "No contig of the file is there: is it of another assembly?"


def _tell_no_slice(part: Part) -> str:
    name = _SLICE.fullmatch(part.record)
    assert name is not None
    length = part.end - part.start
    first, end = (int(name[group].replace(",", "")) for group in (2, 3))
    told = f"{part.record!r} is no slice of it: it is named for {max(0, end - first + 1):,} bp, and has {length:,}"
    if end - first == length:
        told += f"; if its start counts from 0, as those of bedtools, call it '{name[1]}:{first + 1}-{end}'"
    return told


def _list(names: Sequence[str], show=repr) -> str:
    return ", ".join(map(show, names[:8])) + (", ..." if len(names) > 8 else "")


__all__ = ["Genome", "Match", "Part", "Places", "fold_name", "match_names", "read_slice", "tell_renamed"]
