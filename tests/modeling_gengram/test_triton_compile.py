"""The Triton kernels compiled to machine code for GPUs that are not here: under every kind of argument."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton has no release for this system", allow_module_level=True)

import triton
import triton.language as tl

PROGRAM = Path(__file__).with_name("kernel_table.py")


def compile_kernels(tmp_path: Path, *arguments: str) -> list[dict]:
    """The rows of the table, made in a process of its own, which imports the kernels in another way."""
    file = tmp_path / "table.json"
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--json", str(file), *arguments], capture_output=True, text=True
    )
    print(done.stdout)
    assert file.is_file(), done.stderr[-4000:]
    return json.loads(file.read_text())["rows"]


def explain(rows: list[dict]) -> list[str]:
    return [f"{row['kernel']} [{row['variant']}] {row['specialisation']}: {row['fault']}" for row in rows]


def test_kernels_compile_for_hopper(tmp_path):
    """A slice of the table, each kernel and constant: bfloat16 on an H100."""
    rows = compile_kernels(tmp_path, "--sm", "90", "--dtype", "bf16", "--quick")
    assert len({row["kernel"] for row in rows}) >= 8
    assert {row["specialisation"] for row in rows} >= {"as called", "plain", "all one", "all 16", "all 64 bits"}
    assert not explain([row for row in rows if row["fault"]])


@pytest.mark.slow
def test_kernels_compile_for_every_kind_of_argument(tmp_path):
    """The whole table: A100 and H100, three dtypes, one argument at a time and all of them."""
    rows = compile_kernels(tmp_path, "--processes", "2")
    assert len(rows) >= 1_000
    assert {(row["dtype"], row["sm"]) for row in rows} >= {(d, sm) for d in ("fp32", "bf16", "fp16") for sm in (80, 90)}
    assert not explain([row for row in rows if row["fault"]])


@triton.jit
def _fill_plane(x, n, S, BLOCK: tl.constexpr):
    plane = n.to(tl.int64) * S
    tl.store(x + plane + tl.arange(0, BLOCK), 1.0, mask=tl.arange(0, BLOCK) < S)


@triton.jit
def _fill_plane_for_every_n(x, n, S, BLOCK: tl.constexpr):
    plane = tl.cast(n, tl.int64) * S
    tl.store(x + plane + tl.arange(0, BLOCK), 1.0, mask=tl.arange(0, BLOCK) < S)


@pytest.mark.parametrize("kernel, fails", [(_fill_plane, {"n one", "all one"}), (_fill_plane_for_every_n, set())])
def test_method_of_an_integer_argument_fails_where_it_is_one(kernel, fails, tmp_path, monkeypatch):
    """`n.to(tl.int64)`: the interpreter takes it, but for Triton's compiler an argument that is 1 is a Python int."""
    from kernel_launches import record_launches
    from kernel_table import choose_specialisations, compile_kernel, find_variants

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(triton.runtime.driver, "_active", None)  # and the old one again after the test
    with record_launches() as launches:
        kernel[(1,)](torch.zeros(64), 3, 32, BLOCK=32)
    rows = [
        compile_kernel(variant, specialisation, "fp32", 90)
        for variant, specialisation in choose_specialisations(find_variants(launches), quick=False)
    ]
    assert {row.specialisation for row in rows} == {
        "as called", "plain", "all one", "all 16", "all 64 bits", "unaligned",
        "n one", "n 16", "n 64 bits", "S one", "S 16", "S 64 bits",
    }  # fmt: skip
    assert {row.specialisation for row in rows if row.fault} == fails
    assert all("'int' object has no attribute 'to'" in row.error for row in rows if row.fault)


def test_specialisations_are_triton_s_own(tmp_path, monkeypatch):
    """What the just-in-time compiler makes of each kind of integer: its type, its constant, its divisibility."""
    from kernel_launches import record_launches
    from kernel_table import Driver, build_arguments, find_variants

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(triton.runtime.driver, "_active", Driver(90))
    with record_launches() as launches:
        _fill_plane_for_every_n[(1,)](torch.zeros(64), 3, 32, BLOCK=32)
    (variant,) = find_variants(launches)
    seen = {}
    for specialisation in ("as called", "plain", "n one", "n 16", "n 64 bits", "unaligned"):
        source = _fill_plane_for_every_n.run(grid=(1,), warmup=True, **build_arguments(variant, specialisation)).src
        divisible = sorted(
            name for (place,), what in source.attrs.items() for name in [source.fn.arg_names[place]] if what
        )
        seen[specialisation] = (source.signature["n"], source.constants.get((1,)), divisible)
    assert seen == {
        "as called": ("i32", None, ["S", "x"]),
        "plain": ("i32", None, ["x"]),
        "n one": ("constexpr", 1, ["x"]),
        "n 16": ("i32", None, ["n", "x"]),
        "n 64 bits": ("i64", None, ["x"]),
        "unaligned": ("i32", None, []),
    }
