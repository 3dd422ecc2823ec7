"""What a task.yaml says, and what is wrong with one, with the line."""

import pytest

from gengram.errors import InputError
from gengram.training.data.task_notes import TaskNotes, read_task_notes


def read(tmp_path, text):
    (tmp_path / "task.yaml").write_text(text)
    return read_task_notes(tmp_path)


def test_without_a_file_nothing_is_said(tmp_path):
    assert read_task_notes(tmp_path) == TaskNotes()


def test_what_is_read(tmp_path):
    notes = read(
        tmp_path,
        "title: Yes or no\nproblem: single_label\nclasses: [no, 001, 1e5]\ncodes: {no: 2, 001: 0, 1e5: 1}\n"
        "columns: {sequence: seq, label: [a, b], name: null}\nrows: {train: 4, test: null}\nhub: {id: lab/rows}\n"
        "licence: CC0-1.0\nproblems:\n- One.\nlength: {min: 2}\nassembly: ~\n",
    )
    assert notes == TaskNotes(
        title="Yes or no",
        problem="single_label",
        classes=("no", "001", "1e5"),
        codes={"no": 2, "001": 0, "1e5": 1},
        columns={"sequence": "seq", "label": ("a", "b")},
        rows={"train": 4},
        licence="CC0-1.0",
        problems=("One.",),
    )


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "the file is empty"),
        ("- a\n", "a task is a mapping of fields"),
        ("title: a\nclases: [a, b]\n", r"line 2: no field of a task is called 'clases'; did you mean 'classes'"),
        ("title: a\ntitle: b\n", r"line 2.*'title' is given twice"),
        ("title: [a]\n", r"line 1: title: a text is needed"),
        ("problem: binary\n", r"line 1: problem is 'binary'; it is one of single_label"),
        ("classes: positive\n", r"classes: a list is needed"),
        ("classes: [a]\n", r"two names or more"),
        ("classes: [a, a]\n", r"two names or more"),
        ("classes: [a, b]\ncodes: {a: 0}\n", r"line 2: codes need a number for each of the classes"),
        ("classes: [a, b]\ncodes: {a: 0, b: 0}\n", r"two classes have one number"),
        ("classes: [a, b]\ncodes: {a: 0, b: one}\n", r"a mapping of names to whole numbers"),
        ("columns: {seq: sequence}\n", r"'seq' is none of sequence, alternative"),
        ("columns: [seq]\n", r"columns: a mapping is needed"),
        ("classes: [a, b\n", r"line 2, column 1: cannot be read as YAML"),
        ("title: !!int ''\n", r"line 1: title"),
        ("title: a\n" + "#" * (1 << 20), r"bytes, and what is said about a task is a page"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as error:
        read(tmp_path, text)
    assert "task.yaml" in str(error.value)


def test_what_is_no_file_is_refused(tmp_path):
    (tmp_path / "task.yaml").mkdir()
    with pytest.raises(InputError, match=r"task\.yaml: this is a folder"):
        read_task_notes(tmp_path)
