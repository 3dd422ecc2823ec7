"""`report.json`: how good the models of a run are, and everything that is needed to repeat it."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel, TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from gengram.loading.folders import read_object
from gengram.loading.reports import check_report, list_baselines
from gengram.training.arguments import DataArguments, FinetuneArguments, ModelArguments
from gengram.training.metrics.bootstrap import CONFIDENCE, find_interval
from gengram.training.metrics.scores import BOOTSTRAP_SEED, Scores
from gengram.training.problems import METRICS
from gengram.training.reports.plots import FOLDER
from gengram.training.reports.verdict import name_judged

# Of the names under which Trainer logs how long something took.
_TIMES = ("_runtime", "_per_second", "_per_step")


def summarize_seeds(seeds: list[Scores]) -> dict[str, dict[str, Any]] | None:
    """Return mean, spread and single values over seeds.

    Args:
        seeds: the scores of each seed on one split; NaN where a metric is not defined.

    Returns:
        For each metric `mean`, `sd` (sample standard deviation, n - 1; None for one seed) and the list `per_seed`, with
        None for NaN; None instead of it all where there are no seeds, that is no rows to measure.
    """
    if not seeds:
        return None
    summary = {}
    for metric in seeds[0].overall:
        values = [float(scores.overall[metric]) for scores in seeds]
        summary[metric] = {
            "mean": _to_json(float(np.mean(values))),
            "sd": _to_json(float(np.std(values, ddof=1))) if len(values) > 1 else None,
            "per_seed": [_to_json(value) for value in values],
        }
    return summary


def summarize_classes(seeds: list[Scores], classes: list[str]) -> dict[str, dict[str, float | None]] | None:
    """Return the mean over seeds of each metric of each class, label or target; None where it is not defined."""
    if not seeds:
        return None
    means = {metric: np.mean([scores.per_class[metric] for scores in seeds], axis=0) for metric in seeds[0].per_class}
    return {metric: dict(zip(classes, map(_to_json, values.tolist()))) for metric, values in means.items()}


def summarize_resamples(seeds: list[Scores]) -> dict[str, Any] | None:
    """Return percentile intervals over resamples of the rows.

    Args:
        seeds: the scores of each seed; all have seen the same resamples.

    Returns:
        `confidence`, the number of `resamples`, their `seed`, and `metrics`: for each metric `per_seed`, the interval
        of each seed's model, and `mean`, that of the mean over seeds; None in place of one that is not defined.
        None instead of it all where nothing was resampled.
    """
    resampled = [scores.resamples for scores in seeds if scores.resamples is not None]
    if not resampled:
        return None
    metrics = {
        metric: {
            "mean": find_interval(np.mean([one[metric] for one in resampled], axis=0)),
            "per_seed": [find_interval(one[metric]) for one in resampled],
        }
        for metric in resampled[0]
    }
    resamples = len(next(iter(resampled[0].values())))
    return {"confidence": CONFIDENCE, "resamples": resamples, "seed": BOOTSTRAP_SEED, "metrics": metrics}


def _to_json(value: float) -> float | None:
    # JSON has no NaN.
    return value if np.isfinite(value) else None


def describe_model(model: PreTrainedModel, arguments: ModelArguments, new_weights: list[str]) -> dict[str, Any]:
    """Return what kind of model was trained and which of its weights no checkpoint gave."""
    return {
        "class": type(model).__name__,
        "model_type": model.config.model_type,
        "backbone": model.config.get_text_config().model_type,
        "memory_layers": getattr(model.config, "memory_layers", []),
        "checkpoint": arguments.model_name_or_path,
        # `runs/base` looks like a Hub id from wherever there is no such folder.
        "checkpoint_is_folder": arguments.model_name_or_path is not None
        and Path(arguments.model_name_or_path).is_dir(),
        "new_weights": "all" if arguments.model_name_or_path is None else new_weights,
    }


def describe_arguments(
    model: ModelArguments, data: DataArguments, training: FinetuneArguments
) -> dict[str, dict[str, Any]]:
    """Return the arguments of a run with all defaults filled in, so that later defaults cannot change what it was.

    To `TrainingArguments` it adds `processes` and `sequences_per_step`, the effective batch size (None where it
    is a number of tokens); it leaves out what is None. Secrets are masked.
    """
    shown = {name: value for name, value in json.loads(training.to_json_string()).items() if value is not None}
    shown["processes"] = training.world_size
    shown["sequences_per_step"] = training.count_sequences()
    return {"model": dataclasses.asdict(model), "data": dataclasses.asdict(data), "training": shown}


def read_histories(folders: list[Path]) -> list[list[dict[str, Any]]]:
    """Return what Trainer logged for each model in the order of the steps: losses, learning rates, validation metrics.

    How long something took is left out, so that the same run has the same history; NaN is None.
    """
    histories = []
    for folder in folders:
        state = TrainerState.load_from_json(str(folder / TRAINER_STATE_NAME))
        histories.append(
            [
                {name: _to_json(value) for name, value in entry.items() if not name.endswith(_TIMES)}
                for entry in state.log_history
            ]
        )
    return histories


def clear_earlier_run(output: Path) -> None:
    """Remove an earlier report, the models and plots that it names: from here on, they would not belong together."""
    path = output / "report.json"
    if not path.exists():
        return
    report = check_report(read_object(path), path)
    path.unlink()
    (output / "report.md").unlink(missing_ok=True)
    for folder in report.get("model_folders", []):
        shutil.rmtree(output / Path(folder).name, ignore_errors=True)
    plots = output / FOLDER
    for plot in report.get("plots", []):
        (plots / Path(plot["file"]).name).unlink(missing_ok=True)
    if plots.is_dir() and not any(plots.iterdir()):
        plots.rmdir()


def tabulate(report: dict[str, Any]) -> str:
    """Return a table for the terminal: mean and spread of each metric on each split, the test rows' intervals, and
    what simple models make of these rows (without test rows, of the validation rows)."""
    metrics = METRICS[report["data"]["problem"]]
    lines = [f"{'':<16}" + "".join(f"{metric:<18}" for metric in metrics)]
    for split in ("validation", "test"):
        if report[split] is not None:
            lines.append(f"{split:<16}" + "".join(f"{_show_cell(report[split][metric]):<18}" for metric in metrics))
    if report["intervals"] is not None:
        intervals = [report["intervals"]["metrics"][metric]["mean"] for metric in metrics]
        cells = ["-" if ends is None else f"{ends[0]:.4f}..{ends[1]:.4f}" for ends in intervals]
        lines.append(f"{'95% of the rows':<16}" + "".join(f"{cell:<18}" for cell in cells))
    judged = name_judged(report)
    for name, heading in list_baselines(report).items():
        values = report["baselines"][name][judged]
        cells = [_show_cell({"mean": values[metric], "sd": None}) for metric in metrics]
        lines.append(f"{heading:<16}" + "".join(f"{cell:<18}" for cell in cells))
    for pair, counts in report["data"]["duplicates"].items():
        if sum(counts.values()):
            split, _, other = pair.split("_")
            lines.append(
                f"{sum(counts.values())} of {report['data'][split]['rows']} {split} rows are in {other} too "
                f"({counts['reverse_complement']} of them as the reverse complement)"
            )
    return "\n".join(lines)


def _show_cell(metric: dict[str, Any]) -> str:
    if metric["mean"] is None:
        return "not defined"
    return f"{metric['mean']:.4f}" + (f" ± {metric['sd']:.4f}" if metric["sd"] is not None else "")


__all__ = [
    "clear_earlier_run",
    "describe_arguments",
    "describe_model",
    "read_histories",
    "summarize_classes",
    "summarize_resamples",
    "summarize_seeds",
    "tabulate",
]
