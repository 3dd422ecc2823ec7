"""Every family as a graph, as ONNX and on two processes: what docs/deployment.md says."""

import importlib.util
import json

import pytest
from conformance.testers import TESTERS
from deployment.page import HEADS, PAGE, REASONS, describe, find_reason, read_outcomes, read_table, render_page
from deployment.program import VERSION, read_arguments, try_way
from deployment.ways import ONE_PROCESS, list_cases, make_case, try_compile, try_export, try_onnx

from gengram.registration import FAMILIES

TOLERANCE = 1e-5
NEEDS_ONNX = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime")),
    reason='needs onnx, onnxscript and onnxruntime: pip install ".[onnx]"',
)


@pytest.mark.parametrize("way", HEADS)
def test_every_family_has_outcomes(way):
    """Two processes: every case with both versions. Graphs: every family; the rest where it was tried."""
    versions = read_outcomes()
    assert list(versions) == ["5.17", "5.23"]
    for version, outcomes in versions.items():
        tried = {(name, auto) for name, ways in outcomes.items() for auto in ways.get(way, {})}
        assert tried <= {(name, auto) for name in TESTERS for auto in TESTERS[name].list_classes()}, version
        if way not in ONE_PROCESS:
            assert tried == set(list_cases(list(TESTERS), way)), f"{version}, {way}: run make deployment-page"
    assert {TESTERS[name].row for name, ways in versions["5.23"].items() if ways.get(way)} >= FAMILIES.keys()


def test_what_does_not_work_has_a_reason():
    for version, outcomes in read_outcomes().items():
        for name, ways in outcomes.items():
            for way, found in ways.items():
                for auto, value in found.items():
                    place = f"{version}, {name}, {way}, {auto}: {value}"
                    assert find_reason(value) if isinstance(value, str) else value <= TOLERANCE, place


def test_reasons_are_still_needed():
    said = json.dumps([*read_outcomes().values()])
    assert all(json.dumps(piece)[1:-1] in said for piece in REASONS)


def test_the_page_has_the_table():
    page = PAGE.read_text(encoding="utf-8")
    assert read_table(page) == read_table(render_page(page, read_outcomes())), "run make deployment-page"


@pytest.mark.parametrize(
    "name, auto",
    [
        ("rmt-bert", "AutoModelForTokenClassification"),
        ("big_bird", "AutoModel"),
        ("segment_nt", "AutoModelForTokenClassification"),
        ("ntv3_posttrained", "AutoModel"),
        ("nucleotide_transformer-v1", "AutoModelForMaskedLM"),
    ],
)
def test_exported_models_answer_the_same(name, auto):
    assert try_export(make_case(name, auto)) <= TOLERANCE


@pytest.mark.parametrize("name, auto", [("rmt-bert", "AutoModelForSequenceClassification")])
def test_compiled_models_are_one_graph(name, auto):
    assert try_compile(make_case(name, auto)) <= TOLERANCE


@NEEDS_ONNX
@pytest.mark.parametrize("name, auto", [("ntv3_posttrained", "AutoModel")])
def test_onnx_answers_the_same(name, auto):
    assert try_onnx(make_case(name, auto)) <= TOLERANCE


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["rmt-brt", "--ways", "export"], "there is no variant 'rmt-brt'; there are gengram-llama, "),
        (["rmt-bert", "--ways", "exports"], "invalid choice: 'exports'"),
        (["rmt-bert", "--ways", "onnx"], 'onnx needs .venv/bin/pip install ".[onnx]"; or give other --ways'),
    ],
)
def test_what_is_not_there_is_refused_before_anything_is_tried(argv, told, monkeypatch, capsys):
    """A missing library would stand on the page as a fault of every family."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="2"):
        read_arguments(argv)
    assert told in capsys.readouterr().err
    assert read_arguments(["rmt-bert", "--ways", "export"]).variants == ["rmt-bert"]


def test_faults_are_told():
    """A program of one length is a fault where another is read, and so is an error without a reason."""
    case = make_case("gena_bert", "AutoModel")
    case.shapes = {name: {} for name in case.shapes}
    with pytest.raises(Exception, match=r"[Gg]uard|shape"):
        try_export(case)
    assert describe({"AutoModel": "ValueError: nobody knows"}) == "fails"
    assert describe({"AutoModel": 3e-7, "AutoModelForMaskedLM": 0.0}) == "1e-06"


@pytest.mark.slow
@pytest.mark.parametrize("way", HEADS)
def test_every_way_is_as_the_page_says(way):
    if way == "onnx" and not importlib.util.find_spec("onnxruntime"):
        pytest.skip('needs onnx, onnxscript and onnxruntime: pip install ".[onnx]"')
    kept = read_outcomes()[VERSION]
    faults = []

    def keep(name, auto, found):
        expected = kept[name].get(way, {}).get(auto, 0.0)
        if isinstance(found, str):
            alike = isinstance(expected, str) and find_reason(found) == find_reason(expected)
        else:
            alike = not isinstance(expected, str) and found <= TOLERANCE
        if not alike:
            faults.append(f"{name} {auto}: {found}, the page says {expected}")

    try_way(way, list(TESTERS), keep)
    assert faults == []
