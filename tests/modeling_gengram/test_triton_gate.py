"""Gate and mixer on the GPU against their definition in float64: residuals and every gradient.

On a GPU by `pytest -m gpu`; without one under Triton's interpreter, as `test_triton_kernels.py`.
"""

import pytest
import torch
import torch.nn.functional as F
from kernel_comparison import ALLOWED, DEVICE, INTERPRETED, assert_near, make_documents, make_weights
from kernel_launches import record_launches

if not INTERPRETED:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device (test_triton_interpreter.py runs it without)", allow_module_level=True)
    pytestmark = pytest.mark.gpu
pytest.importorskip("triton")

# Only now that triton may be imported.
from gengram.gengram import triton_gate
from gengram.gengram.memory_ops import convolve_causal, gate_scores
from gengram.gengram.triton_gate import gate_and_mix

MIXERS = ["none", "silu_norm", "conv_residual"]
EPS = [1e-5, 1e-3, 1e-4]


def define(hidden, key_value, norms, kind, mixer, weight, dilation, real, documents):
    """The formulas of `docs/memory.md`."""
    D = hidden.shape[-1]
    key, value = key_value[0].chunk(2, dim=-1) if len(key_value) == 1 else key_value
    query = F.rms_norm(hidden, (D,), norms[0], EPS[0])
    gate = gate_scores(query, F.rms_norm(key, (D,), norms[1], EPS[1]), kind)
    gated = (gate if real is None else gate * real[..., None]) * value
    if mixer == "silu_norm":
        return F.silu(F.rms_norm(gated, (D,), weight, EPS[2]))
    if mixer == "conv_residual":
        return gated + F.silu(convolve_causal(gated, weight, dilation, documents))
    return gated


def make_case(B, T, D, taps, mixer, dtype, together=True):
    """Leaves of an input, in the order of `gather`, and the same in float64."""
    shapes = [(B, T, D), *([(B, T, 2 * D)] if together else [(B, T, D)] * 2), (D,), (D,)]
    if mixer != "none":
        shapes.append((D,) if mixer == "silu_norm" else (D, 1, taps))
    return make_weights(shapes, dtype)


def gather(leaves, mixer):
    """hidden, key_value, norms, weight of the mixer."""
    hidden, *key_value = leaves
    weight = None if mixer == "none" else key_value.pop()
    norms = [key_value.pop(-2), key_value.pop()]
    return hidden, key_value, norms, weight


CASES = [
    # B, T, D, taps, dilation, padded, packed, dtype, key and value together
    pytest.param(2, 40, 24, 4, 6, True, True, torch.float32, True, id="everything"),
    pytest.param(2, 65, 7, 3, 2, False, False, torch.float32, True, id="odd-width"),
    pytest.param(1, 70, 40, 4, 6, False, True, torch.float32, False, id="apart"),
    pytest.param(1, 3, 1100, 2, 1, True, False, torch.bfloat16, True, id="wide-bfloat16"),
    pytest.param(2, 19, 40, 1, 1, True, True, torch.float16, False, id="one-tap-float16"),
    pytest.param(3, 1, 1, 4, 1, False, False, torch.float32, True, id="ones"),
]


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("kind", ["signed_sqrt", "sigmoid"])
@pytest.mark.parametrize("B, T, D, taps, dilation, padded, packed, dtype, together", CASES)
def test_gate_and_mixer(B, T, D, taps, dilation, padded, packed, dtype, together, kind, mixer):
    leaves, exact_leaves = make_case(B, T, D, taps, mixer, dtype, together)
    documents = make_documents(B, T) if packed else None
    real = None
    if padded:
        real = torch.ones(B, T, dtype=torch.bool, device=DEVICE)
        real[0, : T // 3] = False
    hidden, key_value, norms, weight = gather(leaves, mixer)
    ours = gate_and_mix(hidden, key_value, norms, EPS, kind, mixer, weight, dilation, real, documents)
    hidden, key_value, norms, weight = gather(exact_leaves, mixer)
    exact = define(hidden, key_value, norms, kind, mixer, weight, dilation, real, documents)
    assert ours.dtype == dtype
    assert_near(ours, exact, ALLOWED[dtype])
    cotangent = torch.randn(B, T, D, generator=torch.Generator().manual_seed(3)).to(DEVICE, dtype)
    found = torch.autograd.grad(ours, leaves, cotangent)
    expected = torch.autograd.grad(exact, exact_leaves, cotangent.double())
    # The slope of the signed root is unbounded near 0, so a score's last digit shows there.
    allowed = max(ALLOWED[dtype], 1e-4 if kind == "signed_sqrt" else 5e-6)
    for i, (gradient, wanted) in enumerate(zip(found, expected)):
        assert gradient.dtype == dtype
        if D == 1 and i in (0, 1):  # a normalised vector of one number is a sign: its gradient is a rounding error
            continue
        assert_near(gradient, wanted, allowed)


def test_rows_lie_apart_and_sums_are_rounded_once():
    """Slices of longer tensors, and gated vectors in float32 of inputs in half precision."""
    (states, key_value, *norms), exact = make_weights([(2, 9, 24), (2, 9, 48), (24,), (24,)], torch.bfloat16)
    ours = gate_and_mix(states[:, 2:], [key_value[:, 2:]], norms, EPS[:2], "sigmoid", dtype=torch.float32)
    assert ours.dtype == torch.float32
    assert_near(ours, define(exact[0], [exact[1]], exact[2:], "sigmoid", "none", None, 1, None, None)[:, 2:], 1e-6)


@pytest.mark.parametrize("kind", ["signed_sqrt", "sigmoid"])
def test_gate_of_nothing_is_a_half_and_has_no_slope(kind):
    zeros = [torch.zeros(1, 2, 8, device=DEVICE, requires_grad=True) for _ in range(2)]
    norm, value = torch.ones(8, device=DEVICE), torch.ones(1, 2, 8, device=DEVICE)
    gated = gate_and_mix(zeros[0], [zeros[1], value], [norm, norm], EPS, kind)
    assert torch.equal(gated, torch.full((1, 2, 8), 0.5, device=DEVICE))
    for gradient in torch.autograd.grad(gated.sum(), zeros):
        assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("mixer", MIXERS)
def test_padding_is_silent_whatever_stands_there(mixer):
    """Infinite states at padding reach no other position."""
    leaves, _ = make_case(1, 9, 8, 3, mixer, torch.float32)
    hidden, key_value, norms, weight = gather(leaves, mixer)
    real = torch.ones(1, 9, dtype=torch.bool, device=DEVICE)
    real[0, :2] = False
    found = []
    for at_padding in (float("inf"), 0.0):
        states = hidden.detach().masked_fill(~real[..., None], at_padding)
        found.append(gate_and_mix(states, key_value, norms, EPS, "sigmoid", mixer, weight, 2, real))
    assert not found[0][~real].any()
    assert torch.equal(*found)


@pytest.mark.parametrize("shape", [(0, 4, 8), (2, 0, 8)], ids=str)
def test_nothing_in_nothing_out(shape):
    hidden = torch.zeros(shape, device=DEVICE, requires_grad=True)
    weights = [torch.ones(8, device=DEVICE, requires_grad=True) for _ in range(2)]
    taps = torch.ones(8, 1, 3, device=DEVICE, requires_grad=True)
    out = gate_and_mix(hidden, [hidden, hidden], weights, EPS, "sigmoid", "conv_residual", taps)
    assert out.shape == shape
    assert not any(gradient.any() for gradient in torch.autograd.grad(out.sum(), [hidden, *weights, taps]))


@pytest.mark.parametrize("mixer, forward, backward", [("none", 1, 2), ("silu_norm", 1, 2), ("conv_residual", 2, 3)])
def test_launches_and_bits(mixer, forward, backward):
    """Few launches, and the same bits every time: sums over positions have a fixed order."""
    leaves, _ = make_case(2, 70, 24, 4, mixer, torch.float32)
    hidden, key_value, norms, weight = gather(leaves, mixer)
    cotangent, runs = torch.randn(2, 70, 24, device=DEVICE), []
    for _ in range(2):
        with record_launches() as launches:
            out = gate_and_mix(hidden, key_value, norms, EPS, "signed_sqrt", mixer, weight, 6)
        assert len(launches) == forward
        with record_launches() as launches:
            runs.append([out, *torch.autograd.grad(out, leaves, cotangent)])
        assert len(launches) == backward
    assert all(torch.equal(a, b) for a, b in zip(*runs))


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("together", [True, False])
def test_operator_keeps_its_promises_to_the_compiler(mixer, together):
    """Schema, fake kernels (shapes, dtypes, strides) and gradients, as `torch.library.opcheck` examines them."""
    leaves, _ = make_case(2, 5, 8, 3, mixer, torch.float32, together)
    hidden, key_value, norms, weight = gather(leaves, mixer)
    weights, documents = norms if weight is None else [*norms, weight], make_documents(2, 5)
    real = torch.ones(2, 5, dtype=torch.bool, device=DEVICE)
    torch.library.opcheck(
        triton_gate._gate_and_mix,
        (hidden, key_value, weights, EPS, True, mixer, 2, real, documents, torch.float32),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_static"),
    )


def test_operator_compiles_without_a_graph_break():
    leaves, _ = make_case(1, 30, 8, 4, "conv_residual", torch.float32)
    hidden, key_value, norms, weight = gather(leaves, "conv_residual")

    def run():
        return gate_and_mix(hidden, key_value, norms, EPS, "signed_sqrt", "conv_residual", weight, 2).square().sum()

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    found, wanted = (torch.autograd.grad(call(), leaves) for call in (compiled, run))
    assert all(torch.equal(a, b) for a, b in zip(found, wanted))
