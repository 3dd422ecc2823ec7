"""The plot of a locus: names of features and contigs are letters of it, whatever they are."""

import warnings

import numpy as np
import pytest

from gengram.genome.tracks import Locus
from gengram.pipelines.locus_plot import plot_locus

pytest.importorskip("matplotlib")


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_names_of_any_letters_are_drawn(tmp_path, suffix):
    features = ["$\\frac{", "a\n\x1b[31mb", "\U0001f9ec", "x" * 10_000, "$x$ <b>&", "", "\udcff", "\u202e"]
    probabilities = np.linspace(0, 1, 50 * len(features), dtype=np.float32).reshape(50, -1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_locus(tmp_path / f"locus{suffix}", Locus("chr$_\x1b$", 0, 50), probabilities, features)
    written = (tmp_path / f"locus{suffix}").read_bytes()
    assert len(written) > 1000 and (suffix == ".png" or b"\x1b" not in written)
