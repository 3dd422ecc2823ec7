"""Reports of many folders as one table: only what was measured alike stands in one column."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from gengram.cli import main
from gengram.loading.evaluations import read_evaluation

from .conftest import write_rows


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory) -> Path:
    """Evaluations of baselines: twice the same tasks, one of them with fewer rows, and one with other test rows."""
    root = tmp_path_factory.mktemp("runs")
    write_rows(root / "other.csv", 20, 9)
    common = ["evaluate", "--data", str(data), "--cache", str(root / "cache"), "--quiet"]
    for name, words in {
        "a": ["--baselines", "majority", "kmer"],
        "deep/b": ["--baselines", "kmer", "composition", "--tasks", "mine/gc"],
        "c": ["--baselines", "kmer", "--tasks", "mine/gc", "--test_file", str(root / "other.csv")],
        "d": ["--baselines", "kmer", "--tasks", "mine/gc", "--protocol", "genos-probe"],
    }.items():
        assert main([*common, *words, "--out", str(root / "runs" / name)]) == 0
    return root / "runs"


def ask(capsys, *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["leaderboard", *words])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_a_table_for_each_protocol_and_a_column_for_each_checksum(runs, capsys):
    code, out, _ = ask(capsys, str(runs), "--json")
    board = json.loads(out)
    assert code == 0 and len(board["reports"]) == 4
    assert [table["protocol"] for table in board["tables"]] == ["linear-probe", "genos-probe"]
    table = board["tables"][0]
    assert [column["task"] for column in table["columns"]] == ["mine/gc", "mine/gc", "mine/weak"]
    assert len({column["fingerprint"] for column in table["columns"]}) == 3
    kmer = next(one for one in table["entrants"] if one["name"] == "baseline:kmer")
    assert all(score is not None for score in kmer["scores"]) and kmer["mean_rank"] == 1.0
    others = {one["name"]: one for one in table["entrants"] if one is not kmer}
    assert others["baseline:composition"]["scores"].count(None) == 2
    assert others["baseline:majority"]["mean_rank"] is None
    # The same scores as in the report.
    report = read_evaluation(runs / "a")
    weak = report["cells"]["mine/weak"]["baseline:kmer"]["metrics"]["mcc"]
    assert kmer["scores"][2] == weak["mean"] and kmer["intervals"][2] == weak["row_interval"]
    # A baseline has its own protocol: it stands in every table with its rows.
    assert board["tables"][1]["entrants"][0]["name"].startswith("baseline:")


def test_written_as_markdown_csv_and_a_picture(runs, capsys, tmp_path):
    board, table, plot = (str(tmp_path / name) for name in ("b.md", "b.csv", "b.png"))
    assert ask(capsys, str(runs), "--out", board, "--plot", plot)[0] == 0
    text = Path(board).read_text()
    assert "## linear-probe, version 1" in text and "| baseline:kmer | 1.00 |" in text and "test rows in train" in text
    assert "rows " in text.splitlines()[text.splitlines().index("## linear-probe, version 1") + 4]
    assert Path(plot).stat().st_size > 3000
    assert ask(capsys, str(runs), "--out", table)[0] == 0
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["entrant"] for row in rows} >= {"baseline:kmer", "baseline:majority"}
    assert all(float(row["low"]) <= float(row["score"]) <= float(row["high"]) for row in rows)
    code, _, err = ask(capsys, str(runs), "--out", board)
    assert code == 1 and "--overwrite" in err


def test_scores_that_contradict_each_other_are_told(runs, capsys, tmp_path):
    shutil.copytree(runs / "a", tmp_path / "a")
    path = tmp_path / "a" / "report.json"
    report = json.loads(path.read_text())
    report["cells"]["mine/gc"]["baseline:kmer"]["metrics"]["mcc"]["per_seed"] = [0.123]
    path.write_text(json.dumps(report))
    code, _, err = ask(capsys, str(runs), str(tmp_path))
    assert code == 1 and "baseline:kmer on mine/gc has other scores" in err


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda report: report.pop("cells"), "there is no cells"),
        (lambda report: report["tasks"]["mine/gc"].update(metric=3), "tasks.mine/gc.metric"),
        (lambda report: report["tasks"].pop("mine/gc"), "not among its tasks"),
        (lambda report: report["entrants"].pop("baseline:kmer"), "none of its entrants"),
        (lambda report: report["cells"]["mine/gc"].update({"baseline:kmer": 1}), "cells.mine/gc.baseline:kmer"),
        (lambda report: report["cells"]["mine/gc"]["baseline:kmer"].pop("metrics"), "there is no"),
        (lambda report: report["cells"]["mine/gc"]["baseline:kmer"]["metrics"].pop("mcc"), "has no 'mcc'"),
        (
            lambda report: report["cells"]["mine/gc"]["baseline:kmer"].update(predictions="../x.npz"),
            "no name of a file",
        ),
    ],
)
def test_a_report_that_was_changed_is_told_with_the_key(runs, capsys, tmp_path, change, told):
    shutil.copytree(runs / "a", tmp_path / "a")
    path = tmp_path / "a" / "report.json"
    report = json.loads(path.read_text())
    change(report)
    path.write_text(json.dumps(report))
    code, _, err = ask(capsys, str(tmp_path))
    assert code == 1 and told in err and "report.json" in err and "Traceback" not in err


def test_folders_without_reports_are_told(tmp_path, capsys):
    for words, told in (
        ([], "give folders"),
        ([str(tmp_path / "x")], "no such folder"),
        ([str(tmp_path)], "no report.json of gengram evaluate"),
    ):
        code, _, err = ask(capsys, *words)
        assert code == 1 and told in err
    (tmp_path / "report.json").write_text('{"kind": "something else"}')
    assert ask(capsys, str(tmp_path))[0] == 1
    (tmp_path / "report.json").write_text("{")
    code, _, err = ask(capsys, str(tmp_path))
    assert code == 1 and "cannot be read as JSON" in err
