"""Options and fixtures of the whole suite."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

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
    if config.getoption("--golden-dir") is None:
        return
    golden = [item for item in items if "golden" in Path(item.path).parts]
    if golden and not any(hasattr(item, "callspec") and "NOTSET" not in item.nodeid for item in golden):
        raise pytest.UsageError(f"--golden-dir {config.getoption('--golden-dir')}: no golden case found in it")


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
