"""A part of the tests never takes the place of all of them on the page, and a pattern without a variant is told."""

import json

import pytest
from conformance import layout, page, program


@pytest.fixture
def outcomes(tmp_path, monkeypatch):
    """Outcomes of every suite, version and variant, one test each; where they lie."""
    folder = tmp_path / "outcomes"
    for source in layout.list_sources("transformers"):
        (folder / source.version).mkdir(parents=True)
        for suite in layout.list_suites():
            told = [
                {"suite": suite, "family": family, "test": "test_x", "seconds": 60, "outcome": "passed"}
                for family in page._FAMILIES
            ]
            path = folder / source.version / f"{suite}.jsonl"
            path.write_text("".join(json.dumps(one) + "\n" for one in told))
    monkeypatch.setattr(page.list_missing, "__defaults__", (folder,))
    monkeypatch.setattr(page.list_outcomes, "__defaults__", (folder,))
    return folder


@pytest.fixture
def written(tmp_path):
    """A page with tables of an earlier run."""
    path = tmp_path / "conformance.md"
    path.write_text(f"# Conformance\n\n{page.HEADING}\nearlier tables\n")
    return path


def test_all_outcomes_are_written(outcomes, written):
    assert not page.list_missing()
    program.renew_page(written, part=False)
    text = written.read_text()
    assert text.startswith("# Conformance\n") and "earlier tables" not in text
    assert f"| models | 5.17.0 | {len(page._FAMILIES)} | 0 |" in text


@pytest.mark.parametrize("lacking", ["suite", "variant", "everything"])
def test_what_lacks_something_leaves_the_page(outcomes, written, capsys, lacking):
    before, version = written.read_text(), outcomes / "5.17.0"
    if lacking == "suite":
        (version / "models.jsonl").unlink()
    elif lacking == "variant":
        for path in version.iterdir():
            path.write_text("".join(line for line in path.read_text().splitlines(True) if '"rmt-bert"' not in line))
    else:
        for path in outcomes.glob("*/*.jsonl"):
            path.unlink()
    program.renew_page(written, part=False)
    assert written.read_text() == before
    told = capsys.readouterr().out
    assert {"suite": "models (5.17.0);", "variant": "rmt-bert (5.17.0);", "everything": " more;"}[lacking] in told
    assert "is left as it is" in told and "`make conformance` runs all" in told


def test_tests_of_one_name_leave_the_page(outcomes, written, capsys):
    before = written.read_text()
    program.renew_page(written, part=True)
    assert written.read_text() == before
    assert "--test runs a part of each suite" in capsys.readouterr().out


def test_a_pattern_that_fits_nothing_is_refused_with_the_variants(capsys):
    assert program.read_arguments(["--family", "rmt-*", "--family", "tokenizer-*"]).family == ["rmt-*", "tokenizer-*"]
    with pytest.raises(SystemExit, match="2"):
        program.read_arguments(["--family", "rmt_*"])
    assert "--family rmt_*: no variant fits it; there are gengram-llama, " in capsys.readouterr().err
