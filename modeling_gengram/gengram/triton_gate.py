"""The gate of a position and the mixer behind it, forward and backward, on the GPU: one operator, five launches.

With w = w_q w_k, x the hidden state, k the key, v the value of a position, r_x = (mean x^2 + eps)^-1/2, r_k likewise:

    s = r_x r_k / sqrt(D) * sum of w x k            g = sigmoid(s) or sigmoid(sign(s) sqrt(max(|s|, 1e-6)))
    o = g v                                         g = 0 at padding

    mixer "none":           out = o
    mixer "silu_norm":      out = SiLU(w_o r_o o),  r_o = (mean o^2 + eps)^-1/2
    mixer "conv_residual":  out[t] = o[t] + SiLU(c[t]),  c[t] = sum over taps j of w_c[j] o[t - (taps - 1 - j) dilation]

Backward, do the gradient of o and dg = sum of do v:

    dv = g do           ds = dg g (1 - g), times the slope of the signed root
    dx = ds (r_x r_k / sqrt(D) w k - s r_x^2 / D x)        dk the same with x and k exchanged
    dw = sum over positions of ds r_x r_k / sqrt(D) x k

    silu_norm, y what SiLU is taken of, u = d_out SiLU'(y) w_o:  do = r_o u - o r_o^3 / D sum of u o, and from that
               dg = r_o^3 eps sum of u v: the difference of two large numbers is taken on paper, where it is exact
    conv_residual, dc = d_out SiLU'(c):  do[t] = d_out[t] + sum over lags of w_c dc[t + lag]

The gated vectors o are never written. The convolution multiplies the values of its positions, and of those the taps
reach back to, by their gates as it reads them (the taps of a tile lie in the cache). Kept for the backward pass are the
inputs and four or five numbers a position. Sums over positions are taken a tile at a time, then over tiles in a fixed
order.

Bytes a position, b bytes a number, each counted once (what is read again lies in the cache): forward 3 D b read, D b
written; backward 4 D b read, 3 D b written, and of the convolution 2 D b more read and dc, D float32, written and read.
Operations a position: 10 D forward, 25 D backward; the convolution takes 2 taps D and 6 taps D of them besides.

Letters: B batch, T positions, D hidden size.
"""

import re
from collections.abc import Sequence

import torch

from .kernel_device import run_beside_tensors
from .memory_ops import GATE_FLOOR

try:
    import triton
    import triton.language as tl
except ImportError as error:
    raise ImportError("The fused kernels need triton, which comes with PyTorch's CUDA builds for Linux.") from error

FLOOR = tl.constexpr(GATE_FLOOR)
SCORES = {"none": 4, "silu_norm": 5, "conv_residual": 4}  # numbers kept of a position: g, s, r_x, r_k, r_o
MIXERS = {"none": 0, "silu_norm": 1, "conv_residual": 2}
NONE, SILU_NORM, CONV_RESIDUAL = (tl.constexpr(number) for number in MIXERS.values())

# Tiles, positions by columns: of scoring, a whole row where it fits (16 float32 a thread at 8 warps, for up to four
# tiles at once); of the convolution, 32 positions find more than half of what taps reach back to (18 positions with the
# released taps) in their own rows, and 64 columns of bfloat16 are one line of the cache; of the gradients, enough
# programs for every multiprocessor at 4,096 positions.
ELEMENTS = 4096
MIX_T, MIX_D = 32, 64
BACK_T, BACK_D = 16, 64
SUM_P, SUM_D = 64, 32  # of the last sums: tiles by columns

# A copy of this file that travels with a checkpoint registers operators of its own.
NAMESPACE = re.sub(r"\W", "_", __name__)


def gate_and_mix(
    hidden: torch.Tensor,
    key_value: Sequence[torch.Tensor],
    norms: Sequence[torch.Tensor],
    eps: Sequence[float],
    kind: str,
    mixer: str = "none",
    mixer_weight: torch.Tensor | None = None,
    dilation: int = 1,
    real: torch.Tensor | None = None,
    documents: torch.Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """
    `gate_scores` of the two RMSNorms, times value, and the mixer: the residual that a memory adds.

    Args:
        hidden (`torch.Tensor` [B, T, D]): float32, bfloat16 or float16, as everything below; rows may lie apart.
        key_value: `[key_value]`, one tensor [B, T, 2D] with the key in front, or `[key, value]`, each [B, T, D].
        norms (two tensors [D]): weights of the norms of hidden state and key.
        eps (`Sequence[float]`): of the norms of hidden state, key and, for "silu_norm", gated vectors.
        kind (`str`): "signed_sqrt" or "sigmoid".
        mixer (`str`): "none" (the gated vectors themselves), "silu_norm" or "conv_residual".
        mixer_weight: of the norm [D], or of the convolution [D, 1, taps], which `dilation` belongs to.
        real (`torch.Tensor` bool [B, T], *optional*): false at padding, where the gate is 0.
        documents (`torch.Tensor` int64 [B, T], *optional*): they cut the taps.
        dtype (`torch.dtype`, *optional*): of the result, `hidden`'s by default; everything is computed in float32.

    Returns:
        `torch.Tensor` [B, T, D]. Differentiable in `hidden`, `key_value` and the weights.
    """
    weights = [*norms] if mixer_weight is None else [*norms, mixer_weight]
    signed_sqrt = {"signed_sqrt": True, "sigmoid": False}[kind]
    mixed, _ = _gate_and_mix(
        hidden, list(key_value), weights, list(eps), signed_sqrt, mixer, dilation, real, documents,
        hidden.dtype if dtype is None else dtype,
    )  # fmt: skip
    return mixed


@torch.library.custom_op(f"{NAMESPACE}::gate_and_mix", mutates_args=())
@run_beside_tensors
def _gate_and_mix(
    hidden: torch.Tensor,
    key_value: list[torch.Tensor],
    weights: list[torch.Tensor],
    eps: list[float],
    signed_sqrt: bool,
    mixer: str,
    dilation: int,
    real: torch.Tensor | None,
    documents: torch.Tensor | None,
    dtype: torch.dtype,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The residual, and of every position g, s, r_x, r_k and, of its norm, r_o: float32 [4 or 5, B, T]."""
    B, T, D = hidden.shape
    hidden, (key, value) = evenly_spaced(hidden), _split(key_value)
    weights = [weight.contiguous() for weight in weights]
    out = torch.empty(B, T, D, dtype=dtype, device=hidden.device)
    scores = torch.empty(SCORES[mixer], B, T, dtype=torch.float32, device=hidden.device)
    if out.numel() == 0:
        return out, scores
    columns = min(triton.next_power_of_2(D), 1024)
    rows = ELEMENTS // columns if columns == 1024 else min(ELEMENTS // columns, 32)
    _score_kernel[(triton.cdiv(B * T, rows),)](
        hidden, key, value, *weights[:2], weights[-1], None if real is None else real.contiguous(), scores, out,
        B * T, D, hidden.stride(1), key.stride(1), value.stride(1), *eps[:2], eps[-1],
        SIGNED_SQRT=signed_sqrt, MIXER=MIXERS[mixer], PADDED=real is not None, ROWS=rows, BLOCK_D=columns, num_warps=8,
    )  # fmt: skip
    if mixer == "conv_residual":
        mix_gated(value, scores, weights[2], dilation, documents, out)
    return out, scores


@_gate_and_mix.register_fake
def _(hidden, key_value, weights, eps, signed_sqrt, mixer, dilation, real, documents, dtype):
    B, T, D = hidden.shape
    return hidden.new_empty(B, T, D, dtype=dtype), hidden.new_empty(SCORES[mixer], B, T, dtype=torch.float32)


@torch.library.custom_op(f"{NAMESPACE}::gate_and_mix_backward", mutates_args=())
@run_beside_tensors
def _gate_and_mix_backward(
    gradient: torch.Tensor,
    scores: torch.Tensor,
    hidden: torch.Tensor,
    key_value: list[torch.Tensor],
    weights: list[torch.Tensor],
    eps: list[float],
    signed_sqrt: bool,
    mixer: str,
    dilation: int,
    documents: torch.Tensor | None,
) -> list[torch.Tensor]:
    """Gradients of `hidden`, of `key_value` and of `weights`, one behind the other."""
    B, T, D = hidden.shape
    gradient, hidden, (key, value) = gradient.contiguous(), evenly_spaced(hidden), _split(key_value)
    found = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in (hidden, *key_value, *weights)]
    if hidden.numel() == 0:
        return [x.zero_() for x in found]
    weights = [weight.contiguous() for weight in weights]
    d_hidden, (d_key, d_value), d_weights = found[0], _split(found[1 : 1 + len(key_value)]), found[-len(weights) :]
    back_d = min(triton.next_power_of_2(D), BACK_D)
    programs = B * triton.cdiv(T, BACK_T)
    taps = weights[2].shape[-1] if mixer == "conv_residual" else 0
    more = {"none": 0, "silu_norm": 1, "conv_residual": taps}[mixer]  # rows of the mixer's gradient
    dense = None if documents is None else documents.contiguous()
    d_product = torch.empty(programs, D, dtype=torch.float32, device=hidden.device)
    d_mixed = d_more = d_product  # never read where there is nothing of the kind
    tiles = programs
    if mixer == "conv_residual":
        tiles = B * triton.cdiv(T, MIX_T)
        d_mixed = torch.empty(B, T, D, dtype=torch.float32, device=hidden.device)
    if more:
        d_more = torch.empty(tiles, more, D, dtype=torch.float32, device=hidden.device)
    if mixer == "conv_residual":
        _differentiate_mixed_kernel[(tiles, triton.cdiv(D, MIX_D))](
            gradient, value, scores, weights[2], dense, d_mixed, d_more, T, D, value.stride(1), dilation,
            TAPS=taps, GATED=False, CUT=dense is not None, BLOCK_T=MIX_T, BLOCK_D=MIX_D, num_warps=4,
        )  # fmt: skip
    _differentiate_gated_kernel[(programs,)](
        gradient, hidden, key, value, scores, *weights[:2], weights[-1], dense, d_mixed,
        d_hidden, d_key, d_value, d_product, d_more,
        B * T, T, D, hidden.stride(1), key.stride(1), value.stride(1), d_key.stride(1), d_value.stride(1),
        dilation, eps[-1],
        SIGNED_SQRT=signed_sqrt, MIXER=MIXERS[mixer], TAPS=taps, CUT=dense is not None, BLOCK_T=BACK_T, BLOCK_D=back_d,
        num_warps=4,
    )  # fmt: skip
    _sum_tiles_kernel[(triton.cdiv(D, SUM_D), 1 + more)](
        d_product, d_more, *weights[:2], *d_weights[:2], d_weights[-1], programs, tiles, D,
        MORE=more, BLOCK_P=SUM_P, BLOCK_D=SUM_D, num_warps=4,
    )  # fmt: skip
    return found


@_gate_and_mix_backward.register_fake
def _(gradient, scores, hidden, key_value, weights, eps, signed_sqrt, mixer, dilation, documents):
    return [x.new_empty(x.shape) for x in (hidden, *key_value, *weights)]


def _keep_for_backward(ctx, inputs, output):
    hidden, key_value, weights, eps, signed_sqrt, mixer, dilation, _, documents, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[1], hidden, documents, *key_value, *weights)
    ctx.num_sources, ctx.settings = len(key_value), (eps, signed_sqrt, mixer, dilation)


def _differentiate(ctx, gradient, _):
    if gradient is None:
        return (None,) * 10
    scores, hidden, documents, *rest = ctx.saved_tensors
    key_value, weights = rest[: ctx.num_sources], rest[ctx.num_sources :]
    found = _gate_and_mix_backward(gradient, scores, hidden, key_value, weights, *ctx.settings, documents)
    after = 1 + ctx.num_sources
    return found[0], found[1:after], found[after:], None, None, None, None, None, None, None


_gate_and_mix.register_autograd(_differentiate, setup_context=_keep_for_backward)


def mix_gated(
    value: torch.Tensor,
    gate: torch.Tensor | None,
    weight: torch.Tensor,
    dilation: int,
    documents: torch.Tensor | None,
    out: torch.Tensor,
) -> None:
    """
    Write o + SiLU(c) to `out` [B, T, D], from values [B, T, D], gates ([B, T] in front) and taps [D, 1, taps]; without
    gates, `value` are the gated vectors themselves.
    """
    B, T, D = out.shape
    dense = None if documents is None else documents.contiguous()
    _mix_gated_kernel[(B * triton.cdiv(T, MIX_T), triton.cdiv(D, MIX_D))](
        value, gate, weight, dense, out, T, D, value.stride(1), dilation,
        TAPS=weight.shape[-1], GATED=gate is None, CUT=dense is not None, BLOCK_T=MIX_T, BLOCK_D=MIX_D, num_warps=4,
    )  # fmt: skip


def evenly_spaced(x: torch.Tensor) -> torch.Tensor:
    """x [B, T, D] itself if its B * T rows are dense and equally far apart, as those of a half are, or a copy."""
    if x.stride(2) == 1 and (x.shape[0] == 1 or x.stride(0) == x.shape[1] * x.stride(1)):
        return x
    return x.contiguous()


def _split(key_value: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Key and value, each with equally spaced rows: halves of one tensor, or the two themselves."""
    if len(key_value) == 1:
        key, value = evenly_spaced(key_value[0]).chunk(2, dim=-1)
        return key, value
    return evenly_spaced(key_value[0]), evenly_spaced(key_value[1])


# Positions are counted through all sequences, in 64 bits. In every kernel: D columns, a `stride` between rows; CUT,
# documents count (without, the pointer `documents` is None); TAPS of the convolution; GATED, the values are gated.


@triton.jit
def find_gate(s, SIGNED_SQRT: tl.constexpr):
    """The gate of the scores."""
    if SIGNED_SQRT:
        root = tl.sqrt(tl.maximum(tl.abs(s), FLOOR))
        s = tl.where(s > 0, root, tl.where(s < 0, -root, 0.0))
    return tl.sigmoid(s)


@triton.jit
def find_norm(squares, D, eps):
    """1 / sqrt(mean + eps) of sums of D squares."""
    return 1.0 / tl.sqrt(squares / D + eps)


@triton.jit
def find_score(product, of_hidden, of_key, D):
    """s of sums of w x k."""
    return product * of_hidden * of_key / tl.sqrt(tl.cast(D, tl.float32))


@triton.jit
def load_columns(pointer, c, D, SPACING: tl.constexpr):
    """Every SPACING-th number of a weight, those of columns c: float32."""
    return tl.load(pointer + c * SPACING, mask=c < D, other=0.0).to(tl.float32)


@triton.jit
def load_tile(pointer, row, exists, c, D, stride):
    """Columns c of rows `row`: float32 tile, 0 outside."""
    inside = exists[:, None] & (c < D)[None, :]
    return tl.load(pointer + row[:, None] * stride + c[None, :], mask=inside, other=0.0).to(tl.float32)


@triton.jit
def store_tile(pointer, x, row, exists, c, D, stride):
    inside = exists[:, None] & (c < D)[None, :]
    tl.store(pointer + row[:, None] * stride + c[None, :], x.to(pointer.dtype.element_ty), mask=inside)


@triton.jit
def _score_kernel(
    hidden, key, value, hidden_weight, key_weight, out_weight, real, scores, out,
    N, D, hidden_stride, key_stride, value_stride, hidden_eps, key_eps, out_eps,
    SIGNED_SQRT: tl.constexpr,  # the released gate
    MIXER: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """The scores of ROWS of all N = B * T positions and, unless a convolution follows, their residuals."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    exists = row < N
    of_hidden = tl.zeros([ROWS], tl.float32)
    of_key = tl.zeros([ROWS], tl.float32)
    of_value = tl.zeros([ROWS], tl.float32)
    product = tl.zeros([ROWS], tl.float32)
    for start in range(0, D, BLOCK_D):
        c = start + tl.arange(0, BLOCK_D)
        w = load_columns(hidden_weight, c, D, 1) * load_columns(key_weight, c, D, 1)
        x = load_tile(hidden, row, exists, c, D, hidden_stride)
        k = load_tile(key, row, exists, c, D, key_stride)
        of_hidden += tl.sum(x * x, axis=1)
        of_key += tl.sum(k * k, axis=1)
        product += tl.sum(x * k * w[None, :], axis=1)
        if MIXER == SILU_NORM:
            v = load_tile(value, row, exists, c, D, value_stride)
            of_value += tl.sum(v * v, axis=1)
    of_hidden = find_norm(of_hidden, D, hidden_eps)
    of_key = find_norm(of_key, D, key_eps)
    s = find_score(product, of_hidden, of_key, D)
    gate = find_gate(s, SIGNED_SQRT)
    if PADDED:
        gate = tl.where(tl.load(real + row, mask=exists, other=0) != 0, gate, 0.0)
    plane = tl.cast(N, tl.int64)
    tl.store(scores + row, gate, mask=exists)
    tl.store(scores + plane + row, s, mask=exists)
    tl.store(scores + 2 * plane + row, of_hidden, mask=exists)
    tl.store(scores + 3 * plane + row, of_key, mask=exists)
    if MIXER == SILU_NORM:
        of_out = find_norm(gate * gate * of_value, D, out_eps)
        tl.store(scores + 4 * plane + row, of_out, mask=exists)
    if MIXER != CONV_RESIDUAL:
        for start in range(0, D, BLOCK_D):
            c = start + tl.arange(0, BLOCK_D)
            o = load_tile(value, row, exists, c, D, value_stride) * gate[:, None]
            if MIXER == SILU_NORM:
                o *= of_out[:, None] * load_columns(out_weight, c, D, 1)[None, :]
                o *= tl.sigmoid(o)
            store_tile(out, o, row, exists, c, D, D)


@triton.jit
def _load_gated(value, gate, documents, document, b, t, c, T, D, stride, GATED: tl.constexpr, CUT: tl.constexpr):
    """o at positions t of documents `document`: float32 tile, 0 outside of the sequence or the document."""
    exists = (t >= 0) & (t < T)
    if CUT:
        exists = exists & (tl.load(documents + b * T + t, mask=exists, other=-1) == document)
    o = load_tile(value, b * T + t, exists, c, D, stride)
    if not GATED:
        o *= tl.load(gate + b * T + t, mask=exists, other=0.0)[:, None]
    return o


@triton.jit
def _mix_gated_kernel(
    value, gate, weight, documents, out, T, D, stride, dilation,
    TAPS: tl.constexpr, GATED: tl.constexpr, CUT: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Tile [BLOCK_T, BLOCK_D] of `out`."""
    tiles = tl.cdiv(T, BLOCK_T)
    t = tl.program_id(0) % tiles * BLOCK_T + tl.arange(0, BLOCK_T)
    c = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    b = (tl.program_id(0) // tiles).to(tl.int64)
    document = tl.load(documents + b * T + t, mask=t < T, other=-1) if CUT else 0
    own = _load_gated(value, gate, documents, document, b, t, c, T, D, stride, GATED, CUT)
    mixed = own * load_columns(weight + TAPS - 1, c, D, TAPS)[None, :]
    for back in tl.static_range(1, TAPS):
        o = _load_gated(value, gate, documents, document, b, t - back * dilation, c, T, D, stride, GATED, CUT)
        mixed += o * load_columns(weight + TAPS - 1 - back, c, D, TAPS)[None, :]
    store_tile(out, own + mixed * tl.sigmoid(mixed), b * T + t, t < T, c, D, D)


@triton.jit
def _differentiate_mixed_kernel(
    gradient, value, gate, weight, documents, d_mixed, d_weight, T, D, stride, dilation,
    TAPS: tl.constexpr, GATED: tl.constexpr, CUT: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Tile [BLOCK_T, BLOCK_D] of dc, and its part of the gradient of the taps: of row `program` of `d_weight`."""
    tiles = tl.cdiv(T, BLOCK_T)
    t = tl.program_id(0) % tiles * BLOCK_T + tl.arange(0, BLOCK_T)
    c = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    b = (tl.program_id(0) // tiles).to(tl.int64)
    document = tl.load(documents + b * T + t, mask=t < T, other=-1) if CUT else 0
    mixed = tl.zeros([BLOCK_T, BLOCK_D], tl.float32)
    for back in tl.static_range(0, TAPS):
        o = _load_gated(value, gate, documents, document, b, t - back * dilation, c, T, D, stride, GATED, CUT)
        mixed += o * load_columns(weight + TAPS - 1 - back, c, D, TAPS)[None, :]
    opened = tl.sigmoid(mixed)
    dc = load_tile(gradient, b * T + t, t < T, c, D, D) * opened * (1.0 + mixed * (1.0 - opened))
    store_tile(d_mixed, dc, b * T + t, t < T, c, D, D)
    part = d_weight + tl.program_id(0).to(tl.int64) * TAPS * D + c
    for back in tl.static_range(0, TAPS):
        # The tile is fetched again, from the cache, rather than held for every tap.
        o = _load_gated(value, gate, documents, document, b, t - back * dilation, c, T, D, stride, GATED, CUT)
        tl.store(part + (TAPS - 1 - back) * D, tl.sum(dc * o, axis=0), mask=c < D)


@triton.jit
def _differentiate_gated_kernel(
    gradient, hidden, key, value, scores, hidden_weight, key_weight, out_weight, documents, d_mixed,
    d_hidden, d_key, d_value, d_product, d_more,
    N, T, D, hidden_stride, key_stride, value_stride, d_key_stride, d_value_stride, dilation, out_eps,
    SIGNED_SQRT: tl.constexpr, MIXER: tl.constexpr, TAPS: tl.constexpr, CUT: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """
    Gradients of BLOCK_T positions of one sequence, all columns, BLOCK_D at a time: first of the gates, then of hidden
    states and keys; and their part of the gradient of w and of w_o: row `program` of `d_product` and `d_more`.
    """
    tiles = tl.cdiv(T, BLOCK_T)
    t = tl.program_id(0) % tiles * BLOCK_T + tl.arange(0, BLOCK_T)
    b = (tl.program_id(0) // tiles).to(tl.int64)
    exists = t < T
    row = b * T + t
    plane = tl.cast(N, tl.int64)
    g = tl.load(scores + row, mask=exists, other=0.0)
    s = tl.load(scores + plane + row, mask=exists, other=0.0)
    of_hidden = tl.load(scores + 2 * plane + row, mask=exists, other=0.0)
    of_key = tl.load(scores + 3 * plane + row, mask=exists, other=0.0)
    part = tl.program_id(0).to(tl.int64) * D
    ds = tl.zeros([BLOCK_T], tl.float32)  # dg until the end of the first pass
    if MIXER == SILU_NORM:
        of_out = tl.load(scores + 4 * plane + row, mask=exists, other=0.0)
    if CUT:
        document = tl.load(documents + row, mask=exists, other=-1)
    for start in range(0, D, BLOCK_D):
        c = start + tl.arange(0, BLOCK_D)
        do = load_tile(gradient, row, exists, c, D, D)
        v = load_tile(value, row, exists, c, D, value_stride)
        if MIXER == SILU_NORM:
            normed = v * (g * of_out)[:, None]
            w = load_columns(out_weight, c, D, 1)[None, :]
            opened = tl.sigmoid(normed * w)
            do *= opened * (1.0 + normed * w * (1.0 - opened))
            tl.store(d_more + part + c, tl.sum(do * normed, axis=0), mask=c < D)
            ds += tl.sum(do * w * v, axis=1)
        else:
            if MIXER == CONV_RESIDUAL:
                for back in tl.static_range(0, TAPS):
                    later = t + back * dilation
                    reaches = later < T
                    if CUT:
                        reaches = reaches & (tl.load(documents + b * T + later, mask=reaches, other=-1) == document)
                    dc = load_tile(d_mixed, b * T + later, reaches, c, D, D)
                    do += dc * load_columns(out_weight + TAPS - 1 - back, c, D, TAPS)[None, :]
            store_tile(d_value, do * g[:, None], row, exists, c, D, d_value_stride)
            ds += tl.sum(do * v, axis=1)
    if MIXER == SILU_NORM:
        cubed = of_out * of_out * of_out
        along_out = cubed * g * ds / D
        ds *= cubed * out_eps
    if SIGNED_SQRT:  # flat below the floor
        ds *= tl.where(tl.abs(s) >= FLOOR, 0.5 / tl.sqrt(tl.maximum(tl.abs(s), FLOOR)), 0.0)
    ds *= g * (1.0 - g)  # 0 at padding
    of_product = find_score(ds, of_hidden, of_key, D)
    along_hidden = ds * s * of_hidden * of_hidden / D
    along_key = ds * s * of_key * of_key / D
    for start in range(0, D, BLOCK_D):
        c = start + tl.arange(0, BLOCK_D)
        w = load_columns(hidden_weight, c, D, 1) * load_columns(key_weight, c, D, 1)
        x = load_tile(hidden, row, exists, c, D, hidden_stride)
        k = load_tile(key, row, exists, c, D, key_stride)
        dx = of_product[:, None] * w[None, :] * k - along_hidden[:, None] * x
        store_tile(d_hidden, dx, row, exists, c, D, D)
        dk = of_product[:, None] * w[None, :] * x - along_key[:, None] * k
        store_tile(d_key, dk, row, exists, c, D, d_key_stride)
        tl.store(d_product + part + c, tl.sum(of_product[:, None] * x * k, axis=0), mask=c < D)
        if MIXER == SILU_NORM:
            do = load_tile(gradient, row, exists, c, D, D)
            v = load_tile(value, row, exists, c, D, value_stride)
            w = load_columns(out_weight, c, D, 1)
            y = v * (g * of_out)[:, None] * w[None, :]
            opened = tl.sigmoid(y)
            do *= opened * (1.0 + y * (1.0 - opened)) * w[None, :]
            dv = g[:, None] * (of_out[:, None] * do - along_out[:, None] * g[:, None] * v)
            store_tile(d_value, dv, row, exists, c, D, d_value_stride)


@triton.jit
def _sum_tiles_kernel(
    d_product, d_more, hidden_weight, key_weight, d_hidden_weight, d_key_weight, d_out_weight,
    programs, tiles, D, MORE: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Columns [BLOCK_D] of the gradients of both norms, or of one of MORE numbers a column that the mixer has."""
    c = tl.program_id(0) * BLOCK_D + tl.arange(0, BLOCK_D)
    p = tl.arange(0, BLOCK_P).to(tl.int64)
    total = tl.zeros([BLOCK_D], tl.float32)
    if tl.program_id(1) == 0:
        for start in range(0, programs, BLOCK_P):
            total += tl.sum(load_tile(d_product, start + p, start + p < programs, c, D, D), axis=0)
        of_hidden = total * load_columns(key_weight, c, D, 1)
        tl.store(d_hidden_weight + c, of_hidden.to(d_hidden_weight.dtype.element_ty), mask=c < D)
        of_key = total * load_columns(hidden_weight, c, D, 1)
        tl.store(d_key_weight + c, of_key.to(d_key_weight.dtype.element_ty), mask=c < D)
    else:
        which = tl.program_id(1) - 1
        for begin in range(0, tiles, BLOCK_P):  # by another name: it may be wider than the number above
            x = load_tile(d_more + which * D, begin + p, begin + p < tiles, c, D, MORE * D)
            total += tl.sum(x, axis=0)
        tl.store(d_out_weight + c * MORE + which, total.to(d_out_weight.dtype.element_ty), mask=c < D)


__all__ = ["evenly_spaced", "gate_and_mix", "mix_gated"]
