"""Which stages does a run have? The arguments of each one, with what the run says for all of them filled in."""

import copy
import dataclasses
import sys
from typing import Any

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from gengram.errors import InputError, suggest
from gengram.loading.configurations import measure_capacity
from gengram.training.mappings import read_mapping
from gengram.training.pretraining.arguments import CorpusArguments, PretrainModelArguments, check_number
from gengram.training.pretraining.trainer_arguments import PretrainArguments, divide_step
from gengram.training.setup import FOLLOW_A_METRIC, check_schedule
from gengram.training.trainer_flags import check_flags

OF_MODEL = ("rope_theta", "max_position_embeddings")
OF_CORPUS = ("block_size", "pack", "window", "strand", "order", "stride", "max_n", "haplotype_share", "groups")
OF_TRAINING = (
    "steps",
    "tokens",
    "blocks_per_step",
    "per_device_train_batch_size",
    "learning_rate",
    "table_learning_rate",
    "warmup_steps",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "weight_decay",
    "max_grad_norm",
    "eval_steps",
    "save_steps",
    "logging_steps",
)
KEYS = (*OF_MODEL, *OF_CORPUS, *OF_TRAINING)
"""What may be another in each stage."""

_WHOLE = ("steps", "blocks_per_step", "per_device_train_batch_size", "max_position_embeddings")
_MAY_BE_NONE = (
    *(*OF_MODEL, "window", "stride", "haplotype_share", "groups"),
    *("tokens", "table_learning_rate", "lr_scheduler_kwargs"),
)

_LOWEST_RATE = 0.1  # of the peak, at the end of a cosine


@dataclasses.dataclass(frozen=True)
class Stage:
    """One Trainer run.

    Attributes:
        number: from 1.
        steps: optimizer steps.
        corpus: which blocks.
        training: how; `max_steps`, batch size and accumulation are those of this stage.
        rope_theta, max_position_embeddings: of the model from here on; None: as before.
    """

    number: int
    steps: int
    corpus: CorpusArguments
    training: PretrainArguments
    rope_theta: float | None
    max_position_embeddings: int | None

    @property
    def blocks(self) -> int:
        """Blocks of the stage, over all steps and processes."""
        return self.steps * self.training.blocks_per_step

    @property
    def tokens(self) -> int:
        """Tokens of these."""
        return self.blocks * self.corpus.block_size

    def describe(self) -> dict[str, Any]:
        """Return what the stage is, for the report and to be compared with that of a run that is resumed."""
        training = {name: _to_plain(getattr(self.training, name)) for name in OF_TRAINING if name not in _NOT_SHOWN}
        corpus = {name: getattr(self.corpus, name) for name in OF_CORPUS}
        model = {name: getattr(self, name) for name in OF_MODEL}
        return {"stage": self.number, "steps": self.steps, "tokens": self.tokens, **model, **corpus, **training}


_NOT_SHOWN = ("steps", "tokens", "per_device_train_batch_size", "eval_steps", "save_steps", "logging_steps")


def read_stages(model: PretrainModelArguments, corpus: CorpusArguments, training: PretrainArguments) -> list[Stage]:
    """Return the stages of a run; without `stages` it has one.

    Raises:
        `InputError`: a stage with an unknown key, without a length or with two, or with values that make no sense.
    """
    given = training.stages if isinstance(training.stages, list) else [{}]
    return [
        _read_stage(number, overrides, len(given), model, corpus, training) for number, overrides in enumerate(given, 1)
    ]


def _read_stage(
    number: int,
    overrides: dict[str, Any],
    count: int,
    model: PretrainModelArguments,
    corpus: CorpusArguments,
    training: PretrainArguments,
) -> Stage:
    place = f"stage {number}" if count > 1 or overrides else "the run"
    if unknown := next((name for name in overrides if name not in KEYS), None):
        raise InputError(f"{place}: nothing that a stage can change is called {unknown!r}{suggest(unknown, KEYS)}")
    try:
        for name, value in overrides.items():
            if value is None and name not in _MAY_BE_NONE:
                raise ValueError(f"{name} has no value: give one, or leave it out to have that of the run")
        own_corpus = dataclasses.replace(corpus, **{name: overrides[name] for name in OF_CORPUS if name in overrides})
        own = _change(training, {name: overrides[name] for name in OF_TRAINING if name in overrides})
        values = {name: overrides.get(name) for name in OF_MODEL}
        for name, value in values.items():
            check_number(name, value, whole=name in _WHOLE)
    except (TypeError, ValueError) as error:
        raise InputError(f"{place}: {error}") from error
    if own.max_steps > 0:
        steps = own.max_steps
    elif own.tokens is not None:
        steps = max(round(own.tokens / (own_corpus.block_size * own.blocks_per_step)), 1)
    else:
        raise InputError(f"{place} has no length: give steps or tokens")
    if steps > sys.maxsize // own.blocks_per_step:
        raise InputError(f"{place}: {steps:,} steps are more than can be counted: give less steps or tokens")
    own.max_steps = steps
    try:  # now, and not when the stages before have been trained
        check_schedule(own)
    except InputError as error:
        raise InputError(f"{place}: {error}") from error
    if number == 1:  # Later stages have what the one before had.
        values = {name: getattr(model, name) if value is None else value for name, value in values.items()}
    return Stage(number, steps, own_corpus, own, **values)


def _change(training: PretrainArguments, overrides: dict[str, Any]) -> PretrainArguments:
    # A shallow copy: the state of the processes and devices is shared, not set up again.
    own = copy.copy(training)
    if "steps" in overrides and "tokens" in overrides:
        raise ValueError("give either steps or tokens, not both")
    for name, value in overrides.items():
        if name in ("steps", "tokens"):
            own.max_steps, own.tokens = -1, None
        setattr(own, "max_steps" if name == "steps" else name, value)
    for name in ("steps", "blocks_per_step", "per_device_train_batch_size", "tokens", "learning_rate"):
        check_number(name, overrides.get(name), whole=name in _WHOLE)
    check_number("table_learning_rate", overrides.get("table_learning_rate"))
    own.lr_scheduler_kwargs = read_mapping("lr_scheduler_kwargs", own.lr_scheduler_kwargs)
    own.gradient_accumulation_steps, own.per_device_train_batch_size = divide_step(
        own.blocks_per_step, own.per_device_train_batch_size, max(own.world_size // own.context_parallel, 1)
    )
    if own.lr_scheduler_type == "cosine_with_min_lr" and own.lr_scheduler_kwargs is None:
        own.lr_scheduler_kwargs = {"min_lr_rate": _LOWEST_RATE}
    if own.lr_scheduler_type in FOLLOW_A_METRIC:  # as TrainingArguments has it of the run's own
        own.metric_for_best_model, own.greater_is_better = "loss", False
    check_flags(own)
    return own


def check_lengths(stage: Stage, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse blocks that are longer than the model's positions.

    Args:
        stage: of the run.
        config: of the model in that stage.
        tokenizer: of the model.

    Raises:
        `InputError`: naming the stage and both numbers.
    """
    if stage.corpus.block_size > (most := measure_capacity(config, tokenizer)):
        raise InputError(
            f"stage {stage.number}: blocks of {stage.corpus.block_size:,} tokens are longer than the {most:,} "
            "positions of the model: give a smaller block_size, or more max_position_embeddings"
        )


def _to_plain(value: Any) -> Any:
    return getattr(value, "value", value)


__all__ = ["KEYS", "Stage", "check_lengths", "read_stages"]
