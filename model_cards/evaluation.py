"""What a card says of an evaluation: scores of the model on benchmarks, beside baselines, and the same for the Hub.

The report is that of `gengram evaluate`, as `gengram.loading.evaluations` has checked it.
"""

from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, EvalResultEntry, eval_result_entries_to_yaml

from gengram.errors import InputError, suggest
from gengram.loading.evaluations import find_score, list_models
from gengram.markdown import escape_text, format_code, format_table
from gengram.printable import make_printable

METRIC_TYPES = {
    "mcc": "matthews_correlation",
    "auroc": "roc_auc",
    "macro_f1": "f1",
    "auprc": "average_precision",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
    "loss": "cross_entropy",
}
"""The names that the Hub and `evaluate` have for the metrics of a report."""

_DIGITS = 12


def choose_entrant(report: Mapping[str, Any], name: str | None, place: str) -> str:
    """
    Return the model of an evaluation that a card is about.

    Args:
        report: of the evaluation.
        name: of the entrant; None: the only model that somebody has trained.
        place: how messages call the evaluation.

    Raises:
        `InputError`: no such model, or several.
    """
    models = [one for one in list_models(dict(report)) if report["entrants"][one]["random"] is None]
    if name is not None:
        if name not in models:
            raise InputError(f"{place}: no model {name!r} was evaluated: {', '.join(models)}{suggest(name, models)}")
        return name
    if len(models) != 1:
        named = f": {', '.join(models)}; name one with --evaluated_as" if models else ""
        raise InputError(f"{place}: {len(models)} models were evaluated{named}")
    return models[0]


def describe_evaluation(report: Mapping[str, Any], entrant: str) -> dict[str, str]:
    """Return the parts of a card that an evaluation fills, as Markdown: `protocol` and `results`."""
    protocol = report["protocol"]
    seeds = report["entrants"][entrant]["seeds"]
    rows = "" if not report["data"].get("dedup") else " Training rows that are in a test were left out."
    if (most := report["data"].get("max_train_rows")) is not None:
        rows += f" At most {most:,} training rows of a task."
    told = (
        f"Protocol {format_code(protocol['name'])} (version {protocol['version']}): {escape_text(protocol['title'])}. "
        f"Means over seeds {escape_text(', '.join(map(str, seeds)))}; in brackets the 95 % interval over the test "
        f"rows.{rows} Made with gengram {escape_text(report['versions'].get('gengram', 'unknown'))}."
    )
    return {"protocol": told, "results": _tabulate(report, entrant)}


def list_index(report: Mapping[str, Any], entrant: str) -> list[EvalResult]:
    """Return the scores of a model as the `model-index` of a card has them."""
    results = []
    for task, facts in report["tasks"].items():
        cell = report["cells"].get(task, {}).get(entrant, {})
        if cell.get("status") != "done":
            continue
        name = make_printable(task)
        for metric in dict.fromkeys((facts["metric"], *cell["metrics"])):
            value = cell["metrics"][metric]["mean"]
            if value is None or metric == "loss":
                continue
            results.append(
                EvalResult(
                    task_type="text-classification",
                    dataset_type=_find_dataset(facts) or name,
                    dataset_name=name,
                    dataset_config=facts["dataset_config"] if _find_dataset(facts) else None,
                    dataset_revision=facts["dataset_revision"] if _find_dataset(facts) else None,
                    dataset_split="test",
                    metric_type=METRIC_TYPES.get(metric, metric),
                    metric_name=make_printable(metric),
                    metric_value=value,
                )
            )
    return results


def list_entries(report: Mapping[str, Any], entrant: str) -> dict[str, list[dict[str, Any]]]:
    """
    Return the content of the files below `.eval_results/`: dataset -> its entries, one for each of its tasks.

    Only of tasks whose test rows are those of a dataset on the Hub.
    """
    found: dict[str, list[EvalResultEntry]] = {}
    protocol = report["protocol"]
    for task, facts in report["tasks"].items():
        dataset, value = _find_dataset(facts), find_score(dict(report), task, entrant)
        if dataset is None or value is None:
            continue
        seeds = len(report["entrants"][entrant]["seeds"])
        notes = (
            f"{facts['metric']}, mean of {seeds} seed{'s' if seeds > 1 else ''}; protocol {protocol['name']} "
            f"{protocol['version']}; {facts['rows']['test']:,} test rows; gengram {report['versions'].get('gengram')}"
        )
        if (most := report["data"].get("max_train_rows")) is not None:
            notes += f"; at most {most:,} training rows"
        entry = EvalResultEntry(
            dataset_id=dataset,
            task_id=facts["dataset_config"] or "default",
            value=value,
            dataset_revision=facts["dataset_revision"],
            notes=make_printable(notes),
        )
        found.setdefault(dataset, []).append(entry)
    return {dataset: eval_result_entries_to_yaml(entries) for dataset, entries in found.items()}


def _find_dataset(facts: Mapping[str, Any]) -> str | None:
    """The Hub's dataset that the test rows are, whole; None where they are other rows."""
    return facts["dataset"]


def _tabulate(report: Mapping[str, Any], entrant: str) -> str:
    baselines = [name for name, one in report["entrants"].items() if one["kind"] == "baseline"]
    random = [name for name, one in report["entrants"].items() if one["kind"] == "model" and one["random"] is not None]
    rows = []
    for task, facts in report["tasks"].items():
        cell = report["cells"].get(task, {}).get(entrant, {})
        if cell.get("status") != "done":
            continue
        measured = cell["metrics"][facts["metric"]]
        interval = measured["row_interval"]
        spread = f" ({interval[0]:.3f}, {interval[1]:.3f})" if interval else ""
        beside = [find_score(dict(report), task, name) for name in (*random, *baselines)]
        rows.append(
            [
                escape_text(task),
                escape_text(facts["metric"]),
                f"{facts['rows']['test']:,}",
                format_code(facts["fingerprint"][:_DIGITS]),
                _show(measured["mean"]) + spread,
                *map(_show, beside),
            ]
        )
    head = ["task", "metric", "test rows", "fingerprint", "this model", *map(escape_text, (*random, *baselines))]
    return format_table(head, rows, numbers=[2, *range(4, len(head))]) if rows else ""


def _show(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


__all__ = ["METRIC_TYPES", "choose_entrant", "describe_evaluation", "list_entries", "list_index"]
