"""The tables of a memory projected to keys and values, and merged for full windows: what `triton_rows` reads.

Lookup, mean and projection are linear, so the tables are projected instead of the positions: P_k = table_k W_k^T. A
full window, of which every k-mer counts, reads rows that add up all sizes (`memory_ops.merge_tables` tells why):

    Q[a] = sum over k of P_k[a mod 5^k] / L_k        for the K-mers a (K the largest size), at the L_K nearest places
    far[a] = sum over j < K of Q_j[a div 5^(K-1-j)]  for the (K-1)-mers a, at the place behind them

All other windows read the rows of P, which are kept beside: a difference of rows of Q, as an accumulator of float32
could afford it, would lose most digits of rows that are stored in half precision. The products are taken in the
tables' own dtype (or autocast's), on the tensor cores; the sums that merge them in float32, rounded once.

Letters: K number of sizes or largest size, E memory_dim, D hidden size, R rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .kmer_index import NUM_LETTERS, KmerWindow, mirror_rows
from .memory_ops import accumulation_dtype
from .triton_index import RowLayout, look_up_rows


@dataclass(frozen=True)
class ProjectedTables:
    """
    Args:
        rows (`torch.Tensor` [R, 2D]): P of each size; then, where windows merge, Q and far.
        layout (`RowLayout`): which rows they are.
    """

    rows: torch.Tensor
    layout: RowLayout


def project_tables(
    tables: Sequence[torch.Tensor],
    key_weight: torch.Tensor,
    value_weight: torch.Tensor,
    window: KmerWindow,
    letters: torch.Tensor | None = None,
) -> ProjectedTables:
    """
    Project and merge.

    Args:
        tables (K tensors [5**k, E]), key_weight, value_weight (`torch.Tensor` [D, K * E]).
        letters (`torch.Tensor` int64 [B, S], *optional*): of the largest size, only the k-mers that occur here (one
            synchronisation with the device). Without, all of them in P and those of A, C, G, T in Q: a full window
            with an N then reads P.

    Returns:
        `ProjectedTables`, differentiable in the tables and weights.
    """
    device, E = tables[0].device, tables[0].shape[1]
    sizes = window.kmer_sizes
    largest = max(sizes)
    weights = torch.cat([key_weight, value_weight]).split(E, dim=1)  # K x [2D, E]
    if letters is not None:
        in_q = _find_occurring(letters, largest)
        in_p = torch.unique(mirror_rows(largest, device)[in_q]) if window.tie_reverse_complement else in_q
    else:
        in_q = torch.arange(NUM_LETTERS**largest, device=device)
        in_p = in_q.clone()
        for place in range(largest):
            in_q = in_q[in_q // NUM_LETTERS**place % NUM_LETTERS < NUM_LETTERS - 1]
    projected, layers, lookup, bounds, entries = [], [], [], [0], 0

    def add(k: int, first_lag: int, places: int, row_of: torch.Tensor, num_rows: int) -> None:
        nonlocal entries
        layers.append([k, first_lag, places, entries])
        lookup.append(torch.where(row_of >= 0, row_of + bounds[-1], -1))
        bounds.append(bounds[-1] + num_rows)
        entries += len(row_of)

    first_lag = 0 if window.size is None else window.first_lag
    for k, table, weight in zip(sizes, tables, weights):
        projected.append(F.linear(table if k < largest else table[in_p], weight))
        row_of = torch.arange(NUM_LETTERS**k, device=device)
        if k == largest:
            row_of = torch.full_like(row_of, -1)
            row_of[in_p] = torch.arange(len(in_p), device=device)
        if window.tie_reverse_complement:
            row_of = row_of[mirror_rows(k, device)]
        add(k, first_lag, window.places(k), row_of, len(projected[-1]))
    merged = 0
    if window.size is not None and not window.deduplicate:
        merged = 1 if largest == 1 else 2
        own = lookup[sizes.index(largest)][in_q] - bounds[sizes.index(largest)]
        q, far = _merge(projected, own.long(), in_q, window)
        projected += [q, far][:merged]
        row_of = torch.full((NUM_LETTERS**largest,), -1, device=device)
        row_of[in_q] = torch.arange(len(in_q), device=device)
        add(largest, first_lag, window.places(largest), row_of, len(q))
        if largest > 1:
            everyone = torch.arange(len(far), device=device)
            add(largest - 1, first_lag + window.places(largest), 1, everyone, len(far))
    layout = RowLayout(
        torch.tensor(layers, dtype=torch.int32, device=device), torch.cat(lookup).to(torch.int32), tuple(bounds), merged
    )
    return ProjectedTables(torch.cat([part.to(projected[0].dtype) for part in projected]), layout)


def _find_occurring(letters: torch.Tensor, k: int) -> torch.Tensor:
    """The k-mers that occur, by their number: int64, ascending; at least one, so that there is a row to read."""
    every = torch.arange(NUM_LETTERS**k, dtype=torch.int32, device=letters.device)
    layer = torch.tensor([[k, 0, 1, 0]], dtype=torch.int32, device=letters.device)
    occurs = torch.zeros(NUM_LETTERS**k + 1, dtype=torch.bool, device=letters.device)
    occurs[look_up_rows(layer, every, letters).flatten().long()] = True  # -1, no k-mer, is the last place
    occurs[0] = True
    return occurs[:-1].nonzero()[:, 0]


def _merge(
    projected: Sequence[torch.Tensor], own: torch.Tensor, in_q: torch.Tensor, window: KmerWindow
) -> tuple[torch.Tensor, torch.Tensor]:
    """Q of the K-mers `in_q`, whose rows of P_K are `own`, and far of all (K-1)-mers: both in float32."""
    compute = accumulation_dtype(projected[0].dtype)
    device, sizes = in_q.device, window.kmer_sizes
    largest = max(sizes)
    level = projected[0].new_zeros(1, projected[0].shape[1], dtype=compute)  # Q_j over all j-mers
    far = level.new_zeros(NUM_LETTERS ** (largest - 1), level.shape[1])
    for j in range(1, largest):
        level = level.repeat(NUM_LETTERS, 1)  # row b reads b mod 5**(j-1)
        if j in sizes:
            part = projected[sizes.index(j)].to(compute) / window.places(j)
            level = level + (part[mirror_rows(j, device)] if window.tie_reverse_complement else part)
        far = far + level.repeat_interleave(NUM_LETTERS ** (largest - 1 - j), dim=0)
    part = F.embedding(own, projected[sizes.index(largest)]).to(compute) / window.places(largest)
    return part + F.embedding(in_q % len(level), level), far


__all__ = ["ProjectedTables", "project_tables"]
