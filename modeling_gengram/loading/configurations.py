"""From a Hub id or a folder to a configuration, also where a published config.json misleads; no torch, no weights.

Nucleotide Transformer v2 names no architecture, SegmentNT names the wrong one. A family's configuration class says
which published files are its own (`recognizes`).
"""

from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig, PreTrainedTokenizerBase
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from gengram.errors import InputError
from gengram.gena.published import mend_config
from gengram.loading.checkpoints import find_in_run
from gengram.loading.faults import tell_faults
from gengram.loading.foreign_code import check_architecture
from gengram.printable import shorten
from gengram.registration import list_configurations

HUB = frozenset({"cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token"})
"""Arguments of `from_pretrained` that choose and fetch a file."""

# They number positions from pad_token_id + 1.
_COUNT_FROM_PADDING = frozenset(
    {
        *("camembert", "data2vec-text", "esm", "ibert", "longformer", "luke", "mpnet"),
        *("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"),
    }
)
# More classes than any model has.
_MOST_LABELS = 1_000_000


def load_config(pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Any:
    """Read the configuration of any model that transformers or this package knows; no remote code is run.

    Args:
        pretrained_model_name_or_path: Hub id, folder, or a run of `gengram finetune` (its best model).
        kwargs: of `AutoConfig.from_pretrained` (`revision`, `token`, `num_labels`, `return_unused_kwargs` ...).

    Returns:
        `PreTrainedConfig`, or with `return_unused_kwargs` that and the arguments that are none of its fields.

    Raises:
        `OSError`: there is no config.json.
        `ValueError`: it names no architecture, or none that is known (`InputError`, see `check_architecture`).
    """
    pretrained_model_name_or_path = find_in_run(pretrained_model_name_or_path)
    hub = {name: kwargs[name] for name in HUB & kwargs.keys()}
    fields, _ = PreTrainedConfig.get_config_dict(pretrained_model_name_or_path, **hub)
    _check_count(fields.get("num_labels"), pretrained_model_name_or_path)
    for config_class in list_configurations():
        if hasattr(config_class, "recognizes") and config_class.recognizes(fields):
            return config_class.from_pretrained(pretrained_model_name_or_path, **kwargs)
    check_architecture(fields, pretrained_model_name_or_path)
    found = AutoConfig.from_pretrained(pretrained_model_name_or_path, trust_remote_code=False, **kwargs)
    config = mend_config(found[0] if isinstance(found, tuple) else found)
    if is_stock(config) and hasattr(config, "auto_map"):
        del config.auto_map  # It names code that is not run, and that would not be beside what is saved.
    return found


def require_config(path: str | Path) -> Any:
    """`load_config`, for a command.

    Raises:
        `InputError`: no configuration can be read.
    """
    here = "no model configuration can be read here"
    if not Path(path).exists():  # A folder that is not there may look like an id: `runs/mine`.
        here = "there is no such folder here, and from the Hub no model configuration can be read"
    with tell_faults(f"{path}: {here}"):
        return load_config(path)


def measure_capacity(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the longest input in tokens that both the model and the tokenizer allow."""
    if config.model_type == "rmt":
        # The encoder sees segments; the whole may be of any length, unless their number is limited.
        segments = config.max_segments
        return VERY_LARGE_INTEGER if segments is None else segments * config.content_length
    backbone = config.get_text_config()
    positions = getattr(backbone, "max_position_embeddings", None) or 0
    if positions < 1:  # XLNet says -1: any length.
        positions = tokenizer.model_max_length
    is_rotary = backbone.model_type == "esm" and backbone.position_embedding_type != "absolute"
    if backbone.model_type in _COUNT_FROM_PADDING and not is_rotary:
        positions -= backbone.pad_token_id + 1
    positions = getattr(backbone, "max_tokens", positions)
    return int(min(positions, tokenizer.model_max_length))


def _check_count(num_labels: Any, path: str | Path) -> None:
    """Refuse more classes than there can be: transformers would make a name for each until the memory is full."""
    if num_labels is not None and not (isinstance(num_labels, int) and 0 <= num_labels <= _MOST_LABELS):
        raise InputError(
            f"{path}: num_labels={shorten(repr(num_labels), 40)} in config.json is no number of classes from 0 to "
            f"{_MOST_LABELS:,}"
        )


def is_stock(config: Any) -> bool:
    """Whether a configuration is one of transformers' own."""
    return type(config).__module__.startswith("transformers.")


__all__ = ["HUB", "is_stock", "load_config", "measure_capacity", "require_config"]
