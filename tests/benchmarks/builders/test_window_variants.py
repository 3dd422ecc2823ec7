"""Pairs of windows against plain string code."""

import pytest

from .windows_made import build, list_rows, make_genome, read_task, write_vcf


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("variants")
    path, letters = make_genome(folder, chr1=9000, chr8=4000, chr9=4000, chr22=4000)
    return folder, path, letters


def change(letter: str) -> str:
    return "ACGTA"["ACGT".index(letter) + 1]


def list_variants(letters, step=97):
    """SNPs, insertions and deletions by turns: chrom, position from 1, ref, alt, label, a further column."""
    rows = []
    for chrom, text in letters.items():
        for number, at in enumerate(range(5, len(text) - 5, step)):
            ref, alt = text[at], change(text[at])
            if number % 3 == 1:
                ref, alt = text[at : at + 4], text[at]
            if number % 3 == 2:
                ref, alt = text[at], text[at] + "GATTACA"
            rows.append((chrom, at + 1, ref, alt, ("benign", "pathogenic")[number % 2], number / 4))
    return rows


@pytest.mark.parametrize("length", [64, 65])
def test_pairs_of_a_table_are_what_string_code_says(made, tmp_path, length):
    _, genome, letters = made
    rows = list_variants(letters)
    table = tmp_path / "v.csv"
    lines = ["Chrom,Position,REF,ALT,label,distance", *(",".join(map(str, row)) for row in rows)]
    table.write_bytes("\r\n".join(lines).encode())
    assert build("variants", tmp_path, "--genome", genome, "--variants", table, "--length", length) == 0
    splits, task = read_task(tmp_path / "variant_effect")
    assert task["classes"] == ["benign", "pathogenic"] and task["columns"]["alternative"] == "alternative"
    assert {row["chrom"] for row in splits["test"]} == {"chr9"}
    assert {row["chrom"] for row in splits["validation"]} == {"chr22"}
    assert {row["chrom"] for row in splits["train"]} == {"chr1", "chr8"}
    expected = {}
    for chrom, position, ref, alt, label, distance in rows:
        at = position - 1
        start = at - length // 2
        whole = letters[chrom]
        changed = whole[:at] + alt + whole[at + len(ref) :]
        if start >= 0 and start + length <= len(whole) and start + length <= len(changed):
            expected[chrom, position] = (
                whole[start : start + length],
                changed[start : start + length],
                label,
                distance,
            )
    found = {
        (row["chrom"], row["position"]): (row["sequence"], row["alternative"], row["label"], row["distance"])
        for row in list_rows(tmp_path / "variant_effect")
    }
    assert found == expected
    assert all(row["end"] - row["start"] == length for row in list_rows(tmp_path / "variant_effect"))


def test_vcf_with_labels_in_info_and_several_alleles(made, tmp_path):
    _, genome, letters = made
    rows = []
    for at in range(100, 3900, 100):
        one = letters["chr8"][at]
        two, three = change(one), change(change(one))
        rows.append(("8", at + 1, one, f"{two},{three}", f"CLASS=a,b;AC={at}"))
    rows.append(("8", 3950, letters["chr8"][3949], "<DEL>,*", "CLASS=a,b"))
    info = '##INFO=<ID=CLASS,Number=A,Type=String,Description="x">'
    vcf = write_vcf(tmp_path / "v.vcf.gz", rows, info=info)
    flags = ("--genome", genome, "--variants", vcf, "--label_column", "CLASS", "--length", 50)
    assert build("variants", tmp_path, *flags, "--block", 500) == 0
    found = list_rows(tmp_path / "variant_effect")
    assert len(found) > 60
    for row in found:
        at = row["position"] - 1
        assert row["sequence"][25] == row["ref"] == letters["chr8"][at]
        assert row["alternative"][25] == row["alt"]
        assert row["label"] == ("a" if row["alt"] == change(row["ref"]) else "b")


def test_a_file_for_each_class_and_names_of_a_slice(tmp_path):
    genome, letters = make_genome(tmp_path, **{"chr20:1001-6000": 5000})
    text = letters["chr20:1001-6000"]
    spots = range(200, 4800, 40)
    files = []
    for label, part in (("rare", spots[::2]), ("common", spots[1::2])):
        rows = [("z", at + 1, text[at], change(text[at]), None) for at in part]
        files.append(f"{label}={write_vcf(tmp_path / f'{label}.vcf', rows)}")
    flags = ("--variants", *files, "--contigs", "z=chr20:1001-6000", "--length", 40, "--block", 300)
    assert build("variants", tmp_path, "--genome", genome, *flags) == 0
    rows = list_rows(tmp_path / "variant_effect")
    assert {row["chrom"] for row in rows} == {"chr20"}
    for row in rows:
        at = row["position"] - 1001
        assert row["label"] == ("rare" if at in spots[::2] else "common")
        assert row["sequence"] == text[at - 20 : at + 20] == text[row["start"] - 1000 : row["end"] - 1000]


def test_windows_at_the_ends_are_padded_where_asked(made, tmp_path):
    _, genome, letters = made
    table = tmp_path / "v.tsv"
    rows = [
        (chrom, at + 1, text[at], change(text[at]), at % 2) for chrom, text in letters.items() for at in (3, 2000, 3998)
    ]
    table.write_text("chrom\tpos\tref\talt\tlabel\n" + "".join("\t".join(map(str, row)) + "\n" for row in rows))
    flags = ("--genome", genome, "--variants", table, "--length", 100)
    assert build("variants", tmp_path, *flags, "--pad", "--name", "padded") == 0
    found = {(row["chrom"], row["position"]): row for row in list_rows(tmp_path / "padded")}
    assert len(found) == len(rows)
    text = letters["chr9"]
    assert found["chr9", 4]["sequence"] == "N" * 47 + text[:53]
    assert found["chr9", 3999]["sequence"] == text[3948:] + "N" * 48


@pytest.mark.parametrize("skip", [False, True])
def test_a_reference_allele_that_is_another(made, tmp_path, capsys, skip):
    _, genome, letters = made
    rows = [
        (chrom, at + 1, text[at], change(text[at]), at % 2) for chrom, text in letters.items() for at in (500, 1501)
    ]
    wrong = ("chr1", 700, change(letters["chr1"][699]), letters["chr1"][699], 1)
    table = tmp_path / "v.csv"
    table.write_text("chrom,pos,ref,alt,label\n" + "".join(",".join(map(str, row)) + "\n" for row in [*rows, wrong]))
    flags = ["--genome", genome, "--variants", table, "--length", 100, *(["--skip_mismatches"] if skip else [])]
    code = build("variants", tmp_path, *flags)
    told = capsys.readouterr()
    if skip:
        assert (
            code == 0
            and "1 variants whose REF" in told.out
            and len(list_rows(tmp_path / "variant_effect")) == len(rows)
        )
    else:
        assert code == 1 and not (tmp_path / "variant_effect").exists()
        assert f"data row {len(rows) + 1}" in told.err and "chr1:700" in told.err
        assert f"{wrong[2]!r}" in told.err and f"{wrong[3]!r}" in told.err and "--skip_mismatches" in told.err
