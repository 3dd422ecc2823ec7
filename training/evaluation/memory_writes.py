"""How much does each memory write into the hidden states, and how often is its gate open?

The strength of a write is the norm of the residual that a memory adds to a position (arXiv 2601.22203, figure 8).
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel

from gengram.gengram.memory_ops import gate_scores

OPEN = 0.5
"""A gate, a sigmoid, is open above this: where hidden state and key point the same way."""


class MemoryWatch:
    """Sees what the memories of a model write while it reads; padding does not count.

    Args:
        model: of any family; its memories are found by their class, `MotifMemory`.
    """

    def __init__(self, model: PreTrainedModel):
        self._memories = [module for module in model.modules() if type(module).__name__ == "MotifMemory"]
        self._sums: dict[int, torch.Tensor] = {}

    @contextmanager
    def watch(self) -> Iterator[None]:
        """What the model reads meanwhile is seen."""
        hooks = [memory.register_forward_hook(self._look, with_kwargs=True) for memory in self._memories]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _look(self, memory: Any, args: tuple, kwargs: dict[str, Any], residual: torch.Tensor) -> None:
        named = dict(zip(("hidden_states", "context"), args)) | kwargs
        hidden, context = named["hidden_states"], named["context"]
        written, held = (one.detach().float().norm(dim=-1) for one in (residual, hidden))
        gate = read_gate(memory, hidden, context).squeeze(-1)
        real = torch.ones_like(written, dtype=torch.bool) if context.real is None else context.real
        columns = (written, held, written / held.clamp(min=1e-20), gate, gate > OPEN, torch.ones_like(written))
        sums = torch.stack([one[real].double().sum().cpu() for one in columns])
        self._sums[memory.layer_idx] = self._sums.get(memory.layer_idx, torch.zeros_like(sums)) + sums

    def summarise(self) -> dict[str, float]:
        """Return what `measure_memory_writes` does, of all that was seen."""
        names = ("write_norm", "hidden_norm", "write_ratio", "gate_mean", "gate_open")
        metrics: dict[str, float] = {}
        for layer, sums in sorted(self._sums.items()):
            *totals, count = sums.tolist()
            metrics |= {f"memory/layer_{layer}/{name}": total / count for name, total in zip(names, totals) if count}
        return metrics


def measure_memory_writes(model: PreTrainedModel, batches: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Watch the memories of a model while it reads some batches.

    Args:
        model: as it is.
        batches: arguments of its `forward`.

    Returns:
        For each layer l (from 0) that has a memory `memory/layer_l/write_norm`, the mean of ||residual||,
        `memory/layer_l/hidden_norm`, the mean of ||hidden states|| in front of it, `memory/layer_l/write_ratio`, the
        mean of their ratios, `memory/layer_l/gate_mean` and `memory/layer_l/gate_open`, the share of gates above 0.5.
        Empty for a model without memory.
    """
    memories = MemoryWatch(model)
    with torch.no_grad(), memories.watch():
        for batch in batches:
            model(**batch)
    return memories.summarise()


def read_gate(memory: Any, hidden_states: torch.Tensor, context: Any) -> torch.Tensor:
    """Return the gates of a memory, float32 or better [B, T, 1]: its definition, computed beside what it has done."""
    with torch.no_grad():
        key, _ = memory.read(context)
        return gate_scores(_normalise(memory.norm_q, hidden_states), _normalise(memory.norm_k, key), memory.gate)


def _normalise(norm: nn.Module, values: torch.Tensor) -> torch.Tensor:
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    if type(norm) is not nn.RMSNorm:  # an adapter
        return norm(values)
    return F.rms_norm(values, norm.normalized_shape, norm.weight.to(values.dtype), norm.eps)


__all__ = ["OPEN", "MemoryWatch", "measure_memory_writes", "read_gate"]
