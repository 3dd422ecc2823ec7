"""Files that are written whole or not at all, and the checks before anything is computed for them."""

import json
import os
from pathlib import Path

import pytest

from gengram.errors import InputError
from gengram.files import (
    check_apart,
    check_free,
    check_input_files,
    check_new_folder,
    check_output_file,
    check_output_folder,
    open_whole,
    replace_together,
    set_aside,
    write_json,
    write_text,
)


def list_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_files_get_their_names_together_or_not_at_all(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("old")
    with pytest.raises(KeyboardInterrupt), replace_together([one, two]) as partial:
        for path in partial:
            path.write_text("new")
        raise KeyboardInterrupt
    assert list_names(tmp_path) == ["one"] and one.read_text() == "old"
    with replace_together([one, two]) as partial:
        for path in partial:
            path.write_text("new")
        assert one.read_text() == "old"
    assert list_names(tmp_path) == ["one", "two"] and one.read_text() == two.read_text() == "new"


def test_writers(tmp_path):
    write_text("größer\n", tmp_path / "text")
    assert (tmp_path / "text").read_bytes() == "größer\n".encode()
    write_json({"a": [1.5, None]}, tmp_path / "json")
    assert json.loads((tmp_path / "json").read_text()) == {"a": [1.5, None]}
    with pytest.raises(ValueError, match="JSON"):
        write_json({"a": float("nan")}, tmp_path / "json")
    with pytest.raises(ZeroDivisionError), open_whole(tmp_path / "bytes") as stream:
        stream.write(b"half")
        raise ZeroDivisionError
    assert list_names(tmp_path) == ["json", "text"]


def test_a_folder_set_aside_comes_back_unless_there_is_a_new_one(tmp_path):
    folder = tmp_path / "out"
    with set_aside(folder):  # there is none
        pass
    folder.mkdir()
    (folder / "old").touch()
    with pytest.raises(KeyboardInterrupt), set_aside(folder):
        assert not folder.exists()
        raise KeyboardInterrupt
    assert list_names(folder) == ["old"] and list_names(tmp_path) == ["out"]
    with set_aside(folder):
        folder.mkdir()
        (folder / "new").touch()
    assert list_names(folder) == ["new"] and list_names(tmp_path) == ["out"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("out.csv", "must end with .parquet, .npz"),
        ("no/out.npz", "does not exist"),
        ("folder.npz", "this is a folder"),
        ("there.npz", "the file is there already"),
    ],
)
def test_output_files_that_cannot_be_written(name, told, tmp_path):
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "there.npz").touch()
    with pytest.raises(InputError, match=told) as error:
        check_output_file(tmp_path / name, (".parquet", ".npz"), overwrite=False)
    assert str(tmp_path / name) in str(error.value)


def test_output_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.npz").touch()
    assert check_output_file("new.npz", (".npz",), overwrite=False) == Path("new.npz")
    assert check_output_file("there.npz", (".npz",)) == Path("there.npz")
    assert check_output_file("any name") == Path("any name")


def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    for check in (check_output_file, check_output_folder):
        with pytest.raises(InputError, match="cannot be written to"):
            check(tmp_path / "out")


def test_output_folders(tmp_path):
    (tmp_path / "file").touch()
    for name in ("file", "file/below", "file/far/below"):
        with pytest.raises(InputError, match="not a folder"):
            check_output_folder(tmp_path / name)
    out = tmp_path / "a" / "b"
    assert check_output_folder(out, "report.json", overwrite=False) == out
    out.mkdir(parents=True)
    (out / "mine").touch()
    assert check_output_folder(out, "report.json", overwrite=False) == out
    (out / "report.json").touch()
    with pytest.raises(InputError, match=r"results of an earlier run are there \(report.json\).*--overwrite"):
        check_output_folder(out, "report.json", overwrite=False)
    assert check_output_folder(out, "report.json", overwrite=True) == out


def test_folders_that_are_made_as_a_whole(tmp_path):
    out = tmp_path / "out"
    assert check_new_folder(out, "config.json", overwrite=False) == out
    out.mkdir()
    with pytest.raises(InputError, match="there already"):
        check_new_folder(out, "config.json", overwrite=False)
    with pytest.raises(InputError, match=r"none that this command has made \(no config.json\)"):
        check_new_folder(out, "config.json", overwrite=True)
    (out / "config.json").touch()
    assert check_new_folder(out, "config.json", overwrite=True) == out


def test_input_files(tmp_path):
    (tmp_path / "a").touch()
    check_input_files(tmp_path / "a", None)
    with pytest.raises(InputError, match="b: there is no such file"):
        check_input_files(tmp_path / "a", tmp_path / "b")
    with pytest.raises(InputError, match="this is a folder"):
        check_input_files(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="cannot be read twice"):
        check_input_files(tmp_path / "pipe")


def test_an_output_is_no_input(tmp_path):
    (tmp_path / "rows.parquet").touch()
    (tmp_path / "link.parquet").symlink_to(tmp_path / "rows.parquet")
    check_apart(tmp_path / "new.parquet", tmp_path / "rows.parquet", None)
    for name in ("rows.parquet", "link.parquet"):
        with pytest.raises(InputError, match="this is the input"):
            check_apart(tmp_path / name, tmp_path / "rows.parquet")


def test_files_of_somebody_else_are_not_replaced(tmp_path):
    check_free(tmp_path / "new", ["*.bw"])
    (tmp_path / "notes").touch()
    check_free(tmp_path, ["*.bw", "features.bed"])
    (tmp_path / "exon.bw").touch()
    with pytest.raises(InputError, match=r"exon.bw is there already, and no earlier run has ended here"):
        check_free(tmp_path, ["features.bed", "*.bw"])


def test_names_that_are_empty():
    for check in (check_output_file, check_output_folder):
        with pytest.raises(InputError, match="--out is empty"):
            check("")
    with pytest.raises(InputError, match="the name of an input file is empty"):
        check_input_files("")
