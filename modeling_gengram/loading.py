"""From a Hub id or a folder to configuration, tokenizer and model, also where a published config.json misleads.

Nucleotide Transformer v2 names no architecture, SegmentNT names the wrong one, and their own code does not run under
today's transformers. A family's configuration class says which published files are its own (`recognizes`).
"""

import json
from pathlib import Path
from typing import Any

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    EsmTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.tokenization_auto import get_tokenizer_config
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER
from transformers.utils import cached_file

from .gena.published import has_gena_tokens, mend_config, speed_up
from .nucleotide_transformer.configuration_ntv3 import NTv3Config, NTv3PostTrainedConfig
from .registration import MODELS

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
        pretrained_model_name_or_path: Hub id or folder.
        kwargs: of `AutoConfig.from_pretrained` (`revision`, `token`, `num_labels`, `return_unused_kwargs` ...).

    Returns:
        `PreTrainedConfig`, or with `return_unused_kwargs` that and the arguments that are none of its fields.

    Raises:
        `OSError`: there is no config.json.
        `ValueError`: it names no architecture, or none that is known.
    """
    hub = {name: kwargs[name] for name in _HUB & kwargs.keys()}
    fields, _ = PreTrainedConfig.get_config_dict(pretrained_model_name_or_path, **hub)
    for config_class in MODELS:
        if hasattr(config_class, "recognizes") and config_class.recognizes(fields):
            return config_class.from_pretrained(pretrained_model_name_or_path, **kwargs)
    found = AutoConfig.from_pretrained(pretrained_model_name_or_path, trust_remote_code=False, **kwargs)
    mend_config(found[0] if isinstance(found, tuple) else found)
    return found


def load_tokenizer(pretrained_model_name_or_path: str | Path, **kwargs: Any) -> PreTrainedTokenizerBase:
    """Read a tokenizer; of a published Nucleotide Transformer make the one of `load_kmer_tokenizer`, of NTv3 that of
    `build_ntv3_tokenizer`, of a BPE like GENA-LM's that of `load_bpe_tokenizer`.

    Args:
        pretrained_model_name_or_path: Hub id or folder.
        kwargs: of `AutoTokenizer.from_pretrained`; of a tokenizer that is made here those that choose the file, and
            attributes of the tokenizer (`model_max_length`, `padding_side` ...).

    Raises:
        `OSError` or `ValueError`: as `AutoTokenizer.from_pretrained`.
        `TypeError`: an argument that is no attribute of the tokenizer that is made here.
    """
    hub = {name: kwargs[name] for name in _HUB & kwargs.keys()}
    attributes = {name: value for name, value in kwargs.items() if name not in _HUB}
    if _has_tokenizer_of_ntv3(pretrained_model_name_or_path, hub):
        from gengram.tokenization import build_ntv3_tokenizer

        return _set_attributes(build_ntv3_tokenizer(), attributes)
    tokenizer = AutoTokenizer.from_pretrained(pretrained_model_name_or_path, trust_remote_code=False, **kwargs)
    if has_gena_tokens(tokenizer):
        from gengram.tokenization import BpeTokenizer, load_bpe_tokenizer

        named = get_tokenizer_config(pretrained_model_name_or_path, **hub).get("tokenizer_class")
        if named == BpeTokenizer.__name__:  # mended before it was saved, in the ways that were chosen then
            return _set_attributes(BpeTokenizer.from_pretrained(pretrained_model_name_or_path, **hub), attributes)
        length = tokenizer.model_max_length
        mended = load_bpe_tokenizer(pretrained_model_name_or_path, model_max_length=length, **hub)
        return _set_attributes(mended, attributes)
    # A protein vocabulary has single letters and no such run.
    if isinstance(tokenizer, EsmTokenizer) and {"AAA", "AAAAAA"} & tokenizer.get_vocab().keys():
        from gengram.tokenization import load_kmer_tokenizer

        return _set_attributes(load_kmer_tokenizer(pretrained_model_name_or_path, **hub), attributes)
    return tokenizer


def _set_attributes(tokenizer: PreTrainedTokenizerBase, attributes: dict[str, Any]) -> PreTrainedTokenizerBase:
    for name, value in attributes.items():
        if not hasattr(tokenizer, name):
            raise TypeError(
                f"{name}={value!r}: {type(tokenizer).__name__} has no such attribute; gengram.tokenization's functions "
                "take the choices of each kind of tokenizer"
            )
        setattr(tokenizer, name, value)
    return tokenizer


def _has_tokenizer_of_ntv3(pretrained_model_name_or_path: str | Path, hub: dict[str, Any]) -> bool:
    """Whether this is an NTv3 as published, whose tokenizer is remote code."""

    def find(name: str) -> str | None:
        return cached_file(pretrained_model_name_or_path, name, _raise_exceptions_for_missing_entries=False, **hub)

    def read(name: str) -> dict[str, Any]:
        file = find(name)
        return {} if file is None else json.loads(Path(file).read_text())

    if read("config.json").get("model_type") not in (NTv3Config.model_type, NTv3PostTrainedConfig.model_type):
        return False
    return "auto_map" in read("tokenizer_config.json") or find("tokenizer.json") is None


def auto(pretrained_model_name_or_path: str | Path, task: str = "base", **kwargs: Any) -> PreTrainedModel:
    """Load a model for a task: what `AutoModel...` do, for published checkpoints too that they refuse or mistake.

    Args:
        pretrained_model_name_or_path: Hub id or folder.
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
    if "config" not in kwargs:
        fields = {name: value for name, value in kwargs.items() if name not in _MODEL}
        config, rest = load_config(pretrained_model_name_or_path, return_unused_kwargs=True, **fields)
        kwargs = {name: kwargs[name] for name in kwargs.keys() & (rest.keys() | _HUB | _MODEL)}
        kwargs["config"] = config
    loaded = TASKS[task].from_pretrained(pretrained_model_name_or_path, **kwargs)
    speed_up(loaded[0] if isinstance(loaded, tuple) else loaded)  # with output_loading_info there is more
    return loaded


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


__all__ = ["TASKS", "auto", "load_config", "load_tokenizer", "measure_capacity"]
