"""What a family is tested with: a small configuration, its classes, inputs and a tokenizer; one entry a variant.

A family of `gengram.registration` without an entry fails `tests/conformance/test_testers.py`. A new family needs one
entry of `TESTERS`: what its configuration says (`auto_classes`, sizes) is read from there.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import (
    BertConfig,
    BigBirdConfig,
    BigBirdForMaskedLM,
    BigBirdForSequenceClassification,
    BigBirdForTokenClassification,
    BigBirdModel,
    DeepseekV3Config,
    EsmConfig,
    LlamaConfig,
    MixtralConfig,
    ModernBertConfig,
    ModernBertForMaskedLM,
    ModernBertForSequenceClassification,
    ModernBertForTokenClassification,
    ModernBertModel,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen3MoeConfig,
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
from gengram.gena.published import speed_up
from gengram.megatron_decoder.configuration_megatron_decoder import MegatronDecoderConfig
from gengram.registration import find_model
from gengram.tokenization.kmer import build_kmer_tokenizer
from gengram.tokenization.ntv3 import build_ntv3_tokenizer
from gengram.tokenization.nucleotide import build_nucleotide_tokenizer
from gengram.tokenization.train_tokenizer import train_bpe_tokenizer

BATCH = 7
"""B of a batch: where transformers' tests want that many, they fill up with ids that are no input of these models."""
TOKENS = 16
"""T of a batch, if the family has no other: what U-Nets halve, and more than BigBird's full attention takes."""


@dataclass(frozen=True)
class Tester:
    """
    How to test one variant of a family.

    Attributes:
        row: model type, a key of `registration.FAMILIES`, or of transformers for GENA-LM's native models.
        build_configuration: a new small configuration: at most two layers, a few thousand weights.
        build_tokenizer: a new tokenizer whose ids the configuration has, as the family's published ones are.
        first_id: ids of inputs are drawn from here to the vocabulary's end: special tokens are no input.
        classes: Auto class -> class where no row of `registration` says it.
        draw_more: further inputs of a forward, for a batch of B sequences.
        has_attentions: whether a forward can return attention weights.
        trains_all: whether every weight of every class takes part in its loss: no idle expert, no unused pooler.
        tokens: T of a batch.
        attended: positions that attention sees, where they are not the T tokens.
        label_shape: shape of a token classifier's labels of a sequence, where it is not (T,).
    """

    __test__ = False  # pytest, the name begins with Test by chance

    row: str
    build_configuration: Callable[[], PreTrainedConfig]
    build_tokenizer: Callable[[], PreTrainedTokenizerBase]
    first_id: int = 5
    classes: dict[str, type[PreTrainedModel]] = field(default_factory=dict)
    draw_more: Callable[[PreTrainedConfig, int], dict[str, Any]] = lambda config, B: {}
    has_attentions: bool = True
    trains_all: bool = True
    tokens: int = TOKENS
    attended: int | None = None
    label_shape: tuple[int, ...] | None = None

    def list_classes(self) -> dict[str, type[PreTrainedModel]]:
        """Return Auto class -> class, of those that fit the small configuration; one class is there once."""
        if self.classes:
            return dict(self.classes)
        config = self.build_configuration()
        names = [name for name in type(config).auto_classes if name not in ("AutoConfig", "AutoModelForPreTraining")]
        if self.row == "gengram":  # It has both language models, and its backbone is of one kind.
            names.remove("AutoModelForMaskedLM" if config.is_causal else "AutoModelForCausalLM")
        return {name: find_model(type(config), name) for name in names}

    def draw_inputs(self, config: PreTrainedConfig, B: int = BATCH, seed: int = 0) -> dict[str, Any]:
        """
        Return a forward's `input_ids` and `attention_mask` (B, T), int64, and what the family needs besides.

        Nothing is padded: the suites set the mask where they need padding.
        """
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(self.first_id, config.get_text_config().vocab_size, (B, self.tokens), generator=generator)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **self.draw_more(config, B)}

    def draw_labels(self, auto_class: str, B: int = BATCH) -> dict[str, torch.Tensor]:
        """Return the `labels` of a class, by its Auto class: none for a model without a loss."""
        if auto_class == "AutoModelForSequenceClassification":
            return {"labels": torch.zeros(B, dtype=torch.long)}
        if auto_class in ("AutoModelForTokenClassification", "AutoModelForCausalLM", "AutoModelForMaskedLM"):
            return {"labels": torch.zeros(B, *(self.label_shape or (self.tokens,)), dtype=torch.long)}
        return {}


_SIZE = {
    "vocab_size": 32,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
_CAUSAL = {**_SIZE, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
_ENCODER = {**_SIZE, **_NO_DROPOUT, "pad_token_id": 0}
_EXPERTS = {"num_experts_per_tok": 2}
_MEMORY = {"memory_layers": [0, 1], "memory_dim": 8, "kmer_sizes": [1, 2, 3], "window_size": 5, "conv_dilation": 1}


def _with_memory(backbone: PreTrainedConfig, **fields) -> GengramConfig:
    return GengramConfig(backbone_config=backbone, **{**_MEMORY, **fields})


def _in_segments(encoder: PreTrainedConfig, **fields) -> RmtConfig:
    return RmtConfig(backbone_config=encoder, num_memory_tokens=2, segment_length=12, **fields)


def _llama(**fields) -> LlamaConfig:
    return LlamaConfig(**_CAUSAL, num_key_value_heads=2, **fields)


def _mixtral() -> MixtralConfig:
    # transformers scales the rotation of a Mixtral with an explicit head_dim only.
    return MixtralConfig(**_CAUSAL, **_EXPERTS, num_key_value_heads=2, head_dim=8, num_local_experts=4)


def _qwen3_moe() -> Qwen3MoeConfig:
    return Qwen3MoeConfig(
        **_CAUSAL, **_EXPERTS, num_key_value_heads=2, head_dim=8, num_experts=4, moe_intermediate_size=16
    )


def _deepseek_v3() -> DeepseekV3Config:
    return DeepseekV3Config(
        **_CAUSAL,
        **_EXPERTS,
        num_key_value_heads=4,
        q_lora_rank=None,
        kv_lora_rank=16,
        qk_nope_head_dim=8,
        qk_rope_head_dim=8,
        v_head_dim=8,
        n_routed_experts=4,
        n_shared_experts=1,
        n_group=1,
        topk_group=1,
        moe_intermediate_size=16,
        first_k_dense_replace=1,
    )


def _modernbert() -> ModernBertConfig:
    return ModernBertConfig(
        **_SIZE,
        pad_token_id=3,
        bos_token_id=1,
        eos_token_id=2,
        cls_token_id=1,
        sep_token_id=2,
        local_attention=8,
        global_attn_every_n_layers=2,
        initializer_range=0.1,  # Attention of 0.02 in so narrow a model is the same at every place, wherever it looks.
    )


def _esm() -> EsmConfig:
    return EsmConfig(**_SIZE, **_NO_DROPOUT, pad_token_id=1, mask_token_id=4, position_embedding_type="rotary")


def _gena(**fields) -> GenaBertConfig:
    return GenaBertConfig(**{**_SIZE, **_NO_DROPOUT, **fields})


def _big_bird(**fields) -> BigBirdConfig:
    # As GENA-LM's: block-sparse, and inputs of more than 5 + 2r blocks are needed to see it.
    ids = {"pad_token_id": 3, "bos_token_id": 1, "eos_token_id": 2, "sep_token_id": 2}
    sparse = {"block_size": 2, "num_random_blocks": 1, "attention_type": "block_sparse"}
    return BigBirdConfig(**{**_SIZE, **_NO_DROPOUT, **ids, **sparse, **fields})


def _nucleotide_transformer(**fields) -> NucleotideTransformerConfig:
    # 4 letters and N, 6 special tokens and 2-mers.
    return NucleotideTransformerConfig(**{**_SIZE, "kmer_size": 2, **fields})


_NT_V1 = {"gated_mlp": False, "mlp_bias": True, "position_embedding_type": "absolute", "token_dropout": True}
_NT_AGRO = {**_NT_V1, "token_dropout": False}


def _segment_nt() -> SegmentNTConfig:
    return SegmentNTConfig(**_SIZE, kmer_size=2, num_layers_head=2, features=["exon", "intron", "promoter"])


# A larger alphabet than A C G T N has: the tests cut 15 rows off the embedding.
_NTV3 = {
    "alphabet_size": 32,
    "token_embed_dim": 8,
    "conv_init_embed_dim": 16,
    "embed_dim": 32,
    "ffn_embed_dim": 40,
    "num_layers": 2,
    "attention_heads": 4,
    "key_size": 8,
    "num_downsamples": 2,
}


def _ntv3() -> NTv3Config:
    return NTv3Config(**_NTV3)


def _ntv3_posttrained() -> NTv3PostTrainedConfig:
    return NTv3PostTrainedConfig(
        **_NTV3,
        species_to_token_id={"human": 6, "mouse": 7, "fly": 9},
        bigwigs_per_species={"human": ["a", "b", "c"], "mouse": ["d"]},
        bed_elements_names=["exon", "intron"],
        keep_target_center_fraction=1.0,
    )


def _draw_species(config: PreTrainedConfig, B: int) -> dict[str, torch.Tensor]:
    return {"species_ids": torch.tensor(config.encode_species(["human", "mouse"] * B)[:B])}


def _megatron_decoder() -> MegatronDecoderConfig:
    return MegatronDecoderConfig(
        **_CAUSAL,
        num_key_value_heads=2,
        attention_output_gate=True,
        query_key_norm=True,
        attention_bias=True,
        output_bias=True,
        mlp_bias=True,
        gated_mlp=False,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
    )


class _Fast:
    """A BigBird as `gengram.loading` gives it: transformers' class with the fast form of its attention."""

    def __init__(self, config, *args, **kwargs):
        super().__init__(config, *args, **kwargs)
        speed_up(self)


class FastBigBirdModel(_Fast, BigBirdModel):
    """See `_Fast`."""


class FastBigBirdForMaskedLM(_Fast, BigBirdForMaskedLM):
    """See `_Fast`."""


class FastBigBirdForSequenceClassification(_Fast, BigBirdForSequenceClassification):
    """See `_Fast`."""


class FastBigBirdForTokenClassification(_Fast, BigBirdForTokenClassification):
    """See `_Fast`."""


_BIG_BIRD = {
    "AutoModel": FastBigBirdModel,
    "AutoModelForMaskedLM": FastBigBirdForMaskedLM,
    "AutoModelForSequenceClassification": FastBigBirdForSequenceClassification,
    "AutoModelForTokenClassification": FastBigBirdForTokenClassification,
}
_MODERNBERT = {
    "AutoModel": ModernBertModel,
    "AutoModelForMaskedLM": ModernBertForMaskedLM,
    "AutoModelForSequenceClassification": ModernBertForSequenceClassification,
    "AutoModelForTokenClassification": ModernBertForTokenClassification,
}


def _bpe() -> PreTrainedTokenizerBase:
    draw = random.Random(0)
    pieces = ["".join(draw.choices("ACGT", k=400)) for _ in range(8)]
    return train_bpe_tokenizer(pieces, vocab_size=32, n_run=0, model_max_length=64)


def _kmers() -> PreTrainedTokenizerBase:
    return build_kmer_tokenizer(2, model_max_length=62)


def _codons() -> PreTrainedTokenizerBase:
    return build_kmer_tokenizer(3, model_max_length=62)


def _bases() -> PreTrainedTokenizerBase:
    return build_nucleotide_tokenizer(model_max_length=64)


def _bases_of_encoders() -> PreTrainedTokenizerBase:
    return build_nucleotide_tokenizer(model_max_length=64, template="cls_sep")


def _gengram(
    backbone: Callable[[], PreTrainedConfig], tokenizer=_bases_of_encoders, trains_all: bool = True, **fields
) -> Tester:
    return Tester("gengram", lambda: _with_memory(backbone(), **fields), tokenizer, trains_all=trains_all)


def _rmt(encoder: Callable[[], PreTrainedConfig], tokenizer=_bpe, trains_all: bool = True, **fields) -> Tester:
    build = lambda: _in_segments(encoder(), **fields)  # noqa: E731
    return Tester("rmt", build, tokenizer, has_attentions=False, trains_all=trains_all)


TESTERS: dict[str, Tester] = {
    "gengram-llama": _gengram(_llama, _bases),
    "gengram-mixtral": _gengram(_mixtral, _bases, trains_all=False),
    "gengram-qwen3-moe": _gengram(_qwen3_moe, _bases, trains_all=False),
    "gengram-deepseek-v3": _gengram(_deepseek_v3, _bases, trains_all=False),
    "gengram-megatron-decoder": _gengram(_megatron_decoder, _bases),
    # The paper's memory outweighs attention of the usual 0.02, so that no change of the rotation would show.
    "gengram-paper": _gengram(lambda: _llama(initializer_range=0.1), _bases, memory_preset="paper"),
    "gengram-modernbert": _gengram(_modernbert),
    "gengram-bert": _gengram(lambda: BertConfig(**_ENCODER)),
    "gengram-esm": _gengram(_esm, trains_all=False),
    "gengram-gena-bert": _gengram(_gena),
    "gengram-nucleotide-transformer": _gengram(lambda: _nucleotide_transformer(kmer_size=1)),
    "gena_bert": Tester("gena_bert", _gena, _bpe),
    "gena_bert-post-norm": Tester("gena_bert", lambda: _gena(pre_layer_norm=False), _bpe),
    "gena_bert-rotary": Tester(
        "gena_bert", lambda: _gena(position_embedding_type="rotary", last_layer_norm=True, rotary_dim=4), _bpe
    ),
    "big_bird": Tester("big_bird", _big_bird, _bpe, classes=_BIG_BIRD, trains_all=False),
    "modernbert": Tester("modernbert", _modernbert, _bpe, classes=_MODERNBERT),
    "rmt-bert": _rmt(lambda: BertConfig(**_ENCODER), cls_token_id=1, sep_token_id=2),
    "rmt-gena-bert": _rmt(_gena),
    "rmt-modernbert": _rmt(_modernbert),
    "rmt-big-bird": _rmt(lambda: _big_bird(attention_type="original_full"), trains_all=False),
    "rmt-nucleotide-transformer": _rmt(_nucleotide_transformer, _kmers),
    "rmt-gengram-bert": _rmt(lambda: _with_memory(BertConfig(**_ENCODER)), _bases_of_encoders),
    "megatron_decoder": Tester("megatron_decoder", _megatron_decoder, _bases),
    "megatron_decoder-gated": Tester(
        "megatron_decoder", lambda: MegatronDecoderConfig(**_CAUSAL, num_key_value_heads=2), _bases
    ),
    "nucleotide_transformer": Tester("nucleotide_transformer", _nucleotide_transformer, _kmers),
    "nucleotide_transformer-v1": Tester("nucleotide_transformer", lambda: _nucleotide_transformer(**_NT_V1), _kmers),
    "nucleotide_transformer-agro": Tester(
        "nucleotide_transformer", lambda: _nucleotide_transformer(**_NT_AGRO), _kmers
    ),
    "nucleotide_transformer-codon": Tester(
        "nucleotide_transformer", lambda: _nucleotide_transformer(vocab_size=75, kmer_size=3), _codons
    ),
    # Two levels of a U-Net behind <cls>, and a label for each base and feature.
    "segment_nt": Tester("segment_nt", _segment_nt, _kmers, tokens=TOKENS + 1, label_shape=(2 * TOKENS, 3)),
    # The transformer at the bottom of the U-Net sees a quarter of the length.
    "ntv3": Tester("ntv3", _ntv3, build_ntv3_tokenizer, first_id=6, attended=TOKENS // 4),
    "ntv3_posttrained": Tester(
        "ntv3_posttrained",
        _ntv3_posttrained,
        build_ntv3_tokenizer,
        first_id=6,
        attended=TOKENS // 4,
        draw_more=_draw_species,
    ),
}
"""Variant -> tester. The first word of a name, before `-`, is the row's; `--family` takes patterns of these names."""

SLICE = ("gengram-llama", "gena_bert", "rmt-bert", "nucleotide_transformer", "ntv3", "megatron_decoder")
"""One of each kind, for `make test`."""

__all__ = ["BATCH", "SLICE", "TESTERS", "TOKENS", "Tester"]
