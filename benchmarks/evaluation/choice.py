"""Which tasks does a command line mean, and which file has the test rows of each? Asked before any row is read."""

import dataclasses
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from gengram.benchmarks.data.folders import find_folder, list_folders, list_tables
from gengram.benchmarks.data.load import read_files, read_task
from gengram.benchmarks.data.prepared import PreparedTask, prepare_task
from gengram.benchmarks.tasks.registry import expand_suite, find_task, list_tasks
from gengram.benchmarks.tasks.task import Task
from gengram.errors import InputError, suggest
from gengram.files import check_input_files
from gengram.printable import shorten
from gengram.progress import tell
from gengram.training.problems import METRICS

PLACE = "{task}"
"""In the name of a test file, what stands for the name of each task."""

OWN = "own"
"""The name of the task that is a user's own tables."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """Which rows of a task count.

    Attributes:
        max_train_rows, max_test_rows: at most so many of a split; None: all.
        dedup: whether training rows that are in the test are left out, see `read_task`.
        metric: by which tasks are judged instead of their own, where their problem has it.
    """

    max_train_rows: int | None = None
    max_test_rows: int | None = None
    dedup: bool = False
    metric: str | None = None


@dataclasses.dataclass(frozen=True)
class ChosenTask:
    """A task that is to be evaluated, not yet read.

    Attributes:
        name: of the registry, or of a folder below `data`.
        data: folder of task folders, or the task's own; None: the Hub's cache, or the Hub.
        test_file: takes the place of the test rows.
        own: tables of a user: train, validation (or None) and test; then there is no folder.
    """

    name: str
    data: str | None = None
    test_file: str | None = None
    own: tuple[str, str | None, str] | None = None

    def prepare(self, limits: Limits) -> PreparedTask:
        """
        Read, check and split the rows.

        Raises:
            `InputError`: what is wrong with the folder, a file or a row.
        """
        if self.own is not None:
            train, validation, test = self.own
            loaded = read_files(
                self.name, train_file=train, test_file=test, validation_file=validation, dedup=limits.dedup
            )
        else:
            loaded = read_task(self.name, data=self.data, test_file=self.test_file, dedup=limits.dedup)
        if limits.metric in METRICS[loaded.problem]:
            loaded = dataclasses.replace(loaded, task=dataclasses.replace(loaded.task, metric=limits.metric))
        return prepare_task(loaded, max_train_rows=limits.max_train_rows, max_test_rows=limits.max_test_rows)


def choose_tasks(
    tasks: Sequence[str], suites: Sequence[str], data: str | None, test_files: Sequence[str]
) -> list[ChosenTask]:
    """
    Return the tasks of a command line, each once, in its order.

    Args:
        tasks: names of the registry or of folders below `data`, or patterns (`GUE/*`).
        suites: names of suites; together with `data` those of their tasks count that have a folder there.
        data: a folder of tasks, or of one; alone it means all in it.
        test_files: `FILE`, `TASK=FILE`, or a name with `{task}`.

    Raises:
        `InputError`: a task, suite, folder or file that is not there; everything that is wrong in one message.
    """
    names: list[str] = []
    faults: list[str] = []
    if data is not None and not Path(data).is_dir():
        raise InputError(f"--data {data}: there is no such folder; give one with a folder for each task")
    for suite in suites:
        names += _list_suite(expand_suite(suite), suite, data)
    for task in tasks:
        try:
            names += _list_named(task, data)
        except InputError as error:
            faults.append(str(error))
    if data is not None and not tasks and not suites:
        names += list_folders(Path(data)) or ([Path(data).absolute().name] if list_tables(Path(data)) else [])
        if not names:
            raise InputError(f"--data {data}: no task is here; a task is a folder with the tables train and test")
    names = list(dict.fromkeys(names))
    if faults:
        raise InputError("; ".join(faults))
    found = assign_test_files(names, test_files)
    return [ChosenTask(name, data, found.get(name)) for name in names]


def choose_own(train: str, validation: str | None, test: str) -> ChosenTask:
    """
    Return the task that a user's own tables are.

    Raises:
        `InputError`: one of them is not there.
    """
    check_input_files(train, validation, test)
    return ChosenTask(OWN, own=(train, validation, test))


def assign_test_files(names: Sequence[str], files: Sequence[str]) -> dict[str, str]:
    """
    Return which file has the test rows of a task; of the others, their own test counts.

    Raises:
        `InputError`: a file that is not there, or of a task that is not chosen; a file for several tasks.
    """
    found: dict[str, str] = {}
    for text in files:
        task, equals, file = text.partition("=")
        if PLACE in text:
            found |= {name: _fill_in(text, name) for name in names}
        elif equals and (match := _match(task, names)) is not None:
            found[match] = file
        elif equals and not Path(text).exists():
            raise InputError(
                f"--test_file {text}: {task!r} is none of the tasks ({shorten(', '.join(names), 200)})"
                f"{suggest(task, names)}"
            )
        elif len(names) == 1:
            found[names[0]] = text
        else:
            raise InputError(
                f"--test_file {text}: there are {len(names)} tasks; say TASK=FILE, or a name with {PLACE} for all"
            )
    if missing := [f"{file} ({name})" for name, file in found.items() if not Path(file).exists()]:
        raise InputError(f"--test_file: there is no {'; no '.join(missing)}")
    check_input_files(*found.values())
    return found


def _fill_in(text: str, name: str) -> str:
    """A pattern with a task's name in it; where there is no such file, with what follows the benchmark's name."""
    whole, short = text.replace(PLACE, name), text.replace(PLACE, name.split("/")[-1])
    return short if not Path(whole).exists() and Path(short).exists() else whole


def _match(task: str, names: Iterable[str]) -> str | None:
    """The one of the chosen tasks that is called so, by its whole name or by what follows the benchmark's."""
    spelled = [name for name in names if task.casefold() in (name.casefold(), name.split("/")[-1].casefold())]
    return spelled[0] if len(spelled) == 1 else None


def _list_suite(tasks: Sequence[Task], suite: str, data: str | None) -> list[str]:
    if data is None:
        return [task.name for task in tasks]
    there, lacking = list[str](), list[str]()
    for task in tasks:
        (there if _has_folder(data, task) else lacking).append(task.name)
    if not there:
        raise InputError(f"--data {data}: no task of the suite {suite!r} is here ({shorten(', '.join(lacking), 200)})")
    if lacking:
        tell(f"suite {suite}: {len(there)} of {len(tasks)} tasks are in {data}; not {', '.join(lacking)}")
    return there


def _has_folder(data: str, task: Task) -> bool:
    try:
        folder, _ = find_folder(Path(data), [task.name, *task.aliases])
    except InputError:
        return False
    return folder != Path(data)


def _list_named(name: str, data: str | None) -> list[str]:
    known = list_folders(Path(data)) if data is not None else [task.name for task in list_tasks()]
    if any(mark in name for mark in "*?"):
        if matching := [one for one in known if fnmatchcase(one.casefold(), name.casefold())]:
            return matching
        raise InputError(f"--tasks {name}: no task is called so; there are {shorten(', '.join(known), 200)}")
    if name in known:
        return [name]
    if data is None:
        return [find_task(name).name]
    find_folder(Path(data), [name])
    return [name]


__all__ = ["OWN", "PLACE", "ChosenTask", "Limits", "assign_test_files", "choose_own", "choose_tasks"]
