"""What a model card says: read from the checkpoint and the report of its run, nothing invented."""

import re
from pathlib import Path
from typing import Any

import transformers
from huggingface_hub import EvalResult, EvalResultEntry, ModelCard, ModelCardData, eval_result_entries_to_yaml
from transformers import PreTrainedTokenizerBase

from gengram._version import __version__
from gengram.errors import InputError
from gengram.loading.finite import count_values
from gengram.loading.reports import find_training, list_baselines
from gengram.loading.tokenizers import require_tokenizer
from gengram.markdown import (
    escape_text,
    format_code,
    format_fence,
    format_image,
    format_link,
    format_literal,
    format_table,
    render_template,
)
from gengram.model_cards.evaluation import METRIC_TYPES, describe_evaluation, list_entries, list_index
from gengram.model_cards.pretraining import describe_pretraining, list_pretraining_limits
from gengram.printable import make_printable, shorten
from gengram.registration import find_configuration
from gengram.tokenization.coordinates import measure_tokens

CODE_LICENSE = "Apache-2.0"
"""Of this package, whose model files travel with a checkpoint."""

# End of an architecture's name, or PEFT's task type -> pipeline tag and Auto class.
_TASKS = {
    "ForSequenceClassification": ("text-classification", "AutoModelForSequenceClassification"),
    "ForTokenClassification": ("token-classification", "AutoModelForTokenClassification"),
    "ForMaskedLM": ("fill-mask", "AutoModelForMaskedLM"),
    "ForCausalLM": ("text-generation", "AutoModelForCausalLM"),
    "SEQ_CLS": ("text-classification", "AutoModelForSequenceClassification"),
    "TOKEN_CLS": ("token-classification", "AutoModelForTokenClassification"),
    "CAUSAL_LM": ("text-generation", "AutoModelForCausalLM"),
}
_FEATURES = ("feature-extraction", "AutoModel")
# Families whose outputs or inputs are none of a pipeline's: classes of single bases behind k-mers, species.
_WITHOUT_PIPELINE = ("segment_nt", "ntv3_posttrained")
# More classes than these are not listed, or not as columns of a table.
_MOST_CLASSES, _MOST_COLUMNS = 40, 10
# Of a row of the results; what else it has are the scores of simple models.
_COLUMNS = ("split", "metric", "own", "mean", "sd", "interval", "per_seed")
_EXAMPLE_SEQUENCE = "ACGTTGCATGCCGATATAAAGGCACGTCAGTTGACC"
_HASH_DIGITS = 12
_LICENSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


def render_card(
    folder: Path,
    config: dict[str, Any],
    *,
    repo_id: str,
    report: dict[str, Any] | None = None,
    seed: int | None = None,
    choice: str = "",
    license: str = "unknown",
    base_model: str | None = None,
    dataset: str | None = None,
    origin: str = "",
    plots: dict[str, str] | None = None,
    pretraining: dict[str, Any] | None = None,
    evaluation: tuple[dict[str, Any], str] | None = None,
) -> ModelCard:
    """Render the model card of a checkpoint.

    Args:
        folder: the checkpoint, with its tokenizer.
        config: `config.json` or `adapter_config.json` as it will be published.
        repo_id: where it will be published; the example loads it from there.
        report: of the run that trained it; without one, the card has no data, protocol and results.
        seed: which of the report's seeds it is.
        choice: why that seed.
        license: of the weights, an identifier of the Hub. "unknown" is said as such.
        base_model: Hub id of the model it was trained from.
        dataset: Hub id of the dataset on which it was measured.
        origin: where the weights come from, in sentences, if neither a report nor `base_model` tells.
        plots: images that will be published beside the card: path in the repository -> title.
        pretraining: content of `pretraining.json`, where `gengram pretrain` has made the weights.
        evaluation: report of `gengram evaluate`, and which of its models this is.

    Returns:
        `ModelCard`: metadata (with the results as `model-index`) and text.

    Raises:
        `OSError`, `ValueError`: no tokenizer, or weights that are no safetensors file.
    """
    tokenizer = require_tokenizer(folder)
    adapter = "peft_type" in config
    tag, _ = find_task(config)
    carries_code = bool(config.get("auto_map"))
    classes = _read_classes(config, report)
    memory_layers = config.get("memory_layers") or []
    task_tags = ["biology", "genomics", "dna", *(["k-mer", "gengram"] if memory_layers else [])]
    if adapter:
        task_tags += ["peft", config["peft_type"].lower()]
    results = _tabulate_results(report, seed)
    benchmarked = [] if evaluation is None else list_index(*evaluation)
    own_metrics = {METRIC_TYPES.get(row["metric"], row["metric"]) for row in results}
    own_metrics |= {one.metric_type for one in benchmarked}
    indexed = [*_list_results(report, seed, tag, dataset), *benchmarked]
    datasets = {*([dataset] if dataset else []), *([] if evaluation is None else list_entries(*evaluation))}
    data = ModelCardData(
        license=license,
        library_name="peft" if adapter else "transformers",
        pipeline_tag=tag,
        tags=[*task_tags, *(["custom_code"] if carries_code else [])],
        base_model=base_model,
        base_model_relation=("adapter" if adapter else "finetune") if base_model else None,
        datasets=sorted(datasets) or None,
        metrics=sorted(own_metrics) or None,
        model_name=repo_id.split("/")[-1] if indexed else None,
        eval_results=indexed or None,
    )
    kind = "target" if config.get("problem_type") == "regression" else "class"
    text = render_template(
        "gengram.model_cards",
        "model_template.md",
        card_data=data.to_yaml(),
        name=repo_id.split("/")[-1],
        summary=_summarize(folder, config, report, base_model, pretraining),
        origin=origin,
        usage_note=_explain_usage(repo_id, adapter, carries_code),
        usage=format_fence(_show_usage(repo_id, config, tokenizer, len(classes)), "python"),
        classes_title="Targets" if kind == "target" else "Classes",
        classes=_list_classes(classes),
        data=_tabulate_data(report),
        protocol=_describe_protocol(report),
        results_note=_explain_results(report, choice),
        results=_draw_results(results),
        each_class=_tabulate_classes(report, kind),
        plots=[format_image(title, file) for file, title in (plots or {}).items()],
        pretraining=describe_pretraining(pretraining) if pretraining is not None else None,
        evaluation=None if evaluation is None else describe_evaluation(*evaluation),
        limits=_list_limits(tokenizer, report)
        + (list_pretraining_limits(pretraining) if pretraining is not None else []),
        license=license,
        code_license=_describe_code(carries_code),
        versions=_list_versions(pretraining if report is None else report),
    )
    return ModelCard(text)


def render_results(report: dict[str, Any] | None, seed: int | None, *, dataset: str, task: str) -> list[dict[str, Any]]:
    """Return the content of an `.eval_results/*.yaml` file, which puts a result on the benchmark dataset's page.

    Args:
        report: of the run.
        seed: which of its seeds.
        dataset: Hub id of the dataset.
        task: of that dataset's tasks.

    Returns:
        One entry, the value of the main metric on the test rows; none without a test.
    """
    if report is None or seed is None or not report.get("test"):
        return []
    metric = find_main_metric(report["test"])
    measured = report["test"][metric]
    value = measured["per_seed"][report["seeds"].index(seed)]
    if value is None:
        return []
    spread = f", mean {_show(measured['mean'])}, sd {_show(measured['sd'])}" if len(report["seeds"]) > 1 else ""
    notes = f"{metric} of seed {seed} of {len(report['seeds'])}{spread}; gengram {report['gengram_version']}"
    return eval_result_entries_to_yaml([EvalResultEntry(dataset_id=dataset, task_id=task, value=value, notes=notes)])


def check_license(license: str, option: str = "--license") -> str:
    """Return a licence as it is; `option` is how messages call it.

    Raises:
        `InputError`: it is not written as the Hub's identifiers are, in one word; the Hub would refuse the card.
    """
    if not _LICENSE.fullmatch(license):
        shown = shorten(make_printable(license), 60)
        raise InputError(
            f"{option} '{shown}': write the licence as the Hub names it, in one word, such as apache-2.0, cc-by-4.0 "
            "or mit; choose other for one that has no name there"
        )
    return license


def find_task(config: dict[str, Any]) -> tuple[str, str]:
    """Return the pipeline tag and the Auto class of a `config.json` or `adapter_config.json`."""
    if "peft_type" in config:
        return _TASKS.get(config.get("task_type") or "", _FEATURES)
    architecture = (config.get("architectures") or [""])[0]
    return next((task for ending, task in _TASKS.items() if architecture.endswith(ending)), _FEATURES)


def find_main_metric(split: dict[str, Any]) -> str:
    """Return the metric by which a split of a report is judged: the first one; MCC, AUROC or Pearson's correlation."""
    return next(iter(split))


def _read_classes(config: dict[str, Any], report: dict[str, Any] | None) -> list[str]:
    if named := config.get("id2label"):
        return [named[label] for label in sorted(named, key=int)]
    return list((report or {}).get("data", {}).get("classes") or [])


def _summarize(
    folder: Path,
    config: dict[str, Any],
    report: dict[str, Any] | None,
    base_model: str | None,
    pretraining: dict[str, Any] | None,
) -> str:
    parameters = f"{count_parameters(folder):,}"
    if "peft_type" in config:
        return (
            f"A {escape_text(config['peft_type'])} adapter with {parameters} parameters for "
            f"{_link_model(config['base_model_name_or_path'])}."
        )
    name = (config.get("architectures") or [config["model_type"]])[0]
    backbone = config.get("backbone_config", {}).get("model_type")
    layers = escape_text(", ".join(map(str, config.get("memory_layers") or [])))
    memory = f" with a k-mer motif memory before layer {layers} (counted from 0)" if layers else ", without memory"
    around = f" on a {format_code(backbone)} backbone{memory}" if backbone else ""
    origin = ""
    if pretraining is not None:
        started = pretraining["model"]["model_name_or_path"] is not None
        origin = " Pre-trained further from a checkpoint." if started else " Pre-trained from random weights."
        if base_model:
            origin = f" Pre-trained further from {_link_model(base_model)}."
    elif base_model:
        origin = f" Fine-tuned from {_link_model(base_model)}."
    elif report is not None:
        from_scratch = report["model"]["checkpoint"] is None
        origin = (
            " Trained from random weights." if from_scratch else " Fine-tuned from a checkpoint that has no Hub id."
        )
    return f"{format_code(name)}{around}, {parameters} parameters.{origin}"


def _link_model(hub_id: str) -> str:
    return format_link(hub_id, f"https://huggingface.co/{hub_id}")


def count_parameters(folder: Path) -> int:
    """Return the number of values in the folder's safetensors files, read from their headers."""
    return sum(count_values(path) for path in sorted(folder.glob("*.safetensors")))


def _show_usage(repo_id: str, config: dict[str, Any], tokenizer: PreTrainedTokenizerBase, classes: int) -> str:
    tag, auto_class = find_task(config)
    sequence = _EXAMPLE_SEQUENCE[: max(tokenizer.model_max_length - tokenizer.num_special_tokens_to_add(), 1)]
    repository = format_literal(repo_id)
    if "peft_type" in config:
        labels = f", num_labels={classes}" if classes else ""
        return "\n".join(
            [
                f"from peft import AutoPeft{auto_class.removeprefix('Auto')}",
                "from transformers import AutoTokenizer",
                "",
                f"tokenizer = AutoTokenizer.from_pretrained({repository})",
                f"model = AutoPeft{auto_class.removeprefix('Auto')}.from_pretrained(",
                f"    {repository}{labels}, trust_remote_code=True",
                ").eval()",
                f'outputs = model(**tokenizer({format_literal(sequence)}, return_tensors="pt"))',
            ]
        )
    trust = ", trust_remote_code=True" if config.get("auto_map") else ""
    if config.get("model_type") in _WITHOUT_PIPELINE:
        return _show_call(repository, config, auto_class, trust)
    load = [
        "from transformers import pipeline",
        "",
        f"predict = pipeline({format_literal(tag)}, model={repository}{trust})",
    ]
    if tag == "fill-mask":
        sequence = sequence[:3] + str(tokenizer.mask_token) + sequence[4:-2]
        named = ', tokenizer_kwargs={"split_special_tokens": False}' if tokenizer.split_special_tokens else ""
        return "\n".join(
            [
                *load,
                'bases = [token for token in predict.tokenizer.get_vocab() if set(token) <= set("ACGT")]',
                f"predictions = predict({format_literal(sequence)}, targets=bases{named})",
            ]
        )
    if tag == "feature-extraction":
        return "\n".join([*load, f"vectors = predict({format_literal(sequence)})[0]  # one vector a token"])
    several = config.get("problem_type") in ("regression", "multi_label_classification")
    every = ", top_k=None" if several and tag == "text-classification" else ""
    return "\n".join([*load, f"predictions = predict({format_literal(sequence)}{every})"])


def _show_call(repository: str, config: dict[str, Any], auto_class: str, trust: str) -> str:
    """The example of a model that no pipeline of transformers can call, on a sequence of a length that it takes."""
    known = find_configuration(config["model_type"]).from_dict(dict(config))
    sequence = f'"ACGT" * {known.length_multiple}'
    options, note = "", "  # .logits: of each base and feature, absent and present"
    if config["model_type"] == "ntv3_posttrained":
        name = next(iter(known.species_to_token_id))
        options = f", species_ids=torch.tensor(model.config.encode_species([{format_literal(name)}]))"
        note = "  # .bigwig_tracks_logits, .bed_tracks_logits: of the bases in the middle"
    return "\n".join(
        [
            "import torch",
            f"from transformers import {auto_class}, AutoTokenizer",
            "",
            f"tokenizer = AutoTokenizer.from_pretrained({repository}, trust_remote_code=False)",
            f"model = {auto_class}.from_pretrained({repository}{trust}).eval()",
            f'inputs = tokenizer({sequence}, return_tensors="pt")',
            "with torch.no_grad():",
            f"    outputs = model(**inputs{options}){note}",
        ]
    )


def _explain_usage(repo_id: str, adapter: bool, carries_code: bool) -> str:
    if not adapter and not carries_code:
        return "transformers alone is enough."
    owner = "its base's repository, if there are any" if adapter else "this repository"
    usage = (
        "With `gengram` installed, `import gengram` before this and leave `trust_remote_code` out; without it, "
        f"transformers runs the code files of {owner}."
    )
    if adapter:
        return usage
    call = format_code(f"AutoTokenizer.from_pretrained({format_literal(repo_id)}, trust_remote_code=False)")
    return f"{usage} The tokenizer needs no code: {call} loads it, and does not ask whether to run any."


def _list_classes(classes: list[str]) -> str:
    listed = ", ".join(f"{label} {format_code(name)}" for label, name in enumerate(classes[:_MOST_CLASSES]))
    more = len(classes) - _MOST_CLASSES
    return f"{listed} and {more} more" if more > 0 else listed


def _tabulate_data(report: dict[str, Any] | None) -> str:
    """A row for each split; with rows of each class where the classes are few."""
    splits = {name: (report or {}).get("data", {}).get(name) for name in ("train", "validation", "test")}
    classes = list((splits["train"] or {}).get("rows_per_class") or {})
    classes = classes if len(classes) <= _MOST_COLUMNS else []
    rows = [
        [
            name,
            escape_text(Path(str(split["file"])).name),
            format_code(str(split["sha256"])[:_HASH_DIGITS]),
            *(escape_text(count) for count in _count_rows(split, classes)),
        ]
        for name, split in splits.items()
        if split
    ]
    head = ["split", "file", "SHA-256", "rows", *map(format_code, classes)]
    return format_table(head, rows, numbers=range(3, len(head))) if rows else ""


def _count_rows(split: dict[str, Any], classes: list[str]) -> list[Any]:
    counted = split.get("rows_per_class") or {}
    return [split["rows"], *(counted.get(name, "") for name in classes)]


def _tabulate_classes(report: dict[str, Any] | None, kind: str) -> str:
    """The test metrics of each class, means over seeds."""
    measured = ((report or {}).get("per_class") or {}).get("test") or {}
    names = list(next(iter(measured.values()), {}))
    if not 1 < len(names) <= _MOST_CLASSES:
        return ""
    rows = [[format_code(name), *(_show(values[name]) for values in measured.values())] for name in names]
    return format_table([kind, *map(escape_text, measured)], rows, numbers=range(1, 1 + len(measured)))


def _describe_protocol(report: dict[str, Any] | None) -> list[str]:
    if report is None:
        return []
    data, training, search = report["arguments"]["data"], find_training(report), report.get("search")
    if data.get("validation_file"):
        validation = "a file of its own"
    elif chromosomes := data.get("validation_chromosomes"):
        validation = f"the rows of {escape_text(', '.join(map(str, chromosomes)))}"
    elif report["data"].get("validation"):
        likes = "its copies and its reverse complement"
        if data.get("group_similarity", 1) < 1:
            likes = "its copies, its reverse complement and near-duplicates of both"
        validation = (
            f"{data['validation_fraction']:.0%} of the distinct training sequences, drawn with seed "
            f"{escape_text(data['split_seed'])}; a sequence, {likes} are on one side"
        )
    else:
        validation = "none"
    new = report["model"]["new_weights"]
    return [
        f"Optimizer {escape_text(training['optim'])}, learning rate {training['learning_rate']:g} "
        f"({escape_text(training['lr_scheduler_type'])}), weight decay {training['weight_decay']:g}, "
        f"{escape_text(training['sequences_per_step'])} sequences a step, "
        f"{training['num_train_epochs']:g} passes over the rows"
        + (f", at most {training['max_steps']} steps." if training.get("max_steps", -1) > 0 else "."),
        *(
            [
                f"{escape_text(', '.join(search['settings']))}: the best of {len(search['trials'])} trials by the "
                f"validation {escape_text(search['metric'])}."
            ]
            if search
            else []
        ),
        f"Validation rows: {validation}.",
        "Weights that no checkpoint gave: "
        + (escape_text(new) if isinstance(new, str) else f"{len(new)} tensors")
        + ".",
        f"Seeds: {escape_text(', '.join(map(str, report['seeds'])))}.",
        "The test rows were measured once, after training."
        if report.get("test")
        else "There were no test rows: validation figures only, which the choice of the seed makes too good.",
    ]


def _tabulate_results(report: dict[str, Any] | None, seed: int | None) -> list[dict[str, str]]:
    if report is None or seed is None:
        return []
    position = report["seeds"].index(seed)
    rows = []
    for split in ("test", "validation"):
        for metric, measured in (report.get(split) or {}).items():
            if not isinstance(measured, dict) or "per_seed" not in measured:
                continue
            interval = _find_interval(report, split, metric, position)
            rows.append(
                {
                    "split": split,
                    "metric": metric,
                    "own": _show(measured["per_seed"][position]),
                    "mean": _show(measured["mean"]),
                    "sd": _show(measured["sd"]),
                    "interval": " to ".join(_show(end) for end in interval) if interval else "",
                    "per_seed": ", ".join(_show(value) for value in measured["per_seed"]),
                    **{
                        heading: _show((report["baselines"][name].get(split) or {}).get(metric))
                        for name, heading in list_baselines(report).items()
                    },
                }
            )
    return rows


def _draw_results(results: list[dict[str, str]]) -> str:
    if not results:
        return ""
    head = ["split", "metric", "these weights", "mean", "sd"]
    intervals = ["interval"] if any(row["interval"] for row in results) else []
    beside = [name for name in results[0] if name not in _COLUMNS]
    rows = [
        [
            row["split"],
            escape_text(row["metric"]),
            *(row[name] for name in ("own", "mean", "sd", *intervals, *beside, "per_seed")),
        ]
        for row in results
    ]
    head += [*(["95 % interval"] if intervals else []), *beside, "each seed"]
    figures = [2, 3, 4, *range(len(head) - 1 - len(beside), len(head) - 1)]
    return format_table(head, rows, numbers=figures)


def _find_interval(report: dict[str, Any], split: str, metric: str, position: int) -> list[float] | None:
    if split != "test" or not report.get("intervals"):
        return None
    measured = report["intervals"]["metrics"].get(metric)
    return measured["per_seed"][position] if measured else None


def _explain_results(report: dict[str, Any] | None, choice: str) -> str:
    if report is None:
        return ""
    seeds = len(report["seeds"])
    spread = "mean and sd (n - 1) are over the seeds" if seeds > 1 else "one seed was run, so there is no spread"
    loss = "mean squared error" if report["data"].get("problem") == "regression" else "cross-entropy in nats"
    drawn = report.get("intervals") or {}
    interval = f" The interval is that of these weights over {drawn['resamples']:,} resamples of rows." if drawn else ""
    shown = f"*These weights* are those of the published seed; {spread}.{interval} `loss` is the {loss}."
    if baselines := list_baselines(report):
        named = [f"{heading}, {report['baselines'][name].get('title', name)}" for name, heading in baselines.items()]
        shown += f" Simple models on the same rows: {escape_text('; '.join(named))}."
    for line in (report.get("verdict") or {}).get("lines", []):
        shown += f" **{escape_text(line)}**"
    return f"{shown} {escape_text(choice)}".rstrip()


def _list_results(report: dict[str, Any] | None, seed: int | None, tag: str, dataset: str | None) -> list[EvalResult]:
    """The published seed's figures as `model-index` has them: on the test rows, without them on the validation rows."""
    if report is None or seed is None:
        return []
    split = "test" if report.get("test") else "validation"
    # As the Hub's library writes YAML, letters such as NEL are lost: names are escaped as in text.
    file = make_printable(Path(str((report["data"].get(split) or {}).get("file", split))).name)
    position = report["seeds"].index(seed)
    is_mse = report["data"].get("problem") == "regression"
    results = []
    for metric, measured in (report.get(split) or {}).items():
        if not isinstance(measured, dict) or "per_seed" not in measured:
            continue
        value, name = measured["per_seed"][position], make_printable(metric)
        if value is not None:
            results.append(
                EvalResult(
                    task_type=tag,
                    dataset_type=dataset or file,
                    dataset_name=dataset or file,
                    dataset_split=split,
                    metric_type="mse" if is_mse and metric == "loss" else METRIC_TYPES.get(name, name),
                    metric_name=name,
                    metric_value=value,
                )
            )
    return results


def _list_limits(tokenizer: PreTrainedTokenizerBase, report: dict[str, Any] | None) -> list[str]:
    tokens = tokenizer.model_max_length
    special = tokenizer.num_special_tokens_to_add()
    measured = measure_tokens(tokenizer)
    if tokens > 10**9:
        length = "The tokenizer states no longest input."
    elif measured is None:
        length = f"Longest input: {tokens:,} tokens ({special} of them special); a token is more than one base."
    else:
        bases, step = measured
        longest = max(tokens - special - 1, 0) * step + bases
        length = f"Longest input: {tokens:,} tokens ({special} of them special), that is {longest:,} bp."
    limits = [length]
    trained = (report or {}).get("data", {}).get("max_length")
    if trained and trained < tokens:
        limits.append(f"In training, inputs were at most {trained:,} tokens long.")
    limits.append(f"Letters: {describe_alphabet(tokenizer)}.")
    if report is not None:
        limits.append("Trained and measured on the data above only; other species, assays or lengths were not tried.")
    return limits


def describe_alphabet(tokenizer: PreTrainedTokenizerBase) -> str:
    """Say what a tokenizer makes of lower case, U, N and the other IUPAC codes, by trying it."""
    unknown = tokenizer.unk_token_id
    around = "ACGTTGCAAGGCCTTAGACTCATG"  # A letter alone may be shorter than a token.
    upper, lower = _read(tokenizer, around), _read(tokenizer, around.lower())
    parts = ["lower case is read as upper case" if lower == upper else "lower case is not read as upper case"]
    for letter, name, alike in (("U", "`U`", "T"), ("N", "`N`", None), ("R", "other IUPAC codes", "N")):
        ids = _read(tokenizer, around + letter + around)
        if alike is not None and ids == _read(tokenizer, around + alike + around):
            parts.append(f"{name} as `{alike}`")
        elif unknown in ids:
            parts.append(f"{name} as unknown")
        else:
            parts.append(f"{name} as a token of its own")
    return ", ".join(parts)


def _read(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def _describe_code(carries_code: bool) -> str:
    return (
        f"the `.py` files here are part of gengram, {CODE_LICENSE}; the licence of the weights does not apply to them."
        if carries_code
        else "this repository carries none."
    )


def _list_versions(report: dict[str, Any] | None) -> str:
    if report is None:
        return f"gengram {__version__}, transformers {transformers.__version__} (when the card was written)."
    made = ("gengram", "transformers", "torch")
    return ", ".join(f"{name} {escape_text(report[f'{name}_version'])}" for name in made) + "."


def _show(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


__all__ = [
    "CODE_LICENSE",
    "check_license",
    "count_parameters",
    "describe_alphabet",
    "find_main_metric",
    "find_task",
    "render_card",
    "render_results",
]
