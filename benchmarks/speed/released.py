"""The released memory's algorithm, written plainly: the peer that `gengram bench` measures against.

Prefix sums over the whole sequence in the activations' dtype, their differences as window means, all sizes side by
side, two projections a position (what BGI-HangzhouAI/Gengram does at commit c7053fa).
"""

import torch
import torch.nn.functional as F

from gengram import MotifMemory
from gengram.gengram.kmer_index import index_kmers


def pool_by_prefix_sums(tables: list[torch.Tensor], letters: torch.Tensor, sizes: tuple[int, ...], W: int):
    """Window means as differences of running sums: tables K x [5**k, E], letters int64 [B, T] -> [B, T, K * E]."""
    pooled = []
    for k, table in zip(sizes, tables):
        rows, valid = index_kmers(letters, k)
        places = W - k + 1
        found = F.embedding(rows, table) * valid[..., None]
        total, count = found.cumsum(1), valid.float().cumsum(1)
        total = total - F.pad(total, (0, 0, places, 0))[:, : total.shape[1]]
        count = count - F.pad(count, (places, 0))[:, : count.shape[1]]
        pooled.append(total / count.clamp(min=1)[..., None].to(total.dtype))
    return torch.cat(pooled, dim=-1)


def read_released(memory: MotifMemory, letters: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Key and value [B, T, D] by the released algorithm, with the weights of a `MotifMemory`."""
    tables = [table.weight for table in memory.embeddings]
    features = pool_by_prefix_sums(tables, letters, memory.window.kmer_sizes, memory.window.size)
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


__all__ = ["pool_by_prefix_sums", "read_released", "run_released"]
