"""Which tasks and test files a command line means."""

from pathlib import Path

import pytest

from gengram.benchmarks.evaluation.choice import assign_test_files, choose_tasks
from gengram.errors import InputError

from .conftest import write_rows


@pytest.fixture
def folders(tmp_path) -> Path:
    for name in ("GB/human_enhancers_cohn", "NTB/H3", "mine/x", "mine/y"):
        write_rows(tmp_path / name / "train.csv", 4, 0)
    return tmp_path


def name_tasks(*arguments) -> list[str]:
    return [task.name for task in choose_tasks(*arguments)]


def test_names_patterns_suites_and_folders(folders, capsys):
    data = str(folders)
    assert name_tasks([], [], data, []) == ["GB/human_enhancers_cohn", "NTB/H3", "mine/x", "mine/y"]
    assert name_tasks(["mine/y", "mine/*"], [], data, []) == ["mine/y", "mine/x"]
    assert name_tasks(["*H3"], [], data, []) == ["NTB/H3"]
    # Of a suite, the tasks that have a folder; the others are told.
    assert name_tasks(["mine/x"], ["gengram-18"], data, []) == ["GB/human_enhancers_cohn", "NTB/H3", "mine/x"]
    assert "2 of 18 tasks are in" in capsys.readouterr().err
    assert len(name_tasks([], ["gengram-18"], None, [])) == 18
    assert name_tasks(["human_enhancers_cohn"], [], None, []) == ["GB/human_enhancers_cohn"]
    assert name_tasks([], [], str(folders / "mine" / "x"), []) == ["x"]


@pytest.mark.parametrize(
    ("tasks", "suites", "inside", "told"),
    [
        (["GB/nothing"], [], True, "GB/nothing"),
        (["GB/human_enhancers_con"], [], False, "did you mean"),
        ([], ["gengram-19"], False, "gengram-19"),
        ([], ["LRB"], True, "no task of the suite 'LRB' is here"),
        (["zzz*"], [], True, "no task is called so"),
    ],
)
def test_what_there_is_not(folders, tasks, suites, inside, told):
    with pytest.raises(InputError, match=told):
        choose_tasks(tasks, suites, str(folders) if inside else None, [])


def test_test_files_are_of_the_tasks_that_they_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.csv", "x=1.csv", "sealed/mine/x/t.csv", "short/x.csv", "short/y.csv"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("seq,label\n")
    names = ["mine/x", "mine/y"]
    assert assign_test_files(names, ["x=a.csv", "mine/y=x=1.csv"]) == {"mine/x": "a.csv", "mine/y": "x=1.csv"}
    with pytest.raises(InputError, match=r"no 1\.csv \(mine/x\)"):  # the name of a task comes first
        assign_test_files(["mine/x"], ["x=1.csv"])
    assert assign_test_files(["mine/z"], ["x=1.csv"]) == {"mine/z": "x=1.csv"}
    assert assign_test_files(names, ["short/{task}.csv"]) == {"mine/x": "short/x.csv", "mine/y": "short/y.csv"}
    assert assign_test_files(names[:1], ["sealed/{task}/t.csv"]) == {"mine/x": "sealed/mine/x/t.csv"}
    assert assign_test_files(names, []) == {}
    with pytest.raises(InputError, match=r"no sealed/mine/y/t\.csv \(mine/y\)|no sealed/y/t\.csv"):
        assign_test_files(names, ["sealed/{task}/t.csv"])
    with pytest.raises(InputError, match="this is a folder"):
        assign_test_files(names, ["x=sealed"])
