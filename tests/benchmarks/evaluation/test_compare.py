"""`gengram compare`: what counts, what is left out and why, and the same figures as the library's."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from gengram.benchmarks.evaluation.cells import read_predictions
from gengram.cli import main
from gengram.loading.evaluations import read_evaluation
from gengram.training.metrics.paired import compare_rows


@pytest.fixture(scope="module")
def evaluated(data, tmp_path_factory) -> Path:
    """Two evaluations of the same tasks: majority and k-mers, k-mers and composition."""
    root = tmp_path_factory.mktemp("evaluated")
    for out, names in (("one", ["majority", "kmer"]), ("two", ["kmer", "composition"])):
        words = ["--data", str(data), "--cache", str(root / "cache"), "--out", str(root / out), "--quiet"]
        assert main(["evaluate", *words, "--baselines", *names]) == 0
    return root


@pytest.fixture
def folders(evaluated, tmp_path, monkeypatch) -> tuple[Path, Path]:
    """Copies of these, which a test may change."""
    monkeypatch.chdir(tmp_path)
    return tuple(shutil.copytree(evaluated / name, tmp_path / name) for name in ("one", "two"))


@pytest.fixture
def compare(capsys):
    def compare(*words) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["compare", *map(str, words)])
        answer = capsys.readouterr()
        return code, answer.out, answer.err

    return compare


def change(folder: Path, edit) -> None:
    path = folder / "report.json"
    report = json.loads(path.read_text())
    edit(report)
    path.write_text(json.dumps(report))


def test_differences_are_those_of_the_predictions(folders, compare, tmp_path):
    one, two = folders
    words = [f"{one}:kmer", f"{two}:baseline:composition", "--metric", "auroc"]
    code, _, messages = compare(*words, "--json", "found.json", "--plot", "plot.png", "--out", "found.md")
    assert code == 0, messages
    found = json.loads((tmp_path / "found.json").read_text())
    assert set(found["tasks"]) == {"mine/gc", "mine/weak"} and not found["left_out"]
    for task, difference in found["tasks"].items():
        sides = []
        for folder, name in ((one, "baseline:kmer"), (two, "baseline:composition")):
            cell = read_evaluation(folder)["cells"][task][name]
            sides.append(read_predictions(folder / "predictions" / cell["predictions"]))
            assert difference["ab"[len(sides) - 1]] == pytest.approx(cell["metrics"]["auroc"]["mean"])
        expected = compare_rows("single_label", "auroc", sides[0].outputs, sides[1].outputs, sides[0].labels)
        assert (difference["difference"], difference["p"]) == (expected.difference, expected.p)
        assert difference["p"] <= difference["holm"] <= min(1, 2 * difference["p"])
    suite = found["suite"]
    assert suite["tasks"] == 2 and suite["interval"] is None and suite["p"] in (0.5, 1.0)
    assert suite["wins"] + suite["ties"] + suite["losses"] == 2
    text = (tmp_path / "found.md").read_text()
    assert "| mine/gc | auroc | 40 |" in text and "Wilcoxon's signed ranks p =" in text
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_other_rows_are_left_out_with_the_reason(folders, compare):
    one, two = folders
    change(two, lambda report: report["tasks"]["mine/weak"].update(fingerprint="0" * 64))
    code, answer, _ = compare(f"{one}:kmer", f"{two}:composition")
    assert code == 0 and "Left out, 1:" in answer and "mine/weak: not the same rows:" in answer
    assert "1 of 1 task" in answer or "0 of 1 task" in answer
    change(two, lambda report: report["tasks"]["mine/gc"].update(fingerprint="1" * 64))
    code, _, messages = compare(f"{one}:kmer", f"{two}:composition")
    assert code == 1 and "have no task that can be compared. mine/gc: not the same rows" in messages


def test_another_version_of_the_protocol_is_no_score_of_the_same_kind(folders, compare):
    one, two = folders
    change(two, lambda report: report["entrants"]["baseline:kmer"].update(version=7))
    code, _, messages = compare(f"{one}:kmer", f"{two}:kmer")
    assert code == 1 and "baseline:kmer of version 1 and 7: what a version changes may move a score" in messages


def test_tasks_that_one_side_lacks_or_could_not_score(folders, compare):
    one, two = folders

    def fail(report):
        report["cells"]["mine/gc"]["baseline:kmer"] = {"status": "failed", "reason": "too long"}

    change(one, fail)
    code, answer, _ = compare(f"{one}:kmer", f"{two}:composition")
    assert code == 0 and "mine/gc: baseline:kmer has no score in" in answer and "failed, too long" in answer
    change(two, lambda report: (report["tasks"].pop("mine/gc"), report["cells"].pop("mine/gc")))
    _, answer, _ = compare(f"{two}:composition", f"{one}:kmer")
    assert "mine/gc: " in answer and "has not evaluated it" in answer


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["one:kmer", "one:baseline:kmer"], "'baseline:kmer' would be compared with itself"),
        (["one", "two:kmer"], "its report has 0 models; say which one: one:baseline:majority, one:baseline:kmer"),
        (["one:cnn", "two:kmer"], "there is no entrant 'cnn' in its report; there are 'baseline:majority'"),
        (["nowhere", "two:kmer"], "nowhere: there is no such folder"),
        (["one:kmer", "two:composition", "--metric", "pearson"], "single_label has no metric 'pearson'; it has mcc"),
        (["one:kmer", "two:composition", "--out", "found.txt"], "found.txt"),
        (["one:kmer", "two:composition", "--plot", "found.doc"], "found.doc"),
        (["one/predictions:kmer", "two:kmer"], "there is no report.json of gengram evaluate here"),
    ],
)
def test_what_cannot_be_compared_is_refused(folders, compare, words, message):
    code, _, messages = compare(*words)
    assert code == 1 and message in messages and "Traceback" not in messages


def test_predictions_that_are_not_those_of_the_report_are_refused(folders, compare, tmp_path):
    one, two = folders
    report = read_evaluation(two)
    files = [
        two / "predictions" / report["cells"][task]["baseline:composition"]["predictions"] for task in report["tasks"]
    ]
    whole = read_predictions(files[0])
    with open(files[0], "wb") as stream:
        np.savez(stream, outputs=whole.outputs, labels=1 - whole.labels)
    code, _, messages = compare(f"{one}:kmer", f"{two}:composition")
    assert code == 1 and "are of other labels, though by the reports the rows are the same" in messages
    with open(files[0], "wb") as stream:
        np.savez(stream, outputs=whole.outputs[:, :9], labels=whole.labels[:9])
    assert "are of 9 rows, and the report has 40" in compare(f"{one}:kmer", f"{two}:composition")[2]
    files[0].write_bytes(files[1].read_bytes()[:100])
    code, _, messages = compare(f"{one}:kmer", f"{two}:composition")
    assert code == 1 and files[0].name in messages
    files[0].unlink()
    code, _, messages = compare(f"{one}:kmer", f"{two}:composition")
    assert code == 1 and files[0].name in messages


def test_folders_and_names_with_colons(folders, compare, tmp_path):
    one, two = folders
    shutil.copytree(one, tmp_path / "a:b")
    change(tmp_path / "a:b", _rename)
    code, answer, messages = compare(tmp_path / "a:b:x: y|*z*", f"{two}:composition")
    assert code == 0, messages
    assert "x: y&#124;\\*z\\*" in answer


def _rename(report) -> None:
    report["entrants"]["x: y|*z*"] = report["entrants"].pop("baseline:kmer")
    for cells in report["cells"].values():
        cells["x: y|*z*"] = cells.pop("baseline:kmer")


def test_a_loss_is_better_when_it_is_less(folders, compare, tmp_path):
    one, two = folders
    assert compare(f"{two}:composition", f"{one}:majority", "--metric", "loss", "--json", "found.json")[0] == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["tasks"]["mine/gc"]["difference"] < 0 < found["suite"]["mean"] and found["suite"]["wins"] >= 1
