"""Folders of small tasks."""

import gzip
import random
from pathlib import Path

import pytest


@pytest.fixture
def draw():
    """Draws sequences, the same in each run."""
    random_letters = random.Random(0)
    return lambda length=40: "".join(random_letters.choices("ACGT", k=length))


@pytest.fixture
def write(tmp_path):
    """Writes a file below a folder and returns the folder; .gz is compressed."""

    def write(name: str, text: str, folder: str = "task") -> Path:
        path = tmp_path / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return tmp_path / folder

    return write


@pytest.fixture
def table(draw):
    """A csv of `rows` rows, whose labels take turns."""

    def table(rows: int = 8, labels=("0", "1"), head: str = "seq,label", length: int = 40) -> str:
        lines = [f"{draw(length)},{labels[row % len(labels)]}" for row in range(rows)]
        return "\n".join([head, *lines]) + "\n"

    return table
