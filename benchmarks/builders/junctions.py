"""Splice sites of an annotation: donors, acceptors, and dinucleotides of genes that look like one and are none.

A row's middle is the cut between exon and intron: in a donor row the intron begins with letter `length // 2`, in an
acceptor row the exon does. `none` is GT or AG, at the place where a site would have it, in a transcript and on its
strand, that no transcript of the strand uses; so the two bases alone tell nothing.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from gengram.errors import InputError
from gengram.files import check_input_files
from gengram.genome.contigs import Part
from gengram.genome.fasta import read_fasta
from gengram.training.corpus.spans import cover, merge_spans

from .folder import Built, Recipe, check_task_folder
from .rows import COLUMNS, Choice, Genome, build_task, check_models, open_genome
from .splits import Division
from .transcripts import GeneModels, read_gene_models

SITES = ("none", "donor", "acceptor")
MIN_INTRON = 30
"""Shorter gaps between exons are no introns, as those of frameshifts in an assembly."""
_FEW_CANONICAL = 0.8
_NOTHING = np.zeros((0, 2), dtype=np.int64)
# At a cut, on the genome's strand: where the two bases of a donor and an acceptor are, and what they are.
_SIGNALS = {
    ("+", "donor"): (0, "GT"),
    ("+", "acceptor"): (-2, "AG"),
    ("-", "donor"): (-2, "AC"),
    ("-", "acceptor"): (0, "CT"),
}


def build_splice_sites(
    genome: str,
    annotation: str,
    out: str,
    *,
    length: int = 400,
    per_class: int | str | None = None,
    max_n: float = 0.05,
    test_contigs: Sequence[str] | None = None,
    validation_contigs: Sequence[str] | None = None,
    block: int = 250_000,
    test_share: float = 0.2,
    validation_share: float = 0.1,
    seed: int = 0,
    name: str = "splice_sites",
    format: str = "csv.gz",
    assembly: str | None = None,
    license: str | None = None,
    overwrite: bool = False,
) -> Built:
    """Build a task of three classes, `SITES`.

    Args:
        genome: FASTA file.
        annotation: see `read_gene_models`.
        out: the folder of tasks.
        length: of a row, in bp.

    The others are the arguments of the command.

    Raises:
        `InputError`: see `read_gene_models` and `build_task`; no transcript with two exons.
    """
    check_input_files(genome, annotation)
    check_task_folder(out, name, overwrite)
    if length < 4:
        raise InputError(f"--length {length}: a site and its two bases need 4 bp at least")
    models = read_gene_models(annotation)
    sites = list_sites(models)
    models.require("transcript with an intron", len(sites) > 0)
    opened = open_genome(genome, annotation)
    check_models(opened, models)
    decoys, canonical = _find_decoys(opened, models, sites, seed)
    cuts = pd.concat([sites, decoys], ignore_index=True)
    rows, at_ends = _make_windows(opened, cuts, length)
    remarks = []
    if canonical is not None:
        told = f"{100 * canonical:.1f} % of the donors are GT"
        remarks.append(told if canonical >= _FEW_CANONICAL else f"{told}: is the annotation of this assembly?")
    recipe = Recipe(
        "splice-sites",
        "Splice sites",
        f"Windows of {length:,} bp on the strand of a transcript. Donor and acceptor: the cut between exon and intron "
        "is in the middle; none: a GT or AG of a transcript that is no site, at the place where a site would have it.",
        SITES,
        files=[genome, annotation],
        settings={
            "length": length,
            "per_class": "all" if per_class is None else per_class,
            "max_n": max_n,
            "block": block,
            "test_share": test_share,
            "validation_share": validation_share,
            "seed": seed,
        },
        problems=["A site that the annotation does not know counts as none."],
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
        left_out={**models.skipped, "past the end of a contig or slice": at_ends},
        remarks=remarks,
    )


def list_sites(models: GeneModels) -> pd.DataFrame:
    """Return the cuts of all introns of at least `MIN_INTRON` bp, each once.

    Returns:
        Columns `chrom`, `cut` (int64: the base behind the cut, from 0), `strand`, `label` (of `SITES`), `name`, `line`.
    """
    found = []
    for one in models.transcripts:
        for (_, end), (start, _) in zip(one.exons, one.exons[1:]):
            if start - end >= MIN_INTRON:
                first, last = (1, 2) if one.strand == "+" else (2, 1)
                found.append((one.chrom, end, one.strand, first, one.name, one.line))
                found.append((one.chrom, start, one.strand, last, one.name, one.line))
    table = pd.DataFrame(found, columns=["chrom", "cut", "strand", "label", "name", "line"])
    table = table.astype({"cut": np.int64, "label": np.int64, "line": np.int64})
    return table.drop_duplicates(["chrom", "cut", "strand", "label"], ignore_index=True)


def _match(genome: Genome, names: Sequence[str]) -> dict[str, list[Part]]:
    found, _ = genome.records.match(dict.fromkeys(names))
    return found


def _find_decoys(
    genome: Genome, models: GeneModels, sites: pd.DataFrame, seed: int
) -> tuple[pd.DataFrame, float | None]:
    """Return cuts of class `none`, half as many as a record has sites, and the share of donors that are canonical."""
    rng = np.random.default_rng(seed)
    matched = _match(genome, sites["chrom"].unique())
    parts = {part.record: (chrom, part) for chrom, several in matched.items() for part in several}
    gathered: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for one in models.transcripts:
        gathered.setdefault((one.chrom, one.strand), []).append((one.start, one.end))
    bodies = {place: merge_spans(np.array(spans, dtype=np.int64)) for place, spans in gathered.items()}
    by_chrom = dict(iter(sites.groupby("chrom", sort=False)))
    found: list[pd.DataFrame] = []
    canonical = donors = 0
    for _, header, text in read_fasta(genome.fasta):
        if (place := parts.get(header.split()[0])) is None:
            continue
        chrom, part = place
        here = by_chrom[chrom]
        here = here[(here["cut"] >= part.start + 2) & (here["cut"] <= part.end - 2)]
        letters = np.frombuffer(text.upper().encode("ascii", "replace"), dtype=np.uint8)
        for (strand, kind), (offset, bases) in _SIGNALS.items():
            of_strand = here[here["strand"] == strand]
            is_alike = (letters[:-1] == ord(bases[0])) & (letters[1:] == ord(bases[1]))
            # A table of the record's places: looking a cut up in it is much quicker than a search of all cuts.
            is_site = np.zeros(len(letters) + 3, dtype=bool)
            is_site[of_strand["cut"].to_numpy() - part.start] = True
            alike = np.flatnonzero(is_alike)
            cuts = alike - offset + part.start
            if kind == "donor":
                known = of_strand.loc[of_strand["label"] == 1, "cut"].to_numpy()
                donors += len(known)
                canonical += int(is_alike[known + offset - part.start].sum())
            free = cover(bodies.get((chrom, strand), _NOTHING), cuts)
            free &= ~is_site[cuts - part.start]
            pool = cuts[free]
            count = min(len(pool), (len(of_strand) + (kind == "donor") * 2) // 4)
            drawn = np.sort(rng.choice(pool, count, replace=False)) if count else pool[:0]
            names = [f"none:{'GT' if kind == 'donor' else 'AG'}:{part.contig}:{cut}" for cut in drawn.tolist()]
            found.append(
                pd.DataFrame(
                    {"chrom": chrom, "cut": drawn, "strand": strand, "label": 0, "name": names, "line": 0}
                ).astype({"cut": np.int64, "label": np.int64, "line": np.int64})
            )
    empty = sites[:0]
    return pd.concat([empty, *found], ignore_index=True), canonical / donors if donors else None


def _make_windows(genome: Genome, cuts: pd.DataFrame, length: int) -> tuple[pd.DataFrame, int]:
    """Return rows around cuts, and how many reach over the end of their contig or slice."""
    before = np.where(cuts["strand"] == "+", length // 2, length - length // 2)
    rows = cuts.assign(start=cuts["cut"] - before, end=cuts["cut"] - before + length)[list(COLUMNS)]
    fits = np.ones(len(rows), dtype=bool)
    for chrom, parts in _match(genome, rows["chrom"].unique()).items():
        here = (rows["chrom"] == chrom).to_numpy()
        inside = np.zeros(len(rows), dtype=bool)
        for part in parts:
            inside |= ((rows["start"] >= part.start) & (rows["end"] <= part.end)).to_numpy()
        fits &= ~here | inside
    return rows[fits].reset_index(drop=True), int((~fits).sum())


__all__ = ["MIN_INTRON", "SITES", "build_splice_sites", "list_sites"]
