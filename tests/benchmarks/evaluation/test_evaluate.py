"""`gengram evaluate` as a whole: what is scored, what is kept, what is refused, and what happens after a kill."""

import json
import os
import re
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from gengram import team
from gengram.benchmarks.evaluation import fill, run
from gengram.benchmarks.evaluation.cells import Cells, read_predictions
from gengram.benchmarks.protocols.table import PROTOCOLS, Outcome, Protocol
from gengram.cli import main
from gengram.errors import InputError
from gengram.loading.evaluations import read_evaluation

from .conftest import write_rows


@dataclass(frozen=True)
class StandInSettings:
    """Of the protocol below."""

    strength: float = 1.0
    fails: bool = False

    def resolve(self, task):
        """The task decides nothing."""
        return {}


def stand_in(model, task, settings, seeds, cache):
    """Class 1 is what has more G and C; a seed adds a little noise. It loads nothing."""
    if settings.fails and task.task.name.endswith("weak"):
        raise RuntimeError("no memory\nleft")
    share = np.array([sum(base in "GC" for base in one) / len(one) for one in task.test.sequences])
    outcomes = []
    for seed in seeds:
        noise = np.random.default_rng(seed).normal(scale=0.05, size=len(share))
        score = settings.strength * (share - 0.55) + noise
        chosen = {"layer": 1, "tried": [{"layer": 1, "mcc": 0.5}], "seconds": 1.5}
        outcomes.append(Outcome(seed, np.stack([-score, score], axis=1), {"mcc": 0.5}, chosen))
    return outcomes


@pytest.fixture
def protocol(monkeypatch):
    """A protocol without training, called stand-in."""
    one = Protocol("stand-in", 3, "share of G and C", "this test", True, StandInSettings, f"{__name__}:stand_in")
    monkeypatch.setitem(PROTOCOLS, "stand-in", one)
    return one


@pytest.fixture
def counted(monkeypatch) -> list[str]:
    """What is computed, in order."""
    done: list[str] = []
    compute = fill.compute_cell

    def count(job, *arguments):
        done.append(f"{job.contestant.name} {job.task}")
        compute(job, *arguments)

    monkeypatch.setattr(fill, "compute_cell", count)
    return done


def read(folder: str = "out") -> dict:
    return json.loads(Path(folder, "report.json").read_text())


def test_a_report_says_what_was_scored_and_how_well(evaluate, model, protocol, data):
    code, out, err = evaluate("--model", str(model), "--protocol", "stand-in", "--random_weights")
    assert code == 0, err
    report = read_evaluation("out")
    twin = "tiny (random weights, seed 0)"
    assert list(report["entrants"]) == ["tiny", twin, "baseline:majority", "baseline:kmer"]
    assert list(report["tasks"]) == ["mine/gc", "mine/weak"] and report["complete"]
    cell = report["cells"]["mine/gc"]["tiny"]["metrics"]["mcc"]
    assert len(cell["per_seed"]) == 3 and cell["mean"] == pytest.approx(np.mean(cell["per_seed"]))
    assert "Student" in cell["seed_interval_method"] and cell["row_interval"][0] < cell["mean"]
    assert report["cells"]["mine/gc"]["baseline:majority"]["metrics"]["mcc"]["per_seed"] == [0.0]
    assert report["protocol"] | {"title": ""} == {
        "name": "stand-in",
        "version": 3,
        "title": "",
        "source": "this test",
        "settings": {"strength": 1.0, "fails": False},
        "warning": "",
    }
    test = next(source for source in report["tasks"]["mine/gc"]["sources"] if source["split"] == "test")
    assert test["file"] == "test.csv" and test["rows"] == 40
    assert f"mine/gc: 40 test rows of {data / 'mine/gc/test.csv'}, sha256 {test['sha256'][:12]}" in err
    predictions = read_predictions(Path("out", "predictions", report["cells"]["mine/gc"]["tiny"]["predictions"]))
    assert predictions.outputs.shape == (3, 40, 2) and predictions.labels.tolist() == [0, 1] * 20
    # The pairs: the trained model with each other entrant.
    assert [(pair["a"], pair["b"]) for pair in report["differences"]] == [
        ("tiny", name) for name in (twin, "baseline:majority", "baseline:kmer")
    ]
    assert report["differences"][1]["tasks"]["mine/gc"]["difference"] == pytest.approx(cell["mean"])
    assert report["differences"][0]["tasks"]["mine/gc"]["difference"] == 0  # this protocol does not look at weights
    text = Path("out", "report.md").read_text()
    for part in ("## Scores", "## Seeds", "## Comparisons", "## Rows", "| mine/gc | mcc |", "layer 1"):
        assert part in text
    assert Path("out", "scores.png").stat().st_size > 5000
    # What differs between two runs of the same cells is elsewhere.
    assert "seconds" not in json.dumps(report) and json.loads(Path("out", "costs.json").read_text())["mine/gc"]["tiny"]
    assert "| mine/gc | mcc |" in out


def test_nothing_is_computed_twice(evaluate, model, protocol, counted, data, tmp_path):
    words = ("--model", str(model), "--protocol", "stand-in")
    assert evaluate(*words)[0] == 0 and len(counted) == 6
    before = {path.name: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    assert evaluate(*words, out="again")[0] == 0 and len(counted) == 6
    after = {path.name: path.read_bytes() for path in Path("again").rglob("*") if path.is_file()}
    assert before == after
    # The same content under other names: nothing new.
    shutil.copytree(data, "elsewhere")
    shutil.copytree(model, "copied")
    words = ("--model", "tiny=copied", "--protocol", "stand-in", "--data", "elsewhere")
    assert evaluate(*words, out="third", where=False)[0] == 0 and len(counted) == 6
    # Other settings, other seeds, fewer rows, another test file: other cells; the baselines need no seeds.
    again = ("--model", str(model), "--protocol", "stand-in", "--overwrite")
    assert evaluate(*again, "--strength", "2")[0] == 0 and len(counted) == 8
    assert evaluate(*again, "--seeds", "0", "1")[0] == 0 and len(counted) == 10
    assert evaluate(*again, "--max_train_rows", "40")[0] == 0 and len(counted) == 16
    write_rows(tmp_path / "other.csv", 20, 5)
    assert evaluate(*again, "--test_file", "gc=other.csv")[0] == 0 and len(counted) == 19
    assert read()["tasks"]["mine/gc"]["rows"]["test"] == 20


def test_results_are_replaced_only_on_request(evaluate):
    assert evaluate()[0] == 0
    before = Path("out", "report.json").read_bytes()
    code, _, err = evaluate("--tasks", "mine/gc")
    assert code == 1 and "report.json" in err and "--overwrite" in err
    assert Path("out", "report.json").read_bytes() == before
    assert evaluate("--tasks", "mine/gc", "--overwrite")[0] == 0
    assert list(read()["tasks"]) == ["mine/gc"]
    assert len(list(Path("out", "predictions").iterdir())) == 2


def test_a_cell_that_fails_is_told_and_the_others_go_on(evaluate, model, protocol):
    words = ("--model", str(model), "--protocol", "stand-in", "--fails")
    code, out, err = evaluate(*words)
    assert code == 1 and "tiny on mine/weak has no score (failed)" in err
    report = read()
    assert not report["complete"]
    assert report["cells"]["mine/weak"]["tiny"] == {"status": "failed", "reason": "no memory left"}
    assert report["cells"]["mine/gc"]["tiny"]["status"] == "done"
    assert "| mine/weak | mcc | failed |" in out
    assert "no memory left" in Path("out", "report.md").read_text()
    assert evaluate(*words, "--overwrite")[0] == 1  # it is tried again, and is no cell


def test_a_baseline_that_is_none_for_a_task_is_no_failure(evaluate, tmp_path):
    rows = [
        f"{'ACGTA' * 4}{'AC'[row % 2] * 3}{'ACGT'[row % 4]}{'GT'[row % 3 % 2]}{row:b},{row % 2}\n" for row in range(40)
    ]
    rows = [re.sub("[01](?=.*,)", lambda digit: "AC"[int(digit[0])], row) for row in rows]
    (tmp_path / "short").mkdir()
    for split in ("train", "test"):
        (tmp_path / "short" / f"{split}.csv").write_text("seq,label\n" + "".join(rows))
    code, _, err = evaluate("--data", "short", "--baselines", "majority", "positions", where=False)
    assert code == 0, err
    (row,) = read()["cells"].values()
    assert row["baseline:positions"]["status"] == "refused" and "40" in row["baseline:positions"]["reason"]
    assert read()["complete"]


def test_a_model_that_is_too_short_is_refused_for_this_task_only(evaluate, model, protocol, tmp_path):
    for split, seed in (("train", 0), ("test", 1)):
        write_rows(tmp_path / "two" / "fits" / f"{split}.csv", 40, seed)
        lines = Path("two/fits", f"{split}.csv").read_text().splitlines()
        Path("two/long").mkdir(exist_ok=True)
        longer = [lines[0], *(f"{line.split(',')[0] * 2},{line.split(',')[1]}" for line in lines[1:])]
        Path("two/long", f"{split}.csv").write_text("\n".join(longer) + "\n")
    words = ("--model", str(model), "--protocol", "stand-in", "--data", "two")
    assert evaluate(*words, where=False)[0] == 1
    cells = read()["cells"]
    assert cells["fits"]["tiny"]["status"] == "done" and cells["long"]["tiny"]["status"] == "refused"
    assert re.search(r"120 bp, are 12[0-9] tokens, and the model takes 64", cells["long"]["tiny"]["reason"])


@pytest.mark.parametrize(
    "moment", [2, 7, *(pytest.param(moment, marks=pytest.mark.slow) for moment in (1, 4, 5, 8, 11))]
)
def test_a_killed_run_goes_on_where_it_was(evaluate, model, protocol, counted, monkeypatch, tmp_path, moment):
    """Killed when it is about to give a file its name, for the moment-th time: between cells and within one."""
    words = ["--model", str(model), "--protocol", "stand-in"]
    assert evaluate(*words, "--cache", "whole", out="whole_out")[0] == 0
    expected = Path("whole_out", "report.json").read_bytes()
    counted.clear()
    child = os.fork()
    if child == 0:
        replace, times = os.replace, [0]

        def die(source, target):
            times[0] += 1
            if times[0] == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(source, target)

        os.replace = die
        evaluate(*words)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    assert not Path("out", "report.json").exists()
    there = len(list(Path("cache", "cells").glob("*.json")))
    assert there == (moment - 1) // 2
    assert evaluate(*words)[0] == 0
    assert len(counted) == 6 - there
    assert Path("out", "report.json").read_bytes() == expected


def test_what_is_wrong_is_told_before_anything_is_computed(evaluate, model, protocol, counted, tmp_path, data):
    def refuse(*words: str, told: str, where: bool = True, out: str | None = "out") -> None:
        code, _, err = evaluate(*words, where=where, out=out)
        assert code == 1 and told in err and "Traceback" not in err, err
        assert not counted and not Path("out").exists()

    both = ("--model", str(model), "--protocol", "stand-in")
    refuse(*both, "--tasks", "mine/gc", "mine/gone", "mine/lost", told="mine/lost")
    refuse(*both, "--tasks", "mine/gone", told="no task 'mine/gone'")
    refuse(*both, "--tasks", "none/*", told="no task is called so")
    refuse(*both, "--data", "nowhere", where=False, told="no such folder")
    refuse(*both, "--test_file", "gone=test.csv", told="'gone' is none of the tasks")
    refuse(*both, "--test_file", "gc=gone.csv", told="gone.csv (mine/gc)")
    refuse(*both, "--test_file", "{task}/x.csv", told="mine/gc/x.csv")
    refuse(*both, "--test_file", str(data / "mine/gc/test.csv"), told="there are 2 tasks")
    refuse("--model", "nowhere/at-all", "--protocol", "stand-in", told="nowhere/at-all")
    refuse("--model", str(model), str(model), "--protocol", "stand-in", told="twice")
    refuse("--baselines", "none", told="nothing to evaluate")
    refuse("--baselines", "kmers", told="no baseline 'kmers'")
    refuse("--random_weights", told="--random_weights")
    refuse(*both, "--layers", "1", told="--layers is no setting of stand-in")
    refuse(*both, "--seeds", "1", "1", told="1 is there twice")
    refuse(*both, where=False, told="say on what")
    refuse(*both, "--train_file", "t.csv", told="a table of one's own")
    refuse(*both, "--train_file", "t.csv", where=False, told="one --test_file")
    refuse(*both, out=None, told="--out is missing")
    shutil.copytree(data, "broken")
    Path("broken/mine/gc/test.csv").unlink()
    Path("broken/mine/weak/test.csv").write_text("seq,label\nACGT,other\n")
    code, _, err = evaluate(*both, "--data", "broken", where=False)
    assert code == 1 and "broken/mine/gc" in err and "other" in err and not counted
    with pytest.raises(SystemExit):
        main(["evaluate", "--protocol", "stand-inn"])


def test_a_table_of_ones_own(evaluate, model, protocol, tmp_path):
    write_rows(tmp_path / "train.csv", 60, 0)
    write_rows(tmp_path / "test.csv", 30, 1)
    files = ("--train_file", "train.csv", "--test_file", "test.csv")
    assert evaluate("--model", str(model), "--protocol", "stand-in", *files, where=False)[0] == 0
    (task,) = read()["tasks"].values()
    assert task["rows"]["test"] == 30 and task["rows"]["train"] + task["rows"]["validation"] == 60
    write_rows(tmp_path / "validation.csv", 20, 2)
    more = ("--validation_file", "validation.csv", "--overwrite")
    assert evaluate("--model", str(model), "--protocol", "stand-in", *files, *more, where=False)[0] == 0
    (task,) = read()["tasks"].values()
    assert task["rows"] == {"train": 60, "validation": 20, "test": 30}


def test_a_pattern_gives_every_task_its_test_file(evaluate, data, tmp_path):
    for name, seed in (("gc", 7), ("weak", 8)):
        write_rows(tmp_path / "sealed" / "mine" / name / "kept.csv", 24, seed)
    assert evaluate("--test_file", "sealed/{task}/kept.csv")[0] == 0
    sources = {name: task["sources"][-1]["file"] for name, task in read()["tasks"].items()}
    assert sources == {"mine/gc": "kept.csv", "mine/weak": "kept.csv"}
    assert [task["rows"]["test"] for task in read()["tasks"].values()] == [24, 24]


def test_a_dry_run_lists_what_is_there_and_computes_nothing(evaluate, model, protocol, counted):
    words = ("--model", str(model), "--protocol", "stand-in", "--dry_run")
    code, out, _ = evaluate(*words, out=None)
    assert code == 0 and "6 cells are missing" in out and not counted and not Path("cache").exists()
    assert evaluate("--model", str(model), "--protocol", "stand-in", "--tasks", "*gc")[0] == 0
    code, out, _ = evaluate(*words, "--json", out="out")
    found = json.loads(out)
    assert code == 0 and found["missing"] == 3
    assert found["cells"]["mine/gc"] == dict.fromkeys(("tiny", "baseline:majority", "baseline:kmer"), "there")


def test_names_are_data(evaluate, tmp_path, model, protocol):
    name = "a|b*[x](y)\u202e\x1b[31m"
    for split, seed in (("train", 0), ("test", 1)):
        write_rows(tmp_path / "odd" / name / f"{split}.csv", 40, seed, classes=("p|q", "=1"))
    code, out, err = evaluate("--data", "odd", "--model", f"{name}={model}", "--protocol", "stand-in", where=False)
    assert code == 0, err
    assert list(read()["tasks"]) == [name] and next(iter(read()["entrants"])) == name
    for text in (out, err, Path("out", "report.md").read_text()):
        assert "\x1b" not in text and "\u202e" not in text
    assert "a&#124;b\\*\\[x\\](y)" in Path("out", "report.md").read_text()


def test_processes_share_the_cells(evaluate, model, protocol, monkeypatch, data):
    """Two that are started together; the main one writes the report, which is that of one process."""
    words = ["--model", str(model), "--protocol", "stand-in"]
    assert evaluate(*words, "--cache", "one", out="alone")[0] == 0
    # This process joins, too: what it knows of the others must not outlive the test.
    monkeypatch.setattr(team, "_team", None)
    monkeypatch.setattr(team, "_joined", 0)
    monkeypatch.setenv("GENGRAM_STORE", str(Path("store").absolute()))
    monkeypatch.setenv("WORLD_SIZE", "2")
    child = os.fork()
    monkeypatch.setenv("RANK", "1" if child == 0 else "0")
    code = evaluate(*words, "--devices", "cpu")[0]
    if child == 0:
        os._exit(code)
    assert code == 0 and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert Path("out", "report.json").read_bytes() == Path("alone", "report.json").read_bytes()
    assert len(list(Path("cache", "cells").glob("*.json"))) == 6


def test_a_cell_computes_apart_from_the_other_processes(monkeypatch):
    """What a launcher has set is not there for what is inside, which would look for the others."""
    from gengram.team import Team

    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError), fill._apart(Team(1, 2, None)):
        assert "WORLD_SIZE" not in os.environ and os.environ["GENGRAM_QUIET"] == "1"
        raise InputError("x")
    assert os.environ["RANK"] == "1" and os.environ["WORLD_SIZE"] == "2" and "GENGRAM_QUIET" not in os.environ


def test_the_cache_is_below_hf_home(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path))
    assert run.find_cache(None) == tmp_path / "gengram" / "evaluate"
    with pytest.raises(InputError, match="is not a folder"):
        (tmp_path / "file").write_text("")
        run.find_cache(str(tmp_path / "file" / "x"))
    assert not Cells(tmp_path).folder.exists()
