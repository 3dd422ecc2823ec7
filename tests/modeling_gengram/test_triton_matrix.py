"""Both forms of the memory for a GPU against the definition in float64: lengths, widths and switches, every gradient.

Whole memories, as a model calls them; parts alone are in `test_triton_kernels.py` and `test_triton_gate.py`. Run by
`test_triton_interpreter.py`, or on a GPU by `pytest -m gpu`.
"""

import pytest
import torch
from kernel_comparison import ALLOWED, DEVICE, INTERPRETED, assert_near, make_letters
from transformers import LlamaConfig

if not INTERPRETED:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device (test_triton_interpreter.py runs it without)", allow_module_level=True)
    pytestmark = pytest.mark.gpu
pytest.importorskip("triton")

from gengram import GengramConfig, MotifMemory
from gengram.gengram.kmer_index import KmerContext

D, E = 40, 24
SETTINGS = {
    "released": {},
    "paper": {"memory_preset": "paper"},
    "centred": {"center_window": True},
    "centred-set-tied": {"center_window": True, "deduplicate": True, "tie_reverse_complement": True},
    "tied": {"tie_reverse_complement": True},
}
LENGTHS = (1, 19, 20, 21, 63, 64, 65, 200)


def make_memory(dtype: torch.dtype, sizes: list[int], **fields) -> MotifMemory:
    torch.manual_seed(0)
    backbone = LlamaConfig(hidden_size=D, num_attention_heads=1, num_hidden_layers=1, vocab_size=16)
    fields = {"memory_dim": E, "kmer_sizes": sizes, "window_size": 21, **fields}
    memory = MotifMemory(GengramConfig(backbone_config=backbone, memory_layers=[0], **fields))
    return memory.to(DEVICE, dtype)


def compare(form: str, T: int, sizes: list[int], dtype: torch.dtype, B: int = 2, gradients: bool = True, **fields):
    """With documents and padding, N, runs of one letter and tokens that are no base."""
    memory, exact = make_memory(dtype, sizes, **fields), make_memory(torch.float64, sizes, **fields)
    exact.load_state_dict({name: tensor.double() for name, tensor in memory.state_dict().items()})
    memory.path, exact.path = form, "definition"
    real = torch.ones(B, T, dtype=torch.bool, device=DEVICE)
    real[0, : T // 6] = False
    documents = torch.arange(T, device=DEVICE).div(50, rounding_mode="floor").repeat(B, 1)
    context = KmerContext(make_letters(B, T).masked_fill(~real, -1), documents, real)
    hidden = torch.randn(B, T, D, device=DEVICE).to(dtype).requires_grad_()
    exact_hidden = hidden.detach().double().requires_grad_()
    with torch.no_grad():
        evaluated = memory.eval()(hidden, context)
        wanted = exact.eval()(exact_hidden, context)
    assert_near(evaluated, wanted, max(ALLOWED[dtype], 2e-6))
    assert not evaluated[~real].any() or "conv" in str(memory.mixer)
    if not gradients:
        return
    ours, expected = memory.train()(hidden, context), exact.train()(exact_hidden, context)
    assert_near(ours, expected, max(ALLOWED[dtype], 2e-6))
    cotangent = torch.randn(B, T, D, device=DEVICE).to(dtype)
    leaves, exact_leaves = [hidden, *memory.parameters()], [exact_hidden, *exact.parameters()]
    found = torch.autograd.grad(ours, leaves, cotangent)
    for gradient, correct in zip(found, torch.autograd.grad(expected, exact_leaves, cotangent.double())):
        assert gradient.isfinite().all()
        # The slope of the signed root is unbounded near 0, where the last digit of a score shows.
        assert_near(gradient, correct, 1e-4 if dtype == torch.float32 else 2 * ALLOWED[dtype])


@pytest.mark.parametrize("T", LENGTHS)
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("form", ["triton", "triton_pooled"])
def test_lengths(form, setting, T):
    compare(form, T, [1, 2, 3], torch.float32, **SETTINGS[setting])


@pytest.mark.parametrize("setting", ["released", "paper"])
@pytest.mark.parametrize("form", ["triton", "triton_pooled"])
def test_a_thousand_bases(form, setting):
    compare(form, 1_000, [1, 3], torch.float32, B=1, **SETTINGS[setting])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("setting", ["released", "paper"])
@pytest.mark.parametrize("form", ["triton", "triton_pooled"])
def test_half_precision(form, setting, dtype):
    """With the plain gate: the slope of the signed root, near 0, would show the rounding of keys, not the kernels'."""
    compare(form, 65, [1, 2], dtype, **{**SETTINGS[setting], "gate": "sigmoid"})


@pytest.mark.parametrize("setting", ["released", "paper"])
def test_the_sizes_of_the_presets(setting):
    """k = 1..6: 19,530 rows; values alone under the interpreter."""
    compare("triton", 65, [1, 2, 3, 4, 5, 6], torch.float32, gradients=not INTERPRETED, B=1, **SETTINGS[setting])
