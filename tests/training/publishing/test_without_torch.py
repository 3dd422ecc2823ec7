"""What is published is read without torch, which takes seconds to import, and is the same as with it."""

import hashlib
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gengram.cli import VERBS, main
from gengram.loading.finite import count_values, find_faulty
from gengram.registration import find_model
from gengram.training.publishing.model import prepare_upload
from tests.conformance.testers import TESTERS

SHOW = """
import hashlib, json, sys
from pathlib import Path

class Stop:  # who asks for torch fails
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "accelerate", "peft"):
            raise AssertionError(f"{name} is imported")

sys.modules["torch"] = None
sys.meta_path.insert(0, Stop()) if len(sys.argv) > 2 else None
from gengram.training.publishing.model import prepare_upload
found = {}
for folder in sorted(Path(sys.argv[1]).iterdir()):
    try:
        files = prepare_upload(folder, "lab/model").files
    except Exception as error:
        found[folder.name] = str(error)
        continue
    found[folder.name] = {
        name: hashlib.sha256(data if isinstance(data, bytes) else data.read_bytes()).hexdigest()
        for name, data in files.items()
    }
print(json.dumps(found))
"""


def describe(folder):
    try:
        files = prepare_upload(folder, "lab/model").files
    except ValueError as error:
        return str(error)
    contents = {name: data if isinstance(data, bytes) else data.read_bytes() for name, data in files.items()}
    return {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A small model of each family, and some that are refused."""
    root = tmp_path_factory.mktemp("families")
    for name, tester in TESTERS.items():
        config = tester.build_configuration()
        classes = tester.classes or {kind: None for kind in type(config).auto_classes if kind != "AutoConfig"}
        kind = sorted(classes, key=lambda one: "TokenClassification" not in one)[0]
        torch.manual_seed(0)
        model = (tester.classes or {}).get(kind) or find_model(type(config), kind)
        model(config).save_pretrained(root / name)
        tester.build_tokenizer().save_pretrained(root / name)
    for name, key, value in (
        ("refused-type", "hidden_size", "wide"),
        ("refused-vocabulary", "vocab_size", 3),
        ("refused-unknown", "model_type", "nobody"),
    ):
        source = root / "gena_bert"
        folder = root / name
        folder.mkdir()
        for path in source.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, key: value}))
    return root


def test_every_family_is_published_as_with_torch(folders):
    expected = {folder.name: describe(folder) for folder in sorted(folders.iterdir())}
    refused = {name for name, told in expected.items() if isinstance(told, str)}
    # A few of the testers' tokenizers and configurations are no pair; what is said of them is compared, too.
    assert len(refused) < len(TESTERS) / 2 and {name for name in expected if name.startswith("refused")} <= refused
    words = [sys.executable, "-c", SHOW, str(folders), "strict"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == expected


@pytest.mark.parametrize("verb", ["card", "push"])
def test_the_commands_do_without_torch(verb, folders, tmp_path, capsys):
    words = [verb, "lab/model", "--model", str(folders / "gengram-bert")]
    words += ["--dry_run"] if verb == "push" else []
    assert main(words) == 0
    expected = capsys.readouterr().out
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "gengram.cli", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    print(f"{time.perf_counter() - begun:.1f} s")
    assert done.returncode == 0 and done.stdout == expected
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    roots = {name.partition(".")[0] for name in imported}
    assert "transformers" in roots
    assert not roots & {"torch", "accelerate", "peft", "datasets", "sklearn", "scipy", "pandas", "matplotlib"}
    assert not any(name.startswith(("transformers.modeling_utils", "transformers.trainer")) for name in imported)


def test_a_dataset_is_published_without_torch(tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text("seq,label\nACGTAC,benign\nACGTTT,harmful\n")
    (tmp_path / "task.yaml").write_text("classes: [harmful, benign]\n")
    words = [sys.executable, "-m", "gengram.cli", "dataset", "push", str(tmp_path), "lab/x", "--dry_run"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0 and "default/train-00000-of-00001.parquet" in done.stdout, done.stderr


def test_the_verbs_without_torch_are_verbs():
    from gengram.cli import _WITHOUT_TORCH

    assert set(_WITHOUT_TORCH) < set(VERBS)


DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2, torch.float8_e4m3fn]
DTYPES += [torch.float8_e5m2fnuz, torch.float8_e4m3fnuz]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_pattern_of_bits_is_judged_as_torch_does(dtype, tmp_path):
    size = dtype.itemsize
    if size <= 2:
        bits = np.arange(256**size, dtype=f"u{size}")
    else:
        drawn = np.random.default_rng(0).integers(0, 2**64, 4096, dtype=np.uint64).astype(f"u{size}")
        ones = np.array([0x7F80_0000, 0x7FF0 << 48, 0xFF80_0000, 0x7FC0_0000, 0x7FF8 << 48], dtype=np.uint64)
        bits = np.concatenate([drawn, ones.astype(f"u{size}")])
    values = torch.from_numpy(bits.view(f"i{size}").copy()).view(dtype)
    expected = [str(place) for place, value in enumerate(values.double().isfinite().tolist()) if not value]
    tensors = {
        str(place): values[place : place + 1].clone() for place in range(0, len(values), max(len(values) // 512, 1))
    }
    file = tmp_path / "model.safetensors"
    save_file(tensors, file)
    assert sorted(find_faulty(file)) == sorted(set(expected) & set(tensors))
    assert count_values(file) == len(tensors)
    save_file({"all": values, "whole": torch.arange(3), "none": values[:0].clone(), "flag": torch.tensor(True)}, file)
    assert find_faulty(file) == (["all"] if expected else [])
    assert count_values(file) == len(values) + 4


def test_blocks_of_a_large_tensor_are_all_read(tmp_path, monkeypatch):
    from gengram.loading import finite

    monkeypatch.setattr(finite, "_BLOCK", 7)
    file = tmp_path / "model.safetensors"
    values = torch.zeros(50)
    values[-1] = float("nan")
    save_file({"a": torch.ones(49), "b": values, "c": torch.ones(3, 5)}, file)
    assert finite.find_faulty(file) == ["b"]
