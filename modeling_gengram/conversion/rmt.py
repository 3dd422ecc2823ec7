"""Recurrent-memory models of GENA_LM and recurrent-memory-transformer: how do their weights become ours?"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedConfig

from ..rmt.configuration_rmt import RmtConfig
from ..rmt.modeling_rmt import RmtModel, RmtPreTrainedModel, rename_old_weights

# The wrapper's own: token ids as buffers, and a second name of the word embeddings; then what can be computed.
_WRAPPER = {"cls_token", "sep_token", "mem_token_ids", "model.embeddings.weight", "model.embeddings.embedding.weight"}
_OBSOLETE = re.compile(r"\.(position_ids|token_type_ids|rotary_emb\.inv_freq)$")
_ALIGNMENTS = {None: "right", "right": "right", "left": "left", "center": "balanced"}


def convert_rmt(
    weights: Mapping[str, torch.Tensor],
    settings: Mapping[str, Any],
    backbone_config: PreTrainedConfig,
    model_class: type[RmtPreTrainedModel],
    **fields,
) -> RmtPreTrainedModel:
    """
    Build a model with a recurrent memory from the state dict of an original wrapper.

    The memory tokens, rows of the word embeddings there, become a parameter of their own; the rows stay where they
    are, so that a language model's vocabulary is what it was.

    Args:
        weights: the state dict (`model_state_dict` of a training checkpoint; read it with `weights_only=True`).
        settings: of the wrapper, by its names: `input_size`, `num_mem_tokens`, `max_n_segments`, `bptt_depth` (-1:
            all), `sum_loss`; `segment_alignment` of recurrent-memory-transformer, whose absence tells GENA_LM by
            `repo`; `cls_token_id`, `sep_token_id`, `pad_token_id`.
        backbone_config: of the encoder; its `vocab_size` counts the memory rows.
        model_class: e.g. `RmtForSequenceClassification`.
        fields: of `RmtConfig`, in place of what the settings say; `compat=None` for our losses and padding.

    Raises:
        ValueError: weights are missing or left over.
    """
    gena = "GENA_LM" in settings.get("repo", "GENA_LM")
    depth = settings.get("bptt_depth", -1)
    given = {
        "num_memory_tokens": settings["num_mem_tokens"],
        "segment_length": settings["input_size"],
        "max_segments": settings.get("max_n_segments"),
        "segment_alignment": "balanced" if gena else _ALIGNMENTS[settings.get("segment_alignment")],
        "bptt_depth": None if depth == -1 else depth,
        "segment_losses": "all" if settings.get("sum_loss") else "last",
        "compat": "gena" if gena else "rmt",
        "id2label": backbone_config.id2label,
        "problem_type": backbone_config.problem_type,
        **{name: settings[name] for name in ("cls_token_id", "sep_token_id", "pad_token_id") if name in settings},
    }
    config = RmtConfig(backbone_config=backbone_config, **{**given, **fields})
    model = model_class(config)
    kept = {name: tensor for name, tensor in weights.items() if name not in _WRAPPER and not _OBSOLETE.search(name)}
    rename_old_weights(model, kept)
    tokens = "memory_tokens.weight" if isinstance(model, RmtModel) else "model.memory_tokens.weight"
    kept[tokens] = _find_words(model, kept)[weights["mem_token_ids"].long()].clone()
    found = model.load_state_dict(kept, strict=False)
    if found.missing_keys or found.unexpected_keys:
        raise ValueError(
            f"the weights are not those of {model_class.__name__} over {type(backbone_config).__name__}: missing are "
            f"{found.missing_keys[:4]}, left over are {found.unexpected_keys[:4]}"
        )
    return model.eval()


def _find_words(model: RmtPreTrainedModel, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
    words = model.get_input_embeddings().weight
    name = next(name for name, parameter in model.named_parameters() if parameter is words)
    if name not in weights:
        raise ValueError(f"the word embeddings are missing: {name}")
    return weights[name]


__all__ = ["convert_rmt"]
