"""The memory module: which form runs, symmetry, positions that must stay silent."""

import pytest
import torch
from transformers import LlamaConfig

from gengram import GengramConfig, MotifMemory
from gengram.gengram import motif_memory
from gengram.gengram.kmer_index import KmerContext
from gengram.gengram.memory_ops import pool_by_lifetime

D = 8


def make_memory(**fields) -> MotifMemory:
    torch.manual_seed(0)
    backbone = LlamaConfig(hidden_size=D, num_attention_heads=1, num_hidden_layers=1, vocab_size=16)
    fields = {"memory_dim": 6, **fields}
    return MotifMemory(GengramConfig(backbone_config=backbone, memory_layers=[0], **fields)).double()


def letters(B, T, seed=0):
    return torch.randint(0, 4, (B, T), generator=torch.Generator().manual_seed(seed))


OPERATIONS = {
    "definition": "pool_by_definition",
    "lifetime": "pool_by_lifetime",
    "merged": "read_merged",
    "fused": "run_fused",
}


@pytest.mark.parametrize("kernel", [True, False], ids=["kernel", "no-kernel"])
@pytest.mark.parametrize(
    "fields, T, with_kernel, without",
    [
        ({}, 8192, "fused", "merged"),
        ({}, 1000, "fused", "lifetime"),  # too few tokens to pay for reading merged tables in eager mode
        ({}, 60, "lifetime", "lifetime"),  # almost as many rows as k-mers
        ({"kmer_sizes": [1, 2, 3]}, 1000, "fused", "merged"),
        ({"memory_preset": "paper"}, 8192, "lifetime", "lifetime"),
        ({"memory_preset": "paper", "deduplicate": False}, 8192, "fused", "merged"),
        ({"window_size": None}, 8192, "lifetime", "lifetime"),
        ({"kmer_sizes": [1, 8], "window_size": 12}, 30000, "fused", "lifetime"),
        ({"center_window": True, "tie_reverse_complement": True}, 8192, "fused", "merged"),
    ],
)
def test_the_form_is_chosen_and_runs(fields, T, with_kernel, without, kernel, monkeypatch):
    if not kernel:
        monkeypatch.setattr(motif_memory, "load_kernel", lambda: None)
    path = with_kernel if kernel else without
    memory, context = make_memory(**fields), KmerContext(letters(1, T))
    assert memory.choose_path(context) == path
    ran = []
    for name, operation in OPERATIONS.items():
        original = getattr(motif_memory, operation)
        monkeypatch.setattr(motif_memory, operation, lambda *a, n=name, f=original, **k: ran.append(n) or f(*a, **k))
    hidden = torch.randn(1, T, D, dtype=torch.float64)
    with torch.no_grad():
        fast = memory(hidden, context)
        assert ran == [path]
        memory.path = "definition"
        exact = memory(hidden, context)
    assert ran[1:] == ["definition"]
    torch.testing.assert_close(fast, exact, rtol=0, atol=1e-9)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("path", ["lifetime", "merged", "fused"])
def test_every_gradient_through_the_module(bias, path):
    memory = make_memory(kmer_sizes=[1, 2, 3], window_size=7, projection_bias=bias, conv_norm=True)
    hidden = torch.randn(2, 50, D, dtype=torch.float64, requires_grad=True)
    documents = torch.arange(50).div(20, rounding_mode="floor").expand(2, -1)
    real = torch.ones(2, 50, dtype=torch.bool)
    real[0, :4] = False
    context = KmerContext(letters(2, 50).masked_fill(~real, -1), documents, real)
    leaves = [hidden, *memory.parameters()]
    found = {}
    for form in ("definition", path):
        memory.path = form
        cotangent = torch.randn(2, 50, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        found[form] = torch.autograd.grad((memory(hidden, context) * cotangent).sum(), leaves)
    for ours, reference in zip(found[path], found["definition"]):
        torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("path", ["lifetime", "merged", "fused"])
def test_gradcheck_with_a_smooth_gate(path):
    memory = make_memory(kmer_sizes=[1, 2], window_size=4, gate="sigmoid")
    memory.path = path
    hidden = torch.randn(1, 9, D, dtype=torch.float64, requires_grad=True)
    context = KmerContext(letters(1, 9))
    assert torch.autograd.gradcheck(lambda h: memory(h, context), hidden)


def test_released_form_is_silent_without_bases_and_paper_form_is_not():
    hidden = torch.randn(1, 12, D, dtype=torch.float64)
    nothing = KmerContext(torch.full((1, 12), -1))
    assert not make_memory()(hidden, nothing).any()
    assert make_memory(memory_preset="paper")(hidden, nothing).abs().min() > 0
    padding = KmerContext(torch.full((1, 12), -1), real=torch.zeros(1, 12, dtype=torch.bool))
    assert not make_memory(memory_preset="paper")(hidden, padding).any()


def test_reach_of_the_released_form():
    """Bases t-38..t and hidden states t, t-6, t-12, t-18 for W = 21, k up to 6, 4 taps (specification, section 1)."""
    memory = make_memory()
    hidden = torch.randn(1, 60, D, dtype=torch.float64, requires_grad=True)
    context = KmerContext(letters(1, 60))
    output = memory(hidden, context)
    reach = torch.autograd.grad(output[0, 59].sum(), hidden)[0][0].abs().sum(-1)
    assert reach.nonzero().flatten().tolist() == [41, 47, 53, 59]
    changed = []
    for t in range(60):
        other = context.letters.clone()
        other[0, t] = (other[0, t] + 1) % 4
        if not torch.equal(memory(hidden, KmerContext(other))[0, 59], output[0, 59]):
            changed.append(t)
    assert changed == list(range(21, 60))


def test_window_none_is_the_kmer_that_ends_at_the_position():
    memory = make_memory(window_size=None, kmer_sizes=[2])
    x = letters(1, 10)
    pooled = pool_by_lifetime([memory.embeddings[0].weight], x, memory.window)
    assert not pooled[0, 0].any()
    for t in range(1, 10):
        assert torch.equal(pooled[0, t], memory.embeddings[0].weight[5 * x[0, t - 1] + x[0, t]])


def test_tied_and_centred_key_and_value_are_reverse_complement_equivariant():
    memory = make_memory(center_window=True, tie_reverse_complement=True, window_size=9, kmer_sizes=[1, 2, 3])
    x = letters(1, 40)
    x[0, 10] = 4
    mirrored = torch.where(x < 4, 3 - x, x).flip(1)
    for path in ("definition", "lifetime", "merged", "fused"):
        memory.path = path
        for forward, backward in zip(memory.read(KmerContext(x)), memory.read(KmerContext(mirrored))):
            torch.testing.assert_close(forward, backward.flip(1), rtol=0, atol=1e-12)
    loose = make_memory(center_window=True, window_size=9, kmer_sizes=[1, 2, 3])
    key, other = loose.read(KmerContext(x))[0], loose.read(KmerContext(mirrored))[0]
    assert (key - other.flip(1)).abs().max() > 0.1


def test_context_moves_to_another_device():
    context = KmerContext(letters(1, 5), letters(1, 5), torch.ones(1, 5, dtype=torch.bool), history=2)
    moved = context.to("meta")
    assert {moved.letters.device.type, moved.documents.device.type, moved.real.device.type} == {"meta"}
    assert moved.history == 2 and KmerContext(letters(1, 5)).to("meta").real is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("path", ["lifetime", "merged"])
def test_on_a_gpu(path):
    memory, x = make_memory(), letters(2, 300)
    hidden = torch.randn(2, 300, D, dtype=torch.float64)
    memory.path = "definition"
    expected = memory(hidden, KmerContext(x))
    memory.path = path
    result = memory.cuda()(hidden.cuda(), KmerContext(x).to("cuda"))
    torch.testing.assert_close(result.cpu(), expected, rtol=0, atol=1e-9)
