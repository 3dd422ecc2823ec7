"""A value means the same in every format, read whole and in blocks; docs/tables.md has the table that is made here."""

import codecs
import csv
import gzip
import io
import json
import math
import warnings
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict
from hypothesis import given, settings
from hypothesis import strategies as st

from gengram.errors import InputError
from gengram.genome import streams
from gengram.genome.streams import stream_rows, survey_rows
from gengram.genome.tables import read_rows
from gengram.genome.values import cast_values
from gengram.training.arguments import DataArguments
from gengram.training.data.labels import LABEL_COLUMNS, infer_problem, read_labels
from gengram.training.data.sources import read_sources

PAGE = Path(__file__).parents[2] / "docs" / "tables.md"
BASES = "ACGTACGTACGTACGTACGTACGT"

# As a text; `e` with an accent of its own as the escape.
TEXTS = [
    "", "NA", "nan", "None", "1", "1.0", "01", "0001", "1E1", "1e-05", "true", "TRUE", "0,5", "inf", "1e39",
    "99999999999999999999", " donor ", "cafe\u0301",
]  # fmt: skip
TYPED = [None, True, 1, 1.0, 2.5, math.nan, math.inf, 2.0**60, 2**62 + 1, [1, 2], {"a": 1}]


def write_csv(columns: dict[str, list[str]], delimiter: str = ",", end: str = "\n", quoting: int = 0) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values()))
    return text.getvalue().encode()


def write_lines(columns: dict[str, list]) -> bytes:
    return "".join(json.dumps(dict(zip(columns, row))) + "\n" for row in zip(*columns.values())).encode()


def write_array(columns: dict[str, list]) -> bytes:
    return json.dumps([dict(zip(columns, row)) for row in zip(*columns.values())], indent=1).encode()


def write_parquet(columns: dict[str, list], kind: pa.DataType | None = None) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({name: pa.array(values, kind) for name, values in columns.items()}), sink)
    return sink.getvalue()


TEXT_FORMATS = {
    "plain.csv": write_csv,
    "quoted.csv": lambda columns: write_csv(columns, quoting=csv.QUOTE_ALL),
    "mark.csv": lambda columns: codecs.BOM_UTF8 + write_csv(columns),
    "windows.csv": lambda columns: write_csv(columns, end="\r\n"),
    "mac.csv": lambda columns: write_csv(columns, end="\r"),
    "packed.csv.gz": lambda columns: gzip.compress(write_csv(columns)),
    "tabs.tsv": lambda columns: write_csv(columns, "\t"),
}
TYPED_FORMATS = {
    "lines.jsonl": write_lines,
    "lines.json": write_lines,
    "array.json": write_array,
    "packed.jsonl.gz": lambda columns: gzip.compress(write_lines(columns)),
    "plain.parquet": write_parquet,
    "packed.parquet.gz": lambda columns: gzip.compress(write_parquet(columns)),
}
STRING_FORMATS = {
    "large.parquet": lambda columns: write_parquet(columns, pa.large_string()),
    "categories.parquet": lambda columns: write_parquet(columns, pa.dictionary(pa.int32(), pa.string())),
}
FORMATS = {**TEXT_FORMATS, **TYPED_FORMATS, **STRING_FORMATS}


def save(folder: Path, name: str, **columns: list) -> Path:
    size = len(next(iter(columns.values())))
    path = folder / name
    path.write_bytes(FORMATS[name]({"sequence": [BASES] * size, **columns}))
    return path


def tell(value) -> str:
    return "missing" if value is None else f"`{value}`"


def tell_label(rows: Dataset, problem: str | None = None) -> str:
    """What the first row's label is, or that the column is refused."""
    try:
        problem = problem or infer_problem(rows, ["label"], "t")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            labels = read_labels(rows, ["label"], problem, "t")
    except InputError as error:
        assert "data row 1" in str(error) or "holds" in str(error)
        return "missing: refused" if "has no value" in str(error) or " nan," in str(error) else "refused"
    return tell(labels.names[labels.values[0]] if problem == "single_label" else f"{labels.values[0, 0]:g}")


def tell_passed(path: Path) -> str:
    """What comes out of the columns that are passed on, whole and in blocks."""
    try:
        rows = read_rows(path)
    except InputError:
        return "refused"
    _, schema = survey_rows(path)
    streamed = pa.concat_tables(stream_rows(path), promote_options="permissive")
    for name in schema.names:
        assert cast_values(streamed[name], schema.field(name).type).to_pylist() == rows[name][:], name
    return tell(rows["x"][0])


def tell_text(text: str, folder: Path, formats=tuple(FORMATS)) -> list[str]:
    """The row of a text in the table: the same in every format, but for numbers that are passed on."""
    told = []
    for name in formats:
        among = {
            "names": read_rows(save(folder, name, label=[text, "HA", "NP"]), None, LABEL_COLUMNS),
            "numbers": read_rows(save(folder, name, label=[text, "0", "1"]), None, LABEL_COLUMNS),
            "targets": read_rows(save(folder, name, label=[text, "0.5", "1.5"]), None, LABEL_COLUMNS),
        }
        told.append(
            (
                tell_label(among["names"]),
                tell_label(among["numbers"], "single_label"),
                tell_label(among["targets"], "regression"),
                tell_passed(save(folder, name, x=[text, "7", "2.5"])) if name in TEXT_FORMATS else None,
                tell_passed(save(folder, name, x=[text, "7", "x"])) if text else None,
                read_rows(save(folder, name, gene_id=[text, "7", "8"]))["gene_id"][0] if text else None,
            )
        )
    for place, values in enumerate(zip(*told)):
        assert len(set(values) - {None}) <= 1, (text, place, dict(zip(formats, values)))
    assert not text or ({row[4] for row in told} == {f"`{text}`"} and {row[5] for row in told} == {text})
    return [next(value for value in values if value is not None) for values in list(zip(*told))[:4]]


def tell_typed(value, folder: Path) -> list[str]:
    """The row of a value with a type."""
    told = []
    for name in TYPED_FORMATS:
        if isinstance(value, float) and not math.isfinite(value) and "parquet" in name:
            continue  # The next value of this kind is as good.
        mate = [3, 4] if isinstance(value, list) else value if isinstance(value, bool | dict) else 3
        try:
            rows = read_rows(save(folder, name, label=[value, mate, mate]))
            told.append((tell_label(rows, "single_label"), tell_label(rows, "regression")))
        except InputError:
            told.append(("refused", "refused"))
    assert len(set(told)) == 1, (value, dict(zip(TYPED_FORMATS, told)))
    return list(told[0])


def render_tables(folder: Path) -> tuple[str, str]:
    """The two tables of the page."""
    lines = [
        "| text | a class among names | a class among numbers | a target | passed on among numbers |",
        "| --- " * 5 + "|",
    ]
    for text in TEXTS:
        written = "(empty)" if not text else f"`{ascii(text)[1:-1]}`"
        lines.append(f"| {written} | {' | '.join(ascii(one)[1:-1] for one in tell_text(text, folder))} |")
    typed = ["| value | a class | a target |", "| --- " * 3 + "|"]
    for value in TYPED:
        typed.append(f"| `{json.dumps(value)}` | {' | '.join(tell_typed(value, folder))} |")
    return "\n".join(lines), "\n".join(typed)


def test_the_page_has_the_tables(tmp_path):
    text = PAGE.read_text(encoding="utf-8")
    for table in render_tables(tmp_path):
        assert table in text, f"docs/tables.md should have:\n{table}"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(TEXTS) | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=6), min_size=1
    ).map(lambda texts: [text.replace('"', "") for text in texts]),
    st.sampled_from(["plain.csv", "packed.csv.gz", "tabs.tsv", "lines.jsonl", "plain.parquet"]),
)
def test_a_file_in_blocks_is_the_file_as_a_whole(tmp_path_factory, texts, name):
    path = save(tmp_path_factory.mktemp("any"), name, x=texts, gene_id=texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "ROWS", 2)
        patch.setattr(streams, "_BLOCK_BYTES", 256)
        tell_passed(path)
    assert [one or "" for one in read_rows(path)["gene_id"]] == texts


def test_a_data_set_of_the_hub_is_read_like_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    texts = [text for text in TEXTS if text]
    columns = {"label": texts, "gene_id": texts, "x": texts, "y": ["1.5", "NA", *["7"] * (len(texts) - 2)]}
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub/train-0.csv").write_bytes(write_csv({"sequence": [BASES] * len(texts), **columns}))
    whole = read_rows(tmp_path / "hub/train-0.csv", None, LABEL_COLUMNS)
    (rows,) = [source.rows for source in read_sources(DataArguments(dataset=str(tmp_path / "hub"))).values()]
    assert rows.to_dict() == whole.to_dict() and rows.features == whole.features
    DatasetDict({"train": whole}).save_to_disk(tmp_path / "saved")
    (rows,) = [source.rows for source in read_sources(DataArguments(dataset=str(tmp_path / "saved"))).values()]
    assert rows.to_dict() == whole.to_dict()


def test_what_a_program_writes_for_missing_is_a_name_among_names(tmp_path):
    path = tmp_path / "segments.csv"
    path.write_text("sequence,label\n" + "".join(f"{BASES},{name}\n" for name in ("HA;NA", "NA", "HA", "", "NP;HA")))
    rows = read_rows(path, None, LABEL_COLUMNS)
    with pytest.warns(UserWarning, match=r"data row 1: 'NA' in column 'label' is read as the name of a class"):
        labels = read_labels(rows, ["label"], infer_problem(rows, ["label"], path), path)
    assert dict(zip(labels.names, labels.values.sum(axis=0).tolist())) == {"HA": 3, "NA": 2, "NP": 1}
    assert not labels.values[3].any()


# A file, what is in it, and what both ways of reading it say.
FAULTS = [
    ("a.csv", "sequence,note\nACGT,5 µM\n".encode("latin-1"), r"not text in UTF-8: line 2, byte 8 is 0xb5"),
    ("a.tsv", "sequence\tx\nACGT\t1\n".encode("utf-16"), "not text: it is UTF-16"),
    ("a.tsv", "sequence\tx\nACGT\t1\n".encode("utf-16-be"), "line 1, byte 1 is 0; .* UTF-16"),
    ("a.csv", b"sequence,x\nACGT,1\nAC\0GT,2\n", "not text: line 3, byte 3 is 0"),
    ("a.csv", b"PK\x03\x04\x14\x00", "not text: it is a zip archive or a spreadsheet"),
    ("a.csv", b"BZh91AY&SY\x00", "compressed by bzip2"),
    ("a.csv", b"\x28\xb5\x2f\xfd\x00", "compressed by zstd"),
    ("a.csv", b"PAR1\x15\x04", "Parquet; call it .parquet"),
    ("a.csv", gzip.compress(gzip.compress(b"sequence\nACGT\n", mtime=0), mtime=0), "not text in UTF-8: line 1"),
    ("a.csv", b"sequence;label\nACGT;0,5\n", "separated by semicolons .*not by commas; .* decimals with a point"),
    ("a.csv", b"sequence\tlabel\nACGT\t0\n", "separated by tabs .* call it .tsv"),
    ("a.tsv", b"sequence,label\nACGT,0\n", "separated by commas .* call it .csv"),
    ("a.csv", b"sep=,\nsequence,label\nACGT,0\n", "the first line, 'sep=,', is for a spreadsheet"),
    ("a.csv", b"sep=;\nsequence;label\nACGT;0\n", "the first line, 'sep=;', is for a spreadsheet"),
    ("a.csv", b"sequence,x\nACGT,1\n\nACGT,1,2\n", "data row 2: 3 columns where the header has 2"),
    ("a.csv", b"sequence,x, x\nACGT,1,2\n", "2 columns are called 'x'"),
    ("a.csv", b"Seq,SEQ\nACGT,ACGT\n", "the sequence column can be 'Seq' or 'SEQ'"),
    ("a.jsonl", b'{"sequence": "A"}\n{"sequence": ' + b"[" * 100_000 + b"\n", "line 2: too many brackets"),
    ("a.jsonl", b'{"sequence": "A", "x": ' + b"[" * 99 + b"1" + b"]" * 99 + b"}\n", "line 1: more than 32 brackets"),
    ("a.jsonl", b'{"sequence": "A", "x": 1' + b"0" * 6000 + b"}", "line 1: 1000000.* has 6001 digits.* in quotes"),
    ("a.jsonl", b'{"sequence": "A", "x": 9223372036854775808}', "line 1: 9223372036854775808 has 19 digits"),
    ("a.jsonl", b'{"sequence": "A", "x": "\\ud800"}', r"line 1: '\\ud800' is half a letter"),
    ("a.jsonl", b'{"sequence": "A", "\\udfff": 1}', r"line 1: '\\udfff' is half a letter"),
    ("a.jsonl", b'{"sequence": "A", "x": "\\u0000"}', "data row 1: a NUL byte in 'x'"),
    ("a.jsonl", b'{"sequence": "A", "x": [{"y": ["a", "\\u0000"]}]}', "data row 1: a NUL byte in 'x'"),
    ("a.jsonl", b'{"sequence": "A", "x\\u0000y": 1}', r"NUL byte in the column name 'x\\x00y'"),
    ("a.json", b'[{"sequence": "A", "x": [{"y\\u0000": 1}]}]', r"NUL byte in the column name 'y\\x00'"),
    ("a.jsonl", b'{"sequence": "A", "x": {}}', "the objects in 'x' have no keys"),
    ("a.json", b'[{"sequence": "A", "x": [{"y": {}}]}]', "the objects in 'x' have no keys"),
    ("a.jsonl", b'{"sequence": "A", "x": 1, "x": 2}', "line 1: the key 'x' is there twice"),
    ("a.jsonl", b'{"sequence": "A"}\n"x"\n', "line 2: one JSON object a line"),
    ("a.jsonl", b'{"sequence": "A", "x": 1}\n\n{"sequence": "A", "x": "b"}', "line 3: the values of 'x'"),
    ("a.json", b'[{"sequence": "A"}, 5]', "row 2: an array of JSON objects"),
    ("a.json", b'{\n "data": [{"sequence": "A"}]}', "line 1: not JSON .* an array of objects or one object a line"),
    ("a.json", b'[{"sequence": "A"}, {"sequence": "A"', "not JSON"),
    ("a.json", b'[{"sequence": "A", "x": 1}, {"sequence": "A", "x": "b"}]', "row 2: the values of 'x' are of"),
    ("a.json", b" \n", "empty|no data rows"),
    ("a.csv.gz", gzip.compress(b"sequence\n" + b"ACGT\n" * 1000, mtime=0)[:-12], "cut off or damaged"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), FAULTS)
def test_faults_are_told_alike_whole_and_in_blocks(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    for read in (read_rows, survey_rows):
        with pytest.raises(InputError, match=message) as fault:
            read(tmp_path / name)
        assert str(fault.value).startswith(str(tmp_path / name))
        assert str(fault.value).isprintable() and len(str(fault.value)) < 700


def test_a_fault_far_behind_the_first_block_has_its_row(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "_BLOCK_BYTES", 128)
    for row, fault in (("ACGT", "1 columns where the header has 2"), (",1", "column 'sequence' has no value")):
        (tmp_path / "a.csv").write_text("sequence,x\n" + "ACGT,1\n" * 1000 + f"{row}\n" + "ACGT,1\n" * 10)
        for read in (read_rows, survey_rows):
            with pytest.raises(InputError, match=f"data row 1001: {fault}"):
                read(tmp_path / "a.csv")


def test_parquet_text_that_is_none_and_columns_that_are_no_values(tmp_path):
    latin = pa.array([b"ACGT", b"AC", "caf\u00e9".encode("latin-1")])
    wrong = pa.Array.from_buffers(pa.string(), 3, latin.buffers())
    pq.write_table(pa.table({"sequence": ["A", "C", "G"], "note": wrong}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"sequence": [b"ACGT"]}), tmp_path / "b.parquet")
    lists = pa.ListArray.from_arrays(pa.array([0, 2, 2, 3]), wrong)
    records = pa.StructArray.from_arrays([lists], ["x"])
    pq.write_table(pa.table({"sequence": ["A", "C", "G"], "note": lists}), tmp_path / "lists.parquet")
    pq.write_table(pa.table({"sequence": ["A", "C", "G"], "note": records}), tmp_path / "records.parquet")
    for read in (read_rows, survey_rows):
        for name in ("a", "lists", "records"):
            with pytest.raises(InputError, match=rf"{name}\.parquet, data row 3: the text in 'note' is not UTF-8"):
                read(tmp_path / f"{name}.parquet")
        with pytest.raises(InputError, match=r"column 'sequence' holds binary, not sequences"):
            read(tmp_path / "b.parquet")


def test_a_header_may_have_quotes_with_ends_of_lines_and_a_table_none(tmp_path):
    (tmp_path / "a.csv").write_text(f'"sequence","a\nb","c,d",0001\n{BASES},01,1E1,"x\ny"\n')
    (tmp_path / "b.csv").write_text(f"{BASES},01\n{BASES},1\n")
    (tmp_path / "c.csv").write_text(f'"{BASES}","a,b",01\n{BASES},c,2\n')
    for name in ("a.csv", "c.csv", "b.csv"):
        streamed = pa.concat_tables(stream_rows(tmp_path / name))
        rows = read_rows(tmp_path / name, None, LABEL_COLUMNS)
        assert streamed.to_pydict() == rows.to_dict()
    assert read_rows(tmp_path / "a.csv").column_names == ["sequence", "a\nb", "c,d", "0001"]
    assert rows["label"][:] == ["01", "1"]
