"""The tables of a memory projected to keys and values, and merged for full windows: what positions read on the GPU.

Lookup, mean and projection are linear, so the tables are projected instead of the positions: P_k = table_k W_k^T. A
full window, of which every k-mer counts, reads rows that add up all sizes (`merged_tables.merge_tables` tells why):

    Q[a] = sum over k of P_k[a mod 5^k] / L_k        for the K-mers a (K the largest size), at the L_K nearest places
    far[a] = sum over j < K of Q_j[a div 5^(K-1-j)]  for the (K-1)-mers a, at the place behind them

with a of A, C, G, T alone; all other windows read the rows of P, which are kept beside: a difference of rows of Q, as
an accumulator of float32 could afford it, would lose most digits of rows that are stored in half precision. The
products are taken in the tables' own dtype (or autocast's), on the tensor cores, over all rows, so that no shape
depends on the letters and nothing waits for the device; the sums that merge them in float32, rounded once.

Letters: K number of sizes or largest size, E memory_dim, D hidden size, R rows.
"""

import re
from collections.abc import Sequence

import torch

from .kernel_device import run_beside_tensors
from .kmer_index import KmerWindow, RowReads
from .triton_index import count_merged, count_rows, describe_window, layer_constants, raise_power
from .triton_rows import add_by_row, group_layers, sum_rows

try:
    import triton
    import triton.language as tl
except ImportError as error:
    raise ImportError("The fused kernels need triton, which comes with PyTorch's CUDA builds for Linux.") from error

BLOCK_C = 512  # columns of one merged row a program makes

# A copy of this file that travels with a checkpoint registers operators of its own.
NAMESPACE = re.sub(r"\W", "_", __name__)


@run_beside_tensors
def project_tables(
    tables: Sequence[torch.Tensor], key_weight: torch.Tensor, value_weight: torch.Tensor, window: KmerWindow
) -> torch.Tensor:
    """
    Project and merge, without gradients: for tables that are kept.

    Args:
        tables (K tensors [5**k, E]), key_weight, value_weight (`torch.Tensor` [D, K * E]): of one dtype.

    Returns:
        `torch.Tensor` [R, 2D]: P of each size, in the order of `window.kmer_sizes`; then, where windows merge, Q and
        far.
    """
    with torch.no_grad():
        return _project(list(tables), key_weight, value_weight, describe_window(window), tables[0].dtype)


@run_beside_tensors
def read_rows(projected: torch.Tensor, reads: RowReads, window: KmerWindow, history: int = 0) -> torch.Tensor:
    """
    What every position reads from tables that are kept.

    Args:
        projected (`torch.Tensor` [R, 2D]): from `project_tables`. reads (`RowReads`): of S positions. history (`int`).

    Returns:
        `torch.Tensor` [B, S - H, 2D]: key and value, in the dtype of the tables; no gradients.
    """
    described = describe_window(window)
    _, B, S = reads.rows.shape
    out = projected.new_empty(B, S - history, projected.shape[1])
    _sum_all(projected, (reads.rows, reads.lives, reads.shares, reads.documents), described, history, out)
    return out


def read_tables(
    tables: Sequence[torch.Tensor],
    key_weight: torch.Tensor,
    value_weight: torch.Tensor,
    reads: RowReads,
    window: KmerWindow,
    history: int = 0,
) -> torch.Tensor:
    """
    `project_tables` and `read_rows` in one operator, for tables that are projected for this call alone.

    Args:
        reads (`RowReads`): of S positions; with `order` where gradients are wanted. Others as above.

    Returns:
        `torch.Tensor` [B, S - H, 2D]: key and value, in the dtype of the tables or autocast's. Differentiable in tables
        and weights; nothing else is kept for the backward pass, in particular not the projected tables.
    """
    device, dtype = tables[0].device.type, tables[0].dtype
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    return _read_tables(
        list(tables), key_weight, value_weight, *reads.tensors(), describe_window(window), history, dtype
    )


@torch.library.custom_op(f"{NAMESPACE}::read_tables", mutates_args=())
@run_beside_tensors
def _read_tables(
    tables: list[torch.Tensor],
    key_weight: torch.Tensor,
    value_weight: torch.Tensor,
    rows: torch.Tensor,
    lives: torch.Tensor,
    shares: torch.Tensor,
    documents: torch.Tensor | None,
    order: torch.Tensor | None,
    ranges: torch.Tensor | None,
    window: list[int],
    history: int,
    dtype: torch.dtype,
) -> torch.Tensor:
    projected = _project(tables, key_weight, value_weight, window, dtype)
    out = projected.new_empty(rows.shape[1], rows.shape[2] - history, projected.shape[1])
    _sum_all(projected, (rows, lives, shares, documents), window, history, out)
    return out


@_read_tables.register_fake
def _(tables, key_weight, value_weight, rows, lives, shares, documents, order, ranges, window, history, dtype):
    return tables[0].new_empty(rows.shape[1], rows.shape[2] - history, 2 * len(key_weight), dtype=dtype)


@torch.library.custom_op(f"{NAMESPACE}::read_tables_backward", mutates_args=())
@run_beside_tensors
def _read_tables_backward(
    gradient: torch.Tensor,
    tables: list[torch.Tensor],
    key_weight: torch.Tensor,
    value_weight: torch.Tensor,
    lives: torch.Tensor,
    shares: torch.Tensor,
    documents: torch.Tensor | None,
    order: torch.Tensor,
    ranges: torch.Tensor,
    window: list[int],
    wants_tables: bool,
    wants_weights: bool,
) -> list[torch.Tensor]:
    """Gradients of the tables, one below the other, and of the two weights likewise; empty where not wanted."""
    gradient = gradient.contiguous()
    dtype, C, E = gradient.dtype, gradient.shape[2], tables[0].shape[1]
    plain, of_merged = count_rows(window)
    indices = lives, shares, documents, order, ranges
    merged_rows = None
    if of_merged:
        merged_rows = gradient.new_empty(sum(of_merged), C, dtype=torch.float32)
        layers = range(len(plain), len(plain) + len(of_merged))
        for group in group_layers(layers, lives[0].numel(), C):
            add_by_row(gradient, indices, window, merged_rows, group, merged=True)
    projected = gradient.new_empty(sum(plain), C)
    for group in group_layers(range(len(plain)), lives[0].numel(), C):
        add_by_row(gradient, indices, window, projected, group, merged=merged_rows is not None, merged_rows=merged_rows)
    d_tables, d_weights = _make_gradients(gradient, tables, key_weight, wants_tables, wants_weights)
    weights = torch.cat([key_weight, value_weight]).to(dtype) if wants_tables else None
    begin = 0
    for number, table in enumerate(tables):
        part, columns = projected[begin : begin + len(table)], slice(number * E, (number + 1) * E)
        if weights is not None:
            torch.mm(part, weights[:, columns], out=d_tables[begin : begin + len(table)])
        if wants_weights:
            torch.mm(part.T, table.to(dtype), out=d_weights[:, columns])
        begin += len(table)
    return [d_tables.to(tables[0].dtype), d_weights.to(key_weight.dtype)]


def _make_gradients(gradient, tables, key_weight, wants_tables, wants_weights) -> tuple[torch.Tensor, torch.Tensor]:
    rows = sum(len(table) for table in tables) if wants_tables else 0
    d_tables = gradient.new_empty(rows, tables[0].shape[1])
    return d_tables, gradient.new_empty(2 * len(key_weight) if wants_weights else 0, key_weight.shape[1])


@_read_tables_backward.register_fake
def _(gradient, tables, key_weight, value_weight, lives, shares, documents, order, ranges, window, *wants):
    d_tables, d_weights = _make_gradients(gradient, tables, key_weight, *wants)
    return [d_tables.to(tables[0].dtype), d_weights.to(key_weight.dtype)]


def _keep_for_backward(ctx, inputs, output):
    tables, key_weight, value_weight, _, *indices, window, _, _ = inputs
    ctx.save_for_backward(*tables, key_weight, value_weight, *indices)
    ctx.num_tables, ctx.window = len(tables), window
    ctx.wants = any(table.requires_grad for table in tables), key_weight.requires_grad or value_weight.requires_grad


def _differentiate(ctx, gradient):
    saved = ctx.saved_tensors  # once: under checkpointing they are made anew
    tables, others = list(saved[: ctx.num_tables]), saved[ctx.num_tables :]
    d_tables, d_weights = _read_tables_backward(gradient, tables, *others, ctx.window, *ctx.wants)
    wants_tables, wants_weights = ctx.wants
    found = d_tables.split([len(table) for table in tables]) if wants_tables else [None] * len(tables)
    return list(found), *(d_weights.chunk(2) if wants_weights else (None, None)), *[None] * 9


_read_tables.register_autograd(_differentiate, setup_context=_keep_for_backward)


def _project(
    tables: Sequence[torch.Tensor],
    key_weight: torch.Tensor,
    value_weight: torch.Tensor,
    window: list[int],
    dtype: torch.dtype,
) -> torch.Tensor:
    """A product a size into one tensor, and one launch that merges."""
    plain, of_merged = count_rows(window)
    E = tables[0].shape[1]
    weights = torch.cat([key_weight, value_weight]).to(dtype)
    rows = weights.new_empty(sum(plain) + sum(of_merged), len(weights))
    begin = 0
    for number, table in enumerate(tables):
        weight = weights[:, number * E : (number + 1) * E]
        torch.mm(table.to(dtype), weight.T, out=rows[begin : begin + len(table)])
        begin += len(table)
    if of_merged:
        C = rows.shape[1]
        columns = min(triton.next_power_of_2(C), BLOCK_C)
        _merge_kernel[(sum(of_merged), triton.cdiv(C, columns))](
            rows, C, begin, of_merged[0],
            LARGEST=max(window[4:]), TIE=bool(window[3]), BLOCK_C=columns, **layer_constants(window),
        )  # fmt: skip
    return rows


def _sum_all(projected, indices, window: list[int], history: int, out: torch.Tensor) -> None:
    merged = count_merged(window)
    sum_rows(projected, indices, window, history, out, range(len(window) - 4 + merged), merged=merged > 0)


@triton.jit
def _merge_kernel(
    rows, C, first_row, num_q,
    SIZES: tl.constexpr, PLAIN: tl.constexpr, WINDOW: tl.constexpr, FIRST: tl.constexpr,
    LARGEST: tl.constexpr, TIE: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Columns [BLOCK_C] of one merged row: of a largest k-mer's, or, behind those, of a (K-1)-mer's."""
    row = tl.program_id(0)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    is_far = row >= num_q
    kmer = tl.where(is_far, row - num_q, row)
    total = tl.zeros([BLOCK_C], tl.float32)
    base = row * 0  # first row of a size
    for n in range(PLAIN):
        k = tl.cast((tl.cast(SIZES, tl.int64) >> (n * 4)) & 15, tl.int32)
        # The k-mer at the end of the largest one; or each of those in the (K-1)-mer, behind `newer` letters.
        part = tl.zeros([BLOCK_C], tl.float32)
        for newer in range(tl.where(is_far, LARGEST - k, 1)):
            rest = kmer // raise_power(4, newer)
            number = rest * 0
            mirrored = rest * 0
            weight = rest * 0 + 1
            for _ in range(k):
                digit = rest % 4
                rest = rest // 4
                number += digit * weight
                mirrored = mirrored * 5 + 3 - digit
                weight = weight * 5
            if TIE:
                number = tl.minimum(number, mirrored)
            at = tl.cast(base + number, tl.int64) * C + c
            part += tl.load(rows + at, mask=c < C, other=0.0).to(tl.float32)
        total += part * (1.0 / (WINDOW - k + 1))
        base += raise_power(5, k)
    at = tl.cast(first_row + row, tl.int64) * C + c
    tl.store(rows + at, total.to(rows.dtype.element_ty), mask=c < C)


__all__ = ["project_tables", "read_rows", "read_tables"]
