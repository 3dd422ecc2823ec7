"""What was published about a task? Tables of papers and repositories, `published/*.yaml`, each figure with its source.

A file is one table of one source: `columns` are models, `rows` are tasks under the names that the source gives them.
Sources that disagree are files of their own. Values stand as they were published; `scale: 100` marks per cent.
"""

import dataclasses
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from gengram.benchmarks.tasks.registry import FOLDER, LOADER, find_task
from gengram.benchmarks.tasks.schema import make
from gengram.benchmarks.tasks.task import Task
from gengram.errors import InputError

Status = Literal["verified", "recalled", "digitised"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """A figure that somebody has published.

    Attributes:
        task: a name of the registry; None: a mean over tasks, or a task that the registry lacks or cannot tell.
        name: of the task in the source.
        model: as the source calls it.
        value: between -1 and 1, also where the source gives per cent.
        spread: around the value, as the table's `spread_of` says; None: not given.
        metric: a name of `gengram.training.problems.METRICS`, or `f1`.
        protocol: how the model was judged.
        source: where it was read.
        status: `verified` read there, `recalled` from memory, `digitised` read off a picture.
        note: what else one should know of this figure.
        table: the file, `gengram`.
    """

    task: str | None
    name: str
    model: str
    value: float
    spread: float | None
    spread_of: str | None
    metric: str
    protocol: str
    source: str
    status: Status
    note: str | None
    table: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """A model of a table; what it does not say, the table says."""

    model: str
    source: str | None = None
    status: Status | None = None
    scale: int | None = None
    note: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A task of a table: under its name there, and what it is here (several tasks may be made of the same rows).

    `values` and `spreads` are in the order of the columns; `statuses` and `notes` are of single models.
    """

    name: str
    tasks: tuple[str, ...]
    values: tuple[float | None, ...]
    metric: str | None = None
    spreads: tuple[float | None, ...] | None = None
    note: str | None = None
    statuses: dict[str, Status] = dataclasses.field(default_factory=dict)
    notes: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A published table; `spread` says what its spreads are."""

    title: str
    source: str
    metric: str
    protocol: str
    status: Status
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    scale: int = 1
    spread: str | None = None
    note: str | None = None


def list_published(task: Task | str | None = None) -> list[Published]:
    """Return the figures of a task, or all of them, in the order of the tables.

    Args:
        task: a task or a name that `find_task` knows; one that is no task of the registry has none.

    Raises:
        `InputError`: a name that leads to no task.
    """
    if task is None:
        return [figure for name, table in list_tables().items() for figure in _list_figures(name, table)]
    name = find_task(task).name if isinstance(task, str) else task.name
    return [figure for figure in list_published() if figure.task == name]


@cache
def list_tables() -> dict[str, Table]:
    """Return the tables, with the names of their files."""
    files = sorted(FOLDER.joinpath("published").iterdir(), key=lambda file: file.name)
    return {Path(file.name).stem: _read_table(file) for file in files if file.name.endswith(".yaml")}


def _read_table(file: Any) -> Table:
    return check_table(make(Table, yaml.load(file.read_text(encoding="utf-8"), LOADER), str(file)), str(file))


def check_table(table: Table, place: str) -> Table:
    """Return the table; refuse rows that do not fit the columns, and names that lead to no task.

    Raises:
        `InputError`: with file and row.
    """
    models = [column.model for column in table.columns]
    for row in table.rows:
        where = f"{place}, row {row.name!r}"
        for numbers in (row.values, row.spreads):
            if numbers is not None and len(numbers) != len(models):
                raise InputError(f"{where}: {len(numbers)} numbers for {len(models)} columns")
        if unknown := [model for model in (*row.statuses, *row.notes) if model not in models]:
            raise InputError(f"{where}: there is no column {unknown[0]!r}")
        for task in row.tasks:
            if find_task(task).name != task:
                raise InputError(f"{where}: name the task {find_task(task).name!r}, not {task!r}")
    return table


def _list_figures(name: str, table: Table) -> list[Published]:
    figures = []
    for row in table.rows:
        for number, (column, value) in enumerate(zip(table.columns, row.values)):
            if value is None:
                continue
            scale = column.scale or table.scale
            spread = None if row.spreads is None else row.spreads[number]
            notes = (row.notes.get(column.model), row.note, column.note, table.note)
            figures += [
                Published(
                    task=task,
                    name=row.name,
                    model=column.model,
                    value=round(value / scale, 6),
                    spread=None if spread is None else round(spread / scale, 6),
                    spread_of=None if spread is None else table.spread,
                    metric=row.metric or table.metric,
                    protocol=table.protocol,
                    source=column.source or table.source,
                    status=row.statuses.get(column.model) or column.status or table.status,
                    note="; ".join(note for note in notes if note) or None,
                    table=name,
                )
                for task in (row.tasks or (None,))
            ]
    return figures


__all__ = ["Column", "Published", "Row", "Status", "Table", "check_table", "list_published", "list_tables"]
