"""The verb that pre-trains."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

from gengram.command_line import Answer, VerbParser, complain, run
from gengram.errors import InputError
from gengram.phases import recording
from gengram.training.recipe import RECIPES, list_recipes, read_recipe

PRETRAINING_RECIPES = RECIPES / "pretraining"
"""Settings for models from scratch; the comment at the top of each says whose, and how it is used."""

STOPPED = 75
"""Exit code of a run that a limit has stopped: the same command with --resume_from_checkpoint goes on (EX_TEMPFAIL)."""

_EXAMPLE = """\
gengram pretrain gengram-small --corpus corpora/human --out runs/small
gengram pretrain gengram-small --corpus corpora/human --out runs/plain --without_memory --seed 1
gengram pretrain recipe.yaml --corpus corpora/human --out runs/small --resume_from_checkpoint
gengram pretrain --corpus corpora/human --out runs/mine --steps 1000 --block_size 512 --config \\
    '{"model_type": "llama", "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4,
      "num_attention_heads": 4}' --memory '{"memory_layers": [1], "memory_dim": 64}'
gengram pretrain gengram-small --corpus corpora/human --out runs/small --max_hours 11.5 --bf16
gengram pretrain gengram-small --corpus corpora/human --out runs/small --plan --gpu H100 --gpus 8
gengram pretrain gengram-small --corpus corpora/human --out runs/small --slurm job.sh --gpus 8 --sharding fsdp2"""
_NOTES = """\
The corpus is a folder of `gengram corpus build`. The model goes to OUT, what it has read to OUT/pretraining.json,
losses and evaluations to OUT/log.jsonl. Keys of a recipe are the names of the flags; flags win. Flags of transformers'
TrainingArguments are flags here.
A run that --max_hours or SIGTERM has stopped ends with exit code 75 and a checkpoint.

recipes that come with the package (the comment at the top of each says where its numbers are from):
"""


def pretrain(argv: Sequence[str] | None = None) -> int:
    """Run `gengram pretrain`; returns the exit code."""
    with recording():  # The arguments take imports.
        return _run(argv)


def _run(argv: Sequence[str] | None) -> int:
    try:
        parser, model, corpus, training, asked, common = _parse(argv)
    except InputError as error:  # of a recipe
        return complain("gengram pretrain", str(error))

    common.overwrite = training.overwrite
    stopped: list[dict[str, Any]] = []

    def work(overwrite: bool) -> Answer | None:
        import torch

        if asked.plan or asked.slurm is not None:
            return None if training.process_index else _answer(argv, model, corpus, training, asked)

        from gengram.training.pretraining.pretrain import pretrain
        from gengram.training.pretraining.report import tabulate

        try:
            report = pretrain(model, corpus, training)
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"the device has not enough memory ({error}). Lower --per_device_train_batch_size (the steps stay the "
                "same), or use --bf16 and --gradient_checkpointing."
            ) from error
        if "stopped" in report:
            stopped.append(report)
        if training.process_index:
            return None
        text = report["stopped"]["message"] if stopped else f"{tabulate(report)}\n{Path(training.output_dir)}"
        text += f"\n{report['commit']}" if "commit" in report else ""
        return Answer(text, {"out": str(training.output_dir), **report})

    code = run(parser, common, work)
    return STOPPED if code == 0 and stopped else code


def _answer(argv: Sequence[str] | None, model: Any, corpus: Any, training: Any, asked: Any) -> Answer:
    """The plan of a run, or its job."""
    from gengram.training.pretraining.plan_run import answer_plan, make_job, plan_run

    if asked.slurm is not None:
        if asked.plan:
            raise InputError("--plan and --slurm both train nothing: give one of the two")
        return make_job(sys.argv[1:] if argv is None else argv, training, asked)
    return answer_plan(plan_run(model, corpus, training, asked))


def parse_arguments(argv: Sequence[str] | None = None) -> tuple[Any, Any, Any]:
    """Return `PretrainModelArguments`, `CorpusArguments` and `PretrainArguments` of a command line.

    It has flags, or a recipe as the first argument (a YAML file, or one of the package by name) and flags over it.

    Raises:
        `InputError`: a recipe that there is not, that cannot be read or has unknown keys.
        `SystemExit`: code 2, with a message: unknown flags, or values that do not fit.
    """
    _, model, corpus, training, _, _ = _parse(argv)
    return model, corpus, training


def _parse(argv: Sequence[str] | None) -> tuple[Any, Any, Any, Any, Any, Any]:
    """The parser, the three groups of arguments, those about the plan, and what every verb understands."""
    from gengram.training.pretraining.arguments import CorpusArguments, PretrainModelArguments, TrainingOptions
    from gengram.training.pretraining.plan_arguments import PlanArguments

    words = list(sys.argv[1:] if argv is None else argv)
    if {"-h", "--help"} & set(words):  # without transformers, whose own flags the notes name
        parser: Any = VerbParser(**_describe())
        for kind in (PretrainModelArguments, CorpusArguments, TrainingOptions, PlanArguments):
            _show_fields(parser.add_argument_group(kind._argument_group_name), kind)
        parser.add_common()
        parser.parse_args(["--help"])

    from transformers import HfArgumentParser

    from gengram.training.pretraining.stages import KEYS
    from gengram.training.pretraining.trainer_arguments import PretrainArguments

    groups = [PretrainModelArguments, CorpusArguments, PretrainArguments]

    class PretrainParser(VerbParser, HfArgumentParser):
        """Both: a verb's habits, and flags from dataclasses."""

    parser = PretrainParser(**_describe(), dataclass_types=[*groups, PlanArguments])
    parser.add_common()
    hints = {name: str(kind) for group in groups for name, kind in get_type_hints(group).items()}
    fields = {entry.name: "dict" in hints[entry.name] for group in groups for entry in dataclasses.fields(group)}
    if words and not words[0].startswith("-"):
        recipe = read_recipe(words[0], parser, fields, folder=PRETRAINING_RECIPES, keys={"stages": KEYS})
        parser.set_defaults(**recipe)
        words = words[1:]
    if {"--plan", "--slurm"} & {word.partition("=")[0] for word in words} and "--use_cpu" not in words:
        words += _plan_without_gpu()
    try:
        model, corpus, training, asked, common, unknown = parser.parse_args_into_dataclasses(
            words, return_remaining_strings=True, look_for_args_file=False
        )
    except ValueError as error:
        parser.error(str(error))
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return parser, model, corpus, training, asked, common


def _plan_without_gpu() -> list[str]:
    """What lets --bf16 be planned on a machine that has no GPU."""
    import torch

    return [] if torch.accelerator.is_available() else ["--use_cpu"]


def _describe() -> dict[str, Any]:
    recipes = list_recipes(PRETRAINING_RECIPES)
    return {
        "verb": "pretrain",
        "usage": "[RECIPE] --corpus DIR --out OUT [--steps STEPS ...]",
        "description": "Train a language model from scratch, or go on with one, on genomes.",
        "example": _EXAMPLE,
        "notes": _NOTES + "\n".join(f"  {name:<33}{title}" for name, title in recipes.items()),
    }


def _show_fields(group: Any, kind: Any) -> None:
    """Declare the fields of a dataclass as flags, to be shown."""
    for entry in dataclasses.fields(kind):
        options = dict(entry.metadata)
        flags = [f"--{entry.name}", *options.pop("aliases", [])]
        if isinstance(entry.default, bool):
            group.add_argument(*flags, action="store_true", default=entry.default, help=options["help"])
        else:
            choices = options.pop("choices", None) or (get_args(get_type_hints(kind)[entry.name]) or None)
            words = choices if choices and all(isinstance(one, str) for one in choices) else None
            group.add_argument(*flags, default=entry.default, choices=words, **options)


__all__ = ["PRETRAINING_RECIPES", "STOPPED", "parse_arguments", "pretrain"]
