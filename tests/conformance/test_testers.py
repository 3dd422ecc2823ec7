"""Every family can be tested: testers fit the table of families, and what is not tested has its stand-in."""

import ast
from pathlib import Path

import pytest
import torch
from conformance.outcomes import Row, read_list
from conformance.testers import SLICE, TESTERS, Tester
from conformance.tokenizer_kinds import VARIANTS

from gengram import registration
from gengram.registration import FAMILIES, find_configuration

ROOT = Path(__file__).parents[2]


def list_rows_without_testers() -> list[str]:
    """Families of the table that no tester is of."""
    return [row for row in registration.FAMILIES if row not in {tester.row for tester in TESTERS.values()}]


def find_faults_of_list(rows: tuple[Row, ...]) -> list[str]:
    """What is wrong with rows of the list: unknown families, tests of ours that are not there."""
    faults = []
    for row in rows:
        for pattern in row.families:
            if not any(Row("", "*", (pattern,), "", "").covers("", "", family, "") for family in (*TESTERS, *VARIANTS)):
                faults.append(f"{row.suite}/{row.test}: {pattern} is no variant")
        path, _, name = row.instead.partition("::")
        file = ROOT / path
        names = (
            {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)}
            if file.is_file()
            else set()
        )
        if not path.startswith("tests/") or name not in names:
            faults.append(f"{row.suite}/{row.test}: {row.instead} is not there")
        if not row.reason.strip():
            faults.append(f"{row.suite}/{row.test}: no reason")
    return faults


def test_every_family_has_a_tester():
    assert list_rows_without_testers() == []


def test_a_family_without_a_tester_is_found(monkeypatch):
    monkeypatch.setitem(registration.FAMILIES, "hyena", registration.Family("hyena.configuration_hyena.HyenaConfig"))
    assert list_rows_without_testers() == ["hyena"]


def test_testers_are_named_after_their_family_and_the_slice_has_one_of_each_kind():
    for name, tester in TESTERS.items():
        assert name.split("-")[0] == tester.row
    assert set(SLICE) <= TESTERS.keys()


@pytest.mark.parametrize("name", TESTERS)
def test_a_tester_has_every_class_of_its_family_and_inputs_that_it_reads(name):
    tester: Tester = TESTERS[name]
    config = tester.build_configuration()
    assert config.model_type == tester.row
    assert len(tester.build_tokenizer()) <= config.get_text_config().vocab_size
    assert config.get_text_config().num_hidden_layers <= 2
    if tester.row in FAMILIES:
        assert type(config) is find_configuration(tester.row)
        left_out = {"AutoConfig", "AutoModelForPreTraining", "AutoModelForMaskedLM", "AutoModelForCausalLM"}
        assert set(type(config).auto_classes) - left_out <= tester.list_classes().keys()
    for auto_class, model_class in tester.list_classes().items():
        torch.manual_seed(0)
        model = model_class(tester.build_configuration()).eval()
        with torch.no_grad():
            output = model(**tester.draw_inputs(config), **tester.draw_labels(auto_class))
        assert torch.isfinite(output[0]).all()
        assert ("loss" in output) == bool(tester.draw_labels(auto_class))


def test_what_is_listed_as_not_applicable_has_a_reason_and_a_test_of_ours():
    assert find_faults_of_list(read_list()) == []


def test_a_wrong_row_of_the_list_is_found():
    row = Row("models", "test_save_load", ("nobody-*",), " ", "tests/conformance/test_testers.py::test_of_nothing")
    assert len(find_faults_of_list((row,))) == 3
    sound = row._replace(
        families=("gengram-*",),
        reason="why",
        instead=f"tests/conformance/{Path(__file__).name}::test_every_family_has_a_tester",
    )
    assert find_faults_of_list((sound,)) == []
