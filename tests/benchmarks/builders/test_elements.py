"""Rows of built tasks are what the annotation says, read here once more with plain means."""

import gzip
import itertools
import json
import random
import re

import pytest

from gengram.benchmarks.builders.elements import (
    ELEMENTS,
    build_coding_vs_intergenic,
    build_exon_intron,
    build_genomic_element,
    build_species_element,
)
from gengram.benchmarks.builders.junctions import build_splice_sites
from gengram.errors import InputError

from .conftest import TRANSCRIPTS, cut, read_plain_fasta, read_rows, reverse

SMALL = {"block": 400, "test_share": 0.3, "validation_share": 0.0}


def gather(folder):
    return [row for rows in read_rows(folder).values() for row in rows]


def place(row):
    return row["chrom"], int(row["start"]), int(row["end"]), row["strand"]


def check_letters(rows, contigs):
    for row in rows:
        chrom, start, end, strand = place(row)
        letters = contigs[chrom][start:end]
        assert row["sequence"] == (reverse(letters) if strand == "-" else letters)


@pytest.mark.parametrize("annotation", ["a.gff3", "derived.gff3", "crlf.gtf", "a.bed"])
def test_elements_of_a_made_genome(annotation, genome, tmp_path):
    built = build_genomic_element(genome / "genome.fa", genome / annotation, tmp_path, min_length=10, **SMALL)
    rows = gather(built.folder)
    check_letters(rows, read_plain_fasta(genome / "genome.fa"))
    expected = set()
    for chrom, strand, exons, coding in TRANSCRIPTS.values():
        if coding is None:
            continue
        left, right = cut(exons, 0, coding[0]), cut(exons, coding[1], 10**6)
        five, three = (left, right) if strand == "+" else (right, left)
        whole = [span for span in exons if coding[0] <= span[0] and span[1] <= coding[1]]
        start, end = exons[0][0], exons[-1][1]
        shift = max(0, end - start - 1024) // 2
        body = [(start + shift, start + shift + min(end - start, 1024))]
        for label, spans in zip(ELEMENTS, (three, five, whole, body)):
            expected |= {(label, chrom, *span, strand) for span in spans}
    found = {(row["label"], *place(row)) for row in rows}
    assert found <= expected
    assert len(expected) - len(found) == built.facts["left_out"]["across two splits"]


def test_exons_introns_and_what_is_between(genome, tmp_path):
    built = build_exon_intron(genome / "genome.fa", genome / "a.gff3", tmp_path, length=40, **SMALL)
    rows = gather(built.folder)
    check_letters(rows, read_plain_fasta(genome / "genome.fa"))
    for row in rows:
        chrom, start, end, strand = place(row)
        met = [one for one in TRANSCRIPTS.values() if one[0] == chrom and one[2][0][0] < end and start < one[2][-1][1]]
        exons = [(span, one[1]) for one in met for span in one[2] if span[0] < end and start < span[1]]
        if row["label"] == "intergenic":
            assert not met
        elif row["label"] == "exon":
            assert exons and all(span[0] <= start and end <= span[1] and turn == strand for span, turn in exons)
        else:
            assert not exons and [one[1] for one in met] == [strand]
    assert {row["strand"] for row in rows if row["label"] == "intergenic"} == {"+", "-"}
    assert {row["label"] for row in rows} == {"exon", "intron", "intergenic"}


def test_two_classes_and_a_table_of_exons(genome, tmp_path):
    built = build_exon_intron(
        genome / "genome.fa", genome / "a.tsv", tmp_path, length=40, classes=["intron", "exon"], **SMALL
    )
    assert built.facts["classes"] == ["exon", "intron"]
    with pytest.raises(InputError, match=r"a\.tsv: it has no coding sequence"):
        build_coding_vs_intergenic(genome / "genome.fa", genome / "a.tsv", tmp_path, **SMALL)
    with pytest.raises(InputError, match=r"a\.tsv: it has no coding transcript with a 3' UTR"):
        build_genomic_element(genome / "genome.fa", genome / "a.tsv", tmp_path, **SMALL)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exon_intron_intergenic"]


def test_splice_sites_of_a_made_genome(genome, tmp_path):
    built = build_splice_sites(genome / "genome.fa", genome / "a.gff3", tmp_path, length=21, **SMALL)
    rows = gather(built.folder)
    check_letters(rows, read_plain_fasta(genome / "genome.fa"))
    sites = set()
    for chrom, strand, exons, _ in TRANSCRIPTS.values():
        for (_, first), (last, _) in itertools.pairwise(exons):
            cuts = {"donor": first, "acceptor": last} if strand == "+" else {"donor": last, "acceptor": first}
            sites |= {(chrom, at, strand, label) for label, at in cuts.items()}
    for row in rows:
        chrom, start, end, strand = place(row)
        at = start + 10 if strand == "+" else end - 10
        if row["label"] == "none":
            assert row["sequence"][10:12] == "GT" or row["sequence"][8:10] == "AG"
            assert not {(chrom, at, strand, label) for label in ("donor", "acceptor")} & sites
        else:
            assert (chrom, at, strand, row["label"]) in sites


def read_plain_gff(path):
    """Lines of a GFF3 file: contig, type, start from 0, end, strand, attributes."""
    with gzip.open(path, "rt") as stream:
        for line in stream:
            cells = line.rstrip("\n").split("\t")
            if len(cells) == 9 and not line.startswith("#") and cells[2] not in ("intron", "transcript_region"):
                yield cells[0], cells[2], int(cells[3]) - 1, int(cells[4]), cells[6], cells[8]


@pytest.fixture(scope="module")
def real(shared):
    return shared / "data" / "genomes"


def find_files(real, species):
    folder = real / f"{species}_1pct"
    (fasta,) = folder.glob("*.fa.gz")
    (annotation,) = folder.glob("*.gff3.gz")
    return fasta, annotation


def draw_by_strand(rows, count):
    """Some rows of each strand."""
    draw = random.Random(0)
    return [row for strand in "+-" for row in draw.sample([row for row in rows if row["strand"] == strand], count)]


def test_twenty_rows_of_a_real_annotation_for_each_class(real, tmp_path):
    fasta, annotation = find_files(real, "celegans")
    built = build_genomic_element(fasta, annotation, tmp_path, block=40_000)
    rows = gather(built.folder)
    contigs, lines = read_plain_fasta(fasta), list(read_plain_gff(annotation))
    types = dict(zip(ELEMENTS, ("three_prime_UTR", "five_prime_UTR", "exon", "gene")))
    coding = {"CDS"}
    for label, kind in types.items():
        for row in draw_by_strand([row for row in rows if row["label"] == label], 10):
            chrom, start, end, strand = place(row)
            # What is longer than 1,024 bp is cut to its middle.
            same = [
                one
                for one in lines
                if one[:2] == (chrom, kind) and one[4] == strand
                and (one[2:4] == (start, end) or (end - start == 1024 and one[3] - one[2] > 1024
                     and one[2] + (one[3] - one[2] - 1024) // 2 == start))
            ]  # fmt: skip
            assert same, row
            letters = contigs[chrom][start:end]
            assert row["sequence"] == (reverse(letters) if strand == "-" else letters)
            met = {one[1] for one in lines if one[0] == chrom and one[4] == strand and one[2] < end and start < one[3]}
            assert label != "exon" or not met & {"three_prime_UTR", "five_prime_UTR"}
            assert label not in ("3'UTR", "5'UTR") or not met & coding


@pytest.mark.parametrize("species", ["dmelanogaster"])
def test_rows_of_coding_and_intergenic_windows(species, real, tmp_path):
    fasta, annotation = find_files(real, species)
    built = build_coding_vs_intergenic(fasta, annotation, tmp_path, block=40_000)
    rows = gather(built.folder)
    contigs, lines = read_plain_fasta(fasta), list(read_plain_gff(annotation))
    for label in ("coding", "intergenic"):
        for row in draw_by_strand([row for row in rows if row["label"] == label], 10):
            chrom, start, end, strand = place(row)
            letters = contigs[chrom][start:end]
            assert row["sequence"] == (reverse(letters) if strand == "-" else letters) and end - start == 200
            met = [one for one in lines if one[0] == chrom and one[2] < end and start < one[3]]
            if label == "coding":
                spans = sorted(one[2:4] for one in met if one[1] == "CDS" and one[4] == strand)
                at = start
                for first, last in spans:  # of several transcripts together
                    at = max(at, last) if first <= at else at
                assert at >= end
            else:
                assert not [one for one in met if re.fullmatch(r"gene|.*RNA|exon|CDS|.*_gene", one[1])]


def test_a_contig_that_the_genome_lacks_is_told(real, tmp_path, capsys):
    fasta, annotation = find_files(real, "athaliana")
    built = build_genomic_element(fasta, annotation, tmp_path, block=40_000, per_class="least")
    assert re.search(
        r"\d+ records are skipped: they lie on a contig that .* does not have \(Chr5: ", capsys.readouterr().err
    )
    for one in built.facts["rows"].values():
        assert len(set(one["classes"].values())) == 1
    assert not any(row["chrom"] == "Chr5" for row in gather(built.folder))


def test_species_of_an_element(real, tmp_path):
    pairs = {species: find_files(real, species) for species in ("celegans", "dmelanogaster")}
    built = build_species_element(
        [(name, fasta) for name, (fasta, _) in pairs.items()],
        [(name, file) for name, (_, file) in pairs.items()],
        tmp_path,
        element="five_prime_UTR",
        block=40_000,
    )
    contigs = {name: read_plain_fasta(fasta) for name, (fasta, _) in pairs.items()}
    for split, rows in read_rows(built.folder).items():
        assert {row["label"] for row in rows} == set(pairs), split
        for name in pairs:
            check_letters([row for row in rows if row["label"] == name], contigs[name])
    assert json.dumps(built.facts)


@pytest.mark.slow
def test_pysam_reads_the_same(real, tmp_path):
    """Every row of a slice of a chromosome, as another library cuts it."""
    pysam = pytest.importorskip("pysam")
    fasta = next((real / "human_hg19_chr22").glob("*.fa.gz"))
    annotation = real / "human_annotation" / "grch37_genes_in_pieces.tsv.gz"
    built = build_splice_sites(fasta, annotation, tmp_path, block=100_000)
    plain = tmp_path / "genome.fa"
    plain.write_bytes(gzip.decompress(fasta.read_bytes()))
    rows = gather(built.folder)
    with pysam.FastaFile(str(plain)) as file:
        (record,) = file.references
        first = int(re.search(r":(\d+)-", record)[1])
        for row in rows:
            chrom, start, end, strand = place(row)
            letters = file.fetch(record, start - first + 1, end - first + 1).upper()
            assert chrom == "chr22" and row["sequence"] == (reverse(letters) if strand == "-" else letters)
    donors = [row["sequence"][200:202] for row in rows if row["label"] == "donor"]
    assert donors.count("GT") > 0.97 * len(donors) > 500
