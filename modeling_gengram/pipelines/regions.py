"""Which bases of a genome are read? All of it or regions, checked before a model is loaded."""

import hashlib
import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from gengram.errors import InputError
from gengram.genome.alphabet import BASES, URACIL
from gengram.genome.contigs import Genome, Part
from gengram.genome.fasta import read_fasta
from gengram.genome.intervals import find_region, read_regions
from gengram.genome.letters import LetterSurvey
from gengram.genome.tracks import Locus

_PLOTTED = 100_000
_HASHED = 1 << 20
_NO_BASE = re.compile(f"[^{BASES}{URACIL}]", re.IGNORECASE | re.ASCII)
_LOCUS = re.compile(r"(.+):(\d[\d,]*)-(\d[\d,]*)")


class Stretch(NamedTuple):
    """Bases of a contig that are read, and the record that they are read from."""

    locus: Locus
    source: Part


class Plan(NamedTuple):
    """What is read.

    Attributes:
        records: lengths of all records, in the order of the genome.
        lengths: of the contigs that these are, or are slices of; to the end of the last slice.
        stretches: joined regions in the order of the contigs and their bases.
        digest: of their content.
    """

    records: dict[str, int]
    lengths: dict[str, int]
    stretches: list[Stretch]
    digest: str

    @property
    def loci(self) -> list[Locus]:
        """Where the stretches are."""
        return [stretch.locus for stretch in self.stretches]


def plan_reading(genome: Genome, regions: str | Path | None, unknown: str, max_non_dna: float) -> Plan:
    """Read the genome, and find what of it is asked for.

    Args:
        genome: the genome.
        regions: BED file; those that overlap or touch are joined. None: all records.
        unknown: `"error"` refuses letters that are no bases, `"skip"` leaves them.
        max_non_dna: largest share of letters that are not DNA, see `LetterSurvey`.

    Raises:
        `InputError`: what is wrong with the genome or with the regions; slices that would give a base two values.
    """
    given = None if regions is None else read_regions(regions)
    # Mostly contigs have the same names in both files, and one reading does.
    spans = None if given is None else _group((one.chrom, one.start, one.end) for one in given)
    survey = _survey(genome, spans, unknown, max_non_dna)
    if given is not None:
        ends: dict[str, int] = {}
        for region in given:
            ends[region.chrom] = max(region.end, ends.get(region.chrom, 0))
        places = genome.match(str(regions), ends, survey.lengths)
        found = [(find_region(region, str(regions), places), region.end - region.start) for region in given]
        located = _group((part.record, start, start + length) for (part, start), length in found)
        if located != spans:  # other names, or slices
            survey = _survey(genome, located, unknown, max_non_dna)
    survey.letters.judge()
    if survey.fault:
        raise survey.fault
    records = genome.split(survey.lengths)
    lengths: dict[str, int] = {}
    for part in records.values():
        lengths[part.contig] = max(part.end, lengths.get(part.contig, 0))
    stretches = []
    for record, start, end in survey.spans:
        source = records[record]
        stretches.append(Stretch(Locus(source.contig, source.start + start, source.start + end), source))
    order = {contig: place for place, contig in enumerate(lengths)}
    stretches.sort(key=lambda one: (order[one.locus.chrom], one.locus.start))
    for one, other in pairwise(stretches):
        if one.locus.chrom == other.locus.chrom and other.locus.start < one.locus.end:
            raise InputError(
                f"{genome}: {one.locus} and {other.locus} overlap, but are read from two slices, "
                f"{one.source.record!r} and {other.source.record!r}: a base has one value. Choose --regions that do "
                "not, or give slices that do not"
            )
    return Plan(survey.lengths, lengths, stretches, survey.digest)


class _Survey(NamedTuple):
    """A genome that was read once: lengths of its records, what is read of them (record, first base, end), its hash."""

    lengths: dict[str, int]
    spans: list[tuple[str, int, int]]
    digest: str
    letters: LetterSurvey
    fault: InputError | None


def _survey(
    genome: Genome, wanted: dict[str, list[tuple[int, int]]] | None, unknown: str, max_non_dna: float
) -> _Survey:
    """Read a genome; `wanted` has the joined spans by record, or is None for all."""
    lengths: dict[str, int] = {}
    spans: list[tuple[str, int, int]] = []
    fault: InputError | None = None
    digest = hashlib.sha256()
    letters = LetterSurvey(str(genome), max_non_dna)
    for line, header, sequence in read_fasta(genome.path):
        record = header.split()[0]
        if record in lengths:
            raise InputError(f"{genome}, line {line}: a second contig is called {record!r}")
        lengths[record] = len(sequence)
        for start, end in [(0, len(sequence))] if wanted is None else wanted.get(record, []):
            part = sequence[start:end]
            spans.append((record, start, end))
            letters.look([part], [f"contig {record!r}"].__getitem__, origin=start)
            if unknown == "error":
                fault = fault or _find_gap(genome, record, start, part)
            digest.update(f"{Locus(record, start, end)} ".encode())
            for first in range(0, len(part), _HASHED):  # not all of a contig once more in memory
                digest.update(part[first : first + _HASHED].encode())
            digest.update(b"\n")
    return _Survey(lengths, spans, digest.hexdigest(), letters, fault)


def _find_gap(genome: Genome, chrom: str, start: int, part: str) -> InputError | None:
    if gap := _NO_BASE.search(part):
        return InputError(
            f"{genome}, contig {chrom!r}, position {start + gap.start()} (counted from 0): {gap.group()!r} is no base, "
            "and says nothing of its neighbours. Leave such bases without a value with --unknown skip, or choose "
            "regions without them"
        )
    return None


def _group(spans: Iterable[tuple[str, int, int]]) -> dict[str, list[tuple[int, int]]]:
    """Sort the spans of each contig, and make one of those that overlap or touch."""
    grouped: dict[str, list[tuple[int, int]]] = {}
    for chrom, start, end in sorted(spans):
        joined = grouped.setdefault(chrom, [])
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return grouped


def choose_locus(text: str | None, plan: Plan, genome: Genome) -> Locus:
    """Return what a plot shows: `CONTIG:START-END`, counted as in BED, or by default the first 100 kb that are read.

    Raises:
        `InputError`: it is no place, or not within what is read.
    """
    if text is None:
        first = plan.loci[0]
        return first._replace(end=min(first.end, first.start + _PLOTTED))
    match = _LOCUS.fullmatch(text)
    if match is None:
        raise InputError(f"--locus {text!r}: write it as CONTIG:START-END, e.g. chr20:1000000-1100000")
    start, end = (int(match[group].replace(",", "")) for group in (2, 3))
    places = genome.match("--locus", {match[1]: end}, plan.records)
    part, base = places.find(f"--locus {text}: the interval", match[1], start, end)
    shown = Locus(part.contig, part.start + base, part.start + base + end - start)
    for one in plan.loci:
        if one.chrom == shown.chrom and one.start <= shown.start < shown.end <= one.end:
            return shown
    raise InputError(f"--locus {text}: it is not within what is read, e.g. {plan.loci[0]}")


__all__ = ["Plan", "Stretch", "choose_locus", "plan_reading"]
