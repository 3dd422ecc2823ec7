"""Genes and transcripts of an annotation: what is exon, coding, 5' UTR, 3' UTR.

GFF3: a part belongs to the features that its `Parent` names, several of them too; a coding sequence right under a gene
is a transcript of its own. GTF: parts belong to their `transcript_id`; a stop codon, which GTF keeps apart from the
coding sequence, is a part of it. BED with 12 columns: a line is a transcript, its thick part is coding; of other BED
files, a line is a gene, or what a column `type` of the header says. A table with the header `#NAME CHROM STRAND
TX_START TX_END EXON_START EXON_END` (SpliceAI's) has transcripts without coding sequence. UTRs are those that the file
has of a transcript, else its exons without its coding sequence.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gengram.errors import InputError
from gengram.genome.annotations import Feature, read_features
from gengram.genome.intervals import Region, stream_fields
from gengram.genome.text import read_lines
from gengram.training.corpus.regions import is_bed
from gengram.training.corpus.spans import intersect_spans, merge_spans, subtract_spans

Span = tuple[int, int]

LONGEST_NAME = 1000
"""Letters of a name of a contig or gene: every row of a task repeats them."""

_TABLE = ("NAME", "CHROM", "STRAND", "TX_START", "TX_END", "EXON_START", "EXON_END")
_GENE = re.compile(r"(.+_)?(pseudo)?gene", re.IGNORECASE)
_TRANSCRIPT = re.compile(r".*(RNA|transcript)|.*_gene_segment", re.IGNORECASE)
_PARTS = {
    "exon": re.compile(r"(.+_)?exon", re.IGNORECASE),
    "cds": re.compile(r"CDS|stop_codon|start_codon", re.IGNORECASE),
    "five": re.compile(r"five_prime_UTR|5'?UTR", re.IGNORECASE),
    "three": re.compile(r"three_prime_UTR|3'?UTR", re.IGNORECASE),
    "utr": re.compile(r"UTR", re.IGNORECASE),
}
_CODING = re.compile(r"protein.?coding|mRNA", re.IGNORECASE)
_BIOTYPES = ("gene_biotype", "gene_type", "biotype")
_NAMES = ("gene_name", "Name", "gene", "gene_id", "ID")


class Gene(NamedTuple):
    """A gene: contig as the file calls it, first base from 0, end not included, `+`, `-` or `.`, name, whether it is
    protein-coding, and its line in the file."""

    chrom: str
    start: int
    end: int
    strand: str
    name: str
    coding: bool
    line: int


class Transcript(NamedTuple):
    """A transcript: its parts are sorted spans that do not overlap; without coding sequence it has no UTRs."""

    chrom: str
    strand: str
    name: str
    exons: tuple[Span, ...]
    cds: tuple[Span, ...]
    five_prime_utr: tuple[Span, ...]
    three_prime_utr: tuple[Span, ...]
    line: int

    @property
    def start(self) -> int:
        """The first base, from 0."""
        return self.exons[0][0]

    @property
    def end(self) -> int:
        """The base after the last one."""
        return self.exons[-1][1]


@dataclass(frozen=True)
class GeneModels:
    """What an annotation has.

    Attributes:
        file: it.
        genes, transcripts: in the order of the file.
        skipped: what was left out, with numbers.
    """

    file: Path
    genes: list[Gene]
    transcripts: list[Transcript]
    skipped: dict[str, int] = field(default_factory=dict)

    def require(self, what: str, found: bool) -> None:
        """Refuse an annotation that lacks what a task is made of.

        Raises:
            `InputError`: `found` is false.
        """
        if not found:
            raise InputError(f"{self.file}: it has no {what}, which this task is made of")


def read_gene_models(file: str | Path) -> GeneModels:
    """Read an annotation: GFF3, GTF, BED, or the table of transcripts of SpliceAI; plain or gzip.

    Raises:
        `InputError`: it cannot be read, see `read_features`, `stream_fields`; a line that is none, with its number; no
            gene and no transcript.
    """
    file = Path(file)
    skipped: Counter[str] = Counter()
    if is_bed(file):
        genes, transcripts = _read_bed(file, skipped)
    elif _is_table(file):
        genes, transcripts = _read_table(file)
    else:
        genes, transcripts = _read_features(file, skipped)
    if not genes and not transcripts:
        raise InputError(f"{file}: it has no gene, transcript or exon; is it an annotation of genes?")
    bodies: list[Gene | Transcript] = [*genes, *transcripts]
    for one in bodies:
        if max(len(one.chrom), len(one.name)) > LONGEST_NAME:
            what = "the name of a contig" if len(one.chrom) > LONGEST_NAME else "a name"
            raise InputError(
                f"{file}, line {one.line}: {what} has more than {LONGEST_NAME:,} letters; is the file damaged?"
            )
    return GeneModels(file, genes, transcripts, dict(skipped))


def make_transcript(
    chrom: str,
    strand: str,
    name: str,
    exons: Iterable[Span],
    cds: Iterable[Span] = (),
    five: Iterable[Span] = (),
    three: Iterable[Span] = (),
    utr: Iterable[Span] = (),
    line: int = 0,
) -> Transcript:
    """Return a transcript of parts in any order; UTRs that are not given are derived.

    Args:
        chrom, strand, name, line: see `Transcript`.
        exons, cds, five, three: spans; without exons, those are all the others.
        utr: UTRs of a side that is not said: the strand says it.
    """
    coding = merge_spans(np.array(sorted(cds), dtype=np.int64))
    given = [np.array(sorted(part), dtype=np.int64).reshape(-1, 2) for part in (five, three, utr)]
    listed = np.array(sorted(exons), dtype=np.int64).reshape(-1, 2)
    # Exons that touch are two exons where the file says so; those that overlap are one.
    whole = _join_overlapping(listed) if len(listed) else merge_spans(np.concatenate([coding, *given]))
    if not len(coding):
        given = [np.zeros((0, 2), dtype=np.int64)] * 2
    else:
        rest = subtract_spans(merge_spans(whole), coding)
        left = intersect_spans(rest, np.array([[0, coding[0, 0]]]))
        right = intersect_spans(rest, np.array([[coding[-1, 1], max(int(whole[-1, 1]), int(coding[-1, 1]) + 1)]]))
        if any(map(len, given)):
            before, after = (given[0], given[1]) if strand == "+" else (given[1], given[0])
            unsided = given[2]
            left = np.concatenate([before, unsided[unsided[:, 1] <= coding[0, 0]]])
            right = np.concatenate([after, unsided[unsided[:, 0] >= coding[-1, 1]]])
        else:  # an exon that touches another one is not joined with it
            left, right = (_cut_by(part, whole) for part in (left, right))
        given = [left, right] if strand == "+" else [right, left]
    return Transcript(chrom, strand, name, _list(whole), _list(coding), _list(given[0]), _list(given[1]), line)


def _cut_by(spans: np.ndarray, exons: np.ndarray) -> np.ndarray:
    """Return the pieces of spans in each exon."""
    pieces = [intersect_spans(spans, exon[None]) for exon in exons]
    return np.concatenate(pieces) if pieces else spans


def _join_overlapping(spans: np.ndarray) -> np.ndarray:
    joined: list[list[int]] = []
    for start, end in spans.tolist():
        if joined and start < joined[-1][1]:
            joined[-1][1] = max(end, joined[-1][1])
        else:
            joined.append([start, end])
    return np.array(joined, dtype=np.int64)


def _list(spans: np.ndarray) -> tuple[Span, ...]:
    return tuple(sorted(map(tuple, spans.tolist())))


class _Parts:
    """The parts of a transcript while a file is read."""

    __slots__ = ("chrom", "line", "others", "spans", "strands")

    def __init__(self, chrom: str, line: int):
        self.chrom, self.line = chrom, line
        self.strands: set[str] = set()
        self.others: set[str] = set()  # the features that the parts belong to
        self.spans: dict[str, list[Span]] = {}

    def add(self, kind: str, feature: Feature) -> None:
        self.strands.add(feature.strand)
        self.spans.setdefault(kind, []).append((feature.start, feature.end))


class _Named(NamedTuple):
    """A gene or transcript that has a line of its own."""

    feature: Feature
    name: str
    parents: tuple[str, ...]
    biotype: str | None


def _read_features(file: Path, skipped: Counter[str]) -> tuple[list[Gene], list[Transcript]]:
    genes: dict[tuple[str, str], _Named] = {}
    transcripts: dict[tuple[str, str], _Named] = {}
    parts: dict[tuple[str, str], _Parts] = {}
    of_gene: dict[tuple[str, str], str] = {}  # GTF: the gene of a transcript
    circles: dict[str, int] = {}
    for feature in read_features(file):
        length = circles.get(feature.seqid)
        if length is None and feature.start == 0 and "Is_circular=true" in feature.text:
            circles[feature.seqid] = feature.end
        kind = _find_kind(feature.type)
        if kind is None:
            continue
        if length is not None and feature.end > length:
            skipped["parts across the origin of a circular contig"] += 1
            continue
        values = feature.attributes
        if kind in ("gene", "transcript"):
            found = _name_feature(feature, values, kind)
            if found:
                (genes if kind == "gene" else transcripts)[feature.seqid, found[0]] = found[1]
            continue
        if feature.format == "gtf":
            owners = values.get("transcript_id", ())[:1] or values.get("gene_id", ())[:1]
        else:
            owners = feature.parents or values.get("ID", ())[:1]
        if kind == "codon" or not owners:
            skipped["parts of no transcript"] += kind != "codon"
            continue
        for owner in owners:
            key = (feature.seqid, owner)
            if key not in parts:
                parts[key] = _Parts(feature.seqid, feature.line)
            parts[key].others.update(owners)
            parts[key].add(kind, feature)
            if feature.format == "gtf" and (gene := values.get("gene_id")):
                of_gene[key] = gene[0]
    made: list[Transcript] = []
    coding: set[tuple[str, str]] = set()
    bodies: dict[tuple[str, str], list[Transcript]] = defaultdict(list)
    for key, one in parts.items():
        known = [(key[0], other) in transcripts or (key[0], other) in genes for other in one.others]
        if key not in transcripts and key not in genes and any(known):
            continue  # a protein, which has the parts of a transcript
        if len(one.strands) > 1:
            skipped["transcripts on both strands"] += 1
            continue
        (strand,) = one.strands
        if strand not in ("+", "-"):
            skipped["transcripts without a strand"] += 1
            continue
        named = transcripts.get(key)
        owner = named.parents[0] if named and named.parents else of_gene.get(key, key[1])
        name = key[1]
        spans = {kind: one.spans.get(kind, ()) for kind in ("exon", "cds", "five", "three", "utr")}
        transcript = make_transcript(
            one.chrom, strand, name, spans["exon"], spans["cds"], spans["five"], spans["three"], spans["utr"], one.line
        )
        made.append(transcript)
        bodies[key[0], owner].append(transcript)
        if transcript.cds:
            coding.add((key[0], owner))
    listed = [
        Gene(
            seqid,
            one.feature.start,
            one.feature.end,
            one.feature.strand,
            one.name,
            (seqid, gene) in coding
            and "pseudo" not in one.feature.type.lower()
            and (one.biotype is None or bool(_CODING.search(one.biotype))),
            one.feature.line,
        )
        for (seqid, gene), one in genes.items()
    ]
    # Where a file has transcripts without genes, they are the genes.
    for key, several in bodies.items():
        if key not in genes:
            first = several[0]
            start, end = min(one.start for one in several), max(one.end for one in several)
            listed.append(Gene(key[0], start, end, first.strand, key[1], key in coding, first.line))
    return listed, made


def _find_kind(kind: str) -> str | None:
    if kind.lower() == "start_codon":
        return "codon"
    for name, pattern in _PARTS.items():
        if pattern.fullmatch(kind):
            return name
    return "gene" if _GENE.fullmatch(kind) else "transcript" if _TRANSCRIPT.fullmatch(kind) else None


def _name_feature(feature: Feature, values: dict[str, tuple[str, ...]], kind: str) -> tuple[str, _Named] | None:
    """Return the identifier of a gene or transcript, and it; None of one that has none."""
    key = {"gtf": {"gene": "gene_id", "transcript": "transcript_id"}[kind], "gff3": "ID"}[feature.format]
    if not (found := values.get(key)):
        return None
    name = next((values[each][0] for each in _NAMES if values.get(each)), found[0])
    biotype = next((values[each][0] for each in _BIOTYPES if values.get(each)), None)
    parents = values.get("Parent", ()) if feature.format == "gff3" else values.get("gene_id", ())
    return found[0], _Named(feature, name, parents, biotype)


def _is_table(file: Path) -> bool:
    for _, line in read_lines(file, universal=True):
        return tuple(line.lstrip("#").upper().split()) == _TABLE
    return False


def _read_table(file: Path) -> tuple[list[Gene], list[Transcript]]:
    genes, transcripts = [], []
    for number, line in read_lines(file, universal=True):
        if line.startswith("#") or not line.strip():
            continue
        where = f"{file}, line {number}"
        cells = line.rstrip("\n").split("\t")
        if len(cells) != len(_TABLE):
            raise InputError(f"{where}: {len(cells)} columns, not {len(_TABLE)}: {', '.join(_TABLE)}, divided by tabs")
        name, chrom, strand, *_ = cells
        start, end = (_read_number(where, _TABLE[place], cells[place]) for place in (3, 4))
        starts, ends = (
            [_read_number(where, _TABLE[place], one) for one in cells[place].rstrip(",").split(",")] for place in (5, 6)
        )
        _check_strand(where, strand)
        if len(starts) != len(ends):
            raise InputError(f"{where}: {len(starts)} starts of exons, and {len(ends)} ends")
        spans = _check_spans(where, list(zip(starts, ends)), start, end)
        transcripts.append(make_transcript(chrom, strand, name, spans, line=number))
        genes.append(Gene(chrom, start, end, strand, name, False, number))
    return genes, transcripts


def _read_bed(file: Path, skipped: Counter[str]) -> tuple[list[Gene], list[Transcript]]:
    genes, transcripts = [], []
    for region, values in stream_fields(file):
        where = f"{file}, line {region.line}"
        strand = values.get("strand", ".")
        name = next((values[key] for key in ("name", "id") if values.get(key, ".") != "."), "") or (
            f"{region.chrom}:{region.start}-{region.end}"
        )
        blocks = [values.get(f"column_{place}") for place in range(7, 13)]
        if all(blocks):
            transcript = _read_blocks(where, region, strand, name, [str(one) for one in blocks], skipped)
            if transcript is not None:
                transcripts.append(transcript)
                coding = bool(transcript.cds)
                genes.append(Gene(region.chrom, region.start, region.end, strand, name, coding, region.line))
            continue
        kind = values.get("type", "gene")
        found = _find_kind(kind)
        if found == "gene":
            coding = kind.lower() in ("gene", "protein_coding_gene")
            genes.append(Gene(region.chrom, region.start, region.end, strand, name, coding, region.line))
            if strand in ("+", "-") and coding:
                span = [(region.start, region.end)]
                transcripts.append(make_transcript(region.chrom, strand, name, span, span, line=region.line))
            elif strand not in ("+", "-"):
                skipped["transcripts without a strand"] += 1
        elif found is not None:  # it takes its place, and is no coding gene
            genes.append(Gene(region.chrom, region.start, region.end, strand, name, False, region.line))
        else:
            skipped[f"lines of type {kind}"] += 1
    return genes, transcripts


def _read_blocks(
    where: str, region: Region, strand: str, name: str, cells: Sequence[str], skipped: Counter[str]
) -> Transcript | None:
    """Return the transcript of a line with twelve columns; None of one without a strand."""
    thick = [_read_number(where, title, cell) for title, cell in zip(("thickStart", "thickEnd"), cells)]
    count = _read_number(where, "blockCount", cells[3])
    sizes, starts = (
        [_read_number(where, title, one) for one in cell.rstrip(",").split(",")]
        for title, cell in zip(("blockSizes", "blockStarts"), cells[4:])
    )
    if not count == len(sizes) == len(starts):
        raise InputError(f"{where}: blockCount {count}, but {len(sizes)} blockSizes and {len(starts)} blockStarts")
    spans = [(region.start + start, region.start + start + size) for start, size in zip(starts, sizes)]
    spans = _check_spans(where, spans, region.start, region.end)
    if strand not in ("+", "-"):
        skipped["transcripts without a strand"] += 1
        return None
    cds: Iterable[Span] = ()
    if thick[0] < thick[1]:
        cds = [(max(start, thick[0]), min(end, thick[1])) for start, end in spans]
        cds = [(start, end) for start, end in cds if start < end]
    return make_transcript(region.chrom, strand, name, spans, cds, line=region.line)


def _check_spans(where: str, spans: list[Span], start: int, end: int) -> list[Span]:
    for first, last in spans:
        if not start <= first < last <= end:
            raise InputError(f"{where}: the exon {first}-{last} is none of the transcript {start}-{end}")
    return spans


def _check_strand(where: str, strand: str) -> None:
    if strand not in ("+", "-"):
        raise InputError(f"{where}: strand {strand[:30]!r} is none of + -")


def _read_number(where: str, title: str, text: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise InputError(f"{where}: {title} {text[:30]!r} is not a position (a whole number of at least 0)")
    return int(text)


def iterate_spans(transcripts: Iterable[Transcript], part: str) -> Iterator[tuple[Transcript, Span]]:
    """Yield each span of a part (`exons`, `cds`, `five_prime_utr`, `three_prime_utr`) with its transcript."""
    for transcript in transcripts:
        for span in getattr(transcript, part):
            yield transcript, span


__all__ = [
    "LONGEST_NAME",
    "Gene",
    "GeneModels",
    "Span",
    "Transcript",
    "iterate_spans",
    "make_transcript",
    "read_gene_models",
]
