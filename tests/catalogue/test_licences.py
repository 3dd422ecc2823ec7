"""What may be done with a checkpoint: commercial use, and the line that a verb says of weights without it."""

import dataclasses

import pytest

from gengram.catalogue import ModelRow, allows_commercial_use, describe_licence, list_models
from gengram.catalogue.licences import COMMERCIAL, NON_COMMERCIAL
from gengram.loading import checkpoints

ROW = ModelRow(id="lab/model", family="lab", loads="transformers", verified="unverified")


@pytest.mark.parametrize(
    ("weights", "code", "loads", "allowed"),
    [
        ("MIT", None, "transformers", True),
        ("MIT", None, "gengram", True),
        ("MIT", None, "convert", True),
        ("MIT", None, "remote_code", None),
        ("MIT", "Apache-2.0", "remote_code", True),
        ("MIT", "CC-BY-NC-SA-4.0", "remote_code", False),
        ("CC-BY-NC-4.0", None, "elsewhere", False),
        ("CC-BY-NC-4.0", "MIT", "transformers", False),
        (None, "MIT", "transformers", None),
        (None, None, "elsewhere", None),
    ],
)
def test_weights_and_the_code_that_runs_them_count(weights, code, loads, allowed):
    row = dataclasses.replace(ROW, license_weights=weights, license_code=code, loads=loads)
    assert allows_commercial_use(row) is allowed


def test_no_licence_is_both():
    assert not COMMERCIAL & NON_COMMERCIAL
    assert not [licence for licence in COMMERCIAL if "NC" in licence.split("-")]
    assert {row.license_weights for row in list_models()} & NON_COMMERCIAL


def test_the_nucleotide_transformers_are_for_no_money():
    ours = [row for row in list_models() if row.id.startswith("InstaDeepAI/")]
    assert len(ours) > 20 and not any(allows_commercial_use(row) for row in ours)


def test_a_line_is_said_once_of_weights_that_are_for_no_money(capsys, monkeypatch):
    monkeypatch.setattr(checkpoints, "require_repository", lambda name: None)  # the Hub has it
    checkpoints._tell_licence.cache_clear()
    name = "InstaDeepAI/nucleotide-transformer-v2-50m-multi-species"
    assert checkpoints.find_model(name) == checkpoints.find_model(name) == name
    said = capsys.readouterr().err
    assert said.count("for non-commercial use only (CC-BY-NC-SA-4.0)") == 1 and f"gengram models {name}" in said
    for other in ("lab/model", "BGI-HangzhouAI/Genos-1.2B", "AIRI-Institute/gena-lm-bert-base"):
        assert describe_licence(other) is None
        checkpoints.find_model(other)
    assert capsys.readouterr().err == ""
