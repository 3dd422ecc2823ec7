"""What is known of a task that is a folder of tables: what its rows show, and what a `task.yaml` there says."""

import dataclasses
from pathlib import Path
from typing import Any

from gengram.benchmarks.data.checks import Survey
from gengram.benchmarks.tasks.task import Columns, Length, Task
from gengram.training.problems import METRICS, Problem

TASK_FILE = "task.yaml"
"""In the folder of a task: fields of the registry's tasks, any of them."""


@dataclasses.dataclass(frozen=True)
class Notes:
    """What a `task.yaml` says; what it leaves open is None."""

    problem: Problem | None = None
    classes: tuple[str, ...] | None = None
    codes: dict[str, int] | None = None
    columns: Columns | None = None
    others: dict[str, Any] = dataclasses.field(default_factory=dict)


def read_notes(folder: Path) -> Notes:
    """Read the `task.yaml` of a folder, if there is one."""
    return Notes()


def describe_task(
    name: str, task: Task | None, notes: Notes, problem: Problem, classes: tuple[str, ...], survey: Survey
) -> Task:
    """Return the task of the registry as a folder describes it, or make one of what the folder's rows show."""
    if task is not None:
        return task
    lengths = [each for each in survey.splits.values()]
    return Task(
        name=name,
        benchmark=name.partition("/")[0],
        title=name,
        columns=Columns(),
        problem=problem,
        classes=classes,
        rows={split: each.rows for split, each in survey.splits.items()},
        length=Length(min(e.shortest for e in lengths), lengths[0].median, max(e.longest for e in lengths)),
        metric=METRICS[problem][0],
    )
