"""What is told of files that cannot be used; nothing is left half-written."""

import gzip

import pytest

from .windows_made import build, list_rows, make_genome, write_vcf


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    path, letters = make_genome(folder, chr1=20_000, chr8=8_000, chr22=8_000)
    return folder, path, letters


def refuse(out, capsys, kind, *flags):
    assert build(kind, out, *flags) == 1
    error = capsys.readouterr().err
    assert "Traceback" not in error and not (out.is_dir() and any(out.iterdir()))
    return error


def test_a_bed_past_the_end_of_a_contig(made, tmp_path, capsys):
    bed = tmp_path / "b.bed"
    bed.write_text("chr1\t10\t400\nchr8\t7900\t8100\n")
    for kind, flag in (("enhancers", "--intervals"), ("regulatory", "--positives")):
        told = refuse(tmp_path / "out", capsys, kind, "--genome", made[1], flag, bed, "--length", 500)
        assert f"{bed}, line 2: chr8:7900-8100 goes past the end of contig 'chr8', which has 8,000 bp" in told


def test_a_bgzip_file_that_is_cut_off(made, tmp_path, capsys):
    pysam = pytest.importorskip("pysam")
    rows = [("chr1", at + 1, made[2]["chr1"][at], "N", None) for at in range(100, 19_000, 10)]
    plain = write_vcf(tmp_path / "v.vcf", rows)
    whole = tmp_path / "v.vcf.gz"
    pysam.tabix_compress(str(plain), str(whole), force=True)
    whole.write_bytes(whole.read_bytes()[:-28])
    told = refuse(tmp_path / "out", capsys, "hotspots", "--genome", made[1], "--vcf", whole, "--length", 500)
    assert str(whole) in told and "cut off" in told
    fasta = tmp_path / "g.fa.gz"
    fasta.write_bytes(gzip.compress(made[1].read_bytes())[:-400])
    told = refuse(tmp_path / "out", capsys, "hotspots", "--genome", fasta, "--vcf", plain, "--length", 500)
    assert str(fasta) in told and "cut off" in told


def test_line_ends_of_windows_make_no_difference(made, tmp_path):
    lines = [f"chr{1 if at < 19 else 8}\t{at % 19 * 1000 + 600}\t{at % 19 * 1000 + 900}\te{at}" for at in range(24)]
    for name, end in (("unix", "\n"), ("dos", "\r\n")):
        bed = tmp_path / f"{name}.bed"
        bed.write_bytes((end.join(lines) + end).encode())
        flags = ("--genome", made[1], "--intervals", bed, "--length", 300, "--name", name, "--ratio", 0.2)
        assert build("enhancers", tmp_path, *flags) == 0
    assert list_rows(tmp_path / "unix") == list_rows(tmp_path / "dos")


def test_a_file_of_other_contigs(made, tmp_path, capsys):
    bed = tmp_path / "b.bed"
    bed.write_text("scaffold9\t10\t400\n")
    told = refuse(tmp_path / "out", capsys, "enhancers", "--genome", made[1], "--intervals", bed, "--length", 500)
    assert "'scaffold9'" in told and "--contigs" in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("chrom,pos,ref,label\nchr1,5,A,x\n", "no column says the alternative allele"),
        ("pos,ref,alt,label\n5,A,C,x\n", "no column says the contig"),
        ("chrom,ref,alt,label\nchr1,A,C,x\n", "no column says the position"),
        ("chrom,pos,ref,alt\nchr1,5,A,C\n", "--label_column"),
        ("chrom,pos,ref,alt,label\nchr1,five,A,C,x\n", "data row 1: 'five' in column 'pos' is no position"),
        ("chrom,pos,ref,alt,label\nchr1,0,A,C,x\n", "data row 1: position 0"),
        ("chrom,pos,ref,alt,label\nchr1,99999,A,C,x\n", "data row 1: chr1:99998-99999 goes past the end"),
        ("chrom,pos,ref,alt,label\n", "no data rows"),
    ],
)
def test_tables_that_say_too_little(made, tmp_path, capsys, text, told):
    table = tmp_path / "v.csv"
    table.write_text(text)
    flags = ("--genome", made[1], "--variants", table, "--length", 500)
    assert told in refuse(tmp_path / "out", capsys, "variants", *flags)


def test_windows_longer_than_every_contig(made, tmp_path, capsys):
    vcf = write_vcf(tmp_path / "v.vcf", [("chr1", 5, made[2]["chr1"][4], "N", None)])
    told = refuse(tmp_path / "out", capsys, "hotspots", "--genome", made[1], "--vcf", vcf, "--length", 50_000)
    assert "the longest has 20,000 bp" in told


def test_files_that_are_not_there_and_tasks_that_are(made, tmp_path, capsys):
    bed = tmp_path / "b.bed"
    flags = ("--genome", made[1], "--intervals", bed, "--length", 300, "--ratio", 0.5)
    assert "there is no such file" in refuse(tmp_path / "out", capsys, "enhancers", *flags)
    bed.write_text("".join(f"chr{c}\t{at}\t{at + 100}\n" for c in (1, 8) for at in range(1000, 7000, 1500)))
    assert build("enhancers", tmp_path / "out", *flags) == 0
    assert build("enhancers", tmp_path / "out", *flags) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert build("enhancers", tmp_path / "out", *flags, "--overwrite") == 0
    assert build("enhancers", tmp_path / "out", *flags, "--test_contigs", "chr9", "--name", "x") == 1
    assert "no row is left for test" in capsys.readouterr().err
