"""From a Hub id or a folder to a model, also where a published config.json misleads; no weight is random in silence."""

import copy
import re
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from accelerate.utils import has_offloaded_params
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from gengram.catalogue import find_model_row
from gengram.errors import InputError
from gengram.gena.published import speed_up
from gengram.loading.checkpoints import find_in_run
from gengram.loading.configurations import HUB, is_stock, load_config
from gengram.loading.faults import tell_error, tell_faults
from gengram.loading.foreign_code import name_alternative, name_code
from gengram.progress import tell

TASKS: dict[str, Any] = {
    "base": AutoModel,
    "causal_lm": AutoModelForCausalLM,
    "masked_lm": AutoModelForMaskedLM,
    "pretraining": AutoModelForPreTraining,
    "sequence_classification": AutoModelForSequenceClassification,
    "token_classification": AutoModelForTokenClassification,
}
# Arguments of a model that a configuration would take for its own.
_MODEL = {"attn_implementation", "dtype", "experts_implementation", "quantization_config", "torch_dtype"}
_LABELS = {"id2label", "label2id", "num_labels", "problem_type"}
# Heads that a checkpoint of a language model lacks and a training can begin with.
_NEW_HEADS = re.compile("For(Sequence|Token)Classification$")
_POOLER = re.compile(r"(^|\.)pooler\.")
# A weight of a numbered layer; buffers, such as the frequencies of rotary positions, have other names.
_LAYER = re.compile(r"(.*?)\.\d+\..*\b(weight|bias)$")


def auto(pretrained_model_name_or_path: str | Path, task: str = "base", **kwargs: Any) -> Any:
    """Load a model for a task: what `AutoModel...` do, for published checkpoints too that they refuse or mistake.

    No weight is random in silence. Weights that the checkpoint lacks are an error; only a head for classes or numbers
    (and a pooler below it) may be new, and only where `num_labels` or `id2label` asks for one. A base model whose
    checkpoint has no pooler has none: its `pooler_output` is None.

    Args:
        pretrained_model_name_or_path: Hub id, folder, or a run of `gengram finetune` (its best model).
        task: `base`, `masked_lm`, `causal_lm`, `pretraining` (the head that the checkpoint was trained with, masked or
            causal), `sequence_classification` or `token_classification`.
        kwargs: of `from_pretrained` (`attn_implementation`, `revision`, `output_loading_info` ...; `dtype` is by
            default that of the file), and fields of the configuration (`num_labels`, `rescaling_factor` ...).

    Raises:
        `ValueError`: a task that does not exist, or that the architecture has no class for; a checkpoint that does not
            fit its configuration, lacks weights, or has some that are not finite.
        `OSError`: files that cannot be read.

    Example:

    ```python
    >>> import gengram

    >>> model = gengram.auto("InstaDeepAI/nucleotide-transformer-v2-50m-multi-species", "masked_lm")  # doctest: +SKIP
    ```"""
    asks_for_head = bool({"num_labels", "id2label"} & kwargs.keys())
    tells = kwargs.pop("output_loading_info", False)
    model, found = _load(pretrained_model_name_or_path, task, **kwargs)
    random = _list_random(found)
    head = find_head(model, random)
    if lacking := [name for name in random if not (asks_for_head and name in head)]:
        remedy = (
            "To train a new head, ask for it with num_labels= or id2label="
            if set(random) == head
            else "Take the checkpoint that this configuration belongs to"
        )
        raise InputError(
            f"{pretrained_model_name_or_path}: {len(lacking)} weights of {type(model).__name__} are missing or of "
            f"another size, e.g. {lacking[0]}. {remedy}"
        )
    return (model, found) if tells else model


def load_weights(
    path: str | Path, task: str = "base", *, dtype: torch.dtype | str = torch.float32, **kwargs: Any
) -> tuple[Any, list[str]]:
    """Load a model for a task, whatever the checkpoint has of it.

    Args:
        path, task: see `auto`.
        dtype: of the weights; `auto`: that of the file.
        kwargs: of `auto`, e.g. `config`.

    Returns:
        The model, and the names of the weights that are random: the checkpoint lacks them or has them in another size.

    Raises:
        `InputError`: weights that cannot be read, or of another model.
    """
    with tell_faults(f"{path}: the model's weights cannot be loaded"):
        # Another size is let through, to be told together with what is missing.
        model, found = _load(path, task, dtype=dtype, ignore_mismatched_sizes=True, **kwargs)
    return model, _list_random(found)


def require_model(path: str | Path, task: str = "base", *, device: torch.device | None = None, **kwargs: Any) -> Any:
    """Load a whole, trained model, in evaluation mode.

    Args:
        path, task: see `auto`.
        device: where to; by default it stays on the CPU.
        kwargs: of `load_weights`, e.g. `config`, `dtype`.

    Raises:
        `InputError`: see `load_weights`; weights are missing or of another size.
    """
    model, random = load_weights(path, task, **kwargs)
    if random:
        raise InputError(
            f"{path}: {len(random)} weights are missing or of another size, e.g. {random[0]}; train the model first, "
            "or take another checkpoint"
        )
    return model.eval() if device is None else model.eval().to(device)


def find_head(model: PreTrainedModel, names: list[str]) -> set[str]:
    """Return those of the weights that are a head's, and with it a pooler's, which only a head reads; none of a
    language model, whose head is part of what was trained."""
    if not _NEW_HEADS.search(type(model).__name__):
        return set()
    body = _list_body(model)
    head = {name for name in names if name not in body}
    return head | {name for name in names if head and _POOLER.search(name)}


def check_finite(model: Any, path: str | Path) -> None:
    """Refuse a model with weights that are not numbers, or infinite: what it says would not be numbers either.

    Raises:
        `InputError`: naming the first such tensor and how many there are.
    """
    faulty = [name for name, weight in model.state_dict().items() if not weight.is_meta and not is_finite(weight)]
    if faulty:
        raise InputError(
            f"{path}: {len(faulty)} tensors have values that are not finite (NaN or infinite), e.g. {faulty[0]}: the "
            "training diverged, or the file is damaged"
        )


def is_finite(weight: torch.Tensor) -> bool:
    """Whether all values of a tensor are numbers and none is infinite."""
    if not weight.is_floating_point():
        return True
    # Formats of one byte know no such test.
    return bool(torch.isfinite(weight if weight.element_size() > 1 else weight.float()).all())


def check_present(model: Any) -> None:
    """Refuse a model some of whose weights are nowhere; those that accelerate brings in where they are needed are not.

    Raises:
        `InputError`: naming the first of them.
    """
    away = [
        f"{prefix}.{name}".lstrip(".")
        for prefix, part in model.named_modules()
        for name, weight in part.named_parameters(recurse=False)
        if weight.is_meta and not has_offloaded_params(part)
    ]
    if away:
        raise InputError(
            f"{type(model).__name__}: {len(away)} weights have no values (device 'meta'), e.g. {away[0]}. Load the "
            "model with from_pretrained or gengram.auto; with a device_map, to what it places on disk it gives an "
            "offload_folder"
        )


def find_device(model: Any) -> torch.device:
    """Return where inputs go: to a model's first weight, or, where that is away between calls, to where it comes."""
    for part in model.modules():
        for weight in part.parameters(recurse=False):
            if has_offloaded_params(part):
                return torch.device(part._hf_hook.execution_device)
            return weight.device
    return torch.device("cpu")


def count_embeddings(model: Any) -> int:
    """Return for how many token ids a model has a vector."""
    return int(model.get_input_embeddings().weight.shape[0])


def _load(path: str | Path, task: str, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
    """Load a model, whatever the checkpoint has of it, and what `output_loading_info` tells of that."""
    if task not in TASKS:
        raise ValueError(f"task={task!r}: choose one of {', '.join(TASKS)}")
    path = find_in_run(path)
    if "config" not in kwargs:
        fields = {name: value for name, value in kwargs.items() if name not in _MODEL}
        config, rest = load_config(path, return_unused_kwargs=True, **fields)
        kwargs = {name: kwargs[name] for name in kwargs.keys() & (rest.keys() | HUB | _MODEL)}
        kwargs["config"] = config
    elif given := kwargs.keys() & _LABELS:
        kwargs["config"] = copy.deepcopy(kwargs["config"])
        for name in sorted(given):
            setattr(kwargs["config"], name, kwargs.pop(name))
    auto_class = _choose_class(task, kwargs["config"], path)
    code = _find_code(path, kwargs)
    try:
        model, found = auto_class.from_pretrained(path, output_loading_info=True, **kwargs)
    except RuntimeError as error:  # weights of other sizes
        if not code:
            raise
        raise InputError(f"{path}: {tell_error(error)}. Note that {code}") from error
    _refuse_left_over(model, found["unexpected_keys"], path, code)
    random = _list_random(found)
    if code and (lacking := _list_lacking(model, random, task)):
        raise InputError(
            f"{path}: {len(lacking)} weights of {type(model).__name__}, of transformers, are missing or of another "
            f"size, e.g. {lacking[0]}: {code}"
        )
    if task == "base" and random and all(name.startswith("pooler.") for name in random):
        # Masked language models have none; one of random weights would look like an embedding.
        model.pooler = None
        found |= {kind: type(found[kind])() for kind in ("missing_keys", "mismatched_keys")}
    check_finite(model, path)
    row = find_model_row(str(path))
    if code and (row is None or row.loads == "remote_code"):
        tell(f"{path}: its config.json names code of its own, which is not run; the weights fit {type(model).__name__}")
    return speed_up(model), found


def _choose_class(task: str, config: Any, path: str | Path) -> Any:
    """The Auto class for a task; for `pretraining` that of the head which the checkpoint was trained with.

    Raises:
        `InputError`: the architecture has none.
    """
    auto_class = TASKS[task]
    if task == "pretraining":
        named = str((config.architectures or [""])[0])
        ends = {"ForPreTraining": auto_class, "ForMaskedLM": AutoModelForMaskedLM, "ForCausalLM": AutoModelForCausalLM}
        inner = getattr(config, "backbone_config", None) or config
        language_model = AutoModelForCausalLM if is_decoder(inner) else AutoModelForMaskedLM
        auto_class = next((each for end, each in ends.items() if named.endswith(end)), language_model)
    if type(config) not in auto_class._model_mapping:
        others = [name for name, each in TASKS.items() if type(config) in each._model_mapping]
        raise InputError(
            f"{path}: there is no class of {config.model_type} for {task} (no {auto_class.__name__}); there are "
            f"some for {', '.join(others) or 'no task'}"
        )
    return auto_class


def is_decoder(config: PreTrainedConfig) -> bool:
    """Whether models of this architecture are causal and nothing else, as GPT-2, Llama and Mistral are: their heads for
    classes read the last token."""
    return type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and type(config) not in MODEL_FOR_MASKED_LM_MAPPING


def _find_code(path: str | Path, kwargs: dict[str, Any]) -> str:
    """What to say where transformers' own class does not fit a model whose config.json names code; empty if none."""
    if not is_stock(kwargs["config"]):
        return ""
    fields, _ = PreTrainedConfig.get_config_dict(path, **{name: kwargs[name] for name in HUB & kwargs.keys()})
    code = name_code(fields)
    if not code:
        return ""
    return f"the model needs code of its own ({code}), which is never run. {name_alternative(fields, path)}"


def _list_lacking(model: PreTrainedModel, random: list[str], task: str) -> list[str]:
    """Those of the random weights that no head is made of, and no pooler that only a head reads."""
    head = find_head(model, random)
    return [name for name in random if name not in head and not (task == "base" and name.startswith("pooler."))]


def _list_random(found: dict[str, Any]) -> list[str]:
    return sorted({*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])})


def _list_body(model: PreTrainedModel) -> set[str]:
    body = {id(parameter) for parameter in model.base_model.parameters()}
    return {name for name, parameter in model.named_parameters() if id(parameter) in body}


def _refuse_left_over(model: PreTrainedModel, names: Any, path: str | Path, code: str) -> None:
    """Refuse weights of layers that the model does not have: it would be another one than was trained."""
    layers = {name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    prefix = f"{model.base_model_prefix}."
    found = []
    for name in sorted(names):
        match = _LAYER.match(name)
        if match and {match[1], match[1].removeprefix(prefix)} & layers:
            found.append(name)
    if found:
        raise InputError(
            f"{path}: {len(found)} weights have no place in {type(model).__name__}, e.g. {found[0]}: "
            f"{code or 'its config.json is of another model'}"
        )


def choose_device(name: str | None = None) -> torch.device:
    """Return the device of that name; by default the accelerator of this machine if it has one, else the CPU.

    Raises:
        `InputError`: there is no such device here.
    """
    if name is None:
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return found or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
        if device.type == "meta":
            raise NotImplementedError("it holds no numbers")
    # An assertion where PyTorch has no CUDA, no module where a kind of device is left to a plugin.
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = shorten(str(error), 120, placeholder=" ...")
        raise InputError(
            f"devices={name!r}: there is no such device here ({reason}). Leave it out, or give cpu"
        ) from error
    return device


__all__ = [
    "TASKS",
    "auto",
    "check_finite",
    "check_present",
    "choose_device",
    "count_embeddings",
    "find_device",
    "find_head",
    "is_decoder",
    "is_finite",
    "load_weights",
    "require_model",
]
