"""Which small models stand for a family: one entry a kind of model, of which every head is tried.

A family without an entry fails `test_every_family_has_an_entry`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import transformers
from transformers import (
    BertConfig,
    BigBirdConfig,
    DeepseekV3Config,
    EsmConfig,
    LlamaConfig,
    MixtralConfig,
    ModernBertConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from gengram import GengramConfig, RmtConfig
from gengram.gena.block_sparse_attention import use_fast_attention
from gengram.gena.configuration_gena import GenaBertConfig
from gengram.megatron_decoder.configuration_megatron_decoder import MegatronDecoderConfig
from gengram.nucleotide_transformer.configuration_ntv3 import NTv3Config, NTv3PostTrainedConfig
from gengram.nucleotide_transformer.configuration_nucleotide_transformer import NucleotideTransformerConfig
from gengram.nucleotide_transformer.configuration_segment_nt import SegmentNTConfig
from gengram.registration import find_model


class Entry(NamedTuple):
    """
    A kind of model.

    Attributes:
        title: in the table.
        make_config: a small configuration.
        multiple: the numbers of tokens that it takes are multiples of this.
        lengths: the number of tokens that a program is made for, and another that it is run at; two equal ones where
            the length is part of the program.
        why_one_length: why it is.
        finish: what is done to a new model.
    """

    title: str
    make_config: Callable[[], PreTrainedConfig]
    multiple: int = 1
    offset: int = 0
    lengths: tuple[int, int] = (24, 41)
    shortest: int = 2
    finish: Callable[[PreTrainedModel], PreTrainedModel] = lambda model: model


SIZE = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
CAUSAL = {**SIZE, "max_position_embeddings": 96, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 12}
ENCODER = {**SIZE, "max_position_embeddings": 96, "pad_token_id": 0}
KMERS = {"vocab_size": 4107, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
TOWER = {
    "token_embed_dim": 8,
    "conv_init_embed_dim": 8,
    "embed_dim": 16,
    "ffn_embed_dim": 32,
    "num_layers": 2,
    "attention_heads": 2,
    "key_size": 8,
    "num_downsamples": 3,
}
EXPERTS = {"num_experts_per_tok": 2}
MEMORY = {"memory_layers": [0, 1], "memory_dim": 8, "kmer_sizes": [1, 2, 3], "window_size": 5}
SEGMENTS = {"num_memory_tokens": 2, "segment_length": 12, "cls_token_id": 1, "sep_token_id": 2, "pad_token_id": 0}
BLOCKS = {"block_size": 4, "num_random_blocks": 1, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SPECIES = {
    "species_to_token_id": {"human": 6, "mouse": 7, "fly": 9},
    "bigwigs_per_species": {"human": ["a", "b", "c"], "fly": ["d"]},
    "bed_elements_names": ["exon", "intron"],
}


def add_memory(backbone: PreTrainedConfig, **fields) -> GengramConfig:
    return GengramConfig(backbone_config=backbone, **{**MEMORY, **fields})


def make_llama() -> LlamaConfig:
    return LlamaConfig(**CAUSAL, num_key_value_heads=2)


def make_mixtral() -> MixtralConfig:
    return MixtralConfig(**CAUSAL, **EXPERTS, num_key_value_heads=2, num_local_experts=4)


def make_deepseek() -> DeepseekV3Config:
    latent = {"q_lora_rank": None, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8}
    experts = {"n_routed_experts": 4, "n_shared_experts": 1, "n_group": 1, "topk_group": 1, "moe_intermediate_size": 16}
    return DeepseekV3Config(**CAUSAL, **EXPERTS, **latent, **experts, num_key_value_heads=2, first_k_dense_replace=1)


def make_megatron() -> MegatronDecoderConfig:
    rotation = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
    switches = dict.fromkeys(("attention_output_gate", "query_key_norm", "attention_bias", "output_bias"), True)
    return MegatronDecoderConfig(**CAUSAL, **switches, num_key_value_heads=2, rope_parameters=rotation)


def make_bert() -> BertConfig:
    return BertConfig(**ENCODER)


def make_esm() -> EsmConfig:
    return EsmConfig(**ENCODER, position_embedding_type="rotary", mask_token_id=4)


def make_modernbert() -> ModernBertConfig:
    special = {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    return ModernBertConfig(**ENCODER, **special, local_attention=8, global_attn_every_n_layers=2)


def make_transformer(**fields) -> NucleotideTransformerConfig:
    return NucleotideTransformerConfig(**{**KMERS, "max_position_embeddings": 96, **fields})


V1 = {"gated_mlp": False, "mlp_bias": True, "position_embedding_type": "absolute"}

MODELS: dict[str, Entry] = {
    "gengram-llama": Entry("memory, Llama", lambda: add_memory(make_llama())),
    "gengram-mixtral": Entry("memory, Mixtral (experts)", lambda: add_memory(make_mixtral())),
    "gengram-deepseek": Entry("memory, DeepSeek-V3 (MLA, experts)", lambda: add_memory(make_deepseek())),
    "gengram-megatron": Entry("memory, Megatron decoder", lambda: add_memory(make_megatron())),
    "gengram-bert": Entry("memory, BERT", lambda: add_memory(make_bert(), center_window=True)),
    "gengram-modernbert": Entry("memory, ModernBERT", lambda: add_memory(make_modernbert())),
    "gengram-esm": Entry("memory, ESM", lambda: add_memory(make_esm())),
    "megatron_decoder": Entry("Megatron decoder", make_megatron),
    "gena_bert": Entry("GENA-LM BERT", lambda: GenaBertConfig(**ENCODER)),
    "gena_bert-rotary": Entry(
        "GENA-LM BERT, rotary", lambda: GenaBertConfig(**ENCODER, position_embedding_type="rotary")
    ),
    "big_bird": Entry(
        "GENA-LM BigBird, fast sparse attention",
        lambda: BigBirdConfig(**{**SIZE, "max_position_embeddings": 96, **BLOCKS}),
        4, lengths=(48, 64), shortest=32, finish=use_fast_attention,
    ),
    "modernbert": Entry("modernGENA", make_modernbert),
    "rmt-gena": Entry("recurrent memory, GENA-LM BERT",
        lambda: RmtConfig(backbone_config=GenaBertConfig(**ENCODER), **SEGMENTS), lengths=(41, 41)),
    "rmt-gengram": Entry("recurrent memory, memory, ModernBERT",
        lambda: RmtConfig(backbone_config=add_memory(make_modernbert()), **SEGMENTS), lengths=(41, 41)),
    "nucleotide_transformer-v1": Entry("Nucleotide Transformer v1", lambda: make_transformer(**V1, token_dropout=True)),
    "nucleotide_transformer-agro": Entry("AgroNT", lambda: make_transformer(**V1)),
    "nucleotide_transformer-v2": Entry("Nucleotide Transformer v2", make_transformer),
    "nucleotide_transformer-codon": Entry("Codon-NT", lambda: make_transformer(vocab_size=69)),
    "segment_nt": Entry("SegmentNT", lambda: SegmentNTConfig(**KMERS, features=["exon", "intron"]), 4, 1, (25, 41)),
    "ntv3": Entry("NTv3", lambda: NTv3Config(**TOWER), 8, 0, (24, 40)),
    "ntv3_posttrained": Entry("NTv3, post-trained", lambda: NTv3PostTrainedConfig(**TOWER, **SPECIES), 8, 0, (24, 40)),
}

AUTO_CLASSES = (
    "AutoModel",
    "AutoModelForPreTraining",
    "AutoModelForCausalLM",
    "AutoModelForMaskedLM",
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
)

def list_heads(name: str) -> dict[str, type[PreTrainedModel]]:
    """The classes that read a kind of model: name of the Auto class -> class; those that are the same once."""
    config = MODELS[name].make_config()
    found: dict[str, Any] = {}
    for auto in AUTO_CLASSES:
        mapping = getattr(transformers, auto)._model_mapping
        if type(config) in mapping:
            model_class = mapping[type(config)]
            if name.startswith("gengram") and auto in ("AutoModelForCausalLM", "AutoModelForMaskedLM"):
                if config.is_causal != (auto == "AutoModelForCausalLM"):
                    continue
            if auto != "AutoModelForPreTraining" or name == "gena_bert":
                if name in ("big_bird","modernbert") and auto=="AutoModelForCausalLM": continue
                found[auto] = model_class
    return found


def build_model(name: str, auto: str, **options) -> PreTrainedModel:
    """A small model with weights that are large enough to show a fault, always the same."""
    torch.manual_seed(0)
    entry = MODELS[name]
    model = list_heads(name)[auto](entry.make_config()).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.add_(torch.randn_like(weight) * 0.05)
    return entry.finish(model)


def draw_inputs(model: PreTrainedModel, length: int, rows: int = 2) -> dict[str, torch.Tensor]:
    """Ids without special tokens, and a mask; the last row is padded on the right, where the model has padding."""
    config = model.config
    generator = torch.Generator().manual_seed(length)
    first, last = (6, 10) if config.model_type.startswith("ntv3") else (5, min(config.get_text_config().vocab_size, 30))
    ids = torch.randint(first, last, (rows, length), generator=generator)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if not config.model_type.startswith(("ntv3", "segment")):
        inputs["attention_mask"][-1, length - 7 :] = 0
        inputs["input_ids"][-1, length - 7 :] = config.pad_token_id or 0
    if config.model_type == "ntv3_posttrained":
        inputs["species_ids"] = torch.tensor(config.encode_species(["human", "fly", "mouse"] * rows)[:rows])
    return inputs
