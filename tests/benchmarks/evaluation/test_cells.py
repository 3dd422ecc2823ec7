"""Cells: named by their content, whole or not there."""

import os

import numpy as np
import pytest

from gengram.benchmarks.evaluation.cells import Cells, Predictions, make_key, pack_predictions, read_predictions
from gengram.errors import InputError

INPUTS = {"protocol": "p", "version": 1, "settings": {"layers": [1, 2]}, "seeds": [0], "entrant": "a", "task": "b"}


@pytest.fixture
def predictions() -> Predictions:
    random = np.random.default_rng(0)
    return Predictions(random.normal(size=(2, 5, 3)).astype(np.float32), np.array([0, 1, 2, 1, 0]))


@pytest.mark.parametrize(
    "change", [{"version": 2}, {"settings": {"layers": [2, 1]}}, {"seeds": [1]}, {"entrant": "c"}, {"task": "c"}]
)
def test_a_key_is_that_of_the_content(change):
    assert make_key(INPUTS) == make_key(dict(reversed(INPUTS.items())))
    assert make_key({**INPUTS, **change}) != make_key(INPUTS)


def test_what_is_written_is_read_and_the_same_predictions_are_the_same_bytes(tmp_path, predictions):
    cells = Cells(tmp_path / "cache")
    assert cells.read("a" * 64) is None
    cells.write("a" * 64, {"inputs": INPUTS, "metrics": {}}, predictions)
    cell = cells.read("a" * 64)
    assert cell is not None and cell["inputs"] == INPUTS
    found = cells.read_predictions("a" * 64)
    assert (found.outputs == predictions.outputs).all() and (found.labels == predictions.labels).all()
    assert pack_predictions(predictions) == pack_predictions(found) == cells.read_packed("a" * 64)
    assert sorted(path.suffix for path in cells.folder.iterdir()) == [".json", ".npz"]


@pytest.mark.parametrize("file", ["json", "npz"])
@pytest.mark.parametrize("damage", ["gone", "cut", "other"])
def test_a_damaged_cell_is_not_there(tmp_path, predictions, file, damage, capsys):
    cells, key = Cells(tmp_path), "b" * 64
    cells.write(key, {"inputs": INPUTS}, predictions)
    path = cells.folder / f"{key}.{file}"
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-20] if damage == "cut" else b'{"key": "c"}')
    assert cells.read(key) is None
    told = capsys.readouterr().err
    assert (not told) if (file, damage) == ("json", "gone") else "computed again" in told and key in told


def test_what_is_written_over_a_kill_is_whole(tmp_path, predictions, monkeypatch):
    """Predictions come first: a kill between the two files leaves no cell."""
    cells, key = Cells(tmp_path), "c" * 64
    replace = os.replace

    def fail(source, target):
        if str(target).endswith(".json"):
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        cells.write(key, {"inputs": INPUTS}, predictions)
    monkeypatch.undo()
    assert cells.read(key) is None
    assert not list(cells.folder.glob("*.partial"))
    cells.write(key, {"inputs": INPUTS}, predictions)
    assert cells.read(key) is not None


def test_faults_are_kept_until_a_cell_is_there(tmp_path, predictions):
    cells, key = Cells(tmp_path), "d" * 64
    assert cells.read_fault(key) is None
    cells.write_fault(key, "failed", "no\nmemory \udcff")
    assert cells.read_fault(key) == {"status": "failed", "reason": "no\nmemory \udcff"}
    cells.write(key, {}, predictions)
    assert cells.read_fault(key) is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY", b"no array"])
def test_other_files_are_no_predictions(tmp_path, content):
    path = tmp_path / "p.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"p\.npz: no predictions of gengram evaluate"):
        read_predictions(path)


def test_arrays_of_other_shapes_are_no_predictions(tmp_path):
    path = tmp_path / "p.npz"
    np.savez(path, outputs=np.zeros((2, 3, 4), np.float32), labels=np.zeros(5))
    with pytest.raises(InputError, match="not those of one test set"):
        read_predictions(path)
    np.savez(path, outputs=np.array(["x"]), other=np.zeros(1))
    with pytest.raises(InputError, match="no predictions"):
        read_predictions(path)
    np.savez(path, outputs=np.array([{}]), labels=np.zeros(1))  # an object, which only a pickle holds
    with pytest.raises(InputError, match="no predictions"):
        read_predictions(path)
