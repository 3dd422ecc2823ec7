"""From a Hub id or a folder to a configuration and a model, also where a published config.json misleads.

Nucleotide Transformer v2 names no architecture, SegmentNT names the wrong one, and their own code does not run under
today's transformers. A family's configuration class says which published files are its own (`recognizes`).
"""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from gengram.errors import InputError
from gengram.gena.published import mend_config, speed_up
from gengram.loading.checkpoints import find_in_run
from gengram.loading.faults import tell_faults
from gengram.registration import list_configurations

TASKS: dict[str, Any] = {
    "base": AutoModel,
    "causal_lm": AutoModelForCausalLM,
    "masked_lm": AutoModelForMaskedLM,
    "sequence_classification": AutoModelForSequenceClassification,
    "token_classification": AutoModelForTokenClassification,
}
# Arguments that choose and fetch a file, and those of a model that a configuration would take for its own.
_HUB = {"cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token"}
_MODEL = {"attn_implementation", "dtype", "experts_implementation", "quantization_config", "torch_dtype"}


def load_config(pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Any:
    """Read the configuration of any model that transformers or this package knows; no remote code is run.

    Args:
        pretrained_model_name_or_path: Hub id, folder, or a run of `gengram finetune` (its best model).
        kwargs: of `AutoConfig.from_pretrained` (`revision`, `token`, `num_labels`, `return_unused_kwargs` ...).

    Returns:
        `PreTrainedConfig`, or with `return_unused_kwargs` that and the arguments that are none of its fields.

    Raises:
        `OSError`: there is no config.json.
        `ValueError`: it names no architecture, or none that is known.
    """
    pretrained_model_name_or_path = find_in_run(pretrained_model_name_or_path)
    hub = {name: kwargs[name] for name in _HUB & kwargs.keys()}
    fields, _ = PreTrainedConfig.get_config_dict(pretrained_model_name_or_path, **hub)
    for config_class in list_configurations():
        if hasattr(config_class, "recognizes") and config_class.recognizes(fields):
            return config_class.from_pretrained(pretrained_model_name_or_path, **kwargs)
    found = AutoConfig.from_pretrained(pretrained_model_name_or_path, trust_remote_code=False, **kwargs)
    mend_config(found[0] if isinstance(found, tuple) else found)
    return found


def auto(pretrained_model_name_or_path: str | Path, task: str = "base", **kwargs: Any) -> PreTrainedModel:
    """Load a model for a task: what `AutoModel...` do, for published checkpoints too that they refuse or mistake.

    Args:
        pretrained_model_name_or_path: Hub id, folder, or a run of `gengram finetune` (its best model).
        task: `base`, `masked_lm`, `causal_lm`, `sequence_classification` or `token_classification`.
        kwargs: of `from_pretrained` (`dtype`, `attn_implementation`, `revision` ...), and fields of the configuration
            (`num_labels`, `rescaling_factor` ...).

    Raises:
        `ValueError`: a task that does not exist, or that the architecture has no class for; a checkpoint that does not
            fit its configuration.
        `OSError`: files that cannot be read.

    Example:

    ```python
    >>> import gengram

    >>> model = gengram.auto("InstaDeepAI/nucleotide-transformer-v2-50m-multi-species", "masked_lm")  # doctest: +SKIP
    ```"""
    if task not in TASKS:
        raise ValueError(f"task={task!r}: choose one of {', '.join(TASKS)}")
    pretrained_model_name_or_path = find_in_run(pretrained_model_name_or_path)
    if "config" not in kwargs:
        fields = {name: value for name, value in kwargs.items() if name not in _MODEL}
        config, rest = load_config(pretrained_model_name_or_path, return_unused_kwargs=True, **fields)
        kwargs = {name: kwargs[name] for name in kwargs.keys() & (rest.keys() | _HUB | _MODEL)}
        kwargs["config"] = config
    loaded = TASKS[task].from_pretrained(pretrained_model_name_or_path, **kwargs)
    speed_up(loaded[0] if isinstance(loaded, tuple) else loaded)  # with output_loading_info there is more
    return loaded


def load_weights(
    path: str | Path, task: str = "base", *, dtype: torch.dtype = torch.float32, **kwargs: Any
) -> tuple[Any, list[str]]:
    """Load a model for a task, whatever the checkpoint has of it.

    Args:
        path, task: see `auto`.
        dtype: of the weights.
        kwargs: of `auto`, e.g. `config`.

    Returns:
        The model, and the names of the weights that are random: the checkpoint lacks them or has them in another size.

    Raises:
        `InputError`: weights that cannot be read, or of another model.
    """
    with tell_faults(f"{path}: the model's weights cannot be loaded"):
        # Another size is let through, to be told together with what is missing.
        loaded: Any = auto(path, task, dtype=dtype, ignore_mismatched_sizes=True, output_loading_info=True, **kwargs)
    model, found = loaded
    check_finite(model, path)
    return model, sorted(found["missing_keys"] | {name for name, *_ in found["mismatched_keys"]})


def require_model(
    path: str | Path, task: str = "base", *, device: torch.device, may_lack: str | None = None, **kwargs: Any
) -> Any:
    """Load a whole, trained model, in evaluation mode.

    Args:
        path, task: see `auto`.
        device: where to.
        may_lack: part of the names of weights that need not be there, e.g. `pooler`.
        kwargs: of `load_weights`, e.g. `config`, `dtype`.

    Raises:
        `InputError`: see `load_weights`; weights are missing or of another size.
    """
    model, random = load_weights(path, task, **kwargs)
    if lacking := [name for name in random if may_lack is None or may_lack not in name]:
        raise InputError(
            f"{path}: {len(lacking)} weights are missing or of another size, e.g. {lacking[0]}; train the model first, "
            "or take another checkpoint"
        )
    return model.eval().to(device)


def check_finite(model: Any, path: str | Path) -> None:
    """Refuse a model with weights that are not numbers, or infinite: what it says would not be numbers either.

    Raises:
        `InputError`: naming the first such tensor and how many there are.
    """
    faulty = [
        name
        for name, weight in model.state_dict().items()
        if weight.is_floating_point() and not weight.is_meta and not torch.isfinite(weight).all()
    ]
    if faulty:
        raise InputError(
            f"{path}: {len(faulty)} tensors have values that are not finite (NaN or infinite), e.g. {faulty[0]}: the "
            "training diverged, or the file is damaged"
        )


def check_tokenizer(model: Any, tokenizer: PreTrainedTokenizerBase, path: str | Path) -> None:
    """Refuse a tokenizer that the model cannot have been trained with, or that does not read DNA.

    Raises:
        `InputError`: ids beyond the model's embeddings; A, C, G and T that are unknown or one and the same token.
    """
    highest = max(tokenizer.get_vocab().values(), default=-1)
    rows = model.get_input_embeddings().weight.shape[0]
    if highest >= rows:
        raise InputError(
            f"{path}: the tokenizer has the id {highest}, but the model has {rows} embeddings: they do not belong "
            "together"
        )
    ids = {base: tokenizer(base * 12, add_special_tokens=False, verbose=False)["input_ids"] for base in "ACGT"}
    unknown = tokenizer.unk_token_id
    known = all(found and unknown not in found for found in ids.values())
    if not known or len({tuple(found) for found in ids.values()}) < len(ids):
        raise InputError(
            f"{path}: the tokenizer there does not read DNA: A, C, G and T are unknown to it or the same token. Save "
            "the tokenizer that the model was trained with into this folder"
        )


def require_config(path: str | Path) -> Any:
    """`load_config`, for a command.

    Raises:
        `InputError`: no configuration can be read.
    """
    with tell_faults(f"{path}: no model configuration can be read here"):
        return load_config(path)


def measure_capacity(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the longest input in tokens that both the model and the tokenizer allow."""
    if config.model_type == "rmt":
        # The encoder sees segments; the whole may be of any length, unless their number is limited.
        segments = config.max_segments
        return VERY_LARGE_INTEGER if segments is None else segments * config.content_length
    backbone = config.get_text_config()
    positions = getattr(backbone, "max_position_embeddings", None) or tokenizer.model_max_length
    if backbone.model_type == "esm" and backbone.position_embedding_type == "absolute":
        # ESM numbers positions from pad_token_id + 1.
        positions -= backbone.pad_token_id + 1
    positions = getattr(backbone, "max_tokens", positions)
    return int(min(positions, tokenizer.model_max_length))


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
    except (RuntimeError, AssertionError) as error:  # an assertion where PyTorch has no CUDA; NotImplemented is Runtime
        raise InputError(f"devices={name!r}: there is no such device here ({str(error).splitlines()[0]})") from error
    return device


__all__ = [
    "TASKS",
    "auto",
    "check_finite",
    "check_tokenizer",
    "choose_device",
    "load_config",
    "load_weights",
    "measure_capacity",
    "require_config",
    "require_model",
]
