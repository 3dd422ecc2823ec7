"""Which model is best over many runs? Reports of many folders as one table, where only equals stand in one column.

A column is one task by one checksum of its rows, one metric, one protocol with one version and its settings: what
differs in any of these is another column, or another table. Baselines have protocols of their own and stand in every
table whose rows they were measured on.
"""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gengram.benchmarks.evaluation.report import rank_scores, show
from gengram.errors import InputError
from gengram.loading.evaluations import KIND, REPORT, find_score, read_evaluation
from gengram.loading.folders import read_object
from gengram.markdown import escape_text, format_code, format_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DIGITS = 12


class _Row(NamedTuple):
    """Who is measured: the same weights under the same seeds."""

    name: str
    fingerprint: str
    seeds: tuple[int, ...]


class _Column(NamedTuple):
    """What is measured."""

    task: str
    fingerprint: str
    metric: str


def find_reports(folders: Sequence[str | Path]) -> list[Path]:
    """
    Return the reports of `gengram evaluate` in these folders and below them, sorted.

    Raises:
        `InputError`: a folder that is not there, or none of whose files is one.
    """
    found: list[Path] = []
    for folder in folders:
        path = Path(folder)
        if not path.is_dir():
            raise InputError(f"{path}: there is no such folder; give folders that gengram evaluate has written to")
        here = [one for one in sorted(path.rglob(REPORT)) if one.is_file() and read_object(one).get("kind") == KIND]
        if not here:
            raise InputError(f"{path}: there is no {REPORT} of {KIND} in this folder or below it")
        found += [one for one in here if one not in found]
    return found


def make_leaderboard(paths: Iterable[Path]) -> dict[str, Any]:
    """
    Collect reports into tables, one for each protocol with its version and settings.

    Returns:
        `reports`, and `tables`: each with `protocol`, `version`, `settings`, `columns` (task, metric, rows and what is
        known of their cleanliness) and `entrants`: `name`, `kind`, `seeds`, `scores` and `intervals` in the order of
        the columns (None where there is none), `mean_rank` over all columns (None where one is missing).

    Raises:
        `InputError`: a report that was changed.
    """
    tables: dict[str, dict[str, Any]] = {}
    reports = [(path, read_evaluation(path)) for path in paths]
    for _, report in reports:
        protocol = report["protocol"]
        name = json.dumps([protocol["name"], protocol["version"], protocol["settings"]], sort_keys=True)
        table = tables.setdefault(name, {"protocol": protocol, "columns": {}, "rows": {}, "cells": {}})
        for task, facts in report["tasks"].items():
            column = _Column(task, facts["fingerprint"], facts["metric"])
            table["columns"].setdefault(column, _describe_column(column, facts, report["data"]))
    for table in tables.values():
        for path, report in reports:
            is_own = all(report["protocol"][key] == table["protocol"][key] for key in ("name", "version", "settings"))
            _add_cells(table, path, report, is_own)
    return {"reports": [str(path) for path, _ in reports], "tables": [_finish(table) for table in tables.values()]}


def _add_cells(table: dict[str, Any], path: Path, report: dict[str, Any], is_own: bool) -> None:
    for task, facts in report["tasks"].items():
        column = _Column(task, facts["fingerprint"], facts["metric"])
        if column not in table["columns"]:
            continue
        for name, entrant in report["entrants"].items():
            if find_score(report, task, name) is None or not (is_own or entrant["kind"] == "baseline"):
                continue
            row = _Row(name, entrant["fingerprint"], tuple(entrant["seeds"]))
            table["rows"].setdefault(row, {"kind": entrant["kind"], "random": entrant["random"]})
            measured = report["cells"][task][name]["metrics"][facts["metric"]]
            earlier = table["cells"].setdefault((row, column), measured)
            if earlier["per_seed"] != measured["per_seed"]:
                raise InputError(
                    f"{path}: {name} on {task} has other scores than in another one, with the same "
                    "weights, rows, protocol and seeds: a file was changed, or versions of libraries differ"
                )


def _describe_column(column: _Column, facts: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    hygiene = facts["hygiene"]
    return {
        "task": column.task,
        "metric": column.metric,
        "fingerprint": column.fingerprint,
        "rows": facts["rows"],
        "test_in_train": hygiene["test_in_train"],
        "test_in_train_reverse": hygiene["test_in_train_reverse"],
        "duplicates_in_train": hygiene["duplicates_in_train"],
        "dedup": data["dedup"],
        "dataset": facts["dataset"],
        "dataset_revision": facts["dataset_revision"],
    }


def _finish(table: dict[str, Any]) -> dict[str, Any]:
    columns = sorted(table["columns"])
    rows = sorted(table["rows"], key=lambda row: (table["rows"][row]["kind"] == "baseline", row))
    names = _tell_apart(rows)
    ranks: dict[_Row, list[float]] = {row: [] for row in rows}
    for column in columns:
        scores = {row: table["cells"][row, column]["mean"] for row in rows if (row, column) in table["cells"]}
        for row, rank in rank_scores(scores, column.metric).items():
            ranks[row].append(rank)
    entrants = []
    for row in rows:
        cells = [table["cells"].get((row, column)) for column in columns]
        entrants.append(
            {
                "name": names[row],
                **table["rows"][row],
                "fingerprint": row.fingerprint,
                "seeds": list(row.seeds),
                "scores": [None if cell is None else cell["mean"] for cell in cells],
                "intervals": [None if cell is None else cell["row_interval"] for cell in cells],
                "mean_rank": sum(ranks[row]) / len(columns) if len(ranks[row]) == len(columns) else None,
            }
        )
    entrants.sort(key=lambda one: (one["mean_rank"] is None, one["mean_rank"] or 0.0))
    protocol = table["protocol"]
    return {
        "protocol": protocol["name"],
        "version": protocol["version"],
        "settings": protocol["settings"],
        "columns": [table["columns"][column] for column in columns],
        "entrants": entrants,
    }


def _tell_apart(rows: Sequence[_Row]) -> dict[_Row, str]:
    """Names of rows; where several have one name, with what differs."""
    names = {}
    for row in rows:
        alike = [one for one in rows if one.name == row.name]
        parts = [row.name]
        if len({one.fingerprint for one in alike}) > 1:
            parts.append(row.fingerprint[:_DIGITS])
        if len({one.seeds for one in alike}) > 1:
            parts.append(f"seeds {', '.join(map(str, row.seeds))}")
        names[row] = parts[0] if len(parts) == 1 else f"{parts[0]} ({'; '.join(parts[1:])})"
    return names


def _head_columns(table: dict[str, Any]) -> list[str]:
    """Names of the columns; where one task stands there twice, with the checksum of its rows or the metric."""
    names = []
    for column in table["columns"]:
        alike = [one for one in table["columns"] if one["task"] == column["task"]]
        parts = [column["metric"]]
        if len({one["fingerprint"] for one in alike}) > 1:
            parts.append(f"rows {column['fingerprint'][:_DIGITS]}")
        names.append(f"{column['task']} ({', '.join(parts)})")
    return names


def render_leaderboard(board: dict[str, Any]) -> str:
    """Return all tables as Markdown, each with the cleanliness of its rows."""
    parts = []
    for table in board["tables"]:
        settings = ", ".join(f"{name} {value}" for name, value in table["settings"].items())
        head = ["entrant", "mean rank", *map(escape_text, _head_columns(table)), "seeds"]
        rows = [
            [
                escape_text(one["name"]),
                "-" if one["mean_rank"] is None else f"{one['mean_rank']:.2f}",
                *map(show, one["scores"]),
                escape_text(", ".join(map(str, one["seeds"]))),
            ]
            for one in table["entrants"]
        ]
        parts += [
            f"## {escape_text(table['protocol'])}, version {table['version']}",
            *([escape_text(settings) + "."] if settings else []),
            format_table(head, rows, numbers=range(1, len(head) - 1)),
            format_table(
                ["task", "rows", "train", "test", "test rows in train", "as reverse complement", "copies in train"]
                + ["without these", "revision"],
                [
                    [
                        escape_text(column["task"]),
                        format_code(column["fingerprint"][:_DIGITS]),
                        f"{column['rows']['train']:,}",
                        f"{column['rows']['test']:,}",
                        str(column["test_in_train"]),
                        str(column["test_in_train_reverse"]),
                        str(column["duplicates_in_train"]),
                        "yes" if column["dedup"] else "no",
                        escape_text((column["dataset_revision"] or "")[:_DIGITS]),
                    ]
                    for column in table["columns"]
                ],
                numbers=range(2, 7),
            ),
        ]
    return "\n\n".join(parts) + "\n"


def write_table(board: dict[str, Any]) -> str:
    """Return all scores as CSV, a line for each: what a spreadsheet or a plot of one's own begins with."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        [
            "protocol",
            "version",
            "task",
            "metric",
            "fingerprint",
            "test_rows",
            "test_in_train",
            "entrant",
            "kind",
            "seeds",
        ]
        + ["score", "low", "high", "mean_rank"]
    )
    for table in board["tables"]:
        for one in table["entrants"]:
            for column, score, interval in zip(table["columns"], one["scores"], one["intervals"]):
                if score is None:
                    continue
                low, high = interval or ("", "")
                what = [table["protocol"], table["version"], column["task"], column["metric"], column["fingerprint"]]
                what += [column["rows"]["test"], column["test_in_train"], one["name"], one["kind"]]
                rank = "" if one["mean_rank"] is None else one["mean_rank"]
                writer.writerow([*what, " ".join(map(str, one["seeds"])), score, low, high, rank])
    return stream.getvalue()


def draw_leaderboard(board: dict[str, Any]) -> "Figure | None":
    """Draw the table with most scores as a heat map; None without any."""
    from gengram.benchmarks.evaluation.plots import Column, draw_grid

    if not board["tables"]:
        return None
    table = max(
        board["tables"], key=lambda one: sum(score is not None for e in one["entrants"] for score in e["scores"])
    )
    columns = [Column(one["name"], one["kind"], one["scores"], one["intervals"]) for one in table["entrants"]]
    note = f"protocol {table['protocol']} {table['version']}; below: 95 % interval over the test rows"
    return draw_grid(_head_columns(table), [column["metric"] for column in table["columns"]], columns, note)


__all__ = ["draw_leaderboard", "find_reports", "make_leaderboard", "render_leaderboard", "write_table"]
