"""Gate times value and the short convolution behind it, forward and backward, on the GPU.

    o = gate * value
    c[t] = sum over taps j of w[j] o[t - (taps - 1 - j) dilation]
    out[t] = o[t] + SiLU(c[t])

The gated vectors o are never written: a program multiplies the values of its positions, and of those the taps reach
back to, by their gates as it reads them (the taps of a tile lie in the cache). Backward, dc = d_out SiLU'(c) is made
and kept in float32 once; then the gradient of o[t] is d_out[t] + sum over taps of w[j] dc[t + lag j].

Bytes per position, b bytes a number: forward D b read and D b written; backward 4 D b read and D b written, and
D float32 written and read. The gradient of w is summed over tiles in a fixed order.

Letters: B batch, T positions, D hidden size.
"""

import re

import torch

from .triton_gate import evenly_spaced

try:
    import triton
    import triton.language as tl
except ImportError as error:
    raise ImportError("The fused kernels need triton, which comes with PyTorch's CUDA builds for Linux.") from error

# A tile of positions by columns. Taps reach back three times the largest k-mer (18 positions), so that a tile of 32
# finds more than half of what it needs in its own rows; 64 columns of bfloat16 are one line of the cache.
BLOCK_T, BLOCK_D = 32, 64

# A copy of this file that travels with a checkpoint registers operators of its own.
NAMESPACE = re.sub(r"\W", "_", __name__)


def mix_gated(
    value: torch.Tensor,
    gate: torch.Tensor,
    conv: torch.Tensor,
    dilation: int,
    documents: torch.Tensor | None,
    dtype: torch.dtype,
) -> torch.Tensor:
    """
    `gate * value` and the SiLU of its causal convolution (`convolve_causal`), fused.

    Args:
        value (`torch.Tensor` [B, T, D]): rows may lie apart. gate (`torch.Tensor` float32 [B, T, 1]).
        conv (`torch.Tensor` [taps, D]), dilation (`int`), documents (`torch.Tensor` int64 [B, T], *optional*).
        dtype (`torch.dtype`): of the result; everything is computed in float32.

    Returns:
        `torch.Tensor` [B, T, D]. Differentiable in value, gate and conv.
    """
    return _mix_gated(value, gate[..., 0], conv.T, dilation, documents, dtype)


@torch.library.custom_op(f"{NAMESPACE}::mix_gated", mutates_args=())
def _mix_gated(
    value: torch.Tensor,
    gate: torch.Tensor,
    weight: torch.Tensor,
    dilation: int,
    documents: torch.Tensor | None,
    dtype: torch.dtype,
) -> torch.Tensor:
    B, T, D = value.shape
    value = evenly_spaced(value)
    out = torch.empty(B, T, D, dtype=dtype, device=value.device)
    _mix_gated_kernel[(triton.cdiv(T, BLOCK_T), triton.cdiv(D, BLOCK_D), B)](
        value, gate.contiguous(), weight.contiguous(), _dense(documents), out, T, D, value.stride(1), dilation,
        TAPS=weight.shape[1], CUT=documents is not None, BLOCK_T=BLOCK_T, BLOCK_D=BLOCK_D, num_warps=4,
    )  # fmt: skip
    return out


@_mix_gated.register_fake
def _(value, gate, weight, dilation, documents, dtype):
    return value.new_empty(value.shape, dtype=dtype)


@torch.library.custom_op(f"{NAMESPACE}::mix_gated_backward", mutates_args=())
def _mix_gated_backward(
    gradient: torch.Tensor,
    value: torch.Tensor,
    gate: torch.Tensor,
    weight: torch.Tensor,
    dilation: int,
    documents: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    B, T, D = value.shape
    taps = weight.shape[1]
    value, gate, gradient, dense = evenly_spaced(value), gate.contiguous(), gradient.contiguous(), weight.contiguous()
    documents = _dense(documents)
    tiles = triton.cdiv(T, BLOCK_T)
    d_mixed = torch.empty(B, T, D, dtype=torch.float32, device=value.device)
    d_weight = torch.empty(B * tiles, taps, D, dtype=torch.float32, device=value.device)
    d_value, d_gate = value.new_empty(B, T, D), torch.empty_like(gate)
    settings = {"TAPS": taps, "CUT": documents is not None, "BLOCK_T": BLOCK_T, "BLOCK_D": BLOCK_D, "num_warps": 4}
    _differentiate_mixed_kernel[(tiles, triton.cdiv(D, BLOCK_D), B)](
        gradient, value, gate, dense, documents, d_mixed, d_weight, T, D, value.stride(1), dilation, **settings
    )
    _differentiate_gated_kernel[(tiles, B)](
        gradient, value, gate, dense, documents, d_mixed, d_value, d_gate, T, D, value.stride(1), dilation, **settings
    )
    return d_value, d_gate, d_weight.sum(0).T.to(weight.dtype)


@_mix_gated_backward.register_fake
def _(gradient, value, gate, weight, dilation, documents):
    d_weight = weight.new_empty(weight.shape[1], weight.shape[0]).T
    return value.new_empty(value.shape), torch.empty_like(gate, memory_format=torch.contiguous_format), d_weight


def _keep_for_backward(ctx, inputs, output):
    value, gate, weight, dilation, documents, _ = inputs
    ctx.save_for_backward(value, gate, weight, documents)
    ctx.dilation = dilation


def _differentiate(ctx, gradient):
    value, gate, weight, documents = ctx.saved_tensors
    found = _mix_gated_backward(gradient, value, gate, weight, ctx.dilation, documents)
    return *found, None, None, None


_mix_gated.register_autograd(_differentiate, setup_context=_keep_for_backward)


def _dense(documents: torch.Tensor | None) -> torch.Tensor | None:
    return None if documents is None else documents.contiguous()


# In every kernel: TAPS of the convolution; CUT, documents count (without, the pointer `documents` is None).


@triton.jit
def _gated_at(value, gate, documents, document, b, t, c, T, D, stride, CUT: tl.constexpr):
    """o at positions t of documents `document`: float32 tile, 0 outside of the sequence or the document."""
    exists = (t >= 0) & (t < T)
    if CUT:
        exists = exists & (tl.load(documents + b * T + t, mask=exists, other=-1) == document)
    g = tl.load(gate + b * T + t, mask=exists, other=0.0)
    inside = exists[:, None] & (c < D)[None, :]
    v = tl.load(value + (b * T + t)[:, None] * stride + c[None, :], mask=inside, other=0.0)
    return v.to(tl.float32) * g[:, None]


@triton.jit
def _mix_gated_kernel(
    value, gate, weight, documents, out, T, D, stride, dilation,
    TAPS: tl.constexpr, CUT: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Tile [BLOCK_T, BLOCK_D] of `out`."""
    t = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    c = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    b = tl.program_id(2).to(tl.int64)
    document = tl.load(documents + b * T + t, mask=t < T, other=-1) if CUT else 0
    own = _gated_at(value, gate, documents, document, b, t, c, T, D, stride, CUT)
    mixed = own * tl.load(weight + c * TAPS + TAPS - 1, mask=c < D, other=0.0).to(tl.float32)[None, :]
    for back in tl.static_range(1, TAPS):
        w = tl.load(weight + c * TAPS + TAPS - 1 - back, mask=c < D, other=0.0).to(tl.float32)
        mixed += _gated_at(value, gate, documents, document, b, t - back * dilation, c, T, D, stride, CUT) * w[None, :]
    total = own + mixed * tl.sigmoid(mixed)
    inside = (t < T)[:, None] & (c < D)[None, :]
    tl.store(out + (b * T + t)[:, None] * D + c[None, :], total.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _differentiate_mixed_kernel(
    gradient, value, gate, weight, documents, d_mixed, d_weight, T, D, stride, dilation,
    TAPS: tl.constexpr, CUT: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Tile [BLOCK_T, BLOCK_D] of dc, and its part of the gradient of w: [TAPS, BLOCK_D] of a row of `d_weight`."""
    t = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    c = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    b = tl.program_id(2).to(tl.int64)
    document = tl.load(documents + b * T + t, mask=t < T, other=-1) if CUT else 0
    mixed = tl.zeros([BLOCK_T, BLOCK_D], tl.float32)
    for back in tl.static_range(0, TAPS):
        w = tl.load(weight + c * TAPS + TAPS - 1 - back, mask=c < D, other=0.0).to(tl.float32)
        mixed += _gated_at(value, gate, documents, document, b, t - back * dilation, c, T, D, stride, CUT) * w[None, :]
    inside = (t < T)[:, None] & (c < D)[None, :]
    at = (b * T + t)[:, None] * D + c[None, :]
    open_ = tl.sigmoid(mixed)
    dc = tl.load(gradient + at, mask=inside, other=0.0).to(tl.float32) * open_ * (1.0 + mixed * (1.0 - open_))
    tl.store(d_mixed + at, dc, mask=inside)
    part = (b * tl.num_programs(0) + tl.program_id(0)) * TAPS
    for back in tl.static_range(0, TAPS):
        # The tile is fetched again, from the cache, rather than held for every tap.
        o = _gated_at(value, gate, documents, document, b, t - back * dilation, c, T, D, stride, CUT)
        tl.store(d_weight + (part + TAPS - 1 - back) * D + c, tl.sum(dc * o, axis=0), mask=c < D)


@triton.jit
def _differentiate_gated_kernel(
    gradient, value, gate, weight, documents, d_mixed, d_value, d_gate, T, D, stride, dilation,
    TAPS: tl.constexpr, CUT: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Gradients of the values and gates of BLOCK_T positions, all columns, BLOCK_D at a time."""
    t = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    b = tl.program_id(1).to(tl.int64)
    document = tl.load(documents + b * T + t, mask=t < T, other=-1) if CUT else 0
    g = tl.load(gate + b * T + t, mask=t < T, other=0.0)
    dg = tl.zeros([BLOCK_T], tl.float32)
    for start in range(0, D, BLOCK_D):
        c = start + tl.arange(0, BLOCK_D)
        inside = (t < T)[:, None] & (c < D)[None, :]
        do = tl.load(gradient + (b * T + t)[:, None] * D + c[None, :], mask=inside, other=0.0).to(tl.float32)
        for back in tl.static_range(0, TAPS):
            later = t + back * dilation
            reaches = later < T
            if CUT:
                reaches = reaches & (tl.load(documents + b * T + later, mask=reaches, other=-1) == document)
            w = tl.load(weight + c * TAPS + TAPS - 1 - back, mask=c < D, other=0.0).to(tl.float32)
            at = (b * T + later)[:, None] * D + c[None, :]
            dc = tl.load(d_mixed + at, mask=reaches[:, None] & (c < D)[None, :], other=0.0)
            do += dc * w[None, :]
        v = tl.load(value + (b * T + t)[:, None] * stride + c[None, :], mask=inside, other=0.0).to(tl.float32)
        dv = (do * g[:, None]).to(d_value.dtype.element_ty)
        tl.store(d_value + (b * T + t)[:, None] * D + c[None, :], dv, mask=inside)
        dg += tl.sum(do * v, axis=1)
    tl.store(d_gate + b * T + t, dg, mask=t < T)


__all__ = ["mix_gated"]
