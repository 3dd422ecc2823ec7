"""The gate of a position, forward and backward, on the GPU: two norms, a product, a sigmoid in one pass over D.

With w = w_q w_k, x the hidden state and k the key of a position, r_x = (mean x^2 + eps)^-1/2 and r_k likewise:

    s = r_x r_k / sqrt(D) * sum of w x k            gate = sigmoid(s) or sigmoid(sign(s) sqrt(max(|s|, 1e-6)))
    ds/dx = r_x r_k / sqrt(D) * w k - s r_x^2 / D * x          and the same with x and k exchanged
    ds/dw = r_x r_k / sqrt(D) * x k                             summed over positions in a fixed order

Bytes per position, b bytes a number: forward 2 D b read, 4 written; backward 4 D b read (the second pass over a row
finds it in the cache), 2 D b written. Nothing but the inputs is kept for the backward pass.

Letters: B batch, T positions, D hidden size.
"""

import re

import torch

from .memory_ops import GATE_FLOOR

try:
    import triton
    import triton.language as tl
except ImportError as error:
    raise ImportError("The fused kernels need triton, which comes with PyTorch's CUDA builds for Linux.") from error

FLOOR = tl.constexpr(GATE_FLOOR)
ELEMENTS = 4096  # a tile of positions by columns: 16 float32 a thread at 8 warps, for up to four tiles at once

# A copy of this file that travels with a checkpoint registers operators of its own.
NAMESPACE = re.sub(r"\W", "_", __name__)


def score_gate(
    hidden: torch.Tensor,
    key: torch.Tensor,
    hidden_weight: torch.Tensor,
    key_weight: torch.Tensor,
    hidden_eps: float,
    key_eps: float,
    kind: str,
) -> torch.Tensor:
    """
    `gate_scores` of the two RMSNorms, fused.

    Args:
        hidden, key (`torch.Tensor` [B, T, D]): float32, bfloat16 or float16; rows may lie apart (a half of key and
            value side by side). hidden_weight, key_weight (`torch.Tensor` [D]), hidden_eps, key_eps: of the norms.
        kind (`str`): "signed_sqrt" or "sigmoid".

    Returns:
        `torch.Tensor` float32 [B, T, 1]. Differentiable in all four tensors.
    """
    gate = _score_gate(
        hidden, key, hidden_weight, key_weight, hidden_eps, key_eps, {"signed_sqrt": True, "sigmoid": False}[kind]
    )
    return gate[..., None]


@torch.library.custom_op(f"{NAMESPACE}::score_gate", mutates_args=())
def _score_gate(
    hidden: torch.Tensor,
    key: torch.Tensor,
    hidden_weight: torch.Tensor,
    key_weight: torch.Tensor,
    hidden_eps: float,
    key_eps: float,
    signed_sqrt: bool,
) -> torch.Tensor:
    B, T, D = hidden.shape
    hidden, key = evenly_spaced(hidden), evenly_spaced(key)
    gate = torch.empty(B, T, dtype=torch.float32, device=hidden.device)
    rows, columns = _tile(D)
    _score_gate_kernel[(triton.cdiv(B * T, rows),)](
        hidden, key, hidden_weight, key_weight, gate, B * T, D, hidden.stride(1), key.stride(1), hidden_eps, key_eps,
        SIGNED_SQRT=signed_sqrt, ROWS=rows, BLOCK_D=columns, num_warps=8,
    )  # fmt: skip
    return gate


@_score_gate.register_fake
def _(hidden, key, hidden_weight, key_weight, hidden_eps, key_eps, signed_sqrt):
    return hidden.new_empty(hidden.shape[:2], dtype=torch.float32)


@torch.library.custom_op(f"{NAMESPACE}::score_gate_backward", mutates_args=())
def _score_gate_backward(
    gradient: torch.Tensor,
    hidden: torch.Tensor,
    key: torch.Tensor,
    hidden_weight: torch.Tensor,
    key_weight: torch.Tensor,
    hidden_eps: float,
    key_eps: float,
    signed_sqrt: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    B, T, D = hidden.shape
    hidden, key = evenly_spaced(hidden), evenly_spaced(key)
    rows, columns = _tile(D)
    programs = triton.cdiv(B * T, rows)
    d_hidden, d_key = hidden.new_empty(B, T, D), key.new_empty(B, T, D)
    d_product = torch.empty(programs, D, dtype=torch.float32, device=hidden.device)
    _score_gate_backward_kernel[(programs,)](
        gradient.contiguous(), hidden, key, hidden_weight, key_weight, d_hidden, d_key, d_product,
        B * T, D, hidden.stride(1), key.stride(1), hidden_eps, key_eps,
        SIGNED_SQRT=signed_sqrt, ROWS=rows, BLOCK_D=columns, num_warps=8,
    )  # fmt: skip
    d_product = d_product.sum(0)
    d_hidden_weight = (d_product * key_weight).to(hidden_weight.dtype)
    return d_hidden, d_key, d_hidden_weight, (d_product * hidden_weight).to(key_weight.dtype)


@_score_gate_backward.register_fake
def _(gradient, hidden, key, hidden_weight, key_weight, hidden_eps, key_eps, signed_sqrt):
    # In this order and dense, as the kernel's outputs are.
    return (
        hidden.new_empty(hidden.shape),
        key.new_empty(key.shape),
        torch.empty_like(hidden_weight),
        torch.empty_like(key_weight),
    )


def _keep_for_backward(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:4])
    ctx.settings = inputs[4:]


def _differentiate(ctx, gradient):
    return *_score_gate_backward(gradient, *ctx.saved_tensors, *ctx.settings), None, None, None


_score_gate.register_autograd(_differentiate, setup_context=_keep_for_backward)


def evenly_spaced(x: torch.Tensor) -> torch.Tensor:
    """x [B, T, D] itself if its B * T rows are dense and equally far apart, as those of a half are, or a copy."""
    if x.stride(2) == 1 and (x.shape[0] == 1 or x.stride(0) == x.shape[1] * x.stride(1)):
        return x
    return x.contiguous()


def _tile(D: int) -> tuple[int, int]:
    """Positions and columns of a tile: a whole row where it fits."""
    columns = min(triton.next_power_of_2(D), 1024)
    return max(ELEMENTS // columns, 1) if columns == 1024 else min(ELEMENTS // columns, 32), columns


@triton.jit
def _score(
    hidden, key, hidden_weight, key_weight, row, exists, D, hidden_stride, key_stride, hidden_eps, key_eps,
    ROWS: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """r_x, r_k and s of a tile's positions: float32 [ROWS] each."""
    of_hidden = tl.zeros([ROWS], tl.float32)
    of_key = tl.zeros([ROWS], tl.float32)
    product = tl.zeros([ROWS], tl.float32)
    for start in range(0, D, BLOCK_D):
        c = start + tl.arange(0, BLOCK_D)
        inside = exists[:, None] & (c < D)[None, :]
        w = tl.load(hidden_weight + c, mask=c < D, other=0.0).to(tl.float32)
        w *= tl.load(key_weight + c, mask=c < D, other=0.0).to(tl.float32)
        x = tl.load(hidden + row[:, None] * hidden_stride + c[None, :], mask=inside, other=0.0).to(tl.float32)
        k = tl.load(key + row[:, None] * key_stride + c[None, :], mask=inside, other=0.0).to(tl.float32)
        of_hidden += tl.sum(x * x, axis=1)
        of_key += tl.sum(k * k, axis=1)
        product += tl.sum(x * k * w[None, :], axis=1)
    of_hidden = 1.0 / tl.sqrt(of_hidden / D + hidden_eps)
    of_key = 1.0 / tl.sqrt(of_key / D + key_eps)
    return of_hidden, of_key, product * of_hidden * of_key / tl.sqrt(D.to(tl.float32))


@triton.jit
def _score_gate_kernel(
    hidden, key, hidden_weight, key_weight, gate, N, D, hidden_stride, key_stride, hidden_eps, key_eps,
    SIGNED_SQRT: tl.constexpr,  # the released gate
    ROWS: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """The gates of ROWS of all N = B * T positions."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    exists = row < N
    _, _, s = _score(
        hidden, key, hidden_weight, key_weight, row, exists, D, hidden_stride, key_stride, hidden_eps, key_eps,
        ROWS, BLOCK_D,
    )  # fmt: skip
    if SIGNED_SQRT:
        root = tl.sqrt(tl.maximum(tl.abs(s), FLOOR))
        s = tl.where(s > 0, root, tl.where(s < 0, -root, 0.0))
    tl.store(gate + row, tl.sigmoid(s), mask=exists)


@triton.jit
def _score_gate_backward_kernel(
    gradient, hidden, key, hidden_weight, key_weight, d_hidden, d_key, d_product,
    N, D, hidden_stride, key_stride, hidden_eps, key_eps,
    SIGNED_SQRT: tl.constexpr, ROWS: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Gradients of ROWS positions, and their part of the gradient of w: row `program` of `d_product` [programs, D]."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    exists = row < N
    of_hidden, of_key, s = _score(
        hidden, key, hidden_weight, key_weight, row, exists, D, hidden_stride, key_stride, hidden_eps, key_eps,
        ROWS, BLOCK_D,
    )  # fmt: skip
    ds = tl.load(gradient + row, mask=exists, other=0.0)
    if SIGNED_SQRT:
        root = tl.sqrt(tl.maximum(tl.abs(s), FLOOR))
        g = tl.sigmoid(tl.where(s > 0, root, tl.where(s < 0, -root, 0.0)))
        ds *= tl.where(tl.abs(s) >= FLOOR, 0.5 / root, 0.0)  # flat below the floor
    else:
        g = tl.sigmoid(s)
    ds *= g * (1.0 - g)
    of_product = ds * of_hidden * of_key / tl.sqrt(D.to(tl.float32))
    along_hidden = ds * s * of_hidden * of_hidden / D
    along_key = ds * s * of_key * of_key / D
    for start in range(0, D, BLOCK_D):
        c = start + tl.arange(0, BLOCK_D)
        inside = exists[:, None] & (c < D)[None, :]
        w = tl.load(hidden_weight + c, mask=c < D, other=0.0).to(tl.float32)
        w *= tl.load(key_weight + c, mask=c < D, other=0.0).to(tl.float32)
        x = tl.load(hidden + row[:, None] * hidden_stride + c[None, :], mask=inside, other=0.0).to(tl.float32)
        k = tl.load(key + row[:, None] * key_stride + c[None, :], mask=inside, other=0.0).to(tl.float32)
        dx = of_product[:, None] * w[None, :] * k - along_hidden[:, None] * x
        dk = of_product[:, None] * w[None, :] * x - along_key[:, None] * k
        at = row[:, None] * D + c[None, :]
        tl.store(d_hidden + at, dx.to(d_hidden.dtype.element_ty), mask=inside)
        tl.store(d_key + at, dk.to(d_key.dtype.element_ty), mask=inside)
        dw = tl.sum(of_product[:, None] * x * k, axis=0)
        tl.store(d_product + tl.program_id(0).to(tl.int64) * D + c, dw, mask=c < D)


__all__ = ["evenly_spaced", "score_gate"]
