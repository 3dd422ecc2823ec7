"""Kinds of tasks that are windows of a genome around a variant, a site or a bin."""

import argparse
from collections.abc import Callable
from typing import Any

from gengram.benchmarks.builders.kinds import Kind, add_splits, add_task
from gengram.command_line import VerbParser, fraction, whole_number

_RUN = "gengram.benchmarks.builders.window_flags"
_TABLE = "BED, or a .csv, .tsv, .jsonl or .parquet table; plain or .gz"
_SPLITS = (
    "Contigs are named as in the genome (chr8 is 8). Without --test_contigs, chromosomes {held_out} and rows on\n"
    "chr22 (validation) are held out, as published, if the genome has them; of another genome, blocks are dealt."
)
_BLOCKS = (
    "Without --test_contigs, blocks are dealt (--block; as it is, a hundredth of the genome or ten windows). A window\n"
    "that shares a base with one of another split is left out."
)


def _add_genome(group: Any) -> None:
    group.add_argument("--genome", "--ref", required=True, metavar="FASTA", help="the genome; plain or .gz")
    group.add_argument(
        "--contigs",
        nargs="+",
        default=[],
        metavar="NAME=REGION",
        help="what contigs of the other files are here, where names do not tell: z=chr20:1000001-2000000 is a file "
        "whose contig z begins there",
    )


def _add_windows(parser: VerbParser, length: int, *, pad: bool = True, max_n: float = 0.1) -> Any:
    rows = parser.add_argument_group("rows")
    rows.add_argument("--length", type=whole_number, default=length, metavar="BP", help="of a window")
    if pad:
        rows.add_argument(
            "--pad",
            action="store_true",
            help="write N for what a contig does not have; otherwise windows at its ends are left out and counted",
        )
    rows.add_argument("--max_n", type=fraction, default=max_n, metavar="SHARE", help="largest share of N in a window")
    return rows


def _end(parser: VerbParser, name: str) -> None:
    add_splits(parser)
    add_task(parser, name)
    parser.set_defaults(block=None, format="parquet")


def _add_skip(group: Any) -> None:
    group.add_argument(
        "--skip_mismatches",
        action="store_true",
        help="leave out and count variants whose REF is not what the genome has; otherwise the first is an error",
    )


def _seconds(text: str) -> float:
    """Type of an argument: how many negatives a positive has."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number from 0 to 1000")
    return value


def _natural(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number of at least 0")
    return int(text)


def _add_negatives(rows: Any, ratio: float = 1.0) -> None:
    rows.add_argument("--ratio", type=_seconds, default=ratio, metavar="X", help="negatives for each positive")
    rows.add_argument(
        "--distance", type=_natural, default=0, metavar="BP", help="between a negative and every positive, at least"
    )


def _declare_variants(parser: VerbParser) -> None:
    what = parser.add_argument_group("what")
    _add_genome(what)
    what.add_argument(
        "--variants",
        nargs="+",
        required=True,
        metavar="[CLASS=]FILE",
        help="a VCF file, or a table with columns chrom, position (from 1), ref, alt and label; further columns are "
        "kept. CLASS=FILE for each class where the files have no labels",
    )
    what.add_argument(
        "--label_column", default="label", metavar="NAME", help="the column of a table, or the INFO key of a VCF file"
    )
    _add_skip(_add_windows(parser, 8192, max_n=1.0))
    _end(parser, "variant_effect")


def _declare_chunks(parser: VerbParser, add_files: Callable[[Any], None], ratio: float, name: str) -> Any:
    what = parser.add_argument_group("what")
    _add_genome(what)
    add_files(what)
    rows = _add_windows(parser, 8192)
    rows.add_argument("--chunk", type=whole_number, default=200, metavar="BP", help="of the chunk in the middle")
    rows.add_argument(
        "--overlap", type=fraction, default=0.5, metavar="SHARE", help="of a chunk that is covered, if it is positive"
    )
    if name == "chromatin_features":
        rows.add_argument(
            "--ratio", type=_seconds, default=ratio, metavar="X", help="chunks without a label for each with one"
        )
    else:
        _add_negatives(rows, ratio)
    _end(parser, name)


def _declare_regulatory(parser: VerbParser) -> None:
    def add(what: Any) -> None:
        what.add_argument(
            "--positives", nargs="+", required=True, metavar="FILE", help=f"intervals of the elements: {_TABLE}"
        )

    _declare_chunks(parser, add, 1.0, "regulatory_element")


def _declare_peaks(parser: VerbParser) -> None:
    def add(what: Any) -> None:
        what.add_argument(
            "--peaks", nargs="+", required=True, metavar="LABEL=FILE", help=f"intervals, for each label: {_TABLE}"
        )

    _declare_chunks(parser, add, 0.0, "chromatin_features")


def _declare_tracks(parser: VerbParser) -> None:
    what = parser.add_argument_group("what")
    _add_genome(what)
    what.add_argument(
        "--intervals",
        required=True,
        metavar="FILE",
        help=f"the bases that have labels, all of one length: {_TABLE}. Where the name, or a column split, of every "
        "row is train, valid or test, that is its split",
    )
    what.add_argument("--tracks", nargs="+", required=True, metavar="LABEL=BIGWIG", help="numbers of bases")
    rows = _add_windows(parser, 8192, max_n=1.0)
    rows.add_argument("--bin_size", type=whole_number, default=128, metavar="BP", help="of a bin")
    rows.add_argument("--pool", choices=("sum", "mean"), default="sum", help="what a bin has of its bases")
    _end(parser, "tracks")


def _declare_sites(parser: VerbParser) -> None:
    what = parser.add_argument_group("what")
    _add_genome(what)
    what.add_argument(
        "--table",
        required=True,
        metavar="FILE",
        help="with chrom, and a position (from 1) or start and end (from 0), maybe strand and split, and labels",
    )
    what.add_argument(
        "--label_columns",
        nargs="+",
        default=["label"],
        metavar="NAME",
        help="text or whole numbers: classes; several of 0 and 1: labels; other numbers: a regression; target_* is all "
        "that begin so",
    )
    what.add_argument("--position_column", metavar="NAME", help="of the positions (default: found by usual names)")
    what.add_argument("--log1p", action="store_true", help="labels of a regression are log(1 + value)")
    _add_windows(parser, 8192, max_n=1.0)
    _end(parser, "sites")


def _declare_centred(flag: str, what_for: str, name: str, has_position: bool) -> Callable[[VerbParser], None]:
    def declare(parser: VerbParser) -> None:
        what = parser.add_argument_group("what")
        _add_genome(what)
        what.add_argument(f"--{flag}", nargs="+", required=True, metavar="FILE", help=f"{what_for}: {_TABLE}")
        if has_position:
            what.add_argument(
                "--position_column", metavar="NAME", help="of a table, from 1 (default: found by usual names, as TSS)"
            )
        _add_negatives(_add_windows(parser, 8192))
        _end(parser, name)

    return declare


def _declare_hotspots(parser: VerbParser) -> None:
    what = parser.add_argument_group("what")
    _add_genome(what)
    what.add_argument("--vcf", nargs="+", required=True, metavar="VCF", help="variants, with or without genotypes")
    what.add_argument("--region", metavar="REGION", help="count here alone, such as chr7:1-5000000")
    rows = _add_windows(parser, 8192, pad=False)
    rows.add_argument("--fdr", type=fraction, default=0.05, metavar="SHARE", help="false discovery rate of hotspots")
    rows.add_argument("--ratio", type=_seconds, default=1.0, metavar="X", help="other windows for each hotspot")
    _add_skip(rows)
    _end(parser, "variant_hotspot")


def _declare_populations(parser: VerbParser) -> None:
    what = parser.add_argument_group("what")
    _add_genome(what)
    what.add_argument("--vcf", nargs="+", required=True, metavar="VCF", help="phased genotypes")
    what.add_argument("--samples", required=True, metavar="TABLE", help="with columns sample and population")
    what.add_argument("--sample_column", metavar="NAME", help="of the table (default: sample, or another usual name)")
    what.add_argument("--population_column", metavar="NAME", help="of the table (default: population, pop ...)")
    what.add_argument("--region", metavar="REGION", help="windows in here alone, such as chr9:1-5000000")
    rows = _add_windows(parser, 8192, pad=False)
    rows.add_argument("--min_variants", type=_natural, default=1, metavar="N", help="records in a window, at least")
    rows.add_argument(
        "--unphased",
        choices=("refuse", "coin"),
        default="refuse",
        help="0/1 is refused, or dealt by a coin",
    )
    _add_skip(rows)
    _end(parser, "human_population_classification")


def _declare_intervals(parser: VerbParser) -> None:
    what = parser.add_argument_group("what")
    _add_genome(what)
    what.add_argument(
        "--intervals",
        nargs="+",
        required=True,
        metavar="CLASS=FILE",
        help="columns region, start, end (from 0), maybe id and strand; or one folder with train/CLASS.csv.gz and "
        "test/CLASS.csv.gz",
    )
    rows = parser.add_argument_group("rows")
    rows.add_argument("--max_n", type=fraction, default=0.1, metavar="SHARE", help="largest share of N in a sequence")
    rows.add_argument("--keep_twins", action="store_true", help="keep equal sequences within a split, as published")
    _end(parser, "intervals")


WINDOW_KINDS: dict[str, Kind] = {
    "variants": Kind(
        f"{_RUN}:run_variants",
        _declare_variants,
        "ref/alt pairs of variants (LRB: eQTL, ClinVar, OMIM)",
        "--genome FASTA --variants FILE --out DIR [...]",
        "gengram dataset build variants --genome hg38.fa.gz --variants eqtl.csv --length 8192 --out tasks\n"
        "gengram dataset build variants --genome hg38.fa.gz --variants pathogenic=clinvar.vcf.gz benign=common.vcf.gz "
        "--test_contigs chr8 --validation_contigs chr22 --out tasks",
        "The variant's first base is at LENGTH // 2 of both windows, from 0; behind a deletion or an insertion the\n"
        "genome goes on.\n\n" + _SPLITS.format(held_out="9 and 10 (test)"),
    ),
    "regulatory": Kind(
        f"{_RUN}:run_regulatory",
        _declare_regulatory,
        "promoter or enhancer chunks of 200 bp (LRB)",
        "--genome FASTA --positives BED --out DIR [...]",
        "gengram dataset build regulatory --genome hg38.fa.gz --positives promoters.bed --length 8192 --out tasks",
        "Contigs are divided into chunks from their first base on. Negatives touch no interval and have no N.\n\n"
        + _SPLITS.format(held_out="8 and 9 (test)"),
    ),
    "peaks": Kind(
        f"{_RUN}:run_peaks",
        _declare_peaks,
        "chunks with a label for each file of peaks (LRB, DeepSEA)",
        "--genome FASTA --peaks LABEL=BED LABEL=BED --out DIR [...]",
        "gengram dataset build peaks --genome hg19.fa.gz --peaks H3K4me3=a.narrowPeak H3K27ac=b.narrowPeak "
        "--length 1000 --out tasks",
        _SPLITS.format(held_out="8 and 9 (test)"),
    ),
    "tracks": Kind(
        f"{_RUN}:run_tracks",
        _declare_tracks,
        "bins of bigWig tracks, a regression (LRB: CAGE)",
        "--genome FASTA --intervals BED --tracks LABEL=BIGWIG --out DIR [...]",
        "gengram dataset build tracks --genome hg38.fa.gz --intervals sequences.bed --tracks brain=a.bw liver=b.bw "
        "--length 196608 --out tasks",
        "Labels are a list, bin by bin, in each all tracks. Needs pyBigWig.\n\n" + _BLOCKS,
    ),
    "sites": Kind(
        f"{_RUN}:run_sites",
        _declare_sites,
        "places of a table with its columns as labels (LRB: expression)",
        "--genome FASTA --table FILE --out DIR [...]",
        "gengram dataset build sites --genome hg19.fa.gz --table expression.tsv --label_columns 'tissue_*' --log1p "
        "--out tasks",
        _SPLITS.format(held_out="8 (test)"),
    ),
    "promoters": Kind(
        f"{_RUN}:run_promoters",
        _declare_centred("sites", "start sites of transcription", "promoters", True),
        "windows around start sites, against windows far from all",
        "--genome FASTA --sites FILE --out DIR [...]",
        "gengram dataset build promoters --genome hg19.fa.gz --sites tss.csv.gz --length 8192 --out tasks",
        "Positions of a table count from 1; the start site of a BED interval of strand - is its last base.\n\n"
        + _SPLITS.format(held_out="8 and 9 (test)"),
    ),
    "enhancers": Kind(
        f"{_RUN}:run_enhancers",
        _declare_centred("intervals", "the enhancers", "enhancers", False),
        "windows around enhancers, against windows far from all",
        "--genome FASTA --intervals BED --out DIR [...]",
        "gengram dataset build enhancers --genome hg19.fa.gz --intervals enhancers.bed --length 8192 --out tasks",
        _SPLITS.format(held_out="8 and 9 (test)"),
    ),
    "hotspots": Kind(
        f"{_RUN}:run_hotspots",
        _declare_hotspots,
        "windows with more variants than their contig (GeB: CPC)",
        "--genome FASTA --vcf VCF --out DIR [...]",
        "gengram dataset build hotspots --genome chr20.fa.gz --vcf chr20.vcf.gz --length 8192 --out tasks\n"
        "gengram dataset build hotspots --genome slice.fa.gz --vcf z.vcf.gz --contigs z=chr20:1000001-2000000 "
        "--length 1024 --out tasks",
        "Right tail of a Poisson distribution with the mean of the contig's windows, Benjamini-Hochberg.\n\n" + _BLOCKS,
    ),
    "populations": Kind(
        f"{_RUN}:run_populations",
        _declare_populations,
        "windows of haplotypes; the class is the population (GeB)",
        "--genome FASTA --vcf VCF --samples TABLE --out DIR [...]",
        "gengram dataset build populations --genome chr9.fa.gz --vcf chr9.vcf.gz --samples panel.tsv "
        "--region chr9:1-5000000 --length 8192 --out tasks",
        "Samples are dealt to splits, of each population the same shares: nobody is in two.",
    ),
    "intervals": Kind(
        f"{_RUN}:run_intervals",
        _declare_intervals,
        "sequences of published intervals, a class a file (GB)",
        "--genome FASTA --intervals CLASS=FILE CLASS=FILE --out DIR [...]",
        "gengram dataset build intervals --genome hg38.fa.gz --intervals human_nontata_promoters --out tasks",
        _BLOCKS,
    ),
}

__all__ = ["WINDOW_KINDS"]
