"""The released memory's algorithm, written plainly: the peer that `gengram bench` measures against.

Prefix sums over the whole sequence in the activations' dtype, their differences as window means, all sizes side by
side, two projections a position (what BGI-HangzhouAI/Gengram does at commit c7053fa).
"""

import torch
import torch.nn.functional as F

from gengram.gengram.motif_memory import MotifMemory
from gengram.gengram.prefix_sums import pool_by_prefix_sums


def read_released(memory: MotifMemory, letters: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Key and value [B, T, D] by the released algorithm, with the weights of a `MotifMemory`."""
    tables = [table.weight for table in memory.embeddings]
    features = pool_by_prefix_sums(tables, letters, memory.window)
    return F.linear(features, memory.key_proj.weight), F.linear(features, memory.value_proj.weight)


def run_released(memory: MotifMemory, hidden: torch.Tensor, letters: torch.Tensor) -> torch.Tensor:
    """The residual [B, T, D] by the released algorithm, with the weights of a `MotifMemory` in its default form."""
    key, value = read_released(memory, letters)
    D = hidden.shape[-1]
    query = F.rms_norm(hidden, (D,), memory.norm_q.weight, memory.norm_q.eps)
    key = F.rms_norm(key, (D,), memory.norm_k.weight, memory.norm_k.eps)
    score = (query * key).sum(-1, keepdim=True) / D**0.5
    gated = (score.abs().clamp(min=1e-6).sqrt() * score.sign()).sigmoid() * value
    conv = memory.short_conv.conv
    padded = F.pad(gated.transpose(1, 2), (memory.short_conv.history, 0))
    mixed = F.conv1d(padded, conv.weight, dilation=conv.dilation, groups=conv.groups).transpose(1, 2)
    return gated + F.silu(mixed)


__all__ = ["read_released", "run_released"]
