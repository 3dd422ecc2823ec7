"""`pretraining.json`: what a model has read and learned, and everything that is needed to do it again."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedConfig

from gengram._version import __version__
from gengram.files import hash_file
from gengram.markdown import escape_text, format_table
from gengram.training.corpus.store import Corpus
from gengram.training.evaluation.references import list_references
from gengram.training.pretraining.arguments import PretrainModelArguments
from gengram.training.pretraining.set_up import Preparation
from gengram.training.pretraining.stages import Stage
from gengram.training.pretraining.trainer_arguments import PretrainArguments
from gengram.training.resume import identify_checkpoint

VERSIONS = {
    "gengram_version": __version__,
    "transformers_version": transformers.__version__,
    "torch_version": torch.__version__,
}
# Arguments that change what comes out, beside those of stages.
_OF_RESULT = (
    "seed",
    "optim",
    "optim_args",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "bf16",
    "fp16",
    "gradient_checkpointing",
    "torch_compile",
    "neftune_noise_alpha",
    "use_liger_kernel",
    "full_determinism",
)


def describe_what(
    model: PretrainModelArguments,
    config: PreTrainedConfig,
    corpus: Corpus,
    stages: list[Stage],
    training: PretrainArguments,
) -> dict[str, Any]:
    """Return what a run is: what `pretraining.json` begins with, and what must not change when it is resumed."""
    return {
        **VERSIONS,
        "model": {
            **dataclasses.asdict(model),
            "model_type": config.model_type,
            "backbone": config.get_text_config().model_type,
            "checkpoint": identify_checkpoint(model.model_name_or_path, config),
        },
        "corpus": _describe_corpus(corpus),
        "stages": [stage.describe() for stage in stages],
        "arguments": {name: _to_plain(getattr(training, name)) for name in _OF_RESULT},
    }


def describe_run(
    run: dict[str, Any],
    ready: Preparation,
    log: list[dict[str, Any]],
    references: dict[str, Any] | None,
    parameters: int,
    seconds: float,
) -> dict[str, Any]:
    """Return the report of a finished run.

    Args:
        run: of `describe_what`.
        ready: the run.
        log: lines of `log.jsonl`.
        references: of `measure_simple`.
        parameters: of the model.
        seconds: that the training took, interruptions left out.

    Returns:
        What `describe_what` says; `parameters` and `memory_layers` of the model; `results`, for each stage `tokens` and
        `bases` that were read so far, `loss` and `bits_per_base` of its last line, and `evaluation`, the last one (None
        where nothing is held out); `tokens`, `bases`, `seconds` and `evaluation` of the whole run, and `references`.
    """
    results = []
    for stage in run["stages"]:
        lines = [line for line in log if line["stage"] == stage["stage"]]
        losses = [line for line in lines if "loss" in line]
        measured = [line for line in lines if any(name.startswith("eval_") for name in line)]
        last = losses[-1] if losses else {}
        results.append(
            {
                "stage": stage["stage"],
                **{name: (lines[-1] if lines else {}).get(name) for name in ("tokens", "bases")},
                "loss": last.get("loss"),
                "bits_per_base": last.get("bits_per_base"),
                "evaluation": _take_metrics(measured[-1]) if measured else None,
            }
        )
    return {
        **run,
        "parameters": parameters,
        "memory_layers": list(getattr(ready.configs[-1], "memory_layers", None) or []),
        "results": results,
        "tokens": results[-1]["tokens"],
        "bases": results[-1]["bases"],
        "seconds": round(seconds, 3),
        "evaluation": results[-1]["evaluation"],
        "references": references,
    }


def write_markdown(report: dict[str, Any]) -> str:
    """Return the report for people."""
    corpus = report["corpus"]
    model = report["model"]
    memory = ", with a motif memory" if report["memory_layers"] else ""
    summary = (
        f"{report['parameters']:,} parameters ({escape_text(model['backbone'])}{memory}), objective "
        f"{escape_text(model['objective'])}, corpus {escape_text(corpus['name'])}: {report['tokens']:,} tokens, "
        f"{report['bases']:,} bases in {report['seconds']:,.0f} s."
    )
    rows = [
        [
            str(stage["stage"]),
            f"{stage['steps']:,}",
            f"{stage['block_size']:,}",
            f"{stage['tokens']:,}",
            f"{stage['learning_rate']:g}",
            _show(result["loss"]),
            _show(result["bits_per_base"]),
        ]
        for stage, result in zip(report["stages"], report["results"])
    ]
    head = ["stage", "steps", "block", "tokens", "learning rate", "loss", "bits a base"]
    parts = ["# Pre-training", summary, format_table(head, rows, range(len(head)))]
    if report["evaluation"]:
        metrics = [
            [escape_text(name), _show(value)] for name, value in report["evaluation"].items() if _is_number(value)
        ]
        parts.append(format_table(["held-out contigs", ""], metrics, [1]))
    if report["references"]:
        rows = [[name, _show(value)] for name, value in list_references(report["references"])]
        parts.append(format_table(["of the same bases", "bits a base"], rows, [1]))
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def tabulate(report: dict[str, Any]) -> str:
    """Return what the command answers."""
    lines = [
        f"{report['parameters']:,} parameters, {report['tokens']:,} tokens, {report['bases']:,} bases, "
        f"{report['seconds']:,.0f} s"
    ]
    for stage, result in zip(report["stages"], report["results"]):
        bits = "" if result["bits_per_base"] is None else f", {result['bits_per_base']:.4f} bits a base"
        lines.append(f"stage {stage['stage']}: {stage['steps']:,} steps, loss {_show(result['loss'])}{bits}")
    for name, value in (report["evaluation"] or {}).items():
        if _is_number(value):
            lines.append(f"{name} {_show(value)}")
    lines += [f"{name}: {_show(value)} bits a base" for name, value in list_references(report["references"] or {})]
    return "\n".join(lines)


def _describe_corpus(corpus: Corpus) -> dict[str, Any]:
    """Name and checksum of a corpus (its `corpus.json` has those of all its files), and which contigs it has."""
    facts = corpus.facts
    contigs: dict[str, dict[str, list[str]]] = {}
    for contig in corpus.contigs:
        contigs.setdefault(str(contig.species), {}).setdefault(str(contig.split), []).append(str(contig.record))
    return {
        "name": facts.get("name"),
        "sha256": hash_file(Path(corpus.folder) / "corpus.json"),
        "licence": facts.get("licence"),
        "contigs": contigs,
        "held_out": facts.get("held_out") or [],
        "left_out": facts.get("left_out") or [],
    }


def _take_metrics(line: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix("eval_"): value for name, value in line.items() if name.startswith("eval_")}


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)


def _show(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else f"{value:,}"


def _to_plain(value: Any) -> Any:
    return json.loads(json.dumps(getattr(value, "value", value), default=str))


__all__ = ["VERSIONS", "describe_run", "describe_what", "tabulate", "write_markdown"]
