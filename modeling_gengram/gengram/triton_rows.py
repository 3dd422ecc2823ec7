"""Sums of table rows over windows, forward and backward, on the GPU.

With the layers of `triton_index` (row, life and first lag of every occurrence, share of every position)

    out[t] = sum over layers n of share[n, t] * sum over e of table[rows[n, e]],
    over the occurrences e with 0 <= t - e - first_lag[n] < life[n, e]

Forward, a program makes a tile of positions by columns. It fetches each row around its positions once and multiplies
by a 0/1 band on the tensor cores, so a sum starts anew in every tile, in float32, and no rounding grows with length.
Layers of which no position of the tile takes a share are skipped: of merged tables, almost everywhere all but two.

Backward, the gradient of a table row is the sum, over its occurrences, of what the positions that read it receive: per
layer one banded product with the band transposed (occurrences by columns, float32), then sums over the occurrences of
a row in sorted order. No atomic additions: two runs give the same bits.

Bytes per position, C columns of b bytes: forward (1 + L / 128) C b read a layer, and C b written; backward as much read
a layer, and 4 C written and read. With merged tables and C = 2 * 1024 in bfloat16: 12 kB forward, 48 kB backward.

Letters: B batch, S positions (T tokens after H of history), C columns, N layers, R rows of all tables.
"""

import re
from collections.abc import Sequence

import torch

from .kmer_index import KmerWindow
from .triton_index import RowLayout, RowReads, find_reads, lay_out_tables, sort_reads

try:
    import triton
    import triton.language as tl
except ImportError as error:
    raise ImportError("The fused kernels need triton, which comes with PyTorch's CUDA builds for Linux.") from error

FIELDS = tl.constexpr(4)  # of a layer, see `RowReads`
TILE = 128  # positions a program: with a window of 21, 148 rows are fetched for 128 positions
CHUNK = 32  # rows that are multiplied at a time

# The columns a program makes. Only these are tuned: they change no sum, so that the choice changes no bit. Narrow tiles
# take 166 registers a thread on Hopper (bfloat16) and leave room for a second program on each multiprocessor; wide ones
# take 231 and fetch rows' numbers, lives and documents half as often. Wider still would spill.
COLUMNS = [
    triton.Config({"BLOCK_C": 64}, num_warps=8, num_stages=3),
    triton.Config({"BLOCK_C": 128}, num_warps=8, num_stages=3),
]
if triton.knobs.runtime.interpret:  # nothing to time
    COLUMNS = [triton.Config({"BLOCK_C": 32})]

# What the tensor cores multiply: 0 or 1 by a row, exact in every dtype. The interpreter cannot multiply bfloat16.
OPERANDS = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}
if triton.knobs.runtime.interpret:
    OPERANDS[torch.bfloat16] = tl.float32

# A copy of this file that travels with a checkpoint registers operators of its own.
NAMESPACE = re.sub(r"\W", "_", __name__)


def pool_rows(
    tables: Sequence[torch.Tensor],
    letters: torch.Tensor,
    window: KmerWindow,
    documents: torch.Tensor | None = None,
    history: int = 0,
) -> torch.Tensor:
    """
    `pool_by_lifetime` in one operator, for every setting of the window.

    Args:
        tables (K tensors [5**k, E]): float32, bfloat16 or float16, in the order of `window.kmer_sizes`.
        letters (`torch.Tensor` int64 [B, S]), documents (`torch.Tensor` int64 [B, S], *optional*), history (`int`): H.

    Returns:
        `torch.Tensor` [B, S - H, K * E] in the dtype of the tables. Differentiable in the tables; what the backward
        pass needs besides them is computed again from the letters.
    """
    bounds = [0]
    for table in tables:
        bounds.append(bounds[-1] + len(table))
    return _sum_rows(list(tables), letters, documents, [], _describe(window), bounds, 0, history)


def read_rows(
    table: torch.Tensor,
    layout: RowLayout,
    letters: torch.Tensor,
    window: KmerWindow,
    documents: torch.Tensor | None = None,
    history: int = 0,
) -> torch.Tensor:
    """
    What every position reads from projected and merged tables: the sum over all layers.

    Args:
        table (`torch.Tensor` [R, C]), layout (`RowLayout`): from `triton_tables.project_tables`.
        others: as `pool_rows`.

    Returns:
        `torch.Tensor` [B, S - H, C] in the dtype of the table. Differentiable in it.
    """
    numbers = [layout.layers, layout.lookup]
    bounds = list(layout.bounds)
    return _sum_rows([table], letters, documents, numbers, _describe(window), bounds, layout.merged, history)


# The operator. `layout` is empty (the layout of the memory's own tables, one sum a table, side by side) or holds
# `layers` and `lookup` (all layers read one table, one sum). `window` is what `_describe` makes of a `KmerWindow`.


@torch.library.custom_op(f"{NAMESPACE}::sum_rows", mutates_args=())
def _sum_rows(
    tables: list[torch.Tensor],
    letters: torch.Tensor,
    documents: torch.Tensor | None,
    layout: list[torch.Tensor],
    window: list[int],
    bounds: list[int],
    merged: int,
    history: int,
) -> torch.Tensor:
    reads = _find_reads(letters, documents, layout, window, bounds, merged, history)
    N, B, S = reads.rows.shape
    T, C = S - history, tables[0].shape[1]
    out = tables[0].new_empty(B, T, C * len(tables))

    def grid(meta):
        return triton.cdiv(T, TILE), triton.cdiv(C, meta["BLOCK_C"]), B

    for column, (table, first, last) in enumerate(_layers_of(tables, N)):
        _sum_rows_kernel[grid](
            table.contiguous(), reads.layers, reads.rows, reads.life, reads.share, reads.documents, out,
            B, S, T, C, first, last, bounds[first], out.shape[2], column * C,
            CUT=documents is not None, OPERAND=OPERANDS[table.dtype], TILE=TILE, CHUNK=CHUNK,
        )  # fmt: skip
    return out


@_sum_rows.register_fake
def _(tables, letters, documents, layout, window, bounds, merged, history):
    B, S = letters.shape
    return tables[0].new_empty(B, S - history, tables[0].shape[1] * len(tables))


@torch.library.custom_op(f"{NAMESPACE}::sum_rows_backward", mutates_args=())
def _sum_rows_backward(
    gradient: torch.Tensor,
    tables: list[torch.Tensor],
    letters: torch.Tensor,
    documents: torch.Tensor | None,
    layout: list[torch.Tensor],
    window: list[int],
    bounds: list[int],
    merged: int,
    history: int,
) -> list[torch.Tensor]:
    reads = _find_reads(letters, documents, layout, window, bounds, merged, history)
    N, B, S = reads.rows.shape
    T, C = S - history, tables[0].shape[1]
    gradient = gradient.contiguous()
    keys, order, offsets = sort_reads(reads)
    received = torch.empty(B * S, C, dtype=torch.float32, device=gradient.device)  # of one layer at a time
    found = [torch.empty_like(table, memory_format=torch.contiguous_format) for table in tables]

    def grid(meta):
        return triton.cdiv(S, TILE), triton.cdiv(C, meta["BLOCK_C"]), B

    for column, (table, first, last) in enumerate(_layers_of(found, N)):
        for n in range(first, last):
            _collect_kernel[grid](
                gradient, reads.layers, keys, reads.life, reads.share, reads.documents, received,
                B, S, T, C, n, bounds[-1], gradient.shape[2], column * C,
                CUT=documents is not None, OPERAND=OPERANDS[gradient.dtype], TILE=TILE, CHUNK=CHUNK,
            )  # fmt: skip
            _add_by_row(received, order, offsets, table, n * B * S, bounds[n], bounds[n + 1], bounds[first])
    return found


@_sum_rows_backward.register_fake
def _(gradient, tables, letters, documents, layout, window, bounds, merged, history):
    return [torch.empty_like(table, memory_format=torch.contiguous_format) for table in tables]


def _keep_for_backward(ctx, inputs, output):
    tables, letters, documents, layout, window, bounds, merged, history = inputs
    ctx.save_for_backward(letters, documents, *layout, *tables)
    ctx.num_tables, ctx.settings = len(tables), (window, bounds, merged, history)


def _differentiate(ctx, gradient):
    letters, documents, *rest = ctx.saved_tensors
    layout, tables = rest[: -ctx.num_tables], rest[-ctx.num_tables :]
    found = _sum_rows_backward(gradient, tables, letters, documents, layout, *ctx.settings)
    return found, None, None, [None] * len(layout), None, None, None, None


_sum_rows.register_autograd(_differentiate, setup_context=_keep_for_backward)


def _describe(window: KmerWindow) -> list[int]:
    """A window in numbers, as operators take them: size (0 for none), first lag, the two switches, k-mer sizes."""
    switches = [int(window.deduplicate), int(window.tie_reverse_complement)]
    return [window.size or 0, window.first_lag, *switches, *window.kmer_sizes]


def _find_reads(letters, documents, layout, window, bounds, merged, history) -> RowReads:
    size, first_lag, deduplicate, tie, *sizes = window
    described = KmerWindow(tuple(sizes), size or None, first_lag, bool(deduplicate), bool(tie))
    if layout:
        found = RowLayout(layout[0], layout[1], tuple(bounds), merged)
    else:
        found = lay_out_tables(described, letters.device)
    return find_reads(found, letters, described, documents, history)


def _layers_of(tables: list[torch.Tensor], N: int):
    """Each table with its first layer and one past its last."""
    if len(tables) == 1:
        return [(tables[0], 0, N)]
    return [(table, n, n + 1) for n, table in enumerate(tables)]


def _add_by_row(received, order, offsets, table, start: int, first_row: int, last_row: int, base: int) -> None:
    """Write, to the rows of one layer, the sums over their occurrences."""
    C = received.shape[1]
    # Rows that many occurrences share, such as those of single bases, take them in long steps.
    crowded = len(received) >= 32 * (last_row - first_row)
    steps = {"BLOCK_E": 64, "BLOCK_C": 64} if crowded else {"BLOCK_E": 8, "BLOCK_C": 512}
    steps["BLOCK_C"] = min(steps["BLOCK_C"], triton.next_power_of_2(C))
    grid = (last_row - first_row, triton.cdiv(C, steps["BLOCK_C"]))
    _add_by_row_kernel[grid](received, order, offsets, table, C, start, first_row, base, **steps, num_warps=4)


@triton.autotune(configs=COLUMNS, key=["C", "CUT", "OPERAND"])
@triton.jit
def _sum_rows_kernel(
    table, layers, rows, life, share, documents, out,
    B, S, T, C, first_layer, last_layer, base, out_stride, out_column,
    CUT: tl.constexpr,  # documents count
    OPERAND: tl.constexpr,  # dtype of the factors of the banded product
    TILE: tl.constexpr, CHUNK: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Tile [TILE, BLOCK_C] of `out`: layers `first_layer` to `last_layer - 1`, of a table that begins at row `base`."""
    place = tl.program_id(0) * TILE + tl.arange(0, TILE)
    t = place + (S - T)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    b = tl.program_id(2).to(tl.int64)
    if CUT:
        t_document = tl.load(documents + b * S + t, mask=t < S, other=0)
    total = tl.zeros([TILE, BLOCK_C], tl.float32)
    for n in range(first_layer, last_layer):
        plane = (n * B + b) * S
        part = tl.load(share + plane + t, mask=t < S, other=0.0)
        if tl.max(part) > 0:
            first_lag = tl.load(layers + n * FIELDS + 1)
            places = tl.load(layers + n * FIELDS + 2)
            # The occurrences that can count for the tile: from its first position's farthest to its last's nearest.
            begin = tl.program_id(0) * TILE + (S - T) - first_lag - places + 1
            layer_total = tl.zeros([TILE, BLOCK_C], tl.float32)
            for step in range(0, TILE + places - 1, CHUNK):
                e = begin + step + tl.arange(0, CHUNK)
                exists = (e >= 0) & (e < S)
                row = tl.load(rows + plane + e, mask=exists, other=-1)
                left = tl.load(life + plane + e, mask=exists, other=0)
                lag = t[:, None] - e[None, :] - first_lag
                band = (lag >= 0) & (lag < left[None, :])
                if CUT:
                    e_document = tl.load(documents + b * S + e, mask=exists, other=0)
                    band = band & (t_document[:, None] == e_document[None, :])
                at = (row - base).to(tl.int64)[:, None] * C + c[None, :]
                x = tl.load(table + at, mask=(row >= 0)[:, None] & (c < C)[None, :], other=0.0)
                layer_total = tl.dot(band.to(OPERAND), x.to(OPERAND), layer_total, input_precision="ieee")
            total += layer_total * part[:, None]
    at = (b * T + place)[:, None] * out_stride + out_column + c[None, :]
    tl.store(out + at, total.to(out.dtype.element_ty), mask=(place < T)[:, None] & (c < C)[None, :])


@triton.autotune(configs=COLUMNS, key=["C", "CUT", "OPERAND"])
@triton.jit
def _collect_kernel(
    gradient, layers, keys, life, share, documents, received,
    B, S, T, C, n, unread, stride, column,
    CUT: tl.constexpr,  # documents count
    OPERAND: tl.constexpr,  # dtype of the factors of the banded product
    TILE: tl.constexpr, CHUNK: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Tile [TILE, BLOCK_C] of `received`: what the occurrences of layer n get from the positions that read them."""
    e = tl.program_id(0) * TILE + tl.arange(0, TILE)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    b = tl.program_id(2).to(tl.int64)
    plane = (n.to(tl.int64) * B + b) * S
    key = tl.load(keys + plane + e, mask=e < S, other=unread)
    if tl.min(key) < unread:  # an occurrence that nobody reads is in no sum, so its place may stay unwritten
        first_lag = tl.load(layers + n * FIELDS + 1)
        places = tl.load(layers + n * FIELDS + 2)
        left = tl.load(life + plane + e, mask=e < S, other=0)
        if CUT:
            e_document = tl.load(documents + b * S + e, mask=e < S, other=0)
        total = tl.zeros([TILE, BLOCK_C], tl.float32)
        begin = tl.program_id(0) * TILE + first_lag
        for step in range(0, TILE + places - 1, CHUNK):
            t = begin + step + tl.arange(0, CHUNK)
            exists = (t >= S - T) & (t < S)
            part = tl.load(share + plane + t, mask=exists, other=0.0)
            lag = t[None, :] - e[:, None] - first_lag
            band = (lag >= 0) & (lag < left[:, None])
            if CUT:
                t_document = tl.load(documents + b * S + t, mask=exists, other=0)
                band = band & (t_document[None, :] == e_document[:, None])
            at = (b * T + t - (S - T))[:, None] * stride + column + c[None, :]
            d = tl.load(gradient + at, mask=(exists & (part > 0))[:, None] & (c < C)[None, :], other=0.0)
            scaled = d.to(tl.float32) * part[:, None]
            if d.dtype != tl.float32:
                # A share is a float32 number: two half-precision parts keep twice the digits of a rounded product.
                high = scaled.to(d.dtype)
                low = (scaled - high.to(tl.float32)).to(d.dtype)
                total = tl.dot(band.to(OPERAND), high.to(OPERAND), total)
                total = tl.dot(band.to(OPERAND), low.to(OPERAND), total)
            else:
                total = tl.dot(band.to(OPERAND), scaled, total, input_precision="ieee")
        at = (b * S + e)[:, None] * C + c[None, :]
        tl.store(received + at, total, mask=(e < S)[:, None] & (c < C)[None, :])


@triton.jit
def _add_by_row_kernel(
    received, order, offsets, table, C, start, first_row, base, BLOCK_E: tl.constexpr, BLOCK_C: tl.constexpr
):
    """Columns [BLOCK_C] of one row of `table`: the sum over its occurrences, BLOCK_E at a time; 0 without any."""
    row = first_row + tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    begin = tl.load(offsets + row)
    end = tl.load(offsets + row + 1)
    total = tl.zeros([BLOCK_C], tl.float32)
    for i in range(begin, end, BLOCK_E):
        at = i + tl.arange(0, BLOCK_E)
        e = tl.load(order + at, mask=at < end, other=start) - start
        x = tl.load(received + e[:, None] * C + c[None, :], mask=(at < end)[:, None] & (c < C)[None, :], other=0.0)
        total += tl.sum(x, axis=0)
    tl.store(table + (row - base) * C + c, total.to(table.dtype.element_ty), mask=c < C)


__all__ = ["pool_rows", "read_rows"]
