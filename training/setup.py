"""Can the training begin? What is checked of Trainer's arguments once there are rows and a model, before any step."""

import copy
from typing import Any

import torch
from transformers import Trainer, TrainingArguments, get_scheduler

from gengram.errors import InputError, suggest
from gengram.loading.faults import tell_faults
from gengram.training.arguments import FinetuneArguments
from gengram.training.data.inputs import LabelledSplits
from gengram.training.problems import METRICS

FOLLOW_A_METRIC = ("reduce_lr_on_plateau", "greedy")  # learning rates
_NAME_LAYERS = ("galore", "apollo")  # optimizers that read optim_target_modules
_DRY_STEPS = 100  # A schedule is tried with as many, where epochs decide.


def check_rows(arguments: FinetuneArguments, data: LabelledSplits) -> None:
    """Refuse arguments that need rows which there are not, or a metric that the problem does not have.

    Raises:
        `InputError`: naming the argument and what it needs.
    """
    if "validation" not in data.splits:
        _refuse_without_validation(arguments)
    if arguments.metric_for_best_model is None:
        return
    known = METRICS[data.problem]
    metric = str(arguments.metric_for_best_model).removeprefix("eval_")
    if metric not in known:
        raise InputError(f"metric_for_best_model={metric!r}: choose {', '.join(known)}{suggest(metric, list(known))}")
    if arguments.greater_is_better is not None and arguments.greater_is_better != (metric != "loss"):
        better = "lower" if metric == "loss" else "higher"
        raise InputError(
            f"greater_is_better={arguments.greater_is_better}: a {better} {metric} is the better one, and the worst "
            "checkpoint would be kept; leave it out"
        )


def _refuse_without_validation(arguments: FinetuneArguments) -> None:
    rows = "validation rows: give a validation_file or a validation_fraction"
    if arguments.load_best_model_at_end:
        raise InputError(f"load_best_model_at_end and early stopping need {rows}")
    if arguments.search:
        raise InputError(f"search chooses by validation and never by the test rows: it needs {rows}")
    if arguments.lr_scheduler_type in FOLLOW_A_METRIC:
        raise InputError(f"lr_scheduler_type={_name(arguments.lr_scheduler_type)} needs {rows}")
    if arguments.save_strategy == "best":
        raise InputError(f"save_strategy=best needs {rows}")
    if arguments.eval_strategy == "steps":  # "epoch" is the default, which nobody may have asked for.
        raise InputError(f"eval_strategy=steps needs {rows}")
    if arguments.eval_on_start:
        raise InputError(f"eval_on_start needs {rows}")


def check_optimizer(arguments: TrainingArguments, model: Any) -> None:
    """Make the optimizer and the schedule once for a single number, so that they do not fail after the rows are read.

    Raises:
        `InputError`: a package that the optimizer needs, options that it does not read or take, a schedule without
            what it needs.
    """
    optim = _name(arguments.optim)
    if arguments.optim_target_modules is not None and not optim.startswith(_NAME_LAYERS):
        raise InputError(
            f"optim_target_modules is read by the optimizers of GaLore and APOLLO only, not by optim={optim}"
        )
    pairs = [pair for pair in (arguments.optim_args or "").replace(" ", "").split(",") if pair]
    for pair in pairs:
        if pair.count("=") != 1:
            raise InputError(f"optim_args={arguments.optim_args!r}: {pair!r} is no name=value; divide them by commas")
    number = [torch.nn.Parameter(torch.zeros(1))]
    with tell_faults(f"optim={optim} cannot be used with these arguments"):
        kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
        if not {"model", "params", "optimizer_dict"} & set(options):
            kind(number, **options)
    for index, pair in enumerate(pairs):
        others = copy.copy(arguments)
        others.optim_args = ",".join([*pairs[:index], *pairs[index + 1 :]])
        with tell_faults(f"optim_args={arguments.optim_args!r}"):
            without = Trainer.get_optimizer_cls_and_kwargs(others, model)[1]
        if without == options:
            raise InputError(f"optim_args: {pair!r} is not read by optim={optim}, or is its default; leave it out")
    check_schedule(arguments)


def check_schedule(arguments: TrainingArguments) -> None:
    """Make the schedule of the learning rate once, as a run does.

    Raises:
        `InputError`: there is none of this name, or it does not take these options or lacks one.
    """
    number = [torch.nn.Parameter(torch.zeros(1))]
    steps = arguments.max_steps if arguments.max_steps > 0 else _DRY_STEPS
    schedule, keywords = _name(arguments.lr_scheduler_type), arguments.lr_scheduler_kwargs or {}
    assert isinstance(keywords, dict)  # since it is read
    with tell_faults(f"lr_scheduler_type={schedule} with lr_scheduler_kwargs={keywords}"):
        get_scheduler(
            arguments.lr_scheduler_type,
            torch.optim.SGD(number, lr=1.0 if arguments.learning_rate is None else arguments.learning_rate),
            num_warmup_steps=arguments.get_warmup_steps(steps),
            num_training_steps=steps,
            scheduler_specific_kwargs=dict(keywords),
        )


def _name(choice: Any) -> str:
    """The text of one of transformers' enumerations."""
    return str(getattr(choice, "value", choice))


__all__ = ["FOLLOW_A_METRIC", "check_optimizer", "check_rows", "check_schedule"]
