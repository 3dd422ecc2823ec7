"""Which rows, projected once, give the keys and values of many positions: tables merged over the k-mer sizes.

Letters: K k-mer sizes (in formulas also the largest of them), E memory_dim, D hidden size, W window in bases,
L = W - k + 1 places of a k-mer in the window, R merged rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.autograd.function import once_differentiable

from .kmer_index import INVALID_LETTER, NUM_LETTERS, KmerWindow, mirror_rows, shift
from .table_levels import TableLevels, find_levels, sum_rows


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """float32 for half precision, otherwise the dtype itself."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


@dataclass(frozen=True)
class MergedTables:
    """
    All tables of a memory, projected to keys and values and merged (`merge_tables`).

    Args:
        rows (`torch.Tensor` [R, 2D]): Q of each size, ascending, and below them the far rows of full windows.
        places (`torch.Tensor` int32): row of each k-mer by its index in base 5, size after size, and of each far
            (K-1)-mer; -1 if it has none.
        starts (`torch.Tensor` int64 [number of sizes + 1], on the CPU): where each of these begins in `places`.
        num_letters (`int`): 5, or 4 if k-mers with N have no row.
    """

    rows: torch.Tensor
    places: torch.Tensor
    starts: torch.Tensor
    num_letters: int

    def find(self, number: int, kmers: torch.Tensor) -> torch.Tensor:
        """Rows (int64) of k-mers of the size with this number, or, for the last number, of far (K-1)-mers."""
        return self.places[self.starts[number].item() + kmers].long()


def merge_tables(
    tables: Sequence[torch.Tensor],
    key_weight: torch.Tensor,
    value_weight: torch.Tensor,
    window: KmerWindow,
    letters: torch.Tensor | None = None,
) -> MergedTables:
    """
    Project the tables instead of the positions, and merge what a full window reads.

    Lookup, mean and projection are linear, and a k-mer is the end of every longer one. With P_k the projected table of
    size k, all sizes add up to one row of the largest k-mer,

        Q_k[a] = Q_{k-1}[a mod 5**(k-1)] + P_k[a] / L_k,

    which a full window reads at the L_K nearest places. The shorter k-mers that end before the first K-mer does are a
    row more, chosen by the (K-1)-mer of the oldest bases: `sum over k < K of Q_k[a div 5**(K-1-k)]`. That makes
    L_K + 1 row reads (17 for k = 1..6, W = 21). Other windows weigh the sizes differently and find the share of one
    in the difference of two Q.

    Args:
        tables (K tensors [5**k, E]), key_weight, value_weight (`torch.Tensor` [D, K * E]).
        letters (`torch.Tensor` int64 [B, S], *optional*): project the k-mers that occur here, N included. Without,
            all k-mers of A, C, G, T.

    Returns:
        `MergedTables` in the accumulation dtype of the tables; differentiable, and only the inputs are saved for it.

    Raises:
        ValueError: there is no window, or it is de-duplicated.
    """
    if window.size is None or window.deduplicate:
        raise ValueError("Projected tables merge only where a window is full and every occurrence counts.")
    device = tables[0].device
    largest = max(window.kmer_sizes)
    kmers = _list_kmers(largest, device) if letters is None else _find_kmers(letters, largest)
    sizes = sorted(window.kmer_sizes)
    plan = _Plan(
        find_levels(kmers, sizes),
        numbers=[window.kmer_sizes.index(k) for k in sizes],
        scales=[1 / window.places(k) for k in sizes],
        rows=[mirror_rows(k, device)[kmers[k]] if window.tie_reverse_complement else kmers[k] for k in sizes],
    )
    groups = [*sizes, largest - 1]
    starts = torch.tensor([0] + [NUM_LETTERS**k for k in groups]).cumsum(0)
    with_row = torch.cat([start + kmers[k] for start, k in zip(starts.tolist(), groups)])
    places = torch.full((int(starts[-1]),), -1, dtype=torch.int32, device=device)
    places[with_row] = torch.arange(len(with_row), dtype=torch.int32, device=device)
    rows = _Merge.apply(plan, key_weight, value_weight, *tables)
    return MergedTables(rows, places, starts[:-1], NUM_LETTERS - 1 if letters is None else NUM_LETTERS)


def _list_kmers(largest: int, device: torch.device) -> list[torch.Tensor]:
    """Indices of all k-mers of A, C, G, T, ascending, for k = 0 .. largest."""
    kmers = [torch.zeros(1, dtype=torch.int64, device=device)]
    for k in range(1, largest + 1):
        leading = torch.arange(NUM_LETTERS - 1, device=device)[:, None] * NUM_LETTERS ** (k - 1)
        kmers.append((leading + kmers[-1]).flatten())
    return kmers


def _find_kmers(letters: torch.Tensor, largest: int) -> list[torch.Tensor]:
    """Indices of the k-mers that occur, ascending, for k = 0 .. largest; with each its ends and beginnings."""
    rows, valid = torch.zeros_like(letters), torch.ones_like(letters, dtype=torch.bool)
    kmers = [torch.zeros(1, dtype=torch.int64, device=letters.device)]
    for k in range(1, largest + 1):
        letter = shift(letters, k - 1, INVALID_LETTER)
        valid = valid & (letter != INVALID_LETTER)
        rows = rows + letter * NUM_LETTERS ** (k - 1)
        occurs = torch.zeros(NUM_LETTERS**k, dtype=torch.bool, device=letters.device)
        occurs[rows[valid]] = True
        kmers.append(occurs.nonzero()[:, 0])
    return kmers


@dataclass(frozen=True)
class _Plan:
    """
    Args:
        levels (`TableLevels`): of the merged rows.
        numbers, scales, rows: of each size, ascending: which table, 1 / L_k, and its rows that are merged.
    """

    levels: TableLevels
    numbers: list[int]
    scales: list[float]
    rows: list[torch.Tensor]


class _Merge(torch.autograd.Function):
    """`merge_tables` as one operation that writes into one tensor, and keeps nothing but its inputs for backward."""

    @staticmethod
    def forward(ctx, plan: _Plan, key_weight: torch.Tensor, value_weight: torch.Tensor, *tables: torch.Tensor):
        ctx.plan = plan
        ctx.save_for_backward(key_weight, value_weight, *tables)
        compute, levels = accumulation_dtype(tables[0].dtype), plan.levels
        D, E = len(key_weight), tables[0].shape[1]
        merged = tables[0].new_empty(levels.bounds[-1] + len(levels.parts), 2 * D, dtype=compute)
        for number, scale, rows, begin in zip(plan.numbers, plan.scales, plan.rows, levels.bounds):
            found = tables[number].index_select(0, rows).to(compute)
            for side, weight in zip(merged[begin : begin + len(rows)].chunk(2, 1), (key_weight, value_weight)):
                side.addmm_(found, _columns(weight, number, E).to(compute).T, beta=0, alpha=scale)
        levels.add_up(merged)
        return merged

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: torch.Tensor):
        with torch.autocast(grad.device.type, enabled=False):  # in the precision of forward
            return None, *_differentiate(ctx, grad)


def _differentiate(ctx, grad: torch.Tensor) -> list[torch.Tensor | None]:
    plan, (key_weight, value_weight, *tables) = ctx.plan, ctx.saved_tensors
    compute, E, wants = grad.dtype, tables[0].shape[1], ctx.needs_input_grad[1:]
    grads = [torch.empty_like(weight) if want else None for weight, want in zip((key_weight, value_weight), wants)]
    grad_tables: list[torch.Tensor | None] = [None] * len(tables)
    projected = plan.levels.hand_down(grad)
    for number, scale, rows, level in zip(plan.numbers, plan.scales, plan.rows, projected):
        table, sides = tables[number], level.chunk(2, 1)
        if any(wants[:2]):
            found = table.index_select(0, rows).to(compute).mul_(scale)
            for side, weight_grad in zip(sides, grads):
                if weight_grad is not None:
                    columns = _columns(weight_grad, number, E)
                    if columns.dtype == compute:
                        torch.mm(side.T, found, out=columns)
                    else:
                        columns.copy_(side.T @ found)
        if wants[2 + number]:
            weights = [_columns(weight, number, E).to(compute) for weight in (key_weight, value_weight)]
            found_grad = (sides[0] @ weights[0]).addmm_(sides[1], weights[1]).mul_(scale)
            grad_tables[number] = sum_rows(found_grad, rows, len(table)).to(table.dtype)
    return [*grads, *grad_tables]


def _columns(weight: torch.Tensor, number: int, E: int) -> torch.Tensor:
    """The part [D, E] of a projection [D, K * E] that belongs to one table."""
    return weight[:, number * E : (number + 1) * E]


__all__ = ["MergedTables", "accumulation_dtype", "merge_tables"]
