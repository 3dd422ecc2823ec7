"""Annotations of every format say the same of the same genes."""

import gzip

import pytest

from gengram.benchmarks.builders.transcripts import make_transcript, read_gene_models
from gengram.errors import InputError

from .conftest import TRANSCRIPTS, cut


@pytest.mark.parametrize("name", ["a.gff3", "derived.gff3", "a.gtf", "crlf.gtf", "a.bed"])
def test_formats_agree(name, genome):
    models = read_gene_models(genome / name)
    found = {one.name: one for one in models.transcripts}
    assert set(found) == set(TRANSCRIPTS)
    for name, (chrom, strand, exons, coding) in TRANSCRIPTS.items():
        one = found[name]
        assert (one.chrom, one.strand, list(one.exons)) == (chrom, strand, exons)
        assert list(one.cds) == (cut(exons, *coding) if coding else [])
        left, right = (cut(exons, 0, coding[0]), cut(exons, coding[1], 10**6)) if coding else ([], [])
        five, three = (left, right) if strand == "+" else (right, left)
        assert (list(one.five_prime_utr), list(one.three_prime_utr)) == (five, three)
    assert sorted((gene.start, gene.coding) for gene in models.genes) == sorted(
        (exons[0][0], coding is not None) for *_, exons, coding in TRANSCRIPTS.values()
    )


def test_a_table_has_exons_only(genome):
    models = read_gene_models(genome / "a.tsv")
    assert [list(one.exons) for one in models.transcripts] == [one[2] for one in TRANSCRIPTS.values()]
    assert not any(one.cds or one.five_prime_utr for one in models.transcripts)
    assert not any(gene.coding for gene in models.genes)


def test_a_bed_file_without_blocks_has_genes(tmp_path):
    (tmp_path / "a.bed").write_text(
        "#chrom\tstart\tend\tid\ttype\tstrand\nI\t10\t70\tA\tgene\t-\nI\t90\t99\tB\tARS\t.\nI\t200\t230\tC\ttRNA_gene\t+\n"
    )
    models = read_gene_models(tmp_path / "a.bed")
    assert [(gene.name, gene.coding) for gene in models.genes] == [("A", True), ("C", False)]
    assert [(one.name, one.cds) for one in models.transcripts] == [("A", ((10, 70),))]
    assert models.skipped == {"lines of type ARS": 1}


def test_coding_sequence_right_under_a_gene_is_a_transcript(tmp_path):
    (tmp_path / "a.gff").write_text(
        "c\tx\tgene\t11\t40\t.\t-\t.\tID=g;gene_biotype=protein_coding\nc\tx\tCDS\t11\t40\t.\t-\t0\tID=p;Parent=g\n"
    )
    models = read_gene_models(tmp_path / "a.gff")
    assert [(one.exons, one.cds, one.strand) for one in models.transcripts] == [(((10, 40),), ((10, 40),), "-")]
    assert [gene.coding for gene in models.genes] == [True]


def test_parts_of_several_transcripts_and_of_both_strands(tmp_path):
    (tmp_path / "a.gff3").write_text(
        "c\tx\texon\t1\t10\t.\t+\t.\tParent=a,b\nc\tx\texon\t21\t30\t.\t+\t.\tParent=a\nc\tx\texon\t21\t30\t.\t-\t.\tParent=b\n"
    )
    models = read_gene_models(tmp_path / "a.gff3")
    assert [one.exons for one in models.transcripts] == [((0, 10), (20, 30))]
    assert models.skipped == {"transcripts on both strands": 1}


def test_utrs_of_a_side_that_is_not_said():
    one = make_transcript("c", "-", "t", [(0, 100)], [(20, 60)], utr=[(0, 20), (60, 100)])
    assert (one.five_prime_utr, one.three_prime_utr) == (((60, 100),), ((0, 20),))


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.gff3", "c\tx\tregion\t1\t10\t.\t+\t.\tID=a\n", "no gene, transcript or exon"),
        ("a.gtf", 'c\tx\texon\t0\t10\t.\t+\t.\tgene_id "a";\n', "line 1: start 0"),
        ("a.bed", "c\t0\t9\ta\t0\t+\t0\t9\t0\t2\t3,\t0,\n", "line 1: blockCount 2, but 1 blockSizes"),
        ("a.bed", "c\t0\t9\ta\t0\t+\t0\t9\t0\t1\t30,\t0,\n", "line 1: the exon 0-30 is none of the transcript 0-9"),
        ("a.bed", f"c\t0\t9\t{'n' * 1001}\t0\t+\n", "line 1: a name has more than 1,000 letters"),
        ("a.bed", "c\t0\t9\ta\t0\t+\t0\t9\t0\tx\t3,\t0,\n", "blockCount 'x' is not a position"),
        (
            "a.tsv",
            "#NAME\tCHROM\tSTRAND\tTX_START\tTX_END\tEXON_START\tEXON_END\nA\t1\t*\t1\t9\t1,\t9,\n",
            "strand '*'",
        ),
        ("a.tsv", "#NAME\tCHROM\tSTRAND\tTX_START\tTX_END\tEXON_START\tEXON_END\nA\t1\n", "line 2: 2 columns, not 7"),
    ],
)
def test_what_is_no_annotation_is_told_with_its_line(name, text, told, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=told.replace("*", r"\*")):
        read_gene_models(tmp_path / name)


def test_a_file_that_is_cut_off(genome, tmp_path):
    (tmp_path / "a.gff3.gz").write_bytes(gzip.compress((genome / "a.gff3").read_bytes())[:-40])
    with pytest.raises(InputError, match=r"a\.gff3\.gz"):
        read_gene_models(tmp_path / "a.gff3.gz")
