"""Window means as the released code takes them: differences of running sums, with their rounding.

For the study of weights that were trained under it; nothing else should want it (docs/memory.md shows the error).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from .kmer_index import KmerWindow, index_kmers


def pool_by_prefix_sums(tables: Sequence[torch.Tensor], letters: torch.Tensor, window: KmerWindow) -> torch.Tensor:
    """
    Mean table row of the k-mers in each position's window (BGI-HangzhouAI/Gengram at commit c7053fa).

    The sums run over the whole sequence in the dtype of the tables, so the error grows with the position; counts are
    float32.

    Args:
        tables (K tensors [5**k, E]): in the order of `window.kmer_sizes`.
        letters (`torch.Tensor` int64 [B, T]): from the start of the sequence.

    Returns:
        `torch.Tensor` [B, T, K * E] in the dtype of the tables.
    """
    pooled = []
    for k, table in zip(window.kmer_sizes, tables):
        rows, valid = index_kmers(letters, k)
        places = window.places(k)
        found = F.embedding(rows, table) * valid[..., None]
        total, count = found.cumsum(1), valid.float().cumsum(1)
        total = total - F.pad(total, (0, 0, places, 0))[:, : total.shape[1]]
        count = count - F.pad(count, (places, 0))[:, : count.shape[1]]
        pooled.append(total / count.clamp(min=1)[..., None].to(total.dtype))
    return torch.cat(pooled, dim=-1)


__all__ = ["pool_by_prefix_sums"]
