"""Is one entrant better than another, or do their scores differ by chance? Paired tests on the same rows, kept as cells
are: the same two cells are compared once."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from gengram.benchmarks.evaluation.cells import Cells, make_key
from gengram.benchmarks.evaluation.fill import Job
from gengram.files import tell_write_faults, write_json
from gengram.phases import phase
from gengram.progress import track
from gengram.training.metrics.paired import Difference, Resampled, compare_resampled, compare_suite, resample_model

_FOLDER = "differences"
_FORMAT = 1


def list_pairs(entrants: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    """
    Return who is compared with whom: trained models with each other, and with everything else.

    Of two baselines, or of two models that nobody has trained, it is not asked which is better.
    """
    trained = [name for name, one in entrants.items() if one["kind"] == "model" and one["random"] is None]
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
        For each pair `a`, `b`, `tasks` (task -> `Difference`, positive where a has more, and
        `holm`, p adjusted for the number of tasks) and `suite`
        (`SuiteDifference`).
    """
    keys = {(job.task, job.contestant.name): job.key for job in jobs}
    pairs = list_pairs(report["entrants"])
    found: dict[tuple[str, str], dict[str, Difference]] = {pair: {} for pair in pairs}
    with phase("Comparing", unit="tasks") as comparing, track(report["tasks"], desc="comparisons", unit="task") as bar:
        for task in bar:
            row = report["cells"][task]
            there = [pair for pair in pairs if all(row[name]["status"] == "done" for name in pair)]
            resampled: dict[str, Resampled] = {}
            resample = partial(_resample, report["tasks"][task], cells, resampled)
            for pair in there:
                first, second = (keys[task, name] for name in pair)
                found[pair][task] = _compare(first, second, report["tasks"][task], cache, resample)
            comparing.add(1)
    return [_describe(*pair, tasks) for pair, tasks in found.items() if tasks]


def _describe(first: str, second: str, tasks: dict[str, Difference]) -> dict[str, Any]:
    suite = compare_suite(list(tasks.values())).describe()
    adjusted = suite.pop("holm")
    described = {task: one.describe() | {"holm": p} for (task, one), p in zip(tasks.items(), adjusted, strict=True)}
    return {"a": first, "b": second, "tasks": described, "suite": suite}


def _resample(facts: dict[str, Any], cells: Cells, kept: dict[str, Resampled], key: str) -> Resampled:
    """Return the resamples of a cell; one that is in several pairs is resampled once."""
    if key not in kept:
        predictions = cells.read_predictions(key)
        kept[key] = resample_model(facts["problem"], facts["metric"], predictions.outputs, predictions.labels)
    return kept[key]


def _compare(first: str, second: str, facts: dict[str, Any], cache: Path, resample: Any) -> Difference:
    """Compare two cells of one task by their keys, or take what was found before."""
    inputs = {"differences": _FORMAT, "metric": facts["metric"], "cells": [first, second]}
    path = cache / _FOLDER / f"{make_key(inputs)}.json"
    if (known := _read(path)) is not None:
        return known
    found = compare_resampled(resample(first), resample(second))
    with tell_write_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_json(found.describe(), path)
    return found


def _read(path: Path) -> Difference | None:
    """What is kept of a comparison; None where nothing is, or nothing whole."""
    try:
        return Difference(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


__all__ = ["compare_entrants", "list_pairs"]
