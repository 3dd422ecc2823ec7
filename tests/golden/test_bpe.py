"""GENA-LM's tokenizers: the published files as they are, exactly; the mended ones where the original is right.

A folder of tokenizers lies beside tokenizer_goldens.jsonl and tokenizer_pair_goldens.jsonl.
"""

import json
import re
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from gengram.tokenization import BpeEncoder, load_bpe_tokenizer

ROOT = Path(__file__).resolve().parents[3] / "shared" / "golden"


def pytest_generate_tests(metafunc):
    if "folder" in metafunc.fixturenames:
        given = metafunc.config.getoption("--golden-dir")
        root = Path(given) if given else ROOT
        files = sorted(root.rglob("tokenizer_goldens.jsonl")) if root.is_dir() else []
        folders = [
            pytest.param(file.parent, tokenizer, id=f"{file.parent.name}/{tokenizer.name}")
            for file in files
            for tokenizer in sorted(path.parent for path in (file.parent / "tokenizers").rglob("tokenizer.json"))
        ]
        metafunc.parametrize(("folder", "path"), folders)


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def find_key(path: Path, line: dict) -> str:
    name = path.name
    return next(key for key in line if key == name or key.endswith(name))


def test_published_tokenizer_is_untouched(folder, path):
    tokenizer = AutoTokenizer.from_pretrained(path)
    for line in read_lines(folder / "tokenizer_goldens.jsonl"):
        expected = line[find_key(path, line)]
        ours = tokenizer(line["sequence"], return_offsets_mapping=True, return_token_type_ids=True)
        assert ours["input_ids"] == expected["input_ids"], line["id"]
        assert ours["token_type_ids"] == expected["token_type_ids"]
        assert [list(pair) for pair in ours["offset_mapping"]] == expected["offsets"]
        assert tokenizer(line["sequence"], add_special_tokens=False)["input_ids"] == expected["ids_no_special"]
        decoded = tokenizer.decode(expected["input_ids"][1:-1], skip_special_tokens=False)
        assert decoded == expected["decoded"], line["id"]


def test_mended_tokenizer(folder, path):
    tokenizer = load_bpe_tokenizer(path)
    for line in read_lines(folder / "tokenizer_goldens.jsonl"):
        sequence, expected = line["sequence"], line[find_key(path, line)]
        ours = tokenizer(sequence, return_offsets_mapping=True)
        offsets = [list(pair) for pair in ours["offset_mapping"]]
        if re.search(r"[a-zU\[\-]", sequence):  # stated differences: case, uracil, names of special tokens
            assert [end - start for start, end in offsets].count(0) == 2  # [CLS] and [SEP]: every character has a token
            continue
        assert ours["input_ids"] == expected["input_ids"], line["id"]
        assert ours["token_type_ids"] == expected["token_type_ids"]
        ends = [end for _, end in offsets]
        assert ends == [end for _, end in expected["offsets"]]
        if not re.search("N{10}", sequence):
            assert offsets == expected["offsets"]
        if sequence == sequence.strip():  # nothing is left out: tokens follow each other without a hole
            content = offsets[1:-1]
            assert [start for start, _ in content] == [0, *ends[1:-2]][: len(content)]
        if set(sequence) <= set("ACGT"):
            assert tokenizer.restore_sequence(ours["input_ids"]) == sequence


def test_pairs(folder, path):
    original, mended = AutoTokenizer.from_pretrained(path), load_bpe_tokenizer(path)
    file = folder / "tokenizer_pair_goldens.jsonl"
    for line in read_lines(file):
        expected = line[find_key(path, line)]
        for tokenizer in (original, mended):
            ours = tokenizer(line["a"], line["b"], return_token_type_ids=True)
            assert ours["input_ids"] == expected["input_ids"]
            assert ours["token_type_ids"] == expected["token_type_ids"]


def test_bulk_encoder(folder, path):
    for tokenizer in (AutoTokenizer.from_pretrained(path), load_bpe_tokenizer(path)):
        encoder = BpeEncoder(tokenizer)
        sequences = [line["sequence"] for line in read_lines(folder / "tokenizer_goldens.jsonl")]
        expected = [tokenizer(sequence)["input_ids"] for sequence in sequences]
        assert [ids.tolist() for ids in encoder(sequences).split()] == expected
