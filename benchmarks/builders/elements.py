"""Tasks of the parts of genes: elements, exons and introns, coding and intergenic sequence, the species of a part.

Bases of one strand only decide what a row is, but for what lies between genes, which is free of both. A row that
another transcript of its strand makes another class is left out. What is meant by a part: `transcripts.py`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from gengram.errors import InputError
from gengram.files import check_input_files
from gengram.training.corpus.spans import invert_spans, meet_spans, merge_spans, subtract_spans

from .folder import Built, Recipe, check_task_folder
from .rows import COLUMNS, Choice, Genome, build_task, check_models, open_genome
from .species import name_species
from .splits import Division
from .transcripts import Gene, GeneModels, Transcript, iterate_spans, read_gene_models

ELEMENTS = ("3'UTR", "5'UTR", "exon", "protein-coding gene")
"""Classes of genomic elements, in the order of GeB's labels."""
CLASSES = ("exon", "intron", "intergenic")

_AMBIGUOUS = "of another class by another transcript of the strand"
_SHORT = "shorter than --min_length"
Place = tuple[str, str]


def build_genomic_element(
    genome: str,
    annotation: str,
    out: str,
    *,
    max_length: int = 1024,
    min_length: int = 60,
    per_class: int | str | None = None,
    max_n: float = 0.05,
    test_contigs: Sequence[str] | None = None,
    validation_contigs: Sequence[str] | None = None,
    block: int = 250_000,
    test_share: float = 0.2,
    validation_share: float = 0.1,
    seed: int = 0,
    name: str = "genomic_element_classification",
    format: str = "csv.gz",
    assembly: str | None = None,
    license: str | None = None,
    overwrite: bool = False,
) -> Built:
    """Build a task of four classes, `ELEMENTS`, of parts of protein-coding genes.

    A UTR row is the part of a UTR in one exon, free of coding sequence and of the other UTR on its strand; an exon row
    is an exon that is coding as a whole, free of UTRs; a gene row is a gene. Of a longer one the middle is taken.

    Args:
        genome: FASTA file.
        annotation: see `read_gene_models`.
        out: the folder of tasks.
        max_length: of a row, in bp.
        min_length: shorter ones are left out.

    The others are the arguments of the command.

    Raises:
        `InputError`: see `read_gene_models` and `build_task`; no coding sequence or no UTR.
    """
    opened, models = _open(genome, annotation, out, name, overwrite)
    left_out = dict(models.skipped)
    tables = [
        _list_parts(models, part, label, left_out) for label, part in enumerate(("three_prime_utr", "five_prime_utr"))
    ]
    for what, table in zip(("3' UTR", "5' UTR"), tables):
        models.require(f"coding transcript with a {what}", len(table) > 0)
    tables.append(_list_parts(models, "exons", 2, left_out))
    coding = [gene for gene in models.genes if gene.coding and gene.strand in ("+", "-")]
    tables.append(_tabulate((one.chrom, one.start, one.end, one.strand, 3, one.name, one.line) for one in coding))
    rows = _fit(pd.concat(tables, ignore_index=True), min_length, max_length, left_out)
    recipe = Recipe(
        "genomic-element",
        "Classification of genomic elements",
        "A row is the part of a 3' or 5' UTR in one exon, an exon that is coding as a whole, or a protein-coding gene, "
        f"on the strand of its transcript; of what is longer than {max_length:,} bp, the middle. UTRs hold no coding "
        "base of any transcript of their strand, and exons no base of a UTR.",
        ELEMENTS,
        files=[genome, annotation],
        settings={"max_length": max_length, "min_length": min_length}
        | _list_settings(per_class, max_n, block, test_share, validation_share, seed),
        problems=[
            "The length of a row alone tells something about its class: genes are nearly all as long as they may be.",
            "A gene holds exons and UTRs: the classes are ways of cutting, not only kinds of sequence.",
        ],
        assembly=assembly,
        license=license,
        test_contigs=test_contigs,
        validation_contigs=validation_contigs,
    )
    return build_task(
        [(opened, rows)],
        recipe,
        Choice(per_class, max_n),
        Division(block, test_share, validation_share, seed),
        out=out,
        name=name,
        format=format,
        overwrite=overwrite,
        left_out=left_out,
    )


def build_exon_intron(
    genome: str,
    annotation: str,
    out: str,
    *,
    length: int = 200,
    classes: Sequence[str] = CLASSES,
    per_class: int | str | None = None,
    max_n: float = 0.05,
    test_contigs: Sequence[str] | None = None,
    validation_contigs: Sequence[str] | None = None,
    block: int = 250_000,
    test_share: float = 0.2,
    validation_share: float = 0.1,
    seed: int = 0,
    name: str = "exon_intron_intergenic",
    format: str = "csv.gz",
    assembly: str | None = None,
    license: str | None = None,
    overwrite: bool = False,
) -> Built:
    """Build a task of windows of one length that lie in exons, in introns, or between genes as a whole.

    Args:
        genome, annotation, out: see `build_genomic_element`.
        length: of a window, in bp. Windows do not overlap; as many as fit lie in the middle of a stretch.
        classes: two or three of `CLASSES`.

    The others are the arguments of the command. The strand of a window between genes is drawn.

    Raises:
        `InputError`: see `read_gene_models` and `build_task`; a class without a window.
    """
    chosen = [one for one in CLASSES if one in classes]
    if len(chosen) < 2:
        raise InputError("--classes: name two classes at least")
    opened, models = _open(genome, annotation, out, name, overwrite)
    models.require("transcript with a strand", bool(models.transcripts))
    exons = _gather(models, "exons")
    bodies = _join((one.chrom, one.strand, one.start, one.end) for one in models.transcripts)
    both = _join((chrom, ".", *span) for (chrom, _), spans in exons.items() for span in spans.tolist())
    stretches: dict[str, dict[Place, np.ndarray]] = {"exon": {}, "intron": {}}
    for place, spans in exons.items():
        other = exons.get((place[0], _turn(place[1])), _nothing())
        stretches["exon"][place] = subtract_spans(spans, other)
        # What is an exon on either strand, or in a transcript of the other one, is no clear intron.
        inside = subtract_spans(bodies[place], both[place[0], "."])
        stretches["intron"][place] = subtract_spans(inside, bodies.get((place[0], _turn(place[1])), _nothing()))
    stretches["intergenic"] = _find_intergenic(opened, models)
    rows = _tile_classes(stretches, chosen, length, seed)
    recipe = Recipe(
        "exon-intron",
        "Exons, introns and intergenic sequence" if len(chosen) == 3 else f"{chosen[0]} or {chosen[1]}".capitalize(),
        f"Windows of {length:,} bp that do not overlap. Exon: in exons of transcripts of one strand, and in none of "
        "the other; intron: in a transcript, and in no exon of either strand and no transcript of the other one; "
        "intergenic: in no gene and no transcript, of either strand by draw.",
        chosen,
        files=[genome, annotation],
        settings={"length": length} | _list_settings(per_class, max_n, block, test_share, validation_share, seed),
        problems=["What an annotation does not know counts as intron or intergenic."],
        assembly=assembly,
        license=license,
        test_contigs=test_contigs,
        validation_contigs=validation_contigs,
    )
    return build_task(
        [(opened, rows)],
        recipe,
        Choice(per_class, max_n),
        Division(block, test_share, validation_share, seed),
        out=out,
        name=name,
        format=format,
        overwrite=overwrite,
        left_out=models.skipped,
    )


def build_coding_vs_intergenic(
    genome: str,
    annotation: str,
    out: str,
    *,
    length: int = 200,
    per_class: int | str | None = None,
    max_n: float = 0.05,
    test_contigs: Sequence[str] | None = None,
    validation_contigs: Sequence[str] | None = None,
    block: int = 250_000,
    test_share: float = 0.2,
    validation_share: float = 0.1,
    seed: int = 0,
    name: str = "coding_vs_intergenic",
    format: str = "csv.gz",
    assembly: str | None = None,
    license: str | None = None,
    overwrite: bool = False,
) -> Built:
    """Build a task of windows of one length that lie in coding sequence, or between genes, as a whole.

    Coding windows are cut from the genome, each inside of one exon, where GB's demo cuts them from transcripts.

    Args:
        genome, annotation, out: see `build_genomic_element`.
        length: of a window, in bp.

    The others are the arguments of the command. The strand of a window between genes is drawn.

    Raises:
        `InputError`: see `read_gene_models` and `build_task`; no coding sequence.
    """
    opened, models = _open(genome, annotation, out, name, overwrite)
    coding = _gather(models, "cds")
    models.require("coding sequence (CDS; exons alone do not tell what is coding)", bool(coding))
    stretches = {
        # Where both strands are coding, the row is of neither.
        "coding": {
            place: subtract_spans(spans, coding.get((place[0], _turn(place[1])), _nothing()))
            for place, spans in coding.items()
        },
        "intergenic": _find_intergenic(opened, models),
    }
    rows = _tile_classes(stretches, ["intergenic", "coding"], length, seed)
    recipe = Recipe(
        "coding-vs-intergenic",
        "Coding or intergenic sequence",
        f"Windows of {length:,} bp that do not overlap. Coding: in the coding sequence of one exon, on the strand of "
        "its transcript; intergenic: in no gene and no transcript, of either strand by draw.",
        ["intergenic", "coding"],
        files=[genome, annotation],
        settings={"length": length} | _list_settings(per_class, max_n, block, test_share, validation_share, seed),
        problems=["What an annotation does not know counts as intergenic."],
        assembly=assembly,
        license=license,
        test_contigs=test_contigs,
        validation_contigs=validation_contigs,
    )
    return build_task(
        [(opened, rows)],
        recipe,
        Choice(per_class, max_n),
        Division(block, test_share, validation_share, seed),
        out=out,
        name=name,
        format=format,
        overwrite=overwrite,
        left_out=models.skipped,
    )


def build_species_element(
    genome: Sequence[tuple[str, str]],
    annotation: Sequence[tuple[str, str]],
    out: str,
    *,
    element: str = "exon",
    max_length: int = 1024,
    min_length: int = 60,
    per_class: int | str | None = None,
    max_n: float = 0.05,
    test_contigs: Sequence[str] | None = None,
    validation_contigs: Sequence[str] | None = None,
    block: int = 250_000,
    test_share: float = 0.2,
    validation_share: float = 0.1,
    seed: int = 0,
    name: str = "multi_species_element",
    format: str = "csv.gz",
    assembly: str | None = None,
    license: str | None = None,
    overwrite: bool = False,
) -> Built:
    """Build a task whose rows are exons, or UTRs, of several species, and whose class is the species.

    Args:
        genome, annotation: (species, file) of each.
        out: the folder of tasks.
        element: `exon`, any exon of any transcript; `five_prime_UTR` or `three_prime_UTR`, as in
            `build_genomic_element`.
        max_length, min_length: see `build_genomic_element`.

    The others are the arguments of the command.

    Raises:
        `InputError`: see `read_gene_models` and `build_task`; a species without an annotation or without the element.
    """
    genomes, annotations = name_species(genome), name_species(annotation, "--annotation")
    for species in {**genomes, **annotations}:
        for flag, files in (("--genome", genomes), ("--annotation", annotations)):
            if species not in files:
                raise InputError(f"{flag}: none is given for {species!r}; give each species both files")
    check_input_files(*genomes.values(), *annotations.values())
    check_task_folder(out, name, overwrite)
    left_out: dict[str, int] = {}
    sources: list[tuple[Genome, pd.DataFrame]] = []
    for label, species in enumerate(genomes):
        opened, models = _open(genomes[species], annotations[species], out, name, overwrite)
        for why, count in models.skipped.items():
            left_out[why] = left_out.get(why, 0) + count
        part = {"exon": "exons", "five_prime_UTR": "five_prime_utr", "three_prime_UTR": "three_prime_utr"}[element]
        if part == "exons":
            rows = _tabulate(
                (one.chrom, *span, one.strand, label, one.name, one.line)
                for one, span in iterate_spans(models.transcripts, "exons")
            )
        else:
            rows = _list_parts(models, part, label, left_out)
        models.require(f"row of {element}", len(rows) > 0)
        sources.append((opened, _fit(rows, min_length, max_length, left_out)))
    shown = {"exon": "exons", "five_prime_UTR": "5' UTRs", "three_prime_UTR": "3' UTRs"}[element]
    recipe = Recipe(
        "species-element",
        f"Species of {shown}",
        f"A row is one of the {shown} of a species' genes, on the strand of its transcript; of what is longer than "
        f"{max_length:,} bp, the middle. The class is the species.",
        list(genomes),
        files=[*genomes.values(), *annotations.values()],
        settings={"element": element, "max_length": max_length, "min_length": min_length}
        | _list_settings(per_class, max_n, block, test_share, validation_share, seed),
        problems=[
            "Species that are far from each other are told apart by the composition of bases alone.",
            "Orthologues of near species are alike, and lie in different splits.",
        ],
        assembly=assembly,
        license=license,
        test_contigs=test_contigs,
        validation_contigs=validation_contigs,
    )
    return build_task(
        sources,
        recipe,
        Choice(per_class, max_n),
        Division(block, test_share, validation_share, seed),
        out=out,
        name=name,
        format=format,
        overwrite=overwrite,
        left_out=left_out,
    )


def _open(genome: str, annotation: str, out: str, name: str, overwrite: bool) -> tuple[Genome, GeneModels]:
    """Return a genome and its annotation; what can be refused before they are read is."""
    check_input_files(genome, annotation)
    check_task_folder(out, name, overwrite)
    models = read_gene_models(annotation)
    opened = open_genome(genome, annotation)
    check_models(opened, models)
    return opened, models


def _list_settings(
    per_class: int | str | None, max_n: float, block: int, test_share: float, validation_share: float, seed: int
) -> dict[str, object]:
    return {
        "per_class": "all" if per_class is None else per_class,
        "max_n": max_n,
        "block": block,
        "test_share": test_share,
        "validation_share": validation_share,
        "seed": seed,
    }


def _tabulate(rows: Iterable[tuple]) -> pd.DataFrame:
    """Return a table with `COLUMNS`; intervals that are there twice are once, with the name of the first."""
    table = pd.DataFrame(list(rows), columns=list(COLUMNS))
    table = table.astype({"start": np.int64, "end": np.int64, "label": np.int64, "line": np.int64})
    return table.drop_duplicates(["chrom", "start", "end", "strand", "label"], ignore_index=True)


def _list_parts(models: GeneModels, part: str, label: int, left_out: dict[str, int]) -> pd.DataFrame:
    """Return the UTRs or coding exons of transcripts that no other transcript of their strand makes another class."""
    if part == "exons":
        coding = {id(one): merge_spans(np.array(one.cds, dtype=np.int64)) for one in models.transcripts if one.cds}
        found = [
            (one, span)
            for one, span in iterate_spans(models.transcripts, "exons")
            if one.cds and any(start <= span[0] and span[1] <= end for start, end in coding[id(one)].tolist())
        ]
        against = ("five_prime_utr", "three_prime_utr")
    else:
        found = list(iterate_spans(models.transcripts, part))
        other = {"three_prime_utr": "five_prime_utr", "five_prime_utr": "three_prime_utr"}[part]
        against = ("cds", other)
    rows = _tabulate((one.chrom, *span, one.strand, label, one.name, one.line) for one, span in found)
    others = [_gather(models, one) for one in against]
    clear = np.ones(len(rows), dtype=bool)
    for place, here in rows.groupby(["chrom", "strand"], sort=False):
        spans = here[["start", "end"]].to_numpy(np.int64)
        for one in others:
            if place in one:
                clear[here.index] &= ~meet_spans(spans, one[place])
    left_out[_AMBIGUOUS] = left_out.get(_AMBIGUOUS, 0) + int((~clear).sum())
    return rows[clear]


def _fit(rows: pd.DataFrame, min_length: int, max_length: int, left_out: dict[str, int]) -> pd.DataFrame:
    """Leave short rows out, and take the middle of long ones."""
    if min_length > max_length:
        raise InputError(f"--min_length {min_length} is above --max_length {max_length}")
    lengths = rows["end"] - rows["start"]
    left_out[_SHORT] = left_out.get(_SHORT, 0) + int((lengths < min_length).sum())
    rows, lengths = rows[lengths >= min_length], lengths[lengths >= min_length]
    cut = (lengths - max_length).clip(lower=0) // 2
    start = rows["start"] + cut
    rows = rows.assign(start=start, end=start + lengths.clip(upper=max_length))
    return rows.drop_duplicates(["chrom", "start", "end", "strand", "label"], ignore_index=True)


def _join(rows: Iterable[tuple[str, str, int, int]]) -> dict[Place, np.ndarray]:
    """Return the union of spans by contig and strand."""
    gathered: dict[Place, list[tuple[int, int]]] = defaultdict(list)
    for chrom, strand, start, end in rows:
        gathered[chrom, strand].append((start, end))
    return {place: merge_spans(np.array(spans, dtype=np.int64)) for place, spans in gathered.items()}


def _gather(models: GeneModels, part: str) -> dict[Place, np.ndarray]:
    """Return the bases of a part of all transcripts, by contig and strand."""
    return _join((one.chrom, one.strand, *span) for one, span in iterate_spans(models.transcripts, part))


def _find_intergenic(genome: Genome, models: GeneModels) -> dict[Place, np.ndarray]:
    """Return what lies in no gene and no transcript of either strand, of the contigs that the annotation names."""
    bodies: list[Gene | Transcript] = [*models.genes, *models.transcripts]
    taken = _join((one.chrom, ".", one.start, one.end) for one in bodies)
    found, _ = genome.records.match({chrom: int(spans[-1, 1]) for (chrom, _), spans in taken.items()})
    free: dict[Place, np.ndarray] = {}
    for chrom, parts in found.items():
        spans = [invert_spans(taken[chrom, "."], part.start, part.end) for part in parts]
        free[chrom, "."] = merge_spans(np.concatenate(spans))
    return free


def _tile_classes(
    stretches: Mapping[str, Mapping[Place, np.ndarray]], classes: Sequence[str], length: int, seed: int
) -> pd.DataFrame:
    """Return windows of one length of each class; as many as fit lie in the middle of a stretch."""
    rng = np.random.default_rng(seed)
    tables: list[pd.DataFrame] = []
    for label, kind in enumerate(classes):
        before = len(tables)
        for (chrom, strand), spans in sorted(stretches[kind].items()):
            counts = (spans[:, 1] - spans[:, 0]) // length
            first = spans[:, 0] + (spans[:, 1] - spans[:, 0] - counts * length) // 2
            within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            starts = np.repeat(first, counts) + within * length
            if len(starts):
                drawn = np.where(rng.random(len(starts)) < 0.5, "+", "-")
                names = [f"{kind}:{chrom}:{start}" for start in starts.tolist()]
                strands = drawn if strand == "." else strand
                tables.append(
                    pd.DataFrame(
                        {
                            "chrom": chrom,
                            "start": starts,
                            "end": starts + length,
                            "strand": strands,
                            "label": label,
                            "name": names,
                            "line": 0,
                        }
                    )
                )
        if len(tables) == before:
            raise InputError(f"no stretch of class {kind} has {length:,} bp; give a smaller --length")
    return pd.concat(tables, ignore_index=True)


def _turn(strand: str) -> str:
    return {"+": "-", "-": "+"}[strand]


def _nothing() -> np.ndarray:
    return np.zeros((0, 2), dtype=np.int64)


__all__ = [
    "CLASSES",
    "ELEMENTS",
    "build_coding_vs_intergenic",
    "build_exon_intron",
    "build_genomic_element",
    "build_species_element",
]
