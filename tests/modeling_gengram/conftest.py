"""The backbones on which every behaviour is tested: dense and mixture of experts, MHA, GQA and MLA, both directions."""

import sys
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, DeepseekV3Config, EsmConfig, LlamaConfig, MixtralConfig, ModernBertConfig

from gengram import GengramConfig, GengramForCausalLM, GengramForMaskedLM
from gengram.megatron_decoder.configuration_megatron_decoder import MegatronDecoderConfig

# Behind everything else: files of this folder that are no tests (`kernel_launches`) are imported by their name.
sys.path.append(str(Path(__file__).parent))

SIZE = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
}
CAUSAL = {"bos_token_id": None, "eos_token_id": 12}
# Grouped matrix products of experts exist in half and single precision only; the tests compare in double.
EXPERTS = {"experts_implementation": "eager", "num_experts_per_tok": 2}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}

BACKBONES = {
    "mixtral": lambda: MixtralConfig(**SIZE, **CAUSAL, **EXPERTS, num_key_value_heads=2, num_local_experts=4),
    "llama-mha": lambda: LlamaConfig(**SIZE, **CAUSAL),
    "llama-gqa-tied": lambda: LlamaConfig(**SIZE, **CAUSAL, num_key_value_heads=2, tie_word_embeddings=True),
    "deepseek-v3": lambda: DeepseekV3Config(
        **SIZE,
        **CAUSAL,
        **EXPERTS,
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
    ),
    "megatron-decoder": lambda: MegatronDecoderConfig(
        **SIZE,
        **CAUSAL,
        num_key_value_heads=2,
        attention_output_gate=True,
        query_key_norm=True,
        attention_bias=True,
        output_bias=True,
        mlp_bias=True,
        gated_mlp=False,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
    ),
    "modernbert": lambda: ModernBertConfig(
        **SIZE,
        local_attention=8,
        global_attn_every_n_layers=2,
        bos_token_id=None,
        eos_token_id=None,
        cls_token_id=2,
        sep_token_id=3,
    ),
    "bert": lambda: BertConfig(**SIZE, **NO_DROPOUT),
    "esm": lambda: EsmConfig(**SIZE, **NO_DROPOUT, position_embedding_type="rotary", mask_token_id=4),
}
BASES = torch.tensor([8, 5, 6, 7])


@pytest.fixture(params=BACKBONES)
def backbone_config(request):
    return BACKBONES[request.param]()


@pytest.fixture(params=[name for name in BACKBONES if name not in ("modernbert", "bert", "esm")])
def causal_config(request):
    return BACKBONES[request.param]()


@pytest.fixture(params=["modernbert", "bert", "esm"])
def bidirectional_config(request):
    return BACKBONES[request.param]()


@pytest.fixture
def make_backbone():
    """Backbone configuration by name."""
    return lambda name: BACKBONES[name]()


@pytest.fixture
def make_config():
    """A small Gengram configuration around a backbone; memory before the first and the last layer."""

    def make(backbone_config, **fields) -> GengramConfig:
        defaults = {"memory_layers": [0, 2], "memory_dim": 8, "kmer_sizes": [1, 2, 3], "window_size": 9}
        return GengramConfig(backbone_config=backbone_config, **{**defaults, **fields})

    return make


@pytest.fixture
def make_model(make_config):
    """The language model that fits the backbone, in double precision and evaluation mode, always the same weights."""

    def make(backbone_config, **fields):
        torch.manual_seed(0)
        config = make_config(backbone_config, **fields)
        model_class = GengramForCausalLM if config.is_causal else GengramForMaskedLM
        return model_class(config).double().eval()

    return make


@pytest.fixture
def make_ids():
    """Random bases: int64 [B, T]."""

    def make(B: int, T: int, seed: int = 0) -> torch.Tensor:
        return BASES[torch.randint(0, 4, (B, T), generator=torch.Generator().manual_seed(seed))]

    return make


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)
