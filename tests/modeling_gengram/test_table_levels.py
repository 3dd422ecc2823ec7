"""Sums over the k-mer sizes and their gradients: against the formula, compiled and eager, for any number of threads."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gengram.gengram import table_levels
from gengram.gengram.kmer_index import KmerWindow
from gengram.gengram.merged_tables import _find_kmers, merge_tables
from gengram.gengram.table_levels import find_levels, sum_rows

SIZES = [(1, 2, 3, 4), (1, 3, 5), (2, 5), (4,), (1,)]


def make_levels(sizes: tuple[int, ...], bases: int, columns: int = 6, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(bases)
    letters = torch.randint(-1, 5, (2, bases), generator=generator)
    levels = find_levels(_find_kmers(letters, sizes[-1]), sizes)
    shape = levels.bounds[-1] + len(levels.parts), columns
    return levels, *(torch.randn(shape, generator=generator, dtype=dtype) for _ in range(2))


def run(levels, rows, grad):
    merged = rows.clone()
    levels.add_up(merged)
    return merged, *levels.hand_down(grad)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("bases", [1, 4, 60, 700])
def test_compiled_and_eager_agree_whatever_the_threads(sizes, bases, monkeypatch):
    levels, rows, grad = make_levels(sizes, bases)
    monkeypatch.setattr(table_levels, "load_kernel", lambda: None)
    eager = run(levels, rows, grad)
    monkeypatch.undo()
    if table_levels.load_kernel() is None:
        pytest.skip("needs a C++ compiler")
    alone = run(levels, rows, grad)
    for ours, reference in zip(alone, eager, strict=True):
        torch.testing.assert_close(ours, reference, rtol=0, atol=1e-12)
    monkeypatch.setattr(table_levels, "count_threads", lambda rows: 3)
    assert all(torch.equal(*pair) for pair in zip(run(levels, rows, grad), alone, strict=True))


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("compiled", [True, False])
def test_handing_down_is_the_transpose_of_adding_up(sizes, compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr(table_levels, "load_kernel", lambda: None)
    levels, rows, grad = make_levels(sizes, 300)
    kept = grad.clone()
    merged, *parts = run(levels, rows, grad)
    own = torch.cat(parts)  # what a far row holds before does not matter
    torch.testing.assert_close((merged * grad).sum(), (rows[: len(own)] * own).sum(), rtol=1e-12, atol=1e-12)
    assert torch.equal(grad, kept)


def test_a_row_adds_its_ends_and_a_far_row_its_beginnings():
    letters = torch.tensor([[0, 1, 2]])  # ACG: of 1: A, C, G; of 2: AC, CG; of 3: ACG; far: AC, CG
    levels = find_levels(_find_kmers(letters, 3), (1, 2, 3))
    assert levels.bounds == (0, 3, 5, 6)
    rows = 10.0 ** torch.arange(8)[:, None]
    levels.add_up(rows)
    CG = 10_000 + 100  # with G
    assert rows.flatten().tolist() == [1, 10, 100, 1_000 + 10, CG, 100_000 + CG, 1_000 + 10 + 1, CG + 10]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.gpu
def test_on_a_gpu():
    levels, rows, grad = make_levels((1, 2, 3), 100)
    on_gpu = table_levels.TableLevels(levels.bounds, levels.parents.cuda(), levels.parts.cuda())
    for ours, reference in zip(run(on_gpu, rows.cuda(), grad.cuda()), run(levels, rows, grad), strict=True):
        torch.testing.assert_close(ours.cpu(), reference, rtol=0, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(groups=st.lists(st.integers(0, 6), max_size=30))
def test_sums_of_rows_are_those_of_index_add(groups):
    groups = torch.tensor(groups, dtype=torch.int64)
    rows = torch.randn(len(groups), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros(7, 3, dtype=torch.float64).index_add_(0, groups, rows)
    torch.testing.assert_close(sum_rows(rows, groups, 7), expected, rtol=0, atol=1e-12)


def test_bfloat16_tables_are_summed_in_float32():
    tables = [torch.randn(5**k, 4, dtype=torch.bfloat16) for k in (1, 2)]
    weights = [torch.randn(3, 8, dtype=torch.bfloat16) for _ in range(2)]
    rows = merge_tables(tables, *weights, KmerWindow((1, 2), 5, 0, False, False)).rows
    exact = merge_tables(
        [table.double() for table in tables], *(w.double() for w in weights), KmerWindow((1, 2), 5, 0, False, False)
    ).rows
    assert rows.dtype == torch.float32 and float((rows - exact).norm() / exact.norm()) < 1e-6
