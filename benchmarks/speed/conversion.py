"""How much memory and time a conversion takes: `python -m gengram.benchmarks.speed.conversion --gigabytes 3`.

A checkpoint of random numbers in the shape of the published 1.2B mixture of experts, as Megatron would store it, is
converted there and back, each way in a process of its own (Linux).
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from gengram.benchmarks.speed.program import answer, make_parser, run_apart
from gengram.conversion.megatron_files import name_rank
from gengram.conversion.to_megatron import make_arguments
from gengram.gengram.configuration_gengram import GengramConfig
from gengram.progress import track

# Peak above what the imports take, in the process that converts.
_CHILD = """
import json, sys, time
from gengram.benchmarks.speed.measure import read_status
from gengram.conversion import megatron, to_megatron
from gengram.conversion.megatron import make_skeleton

imported, begun = read_status("VmHWM"), time.perf_counter()
convert = {"megatron": megatron.convert_megatron, "to-megatron": to_megatron.convert_to_megatron}[sys.argv[1]]
convert(sys.argv[2], sys.argv[3])
seconds, peak = time.perf_counter() - begun, read_status("VmHWM") - imported
print(json.dumps({"seconds": seconds, "peak": peak, "imported": imported}))
"""


def write_checkpoint(folder: Path, config: GengramConfig, pipeline_parallel: int) -> None:
    """A legacy checkpoint of random bfloat16 numbers, in Transformer Engine's names, with a memory in every layer."""
    arguments = make_arguments(config)
    arguments |= {
        "tensor_model_parallel_size": 1,
        "pipeline_model_parallel_size": pipeline_parallel,
        "expert_model_parallel_size": 1,
        "seq_length": 8192,
    }
    layers = arguments["num_layers"] // pipeline_parallel
    with track(total=arguments["num_layers"], desc="Making", unit=" layers") as progress:
        for stage in range(pipeline_parallel):
            shapes: dict[str, tuple[int, ...]] = {}
            if stage == 0:
                shapes["embedding.word_embeddings.weight"] = (config.vocab_size, config.hidden_size)
            if stage == pipeline_parallel - 1:
                shapes["decoder.final_layernorm.weight"] = (config.hidden_size,)
                shapes["output_layer.weight"] = (config.vocab_size, config.hidden_size)
            model = {name: torch.rand(shape, dtype=torch.bfloat16) for name, shape in shapes.items()}
            for layer in range(layers):
                for name, shape in _list_shapes(arguments).items():
                    model[f"decoder.layers.{layer}.{name}"] = torch.rand(shape, dtype=torch.bfloat16)
                progress.update()
            target = folder / "iter_0000001" / name_rank(0, stage, 0, pipeline_parallel, 1)
            target.mkdir(parents=True)
            torch.save({"args": argparse.Namespace(**arguments), "model": model}, target / "model_optim_rng.pt")
    (folder / "latest_checkpointed_iteration.txt").write_text("1")


def _list_shapes(arguments: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Tensors of one layer: grouped attention, grouped experts, memory."""
    D, width = arguments["hidden_size"], arguments["moe_ffn_hidden_size"]
    heads = arguments["num_attention_heads"] * arguments["kv_channels"]
    keys = 2 * arguments["num_query_groups"] * arguments["kv_channels"]
    shapes: dict[str, tuple[int, ...]] = {
        "self_attention.linear_qkv.layer_norm_weight": (D,),
        "self_attention.linear_qkv.weight": (heads + keys, D),
        "self_attention.linear_proj.weight": (D, heads),
        "pre_mlp_layernorm.weight": (D,),
        "mlp.router.weight": (arguments["num_experts"], D),
    }
    for expert in range(arguments["num_experts"]):
        shapes[f"mlp.experts.linear_fc1.weight{expert}"] = (2 * width, D)
        shapes[f"mlp.experts.linear_fc2.weight{expert}"] = (D, width)
    E, sizes = arguments["gengram_embed_dim_per_ngram"], arguments["gengram_ngram_sizes"]
    shapes |= {f"gengram.embeddings.{i}.weight": (5**k, E) for i, k in enumerate(sizes)}
    shapes |= {f"gengram.{name}_proj.weight": (D, E * len(sizes)) for name in ("key", "value")}
    shapes |= {f"gengram.{name}.weight": (D,) for name in ("norm_q", "norm_k")}
    return shapes | {"gengram.short_conv.conv.weight": (D, 1, arguments["gengram_short_conv_kernel_size"])}


def choose_config(gigabytes: float) -> GengramConfig:
    """The 1.2B mixture of experts, with as many layers (an even number) as the size asks for."""
    config = GengramConfig.from_size("1.2b-moe-gqa", memory_layers=[0])
    arguments = make_arguments(config)
    layer = 2 * sum(torch.Size(shape).numel() for shape in _list_shapes(arguments).values())
    layers = 2 * max(-(-int(gigabytes * 1e9) // (2 * layer)), 1)
    config.backbone_config.num_hidden_layers = layers
    return config


def measure_conversion(folder: Path, config: GengramConfig, pipeline_parallel: int = 2) -> list[dict[str, Any]]:
    """
    Convert a synthetic checkpoint and convert the result back, below `folder`.

    Returns:
        One entry a direction: `direction`, `bytes` of the input, `seconds`, `peak` bytes above the imports, `largest`
        shard of the input, `tensor` (largest of the output), and `bound` = largest + 2 * tensor, all in bytes.
    """
    write_checkpoint(folder / "megatron", config, pipeline_parallel)
    rows = []
    for direction, source, target in (("megatron", "megatron", "ours"), ("to-megatron", "ours", "again")):
        shards = [
            path.stat().st_size for path in (folder / source).rglob("*") if path.suffix in (".pt", ".safetensors")
        ]
        measured = json.loads(run_apart("-c", _CHILD, direction, str(folder / source), str(folder / target)))
        row = {"direction": direction, "bytes": sum(shards), **measured, "largest": max(shards)}
        if direction == "megatron":
            tensor = _find_largest(folder / target)
        else:  # an expert's first matrix, or a table: nothing else is as large
            shapes = [*_list_shapes(make_arguments(config)).values(), (config.vocab_size, config.hidden_size)]
            tensor = 2 * max(torch.Size(shape).numel() for shape in shapes)
        rows.append({**row, "tensor": tensor, "bound": max(shards) + 2 * tensor})
    return rows


def _find_largest(folder: Path) -> int:
    largest = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a dict
                largest = max(largest, 2 * torch.Size(file.get_slice(name).get_shape()).numel())
    return largest


def tabulate(rows: list[dict[str, Any]]) -> str:
    """The table for the terminal."""
    lines = [f"{'convert':<12}{'input':>9}{'time':>9}{'peak':>10}{'bound':>10}   (peak above the imports)"]
    for row in rows:
        size = f"{row['bytes'] / 1e9:>6.2f} GB{row['seconds']:>7.1f} s"
        lines.append(f"{row['direction']:<12}{size}{row['peak'] / 1e6:>7.0f} MB{row['bound'] / 1e6:>7.0f} MB")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Print the table; exit code 0, or 1 if a peak is above its bound or the disk is too small."""
    parser = make_parser("conversion", __doc__, "--gigabytes 3 --json conversion.json")
    parser.add_argument("--gigabytes", type=float, default=3.0, help="size of the checkpoint, at least")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="needs three times that")
    arguments = parser.parse_args(argv)
    if not Path("/proc/self/status").is_file():
        print("error: the peak of a process is measured on Linux only", file=sys.stderr)
        return 1
    free = shutil.disk_usage(arguments.folder).free
    if free < 4e9 * arguments.gigabytes:
        print(f"error: {arguments.folder} has {free / 1e9:.0f} GB free; choose another --folder", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        rows = measure_conversion(Path(folder), choose_config(arguments.gigabytes))
    failed = answer(parser, tabulate(rows), rows, arguments.json)
    return failed or int(any(row["peak"] > row["bound"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())

__all__ = ["choose_config", "main", "measure_conversion", "tabulate", "write_checkpoint"]
