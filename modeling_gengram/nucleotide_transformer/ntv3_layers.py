"""The layers of NTv3: norms and gates that may know a species, convolutions down and up, attention.

Names of weights are those of the published checkpoints.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs

from .configuration_ntv3 import NTv3Config
from .rotation import rotate

# Embeddings [B, E] of the conditions of each sequence: the species, or none.
Conditions = Sequence[torch.Tensor]


def gelu(states: torch.Tensor) -> torch.Tensor:
    """The tanh form, which is the only one in these models."""
    return nn.functional.gelu(states, approximate="tanh")


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """[B, heads, T, head width] three times -> [B, T, heads, head width] and weights [B, heads, T, T], from float32."""
    exact = torch.promote_types(query.dtype, torch.float32)
    weights = (query.to(exact) @ key.to(exact).transpose(2, 3) * scaling).softmax(dim=-1).to(value.dtype)
    return (weights @ value).transpose(1, 2).contiguous(), weights


class NTv3Modulation(nn.Linear):
    """What a condition does to a norm or a branch; new ones do next to nothing."""


def make_modulations(config: NTv3Config, width: int) -> nn.ModuleList:
    """One a condition."""
    return nn.ModuleList(NTv3Modulation(config.token_embed_dim, width) for _ in config.condition_sizes)


class NTv3LayerNorm(nn.LayerNorm):
    """`norm(x) * prod(1 + scale) + sum(shift)`, a shift and a scale from each condition."""

    def __init__(self, config: NTv3Config, width: int):
        super().__init__(width, eps=config.layer_norm_eps)
        self.modulation_layers = make_modulations(config, 2 * width)

    def forward(self, states: torch.Tensor, conditions: Conditions = ()) -> torch.Tensor:
        """[B, T, C] -> [B, T, C]."""
        states = super().forward(states)
        modulations = [layer(c)[:, None].chunk(2, dim=-1) for layer, c in zip(self.modulation_layers, conditions)]
        for _, scale in modulations:
            states = states * (1 + scale)
        for shift, _ in modulations:
            states = states + shift
        return states


def gate_by_conditions(states: torch.Tensor, layers: nn.ModuleList, conditions: Conditions) -> torch.Tensor:
    """`x * prod(1 + gate)`, [B, T, C] -> [B, T, C]."""
    for layer, condition in zip(layers, conditions):
        states = states * (1 + layer(condition)[:, None])
    return states


class NTv3Conv1d(nn.Conv1d):
    """A convolution of an odd number of positions that keeps the length, [B, T, C] -> [B, T, C']."""

    def __init__(self, in_width: int, out_width: int, kernel_size: int):
        super().__init__(in_width, out_width, kernel_size, padding=kernel_size // 2)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return super().forward(states.transpose(1, 2)).transpose(1, 2)


class NTv3PointConv1d(nn.Conv1d):
    """A convolution of single positions as the matrix product that it is: no transposed copies, [B, T, C] -> same."""

    def __init__(self, width: int):
        super().__init__(width, width, 1)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(states, self.weight[..., 0], self.bias)


class NTv3PointConvTranspose1d(nn.ConvTranspose1d):
    """The same with the weight the other way round: in the published files, the form on the way up."""

    def __init__(self, width: int):
        super().__init__(width, width, 1)

    def forward(self, states: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:
        return nn.functional.linear(states, self.weight[..., 0].T, self.bias)


class NTv3Convolution(nn.Module):
    """Norm, convolution, GELU."""

    def __init__(self, config: NTv3Config, convolution: Any):
        super().__init__()
        self.layer_norm = NTv3LayerNorm(config, convolution.in_channels)
        self.conv = convolution

    def forward(self, states: torch.Tensor, conditions: Conditions = ()) -> torch.Tensor:
        """[B, T, C] -> [B, T, C']."""
        return gelu(self.conv(self.layer_norm(states, conditions)))


class NTv3Deconvolution(NTv3Convolution):
    """The same over twice the length: each position twice, or zeros between the positions."""

    def __init__(self, config: NTv3Config, convolution: Any):
        super().__init__(config, convolution)
        self.repeated = config.deconv_upsample_type == "repeat+conv"
        self.odd = config.deconv_phase == "odd"

    def forward(self, states: torch.Tensor, conditions: Conditions = ()) -> torch.Tensor:
        """[B, T, C] -> [B, 2 * T, C']."""
        states = self.layer_norm(states, conditions)
        between = states if self.repeated else torch.zeros_like(states)
        pairs = (between, states) if self.odd else (states, between)
        return gelu(self.conv(torch.stack(pairs, dim=2).flatten(1, 2)))


class NTv3ResidualConvolution(nn.Module):
    """A convolution of single positions that is added to its input."""

    def __init__(self, config: NTv3Config, convolution: Any):
        super().__init__()
        self.conv_block = NTv3Convolution(config, convolution)
        self.modulation_layers = make_modulations(config, convolution.out_channels)

    def forward(self, states: torch.Tensor, conditions: Conditions = ()) -> torch.Tensor:
        """[B, T, C] -> [B, T, C]."""
        return states + gate_by_conditions(self.conv_block(states, conditions), self.modulation_layers, conditions)


class NTv3ConvBlock(GradientCheckpointingLayer):
    """
    Two convolutions on the way down; the length is halved behind them.

    Like the other blocks it takes each condition as an argument of its own: reentrant checkpointing looks into no list.
    """

    def __init__(self, config: NTv3Config, in_width: int, out_width: int):
        super().__init__()
        self.conv = NTv3Convolution(config, NTv3Conv1d(in_width, out_width, 5))
        self.res_conv = NTv3ResidualConvolution(config, NTv3PointConv1d(out_width))

    def forward(self, states: torch.Tensor, *conditions: torch.Tensor) -> torch.Tensor:
        """[B, T, C] -> [B, T, C']."""
        return self.res_conv(self.conv(states, conditions), conditions)


class NTv3DeconvBlock(GradientCheckpointingLayer):
    """Twice the length, two convolutions, and what was on the way down at this length."""

    def __init__(self, config: NTv3Config, in_width: int, out_width: int):
        super().__init__()
        self.conv = NTv3Deconvolution(config, NTv3Conv1d(in_width, out_width, 5))
        self.res_conv = NTv3ResidualConvolution(config, NTv3PointConvTranspose1d(out_width))

    def forward(self, states: torch.Tensor, skipped: torch.Tensor | None, *conditions: torch.Tensor) -> torch.Tensor:
        """[B, T, C], [B, 2 * T, C'] -> [B, 2 * T, C']."""
        states = self.res_conv(self.conv(states, conditions), conditions)
        return states if skipped is None else states + skipped


class NTv3Attention(nn.Module):
    """Attention of all positions to all, rotated."""

    def __init__(self, config: NTv3Config):
        super().__init__()
        self.config = config
        self.is_causal = False
        self.scaling = config.key_size**-0.5
        width = config.attention_heads * config.key_size
        # In the published names each projection lies one level deeper than it needs to.
        self.query_head = nn.Sequential(OrderedDict(linear=nn.Linear(config.embed_dim, width)))
        self.key_head = nn.Sequential(OrderedDict(linear=nn.Linear(config.embed_dim, width)))
        self.value_head = nn.Sequential(OrderedDict(linear=nn.Linear(config.embed_dim, width)))
        self.mha_output = nn.Linear(width, config.embed_dim)

    def forward(
        self, states: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor], **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """[B, T, D], cosines and sines [1, T, head width / 2] -> [B, T, D], weights [B, heads, T, T] if eager."""
        shape = (*states.shape[:2], -1, self.config.key_size)
        projections = (self.query_head, self.key_head, self.value_head)
        query, key, value = (project(states).view(shape).transpose(1, 2) for project in projections)
        query, key = (rotate(x, *rotation) for x in (query, key))
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        states, weights = attend(self, query, key, value, None, scaling=self.scaling, dropout=0.0, **kwargs)
        return self.mha_output(states.reshape(*shape[:2], -1)), weights


class NTv3Layer(GradientCheckpointingLayer):
    """A transformer layer, norms first; conditions gate its MLP (SwiGLU, arXiv:2002.05202), not its attention."""

    def __init__(self, config: NTv3Config):
        super().__init__()
        self.self_attention_layer_norm = NTv3LayerNorm(config, config.embed_dim)
        self.sa_layer = NTv3Attention(config)
        self.final_layer_norm = NTv3LayerNorm(config, config.embed_dim)
        self.fc1 = nn.Linear(config.embed_dim, 2 * config.ffn_embed_dim, bias=False)
        self.fc2 = nn.Linear(config.ffn_embed_dim, config.embed_dim, bias=False)
        self.modulation_layers = make_modulations(config, config.embed_dim)

    def forward(
        self,
        states: torch.Tensor,
        rotation: tuple[torch.Tensor, torch.Tensor],
        *conditions: torch.Tensor,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        """[B, T, D] -> [B, T, D]."""
        attended, _ = self.sa_layer(self.self_attention_layer_norm(states, conditions), rotation, **kwargs)
        states = states + attended
        gate, up = self.fc1(self.final_layer_norm(states, conditions)).chunk(2, dim=-1)
        return states + gate_by_conditions(self.fc2(nn.functional.silu(gate) * up), self.modulation_layers, conditions)


__all__ = [
    "Conditions",
    "NTv3Attention",
    "NTv3Conv1d",
    "NTv3ConvBlock",
    "NTv3Convolution",
    "NTv3DeconvBlock",
    "NTv3Deconvolution",
    "NTv3Layer",
    "NTv3LayerNorm",
    "NTv3Modulation",
    "NTv3PointConv1d",
    "NTv3PointConvTranspose1d",
    "NTv3ResidualConvolution",
    "gelu",
]
