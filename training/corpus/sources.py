"""Which records do the genomes of a recipe have, and which of their bases are held out or left out?

Every file is read once for this before anything is written: what is wrong with a genome, or with the names of a recipe,
is told at once.
"""

import dataclasses
import itertools
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gengram.errors import InputError, suggest
from gengram.genome.contigs import match_names, read_slice
from gengram.genome.fasta import stream_fasta
from gengram.genome.letters import MAX_NON_DNA, LetterSurvey
from gengram.genome.text import FileDigest
from gengram.phases import phase
from gengram.progress import tell
from gengram.training.corpus.journal import Journal
from gengram.training.corpus.recipe import GivenRecipe

LEFT_OUT = "left_out"
SPLITS = ("train", "validation", "test")

_SPAN = re.compile(r"(.+):(\d{1,15}|\d{1,3}(?:,\d{3})+)-(\d{1,15}|\d{1,3}(?:,\d{3})+)", re.DOTALL | re.ASCII)


class Span(NamedTuple):
    """Bases of a record that are not for training: from `start` to `end`, from 0, and what they are for."""

    start: int
    end: int
    split: str


@dataclasses.dataclass
class Record:
    """A record of a FASTA file; its place in the list of all is its number, `contig`.

    Attributes:
        genome, file: numbers of the recipe's genome and of the source.
        name, description: the first word of the header, and the rest.
        contig, offset: the contig that it is or is a slice of, and the number of bases before it there.
        length: in bp.
        spans: what is held out or left out, sorted, not overlapping.
        reason: why it is left out as a whole: the key of the recipe; empty where it is not.
    """

    genome: int
    file: int
    name: str
    description: str
    contig: str
    offset: int
    length: int
    spans: list[Span] = dataclasses.field(default_factory=list)
    reason: str = ""

    @property
    def split(self) -> str:
        """The split of the whole record; that of most of its bases are `train` if there are several."""
        whole = self.spans[0] if self.spans else None
        return whole.split if whole and (whole.start, whole.end) == (0, self.length) else "train"

    def list_free(self) -> Iterator[tuple[int, int]]:
        """Yield the stretches that are for training."""
        start = 0
        for span in self.spans:
            if start < span.start:
                yield start, span.start
            start = span.end
        if start < self.length:
            yield start, self.length


@dataclasses.dataclass(frozen=True)
class Source:
    """A FASTA file of a corpus.

    Attributes:
        name: as the recipe has it, or relative to the folder of genomes.
        path: where it is.
        genome: number of the recipe's genome.
        bytes, sha256: of the file.
        state: size and time, which tell whether it is still the same file.
    """

    name: str
    path: Path
    genome: int
    bytes: int
    sha256: str
    state: tuple[int, int]


def list_records(given: GivenRecipe, journal: Journal) -> tuple[list[Source], list[Record]]:
    """Find all records of a recipe's genomes.

    Args:
        given: the recipe.
        journal: remembers what a file holds, for a build that goes on.

    Raises:
        `InputError`: a file that is no FASTA, or is not DNA; a record that is there twice in a genome; a contig that is
            held out or left out and does not exist, or is both.
    """
    found = [
        (number, name, path)
        for number in range(len(given.recipe.genomes))
        for name, path in given.find_files("genomes", number, "fasta")
    ]
    # A file may be of two genomes, with other contigs left out; then it counts as two sources.
    sources: list[Source] = []
    records: list[Record] = []
    total = sum(path.stat().st_size for _, _, path in found)
    with phase("Surveying genomes", unit="bytes", total=total) as surveying:
        for number, name, path in found:
            state = _read_state(path)
            survey = journal.find("survey", name=name, genome=number, state=list(state))
            if survey is None:
                survey = {"name": name, "genome": number, "state": list(state), **_survey_file(path)}
                journal.write("survey", survey)
            surveying.add(state[0])
            sources.append(Source(name, path, number, state[0], survey["sha256"], state))
            for record, description, length in survey["records"]:
                part = read_slice(record, length)
                contig, offset = (part.contig, part.start) if part else (record, 0)
                records.append(Record(number, len(sources) - 1, record, description, contig, offset, length))
    for number in range(len(given.recipe.genomes)):
        _refuse_twins(given, number, sources, records)
        _assign(given, number, [record for record in records if record.genome == number])
    return sources, records


def _read_state(path: Path) -> tuple[int, int]:
    known = os.stat(path)
    return known.st_size, known.st_mtime_ns


def _survey_file(path: Path) -> dict[str, Any]:
    """Names, descriptions and lengths of a file's records, and its checksum."""
    digest, survey = FileDigest(), LetterSurvey(str(path), MAX_NON_DNA)
    records: list[list[Any]] = []
    bare: list[str] = []
    known = 0
    for _, header, start, text in stream_fasta(path, digest):
        if not start:
            name = header.split()[0]
            records.append([name, header[len(name) :].strip(), 0])
            bare.append(name)
        records[-1][2] = start + len(text)
        definite = len(text) - text.count("N") - text.count("n")
        if definite:
            known += definite
            if bare and bare[-1] == records[-1][0]:
                bare.pop()
            survey.look([text], lambda _: f"the record {records[-1][0]!r}", start)
    if not known:
        raise InputError(f"{path}: the file holds no base: its letters are nothing but N. Give another file")
    survey.judge()
    if bare:
        more = f", ... ({len(bare)} in all)" if len(bare) > 4 else ""
        tell(f"{path}: nothing but N: {', '.join(bare[:4])}{more}; no window lies there")
    return {"sha256": digest.finish(path), "records": records}


def _refuse_twins(given: GivenRecipe, number: int, sources: list[Source], records: list[Record]) -> None:
    seen: dict[str, Record] = {}
    for record in records:
        if record.genome != number:
            continue
        other = seen.setdefault(record.name, record)
        if other is not record:
            raise InputError(
                f"{sources[record.file].path}: the record {record.name!r} is there twice (also in "
                f"{sources[other.file].path}): which one is meant by its name? Give the files to two genomes of one "
                "species, or rename one"
            )


def _assign(given: GivenRecipe, number: int, records: list[Record]) -> None:
    """Find what is held out and left out of a genome's records."""
    genome = given.recipe.genomes[number]
    lengths = {record.name: record.length for record in records}
    asked = [
        ("hold_out", split, i, split, spec)
        for split in SPLITS[1:]
        for i, spec in enumerate(getattr(genome.hold_out, split))
    ]
    found: dict[str, list[tuple[Span, str]]] = {record.name: [] for record in records}
    for key, inner, i, split, spec in asked:
        for place in find_places(given.place("genomes", number, key, inner, i), spec, records):
            found[place.record].append((Span(place.start, place.end, split), spec))
    for i, spec in enumerate(genome.leave_out):
        for place in find_places(given.place("genomes", number, "leave_out", i), spec, records):
            found[place.record].append((Span(place.start, place.end, LEFT_OUT), spec))
    words = [word.casefold() for word in genome.skip_descriptions]
    for record in records:
        header = f"{record.name} {record.description}".casefold()
        skipped = "min_length" if record.length < genome.min_length else ""
        skipped = skipped or ("skip_descriptions" if any(word in header for word in words) else "")
        spans = sorted(found[record.name])
        for (one, first), (two, second) in itertools.pairwise(spans):
            if two.start < one.end and one.split != two.split:
                raise InputError(
                    f"{given.place('genomes', number)}: bases of {record.name!r} are in {first!r} ({one.split}) and in "
                    f"{second!r} ({two.split}): they can be one of them only"
                )
        if skipped:
            record.spans, record.reason = [Span(0, record.length, LEFT_OUT)], skipped
            continue
        record.spans = _join_spans([span for span, _ in spans])
        if record.split == LEFT_OUT:
            record.reason = "leave_out"
    if lengths and all(record.split == LEFT_OUT for record in records):
        tell(f"{given.place('genomes', number)}: every record of {genome.species!r} is left out")


def _join_spans(spans: list[Span]) -> list[Span]:
    """Spans that touch or overlap become one."""
    joined: list[Span] = []
    for span in spans:
        if joined and span.split == joined[-1].split and span.start <= joined[-1].end:
            joined[-1] = joined[-1]._replace(end=max(span.end, joined[-1].end))
        else:
            joined.append(span)
    return joined


class Place(NamedTuple):
    """Bases of a record, from 0, the end not included."""

    record: str
    start: int
    end: int


def find_places(where: str, spec: str, records: list[Record]) -> list[Place]:
    """Find the bases that a recipe names.

    Args:
        where: it is named, for messages.
        spec: a record; a contig, whole or as slices; or `contig:start-end`, from 1, the end included.
        records: of the genome.

    Raises:
        `InputError`: there is no such contig, or there are no such bases.
    """
    by_name = {record.name: record for record in records}
    if spec in by_name:
        return [Place(spec, 0, by_name[spec].length)]
    span = _SPAN.fullmatch(spec)
    name, first, last = (span[1], *(int(span[i].replace(",", "")) for i in (2, 3))) if span else (spec, 1, None)
    slices: dict[str, list[Record]] = {}
    for record in records:
        if record.contig != record.name and record.contig not in by_name:
            slices.setdefault(record.contig, []).append(record)
    lengths: Mapping[str, int | None] = {**{one.name: one.length for one in records}, **dict.fromkeys(slices)}
    match = match_names({name: last}, lengths)
    contig = match.found.get(name)
    if contig is None:
        doubt = match.doubts.get(name) or suggest(name, lengths).removeprefix("; ")
        there = ", ".join(list(lengths)[:8]) + (", ..." if len(lengths) > 8 else "")
        raise InputError(f"{where}: the genome has no contig {name!r}; it has {there}{f'. {doubt}' if doubt else ''}")
    if last is not None and not 1 <= first <= last:
        raise InputError(f"{where}: {spec!r} holds no bases; positions count from 1, ends are included")
    if contig in by_name:
        length = by_name[contig].length
        if last is not None and last > length:
            raise InputError(f"{where}: {spec!r} goes past the end of {contig!r}, which has {length:,} bp")
        return [Place(contig, first - 1, length if last is None else last)]
    places = []
    for record in slices[contig]:
        start = max(first - 1 - record.offset, 0)
        end = record.length if last is None else min(last - record.offset, record.length)
        if start < end:
            places.append(Place(record.name, start, end))
    if not places:
        there = ", ".join(record.name for record in slices[contig][:8])
        raise InputError(f"{where}: {spec!r} lies in no slice of {contig!r}; the genome has {there}")
    return places


__all__ = ["LEFT_OUT", "SPLITS", "Place", "Record", "Source", "Span", "find_places", "list_records"]
