"""LoRA and IA3: a small adapter and a new head on a checkpoint that stays as it is."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peft import IA3Config, LoraConfig, PeftConfig, PeftModel, PeftType, TaskType, get_peft_model
from peft.utils import constants
from transformers import PreTrainedModel

from gengram.errors import InputError
from gengram.gengram.configuration_gengram import GengramConfig
from gengram.loading.adapters import hash_base
from gengram.loading.labels import LABELS_FILE
from gengram.training.arguments import ModelArguments
from gengram.training.problems import Problem

_HEADS = ("classifier", "score")  # PEFT trains and saves modules of these names without being told.
_TABLES: dict[str, Mapping[str, Sequence[str]]] = {
    "lora": constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING,
    "ia3": constants.TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING,
}


def add_adapter(
    model: PreTrainedModel, new_weights: list[str], arguments: ModelArguments, problem: Problem
) -> PreTrainedModel | PeftModel:
    """Return the model with the adapter that the arguments ask for.

    Trained and saved are the adapter, the head, whatever else the checkpoint did not give (a pooler), and the memory
    if `peft_memory` says so.

    Args:
        model, new_weights: of `build_classifier`; the model is changed.
        arguments: method, layers and size of the adapter.
        problem: of the task.

    Raises:
        `InputError`: no layer has one of the names, or there is no memory to train.
    """
    path = str(arguments.model_name_or_path)
    targets = arguments.peft_target_modules or find_targets(model, str(arguments.peft))
    if arguments.peft_memory and not name_memories(model):
        raise InputError(f"peft_memory: {path} has no motif memory that could be trained")
    owners = [name.rpartition(".")[0] for name in new_weights]
    new = dict.fromkeys(owner for owner in owners if not any(part in _HEADS for part in owner.split(".")))
    shared: dict[str, Any] = {
        "task_type": TaskType.TOKEN_CLS if problem == "token" else TaskType.SEQ_CLS,
        "target_modules": targets,
        "modules_to_save": [*(name_memories(model) if arguments.peft_memory else []), *new] or None,
        # A folder is named in full: the adapter has to find it from wherever it is loaded.
        "base_model_name_or_path": os.path.abspath(path) if Path(path).is_dir() else path,
    }
    config: PeftConfig
    if arguments.peft == "ia3":
        known = constants.TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING[GengramConfig.model_type]
        config = IA3Config(feedforward_modules=[name for name in targets if _ends_like(name, known)], **shared)
    else:
        config = LoraConfig(
            r=arguments.lora_r, lora_alpha=arguments.lora_alpha, lora_dropout=arguments.lora_dropout, **shared
        )
    try:
        adapted = get_peft_model(model, config)
    except (ValueError, TypeError) as error:
        raise InputError(f"peft_target_modules={targets}: {error}") from error
    adapted.peft_config[adapted.active_adapter].base_model_name_or_path = shared["base_model_name_or_path"]
    return adapted


def find_targets(model: PreTrainedModel, method: str) -> list[str]:
    """Return the ends of the names of the layers that an adapter goes to by default, of those that the model has.

    They are PEFT's for the model type; for one that PEFT does not know, those of our own model types.

    Raises:
        `InputError`: the model has none of them.
    """
    table = _TABLES[method]
    names = table.get(model.config.model_type) or table[GengramConfig.model_type]
    modules = [name for name, _ in model.named_modules()]
    found = [target for target in names if any(_ends_like(name, [target]) for name in modules)]
    if not found:
        raise InputError(
            f"--peft {method}: {type(model).__name__} has no layers called {', '.join(names)}. Name those to adapt "
            "with --peft_target_modules."
        )
    return found


def name_memories(model: PreTrainedModel) -> list[str]:
    """Return the names of a model's motif memories, `memory.2`, as PEFT's `modules_to_save` takes them."""
    return [f"memory.{layer}" for layer in getattr(model.config, "memory_layers", [])]


def describe_adapter(model: PreTrainedModel | PeftModel) -> dict[str, Any] | None:
    """Return the adapter's configuration and size for the report; None for a model without one."""
    if not isinstance(model, PeftModel):
        return None
    trained, total = model.get_nb_trainable_parameters()
    config = model.peft_config[model.active_adapter]
    names = ("r", "lora_alpha", "lora_dropout", "target_modules", "feedforward_modules", "modules_to_save")
    settings = {name: getattr(config, name) for name in names if getattr(config, name, None)}
    settings = {name: sorted(value) if isinstance(value, set | list) else value for name, value in settings.items()}
    return {
        "method": PeftType(config.peft_type).value.lower(),
        "trained": trained,
        "share": trained / total,
        **settings,
    }


def finish_adapter(folder: Path, model: PreTrainedModel | PeftModel) -> None:
    """Complete the folder of a saved adapter: names of the classes in, PEFT's card out (ours is written for the Hub).

    A folder of a whole model is left alone.
    """
    if not isinstance(model, PeftModel):
        return
    (folder / "README.md").unlink(missing_ok=True)
    config: Any = model.get_base_model().config
    base = model.peft_config[model.active_adapter].base_model_name_or_path
    labels = {"id2label": config.id2label, "problem_type": config.problem_type, "base_sha256": hash_base(str(base))}
    (folder / LABELS_FILE).write_text(json.dumps(labels, indent=2) + "\n", encoding="utf-8")


def _ends_like(name: str, ends: Sequence[str]) -> bool:
    return any(name == end or name.endswith(f".{end}") for end in ends)


__all__ = ["add_adapter", "describe_adapter", "find_targets", "finish_adapter", "name_memories"]
