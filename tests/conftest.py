"""Options and fixtures of the whole suite."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings

# The same examples in every run: `make fuzz` is where new ones are looked for.
settings.register_profile("fixed", derandomize=True)
settings.load_profile("fixed")

# Before torch starts its threads: on shared machines two actively waiting threads block each other.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# No test reaches for a network.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@dataclass(frozen=True)
class GoldenCase:
    """A folder with config.json and inputs, model and outputs of a reference implementation."""

    id: str
    folder: Path
    config: dict

    def load(self, name: str) -> dict:
        from safetensors.torch import load_file

        return load_file(self.folder / f"{name}.safetensors")


# Files of few tests that take minutes: they begin, so that no process is left alone with one at the end.
LONG_FILES = ("test_triton_interpreter.py", "test_triton_compile.py", "test_gpu_check.py", "test_triton_kernels.py")


def pytest_addoption(parser):
    parser.addoption(
        "--golden-dir",
        default=None,
        metavar="DIR",
        help="folder of golden cases (default: ../shared/golden, skipped if absent). Given and without any case: error",
    )


def pytest_configure(config):
    config.find_golden_cases = lambda keys: find_golden_cases(config, keys)


def find_golden_cases(config, keys: set[str]) -> list[GoldenCase]:
    """Cases whose config.json has all these keys, ids `family/case`; an explicit folder without any is an error."""
    given = config.getoption("--golden-dir")
    root = Path(given) if given is not None else SHARED / "golden"
    if given is not None and not root.is_dir():
        raise pytest.UsageError(f"--golden-dir {given}: no such folder")
    cases = []
    for path in sorted(root.rglob("config.json")) if root.is_dir() else []:
        folder = path.parent
        if all((folder / f"{name}.safetensors").is_file() for name in ("inputs", "model", "outputs")):
            content = json.loads(path.read_text())
            if keys <= set(content):
                cases.append(GoldenCase(f"{folder.resolve().parent.name}/{folder.name}", folder, content))
    return cases


def pytest_collection_modifyitems(session, config, items):
    items.sort(key=lambda item: item.path.name not in LONG_FILES)
    if config.getoption("--golden-dir") is None:
        return
    golden = [item for item in items if "golden" in Path(item.path).parts]
    if golden and not any(hasattr(item, "callspec") and "NOTSET" not in item.nodeid for item in golden):
        raise pytest.UsageError(f"--golden-dir {config.getoption('--golden-dir')}: no golden case found in it")


@pytest.fixture(autouse=True)
def kernels_are_required(request):
    """On a GPU, a kernel that does not run fails the tests that need one: no skipping, no slower form that passes."""
    if request.node.get_closest_marker("gpu") is None:
        yield
        return
    import torch

    from gengram.gengram.fallback import require_kernels

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    with require_kernels():
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the project; skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared beside the project")
    return SHARED


@pytest.fixture(scope="session")
def pages() -> dict[str, str]:
    """Text of the pages in docs/, by name."""
    return {page.stem: page.read_text() for page in (Path(__file__).parents[1] / "docs").glob("*.md")}


# A small task and the arguments of a small run.
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
