"""Which of Trainer's arguments have no place in a run here, and which values of the others make no sense?

`TrainingArguments` takes most values as they come: a negative number of epochs trains nothing, a step size of NaN fails
after hours, an argument that this package's batches or metrics never read changes nothing. A run says so before it
loads anything. `docs/training_arguments.md` has every argument; what depends on the data is checked in
`gengram.training.setup`.
"""

import dataclasses
import math
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from transformers import TrainingArguments
from transformers.integrations.deepspeed import is_deepspeed_available
from transformers.trainer_pt_utils import AcceleratorConfig
from transformers.utils import is_liger_kernel_available


class _Range(NamedTuple):
    holds: Callable[[Any], bool]
    remedy: str


def _is_steps(value: float) -> bool:
    return 0 < value < 1 or (value >= 1 and value == int(value) if math.isfinite(value) else False)


_STEPS = _Range(_is_steps, "give a whole number of steps, or below 1 their share of all steps")
_COUNT = _Range(lambda value: value >= 1, "give 1 or more")
_POSITIVE = _Range(lambda value: 0 < value < math.inf, "give a number above 0")
_NOT_NEGATIVE = _Range(lambda value: 0 <= value < math.inf, "give a number of at least 0")
_SHARE = _Range(lambda value: 0 <= value < 1, "give a number of at least 0, below 1")
_SEED = _Range(lambda value: 0 <= value < 2**32, "give a whole number of at least 0, below 2^32")

_RANGES: dict[str, _Range] = {
    "num_train_epochs": _POSITIVE,
    "max_steps": _Range(lambda value: value == -1 or value >= 1, "give 1 or more; -1: num_train_epochs decides"),
    "per_device_train_batch_size": _COUNT,
    "per_device_eval_batch_size": _COUNT,
    "gradient_accumulation_steps": _COUNT,
    "learning_rate": _NOT_NEGATIVE,
    "warmup_steps": _NOT_NEGATIVE,
    "weight_decay": _NOT_NEGATIVE,
    "adam_beta1": _SHARE,
    "adam_beta2": _SHARE,
    "adam_epsilon": _POSITIVE,
    "max_grad_norm": _Range(_NOT_NEGATIVE.holds, "give a number of at least 0; 0: gradients are not clipped"),
    "label_smoothing_factor": _SHARE,
    "neftune_noise_alpha": _NOT_NEGATIVE,
    "torch_empty_cache_steps": _COUNT,
    "logging_steps": _STEPS,
    "eval_steps": _STEPS,
    "save_steps": _STEPS,
    "eval_delay": _NOT_NEGATIVE,
    "eval_accumulation_steps": _COUNT,
    "save_total_limit": _Range(_COUNT.holds, "give 1 or more checkpoints; left out, all are kept"),
    "seed": _SEED,
    "data_seed": _SEED,
    "dataloader_num_workers": _Range(lambda value: value >= 0, "give 0 or more"),
    "dataloader_prefetch_factor": _COUNT,
    "ddp_bucket_cap_mb": _COUNT,
    "ddp_timeout": _Range(_COUNT.holds, "give 1 or more seconds"),
}

_DEALT = "the rows of a step are dealt out by this package, the same on any number of devices"
_SCORED = "the scores are computed from the outputs of all rows at once"
_PUSHED = "a run is published once, as a whole, at its end"

_REFUSED: dict[str, str] = {
    "auto_find_batch_size": f"{_DEALT}. Give --sequences_per_step, and a --per_device_train_batch_size that fits.",
    "average_tokens_across_devices": "the loss is always the mean over the rows of a step on all devices",
    "batch_eval_metrics": f"{_SCORED}. To need less memory, give --eval_accumulation_steps.",
    "dataloader_drop_last": "it would leave rows out of the scores; training reads every row as it is",
    "dataloader_in_order": f"{_DEALT}, so they come in order",
    "debug": "its hooks do not read the models here. A loss that is not finite stops a run, with the step.",
    "enable_jit_checkpoint": "it would end the training early, as if it were done. Give --save_strategy steps, and go "
    "on with --resume_from_checkpoint.",
    "eval_do_concat_batches": _SCORED,
    "hub_always_push": _PUSHED,
    "hub_strategy": _PUSHED,
    "ignore_data_skip": "a resumed run would read other rows than one that was never interrupted",
    "include_for_metrics": f"{_SCORED}, and from nothing else. Predictions of all rows are written beside the model.",
    "label_names": "the labels are those of --label_column",
    "length_column_name": "the lengths are those of the sequences in tokens",
    "prediction_loss_only": "there would be no scores. To have no validation, give --eval_strategy no.",
    "remove_unused_columns": "columns of text are none of the model's inputs",
    "save_on_each_node": "only the main process writes files",
}
"""Arguments that would change nothing here, or something wrong, and why: they keep transformers' default."""

_NEEDED: dict[str, str] = {
    "hub_model_id": "push_to_hub",
    "hub_private_repo": "push_to_hub",
    "hub_revision": "push_to_hub",
    "hub_token": "push_to_hub",
    "hub_license": "push_to_hub",
    "fsdp_config": "fsdp",
    "activation_checkpointing_kwargs": "activation_checkpointing",
    "gradient_checkpointing_kwargs": "gradient_checkpointing",
    "liger_kernel_config": "use_liger_kernel",
    "dataloader_persistent_workers": "dataloader_num_workers",
    "dataloader_prefetch_factor": "dataloader_num_workers",
    "dataloader_multiprocessing_context": "dataloader_num_workers",
}
"""Arguments that are read only with another one."""

_ALWAYS = {
    "do_train": "a run trains. To apply a model, use `gengram predict`.",
    "do_eval": "give --eval_strategy no, or --validation_fraction 0",
    "do_predict": "leave test_file out",
}
"""What a run does when there are rows for it, and what to do to have it not."""


_PACKAGES: dict[str, tuple[Callable[[], bool], str]] = {
    "deepspeed": (is_deepspeed_available, "pip install deepspeed"),
    "use_liger_kernel": (is_liger_kernel_available, "pip install liger-kernel"),
}

_OF_ACCELERATE = ("non_blocking", "use_configured_state")  # fields that do not touch the batches


def check_flags(arguments: Any) -> None:
    """Check everything that needs neither model nor data; `arguments` are `FinetuneArguments` as they were given.

    Raises:
        ValueError: an argument that has no place here or lacks another one, or a value out of range; with the remedy.
    """
    for name, (holds, remedy) in _RANGES.items():
        value = getattr(arguments, name)
        if value is not None and not (isinstance(value, int | float) and holds(value)):
            raise ValueError(f"{name}={value}: {remedy}")
    changed = _list_changed(arguments)
    for name, reason in _REFUSED.items():
        if name in changed:
            raise ValueError(f"{name}={_show(getattr(arguments, name))} has no place here: {reason}")
    for name, other in _NEEDED.items():
        if name in changed and not getattr(arguments, other):
            raise ValueError(f"{name} is read with {other} only: give --{other} too, or leave {name} out")
    for name, remedy in _ALWAYS.items():
        if getattr(arguments, name) is False:
            raise ValueError(f"{name}=False: {remedy}")
    for name, (is_there, remedy) in _PACKAGES.items():
        if getattr(arguments, name) and not is_there():
            raise ValueError(f"{name} needs a package that is not installed: {remedy}")
    _check_processes(arguments)


def check_accelerator(config: AcceleratorConfig) -> None:
    """Refuse what accelerate would do to batches that are dealt out already.

    Raises:
        ValueError: naming the field.
    """
    default = AcceleratorConfig()
    for entry in dataclasses.fields(AcceleratorConfig):
        if entry.name not in _OF_ACCELERATE and getattr(config, entry.name) != getattr(default, entry.name):
            raise ValueError(f"accelerator_config: {entry.name} has no place here: {_DEALT}")


def list_unread(arguments: Any) -> list[str]:
    """Return a sentence for each number of steps that was given, and that the strategy does not read."""
    changed = _list_changed(arguments)
    unread = []
    for kind in ("eval", "save", "logging"):
        strategy = getattr(arguments, f"{kind}_strategy")
        # Steps of the logging are the default of those of the validation; the best checkpoint follows the validation.
        followed = (kind == "logging" and arguments.eval_strategy == "steps") or (
            kind == "save" and arguments.load_best_model_at_end
        )
        if f"{kind}_steps" in changed and strategy != "steps" and not followed:
            unread.append(
                f"{kind}_steps={getattr(arguments, f'{kind}_steps'):g} is not read, as {kind}_strategy is "
                f"{getattr(strategy, 'value', strategy)}: give --{kind}_strategy steps"
            )
    return unread


def _check_processes(arguments: Any) -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return
    for name in ("fsdp", "ddp_backend"):
        if getattr(arguments, name):
            raise ValueError(
                f"{name} is for several processes, and this is one: start them with torchrun or accelerate launch "
                f"(--num_processes), or leave {name} out"
            )


def _list_changed(arguments: Any) -> set[str]:
    """Names of the arguments that are not as transformers (or this package, where it has its own) has them."""
    defaults = {
        entry.name: entry.default if entry.default_factory is dataclasses.MISSING else entry.default_factory()
        for kind in (TrainingArguments, type(arguments))
        for entry in dataclasses.fields(kind)
    }
    return {name for name, default in defaults.items() if not _is_default(getattr(arguments, name), default)}


def _is_default(value: Any, default: Any) -> bool:
    # An enumeration is equal to its text; None, "" and an empty list are all "not given".
    return value == default or (not default and value in (None, "", []) and value is not False)


def _show(value: Any) -> str:
    values = value if isinstance(value, list) else [value]
    return " ".join(str(getattr(one, "value", one)) for one in values)


__all__ = ["check_accelerator", "check_flags", "list_unread"]
