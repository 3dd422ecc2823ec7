"""BED files as they come: empty fields, tabs at the end, headers whose names are the interval's own."""

import pytest

from gengram.errors import InputError
from gengram.genome.intervals import read_intervals

GENOME = ">chr1\n" + "ACGTTGCA" * 10 + "\n"


@pytest.fixture
def cut(tmp_path):
    def cut(text: str):
        (tmp_path / "genome.fa").write_text(GENOME)
        (tmp_path / "rows.bed").write_text(text)
        return read_intervals(tmp_path / "rows.bed", tmp_path / "genome.fa")

    return cut


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("chr1\t0\t4\t\nchr1\t4\t8\tfoo\n", ["", "foo"]),
        ("chr1\t0\t4\tfoo\t\nchr1\t4\t8\tbar\textra\n", ["foo", "bar"]),
        ("chr1\t0\t4\tfoo\t\nchr1\t4\t8\tbar\t\n", ["foo", "bar"]),
        ("chr1\t0\t4\tfoo\nchr1\t4\t8\tbar\t\t\n", ["foo", "bar"]),
    ],
)
def test_empty_fields_at_the_end_of_a_line_are_fields(text, names, cut):
    table = cut(text)
    assert table["name"].to_pylist() == names
    assert table["sequence"].to_pylist() == ["ACGT", "TGCA"]


def test_lines_of_different_lengths_are_refused(cut):
    with pytest.raises(InputError, match=r"rows.bed, line 2: 3 columns, not 4 as the lines before"):
        cut("chr1\t0\t4\tfoo\nchr1\t4\t8\n")
    with pytest.raises(InputError, match=r"rows.bed, line 2: 5 columns, not 4 as the lines before"):
        cut("chr1\t0\t4\tfoo\nchr1\t4\t8\tbar\tmore\n")


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("#chrom\tstart\tend\tsequence", "'sequence', which is the bases of the genome"),
        ("#chrom\tstart\tend\tstart", "'start', which is the interval or an earlier column"),
        ("#chrom\tstart\tend\tchrom", "'chrom', which is the interval or an earlier column"),
        ("#chrom\tstart\tend\tname\tname", "'name', which is the interval or an earlier column"),
    ],
)
def test_a_header_cannot_take_the_place_of_the_interval_or_its_bases(header, told, cut):
    fields = "\t".join(["x"] * (header.count("\t") - 2))
    with pytest.raises(InputError, match=f"rows.bed, line 1: a column is called {told}; rename it"):
        cut(f"{header}\nchr1\t0\t4\t{fields}\n")


def test_the_reported_files(shared):
    folder = shared / "cases" / "bugs" / "bed-empty-last-column"
    if not folder.is_dir():
        pytest.skip("no ../shared/cases/bugs beside the project")
    for name in ("empty_last.bed", "trailing_tab.bed"):
        assert read_intervals(folder / name, folder / "genome.fa").num_rows == 2
