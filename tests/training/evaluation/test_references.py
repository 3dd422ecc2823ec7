"""Markov models and compressors beside a language model: fitted to training bases, measured on held-out ones."""

import json

import numpy as np
import pytest

from gengram.training.baselines.compression import measure_compression
from gengram.training.baselines.markov import MarkovModel, count_bases
from gengram.training.corpus.build import build_corpus
from gengram.training.corpus.store import open_corpus
from gengram.training.corpus.windows import read_window, tile
from gengram.training.evaluation import references
from gengram.training.evaluation.references import list_references, measure_references


def draw(length, seed, letters="ACGT", chances=None):
    return np.random.default_rng(seed).choice(list(letters.encode()), length, p=chances).astype(np.uint8)


YEAST = [draw(150_000, 1, chances=[0.4, 0.1, 0.1, 0.4]), draw(40_000, 2, chances=[0.4, 0.1, 0.1, 0.4])]
MOUSE = [draw(60_000, 3), draw(20_000, 4, "ACGTN", [0.24, 0.24, 0.24, 0.24, 0.04])]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("references")
    for name, contigs in (("yeast", YEAST), ("mouse", MOUSE)):
        text = "".join(f">{name}{place}\n{one.tobytes().decode()}\n" for place, one in enumerate(contigs))
        (folder / f"{name}.fa").write_text(text)
    (folder / "recipe.yaml").write_text(
        "name: small\ngenomes:\n"
        "- {species: yeast, fasta: yeast.fa, hold_out: {validation: [yeast1]}}\n"
        "- {species: mouse, fasta: mouse.fa, hold_out: {validation: [mouse1]}}\n"
    )
    build_corpus(folder / "recipe.yaml", folder / "corpus")
    return open_corpus(folder / "corpus")


def test_references_are_of_the_same_bases_and_fitted_to_the_training_bases(corpus):
    windows = tile(corpus, "validation", 1000)
    found = measure_references(corpus, windows, order=3)
    json.dumps(found, allow_nan=False)
    letters = [read_window(corpus, windows.get(place)) for place in range(len(windows.contig))]
    trained, held_out = count_bases([YEAST[0], MOUSE[0]], 3, both_strands=True), count_bases(letters, 3)
    assert found["held_out_bases"] == held_out.bases == sum(int((one != ord("N")).sum()) for one in letters)
    assert found["markov"]["training_bases"] == 210_000
    one_for_all, one_a_species = found["markov"]["one_for_all"], found["markov"]["one_a_species"]
    for order in range(4):
        expected = MarkovModel(trained).measure_bits(held_out, order) / held_out.bases
        assert one_for_all["bits_per_base"][str(order)] == pytest.approx(expected)
    assert one_for_all["best"] == min(one_for_all["bits_per_base"].values())
    assert found["compression"] == measure_compression(letters)
    # One model for both: what it has learned of the many suits the others less.
    assert one_for_all["by_species"]["yeast"]["0"] < 1.9 and one_for_all["by_species"]["mouse"]["0"] > 2
    mouse = count_bases(
        [one for one, contig in zip(letters, windows.contig) if corpus.contigs[contig].species == "mouse"], 3
    )
    own = MarkovModel(count_bases([MOUSE[0]], 3, both_strands=True)).measure_bits(mouse, 2) / mouse.bases
    assert one_a_species["by_species"]["mouse"]["2"] == pytest.approx(own) == pytest.approx(2, abs=0.01)
    assert one_a_species["best"] < one_for_all["best"] - 0.02
    rows = dict(list_references(found))
    assert rows[f"Markov model of order {one_a_species['best_order']}, one a species"] == one_a_species["best"]
    assert rows["xz -9e of 2 bits a base"] == found["compression"]["xz_packed"] and len(rows) == 6
    sizes = {"yeast": held_out.bases - mouse.bases, "mouse": mouse.bases}
    for group in (one_for_all, one_a_species):
        whole = sum(group["by_species"][name]["2"] * size for name, size in sizes.items()) / held_out.bases
        assert whole == pytest.approx(group["bits_per_base"]["2"])


def test_of_many_training_bases_a_part_is_read_evenly(corpus, monkeypatch):
    monkeypatch.setattr(references, "_PIECE", 1000)
    windows = tile(corpus, "validation", 1000)
    found = measure_references(corpus, windows, order=2, most_trained=50_000, most_compressed=5_000)
    assert 40_000 <= found["markov"]["training_bases"] <= 50_000
    assert found["compression"]["bases"] == 5_000
    whole = measure_references(corpus, windows, order=2)
    assert found["markov"]["one_for_all"]["best"] == pytest.approx(whole["markov"]["one_for_all"]["best"], abs=0.01)


def test_windows_without_a_base_have_no_bits(corpus):
    windows = tile(corpus, "validation", 1000).take(np.arange(0))
    found = measure_references(corpus, windows, order=1)
    assert found["held_out_bases"] == 0 and found["markov"]["one_a_species"]["best"] is None
    assert found["compression"]["xz_text"] is None
    json.dumps(found, allow_nan=False)
