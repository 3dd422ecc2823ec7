"""Every family of the model table as small models: a configuration, its classes, and a batch with labels for each."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from transformers import (
    BertConfig,
    BigBirdConfig,
    EsmConfig,
    LlamaConfig,
    MixtralConfig,
    ModernBertConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from gengram import (
    GenaBertConfig,
    GengramConfig,
    NTv3Config,
    NTv3PostTrainedConfig,
    NucleotideTransformerConfig,
    RmtConfig,
    SegmentNTConfig,
)
from gengram.gena.modeling_gena import GenaBertForBinnedRegression
from gengram.megatron_decoder.configuration_megatron_decoder import MegatronDecoderConfig
from gengram.registration import find_model

B, T = 2, 17
_SIZE = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
_TOKENS = {"pad_token_id": 3, "bos_token_id": 1, "eos_token_id": 2}
_BERT = {**_SIZE, "pad_token_id": 3, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
_ESM = {**_SIZE, "pad_token_id": 3, "mask_token_id": 4}
_MEMORY = {"memory_layers": [0, 1], "memory_dim": 8}


def _modernbert() -> ModernBertConfig:
    return ModernBertConfig(**_SIZE, **_TOKENS, cls_token_id=1, sep_token_id=2, local_attention=8)


def _gena(**fields) -> GenaBertConfig:
    return GenaBertConfig(**_BERT, **fields)


def _nucleotide_transformer(**fields) -> NucleotideTransformerConfig:
    return NucleotideTransformerConfig(**_ESM, **fields)


def _gengram(backbone: PreTrainedConfig, **fields) -> GengramConfig:
    return GengramConfig(backbone_config=backbone, **{**_MEMORY, **fields})


def _rmt(encoder: PreTrainedConfig) -> RmtConfig:
    tokens = {"cls_token_id": 1, "sep_token_id": 2, "pad_token_id": 3}
    return RmtConfig(backbone_config=encoder, segment_length=12, num_memory_tokens=3, **tokens)


_U_NET = {"conv_init_embed_dim": 16, "embed_dim": 24, "ffn_embed_dim": 32, "attention_heads": 2, "key_size": 8}
_SPECIES = {
    "species_to_token_id": {"human": 6, "mouse": 7},
    "bigwigs_per_species": {"human": ["a", "b"], "mouse": ["c"]},
    "bed_elements_names": ["exon", "intron"],
}

VARIANTS: dict[str, Callable[[], Any]] = {
    "gengram-llama": lambda: _gengram(LlamaConfig(**_SIZE, **_TOKENS, num_key_value_heads=2)),
    "gengram-mixtral": lambda: _gengram(
        MixtralConfig(**_SIZE, **_TOKENS, num_key_value_heads=2, num_local_experts=2, output_router_logits=True)
    ),
    "gengram-modernbert": lambda: _gengram(_modernbert()),
    "gengram-bert": lambda: _gengram(BertConfig(**_BERT)),
    "gengram-esm": lambda: _gengram(EsmConfig(**_ESM, position_embedding_type="rotary")),
    "gengram-gena": lambda: _gengram(_gena()),
    "gengram-megatron_decoder": lambda: _gengram(
        MegatronDecoderConfig(**_SIZE, **_TOKENS, num_key_value_heads=2, attention_output_gate=True)
    ),
    "gengram-nucleotide_transformer": lambda: _gengram(_nucleotide_transformer(), memory_layers=[]),
    "gena_bert": _gena,
    "gena_bert-rotary": lambda: _gena(position_embedding_type="rotary", pre_layer_norm=True, last_layer_norm=True),
    "rmt-gena": lambda: _rmt(_gena()),
    "rmt-bert": lambda: _rmt(BertConfig(**_BERT)),
    "rmt-big_bird": lambda: _rmt(BigBirdConfig(**_BERT, attention_type="original_full")),
    "rmt-modernbert": lambda: _rmt(_modernbert()),
    "rmt-esm": lambda: _rmt(EsmConfig(**_ESM, position_embedding_type="rotary")),
    "rmt-nucleotide_transformer": lambda: _rmt(_nucleotide_transformer()),
    "rmt-gengram": lambda: _rmt(_gengram(_modernbert())),
    "megatron_decoder": lambda: MegatronDecoderConfig(
        **_SIZE, **_TOKENS, num_key_value_heads=2, query_key_norm=True, attention_output_gate=True
    ),
    "nucleotide_transformer": _nucleotide_transformer,
    "nucleotide_transformer-v1": lambda: _nucleotide_transformer(
        position_embedding_type="absolute", gated_mlp=False, mlp_bias=True
    ),
    "segment_nt": lambda: SegmentNTConfig(**_ESM, features=["a", "b", "c"], kmer_size=3),
    "ntv3": lambda: NTv3Config(**_U_NET, num_downsamples=2),
    "ntv3_posttrained": lambda: NTv3PostTrainedConfig(**_U_NET, **_SPECIES, num_downsamples=2),
}
"""Name -> builder of a configuration; what stands before the hyphen is the row of the model table."""


def list_classes(config: PreTrainedConfig) -> list[type[PreTrainedModel]]:
    """The classes that models of a configuration have, the base model first, each once."""
    classes = [find_model(type(config), name) for name in type(config).auto_classes if name != "AutoConfig"]
    if isinstance(config, GengramConfig):
        other = "GengramForMaskedLM" if config.is_causal else "GengramForCausalLM"
        classes = [each for each in classes if each.__name__ not in (other, "GengramForPreTraining")]
    if isinstance(config, GenaBertConfig):
        classes.append(GenaBertForBinnedRegression)
    return list(dict.fromkeys(classes))


def list_pairs() -> Iterator[tuple[str, str]]:
    """Every variant with each of its classes, by name."""
    for name, build in VARIANTS.items():
        for each in list_classes(build()):
            yield name, each.__name__


def find_class(config: PreTrainedConfig, name: str) -> type[PreTrainedModel]:
    """The class of this name among those of a configuration."""
    return next(each for each in list_classes(config) if each.__name__ == name)


def build_model(variant: str, class_name: str, seed: int = 0, **fields) -> Any:
    """A model in evaluation mode, its weights drawn with a seed."""
    torch.manual_seed(seed)
    config = VARIANTS[variant]()
    for name, value in fields.items():
        setattr(config, name, value)
    return find_class(config, class_name)(config).eval()


def draw_inputs(config: PreTrainedConfig, class_name: str, labelled: bool = True) -> dict[str, torch.Tensor]:
    """Ids and mask [B, T] of a class's forward, what its family needs besides, and labels where it takes them."""
    generator = torch.Generator().manual_seed(1)
    length = 16 if config.model_type.startswith("ntv3") else T
    ids = torch.randint(5, config.vocab_size, (B, length), generator=generator)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if config.model_type == "ntv3_posttrained":
        inputs["species_ids"] = torch.tensor([6, 7])
    if class_name.endswith("BinnedRegression"):
        inputs["bins_mask"] = torch.zeros_like(ids).index_fill(1, torch.tensor([3, 9]), 1)
    if not labelled:
        return inputs
    if class_name.endswith("SequenceClassification"):
        inputs["labels"] = torch.tensor([0, 1])
    elif class_name.endswith("BinnedRegression"):
        inputs["labels"] = torch.ones(B, 2, config.num_labels)
    elif class_name == "SegmentNTForTokenClassification":
        inputs["labels"] = torch.randint(0, 2, (B, (T - 1) * config.kmer_size, config.num_labels), generator=generator)
    elif class_name.endswith("TokenClassification"):
        inputs["labels"] = torch.randint(0, 2, ids.shape, generator=generator)
    elif class_name.endswith("ForPreTraining"):
        inputs |= {"labels": ids, "next_sentence_label": torch.tensor([0, 1])}
    elif class_name.endswith(("MaskedLM", "CausalLM", "PostTrainedModel")):
        inputs["labels"] = ids
    return inputs
