"""A small task and the arguments of a small run."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

_SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
_BACKBONES = {
    "bert": _SMALL,
    "esm": {**_SMALL, "max_position_embeddings": 64},
    "llama": _SMALL,
    "mixtral": {**_SMALL, "num_key_value_heads": 1, "num_local_experts": 2},
    "modernbert": _SMALL,
}
_MEMORY = {"memory_layers": [0, 1], "memory_dim": 8, "kmer_sizes": [1, 2, 3], "window_size": 3}


def _draw_table(rows: int, seed: int, classes: tuple = ("without", "with")) -> pd.DataFrame:
    """Sequences of 20 to 30 bp; the last class has the motif TATAAA somewhere, no other can."""
    random = np.random.default_rng(seed)
    table = []
    for row in range(rows):
        label = row % len(classes)
        bases = "".join(random.choice(list("ACG"), random.integers(20, 31)))
        if label == len(classes) - 1:
            start = random.integers(0, len(bases) - 6)
            bases = bases[:start] + "TATAAA" + bases[start + 6 :]
        table.append({"seq": bases, "label": classes[label], "chrom": f"chr{row % 3}"})
    return pd.DataFrame(table)


@pytest.fixture
def draw_table():
    return _draw_table


@pytest.fixture
def small() -> dict[str, int]:
    """The size of a backbone, for any architecture."""
    return dict(_SMALL)


@pytest.fixture
def memory() -> dict:
    return dict(_MEMORY)


@pytest.fixture
def task(tmp_path) -> dict[str, str]:
    """The files of a small two-class task, as arguments."""
    files = {}
    for split, rows, seed in (("train", 60, 0), ("test", 20, 1)):
        path = tmp_path / f"{split}.csv"
        _draw_table(rows, seed).to_csv(path, index=False)
        files[f"{split}_file"] = str(path)
    return files


@pytest.fixture
def command(task, tmp_path):
    """The command line of a small run, for `main`.

    Without `model_name_or_path` it trains a small backbone from scratch; `backbone_config` and `memory` (or True) say
    what is different from the small ones. None leaves an argument out.
    """

    def write(**changes) -> list[str]:
        arguments = {**task, "output_dir": tmp_path / "run", "num_train_epochs": 1, "disable_tqdm": True, **changes}
        if "model_name_or_path" not in arguments:
            backbone = arguments.setdefault("backbone", "llama")
            arguments["backbone_config"] = {**_BACKBONES.get(backbone, {}), **arguments.get("backbone_config", {})}
        if arguments.get("memory") is True:
            arguments["memory"] = _MEMORY
        elif isinstance(arguments.get("memory"), dict):
            arguments["memory"] = {**_MEMORY, **arguments["memory"]}
        argv = []
        for name, value in arguments.items():
            values = value if isinstance(value, list) else [value]
            if value is not None:
                argv += [f"--{name}", *(json.dumps(one) if isinstance(one, dict) else str(one) for one in values)]
        return argv

    return write


@pytest.fixture
def run_folder(tmp_path) -> Path:
    return tmp_path / "run"
