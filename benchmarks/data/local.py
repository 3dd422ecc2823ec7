"""What is known of a task that is a folder of tables: what its rows show, and what its `task.yaml` says."""

import dataclasses
from typing import Any

from gengram.benchmarks.data.checks import Survey
from gengram.benchmarks.tasks.task import Columns, Length, Task
from gengram.errors import InputError
from gengram.training.data.task_notes import TASK_FILE, TaskNotes
from gengram.training.problems import METRICS, Problem

_TEXTS = ("title", "description", "licence", "assembly", "source", "metric")
_LISTS = ("problems", "validation_chromosomes", "test_chromosomes")


def describe_task(
    name: str, task: Task | None, notes: TaskNotes, problem: Problem, classes: tuple[str, ...], survey: Survey
) -> Task:
    """Return the task of the registry as its folder describes it, or make one of what a folder's rows show.

    Raises:
        `InputError`: the metric is no score of such a problem.
    """
    if notes.metric is not None and notes.metric not in METRICS[problem]:
        known = ", ".join(METRICS[problem])
        raise InputError(f"{name}: {TASK_FILE}: metric {notes.metric[:60]!r} is none of a {problem} task, {known}")
    said = {field: value for field in (*_TEXTS, *_LISTS) if (value := getattr(notes, field))}
    if task is None:
        return make_local_task(name, problem, classes, survey, **said)
    if problem != "regression":
        said |= {"classes": classes, "outputs": len(classes)}
    return dataclasses.replace(task, problem=problem, **said)


def make_local_task(name: str, problem: Problem, classes: tuple[str, ...], survey: Survey, **said: Any) -> Task:
    """Make a task of what the rows of a folder show, and of what is said beside that."""
    splits = list(survey.splits.values())
    known: dict[str, Any] = {
        "name": name,
        "benchmark": name.rpartition("/")[0],
        "title": name,
        "columns": Columns(),
        "problem": problem,
        "classes": None if problem == "regression" else classes,
        "outputs": len(classes),
        "rows": {split: each.rows for split, each in survey.splits.items()},
        "length": Length(
            min=min(each.shortest for each in splits),
            median=int(splits[0].median),
            max=max(each.longest for each in splits),
        ),
        "metric": METRICS[problem][0],
    }
    return Task(**{**known, **said})


__all__ = ["describe_task", "make_local_task"]
