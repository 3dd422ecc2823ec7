"""A slice of `make conformance`: one family of each kind through transformers' common tests, where they are there."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest
from conformance import layout

PROGRAM = Path(__file__).with_name("program.py")


@pytest.fixture
def fetched() -> str:
    """The installed version; skips where its source distribution was not fetched."""
    version = importlib.metadata.version("transformers")
    try:
        layout.fetch_source(layout.find_source("transformers", version), download=False)
    except layout.Unavailable as reason:
        pytest.skip(str(reason))
    return version


def test_one_family_of_each_kind_passes_the_common_tests(fetched):
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--slice", "--offline", "--jobs", "1"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert f"models, transformers {fetched}: " in done.stdout, done.stdout[-4000:]
