"""The verb that trains: finetune."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_type_hints

from gengram.command_line import Answer, VerbParser, complain, run
from gengram.errors import InputError
from gengram.phases import recording
from gengram.training.recipe import list_recipes, read_recipe

_EXAMPLE = """\
gengram finetune --train_file train.csv --test_file test.csv --out runs/splice --seeds 0 1 2 \\
    --backbone llama --memory '{"memory_layers": [0, 1], "memory_dim": 64}' --num_train_epochs 8 --backbone_config \\
    '{"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}'
gengram finetune --train_file peaks.bed --genome hg38.fa.gz --backbone modernbert --out runs/peaks
gengram finetune recipe.yaml --seeds 0 1 2     the same names as keys of a YAML file; flags win
gengram finetune gue --dataset GUE/tf_3 --model MODEL      published hyper-parameters, see below
gengram finetune --train_file train.csv --model MODEL --plan     what it would take; nothing is trained"""
_NOTES = """\
The tables need a column of sequences (sequence, seq, dna) and one or more of labels (label, label_...): classes,
several labels, numbers, or a class for each base. Results go to OUT/report.json, models to OUT/seed-0, OUT/seed-1, ...
Flags of transformers' TrainingArguments are flags here.

recipes that come with the package (the comment at the top of each says where its numbers are from):
"""


def finetune(argv: Sequence[str] | None = None) -> int:
    """Run `gengram finetune`; returns the exit code."""
    with recording():  # The arguments take imports.
        return _run(argv)


def _run(argv: Sequence[str] | None) -> int:
    try:
        parser, model, data, training, common = _parse(argv)
    except InputError as error:  # of a recipe
        return complain("gengram finetune", str(error))

    common.overwrite = training.overwrite

    def work(overwrite: bool, plan: bool) -> Answer | None:
        import torch

        if plan:
            from gengram.training.plan import plan_finetune, tabulate_plan

            planned = plan_finetune(model, data, training)
            return None if training.process_index else Answer(tabulate_plan(planned), planned)

        from gengram.training.finetune import finetune
        from gengram.training.reports.report import tabulate

        try:
            report = finetune(model, data, training)
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"the device has not enough memory ({error}). Lower --per_device_train_batch_size (with "
                "--sequences_per_step, the steps stay the same), or use --bf16."
            ) from error
        if training.process_index:
            return None
        lines = [tabulate(report), str(Path(training.output_dir, "report.json"))]
        lines += [report["commit"]] if "commit" in report else []
        return Answer("\n".join(lines), {"out": str(training.output_dir), **report})

    return run(parser, common, work)


def parse_arguments(argv: Sequence[str] | None = None) -> tuple[Any, Any, Any]:
    """Return `ModelArguments`, `DataArguments` and `FinetuneArguments` of a command line.

    It has flags, or a recipe as the first argument (a YAML file, or one of the package by name) and flags over it.

    Raises:
        `InputError`: a recipe that there is not, that cannot be read or has unknown keys.
        `SystemExit`: code 2, with a message: unknown flags, or values that do not fit.
    """
    _, model, data, training, _ = _parse(argv)
    return model, data, training


def _parse(argv: Sequence[str] | None) -> tuple[Any, Any, Any, Any, Any]:
    """The parser, the three groups of arguments, and what every verb understands."""
    import sys

    from transformers import HfArgumentParser

    from gengram.training.arguments import DataArguments, FinetuneArguments, ModelArguments

    class FinetuneParser(VerbParser, HfArgumentParser):
        """Both: a verb's habits, and flags from dataclasses."""

    groups: list[Any] = [ModelArguments, DataArguments, FinetuneArguments]
    fields = [entry.name for group in groups for entry in dataclasses.fields(group) if entry.init]
    hints = {name: str(kind) for group in groups for name, kind in get_type_hints(group).items()}
    parser: Any = FinetuneParser(
        "finetune",
        usage="[RECIPE] [--train_file FILE --model MODEL ...]",
        description="Train a model on labelled DNA, once for each seed, and report how good it is.",
        example=_EXAMPLE,
        notes=_NOTES + "\n".join(f"  {name:<34}{title}" for name, title in list_recipes().items()),
        dataclass_types=groups,
    )
    parser.add_argument_group("before it starts").add_argument(
        "--plan",
        action="store_true",
        help="train nothing: read rows and configuration, and say how many steps and parameters there are, how much "
        "memory, time and disk the run takes, and whether it fits",
    )
    _split_group(parser, "training", set(FinetuneArguments.__annotations__), "transformers' TrainingArguments")
    parser.add_common()
    words = list(sys.argv[1:] if argv is None else argv)
    if words and not words[0].startswith("-"):
        parser.set_defaults(**read_recipe(words[0], parser, {name: "dict" in hints[name] for name in fields}))
        words = words[1:]
    try:
        model, data, training, common, unknown = parser.parse_args_into_dataclasses(
            words, return_remaining_strings=True, look_for_args_file=False
        )
    except ValueError as error:
        parser.error(str(error))
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return parser, model, data, training, common


def _split_group(parser: Any, title: str, first: set[str], rest: str) -> None:
    """Show some arguments of a group first, and the others as a group of their own."""
    group = next(group for group in parser._action_groups if group.title == title)
    others = [action for action in group._group_actions if action.dest not in first]
    group._group_actions = [action for action in group._group_actions if action.dest in first]
    parser.add_argument_group(rest)._group_actions.extend(others)


__all__ = ["finetune", "parse_arguments"]
