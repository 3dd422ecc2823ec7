"""A run that is killed, or stopped, and goes on has the weights and the log of one that was never interrupted."""

import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gengram.training.pretraining.command import STOPPED
from gengram.training.pretraining.logs import read_log
from tests.training.pretraining.commands import SMALL, make_words
from tests.training.pretraining.processes import KILLED, run

# Before the first checkpoint, in its weights, in its optimizer, between two, in the second stage, in an evaluation,
# while the last model is written, before it is moved, and when half of it is.
MOMENTS = {
    "before the first checkpoint": ("step", 4),
    "in the weights of a checkpoint": ("weights", 2),
    "in the optimizer of a checkpoint": ("optimizer", 1),
    "between checkpoints": ("step", 6),
    "in the second stage": ("step", 13),
    "in the last evaluation": ("evaluate", 4),
    "in the last model": ("weights", 6),
    "before the end": ("finish", 1),
    "while the model is moved": ("move", 4),
    "in the report": ("report", 1),
}
STAGES = [{"steps": 4}, {"steps": 4, "pack": True, "window": 11, "learning_rate": 5e-4, "strand": "forward"}]
DROPOUT = {**SMALL, "attention_dropout": 0.2}
TIMES = ("tokens_per_second",)


def make(corpus: Path, out: Path, **changes) -> list[str]:
    """Two stages, the second packed, with dropout: batches are 3 + 2 blocks, checkpoints every 2 steps."""
    options = {"config": DROPOUT, "steps": None, "stages": STAGES, "per_device_train_batch_size": 3, **changes}
    return make_words(corpus, out, **options)


def read_losses(out: Path) -> list[float]:
    return [line["loss"] for line in read_log(out / "log.jsonl") if "loss" in line]


def check_same(out: Path, whole: Path) -> None:
    one, other = load_file(out / "model.safetensors"), load_file(whole / "model.safetensors")
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    lines, expected = ([drop_times(line) for line in read_log(folder / "log.jsonl")] for folder in (out, whole))
    assert lines == expected
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()}


def drop_times(line: dict) -> dict:
    return {name: value for name, value in line.items() if name not in TIMES}


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "out"
    assert run(make(corpus, out)) == [0]
    return out


def test_a_killed_run_goes_on_as_if_it_had_not_been(corpus, whole, tmp_path):
    """With another number of workers; `run` looks whether the one that there was has ended, too."""
    out = tmp_path / "out"
    workers = {"dataloader_num_workers": 1, "dataloader_multiprocessing_context": "forkserver"}
    assert run(make(corpus, out, **workers), moment=("weights", 2)) == [KILLED]
    assert run([*make(corpus, out), "--resume_from_checkpoint"]) == [0]
    check_same(out, whole)


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_at_every_moment(moment, corpus, whole, tmp_path):
    out = tmp_path / "out"
    assert run(make(corpus, out), moment=MOMENTS[moment]) == [KILLED]
    assert run([*make(corpus, out), "--resume_from_checkpoint"]) == [0]
    check_same(out, whole)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["in the weights of a checkpoint", "between checkpoints", "in the second stage"])
def test_with_workers_that_read_ahead(moment, corpus, whole, tmp_path):
    words = make(corpus, tmp_path / "out", dataloader_num_workers=2, dataloader_multiprocessing_context="fork")
    assert run(words, moment=MOMENTS[moment]) == [KILLED]
    assert run([*words, "--resume_from_checkpoint"]) == [0]
    check_same(tmp_path / "out", whole)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_workers_that_are_started_anew_end_with_the_run(method, corpus, whole, tmp_path):
    """`run` looks for those that stay."""
    words = make(corpus, tmp_path / "out", dataloader_num_workers=2, dataloader_multiprocessing_context=method)
    assert run(words, moment=("step", 6)) == [KILLED]
    assert run([*words, "--resume_from_checkpoint"]) == [0]
    check_same(tmp_path / "out", whole)


@pytest.mark.slow
@pytest.mark.parametrize("moment", list(MOMENTS)[:5])
def test_two_processes(moment, corpus, tmp_path):
    name, call = MOMENTS[moment]
    moment = (name, (call + 1) // 2 if name == "step" else call)  # a process has half of the batches
    assert run(make(corpus, tmp_path / "whole"), processes=2) == [0, 0]
    assert KILLED in run(make(corpus, tmp_path / "out"), processes=2, moment=moment)
    assert run([*make(corpus, tmp_path / "out"), "--resume_from_checkpoint"], processes=2) == [0, 0]
    check_same(tmp_path / "out", tmp_path / "whole")


def test_two_processes_have_the_curve_of_one(corpus, tmp_path):
    """No dropout: its random numbers are those of a process."""
    words = {"config": SMALL, "eval_strategy": "no", "eval_bases": 0, "save_steps": 4}
    assert run(make(corpus, tmp_path / "one", **words)) == [0]
    assert run(make(corpus, tmp_path / "two", **words), processes=2) == [0, 0]
    losses, others = read_losses(tmp_path / "one"), read_losses(tmp_path / "two")
    assert len(losses) == 8 and losses == pytest.approx(others, abs=1e-5)


@pytest.mark.slow
def test_one_process_goes_on_where_two_were_killed(corpus, tmp_path):
    words = {"config": SMALL}
    assert run(make(corpus, tmp_path / "one", **words)) == [0]
    assert KILLED in run(make(corpus, tmp_path / "two", **words), processes=2, moment=("weights", 2))
    assert run([*make(corpus, tmp_path / "two", **words), "--resume_from_checkpoint"]) == [0]
    assert read_losses(tmp_path / "one") == pytest.approx(read_losses(tmp_path / "two"), abs=1e-5)


@pytest.mark.slow
def test_killed_twice(corpus, whole, tmp_path):
    words = [*make(corpus, tmp_path / "out"), "--resume_from_checkpoint"]  # where there is none, it begins
    for moment in (("step", 7), ("step", 5), ("optimizer", 1)):
        assert run(words, moment=moment) == [KILLED]
    assert run(words) == [0]
    check_same(tmp_path / "out", whole)


@pytest.mark.slow
def test_sigterm_ends_a_run_with_a_checkpoint(corpus, whole, tmp_path):
    out = tmp_path / "out"
    assert run(make(corpus, out), moment=("step", 5), number=signal.SIGTERM) == [STOPPED]
    assert list((out / "stage-1").glob("checkpoint-3")) and not (out / "pretraining.json").exists()
    assert run([*make(corpus, out), "--resume_from_checkpoint"]) == [0]
    check_same(out, whole)


def test_a_time_limit_ends_a_run_with_a_checkpoint(corpus, whole, tmp_path):
    words = make(corpus, tmp_path / "out")
    assert run([*words, "--max_hours", "1e-9"]) == [STOPPED]
    assert not (tmp_path / "out" / "pretraining.json").exists()
    assert list((tmp_path / "out" / "stage-1").glob("checkpoint-1"))
    assert run([*words, "--resume_from_checkpoint"]) == [0]
    one, other = (load_file(folder / "model.safetensors") for folder in (tmp_path / "out", whole))
    assert all(torch.equal(one[name], other[name]) for name in one)
