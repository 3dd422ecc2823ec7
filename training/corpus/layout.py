"""Where may windows of a corpus lie, what are they drawn by, and what is there? Tables of all records.

What the rules of a recipe name (files of intervals, annotations, variants) is read before any letters are stored.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from gengram.errors import InputError
from gengram.progress import tell
from gengram.training.corpus.haplotypes import (
    Choice,
    Tally,
    choose_haplotypes,
    describe_counts,
    stream_edits,
    write_haplotypes,
)
from gengram.training.corpus.leak import Common, CommonKmers, Shared, SharedStretches, Stretch
from gengram.training.corpus.recipe import GivenRecipe
from gengram.training.corpus.records import OtherContigs, Records
from gengram.training.corpus.regions import (
    CLASSES,
    Annotation,
    Segments,
    classify_record,
    cut_segments,
    read_annotation,
    read_spans,
    weigh_anchors,
)
from gengram.training.corpus.sources import LEFT_OUT, Record
from gengram.training.corpus.spans import merge_spans
from gengram.training.corpus.store import SPLITS

SEGMENTS = pa.schema([("contig", pa.int32()), ("start", pa.int64()), ("end", pa.int64()), ("split", pa.int8())])
ANCHORS = pa.schema([("segment", pa.int32()), ("start", pa.int64()), ("end", pa.int64()), ("weight", pa.float32())])
KINDS = pa.schema(
    [
        ("contig", pa.int32()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("class", pa.dictionary(pa.int8(), pa.string())),
    ]
)
LETTERS = ("ACGT", "N", "IUPAC", "soft_masked")
"""What letters are counted as; those in lower case count once more, as soft-masked."""
SHARED_LENGTH = 500
"""Length in bp of the stretches that are looked for where a recipe cuts none out."""

_ACGT, _ANY, _LOWER = np.zeros(256, dtype=bool), np.zeros(256, dtype=bool), np.zeros(256, dtype=bool)
_ACGT[list(b"ACGTacgt")] = _ANY[list(b"Nn")] = _LOWER[ord("a") : ord("z") + 1] = True

Read = Callable[[int], np.ndarray]
"""Gives the letters of a record by its number, uint8."""


class Rules(NamedTuple):
    """What a recipe says of a genome, read from its files.

    Attributes:
        records: of the genome, for their names.
        keep, drop: spans by record; `keep` is None where all is kept.
        annotation: None where there is none.
        zone, genes: spans by record, of what windows are drawn by and of genes; None where no rule asks for it.
        gene_weight, soft_masked_weight: of anchors.
        choice: which haplotypes are made of the genome's files of variants; None: none.
        variants: these files.
        contigs: what contigs of these are.
    """

    records: Records
    keep: Mapping[str, np.ndarray] | None
    drop: Mapping[str, np.ndarray]
    annotation: Annotation | None
    zone: Mapping[str, np.ndarray] | None
    genes: Mapping[str, np.ndarray] | None
    gene_weight: float
    soft_masked_weight: float
    choice: Choice | None
    variants: Sequence[Path]
    contigs: Mapping[str, tuple[str, int]]


def read_rules(given: GivenRecipe, number: int, lengths: Mapping[str, int]) -> Rules:
    """Read the files of a genome of a recipe.

    Args:
        given: the recipe.
        number: of the genome.
        lengths: of its records, in bp, those that are left out included.

    Raises:
        `InputError`: see `read_spans`, `read_annotation` and `choose_haplotypes`.
    """
    genome = given.recipe.genomes[number]
    records = Records(lengths, genome.species)
    spans: dict[str, dict[str, np.ndarray] | None] = {"keep": None, "drop": None}
    for key in spans:
        for i, region in enumerate(getattr(genome, key)):
            files = [path for _, path in given.find_files("genomes", number, key, i, "file")]
            others: list[OtherContigs] = []
            for path in files:
                with records.skip_others(others):
                    spans[key] = _unite(spans[key], read_spans(path, records, region.types, region.flank))
            records.judge_others(others, len(files))
    annotation = None
    if genome.annotation:
        files = [path for _, path in given.find_files("genomes", number, "annotation")]
        annotation = read_annotation(files, records)
    near, centred = genome.near_genes, genome.gene_centred
    choice, variants = None, [path for _, path in given.find_files("genomes", number, "vcf")]
    if variants:
        seed = given.recipe.seed
        choice = choose_haplotypes(variants, genome.samples, genome.haplotypes, seed, genome.unphased)
    return Rules(
        records,
        spans["keep"],
        spans["drop"] or {},
        annotation,
        annotation.find_genes(near) if annotation and near is not None else None,
        annotation.find_genes() if annotation and centred is not None else None,
        1.0 if centred is None else centred,
        1.0 if genome.soft_masked_weight is None else genome.soft_masked_weight,
        choice,
        variants,
        {name: (one.contig, one.offset) for name, one in genome.vcf_contigs.items()},
    )


def name_haplotypes(given: GivenRecipe, rules: Sequence[Rules]) -> list[str]:
    """Return the names of all haplotypes of a corpus; with the species where two genomes have the same ones."""
    several = [list(one.choice.names) if one.choice else [] for one in rules]
    names = [name for names in several for name in names]
    if len(set(names)) < len(names):
        species = [genome.species for genome in given.recipe.genomes]
        names = [f"{species[number]}.{name}" for number, names in enumerate(several) for name in names]
    if len(set(names)) < len(names):
        twin = next(name for name in names if names.count(name) > 1)
        raise InputError(
            f"{given.path}: two genomes of one species have haplotypes of one name, {twin!r}: give all files of "
            "variants to one genome"
        )
    return names


class Layout(NamedTuple):
    """The tables of a corpus, and what was found on the way.

    Attributes:
        segments, anchors: of `SEGMENTS` and `ANCHORS`.
        classes: of `KINDS`; None where no annotation names any.
        letters: counts by split, see `LETTERS`.
        shared: stretches of training that were cut out, or were only found, see `cut`.
        cut: whether they were cut out.
        length: bp of these at least.
        common: 31-mers that training has in common with each split and with what is left out.
    """

    segments: pa.Table
    anchors: pa.Table
    classes: pa.Table | None
    letters: dict[str, Counter[str]]
    shared: list[Shared]
    cut: bool
    length: int
    common: dict[str, Common]


def lay_out(
    given: GivenRecipe,
    records: Sequence[Record],
    rules: Sequence[Rules],
    read: Read,
    left_out: Sequence[Stretch],
    done: Callable[[int], Any],
) -> Layout:
    """Find the segments, anchors and classes of all records.

    Args:
        given: the recipe.
        records: by their numbers.
        rules: of the recipe's genomes.
        read: the letters of a record that is not left out.
        left_out: letters that are not stored and are kept apart from training all the same.
        done: is told of bp that are done; twice in all.

    Raises:
        `InputError`: no base is left for training; what is held out has no bases.
    """
    recipe = given.recipe
    cut_short = [
        _cut(record, rules[record.genome], read(contig), recipe.max_n_run) if record.split != LEFT_OUT else None
        for contig, record in _track(records, done)
    ]
    held = list(_list_held(cut_short, read))
    _refuse_empty(given, records, cut_short)
    length = recipe.max_shared or SHARED_LENGTH
    kept_apart = [*held, *left_out]
    stretches, kmers = SharedStretches(kept_apart, length), CommonKmers(kept_apart)
    parts: dict[str, list[tuple[np.ndarray, ...]]] = {"segments": [], "anchors": [], "classes": []}
    letters = {split: Counter[str]() for split in SPLITS}
    masked = Counter[int]()
    shared: list[Shared] = []
    first = 0
    for contig, record in _track(records, done):
        segments = cut_short[contig]
        if segments is None:
            continue
        rule, whole = rules[record.genome], read(contig)
        found = [
            one for start, end in _list_segments(segments, 0) for one in stretches.find(contig, start, whole[start:end])
        ]
        shared += found
        if found and recipe.max_shared:
            spans = np.array([(one.start, one.end) for one in found], dtype=np.int64)
            segments = _cut(record, rule, whole, recipe.max_n_run, spans)
        for start, end in _list_segments(segments, 0):
            kmers.look(whole[start:end])
        for number, split in enumerate(SPLITS):
            counts = _count_split(record, whole, number)
            letters[split] += counts
            masked[record.genome] += counts["soft_masked"]
        anchors = weigh_anchors(
            segments,
            whole,
            zone=None if rule.zone is None else rule.zone[record.name],
            genes=None if rule.genes is None else rule.genes[record.name],
            gene_weight=rule.gene_weight,
            soft_masked_weight=rule.soft_masked_weight,
        )
        parts["segments"].append((np.full(len(segments.start), contig), *segments))
        parts["anchors"].append((first + anchors.segment, *anchors[1:]))
        first += len(segments.start)
        if rule.annotation is not None:
            spans, kinds = classify_record(record.name, record.length, rule.annotation)
            parts["classes"].append((np.full(len(kinds), contig), spans[:, 0], spans[:, 1], kinds))
    tables = {
        name: _tabulate(schema, parts[name])
        for name, schema in (("segments", SEGMENTS), ("anchors", ANCHORS), ("classes", KINDS))
        if parts[name]
    }
    split_of = tables["segments"]["split"].to_numpy()[tables["anchors"]["segment"].to_numpy()]
    if not (split_of == SPLITS.index("train")).any():
        raise InputError(
            f"{given.path}: no base is left that windows of training could be drawn by; hold out, leave out or drop "
            "less, or have fewer rules (near_genes, gene_centred, soft_masked_weight)"
        )
    for number, genome in enumerate(recipe.genomes):
        if genome.soft_masked_weight not in (None, 1) and not masked[number]:
            tell(f"{genome.species}: soft_masked_weight changes nothing: no letter is in lower case")
    classes = tables.get("classes")
    return Layout(
        tables["segments"],
        tables["anchors"],
        classes if classes is not None and len(classes) else None,  # genes of a BED file say no classes
        letters,
        shared,
        recipe.max_shared is not None,
        length,
        kmers.count(),
    )


def write_variants(
    path: Path,
    records: Sequence[Record],
    rules: Sequence[Rules],
    names: Sequence[str],
    read: Read,
    scratch: Path,
) -> list[dict[str, Any]]:
    """Write the edits of all haplotypes, see `write_haplotypes`.

    Args:
        path: of the table.
        records, rules: as in `lay_out`.
        names: of `name_haplotypes`.
        read: the letters of a record that is not left out.
        scratch: a folder for what is in between.

    Returns:
        What became of the variants of each genome that has some: its `species`, and see `Tally.count`.

    Raises:
        `InputError`: see `stream_edits`; no file of a genome has one of its contigs.
    """
    told: list[dict[str, Any]] = []

    def stream() -> Iterator[pa.Table]:
        first = 0
        for genome, rule in enumerate(rules):
            if rule.choice is None:
                continue
            mine = {record.name: contig for contig, record in enumerate(records) if record.genome == genome}

            def get(name: str, mine: dict[str, int] = mine) -> np.ndarray | None:
                return None if records[mine[name]].split == LEFT_OUT else read(mine[name])

            tally, others = Tally(), list[OtherContigs]()
            for file in rule.variants:
                with rule.records.skip_others(others):
                    for table in stream_edits(file, rule.choice, rule.records, mine, get, rule.contigs, tally):
                        shifted = pa.array(table["haplotype"].to_numpy() + first, pa.int32())
                        yield table.set_column(0, table.schema.field("haplotype"), shifted)
            rule.records.judge_others(others, len(rule.variants))
            told.append({"species": rule.records.genome, **tally.count()})
            tell(f"variants of {rule.records.genome}: {describe_counts(told[-1])}")
            first += len(rule.choice.names)

    for note in write_haplotypes(path, stream(), names, scratch):
        tell(f"haplotypes {note}")
    return told


def _cut(record: Record, rule: Rules, letters: np.ndarray, max_n_run: int, more: np.ndarray | None = None) -> Segments:
    """The segments of a record; `more` spans are dropped, too."""
    dropped = [record.find_spans(LEFT_OUT)]
    if record.name in rule.drop:
        dropped.append(rule.drop[record.name])
    if more is not None:
        dropped.append(more)
    return cut_segments(
        letters,
        max_n_run=max_n_run,
        held_out={number: record.find_spans(split) for number, split in enumerate(SPLITS) if number},
        keep=None if rule.keep is None else rule.keep[record.name],
        drop=merge_spans(np.concatenate(dropped)),
    )


def _track(records: Sequence[Record], done: Callable[[int], Any]) -> Iterator[tuple[int, Record]]:
    for contig, record in enumerate(records):
        yield contig, record
        done(record.length)


def _list_segments(segments: Segments, split: int) -> list[tuple[int, int]]:
    mine = segments.split == split
    return list(zip(segments.start[mine].tolist(), segments.end[mine].tolist()))


def _list_held(several: Sequence[Segments | None], read: Read) -> Iterator[Stretch]:
    for contig, segments in enumerate(several):
        if segments is not None and segments.split.any():
            letters = read(contig)
            for number, split in enumerate(SPLITS):
                for start, end in _list_segments(segments, number) if number else ():
                    yield Stretch(contig, start, letters[start:end], split)


def _refuse_empty(given: GivenRecipe, records: Sequence[Record], several: Sequence[Segments | None]) -> None:
    """Refuse what is held out for nothing."""
    for record, segments in zip(records, several):
        for number, split in enumerate(SPLITS):
            if segments is None or not number:
                continue
            for start, end in record.find_spans(split).tolist():
                mine = (segments.split == number) & (segments.start < end) & (segments.end > start)
                if not mine.any():
                    raise InputError(
                        f"{given.place('genomes', record.genome, 'hold_out', split)}: no base of {record.name!r} that "
                        f"is held out can be used ({start + 1:,} to {end:,}): it is all N, or dropped; hold out "
                        "something else"
                    )


def _count_split(record: Record, letters: np.ndarray, number: int) -> Counter[str]:
    if number:
        spans = record.find_spans(SPLITS[number])
        if not len(spans):
            return Counter()
    else:
        bounds = [0, *(end for span in record.spans for end in (span.start, span.end)), record.length]
        spans = np.array(bounds).reshape(-1, 2)
    counts = np.zeros(256, dtype=np.int64)
    for start, end in spans.tolist():
        counts += np.bincount(letters[start:end], minlength=256)
    acgt, unknown = int(counts[_ACGT].sum()), int(counts[_ANY].sum())
    return Counter(
        {
            "ACGT": acgt,
            "N": unknown,
            "IUPAC": int(counts.sum()) - acgt - unknown,
            "soft_masked": int(counts[_LOWER].sum()),
        }
    )


def _tabulate(schema: pa.Schema, several: Sequence[tuple[np.ndarray, ...]]) -> pa.Table:
    """A table of the columns of all records, one behind the other; classes are numbers in these."""
    arrays = []
    for field, columns in zip(schema, zip(*several)):
        joined = np.concatenate(columns)
        if pa.types.is_dictionary(field.type):
            arrays.append(pa.DictionaryArray.from_arrays(pa.array(joined, pa.int8()), pa.array(CLASSES)))
        else:
            arrays.append(pa.array(joined).cast(field.type))
    return pa.table(arrays, schema=schema)


def _unite(one: dict[str, np.ndarray] | None, other: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if one is None:
        return other
    return {record: merge_spans(np.concatenate([spans, other[record]])) for record, spans in one.items()}


__all__ = ["LETTERS", "Layout", "Rules", "lay_out", "name_haplotypes", "read_rules", "write_variants"]
