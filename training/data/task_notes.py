"""What does a `task.yaml` beside the tables of a task say about them? Plain data, each value checked, with its line."""

import contextlib
import dataclasses
import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from gengram.errors import InputError, suggest
from gengram.files import check_input_files
from gengram.genome.tables import shorten
from gengram.loading.faults import tell_faults
from gengram.training.problems import PROBLEMS, Problem
from gengram.training.yaml_files import Loader, read_yaml

TASK_FILE = "task.yaml"
NOTED = f"the {TASK_FILE} of the task's folder"

COLUMNS = ("sequence", "alternative", "label", "name", "chrom", "start", "end", "strand")
"""What a column of a table can be; `label` may be several."""

_TEXTS = (
    "name",
    "benchmark",
    "title",
    "description",
    "licence",
    "assembly",
    "source",
    "metric",
    "protocol",
    "licence_note",
)
_LISTS = ("problems", "validation_chromosomes", "test_chromosomes", "aliases")
# Fields of the package's own tasks that say nothing about tables that are here.
_OTHERS = (
    "hub",
    "length",
    "outputs",
    "metrics_elsewhere",
    "head",
    "unverified",
    "recalled",
    "builder",
    "published",
)
_FIELDS = (*_TEXTS, *_LISTS, "problem", "classes", "codes", "columns", "rows", *_OTHERS)


@dataclasses.dataclass(frozen=True)
class TaskNotes:
    """What is said about a task; None or empty where nothing is.

    Attributes:
        title, description, licence, assembly, source, metric: texts.
        problem: what is to be predicted.
        classes: names in the order of their ids.
        codes: the number that stands for each class in the tables; None: ids do.
        columns: of `COLUMNS`, the name of each in the tables, of `label` also a list of names.
        rows: how many a split has.
        problems: what is known to be wrong with the rows, a sentence each.
        validation_chromosomes, test_chromosomes: names.
    """

    title: str | None = None
    description: str | None = None
    licence: str | None = None
    assembly: str | None = None
    source: str | None = None
    metric: str | None = None
    problem: Problem | None = None
    classes: tuple[str, ...] | None = None
    codes: dict[str, int] | None = None
    columns: dict[str, str | tuple[str, ...]] = dataclasses.field(default_factory=dict)
    rows: dict[str, int] = dataclasses.field(default_factory=dict)
    problems: tuple[str, ...] = ()
    validation_chromosomes: tuple[str, ...] = ()
    test_chromosomes: tuple[str, ...] = ()


_LARGEST = 1 << 20  # bytes
_KEPT = tuple(field.name for field in dataclasses.fields(TaskNotes))


@contextlib.contextmanager
def name_remedies() -> Iterator[None]:
    """Readers shared with `gengram finetune` name its flags in their messages; here `task.yaml` says the same."""
    try:
        yield
    except InputError as error:
        text = re.sub(r"--(sequence|label)_column", rf"`columns: {{\1: NAME}}` in {NOTED}", str(error))
        text = re.sub(r"--problem (\w+)", rf"`problem: \1` in {NOTED}", text)
        raise InputError(text) from error


def read_task_notes(folder: str | Path) -> TaskNotes:
    """Read the `task.yaml` of a folder; without one, nothing is said.

    Raises:
        `InputError`: no YAML, a field that nothing reads, a value of another kind, codes that are not one number for
            each class; with the line.
    """
    path = Path(folder) / TASK_FILE
    if not os.path.lexists(path):
        return TaskNotes()
    check_input_files(path)
    if path.stat().st_size > _LARGEST:
        raise InputError(
            f"{path}: {path.stat().st_size:,} bytes, and what is said about a task is a page; is it a table?"
        )
    root, loader = read_yaml(path)
    if root is None:
        raise InputError(f"{path}: the file is empty; remove it, or say something about the task")
    if not isinstance(root, yaml.MappingNode):
        raise InputError(f"{path}: a task is a mapping of fields to values, e.g. `classes: [negative, positive]`")
    notes: dict[str, Any] = {}
    places: dict[str, str] = {}
    for key, node in root.value:
        name, place = str(key.value), f"{path}, line {key.start_mark.line + 1}"
        if name not in _FIELDS:
            raise InputError(f"{place}: no field of a task is called {name[:60]!r}{suggest(name, _FIELDS)}")
        if name in places:
            raise InputError(f"{place}: {name!r} is given twice")
        places[name] = place
        with tell_faults(f"{place}: {name}"):  # `!!int ""`, `!!timestamp x` ...: PyYAML does not expect them
            value = _read_value(name, node, loader, place)
        if name in _KEPT and value is not None:
            notes[name] = value
    if "codes" in notes and set(notes["codes"]) != set(notes.get("classes", ())):
        raise InputError(
            f"{places['codes']}: codes need a number for each of the classes, which {path.name} names, too"
        )
    return TaskNotes(**notes)


def _read_value(name: str, node: yaml.Node, loader: Loader, place: str) -> Any:
    value = loader.construct_document(node)
    if value is None or name in _OTHERS:
        return None
    place = f"{place}: {name}"
    if name in _TEXTS:
        return _read_text(node, place)
    if name == "problem":
        if value not in PROBLEMS:
            raise InputError(f"{place} is {str(value)[:60]!r}; it is one of {', '.join(PROBLEMS)}")
        return value
    if name in ("codes", "rows"):
        return _read_numbers(node, value, place)
    if name == "columns":
        return _read_columns(node, place)
    entries = _read_texts(node, place)
    if name == "classes" and (len(set(entries)) < len(entries) or len(entries) < 2):
        raise InputError(f"{place} are two names or more, each once; found {shorten(list(entries))}")
    return entries


def _read_text(node: yaml.Node, place: str) -> str:
    """Return a scalar as it is written: `0001` keeps its zeros, `no` is a word."""
    if not isinstance(node, yaml.ScalarNode) or not node.value.strip():
        raise InputError(f"{place}: a text is needed")
    return unicodedata.normalize("NFC", node.value.strip())


def _read_texts(node: yaml.Node, place: str) -> tuple[str, ...]:
    if not isinstance(node, yaml.SequenceNode):
        raise InputError(f"{place}: a list is needed, e.g. `[one, other]`")
    return tuple(_read_text(each, place) for each in node.value)


def _read_numbers(node: yaml.Node, value: Any, place: str) -> dict[str, int]:
    """Return whole numbers by names; those that are null are left out."""
    if not isinstance(node, yaml.MappingNode) or not all(each is None or type(each) is int for each in value.values()):
        raise InputError(f"{place}: a mapping of names to whole numbers is needed, e.g. `{{negative: 0, positive: 1}}`")
    numbers = {_read_text(key, place): each for (key, _), each in zip(node.value, value.values(), strict=True)}
    numbers = {key: each for key, each in numbers.items() if each is not None}
    if place.endswith("codes") and len(set(numbers.values())) < len(numbers):
        raise InputError(f"{place}: two classes have one number")
    return numbers


def _read_columns(node: yaml.Node, place: str) -> dict[str, str | tuple[str, ...]]:
    if not isinstance(node, yaml.MappingNode):
        raise InputError(f"{place}: a mapping is needed, e.g. `{{sequence: seq, label: class}}`")
    columns: dict[str, str | tuple[str, ...]] = {}
    for key, names in node.value:
        column = _read_text(key, place)
        if column not in COLUMNS:
            raise InputError(f"{place}: {column[:60]!r} is none of {', '.join(COLUMNS)}")
        if column == "label" and isinstance(names, yaml.SequenceNode):
            columns[column] = _read_texts(names, place)
        elif not (isinstance(names, yaml.ScalarNode) and names.tag.endswith(":null")):
            columns[column] = _read_text(names, place)
    return columns


__all__ = ["COLUMNS", "NOTED", "TASK_FILE", "TaskNotes", "name_remedies", "read_task_notes"]
