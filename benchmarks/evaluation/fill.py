"""The evaluation itself: cells that are there are taken, missing ones are computed, one after the other.

Killed and started again it goes on with the cell that it was at; several processes take cells as they have time for
them. What they make is the same, however often they were interrupted and however many they were.
"""

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gengram.benchmarks.evaluation.cells import Cells, Predictions, list_versions, make_key
from gengram.benchmarks.evaluation.contestants import Contestant
from gengram.benchmarks.evaluation.judge import judge
from gengram.benchmarks.evaluation.shelf import Shelf, TaskFacts
from gengram.errors import InputError
from gengram.loading.faults import tell_faults
from gengram.phases import phase
from gengram.progress import QUIET, tell, track
from gengram.team import Team

# What a launcher tells each process: a library that finds it would want to compute together with the others.
_LAUNCHED = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "GROUP_WORLD_SIZE",
    "ROLE_RANK",
    "ROLE_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
)
_SECONDS = "seconds"
"""What outcomes say of time is kept beside them: a report of the same cells is the same, whenever they were made."""


@dataclasses.dataclass(frozen=True)
class Job:
    """A cell that is wanted.

    Attributes:
        task: its name.
        contestant: who is measured.
        inputs: everything that the content depends on.
        key: of the cell.
        refusal: why it cannot be computed; None if it can.
    """

    task: str
    contestant: Contestant
    inputs: dict[str, Any]
    key: str
    refusal: str | None = None


def list_jobs(
    tasks: Mapping[str, TaskFacts], contestants: Sequence[Contestant], refusals: Mapping[tuple[str, str], str]
) -> list[Job]:
    """
    Return the cells of all contestants on all tasks, one contestant after the other.

    Args:
        tasks: of `Shelf.survey`.
        contestants: who is measured.
        refusals: (contestant, task) -> why not.
    """
    jobs = []
    for contestant in contestants:
        for name, facts in tasks.items():
            inputs = contestant.list_inputs(facts.task, facts.fingerprint, facts.metric)
            jobs.append(Job(name, contestant, inputs, make_key(inputs), refusals.get((contestant.name, name))))
    return jobs


def fill_cells(jobs: Sequence[Job], shelf: Shelf, cells: Cells, cache: Path, team: Team | None) -> None:
    """
    Compute the cells that are missing; of a team, those that no other process has taken.

    A cell that cannot be computed is told, and left out: `Cells.read_fault` says why.
    """
    missing = [job for job in jobs if job.refusal is None and cells.read(job.key) is None]
    wanted = list({job.key: job for job in missing}.values())  # the same weights may be there under two names
    there = sum(job.refusal is None for job in jobs) - len(missing)
    if there:
        tell(f"{there} of {len(jobs)} cells are there already")
    with (
        phase("Computing cells", unit="cells") as computing,
        track(total=len(wanted), desc="cells", unit="cell") as bar,
    ):
        for job in wanted:
            if team is None or team.claim(f"cell {job.key}"):
                compute_cell(job, shelf, cells, cache, team)
                computing.add(1)
            bar.update()
    if team is not None:
        team.leave()
        if team.rank == 0:
            team.wait()


def compute_cell(job: Job, shelf: Shelf, cells: Cells, cache: Path, team: Team | None) -> None:
    """Compute one cell and write it, or why that is not possible."""
    cells.forget_fault(job.key)
    name = f"{job.contestant.name} on {job.task}"
    begun = time.monotonic()
    try:
        # A fault of one cell, of whatever kind, is not worth the others that a run of hours would still make.
        with _apart(team), tell_faults(name):
            task = shelf.take(job.task)
            outcomes = job.contestant.run(task, job.contestant.seeds, cache)
            predictions = Predictions(
                np.stack([np.asarray(one.outputs, dtype=np.float32) for one in outcomes]), np.asarray(task.test.labels)
            )
            metrics = judge(task.problem, predictions.outputs, predictions.labels)
    except InputError as error:
        # A baseline that says by itself that it is none for such a task has not failed.
        status = "refused" if job.contestant.kind == "baseline" and error.__cause__ is None else "failed"
        reason = str(error).removeprefix(f"{name}: ")
        tell(f"warning: {name} has no score ({status}): {reason}")
        cells.write_fault(job.key, status, reason)
        return
    chosen, seconds = zip(*(_take_seconds(one.chosen) for one in outcomes))
    cell = {
        "inputs": job.inputs,
        "seeds": [one.seed for one in outcomes],
        "metrics": metrics,
        "chosen": list(chosen),
        "validation": [_clean(one.validation) for one in outcomes],
        "versions": list_versions(),
        "seconds": round(time.monotonic() - begun, 3),
        "seconds_of_seeds": list(seconds),
    }
    cells.write(job.key, cell, predictions)
    mean = metrics[job.inputs["metric"]]["mean"]
    tell(f"{name}: {job.inputs['metric']} {'-' if mean is None else f'{mean:.4f}'}, {cell['seconds']:.0f} s")


@contextlib.contextmanager
def _apart(team: Team | None) -> Iterator[None]:
    """Let what is inside compute by itself: it must not take the other processes for parts of its own training."""
    if team is None:
        yield
        return
    before = {name: os.environ.pop(name) for name in _LAUNCHED if name in os.environ}
    quiet = os.environ.get(QUIET)
    if team.rank:
        os.environ[QUIET] = "1"
    try:
        yield
    finally:
        os.environ.update(before)
        if team.rank:
            os.environ.pop(QUIET)
            if quiet is not None:
                os.environ[QUIET] = quiet


def _take_seconds(chosen: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """What was chosen, as JSON, and apart from it what it says of time."""
    return _clean({name: value for name, value in chosen.items() if name != _SECONDS}), _clean(chosen.get(_SECONDS))


def _clean(value: Any) -> Any:
    """Return a value as JSON has it: arrays and tuples are lists, what is no number (NaN) is nothing."""
    if isinstance(value, Mapping):
        return {str(name): _clean(inner) for name, inner in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [_clean(inner) for inner in value]
    if isinstance(value, np.generic):
        return _clean(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


__all__ = ["Job", "compute_cell", "fill_cells", "list_jobs"]
