"""The residual of evaluation on the GPU, from projected tables, against the definition in float64.

On a GPU by `pytest -m gpu`; without one under Triton's interpreter, as `test_triton_kernels.py`.
"""

import pytest
import torch
import torch.nn.functional as F
from kernel_comparison import DEVICE, INTERPRETED, assert_near, make_documents, make_letters, make_weights
from kernel_launches import record_launches

if not INTERPRETED:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device (test_triton_interpreter.py runs it without)", allow_module_level=True)
    pytestmark = pytest.mark.gpu
pytest.importorskip("triton")

# Only now that triton may be imported.
from gengram.gengram import triton_gate_window
from gengram.gengram.kmer_index import KmerWindow
from gengram.gengram.memory_ops import convolve_causal, gate_scores, pool_by_definition
from gengram.gengram.triton_gate_window import gate_window
from gengram.gengram.triton_index import describe_window, find_reads
from gengram.gengram.triton_tables import project_tables

MIXERS = ["none", "silu_norm", "conv_residual"]
EPS = [1e-5, 1e-3, 1e-4]
DILATION, TAPS = 6, 4
# Rows are rounded once when they are projected and once when they are merged, gated vectors once.
ALLOWED = {torch.float32: 1e-6, torch.float16: 4e-3, torch.bfloat16: 2e-2}


class Case:
    """A memory's numbers in a dtype, as the operator takes them, and its residual by the definition in float64."""

    def __init__(self, window, mixer, B, S, H, D, dtype, packed=False, padded=False, biased=False, E=5):
        K, T = len(window.kmer_sizes), S - H
        self.window, self.mixer, self.history = window, mixer, H
        self.letters, self.documents = make_letters(B, S), make_documents(B, S) if packed else None
        self.real = None
        if padded:
            self.real = torch.ones(B, T, dtype=torch.bool, device=DEVICE)
            self.real[0, : T // 4] = False
        shapes = [(5**k, E) for k in window.kmer_sizes] + [(D, K * E)] * 2 + [(B, T, D), (D,), (D,), (2 * D,)]
        if mixer != "none":
            shapes.append((D,) if mixer == "silu_norm" else (D, 1, TAPS))
        rounded, exact = make_weights(shapes, dtype)
        self.rounded, self.exact = ([x.detach() for x in tensors] for tensors in (rounded, exact))
        if not biased:
            self.exact[K + 5].zero_()
        self.biased = biased

    def arguments(self, tensors):
        """tables, projections, hidden, norms, bias, weight of the mixer."""
        K = len(self.window.kmer_sizes)
        tables, weights, (hidden, *norms, bias) = tensors[:K], tensors[K : K + 2], tensors[K + 2 : K + 6]
        return tables, weights, hidden, norms, bias, None if self.mixer == "none" else tensors[-1]

    def project(self):
        tables, weights, *_ = self.arguments(self.rounded)
        return project_tables(tables, *weights, self.window)

    def run(self, kind="signed_sqrt", narrow=0, dtype=None):
        """`narrow`: leave out so many positions at the front, as a piece of a longer sequence does."""
        _, _, hidden, norms, bias, weight = self.arguments(self.rounded)
        reads = find_reads(self.letters, self.window, self.documents)
        if narrow:
            reads = reads.narrow(narrow, self.letters.shape[1])
            hidden = hidden[:, max(narrow - self.history, 0) :]
        real = None if self.real is None else self.real[:, -hidden.shape[1] :]
        return gate_window(
            hidden, self.project(), bias.chunk(2) if self.biased else [], reads, self.window, norms, EPS, kind,
            self.mixer, weight, DILATION, real, dtype,
        )  # fmt: skip

    def define(self, kind="signed_sqrt"):
        tables, weights, hidden, norms, bias, weight = self.arguments(self.exact)
        D = hidden.shape[-1]
        pooled = pool_by_definition(tables, self.letters, self.window, self.documents)[:, self.history :]
        key, value = (pooled @ torch.cat(weights).T + bias).chunk(2, dim=-1)
        query, key = F.rms_norm(hidden, (D,), norms[0], EPS[0]), F.rms_norm(key, (D,), norms[1], EPS[1])
        gate = gate_scores(query, key, kind)
        gated = (gate if self.real is None else gate * self.real[..., None]) * value
        if self.mixer == "silu_norm":
            return F.silu(F.rms_norm(gated, (D,), weight, EPS[2]))
        if self.mixer == "conv_residual":
            documents = None if self.documents is None else self.documents[:, self.history :]
            return gated + F.silu(convolve_causal(gated, weight, DILATION, documents))
        return gated


RELEASED = KmerWindow((1, 2), 9, 0, False, False)
PAPER = KmerWindow((1, 2), 7, 1, True, False)


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize(
    "window, kind",
    [
        pytest.param(RELEASED, "signed_sqrt", id="released"),
        pytest.param(PAPER, "sigmoid", id="paper"),
        pytest.param(KmerWindow((1, 2), 6, -2, False, True), "sigmoid", id="tied-centred"),
        pytest.param(KmerWindow((2,), None, 0, False, False), "signed_sqrt", id="no-window"),
    ],
)
def test_window_gate_and_mixer(window, kind, mixer):
    """History, padding, documents, N and biases at once."""
    case = Case(window, mixer, 2, 100, 7, 40, torch.float32, packed=True, padded=True, biased=True)
    assert_near(case.run(kind), case.define(kind), ALLOWED[torch.float32])


@pytest.mark.parametrize("T", [1, 19, 20, 21, 63, 64, 65])
@pytest.mark.parametrize(
    "window, mixer", [(RELEASED, "conv_residual"), (PAPER, "silu_norm")], ids=["released", "paper"]
)
def test_lengths_around_a_window_and_a_tile(window, mixer, T):
    case = Case(window, mixer, 1, T, 0, 24, torch.float32)
    assert_near(case.run(), case.define(), ALLOWED[torch.float32])


@pytest.mark.parametrize("dtype, D", [(torch.bfloat16, 150), (torch.float16, 7)], ids=str)
@pytest.mark.parametrize(
    "window, mixer", [(RELEASED, "conv_residual"), (PAPER, "silu_norm")], ids=["released", "paper"]
)
def test_half_precision_and_any_width(window, mixer, dtype, D):
    case = Case(window, mixer, 1, 70, 0, D, dtype)
    found = case.run("sigmoid")
    assert found.dtype == dtype
    assert_near(found, case.define("sigmoid"), ALLOWED[dtype])


def test_a_piece_of_a_sequence_gives_the_same_numbers():
    """Indices of a longer sequence, narrowed: their rows lie apart."""
    case = Case(RELEASED, "none", 2, 90, 0, 24, torch.float32, packed=True)
    whole = case.run()
    assert_near(case.run(narrow=30)[:, 20:], whole[:, 50:].double(), 1e-6)


def test_gated_vectors_in_another_dtype():
    case = Case(RELEASED, "none", 1, 30, 0, 24, torch.bfloat16)
    assert case.run(dtype=torch.float32).dtype == torch.float32


@pytest.mark.parametrize("mixer, most", [("none", 2), ("silu_norm", 3), ("conv_residual", 3)])
def test_launches_and_bits(mixer, most):
    """Three launches beside those of the index; the same bits every time."""
    case = Case(RELEASED, mixer, 1, 70, 0, 24, torch.float32)
    with record_launches() as before:  # tables are kept, and the index serves all memories
        find_reads(case.letters, case.window, case.documents)
        case.project()
    with record_launches() as launches:
        first = case.run()
    assert len(launches) - len(before) == most
    assert torch.equal(first, case.run())


def test_nothing_in_nothing_out():
    case = Case(RELEASED, "conv_residual", 1, 9, 9, 8, torch.float32)
    assert case.run().shape == (1, 0, 8)


@pytest.mark.parametrize("mixer", MIXERS)
def test_operator_keeps_its_promises_to_the_compiler(mixer):
    case = Case(RELEASED, mixer, 2, 12, 2, 8, torch.float32, packed=True, padded=True, biased=True)
    _, _, hidden, norms, bias, weight = case.arguments(case.rounded)
    reads = find_reads(case.letters, case.window, case.documents)
    weights = norms if weight is None else [*norms, weight]
    torch.library.opcheck(
        triton_gate_window._gate_window,
        (
            hidden, case.project(), [*bias.chunk(2)], *reads.tensors()[:4], describe_window(case.window), weights, EPS,
            True, mixer, DILATION, case.real, torch.float32,
        ),
        test_utils=("test_schema", "test_faketensor"),
    )  # fmt: skip
