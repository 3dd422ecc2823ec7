"""What is known of the tasks of a run? Each is read and checked once before anything is computed, and again only where
memory does not hold all of them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gengram.benchmarks.data.prepared import PreparedTask, Rows
from gengram.benchmarks.evaluation.choice import ChosenTask, Limits
from gengram.benchmarks.tasks.published import list_published
from gengram.benchmarks.tasks.task import Task
from gengram.errors import InputError
from gengram.phases import phase
from gengram.progress import track
from gengram.training.problems import METRICS

_KEPT = 2_000_000_000  # bases of all tasks that stay in memory
_LONGEST = 3  # sequences with which a model's limit is tried


@dataclasses.dataclass(frozen=True)
class TaskFacts:
    """A task without its rows.

    Attributes:
        task: of the registry, or a local one.
        name: of the task in this run.
        fingerprint: checksum of all rows.
        metric: by which it is judged.
        longest: its longest sequences.
        test_file: where its test rows are from.
        entry: what the report says of it; JSON.
    """

    task: Task
    name: str
    fingerprint: str
    metric: str
    longest: tuple[str, ...]
    test_file: str
    entry: dict[str, Any]


class Shelf:
    """Tasks that are read when they are asked for."""

    def __init__(self, tasks: Sequence[ChosenTask], limits: Limits):
        self._tasks = {task.name: task for task in tasks}
        self._limits = limits
        self._kept: dict[str, PreparedTask] = {}
        self._bases = 0

    def take(self, name: str) -> PreparedTask:
        """Return a task with its rows."""
        if name in self._kept:
            return self._kept[name]
        task = self._tasks[name].prepare(self._limits)
        size = sum(map(len, _list_sequences(task)))
        if self._bases + size <= _KEPT:
            self._kept[name] = task
            self._bases += size
        return task

    def survey(self) -> dict[str, TaskFacts]:
        """
        Read every task; name -> what is known of it.

        Raises:
            `InputError`: what is wrong, with each task of which something is.
        """
        found: dict[str, TaskFacts] = {}
        faults: dict[str, list[str]] = {}  # what is wrong -> the tasks
        with phase("Reading tasks", unit="tasks") as reading, track(self._tasks, desc="tasks", unit="task") as names:
            for name in names:
                try:
                    found[name] = _describe(name, self.take(name))
                except InputError as error:
                    faults.setdefault(str(error).removeprefix(f"{name}: "), []).append(name)
                reading.add(1)
        if faults:
            raise InputError("; ".join(f"{', '.join(names)}: {fault}" for fault, names in faults.items()))
        return found


def describe_task(name: str, prepared: PreparedTask) -> dict[str, Any]:
    """
    Return what the report says of a task; JSON.

    `dataset` is the Hub's dataset whose test rows these are, whole; None where they are other rows or only some.
    """
    task, report = prepared.task, prepared.report
    sources = [
        {
            "split": source["split"],
            "file": Path(source["file"]).name if source["kind"] == "folder" else source["file"],
            "rows": source["rows"],
            "sha256": source["sha256"],
            "kind": source["kind"],
            "revision": source["revision"],
        }
        for source in report["sources"]
    ]
    test = [source for source in sources if source["split"] == "test"]
    is_hubs = task.hub is not None and all(source["kind"] != "folder" for source in test)
    is_whole = is_hubs and sum(source["rows"] for source in test) == len(prepared.test)
    return {
        "title": task.title,
        "benchmark": task.benchmark,
        "problem": prepared.problem,
        "classes": list(prepared.classes),
        "metric": choose_metric(prepared),
        "rows": dict(report["rows"]),
        "validation": report["validation"],
        "sources": sources,
        "fingerprint": prepared.fingerprint,
        "hygiene": _describe_hygiene(report),
        "dataset": task.hub.id if task.hub is not None and is_whole else None,
        "dataset_config": task.hub.config if task.hub is not None and is_whole else None,
        "dataset_revision": test[0]["revision"] if is_whole else None,
        "licence": task.licence,
        "published": [
            {
                "model": one.model,
                "metric": one.metric,
                "value": one.value,
                "protocol": one.protocol,
                "source": one.source,
                "status": one.status,
                "note": one.note,
            }
            for one in list_published(task)
        ],
        "name": name,
    }


def choose_metric(prepared: PreparedTask) -> str:
    """Return the metric that a task is judged by: that of the registry, or the first one of its problem."""
    metrics = METRICS[prepared.problem]
    return prepared.task.metric if prepared.task.metric in metrics else metrics[0]


def _describe_hygiene(report: dict[str, Any]) -> dict[str, Any]:
    survey = report["survey"]
    shared = survey["shared"].get("train and test", {})
    return {
        "test_in_train": shared.get("exact", 0),
        "test_in_train_reverse": shared.get("reverse_complement", 0),
        "duplicates_in_train": survey["splits"]["train"]["copies"],
        "disagreeing_in_train": survey["splits"]["train"]["disagreeing"],
        "removed": report["removed"],
        "warnings": list(survey["warnings"]),
    }


def _describe(name: str, prepared: PreparedTask) -> TaskFacts:
    longest = sorted(_list_sequences(prepared), key=len, reverse=True)[:_LONGEST]
    entry = describe_task(name, prepared)
    files = {source["split"]: source["file"] for source in prepared.report["sources"]}
    return TaskFacts(
        prepared.task, name, prepared.fingerprint, entry["metric"], tuple(longest), files.get("test", ""), entry
    )


def _list_sequences(task: PreparedTask) -> list[str]:
    return [one for rows in (task.train, task.validation, task.test) for one in _list_both(rows)]


def _list_both(rows: Rows) -> list[str]:
    return [*rows.sequences, *(rows.alternatives or ())]


__all__ = ["Shelf", "TaskFacts", "choose_metric", "describe_task"]
