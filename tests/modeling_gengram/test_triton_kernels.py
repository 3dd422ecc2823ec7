"""The Triton kernels against the definition in float64: values and every gradient.

On a GPU by `pytest -m gpu`; without one under Triton's interpreter, which has to be asked for before triton is
imported: `test_triton_interpreter.py` runs this file so.
"""

import pytest
import torch
from kernel_comparison import (
    ALLOWED,
    DEVICE,
    INTERPRETED,
    assert_near,
    compare,
    make_documents,
    make_letters,
    make_weights,
)
from transformers import LlamaConfig

if not INTERPRETED:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device (test_triton_interpreter.py runs it without)", allow_module_level=True)
    pytestmark = pytest.mark.gpu
else:
    pytest.importorskip("triton")  # on a GPU its absence is a failure

# Only now that triton may be imported.
from gengram import GengramConfig, MotifMemory
from gengram.gengram import triton_rows
from gengram.gengram.kmer_index import KmerContext, KmerWindow
from gengram.gengram.memory_ops import pool_by_definition
from gengram.gengram.modeling_gengram import find_letters
from gengram.gengram.triton_rows import pool_rows, read_rows
from gengram.gengram.triton_tables import project_tables

WINDOWS = [
    pytest.param(KmerWindow(sizes, size, lag, deduplicate, tie), id=name)
    for name, sizes, size, lag, deduplicate, tie in [
        ("released", (1, 2), 9, 0, False, False),
        ("sizes-unordered", (3, 1), 9, 0, False, False),
        ("one-size", (1,), 4, 0, False, False),
        ("paper", (1, 2), 7, 1, True, False),
        ("algorithm-1", (1, 2), 7, 1, False, False),
        ("no-window", (1, 2), None, 0, False, False),
        ("centred", (1, 2), 9, -4, False, False),
        ("centred-even-set", (1, 2), 8, -3, True, False),
        ("tied", (2,), 6, 0, False, True),
        ("tied-set", (1, 2), 6, 1, True, True),
        ("longer-than-two-chunks", (2,), 70, 0, False, False),
    ]
]


@pytest.mark.parametrize(
    "window, B, S, H, packed",
    [pytest.param(*window.values, 1, 141, 7, True, id=window.id) for window in WINDOWS]
    + [pytest.param(*window.values, 3, 5, 0, False, id=f"{window.id}-short") for window in WINDOWS[:6:2]],
)
def test_pooled_rows_equal_the_definition(window, B, S, H, packed):
    letters, documents = make_letters(B, S), make_documents(B, S) if packed else None
    tables, exact_tables = make_weights([(5**k, 7) for k in window.kmer_sizes], torch.float32)
    exact = pool_by_definition(exact_tables, letters, window, documents)[:, H:]
    compare(pool_rows(tables, letters, window, documents, H), exact, tables, exact_tables, torch.float32)


@pytest.mark.parametrize(
    "window, S, H, packed, in_use",
    [pytest.param(*window.values, 70, 7, True, True, id=window.id) for window in WINDOWS[:-1]]
    + [pytest.param(*window.values, 141, 0, False, False, id=f"{window.id}-all") for window in WINDOWS[:5:4]],
)
def test_projected_rows_equal_the_definition(window, S, H, packed, in_use):
    letters, documents = make_letters(2, S), make_documents(2, S) if packed else None
    E, D = 5, 6
    shapes = [(5**k, E) for k in window.kmer_sizes] + [(D, len(window.kmer_sizes) * E)] * 2
    leaves, exact_leaves = make_weights(shapes, torch.float32)
    pooled = pool_by_definition(exact_leaves[:-2], letters, window, documents)[:, H:]
    exact = torch.cat([pooled @ weight.T for weight in exact_leaves[-2:]], dim=-1)
    projected = project_tables(leaves[:-2], *leaves[-2:], window, letters if in_use else None)
    ours = read_rows(projected.rows, projected.layout, letters, window, documents, H)
    compare(ours, exact, leaves, exact_leaves, torch.float32)


@pytest.mark.parametrize("dtype, E, D", [(torch.bfloat16, 24, 20), (torch.float16, 17, 9)])
def test_half_precision(dtype, E, D):
    window = KmerWindow((1, 2), 9, 0, False, False)
    letters = make_letters(1, 140)
    leaves, exact_leaves = make_weights([(5, E), (25, E), (D, 2 * E), (D, 2 * E)], dtype)
    pooled = pool_by_definition(exact_leaves[:2], letters, window)
    compare(pool_rows(leaves[:2], letters, window), pooled, leaves[:2], exact_leaves[:2], dtype)
    pooled = pool_by_definition(exact_leaves[:2], letters, window)
    exact = torch.cat([pooled @ weight.T for weight in exact_leaves[2:]], dim=-1)
    projected = project_tables(leaves[:2], *leaves[2:], window, letters)
    key_value = read_rows(projected.rows, projected.layout, letters, window)
    assert_near(key_value, exact, 5e-3 if dtype == torch.bfloat16 else 1e-3)
    compare(key_value, exact, leaves, exact_leaves, dtype)


def test_the_paper_s_sizes():
    """k = 1..6, W = 21: 19,530 rows, values only."""
    window = KmerWindow((1, 2, 3, 4, 5, 6), 21, 0, False, False)
    letters = make_letters(1, 100)
    E, D = 4, 3
    leaves, exact_leaves = make_weights([(5**k, E) for k in window.kmer_sizes] + [(D, 6 * E)] * 2, torch.float32)
    with torch.no_grad():
        pooled = pool_by_definition(exact_leaves[:6], letters, window)
        assert_near(pool_rows(leaves[:6], letters, window), pooled, 5e-7)
        exact = torch.cat([pooled @ weight.T for weight in exact_leaves[6:]], dim=-1)
        for used in (letters, None):
            projected = project_tables(leaves[:6], *leaves[6:], window, used)
            assert_near(read_rows(projected.rows, projected.layout, letters, window), exact, 5e-7)


def test_gradients_of_rows_are_the_same_bits_every_time():
    window = KmerWindow((1, 2), 9, 0, False, False)
    letters = make_letters(1, 140)
    tables, _ = make_weights([(5, 16), (25, 16)], torch.float32)
    cotangent = torch.randn(1, 140, 32, device=DEVICE)
    first, second = (torch.autograd.grad(pool_rows(tables, letters, window), tables, cotangent) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second))


def test_operators_keep_their_promises_to_the_compiler():
    """Schema, fake kernels (shapes, dtypes, strides) and gradients, as `torch.library.opcheck` examines them."""
    checks = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_static")
    letters, documents = make_letters(1, 9), make_documents(1, 9)
    tables, _ = make_weights([(5, 4), (25, 4)], torch.float32)
    described = triton_rows._describe(KmerWindow((1, 2), 4, 0, False, False))
    torch.library.opcheck(
        triton_rows._sum_rows, (tables, letters, documents, [], described, [0, 5, 30], 0, 2), test_utils=checks
    )


def make_memory(D: int = 12, dtype: torch.dtype = torch.float32, **fields) -> MotifMemory:
    torch.manual_seed(0)
    backbone = LlamaConfig(hidden_size=D, num_attention_heads=1, num_hidden_layers=1, vocab_size=16)
    fields = {"memory_dim": 6, "kmer_sizes": [1, 2], "window_size": 9, **fields}
    config = GengramConfig(backbone_config=backbone, memory_layers=[0], **fields)
    return MotifMemory(config).to(DEVICE, dtype)


FORMS = ["triton", "triton_pooled"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"memory_preset": "paper"},
        {"mixer": "none", "projection_bias": True},
        {"conv_norm": True, "gate": "sigmoid"},
    ],
    ids=["released", "paper", "no-mixer", "conv-norm"],
)
def test_module(form, fields):
    """The whole memory with padding and packed documents: residual and every gradient."""
    T = 40
    memory, exact = make_memory(**fields), make_memory(dtype=torch.float64, **fields)
    exact.load_state_dict({name: tensor.double() for name, tensor in memory.state_dict().items()})
    memory.path, exact.path = form, "definition"
    real = torch.ones(2, T, dtype=torch.bool, device=DEVICE)
    real[0, :4] = False
    documents = torch.arange(T, device=DEVICE).div(15, rounding_mode="floor").expand(2, -1)
    context = KmerContext(make_letters(2, T).masked_fill(~real, -1), documents, real)
    hidden = torch.randn(2, T, 12, device=DEVICE, requires_grad=True)
    exact_hidden = hidden.detach().double().requires_grad_()
    cotangent = torch.randn(2, T, 12, device=DEVICE)
    ours, expected = memory(hidden, context), exact(exact_hidden, context)
    assert_near(ours, expected, 1e-6)
    assert not ours[~real].any()
    leaves, exact_leaves = [hidden, *memory.parameters()], [exact_hidden, *exact.parameters()]
    found = torch.autograd.grad(ours, leaves, cotangent)
    for gradient, wanted in zip(found, torch.autograd.grad(expected, exact_leaves, cotangent.double())):
        assert_near(gradient, wanted, 1e-4)


@pytest.mark.parametrize("deduplicate", [False, True])
def test_the_kernels_are_chosen_where_they_run(deduplicate):
    """By themselves: projected tables for many tokens and in evaluation, otherwise pooled rows."""
    memory = make_memory(deduplicate=deduplicate)
    many, few = KmerContext(torch.zeros(1, 4000, dtype=torch.int64, device=DEVICE)), KmerContext(make_letters(1, 12))
    assert (memory.choose_path(many), memory.choose_path(few)) == ("triton", "triton_pooled")
    memory.eval()
    with torch.no_grad():
        assert memory.choose_path(few) == "triton"
        hidden = torch.randn(1, 12, 12, device=DEVICE)
        kept = memory(hidden, few)
        assert torch.equal(memory(hidden, few), kept)
        memory.embeddings[0].weight += 1
        changed = memory(hidden, few)
        memory.path = "definition"
        torch.testing.assert_close(changed, memory(hidden, few), rtol=0, atol=1e-5)
        assert not torch.allclose(changed, kept, atol=1e-3)
    memory.path = "auto"
    assert memory.double().choose_path(few) in ("lifetime", "merged", "fused")


def test_module_compiles_without_a_graph_break():
    memory = make_memory()
    context, hidden = KmerContext(make_letters(1, 30)), torch.randn(1, 30, 12, device=DEVICE)
    compiled = torch.compile(lambda x: memory(x, context), fullgraph=True, backend="aot_eager")
    leaves = list(memory.parameters())
    ours, expected = compiled(hidden), memory(hidden, context)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)
    for found, wanted in zip(torch.autograd.grad(ours.sum(), leaves), torch.autograd.grad(expected.sum(), leaves)):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


MODULE_KEYS = {"dna_token_ids", "ngram_sizes", "embed_dim_per_ngram", "use_short_conv", "short_conv_dilation", "dtype"}


def pytest_generate_tests(metafunc):
    if "released_case" in metafunc.fixturenames:
        cases = metafunc.config.find_golden_cases(MODULE_KEYS)
        chosen = [case for case in cases if case.config["dtype"] != "float64"]
        metafunc.parametrize("released_case", [pytest.param(case, id=case.id) for case in chosen])


@pytest.mark.parametrize("form", FORMS)
def test_released_module(released_case, form):
    if INTERPRETED and (form, released_case.config["dtype"]) == ("triton_pooled", "bfloat16"):
        pytest.skip("slow, and the other three show it")
    """The golden cases of the released code in float32 and bfloat16: against them, or the definition in float64."""
    config, inputs = released_case.config, released_case.load("inputs")
    dtype = getattr(torch, config["dtype"])
    fields = {
        "base_token_ids": config["dna_token_ids"], "kmer_sizes": config["ngram_sizes"],
        "memory_dim": config["embed_dim_per_ngram"], "window_size": config["window_size"],
        "mixer": "conv_residual" if config["use_short_conv"] else "none", "memory_norm_eps": config["norm_eps"],
        "conv_kernel_size": config["short_conv_kernel_size"], "conv_dilation": config["short_conv_dilation"],
    }  # fmt: skip
    memory = make_memory(config["hidden_size"], dtype, **fields)
    memory.load_state_dict(released_case.load("model"))
    exact = make_memory(config["hidden_size"], torch.float64, **fields)
    exact.load_state_dict({name: tensor.double() for name, tensor in memory.state_dict().items()})
    memory.path, exact.path = form, "definition"
    context = KmerContext(find_letters(inputs["input_ids"].to(DEVICE), config["dna_token_ids"]))
    hidden = inputs["hidden_states"].transpose(0, 1).to(DEVICE)
    with torch.no_grad():
        for ours, truth in zip(memory.read(context), exact.read(context)):
            assert_near(ours, truth, 5e-3 if dtype == torch.bfloat16 else 5e-7)
        ours = memory(hidden, context)
        assert_near(ours, exact(hidden.double(), context), ALLOWED[dtype])
        if dtype == torch.float32:
            assert_near(ours, released_case.load("outputs")["output"].transpose(0, 1).to(DEVICE).double(), 1e-5)
