"""The picture of a run, and what it is drawn beside."""

import json

import pytest

from gengram.training.evaluation.curves import name_references
from gengram.training.pretraining import curves
from gengram.training.pretraining.command import pretrain
from tests.training.pretraining.commands import make_words


def test_a_run_draws_its_evaluations_beside_simple_models(corpus, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(curves, "draw_curves", lambda *given: drawn.append(given))
    out = tmp_path / "out"
    assert pretrain(make_words(corpus, out)) == 0
    assert [path.name for _, path, _ in drawn] == ["curves.png"] * 2  # at steps 3 and 6
    assert [sum("eval_loss" in line for line in lines) for lines, _, _ in drawn] == [1, 2]
    measured = json.loads((out / "references.json").read_text())
    assert measured["held_out_bases"] == 192  # 8 windows of 24 bp: the bases that the model is measured on
    assert drawn[0][2] == name_references(measured)
    assert 1.5 < min(drawn[0][2].values()) < 2.5
    written = (out / "references.json").read_bytes()
    assert pretrain(make_words(corpus, out, overwrite=True, steps=3)) == 0
    assert (out / "references.json").read_bytes() == written


@pytest.mark.parametrize("held_out", [None, 1.9])
def test_what_is_not_known_has_no_line(held_out):
    found = {"best_order": 3, "best": held_out, "by_species": {"human": {}, "mouse": {}}}
    compression = {"gzip_text": 2.2, "gzip_packed": 2.0, "xz_text": held_out, "xz_packed": held_out}
    names = name_references({"markov": {"one_for_all": found, "one_a_species": found}, "compression": compression})
    assert names["gzip"] == 2.0
    assert set(names) == ({"gzip"} if held_out is None else {"Markov 3", "Markov 3, one a species", "gzip", "xz"})
    found["by_species"] = {"human": {}}
    names = name_references({"markov": {"one_for_all": found, "one_a_species": found}, "compression": compression})
    assert "Markov 3, one a species" not in names


def test_nothing_held_out_is_nothing_drawn(corpus, tmp_path):
    out = tmp_path / "out"
    assert pretrain(make_words(corpus, out, eval_bases=0)) == 0
    assert not (out / "references.json").exists() and not (out / "curves.png").exists()
