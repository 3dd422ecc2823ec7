"""From an adapter's folder or Hub id to a model: on its base, with its head, and with nothing left unset.

PEFT is imported where an adapter is loaded, and only there.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedConfig
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, find_adapter_config_file

from gengram.errors import InputError
from gengram.files import hash_file
from gengram.loading.checkpoints import ADAPTER_CONFIG, is_hub_id
from gengram.loading.configurations import load_config
from gengram.loading.faults import tell_faults
from gengram.loading.folders import check_folder, list_shards
from gengram.loading.hub import require_repository
from gengram.loading.labels import find_file, read_labels
from gengram.loading.models import check_finite, load_weights

if TYPE_CHECKING:
    from peft import PeftModel

_HEADS = ("classifier", "score")  # PEFT trains and saves modules of these names without being told.


def is_adapter(path: str | Path) -> bool:
    """Whether an adapter is in this folder or this repository on the Hub, and no whole model."""
    if Path(path).is_dir():
        return (Path(path) / ADAPTER_CONFIG).is_file() and not (Path(path) / "config.json").is_file()
    try:
        return find_adapter_config_file(str(path)) is not None
    except (OSError, ValueError):  # Nothing of that name; who loads it as a model says so.
        return False


def hash_base(path: str) -> dict[str, str]:
    """Return the SHA-256 of each file of a checkpoint's weights in safetensors, by name; none for other formats."""
    files = [SAFE_WEIGHTS_NAME]
    if (index := find_file(path, SAFE_WEIGHTS_INDEX_NAME)) is not None:
        files = list_shards(index)
    found = {name: find_file(path, name) for name in files}
    return {name: hash_file(file) for name, file in found.items() if file is not None}


def load_adapter(path: str | Path, base: str | None = None) -> "PeftModel":
    """Load an adapter with a head on its base, in float32, with the names of its classes in the configuration.

    Args:
        path: folder or Hub id of the adapter.
        base: folder or Hub id of the base, where it is not where the adapter says.

    Raises:
        `InputError`: the adapter or its base cannot be read, or they do not fit each other.
    """
    from peft import PeftConfig, PeftModel, TaskType
    from peft.utils import load_peft_weights

    if Path(path).is_dir():
        check_folder(Path(path))
    with tell_faults(f"{path}: no adapter can be loaded here"):
        settings = PeftConfig.from_pretrained(str(path))
        weights = load_peft_weights(str(path), device="cpu")
    named, labels = settings.base_model_name_or_path, read_labels(path)
    base = base or named
    tasks = {TaskType.SEQ_CLS: "sequence_classification", TaskType.TOKEN_CLS: "token_classification"}
    if settings.task_type not in tasks:
        raise InputError(f"{path}: an adapter for {settings.task_type}, not for classes or measurements")
    if base is None:
        raise InputError(f"{path}: {ADAPTER_CONFIG} does not say what it adapts; name it with --base_model")
    try:
        if is_hub_id(base):
            require_repository(base)
        with tell_faults("no model configuration can be read"):
            config = load_config(base, **_name_classes(labels, weights))
        # The base's own head may be another one; what else does not fit is told below.
        model, random = load_weights(base, tasks[settings.task_type], config=config)
    except InputError as error:
        raise InputError(
            f"{path}: the adapter's base {base!r} cannot be loaded: {error}. If it has moved, name "
            "it with --base_model."
        ) from error
    if old_names := getattr(model, "_checkpoint_conversion_mapping", None):
        weights = load_peft_weights(str(path), device="cpu", key_mapping=old_names)
    try:
        adapted = PeftModel.from_pretrained(model, str(path))
    except Exception as error:  # what PEFT raises at an adapter that does not fit
        raise _refuse(path, str(named), base, config, str(error)) from error
    check_finite(adapted, path)
    _compare(adapted, weights, random, path, str(named), base)
    given = hash_base(base)
    for name, expected in labels.get("base_sha256", {}).items():
        if given.get(name, expected) != expected:
            message = f"{name} has the SHA-256 {given[name][:12]}..., not {expected[:12]}...: other weights"
            raise _refuse(path, str(named), base, config, message)
    return adapted


def _compare(
    adapted: "PeftModel",
    weights: dict[str, torch.Tensor],
    random: list[str],
    path: str | Path,
    named: str,
    base: str,
) -> None:
    """Refuse an adapter that leaves something of the model unset, or has weights that the model has no place for."""
    from peft import get_peft_model_state_dict

    config: Any = adapted.get_base_model().config
    wanted = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    if strange := sorted(wanted ^ set(weights)):
        raise _refuse(path, named, base, config, f"{len(strange)} weights have no partner, e.g. {strange[0]}")
    if lacking := [name for name in random if f"base_model.model.{name}" not in weights]:
        message = f"{len(lacking)} weights of the base are missing or of another size, e.g. {lacking[0]}"
        raise _refuse(path, named, base, config, message)


def _refuse(path: str | Path, named: str, base: str, config: PreTrainedConfig, why: str) -> InputError:
    return InputError(
        f"{path}: the adapter was trained on {named!r} and does not fit {base!r} (a {config.model_type} with "
        f"{config.num_hidden_layers} layers of width {config.hidden_size}): {' '.join(why.split())[:400]}. Name "
        "the base that it was trained on with --base_model."
    )


def _name_classes(labels: dict[str, Any], weights: dict[str, torch.Tensor]) -> dict[str, Any]:
    """The fields of the configuration that the adapter's head needs."""
    if not labels:  # An adapter that was not made here has numbers for names.
        heads = [tensor for name, tensor in weights.items() if _is_head(name) and tensor.dim() == 2]
        return {"num_labels": heads[-1].shape[0]} if heads else {}
    label2id = {name: label for label, name in labels["id2label"].items()}
    return {"id2label": labels["id2label"], "label2id": label2id, "problem_type": labels.get("problem_type")}


def _is_head(name: str) -> bool:
    return any(part in _HEADS for part in name.split("."))


__all__ = ["hash_base", "is_adapter", "load_adapter"]
