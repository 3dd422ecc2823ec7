"""`gengram models`: which rows are shown, how a table fits a terminal, and one model with the source of every fact."""

import json

import pytest

from gengram.catalogue import find_model_row
from gengram.cli import main


def test_ids_are_found_in_any_case():
    row = find_model_row("airi-institute/GENA-lm-bert-base-t2t")
    assert row is not None and row.id == "AIRI-Institute/gena-lm-bert-base-t2t"
    assert find_model_row("lab/nothing") is None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["gena-lm-bert-base-t2t"], "did you mean 'AIRI-Institute/gena-lm-bert-base-t2t'?"),
        (["--family", "gena"], "did you mean 'gena_lm'?"),
    ],
)
def test_what_is_not_there_is_told_with_what_is_similar(words, told, capsys):
    assert main(["models", *words]) == 1
    assert told in capsys.readouterr().err


def test_one_model_is_shown_with_the_source_of_every_fact(capsys):
    assert main(["models", "AIRI-Institute/gena-lm-bert-base-t2t", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    facts = {name for name, value in told.items() if value is not None}
    assert told["sources"].keys() == facts - {
        "id",
        "family",
        "loads",
        "instead",
        "verified",
        "sources",
        "commercial_ok",
    }
