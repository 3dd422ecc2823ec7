"""The compiled kernel: every window against the definition, its gradients, and what happens without a compiler."""

import itertools

import pytest
import torch
from torch.utils.checkpoint import checkpoint
from transformers import LlamaConfig

from gengram import GengramConfig, MotifMemory
from gengram.gengram import cpu_kernel, cpu_library, fallback
from gengram.gengram.kmer_index import KmerContext
from gengram.gengram.memory_cache import MotifMemoryLayer

pytestmark = pytest.mark.skipif(cpu_library.load_kernel() is None, reason="needs a C++ compiler")


@pytest.fixture(autouse=True)
def several_threads(monkeypatch):
    """Threads of a few positions each, so that their seams are among what is compared."""
    monkeypatch.setattr(cpu_kernel, "count_threads", lambda hidden: 3)


def make_memory(D: int = 8, **fields) -> MotifMemory:
    torch.manual_seed(0)
    backbone = LlamaConfig(hidden_size=D, num_attention_heads=1, num_hidden_layers=1, vocab_size=16)
    fields = {"memory_dim": 6, **fields}
    return MotifMemory(GengramConfig(backbone_config=backbone, memory_layers=[0], **fields)).double()


def make_letters(B: int, S: int) -> torch.Tensor:
    """Bases with N, invalid tokens and a run of one letter."""
    generator = torch.Generator().manual_seed(0)
    letters = torch.randint(0, 4, (B, S), generator=generator)
    noise = torch.rand(B, S, generator=generator)
    letters[noise < 0.02], letters[noise > 0.98] = 4, -1
    letters[0, : S // 3] = 0
    return letters


def differentiate(memory: MotifMemory, path: str, hidden: torch.Tensor, context: KmerContext, call=None):
    memory.path = path
    cotangent = torch.randn(hidden.shape, dtype=hidden.dtype, generator=torch.Generator().manual_seed(1))
    output = (call or memory)(hidden, context)
    leaves = [hidden, *memory.parameters()]
    leaves = [leaf for leaf in leaves if leaf.requires_grad]
    return [output.detach(), *torch.autograd.grad((output * cotangent).sum(), leaves)]


def assert_equal(found, expected):
    for ours, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-9)


FIELDS = [
    pytest.param({}, id="released"),
    pytest.param({"kmer_sizes": [3, 1, 5], "window_size": 9}, id="sizes-unordered"),
    pytest.param({"kmer_sizes": [1], "window_size": 1}, id="one-size"),
    pytest.param({"kmer_sizes": [2, 3], "window_size": 300}, id="longer-than-sequence"),
    pytest.param({"center_window": True}, id="centred"),
    pytest.param({"center_window": True, "tie_reverse_complement": True, "kmer_sizes": [1, 2, 3]}, id="tied"),
    pytest.param({"memory_preset": "paper", "deduplicate": False}, id="algorithm-1"),
    pytest.param({"projection_bias": True, "conv_norm": True, "gate": "sigmoid"}, id="bias-conv-norm-sigmoid"),
]


@pytest.mark.parametrize("fields", FIELDS)
@pytest.mark.parametrize("S, H, D", [(1, 0, 8), (40, 0, 40), (130, 20, 8), (330, 0, 18)])
@pytest.mark.parametrize("packed", [False, True], ids=["one-document", "packed"])
def test_values_and_gradients_are_those_of_the_definition(fields, S, H, D, packed):
    memory = make_memory(D, **fields)
    documents = (torch.rand(2, S, generator=torch.Generator().manual_seed(1)) < 0.05).cumsum(1) if packed else None
    real = torch.ones(2, S - H, dtype=torch.bool)
    real[0, :2] = False
    context = KmerContext(make_letters(2, S), documents, real, history=H)
    hidden = torch.randn(2, S - H, D, dtype=torch.float64, requires_grad=True)
    expected = differentiate(memory, "definition", hidden, context)
    assert_equal(differentiate(memory, "fused", hidden, context), expected)
    memory.eval()
    with torch.no_grad():  # tables without N are kept
        torch.testing.assert_close(memory(hidden, context), expected[0], rtol=0, atol=1e-9)
        found = memory.read(context)
        memory.path = "definition"
        for ours, reference in zip(found, memory.read(context)):
            torch.testing.assert_close(ours, reference, rtol=0, atol=1e-9)


def test_frozen_parts_checkpointing_and_use_in_two_places():
    memory, context = make_memory(), KmerContext(make_letters(2, 90))
    hidden = torch.randn(2, 90, 8, dtype=torch.float64, requires_grad=True)

    def twice(x, context):
        return memory(x + checkpoint(memory, x, context, use_reentrant=False), context)

    def compare(call=None):
        expected = differentiate(memory, "definition", hidden, context, call)
        assert_equal(differentiate(memory, "fused", hidden, context, call), expected)

    compare(twice)
    for frozen in ([memory.key_proj.weight], list(memory.embeddings.parameters()), [memory.norm_k.weight]):
        for parameter in frozen:
            parameter.requires_grad_(False)
        compare()
    for parameter in memory.parameters():
        parameter.requires_grad_(False)
    compare()


def test_the_same_bits_for_any_number_of_threads(monkeypatch):
    memory, context = make_memory().float(), KmerContext(make_letters(2, 300))
    hidden = torch.randn(2, 300, 8)
    found = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(cpu_kernel, "count_threads", lambda hidden, threads=threads: threads)
        output, *gradients = differentiate(memory, "fused", hidden, context)
        tables = [g for g, (name, _) in zip(gradients, memory.named_parameters()) if name.startswith("embeddings")]
        found.append([output, *tables])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, found[0]))


def test_half_precision_and_autocast_sum_in_float32():
    memory, context = make_memory(projection_bias=True), KmerContext(make_letters(2, 200))
    hidden = torch.randn(2, 200, 8, dtype=torch.float64)
    memory = memory.to(torch.bfloat16)
    exact = make_memory(projection_bias=True)
    exact.load_state_dict({name: tensor.double() for name, tensor in memory.state_dict().items()})
    exact.path = "definition"
    expected = torch.cat(exact.read(context), dim=-1).detach()
    memory.path = "fused"
    assert memory(hidden.bfloat16(), context).dtype == torch.bfloat16
    with torch.no_grad():
        found = torch.cat(memory.read(context), dim=-1)
    assert float((found.double() - expected).norm() / expected.norm()) < 5e-3
    memory = exact.float()
    memory.path = "fused"
    plain = memory(hidden.float(), context)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(memory(hidden.float(), context), plain)


@pytest.mark.parametrize("stepping", [False, True])
def test_an_n_under_autocast_and_tables_in_another_precision(stepping):
    """Positions that the kept tables do not serve, in the precision of those that they do."""
    memory = make_memory().float().eval()
    letters = make_letters(1, 60).clamp(min=0)
    letters[0, 30] = 4
    hidden = torch.randn(1, 60, 8)
    with torch.no_grad():
        memory.path = "definition"
        expected = memory(hidden, KmerContext(letters))
        memory.path = "auto"
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(memory(hidden, KmerContext(letters)), expected, rtol=1e-4, atol=1e-5)
        for other in (memory.double(), memory.bfloat16()):
            dtype = torch.float32 if other.key_proj.weight.dtype == torch.float64 else torch.float64
            state = MotifMemoryLayer() if stepping else None
            cuts = [0, 20, 40, 60] if stepping else [0, 60]
            parts = []
            for begin, end in itertools.pairwise(cuts):
                window, history = letters[:, :end], begin
                parts.append(other(hidden[:, begin:end].to(dtype), KmerContext(window, history=history, state=state)))
            found = torch.cat(parts, dim=1)
            assert found.dtype == dtype
            torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.02)


def test_no_home_is_no_reason_to_fail(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(cpu_library.Path, "home", homeless)
    assert cpu_library._compile(cpu_library.shutil.which("c++") or cpu_library.shutil.which("g++")).exists()


def test_without_a_compiler_the_eager_form_serves_and_says_so(monkeypatch, tmp_path):
    warnings = []
    monkeypatch.setattr(fallback.logger, "warning", warnings.append)
    memory, context = make_memory(), KmerContext(make_letters(1, 5000))
    for compiler, word in ((str(tmp_path / "nothing"), "nothing"), ("false", "false")):
        monkeypatch.setenv("CXX", compiler)
        cpu_library._load.cache_clear()
        try:
            assert [memory.choose_path(context) for _ in range(3)] == ["merged"] * 3
        finally:
            cpu_library._load.cache_clear()
        assert len(warnings) == 1 and "ten times slower" in warnings[0] and word in warnings.pop()


def test_compiled_once_and_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    runs = []
    run = cpu_library.subprocess.run
    monkeypatch.setattr(cpu_library.subprocess, "run", lambda *a, **k: runs.append(a[0]) or run(*a, **k))
    compiler = cpu_library.shutil.which("c++") or cpu_library.shutil.which("g++")
    first, second = cpu_library._compile(compiler), cpu_library._compile(compiler)
    assert first == second and [path.name for path in (tmp_path / "gengram").iterdir()] == [first.name]
    assert sum("--version" not in command for command in runs) == 1
