"""Hotspots and haplotypes against plain loops."""

import math
import random

import pytest

from .windows_made import build, list_rows, make_genome, read_task, write_vcf


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("genotypes")
    path, letters = make_genome(folder, chr1=60_000, chr2=30_000)
    return folder, path, letters


def other(letter):
    return "CGTA"["ACGT".index(letter)]


def test_hotspots_are_the_right_tail_at_a_false_discovery_rate(made, tmp_path):
    _, genome, letters = made
    drawn = random.Random(3)
    rows = []
    for chrom, text in letters.items():
        chances = [drawn.choice((0.002, 0.004, 0.05)) for _ in range(len(text) // 500 + 1)]
        for at, ref in enumerate(text):
            if drawn.random() < chances[at // 500]:
                rows.append((chrom[3:], at + 1, ref, other(ref), None))
    vcf = write_vcf(tmp_path / "v.vcf.gz", rows)
    flags = ("--genome", genome, "--vcf", vcf, "--length", 500, "--block", 5000, "--ratio", 0.5)
    assert build("hotspots", tmp_path, *flags) == 0
    counts = {(chrom, start): 0 for chrom, text in letters.items() for start in range(0, len(text) - 499, 500)}
    for chrom, position, *_ in rows:
        if (key := (f"chr{chrom}", (position - 1) // 500 * 500)) in counts:
            counts[key] += 1
    p = {}
    for chrom in letters:
        keys = [key for key in counts if key[0] == chrom]
        mean = sum(counts[key] for key in keys) / len(keys)
        for key in keys:
            p[key] = 1 - sum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(counts[key]))
    # Benjamini and Hochberg: the largest rank whose p is small enough, and all before it.
    order = sorted(p, key=p.get)
    last = max(rank for rank, key in enumerate(order, 1) if p[key] <= 0.05 * rank / len(order))
    hot = set(order[:last])
    found = list_rows(tmp_path / "variant_hotspot")
    assert {(row["chrom"], row["start"]) for row in found if row["label"] == "hotspot"} == hot and len(hot) > 20
    cold = [row for row in found if row["label"] == "background"]
    assert len(cold) == round(len(hot) / 2)
    for row in found:
        key = (row["chrom"], row["start"])
        assert row["variants"] == counts[key]
        assert row["p_value"] == pytest.approx(p[key], rel=1e-6, abs=1e-12)
        assert row["sequence"] == letters[key[0]][key[1] : key[1] + 500]


def make_genotypes(letters, samples, seed):
    """Variants of all kinds that do not overlap, and a genotype of each sample."""
    drawn = random.Random(seed)
    rows = []
    for chrom, text in letters.items():
        at = 300
        while at < len(text) - 400:
            kind = drawn.randrange(3)
            ref, alt = text[at], other(text[at])
            if kind == 1:
                ref, alt = text[at : at + 5], text[at]
            if kind == 2:
                alt = text[at] + "GATTACA"[: drawn.randint(1, 7)]
            genotypes = [f"{int(drawn.random() < 0.4)}|{int(drawn.random() < 0.4)}" for _ in samples]
            rows.append((chrom, at + 1, ref, alt, None, *genotypes))
            at += drawn.randint(12, 120)
    return rows


def consent(text, rows, sample, side):
    """The haplotype as a plain loop makes it, and for each base of the reference where it is in it."""
    made, places, at = [], {}, 0
    for _, position, ref, alt, _, *genotypes in rows:
        start = position - 1
        if genotypes[sample].split("|")[side] == "1":
            made += text[at:start]
            for k in range(at, start):
                places[k] = len(made) - (start - k)
            # The first letter stays or is replaced; what is inserted lies before the base behind it.
            places[start] = len(made)
            made += alt[0]
            places[start + len(ref)] = len(made)
            made += alt[1:]
            at = start + len(ref)
    for k in range(at, len(text)):
        places.setdefault(k, len(made) + k - at)
    return "".join(made) + text[at:], places


def test_populations_are_haplotypes_of_their_samples(made, tmp_path):
    _, genome, letters = made
    samples = [f"S{number}" for number in range(8)]
    rows = make_genotypes({"chr2": letters["chr2"]}, samples, 4)
    vcf = write_vcf(tmp_path / "g.vcf", rows, samples)
    table = tmp_path / "panel.tsv"
    table.write_text("sample\tpop\n" + "".join(f"{name}\t{('AFR', 'EUR')[n % 2]}\n" for n, name in enumerate(samples)))
    flags = ("--genome", genome, "--vcf", vcf, "--samples", table, "--length", 1000, "--region", "chr2:1001-9000")
    assert build("populations", tmp_path, *flags) == 0
    splits, task = read_task(tmp_path / "human_population_classification")
    assert task["classes"] == ["AFR", "EUR"]
    people = {split: {row["sample"] for row in found} for split, found in splits.items()}
    assert sum(map(len, people.values())) == len(samples) == len(set().union(*people.values()))
    haplotypes = {}
    found = list_rows(tmp_path / "human_population_classification")
    assert len(found) == 8 * 2 * len(samples)
    for row in found:
        number = samples.index(row["sample"])
        key = (number, row["haplotype"] - 1)
        text, places = haplotypes.setdefault(key, consent(letters["chr2"], rows, *key))
        start = row["start"]
        while start not in places:  # the window begins inside of a deletion
            start += 1
        assert row["sequence"] == text[places[start] : places[start] + 1000]
        assert row["label"] == ("AFR", "EUR")[number % 2]


def break_genotypes(rows, kind):
    if kind == "unphased":
        return [(*row[:5], *("0/1" for _ in row[5:])) for row in rows]
    return rows


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("unphased", ["line 3", "no phase", "--unphased coin"]),
        ("sites", ["no genotypes"]),
        ("unknown", ["'S9'", "not in g.vcf"]),
        ("columns", ["no column has the populations", "--population_column"]),
        ("reference", ["line 3", "REF has", "--skip_mismatches"]),
        ("one", ["1 population"]),
    ],
)
def test_bad_genotypes_are_told(made, tmp_path, capsys, kind, told):
    _, genome, letters = made
    samples = [f"S{number}" for number in range(4)]
    rows = break_genotypes(make_genotypes({"chr2": letters["chr2"]}, samples, 4), kind)
    if kind == "reference":
        rows = [(*row[:2], other(row[2][0]) + row[2][1:], *row[3:]) for row in rows]
    rows, named = ([row[:5] for row in rows], []) if kind == "sites" else (rows, samples)
    vcf = write_vcf(tmp_path / "g.vcf", rows, named)
    table = tmp_path / "panel.csv"
    names = ["S9", *samples] if kind == "unknown" else samples
    populations = ["A"] * 9 if kind == "one" else "ABABAB"
    header = "sample,other" if kind == "columns" else "sample,population"
    table.write_text(f"{header}\n" + "".join(f"{name},{populations[n]}\n" for n, name in enumerate(names)))
    flags = ("--genome", genome, "--vcf", vcf, "--samples", table, "--length", 500)
    assert build("populations", tmp_path / "out", *flags) == 1
    error = capsys.readouterr().err
    assert all(part in error for part in told), error
    assert "Traceback" not in error and not any((tmp_path / "out").glob("*"))
