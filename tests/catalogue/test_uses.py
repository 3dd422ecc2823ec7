"""What stands in the way of a checkpoint is told by every verb, before the Hub is asked for it."""

import pytest
from huggingface_hub import constants

from gengram.catalogue import list_models
from gengram.catalogue.rows import LOADS
from gengram.catalogue.uses import tell_obstacle
from gengram.cli import main

LOADING = ("gengram", "transformers")
ONE_EACH = {loads: next(row for row in list_models() if row.loads == loads) for loads in LOADS}


def test_only_what_does_not_load_has_an_obstacle_with_its_remedy():
    for row in list_models():
        told = tell_obstacle(row.id.upper())
        assert bool(told) == (row.loads not in LOADING), row.id
        if told:
            assert ("gengram convert megatron" if row.loads == "convert" else row.instead or "") in told
    assert tell_obstacle("lab/unknown") == ""


@pytest.mark.parametrize("loads", [one for one in LOADS if one not in LOADING])
def test_fetch_refuses_what_no_verb_loads(loads, capsys, monkeypatch):
    monkeypatch.setattr("gengram.loading.fetch.can_reach_hub", lambda: pytest.fail("the Hub was asked"))
    row = ONE_EACH[loads]
    assert main(["models", "fetch", row.id]) == 1
    assert f"error: {row.id}: {tell_obstacle(row.id)}" in capsys.readouterr().err


@pytest.mark.parametrize("loads", LOADS)
def test_verbs_without_a_network_say_what_would_help(loads, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "a.fa").write_text(">a\nACGT\n")
    row = ONE_EACH[loads]
    argv = ["embed", str(tmp_path / "a.fa"), "--model", row.id, "--out", str(tmp_path / "a.npz")]
    assert main(argv) == 1
    told = capsys.readouterr().err
    assert ("gengram models fetch" in told) == (loads in LOADING) and tell_obstacle(row.id) in told


def test_offline_fetching_names_the_variable(capsys, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert main(["models", "fetch", ONE_EACH["transformers"].id]) == 1
    assert "HF_HUB_OFFLINE is set" in capsys.readouterr().err


def test_fetch_into_an_empty_name_is_refused(capsys, monkeypatch):
    monkeypatch.setattr("gengram.loading.fetch.can_reach_hub", lambda: pytest.fail("the Hub was asked"))
    assert main(["models", "fetch", ONE_EACH["transformers"].id, "--to", ""]) == 1
    assert "is empty" in capsys.readouterr().err


def test_a_name_without_its_organization_is_completed(capsys, tmp_path):
    (tmp_path / "a.fa").write_text(">a\nACGT\n")
    assert main(["embed", str(tmp_path / "a.fa"), "--model", "dna_bert_6", "--out", str(tmp_path / "a.npz")]) == 1
    assert "did you mean 'zhihan1996/DNA_bert_6'?" in capsys.readouterr().err
