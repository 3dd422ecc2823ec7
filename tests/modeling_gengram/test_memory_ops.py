"""Every fast form against the definition: values, every gradient, awkward shapes, long sequences."""

import itertools

import pytest
import torch

from gengram.gengram.kmer_index import KmerWindow
from gengram.gengram.memory_ops import (
    convolve_causal,
    find_full_windows,
    gate_scores,
    pool_by_definition,
    pool_by_lifetime,
    pool_by_window,
    read_merged,
)
from gengram.gengram.merged_tables import merge_tables

SIZES = (1, 2, 3, 4, 5, 6)


def make_letters(B: int, S: int, seed: int = 0) -> torch.Tensor:
    """Bases with N, invalid tokens and a run of one letter."""
    generator = torch.Generator().manual_seed(seed)
    letters = torch.randint(0, 4, (B, S), generator=generator)
    noise = torch.rand(B, S, generator=generator)
    letters[noise < 0.02] = 4
    letters[noise > 0.98] = -1
    letters[0, : S // 3] = 0
    return letters


def make_documents(B: int, S: int) -> torch.Tensor:
    return (torch.rand(B, S, generator=torch.Generator().manual_seed(1)) < 0.05).cumsum(1)


def make_tables(sizes, E: int, dtype=torch.float64, seed: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(5**k, E, dtype=dtype, generator=generator).requires_grad_() for k in sizes]


WINDOWS = [
    pytest.param(KmerWindow(sizes, size, lag, deduplicate, tie), id=name)
    for name, sizes, size, lag, deduplicate, tie in [
        ("released", SIZES, 21, 0, False, False),
        ("released-w6", SIZES, 6, 0, False, False),
        ("released-n23", (2, 3), 12, 0, False, False),
        ("sizes-unordered", (3, 1, 5), 9, 0, False, False),
        ("one-size", (1,), 1, 0, False, False),
        ("paper", SIZES, 21, 1, True, False),
        ("algorithm-1", SIZES, 21, 1, False, False),
        ("set-with-current", (1, 2), 7, 0, True, False),
        ("no-window", SIZES, None, 0, False, False),
        ("centred", SIZES, 21, -10, False, False),
        ("centred-even-set", (1, 2, 3), 8, -3, True, False),
        ("tied", (1, 2, 3), 10, 0, False, True),
        ("tied-set", (2, 3), 10, 1, True, True),
        ("longer-than-sequence", (2, 3), 300, 0, False, False),
    ]
]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("S, H", [(1, 0), (5, 0), (40, 0), (63, 7), (130, 20)])
@pytest.mark.parametrize("packed", [False, True], ids=["one-document", "packed"])
def test_lifetimes_and_windows_equal_the_definition(window, S, H, packed, monkeypatch):
    letters, documents = make_letters(2, S), make_documents(2, S) if packed else None
    tables = make_tables(window.kmer_sizes, 3)
    exact = pool_by_definition(tables, letters, window, documents)[:, H:]
    fast = pool_by_lifetime(tables, letters, window, documents, H, block=16)
    torch.testing.assert_close(fast, exact, rtol=0, atol=1e-12)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    exported = pool_by_lifetime(tables, letters, window, documents, H)
    torch.testing.assert_close(exported, exact, rtol=0, atol=1e-12)
    window_by_window = pool_by_window(tables, letters, window, documents, H)
    torch.testing.assert_close(window_by_window, exact, rtol=0, atol=1e-12)
    cotangent = torch.randn_like(exact)
    for pooled in (fast, window_by_window):
        for ours, reference in zip(
            torch.autograd.grad(pooled, tables, cotangent),
            torch.autograd.grad(exact, tables, cotangent, retain_graph=True),
        ):
            torch.testing.assert_close(ours, reference, rtol=0, atol=1e-11)


@pytest.mark.parametrize("window", [w for w in WINDOWS if w.values[0].size and not w.values[0].deduplicate])
@pytest.mark.parametrize("S, H", [(1, 0), (5, 0), (40, 0), (63, 7), (130, 20)])
@pytest.mark.parametrize("packed", [False, True], ids=["one-document", "packed"])
@pytest.mark.parametrize("in_use", [True, False], ids=["rows-in-use", "all-without-n"])
def test_merged_tables_equal_the_definition(window, S, H, packed, in_use):
    letters, documents = make_letters(2, S), make_documents(2, S) if packed else None
    E, D = 3, 4
    tables = make_tables(window.kmer_sizes, E)
    weights = [torch.randn(D, len(tables) * E, dtype=torch.float64).requires_grad_() for _ in range(2)]
    pooled = pool_by_definition(tables, letters, window, documents)[:, H:]
    exact = torch.cat([pooled @ weight.T for weight in weights], dim=-1)
    merged = merge_tables(tables, *weights, window, letters if in_use else None)
    fast = torch.cat(read_merged(merged, tables, *weights, letters, window, documents, H), dim=-1)
    torch.testing.assert_close(fast, exact, rtol=0, atol=1e-11)
    leaves, cotangent = [*tables, *weights], torch.randn_like(exact)
    for ours, reference in zip(
        torch.autograd.grad(fast, leaves, cotangent), torch.autograd.grad(exact, leaves, cotangent)
    ):
        torch.testing.assert_close(ours, reference, rtol=0, atol=1e-10)


@pytest.mark.parametrize("deduplicate, size", [(True, 21), (False, None)])
def test_merged_tables_refuse_what_they_cannot_do(deduplicate, size):
    window = KmerWindow((1, 2), size, 0, deduplicate, False)
    weight = torch.zeros(2, 6, dtype=torch.float64)
    with pytest.raises(ValueError, match="merge only where"):
        merge_tables(make_tables((1, 2), 3), weight, weight, window)


def test_merged_tables_are_differentiated_in_their_own_precision():
    window = KmerWindow((1, 2), 5, 0, False, False)
    tables = [table.detach().float().requires_grad_() for table in make_tables((1, 2), 3)]
    weights = [torch.randn(4, 6, requires_grad=True) for _ in range(2)]
    leaves = [*tables, *weights]
    plain = torch.autograd.grad(merge_tables(tables, *weights, window).rows.sum(), leaves)
    rows = merge_tables(tables, *weights, window).rows
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = torch.autograd.grad(rows.sum(), leaves)
    assert all(torch.equal(*pair) for pair in zip(found, plain))


@pytest.mark.parametrize("lag", [0, 1, -3])
def test_full_windows_are_those_with_every_base(lag):
    letters, documents = make_letters(2, 60), make_documents(2, 60)
    window = KmerWindow((1, 2), 7, lag, False, False)
    full = find_full_windows(letters, window, documents)
    for b, t in itertools.product(range(2), range(60)):
        places = range(t - lag - 6, t - lag + 1)
        expected = all(0 <= p < 60 and letters[b, p] >= 0 and documents[b, p] == documents[b, t] for p in places)
        assert bool(full[b, t]) is expected


def test_a_bad_value_stays_inside_its_window():
    """Prefix sums spread one NaN over the whole rest; sums that start anew do not."""
    letters = torch.zeros(1, 200, dtype=torch.int64)
    letters[0, 50] = 3
    tables = [torch.ones(5, 2, dtype=torch.float64)]
    tables[0][3] = float("nan")
    window = KmerWindow((1,), 5, 0, False, False)
    pooled = pool_by_lifetime(tables, letters, window, block=1)
    assert torch.isnan(pooled[0, 50:55]).all()
    assert torch.isfinite(pooled[0, :50]).all() and torch.isfinite(pooled[0, 55:]).all()


@pytest.mark.parametrize("dtype, allowed", [(torch.float32, 1e-6), (torch.bfloat16, 5e-3)])
def test_error_does_not_grow_with_length(dtype, allowed):
    """Relative L2 of key and value against float64 of the same rounded weights, at 8k, 32k and 131k bases."""
    E, D = 16, 16
    window = KmerWindow(SIZES, 21, 0, False, False)
    generator = torch.Generator().manual_seed(3)
    tables = [(torch.randn(5**k, E, generator=generator) + 0.25).to(dtype) for k in SIZES]
    bound = (len(SIZES) * E) ** -0.5
    weights = [torch.empty(D, len(SIZES) * E).uniform_(-bound, bound, generator=generator).to(dtype) for _ in range(2)]
    letters = torch.randint(0, 4, (1, 131072), generator=generator)
    errors: dict[str, list[float]] = {"lifetime": [], "merged": []}
    for S in (8192, 32768, 131072):
        x = letters[:, :S]
        pooled = pool_by_definition([table.double() for table in tables], x, window)
        truth = torch.cat([pooled @ weight.double().T for weight in weights], dim=-1)
        lifetime = pool_by_lifetime(tables, x, window)
        found = {
            "lifetime": torch.cat([lifetime @ weight.T for weight in weights], dim=-1),
            "merged": torch.cat(
                read_merged(merge_tables(tables, *weights, window, x), tables, *weights, x, window), dim=-1
            ),
        }
        for form, kv in found.items():
            errors[form].append(float((kv.double() - truth).norm() / truth.norm()))
    for form, (at_8k, at_32k, at_131k) in errors.items():
        print(f"{form} {dtype}: {at_8k:.2e} {at_32k:.2e} {at_131k:.2e}")
        assert max(at_8k, at_32k, at_131k) <= allowed, form
        assert at_131k <= 1.1 * at_8k, form


def test_released_gate_jumps_at_zero_and_has_no_slope_there():
    key = torch.ones(1, 5, 4, dtype=torch.float64)
    hidden = torch.tensor([0.0, 1e-9, -1e-9, 2.0, -2.0], dtype=torch.float64)[None, :, None].expand(1, 5, 4)
    hidden = hidden.clone().requires_grad_()
    gate = gate_scores(hidden, key, "signed_sqrt")
    expected = torch.tensor([0.0, 1e-3, -1e-3, 2.0, -2.0], dtype=torch.float64).sigmoid()  # s = 4 x / sqrt(4)
    torch.testing.assert_close(gate[0, :, 0], expected)
    gate.sum().backward()
    assert torch.equal(hidden.grad[0, :3], torch.zeros(3, 4, dtype=torch.float64))
    assert (hidden.grad[0, 3:] > 0).all()
    torch.testing.assert_close(gate_scores(hidden, key, "sigmoid")[0, 3, 0], torch.tensor(4.0).double().sigmoid())


@pytest.mark.parametrize("S", [1, 5, 40])
def test_convolution_equals_torch(S):
    x = torch.randn(2, S, 6, dtype=torch.float64)
    weight = torch.randn(6, 1, 4, dtype=torch.float64)
    padded = torch.nn.functional.pad(x.transpose(1, 2), (9, 0))
    expected = torch.nn.functional.conv1d(padded, weight, groups=6, dilation=3).transpose(1, 2)
    torch.testing.assert_close(convolve_causal(x, weight, 3), expected)


def test_convolution_is_cut_at_documents():
    x, weight = torch.randn(1, 30, 3), torch.randn(3, 1, 4)
    documents = torch.tensor([[0] * 12 + [1] * 18])
    apart = torch.cat([convolve_causal(x[:, :12], weight, 2), convolve_causal(x[:, 12:], weight, 2)], dim=1)
    torch.testing.assert_close(convolve_causal(x, weight, 2, documents), apart)
