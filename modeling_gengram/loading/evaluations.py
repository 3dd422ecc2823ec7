"""Is a folder what `gengram evaluate` has written? Its report, checked where it is read: cards quote it.

The report is plain JSON, so that a card can be written of it without what has measured it.
"""

from pathlib import Path
from typing import Any

from gengram.errors import InputError
from gengram.loading.folders import read_object
from gengram.loading.reports import check_value

REPORT = "report.json"
PREDICTIONS = "predictions"
"""The folder of the predictions beside the report, a .npz file for each cell."""
KIND = "gengram evaluate"

_REMEDY = "the file was changed: restore it, or evaluate again"
_Number = int | float
_KEYS: dict[str, Any] = {
    "format": int,
    "protocol": dict,
    "seeds": list[int],
    "data": dict,
    "tasks": dict[str, dict],
    "entrants": dict[str, dict],
    "cells": dict[str, dict],
    "differences": list[dict],
    "versions": dict[str, str],
}
_PROTOCOL: dict[str, Any] = {"name": str, "version": int, "title": str, "settings": dict}
_TASK: dict[str, Any] = {
    "title": str,
    "benchmark": str,
    "problem": str,
    "classes": list[str],
    "metric": str,
    "fingerprint": str,
    "rows": dict[str, int],
    "sources": list[dict],
    "hygiene": dict,
    "dataset": str | None,
    "dataset_config": str | None,
    "dataset_revision": str | None,
    "published": list[dict],
}
_SOURCE: dict[str, Any] = {"split": str, "file": str, "rows": int, "sha256": str | None, "revision": str | None}
_PUBLISHED: dict[str, Any] = {
    "model": str,
    "metric": str,
    "value": _Number,
    "protocol": str,
    "source": str,
    "status": str,
}
_HYGIENE: dict[str, Any] = {
    **dict.fromkeys(("test_in_train", "test_in_train_reverse", "duplicates_in_train"), int),
    "warnings": list[str],
}
_ROWS: dict[str, Any] = dict.fromkeys(("train", "validation", "test"), int)
_DATA: dict[str, Any] = {"max_train_rows": int | None, "max_test_rows": int | None, "dedup": bool}
_ENTRANT: dict[str, Any] = {
    "kind": str,
    "protocol": str,
    "version": int,
    "settings": dict,
    "seeds": list[int],
    "fingerprint": str,
    "source": str | None,
    "revision": str | None,
    "random": int | None,
    "weights": list[str],
}
_CELL: dict[str, Any] = {
    "status": str,
    "reason": str,
    "key": str,
    "metrics": dict[str, dict],
    "chosen": list[dict],
    "validation": list[dict],
    "versions": dict[str, str],
    "predictions": str,
}
_Interval = list[_Number] | None
_MEASURED: dict[str, Any] = {
    "mean": _Number | None,
    "per_seed": list[_Number | None],
    "seed_interval": _Interval,
    "seed_interval_method": str | None,
    "row_interval": _Interval,
}


def read_evaluation(folder: str | Path) -> dict[str, Any]:
    """
    Return the report of a folder that `gengram evaluate` has written.

    Args:
        folder: the folder, or the report in it.

    Raises:
        `InputError`: no report, one of another command, or one with values that this one does not write.
    """
    given = Path(folder)
    path = given / REPORT if given.is_dir() else given
    if not path.is_file():
        raise InputError(f"{given}: there is no {REPORT} of {KIND} here; give the folder that it has written to")
    report = read_object(path)
    if report.get("kind") != KIND:
        raise InputError(f"{path}: this is no report of {KIND}; give the folder that it has written to")
    check_evaluation(report, path)
    return report


def check_evaluation(report: dict[str, Any], file: Path) -> None:
    """
    Compare the kinds of all values of a report with those that are written.

    Raises:
        `InputError`: one is of another kind, or missing.
    """
    _check("", report, _KEYS, file)
    _check("protocol.", report["protocol"], _PROTOCOL, file)
    _check("data.", report["data"], _DATA, file)
    for name, task in report["tasks"].items():
        _check(f"tasks.{name}.", task, _TASK, file)
        _check(f"tasks.{name}.hygiene.", task["hygiene"], _HYGIENE, file)
        _check(f"tasks.{name}.rows.", task["rows"], _ROWS, file)
        for source in task["sources"]:
            _check(f"tasks.{name}.sources.", source, _SOURCE, file)
        for published in task["published"]:
            _check(f"tasks.{name}.published.", published, _PUBLISHED, file)
    for name, entrant in report["entrants"].items():
        _check(f"entrants.{name}.", entrant, _ENTRANT, file)
    for task, cells in report["cells"].items():
        if task not in report["tasks"]:
            raise InputError(f"{file}: there are scores on {task!r}, which is not among its tasks; {_REMEDY}")
        for entrant, cell in cells.items():
            key = f"cells.{task}.{entrant}"
            if entrant not in report["entrants"]:
                raise InputError(f"{file}: {key} is of none of its entrants; {_REMEDY}")
            check_value(key, cell, dict[str, Any], file, _REMEDY)
            given = {name: kind for name, kind in _CELL.items() if name in cell or name == "status"}
            _check(f"{key}.", cell, given, file)
            if cell["status"] == "done":
                _check(f"{key}.", cell, {name: _CELL[name] for name in ("key", "metrics", "predictions")}, file)
                for metric, measured in cell["metrics"].items():
                    _check(f"{key}.metrics.{metric}.", measured, _MEASURED, file)
                    for name in ("seed_interval", "row_interval"):
                        if measured[name] is not None and len(measured[name]) != 2:
                            raise InputError(f"{file}: {key}.metrics.{metric}.{name} has not two ends; {_REMEDY}")
                if report["tasks"][task]["metric"] not in cell["metrics"]:
                    raise InputError(f"{file}: {key} has no {report['tasks'][task]['metric']!r}; {_REMEDY}")
                if Path(cell["predictions"]).name != cell["predictions"] or cell["predictions"] in ("", ".", ".."):
                    raise InputError(f"{file}: {key}.predictions is no name of a file; {_REMEDY}")


def list_models(report: dict[str, Any]) -> list[str]:
    """Return the names of the entrants that are models, not baselines, in their order."""
    return [name for name, entrant in report["entrants"].items() if entrant["kind"] == "model"]


def find_score(report: dict[str, Any], task: str, entrant: str) -> float | None:
    """Return what an entrant reaches on a task in its metric, the mean over seeds; None where it has no score."""
    cell = report["cells"].get(task, {}).get(entrant, {})
    if cell.get("status") != "done":
        return None
    return cell["metrics"][report["tasks"][task]["metric"]]["mean"]


def _check(above: str, content: dict[str, Any], kinds: dict[str, Any], file: Path) -> None:
    check_value(above.rstrip(".") or "the report", content, dict[str, Any], file, _REMEDY)
    for name, kind in kinds.items():
        if name not in content:
            raise InputError(f"{file}: there is no {above}{name}; {_REMEDY}")
        check_value(f"{above}{name}", content[name], kind, file, _REMEDY)


__all__ = [
    "KIND",
    "PREDICTIONS",
    "REPORT",
    "check_evaluation",
    "find_score",
    "list_models",
    "read_evaluation",
]
