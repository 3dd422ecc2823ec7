"""Is a `report.json` what a run has written? Checked where it is read: people edit such files, and cards quote them."""

from pathlib import Path
from typing import Any

from huggingface_hub.dataclasses import type_validator

from gengram.errors import InputError
from gengram.printable import make_printable, shorten

_Number = int | float
_Scores = dict[str, _Number | None]
_REMEDY = "the file was changed: restore it, or train again"
# Of a metric on a split, and of its interval.
_MEASURED: dict[str, Any] = {"mean": _Number | None, "sd": _Number | None, "per_seed": list[_Number | None]}
_INTERVALS: dict[str, Any] = {"mean": list[_Number] | None, "per_seed": list[list[_Number] | None]}
# What is read again of a report, by a card or by the choice of a seed; a key may be missing, if it is not asked for.
_KEYS: dict[str, Any] = {
    "seeds": list[int],
    "model_folders": list[str],
    **dict.fromkeys(("gengram_version", "transformers_version", "torch_version"), str),
    "model": dict,
    "model.checkpoint": str | None,
    "model.checkpoint_is_folder": bool,
    "model.new_weights": str | list[str],
    "data": dict,
    "data.problem": str,
    "data.classes": list[str],
    "data.max_length": int,
    **{
        key: kind
        for split in ("train", "validation", "test")
        for key, kind in {
            f"data.{split}": dict | None,
            f"data.{split}.file": str,
            f"data.{split}.sha256": str,
            f"data.{split}.rows": int,
            f"data.{split}.longest": int,
            f"data.{split}.truncated_rows_in_file": int,
            f"data.{split}.rows_per_class": dict[str, int] | None,
        }.items()
    },
    "arguments": dict,
    "arguments.data": dict,
    "arguments.data.validation_file": str | None,
    "arguments.data.validation_chromosomes": list[str] | None,
    "arguments.data.validation_fraction": _Number | None,
    "arguments.data.split_seed": int,
    "arguments.data.group_similarity": _Number,
    "arguments.training": dict,
    "arguments.training.optim": str,
    "arguments.training.lr_scheduler_type": str,
    **dict.fromkeys(
        (f"arguments.training.{name}" for name in ("learning_rate", "weight_decay", "num_train_epochs")), _Number
    ),
    "arguments.training.sequences_per_step": int | None,
    "arguments.training.max_steps": int,
    "search": dict,
    "search.metric": str,
    "search.trials": list[dict],
    "search.settings": dict[str, _Number],
    **dict.fromkeys(("search.seconds", "search.cpu_seconds"), _Number),
    "test": dict[str, dict] | None,
    "validation": dict[str, dict] | None,
    "intervals": dict | None,
    "intervals.resamples": int,
    "intervals.metrics": dict[str, dict],
    "per_class": dict,
    "per_class.test": dict[str, dict[str, _Number | None]] | None,
    "plots": list[dict[str, str]],
    "baselines": dict[str, Any] | None,
    "verdict": dict[str, Any] | None,
    "verdict.lines": list[str],
    "verdict.lead": str | None,
}
# The simple models of a report and what their columns are called; the titles in the report say more.
_BASELINES = {"chance": "chance", "majority": "majority", "mean": "mean", "kmer": "6-mers"}


def check_report(report: dict[str, Any], file: Path) -> dict[str, Any]:
    """Return the content of a run's `report.json` as it is.

    Raises:
        `InputError`: a value of another kind than `gengram finetune` writes, with its key; not as many values or
            folders as seeds; the name of a model's folder or of a plot's file that is none.
    """
    for key, kind in _KEYS.items():
        *above, last = key.split(".")
        place: Any = report
        for part in above:
            place = (place or {}).get(part)
        if place and last in place:
            check_value(key, place[last], kind, file)
    counts = {"model_folders": len(report["model_folders"])} if "model_folders" in report else {}
    for key, metrics, kinds in (
        ("test", report.get("test"), _MEASURED),
        ("validation", report.get("validation"), _MEASURED),
        ("intervals.metrics", (report.get("intervals") or {}).get("metrics"), _INTERVALS),
    ):
        for metric, measured in (metrics or {}).items():
            for name, kind in kinds.items():
                if name in measured:
                    check_value(f"{key}.{metric}.{name}", measured[name], kind, file)
            if "per_seed" in measured:
                counts[f"{key}.{metric}.per_seed"] = len(measured["per_seed"])
    for name in list_baselines(report):
        check_value(f"baselines.{name}", report["baselines"][name], dict[str, Any], file)
        for split, kind in (("test", _Scores), ("validation", _Scores), ("title", str)):
            if split in report["baselines"][name]:
                check_value(f"baselines.{name}.{split}", report["baselines"][name][split], kind, file)
    seeds = len(report.get("seeds", []))
    for key, count in counts.items():
        if count != seeds:
            raise InputError(f"{file}: {key!r} has {count} values for {seeds} seeds; {_REMEDY}")
    names = [*report.get("model_folders", []), *(plot.get("file", "") for plot in report.get("plots", []))]
    for name in names:
        # These would be the folder itself or the one above it.
        if Path(name).name in ("", ".", ".."):
            raise InputError(f"{file}: {name!r} is no name of a folder or file of a run; {_REMEDY}")
    return report


def list_baselines(report: dict[str, Any]) -> dict[str, str]:
    """Return the simple models that a report has scores of, and the heading of each; none in reports of old."""
    return {name: heading for name, heading in _BASELINES.items() if name in (report.get("baselines") or {})}


def find_training(report: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of the training that the models of a report had: as given, or as a search has chosen."""
    return {**report["arguments"]["training"], **(report.get("search") or {}).get("settings", {})}


def check_value(key: str, value: Any, kind: Any, file: Path, remedy: str = _REMEDY) -> None:
    """Compare a value of a JSON file with the type that it should have; `key` and `remedy` are told.

    Raises:
        `InputError`: it has another one.
    """
    try:
        type_validator(key, value, kind)
    except TypeError as error:
        shown = shorten(make_printable(repr(value)), 80)
        raise InputError(
            f"{file}: {shorten(key, 80)!r} is {shown}, which is not what belongs there; {remedy}"
        ) from error


__all__ = ["check_report", "check_value", "find_training", "list_baselines"]
