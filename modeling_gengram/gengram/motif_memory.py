"""The motif memory of one layer: k-mer tables, window means, key and value, gate, convolution."""

import functools

import torch
import torch.nn.functional as F
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_gengram import GengramConfig
from .kmer_index import KmerContext, KmerWindow
from .memory_ops import (
    accumulation_dtype,
    convolve_causal,
    gate_scores,
    merge_tables,
    pool_by_definition,
    pool_by_lifetime,
    read_merged,
)
from .table_cache import TableCache

# Projecting R table rows costs 4 R E D operations, projecting N positions 4 N K E D. Merged tables are taken where that
# saves at least this factor, because their rows are 2D wide and read L + 1 times a position (measured on CPU, float32:
# equal at a factor of about 3, from (D, E) = (64, 64) to (1024, 256)).
MERGED_SAVING = 4.0
# Merged tables are kept up to this many rows of 2D numbers: sizes up to 7, 7,221 rows for 1..6.
MAX_KEPT_ROWS = 40_000


# transformers initialises weights by the class of the module that owns them, hence one class a kind of weight.
class MotifTable(nn.Embedding):
    """Table of one k-mer size: [5**k, E], N(0, 1) at the start."""


class MotifProjection(nn.Linear):
    """Key or value projection [D, K * E], PyTorch's own initialisation."""


class MotifConvolution(nn.Conv1d):
    """Depthwise weight [D, 1, taps] of the short convolution."""


class ShortConvolution(nn.Module):
    """Causal dilated depthwise convolution; the weight is `conv.weight` as in the released code."""

    def __init__(self, hidden_size: int, kernel_size: int, dilation: int):
        super().__init__()
        self.conv = MotifConvolution(
            hidden_size, hidden_size, kernel_size, groups=hidden_size, dilation=dilation, bias=False
        )

    @property
    def history(self) -> int:
        """Positions before t that reach into position t."""
        return (self.conv.kernel_size[0] - 1) * self.conv.dilation[0]

    def forward(self, x: torch.Tensor, documents: torch.Tensor | None = None) -> torch.Tensor:
        """x [B, S, D] -> [B, S, D]; `documents` [B, S] cut the taps."""
        if type(self.conv) is not MotifConvolution:
            raise TypeError(
                f"The memory's convolution is wrapped ({type(self.conv).__name__}): adapters reach its tables, "
                "projections and norms, not the convolution. Leave `conv` out of the target modules."
            )
        return convolve_causal(x, self.conv.weight.to(x.dtype), self.conv.dilation[0], documents)


class MotifMemory(GradientCheckpointingLayer):
    """
    A residual for the hidden states of one layer, read from tables of k-mers (arXiv 2601.22203, equations 5-13, and
    the released Gengram code; `docs/memory.md` gives the formula and where the two disagree).

    Parameter names are those of the released code: `embeddings.{j}.weight` [5**k, E], `key_proj`, `value_proj`
    [D, K * E], `norm_q`, `norm_k` [D], `short_conv.conv.weight` [D, 1, taps]; `norm_out` [D] is the norm of the
    paper's mixer or, with `conv_norm`, the one before the convolution.

    Args:
        config (`GengramConfig`)
        layer_idx (`int`, *optional*, defaults to 0): the layer it writes to.

    Attributes:
        path (`str`): `"auto"` (default), or the form to use: `"definition"`, `"lifetime"`, `"merged"`.
    """

    path: str = "auto"

    def __init__(self, config: GengramConfig, layer_idx: int = 0):
        super().__init__()
        D, width = config.hidden_size, len(config.kmer_sizes) * config.memory_dim
        self.layer_idx = layer_idx
        self.table_cache = TableCache()
        self.window = make_window(config)
        self.gate = config.gate
        self.mixer = config.mixer
        self.embeddings = nn.ModuleList([MotifTable(5**k, config.memory_dim) for k in config.kmer_sizes])
        self.key_proj = MotifProjection(width, D, bias=config.projection_bias)
        self.value_proj = MotifProjection(width, D, bias=config.projection_bias)
        self.norm_q = nn.RMSNorm(D, eps=config.memory_norm_eps)
        self.norm_k = nn.RMSNorm(D, eps=config.memory_norm_eps)
        self.norm_out = self.short_conv = None
        if config.mixer == "silu_norm" or (config.mixer == "conv_residual" and config.conv_norm):
            self.norm_out = nn.RMSNorm(D, eps=config.memory_norm_eps)
        if config.mixer == "conv_residual":
            self.short_conv = ShortConvolution(D, config.conv_kernel_size, config.conv_dilation)

    def choose_path(self, context: KmerContext) -> str:
        """
        The form that `forward` takes for this input.

        `"merged"` needs a window without de-duplication, the memory's own tables and projections (not wrapped by an
        adapter, sharded or quantised) and sizes that are known (no tracing). Without gradients in evaluation it is
        then always taken, its tables are kept (`TableCache`), and the result depends on nothing but weights and input.
        Otherwise the tables would be projected for this call alone, which needs enough tokens to pay
        (`MERGED_SAVING`). In all other cases `"lifetime"`; `"definition"` only on request (`path`).
        """
        if self.path != "auto":
            return self.path
        if self.window.size is None or self.window.deduplicate or torch.compiler.is_compiling():
            return "lifetime"
        parts: list[tuple[type, nn.Module]] = [(MotifTable, table) for table in self.embeddings]
        parts += [(MotifProjection, self.key_proj), (MotifProjection, self.value_proj)]
        if not all(type(part) is kind and type(part.weight) is nn.Parameter for kind, part in parts):
            return "lifetime"
        *shorter, largest = sorted(self.window.kmer_sizes)
        if self._keeps_tables():
            return "merged" if 4**largest + 5 ** (largest - 1) <= MAX_KEPT_ROWS else "lifetime"
        tokens = context.letters.numel()
        rows = sum(5**k for k in shorter) + 5 ** (largest - 1) + min(tokens, 4**largest)  # few K-mers hold an N
        return "merged" if rows * MERGED_SAVING < tokens * len(self.window.kmer_sizes) else "lifetime"

    def _keeps_tables(self) -> bool:
        return not self.training and not torch.is_grad_enabled()

    def read(self, context: KmerContext) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Key and value of each position: a function of the bases alone.

        Returns:
            key, value (`torch.Tensor` [B, T, D]).
        """
        path = self.choose_path(context)
        tables = [_rows_of(table, k) for table, k in zip(self.embeddings, self.window.kmer_sizes)]
        letters, documents, history = context.letters, context.documents, context.history
        if path == "merged":
            weights = self.key_proj.weight, self.value_proj.weight
            with torch.autocast(letters.device.type, enabled=False):  # sums stay in the tables' own precision
                if self._keeps_tables():
                    make = functools.partial(merge_tables, tables, *weights, self.window)
                    merged = self.table_cache.find([*tables, *weights], make)
                else:
                    merged = merge_tables(tables, *weights, self.window, letters)
                key, value = read_merged(merged, tables, *weights, letters, self.window, documents, history)
            if self.key_proj.bias is not None:
                key, value = key + self.key_proj.bias, value + self.value_proj.bias
            return key, value
        if path == "lifetime":
            pooled = pool_by_lifetime(tables, letters, self.window, documents, history)
        else:
            pooled = pool_by_definition(tables, letters, self.window, documents)[:, history:]
        pooled = pooled.to(tables[0].dtype)
        return self.key_proj(pooled), self.value_proj(pooled)

    def forward(self, hidden_states: torch.Tensor, context: KmerContext) -> torch.Tensor:
        """
        Args:
            hidden_states (`torch.Tensor` [B, T, D]): as they enter the layer.
            context (`KmerContext`): of the same T positions.

        Returns:
            `torch.Tensor` [B, T, D], the residual to add; zero at padding. Norms, gate and convolution are computed
            in float32 or better.
        """
        compute = accumulation_dtype(hidden_states.dtype)
        key, value = self.read(context)
        gate = gate_scores(
            _normalize(self.norm_q, hidden_states, compute), _normalize(self.norm_k, key, compute), self.gate
        )
        residual = gate * value.to(compute)
        if context.real is not None:
            residual = residual * context.real[..., None]
        if self.mixer == "silu_norm":
            residual = F.silu(_normalize(self.norm_out, residual, compute))
        elif self.mixer == "conv_residual":
            residual = residual + F.silu(self._convolve(residual, context, compute))
        return residual.to(hidden_states.dtype)

    def _convolve(self, gated: torch.Tensor, context: KmerContext, compute: torch.dtype) -> torch.Tensor:
        if self.norm_out is not None:
            gated = _normalize(self.norm_out, gated, compute)
        if context.state is None:
            return self.short_conv(gated, context.documents)
        with_past = context.state.extend_gated(self.layer_idx, gated, self.short_conv.history)
        return self.short_conv(with_past)[:, -gated.shape[1] :]


def make_window(config: GengramConfig) -> KmerWindow:
    """The window that a configuration describes."""
    if config.center_window:
        first_lag = -((config.window_size - 1) // 2)
    else:
        first_lag = 0 if config.include_current else 1
    return KmerWindow(
        kmer_sizes=tuple(config.kmer_sizes),
        size=config.window_size,
        first_lag=first_lag,
        deduplicate=config.deduplicate,
        tie_reverse_complement=config.tie_reverse_complement,
    )


def _rows_of(table: nn.Module, k: int) -> torch.Tensor:
    """A table [5**k, E]; of a table that an adapter wraps, what the adapter makes of it."""
    if type(table) is MotifTable:
        if table.weight.device.type == "meta" and hasattr(table, "_hf_hook"):
            raise RuntimeError("The motif memory is offloaded; give `memory` a device of its own in the device_map.")
        return table.weight
    device = next(table.parameters()).device
    return table(torch.arange(5**k, device=device))


def _normalize(norm: nn.Module, x: torch.Tensor, compute: torch.dtype) -> torch.Tensor:
    if type(norm) is not nn.RMSNorm:  # an adapter
        return norm(x.to(compute))
    return F.rms_norm(x.to(compute), norm.normalized_shape, norm.weight.to(compute), norm.eps)


__all__ = ["MotifMemory", "MotifTable", "make_window"]
