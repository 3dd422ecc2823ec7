"""FASTA records and BED intervals: what is read, strand and coordinates, and every way in which a file can be wrong."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gengram.errors import InputError
from gengram.genome.fasta import read_fasta, read_labelled_fasta
from gengram.genome.intervals import read_intervals
from gengram.genome.tables import read_rows
from gengram.tokenization import reverse_complement

GENOME = ">chr1 first contig\nACGTAC\nGTnnRY\n\n>chr2\nttttGGGG\n"


def write(folder: Path, text: str, name: str) -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["t.fa", "t.fasta.gz", "t.fna"])
def test_records_with_labels(name, tmp_path):
    path = write(tmp_path, ">a|b|0\r\nACGT\r\nacgn\r\n>chr3:5-9|exon\nRYKM\n\n", name)
    assert read_rows(path).to_dict() == {
        "sequence": ["ACGTacgn", "RYKM"],
        "label": ["0", "exon"],
        "name": ["a|b", "chr3:5-9"],
    }


def test_regions_in_names_become_columns(tmp_path):
    table = read_labelled_fasta(write(tmp_path, ">chr3:5-9|1\nACGT\n>chrX:100-104(-)|0\nGGGG\n", "t.fa"))
    assert table.select(["chrom", "start", "end"]).to_pydict() == {
        "chrom": ["chr3", "chrX"],
        "start": [5, 100],
        "end": [9, 104],
    }


def test_records_without_labels_where_none_are_needed(tmp_path):
    table = read_labelled_fasta(write(tmp_path, ">a x\nAC\n>b\nGG\n", "t.fa"), needs_labels=False)
    assert table.to_pydict() == {"sequence": ["AC", "GG"], "name": ["a x", "b"]}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text("ACGTNacgtRYK", min_size=1, max_size=40), min_size=1, max_size=5), st.integers(1, 12))
def test_any_line_width_gives_the_sequence(tmp_path_factory, sequences, width):
    lines = []
    for number, sequence in enumerate(sequences):
        lines += [f">s{number}", *(sequence[start : start + width] for start in range(0, len(sequence), width))]
    path = write(tmp_path_factory.mktemp("any"), "\n".join(lines), "t.fa")
    assert [sequence for _, _, sequence in read_fasta(path)] == sequences


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("ACGT\n>a|0\nAC\n", "line 1: a FASTA file begins with '>', not with 'ACGT'"),
        (">a|0\nAC\n>b\nGG\n", "line 3: the header 'b' has no label; write it as '>name|label'"),
        (">a|\nAC\n", r"line 1: the header 'a\|' has no label"),
        (">a|0\nAC\n>b|1\n\n", r"line 3: the record 'b\|1' has no sequence"),
        (">a|0\nAC\n>\nGG\n", "line 3: a record without a name"),
    ],
)
def test_faults_of_a_fasta(text, message, tmp_path):
    with pytest.raises(InputError, match=message) as fault:
        read_rows(write(tmp_path, text, "t.fa"))
    assert str(fault.value).startswith(str(tmp_path / "t.fa"))


@pytest.mark.parametrize("headers", [("a", "b|1"), ("b|1", "a"), ("sp|P1|x", "b|")])
def test_headers_with_and_without_a_bar_are_names_where_no_label_is_needed(headers, tmp_path):
    path = write(tmp_path, f">{headers[0]}\nAC\n>{headers[1]}\nGG\n", "t.fa")
    assert read_labelled_fasta(path, needs_labels=False).to_pydict() == {"sequence": ["AC", "GG"], "name": [*headers]}
    with pytest.raises(InputError, match="has no label; write it as '>name"):
        read_labelled_fasta(path)


@pytest.mark.parametrize(
    ("name", "region"),
    [
        ("chr1:0-96", ("chr1", 0, 96)),
        ("chr1:0-96(+)", ("chr1", 0, 96)),
        ("chr1:0-96(.)", ("chr1", 0, 96)),
        ("peak::chr1:0-96(-)", ("chr1", 0, 96)),
        ("a:1-2::chr1:0-96", ("chr1", 0, 96)),
        ("HLA-A*01:01:01:01:5-96", ("HLA-A*01:01:01:01", 5, 96)),
        ("chr1:0-96:+", ("chr1", 0, 96)),
        ("chr1:0-96 rest", ("chr1", 0, 96)),
        ("chr1", None),
        ("chr1:0-96bp", None),
        ("x chr1:0-96", None),
        ("chr1:0-" + "9" * 5000, None),
    ],
)
@pytest.mark.parametrize("label", ["", "|1"])
def test_regions_as_bedtools_and_samtools_write_them(name, region, label, tmp_path):
    table = read_labelled_fasta(write(tmp_path, f">{name}{label}\nAC\n", "t.fa"), needs_labels=False)
    found = (
        [table[column][0].as_py() for column in ("chrom", "start", "end")] if "chrom" in table.column_names else None
    )
    assert found == (list(region) if region else None)
    assert table["name"].to_pylist() == [name]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_what_files_have_besides_bases(mark, end, tmp_path):
    lines = [">a|b\tc d", "; a comment > 1", "ACGT acgt", "  NNNN\tRY- ", "", ";", ">b", "AC*"]
    assert list(read_fasta(write(tmp_path, mark + end.join(lines), "t.fa"))) == [
        (1, "a|b\tc d", "ACGTacgtNNNNRY-"),
        (7, "b", "AC*"),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 ACGT ACGT", "line 3, column 1: '1' in a sequence: remove the numbers beside the sequence"),
        ("ACGT 60", "line 3, column 6: '6' in a sequence: remove the numbers"),
        ("ACGT>b", "line 3, column 5: '>' in a sequence: a record begins on a line of its own"),
        (" >b", "line 3, column 2: '>'"),
        ("AC\x1b[31mGT", r"line 3, column 3: '\\x1b' in a sequence: a control character"),
        ("ACGT\x1a", r"line 3, column 5: '\\x1a'"),
        ("AC\x1fGT", r"line 3, column 3: '\\x1f'"),
    ],
)
def test_lines_that_are_no_sequence(line, message, tmp_path):
    with pytest.raises(InputError, match=message):
        list(read_fasta(write(tmp_path, f">a\nACGT\n{line}\n>c\nAC\n", "t.fa")))


@pytest.mark.parametrize(
    ("text", "name"), [("@r1\nACGT\n+\nIIII\n", "FASTQ"), ("LOCUS  NC_1\n", "GenBank"), ("##gff-version 3\n", "GFF")]
)
def test_another_format_is_named(text, name, tmp_path):
    with pytest.raises(InputError, match=f"line 1: a FASTA file begins with '>', not with .*; is it {name}"):
        list(read_fasta(write(tmp_path, text, "t.fa")))


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=80))
def test_any_text_is_records_or_a_message(tmp_path_factory, text):
    path = write(tmp_path_factory.mktemp("any"), f">a\n{text}", "t.fa")
    try:
        records = list(read_fasta(path))
    except InputError as error:
        assert str(path) in str(error)
    else:
        assert all(
            header and sequence and not set(sequence) & set("> \t\n0123456789") for _, header, sequence in records
        )


def test_a_fasta_that_is_cut_off_or_no_text(tmp_path):
    path = write(tmp_path, ">a|0\n" + "ACGTTGCATT" * 2000, "t.fa.gz")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="the gzip file is cut off or damaged"):
        read_rows(path)
    (tmp_path / "u.fa").write_bytes(b">a|0\nAC\xff\n")
    with pytest.raises(InputError, match=r"u\.fa: not text"):
        read_rows(tmp_path / "u.fa")
    with pytest.raises(InputError, match=r"none\.fa: cannot be read \(No such file"):
        read_rows(tmp_path / "none.fa")


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_intervals_are_cut_from_the_genome(suffix, tmp_path):
    genome = write(tmp_path, GENOME, f"genome.fa{suffix}")
    text = "track name=x\n# comment\nchr1\t0\t4\tpeak\t5\t+\nchr2\t2\t8\tother\t7\t-\n\nchr1\t8\t12\tpeak\t1\t.\n"
    rows = read_rows(write(tmp_path, text, f"t.bed{suffix}"), genome=genome)
    assert rows.to_dict() == {
        "sequence": ["ACGT", "CCCCaa", "nnRY"],
        "chrom": ["chr1", "chr2", "chr1"],
        "start": [0, 2, 8],
        "end": [4, 8, 12],
        "name": ["peak", "other", "peak"],
        "score": ["5", "7", "1"],
        "strand": ["+", "-", "."],
    }


def test_a_line_can_name_the_columns(tmp_path):
    genome = write(tmp_path, GENOME, "genome.fa")
    bed = write(tmp_path, "#chromosome begin end label_a label_b\nchr1 0 2 1 0\nchr2 0 8 0 1\n", "t.bed")
    assert read_rows(bed, genome=genome).column_names == ["sequence", "chrom", "start", "end", "label_a", "label_b"]


def test_columns_beyond_the_strand_have_numbers(tmp_path):
    bed = write(tmp_path, "chr1\t0\t2\tx\t0\t+\ta\tb\n", "t.bed")
    assert read_intervals(bed, write(tmp_path, GENOME, "g.fa")).column_names[-2:] == ["column_7", "column_8"]


@settings(max_examples=40, deadline=None)
@given(st.text("ACGTNRacgt", min_size=1, max_size=30), st.data())
def test_any_interval_is_the_slice_or_its_reverse_complement(tmp_path_factory, contig, data):
    start = data.draw(st.integers(0, len(contig) - 1))
    end = data.draw(st.integers(start + 1, len(contig)))
    strand = data.draw(st.sampled_from("+-."))
    folder = tmp_path_factory.mktemp("any")
    bed = write(folder, f"c\t{start}\t{end}\tx\t0\t{strand}\n", "t.bed")
    sequence = read_intervals(bed, write(folder, f">c\n{contig}\n", "g.fa"))["sequence"][0].as_py()
    assert sequence == (reverse_complement(contig[start:end]) if strand == "-" else contig[start:end])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "chr1\t0\t4\tx\nchr1\t8\t13\ty\n",
            "line 2: interval chr1:8-13 goes past the end of contig 'chr1', which has 12 bp",
        ),
        (
            "chr3\t0\t4\tx\n",
            r"line 1: interval chr3:0-4: the genome .*genome\.fa has no contig 'chr3'; it has chr1, chr2",
        ),
        ("chr1\t4\t4\tx\n", "line 1: interval chr1:4-4 holds no bases; starts count from 0"),
        ("chr1\t-1\t4\tx\n", "line 1: start '-1' is not a position"),
        ("chr1\t1.5\t4\tx\n", r"line 1: start '1\.5' is not a position"),
        ("chr1\t0\t4\tx\t0\t*\n", r"line 1: interval chr1:0-4: strand '\*' \(column 6\) is none of"),
        ("chr1\t0\n", "line 1: 2 columns, not at least 3"),
        ("chr1\t0\t4\tx\nchr1\t0\t4\n", "line 2: 3 columns, not 4 as line 1"),
        ("#chrom\tstart\tend\tlabel\nchr1\t0\t4\n", "line 2: 3 columns where line 1 names 4"),
        ("# nothing\n", "the file has no intervals"),
    ],
)
def test_faults_of_a_bed(text, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read_rows(write(tmp_path, text, "t.bed"), genome=write(tmp_path, GENOME, "genome.fa"))


def test_intervals_without_a_genome_or_with_a_contig_twice(tmp_path):
    bed = write(tmp_path, "chr1\t0\t4\tx\n", "t.bed")
    with pytest.raises(InputError, match=r"t\.bed: intervals need a genome .* --genome"):
        read_rows(bed)
    with pytest.raises(InputError, match="line 3: a second contig is called 'chr1'"):
        read_rows(bed, genome=write(tmp_path, ">chr1\nACGT\n>chr1 again\nACGT\n", "genome.fa"))


def test_letters_without_a_complement_are_left_to_the_survey_of_letters(tmp_path):
    bed = write(tmp_path, "c\t0\t4\tx\t0\t-\n", "t.bed")
    assert read_rows(bed, genome=write(tmp_path, ">c\nAC*T\n", "genome.fa"))["sequence"] == ["A*GT"]
