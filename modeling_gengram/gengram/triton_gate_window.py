"""The residual of a memory in evaluation, from projected tables: window sums, gate and mixer, three launches.

The key of a position is needed for its gate alone, so it is summed over the window a block of columns at a time, and
of each block only three numbers are written: its part of the sums of w x k, k^2 and x^2 (`triton_gate` has the
formulas). The value is summed likewise, and multiplied by the gate before it is written. Keys and values thus never
leave the multiprocessors, and are not rounded to the tables' precision; rows of the tables are fetched as often as for
both side by side. A mixer takes the gated vectors in a third launch, since it reads other positions or whole rows.

Bytes a position, b bytes a number, L places of the largest k-mer, of merged tables (windows without A, C, G, T only
read more layers): keys (2 + L / 64) D b of rows, D b of hidden states and 12 D b / 256 written; values as many of rows,
as many of the three numbers, and D b written; mixer D b read, D b written. Operations: 2 (64 + L) D for each of the two
layers and for each of key and value, on the tensor cores, most of them by zeros of the band.

Letters: B batch, S positions (T tokens after H of history), D hidden size, R rows, N layers.
"""

import re
from collections.abc import Sequence

import torch

from .kernel_device import run_beside_tensors
from .kmer_index import KmerWindow, RowReads
from .triton_gate import evenly_spaced, find_gate, find_norm, find_score, load_columns, load_tile, mix_gated, store_tile
from .triton_index import count_merged, describe_window, layer_constants
from .triton_rows import CHUNK, COLUMNS, OPERANDS, TILE, choose_columns, sum_window

try:
    import triton
    import triton.language as tl
except ImportError as error:
    raise ImportError("The fused kernels need triton, which comes with PyTorch's CUDA builds for Linux.") from error

# Columns of keys a program, in bytes: not tuned, since they decide which numbers are added first.
KEY_BYTES = 256
NORM_ROWS, NORM_COLUMNS = 4, 1024  # positions by columns of the norm behind the gate

# A copy of this file that travels with a checkpoint registers operators of its own.
NAMESPACE = re.sub(r"\W", "_", __name__)


def gate_window(
    hidden: torch.Tensor,
    projected: torch.Tensor,
    biases: Sequence[torch.Tensor],
    reads: RowReads,
    window: KmerWindow,
    norms: Sequence[torch.Tensor],
    eps: Sequence[float],
    kind: str,
    mixer: str = "none",
    mixer_weight: torch.Tensor | None = None,
    dilation: int = 1,
    real: torch.Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """
    `read_rows` and `gate_and_mix` for tables that are kept.

    Args:
        hidden (`torch.Tensor` [B, T, D]).
        projected (`torch.Tensor` [R, 2D]): from `project_tables`. biases: of key and value (each [D]), or none.
        reads (`RowReads`): of S positions, the last T of which are those of `hidden`. window (`KmerWindow`).
        others: as `gate_and_mix`; documents are those of `reads`.

    Returns:
        `torch.Tensor` [B, T, D]; no gradients.
    """
    weights = [*norms] if mixer_weight is None else [*norms, mixer_weight]
    signed_sqrt = {"signed_sqrt": True, "sigmoid": False}[kind]
    return _gate_window(
        hidden, projected, list(biases), *reads.tensors()[:4], describe_window(window), weights, list(eps),
        signed_sqrt, mixer, dilation, real, hidden.dtype if dtype is None else dtype,
    )  # fmt: skip


@torch.library.custom_op(f"{NAMESPACE}::gate_window", mutates_args=())
@run_beside_tensors
def _gate_window(
    hidden: torch.Tensor,
    projected: torch.Tensor,
    biases: list[torch.Tensor],
    rows: torch.Tensor,
    lives: torch.Tensor,
    shares: torch.Tensor,
    documents: torch.Tensor | None,
    window: list[int],
    weights: list[torch.Tensor],
    eps: list[float],
    signed_sqrt: bool,
    mixer: str,
    dilation: int,
    real: torch.Tensor | None,
    dtype: torch.dtype,
) -> torch.Tensor:
    B, T, D = hidden.shape
    S = rows.shape[2]
    gated = torch.empty(B, T, D, dtype=dtype, device=hidden.device)
    if gated.numel() == 0:
        return gated
    hidden, projected = evenly_spaced(hidden), projected.contiguous()
    weights = [weight.contiguous() for weight in weights]
    key_bias, value_bias = (bias.contiguous() for bias in biases) if biases else (None, None)
    columns = min(max(triton.next_power_of_2(D), 16), KEY_BYTES // projected.element_size())
    blocks, tiles = triton.cdiv(D, columns), B * triton.cdiv(T, TILE)
    parts = torch.empty(3, blocks, B * T, dtype=torch.float32, device=hidden.device)
    indices, sizes = (rows, lives, shares, documents), (B, S, T, D, rows.stride(1))
    merged = count_merged(window)
    constants = layer_constants(window) | {
        "LAYERS": len(window) - 4 + merged, "MERGED": merged > 0, "CUT": documents is not None,
        "OPERAND": OPERANDS[projected.dtype], "BIASED": len(biases) > 0, "TILE": TILE, "CHUNK": CHUNK,
    }  # fmt: skip
    _score_window_kernel[(tiles, blocks)](
        projected, key_bias, *indices, hidden, *weights[:2], parts, *sizes, hidden.stride(1),
        BLOCK_C=columns, num_warps=4, num_stages=2, **constants,
    )  # fmt: skip

    def grid(meta):
        return tiles, triton.cdiv(D, meta["BLOCK_C"])

    _gate_values_kernel[grid](
        projected, value_bias, *indices, parts, None if real is None else real.contiguous(), gated, *sizes, *eps[:2],
        BLOCKS=blocks, SIGNED_SQRT=signed_sqrt, PADDED=real is not None, **constants,
    )  # fmt: skip
    if mixer == "none":
        return gated
    out = torch.empty_like(gated)
    if mixer == "conv_residual":
        documents = None if documents is None else documents[:, S - T :]
        mix_gated(gated, None, weights[2], dilation, documents, out)
    else:
        columns = min(triton.next_power_of_2(D), NORM_COLUMNS)
        _norm_gated_kernel[(triton.cdiv(B * T, NORM_ROWS),)](
            gated, weights[2], out, B * T, D, eps[2], ROWS=NORM_ROWS, BLOCK_D=columns, num_warps=8
        )
    return out


@_gate_window.register_fake
def _(hidden, projected, biases, rows, lives, shares, documents, window, weights, eps, signed_sqrt, mixer, *rest):
    return hidden.new_empty(hidden.shape, dtype=rest[-1])


# In every kernel of a window: a program makes positions TILE by columns of one sequence; D columns of keys, and behind
# them as many of values; the constants are those of `sum_window`, for all LAYERS.


@triton.jit
def _score_window_kernel(
    table, bias, rows, lives, shares, documents, hidden, hidden_weight, key_weight, parts,
    B, S, T, D, stride, hidden_stride,
    SIZES: tl.constexpr, PLAIN: tl.constexpr, WINDOW: tl.constexpr, FIRST: tl.constexpr, LAYERS: tl.constexpr,
    MERGED: tl.constexpr, CUT: tl.constexpr, OPERAND: tl.constexpr, BIASED: tl.constexpr,
    TILE: tl.constexpr, CHUNK: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Parts of the three sums that the gates of TILE positions need, from BLOCK_C columns: `parts` [3, blocks, B T]."""
    tiles = tl.cdiv(T, TILE)
    start = tl.program_id(0) % tiles * TILE
    b = tl.cast(tl.program_id(0) // tiles, tl.int64)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    k = sum_window(
        table, rows, lives, shares, documents, start, b, c, D, 2 * D, B, S, S - T, stride, 0, LAYERS,
        SIZES, PLAIN, WINDOW, FIRST, MERGED, CUT, OPERAND, TILE, CHUNK, BLOCK_C,
    )  # fmt: skip
    if BIASED:
        k += load_columns(bias, c, D, 1)[None, :]
    t = start + tl.arange(0, TILE)
    row = b * T + t
    w = load_columns(hidden_weight, c, D, 1) * load_columns(key_weight, c, D, 1)
    x = load_tile(hidden, row, t < T, c, D, hidden_stride)
    plane = tl.cast(B, tl.int64) * T
    at = parts + tl.program_id(1) * plane + row
    plane = plane * tl.num_programs(1)
    tl.store(at, tl.sum(x * k * w[None, :], axis=1), mask=t < T)
    tl.store(at + plane, tl.sum(x * x, axis=1), mask=t < T)
    tl.store(at + 2 * plane, tl.sum(k * k, axis=1), mask=t < T)


@triton.autotune(COLUMNS, ["D", "MERGED", "CUT", "OPERAND"], prune_configs_by={"early_config_prune": choose_columns})
@triton.jit
def _gate_values_kernel(
    table, bias, rows, lives, shares, documents, parts, real, out,
    B, S, T, D, stride, hidden_eps, key_eps,
    SIZES: tl.constexpr, PLAIN: tl.constexpr, WINDOW: tl.constexpr, FIRST: tl.constexpr, LAYERS: tl.constexpr,
    MERGED: tl.constexpr, CUT: tl.constexpr, OPERAND: tl.constexpr, BIASED: tl.constexpr,
    BLOCKS: tl.constexpr,  # of keys
    SIGNED_SQRT: tl.constexpr, PADDED: tl.constexpr,
    TILE: tl.constexpr, CHUNK: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Tile [TILE, BLOCK_C] of the gated vectors."""
    tiles = tl.cdiv(T, TILE)
    start = tl.program_id(0) % tiles * TILE
    b = tl.cast(tl.program_id(0) // tiles, tl.int64)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    v = sum_window(
        table + D, rows, lives, shares, documents, start, b, c, D, 2 * D, B, S, S - T, stride, 0, LAYERS,
        SIZES, PLAIN, WINDOW, FIRST, MERGED, CUT, OPERAND, TILE, CHUNK, BLOCK_C,
    )  # fmt: skip
    if BIASED:
        v += load_columns(bias, c, D, 1)[None, :]
    t = start + tl.arange(0, TILE)
    row = b * T + t
    plane = tl.cast(B, tl.int64) * T
    of_hidden = tl.zeros([TILE], tl.float32)
    of_key = tl.zeros([TILE], tl.float32)
    product = tl.zeros([TILE], tl.float32)
    for block in range(BLOCKS):
        at = parts + block * plane + row
        product += tl.load(at, mask=t < T, other=0.0)
        of_hidden += tl.load(at + BLOCKS * plane, mask=t < T, other=0.0)
        of_key += tl.load(at + 2 * BLOCKS * plane, mask=t < T, other=0.0)
    of_hidden = find_norm(of_hidden, D, hidden_eps)
    of_key = find_norm(of_key, D, key_eps)
    gate = find_gate(find_score(product, of_hidden, of_key, D), SIGNED_SQRT)
    if PADDED:
        gate = tl.where(tl.load(real + row, mask=t < T, other=0) != 0, gate, 0.0)
    store_tile(out, v * gate[:, None], row, t < T, c, D, D)


@triton.jit
def _norm_gated_kernel(gated, weight, out, N, D, eps, ROWS: tl.constexpr, BLOCK_D: tl.constexpr):
    """SiLU of the normalised gated vectors of ROWS of all N = B * T positions."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    squares = tl.zeros([ROWS], tl.float32)
    for start in range(0, D, BLOCK_D):
        o = load_tile(gated, row, row < N, start + tl.arange(0, BLOCK_D), D, D)
        squares += tl.sum(o * o, axis=1)
    norm = find_norm(squares, D, eps)
    for start in range(0, D, BLOCK_D):
        c = start + tl.arange(0, BLOCK_D)
        y = load_tile(gated, row, row < N, c, D, D) * norm[:, None] * load_columns(weight, c, D, 1)[None, :]
        store_tile(out, y * tl.sigmoid(y), row, row < N, c, D, D)


__all__ = ["gate_window"]
