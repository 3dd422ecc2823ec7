"""What is written is what is read: tables, sequences, places and features of any content, whole and in pieces."""

import csv
import io
import json

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gengram.genome.alphabet import reverse_complement
from gengram.genome.annotations import make_feature, read_features, write_annotations
from gengram.genome.fasta import read_fasta
from gengram.genome.intervals import read_regions
from gengram.genome.streams import stream_rows
from gengram.genome.tables import read_rows
from gengram.genome.variants import add_info, get_values, read_variants

LINES = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
# Shorter ones may be `NA` or `NaN`, which in a csv mean that there is none.
SEQUENCES = st.text("ACGTNacgtn", min_size=4, max_size=60)
# What a column may hold as text; spellings of "missing" have a meaning of their own, and so have blanks at the ends.
LETTERS = st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters=LINES)
TEXTS = st.text(LETTERS, min_size=1, max_size=12).map(lambda text: f"x{text}x")
NAMES = st.text("abcdefgh_0123456789", min_size=1, max_size=8).map(lambda text: f"n{text}")
TABLES = st.lists(st.tuples(SEQUENCES, TEXTS), min_size=1, max_size=8)


def write_table(rows, name, path):
    if name.endswith((".csv", ".tsv")):
        text = io.StringIO()
        writer = csv.writer(text, delimiter="," if name.endswith("csv") else "\t", lineterminator="\n")
        writer.writerows([("sequence", "note"), *rows])
        path.write_bytes(text.getvalue().encode())
    elif name.endswith(".jsonl"):
        lines = (json.dumps({"sequence": one, "note": note}, ensure_ascii=len(one) % 2 == 0) for one, note in rows)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        sequences, notes = zip(*rows)
        pyarrow.parquet.write_table(pa.table({"sequence": sequences, "note": notes}), path)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.parquet"])
@settings(max_examples=40, deadline=None, derandomize=True)
@given(rows=TABLES)
def test_tables(tmp_path_factory, name, rows):
    path = tmp_path_factory.mktemp("table") / name
    write_table(rows, name, path)
    # A first field of 20 bases and more would be no name, but this one is `sequence`.
    whole = read_rows(path, text_columns=("note",))
    assert list(zip(whole["sequence"], whole["note"])) == rows
    blocks = list(stream_rows(path))
    pieces = [(one, note) for block in blocks for one, note in zip(*map(block.__getitem__, ("sequence", "note")))]
    assert [(one.as_py(), note.as_py()) for one, note in pieces] == rows


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    records=st.lists(st.tuples(NAMES, SEQUENCES), min_size=1, max_size=6),
    width=st.integers(1, 70),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_fasta(tmp_path_factory, records, width, end):
    path = tmp_path_factory.mktemp("fasta") / "s.fa"
    lines = []
    for name, sequence in records:
        lines += [
            f">{name} of {len(sequence)}",
            *(sequence[place : place + width] for place in range(0, len(sequence), width)),
            "",
        ]
    path.write_bytes(end.join(lines).encode())
    assert [(header.split()[0], sequence) for _, header, sequence in read_fasta(path)] == records


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    contig=st.text("ACGT", min_size=30, max_size=80),
    places=st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9), st.sampled_from("+-.")), min_size=1, max_size=8),
)
def test_bed(tmp_path_factory, contig, places):
    folder = tmp_path_factory.mktemp("bed")
    (folder / "g.fa").write_text(f">c\n{contig}\n")
    lines = [f"c\t{start}\t{start + length}\tn\t0\t{strand}" for start, length, strand in places]
    (folder / "p.bed").write_text("\n".join(lines) + "\n")
    wanted = [contig[start : start + length] for start, length, _ in places]
    wanted = [reverse_complement(one) if strand == "-" else one for one, (*_, strand) in zip(wanted, places)]
    assert list(read_rows(folder / "p.bed", genome=folder / "g.fa", needs_labels=False)["sequence"]) == wanted
    assert [(one.start, one.end - one.start) for one in read_regions(folder / "p.bed")] == [
        place[:2] for place in places
    ]


@pytest.mark.parametrize("format", ["gff3", "gtf"])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    values=st.dictionaries(NAMES, TEXTS, min_size=1, max_size=4),
    start=st.integers(0, 10**9),
    length=st.integers(1, 10**6),
    strand=st.sampled_from("+-.?"),
    phase=st.sampled_from([None, 0, 1, 2]),
)
def test_annotations(tmp_path_factory, format, values, start, length, strand, phase):
    path = tmp_path_factory.mktemp("features") / f"f.{format}"
    made = make_feature("chr1", "CDS", start, start + length, values, strand=strand, phase=phase, format=format)
    write_annotations(path, [made])
    (read,) = read_features(path)
    assert (read.start, read.end, read.strand, read.phase) == (start, start + length, strand, phase)
    assert read.attributes == {key: (value,) for key, value in values.items()}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(value=TEXTS, number=st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_variants(tmp_path_factory, value, number):
    path = tmp_path_factory.mktemp("variants") / "v.vcf"
    path.write_text("##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\nc\t5\t.\tA\tC\t.\t.\tDB\n")
    header, records = read_variants(path)
    (record,) = (add_info(record, {"TEXT": value, "NUMBER": number}) for record in records)
    path.write_text("".join(header.lines) + record.text, encoding="utf-8")
    header, records = read_variants(path)
    (again,) = records
    assert get_values(again, "TEXT", header) == (value,) and get_values(again, "DB", header) == ()
    assert float(get_values(again, "NUMBER", header)[0]) == pytest.approx(number, rel=1e-6)
