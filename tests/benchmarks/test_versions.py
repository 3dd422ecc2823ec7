"""The program that compares two versions: each is the one that it says, they take turns, and a slower cell is told."""

import json
from pathlib import Path

import pytest

from gengram.benchmarks.speed import versions
from gengram.benchmarks.speed.versions import Version, compare_versions, lay_out_package, list_cells, main, measure_cell
from gengram.errors import InputError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(versions, "SHAPES", [(16, 8)])
    monkeypatch.setattr(versions, "LENGTHS", [40, 100_000])


def test_the_cells(small):
    assert [(cell["T"], cell["mode"]) for cell in list_cells(8192)] == [(40, "forward"), (40, "train"), (1, "decode")]


@pytest.mark.slow
def test_two_checkouts_run_side_by_side(small, tmp_path, capsys):
    path = tmp_path / "versions.json"
    code = main(["--old", str(ROOT), "--rounds", "2", "--least", "0.001", "--json", str(path)])
    report = json.loads(path.read_text())
    assert code == 0 and report["slower"] == 0
    assert [cell["mode"] for cell in report["cells"]] == ["forward", "train", "decode"]
    for cell in report["cells"]:
        assert cell["old"] > 0 and cell["new"] > 0 and "again" not in cell
        assert cell["low"] <= cell["ratio"] <= cell["high"]
    assert "no cell is below" in capsys.readouterr().out


def test_the_package_of_the_folder_is_the_one_that_runs(tmp_path):
    lay_out_package(ROOT, tmp_path)
    one = Version(tmp_path, "float32")
    try:
        one.prepare({"D": 16, "E": 8, "T": 30, "mode": "train"})
        assert one.take_time()["seconds"] > 0
        one.folder = tmp_path / "elsewhere"
        with pytest.raises(InputError, match="was imported instead"):
            one.prepare({"D": 16, "E": 8, "T": 30, "mode": "train"})
    finally:
        one.close()


class Clock:
    """A version that takes a given time, and notes when it was asked."""

    def __init__(self, name, seconds, asked):
        self.name, self.seconds, self.asked = name, seconds, asked

    def prepare(self, cell):
        pass

    def take_time(self):
        self.asked.append(self.name)
        return {"seconds": self.seconds, "cpu_seconds": self.seconds}


def test_they_take_turns_and_who_begins_changes():
    asked = []
    found = measure_cell(Clock("old", 0.03, asked), Clock("new", 0.06, asked), {}, 3)
    assert found["ratio"] == found["cpu_ratio"] == 0.5
    assert asked[:8] == ["old", "new", "new", "old"] * 2 and len(asked) == 12  # two turns a round are enough


def test_a_slower_cell_is_measured_again_and_told(small, monkeypatch, capsys, tmp_path):
    measured = []

    def measure(old, new, cell, rounds):
        measured.append(rounds)
        ratio = 0.5 if cell["mode"] == "train" else 1.0
        return {"old": 1.0, "new": 1 / ratio, "ratio": ratio, "low": ratio, "high": ratio, "cpu_ratio": ratio}

    monkeypatch.setattr(versions, "measure_cell", measure)
    report = compare_versions(ROOT, ROOT, rounds=9)
    assert measured == [9, 9, 9, 18] and report["slower"] == 1
    assert main(["--old", str(ROOT)]) == 1
    assert "1 cells are below 0.9, also when measured again" in capsys.readouterr().out


def test_a_folder_without_the_package(tmp_path, capsys):
    assert main(["--old", str(tmp_path)]) == 1
    assert "no checkout of this package" in capsys.readouterr().err


def test_a_version_that_ends_is_told(tmp_path):
    (tmp_path / "gengram").mkdir()
    (tmp_path / "gengram" / "__init__.py").write_text("raise SystemExit(3)")
    one = Version(tmp_path, "float32")
    with pytest.raises(InputError, match="exit code 3"):
        one.prepare({"D": 16, "E": 8, "T": 30, "mode": "train"})
    one.close()


def test_what_a_version_lacks_does_not_come_from_an_installed_one(tmp_path):
    (tmp_path / "gengram").mkdir()
    (tmp_path / "gengram" / "__init__.py").touch()
    one = Version(tmp_path, "float32")
    # Where the package is installed the rest is found there; otherwise nowhere.
    with pytest.raises(InputError, match=r"was imported instead of a file|has ended with exit code"):
        one.prepare({"D": 16, "E": 8, "T": 30, "mode": "train"})
    one.close()
