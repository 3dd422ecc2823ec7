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


def register_adapter_targets(model_types: list[str]) -> None:
    """Let PEFT's configurations do without `target_modules` for these models, `LoraConfig(task_type="SEQ_CLS")`.

    The memory is left as it is. To adapt it too, name `key_proj` and `value_proj` as well; to train it as a whole, name
    its layers in `modules_to_save` (`memory.2`; `memory` is a container, which PEFT cannot wrap).
    """
    lora = constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    ia3 = constants.TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING
    feedforward = constants.TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING
    like_lora = [
        table
        for name, table in vars(constants).items()
        if name.endswith("_TARGET_MODULES_MAPPING") and table.get("llama") == lora["llama"]
    ]
    for model_type in model_types:
        for table in like_lora:
            table[model_type] = _join(lora, _LORA_FAMILIES, (*_LORA_LATENT, *_LORA_NTV3))
        feedforward[model_type] = _join(feedforward, _IA3_FAMILIES, _IA3_FEEDFORWARD)
        ia3[model_type] = _join(ia3, _IA3_FAMILIES, (*_IA3_ATTENTION, *_IA3_FEEDFORWARD))


def _join(table: Mapping[str, Sequence[str]], families: tuple[str, ...], more: tuple[str, ...]) -> list[str]:
    return list(dict.fromkeys([*(name for family in families for name in table[family]), *more]))


__all__ = ["register_adapter_targets"]
