"""Kinds of tasks that an annotation of genes tells: elements, exons, coding sequence, splice sites, species."""

from collections.abc import Callable
from typing import Any

from gengram.benchmarks.builders.kinds import Kind, add_rows, add_splits, add_task, named_file
from gengram.command_line import VerbParser, whole_number

_ANNOTATION = "GFF3, GTF, BED (12 columns, or genes), or the table of transcripts of SpliceAI; plain or .gz"
_SPECIES = "NAME=FASTA, once for each species; the names are the classes, in this order"
SPECIES_ELEMENTS = ("exon", "five_prime_UTR", "three_prime_UTR")
_WHAT = "gengram.benchmarks.builders"


def _add_genome(parser: VerbParser) -> None:
    what = parser.add_argument_group("what")
    what.add_argument("--genome", "--ref", required=True, metavar="FASTA", help="the genome; plain or .gz")
    what.add_argument("--annotation", required=True, metavar="FILE", help=f"of its genes: {_ANNOTATION}")


def _add_genomes(group: Any) -> None:
    group.add_argument(
        "--genome", "--ref", nargs="+", required=True, type=named_file, metavar="NAME=FASTA", help=_SPECIES
    )


def _declare_element(parser: VerbParser) -> None:
    _add_genome(parser)
    _add_lengths(parser)
    add_splits(parser)
    add_task(parser, "genomic_element_classification")


def _add_lengths(parser: VerbParser) -> None:
    rows = add_rows(parser)
    rows.add_argument(
        "--max_length", type=whole_number, default=1024, metavar="BP", help="of a longer element, its middle is taken"
    )
    rows.add_argument("--min_length", type=whole_number, default=60, metavar="BP", help="shorter elements are left out")


def _declare_windows(name: str, length: int) -> Callable[[VerbParser], None]:
    def declare(parser: VerbParser) -> None:
        _add_genome(parser)
        rows = add_rows(parser)
        rows.add_argument("--length", type=whole_number, default=length, metavar="BP", help="of a row")
        add_splits(parser)
        add_task(parser, name)

    return declare


def _declare_exon_intron(parser: VerbParser) -> None:
    _declare_windows("exon_intron_intergenic", 200)(parser)
    parser.add_argument_group("classes").add_argument(
        "--classes",
        nargs="+",
        choices=["exon", "intron", "intergenic"],
        default=["exon", "intron", "intergenic"],
        help="two of them, or all",
    )


def _declare_species_element(parser: VerbParser) -> None:
    what = parser.add_argument_group("what")
    what.add_argument("--element", choices=SPECIES_ELEMENTS, default="exon", help="what a row is")
    _add_genomes(what)
    what.add_argument(
        "--annotation", nargs="+", required=True, type=named_file, metavar="NAME=FILE", help=f"of each: {_ANNOTATION}"
    )
    _add_lengths(parser)
    add_splits(parser)
    add_task(parser, "multi_species_element")


def _declare_species_windows(parser: VerbParser) -> None:
    what = parser.add_argument_group("what")
    _add_genomes(what)
    rows = add_rows(parser)
    rows.add_argument("--length", type=whole_number, default=8192, metavar="BP", help="of a row, such as 8192 or 32768")
    add_splits(parser)
    add_task(parser, "species_classification")


ELEMENT_KINDS: dict[str, Kind] = {
    "genomic-element": Kind(
        f"{_WHAT}.elements:build_genomic_element",
        _declare_element,
        "3' UTR, 5' UTR, exon or protein-coding gene (the classes of GeB)",
        "--genome FASTA --annotation GFF --out DIR [...]",
        "gengram dataset build genomic-element --genome hg38.fa.gz --annotation gencode.gtf.gz --out tasks "
        "--test_contigs chr8 chr9 --validation_contigs chr22 --per_class 6000",
        "UTRs are those of the file, or exons without their CDS; an exon is one that is coding as a whole. A row that\n"
        "another transcript of the strand makes another class is left out. The length alone tells something about the\n"
        "class: compare a model with `baseline:composition`.",
    ),
    "exon-intron": Kind(
        f"{_WHAT}.elements:build_exon_intron",
        _declare_exon_intron,
        "windows of exons, introns and between genes, of one length",
        "--genome FASTA --annotation GFF --out DIR [...]",
        "gengram dataset build exon-intron --genome hg38.fa.gz --annotation gencode.gtf.gz --out tasks "
        "--per_class least",
    ),
    "coding-vs-intergenic": Kind(
        f"{_WHAT}.elements:build_coding_vs_intergenic",
        _declare_windows("coding_vs_intergenic", 200),
        "windows of coding sequence and between genes, as GB's demo",
        "--genome FASTA --annotation GFF --out DIR [...]",
        "gengram dataset build coding-vs-intergenic --genome yeast.fa.gz --annotation genes.bed --out tasks "
        "--per_class least",
        "A BED file without blocks has genes only: they count as coding from end to end, as in yeast.",
    ),
    "splice-sites": Kind(
        f"{_WHAT}.junctions:build_splice_sites",
        _declare_windows("splice_sites", 400),
        "donors, acceptors, and GT or AG in genes that are no site",
        "--genome FASTA --annotation GFF --out DIR [...]",
        "gengram dataset build splice-sites --genome hg38.fa.gz --annotation gencode.gtf.gz --out tasks --length 600",
        "The cut between exon and intron is in the middle of a row.",
    ),
    "species-element": Kind(
        f"{_WHAT}.elements:build_species_element",
        _declare_species_element,
        "the species of an exon or UTR (GeB's multi-species tasks)",
        "--genome NAME=FASTA ... --annotation NAME=GFF ... --out DIR [...]",
        "gengram dataset build species-element --element exon --genome worm=ce.fa.gz fly=dm.fa.gz "
        "--annotation worm=ce.gff3.gz fly=dm.gff3.gz --out tasks --name multi_species_exon",
    ),
    "species-windows": Kind(
        f"{_WHAT}.species:build_species_windows",
        _declare_species_windows,
        "the species of a window of a genome",
        "--genome NAME=FASTA ... --out DIR [...]",
        "gengram dataset build species-windows --genome human=hg38.fa.gz chimp=pan.fa.gz --length 8192 "
        "--per_class 2000 --out tasks",
    ),
}

__all__ = ["ELEMENT_KINDS", "SPECIES_ELEMENTS"]
