"""Is one entrant better than another, or do their scores differ by chance? Paired tests on the same rows, kept as cells
are: the same two cells are compared once."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gengram.benchmarks.evaluation.cells import Cells, make_key
from gengram.benchmarks.evaluation.fill import Job
from gengram.files import write_json
from gengram.phases import phase
from gengram.progress import track
from gengram.training.metrics.paired import Difference, compare_rows, compare_suite

_FOLDER = "differences"
_FORMAT = 1


def list_pairs(entrants: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    """
    Return who is compared with whom: models with each other, and with each baseline.

    A model with random weights is compared with trained ones only: of two untrained ones nobody asks which is better.
    """
    models = [name for name, one in entrants.items() if one["kind"] == "model"]
    trained = [name for name in models if entrants[name]["random"] is None]
    others = [name for name in entrants if name not in trained]
    pairs = [(first, second) for place, first in enumerate(trained) for second in trained[place + 1 :]]
    return pairs + [(name, other) for name in trained for other in others]


def compare_entrants(report: dict[str, Any], jobs: Sequence[Job], cells: Cells, cache: Path) -> list[dict[str, Any]]:
    """
    Return the comparisons of a report; JSON.

    Args:
        report: of `make_report`.
        jobs: its cells.
        cells, cache: where these are, and where comparisons are kept.

    Returns:
        For each pair `a`, `b`, `tasks` (task -> what `compare_rows` says) and `suite` (what `compare_suite` says, None
        for a single task).
    """
    keys = {(job.task, job.contestant.name): job.key for job in jobs}
    pairs = list_pairs(report["entrants"])
    found = []
    with phase("Comparing", unit="pairs") as comparing, track(pairs, desc="comparisons", unit="pair") as bar:
        for first, second in bar:
            tasks: dict[str, Difference] = {}
            for task, facts in report["tasks"].items():
                row = report["cells"][task]
                if row[first]["status"] == row[second]["status"] == "done":
                    both = keys[task, first], keys[task, second]
                    tasks[task] = compare_cells(facts["problem"], facts["metric"], *both, cells, cache)
            if tasks:
                suite = compare_suite(list(tasks.values())) if len(tasks) > 1 else None
                found.append(
                    {
                        "a": first,
                        "b": second,
                        "tasks": {task: dataclasses.asdict(one) for task, one in tasks.items()},
                        "suite": None if suite is None else dataclasses.asdict(suite),
                    }
                )
            comparing.add(1)
    return found


def compare_cells(problem: Any, metric: str, first: str, second: str, cells: Cells, cache: Path) -> Difference:
    """Compare two cells of one task by their keys, or take what was found before."""
    inputs = {"differences": _FORMAT, "problem": problem, "metric": metric, "cells": [first, second]}
    path = cache / _FOLDER / f"{make_key(inputs)}.json"
    if path.is_file():
        try:
            return Difference(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            pass  # not whole, or of another version: it is made again
    one, other = cells.read_predictions(first), cells.read_predictions(second)
    found = compare_rows(problem, metric, one.outputs, other.outputs, one.labels)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(dataclasses.asdict(found), path)
    return found


__all__ = ["compare_cells", "compare_entrants", "list_pairs"]
