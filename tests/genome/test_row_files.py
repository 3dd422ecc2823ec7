"""Rows in every format, read again by other programs: pandas, pysam and the csv module; hostile names and values."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gengram.errors import InputError
from gengram.genome.places import place_rows, survey_places
from gengram.genome.row_files import write_rows
from gengram.genome.tables import read_rows
from gengram.genome.tracks import Piece, write_track

TEXT = [".tsv", ".csv", ".tsv.gz", ".csv.gz"]
HOSTILE = [
    "a\tb",
    "c\nd",
    'e"f',
    "g,h",
    "i;j",
    '["k"]',
    "\r",
    "",
    " l ",
    "#m",
    "=1+1",
    "\x1b[31m",
    "\u202en",
    "染",
    "NA",
]


def read_text(path: Path, **options) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t" if ".tsv" in path.name else ",", keep_default_na=False, **options)


def draw_floats(rows: int, seed: int = 0) -> np.ndarray:
    """Float32 of every size, also the smallest."""
    bits = np.random.default_rng(seed).integers(0, 2**32, rows, dtype=np.uint32)
    numbers = bits.view(np.float32)
    return np.where(np.isfinite(numbers), numbers, np.float32(1e-45))


@pytest.mark.parametrize("suffix", TEXT)
def test_numbers_come_back_bit_by_bit(suffix, tmp_path):
    numbers, doubles = draw_floats(3000), np.random.default_rng(1).normal(size=3000)
    columns = {"a": pa.array(numbers), "b": pa.array(doubles), "c": pa.array(range(3000))}
    out = tmp_path / f"rows{suffix}"
    write_rows(out, (pa.table(columns).slice(start, 700) for start in range(0, 3000, 700)))
    found = read_text(out)
    assert (found["a"].to_numpy().astype(np.float32).view(np.uint32) == numbers.view(np.uint32)).all()
    assert (found["b"] == doubles).all() and found["c"].tolist() == list(range(3000))
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize("suffix", TEXT)
def test_hostile_names_and_values_come_back(suffix, tmp_path):
    names = [name for name in HOSTILE if name]
    table = pa.table([pa.array(HOSTILE[place:] + HOSTILE[:place]) for place in range(len(names))], names=names)
    write_rows(tmp_path / f"rows{suffix}", table)
    found = read_text(tmp_path / f"rows{suffix}", dtype=str)
    assert found.columns.tolist() == names
    assert found.to_numpy().tolist() == pd.DataFrame(table.to_pydict()).to_numpy().tolist()


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(*[st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))] * 2)))
def test_any_text_comes_back(rows, tmp_path_factory):
    out = tmp_path_factory.mktemp("text") / "rows.csv"
    table = pa.table({"x": pa.array([row[0] for row in rows], pa.string()), "y": [row[1] for row in rows]})
    write_rows(out, table)
    with open(out, encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["x", "y"], *map(list, rows)]


def test_lists_stand_between_semicolons_and_are_json_where_these_would_not_do(tmp_path):
    table = pa.table(
        {
            "labels": [["a", "b"], [], None, ["c;d", "e"], ["[f"]],
            "numbers": pa.array([[0.1, None], [1.5], None, [], [2]], pa.list_(pa.float32())),
            "fixed": pa.array([[1, 2], [3, 4], None, [5, 6], [7, 8]], pa.list_(pa.float32(), 2)),
            "deep": [[[0, 1]], [], None, [[2, 3], [4, 5]], [None]],
            "object": [{"k": "v"}, None, {"k": None}, {"k": "\n"}, {"k": "é"}],
            "flag": [True, False, None, True, True],
        }
    )
    # A slice begins in the middle of what Arrow holds.
    write_rows(tmp_path / "rows.tsv", [table.slice(0, 1), table.slice(1)])
    found = read_text(tmp_path / "rows.tsv", dtype=str)
    assert found["labels"].tolist() == ["a;b", "", "", '["c;d", "e"]', '["[f"]']
    assert found["numbers"].tolist() == ["0.1;", "1.5", "", "", "2"]
    assert found["fixed"].tolist() == ["1;2", "3;4", "", "5;6", "7;8"]
    assert [json.loads(cell) if cell else None for cell in found["deep"]] == table["deep"].to_pylist()
    assert [json.loads(cell) if cell else None for cell in found["object"]] == table["object"].to_pylist()
    assert found["flag"].tolist() == ["true", "false", "", "true", "true"]


def test_a_single_column_keeps_rows_without_a_value(tmp_path):
    write_rows(tmp_path / "rows.csv", pa.table({"x": pa.array([1.5, None, 2.5], pa.float32())}))
    assert pd.read_csv(tmp_path / "rows.csv")["x"].fillna(-1).tolist() == [1.5, -1, 2.5]


PLACED = pa.table(
    {
        "chrom": ["chr2", "chr10", "chr2"],
        "start": [50, 7, 10],
        "end": [60, 9, 20],
        "name": ["x\ty", None, "z w"],
        "strand": ["-", None, "+"],
        "score": ["7", "8", "9"],
        "prediction": ["a\nb", "c", None],
        "probability_a\tb": pa.array([0.25, 1 / 3, None], pa.float32()),
    }
)


@pytest.mark.parametrize("suffix", [".bed", ".bed.gz"])
def test_bed_is_read_by_pysam_and_by_us(suffix, tmp_path):
    pysam = pytest.importorskip("pysam")
    out = tmp_path / f"rows{suffix}"
    write_rows(out, PLACED, values=["probability_a\tb"])
    lines = pysam.BGZFile(str(out)).read() if suffix.endswith(".gz") else out.read_bytes()
    head, *rows = [line.split("\t") for line in lines.decode().splitlines()]
    assert head == [
        "#chrom",
        "start",
        "end",
        "name",
        "score",
        "strand",
        "input_score",
        "prediction",
        "probability_a\\tb",
    ]
    assert rows == [
        ["chr2", "50", "60", "x\\ty", "250", "-", "7", "a\\nb", "0.25"],
        ["chr10", "7", "9", ".", "333", ".", "8", "c", "0.33333334"],
        ["chr2", "10", "20", "z w", "0", "+", "9", ".", "."],
    ]
    ordered = tmp_path / "sorted.bed.gz"
    write_rows(ordered, PLACED.take([1, 2, 0]), values=["probability_a\tb"])
    pysam.tabix_index(str(ordered), preset="bed")
    (found,) = pysam.TabixFile(str(ordered)).fetch("chr2", 0, 15, parser=pysam.asBed())
    assert (found.contig, found.start, found.end, found.name, found[4], found.strand) == (
        "chr2", 10, 20, "z w", "0", "+",
    )  # fmt: skip
    (tmp_path / "genome.fa").write_text(f">chr2\n{'ACGT' * 20}\n>chr10\n{'ACGT' * 20}\n")
    again = read_rows(out, genome=tmp_path / "genome.fa", needs_labels=False)
    assert again["start"] == [50, 7, 10] and again["prediction"] == ["a\\nb", "c", "."]


@pytest.mark.parametrize("suffix", [".bedgraph", ".bedgraph.gz"])
def test_bedgraph_is_sorted_and_indexed_by_tabix(suffix, tmp_path):
    pysam = pytest.importorskip("pysam")
    out = tmp_path / f"rows{suffix}"
    write_rows(out, [PLACED.slice(0, 1), PLACED.slice(1)], values=["probability_a\tb"])
    text = pysam.BGZFile(str(out)).read().decode() if suffix.endswith(".gz") else out.read_text()
    assert text.splitlines() == [
        "#chrom\tstart\tend\tprobability_a\\tb",
        "chr10\t7\t9\t0.33333334",
        "chr2\t50\t60\t0.25",
    ]
    if suffix.endswith(".gz"):
        pysam.tabix_index(str(out), preset="bed")
        assert list(pysam.TabixFile(str(out)).fetch("chr2", 55, 56)) == ["chr2\t50\t60\t0.25"]


def test_bedgraph_refuses_what_overlaps_and_leaves_nothing(tmp_path):
    table = PLACED.set_column(1, "start", pa.array([15, 7, 10]))
    with pytest.raises(InputError, match=r"data row 1: chr2:15-60 overlaps with chr2:10-20 .see .* data row 3."):
        write_rows(tmp_path / "rows.bedgraph", table, values=["probability_a\tb"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".bw", ".bedgraph", ".bedgraph.gz"])
def test_one_track_of_pieces(suffix, tmp_path):
    values = draw_floats(300, 3).reshape(-1, 1)
    values[[5, 6, 299]] = np.nan
    values[10:20] = values[10]
    pieces = [Piece("b", 4, values[:200]), Piece("b", 204, values[200:250]), Piece("a", 0, values[250:])]
    out = tmp_path / f"track{suffix}"
    found = np.full((2, 300), np.nan, np.float32)
    if suffix == ".bw":
        pyBigWig = pytest.importorskip("pyBigWig")
        write_track(pieces, out, "x", {"b": 300, "a": 300})
        with pyBigWig.open(str(out)) as track:
            found = np.array([track.values(chrom, 0, 300) for chrom in "ab"], dtype=np.float32)
    else:
        pysam = pytest.importorskip("pysam")
        write_track(pieces, out, "x", {"b": 300, "a": 300})
        text = pysam.BGZFile(str(out)).read().decode() if suffix.endswith(".gz") else out.read_text()
        for line in text.splitlines()[1:]:
            chrom, start, end, value = line.split("\t")
            found["ab".index(chrom), int(start) : int(end)] = np.float32(value)
    expected = np.full((2, 300), np.nan, np.float32)
    expected[1, 4:254], expected[0, :50] = values[:250, 0], values[250:, 0]
    np.testing.assert_array_equal(found, expected)


def test_places_of_every_kind_of_file(tmp_path):
    bases = "ACGTACGTAC"
    files = {
        "rows.csv": f"sequence,chrom,start,end\n{bases},7,100,110\n{bases[:4]},X,0,4\n",
        "rows.jsonl": "".join(
            json.dumps({"seq": bases[: end - start], "chrom": chrom, "start": start, "end": end}) + "\n"
            for chrom, start, end in [("7", 100, 110), ("X", 0, 4)]
        ),
        "rows.fa": f">7:100-110(+)\n{bases}\n>X:0-4 text\n{bases[:4]}\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
        first = survey_places(tmp_path / name, disjoint=True)
        rows = place_rows(read_rows(tmp_path / name, needs_labels=False).data.table, first)
        assert [rows[column].to_pylist() for column in ("chrom", "start", "end")] == [["7", "X"], [100, 0], [110, 4]]
    (tmp_path / "rows.bed").write_text("X\t0\t4\n7\t100\t110\n")
    assert survey_places(tmp_path / "rows.bed", disjoint=True) == 0


def test_headers_that_count_from_1_are_turned_and_told(tmp_path, capsys):
    """As samtools faidx writes them."""
    (tmp_path / "rows.fa").write_text(">chr1:11-14\nACGT\n>chr1:1-2\nAC\n")
    first = survey_places(tmp_path / "rows.fa")
    rows = place_rows(read_rows(tmp_path / "rows.fa", needs_labels=False).data.table, first)
    assert rows["start"].to_pylist() == [10, 0] and rows["end"].to_pylist() == [14, 2]
    assert "count from 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("sequence,chrom,end\nAC,a,2\n", "the columns 'start' are missing among 'sequence', 'chrom', 'end'"),
        ("sequence,chrom,start,end\nAC,a,0,2\nAC,,0,2\n", "data row 2: the contig '' has no place"),
        ('sequence,chrom,start,end\nAC,"a\tb",0,2\n', r"the contig 'a\tb' has no place"),
        ("sequence,chrom,start,end\nAC,a b,0,2\n", "the contig 'a b' has no place"),
        ("sequence,chrom,start,end\nAC,track,0,2\n", "the contig 'track' has no place"),
        ("sequence,chrom,start,end\nAC,#a,0,2\n", "the contig '#a' has no place"),
        ("sequence,chrom,start,end\nAC,a,0,2\nAC,a,x,2\n", "data row 2: start 'x' is not a position"),
        ("sequence,chrom,start,end\nAC,a,-1,2\n", "data row 1: start '-1' is not a position"),
        ("sequence,chrom,start,end\nAC,a,0,\n", "data row 1: end is empty"),
        ("sequence,chrom,start,end\nAC,a,2,2\n", "data row 1: the interval a:2-2 holds no bases"),
        ("sequence,chrom,start,end,strand\nAC,a,0,2,x\n", "data row 1: strand 'x' is none of + - ."),
        ("sequence,chrom,start,end\nAC,a,0,2\nAC,b,0,2\nAC,a,1,3\n", "data row 3: a:1-3 overlaps with a:0-2"),
    ],
)
def test_rows_without_places_are_refused_with_their_row(content, words, tmp_path):
    (tmp_path / "rows.csv").write_text(content)
    with pytest.raises(InputError) as refusal:
        survey_places(tmp_path / "rows.csv", disjoint=True)
    assert words in str(refusal.value)


def test_headers_without_places_are_refused(tmp_path):
    (tmp_path / "rows.fa").write_text(">chr1:0-2\nAC\n>other\nAC\n")
    with pytest.raises(InputError, match="not every header begins like chr1:0-96"):
        survey_places(tmp_path / "rows.fa")


LIMITED = """
import resource, signal, sys
from pathlib import Path
import numpy as np, pyarrow as pa
from gengram.errors import InputError
from gengram.genome.row_files import write_rows

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
numbers = np.random.default_rng(0).random(50_000).astype(np.float32)
starts = np.arange(50_000) * 10
table = pa.table({"chrom": ["a"] * 50_000, "start": starts, "end": starts + 5, "value": numbers})
resource.setrlimit(resource.RLIMIT_FSIZE, (64_000, 64_000))
for name in sys.argv[1:]:
    try:
        write_rows(Path(name), (table.slice(start, 1000) for start in range(0, 50_000, 1000)), values=["value"])
        print(f"{name}: written")
    except InputError as error:
        print(error)
"""


def test_a_file_that_may_not_grow_leaves_nothing_and_what_was_there(tmp_path):
    pytest.importorskip("pysam")
    names = ["x.parquet", "x.tsv", "x.csv.gz", "x.bed", "x.bed.gz", "x.bedgraph", "x.bedgraph.gz"]
    (tmp_path / "x.tsv").write_text("mine")
    command = [sys.executable, "-c", LIMITED, *names]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    told = done.stdout.splitlines()
    assert done.returncode == 0 and len(told) == len(names), done.stderr
    for name, line in zip(names, told):
        assert line.startswith(f"{name}: cannot be written (File too large; raise the limit"), line
    assert [path.name for path in tmp_path.iterdir()] == ["x.tsv"] and (tmp_path / "x.tsv").read_text() == "mine"


def test_an_error_on_the_way_leaves_nothing(tmp_path):
    def break_off():
        yield PLACED
        raise KeyboardInterrupt

    for name in ("x.parquet", "x.tsv", "x.bed", "x.bedgraph"):
        with pytest.raises(KeyboardInterrupt):
            write_rows(tmp_path / name, break_off(), values=["probability_a\tb"])
        assert not list(tmp_path.iterdir())
