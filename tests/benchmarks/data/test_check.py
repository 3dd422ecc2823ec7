"""dataset check: what the tasks of a folder are like, and why one cannot be loaded."""

import json

from gengram.cli import main


def test_every_task_is_counted_and_a_fault_is_told(write, table, capsys, tmp_path):
    write("train.csv", table(8) + "ACGT,0\nACGT,0\nAACC,1\n", "data/bench/good")
    folder = write("test.csv", table(4) + "GGTT,1\n", "data/bench/good").parent
    write("train.csv", table(8), "data/bench/no_test")
    write("train.csv", table(8), "data/bench/other_label")
    write("test.csv", table(4).replace(",1", ",2"), "data/bench/other_label")
    answer = tmp_path / "check.json"

    assert main(["dataset", "check", str(folder), "--json", str(answer)]) == 1
    told = capsys.readouterr().out
    found = {task["name"]: task for task in json.loads(answer.read_text())["tasks"]}
    assert set(found) == {"good", "no_test", "other_label"}
    good = found["good"]
    assert good["rows"] == {"train": 11, "test": 5} and good["fault"] is None
    # ACGT is there twice, and is its own reverse complement; GGTT is that of AACC.
    assert good["copies"]["train"] == 1
    assert good["shared"]["train and test"] >= 1
    assert found["other_label"]["fault"] and "2" in found["other_label"]["fault"]
    assert found["other_label"]["fault"].split(":")[0] in told.replace("\\", "")


def test_sound_tasks_end_with_0_and_a_missing_folder_with_a_message(write, table, capsys, tmp_path):
    write("train.csv", table(8))
    folder = write("test.csv", table(4))
    assert main(["dataset", "check", str(folder), "--json"]) == 0
    (task,) = json.loads(capsys.readouterr().out)["tasks"]
    assert task["rows"] == {"train": 8, "test": 4} and task["problem"] == "single_label"

    assert main(["dataset", "check", str(tmp_path / "nothing")]) == 1
    assert "there is no such folder" in capsys.readouterr().err
