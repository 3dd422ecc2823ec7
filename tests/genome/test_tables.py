"""Reading labelled tables: formats, columns, single classes, and every way in which a file can be wrong."""

import gzip
import hashlib
import json
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from gengram.errors import InputError
from gengram.files import hash_file
from gengram.genome import tables
from gengram.genome.tables import read_rows
from gengram.genome.values import guess_type
from gengram.training.data.labels import LABEL_COLUMNS, encode_labels, find_label_columns, order_classes, read_labels

ROWS = {"sequence": ["ACGT", "GGNA", "ttag"], "label": ["exon", "intron", "exon"], "start": [5, 7, 11]}


def read_table(path: Path, sequence_column: str | None = None, label_column: str | None = None) -> Dataset:
    """Read rows with one class each; `label` is its name."""
    wanted = [label_column] if label_column else None
    rows = read_rows(path, sequence_column, wanted or LABEL_COLUMNS)
    columns = find_label_columns(rows, path, wanted)
    labels = read_labels(rows, columns, "single_label", path)
    others = [name for name in rows.column_names if name not in {"sequence", "label", *columns}]
    names = [labels.names[code] for code in labels.values]
    return (
        rows.select_columns(["sequence", *others])
        .add_column("label", names)
        .select_columns(["sequence", "label", *others])
    )


def read_names(names: list[str], path: str = "train.csv"):
    """The labels of rows with these names."""
    return read_labels(
        Dataset.from_dict({"sequence": ["ACGT"] * len(names), "label": names}), ["label"], "single_label", path
    )


def write(path: Path, frame: pd.DataFrame) -> Path:
    """Write a table in the format that the name tells; `.gz` compresses."""
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    if plain.suffix == ".parquet":
        frame.to_parquet(plain)
    elif plain.suffix == ".jsonl":
        frame.to_json(plain, orient="records", lines=True)
    else:
        frame.to_csv(plain, index=False, sep="\t" if plain.suffix == ".tsv" else ",")
    if path != plain:
        path.write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
    return path


def write_csv(folder: Path, text: str, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "name", ["t.csv", "t.csv.gz", "t.tsv.gz", "t.tsv", "t.jsonl", "t.jsonl.gz", "t.parquet", "t.parquet.gz"]
)
def test_every_format_gives_the_same_rows(name, tmp_path):
    rows = read_table(write(tmp_path / name, pd.DataFrame(ROWS)))
    assert rows.to_dict() == ROWS
    assert rows.column_names == ["sequence", "label", "start"]


def test_compression_is_seen_from_the_bytes_not_from_the_name(tmp_path):
    path = write(tmp_path / "t.csv.gz", pd.DataFrame(ROWS))
    assert read_table(path.rename(tmp_path / "t.csv")).to_dict() == ROWS
    path = write(tmp_path / "u.csv", pd.DataFrame(ROWS))
    assert read_table(path.rename(tmp_path / "u.csv.gz")).to_dict() == ROWS


def test_columns_by_alias_and_by_name(tmp_path):
    path = write_csv(tmp_path, "seq,label,dna,kind\nAC,0,GG,x\nGT,1,TT,y\n")
    assert read_table(path).to_dict() == {
        "sequence": ["AC", "GT"],
        "label": ["0", "1"],
        "dna": ["GG", "TT"],
        "kind": ["x", "y"],
    }
    named = read_table(path, sequence_column="dna", label_column="kind")
    assert named.to_dict() == {"sequence": ["GG", "TT"], "label": ["x", "y"], "seq": ["AC", "GT"]}
    both = write_csv(tmp_path, "seq,sequence,label\nAC,GG,a\nAC,TT,b\n")
    assert read_table(both)["sequence"][:] == ["GG", "TT"]


def test_blanks_line_ends_bom_quotes_and_blank_lines_do_no_harm(tmp_path):
    text = '\ufeffsequence,label,note\r\n ACGT , a ,"x, y"\r\n\r\nGG,b,"two\nlines"\r\n\r\n'
    rows = read_table(write_csv(tmp_path, text))
    assert rows.to_dict() == {"sequence": ["ACGT", "GG"], "label": ["a", "b"], "note": ["x, y", "two\nlines"]}


def test_a_row_longer_than_the_readers_blocks(tmp_path):
    rows = read_table(write_csv(tmp_path, f"sequence,label\n{'ACGT' * 700_000},0\nAC,1\n"))
    assert [len(sequence) for sequence in rows["sequence"]] == [2_800_000, 2]


@pytest.mark.parametrize(
    ("labels", "read"),
    [
        ([0, 1, 10], ["0", "1", "10"]),
        ([0.0, 1.0, 2.0], ["0", "1", "2"]),
        (["0", "1.0", "2"], ["0", "1", "2"]),
        (["0", "1", "N"], ["0", "1", "N"]),
        ([True, False, True], ["true", "false", "true"]),
        (pd.Categorical(["b", "a", "b"]), ["b", "a", "b"]),
    ],
)
def test_labels_of_every_type_become_names(labels, read, tmp_path):
    rows = read_table(write(tmp_path / "t.parquet", pd.DataFrame({"seq": ["A", "C", "G"], "label": labels})))
    assert rows["label"][:] == read


def test_the_names_of_a_class_label_feature_are_used(tmp_path):
    rows = Dataset.from_dict({"sequence": ["A", "C", "G"], "label": [2, 0, 1]})
    rows = rows.cast_column("label", ClassLabel(names=["EI", "IE", "N"]))
    rows.to_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet")["label"][:] == ["N", "EI", "IE"]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["b", "a", "c", "a"], ["a", "b", "c"]),
        (["2", "0", "1"], ["0", "1", "2"]),
        ([str(label) for label in [*range(11), 3]], [str(label) for label in range(11)]),
        (["10", "9", "x"], ["10", "9", "x"]),
    ],
)
def test_classes_are_sorted_by_name_and_numbers_by_value(labels, classes):
    rows = Dataset.from_dict({"sequence": ["ACGT"] * len(labels), "label": labels})
    read = read_labels(rows, ["label"], "single_label", "t.csv")
    assert order_classes(read, "t.csv") == classes
    encoded = encode_labels(rows, read, classes, ["label"], "t.csv")
    assert encoded.features["label"] == ClassLabel(names=classes)
    assert [classes[label] for label in encoded["label"]] == labels


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1), min_size=2))
def test_any_names_survive_a_csv(tmp_path_factory, names):
    names = ["class " + name for name in names]
    path = write(
        tmp_path_factory.mktemp("any") / "t.csv", pd.DataFrame({"sequence": ["ACGT"] * len(names), "label": names})
    )
    assert read_table(path)["label"][:] == [unicodedata.normalize("NFC", name) for name in names]


def test_hash_file(tmp_path):
    path = write_csv(tmp_path, "x" * 3_000_000)
    assert hash_file(path) == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("\n \n", "the file is empty"),
        ("sequence,label", "has a header but no data rows"),
        ("sequence,label\n", "has a header but no data rows"),
        (
            "bases,label\nAC,0\n",
            "no sequence column 'sequence' or 'seq' or 'dna' or 'dna_sequence' or 'sequences'; the file's columns are "
            "'bases', 'label'. Name the right one with --sequence_column.",
        ),
        (
            "sequence,y\nAC,0\n",
            "no label column 'label' or 'labels' or 'target' or 'targets'; the file's columns are 'sequence', 'y'",
        ),
        ("sequence,label,label\nAC,0,1\n", "2 columns are called 'label'"),
        ("sequence,label\nAC,0\nGT\n", "data row 2: 1 columns where the header has 2: 'GT'"),
        ("sequence,label\nAC,0\nGT,1,2\n", "data row 2: 3 columns where the header has 2: 'GT,1,2'"),
        ("sequence,label\nAC,0\n,1\nGT,\n", "data row 2: column 'sequence' has no value (rows like this: 1 of 3)"),
        ("sequence,label\nAC,0\nGG,1\nGT,\n", "data row 3: column 'label' has no value (rows like this: 1 of 3)"),
        ("sequence,label\nAC,0\nGG,NaN\n", "data row 2: column 'label' has no value"),
        ("sequence,label\nAC,a\nGG,NA\nGG,  \n", "data row 3: column 'label' has no value (rows like this: 1 of 3)"),
        ("sequence,label\nAC,1\nGG,NA\nGG,  \n", "data row 2: column 'label' has no value (rows like this: 2 of 3)"),
        ("sequence,label\nAC,0\nGG,0.73\n", "data row 2: label 0.73 in column 'label' is a fraction"),
    ],
)
def test_faults_of_a_csv(text, message, tmp_path):
    path = write_csv(tmp_path, text)
    with pytest.raises(InputError) as fault:
        read_table(path)
    assert str(fault.value).startswith(str(path)) and message in str(fault.value)


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"sequence,label\nAC\xff,0\n")
    with pytest.raises(InputError, match=r"t\.csv: not text in UTF-8: line 2, byte 3 is 0xff"):
        read_table(path)


@pytest.mark.parametrize("name", ["t.csv.gz", "t.tsv.gz", "t.parquet.gz"])
@pytest.mark.parametrize("missing", [1, 8, 9, 30])
def test_a_gzip_file_that_is_cut_off_anywhere(name, missing, tmp_path):
    path = write(tmp_path / name, pd.DataFrame(ROWS))
    path.write_bytes(path.read_bytes()[:-missing])
    with pytest.raises(InputError, match="the gzip file is cut off or damaged"):
        read_table(path)


def test_a_gzip_file_with_a_flipped_bit(tmp_path):
    path = write(tmp_path / "t.csv.gz", pd.DataFrame(ROWS))
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="the gzip file is cut off or damaged"):
        read_table(path)


@pytest.mark.parametrize("content", [b"sequence,label\nAC,0\n", b"PAR1 no more than the first letters"])
def test_a_parquet_file_that_is_none(content, tmp_path):
    path = tmp_path / "t.parquet"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"t\.parquet: not a Parquet file, or cut off"):
        read_table(path)


def test_a_parquet_file_that_is_cut_off(tmp_path):
    path = write(tmp_path / "t.parquet", pd.DataFrame(ROWS))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"t\.parquet: not a Parquet file, or cut off"):
        read_table(path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"sequence": [1, 2], "label": [0, 1]}, "column 'sequence' holds int64, not sequences"),
        ({"sequence": ["A", "C"], "label": [[0], [1]]}, "holds list<.*one class a row"),
        ({"sequence": ["A", "C"], "label": [0.0, float("nan")]}, "data row 2: column 'label' has no value"),
        ({"sequence": ["A", None], "label": [0, 1]}, "data row 2: column 'sequence' has no value"),
        ({"sequence": ["A", "C"], "label": [0.5, 1.0]}, "data row 1: label 0.5 in column 'label' is a fraction"),
        ({"sequence": [], "label": []}, "has a header but no data rows"),
    ],
)
def test_faults_of_a_parquet_file(columns, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read_table(write(tmp_path / "t.parquet", pd.DataFrame(columns)))


def test_a_class_label_without_a_class_is_a_missing_label(tmp_path):
    rows = Dataset.from_dict({"sequence": ["A", "C"], "label": [0, -1]})
    rows.cast_column("label", ClassLabel(names=["x", "y"])).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(InputError, match="data row 2: column 'label' has no value"):
        read_table(tmp_path / "t.parquet")


def test_files_that_are_not_there_or_of_another_kind(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.csv: cannot be read \(No such file"):
        read_table(tmp_path / "nowhere.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        read_table(tmp_path / "folder.csv")
    with pytest.raises(InputError, match=r"unknown format '\.xlsx'; give a \.csv, \.tsv, \.jsonl, \.json, \.parquet, "):
        read_table(tmp_path / "table.xlsx")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["0", "1", "3", "3"], r"0\.\.C-1 without gaps, but 0, 1, 3 were found \(label 3 first in data row 3\)"),
        (["1", "2"], r"label 1 first in data row 1"),
        (["0", "-1"], r"label -1 first in data row 2"),
        (["a", "a"], "all rows have the label 'a'"),
    ],
)
def test_classes_that_cannot_be_trained(labels, message):
    with pytest.raises(InputError, match=message):
        order_classes(read_names(labels), "train.csv")


def test_a_label_that_training_does_not_know():
    with pytest.raises(InputError, match=r"test\.csv, data row 2: label 'exno' is not one of .* 'exon', 'intron'"):
        rows = Dataset.from_dict({"sequence": ["A", "C"], "label": ["exon", "exno"]})
        encode_labels(rows, read_names(["exon", "exno"]), ["exon", "intron"], ["label"], "test.csv")


def test_a_table_without_header(tmp_path):
    lines = [f"{'ACGT' * 6},0,1", f"{'ACGN' * 6},1,1"]
    rows = read_rows(write_csv(tmp_path, "\n".join(lines) + "\n"))
    assert rows.to_dict() == {"sequence": ["ACGT" * 6, "ACGN" * 6], "label_0": [0, 1], "label_1": [1, 1]}
    rows = read_table(write_csv(tmp_path, f"{'acgt' * 6}\tx\n{'ACGN' * 6}\ty", "one.tsv"))
    assert rows.to_dict() == {"sequence": ["acgt" * 6, "ACGN" * 6], "label": ["x", "y"]}
    with pytest.raises(InputError, match="data row 2: 2 columns where the first row has 3"):
        read_rows(write_csv(tmp_path, f"{lines[0]}\nACGT,1\n"))


def test_columns_in_upper_case(tmp_path):
    assert read_table(write_csv(tmp_path, "Seq,LABEL\nAC,x\n")).to_dict() == {"sequence": ["AC"], "label": ["x"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"sequence": "AC", "label": 0}\n{"sequence": "GT", "lab', r"line 2: not JSON .*, or cut off"),
        ('["AC", 0]\n', r"line 1: one JSON object a line is needed"),
        ('{"sequence": "AC", "label": 0}\n\n{"label": 1}', "data row 2: column 'sequence' has no value"),
        (
            '{"sequence": "AC", "label": 0}\n{"sequence": "AC", "label": "x"}',
            "values of 'label' are of different kinds",
        ),
    ],
)
def test_faults_of_a_jsonl(text, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read_rows(write_csv(tmp_path, text, "t.jsonl"))


def test_a_jsonl_keeps_lists_and_columns_of_later_rows(tmp_path):
    records = [{"seq": "AC", "label": [0, 1]}, {"seq": "G\u2028", "label": [1, 1], "chrom": "chr1"}]
    path = write_csv(tmp_path, "\n".join(json.dumps(record, ensure_ascii=False) for record in records), "t.jsonl")
    assert read_rows(path).to_dict() == {
        "sequence": ["AC", "G"],
        "label": [[0, 1], [1, 1]],
        "chrom": [None, "chr1"],
    }


def draw_cell(random, kind: str) -> str:
    choices = {
        "flags": ["0", "1"],
        "numbers": ["0", "1", "7", "NA", ""],
        "fractions": ["0", "1", "0.5", " 1"],
        "texts": ["0", "1", "01", "x", " y "],
        "late": ["0"],
        "empty": ["", "NA"],
    }
    return str(random.choice(choices[kind]))


@pytest.mark.parametrize("seed", range(4))
def test_a_csv_read_in_blocks_has_the_types_and_values_of_the_whole(tmp_path, monkeypatch, seed):
    """What a column is, is known with the last block: after zeros and ones, text, numbers or nothing may follow."""
    random = np.random.default_rng(seed)
    kinds = ["flags", "numbers", "fractions", "texts", "late", "empty"]
    lines = [
        ",".join(["ACGT" * int(random.integers(1, 9)), *(draw_cell(random, kind) for kind in kinds), "0"])
        for _ in range(200)
    ]
    last = ["x", "2", "0.5", "", "NA", " 0", "1", "-3"]
    lines += [",".join(["ACGT", *["0"] * len(kinds), end]) for end in last[seed::4]]
    path = write_csv(tmp_path, "\n".join([",".join(["sequence", *kinds, "last"]), *lines]) + "\n")
    whole = read_rows(path)
    narrow = read_rows(path, narrow=True)
    monkeypatch.setattr(tables, "_LEAST", 400)
    monkeypatch.setattr(tables, "_MOST", 900)
    blocks = read_rows(path)
    assert blocks.data.table["sequence"].num_chunks > 5
    assert blocks.features == whole.features and blocks.to_dict() == whole.to_dict() == narrow.to_dict()
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    for kind in kinds[1:] + ["last"]:
        guessed = guess_type(pa.array([cell or None for cell in frame[kind]]))
        assert blocks.data.table[kind].type == (pa.string() if pa.types.is_null(guessed) else guessed)
    assert narrow.features["flags"].dtype == "int8" and whole.features["flags"].dtype == "int64"
    assert read_rows(path, narrow=True).features == narrow.features


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.tsv"])
def test_a_row_longer_than_a_block(tmp_path, monkeypatch, name):
    monkeypatch.setattr(tables, "_LEAST", 100)
    monkeypatch.setattr(tables, "_MOST", 300)
    rows = {"sequence": ["ACGT" * 10] * 20 + ["ACGT" * 500] + ["ACGT"], "label": ["0", "1"] * 11}
    assert read_table(write(tmp_path / name, pd.DataFrame(rows))).to_dict() == rows


@pytest.mark.parametrize("block", [100, 1 << 22])
def test_a_faulty_row_is_counted_over_blocks(tmp_path, monkeypatch, block):
    monkeypatch.setattr(tables, "_LEAST", block)
    lines = ["sequence,label", *["ACGTACGTACGT,1"] * 50, "ACGT,1,2", *["ACGT,0"] * 5]
    with pytest.raises(InputError, match="data row 51: 3 columns where the header has 2: 'ACGT,1,2'"):
        read_rows(write_csv(tmp_path, "\n".join(lines) + "\n"))
    lines[51] = ",1"
    with pytest.raises(InputError, match=r"data row 51: column 'sequence' has no value \(rows like this: 1 of 56\)"):
        read_rows(write_csv(tmp_path, "\n".join(lines) + "\n"))


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_many_labels_of_zeros_and_ones_take_a_byte_each(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(tables, "_RECORDS", 7)
    monkeypatch.setattr(tables, "_CELLS", 20)
    columns = {"sequence": ["ACGT"] * 40, "all": [0, 1] * 20, "late": [0] * 39 + [2], "some": [1] * 39 + [None]}
    columns |= {"lists": [[0, 1]] * 40, "late_lists": [[0, 1]] * 39 + [[0, 2]], "none": [[]] * 39 + [[1, 0]]}
    table = pa.table(columns)
    path = tmp_path / f"t{suffix}"
    if suffix == ".parquet":
        pq.write_table(table, path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    plain, narrow = read_rows(path), read_rows(path, narrow=True)
    assert plain.to_dict() == narrow.to_dict() == table.to_pydict()
    assert narrow.features["all"].dtype == narrow.features["lists"].feature.dtype == "int8"
    for name in ("late", "some", "late_lists"):
        assert narrow.features[name] == plain.features[name], name


def test_records_of_other_kinds_are_found_over_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_RECORDS", 7)
    lines = [json.dumps({"sequence": "ACGT", "label": "x" if row == 30 else row}) for row in range(40)]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    with pytest.raises(InputError, match="line 31: the values of 'label' are of different kinds"):
        read_rows(tmp_path / "t.jsonl")
    mixed = [{"sequence": "ACGT", "a": 1}] * 20 + [
        {"sequence": "AC", "a": 0.5, "b": [None]},
        {"sequence": "A", "b": ["x"]},
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, mixed)))
    rows = read_rows(tmp_path / "t.jsonl")
    assert rows["a"][:2] == [1.0, 1.0] and rows["a"][20:] == [0.5, None] and rows["b"][19:] == [None, [None], ["x"]]
