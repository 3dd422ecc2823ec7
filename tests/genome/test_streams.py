"""Files read in blocks are the files read whole; faults name the row."""

import gzip
import json

import pandas as pd
import pyarrow as pa
import pytest

from gengram.errors import InputError
from gengram.genome import streams
from gengram.genome.streams import stream_rows, survey_rows
from gengram.genome.tables import read_rows

ROWS = {
    "seq": ["ACGT" * 3, " ACG ", "TTTT", "acgn", "GATTACA"],
    "label": pd.array([1, 0, 3, None, 2], dtype="Int64"),
    "score": ["1", "2.5", "3", "4", "5"],
    "note": ["1", "x", "2", "", "3"],
}


@pytest.fixture(params=[".csv", ".tsv.gz", ".jsonl", ".parquet"])
def table(request, tmp_path):
    """A table in one of the formats."""
    frame, path = pd.DataFrame(ROWS), tmp_path / f"rows{request.param}"
    if request.param == ".parquet":
        frame.to_parquet(path)
    elif request.param == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, index=False, sep="\t" if "tsv" in request.param else ",")
    return path


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(streams, "ROWS", 2)


def read_whole(path, **kwargs) -> pa.Table:
    blocks = list(stream_rows(path, **kwargs))
    assert all(len(block) <= 2 for block in blocks)
    return pa.concat_tables(blocks, promote_options="permissive")


def test_blocks_are_the_table(table):
    found, expected = read_whole(table), read_rows(table)
    assert found["sequence"].to_pylist() == expected["sequence"]
    assert found.column_names == expected.column_names
    seen = []
    rows, schema = survey_rows(table, look=lambda start, sequences: seen.append((start, len(sequences))))
    assert rows == 5 and seen == [(0, 2), (2, 2), (4, 1)]
    for name in schema.names:
        assert found[name].cast(schema.field(name).type).to_pylist() == expected[name]
    if ".csv" in table.name:
        assert schema.types == [pa.int64(), pa.float64(), pa.string()]


def test_fasta_and_intervals(tmp_path):
    genome = tmp_path / "genome.fa"
    genome.write_text(">chr1 of a test\nACGTAC\nGTTGCA\n>chr2\nGGGGCC\n")
    assert read_whole(genome).to_pylist() == [
        {"sequence": "ACGTACGTTGCA", "name": "chr1 of a test"},
        {"sequence": "GGGGCC", "name": "chr2"},
    ]
    regions = tmp_path / "regions.bed"
    regions.write_text("chr1\t0\t4\ta\t0\t+\nchr2\t2\t6\tb\t0\t-\nchr1\t8\t12\tc\t0\t.\n")
    found = read_whole(regions, genome=genome)
    assert found["sequence"].to_pylist() == ["ACGT", "GGCC", "TGCA"]
    assert found["start"].to_pylist() == [0, 2, 8]
    with pytest.raises(InputError, match="need a genome"):
        list(stream_rows(regions))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "seq,x\nACGT,1\nAC,2\n,3\n", "data row 3: column 'seq' has no value"),
        ("a.csv", "seq,x\nACGT,1\nAC\n", "1 columns where the header has 2"),
        ("a.csv", "", "the file is empty"),
        ("a.csv", "seq,x\n", "no data rows"),
        ("a.csv", "bases,x\nACGT,1\n", "no sequence column .* 'bases', 'x'"),
        ("a.csv", "seq,x,x\nACGT,1,1\n", "2 columns are called 'x'"),
        ("a.jsonl", '{"seq": "ACGT"}\n{"seq": "AC"}\n{"seq": "A', "line 3: not JSON"),
        ("a.jsonl", "[1]\n", "line 1: one JSON object"),
        ("a.jsonl", '{"seq": 5}\n', "holds int64, not sequences"),
        ("a.parquet", "no parquet", "not a Parquet file"),
        ("a.txt", "ACGT", "unknown format '.txt'"),
        ("a.gff3.gz", "##gff-version 3\n", "a .gff3 file has no sequences; write its features .* of a .bed file"),
        ("a.vcf", "##fileformat=VCFv4.3\n", "a .vcf file has no sequences"),
        ("a.fa", "ACGT", "begins with '>'"),
    ],
)
def test_faults_are_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        survey_rows(path)


def test_a_gzip_file_that_is_cut_off_is_named(tmp_path):
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(gzip.compress(("seq\n" + "ACGT\n" * 1000).encode())[:-12])
    with pytest.raises(InputError, match="cut off or damaged"):
        survey_rows(path)
    with pytest.raises(InputError, match="cannot be read"):
        survey_rows(tmp_path / "missing.csv")


def test_columns_that_only_later_rows_have(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"seq": "A", **({"label": 1.5} if row > 2 else {})}) for row in range(5)))
    assert survey_rows(path)[1] == pa.schema([("label", pa.float64())])
