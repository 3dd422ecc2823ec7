"""A corpus of a few thousand bases."""

from pathlib import Path

import pytest

from gengram.training.corpus.build import build_corpus
from gengram.training.pretraining import curves
from tests.training.pretraining.commands import draw_letters


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """Two contigs that train, one that is held out, one that is left out."""
    root = tmp_path_factory.mktemp("corpus")
    lengths = {"chr1": 2000, "chr2": 1500, "chr3": 600, "chr4": 300}
    records = [f">{name}\n{draw_letters(length, seed)}\n" for seed, (name, length) in enumerate(lengths.items())]
    (root / "genome.fa").write_text("".join(records))
    (root / "recipe.yaml").write_text(
        "name: made\nlicence: cc0-1.0\ngenomes:\n  - species: made up\n    fasta: genome.fa\n"
        "    hold_out: {validation: [chr3]}\n    leave_out: [chr4]\n"
    )
    build_corpus(root / "recipe.yaml", root / "store")
    return root / "store"


@pytest.fixture(autouse=True)
def draw_nothing(monkeypatch):
    """A picture takes longer than one of these models; `test_curves.py` looks at what it would show."""
    monkeypatch.setattr(curves, "draw_curves", lambda *given: None)
