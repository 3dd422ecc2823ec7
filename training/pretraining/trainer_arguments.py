"""Trainer's arguments of a pre-training: with its defaults, and without what has no place in it."""

import json
import math
import os
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.trainer_pt_utils import AcceleratorConfig

from gengram.training.mappings import read_mapping
from gengram.training.pretraining.arguments import TrainingOptions, check_positive
from gengram.training.trainer_flags import check_accelerator, check_flags

_STEPS_DECIDE = "a stage has the length that its steps or tokens say"
_NOT_CHOSEN = "the model of a pre-training is the last one"
_REFUSED = {
    "num_train_epochs": f"{_STEPS_DECIDE}: give --steps or --tokens",
    "load_best_model_at_end": _NOT_CHOSEN,
    "metric_for_best_model": _NOT_CHOSEN,
    "greater_is_better": _NOT_CHOSEN,
    "train_sampling_strategy": "which windows are read in which order is a matter of the corpus: see --order",
    "group_by_length": "blocks are of one length",
    "gradient_accumulation_steps": "it follows from --blocks_per_step, the limit --per_device_train_batch_size and "
    "the number of processes",
    "label_smoothing_factor": "bits per base would be of another loss",
    "data_seed": "the corpus is read by --seed",
    "save_only_model": "nobody could go on from such a checkpoint",
    "torch_empty_cache_steps": "it would change nothing here",
    "eval_accumulation_steps": "an evaluation keeps sums, no outputs",
    "eval_delay": "give --eval_steps",
}
"""Trainer's arguments that would change nothing here, or something wrong: they keep transformers' default."""


@dataclass
class PretrainArguments(TrainingOptions, TrainingArguments):  # type: ignore[misc]  # Other defaults and types.
    """How the model is trained: transformers' `TrainingArguments` with defaults for language models of DNA, and stages.

    A step is `blocks_per_step` blocks, however many processes there are and however many blocks fit on a device
    (`per_device_train_batch_size`); `gradient_accumulation_steps` follows from the three.

    Raises:
        ValueError: numbers that make no sense or exclude each other, or what `TrainingArguments` refuses.
    """

    # As transformers has them, in a form that a command line can give, or with what a run does by itself.
    include_num_input_tokens_seen: str = field(
        default="no", metadata={"help": "Tokens are counted in any case.", "choices": ["no"]}
    )
    liger_kernel_config: dict[str, Any] | str | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Which of Liger's kernels are used, as JSON (a mapping in YAML)."}
    )
    do_train: bool = field(default=True, metadata={"help": "A run always trains."})
    do_eval: bool = field(default=True, metadata={"help": "A run evaluates where contigs are held out."})
    do_predict: bool = field(default=True, metadata={"help": "Not read."})

    def __post_init__(self):
        processes = int(os.environ.get("WORLD_SIZE", "1"))
        if processes > 1 and not torch.accelerator.is_available():
            # Several processes on CPUs: without this word, each of them would train alone, into the same folder.
            self.use_cpu = True
        if not str(self.output_dir or "").strip():
            raise ValueError("output_dir is empty (is a variable of the shell not set?)")
        self._refuse()
        check_flags(self)
        for name in ("lr_scheduler_kwargs", "gradient_checkpointing_kwargs", "liger_kernel_config"):
            setattr(self, name, read_mapping(name, getattr(self, name)))
        if self.overwrite and self.resume_from_checkpoint:
            raise ValueError("overwrite begins a run anew, resume_from_checkpoint goes on with it: give one of the two")
        check_positive(self, "tokens", "max_hours", "table_learning_rate")
        check_positive(self, "blocks_per_step", "context_parallel", whole=True)
        if self.eval_bases is not None and self.eval_bases < 0:
            raise ValueError(f"eval_bases={self.eval_bases}: give a number of bases, or 0")
        self.stages = _read_stages(self.stages)
        self.gradient_accumulation_steps, self.per_device_train_batch_size = divide_step(
            self.blocks_per_step, self.per_device_train_batch_size, max(processes // self.context_parallel, 1)
        )
        try:
            super().__post_init__()
        except (ImportError, LookupError, OSError, RuntimeError, TypeError) as error:
            # A package that an argument needs, a field of its configuration, a file that it names.
            raise ValueError(f"an argument of the training cannot be used: {type(error).__name__}: {error}") from error
        assert isinstance(self.accelerator_config, AcceleratorConfig)  # since it is read
        check_accelerator(self.accelerator_config)

    def _refuse(self) -> None:
        defaults = TrainingArguments.__dataclass_fields__
        for name, reason in _REFUSED.items():
            if name in defaults and getattr(self, name) != defaults[name].default:
                raise ValueError(f"{name}={getattr(self, name)} has no place in a pre-training: {reason}")
        if self.save_strategy != "steps":
            raise ValueError("save_strategy: a pre-training writes checkpoints every --save_steps steps")
        if self.max_steps == 0 or self.max_steps < -1:
            raise ValueError(f"max_steps={self.max_steps}: give 1 or more")
        if self.max_steps != -1 and self.tokens is not None:
            raise ValueError("give either steps or tokens, not both")
        on_cpu = self.use_cpu or not torch.accelerator.is_available()
        by_launcher = os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("true", "1")
        if on_cpu and (self.fsdp or by_launcher):
            raise ValueError(
                "fsdp on a CPU: Trainer would silently run DDP instead. Leave fsdp out here (of accelerate's "
                "configurations take ddp); on GPUs use that of `python -m gengram.training.accelerate_configs fsdp2`"
            )
        if int(os.environ.get("PARALLELISM_CONFIG_CP_SIZE", "1")) > 1:
            raise ValueError(
                "cp_size of accelerate cuts blocks behind the back of the memory and the loss: give --context_parallel "
                "instead"
            )


def divide_step(blocks: int, most: int, processes: int) -> tuple[int, int]:
    """Return how many batches a process accumulates for a step, and how many blocks the largest one has."""
    batches = math.ceil(blocks / (processes * most))
    return batches, math.ceil(blocks / (processes * batches))


def _read_stages(value: Any) -> list[dict[str, Any]] | None:
    if isinstance(text := value, str):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"stages is not JSON ({error}): {text[:200]!r}. Write it like '[{{\"steps\": 100}}]'"
            ) from error
    if value is None:
        return None
    if not isinstance(value, list) or not value or not all(isinstance(stage, dict) for stage in value):
        raise ValueError("stages must be a list of mappings, one a stage, of names to values")
    return value


__all__ = ["PretrainArguments", "divide_step"]
