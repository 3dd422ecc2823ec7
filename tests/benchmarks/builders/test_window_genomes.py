"""Tasks of real genomes: their sizes, and twenty rows of each by hand, with pysam's own index of the FASTA file."""

import csv
import gzip
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .windows_made import build, list_rows, read_task, reverse

GENOMES = Path(__file__).resolve().parents[4] / "shared" / "data" / "genomes"
CHR20 = GENOMES / "human_hg19_chr20"
pytestmark = pytest.mark.skipif(not CHR20.is_dir(), reason="the genomes are not here")
SLICES = {"chr1": 0, "chr17": 0, "chr20": 1_000_000, "chr22": 16_050_000}


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    pysam = pytest.importorskip("pysam")
    path = tmp_path_factory.mktemp("hg19") / "slices.fa"
    with open(path, "wb") as file:
        for name in ("chr1", "chr17", "chr20", "chr22"):
            [packed] = (GENOMES / f"human_hg19_{name}").glob("*.fa.gz")
            with gzip.open(packed) as source:
                shutil.copyfileobj(source, file)
    # Names with colons and blanks are what faidx takes for regions: it gets plain ones.
    plain = path.with_name("plain.fa")
    with open(path) as source, open(plain, "w") as target:
        target.writelines(f">{line[1:].split(':')[0]}\n" if line.startswith(">") else line for line in source)
    with pysam.FastaFile(str(plain)) as letters:
        yield path, lambda chrom, start, end: letters.fetch(chrom, start - SLICES[chrom], end - SLICES[chrom]).upper()


@pytest.fixture(scope="module")
def vcf(tmp_path_factory):
    [path] = CHR20.glob("*.vcf.gz")
    with gzip.open(path, "rt") as file:
        rows = [line.split("\t", 8) for line in file if not line.startswith("#")]
    return path, rows


def take_twenty(rows):
    return rows[:: max(1, len(rows) // 20)][:20]


def test_hotspots_of_chromosome_20(genome, vcf, tmp_path):
    flags = ("--genome", genome[0], "--vcf", vcf[0], "--contigs", "z=chr20:1000001-2000000", "--length", 1024)
    assert build("hotspots", tmp_path, *flags, "--region", "chr20", "--fdr", 0.2, "--ratio", 3) == 0
    rows = list_rows(tmp_path / "variant_hotspot")
    positions = [int(row[1]) - 1 for row in vcf[1]]
    counts = [0] * 976
    for position in positions:
        if position // 1024 < 976:
            counts[position // 1024] += 1
    mean = sum(counts) / 976
    p = [1 - sum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(one)) for one in counts]
    order = sorted(range(976), key=p.__getitem__)
    last = max(rank for rank, number in enumerate(order, 1) if p[number] <= 0.2 * rank / 976)
    hot = sorted(number for number in order[:last])
    found = sorted((row["start"] - 1_000_000) // 1024 for row in rows if row["label"] == "hotspot")
    assert found == hot and len(rows) == 4 * len(hot)
    for row in take_twenty(rows):
        assert row["sequence"] == genome[1]("chr20", row["start"], row["end"])
        assert row["variants"] == counts[(row["start"] - 1_000_000) // 1024]


def test_promoters_of_cage_start_sites(genome, tmp_path):
    table = GENOMES / "human_annotation" / "expecto_cage_tss_in_pieces.csv.gz"
    assert build("promoters", tmp_path, "--genome", genome[0], "--sites", table, "--length", 8192) == 0
    with gzip.open(table, "rt") as file:
        sites = {row["id"]: row for row in csv.DictReader(file)}
    rows = list_rows(tmp_path / "promoters")
    positive = [row for row in rows if row["label"] == "promoter"]
    negative = [row for row in rows if row["label"] == "negative"]
    assert len(sites) == 146 and len(positive) == 134 and len(negative) == 138
    for row in take_twenty(positive):
        site = sites[row["name"]]
        at = int(site["CAGE_representative_TSS"]) - 1
        assert (row["chrom"], row["strand"], row["start"]) == (site["seqnames"], site["strand"], at - 4096)
        window = genome[1](row["chrom"], at - 4096, at + 4096)
        assert row["sequence"] == (reverse(window) if row["strand"] == "-" else window)
    for row in take_twenty(negative):
        for site in sites.values():
            at = int(site["CAGE_representative_TSS"]) - 1
            assert row["chrom"] != site["seqnames"] or row["end"] <= at - 4096 or row["start"] >= at + 4096


def test_enhancers_and_chunks_of_made_intervals(genome, tmp_path):
    bed = tmp_path / "made.bed"
    intervals = [("20", at, at + 350 + at % 700) for at in range(1_020_000, 1_980_000, 23_456)]
    intervals += [("22", at, at + 350 + at % 700) for at in range(17_000_000, 21_900_000, 61_234)]
    bed.write_text("".join(f"{chrom}\t{start}\t{end}\te{n}\n" for n, (chrom, start, end) in enumerate(intervals)))
    assert build("enhancers", tmp_path, "--genome", genome[0], "--intervals", bed, "--length", 8192) == 0
    rows = list_rows(tmp_path / "enhancers")
    positive = [row for row in rows if row["label"] == "enhancer"]
    assert len(positive) >= 115 and len(rows) >= 230
    for row in take_twenty(positive):
        chrom, start, end = intervals[int(row["name"][1:])]
        assert row["start"] == start - (8192 - (end - start)) // 2 and row["chrom"] == f"chr{chrom}"
        assert row["sequence"] == genome[1](row["chrom"], row["start"], row["start"] + 8192)
    assert build("regulatory", tmp_path, "--genome", genome[0], "--positives", bed, "--length", 1024) == 0
    rows = list_rows(tmp_path / "regulatory_element")
    positive = [row for row in rows if row["label"] == "positive"]
    for row in take_twenty(positive):
        chunk = row["chunk_start"]
        assert chunk % 200 == 0 and row["chunk_end"] == chunk + 200 and row["start"] == chunk - 412
        assert row["sequence"] == genome[1](row["chrom"], chunk - 412, chunk + 612)
        assert any(
            f"chr{chrom}" == row["chrom"] and min(end, chunk + 200) - max(start, chunk) >= 100
            for chrom, start, end in intervals
        )


@pytest.mark.parametrize("length", [512, 8192])
def test_variant_pairs_of_chromosome_20(genome, vcf, tmp_path, length):
    table = tmp_path / "v.tsv"
    kept = [row for row in vcf[1][::20] if "," not in row[4] and row[4].isalpha()]
    lines = [f"{chrom}\t{p}\t{ref}\t{alt}\t{'AC=1;' in i}" for chrom, p, _, ref, alt, _, _, i in kept]
    table.write_text("\n".join(["chrom\tposition\tref\talt\tlabel", *lines]) + "\n")
    flags = ("--genome", genome[0], "--variants", table, "--contigs", "z=chr20:1000001-2000000", "--length", length)
    assert build("variants", tmp_path, *flags) == 0
    splits, _ = read_task(tmp_path / "variant_effect")
    rows = list_rows(tmp_path / "variant_effect")
    assert set(splits) == {"train", "validation", "test"} and len(rows) > 0.85 * len(kept)
    alleles = {int(row[1]) + 1_000_000: (row[3], row[4]) for row in kept}
    for row in take_twenty(rows):
        ref, alt = alleles[row["position"]]
        at = row["position"] - 1
        before = genome[1]("chr20", at - length // 2, at)
        behind = genome[1]("chr20", at, min(at + length, 2_000_000))
        assert row["sequence"] == (before + behind)[:length] and behind.startswith(ref)
        assert row["alternative"] == (before + alt + behind[len(ref) :])[:length]


@pytest.mark.slow
def test_a_long_table_takes_little_memory(genome, tmp_path):
    """Two hundred thousand rows of 8,192 bp, 3.3 GB of letters with both alleles, in less than one."""
    resource = pytest.importorskip("resource")
    assert resource
    table = tmp_path / "v.tsv"
    with open(table, "w") as file:
        file.write("chrom\tposition\tref\talt\tlabel\n")
        letters = genome[1]("chr22", 17_000_000, 21_000_000)
        for number, at in enumerate(range(10_000, 3_990_000, 20)):
            if letters[at] != "N":
                alt = "CGTA"["ACGT".index(letters[at])]
                file.write(f"22\t{17_000_000 + at + 1}\t{letters[at]}\t{alt}\t{number % 2}\n")
    command = [sys.executable, "-m", "gengram", "dataset", "build", "variants", "--genome", str(genome[0])]
    command += ["--variants", str(table), "--out", str(tmp_path), "--quiet"]
    subprocess.run(command, check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert peak < 900_000, peak
