"""What can be chosen of a protocol that trains the model: how long, how fast, and with what search; no torch here."""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from gengram.benchmarks.protocols.presets import PRESETS, find_adapter, read_preset
from gengram.benchmarks.protocols.probe_settings import EmbeddingSettings
from gengram.errors import InputError
from gengram.training.search_space import OF_ADAPTERS, SPACES, read_space

if TYPE_CHECKING:
    from gengram.benchmarks.tasks.task import Task

FOLDS = 10
FOLD_SEED = 42

# A setting, and the argument of fine-tuning that it is.
_ARGUMENTS = {
    "learning_rate": "learning_rate",
    "batch_size": "sequences_per_step",
    "device_batch_size": "per_device_train_batch_size",
    "epochs": "num_train_epochs",
    "max_steps": "max_steps",
    "weight_decay": "weight_decay",
    "warmup": "warmup_steps",
    "patience": "early_stopping_patience",
    "gradient_checkpointing": "gradient_checkpointing",
    "search": "search",
    "search_space": "search_space",
    "search_trials": "search_trials",
}
_OF_LORA = {"lora_r": "lora_r", "lora_alpha": "lora_alpha", "lora_dropout": "lora_dropout"}
_DEFAULTS = {"batch_size": 32, "device_batch_size": 32, "epochs": 3}
_POSITIVE = ("learning_rate", "batch_size", "device_batch_size", "epochs", "max_steps", "patience", "search_trials")


@dataclass(frozen=True)
class TrainingSettings:
    """How a model is trained for a task; what is not given is the preset's, else the default of `gengram finetune`.

    Raises:
        `InputError`: numbers that make no sense, settings that exclude each other, an unknown preset or space.
    """

    preset: str | None = field(
        default=None,
        metadata={"help": f"settings of a publication, the others win over it: {', '.join(PRESETS)}"},
    )
    learning_rate: float | None = field(
        default=None,
        metadata={"help": "peak learning rate; 3e-5 by default, 1e-3 of random weights, of adapters 5e-4 or 3e-3"},
    )
    batch_size: int | None = field(
        default=None, metadata={"help": "rows of an optimizer step, over all devices; 32 by default"}
    )
    device_batch_size: int | None = field(
        default=None,
        metadata={
            "help": "rows on a device at a time, at most; 32 by default. Gradients are accumulated to batch_size"
        },
    )
    epochs: float | None = field(default=None, metadata={"help": "passes over the training rows; 3 by default"})
    max_steps: int | None = field(default=None, metadata={"help": "optimizer steps, instead of epochs"})
    weight_decay: float | None = field(default=None, metadata={"help": "weight decay of AdamW; 0.01 by default"})
    warmup: float | None = field(
        default=None, metadata={"help": "steps of linear warm-up; below 1 their share of all; 0.1 by default"}
    )
    patience: int | None = field(
        default=None, metadata={"help": "stop after so many validations without a better score"}
    )
    gradient_checkpointing: bool = field(
        default=False, metadata={"help": "compute activations twice and keep few of them: less memory"}
    )
    search: bool = field(
        default=False,
        metadata={"help": "try several settings first, and train with those of the best validation score"},
    )
    search_space: str | None = field(
        default=None,
        metadata={"help": f"what a search tries: {', '.join(SPACES)}, JSON, or a YAML file; see gengram finetune"},
    )
    search_trials: int | None = field(default=None, metadata={"help": "how many settings a search tries"})
    too_long: Literal["error", "window", "truncate", "center"] = field(
        default="error",
        metadata={"help": "rows that are longer than the model: refuse, keep the beginning or the middle"},
    )
    max_length: int | None = field(
        default=None, metadata={"help": "limit in tokens, special ones included; by default the model's"}
    )
    dtype: Literal["float32", "bfloat16"] = field(
        default="float32", metadata={"help": "what the model computes in; weights are float32 in any case"}
    )

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if (value := getattr(self, name)) is not None and not value > 0:
                raise InputError(f"{name}={value:g}: give a number above 0")
        for name in ("weight_decay", "warmup"):
            if (value := getattr(self, name)) is not None and not value >= 0:
                raise InputError(f"{name}={value:g}: give a number of at least 0")
        if self.epochs is not None and self.max_steps is not None:
            raise InputError("epochs and max_steps both say how long a training is: give one of the two")
        if self.too_long == "window":
            raise InputError(
                "too_long='window': a training reads a row as a whole; choose error, truncate or center, or "
                "the protocols genos-probe and linear-probe, which read windows"
            )
        if not self.search and (self.search_space is not None or self.search_trials is not None):
            raise InputError("search_space and search_trials are read with search only: give search too")
        if self.search_space is not None:
            # As its content: a file may change, and the settings are what a score is kept under.
            object.__setattr__(self, "search_space", json.dumps(read_space(self.search_space), sort_keys=True))
        if self.preset is not None:
            self._check_preset(find_adapter(self.preset))
        if self.search_space is not None and (names := set(OF_ADAPTERS) & set(json.loads(self.search_space))):
            self._check_searched(names)

    def _check_preset(self, adapter: str | None) -> None:
        if adapter is not None:
            raise InputError(f"preset={self.preset!r} is of an adapter ({adapter}): it is for the protocol lora")

    def _check_searched(self, names: Iterable[str]) -> None:
        raise InputError(f"search_space: {', '.join(sorted(names))} are of an adapter: they are for the protocol lora")

    def choose_arguments(self, task: str) -> dict[str, Any]:
        """Return the arguments of `FinetuneArguments` and `ModelArguments` for a task: given, preset's, defaults."""
        preset = {} if self.preset is None else read_preset(self.preset, task)
        if self.epochs is not None:
            preset.pop("max_steps", None)
        if self.max_steps is not None:
            preset.pop("num_train_epochs", None)
        # A switch that is off is not given: a preset's stays on.
        values = {key: getattr(self, name) for name, key in _ARGUMENTS.items()}
        given = {key: value for key, value in values.items() if value is not None and value is not False}
        defaults = {_ARGUMENTS[name]: value for name, value in _DEFAULTS.items()}
        chosen = {**defaults, **preset, **given}
        if self.max_steps is not None:
            chosen["eval_strategy"], chosen["eval_steps"] = "steps", max(1, self.max_steps // 10)
        elif self.epochs is not None:
            chosen["eval_strategy"] = "epoch"
            chosen.pop("eval_steps", None)
        if self.dtype == "bfloat16":
            chosen["bf16"] = True
        return chosen

    def resolve(self, task: "Task") -> dict[str, Any]:
        """Return what a task and the preset decide of the settings, as JSON: all arguments of the training."""
        return self.choose_arguments(task.name)


@dataclass(frozen=True)
class FinetuneSettings(TrainingSettings):
    """Of `finetune`."""


@dataclass(frozen=True)
class LoraSettings(TrainingSettings):
    """Of `lora`.

    Raises:
        `InputError`: see `TrainingSettings`; settings of LoRA for IA3.
    """

    adapter: Literal["lora", "ia3"] = field(default="lora", metadata={"help": "method of the adapter"})
    lora_r: int | None = field(default=None, metadata={"help": "rank of LoRA's matrices; 1 by default"})
    lora_alpha: int | None = field(default=None, metadata={"help": "LoRA's scale times its rank; 32 by default"})
    lora_dropout: float | None = field(
        default=None, metadata={"help": "share of inputs that LoRA drops in training; 0.1 by default"}
    )
    target_modules: tuple[str, ...] | None = field(
        default=None, metadata={"help": "ends of the names of the adapted layers; by default the backbone's"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [name for name in _OF_LORA if getattr(self, name) is not None]
        if given and self._name_adapter() != "lora":
            raise InputError(f"{given[0]} is read with adapter=lora only")
        for name in ("lora_r", "lora_alpha"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise InputError(f"{name}={value}: give 1 or more")
        if self.lora_dropout is not None and not 0 <= self.lora_dropout < 1:
            raise InputError(f"lora_dropout={self.lora_dropout:g}: give a share of at least 0, below 1")

    def _name_adapter(self) -> str | None:
        return self.adapter

    def _check_preset(self, adapter: str | None) -> None:
        if adapter is None:
            raise InputError(f"preset={self.preset!r} trains all weights: it is for the protocol finetune")
        if adapter != self._name_adapter():
            raise InputError(f"preset={self.preset!r} is of {adapter}: give adapter={adapter} too, or another preset")

    def _check_searched(self, names: Iterable[str]) -> None:
        if self._name_adapter() != "lora":
            raise InputError(f"search_space: {', '.join(sorted(names))} are read with adapter=lora only")

    def choose_arguments(self, task: str) -> dict[str, Any]:
        """Return the arguments of `FinetuneArguments` and `ModelArguments` for a task: given, preset's, defaults."""
        given = {_OF_LORA[name]: getattr(self, name) for name in _OF_LORA if getattr(self, name) is not None}
        if self.target_modules is not None:
            given["peft_target_modules"] = list(self.target_modules)
        return {**super().choose_arguments(task), "peft": self._name_adapter(), **given}


@dataclass(frozen=True)
class TenfoldSettings(LoraSettings, EmbeddingSettings):
    """Of `nt-10fold`.

    Raises:
        `InputError`: see `LoraSettings` and `EmbeddingSettings`; settings that the method does not read.
    """

    method: Literal["adapter", "finetune", "logistic"] = field(
        default="adapter",
        metadata={
            "help": "what is trained on each fold: an adapter and a head, all weights, or a logistic regression on "
            "frozen embeddings"
        },
    )

    def __post_init__(self) -> None:
        frozen = {entry.name for entry in dataclasses.fields(EmbeddingSettings)}
        trained = {entry.name for entry in dataclasses.fields(LoraSettings)}
        if self.method == "logistic":
            self._refuse(trained - frozen, "a logistic regression trains no weight of the model")
            EmbeddingSettings.__post_init__(self)
            return
        self._refuse(frozen - trained, "with method=logistic only")
        if self.method == "finetune":
            self._refuse({"adapter", "lora_r", "lora_alpha", "lora_dropout", "target_modules"}, "with method=adapter")
        LoraSettings.__post_init__(self)

    def _refuse(self, names: set[str], why: str) -> None:
        for entry in dataclasses.fields(self):
            if entry.name in names and getattr(self, entry.name) != entry.default:
                raise InputError(f"{entry.name} is not read with method={self.method} ({why})")

    def resolve(self, task: "Task") -> dict[str, Any]:
        """Return what a task and the preset decide of the settings, as JSON; of a logistic regression nothing."""
        return EmbeddingSettings.resolve(self, task) if self.method == "logistic" else super().resolve(task)

    def _name_adapter(self) -> str | None:
        return self.adapter if self.method == "adapter" else None

    def _check_preset(self, adapter: str | None) -> None:
        if adapter != self._name_adapter():
            asked = "method=finetune" if adapter is None else f"method=adapter, adapter={adapter}"
            raise InputError(f"preset={self.preset!r} is of another method: give {asked} too, or another preset")


__all__ = ["FOLDS", "FOLD_SEED", "FinetuneSettings", "LoraSettings", "TenfoldSettings", "TrainingSettings"]
