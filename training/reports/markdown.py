"""`report.md`: the report of a run for people: what was done, how good it is, and how to do it again.

It may be handed on: files have their names only, no folder of the machine that it was made on.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from gengram.files import write_text
from gengram.genome.contigs import tell_renamed
from gengram.loading.reports import find_training, list_baselines
from gengram.markdown import escape_text, format_code, format_fence, format_image, format_table
from gengram.printable import quote_word
from gengram.training.arguments import DataArguments, FinetuneArguments, ModelArguments

# More classes than these are shown as the best and the worst by the first metric.
_MOST_CLASSES, _SHOWN_CLASSES = 40, 10
_HASH_DIGITS = 12
# What `finetune` sets by itself, or what says nothing about the outcome.
_UNSAID = {"dataloader_pin_memory", "disable_tqdm", "do_eval", "overwrite", "push_to_hub", "resume_from_checkpoint"}
_PATHS = {"output_dir", "train_file", "validation_file", "test_file", "label_files", "dataset", "genome"}
_PATHS |= {"model_name_or_path", "tokenizer_name_or_path", "deepspeed", "fsdp_config", "accelerator_config"}
_TASKS = {
    "single_label": "one class a sequence",
    "multi_label": "any number of labels a sequence",
    "regression": "measured values of a sequence",
    "token": "one class a base",
}


def write_markdown(report: dict[str, Any], path: Path) -> None:
    """Write `render_markdown` of a report in one piece."""
    write_text(render_markdown(report), path)


def render_markdown(report: dict[str, Any]) -> str:
    """Return a run's report as Markdown: task, data, model, metrics, classes, plots, arguments, versions, command."""
    data = report["data"]
    parts = [
        "# Fine-tuning report",
        _summarize(report),
        _show_verdict(report),
        "## Results",
        _tabulate_metrics(report),
        _explain_metrics(report),
        _tabulate_classes(report),
        *(format_image(plot["title"], plot["file"]) for plot in report["plots"]),
        "## Data",
        _tabulate_data(data),
        _describe_duplicates(data),
        "## Model and training",
        format_table(["what", "value"], [[name, format_code(value)] for name, value in _list_settings(report)]),
        *_show_search(report.get("search")),
        "## Again",
        format_fence(render_command(report), "bash"),
        "A file with an absolute path is named without its folder. On a CPU, the same command on the same files gives "
        "the same figures.",
        _list_versions(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def render_command(report: dict[str, Any]) -> str:
    """Return the command of a run for bash: every argument that is not the default, the learning rate always."""
    arguments: list[str] = []
    for name, value in _find_changes(report).items():
        values = value if isinstance(value, list) else [value]
        arguments.append(" ".join([f"--{name}", *(quote_word(_write_value(one)) for one in values)]))
    return " \\\n    ".join(["gengram finetune", *arguments])


def _find_changes(report: dict[str, Any]) -> dict[str, Any]:
    changes = {}
    for group, kind in (("model", ModelArguments), ("data", DataArguments), ("training", FinetuneArguments)):
        defaults = _find_defaults(kind)
        for name, value in report["arguments"][group].items():
            derived = name in _UNSAID or (name == "eval_strategy" and report["validation"] is None)
            if name in defaults and value is not None and value != defaults[name] and not derived:
                changes[name] = _hide_folder(value) if name in _PATHS else value
    return changes


def _find_defaults(kind: type) -> dict[str, Any]:
    fields = [field for field in dataclasses.fields(kind) if field.init]
    if kind is FinetuneArguments:
        # As in a report: with what TrainingArguments fills in by itself.
        filled = json.loads(FinetuneArguments().to_json_string())
        return {field.name: filled.get(field.name) for field in fields}
    return {
        field.name: field.default_factory() if callable(field.default_factory) else field.default for field in fields
    }


def _hide_folder(value: Any) -> Any:
    if isinstance(value, list):
        return [_hide_folder(one) for one in value]
    if not isinstance(value, str):
        return value
    absolute = Path(value).is_absolute() or value.startswith("~") or ".." in Path(value).parts
    return Path(value).name if absolute else value


def _write_value(value: Any) -> str:
    if isinstance(value, dict):
        return json.dumps(value)
    if isinstance(value, float):
        return str(value).removesuffix(".0")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _summarize(report: dict[str, Any]) -> str:
    data, model, seeds = report["data"], report["model"], report["seeds"]
    kind = {"multi_label": "labels", "regression": "targets"}.get(data["problem"], "classes")
    layers = ", ".join(map(str, model["memory_layers"]))
    memory = f"with a motif memory before layer {layers} (counted from 0)" if layers else "without motif memory"
    origin = _hide_folder(model["checkpoint"]) if model["checkpoint"] else None
    start = f"fine-tuned from {format_code(origin)}" if origin else "trained from random weights"
    runs = f"{len(seeds)} seeds: {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"seed {seeds[0]}"
    return (
        f"{_TASKS[data['problem']].capitalize()} ({len(data['classes'])} {kind}). {format_code(model['class'])} on a "
        f"{format_code(model['backbone'])} backbone {memory}, {report['parameters']:,} parameters, {start}; {runs}."
    )


def _show_verdict(report: dict[str, Any]) -> str:
    """What a reader should know before the figures: whether they are better than chance and than simple models."""
    verdict = report.get("verdict") or {}
    lines = [f"**{escape_text(line)}**" for line in verdict.get("lines", [])]
    return "\n\n".join(lines or [escape_text(verdict.get("lead") or "")])


def _tabulate_metrics(report: dict[str, Any]) -> str:
    splits = [split for split in ("test", "validation") if report[split]]
    if not splits:
        return "There were no validation and no test rows."
    intervals, baselines = (report["intervals"] or {}).get("metrics", {}), list_baselines(report)
    rows = []
    for split in splits:
        for metric, values in report[split].items():
            ends = (intervals.get(metric) or {}).get("mean") if split == "test" else None
            interval = " to ".join(map(_show, ends)) if ends else ""
            beside = [_show((report["baselines"][name].get(split) or {}).get(metric)) for name in baselines]
            rows.append([split, escape_text(metric), _show(values["mean"]), _show(values["sd"]), interval, *beside])
    head = ["split", "metric", "mean", "sd", "95 % interval", *baselines.values()]
    return format_table(head, rows, numbers=range(2, len(head)))


def _explain_metrics(report: dict[str, Any]) -> str:
    loss = "mean squared error" if report["data"]["problem"] == "regression" else "cross-entropy in nats"
    parts = ["`sd` is over the seeds (n - 1)." if len(report["seeds"]) > 1 else "One seed: no spread."]
    if report["intervals"]:
        drawn = report["intervals"]
        parts.append(f"The interval is that of the mean over {drawn['resamples']:,} resamples of the test rows.")
    parts.append(f"`loss` is the {loss}; `-` is not defined.")
    if baselines := list_baselines(report):
        named = [f"{heading}, {report['baselines'][name]['title']}" for name, heading in baselines.items()]
        seen = report["baselines"].get("kmer", {}).get("rows", report["data"]["train"]["rows"])
        note = f" ({seen:,} of the training rows)" if seen < report["data"]["train"]["rows"] else ""
        parts.append(f"Simple models on the same rows: {escape_text('; '.join(named))}{note}.")
    return " ".join(parts) if report["test"] or report["validation"] else ""


def _tabulate_classes(report: dict[str, Any]) -> str:
    split = "test" if report["test"] else "validation"
    each = report["per_class"][split]
    if not each:
        return ""
    described = report["data"][split]
    counts = described.get("rows_per_class") or described.get("bases_per_class") or {}
    first = next(iter(each))
    names = list(each[first])
    kind = {"multi_label": "label", "regression": "target"}.get(report["data"]["problem"], "class")
    title = f"Each {kind} on the {split} rows, means over the seeds:"
    if len(names) > _MOST_CLASSES:
        ranked = [name for name in names if each[first][name] is not None]
        ranked.sort(key=lambda name: -each[first][name])
        undefined = len(names) - len(ranked)
        shown = min(_SHOWN_CLASSES, len(ranked) // 2)
        names = ranked[:shown] + ranked[len(ranked) - shown :]
        title = (
            f"The {shown} best and the {shown} worst of {len(ranked)} by {first} on the {split} rows, means over the "
            f"seeds ({undefined} more have no {first} there):"
        )
    unit = "bases" if "bases_per_class" in described else "rows"
    head = [kind, *([unit] if counts else []), *each]
    rows = [
        [
            format_code(name),
            *([f"{counts[name]:,}"] if counts else []),
            *(_show(values[name]) for values in each.values()),
        ]
        for name in names
    ]
    return f"{title}\n\n{format_table(head, rows, numbers=range(1, len(head)))}"


def _tabulate_data(data: dict[str, Any]) -> str:
    rows = []
    for split in ("train", "validation", "test"):
        if described := data[split]:
            cut = described["truncated_rows_in_file"]
            rows.append(
                [
                    split,
                    format_code(_hide_folder(described["file"])),
                    format_code(described["sha256"][:_HASH_DIGITS]),
                    f"{described['rows']:,}",
                    f"{described['characters']:,}",
                    f"{cut:,}",
                ]
            )
    head = ["split", "file", "SHA-256", "rows", "bp", "cut rows of the file"]
    table = format_table(head, rows, numbers=range(3, 6))
    note = "The checksums are the first 12 digits of those of the whole files."
    if data["validation"] and data["validation"]["file"] == data["train"]["file"]:
        note += " The validation rows are a part of the training file."
    for key, where in (("renamed_contigs", "in the genome"), ("renamed_chromosomes", "in the rows")):
        if told := tell_renamed(data.get(key, {}), f"Contigs that have other names {where}"):
            note += f" {escape_text(told)}."
    return f"{table}\n\n{note}"


def _describe_duplicates(data: dict[str, Any]) -> str:
    lines = []
    for pair, counts in data["duplicates"].items():
        split, _, other = pair.split("_")
        lines.append(
            f"- {split} rows that {other} has too: {counts['exact']:,} as they are, {counts['reverse_complement']:,} "
            "more as the reverse complement"
        )
    return "\n".join(lines)


def _list_settings(report: dict[str, Any]) -> list[tuple[str, str]]:
    training = find_training(report)
    new = report["model"]["new_weights"]
    mixed = next((name for name in ("bf16", "fp16") if training.get(name)), None)
    settings = [
        ("weights that no checkpoint gave", new if isinstance(new, str) else f"{len(new)} tensors"),
        ("optimizer", training["optim"]),
        ("learning rate", f"{training['learning_rate']:g}, {training['lr_scheduler_type']}"),
        ("weight decay", f"{training['weight_decay']:g}"),
        ("sequences a step", str(training["sequences_per_step"])),
        ("passes over the rows", f"{training['num_train_epochs']:g}"),
        ("precision", f"float32, mixed with {mixed}" if mixed else "float32"),
        ("longest input", f"{report['data']['max_length']:,} tokens"),
    ]
    if training.get("max_steps", -1) > 0:
        settings.append(("steps at most", str(training["max_steps"])))
    if adapter := report.get("adapter"):
        settings.append(("adapter", ", ".join(f"{name} {value}" for name, value in adapter.items())))
    if weights := report.get("loss_weights"):
        settings.append(("weights in the loss", json.dumps(weights)))
    settings.append(("time", f"{report['seconds']:,.0f} s for all seeds"))
    return settings


def _show_search(search: dict[str, Any] | None) -> list[str]:
    """Every trial of a search, and what it has cost."""
    if search is None:
        return []
    rows = []
    for number, trial in enumerate(search["trials"]):
        settings = [format_code(f"{trial['settings'][name]:.6g}") for name in search["space"]]
        score = "diverged" if trial["failed"] else _show(trial["value"])
        chosen = " (chosen)" if number == search["chosen"] else ""
        rows.append(
            [f"{number + 1}{chosen}", *settings, score, f"{trial['seconds']:,.1f}", f"{trial['cpu_seconds']:,.1f}"]
        )
    head = ["trial", *search["space"], f"validation {search['metric']}", "seconds", "CPU seconds"]
    order = "every combination, or as many as were asked for" if search["sampler"] == "grid" else "optuna's TPE"
    return [
        "## Search",
        format_table([escape_text(name) for name in head], rows, numbers=range(1, len(head))),
        f"Settings by {order}; trained with seed {search['seed']}, which is none of the run's. The search's cost: "
        f"{len(search['trials'])} trainings, {search['seconds']:,.0f} s, {search['cpu_seconds']:,.0f} s of CPU. No "
        "test row was read for it.",
    ]


def _list_versions(report: dict[str, Any]) -> str:
    made = ("gengram", "transformers", "torch")
    return ", ".join(f"{name} {escape_text(report[f'{name}_version'])}" for name in made) + "."


def _show(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


__all__ = ["render_command", "render_markdown", "write_markdown"]
