"""The Triton kernels against the definition in float64: values and every gradient.

On a GPU by `pytest -m gpu`; without one under Triton's interpreter, which has to be asked for before triton is
imported: `test_triton_interpreter.py` runs this file so.
"""

import contextlib
from dataclasses import replace

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
from torch.utils.checkpoint import checkpoint
from transformers import LlamaConfig

if not INTERPRETED:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device (test_triton_interpreter.py runs it without)", allow_module_level=True)
    pytestmark = pytest.mark.gpu
else:
    pytest.importorskip("triton")  # on a GPU its absence is a failure

# Only now that triton may be imported.
from kernel_launches import record_launches

from gengram import GengramConfig, GengramModel, MotifMemory
from gengram.gengram import triton_index, triton_rows, triton_tables
from gengram.gengram.gpu_kernel import can_run_kernels
from gengram.gengram.kmer_index import KmerContext, KmerWindow, count_lifetimes, count_occurrences, index_kmers
from gengram.gengram.memory_chunks import run_in_chunks
from gengram.gengram.memory_ops import pool_by_definition
from gengram.gengram.modeling_gengram import find_letters
from gengram.gengram.triton_index import describe_window, find_reads
from gengram.gengram.triton_rows import pool_rows
from gengram.gengram.triton_tables import project_tables, read_rows, read_tables

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
    [pytest.param(*window.values, 1, 75, 7, True, id=window.id) for window in WINDOWS[:-1]]
    + [pytest.param(*window.values, 1, 141, 7, True, id=window.id) for window in WINDOWS[-1:]]
    + [pytest.param(*window.values, 3, 5, 0, False, id=f"{window.id}-short") for window in WINDOWS[:6:2]],
)
def test_pooled_rows_equal_the_definition(window, B, S, H, packed):
    letters, documents = make_letters(B, S), make_documents(B, S) if packed else None
    tables, exact_tables = make_weights([(5**k, 7) for k in window.kmer_sizes], torch.float32)
    exact = pool_by_definition(exact_tables, letters, window, documents)[:, H:]
    reads = find_reads(letters, window, documents, gradient=True)
    compare(pool_rows(tables, reads, window, H), exact, tables, exact_tables, torch.float32)


@pytest.mark.parametrize(
    "window, S, H, packed",
    [pytest.param(*window.values, 70, 7, True, id=window.id) for window in WINDOWS[:-1]]
    + [pytest.param(*window.values, 141, 0, False, id=f"{window.id}-long") for window in WINDOWS[:5:4]],
)
def test_projected_rows_equal_the_definition(window, S, H, packed):
    letters, documents = make_letters(2, S), make_documents(2, S) if packed else None
    E, D = 5, 6
    shapes = [(5**k, E) for k in window.kmer_sizes] + [(D, len(window.kmer_sizes) * E)] * 2
    leaves, exact_leaves = make_weights(shapes, torch.float32)
    exact = project_definition(exact_leaves, letters, window, documents)[:, H:]
    reads = find_reads(letters, window, documents, gradient=True)
    ours = read_tables(leaves[:-2], *leaves[-2:], reads, window, H)
    compare(ours, exact, leaves, exact_leaves, torch.float32)
    kept = read_rows(
        project_tables(leaves[:-2], *leaves[-2:], window), find_reads(letters, window, documents), window, H
    )
    assert torch.equal(kept, ours)


def project_definition(leaves, letters, window, documents=None) -> torch.Tensor:
    """Key and value [B, S, 2D] of tables and two weights, in float64."""
    pooled = pool_by_definition(leaves[:-2], letters, window, documents)
    return torch.cat([pooled @ weight.T for weight in leaves[-2:]], dim=-1)


@pytest.mark.parametrize("T", [1, 19, 20, 21, 63, 64, 65, 200, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "window",
    [KmerWindow((1, 2), 21, 0, False, False), KmerWindow((1, 2), 21, 1, True, False)],
    ids=["released", "paper"],
)
def test_every_length(window, T):
    """Around a window of 21 and a tile of 64; widths that nothing divides."""
    letters = make_letters(1, T)
    leaves, exact_leaves = make_weights([(5, 24), (25, 24), (40, 48), (40, 48)], torch.float32)
    reads = find_reads(letters, window, gradient=True)
    pooled = pool_by_definition(exact_leaves[:2], letters, window)
    if pooled.detach().any():  # a first position has no window before it
        compare(pool_rows(leaves[:2], reads, window), pooled, leaves[:2], exact_leaves[:2], torch.float32)
        exact = project_definition(exact_leaves, letters, window)
        compare(read_tables(leaves[:2], *leaves[2:], reads, window), exact, leaves, exact_leaves, torch.float32)
    else:
        assert not pool_rows(leaves[:2], reads, window).any()


@pytest.mark.parametrize("dtype, E, D", [(torch.bfloat16, 24, 20), (torch.float16, 17, 9)])
def test_half_precision(dtype, E, D):
    window = KmerWindow((1, 2), 9, 0, False, False)
    letters = make_letters(1, 140)
    leaves, exact_leaves = make_weights([(5, E), (25, E), (D, 2 * E), (D, 2 * E)], dtype)
    reads = find_reads(letters, window, gradient=True)
    pooled = pool_by_definition(exact_leaves[:2], letters, window)
    compare(pool_rows(leaves[:2], reads, window), pooled, leaves[:2], exact_leaves[:2], dtype)
    exact = project_definition(exact_leaves, letters, window)
    key_value = read_tables(leaves[:2], *leaves[2:], reads, window)
    assert_near(key_value, exact, 5e-3 if dtype == torch.bfloat16 else 1e-3)
    compare(key_value, exact, leaves, exact_leaves, dtype)


def test_autocast_takes_the_products_in_half_precision():
    window = KmerWindow((1, 2), 9, 0, False, False)
    letters = make_letters(1, 70)
    leaves, exact_leaves = make_weights([(5, 24), (25, 24), (20, 48), (20, 48)], torch.float32)
    reads = find_reads(letters, window, gradient=True)
    with torch.autocast(DEVICE, torch.bfloat16):
        ours = read_tables(leaves[:2], *leaves[2:], reads, window)
    assert ours.dtype == torch.bfloat16
    exact = project_definition(exact_leaves, letters, window)
    assert_near(ours, exact, 1e-2)
    cotangent = torch.randn(exact.shape, generator=torch.Generator().manual_seed(3)).to(DEVICE, torch.bfloat16)
    found = torch.autograd.grad(ours, leaves, cotangent)
    for gradient, wanted in zip(found, torch.autograd.grad(exact, exact_leaves, cotangent.double())):
        assert gradient.dtype == torch.float32
        assert_near(gradient, wanted, 2e-2)


def test_only_what_wants_a_gradient_gets_one():
    window = KmerWindow((1, 2), 9, 0, False, False)
    letters = make_letters(1, 40)
    leaves, exact_leaves = make_weights([(5, 7), (25, 7), (6, 14), (6, 14)], torch.float32)
    exact = project_definition(exact_leaves, letters, window)
    reads = find_reads(letters, window, gradient=True)
    expected = torch.autograd.grad(exact.sum(), exact_leaves)
    for wanted in ([0, 1], [2, 3], [1, 3]):
        for number, leaf in enumerate(leaves):
            leaf.requires_grad_(number in wanted).grad = None
        read_tables(leaves[:2], *leaves[2:], reads, window).sum().backward()
        for number, leaf in enumerate(leaves):
            assert (leaf.grad is not None) == (number in wanted)
            if leaf.grad is not None:
                assert_near(leaf.grad, expected[number], 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(1, 2, 3), (1, 2, 3, 4, 5, 6)], ids=len)
def test_the_paper_s_window(sizes):
    """W = 21; with k = 1..6, 19,530 rows and 5,120 merged ones, which hand their gradients down to all their parts."""
    window = KmerWindow(sizes, 21, 0, False, False)
    letters = make_letters(1, 100)
    shapes = [(5**k, 4) for k in sizes] + [(3, len(sizes) * 4)] * 2
    leaves, exact_leaves = make_weights(shapes, torch.float32)
    reads = find_reads(letters, window, gradient=True)
    pooled = pool_by_definition(exact_leaves[:-2], letters, window)
    compare(pool_rows(leaves[:-2], reads, window), pooled, leaves[:-2], exact_leaves[:-2], torch.float32)
    exact = project_definition(exact_leaves, letters, window)
    compare(read_tables(leaves[:-2], *leaves[-2:], reads, window), exact, leaves, exact_leaves, torch.float32)


@pytest.mark.parametrize("tie", [False, True])
@pytest.mark.parametrize("deduplicate", [False, True])
def test_index(deduplicate, tie):
    """Rows, lives and shares are those of the definition; the ranges hold the occurrences of each row, all of them."""
    window = KmerWindow((1, 3, 2), 7, 1, deduplicate, tie)
    letters, documents = make_letters(2, 90), make_documents(2, 90)
    reads = find_reads(letters, window, documents, gradient=True)
    assert len(reads.rows) == (3 if deduplicate else 5)
    first = 0
    for n, k in enumerate(window.kmer_sizes):
        rows, valid = index_kmers(letters, k, documents, tie)
        assert torch.equal(reads.rows[n].long(), torch.where(valid, rows, -1))
        begin, end = count_lifetimes(rows, valid, k, window, documents)
        count = count_occurrences(begin, end)
        share = torch.where(count > 0, 1 / count.clamp(min=1), 0).float()
        assert torch.equal(reads.shares[n], share)
        check_ranges(reads, n, first, 5**k)
        first += 5**k
    if not deduplicate:
        for n, k in ((3, 3), (4, 2)):
            rows, valid = index_kmers(letters, k, documents)
            number = sum(rows // 5**place % 5 * 4**place for place in range(k))
            has_n = sum((rows // 5**place % 5 == 4).long() for place in range(k)) > 0
            assert torch.equal(reads.rows[n].long(), torch.where(valid & ~has_n, number, -1))
            check_ranges(reads, n, first, 4**k)
            first += 4**k
        full = pool_by_definition(
            [torch.ones(5**k, 1, dtype=torch.float64, device=DEVICE) for k in (3,)],
            letters.masked_fill(letters == 4, -1),
            replace(window, kmer_sizes=(3,)),
            documents,
        )
        assert torch.equal(reads.shares[3], reads.shares[4])
        assert not reads.shares[3][full[..., 0] == 0].any()
    assert first == reads.ranges.shape[2]


def check_ranges(reads, n: int, first: int, rows: int) -> None:
    flat = reads.rows[n].flatten()
    for row in range(rows):
        found = [reads.order[a:b] for a, b in reads.ranges[:, :, first + row].tolist()]
        assert torch.equal(torch.cat(found).sort().values, (flat == row).nonzero()[:, 0])


def test_index_of_a_part():
    """Pieces of a long sequence read the index of the whole."""
    window = KmerWindow((1, 2), 9, 0, True, False)
    letters, documents = make_letters(2, 90), make_documents(2, 90)
    tables, _ = make_weights([(5, 7), (25, 7)], torch.float32)
    whole = find_reads(letters, window, documents)
    with torch.no_grad():
        expected = pool_rows(tables, whole, window)[:, 30:60]
        ours = pool_rows(tables, whole.narrow(30 - window.history, 60), window, window.history)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)


def test_gradients_of_rows_are_the_same_bits_every_time(monkeypatch):
    """Also a layer at a time, as where all of them would take too much memory."""
    window = KmerWindow((1, 2), 9, 0, False, False)
    reads = find_reads(make_letters(1, 140), window, gradient=True)
    leaves, _ = make_weights([(5, 16), (25, 16), (8, 32), (8, 32)], torch.float32)
    cotangents = torch.randn(1, 140, 32, device=DEVICE), torch.randn(1, 140, 16, device=DEVICE)

    def differentiate():
        pooled = torch.autograd.grad(pool_rows(leaves[:2], reads, window), leaves[:2], cotangents[0])
        read = read_tables(leaves[:2], *leaves[2:], reads, window)
        return [*pooled, *torch.autograd.grad(read, leaves, cotangents[1])]

    first, second = differentiate(), differentiate()
    monkeypatch.setattr(triton_rows, "GROUP_BYTES", 1)
    for a, b, c in zip(first, second, differentiate(), strict=True):
        assert torch.equal(a, b) and torch.equal(a, c)


def test_operators_keep_their_promises_to_the_compiler():
    """Schema, fake kernels (shapes, dtypes, strides) and gradients, as `torch.library.opcheck` examines them."""
    checks = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_static")
    window = KmerWindow((1, 2), 4, 0, False, False)
    letters, documents, described = make_letters(1, 9), make_documents(1, 9), describe_window(window)
    leaves, _ = make_weights([(5, 4), (25, 4), (3, 8), (3, 8)], torch.float32)
    for gradient in (False, True):
        torch.library.opcheck(triton_index._find_reads, (letters, documents, described, gradient), test_utils=checks)
    reads = find_reads(letters, window, documents, gradient=True).tensors()
    torch.library.opcheck(triton_rows._pool_rows, (leaves[:2], *reads, described, 2), test_utils=checks)
    torch.library.opcheck(
        triton_tables._read_tables, (leaves[:2], *leaves[2:], *reads, described, 2, torch.float32), test_utils=checks
    )


def make_memory(D: int = 12, dtype: torch.dtype = torch.float32, **fields) -> MotifMemory:
    torch.manual_seed(0)
    return MotifMemory(make_config(D, **fields)).to(DEVICE, dtype)


def make_config(D: int, **fields) -> GengramConfig:
    backbone = LlamaConfig(hidden_size=D, num_attention_heads=1, num_hidden_layers=1, vocab_size=16)
    fields = {"memory_dim": 6, "kmer_sizes": [1, 2], "window_size": 9, **fields}
    return GengramConfig(backbone_config=backbone, memory_layers=[0], **fields)


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
    """By themselves: projected tables in evaluation and, if they are wide, for many tokens; otherwise pooled rows."""
    memory = make_memory(deduplicate=deduplicate)
    many, few = KmerContext(torch.zeros(1, 40_000, dtype=torch.int64, device=DEVICE)), KmerContext(make_letters(1, 12))
    assert memory.choose_path(many) == memory.choose_path(few) == "triton_pooled"
    with torch.device("meta"):
        wide = MotifMemory(make_config(1024, kmer_sizes=None, memory_dim=1024, deduplicate=deduplicate))
    assert (wide.choose_path(many), wide.choose_path(few)) == ("triton", "triton_pooled")
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


@pytest.mark.parametrize("checkpointing", [None, {"use_reentrant": False}, {"use_reentrant": True}], ids=str)
def test_memories_of_a_model_share_one_index(checkpointing):
    """Made once a forward pass, also where layers are computed again for the backward pass."""
    torch.manual_seed(0)
    backbone = LlamaConfig(
        hidden_size=8, intermediate_size=8, num_attention_heads=1, num_hidden_layers=3, vocab_size=16, use_cache=False
    )
    fields = {
        "kmer_sizes": [1, 2],
        "window_size": 5,
        "memory_dim": 4,
        "base_token_ids": [5, 6, 7, 8, 9],
        "gate": "sigmoid",
    }
    model = GengramModel(GengramConfig(backbone_config=backbone, memory_layers=[0, 1, 2], **fields)).to(DEVICE)
    input_ids = torch.randint(5, 10, (1, 20), device=DEVICE)
    if checkpointing is not None:
        model.train().gradient_checkpointing_enable(checkpointing)
    assert can_run_kernels(DEVICE, torch.float32, MotifMemory)  # which tries them, once
    with record_launches() as launches:
        found = model(input_ids).last_hidden_state
        cotangent = torch.randn_like(found)
        found.backward(cotangent)
    gradients = [weight.grad for weight in model.memory.parameters()]
    names = [launch.name for launch in launches]
    assert names.count("_find_rows_kernel") == names.count("_find_ranges_kernel") == 1
    for memory in model.memory.values():
        memory.path = "definition"
    model.gradient_checkpointing_disable()
    expected = model(input_ids).last_hidden_state
    assert_near(found, expected.double(), 1e-6)
    wanted = torch.autograd.grad(expected, list(model.memory.parameters()), cotangent)
    assert_near(torch.cat([x.flatten() for x in gradients]), torch.cat([x.flatten() for x in wanted]).double(), 1e-4)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_gives_the_same_gradients(reentrant, form):
    memory = make_memory().train()
    memory.path = form
    context, hidden = KmerContext(make_letters(1, 9)), torch.randn(1, 9, 12, device=DEVICE, requires_grad=True)
    memory(hidden, context).sum().backward()
    leaves = [hidden, *memory.parameters()]
    expected = [leaf.grad for leaf in leaves]
    for leaf in leaves:
        leaf.grad = None
    checkpoint(memory, hidden, context, use_reentrant=reentrant).sum().backward()
    assert all(torch.equal(leaf.grad, wanted) for leaf, wanted in zip(leaves, expected))


def test_pieces_of_a_long_sequence_share_the_index():
    memory = make_memory().eval()
    context = KmerContext(make_letters(2, 50), make_documents(2, 50), history=7)
    hidden = torch.randn(2, 43, 12, device=DEVICE)
    with torch.no_grad():
        expected = memory(hidden, context)
        with record_launches() as launches:
            reach = memory.short_conv.history
            indexed = memory.index(context)
            found = run_in_chunks(memory._write, hidden, indexed, memory.window, reach, chunk=20)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert [launch.name for launch in launches].count("_find_rows_kernel") == 1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(0, 5), (2, 0)], ids=str)
def test_a_batch_of_nothing_has_gradients_of_zero(shape, form):
    memory = make_memory().train()
    memory.path = form
    hidden = torch.randn(*shape, 12, device=DEVICE, requires_grad=True)
    found = memory(hidden, KmerContext(torch.zeros(shape, dtype=torch.int64, device=DEVICE)))
    assert found.shape == hidden.shape
    gradients = torch.autograd.grad(found.sum(), [hidden, *memory.parameters()])
    assert not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("preset", ["released", "paper"])
def test_kernels_launch_beside_their_tensors_and_for_any_number_of_sequences(preset, form, monkeypatch):
    """On the device of the tensors, which need not be the current one; along the first axis, which has no limit."""
    depth, inside = 0, 0

    @contextlib.contextmanager
    def device_of(tensor):
        nonlocal depth, inside
        assert tensor.device.type == DEVICE
        before, depth = len(launches), depth + 1
        yield
        depth -= 1
        if depth == 0:
            inside += len(launches) - before

    memory, grids = make_memory(memory_preset=preset), []
    memory.path = form
    monkeypatch.setattr(torch.cuda, "device_of", device_of)
    for B in (1, 3):
        inside = 0
        context, hidden = KmerContext(make_letters(B, 20)), torch.randn(B, 20, 12, device=DEVICE)
        with record_launches() as launches:
            memory.train()(hidden, context).sum().backward()
            with torch.no_grad():
                memory.eval()(hidden, context)
        assert 10 < len(launches) == inside
        memory.table_cache.clear()
        grids.append([(launch.name, launch.grid[1:]) for launch in launches])
    assert grids[0] == grids[1]


def test_index_moves_with_its_context():
    memory = make_memory()
    context = memory.index(KmerContext(make_letters(1, 9), make_documents(1, 9)))
    moved = context.to("meta")
    assert {x.device.type for x in moved.reads.tensors()} == {"meta"}
    with torch.no_grad():
        assert memory.index(KmerContext(make_letters(1, 9))).reads.order is None  # no gradients, no sort


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


@pytest.mark.slow  # to the interpreter, which merges the rows of k = 1..6 one by one
@pytest.mark.parametrize("form", FORMS)
def test_released_module(released_case, form):
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
