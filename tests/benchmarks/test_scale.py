"""The program that measures how cost grows: it runs commands and parts, and its figures are theirs."""

import json
from importlib.util import find_spec

import pytest

from gengram.benchmarks.speed import scale
from gengram.progress import QUIET


@pytest.mark.slow
def test_a_small_run(tmp_path, capsys):
    report, picture = tmp_path / "scale.json", tmp_path / "scale.png"
    words = ["--rows", "20", "40", "--only", "card", "group_tiles", "--json", str(report)]
    words += ["--plot", str(picture)] if find_spec("matplotlib") else []
    assert scale.main(words) == 0
    cases = json.loads(report.read_text())["cases"]
    assert [one["size"] for one in cases["card"]] == [200_000, 400_000]
    assert [one["size"] for one in cases["group_tiles"]] == [20, 40]
    for one in (*cases["card"], *cases["group_tiles"]):
        work = [part for part in one["phases"] if part["name"] not in (scale.START, "Making the input")]
        assert one["cpu_seconds"] == pytest.approx(sum(part["cpu_seconds"] for part in work), abs=0.01)
    assert "Checking the weights" in [part["name"] for part in cases["card"][0]["phases"]]
    assert cases["group_tiles"][1]["phases"][-2]["count"] == 40
    said = capsys.readouterr()
    assert "near-duplicates: tiles" in said.out and "card, CPU s" in said.out
    assert picture.is_file() or not find_spec("matplotlib")


@pytest.mark.parametrize("name", [name for name, case in scale.CASES.items() if not case.is_verb])
def test_each_part_runs(name, monkeypatch, capsys):
    monkeypatch.setenv(QUIET, "1")
    scale.run_part(name, 60)
    phases = json.loads(capsys.readouterr().out)["phases"]
    assert any(one["count"] == 60 for one in phases)


def test_a_part_that_fails_is_told(monkeypatch, capsys):
    monkeypatch.setattr(scale, "_PART", "raise SystemExit('{name} {size}')")
    assert scale.main(["--rows", "10", "--only", "score_classes"]) == 1
    assert "score_classes, 10 rows: it failed, see above" in capsys.readouterr().err


def make(*points):
    return [{"size": size, "unit": "rows", "cpu_seconds": seconds, "peak_bytes": None} for size, seconds in points]


def test_growth_is_the_exponent_of_the_size():
    assert scale.measure_growth(make((10, 1.0), (100, 10.0), (1000, 1000.0))) == [
        None,
        pytest.approx(1),
        pytest.approx(2),
    ]
    assert scale.measure_growth(make((10, 0.0), (100, 1.0))) == [None, None]


def test_what_grows_faster_than_the_data_is_named():
    said = scale.list_faster_than_linear({"data": make((10, 2.0), (100, 200.0)), "card": make((10, 2.0), (100, 21.0))})
    assert len(said) == 1 and said[0].startswith("finetune, one step: from 10 to 100 rows") and "n^2.00" in said[0]
    assert scale.list_faster_than_linear({"data": make((10, 0.1), (100, 10.0))}) == []


def test_a_command_that_fails_is_told(monkeypatch, capsys):
    case = scale.Case("card", "rows", 1, lambda size, folder: ["card", "lab/model", "--model", str(folder / "no")])
    monkeypatch.setitem(scale.CASES, "card", case)
    assert scale.main(["--rows", "1", "--only", "card"]) == 1
    assert "there is no such folder" in capsys.readouterr().err


def test_sizes_that_would_take_too_long_are_left_out(monkeypatch, capsys):
    monkeypatch.setattr(
        scale, "measure_case", lambda name, size: make((size, size / 10))[0] | {"case": name, "phases": []}
    )
    report = scale.run_benchmark(["data"], [1000, 10, 100], 50)
    assert [one["size"] for one in report["data"]] == [10, 100]
    assert "1,000 rows are left out" in capsys.readouterr().err


def test_inputs_are_of_the_sizes_asked_for(tmp_path):
    assert {len(text) for text in scale.draw_sequences(7, 30)} == {30}
    library = scale.draw_library(50)
    assert len(library) == 50 and {len(text) for text in library} == {256}
    table = scale._write_labels(tmp_path / "labels.csv", 3).read_text().splitlines()
    assert len(table) == 4 and {len(line.split(",")) for line in table} == {920}
    assert set("".join(table[1].split(",")[1:])) <= {"0", "1"} and len(table[1].split(",")[0]) == 1000
