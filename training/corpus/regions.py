"""Where do windows lie, and what is there? Files of intervals, annotations, N and soft masks become stretches of bases.

What a file says is read once a genome (`read_spans`, `read_annotation`); the rest are functions of one record's letters
and its spans (`gengram.training.corpus.spans`): segments that windows lie in, anchors that they are drawn by, classes
of bases.

The rule of Gengram's first stage, which drops fragments farther than 5,120 bp from any gene boundary, is read so: the
distance of a base to a gene is 0 inside the gene, else that of their positions to the gene's nearest base; that of a
fragment is that of its nearest base. So the anchors are the genes and 5,120 bp on either side: every window that is
drawn holds one of them and is near enough, and every fragment that is near enough can be drawn.
"""

import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gengram.errors import InputError, suggest
from gengram.genome.annotations import read_features
from gengram.genome.contigs import Part
from gengram.genome.intervals import stream_regions
from gengram.printable import shorten

from .records import OtherContigs, Records
from .spans import (
    cover,
    find_gaps,
    find_soft_masks,
    intersect_spans,
    invert_spans,
    meet_spans,
    merge_spans,
    subtract_spans,
)

CLASSES = ("exon", "intron", "intergenic")
"""Classes of bases by an annotation: each base of an annotated record is of one, the first that fits."""

_OWNERS = ("gene_id", "transcript_id", "Parent")
_BED = re.compile(r"\.(bed|(narrow|broad|gapped)peak|bedgraph)(\.b?gz)?$", re.IGNORECASE)
_GENE = re.compile(r"(.+_)?(pseudo)?gene", re.IGNORECASE)
_TRANSCRIPT = re.compile(r".*(RNA|transcript)|.*_gene_segment", re.IGNORECASE)
_EXON = re.compile(
    r"(.+_)?exon|CDS|(five|three)_prime_UTR|5'?UTR|3'?UTR|UTR|start_codon|stop_codon|Selenocysteine", re.IGNORECASE
)


class _Rows:
    """Intervals of a file by kind and contig, as they are written: three numbers each."""

    def __init__(self) -> None:
        self.columns: dict[tuple[str, str], array] = defaultdict(lambda: array("q"))

    def add(self, kind: str, name: str, start: int, end: int, line: int) -> None:
        """Keep an interval, half-open from 0, and its line in the file."""
        self.columns[kind, name].extend((start, end, line))

    def take(self, kind: str, name: str) -> np.ndarray:
        """Return start, end and line of each, int64 [n, 3]."""
        column = self.columns.get((kind, name))
        return np.array(column, dtype=np.int64).reshape(-1, 3) if column else np.zeros((0, 3), dtype=np.int64)

    def has(self, kind: str) -> bool:
        """Return whether any interval is of a kind."""
        return any(kind == one for one, _ in self.columns)

    def list_names(self) -> list[str]:
        """Return the contigs."""
        return list(dict.fromkeys(name for _, name in self.columns))

    def find_past(self, name: str, length: int) -> tuple[int, int, int] | None:
        """Return start, end and line of the first interval that ends past the length of its contig."""
        past = [row for kind, one in self.columns if one == name for row in self._find_past(kind, name, length)]
        return min(past, key=lambda row: row[2], default=None)

    def _find_past(self, kind: str, name: str, length: int) -> list[tuple[int, int, int]]:
        rows = self.take(kind, name)
        return [tuple(row) for row in rows[rows[:, 1] > length][:1].tolist()]

    def count(self, names: Iterable[str]) -> dict[str, int]:
        """Return how many intervals lie on each of some contigs."""
        return {name: sum(len(self.columns[key]) // 3 for key in self.columns if key[1] == name) for name in names}


@dataclass(frozen=True)
class Annotation:
    """Genes, exons and introns of a genome; of `read_annotation`.

    Attributes:
        records: of the genome.
        parts: those by contig, as the files call it.
        genes: spans by contig, on the contig.
        exons, introns: spans by record, of all records, on the record.
        classified: the records whose contig has a line in a file of exons, so that what is no exon and no intron there
            lies between genes.
    """

    records: Records
    parts: Mapping[str, Sequence[Part]]
    genes: Mapping[str, np.ndarray]
    exons: Mapping[str, np.ndarray]
    introns: Mapping[str, np.ndarray]
    classified: Set[str]

    def find_genes(self, distance: int = 0) -> dict[str, np.ndarray]:
        """Return spans by record, of all records: the genes, and what is at most `distance` bp from one.

        A gene outside of a slice of its contig reaches into it.
        """
        return _cut_out(
            {name: merge_spans(spans + [-distance, distance]) for name, spans in self.genes.items()},
            self.parts,
            self.records,
        )


def read_spans(file: str | Path, records: Records, types: Sequence[str] = (), flank: int = 0) -> dict[str, np.ndarray]:
    """Read which bases a file names.

    Args:
        file: BED, GFF3 or GTF, plain or gzip.
        records: of the genome.
        types: those that count: of column 3 of GFF, of a column `type` that the header of a BED file names; none: all.
        flank: bp that are added on either side of each interval.

    Returns:
        Spans by record, of all records. Intervals on contigs that the genome lacks are told once, with their
        number, and skipped; what lies outside of slices of a contig has no bases here.

    Raises:
        `InputError`: a file that cannot be read, without intervals or without a type; an interval past the end of its
            contig, with its line; a file of which the genome has no contig at all (`OtherContigs`).
    """
    rows, seen = _Rows(), Counter[str]()
    for kind, name, start, end, line in _stream_intervals(file):
        if types and kind is None:
            raise InputError(f"{file}: types are asked for, but no header of it names a column 'type'")
        seen[kind or ""] += 1
        rows.add("" if not types or kind in types else "other", name, start, end, line)
    if lacking := [kind for kind in types if kind not in seen]:
        raise InputError(
            f"{file}: it has no record of type {lacking[0]!r}{suggest(lacking[0], seen)}; its types are "
            + ", ".join(f"{kind} ({count:,})" for kind, count in seen.most_common(8))
        )
    parts = _match(file, rows, records)
    return _cut_out({name: merge_spans(rows.take("", name)[:, :2] + [-flank, flank]) for name in parts}, parts, records)


def read_annotation(files: str | Path | Sequence[str | Path], records: Records) -> Annotation:
    """Read genes, exons and introns.

    A GFF3 or GTF file has genes as records of type `gene`, `pseudogene` or `..._gene`; where it has none, transcripts
    (`mRNA`, `...RNA`, `...transcript`) are the genes, and where it has none of these, all that has one `gene_id` or
    `transcript_id`. Exons are records of type `exon`, `..._exon`, `CDS`, UTRs and codons, of all transcripts. Introns
    are what else lies in a gene or transcript that has an exon; records of type `intron`, as of RNA-seq, are not looked
    at. A gene without exons, as of tRNA or in a genome without introns, is an exon as a whole. A BED file has genes
    only: its intervals, or those of type `gene` and the like where its header names a column `type`.

    Args:
        files: one or several, of different contigs or of the same; of several, those that have no contig of the
            genome are told and skipped, unless all are so.
        records: of the genome.

    Raises:
        `InputError`: see `read_spans`; a file without a gene.
    """
    several = [files] if isinstance(files, (str, Path)) else list(files)
    genes, exons, introns = (defaultdict[str, list[np.ndarray]](list) for _ in range(3))
    parts: dict[str, list[Part]] = {}
    others: list[OtherContigs] = []
    for file in several:
        rows, bodies = _read_kinds(file)
        matched: dict[str, list[Part]] = {}
        with records.skip_others(others):
            matched = _match(file, rows, records)
        parts |= matched
        for name in matched:
            genes[name].append(rows.take(bodies, name)[:, :2])
            if is_bed(file):
                continue
            found = merge_spans(rows.take("exon", name)[:, :2])
            wholes = np.concatenate([rows.take(kind, name)[:, :2] for kind in ("gene", "transcript")])
            has_some = meet_spans(wholes, found)
            exons[name] += [found, wholes[~has_some]]
            introns[name].append(wholes[has_some])
    records.judge_others(others, len(several))
    whole = _join(exons)
    between = {name: subtract_spans(spans, whole[name]) for name, spans in _join(introns).items()}
    return Annotation(
        records,
        parts,
        _join(genes),
        _cut_out(whole, parts, records),
        _cut_out(between, parts, records),
        {part.record for name in whole for part in parts[name]},
    )


class Segments(NamedTuple):
    """Stretches of one record, sorted, [S] each.

    Attributes:
        start, end: int64, from 0, the end not included.
        split: int8, index of `gengram.training.corpus.store.SPLITS`.
    """

    start: np.ndarray
    end: np.ndarray
    split: np.ndarray


class Anchors(NamedTuple):
    """Bases that windows of one record are drawn by, sorted, apart from each other, [A] each.

    Attributes:
        segment: int32, index of the segment that they lie in.
        start, end: int64.
        weight: float32, of each base; above 0.
    """

    segment: np.ndarray
    start: np.ndarray
    end: np.ndarray
    weight: np.ndarray


def cut_segments(
    letters: np.ndarray,
    *,
    max_n_run: int,
    held_out: Mapping[int, np.ndarray] | None = None,
    keep: np.ndarray | None = None,
    drop: np.ndarray | None = None,
    min_length: int = 1,
) -> Segments:
    """Cut a record into the stretches that windows may lie in.

    Args:
        letters: of the record, uint8.
        max_n_run: longer runs of N (either case) lie in no segment.
        held_out: spans by split, 1 validation and 2 test; all other bases are of split 0, training.
        keep: spans that alone are kept; None: all.
        drop: spans that are dropped.
        min_length: shorter stretches are dropped, in bp.

    Raises:
        `ValueError`: two splits share bases.
    """
    whole = np.array([[0, len(letters)]], dtype=np.int64)
    rest = whole if keep is None else intersect_spans(whole, keep)
    rest = rest if drop is None else subtract_spans(rest, drop)
    rest = subtract_spans(rest, find_gaps(letters, max_n_run + 1))
    taken = np.zeros((0, 2), dtype=np.int64)
    found = {}
    for split, spans in (held_out or {}).items():
        if not len(spans):
            continue
        if len(shared := intersect_spans(taken, spans)):
            raise ValueError(f"split {split} shares bases {shared[0, 0]} to {shared[0, 1]} with another one")
        taken = merge_spans(np.concatenate([taken, spans]))
        found[split] = intersect_spans(rest, spans)
    found[0] = subtract_spans(rest, taken)
    spans = np.concatenate(list(found.values()))
    splits = np.repeat(np.array(list(found), dtype=np.int8), [len(one) for one in found.values()])
    chosen = np.flatnonzero(spans[:, 1] - spans[:, 0] >= min_length)
    chosen = chosen[np.argsort(spans[chosen, 0])]
    return Segments(spans[chosen, 0], spans[chosen, 1], splits[chosen])


def weigh_anchors(
    segments: Segments,
    letters: np.ndarray,
    *,
    zone: np.ndarray | None = None,
    genes: np.ndarray | None = None,
    gene_weight: float = 1.0,
    soft_masked_weight: float = 1.0,
) -> Anchors:
    """Weigh the bases that windows are drawn by: 1, times what each rule says.

    The rules are for training: in segments of other splits every base has weight 1, since what is held out is to be
    measured as a whole.

    Args:
        segments: of a record.
        letters: of the record, uint8.
        zone: spans outside of which the weight is 0, as `Annotation.find_genes(5120)`; None: no such rule.
        genes: spans whose bases have `gene_weight`.
        gene_weight: of these.
        soft_masked_weight: of lower-case letters.
    """
    nothing = np.zeros((0, 2), dtype=np.int64)
    masked = find_soft_masks(letters) if soft_masked_weight != 1 else nothing
    genes = nothing if genes is None or gene_weight == 1 else genes
    if zone is None and not len(masked) and not len(genes):
        count = len(segments.start)
        return Anchors(np.arange(count, dtype=np.int32), segments.start, segments.end, np.ones(count, np.float32))
    sets = [masked, genes, *([] if zone is None else [zone])]
    bounds = np.unique(np.concatenate([segments.start, segments.end, *(spans.ravel() for spans in sets)]))
    starts, ends = bounds[:-1], bounds[1:]
    segment = np.searchsorted(segments.start, starts, side="right") - 1
    inside = (segment >= 0) & (starts < segments.end[segment]) if len(segments.start) else np.zeros(len(starts), bool)
    starts, ends, segment = starts[inside], ends[inside], segment[inside]
    weight = np.ones(len(starts), dtype=np.float32)
    weight[cover(masked, starts)] *= soft_masked_weight
    weight[cover(genes, starts)] *= gene_weight
    if zone is not None:
        weight[~cover(zone, starts)] = 0
    weight[segments.split[segment] != 0] = 1
    drawn = weight > 0
    starts, ends, segment, weight = starts[drawn], ends[drawn], segment[drawn], weight[drawn]
    # Neighbours of one weight are one.
    first = np.ones(len(starts), dtype=bool)
    first[1:] = (starts[1:] != ends[:-1]) | (segment[1:] != segment[:-1]) | (weight[1:] != weight[:-1])
    last = np.concatenate([first[1:], np.ones(min(len(first), 1), dtype=bool)])
    return Anchors(segment[first].astype(np.int32), starts[first], ends[last], weight[first])


def classify_record(record: str, length: int, annotation: Annotation) -> tuple[np.ndarray, np.ndarray]:
    """Divide a record into the classes of its bases.

    A base is of the first class that fits: of an exon of any transcript, else of an intron of one, else it lies between
    genes. Repeats are no class of this table: where a genome has soft masks, its letters say them.

    Args:
        record: its name.
        length: bp.
        annotation: of the genome.

    Returns:
        Spans, int64 [n, 2], sorted, which cover the record; the class of each, int8 [n], index of `CLASSES`. Of a
        record that the annotation does not name, none at all: nobody knows then what it has.
    """
    nothing = np.zeros((0, 2), dtype=np.int64)
    if record not in annotation.classified:
        return nothing, np.zeros(0, dtype=np.int8)
    exons, introns = annotation.exons[record], annotation.introns[record]
    rest = invert_spans(merge_spans(np.concatenate([exons, introns])), 0, length)
    spans = np.concatenate([exons, introns, rest])
    kinds = np.repeat(np.arange(3, dtype=np.int8), [len(exons), len(introns), len(rest)])
    order = np.argsort(spans[:, 0])
    return spans[order], kinds[order]


def is_bed(file: str | Path) -> bool:
    """Whether a file is a BED file, by its name; else it is read as GFF3 or GTF."""
    return bool(_BED.search(str(file)))


def _find_kind(kind: str | None) -> str:
    """Return what a type of a file is here; where a BED file has no types, all is genes."""
    if kind is None:
        return "gene"
    kinds = (("gene", _GENE), ("exon", _EXON), ("transcript", _TRANSCRIPT))
    return next((name for name, pattern in kinds if pattern.fullmatch(kind)), "other")


def _read_kinds(file: str | Path) -> tuple[_Rows, str]:
    """Read the genes, transcripts and exons of a file; return them, and which of them are its genes."""
    rows = _Rows()
    for kind, name, start, end, line in _stream_intervals(file):
        rows.add(_find_kind(kind), name, start, end, line)
    if not (rows.has("gene") or rows.has("transcript")) and rows.has("exon") and not is_bed(file):
        for name, start, end, line in _join_exons(file):
            rows.add("gene", name, start, end, line)
    for kind in ("gene", "transcript"):
        if rows.has(kind):
            return rows, kind
    raise InputError(f"{file}: it has no gene, transcript or exon; is it an annotation of genes?")


def _stream_intervals(file: str | Path) -> Iterator[tuple[str | None, str, int, int, int]]:
    """Yield type (None where a BED file has none), contig, start, end and line of each interval of a file."""
    if is_bed(file):
        for region, kind in stream_regions(file, "type"):
            yield kind, region.chrom, region.start, region.end, region.line
        return
    circles: dict[str, int] = {}
    for feature in read_features(file):
        length = circles.get(feature.seqid)
        if length is None and feature.start == 0 and feature.attributes.get("Is_circular") == ("true",):
            circles[feature.seqid] = feature.end
        if length is not None and feature.start < length < feature.end:
            # Across the origin of a circle, which GFF3 writes as an end past it.
            yield feature.type, feature.seqid, feature.start, length, feature.line
            yield feature.type, feature.seqid, 0, min(feature.end - length, length), feature.line
        else:
            yield feature.type, feature.seqid, feature.start, feature.end, feature.line


def _join_exons(file: str | Path) -> Iterator[tuple[str, int, int, int]]:
    """Yield contig, start, end and line of the genes, or unnamed ones' transcripts, of a file that has exons only."""
    reach: dict[tuple[str, str], list[int]] = {}
    for feature in read_features(file):
        if _find_kind(feature.type) == "exon":
            values = feature.attributes
            name = next((values[key][0] for key in _OWNERS if values.get(key)), "")
            one = reach.setdefault(
                (feature.seqid, name or str(feature.line)), [feature.start, feature.end, feature.line]
            )
            one[:2] = min(one[0], feature.start), max(one[1], feature.end)
    for (seqid, _), (start, end, line) in reach.items():
        yield seqid, start, end, line


def _match(file: str | Path, rows: _Rows, records: Records) -> dict[str, list[Part]]:
    """Return the records by contig of a file.

    Raises:
        `InputError`: none is there; an interval past the end of its contig.
    """
    names = rows.list_names()
    if not names:
        raise InputError(f"{file}: the file has no intervals")
    found, doubts = records.match(dict.fromkeys(names))
    if not found:
        name, doubt = max(doubts.items(), key=lambda one: bool(one[1]))
        told = (
            f"{file}: the genome {records.genome} has none of its contigs, as {name!r}; it has "
            f"{shorten(', '.join(records.lengths), 80)}. {doubt or 'Is it of another assembly?'}"
        )
        # A name that is nearly one of the genome is a fault, whatever other files have.
        raise InputError(told) if doubt else OtherContigs(told, str(file), rows.count(names))
    for name, several in found.items():
        for part in several:
            if part.contig == part.record and (far := rows.find_past(name, part.end)):
                start, end, line = far
                records.check_end([part], end, f"{file}, line {line}: interval {name}:{start}-{end} (from 0)")
    records.tell_renamed(str(file), found)
    records.tell_missing(str(file), rows.count(doubts), doubts)
    return found


def _join(spans: Mapping[str, Sequence[np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: merge_spans(np.concatenate(several)) for name, several in spans.items()}


def _cut_out(
    spans: Mapping[str, np.ndarray], parts: Mapping[str, Sequence[Part]], records: Records
) -> dict[str, np.ndarray]:
    """Return spans by record, of all records, of spans by contig."""
    found = {record: [np.zeros((0, 2), dtype=np.int64)] for record in records.lengths}
    for name, several in spans.items():
        for part in parts[name]:
            inside = intersect_spans(several, np.array([[part.start, part.end]]))
            if len(inside):
                found[part.record].append(inside - part.start)
    return _join(found)


__all__ = [
    "CLASSES",
    "Anchors",
    "Annotation",
    "Segments",
    "classify_record",
    "cut_segments",
    "is_bed",
    "read_annotation",
    "read_spans",
    "weigh_anchors",
]
