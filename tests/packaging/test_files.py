"""Files that are written whole or not at all, and the checks before anything is computed for them."""

import errno
import json
import os
import shutil
import tempfile
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
    describe_os_error,
    keep_finished,
    make_scratch,
    make_whole,
    open_whole,
    probe,
    replace_folder,
    replace_together,
    replace_whole,
    tell_write_faults,
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


def test_scratch_is_gone_though_the_interrupt_comes_while_it_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    remove, calls = shutil.rmtree, []

    def interrupt(folder, ignore_errors=False):
        calls.append(folder)
        if len(calls) == 1:
            raise KeyboardInterrupt
        remove(folder, ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", interrupt)
    with pytest.raises(KeyboardInterrupt), make_scratch() as folder:
        (folder / "a").write_text("a")
    assert list_names(tmp_path) == []


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


def test_a_folder_is_replaced_when_the_new_one_is_whole(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "old").touch()
    with pytest.raises(KeyboardInterrupt), make_whole(folder) as partial:
        (partial / "new").touch()
        assert list_names(folder) == ["old"]
        raise KeyboardInterrupt
    assert list_names(folder) == ["old"] and list_names(tmp_path) == ["out"]
    (tmp_path / "out.replaced.partial").mkdir()  # of a run that was killed
    (tmp_path / "out.partial").mkdir()
    with make_whole(folder) as partial:
        (partial / "new").touch()
    assert list_names(folder) == ["new"] and list_names(tmp_path) == ["out"]


def test_an_old_folder_comes_back_where_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    folder, partial = tmp_path / "out", tmp_path / "out.partial"
    folder.mkdir()
    (folder / "old").touch()
    partial.mkdir()
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: replace(a, b) if Path(a) != partial else os.rmdir("/nowhere"))
    with pytest.raises(FileNotFoundError):
        replace_folder(partial, folder)
    assert list_names(folder) == ["old"]


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
    with pytest.raises(InputError, match="this is a folder, and a file is needed; name one of the files in it"):
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


def test_names_that_are_too_long_or_forbidden(tmp_path):
    for check in (check_output_file, check_output_folder):
        with pytest.raises(InputError, match="File name too long; choose a shorter name"):
            check(tmp_path / ("a" * 300))


@pytest.mark.parametrize("check", [check_output_file, check_output_folder])
def test_names_that_are_not_in_utf8(check, tmp_path):
    for place in (tmp_path / os.fsdecode(b"caf\xe9"), str(tmp_path / os.fsdecode(b"caf\xe9") / "x")):
        with pytest.raises(InputError, match="the name is not in UTF-8; choose another"):
            check(place)
    assert check(tmp_path / "café") == tmp_path / "café"


def test_a_name_as_long_as_names_may_be(tmp_path):
    for name in ("a" * 255, "ä" * 127 + "b"):
        assert check_output_file(tmp_path / name) == tmp_path / name
        write_text("text", tmp_path / name)
        assert (tmp_path / name).read_text() == "text"
    assert len(list_names(tmp_path)) == 2


def test_devices_and_pipes_are_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/null"):
        with pytest.raises(InputError, match="a pipe or device cannot be replaced"):
            check_output_file(path)


def test_a_folder_in_the_way_of_a_temporary_file(tmp_path):
    (tmp_path / "out.partial").mkdir()
    with pytest.raises(InputError, match=r"out\.partial: this folder is in the way"), replace_whole(tmp_path / "out"):
        raise AssertionError("this must not run")
    assert list_names(tmp_path) == ["out.partial"]


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (FULL, "No space left on device; free some space"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "Disk quota exceeded; free some space"),
        (
            OSError(errno.EFBIG, "Error writing bytes to file. Detail: [errno 27] File too large"),
            "File too large; raise",
        ),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system; choose a place"),
        (RuntimeError("Error while serializing: I/O error: File too large (os error 27)"), "File too large; raise"),
        (OSError("12000 requested and 1631 written"), "12000 requested and 1631 written; free some space"),
        (Exception("No space left on device (os error 28)"), "No space left on device; free some space"),
        (
            RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos"),
            r"unexpected pos; free some space",
        ),
    ],
)
def test_every_library_has_its_own_words_for_a_full_disk(error, told, tmp_path):
    with (
        pytest.raises(InputError, match=f"out: cannot be written .*{told}") as raised,
        replace_whole(tmp_path / "out") as p,
    ):
        p.write_bytes(b"half")
        raise error
    assert str(raised.value).startswith(f"{tmp_path / 'out'}: ") and raised.value.__cause__ is error
    assert list_names(tmp_path) == []


def test_a_second_error_at_closing_does_not_hide_the_first(tmp_path):
    with pytest.raises(InputError, match="No space left"), replace_whole(tmp_path / "out"):
        try:
            raise FULL
        finally:
            raise ValueError("Can't close the ZIP file while there is an open writing handle on it.")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a fault of ours"),
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/elsewhere/input.csv"),
        PermissionError(errno.EACCES, "Permission denied", "/elsewhere/input.csv"),
        KeyboardInterrupt(),
    ],
)
def test_other_errors_stay_as_they_are(error, tmp_path):
    with pytest.raises(type(error)) as raised, replace_whole(tmp_path / "out"):
        raise error
    assert raised.value is error and list_names(tmp_path) == []


def test_the_file_that_was_written_last_is_named(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    with pytest.raises(InputError, match="one: cannot be written"), replace_together([one, two]) as partial:
        partial[1].write_text("whole")
        os.utime(partial[1], (1, 1))
        partial[0].write_text("half")
        raise FULL
    with pytest.raises(InputError, match=r"folder: weights/a\.bin cannot"), make_whole(tmp_path / "folder") as folder:
        (folder / "weights").mkdir()
        (folder / "weights" / "a.bin").write_text("half")
        raise FULL
    assert list_names(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_the_operating_system_is_asked_where_a_library_does_not_tell(tmp_path):
    assert probe(tmp_path) == 0  # an empty folder
    (tmp_path / "free").touch()
    assert probe(tmp_path) == 0
    (tmp_path / "full").symlink_to("/dev/full")
    assert probe(tmp_path / "full") == errno.ENOSPC


def test_of_a_copy_the_file_that_is_written_is_named(tmp_path):
    error = OSError(
        errno.ENOSPC, "No space left on device", "/package/code.py", None, str(tmp_path / "out.partial" / "a")
    )
    with pytest.raises(InputError, match="out: cannot be written"), make_whole(tmp_path / "out"):
        raise error
    assert describe_os_error(error).startswith(f"{tmp_path}/out.partial/a: No space left")


def test_finished_parts_stay(tmp_path, capsys):
    folder = tmp_path / "parts"
    for parts in (False, True):
        folder.mkdir()
        (folder / "plan.json").touch()
        if parts:
            (folder / "0.part").touch()
        with pytest.raises(KeyboardInterrupt), keep_finished(folder, "*.part"):
            raise KeyboardInterrupt
        assert folder.exists() == parts
        assert capsys.readouterr().err.startswith("what is finished stays in") == parts


def test_errors_of_the_operating_system_in_words():
    with pytest.raises(OSError) as error:
        Path("/nowhere/file").touch()
    assert describe_os_error(error.value).startswith("/nowhere/file: No such file or directory")
    assert describe_os_error(FULL) == "No space left on device; free some space, or choose a place with more"
    assert describe_os_error(OSError("in other words")) == "in other words"


def test_what_is_written_elsewhere_is_told_with_the_name_that_is_known(tmp_path):
    with pytest.raises(InputError, match="shown: cannot be written"), tell_write_faults(Path("shown"), tmp_path / "t"):
        (tmp_path / "t" / "below" / "file").touch()
