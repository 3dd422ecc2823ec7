"""Sums of table rows over windows, forward and backward, on the GPU.

With the layers of `triton_index` (row, life and first lag of every occurrence, share of every position)

    out[t] = sum over layers n of share[n, t] * sum over e of table_n[rows[n, e]],
    over the occurrences e with 0 <= t - e - first_lag[n] < life[n, e]

Forward, a program makes a tile of positions by columns. It fetches each row around its positions once and multiplies
by a 0/1 band on the tensor cores, so a sum starts anew in every tile, in float32, and no rounding grows with length.
Layers of which no position of the tile takes a share are skipped: of merged tables, almost everywhere all but two.

Backward, the gradient of a table row is the sum, over its occurrences, of what the positions that read it receive: per
layer one banded product with the band transposed (occurrences by columns, float32), then sums over the occurrences of
a row in sorted order, for as many layers at a time as fit `GROUP_BYTES`. No atomic additions: two runs give the same
bits.

Bytes per position, C columns of b bytes: forward (1 + L / 64) C b read a layer, and C b written; backward as much read
a layer, and 4 C written and read.

Letters: B batch, S positions (T tokens after H of history), C columns, N layers, R rows of all layers.
"""

import re
from collections.abc import Iterator, Sequence

import torch

from .kernel_device import run_beside_tensors
from .kmer_index import KmerWindow, RowReads
from .triton_index import count_rows, describe_layer, describe_window, layer_constants, raise_power

try:
    import triton
    import triton.language as tl
except ImportError as error:
    raise ImportError("The fused kernels need triton, which comes with PyTorch's CUDA builds for Linux.") from error

# Positions a program, and rows that are multiplied at a time: of the shapes tried on an H100 none was faster. They are
# not tuned, since they decide which numbers are added first.
TILE = 64
CHUNK = 32
# What is tuned, as it changes no sum and so no bit: the columns a program makes. On an H100 (8,192 positions, 2,048
# columns, bfloat16) the first two take 102 microseconds; 8 warps for 128 columns or less are slow everywhere.
COLUMNS = [
    triton.Config({"BLOCK_C": 128}, num_warps=4, num_stages=2),
    triton.Config({"BLOCK_C": 256}, num_warps=8, num_stages=2),
    triton.Config({"BLOCK_C": 128}, num_warps=4, num_stages=3),
]
# float32 is multiplied number by number: more columns do not fit the registers.
COLUMNS += [triton.Config({"BLOCK_C": 64}, num_warps=4, num_stages=2)]
if triton.knobs.runtime.interpret:  # nothing to time
    COLUMNS = [triton.Config({"BLOCK_C": 32})]
# A gradient in two halves needs more registers: wide tiles would spill.
NARROW = [one for one in COLUMNS if one.kwargs["BLOCK_C"] < 256]
# Of a row's gradient: occurrences by columns at a time. Rows that many occurrences share take them in long steps.
SPARSE, CROWDED = (8, 512), (64, 64)
CROWD = 32  # occurrences a row, on average, from which a layer is crowded
# Gradients of occurrences that are held at a time. Of two projected layers at 8,192 positions and 2,048 columns: there
# twice the room would save two launches of 42 and cost 134 MB, a third of what the released algorithm takes in all.
GROUP_BYTES = 128 * 2**20

# What the tensor cores multiply: 0 or 1 by a row, exact in every dtype. The interpreter cannot multiply bfloat16.
OPERANDS = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}
if triton.knobs.runtime.interpret:
    OPERANDS[torch.bfloat16] = tl.float32

# A copy of this file that travels with a checkpoint registers operators of its own.
NAMESPACE = re.sub(r"\W", "_", __name__)


def pool_rows(tables: Sequence[torch.Tensor], reads: RowReads, window: KmerWindow, history: int = 0) -> torch.Tensor:
    """
    `pool_by_lifetime` in one operator, for every setting of the window.

    Args:
        tables (K tensors [5**k, E]): float32, bfloat16 or float16, in the order of `window.kmer_sizes`.
        reads (`RowReads`): of S positions; with `order` where the tables want gradients. history (`int`): H.

    Returns:
        `torch.Tensor` [B, S - H, K * E] in the dtype of the tables. Differentiable in the tables, of which nothing is
        kept for the backward pass.
    """
    return _pool_rows(list(tables), *reads.tensors(), describe_window(window), history)


@torch.library.custom_op(f"{NAMESPACE}::pool_rows", mutates_args=())
@run_beside_tensors
def _pool_rows(
    tables: list[torch.Tensor],
    rows: torch.Tensor,
    lives: torch.Tensor,
    shares: torch.Tensor,
    documents: torch.Tensor | None,
    order: torch.Tensor | None,
    ranges: torch.Tensor | None,
    window: list[int],
    history: int,
) -> torch.Tensor:
    E = tables[0].shape[1]
    out = tables[0].new_empty(rows.shape[1], rows.shape[2] - history, E * len(tables))
    for n, table in enumerate(tables):
        part = out[..., n * E : (n + 1) * E]
        sum_rows(table.contiguous(), (rows, lives, shares, documents), window, history, part, range(n, n + 1))
    return out


@_pool_rows.register_fake
def _(tables, rows, lives, shares, documents, order, ranges, window, history):
    return tables[0].new_empty(rows.shape[1], rows.shape[2] - history, tables[0].shape[1] * len(tables))


@torch.library.custom_op(f"{NAMESPACE}::pool_rows_backward", mutates_args=())
@run_beside_tensors
def _pool_rows_backward(
    gradient: torch.Tensor,
    lives: torch.Tensor,
    shares: torch.Tensor,
    documents: torch.Tensor | None,
    order: torch.Tensor,
    ranges: torch.Tensor,
    window: list[int],
    E: int,
) -> torch.Tensor:
    """Gradient of all tables, one below the other."""
    plain, _ = count_rows(window)
    found = gradient.new_empty(sum(plain), E)
    indices = lives, shares, documents, order, ranges
    for group in group_layers(range(len(plain)), lives[0].numel(), E):
        add_by_row(gradient.contiguous(), indices, window, found, group, side_by_side=True)
    return found


@_pool_rows_backward.register_fake
def _(gradient, lives, shares, documents, order, ranges, window, E):
    return gradient.new_empty(sum(count_rows(window)[0]), E)


def _keep_for_backward(ctx, inputs, output):
    tables, _, *indices, window, _ = inputs
    ctx.save_for_backward(*indices)
    ctx.settings = window, tables[0].shape[1]


def _differentiate(ctx, gradient):
    window, E = ctx.settings
    found = _pool_rows_backward(gradient, *ctx.saved_tensors, window, E)
    plain, _ = count_rows(window)
    return list(found.split(plain)), *[None] * 8


_pool_rows.register_autograd(_differentiate, setup_context=_keep_for_backward)


def sum_rows(
    table: torch.Tensor,
    indices: tuple[torch.Tensor | None, ...],
    window: list[int],
    history: int,
    out: torch.Tensor,
    layers: range,
    merged: bool = False,
) -> None:
    """
    Write the sums over some layers.

    Args:
        table (`torch.Tensor` [rows of these layers, C]): contiguous. indices: the first four of `RowReads.tensors`.
        window: as of `describe_window`. out (`torch.Tensor` [B, S - H, C]): its rows are equally far apart.
        merged (`bool`): full windows read the merged layers alone.
    """
    rows, lives, shares, documents = indices
    assert rows is not None and lives is not None and shares is not None
    _, B, S = rows.shape
    T, C = out.shape[1:]

    def grid(meta):
        return B * triton.cdiv(T, TILE), triton.cdiv(C, meta["BLOCK_C"])

    _sum_rows_kernel[grid](
        table, rows, lives, shares, documents, out,
        B, S, T, C, rows.stride(1), out.stride(1), layers.start, layers.stop,
        MERGED=merged, CUT=documents is not None, OPERAND=OPERANDS[table.dtype],
        TILE=TILE, CHUNK=CHUNK, **layer_constants(window),
    )  # fmt: skip


def group_layers(layers: range, positions: int, C: int) -> Iterator[range]:
    """As many layers at a time as fit `GROUP_BYTES`: the fewest launches for that memory."""
    size = max(GROUP_BYTES // max(4 * C * positions, 1), 1)
    for start in range(layers.start, layers.stop, size):
        yield range(start, min(start + size, layers.stop))


def add_by_row(
    gradient: torch.Tensor,
    indices: tuple[torch.Tensor | None, ...],
    window: list[int],
    found: torch.Tensor,
    layers: range,
    *,
    side_by_side: bool = False,
    merged: bool = False,
    merged_rows: torch.Tensor | None = None,
) -> None:
    """
    Write the gradients of the rows of some layers, in two launches.

    Args:
        gradient (`torch.Tensor` [B, T, C], or [B, T, K * C] if `side_by_side`, a layer's columns next to another's):
            contiguous. indices: all but the first of `RowReads.tensors`.
        found (`torch.Tensor` [R, C]): of all layers that are not merged, or of those that are.
        merged: as in `sum_rows`.
        merged_rows (`torch.Tensor` float32 [rows of merged layers, C], *optional*): gradients of those, which are
            handed down to the rows that they are sums of.
    """
    lives, shares, documents, order, ranges = indices
    assert lives is not None and shares is not None and order is not None and ranges is not None
    _, B, S = lives.shape
    T, C = gradient.shape[1], found.shape[1]
    plain, of_merged = count_rows(window)
    constants = layer_constants(window)
    received = found.new_empty(len(layers), B * S, C, dtype=torch.float32)
    read = torch.empty(len(layers), B, triton.cdiv(S, TILE), dtype=torch.int32, device=found.device)

    def grid(meta):
        return len(layers) * B * triton.cdiv(S, TILE), triton.cdiv(C, meta["BLOCK_C"])

    _collect_kernel[grid](
        gradient, lives, shares, documents, received, read,
        B, S, T, C, gradient.shape[2], layers.start,
        SIDE_BY_SIDE=side_by_side, MERGED=merged, CUT=documents is not None, OPERAND=OPERANDS[gradient.dtype],
        TILE=TILE, CHUNK=CHUNK, **constants,
    )  # fmt: skip
    rows = [*plain, *of_merged]
    programs = 0
    for n in layers:
        programs += rows[n] * triton.cdiv(C, (CROWDED if _is_crowded(rows[n], B * S) else SPARSE)[1])
    _add_by_row_kernel[(programs,)](
        received, read, order, ranges, merged_rows, found,
        B, S, C, ranges.shape[2], layers.start, layers.stop, sum(plain) if layers.start >= len(plain) else 0,
        LAYERS=len(rows), LARGEST=max(window[4:]), TIE=bool(window[3]), FOLD=merged_rows is not None,
        TILE=TILE, CROWD=CROWD, SPARSE_E=SPARSE[0], SPARSE_C=SPARSE[1], CROWDED_E=CROWDED[0], CROWDED_C=CROWDED[1],
        num_warps=4, **constants,
    )  # fmt: skip


def choose_columns(configurations: list, named: dict, **constants) -> list:
    """Those of `COLUMNS` for numbers of this kind."""
    narrow = constants["OPERAND"] == tl.float32
    return [one for one in configurations if (one.kwargs["BLOCK_C"] <= 64) == narrow] or configurations


def _is_crowded(rows: int, positions: int) -> bool:
    return rows * CROWD <= positions


@triton.jit
def sum_window(
    table, rows, lives, shares, documents, start, b, c, columns, width,
    B, S, history, stride, first_layer, last_layer,
    SIZES: tl.constexpr, PLAIN: tl.constexpr, WINDOW: tl.constexpr, FIRST: tl.constexpr,
    MERGED: tl.constexpr,  # full windows read the merged layers alone
    CUT: tl.constexpr,  # documents count
    OPERAND: tl.constexpr,  # dtype of the factors of the banded product
    TILE: tl.constexpr, CHUNK: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """
    Sums of the columns c < `columns` of a table whose rows are `width` numbers long and begin with `first_layer`, for
    TILE positions from number `start` behind the history on: float32 [TILE, BLOCK_C]. Rows of one sequence's indices
    are `stride` apart.
    """
    t = start + history + tl.arange(0, TILE)
    t_document = tl.zeros([TILE], tl.int64)
    if CUT:
        t_document = tl.load(documents + b * stride + t, mask=t < S, other=0)
    total = tl.zeros([TILE, BLOCK_C], tl.float32)
    base = first_layer * 0  # rows of the layers before
    first_read = first_layer * 1
    if MERGED:  # almost every tile has full windows alone
        full = tl.load(shares + (PLAIN * B + b) * stride + t, mask=t < S, other=1.0)
        first_read = tl.where(tl.min(full) > 0, tl.maximum(first_layer, PLAIN), first_layer)
    for n in range(first_layer, last_layer):
        k, first_lag, places, letters = describe_layer(n, SIZES, PLAIN, WINDOW, FIRST)
        plane = (n * B + b) * stride
        if n >= first_read:
            part = _load_shares(shares, n, b, t, t < S, B, stride, PLAIN, MERGED)
            if tl.max(part) > 0:
                # The occurrences that can count for the tile: from its first position's farthest to its last's nearest.
                begin = start + history - first_lag - places + 1
                layer_total = tl.zeros([TILE, BLOCK_C], tl.float32)
                for step in range(0, TILE + places - 1, CHUNK):
                    e = begin + step + tl.arange(0, CHUNK)
                    exists = (e >= 0) & (e < S)
                    row = tl.load(rows + plane + e, mask=exists, other=-1)
                    left = tl.load(lives + plane + e, mask=exists, other=0)
                    lag = t[:, None] - e[None, :] - first_lag
                    band = (lag >= 0) & (lag < left[None, :])
                    if CUT:
                        e_document = tl.load(documents + b * stride + e, mask=exists, other=0)
                        band = band & (t_document[:, None] == e_document[None, :])
                    at = (row + base).to(tl.int64)[:, None] * width + c[None, :]
                    x = tl.load(table + at, mask=(row >= 0)[:, None] & (c < columns)[None, :], other=0.0)
                    layer_total = tl.dot(band.to(OPERAND), x.to(OPERAND), layer_total, input_precision="ieee")
                total += layer_total * part[:, None]
        base += raise_power(letters, k)
    return total


@triton.jit
def _load_shares(shares, n, b, t, exists, B, stride, PLAIN: tl.constexpr, MERGED: tl.constexpr):
    """What the positions t take of layer n; with merged layers, full windows take nothing of the others."""
    part = tl.load(shares + (n * B + b) * stride + t, mask=exists, other=0.0)
    if MERGED:
        full = tl.load(shares + (PLAIN * B + b) * stride + t, mask=exists, other=0.0)
        part = tl.where((n < PLAIN) & (full > 0), 0.0, part)
    return part


@triton.autotune(COLUMNS, ["C", "MERGED", "CUT", "OPERAND"], prune_configs_by={"early_config_prune": choose_columns})
@triton.jit
def _sum_rows_kernel(
    table, rows, lives, shares, documents, out,
    B, S, T, C, stride, out_stride, first_layer, last_layer,
    SIZES: tl.constexpr, PLAIN: tl.constexpr, WINDOW: tl.constexpr, FIRST: tl.constexpr,
    MERGED: tl.constexpr, CUT: tl.constexpr, OPERAND: tl.constexpr,
    TILE: tl.constexpr, CHUNK: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Tile [TILE, BLOCK_C] of `out`: the layers `first_layer` to `last_layer - 1`."""
    tiles = tl.cdiv(T, TILE)
    start = tl.program_id(0) % tiles * TILE
    b = tl.cast(tl.program_id(0) // tiles, tl.int64)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    total = sum_window(
        table, rows, lives, shares, documents, start, b, c, C, C, B, S, S - T, stride, first_layer, last_layer,
        SIZES, PLAIN, WINDOW, FIRST, MERGED, CUT, OPERAND, TILE, CHUNK, BLOCK_C,
    )  # fmt: skip
    place = start + tl.arange(0, TILE)
    at = (b * T + place)[:, None] * out_stride + c[None, :]
    tl.store(out + at, total.to(out.dtype.element_ty), mask=(place < T)[:, None] & (c < C)[None, :])


@triton.autotune(NARROW, ["C", "MERGED", "CUT", "OPERAND"], prune_configs_by={"early_config_prune": choose_columns})
@triton.jit
def _collect_kernel(
    gradient, lives, shares, documents, received, read,
    B, S, T, C, width, first_layer,
    SIZES: tl.constexpr, PLAIN: tl.constexpr, WINDOW: tl.constexpr, FIRST: tl.constexpr,
    SIDE_BY_SIDE: tl.constexpr,  # each layer has columns of `gradient` of its own
    MERGED: tl.constexpr, CUT: tl.constexpr, OPERAND: tl.constexpr,
    TILE: tl.constexpr, CHUNK: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """
    Tile [TILE, BLOCK_C] of `received`: what the occurrences of a layer get from the positions that read them; and
    whether there are such positions. Without, the tile stays unwritten.
    """
    tiles = tl.cdiv(S, TILE)
    start = tl.program_id(0) % tiles * TILE
    number = tl.program_id(0) // tiles // B
    b = tl.cast(tl.program_id(0) // tiles % B, tl.int64)
    e = start + tl.arange(0, TILE)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    n = number + first_layer
    plane = (n * B + b) * S
    _, first_lag, places, _ = describe_layer(n, SIZES, PLAIN, WINDOW, FIRST)
    left = tl.load(lives + plane + e, mask=e < S, other=0)
    e_document = tl.zeros([TILE], tl.int64)
    if CUT:
        e_document = tl.load(documents + b * S + e, mask=e < S, other=0)
    column = n * 0
    if SIDE_BY_SIDE:
        column = n * C
    begin = start + first_lag
    most = tl.zeros([TILE], tl.float32)
    for step in range(0, TILE + places - 1, TILE):
        t = begin + step + tl.arange(0, TILE)
        exists = (t >= S - T) & (t < S) & (t < begin + TILE + places - 1)
        most = tl.maximum(most, _load_shares(shares, n, b, t, exists, B, S, PLAIN, MERGED))
    is_read = tl.max(most) > 0
    if is_read:
        total = tl.zeros([TILE, BLOCK_C], tl.float32)
        for step in range(0, TILE + places - 1, CHUNK):
            t = begin + step + tl.arange(0, CHUNK)
            exists = (t >= S - T) & (t < S)
            part = _load_shares(shares, n, b, t, exists, B, S, PLAIN, MERGED)
            lag = t[None, :] - e[:, None] - first_lag
            band = (lag >= 0) & (lag < left[:, None])
            if CUT:
                t_document = tl.load(documents + b * S + t, mask=exists, other=0)
                band = band & (t_document[None, :] == e_document[:, None])
            at = (b * T + t - (S - T))[:, None] * width + column + c[None, :]
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
        at = (tl.cast(number, tl.int64) * B * S + b * S + e)[:, None] * C + c[None, :]
        tl.store(received + at, total, mask=(e < S)[:, None] & (c < C)[None, :])
    if tl.program_id(1) == 0:
        tl.store(read + tl.program_id(0), tl.cast(is_read, tl.int32))


@triton.jit
def _add_by_row_kernel(
    received, read, order, ranges, merged_rows, found,
    B, S, C, R, first_layer, last_layer, first_row,
    SIZES: tl.constexpr, PLAIN: tl.constexpr, WINDOW: tl.constexpr, FIRST: tl.constexpr,
    LAYERS: tl.constexpr, LARGEST: tl.constexpr, TIE: tl.constexpr,
    FOLD: tl.constexpr,  # add what is handed down from merged rows
    TILE: tl.constexpr, CROWD: tl.constexpr,
    SPARSE_E: tl.constexpr, SPARSE_C: tl.constexpr, CROWDED_E: tl.constexpr, CROWDED_C: tl.constexpr,
):  # fmt: skip
    """Some columns of one row of `found`, which begins with row `first_row` of all layers; 0 without an occurrence."""
    program = tl.program_id(0)
    # Which layer, which of its rows, and which columns: layers take their programs one after the other.
    n = tl.cast(first_layer, tl.int32)
    local = program * 0
    block = program * 0
    k = program * 0
    crowded = program * 0
    row = program * 0
    programs_before = program * 0
    rows_before = program * 0
    for m in range(LAYERS):
        letters, _, _, base = describe_layer(m, SIZES, PLAIN, WINDOW, FIRST)
        rows = raise_power(base, letters)
        if (m >= first_layer) & (m < last_layer):
            is_crowded = tl.cast(rows.to(tl.int64) * CROWD <= tl.cast(B, tl.int64) * S, tl.int32)
            blocks = tl.cast(tl.where(is_crowded > 0, tl.cdiv(C, CROWDED_C), tl.cdiv(C, SPARSE_C)), tl.int32)
            inside = program - programs_before
            here = (inside >= 0) & (inside < rows * blocks)
            n = tl.where(here, m, n)
            k = tl.where(here, letters, k)
            crowded = tl.where(here, is_crowded, crowded)
            local = tl.where(here, inside // blocks, local)
            block = tl.where(here, inside % blocks, block)
            row = tl.where(here, rows_before + inside // blocks, row)
            programs_before += rows * blocks
        rows_before += rows
    number = tl.cast(n - first_layer, tl.int64)
    received += number * B * S * C
    read += number * B * tl.cdiv(S, TILE)
    if crowded > 0:
        _add_up_row(
            received, read, order, ranges, merged_rows, found, row, local, k, n, block,
            S, C, R, first_row, PLAIN, WINDOW, LARGEST, TIE, FOLD, TILE, CROWDED_E, CROWDED_C,
        )  # fmt: skip
    else:
        _add_up_row(
            received, read, order, ranges, merged_rows, found, row, local, k, n, block,
            S, C, R, first_row, PLAIN, WINDOW, LARGEST, TIE, FOLD, TILE, SPARSE_E, SPARSE_C,
        )  # fmt: skip


@triton.jit
def _add_up_row(
    received, read, order, ranges, merged_rows, found, row, local, k, n, block,
    S, C, R, first_row, PLAIN: tl.constexpr, WINDOW: tl.constexpr, LARGEST: tl.constexpr, TIE: tl.constexpr,
    FOLD: tl.constexpr, TILE: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Columns [BLOCK_C] of one row: the sum over its occurrences, BLOCK_E at a time, and what is handed down to it."""
    c = block * BLOCK_C + tl.arange(0, BLOCK_C)
    total = tl.zeros([BLOCK_C], tl.float32)
    for side in tl.static_range(TIE + 1):
        begin = tl.load(ranges + 2 * side * R + row)
        end = tl.load(ranges + (2 * side + 1) * R + row)
        for i in range(begin, end, BLOCK_E):
            at = i + tl.arange(0, BLOCK_E)
            e = tl.load(order + at, mask=at < end, other=0)
            b = e // S
            is_read = tl.load(read + b * tl.cdiv(S, TILE) + (e - b * S) // TILE, mask=at < end, other=0) > 0
            x = tl.load(received + e[:, None] * C + c[None, :], mask=is_read[:, None] & (c < C)[None, :], other=0.0)
            total += tl.sum(x, axis=0)
    if FOLD:
        # Row in base 4, and that of the reverse complement; rows with N are in no merged row.
        rest = local
        number = local * 0
        mirrored = local * 0
        own = local * 0
        weight = local * 0 + 1
        has_n = local * 0
        for _ in range(k):
            digit = rest % 5
            rest = rest // 5
            has_n = tl.maximum(has_n, tl.cast(digit == 4, tl.int32))
            number += digit * weight
            mirrored = mirrored * 4 + 3 - digit
            own = own * 5 + 3 - digit  # in base 5
            weight = weight * 4
        handed = tl.zeros([BLOCK_C], tl.float32)
        if (has_n == 0) & ((TIE == 0) | (local <= own)):
            handed = _hand_down(handed, merged_rows, number, k, c, C, LARGEST, BLOCK_E)
            if TIE:  # noqa: SIM102 - by itself, so that the rest is compiled only then
                if local < own:
                    handed = _hand_down(handed, merged_rows, mirrored, k, c, C, LARGEST, BLOCK_E)
        total += handed * (1.0 / (WINDOW - k + 1))
    at = tl.cast(row - first_row, tl.int64) * C + c
    tl.store(found + at, total.to(found.dtype.element_ty), mask=c < C)


@triton.jit
def _hand_down(total, merged_rows, number, k, c, C, LARGEST: tl.constexpr, BLOCK_E: tl.constexpr):
    """The sum of the gradients of all merged rows that a k-mer (in base 4) is part of, as often as it is."""
    inside = (c < C)[None, :]
    weight = raise_power(4, k)
    count = raise_power(4, LARGEST - k)
    for i in range(0, count, BLOCK_E):  # largest k-mers that end with it
        x = i + tl.arange(0, BLOCK_E)
        at = tl.cast(x * weight + number, tl.int64) * C
        found = tl.load(merged_rows + at[:, None] + c[None, :], mask=(x < count)[:, None] & inside, other=0.0)
        total += tl.sum(found, axis=0)
    count = count // 4
    for newer in range(LARGEST - k):  # (K-1)-mers that have it in front of so many letters
        below = raise_power(4, newer)
        for i in range(0, count, BLOCK_E):
            x = i + tl.arange(0, BLOCK_E)
            far = (x // below) * (weight * below) + number * below + x % below
            at = (tl.cast(far, tl.int64) + raise_power(4, LARGEST)) * C
            found = tl.load(merged_rows + at[:, None] + c[None, :], mask=(x < count)[:, None] & inside, other=0.0)
            total += tl.sum(found, axis=0)
    return total


__all__ = ["OPERANDS", "add_by_row", "choose_columns", "group_layers", "pool_rows", "sum_rows", "sum_window"]
