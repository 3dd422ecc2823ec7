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
STRIDES = dict.fromkeys((f"{name}_stride" for name in ("hidden", "key", "value", "d_key", "d_value")), "i32")
GATE = STRIDES | {"stride": "i32", "dilation": "i32", "programs": "i32", "tiles": "i32"}
GATE |= {"documents": "*i64", "real": "*i1", "hidden_eps": "fp32", "key_eps": "fp32", "out_eps": "fp32"}


def kernels(dtype: str) -> list:
    """Each kernel with the types of its arguments (those left out are constants), constants, warps and stages."""
    from triton import language as tl

    from gengram.gengram import triton_gate, triton_index, triton_rows

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
    names = ("hidden", "key", "value", "hidden_weight", "key_weight", "out_weight", "weight", "gradient", "out")
    gate = BLOCKS | GATE | dict.fromkeys((*names, *(f"d_{name}" for name in names)), data)
    gate |= dict.fromkeys(("scores", "gate", "d_product", "d_mixed", "d_more", "d_weight"), "*fp32")
    taps = {"CUT": True, "TAPS": 4}
    mix = taps | {"BLOCK_T": triton_gate.MIX_T, "BLOCK_D": triton_gate.MIX_D}
    back = taps | {"SIGNED_SQRT": True, "BLOCK_T": triton_gate.BACK_T, "BLOCK_D": triton_gate.BACK_D}
    found += [(triton_gate._mix_gated_kernel, gate, mix, 4, 3)]
    found += [(triton_gate._differentiate_mixed_kernel, gate, mix, 4, 3)]
    sums = {"MORE": 4, "BLOCK_P": triton_gate.SUM_P, "BLOCK_D": triton_gate.SUM_D}
    found += [(triton_gate._sum_tiles_kernel, gate | {"d_out_weight": data}, sums, 4, 3)]
    for mixer in triton_gate.MIXERS.values():
        score = {"SIGNED_SQRT": True, "PADDED": True, "MIXER": mixer, "ROWS": 4, "BLOCK_D": 1024}
        found += [(triton_gate._score_kernel, gate, score, 8, 3)]
        found += [(triton_gate._differentiate_gated_kernel, gate, back | {"MIXER": mixer}, 4, 3)]
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
        shape = {name: value for name, value in constants.items() if name.startswith(("BLOCK", "ROWS", "MIXER"))}
        print(f"{kernel.__name__} {shape}: {registers} registers, {compiled.metadata.shared} bytes shared")
        assert stack <= 32, f"{kernel.__name__} {shape} spills {stack} bytes a thread"
        assert compiled.metadata.shared <= 99 * 1024, kernel.__name__  # what every GPU since the A100 has
