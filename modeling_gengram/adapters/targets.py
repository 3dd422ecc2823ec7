"""Which layers do adapters go to where nobody names them? PEFT's tables of target modules, with our model types."""

from collections.abc import Mapping, Sequence

from peft.utils import constants

# PEFT matches the ends of module names, so one list serves every backbone: what a backbone does not have is not found.
# Query and value projections: those of llama (and most decoders), bert, gpt_neox and mpt (and modernbert), as PEFT has
# them, and what takes their place in multi-head latent attention (deepseek_v3).
_LORA_FAMILIES = ("llama", "bert", "gpt_neox", "mpt")
_LORA_LATENT = ("q_b_proj", "kv_b_proj")
_LORA_NTV3 = ("query_head.linear", "value_head.linear")
# Keys, values and the layer behind the feed-forward network's hidden one (arXiv 2205.05638).
_IA3_FAMILIES = ("llama", "bert", "gpt_neox")
_IA3_ATTENTION = ("Wqkv", "kv_b_proj", "key_head.linear", "value_head.linear")
_IA3_FEEDFORWARD = ("mlp.Wo", "fc2")
# Values alone; where one layer gives queries, keys and values, that one.
_BEFT_FAMILIES = ("llama", "bert")
_BEFT_MORE = ("Wqkv", "kv_b_proj", "value_head.linear")
# Norms of the residual stream: llama's, bert's (and gena_bert's), esm's, modernbert's and ntv3's; none of the memory's,
# nor those within a head, which PEFT saves as a whole.
# `attn_norm` of modernbert's first layer is an identity, which PEFT cannot take: it is left out.
_NORM_FAMILIES = ("llama",)
_NORM_MORE = (
    *("LayerNorm", "pre_attention_ln", "post_attention_ln", "last_layer_ln"),
    *("emb_layer_norm_before", "emb_layer_norm_after"),
    *("mlp_norm", "final_norm"),
    *("self_attention_layer_norm", "final_layer_norm", "conv.layer_norm", "conv_block.layer_norm"),
)
# Every matrix of attention and of the feed-forward network.
_OSF_FAMILIES = ("llama",)
_OSF_MORE = (
    *("query", "key", "value", "intermediate.dense", "output.dense"),
    *("Wqkv", "attn.Wo", "Wi", "mlp.Wo"),
    *("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj"),
    *("query_head.linear", "key_head.linear", "value_head.linear", "mha_output", "fc1", "fc2"),
)
# transformers' own architectures that checkpoints of GENA-LM have, and that PEFT may not know.
_OTHERS = ("big_bird", "modernbert")


def register_adapter_targets(model_types: list[str]) -> None:
    """Let PEFT's configurations do without `target_modules` for these models, `LoraConfig(task_type="SEQ_CLS")`.

    So also for BigBird and ModernBERT, as far as PEFT has no layers of its own for them.

    The memory is left as it is. To adapt it too, name `key_proj` and `value_proj` as well; to train it as a whole, name
    its layers in `modules_to_save` (`memory.2`; `memory` is a container, which PEFT cannot wrap).
    """
    tables = {name: table for name, table in vars(constants).items() if name.endswith("_TARGET_MODULES_MAPPING")}
    tables["FEEDFORWARD"] = constants.TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING
    # Before any table changes, as each is joined from what PEFT has.
    targets = {name: _choose_targets(name, table) for name, table in tables.items()}
    for name, found in targets.items():
        for model_type in model_types:
            tables[name][model_type] = list(found)
        for model_type in _OTHERS:
            tables[name].setdefault(model_type, list(found))


def _choose_targets(name: str, table: Mapping[str, Sequence[str]]) -> list[str]:
    lora = constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    if name == "FEEDFORWARD":
        return _join(table, _IA3_FAMILIES, _IA3_FEEDFORWARD)
    method = name.removeprefix("TRANSFORMERS_MODELS_TO_").removesuffix("_TARGET_MODULES_MAPPING")
    others = {
        "IA3": (_IA3_FAMILIES, (*_IA3_ATTENTION, *_IA3_FEEDFORWARD)),
        "BEFT": (_BEFT_FAMILIES, _BEFT_MORE),
        "LNTUNING": (_NORM_FAMILIES, _NORM_MORE),
        "OSF": (_OSF_FAMILIES, _OSF_MORE),
    }
    if method in others:
        return _join(table, *others[method])
    # The other methods have LoRA's layers, with some families of models or without.
    return _join(lora, _LORA_FAMILIES, (*_LORA_LATENT, *_LORA_NTV3))


def _join(table: Mapping[str, Sequence[str]], families: tuple[str, ...], more: tuple[str, ...]) -> list[str]:
    return list(dict.fromkeys([*(name for family in families for name in table[family]), *more]))


__all__ = ["register_adapter_targets"]
