"""How does the registry answer? Which tasks fit, tables for a terminal, one task whole with its published scores."""

import dataclasses
import shutil
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from gengram.benchmarks.tasks.published import Published, list_published
from gengram.benchmarks.tasks.registry import expand_suite, find_task, list_suites, list_tasks
from gengram.benchmarks.tasks.task import SPLITS, Task
from gengram.command_line import Answer
from gengram.printable import shorten

_SHORTEST = 30
_INDENT = 20


class Filter(NamedTuple):
    """A condition on tasks; `holds` is None where what it asks about is not known."""

    flag: str
    holds: Callable[[Task], bool | None]


def choose_tasks(
    benchmark: str | None = None,
    suite: str | None = None,
    metric: str | None = None,
    problem: str | None = None,
    max_length: int | None = None,
    license: str | None = None,
    unverified: bool = False,
) -> tuple[list[Task], dict[str, list[str]]]:
    """Return the tasks that fit all that is given, in their order, and those that might, with the flags that nobody
    can answer.

    Args:
        benchmark, suite: that they belong to.
        metric: by which their scores are told first.
        problem: what is to be predicted.
        max_length: bases of the longest sequence, at most.
        license: an SPDX id, in any case.
        unverified: only those with facts that nobody has looked up.

    Raises:
        `InputError`: there is no such benchmark or suite.
    """
    tasks = list_tasks(benchmark) if suite is None else expand_suite(suite)
    if suite is not None and benchmark is not None:
        names = {task.name for task in list_tasks(benchmark)}
        tasks = [task for task in tasks if task.name in names]
    asked: list[Filter] = []
    if metric is not None:
        asked.append(Filter("--metric", lambda task: task.metric == metric))
    if problem is not None:
        asked.append(Filter("--problem", lambda task: task.problem == problem))
    if max_length is not None:
        asked.append(
            Filter("--max_length", lambda task: None if task.length.max is None else task.length.max <= max_length)
        )
    if license is not None:
        wanted = license.casefold()
        asked.append(
            Filter("--license", lambda task: None if task.licence is None else task.licence.casefold() == wanted)
        )
    if unverified:
        asked.append(Filter("--unverified", lambda task: bool(task.unverified)))
    fitting, unknown = [], {}
    for task in tasks:
        answers = {one.flag: one.holds(task) for one in asked}
        if all(answers.values()):
            fitting.append(task)
        elif False not in answers.values():
            unknown[task.name] = [flag for flag, answer in answers.items() if answer is None]
    return fitting, unknown


def show_tasks(published: bool = False, unverified: bool = False, **filters: Any) -> Answer:
    """Answer with the tasks that fit, with how many each benchmark has, and with their published scores if asked for.

    Raises:
        `InputError`: there is no such benchmark or suite.
    """
    fitting, unknown = choose_tasks(unverified=unverified, **filters)
    counts = Counter(task.benchmark for task in fitting)
    data: dict[str, Any] = {
        "tasks": [describe_task(task) for task in fitting],
        "counts": dict(counts),
        "suites": {name: list(tasks) for name, tasks in list_suites().items()},
        "unknown": unknown,
    }
    lines: list[str] = []
    if published:
        figures = [figure for task in fitting for figure in list_published(task)]
        data["published"] = [dataclasses.asdict(figure) for figure in figures]
        lines += [*_tabulate_published(figures, with_task=True), ""] if figures else []
        lines.append(f"{len(figures):,} published scores.")
    elif fitting:
        lines += [*(_tabulate_unverified(fitting) if unverified else _tabulate_tasks(fitting)), ""]
    if unknown:
        flags = sorted({flag for one in unknown.values() for flag in one})
        some = "1 more may fit: it lacks" if len(unknown) == 1 else f"{len(unknown)} more may fit: they lack"
        lines.append(f"{some} a fact that {' or '.join(flags)} asks for; --json names them.")
    lines.append(_count(counts))
    return Answer("\n".join(lines), data)


def show_task(name: str) -> Answer:
    """Answer with all that is known of a task, and what was published about it.

    Raises:
        `InputError`: there is no such task.
    """
    task = find_task(name)
    figures = list_published(task)
    lines = [f"{task.name}: {task.title}", *_list_facts(task)]
    if figures:
        lines += ["", f"published ({len(figures)}):", *_tabulate_published(figures)]
        lines += _list_sources(figures)
    else:
        lines += ["", "published: nothing that the registry has"]
    return Answer(
        "\n".join(lines), {**describe_task(task), "published": [dataclasses.asdict(figure) for figure in figures]}
    )


def describe_task(task: Task) -> dict[str, Any]:
    """Return a task as JSON has it: what is not known is null."""
    data = dataclasses.asdict(task)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in data.items()}


def format_rows(task: Task) -> str:
    """Return the rows of its splits: `20,843 / 6,948`; `?` where nobody knows, `-` where there is no such split."""
    if not task.rows:
        return "?"
    return " / ".join(
        "-" if split not in task.rows else _format_number(task.rows[split])
        for split in SPLITS
        if split != "validation" or split in task.rows
    )


def format_length(task: Task) -> str:
    """Return the lengths of sequences: `200`, `71-802`, `to 1,024`, `?`."""
    low, high = task.length.min, task.length.max
    if high is None:
        return "?"
    if low is None:
        return f"to {high:,}"
    return f"{high:,}" if low == high else f"{low:,}-{high:,}"


def format_kind(task: Task) -> str:
    """Return problem and number of outputs in a word: `2 classes`, `919 labels`, `50 numbers`, `3 classes a base`."""
    count = "?" if task.outputs is None else f"{task.outputs:,}"
    noun = {"single_label": "class", "multi_label": "label", "regression": "number", "token": "class"}[task.problem]
    plural = "" if task.outputs == 1 else "es" if noun == "class" else "s"
    return f"{count} {noun}{plural}{' a base' if task.problem == 'token' else ''}"


def _format_number(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def _tabulate_tasks(tasks: Sequence[Task]) -> list[str]:
    head = ("task", "what", "train / validation / test", "bases", "metric", "licence", "unverified")
    rows = [
        (
            task.name,
            format_kind(task),
            format_rows(task),
            format_length(task),
            task.metric,
            task.licence or "?",
            str(len(task.unverified) or ""),
        )
        for task in tasks
    ]
    return _tabulate(head, rows, numbers=(2, 3, 6), drop=(6, 5, 4))


def _tabulate_unverified(tasks: Sequence[Task]) -> list[str]:
    return _tabulate(("task", "unverified"), [(task.name, ", ".join(task.unverified)) for task in tasks])


def _tabulate_published(figures: Sequence[Published], with_task: bool = False) -> list[str]:
    head = ("task",) * with_task + ("model", "metric", "value", "status", "table")
    rows = []
    for figure in figures:
        value = f"{figure.value:.4f}".rstrip("0").ljust(5, "0") + (f" ± {figure.spread:g}" if figure.spread else "")
        cells = (figure.model, figure.metric, value, figure.status, figure.table)
        rows.append(((figure.task or figure.name,) if with_task else ()) + cells)
    return _tabulate(head, rows, drop=(4 + with_task, 3 + with_task))


def _list_sources(figures: Iterable[Published]) -> list[str]:
    """Where the figures stand, how the models were judged, and what else is to be known of some."""
    told: dict[tuple[str, str, str], dict[str, list[str]]] = {}
    models: dict[tuple[str, str, str], set[str]] = {}
    for figure in figures:
        key = (figure.table, figure.source, figure.protocol)
        models.setdefault(key, set()).add(figure.model)
        notes = told.setdefault(key, {})
        if figure.note:
            notes.setdefault(figure.note, []).append(figure.model)
    lines = [""]
    for key, notes in told.items():
        table, source, protocol = key
        lines += _wrap(f"  {table}", f"{source}. {protocol[0].upper()}{protocol[1:]}.")
        for note, named in notes.items():
            whose = "" if set(named) == models[key] else f"{', '.join(dict.fromkeys(named))}: "
            lines += _wrap("", f"{whose}{note}")
    return lines


def _list_facts(task: Task) -> list[str]:
    lines: list[str] = []

    def tell(name: str, value: Any) -> None:
        if value not in (None, "", (), {}):
            mark = " (recalled)" if any(f.partition(".")[0] == name for f in task.recalled) else ""
            lines.extend(_wrap(f"  {name}", f"{value}{mark}"))

    def join(values: Iterable[Any]) -> str:
        return ", ".join(map(str, values))

    def pairs(values: Mapping[Any, Any]) -> str:
        return join(f"{name} {value}" for name, value in values.items())

    tell("benchmark", task.benchmark)
    tell("aliases", join(task.aliases))
    tell("description", task.description)
    tell("problem", f"{task.problem}, {format_kind(task)}")
    tell("classes", join(task.classes or ()) or ("" if task.problem == "regression" else "?"))
    tell("codes", pairs(task.codes or {}))
    tell("rows", pairs({split: _format_number(count) for split, count in task.rows.items()}))
    tell("length", pairs({name: _format_number(value) for name, value in dataclasses.asdict(task.length).items()}))
    tell("metric", task.metric)
    tell("metrics_elsewhere", join(f"{metric} ({where})" for where, metric in task.metrics_elsewhere.items()))
    tell("protocol", task.protocol)
    tell("head", f"{task.head} (of genos-probe)")
    if task.hub is None:
        tell("hub", "on no data set of the Hub that is known")
    else:
        tell("hub", f"{task.hub.id}, revision {task.hub.revision or '?'}")
        tell("config", task.hub.config)
        tell("data_files", pairs(task.hub.data_files or {}))
        if task.hub.script:
            tell("script", "a loading script only, which is not run: the rows are to be built")
    columns = {name: value for name, value in dataclasses.asdict(task.columns).items() if value is not None}
    tell("columns", pairs({name: "+".join(v) if isinstance(v, tuple) else v for name, v in columns.items()}))
    tell("builder", task.builder and f"gengram dataset build {task.builder}")
    tell("test_chromosomes", join(task.test_chromosomes or ()))
    tell("validation_chromosomes", join(task.validation_chromosomes or ()))
    tell("licence", f"{task.licence or '?'}{f' ({task.licence_note})' if task.licence_note else ''}")
    tell("assembly", task.assembly or "?")
    tell("source", task.source)
    for problem in task.problems:
        lines.extend(_wrap("  problem known", problem))
    tell("unverified", join(task.unverified))
    return lines


def _wrap(name: str, text: str) -> list[str]:
    """A line `name  text`, and more under the text where the terminal is narrow; in a pipe one line."""
    room = shutil.get_terminal_size(fallback=(0, 0)).columns
    pieces = textwrap.wrap(text, max(room - _INDENT, 40), break_on_hyphens=False) if room else [text]
    head = f"{name:<{_INDENT}}" if len(name) < _INDENT else f"{name} "
    return [f"{head}{pieces[0]}", *(f"{'':<{_INDENT}}{piece}" for piece in pieces[1:])]


def _tabulate(
    head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = (), drop: Sequence[int] = ()
) -> list[str]:
    """Columns under a head; `drop`: the columns that a narrow terminal goes without, first to last."""
    columns = list(range(len(head)))
    widths = [max(len(row[column]) for row in (head, *rows)) for column in columns]
    room = shutil.get_terminal_size(fallback=(0, 0)).columns
    if room:  # In a pipe nothing is cut.
        for column in drop:
            if sum(widths[one] + 2 for one in columns[1:]) + min(widths[0], _SHORTEST) > room:
                columns.remove(column)
        widths[0] = min(widths[0], max(_SHORTEST, room - sum(widths[one] + 2 for one in columns[1:])))
    lines = []
    for row in (head, *rows):
        cells = [shorten(row[0], widths[0]).ljust(widths[0])]
        cells += [row[one].rjust(widths[one]) if one in numbers else row[one].ljust(widths[one]) for one in columns[1:]]
        lines.append("  ".join(cells).rstrip())
    return lines


def _count(counts: Counter[str]) -> str:
    total = sum(counts.values())
    if not total:
        return "No task fits. Leave out a filter."
    each = ", ".join(f"{name} {count}" for name, count in counts.items())
    return f"{total} task{'s' if total > 1 else ''}: {each}. `gengram tasks NAME` shows one, with published scores."


__all__ = ["choose_tasks", "describe_task", "format_kind", "format_length", "format_rows", "show_task", "show_tasks"]
