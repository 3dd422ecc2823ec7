"""What are the tasks of a folder like? Of each: rows, classes, lengths, copies, warnings, or why it does not load."""

import dataclasses
from pathlib import Path
from typing import Any

from gengram.benchmarks.data.folders import SPLITS, find_folder, list_folders, list_tables
from gengram.benchmarks.data.layouts import list_inner_tasks, read_layout
from gengram.benchmarks.data.load import read_task
from gengram.errors import InputError
from gengram.markdown import escape_text, format_table


@dataclasses.dataclass(frozen=True)
class CheckedTask:
    """A task of a folder.

    Attributes:
        name: of its folder, below the one that was looked at.
        problem, classes: what is predicted; None where it cannot be loaded.
        rows: of each split.
        shortest, longest: of all sequences, in bp.
        copies: rows that repeat an earlier one of their split, on either strand, by split.
        shared: rows of the second split that the first has, too, on either strand, by `train and test` and the like.
        warnings: of the survey.
        fault: why it cannot be loaded.
    """

    name: str
    problem: str | None = None
    classes: tuple[str, ...] | None = None
    rows: dict[str, int] = dataclasses.field(default_factory=dict)
    shortest: int | None = None
    longest: int | None = None
    copies: dict[str, int] = dataclasses.field(default_factory=dict)
    shared: dict[str, int] = dataclasses.field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    fault: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON has it."""
        return dataclasses.asdict(self)


def check_folder(data: str | Path) -> list[CheckedTask]:
    """Load every task of a folder, or of the folder of one task, and say what it is like.

    Raises:
        `InputError`: there is no such folder, or no task in it.
    """
    folder = Path(data)
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder")
    names = list_folders(folder)
    if list_tables(folder):
        names.insert(0, folder.resolve().name)
    if not names:
        raise InputError(f"{folder}: no tables here, in no folder of it; a task has the files train and test")
    return [task for name in names for task in _check(name, folder)]


def _check(name: str, data: Path) -> list[CheckedTask]:
    """Check a folder; where one file of it holds several tasks, each of them."""
    try:
        return [_survey(name, data)]
    except InputError as error:
        folder, _ = find_folder(data, [name])
        inner = _list_inner(folder)
        if not inner:
            return [CheckedTask(name, fault=str(error))]
    checked = []
    for task in inner:
        try:
            checked.append(_survey(f"{name}/{task}", data))
        except InputError as error:
            checked.append(CheckedTask(f"{name}/{task}", fault=str(error)))
    return checked


def _list_inner(folder: Path) -> list[str]:
    """Return the tasks that the first table of a folder tells apart, if they are several."""
    try:
        found = list_inner_tasks(read_layout(next(iter(list_tables(folder)))))
    except InputError:  # which is the fault that is told
        return []
    return found if len(found) > 1 else []


def _survey(name: str, data: Path) -> CheckedTask:
    loaded = read_task(name, data=data)
    splits = loaded.survey.splits
    return CheckedTask(
        name,
        loaded.problem,
        loaded.classes,
        rows={split: each.rows for split, each in splits.items()},
        shortest=min(each.shortest for each in splits.values()),
        longest=max(each.longest for each in splits.values()),
        copies={split: each.copies for split, each in splits.items()},
        shared={pair: sum(counts.values()) for pair, counts in loaded.survey.shared.items()},
        warnings=tuple(loaded.survey.warnings),
    )


def draw_checks(checked: list[CheckedTask]) -> str:
    """Return Markdown: a table with a row for each task, then what is to be known of each, then the faults."""
    head = ["task", "classes", *SPLITS, "bp", "copies within train", "test rows in train", "warnings"]
    rows = []
    for task in checked:
        if task.fault is not None:
            rows.append([escape_text(task.name), "cannot be loaded", *[""] * 7])
            continue
        what = str(len(task.classes or ())) if task.problem == "single_label" else f"{task.problem}"
        length = f"{task.shortest:,}" + (f" to {task.longest:,}" if task.longest != task.shortest else "")
        rows.append(
            [
                escape_text(task.name),
                what,
                *(f"{task.rows[split]:,}" if split in task.rows else "" for split in SPLITS),
                length,
                f"{task.copies.get('train', 0):,}",
                f"{task.shared.get('train and test', 0):,}",
                str(len(task.warnings)),
            ]
        )
    parts = [format_table(head, rows, numbers=[1, 2, 3, 4, 6, 7, 8])]
    for task in checked:
        if lines := ([task.fault] if task.fault else [*task.warnings]):
            parts.append(f"{escape_text(task.name)}:\n\n" + "\n".join(f"- {escape_text(line)}" for line in lines))
    return "\n\n".join(parts) + "\n"


__all__ = ["CheckedTask", "check_folder", "draw_checks"]
