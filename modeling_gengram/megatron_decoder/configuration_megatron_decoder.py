"""Configuration of the decoder that Megatron checkpoints need beyond Llama."""

from typing import ClassVar

from huggingface_hub.dataclasses import strict
from transformers import LlamaConfig


@strict
class MegatronDecoderConfig(LlamaConfig):
    r"""
    A Llama with the options of Megatron that Llama lacks. `attention_bias` is that of queries, keys and values,
    `mlp_bias` that of the MLP, `rope_parameters["partial_rotary_factor"]` the share of each head that is rotated.

    Args:
        attention_output_gate (`bool`, *optional*, defaults to `False`):
            Multiply the output of attention by the sigmoid of a projection of its input.
        output_bias (`bool`, *optional*, defaults to `False`):
            Bias of the projection after attention.
        query_key_norm (`bool`, *optional*, defaults to `False`):
            RMSNorm of each head's queries and keys, before the rotation.
        gated_mlp (`bool`, *optional*, defaults to `True`):
            `down(act(gate(x)) * up(x))`, otherwise `down(act(up(x)))`.
    """

    model_type = "megatron_decoder"
    # Auto class -> "file.Class", as the auto_map of a checkpoint has it; registration reads it here.
    _auto_class = "AutoConfig"
    auto_classes: ClassVar[dict[str, str]] = {
        "AutoConfig": "configuration_megatron_decoder.MegatronDecoderConfig",
        "AutoModel": "modeling_megatron_decoder.MegatronDecoderModel",
        "AutoModelForPreTraining": "modeling_megatron_decoder.MegatronDecoderForCausalLM",
        "AutoModelForCausalLM": "modeling_megatron_decoder.MegatronDecoderForCausalLM",
    }

    attention_output_gate: bool = False
    output_bias: bool = False
    query_key_norm: bool = False
    gated_mlp: bool = True

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        # Where embeddings are tied, transformers 5.17 keeps the plan of this moment.
        vars(self).pop("base_model_tp_plan", None)

    @property
    def base_model_tp_plan(self) -> dict[str, str]:
        """Llama's, for the modules that this configuration has."""
        if (given := vars(self).get("base_model_tp_plan")) is not None:
            return given
        plan = {"embed_tokens": "embedding_rowwise"}
        plan |= {f"layers.*.self_attn.{name}": "colwise" for name in ("q_proj", "k_proj", "v_proj")}
        if self.attention_output_gate:
            plan["layers.*.self_attn.gate_proj"] = "colwise"
        plan["layers.*.self_attn.o_proj"] = "rowwise"
        if self.gated_mlp:
            plan["layers.*.mlp.gate_proj"] = "colwise"
        return plan | {"layers.*.mlp.up_proj": "colwise", "layers.*.mlp.down_proj": "rowwise"}

    @base_model_tp_plan.setter
    def base_model_tp_plan(self, plan: dict[str, str]):
        vars(self)["base_model_tp_plan"] = plan


__all__ = ["MegatronDecoderConfig"]
