"""What is private in files and rows: found in every form, told with its place, and let through only by name."""

import json
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from safetensors.numpy import save_file

from gengram.errors import InputError
from gengram.training.publishing.scan import read_allowances, refuse_private, scan_file

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJ0123456789"
HUB, GITHUB = "hf" + "_" + LETTERS[:34], "gh" + "p_" + LETTERS[:36]
HOME = "/home/alice/projects/splice"


def scan(name: str, content: Path | bytes, **options) -> list[tuple[str, str]]:
    return [(finding.place, finding.kind.name) for finding in scan_file(name, content, **options)]


@pytest.mark.parametrize(
    "name, line",
    [
        ("config.json", '  "_name_or_path": "/home/somebody/models/bert",'),
        ("config.json", '  "cache": "/p7/models/x"'),
        ("tokenizer_config.json", '  "vocab_file": "C:\\\\Users\\\\somebody\\\\vocab.txt"'),
        ("generation_config.json", '  "from": "~/models/x"'),
        ("README.md", "trained on /data/genomes/hg38.fa"),
        ("modeling_x.py", 'PATH = "/scratch/user/weights"'),
        ("README.md", HUB),
        ("tokenizer.json", '"source": "file:///home/somebody/x"'),
    ],
)
def test_the_place_is_the_line_and_the_column(name, line):
    ((place, _),) = scan(name, f"first\n{line}\n".encode())
    assert re.fullmatch(r"line 2, column \d+", place)
    assert place.endswith(f" {re.search('/home|/p7|C:|~/|/data|/scratch|hf_|file:', line).start() + 1}")


@pytest.mark.parametrize(
    "name, text",
    [
        ("README.md", "see https://huggingface.co/data/models and a/b/c, tata/none, 1/2, hf_hub"),
        ("config.json", '{"base": "lab/model", "a": "/", "b": "//", "c": "/home/"}'),
        ("tokenizer.json", '{"vocab": {"/usr/local": 3, "/": 4, "/p7/models/x": 5}}'),
        ("modeling_x.py", "x = y / home / tmp  # either/or"),
    ],
)
def test_what_is_no_path_is_not_found(name, text):
    assert scan(name, text.encode()) == []


def test_binary_files_are_told_by_byte_and_utf_16_by_line():
    assert scan("spm.model", b"\x00\x01\xff" + HUB.encode() + b"\x00") == [("byte 3", "hub-token")]
    (found,) = scan("vocab.txt", f"[UNK]\n{HUB}\n".encode("utf-16"))
    assert found == ("line 2", "hub-token")


@pytest.mark.parametrize("at", [0, -1, -36])
def test_nothing_is_lost_or_found_twice_between_the_blocks(at, tmp_path):
    """A file is read in blocks of 4 MiB; the secret begins `at` bytes from where the second begins."""
    begin = (1 << 22) + at
    text = b"ACGTACG\n" * (begin // 8) + b"A" * (begin % 8 - 1) + (b"," if begin % 8 else b"") + HUB.encode()
    (tmp_path / "vocab.txt").write_bytes(text + b"\n" + b"ACGTACG\n" * 3 + HOME.encode())
    line = begin // 8 + 1
    column = begin % 8 + 1
    assert scan("vocab.txt", tmp_path / "vocab.txt") == [
        (f"line {line}, column {column}", "hub-token"),
        (f"line {line + 4}, column 1", "path"),
    ]
    one_line = b"," * begin + HUB.encode()
    assert scan("vocab.txt", one_line) == [(f"line 1, column {begin + 1}", "hub-token")]


def test_the_header_of_weights(tmp_path):
    path = tmp_path / "model.safetensors"
    numbers = {HOME: np.zeros(2), "plain": np.frombuffer(HUB.encode() + b" " * 3, "uint8")}
    save_file(numbers, path, metadata={"format": "pt", "origin": GITHUB, HUB: "x"})
    found = set(scan("model.safetensors", path))
    assert {(re.sub(r"\d", "N", place), kind) for place, kind in found} == {
        ("metadata 'origin'", "github-token"),
        ("metadata N", "hub-token"),
        ("the name of tensor N", "path"),
    }
    header = b'{"__metadata__": {"a": "%s"}, "x": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}'
    escaped = header % HOME.replace("/", "\\/").encode()
    path.write_bytes(struct.pack("<Q", len(escaped)) + escaped + b"\x00")
    assert scan("model.safetensors", path) == [("metadata 'a'", "path")]
    plain = header % b"x"
    path.write_bytes(struct.pack("<Q", len(plain)) + plain + b"\x00" + HUB.encode())
    with pytest.raises(InputError, match=r"model\.safetensors: the weights cannot be read"):
        scan("model.safetensors", path)


def test_texts_of_an_image():
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    begin = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    plain = begin + chunk(b"tEXt", b"Source\x00" + HOME.encode()) + chunk(b"IEND", b"")
    assert [kind for _, kind in scan("plots/loss.png", plain)] == ["path"]
    packed = begin + chunk(b"zTXt", b"exif x\x00\x00" + zlib.compress(HUB.encode())) + chunk(b"IEND", b"")
    assert scan("plots/loss.png", packed) == [("a text of the image", "hub-token")]
    international = b"xy\x00\x01\x00en\x00x\x00" + zlib.compress(f"by {HOME}".encode())
    assert scan("plots/loss.png", begin + chunk(b"iTXt", international)) == [("a text of the image", "path")]
    assert scan("plots/loss.png", begin + chunk(b"zTXt", b"a\x00\x00xx")) == []


@pytest.mark.parametrize(
    "cells, kind",
    [
        (["a", HUB, None], pa.string()),
        (["a", HUB, None], pa.large_string()),
        (["a", HUB, "a"], pa.dictionary(pa.int32(), pa.string())),
        ([b"a", HUB.encode("utf-16"), None], pa.binary()),
        ([["a"], ["b", HUB], None], pa.list_(pa.string())),
        ([{"x": 1, "y": "a"}, {"x": 2, "y": HUB}, None], pa.struct({"x": pa.int64(), "y": pa.string()})),
        ([[{"y": ["a"]}], [{"y": []}, {"y": [HUB]}], []], pa.list_(pa.struct({"y": pa.list_(pa.string())}))),
        ([[("k", "a")], [(HUB, "a")], None], pa.map_(pa.string(), pa.string())),
        (["a", json.dumps({"x": {"t": HUB}}), "b"], pa.string()),
    ],
)
def test_rows_of_every_type(cells, kind, tmp_path):
    table = pa.table({"sequence": ["ACGT"] * 3, "n": [1, 2, 3], "x": pa.array(cells, kind)})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    expected = [("row 2, column 'x'", "hub-token")]
    assert scan("default/train.parquet", tmp_path / "t.parquet") == expected
    assert scan("default/train.parquet", (tmp_path / "t.parquet").read_bytes()) == expected
    ((finding),) = scan_file("default/train.parquet", tmp_path / "t.parquet", table="train.csv")
    assert str(finding) == "train.csv, row 2, column 'x': a token of the Hub (hub-token)"


def test_rows_are_counted_through_the_whole_file_and_cells_end_where_they_end(tmp_path):
    notes = [""] * 50_000
    notes[40_000], notes[40_001], notes[49_999] = "hf_", LETTERS[:34], HOME
    notes[20], notes[21] = "a", HOME
    table = pa.table({"note": notes, "sequence": ["ACGT" * 10] * 50_000})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet", row_group_size=7_001)
    found = scan("t.parquet", tmp_path / "t.parquet")
    assert found == [("row 22, column 'note'", "path"), ("row 50000, column 'note'", "path")]


def test_names_of_columns_and_metadata(tmp_path):
    nested = pa.array([{HOME: 1}])
    table = pa.table({GITHUB: ["x"], "nested": nested}).replace_schema_metadata({"token": HUB})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    found = scan("t.parquet", tmp_path / "t.parquet")
    assert {place for place, _ in found} == {"names of columns and metadata"}
    assert {kind for _, kind in found} == {"github-token", "path", "hub-token"}
    table = pa.table({GITHUB: [HOME]})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    assert ("row 1, column '***'", "path") in scan("t.parquet", tmp_path / "t.parquet")


def test_all_is_told_and_secrets_are_not_shown(tmp_path):
    files = {"a.json": f'{{"x": "{HOME}"}}'.encode(), "b.txt": f"x\n{GITHUB} {HUB}".encode(), f"{HUB}.md": b"fine"}
    with pytest.raises(InputError) as error:
        refuse_private(files, source=tmp_path)
    assert str(error.value) == (
        "4 private things would be published: "
        f"a.json, line 1, column 8: an absolute path '{HOME}' (path); "
        "b.txt, line 2, column 1: a token of GitHub (github-token); "
        "b.txt, line 2, column 42: a token of the Hub (hub-token); "
        "***.md, its name: a token of the Hub (hub-token). "
        "Take them out, then push again; what everybody may read is named: --allow path:a.json."
    )
    with pytest.raises(InputError) as error:
        refuse_private({"a.md": "/tmp/\u202ex/y".encode()}, source=tmp_path)
    assert str(error.value).isprintable()


def test_a_thousand_findings_are_not_listed(tmp_path):
    with pytest.raises(InputError) as error:
        refuse_private({"a.txt": (HOME + "\n").encode() * 50}, source=tmp_path)
    assert str(error.value).count("an absolute path") == 20 and "; and 30 more. " in str(error.value)
    table = pa.table({"x": [HOME] * 5000})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"at least 1000 private things .* and at least 980 more"):
        refuse_private({"t.parquet": tmp_path / "t.parquet"}, source=tmp_path)


def test_what_is_allowed_goes_up_and_nothing_else(tmp_path):
    files = {"a.json": f'"{HOME}"'.encode(), "b/c.txt": f"{HOME}\n{GITHUB}".encode()}
    with pytest.raises(InputError, match=r"^b/c\.txt, line 1, column 1: an absolute path"):
        refuse_private(files, ["path:a.json", "github-token"], source=tmp_path)
    assert refuse_private(files, ["path", "github-token:c.txt"], source=tmp_path) == (
        "a.json: an absolute path (1 place)",
        "b/c.txt: an absolute path (1 place)",
        "b/c.txt: a token of GitHub (1 place)",
    )
    assert len(refuse_private(files, ["path:*", "github-token:b/*"], source=tmp_path)) == 3
    assert refuse_private({"a.txt": b"ACGT"}, source=tmp_path) == ()


def test_a_token_of_the_hub_is_never_allowed():
    for entry in ("hub-token", "hub-token:a.txt"):
        with pytest.raises(InputError, match="a token of the Hub never goes up"):
            read_allowances([entry])
    with pytest.raises(InputError, match=r"did you mean 'github-token'\?"):
        read_allowances(["github-tokens"])
    assert len(read_allowances(["path", "path:a:b"])) == 2


def test_files_that_cannot_be_searched(tmp_path):
    for begin in (b"\x1f\x8b\x08", b"PK\x03\x04", b"BZh9", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"):
        with pytest.raises(InputError, match=r"vocab\.txt: the file is compressed"):
            scan("vocab.txt", begin + b"x" * 20)
    with pytest.raises(InputError, match=r"vocab\.txt: the file cannot be read"):
        scan("vocab.txt", tmp_path / "nowhere")
