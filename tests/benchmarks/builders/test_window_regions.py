"""Chunks, peaks, start sites, enhancers, tables of places, tracks and published intervals against plain code."""

import gzip
import random

import pytest

from .windows_made import build, list_rows, make_genome, read_task, reverse


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("regions")
    path, letters = make_genome(folder, chr1=40_000, chr8=20_000, chr22=20_000)
    return folder, path, letters


def draw_intervals(letters, seed, step=2500, size=(60, 700)):
    drawn = random.Random(seed)
    found = []
    for chrom, text in letters.items():
        at = 700
        while at + size[1] < len(text):
            found.append((chrom, at, at + drawn.randint(*size)))
            at += drawn.randint(step // 2, step)
    return found


def write_bed(path, intervals, more=lambda number: ""):
    path.write_text("".join(f"{c}\t{a}\t{b}{more(n)}\n" for n, (c, a, b) in enumerate(intervals)))
    return path


def count_covered(intervals, chrom, start, end):
    covered = set()
    for c, a, b in intervals:
        if c == chrom:
            covered |= set(range(max(a, start), min(b, end)))
    return len(covered)


def test_chunks_are_positive_where_half_is_covered_and_negatives_touch_nothing(made, tmp_path):
    _, genome, letters = made
    intervals = draw_intervals(letters, 1)
    bed = write_bed(tmp_path / "p.bed", intervals)
    flags = ("--genome", genome, "--positives", bed, "--length", 1000, "--distance", 50)
    assert build("regulatory", tmp_path, *flags) == 0
    splits, _ = read_task(tmp_path / "regulatory_element")
    assert [{row["chrom"] for row in splits[name]} for name in ("train", "validation", "test")] == [
        {"chr1"},
        {"chr22"},
        {"chr8"},
    ]
    expected = {
        (chrom, start)
        for chrom, text in letters.items()
        for start in range(0, len(text), 200)
        if start >= 400 and start + 600 <= len(text) and count_covered(intervals, chrom, start, start + 200) >= 100
    }
    rows = list_rows(tmp_path / "regulatory_element")
    assert {(row["chrom"], row["chunk_start"]) for row in rows if row["label"] == "positive"} == expected
    assert sum(row["label"] == "negative" for row in rows) == len(expected) > 30
    for row in rows:
        chrom, start = row["chrom"], row["chunk_start"]
        assert row["sequence"] == letters[chrom][start - 400 : start + 600] and row["start"] == start - 400
        if row["label"] == "negative":
            assert count_covered(intervals, chrom, start - 50, start + 250) == 0


def test_a_chunk_has_a_label_for_each_file_of_peaks(made, tmp_path):
    _, genome, letters = made
    one, two = draw_intervals(letters, 2), draw_intervals(letters, 3)
    files = [f"{name}={write_bed(tmp_path / f'{name}.bed', rows)}" for name, rows in (("a", one), ("b", two))]
    assert build("peaks", tmp_path, "--genome", genome, "--peaks", *files, "--length", 400, "--ratio", 0.5) == 0
    rows = list_rows(tmp_path / "chromatin_features")
    assert read_task(tmp_path / "chromatin_features")[1]["classes"] == ["a", "b"]
    for row in rows:
        start = row["start"] + 100
        flags = [int(count_covered(each, row["chrom"], start, start + 200) >= 100) for each in (one, two)]
        assert row["label"] == flags
    has = sum(any(row["label"]) for row in rows)
    assert has > 40 and abs(len(rows) - has - has / 2) <= 3


def test_promoters_have_their_site_in_the_middle_and_negatives_share_no_base(made, tmp_path):
    _, genome, letters = made
    sites = [(chrom, a + 1, "+-"[n % 2], f"g{n}") for n, (chrom, a, _) in enumerate(draw_intervals(letters, 4, 5000))]
    table = tmp_path / "tss.csv.gz"
    lines = ["symbol,seqnames,strand,TSS", *(f"{name},{c[3:]},{s},{p}" for c, p, s, name in sites)]
    table.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))
    flags = ("--genome", genome, "--sites", table, "--length", 500, "--ratio", 2)
    assert build("promoters", tmp_path, *flags) == 0
    rows = list_rows(tmp_path / "promoters")
    names = {name: (chrom, position - 1, strand) for chrom, position, strand, name in sites}
    positive = [row for row in rows if row["label"] == "promoter"]
    assert len(positive) == len(sites)
    for row in positive:
        chrom, at, strand = names[row["name"]]
        window = letters[chrom][at - 250 : at + 250]
        assert (row["chrom"], row["strand"]) == (chrom, strand)
        assert row["sequence"] == (reverse(window) if strand == "-" else window)
    negative = [row for row in rows if row["label"] == "negative"]
    assert len(negative) > len(positive)
    for row in negative:
        assert all(row["chrom"] != c or row["end"] <= p - 251 or row["start"] >= p + 249 for c, p, _, _ in sites)
        window = letters[row["chrom"]][row["start"] : row["end"]]
        assert row["sequence"] == (reverse(window) if row["strand"] == "-" else window)
    assert {row["strand"] for row in negative} == {"+", "-"}


def test_start_sites_of_a_bed_file_are_at_the_end_of_the_strand(made, tmp_path):
    _, genome, letters = made
    intervals = draw_intervals(letters, 5, 5000)
    bed = write_bed(tmp_path / "genes.bed", intervals, lambda n: f"\tg{n}\t0\t{'+-'[n % 2]}")
    assert build("promoters", tmp_path, "--genome", genome, "--sites", bed, "--length", 101) == 0
    for row in list_rows(tmp_path / "promoters"):
        if row["label"] == "promoter":
            chrom, start, end = intervals[int(row["name"][1:])]
            at = end - 1 if row["strand"] == "-" else start
            window = letters[chrom][at - 50 : at + 51]
            assert row["sequence"] == (reverse(window) if row["strand"] == "-" else window)


def test_enhancers_are_in_the_middle(made, tmp_path):
    _, genome, letters = made
    intervals = draw_intervals(letters, 6, 5000)
    bed = write_bed(tmp_path / "e.bed", intervals, lambda n: f"\te{n}")
    flags = ("--genome", genome, "--intervals", bed, "--length", 600, "--distance", 100)
    assert build("enhancers", tmp_path, *flags) == 0
    first = {split: rows for split, rows in read_task(tmp_path / "enhancers")[0].items()}
    for row in list_rows(tmp_path / "enhancers"):
        if row["label"] == "enhancer":
            chrom, start, end = intervals[int(row["name"][1:])]
            left, right = start - row["start"], row["end"] - end
            assert row["chrom"] == chrom and right - left in (0, 1)
        else:
            assert all(row["chrom"] != c or row["end"] <= a - 100 or row["start"] >= b + 100 for c, a, b in intervals)
    # The same command gives the same rows, another seed others.
    assert build("enhancers", tmp_path, *flags, "--name", "again") == 0
    assert build("enhancers", tmp_path, *flags, "--name", "other", "--seed", 1) == 0
    assert read_task(tmp_path / "again")[0] == first != read_task(tmp_path / "other")[0]


def test_sites_take_numbers_of_a_table(made, tmp_path):
    _, genome, letters = made
    rows = [(c, a, "+-"[n % 2], n / 8, n) for n, (c, a, _) in enumerate(draw_intervals(letters, 7, 3000))]
    table = tmp_path / "t.tsv"
    table.write_text(
        "chr\tposition\tstrand\ttissue_1\ttissue_2\tgene\n"
        + "".join(f"{c}\t{a + 1}\t{s}\t{one}\t{two}\tG{two}\n" for c, a, s, one, two in rows)
    )
    flags = ("--genome", genome, "--table", table, "--label_columns", "tissue_*", "--length", 300, "--log1p")
    assert build("sites", tmp_path, *flags) == 0
    from math import log1p

    found = {row["name"]: row for row in list_rows(tmp_path / "sites")}
    assert len(found) == len(rows)
    for chrom, at, strand, one, two in rows:
        row = found[f"G{two}"]
        window = letters[chrom][at - 150 : at + 150]
        assert row["sequence"] == (reverse(window) if strand == "-" else window)
        assert row["label"] == pytest.approx([log1p(one), log1p(two)])
    assert read_task(tmp_path / "sites")[1]["problem"] == "regression"


def test_sites_take_classes_labels_and_splits_of_a_table(made, tmp_path):
    _, genome, letters = made
    rows = draw_intervals(letters, 8, 1500)
    table = tmp_path / "t.csv"
    table.write_text(
        "chrom,start,end,label,a,b,split\n"
        + "".join(
            f"{c},{a},{b},{'xyz'[n % 3]},{n % 2},{n % 3 // 2},{('train', 'valid', 'test')[n % 3]}\n"
            for n, (c, a, b) in enumerate(rows)
        )
    )
    assert build("sites", tmp_path, "--genome", genome, "--table", table, "--length", 400) == 0
    splits, task = read_task(tmp_path / "sites")
    assert task["classes"] == ["x", "y", "z"]
    assert [{row["label"] for row in splits[name]} for name in ("train", "validation", "test")] == [{"x"}, {"y"}, {"z"}]
    flags = ("--label_columns", "a", "b", "--length", 400, "--name", "flags")
    assert build("sites", tmp_path, "--genome", genome, "--table", table, *flags) == 0
    splits, task = read_task(tmp_path / "flags")
    assert task["problem"] == "multi_label" and task["classes"] == ["a", "b"]
    assert splits["train"][0]["label"] == [0, 0]


def test_tracks_are_summed_over_bins(made, tmp_path):
    big = pytest.importorskip("pyBigWig")
    _, genome, letters = made
    drawn = random.Random(9)
    values = {chrom: [float(drawn.randint(0, 5)) for _ in text] for chrom, text in letters.items()}
    paths = []
    for name, factor in (("one", 1.0), ("two", 3.0)):
        path = tmp_path / f"{name}.bw"
        with big.open(str(path), "w") as track:
            track.addHeader([(chrom, len(text)) for chrom, text in letters.items()])
            for chrom, column in values.items():
                track.addEntries(chrom, 0, values=[factor * each for each in column], span=1, step=1)
        paths.append(f"{name}={path}")
    intervals = [(chrom, at, at + 512) for chrom, text in letters.items() for at in range(600, len(text) - 1200, 1500)]
    bed = write_bed(tmp_path / "i.bed", intervals)
    flags = ("--intervals", bed, "--tracks", *paths, "--length", 1000, "--test_contigs", "chr8")
    assert build("tracks", tmp_path, "--genome", genome, *flags) == 0
    rows = list_rows(tmp_path / "tracks")
    assert len(rows) == len(intervals)
    for row in rows[::5]:
        chrom, at = row["chrom"], row["label_start"]
        assert row["sequence"] == letters[chrom][at - 244 : at + 756]
        sums = [sum(values[chrom][at + 128 * k : at + 128 * k + 128]) for k in range(4)]
        assert row["label"] == pytest.approx([factor * one for one in sums for factor in (1, 3)])


def test_published_intervals_keep_their_splits(made, tmp_path):
    _, genome, letters = made
    root = tmp_path / "gb"
    rows = {}
    for split in ("train", "test"):
        (root / split).mkdir(parents=True)
        for number, label in enumerate(("negative", "positive")):
            rows[split, label] = draw_intervals(letters, 10 + number + 2 * (split == "test"), 3000)
            text = "id,region,start,end,strand\n" + "".join(
                f"{n},{c},{a},{b},{'+-'[n % 2]}\n" for n, (c, a, b) in enumerate(rows[split, label])
            )
            (root / split / f"{label}.csv.gz").write_bytes(gzip.compress(text.encode()))
    assert build("intervals", tmp_path, "--genome", genome, "--intervals", root) == 0
    splits, task = read_task(tmp_path / "intervals")
    assert task["classes"] == ["negative", "positive"] and set(splits) == {"train", "test"}
    for split, found in splits.items():
        for label in task["classes"]:
            expected = sorted(
                reverse(letters[c][a:b]) if n % 2 else letters[c][a:b] for n, (c, a, b) in enumerate(rows[split, label])
            )
            assert sorted(row["sequence"] for row in found if row["label"] == label) == expected
