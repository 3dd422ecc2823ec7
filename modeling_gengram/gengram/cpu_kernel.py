"""The merged memory on a CPU as one compiled pass of `cpu_kernel.cpp`: its call and its gradients."""

import ctypes
import functools
import weakref
from dataclasses import dataclass

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.function import once_differentiable

from .cpu_library import count_threads, find_function
from .kmer_index import KmerContext, KmerWindow
from .merged_tables import MergedTables

STRIP_BYTES = 128  # a strip of columns, in `cpu_kernel.cpp`

# fmt: off
_INTEGERS = [
    "B", "S", "T", "D", "num_sizes", "window", "first_lag", "taps", "dilation", "kept", "signed_sqrt", "threads",
]
_POINTERS = [
    "sizes", "letters", "documents", "real", "places", "starts", "rest_of", "rest", "rows", "bias", "hidden",
    "norm_q", "norm_k", "conv", "past", "output", "gated", "key_value",
]
_BACKWARD_POINTERS = ["grad_output", "grad_hidden", "grad_rows", "grad_shared", "strips"]
# fmt: on
_DIFFERENTIABLE = ["hidden", "rows", "bias", "norm_q", "norm_k", "conv"]


class _Call(ctypes.Structure):
    """`Call` of `cpu_kernel.cpp`, field by field."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in _INTEGERS),
        ("eps", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in _POINTERS),
        ("num_rows", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in _BACKWARD_POINTERS),
    ]


@dataclass(frozen=True)
class Gating:
    """
    What the kernel does besides reading rows, and what it does not differentiate.

    Args:
        window (`KmerWindow`), context (`KmerContext`), merged (`MergedTables`).
        kind (`str`): gate, as in `gate_scores`; eps (`float`): of both norms.
        dilation (`int`): of the convolution.
        past (`torch.Tensor` [B, (taps - 1) * dilation, D], *optional*): gated vectors of earlier positions.
        kept (`int`): return the gated vectors of the last so many positions.
        rest (pair of `torch.Tensor`, *optional*): int32 [B, T] and [N, 2D], keys and values of positions that the
            merged tables do not serve: row of each position, or -1.
    """

    window: KmerWindow
    context: KmerContext
    merged: MergedTables
    kind: str
    eps: float
    dilation: int = 1
    past: torch.Tensor | None = None
    kept: int = 0
    rest: tuple[torch.Tensor, torch.Tensor] | None = None


def run_fused(
    gating: Gating,
    hidden: torch.Tensor,
    rows: torch.Tensor,
    bias: torch.Tensor | None,
    norm_q: torch.Tensor,
    norm_k: torch.Tensor,
    conv: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Read, gate and mix: `read_merged`, `gate_scores` and `convolve_causal` with its SiLU, differentiable in every
    tensor argument (not twice, and not together with `past`).

    Args:
        gating (`Gating`), hidden (`torch.Tensor` [B, T, D]), rows (`torch.Tensor` [R, 2D]), bias (`torch.Tensor`
        [2D], *optional*), norm_q, norm_k (`torch.Tensor` [D]), conv (`torch.Tensor` [taps, D], *optional*): all of
        one dtype, float32 or float64, on the CPU.

    Returns:
        residual (`torch.Tensor` [B, T, D]) and gated vectors (`torch.Tensor` [B, kept, D]).
    """
    tensors = dict(zip(_DIFFERENTIABLE, (hidden, rows, bias, norm_q, norm_k, conv)))
    if torch.is_grad_enabled():
        return _Fused.apply(gating, *tensors.values())
    return _compute(gating, tensors)


def _compute(gating: Gating, tensors: dict[str, torch.Tensor | None]) -> tuple[torch.Tensor, torch.Tensor]:
    hidden = tensors["hidden"]
    assert hidden is not None
    B, T, D = hidden.shape
    output, gated = hidden.new_empty(B, T, D), hidden.new_empty(B, min(gating.kept, T), D)
    _run("forward", gating, tensors, output=output, gated=gated)
    return output, gated


def read_fused(gating: Gating, rows: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Key and value as the kernel computes them (`torch.Tensor` [B, T, 2D]), without gradients."""
    letters = gating.context.letters
    B, T = letters.shape[0], letters.shape[1] - gating.context.history
    D = rows.shape[1] // 2
    hidden, ones = rows.new_zeros(B, T, D), rows.new_ones(D)
    key_value = rows.new_empty(B, T, 2 * D)
    tensors = dict(zip(_DIFFERENTIABLE, (hidden, rows, bias, ones, ones, None)))
    _run("forward", gating, tensors, output=torch.empty_like(hidden), key_value=key_value)
    return key_value


def _run(direction: str, gating: Gating, tensors: dict[str, torch.Tensor | None], **results) -> None:
    context, hidden = gating.context, tensors["hidden"]
    assert hidden is not None
    if isinstance(hidden, FakeTensor):  # There are no numbers: somebody asks for the sizes of the results.
        return
    call, kept = _begin_call(gating, {name: tensor for name, tensor in tensors.items() if name != "hidden"})
    call.B, call.T, _ = hidden.shape
    call.S, call.kept, call.threads = context.letters.shape[1], min(gating.kept, call.T), count_threads(hidden)
    positions = {
        "letters": context.letters,
        "documents": context.documents,
        "real": context.real,
        "past": gating.past,
        **dict(zip(("rest_of", "rest"), gating.rest or ())),
        "hidden": hidden,
        **results,
    }
    kept += _point(call, positions)
    find_function(direction, hidden.dtype)(ctypes.byref(call))


def _begin_call(gating: Gating, weights: dict[str, torch.Tensor | None]) -> tuple[_Call, list[torch.Tensor]]:
    """A call without its positions, and the tensors that must live as long as it does."""
    window, merged, conv = gating.window, gating.merged, weights["conv"]
    assert merged.places.dtype == torch.int32
    call = _Call(
        D=merged.rows.shape[1] // 2, num_sizes=len(window.kmer_sizes), window=window.size, first_lag=window.first_lag,
        taps=0 if conv is None else len(conv), dilation=gating.dilation, signed_sqrt=gating.kind == "signed_sqrt",
        eps=gating.eps, num_rows=len(merged.rows),
    )  # fmt: skip
    tables = {"sizes": _list_sizes(window), "places": merged.places, "starts": merged.starts}
    return call, _point(call, {**tables, **weights})


def _point(call: _Call, tensors: dict[str, torch.Tensor | None]) -> list[torch.Tensor]:
    """Fill pointers in; the tensors that they point to, whose floats must be of one kind."""
    given = {name: tensor.contiguous() for name, tensor in tensors.items() if tensor is not None}
    assert len({tensor.dtype for tensor in given.values() if tensor.is_floating_point()}) <= 1, "mixed precision"
    for name, tensor in given.items():
        setattr(call, name, tensor.data_ptr())
    return list(given.values())


class FusedStep:
    """
    `run_fused` for the steps of one generation: tables, norms and convolution are looked up once, so that a step of one
    base costs little more than its 17 rows. It serves the weights that it was made of, as the keys and values of
    attention in the same cache do.

    Args:
        gating (`Gating`): of the first call; only its context, `past` and `rest` do not matter.
        rows, bias, norm_q, norm_k, conv: as in `run_fused`.

    Attributes:
        history (`int`): positions before the first whose gated vectors it asks for.
        dtype (`torch.dtype`): of all its tensors.
    """

    def __init__(
        self,
        gating: Gating,
        rows: torch.Tensor,
        bias: torch.Tensor | None,
        norm_q: torch.Tensor,
        norm_k: torch.Tensor,
        conv: torch.Tensor,
    ):
        self.history = (len(conv) - 1) * gating.dilation
        weights = dict(zip(_DIFFERENTIABLE[1:], (rows, bias, norm_q, norm_k, conv)))
        # Detached: a parameter that is given other data keeps its old ones alive here.
        weights = {name: None if tensor is None else tensor.detach() for name, tensor in weights.items()}
        self._call, self._weights = _begin_call(gating, weights)
        self.dtype = rows.dtype
        self._run = find_function("forward", rows.dtype)
        self._kept = gating.kept
        self._num_letters = gating.merged.num_letters

    def serves(self, context: KmerContext) -> bool:
        """Whether every row is there, N included, and all positions are of one document."""
        return context.documents is None and int(context.letters.max()) < self._num_letters

    def __call__(
        self, hidden: torch.Tensor, context: KmerContext, past: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            hidden (`torch.Tensor` [B, T, D]), context (`KmerContext`), past (`torch.Tensor`, *optional*): as in
            `run_fused` and `Gating`.

        Returns:
            residual (`torch.Tensor` [B, T, D]) and gated vectors (`torch.Tensor` [B, kept, D]).
        """
        call, (B, T, D) = self._call, hidden.shape
        kept = min(self._kept, T)
        hidden, letters = hidden.contiguous(), context.letters.contiguous()
        output, gated = hidden.new_empty(B, T, D), hidden.new_empty(B, kept, D)
        call.B, call.S, call.T, call.kept, call.threads = B, letters.shape[1], T, kept, count_threads(hidden)
        call.letters, call.hidden = letters.data_ptr(), hidden.data_ptr()
        call.output, call.gated = output.data_ptr(), gated.data_ptr()
        past = None if past is None else past.contiguous()
        real = None if context.real is None else context.real.contiguous()
        call.past = None if past is None else past.data_ptr()
        call.real = None if real is None else real.data_ptr()
        self._run(ctypes.byref(call))
        return output, gated


class KeptSteps(weakref.WeakKeyDictionary):
    """
    The `FusedStep` of one memory for each cache that goes on, as long as there is that cache, which itself holds no
    weights. Copies and pickles of a model leave them behind.
    """

    def __deepcopy__(self, memo) -> "KeptSteps":
        return KeptSteps()

    def __reduce__(self):
        return KeptSteps, ()


@functools.cache
def _list_sizes(window: KmerWindow) -> torch.Tensor:
    return torch.tensor(sorted(window.kmer_sizes))


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx, gating: Gating, *tensors: torch.Tensor | None):
        output, gated = _compute(gating, dict(zip(_DIFFERENTIABLE, tensors)))
        ctx.gating = gating
        ctx.save_for_backward(*tensors)
        ctx.mark_non_differentiable(gated)
        return output, gated

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: torch.Tensor, _):
        named = dict(zip(_DIFFERENTIABLE, ctx.saved_tensors))
        hidden, rows, conv = named["hidden"], named["rows"], named["conv"]
        B, T, D = hidden.shape
        taps = 0 if conv is None else len(conv)
        strip = STRIP_BYTES // hidden.element_size()
        shared = hidden.new_zeros(count_threads(hidden), 4 + taps, D)
        grad_hidden = torch.empty_like(hidden, memory_format=torch.contiguous_format)
        grad_rows = torch.empty_like(rows) if ctx.needs_input_grad[2] else None
        _run(
            "backward", ctx.gating, named, grad_output=grad_output, grad_hidden=grad_hidden, grad_rows=grad_rows,
            grad_shared=shared, strips=hidden.new_empty(-(-2 * D // strip), B * T, strip),
        )  # fmt: skip
        summed = shared.sum(0)
        bias = None if named["bias"] is None else summed[:2].flatten()
        return None, grad_hidden, grad_rows, bias, summed[2], summed[3], None if conv is None else summed[4:]


__all__ = ["FusedStep", "Gating", "KeptSteps", "read_fused", "run_fused"]
