"""Which records do the genomes of a recipe have, and which of their bases are held out or left out?

Every file is read once for this before anything is written: what is wrong with a genome, or with the names of a recipe,
is told at once.
"""

import dataclasses
import itertools
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gengram.errors import InputError
from gengram.genome.contigs import read_slice
from gengram.genome.fasta import stream_fasta
from gengram.genome.letters import MAX_NON_DNA, LetterSurvey
from gengram.genome.text import FileDigest
from gengram.phases import phase
from gengram.progress import tell
from gengram.training.corpus.journal import Journal
from gengram.training.corpus.recipe import GivenRecipe
from gengram.training.corpus.records import Records

LEFT_OUT = "left_out"
"""What a record is of that is in no split: its letters are not stored."""


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
        """The split of the record as a whole; `train` where it is divided."""
        whole = self.spans[0] if self.spans else None
        return whole.split if whole and (whole.start, whole.end) == (0, self.length) else "train"

    def find_spans(self, split: str) -> np.ndarray:
        """Return the spans of a split, or what is left out; int64 [n, 2]."""
        return np.array([span[:2] for span in self.spans if span.split == split], dtype=np.int64).reshape(-1, 2)


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
        _refuse_twins(number, sources, records)
        files = [str(source.path) for source in sources if source.genome == number]
        more = f" and {len(files) - 1:,} more" if len(files) > 1 else ""
        mine = [record for record in records if record.genome == number]
        _assign(given, number, mine, f"{given.recipe.genomes[number].species} ({files[0]}{more})")
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
    survey.judge("write N where no base is known", "N is stored in their place")
    if bare:
        more = f", ... ({len(bare)} in all)" if len(bare) > 4 else ""
        tell(f"{path}: nothing but N: {', '.join(bare[:4])}{more}; no window lies there")
    return {"sha256": digest.finish(path), "records": records}


def _refuse_twins(number: int, sources: list[Source], records: list[Record]) -> None:
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


def _assign(given: GivenRecipe, number: int, records: list[Record], name: str) -> None:
    """Find what is held out and left out of a genome's records; `name` is what messages call the genome."""
    genome = given.recipe.genomes[number]
    names = Records({record.name: record.length for record in records}, name)
    found: dict[str, list[tuple[Span, str]]] = {record.name: [] for record in records}
    for split, specs in genome.hold_out._asdict().items():
        for i, spec in enumerate(specs):
            for region in names.find_region(spec, given.place("genomes", number, "hold_out", split, i)):
                found[region.record].append((Span(region.start, region.end, split), spec))
    for i, spec in enumerate(genome.leave_out):
        for region in names.find_region(spec, given.place("genomes", number, "leave_out", i)):
            found[region.record].append((Span(region.start, region.end, LEFT_OUT), spec))
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
    if all(record.split == LEFT_OUT for record in records):
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


__all__ = ["LEFT_OUT", "Record", "Source", "Span", "list_records"]
