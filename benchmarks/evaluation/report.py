"""What does an evaluation say? One JSON object of the cells, for programs, and the same as Markdown, for people.

Nothing in it is a time, and nothing depends on the order in which cells were made: the same cells are the same report.
"""

import math
import re
import shutil
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from gengram.benchmarks.evaluation.cells import Cells, list_versions
from gengram.benchmarks.evaluation.contestants import Contestant
from gengram.benchmarks.evaluation.fill import Job
from gengram.benchmarks.evaluation.judge import ROW_METHOD
from gengram.benchmarks.evaluation.plots import draw_scores
from gengram.benchmarks.evaluation.shelf import TaskFacts
from gengram.files import open_whole, save_figure, tell_write_faults, write_json, write_text
from gengram.loading.evaluations import KIND, PREDICTIONS, REPORT, find_score, list_models
from gengram.markdown import escape_text, format_code, format_image, format_table
from gengram.model_cards.evaluation import list_entries
from gengram.progress import tell

FORMAT = 1
FIGURE = "scores.png"
MARKDOWN = "report.md"
COSTS = "costs.json"
EVAL_RESULTS = "eval_results"
_DIGITS = 12  # of a checksum that people compare
_LOWER = ("loss",)
"""Metrics of which less is better."""


def make_report(
    tasks: Mapping[str, TaskFacts],
    contestants: Sequence[Contestant],
    jobs: Sequence[Job],
    cells: Cells,
    *,
    protocol: dict[str, Any],
    seeds: Sequence[int],
    limits: dict[str, Any],
) -> dict[str, Any]:
    """
    Return the report, without comparisons.

    Args:
        tasks: of `Shelf.survey`.
        contestants: who was measured.
        jobs: of all of them on all tasks.
        cells: what there is of them.
        protocol: name, version, title, source and settings; JSON.
        seeds: that were asked for.
        limits: which rows there are, see `Limits`; JSON.
    """
    found: dict[str, dict[str, Any]] = {name: {} for name in tasks}
    for job in jobs:
        found[job.task][job.contestant.name] = _describe_cell(job, cells)
    return {
        "kind": KIND,
        "format": FORMAT,
        "protocol": protocol,
        "seeds": list(seeds),
        "data": limits,
        "tasks": {name: facts.entry for name, facts in tasks.items()},
        "entrants": {one.name: one.describe() for one in contestants},
        "cells": found,
        "intervals": {"rows": ROW_METHOD},
        "differences": [],
        "complete": not any(is_failure(one.kind, row[one.name]) for one in contestants for row in found.values()),
        "versions": list_versions(),
    }


def collect_costs(jobs: Sequence[Job], cells: Cells) -> dict[str, Any]:
    """Return what the cells took, in seconds of whoever computed them: task -> entrant -> seconds, and of searches."""
    costs: dict[str, dict[str, Any]] = {}
    for job in jobs:
        cell = cells.read(job.key)
        if cell is not None:
            parts = {"seconds": cell["seconds"], "seconds_of_seeds": cell["seconds_of_seeds"]}
            costs.setdefault(job.task, {})[job.contestant.name] = parts
    return costs


def _describe_cell(job: Job, cells: Cells) -> dict[str, Any]:
    if job.refusal is not None:
        return {"status": "refused", "reason": job.refusal}
    cell = cells.read(job.key)
    if cell is None:
        return cells.read_fault(job.key) or {"status": "failed", "reason": "it was not computed"}
    kept = {name: cell[name] for name in ("key", "metrics", "chosen", "validation", "versions")}
    return {"status": "done", **kept, "predictions": f"{job.key}.npz"}


def rank_entrants(report: dict[str, Any]) -> dict[str, float]:
    """Return the mean rank of each entrant over the tasks on which all have a score, see `rank_scores`."""
    names = list(report["entrants"])
    ranks: dict[str, list[float]] = {name: [] for name in names}
    for task, facts in report["tasks"].items():
        ranked = rank_scores({name: find_score(report, task, name) for name in names}, facts["metric"])
        if len(ranked) == len(names):
            for name, rank in ranked.items():
                ranks[name].append(rank)
    return {name: sum(values) / len(values) for name, values in ranks.items() if values}


def rank_scores(scores: Mapping[Any, float | None], metric: str) -> dict[Any, float]:
    """Return the rank of each that has a score: the best is 1, equal ones share the mean of their ranks."""
    sign = 1 if metric in _LOWER else -1
    known = {name: sign * value for name, value in scores.items() if value is not None}
    return {
        name: sum(other < value for other in known.values()) + (sum(other == value for other in known.values()) + 1) / 2
        for name, value in known.items()
    }


def is_failure(kind: str, cell: Mapping[str, Any]) -> bool:
    """Whether a cell is without the score that it should have; a baseline may be none of this kind of task."""
    return cell["status"] == "failed" or (cell["status"] == "refused" and kind == "model")


def list_faults(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return those of `list_failures` that are one: everything but a baseline that is none for such a task."""
    return [
        (entrant, task, reason)
        for entrant, task, reason in list_failures(report)
        if is_failure(report["entrants"][entrant]["kind"], report["cells"][task][entrant])
    ]


def list_failures(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return (entrant, task, reason) of every cell without a score."""
    return [
        (entrant, task, cell["reason"])
        for task, row in report["cells"].items()
        for entrant, cell in row.items()
        if cell["status"] != "done"
    ]


def tabulate_scores(report: dict[str, Any]) -> str:
    """Return tasks x entrants: the mean over seeds in each task's metric, and the interval over its test rows."""
    names = list(report["entrants"])
    head = ["task", "metric", *map(escape_text, names)]
    rows = []
    for task, facts in report["tasks"].items():
        shown = [_show_cell(report["cells"][task][name], facts["metric"]) for name in names]
        rows.append([escape_text(task), escape_text(facts["metric"]), *shown])
    ranks = rank_entrants(report)
    if len(names) > 1 and ranks:
        rows.append(["mean rank", "", *(f"{ranks[name]:.2f}" for name in names)])
    return format_table(head, rows, numbers=range(2, len(head)))


def render_report(report: dict[str, Any], figure: str | None = None) -> str:
    """Return the report as Markdown.

    Args:
        report: of `make_report`.
        figure: the file beside it with the picture; None: none.
    """
    protocol = report["protocol"]
    parts = [
        "# Evaluation",
        f"Protocol {format_code(protocol['name'])}, version {protocol['version']}: {escape_text(protocol['title'])}. "
        f"Seeds: {', '.join(map(str, report['seeds']))}."
        + (f" **{escape_text(protocol['warning'])}.**" if protocol["warning"] else " The test rows chose nothing."),
        "## Scores",
        "The mean over seeds, and in brackets the 95 % interval over the test rows (percentile bootstrap). The best of "
        "a row is no winner by itself: see the comparisons.",
        tabulate_scores(report),
    ]
    if figure is not None:
        parts.append(format_image("Scores of entrants on tasks, with published ones of the same metric", figure))
    if failures := list_failures(report):
        parts += [
            "## Without a score",
            format_table(
                ["entrant", "task", "reason"], [[escape_text(one) for one in failure] for failure in failures]
            ),
        ]
    parts += _render_seeds(report)
    parts += _render_published(report)
    parts += _render_differences(report)
    parts += _render_choices(report)
    parts += _render_hygiene(report)
    parts += _render_made(report)
    return "\n\n".join(parts) + "\n"


def _render_seeds(report: dict[str, Any]) -> list[str]:
    rows = []
    for task, facts in report["tasks"].items():
        for name, cell in report["cells"][task].items():
            if cell["status"] != "done":
                continue
            measured = cell["metrics"][facts["metric"]]
            rows.append(
                [
                    escape_text(task),
                    escape_text(name),
                    show(measured["mean"]),
                    ", ".join(map(show, measured["per_seed"])),
                    show_interval(measured["seed_interval"]) or "none",
                    escape_text(measured["seed_interval_method"] or ""),
                ]
            )
    if not rows:
        return []
    return [
        "## Seeds",
        "How much a score moves when the training is done again on the same rows.",
        format_table(
            ["task", "entrant", "mean", "each seed", "interval over seeds", "method"], rows, numbers=[2, 3, 4]
        ),
    ]


def _render_published(report: dict[str, Any]) -> list[str]:
    rows = [
        [
            escape_text(task),
            escape_text(one["model"]),
            escape_text(one["metric"]),
            show(one["value"]),
            escape_text(one["protocol"]),
            escape_text(one["source"]),
            escape_text(one["status"] + (f": {one['note']}" if one["note"] else "")),
        ]
        for task, facts in report["tasks"].items()
        for one in facts["published"]
    ]
    if not rows:
        return []
    return [
        "## Published scores",
        f"Of the same tasks, by other protocols than {format_code(report['protocol']['name'])} unless said otherwise, "
        "and perhaps on other rows: what they are compared with is the order of models, not the last digit.",
        format_table(["task", "model", "metric", "value", "protocol", "source", "status"], rows, numbers=[3]),
    ]


def _render_differences(report: dict[str, Any]) -> list[str]:
    """Over all tasks a line for each pair, and task by task what is certain after Holm's adjustment."""
    if not report["differences"]:
        return []
    over, each = [], []
    for pair in report["differences"]:
        suite = pair["suite"]
        names = [escape_text(pair["a"]), escape_text(pair["b"])]
        over.append(
            [
                *names,
                str(suite["tasks"]),
                show_signed(suite["mean"]),
                show_interval(suite["interval"]) or "none",
                _show_p(suite["p"]),
                f"{suite['wins']} / {suite['ties']} / {suite['losses']}",
                f"{suite['better']} / {suite['worse']}",
            ]
        )
        for task, one in pair["tasks"].items():
            shown = [show_signed(one["difference"]), show_interval(one["interval"]) or "none"]
            each.append([escape_text(task), *names, *shown, _show_p(one["p"]), _show_p(one["holm"])])
    methods = sorted({one["method"] for pair in report["differences"] for one in pair["tasks"].values()})
    head = [
        "A",
        "B",
        "tasks",
        "mean of A - B",
        "interval over tasks",
        "p",
        "A won / tied / lost",
        "certain: won / lost",
    ]
    return [
        "## Comparisons",
        "Paired: both have seen the same rows. Over tasks, p is of Wilcoxon's signed-rank test; certain is what stays "
        "below 0.05 after Holm's adjustment for the number of tasks.",
        format_table(head, over, numbers=range(2, len(head))),
        f"Task by task ({escape_text('; '.join(methods))}):",
        format_table(
            ["task", "A", "B", "A - B", "95 % interval", "p", "p, adjusted (Holm)"], each, numbers=range(3, 7)
        ),
    ]


def _render_choices(report: dict[str, Any]) -> list[str]:
    rows = []
    for task in report["tasks"]:
        for name, cell in report["cells"][task].items():
            if cell["status"] != "done":
                continue
            metric = report["tasks"][task]["metric"]
            for seed, chosen, validation in zip(report["entrants"][name]["seeds"], cell["chosen"], cell["validation"]):
                settings = {key: value for key, value in chosen.items() if key != "tried"}
                if settings:
                    tried = len(chosen.get("tried") or [])
                    rows.append(
                        [
                            escape_text(task),
                            escape_text(name),
                            str(seed),
                            escape_text(", ".join(f"{key} {_show_setting(value)}" for key, value in settings.items())),
                            str(tried) if tried else "",
                            show(validation.get(metric)),
                        ]
                    )
    if not rows:
        return []
    return [
        "## What was chosen",
        "On validation rows, for each seed; what was tried with which score is in report.json.",
        format_table(["task", "entrant", "seed", "chosen", "tried", "validation score"], rows, numbers=[2, 4, 5]),
    ]


def _render_hygiene(report: dict[str, Any]) -> list[str]:
    rows = []
    for task, facts in report["tasks"].items():
        hygiene = facts["hygiene"]
        files = "; ".join(
            f"{source['split']} {source['file']} {(source['sha256'] or source['revision'] or '')[:_DIGITS]}"
            for source in facts["sources"]
        )
        rows.append(
            [
                escape_text(task),
                *(f"{facts['rows'].get(split, 0):,}" for split in ("train", "validation", "test")),
                str(hygiene["test_in_train"]),
                str(hygiene["test_in_train_reverse"]),
                str(hygiene["duplicates_in_train"]),
                escape_text(files),
                format_code(facts["fingerprint"][:_DIGITS]),
            ]
        )
    deduplicated = (
        "Training rows that are in the test were left out (`--dedup`)."
        if report["data"]["dedup"]
        else "Nothing was left out of the training rows; `--dedup` does so."
    )
    notes = [
        f"- {escape_text(task)}: {escape_text(note)}"
        for task, facts in report["tasks"].items()
        for note in facts["hygiene"]["warnings"]
    ]
    head = ["task", "train", "validation", "test", "test rows in train", "as reverse complement", "copies in train"]
    return [
        "## Rows",
        deduplicated + _tell_limits(report["data"]),
        format_table([*head, "files", "fingerprint"], rows, numbers=range(1, 7)),
        *(["\n".join(notes)] if notes else []),
    ]


def _tell_limits(data: dict[str, Any]) -> str:
    told = [
        f" At most {data[name]:,} {words} rows of a task."
        for name, words in _LIMITS.items()
        if data.get(name) is not None
    ]
    return "".join(told)


_LIMITS = {"max_train_rows": "training", "max_test_rows": "test"}


def _render_made(report: dict[str, Any]) -> list[str]:
    settings = [
        [escape_text(name), format_code(_show_setting(value))] for name, value in report["protocol"]["settings"].items()
    ]
    entrants = [
        [
            escape_text(name),
            escape_text(one["source"] or ""),
            format_code((one["revision"] or "")[:_DIGITS]) if one["revision"] else "",
            "" if one["random"] is None else f"random weights, seed {one['random']}",
            f"{escape_text(one['protocol'])} {one['version']}",
            format_code(one["fingerprint"][:_DIGITS]),
        ]
        for name, one in report["entrants"].items()
    ]
    versions = ", ".join(f"{escape_text(name)} {escape_text(one)}" for name, one in report["versions"].items())
    return [
        "## How it was made",
        format_table(["entrant", "source", "revision", "weights", "protocol", "fingerprint"], entrants),
        *([format_table(["setting", "value"], settings)] if settings else []),
        f"Made with {versions}.",
    ]


def show(value: float | None) -> str:
    """Return a score as tables have it."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.4f}"


def show_signed(value: float | None) -> str:
    """Return a difference as tables have it."""
    return "-" if value is None else f"{value:+.4f}"


def _show_p(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}" if value >= 0.0001 else "< 0.0001"


def show_interval(interval: Sequence[float] | None) -> str:
    """Return an interval as tables have it; empty for none."""
    return "" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def _show_cell(cell: dict[str, Any], metric: str) -> str:
    if cell["status"] != "done":
        return cell["status"]
    measured = cell["metrics"][metric]
    interval = measured["row_interval"]
    return show(measured["mean"]) + (f" ({interval[0]:.3f}, {interval[1]:.3f})" if interval else "")


def _show_setting(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(_show_setting, value)) if isinstance(value, list) else str(value)


def write_report(report: dict[str, Any], jobs: Sequence[Job], cells: Cells, out: Path) -> None:
    """
    Write what an evaluation leaves: predictions, files for `.eval_results`, the figure, report.md, costs.json, and last
    report.json, which says that all is there.

    Raises:
        `InputError`: the folder cannot be written to.
    """
    (out / REPORT).unlink(missing_ok=True)
    with tell_write_faults(out):
        for name in (PREDICTIONS, EVAL_RESULTS):
            shutil.rmtree(out / name, ignore_errors=True)
        (out / PREDICTIONS).mkdir(parents=True)
    for key in sorted({job.key for job in jobs if report["cells"][job.task][job.contestant.name]["status"] == "done"}):
        with open_whole(out / PREDICTIONS / f"{key}.npz") as stream:
            stream.write(cells.read_packed(key))
    _write_results(report, out / EVAL_RESULTS)
    figure = None
    (out / FIGURE).unlink(missing_ok=True)
    if find_spec("matplotlib") is None:
        tell("no figure: matplotlib is not installed (pip install 'gengram[plots]')")
    elif (drawn := draw_scores(report)) is not None:
        save_figure(drawn, out / FIGURE)
        figure = FIGURE
    write_text(render_report(report, figure), out / MARKDOWN)
    write_json(collect_costs(jobs, cells), out / COSTS)
    write_json(report, out / REPORT)


def _write_results(report: dict[str, Any], folder: Path) -> None:
    """Files for `.eval_results/`, a folder for each trained model, a file for each dataset."""
    for place, model in enumerate(list_models(report)):
        if report["entrants"][model]["random"] is not None:
            continue
        for dataset, entries in list_entries(report, model).items():
            path = folder / f"{place}-{make_file_name(model)}" / f"{make_file_name(dataset)}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(yaml.safe_dump(entries, sort_keys=False, allow_unicode=True), path)


def make_file_name(text: str) -> str:
    """Return a name as that of a file: letters, digits, dots and dashes."""
    return re.sub(r"[^\w.-]+|\.{2,}", "-", text).strip("-.")[:100] or "model"


__all__ = [
    "COSTS",
    "FIGURE",
    "MARKDOWN",
    "collect_costs",
    "is_failure",
    "list_failures",
    "list_faults",
    "make_file_name",
    "make_report",
    "rank_entrants",
    "rank_scores",
    "render_report",
    "show",
    "show_interval",
    "show_signed",
    "tabulate_scores",
    "write_report",
]
