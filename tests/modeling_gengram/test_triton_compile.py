"""The Triton kernels compiled to machine code for GPUs that are not here: that they compile, and without spilling."""

import importlib.util
import re
import subprocess
from pathlib import Path

import pytest

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton has no release for this system", allow_module_level=True)

BLOCKS = {"B": "i32", "S": "i32", "T": "i32", "C": "i32", "D": "i32", "N": "i32"}
PLANES = {"layers": "*i32", "rows": "*i32", "life": "*i32", "share": "*fp32", "keys": "*i32"}
GATE = {"hidden_stride": "i32", "key_stride": "i32", "hidden_eps": "fp32", "key_eps": "fp32"}


def kernels(dtype: str) -> list:
    """Each kernel with the types of its arguments (those left out are constants), constants, warps and stages."""
    from triton import language as tl

    from gengram.gengram import triton_convolution, triton_gate, triton_index, triton_rows

    data = f"*{dtype}"
    operand = {"fp32": tl.float32, "bf16": tl.bfloat16, "fp16": tl.float16}[dtype]
    index = (
        BLOCKS | PLANES | {"letters": "*i64", "documents": "*i64", "lookup": "*i32", "history": "i32", "unread": "i32"}
    )
    index_constants = {"CUT": True, "BLOCK": triton_index.BLOCK, "DEDUPLICATE": True, "MERGED": 2}
    found = [
        (getattr(triton_index, name), index, index_constants, 4, 3)
        for name in ("_look_up_rows", "_measure_lives", "_measure_shares", "_mark_unread")
    ]
    band = BLOCKS | PLANES | {"table": data, "out": data, "gradient": data, "received": "*fp32"}
    band |= dict.fromkeys(("first_layer", "last_layer", "base", "out_stride", "out_column"), "i32")
    band |= dict.fromkeys(("n", "unread", "stride", "column"), "i32")
    tile = {"CUT": False, "documents": None, "TILE": triton_rows.TILE, "CHUNK": triton_rows.CHUNK, "OPERAND": operand}
    for config in triton_rows.COLUMNS[: 1 if dtype == "fp32" else None]:
        for kernel in (triton_rows._sum_rows_kernel, triton_rows._collect_kernel):
            found.append((kernel.fn, band, tile | config.kwargs, config.num_warps, config.num_stages))
    by_row = BLOCKS | {"received": "*fp32", "order": "*i64", "offsets": "*i64", "table": data}
    by_row |= dict.fromkeys(("start", "first_row", "base"), "i32")
    for steps in ({"BLOCK_E": 64, "BLOCK_C": 64}, {"BLOCK_E": 8, "BLOCK_C": 512}):
        found.append((triton_rows._add_by_row_kernel, by_row, steps, 4, 3))
    names = ("hidden", "key", "hidden_weight", "key_weight", "d_hidden", "d_key")
    gate = BLOCKS | GATE | dict.fromkeys(names, data) | dict.fromkeys(("gate", "gradient", "d_product"), "*fp32")
    for kernel in (triton_gate._score_gate_kernel, triton_gate._score_gate_backward_kernel):
        found.append((kernel, gate, {"SIGNED_SQRT": True, "ROWS": 4, "BLOCK_D": 1024}, 8, 3))
    mix = BLOCKS | {"stride": "i32", "dilation": "i32", "documents": "*i64"}
    mix |= dict.fromkeys(("value", "weight", "out", "gradient", "d_value"), data)
    mix |= dict.fromkeys(("gate", "d_mixed", "d_weight", "d_gate"), "*fp32")
    shape = {"TAPS": 4, "CUT": True, "BLOCK_T": triton_convolution.BLOCK_T, "BLOCK_D": triton_convolution.BLOCK_D}
    for name in ("_mix_gated_kernel", "_differentiate_mixed_kernel", "_differentiate_gated_kernel"):
        found.append((getattr(triton_convolution, name), mix, shape, 4, 3))
    return found


@pytest.mark.parametrize("capability, dtype", [(90, "bf16"), (80, "fp32")])
def test_kernels_compile_without_spilling(capability, dtype, tmp_path, monkeypatch):
    """An H100 and an A100; hidden sizes that 16 divides. What registers cannot hold lies on the slow stack."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    dump = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    for kernel, types, constants, num_warps, num_stages in kernels(dtype):
        names = kernel.arg_names
        signature = {name: "constexpr" if name in constants else types[name] for name in names}
        divisible = {
            (i,): [["tt.divisibility", 16]]
            for i, name in enumerate(names)
            if signature[name].startswith("*") or name in ("C", "D") or name.endswith(("stride", "column"))
        }
        values = {(names.index(name),): value for name, value in constants.items() if name in names}
        source = ASTSource(kernel, signature, constexprs=values, attrs=divisible)
        options = {"num_warps": num_warps, "num_stages": num_stages}
        compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
        code = tmp_path / f"{kernel.__name__}.cubin"
        code.write_bytes(compiled.asm["cubin"])
        usage = subprocess.run([dump, "--dump-resource-usage", code], capture_output=True, text=True, check=True).stdout
        registers, stack = map(int, re.search(r"REG:(\d+) STACK:(\d+)", usage).groups())
        shape = {name: value for name, value in constants.items() if name.startswith(("BLOCK", "ROWS"))}
        print(f"{kernel.__name__} {shape}: {registers} registers, {compiled.metadata.shared} bytes shared")
        assert stack <= 32, f"{kernel.__name__} {shape} spills {stack} bytes a thread"
        assert compiled.metadata.shared <= 99 * 1024, kernel.__name__  # what every GPU since the A100 has
