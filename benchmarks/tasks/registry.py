"""Which tasks and suites are there? Read from the package's YAML files, once, without torch."""

import os
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import yaml

from gengram.benchmarks.tasks.overlay import VARIABLE, read_overlay, update_task
from gengram.benchmarks.tasks.task import Benchmark, Task, list_unknown_facts, make_task
from gengram.errors import InputError, suggest

FOLDER = resources.files("gengram.benchmarks.tasks")
# libyaml reads the files in a tenth of the time; wheels of PyYAML have it.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
BENCHMARKS: tuple[str, ...] = get_args(Benchmark)


def list_tasks(benchmark: str | None = None) -> list[Task]:
    """Return all tasks, or those of a benchmark, in the order of the benchmarks and of names.

    Raises:
        `InputError`: there is no such benchmark.
    """
    if benchmark is None:
        return list(_read_tasks())
    found = next((name for name in BENCHMARKS if name.casefold() == benchmark.casefold()), None)
    if found is None:
        raise InputError(
            f"there is no benchmark {benchmark!r}{suggest(benchmark, BENCHMARKS) or f'; there are {_join(BENCHMARKS)}'}"
        )
    return [task for task in _read_tasks() if task.benchmark == found]


def find_task(name: str) -> Task:
    """Return the task of a name, of an alias, or of a name without its benchmark that no other benchmark has.

    Upper and lower case are alike.

    Raises:
        `InputError`: there is none, or several; the message names the nearest or all of them.
    """
    names = _index()
    found = names.get(name.casefold(), [])
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"{name}: {len(found)} tasks are called so: {_join(task.name for task in found)}; name one")
    known = [alias for tasks in names.values() for task in tasks for alias in (task.name, *task.aliases)]
    known += [task.short for task in _read_tasks()]
    raise InputError(f"there is no task {name!r}{suggest(name, known)}; `gengram tasks` lists those there are")


def list_suites() -> dict[str, tuple[str, ...]]:
    """Return the suites, each with the names of its tasks in their order; every benchmark is one."""
    return dict(_read_suites())


def expand_suite(name: str) -> list[Task]:
    """Return the tasks of a suite, in its order.

    Raises:
        `InputError`: there is no such suite.
    """
    suites = _read_suites()
    found = next((suite for suite in suites if suite.casefold() == name.casefold()), None)
    if found is None:
        raise InputError(f"there is no suite {name!r}{suggest(name, suites) or f'; there are {_join(suites)}'}")
    return [find_task(task) for task in suites[found]]


def _read_tasks() -> tuple[Task, ...]:
    return _read_with(os.environ.get(VARIABLE) or None)


@cache
def _read_with(overlay: str | None) -> tuple[Task, ...]:
    """All tasks, with the facts of a file that the user names."""
    tasks = _read_all()
    if overlay is None:
        return tasks
    if not Path(overlay).is_file():
        raise InputError(f"{overlay}: there is no such file, and the variable {VARIABLE} names it; mend or unset it")
    facts = read_overlay(Path(overlay))
    if unknown := sorted(facts.keys() - {task.name for task in tasks}):
        raise InputError(f"{overlay}: there is no task {unknown[0]!r}{suggest(unknown[0], (t.name for t in tasks))}")
    return tuple(update_task(task, facts[task.name], overlay) if task.name in facts else task for task in tasks)


@cache
def _read_all() -> tuple[Task, ...]:
    return tuple(
        _read_task(benchmark, file)
        for benchmark in BENCHMARKS
        for file in sorted(FOLDER.joinpath("rows", benchmark).iterdir(), key=lambda file: file.name.casefold())
        if file.name.endswith(".yaml")
    )


def _read_task(benchmark: str, file: Any) -> Task:
    task = make_task(
        yaml.load(file.read_text(encoding="utf-8"), LOADER), f"{benchmark}/{file.name[: -len('.yaml')]}", str(file)
    )
    if silent := [fact for fact in list_unknown_facts(task) if fact not in task.unverified]:
        raise InputError(f"{file}: {_join(silent)} is not known and not listed in `unverified`")
    return task


def _index() -> dict[str, list[Task]]:
    return _index_with(os.environ.get(VARIABLE) or None)


@cache
def _index_with(overlay: str | None) -> dict[str, list[Task]]:
    """All names, in lower case: full ones and aliases before those without a benchmark, which several may share."""
    index: dict[str, list[Task]] = {}
    for task in _read_with(overlay):
        for name in (task.name, *task.aliases):
            index.setdefault(name.casefold(), []).append(task)
    short: dict[str, list[Task]] = {}
    for task in _read_with(overlay):
        short.setdefault(task.short.casefold(), []).append(task)
    return {**short, **index}


@cache
def _read_suites() -> dict[str, tuple[str, ...]]:
    data = yaml.load(FOLDER.joinpath("suites.yaml").read_text(encoding="utf-8"), LOADER)
    suites = {name: tuple(tasks) for name, tasks in data.items()}
    return suites | {name: tuple(task.name for task in list_tasks(name)) for name in BENCHMARKS if name != "other"}


def _join(names: Sequence[str] | Any) -> str:
    return ", ".join(names)


__all__ = ["BENCHMARKS", "expand_suite", "find_task", "list_suites", "list_tasks"]
