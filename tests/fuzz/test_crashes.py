"""Every crash that a damaged or changed file has caused, as small as it gets: refused, in words."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from functions import READERS

from gengram.errors import InputError


def put(*keys: Any, value: Any) -> Callable[[bytes], bytes]:
    """Return what puts a value into a JSON document."""

    def change(content: bytes) -> bytes:
        document = place = json.loads(content)
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
        return json.dumps(document).encode()

    return change


def swap(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    """Return what replaces bytes that a file has."""

    def change(content: bytes) -> bytes:
        assert old in content
        return content.replace(old, new)

    return change


def be(content: bytes) -> Callable[[bytes], bytes]:
    """Return what replaces a whole file."""
    return lambda _: content


DEEP = b'{"x": ' + b"[" * 100_000
CRASHES = [
    # pyarrow decodes names when they are looked at.
    ("csv", be(b"sequence,caf\xe9\nACGT,1\n")),
    ("csv.gz", be(b"\xb5\x01\x02\nACGT\n")),
    ("tsv", be(b"seq\xffuence\tlabel\nACGT\t1\n")),
    ("parquet", swap(b"label", b"lab\xab\xff")),
    ("parquet", swap(b"label", b"la\0el")),
    ("labels", be(b"na\xd6me\tlabel\ns0\tx\n")),
    ("jsonl", be(b'{"sequence": "ACGT", "label": ' + b"[" * 100_000 + b"\n")),
    ("jsonl", be(b'{"sequence": "ACGT", "label": 1' + b"0" * 6000 + b"}\n")),
    ("recipe", be(b'train_file: "\\UFFFFFFFF"\n')),
    ("recipe", be(b"train_file: x.csv\nmemory: {a: !!timestamp x}\n")),
    ("recipe", be(b"train_file: x.csv\nbackbone_config: {!!int '': 1}\n")),
    ("task", be(b"title: !!timestamp x\n")),
    ("task", be(b"title: t\nproblem: token\nmetric: mcc\nrows: {train: 1" + b"0" * 5000 + b"}\n")),
    ("facts of tasks", be(b"NTB/H3: {licence: !!timestamp x}\n")),
    ("facts of tasks", be(b"NTB/H3: {rows: {test: 1" + b"0" * 5000 + b"}}\n")),
    ("space of a search", be(b"learning_rate: [!!timestamp x]\n")),
    ("space of a search", be(b"sequences_per_step: [1" + b"0" * 400 + b"]\n")),
    ("card", swap(b"tags:\n- dna", b"tags: 5")),
    ("card", swap(b"license: mit", b"5: mit")),
    ("card", swap(b"license: mit", b"self: mit")),
    ("card", swap(b"license: mit", b"license: !!timestamp x")),
    ("adapter_labels", put("base_sha256", value=["x"])),
    ("adapter_labels", put("base_sha256", value=0.5)),
    ("adapter_labels", put("base_sha256", "model.safetensors", value=7)),
    ("adapter_labels", put("base_sha256", "model.safetensors", value={})),
    ("adapter_labels", be(DEEP)),
    ("report", be(DEEP)),
    ("report", put("model_folders", value=[7])),
    ("report", put("model_folders", value=[])),
    ("report", put("model_folders", value=["A" * 5000])),
    ("report", put("model_folders", value=[".."])),
    ("report", put("seeds", value=[])),
    ("report", put("seeds", value=[0, 1])),
    ("report", put("model", value=None)),
    ("report", put("model", "checkpoint", value=["x"])),
    ("report", put("plots", value=[{}])),
    ("index", put("weight_map", value=None)),
    ("index", put("weight_map", value={"classifier.weight": 7})),
    ("index", put("weight_map", value={"classifier.weight": "../model/model.safetensors"})),
    ("config", be(DEEP)),
    ("tokenizer_config", put("model_max_length", value="x")),
    ("vocab", be(b"")),
    ("vocab", be(b"\n\n")),
    ("megatron.common", be(b"")),
    ("megatron.metadata", be(b"\x80\x04]\x94.")),
    ("megatron.metadata", be(b"\x80\x02}(U\x01aU\x01bo.")),
    ("megatron", swap(b"num_layers", b"num_layerz")),
    ("megatron.data", be(b"PK")),
]


@pytest.mark.parametrize("name, change", CRASHES, ids=[f"{number}-{name}" for number, (name, _) in enumerate(CRASHES)])
def test_what_crashed_is_refused(sound, tmp_path, name, change):
    reader = READERS[name]
    for item in (reader.item, *reader.others):
        source = sound / item
        shutil.copytree(source, tmp_path / item) if source.is_dir() else shutil.copy(source, tmp_path / item)
    path = Path(tmp_path, reader.item, reader.file)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError) as raised:
        reader.read(tmp_path / reader.item)
    message = str(raised.value)
    assert path.name in message or reader.item in message, message
    assert message.isprintable() and len(message) < 2000, message
