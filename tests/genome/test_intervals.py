"""BED files as they come: empty fields, tabs at the end, bedtools' output, browser lines, headers of other tables."""

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gengram.errors import InputError
from gengram.genome.alphabet import reverse_complement
from gengram.genome.intervals import read_intervals, read_regions, require_values
from gengram.genome.tables import read_rows

CHR1 = "ACGTTGCA" * 10
GENOME = f">chr1 first\n{CHR1}\n>7\n{CHR1[::-1]}\n>track\n{CHR1}\n>chrM\n{CHR1}\n"


@pytest.fixture
def cut(tmp_path):
    def cut(text: str, genome: str = GENOME):
        (tmp_path / "genome.fa").write_text(genome)
        (tmp_path / "rows.bed").write_bytes(text.encode())
        return read_intervals(tmp_path / "rows.bed", tmp_path / "genome.fa")

    return cut


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("chr1\t0\t4\t\nchr1\t4\t8\tfoo\n", ["", "foo"]),
        ("chr1\t0\t4\tfoo\t\nchr1\t4\t8\tbar\textra\n", ["foo", "bar"]),
        ("chr1\t0\t4\tfoo\t\nchr1\t4\t8\tbar\t\n", ["foo", "bar"]),
        ("chr1\t0\t4\tfoo\nchr1\t4\t8\tbar\t\t\n", ["foo", "bar"]),
        ("chr1\t0\t4\tfoo\t\t\nchr1\t4\t8\tbar\n", ["foo", "bar"]),
        ("#chrom\tstart\tend\tname\t\nchr1\t0\t4\tfoo\nchr1\t4\t8\tbar\t\n", ["foo", "bar"]),
        ("chr1 0 4 foo\t\nchr1 4 8 bar\n", ["foo", "bar"]),
    ],
)
def test_empty_fields_at_the_end_of_a_line_are_fields(text, names, cut):
    table = cut(text)
    assert table["name"].to_pylist() == names
    assert table["sequence"].to_pylist() == ["ACGT", "TGCA"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chr1\t0\t4\tfoo\nchr1\t4\t8\n", "line 2: 3 columns, not 4 as line 1"),
        ("chr1\t0\t4\tfoo\nchr1\t4\t8\tbar\tmore\n", "line 2: 5 columns, not 4 as line 1"),
        ("chr1\t0\t4\tfoo\t\nchr1\t4\t8\tbar\tmore\nchr1\t4\t8\tbar\n", "line 3: 4 columns, not 5 as line 2"),
        ("#chrom\tstart\tend\tname\nchr1\t0\t4\n", "line 2: 3 columns where line 1 names 4"),
        ("#chrom\tstart\tend\nchr1\t0\t4\tfoo\n", "line 2: 4 columns where line 1 names 3"),
    ],
)
def test_lines_of_different_lengths_are_refused(text, message, cut):
    with pytest.raises(InputError, match=f"rows.bed, {message}"):
        cut(text)


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ("#chrom\tstart\tend\tsequence\tlabel", ["column_4", "label"]),
        ("#chrom\tstart\tend\tchrom\tstart", ["column_4", "column_5"]),
        ("#chrom\tstart\tend\tStart\tEND", ["column_4", "column_5"]),
        ("#chrom\tstart\tend\tname\tname", ["name", "column_5"]),
        ("#chrom\tstart\tend\t\tcolumn_4", ["column_4", "column_5"]),
        ("#chrom\tstart\tend\tcolumn_5\tend", ["column_5", "column_5_"]),
    ],
)
def test_no_name_takes_the_place_of_the_interval_or_its_bases(header, names, cut, capsys):
    table = cut(f"{header}\nchr1\t0\t4\tTTTT\t60\n")
    assert table.column_names == ["sequence", "chrom", "start", "end", *names]
    assert table.to_pylist()[0] == {
        **{"sequence": "ACGT", "chrom": "chr1", "start": 0, "end": 4},
        **dict(zip(names, ["TTTT", "60"])),
    }
    assert "rows.bed, line 1: columns 1 to 3 are the interval" in capsys.readouterr().err


@pytest.mark.parametrize(
    "header",
    [
        "#chrom\tstart\tend\tname",
        "#chrom\tchromStart\tchromEnd\tname",
        "# chr\tstart\tend\tname",
        "#Chr\tStart\tEnd\tname",
        "chrom\tstart\tend\tname",
        "seqnames\tstart\tend\tname",
        "#chromosome begin end name",
        "#chrom\tfirst\tlast\tname",
        "track name=x\n#chrom\tstart\tend\tname",
    ],
)
def test_headers_name_the_columns_behind_the_interval(header, cut):
    table = cut(f"{header.removesuffix('name')}label\nchr1\t0\t4\tyes\n")
    assert table.to_pylist() == [{"sequence": "ACGT", "chrom": "chr1", "start": 0, "end": 4, "label": "yes"}]


@pytest.mark.parametrize("comment", ["# chrom sizes of hg38", "#chrom", "# a start b", "#chr1\t0\t4"])
def test_comments_are_no_headers(comment, cut):
    assert cut(f"{comment}\nchr1\t0\t4\tyes\n").column_names[-1] == "name"


def test_headers_that_contradict_are_refused(cut):
    one, other = "#chrom\tstart\tend\ta\n", "#chrom\tstart\tend\tb\n"
    row = "chr1\t0\t4\tx\n"
    assert cut(one + row + one + row).num_rows == 2
    with pytest.raises(InputError, match="line 3: the columns have other names than in line 1"):
        cut(one + row + other + row)
    with pytest.raises(InputError, match="line 2: the names of the columns come after intervals"):
        cut(row + one + row)


@pytest.mark.parametrize(
    ("text", "sequences"),
    [
        ("chr1\t0\t5\tx\t0\t-\n", ["AACGT"]),
        ("chr1 0 5 x 0 -\n", ["AACGT"]),
        ("#chrom\tstart\tend\tname\tscore\tstrand\tstrand\nchr1\t0\t5\tx\t0\t-\t+\n", ["AACGT"]),
        ("#chrom\tstart\tend\tname\tscore\tStrand\nchr1\t0\t5\tx\t0\t-\n", ["AACGT"]),
        ("#chrom\tstart\tend\tstrand\nchr1\t0\t5\t-\n", ["AACGT"]),
        # The strand of what bedtools -wb has added.
        ("#chrom\tstart\tend\tchrom\tstart\tend\tname\tscore\tstrand\nchr1\t0\t5\tchr1\t4\t9\tx\t0\t-\n", ["ACGTT"]),
        ("chr1\t0\t5\tx\t0\t.\tchr1\t4\t9\ty\t0\t-\n", ["ACGTT"]),
        ("chr1\t0\t5\tx\t0\t.\t3.5\t2.1\t-1\t2\n", ["ACGTT"]),  # narrowPeak
        ("chr1\t0\t5\t0.25\n", ["ACGTT"]),  # bedGraph
        ("chr1\t0\t5\tx\t0\t\n", ["ACGTT"]),
        ("chr1\t0\t5\tx\t0\t-\t0\t5\t0,0,0\t2\t1,1,\t0,4,\n", ["AACGT"]),  # BED12: the whole span
    ],
)
def test_the_strand_is_column_6_of_a_bed(text, sequences, cut):
    assert cut(text)["sequence"].to_pylist() == sequences


def test_a_strand_that_the_header_does_not_call_so_is_told(cut, capsys):
    table = cut("#chrom\tstart\tend\tname\tscore\tdirection\nchr1\t0\t5\tx\t0\t+\nchr1\t0\t5\tx\t0\t-\n")
    assert table["sequence"].to_pylist() == ["ACGTT"] * 2
    assert "column 6 ('direction') has strands ('-' in line 3)" in capsys.readouterr().err


@pytest.mark.parametrize("strand", ["*", "?", "-1", "1", "plus", "R"])
def test_odd_strands_are_refused(strand, cut):
    with pytest.raises(InputError, match=r"line 1: interval chr1:0-4: strand '.+' \(column 6\) is none of \+ - \."):
        cut(f"chr1\t0\t4\tx\t0\t{strand}\n")


def test_two_intervals_a_line_without_names_are_refused_with_the_remedy(cut):
    with pytest.raises(InputError, match=r"strand '9' \(column 6\) .* as bedtools -wb adds them, keep columns 1 to 3"):
        cut("chr1\t0\t5\tchr1\t4\t9\n")


def test_lines_of_browsers_and_comments_are_passed_over_wherever_they_are(cut):
    noise = ["track name=x description='a b'", "browser position chr1:1-9", "# a comment", "", "\t", "#"]
    rows = ["chr1\t0\t4", "track\t4\t8", "chr1\t8\t12"]
    assert cut("\n".join([*noise, rows[0], *noise, rows[1], *noise, rows[2], *noise]))["chrom"].to_pylist() == [
        "chr1",
        "track",  # a contig of this name
        "chr1",
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("blank", ["\t", " ", "   "])
def test_line_ends_marks_and_blanks_change_nothing(end, mark, blank, cut):
    text = mark + end.join(blank.join(row) for row in (["chr1", "0", "4", "x"], ["chr1", "4", "8", "y"]))
    assert cut(text)["name"].to_pylist() == ["x", "y"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chr1\t4\t4\n", "line 1: interval chr1:4-4 holds no bases"),
        ("chr1\t9\t4\n", "line 1: interval chr1:9-4 holds no bases"),
        ("chr1\t1e3\t2000\n", "line 1: start '1e3' is not a position .*, in column 2"),
        ("chr1\t0\t4.0\n", "line 1: end '4.0' is not a position .*, in column 3"),
        ("chr1\t-4\t4\n", "line 1: start '-4' is not a position"),
        ("chr1\t1,000\t2,000\n", "line 1: start '1,000' is not a position"),
        ("chr1\t0\t" + "9" * 6000 + "\n", "line 1: end '9{30}' is not a position"),
        ("chr1\t0\t" + "9" * 18 + "\n", "goes past the end of contig 'chr1', which has 80 bp"),
        ("chr1\t٣\t4\n", "line 1: start '٣' is not a position"),
        ("\t0\t4\n", r"line 1: column 1 \(chrom\) is empty"),
        ("chr2\t0\t4\n", "no contig 'chr2'; it has chr1, 7, track, chrM. No contig of the file is there: is it of"),
        ("chr1\t0\t4\nchr2\t0\t4\n", "line 2: .* no contig 'chr2'; it has chr1, 7, track, chrM$"),
        ("chr1\t0\n", "line 1: 2 columns, not at least 3"),
        ("chr1:0-4\n", "line 1: 1 columns, not at least 3"),
        ("#chrom\tstart\tend\n", "the file has no intervals"),
        ("", "the file has no intervals"),
    ],
)
def test_what_is_no_interval_is_refused(text, message, cut):
    with pytest.raises(InputError, match=message):
        cut(text)


def test_every_contig_of_a_genome_has_its_own_name(cut):
    with pytest.raises(InputError, match="line 5: a second contig is called 'chr2'"):
        cut("chr1\t0\t4\n", ">chr1\nACGT\n>chr2\nACGT\n>chr2\nTTTT\n")


@pytest.mark.parametrize("name", ["p.narrowPeak", "p.broadPeak.gz", "p.bedGraph", "p.BED", "p.bed.bgz", "p.gappedPeak"])
def test_files_that_begin_like_a_bed_are_read_by_their_names(name, tmp_path):
    (tmp_path / "genome.fa").write_text(GENOME)
    text = b"chr1\t0\t4\tx\n"
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    assert read_rows(tmp_path / name, genome=tmp_path / "genome.fa")["sequence"] == ["ACGT"]


def test_a_value_that_is_missing_is_named_with_its_line(tmp_path):
    path = tmp_path / "rows.bed"
    path.write_text("# labels\nchr1\t0\t4\tyes\nchr1\t4\t8\t\n")
    with pytest.raises(InputError, match=r"rows.bed, line 3: column 4 \('name'\) has no value"):
        require_values(path, "name")
    path.write_text("chr1\t0\t4\tyes\nchr1\t4\t8\tno\n")
    require_values(path, "name")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 79), st.integers(1, 80), st.text("ab.", max_size=3), st.sampled_from("+-.")),
        min_size=1,
        max_size=6,
    ),
    st.data(),
)
def test_tabs_and_noise_change_no_interval(tmp_path_factory, rows, data):
    folder = tmp_path_factory.mktemp("any")
    rows = [(min(a, b - 1), max(a, b - 1) + 1, name, strand) for a, b, name, strand in rows]
    lines = []
    for start, end, name, strand in rows:
        lines += data.draw(
            st.lists(st.sampled_from(["", "# x", "track type=bed", "browser hide all", "\t\t"]), max_size=2)
        )
        lines.append(f"chr1\t{start}\t{end}\t{name}\t\t{strand}" + "\t" * data.draw(st.integers(0, 2)))
    (folder / "rows.bed").write_text(data.draw(st.sampled_from(["\n", "\r\n"])).join(lines))
    (folder / "genome.fa").write_text(GENOME)
    table = read_intervals(folder / "rows.bed", folder / "genome.fa")
    assert table["name"].to_pylist() == [name for _, _, name, _ in rows]
    assert table["sequence"].to_pylist() == [
        reverse_complement(CHR1[start:end]) if strand == "-" else CHR1[start:end] for start, end, _, strand in rows
    ]
    assert [region[2:] for region in read_regions(folder / "rows.bed")] == [(start, end) for start, end, *_ in rows]


def test_the_reported_files(shared):
    folder = shared / "cases" / "bugs" / "bed-empty-last-column"
    if not folder.is_dir():
        pytest.skip("no ../shared/cases/bugs beside the project")
    for name in ("empty_last.bed", "trailing_tab.bed"):
        assert read_intervals(folder / name, folder / "genome.fa").num_rows == 2
        assert len(read_regions(folder / name)) == 2
    with pytest.raises(InputError, match=r"empty_last.bed, line 1: column 4 \('name'\) has no value"):
        require_values(folder / "empty_last.bed", "name")
