"""Is the result better than chance, and better than what simple models make of the same rows?

Chance: of whole sequences by a permutation test of the ranking and of the decisions, of bases by the bootstrap over
rows. Simple models: by the difference of the scores in the same resamples of the rows.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gengram.pipelines.predictions import name_predictions, read_predictions
from gengram.training.metrics.bootstrap import find_interval
from gengram.training.metrics.permutation import STATISTICS, permute_labels
from gengram.training.metrics.scores import Scores
from gengram.training.problems import Problem
from gengram.training.reports.baselines import Baselines, name_compared

# 5 % for all statistics of a problem together (Bonferroni).
_LEVEL = 0.05
_FEWEST_ROWS_OF_BASES = 20  # a bootstrap over fewer rows says little
_FEW_ROWS = 100
_NAMES = {"auroc": "AUROC", "mcc": "MCC", "pearson": "Pearson", "spearman": "Spearman", "r2": "R2"}


def judge(
    report: dict[str, Any], output: Path, scores: dict[str, list[Scores]], baselines: Baselines | None
) -> dict[str, Any] | None:
    """Compare a run with chance and with the simple models.

    Args:
        report: of the run, with `data`, `seeds`, `model_folders`, and the summaries of `test` and `validation`.
        output: the run's folder, with the predictions of each seed.
        scores: of each split the scores of each seed; those of the split that is judged have resamples.
        baselines: of `measure_baselines`, or None.

    Returns:
        `split`, which is judged, and its number of `rows`; `chance`: `apart` (whether the result can be told from
        chance; None where the rows cannot say), the `method`, and `p` of each statistic; `baselines`: for each simple
        model the `metric` and the 95 % interval of the `difference`, above 0 where the run is better; `lines`: what
        a reader should know, in sentences; empty for a result that is better than all of them, which `lead` then says.
        None without rows.
    """
    split = name_judged(report)
    if split is None:
        return None
    problem: Problem = report["data"]["problem"]
    rows = report["data"][split]["rows"]
    if problem == "token":
        chance = _compare_bases(scores[split], rows)
    else:
        paths = [name_predictions(output / folder, split) for folder in report["model_folders"]]
        chance = _permute(paths, problem, report["data"]["classes"])
    differences = {} if baselines is None else _compare(problem, split, scores[split], baselines)
    verdict = {"split": split, "rows": rows, "chance": chance, "baselines": differences}
    lines = _write_lines(report, verdict, baselines)
    return {**verdict, "lines": lines, "lead": None if lines else _write_lead(problem, verdict)}


def name_judged(report: dict[str, Any]) -> str | None:
    """Return the split that a run is judged by: the test rows, without them the validation rows."""
    return next((split for split in ("test", "validation") if report[split]), None)


def _permute(paths: Sequence[Path], problem: Problem, classes: list[str]) -> dict[str, Any]:
    outputs, truth = [], np.empty(0)
    for path in paths:
        parts = list(read_predictions(path, problem, classes))
        outputs.append(np.concatenate([part for part, _ in parts]))
        truth = np.concatenate([part for _, part in parts])
    found = permute_labels(problem, outputs, truth)
    level = _LEVEL / len(STATISTICS[problem])
    apart: bool | None = any(share < level for share in found.better.values())
    if found.smallest >= level:
        apart = None
    return {
        "apart": apart,
        "worse": apart is False and any(share < level for share in found.worse.values()),
        "method": "permutation of the labels",
        "orders": found.orders,
        "p": found.better,
    }


def _compare_bases(seeds: list[Scores], rows: int) -> dict[str, Any]:
    apart: bool | None = False
    worse = False
    for metric in STATISTICS["token"]:
        chance = 0.5 if metric == "auroc" else 0.0
        interval = find_interval(_average(seeds, metric))
        apart = apart or (interval is not None and bool(interval[0] > chance))
        worse = worse or (interval is not None and bool(interval[1] < chance))
    if rows < _FEWEST_ROWS_OF_BASES:
        apart = None
    return {"apart": apart, "worse": apart is False and worse, "method": "bootstrap over rows"}


def _compare(problem: Problem, split: str, seeds: list[Scores], baselines: Baselines) -> dict[str, dict[str, Any]]:
    """Return for each simple model in what its scores differ from the run's in the same resamples."""
    differences = {}
    for name, metric in name_compared(problem).items():
        resamples = baselines.scores[name][split].resamples if name in baselines.scores else None
        if resamples is not None:
            values = _average(seeds, metric) - resamples[metric]
            differences[name] = {"metric": metric, "difference": find_interval(values)}
    return differences


def _average(seeds: list[Scores], metric: str) -> np.ndarray:
    return np.mean([scores.resamples[metric] for scores in seeds if scores.resamples is not None], axis=0)


def _write_lines(report: dict[str, Any], verdict: dict[str, Any], baselines: Baselines | None) -> list[str]:
    split, rows, chance = verdict["split"], verdict["rows"], verdict["chance"]
    problem: Problem = report["data"]["problem"]
    measured = report[split]
    shown = ", ".join(_show(metric, measured[metric]["mean"]) for metric in STATISTICS[problem])
    how = f"{shown} on {rows:,} {split} rows"
    lines = []
    if chance["apart"] is None:
        why = "their labels are all the same" if _is_uniform(report, split) else "they are too few"
        lines.append(f"These rows cannot tell the result from chance, {why}: {how}.")
    elif chance["worse"]:
        lines.append(
            f"The result is worse than chance: {how}. Do the labels of these rows mean what those of the training rows "
            "do?"
        )
    elif not chance["apart"]:
        tested = f"p {min(chance['p'].values()):.2g}" if chance.get("p") else "95 % interval over the rows"
        few = " So few rows can only tell large effects." if rows < _FEW_ROWS else ""
        lines.append(f"The result is not distinguishable from chance: {how} ({tested}).{few}")
    elif not _tells_classes(chance):
        lines.append(
            f"The classes that are named are no better than chance, though the ranking is: {how}. Train longer; where "
            "classes are rare, try --class_weights balanced or another threshold."
        )
    if baselines is not None and chance["apart"] is not None:
        lines += _compare_in_words(problem, measured, verdict, baselines)
    return lines


def _compare_in_words(
    problem: Problem, measured: dict[str, Any], verdict: dict[str, Any], baselines: Baselines
) -> list[str]:
    lines, names = [], _name_models(problem)
    for name, compared in verdict["baselines"].items():
        metric, interval = compared["metric"], compared["difference"]
        own = measured[metric]["mean"]
        other = float(baselines.scores[name][verdict["split"]].overall[metric])
        # Classes that are named no better than by chance are no better than a constant: that is said already.
        said = name != "kmer" and (not verdict["chance"]["apart"] or not _tells_classes(verdict["chance"]))
        if interval is None or own is None or interval[0] > 0 or said:
            continue
        figures = f"{_show(metric, own)} against {other:.3f}"
        interval_text = f"95 % of the difference {interval[0]:.3f} to {interval[1]:.3f}"
        if interval[1] < 0:
            lines.append(f"{names[name][0].upper()}{names[name][1:]} is better on these rows: {figures}.")
        else:
            lines.append(
                f"The result is not distinguishable from {names[name]} on these rows: {figures} ({interval_text})."
            )
    return lines


def _write_lead(problem: Problem, verdict: dict[str, Any]) -> str:
    """Of a result about which nothing else is to be said: what it is better than."""
    names = _name_models(problem)
    ahead = [names[name] for name, one in verdict["baselines"].items() if (one["difference"] or [0])[0] > 0]
    *most, last = ["chance", *ahead]
    better = f"{', '.join(most)} and {last}" if most else last
    return f"The result is better than {better} on these {verdict['rows']:,} {verdict['split']} rows."


def _name_models(problem: Problem) -> dict[str, str]:
    return {
        "mean": "the mean of the training rows",
        "majority": "the guess of the most frequent class",
        "kmer": "the guess from the neighbouring bases" if problem == "token" else "the 6-mer regression",
    }


def _tells_classes(chance: dict[str, Any]) -> bool:
    """Whether the classes that are named are better than chance, where that was tested."""
    return chance.get("p", {}).get("mcc", 0) < _LEVEL


def _is_uniform(report: dict[str, Any], split: str) -> bool:
    described = report["data"][split]
    counts = described.get("rows_per_class") or described.get("bases_per_class")
    if counts is None:
        return all(target["min"] == target["max"] for target in described["targets"].values())
    if report["data"]["problem"] == "multi_label":
        return all(count in (0, described["rows"]) for count in counts.values())
    return sum(count > 0 for count in counts.values()) < 2


def _show(metric: str, value: float | None) -> str:
    return f"{_NAMES.get(metric, metric)} {'not defined' if value is None or np.isnan(value) else f'{value:.3f}'}"


__all__ = ["judge", "name_judged"]
