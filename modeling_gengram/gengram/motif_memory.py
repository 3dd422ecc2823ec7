"""The motif memory of one layer: k-mer tables, window means, key and value, gate, convolution."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_gengram import GengramConfig
from .context_parallel import ContextParallel
from .cpu_kernel import FusedStep, Gating, KeptSteps, read_fused, run_fused
from .cpu_library import load_kernel
from .gpu_kernel import (
    can_run_kernels,
    find_reads,
    gate_and_mix,
    gate_window,
    pool_rows,
    project_tables,
    read_rows,
    read_tables,
    serves_device,
)
from .kmer_index import LARGEST_KMER, NUM_LETTERS, KmerContext, KmerWindow, RowReads, shift
from .memory_cache import ROLLBACK
from .memory_chunks import CHUNK, run_in_chunks
from .memory_ops import (
    convolve_causal,
    gate_scores,
    pool_by_definition,
    pool_by_lifetime,
    pool_by_window,
    read_chosen,
    read_merged,
)
from .merged_tables import MergedTables, accumulation_dtype, merge_tables
from .offloaded_weights import bring_in, is_offloaded
from .prefix_sums import pool_by_prefix_sums
from .projection_cost import pays_to_project
from .table_cache import TableCache

# Projecting R table rows costs 4 R E D operations, projecting N positions 4 N K E D. Tables are merged for one call
# where that saves at least this factor. It is more for the eager form, which reads rows of 2D numbers L + 1 times a
# position (measured on CPU, float32: equal at about 3, from (D, E) = (64, 64) to (1024, 256)); the kernel wins from 1.
MERGED_SAVING = {"fused": 1.5, "merged": 4.0}
# Up to so many positions a compiled graph, a step of generation, sums each window by itself.
FEW = 8
# Merged tables are kept up to this many of the largest k-mers and far rows: sizes up to 7 (6,484 rows in all for 1..6).
MAX_KEPT_ROWS = 40_000


# transformers initialises weights by the class of the module that owns them, hence one class a kind of weight.
class MotifTable(nn.Embedding):
    """Table of one k-mer size: [5**k, E], N(0, 1) at the start."""


class MotifProjection(nn.Linear):
    """Key or value projection [D, K * E], PyTorch's own initialisation."""


class MotifConvolution(nn.Conv1d):
    """Depthwise weight [D, 1, taps], causal and dilated."""

    def forward(self, x: torch.Tensor, documents: torch.Tensor | None = None) -> torch.Tensor:
        """x [B, S, D] -> [B, S, D]; `documents` [B, S] cut the taps."""
        return convolve_causal(x, self.weight.to(x.dtype), self.dilation[0], documents)


class ShortConvolution(nn.Module):
    """Causal dilated depthwise convolution; the weight is `conv.weight` as in the released code."""

    def __init__(self, hidden_size: int, kernel_size: int, dilation: int):
        super().__init__()
        self.conv = MotifConvolution(
            hidden_size, hidden_size, kernel_size, groups=hidden_size, dilation=dilation, bias=False
        )
        self.history = (kernel_size - 1) * dilation  # positions in front that an output depends on

    def forward(self, x: torch.Tensor, documents: torch.Tensor | None = None) -> torch.Tensor:
        """x [B, S, D] -> [B, S, D]; `documents` [B, S] cut the taps."""
        self._refuse_adapter()
        return self.conv(x, documents)

    def read_weight(self) -> torch.Tensor:
        """[D, 1, taps]."""
        self._refuse_adapter()
        return self.conv.weight

    def _refuse_adapter(self) -> None:
        if not isinstance(self.conv, MotifConvolution):
            raise TypeError(
                f"The memory's convolution is wrapped ({type(self.conv).__name__}): adapters reach its tables, "
                "projections and norms, not the convolution. Leave `conv` out of the target modules."
            )


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
        path (`str`): `"auto"` (default), or the form to use: `"definition"`, `"lifetime"`, `"window"`, `"merged"`,
            `"fused"`, `"triton"`, `"triton_pooled"`.
    """

    path: str = "auto"
    context_parallel: ContextParallel | None = None  # by `set_context_parallel`

    def __init__(self, config: GengramConfig, layer_idx: int = 0):
        super().__init__()
        D, width = config.hidden_size, len(config.kmer_sizes) * config.memory_dim
        self.layer_idx = layer_idx
        self.table_cache, self.steps = TableCache(), KeptSteps()
        self.window = make_window(config)
        if config.window_sums == "prefix":
            self.path = "prefix"
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

        `"fused"` and `"merged"`, its eager form, need a window without de-duplication, the memory's own tables and
        projections (not wrapped by an adapter, sharded or quantised) and sizes that are known (no tracing). Without
        gradients in evaluation they are then always taken, the tables are kept (`TableCache`), and the result depends
        on nothing but weights and input. Otherwise the tables would be projected for this call alone, which needs
        enough tokens to pay (`MERGED_SAVING`). In all other cases `"lifetime"`, or, for the few positions of a compiled
        step, `"window"`; `"definition"` only on request (`path`). On a GPU that runs the kernels, `"triton"` (projected
        tables, every window) and `"triton_pooled"` stand for them by the same rules.
        """
        if self.path != "auto":
            return self.path
        if self._can_run_kernels(context):
            return self._choose_kernels(context)
        if torch.compiler.is_compiling():
            few = not torch.compiler.is_exporting() and context.letters.shape[1] - context.history <= FEW
            return "window" if few else "lifetime"
        if self.window.size is None or self.window.deduplicate:
            return "lifetime"
        if not self._owns_weights():
            return "lifetime"
        form, largest = "fused" if self._can_fuse(context) else "merged", max(self.window.kmer_sizes)
        if self._keeps_tables():
            return form if 4**largest + 4 ** (largest - 1) <= MAX_KEPT_ROWS else "lifetime"
        tokens = context.letters.numel()
        rows = sum(min(tokens, 4**k) for k in self.window.kmer_sizes)  # in use, at most; few k-mers hold an N
        return form if rows * MERGED_SAVING[form] < tokens * len(self.window.kmer_sizes) else "lifetime"

    def _can_run_kernels(self, context: KmerContext) -> bool:
        if max(self.window.kmer_sizes) > LARGEST_KMER:
            return False
        return can_run_kernels(context.letters.device, next(self.embeddings.parameters()).dtype, MotifMemory)

    def _choose_kernels(self, context: KmerContext) -> str:
        if torch.compiler.is_compiling() or not self._owns_weights():
            return "triton_pooled"
        if self._keeps_tables():
            # 24,650 rows for k = 1..6. On an H100 they were the faster form: 0.86 ms and 1.4 at 8,192 tokens.
            largest = max(self.window.kmer_sizes)
            rows = sum(NUM_LETTERS**k for k in self.window.kmer_sizes) + 4**largest + 4 ** (largest - 1)
            return "triton" if rows <= MAX_KEPT_ROWS else "triton_pooled"
        tokens, (D, width) = context.letters.numel(), self.key_proj.weight.shape
        pays = pays_to_project(tokens, self.window, width // len(self.window.kmer_sizes), D)
        return "triton" if pays else "triton_pooled"

    def _owns_weights(self) -> bool:
        """Whether tables and projections are the memory's own: not wrapped by an adapter, sharded or quantised."""
        parts: list[tuple[type, nn.Module]] = [(MotifTable, table) for table in self.embeddings]
        parts += [(MotifProjection, self.key_proj), (MotifProjection, self.value_proj)]
        return all(type(part) is kind and type(part.weight) is nn.Parameter for kind, part in parts)

    def _can_fuse(self, context: KmerContext) -> bool:
        plain = type(self.norm_q) is nn.RMSNorm and type(self.norm_k) is nn.RMSNorm
        stepping = context.state is not None and torch.is_grad_enabled()
        return plain and not stepping and context.letters.device.type == "cpu" and load_kernel() is not None

    def _keeps_tables(self) -> bool:
        if hasattr(self, "unshard"):  # FSDP2 gathers weights anew for each call, past their version counters
            return False
        return not self.training and not torch.is_grad_enabled()

    def _tables(self) -> list[torch.Tensor]:
        return [_rows_of(table, k) for table, k in zip(self.embeddings, self.window.kmer_sizes)]

    def _merge(self, context: KmerContext) -> MergedTables:
        tables, weights = self._tables(), (self.key_proj.weight, self.value_proj.weight)

        def merge(letters: torch.Tensor | None) -> MergedTables:
            with torch.autocast(context.letters.device.type, enabled=False):  # sums stay in the tables' own precision
                return merge_tables(tables, *weights, self.window, letters)

        if self._keeps_tables():
            return self.table_cache.find([*tables, *weights], lambda: merge(None))
        return merge(context.letters)

    def index(self, context: KmerContext) -> KmerContext:
        """
        The context together with what the kernels of this memory read, where it runs kernels. Made once a forward pass:
        it depends on the letters alone, and is the same for all memories of a model.
        """
        if find_reads is None or not serves_device(context.letters.device.type):
            return context
        if not self.choose_path(context).startswith("triton"):
            return context
        return replace(context, reads=self._find_reads(context))

    def _find_reads(self, context: KmerContext) -> RowReads:
        parts = [*self.embeddings, self.key_proj, self.value_proj]
        gradient = torch.is_grad_enabled() and any(x.requires_grad for part in parts for x in part.parameters())
        if (reads := context.reads) is not None and (reads.order is not None or not gradient):
            return reads
        return find_reads(context.letters, self.window, context.documents, gradient)

    def _project(self) -> torch.Tensor:
        """Projected tables for the kernels, kept."""
        tables, weights = self._tables(), (self.key_proj.weight, self.value_proj.weight)
        # In another order than in `_merge`, so that neither form finds the other's tables.
        return self.table_cache.find([*weights, *tables], lambda: project_tables(tables, *weights, self.window))

    def _run_kernels(self, path: str, context: KmerContext) -> list[torch.Tensor]:
        """`_read_parts` of the two forms for a GPU."""
        reads, history = self._find_reads(context), context.history
        projections = self.key_proj, self.value_proj
        if path == "triton":
            if self._keeps_tables():
                key_value = read_rows(self._project(), reads, self.window, history)
            else:
                weights = (projection.weight for projection in projections)
                key_value = read_tables(self._tables(), *weights, reads, self.window, history)
            return [key_value if (bias := self._bias(key_value.dtype)) is None else key_value + bias]
        pooled = pool_rows(self._tables(), reads, self.window, history)
        if not self._owns_weights():
            return [projection(pooled) for projection in projections]
        weight = torch.cat([projection.weight for projection in projections])
        return [F.linear(pooled, weight, self._bias(weight.dtype))]

    def read(self, context: KmerContext) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Key and value of each position: a function of the bases alone.

        Returns:
            key, value (`torch.Tensor` [B, T, D]).
        """
        parts = self._read_parts(context, self.choose_path(context))
        key, value = parts[0].chunk(2, dim=-1) if len(parts) == 1 else parts
        return key, value

    def _read_parts(self, context: KmerContext, path: str) -> list[torch.Tensor]:
        """Key and value [B, T, D], or, from forms that make both at once, one tensor [B, T, 2D]."""
        tables, weights = self._tables(), (self.key_proj.weight, self.value_proj.weight)
        letters, documents, history = context.letters, context.documents, context.history
        if path.startswith("triton"):
            return self._run_kernels(path, context)
        if path == "fused" and not torch.is_grad_enabled():
            gating, merged = self._describe_gating(context)
            return [read_fused(gating, merged.rows, self._bias(merged.rows.dtype)).to(tables[0].dtype)]
        if path in ("fused", "merged"):
            merged = self._merge(context)
            with torch.autocast(letters.device.type, enabled=False):
                key, value = read_merged(merged, tables, *weights, letters, self.window, documents, history)
            if self.key_proj.bias is not None:
                key, value = key + self.key_proj.bias, value + self.value_proj.bias
            return [key, value]
        if path == "prefix":
            if history or documents is not None:
                raise ValueError(
                    "window_sums='prefix' sums from the start of one sequence: pass use_cache=False and no packed "
                    "documents, or use window_sums='exact'."
                )
            pooled = pool_by_prefix_sums(tables, letters, self.window)
        elif path == "window":
            pooled = pool_by_window(tables, letters, self.window, documents, history)
        elif path == "lifetime":
            pooled = pool_by_lifetime(tables, letters, self.window, documents, history)
        else:
            pooled = pool_by_definition(tables, letters, self.window, documents)[:, history:]
        pooled = pooled.to(tables[0].dtype)
        return [self.key_proj(pooled), self.value_proj(pooled)]

    def forward(self, hidden_states: torch.Tensor, context: KmerContext) -> torch.Tensor:
        """
        Args:
            hidden_states (`torch.Tensor` [B, T, D]): as they enter the layer.
            context (`KmerContext`): of the same T positions.

        Returns:
            `torch.Tensor` [B, T, D], the residual to add. The gate is zero at padding, to which the convolution still
            carries what is in front of it. Norms, gate and convolution are computed in float32 or better. Long
            sequences are evaluated a piece at a time.
        """
        # A step of generation has all that it needs, and none is made of weights that are elsewhere.
        steps = context.state is not None and not torch.compiler.is_compiling() and context.state in self.steps
        if not steps and is_offloaded(self):
            return self._run_offloaded(hidden_states, context)
        return self._run(hidden_states, context)

    @torch.compiler.disable
    def _run_offloaded(self, hidden_states: torch.Tensor, context: KmerContext) -> torch.Tensor:
        """The same with weights that are away between calls, and with them what was made of them."""
        try:
            with bring_in(self):
                return self._run(hidden_states, context)
        finally:
            self.table_cache.clear()

    def _run(self, hidden_states: torch.Tensor, context: KmerContext) -> torch.Tensor:
        if self.path == "prefix":
            if self.context_parallel is not None:
                raise ValueError("window_sums='prefix' has no context parallelism; use window_sums='exact'.")
            return self._write(hidden_states, context)
        reach = 0 if self.short_conv is None else self.short_conv.history
        if self.context_parallel is not None:
            return self.context_parallel.run(self._write, hidden_states, context, self.window, reach)
        whole = self.training or torch.is_grad_enabled() or torch.compiler.is_compiling()
        if whole or hidden_states.shape[1] <= CHUNK:
            return self._write(hidden_states, context)
        return run_in_chunks(self._write, hidden_states, self.index(context), self.window, reach)

    def _write(self, hidden_states: torch.Tensor, context: KmerContext) -> torch.Tensor:
        """The residual of all positions at once."""
        compute = accumulation_dtype(hidden_states.dtype)
        if (step := self._find_step(context)) is not None:
            return self._take_step(step, hidden_states, context).to(hidden_states.dtype)
        path = self.choose_path(context)
        if path.startswith("triton") and all(type(norm) is nn.RMSNorm for norm in (self.norm_q, self.norm_k)):
            residual, mixed = self._gate_by_triton(hidden_states, context, path, compute)
            if mixed:
                return residual
        elif path == "fused":
            residual, mixed = self._gate_fused(hidden_states.to(compute), context)
            if mixed:
                return residual.to(hidden_states.dtype)
        else:
            key, value = self.read(context)
            query, key = _normalize(self.norm_q, hidden_states, compute), _normalize(self.norm_k, key, compute)
            gate = gate_scores(query, key, self.gate)
            if context.real is not None:
                gate = gate * context.real[..., None]
            residual = gate * value.to(compute)
        if self.mixer == "silu_norm":
            residual = F.silu(_normalize(self.norm_out, residual, compute))
        elif self.mixer == "conv_residual":
            residual = residual + F.silu(self._convolve(residual, context, compute))
        return residual.to(hidden_states.dtype)

    def _gate_by_triton(
        self, hidden_states: torch.Tensor, context: KmerContext, path: str, compute: torch.dtype
    ) -> tuple[torch.Tensor, bool]:
        """The residual, or, where a mixer is left to PyTorch, the gated vectors: and which of them it is."""
        norms = [self.norm_q, self.norm_k]
        weights = [norm.weight for norm in norms]
        mixer, mixer_weight, dilation = self.mixer, None, 1
        if self.mixer == "silu_norm" and type(self.norm_out) is nn.RMSNorm:
            mixer_weight = self.norm_out.weight
            norms.append(self.norm_out)
        elif self.mixer == "conv_residual" and self.norm_out is None and context.state is None:
            mixer_weight, dilation = self.short_conv.read_weight(), self.short_conv.conv.dilation[0]
        else:
            # A wrapped norm is its wrapper's; generation keeps gated vectors of earlier steps; and a norm in front of
            # the convolution, which neither preset has, would need the vectors of a position whole for every tap.
            mixer = "none"
        mixed = mixer == self.mixer
        dtype = hidden_states.dtype if mixed else compute
        gating = weights, [norm.eps for norm in norms], self.gate, mixer, mixer_weight, dilation, context.real
        if path == "triton" and self._keeps_tables():
            biases = [] if self.key_proj.bias is None else [self.key_proj.bias, self.value_proj.bias]
            reads = self._find_reads(context)
            return gate_window(hidden_states, self._project(), biases, reads, self.window, *gating, dtype), mixed
        documents = None if context.documents is None else context.documents[:, context.history :]
        parts = self._run_kernels(path, context)
        return gate_and_mix(hidden_states, parts, *gating, documents, dtype), mixed

    def _gate_fused(self, hidden_states: torch.Tensor, context: KmerContext) -> tuple[torch.Tensor, bool]:
        """The gated vectors, or, where the kernel knows the mixer, the residual: and which of them it is."""
        gating, merged = self._describe_gating(context)
        compute = torch.promote_types(hidden_states.dtype, merged.rows.dtype)
        if gating.rest is not None:
            gating = replace(gating, rest=(gating.rest[0], gating.rest[1].to(compute)))
        mixes = self.mixer == "none" or (self.mixer == "conv_residual" and self.norm_out is None)
        conv, state = None, context.state
        if mixes and self.short_conv is not None:
            conv = self.short_conv.read_weight()[:, 0].T.to(compute)
            history = self.short_conv.history
            past = None if state is None else state.find_gated(self.layer_idx, history)
            kept = 0 if state is None else history + ROLLBACK
            gating = replace(gating, dilation=self.short_conv.conv.dilation[0], past=past, kept=kept)
        norms = self.norm_q.weight.to(compute), self.norm_k.weight.to(compute)
        weights = merged.rows.to(compute), self._bias(compute), *norms, conv
        residual, gated = run_fused(gating, hidden_states.to(compute), *weights)
        if conv is not None and state is not None:
            state.add_gated(self.layer_idx, gated, history)
            if self._keeps_tables() and not is_offloaded(self):
                self.steps[state] = FusedStep(gating, *weights)
        return residual, mixes

    def _find_step(self, context: KmerContext) -> FusedStep | None:
        if context.state is None or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return None
        step = self.steps.get(context.state)
        if step is None or not context.state.has_gated(self.layer_idx):  # a cache that begins anew
            return None
        return step if step.serves(context) else None

    def _take_step(self, step: FusedStep, hidden_states: torch.Tensor, context: KmerContext) -> torch.Tensor:
        state, history = context.state, step.history
        residual, gated = step(hidden_states.to(step.dtype), context, state.find_gated(self.layer_idx, history))
        state.add_gated(self.layer_idx, gated, history)
        return residual

    def _describe_gating(self, context: KmerContext) -> tuple[Gating, MergedTables]:
        merged = self._merge(context)
        rest = self._read_rest(merged, context)
        return Gating(self.window, context, merged, self.gate, self.norm_q.eps, rest=rest), merged

    def _read_rest(self, merged: MergedTables, context: KmerContext) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Keys and values of the positions whose window holds an N that the merged tables have no rows for."""
        unknown = context.letters >= merged.num_letters
        if merged.num_letters == NUM_LETTERS or not bool(unknown.any()):
            return None
        first = self.window.first_lag
        near = torch.stack([shift(unknown, lag, False) for lag in range(first, first + self.window.size)]).any(0)
        chosen = near[:, context.history :]
        tables, weights = self._tables(), (self.key_proj.weight, self.value_proj.weight)
        letters, documents, history = context.letters, context.documents, context.history
        with torch.autocast(letters.device.type, enabled=False):  # in the precision of the merged rows
            rest = read_chosen(tables, *weights, letters, self.window, chosen, documents, history)
        if (bias := self._bias(rest.dtype)) is not None:
            rest = rest + bias
        rows = torch.where(chosen, chosen.flatten().cumsum(0).view_as(chosen) - 1, -1)
        return rows.to(torch.int32), rest

    def _bias(self, dtype: torch.dtype) -> torch.Tensor | None:
        if self.key_proj.bias is None:
            return None
        return torch.cat([self.key_proj.bias, self.value_proj.bias]).to(dtype)

    def _convolve(self, gated: torch.Tensor, context: KmerContext, compute: torch.dtype) -> torch.Tensor:
        if self.norm_out is not None:
            gated = _normalize(self.norm_out, gated, compute)
        if context.state is None:
            documents = context.documents
            return self.short_conv(gated, None if documents is None else documents[:, context.history :])
        history = self.short_conv.history
        past = context.state.find_gated(self.layer_idx, history)
        with_past = gated if past is None else torch.cat([past, gated], dim=1)
        context.state.add_gated(self.layer_idx, gated, history)  # may overwrite the past
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
        return table.weight
    device = next(table.parameters()).device
    return table(torch.arange(5**k, device=device))


def _normalize(norm: nn.Module, x: torch.Tensor, compute: torch.dtype) -> torch.Tensor:
    if type(norm) is not nn.RMSNorm:  # an adapter
        return norm(x.to(compute))
    return F.rms_norm(x.to(compute), norm.normalized_shape, norm.weight.to(compute), norm.eps)


__all__ = ["MotifMemory", "MotifTable", "make_window"]
