"""LoRA and IA3: a small adapter and a new head on a checkpoint that stays as it is, trained, saved and loaded again."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import (
    IA3Config,
    LoraConfig,
    PeftConfig,
    PeftModel,
    PeftType,
    TaskType,
    get_peft_model,
    get_peft_model_state_dict,
)
from peft.utils import constants, load_peft_weights
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file, find_adapter_config_file

from gengram import GengramConfig
from gengram.training.arguments import ModelArguments
from gengram.training.classifier import LOADING_ERRORS
from gengram.training.errors import InputError
from gengram.training.labels import Problem
from gengram.training.tables import hash_file

ADAPTER_CONFIG = constants.CONFIG_NAME

LABELS_FILE = "labels.json"
"""Beside an adapter, what PEFT does not save: names of the classes, the problem type, checksums of the base's weights.
Not called config.json, since transformers takes a folder with one for a complete model."""

LEARNING_RATES = {"lora": 5e-4, "ia3": 3e-3}
"""Published for the Nucleotide Transformer, LoRA with rank 1, alpha 32, dropout 0.1 and batches of 8, IA3 likewise."""

_HEADS = ("classifier", "score")  # PEFT trains and saves modules of these names without being told.
_TABLES: dict[str, Mapping[str, Sequence[str]]] = {
    "lora": constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING,
    "ia3": constants.TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING,
}


def add_adapter(
    model: PreTrainedModel, new_weights: list[str], arguments: ModelArguments, problem: Problem
) -> PreTrainedModel | PeftModel:
    """Return the model with the adapter that the arguments ask for, or as it is if they ask for none.

    Trained and saved are the adapter, the head, whatever else the checkpoint did not give (a pooler), and the memory
    if `peft_memory` says so.

    Args:
        model, new_weights: of `build_classifier`; the model is changed.
        arguments: method, layers and size of the adapter.
        problem: of the task.

    Raises:
        `InputError`: no layer has one of the names, or there is no memory to train.
    """
    if arguments.peft is None:
        return model
    path = str(arguments.model_name_or_path)
    targets = arguments.peft_target_modules or find_targets(model, arguments.peft)
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


def refuse_adapter(arguments: ModelArguments) -> None:
    """Refuse an adapter as the checkpoint of a training.

    Raises:
        `InputError`: the checkpoint is a folder with an adapter.
    """
    path = arguments.model_name_or_path
    if path is not None and Path(path).is_dir() and is_adapter(path):
        raise InputError(
            f"{path} is an adapter, which cannot be trained on from here: name its base as model_name_or_path, or "
            "merge it into its base first (merge_and_unload, save_pretrained)"
        )


def is_adapter(path: str | Path) -> bool:
    """Whether an adapter is in this folder or this repository on the Hub, and no whole model."""
    if Path(path).is_dir():
        return (Path(path) / ADAPTER_CONFIG).is_file() and not (Path(path) / "config.json").is_file()
    try:
        return find_adapter_config_file(str(path)) is not None
    except (OSError, ValueError):  # Nothing of that name; who loads it as a model says so.
        return False


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


def hash_base(path: str) -> dict[str, str]:
    """Return the SHA-256 of each file of a checkpoint's weights in safetensors, by name; none for other formats."""
    files = [SAFE_WEIGHTS_NAME]
    if (index := _find_file(path, SAFE_WEIGHTS_INDEX_NAME)) is not None:
        files = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    found = {name: _find_file(path, name) for name in files}
    return {name: hash_file(file) for name, file in found.items() if file is not None}


def load_adapter(path: str | Path, base: str | None = None) -> PeftModel:
    """Load an adapter with a head on its base, in float32, with the names of its classes in the configuration.

    Args:
        path: folder or Hub id of the adapter.
        base: folder or Hub id of the base, where it is not where the adapter says.

    Raises:
        `InputError`: the adapter or its base cannot be read, or they do not fit each other.
    """
    try:
        settings = PeftConfig.from_pretrained(str(path))
        weights = load_peft_weights(str(path), device="cpu")
    except LOADING_ERRORS as error:
        raise InputError(f"{path}: no adapter can be loaded here: {error}") from error
    named, labels = settings.base_model_name_or_path, _read_labels(path)
    base = base or named
    auto_class: Any = {
        TaskType.SEQ_CLS: AutoModelForSequenceClassification,
        TaskType.TOKEN_CLS: AutoModelForTokenClassification,
    }.get(settings.task_type)
    if auto_class is None:
        raise InputError(f"{path}: an adapter for {settings.task_type}, not for classes or measurements")
    if base is None:
        raise InputError(f"{path}: {ADAPTER_CONFIG} does not say what it adapts; name it with --base_model")
    try:
        config = AutoConfig.from_pretrained(base, trust_remote_code=False, **_name_classes(labels, weights))
        # The base's own head may be another one; what else does not fit is told below.
        model, found = auto_class.from_pretrained(
            base, config=config, dtype=torch.float32, ignore_mismatched_sizes=True, output_loading_info=True
        )
    except LOADING_ERRORS as error:
        raise InputError(
            f"{path}: the adapter's base {base!r} cannot be loaded: {error}. If it has moved, name "
            "it with --base_model."
        ) from error
    try:
        adapted = PeftModel.from_pretrained(model, str(path))
    except LOADING_ERRORS as error:
        raise _refuse(path, str(named), base, config, str(error)) from error
    _compare(adapted, weights, found, path, str(named), base)
    given = hash_base(base)
    for name, expected in (labels.get("base_sha256") or {}).items():
        if given.get(name, expected) != expected:
            message = f"{name} has the SHA-256 {given[name][:12]}..., not {expected[:12]}...: other weights"
            raise _refuse(path, str(named), base, config, message)
    return adapted


def _compare(
    adapted: PeftModel, weights: dict[str, torch.Tensor], found: dict[str, Any], path: str | Path, named: str, base: str
) -> None:
    """Refuse an adapter that leaves something of the model unset, or has weights that the model has no place for."""
    config: Any = adapted.get_base_model().config
    wanted = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    if strange := sorted(wanted ^ set(weights)):
        raise _refuse(path, named, base, config, f"{len(strange)} weights have no partner, e.g. {strange[0]}")
    unset = found["missing_keys"] | {name for name, *_ in found["mismatched_keys"]}
    if lacking := sorted(name for name in unset if f"base_model.model.{name}" not in weights):
        message = f"{len(lacking)} weights of the base are missing or of another size, e.g. {lacking[0]}"
        raise _refuse(path, named, base, config, message)


def _refuse(path: str | Path, named: str, base: str, config: PreTrainedConfig, why: str) -> InputError:
    return InputError(
        f"{path}: the adapter was trained on {named!r} and does not fit {base!r} (a {config.model_type} with "
        f"{config.num_hidden_layers} layers of width {config.hidden_size}): {' '.join(why.split())[:400]}. Name "
        "the base that it was trained on with --base_model."
    )


def _read_labels(path: str | Path) -> dict[str, Any]:
    file = _find_file(str(path), LABELS_FILE)
    if file is None:
        return {}
    try:
        labels = json.loads(file.read_text(encoding="utf-8"))
        return {**labels, "id2label": {int(label): str(name) for label, name in labels["id2label"].items()}}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{file}: no names of classes can be read here: {error!r}") from error


def _name_classes(labels: dict[str, Any], weights: dict[str, torch.Tensor]) -> dict[str, Any]:
    """The fields of the configuration that the adapter's head needs."""
    if not labels:  # An adapter that was not made here has numbers for names.
        heads = [tensor for name, tensor in weights.items() if _is_head(name) and tensor.dim() == 2]
        return {"num_labels": heads[-1].shape[0]} if heads else {}
    label2id = {name: label for label, name in labels["id2label"].items()}
    return {"id2label": labels["id2label"], "label2id": label2id, "problem_type": labels.get("problem_type")}


def _find_file(path: str, name: str) -> Path | None:
    file = cached_file(path, name, _raise_exceptions_for_missing_entries=False)
    return None if file is None else Path(file)


def _is_head(name: str) -> bool:
    return any(part in _HEADS for part in name.split("."))


def _ends_like(name: str, ends: Sequence[str]) -> bool:
    return any(name == end or name.endswith(f".{end}") for end in ends)


__all__ = [
    "ADAPTER_CONFIG",
    "LABELS_FILE",
    "LEARNING_RATES",
    "add_adapter",
    "describe_adapter",
    "find_targets",
    "finish_adapter",
    "hash_base",
    "is_adapter",
    "load_adapter",
    "name_memories",
    "refuse_adapter",
]
