"""The one backbone with an attention layer of this package: Megatron decoders that no transformers class can express.

Llama, where an output gate, a partial rotation, biases or a plain MLP take part in a layer. The rest is inherited.
"""

import torch
from torch import nn
from torch.distributed.tensor import DTensor, Partial, Replicate
from torch.func import functional_call
from transformers import Cache, LlamaForCausalLM, LlamaModel, LlamaPreTrainedModel, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaDecoderLayer,
    LlamaRMSNorm,
    apply_rotary_pos_emb,
    eager_attention_forward,
)
from transformers.models.phi.modeling_phi import PhiRotaryEmbedding
from transformers.utils import can_return_tuple

from .configuration_megatron_decoder import MegatronDecoderConfig


class MegatronDecoderMLP(nn.Module):
    """`down(act(up(x)))`."""

    def __init__(self, config: MegatronDecoderConfig):
        super().__init__()
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)
        self.activation = ACT2FN[config.hidden_act]

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.down_proj(self.activation(self.up_proj(hidden_states)))


class MegatronDecoderAttention(LlamaAttention):
    """Grouped attention with an output gate, norms of queries and keys, and a rotation of part of each head."""

    def __init__(self, config: MegatronDecoderConfig, layer_idx: int):
        super().__init__(config, layer_idx)
        width = config.num_attention_heads * self.head_dim
        self.o_proj = nn.Linear(width, config.hidden_size, bias=config.output_bias)
        self.gate_proj = self.q_norm = self.k_norm = None
        if config.attention_output_gate:
            self.gate_proj = nn.Linear(config.hidden_size, width, bias=config.attention_bias)
        if config.query_key_norm:
            self.q_norm = LlamaRMSNorm(self.head_dim, eps=config.rms_norm_eps)
            self.k_norm = LlamaRMSNorm(self.head_dim, eps=config.rms_norm_eps)

    def forward(
        self, hidden_states, position_embeddings=None, attention_mask=None, past_key_values=None, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """hidden_states [B, T, D] -> output [B, T, D] and, from eager attention, weights [B, heads, T, S]."""
        B, T, _ = hidden_states.shape
        query, key, value = (
            proj(hidden_states).view(B, T, -1, self.head_dim) for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        if self.q_norm is not None:
            query = normalize_heads(self.q_norm, query, self.q_proj)
            key = normalize_heads(self.k_norm, key, self.k_proj)
        query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
        cos, sin = position_embeddings
        turned = cos.shape[-1]
        rotated = apply_rotary_pos_emb(query[..., :turned], key[..., :turned], cos, sin)
        query = torch.cat([rotated[0], query[..., turned:]], dim=-1)
        key = torch.cat([rotated[1], key[..., turned:]], dim=-1)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        dropout = self.attention_dropout if self.training else 0.0
        output, weights = attend(
            self, query, key, value, attention_mask, dropout=dropout, scaling=self.scaling, **kwargs
        )
        output = output.reshape(B, T, -1)
        if self.gate_proj is not None:  # Megatron takes this sigmoid in float32
            output = (output * self.gate_proj(hidden_states).float().sigmoid()).to(output.dtype)
        return self.o_proj(output), weights


def normalize_heads(norm: LlamaRMSNorm, heads: torch.Tensor, projection: nn.Linear) -> torch.Tensor:
    """
    Norm each head, [B, T, heads, head width] -> the same.

    Under tensor parallelism a process has some of the projection's heads, and with them a part of the norm's gradient:
    it is summed on its way to the weight, so that several backward passes can be accumulated.
    """
    if not isinstance(projection.weight, DTensor):
        return norm(heads)
    shared = DTensor.from_local(norm.weight, projection.weight.device_mesh, [Replicate()], run_check=False)
    return functional_call(norm, {"weight": shared.to_local(grad_placements=[Partial()])}, (heads,))


class MegatronDecoderLayer(LlamaDecoderLayer):
    """A Llama layer with this attention, and with the MLP that the configuration names."""

    def __init__(self, config: MegatronDecoderConfig, layer_idx: int):
        super().__init__(config, layer_idx)
        self.self_attn = MegatronDecoderAttention(config, layer_idx)
        if not config.gated_mlp:
            self.mlp = MegatronDecoderMLP(config)


class MegatronDecoderPreTrainedModel(LlamaPreTrainedModel):
    """What every Megatron decoder can do; see `LlamaPreTrainedModel`."""

    config: MegatronDecoderConfig
    _no_split_modules = ["MegatronDecoderLayer"]
    _can_record_outputs = {"hidden_states": MegatronDecoderLayer, "attentions": MegatronDecoderAttention}


# Both constructors go past Llama's: its parts would be made twice, and what `post_init` reads from the configuration
# and then deletes there (gradient checkpointing) would be set on parts that are thrown away.
class MegatronDecoderModel(MegatronDecoderPreTrainedModel, LlamaModel):
    """`LlamaModel` with these layers; see `MegatronDecoderConfig`."""

    _auto_class = "AutoModel"

    def __init__(self, config: MegatronDecoderConfig):
        PreTrainedModel.__init__(self, config)
        self.padding_idx = config.pad_token_id
        self.vocab_size = config.vocab_size
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, self.padding_idx)
        self.layers = nn.ModuleList([MegatronDecoderLayer(config, index) for index in range(config.num_hidden_layers)])
        self.norm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = PhiRotaryEmbedding(config=config)
        self.gradient_checkpointing = False
        self.post_init()


class MegatronDecoderForCausalLM(MegatronDecoderPreTrainedModel, LlamaForCausalLM):
    """`LlamaForCausalLM` with these layers."""

    _auto_class = "AutoModelForCausalLM"

    def __init__(self, config: MegatronDecoderConfig):
        PreTrainedModel.__init__(self, config)
        self.model = MegatronDecoderModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """As that of `LlamaForCausalLM`, which cannot answer with a tuple where `config.return_dict` asks for one."""
        outputs = self.model(
            input_ids,
            attention_mask,
            position_ids,
            past_key_values,
            inputs_embeds,
            use_cache=use_cache,
            return_dict=True,
            **kwargs,
        )
        logits = self.lm_head(keep_positions(outputs.last_hidden_state, logits_to_keep))
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


def keep_positions(hidden_states: torch.Tensor, kept: int | torch.Tensor) -> torch.Tensor:
    """
    The hidden states that logits are wanted of.

    Args:
        hidden_states (`torch.Tensor` [B, T, D]).
        kept: how many at the end (0: all), or int64 [N], positions of every sequence, or int64 [B, N], of each
            sequence its own, or bool [B, T], true where wanted.

    Returns:
        `torch.Tensor` [B, N, D]; for bool those that are wanted of all sequences, [N, D].
    """
    if isinstance(kept, int):
        return hidden_states[:, -kept:]
    if kept.dim() == 2 and kept.dtype != torch.bool:
        return hidden_states.take_along_dim(kept[..., None], dim=1)
    return hidden_states[kept] if kept.dim() == 2 else hidden_states[:, kept]


__all__ = ["MegatronDecoderForCausalLM", "MegatronDecoderModel", "MegatronDecoderPreTrainedModel"]
