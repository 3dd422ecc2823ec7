"""BigBird's attention beside transformers' own: `python -m gengram.benchmarks.speed.block_sparse`

Core attention of one layer at 4096 tokens, 12 heads of 64 channels, blocks of 64, 3 random blocks, evaluation
semantics, fp32: the same outputs, time as medians of rounds that take turns in one process, and peak memory of one call
in a process of its own (Linux). Dense attention stands beside them as the limit of doing nothing clever.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import BigBirdConfig
from transformers.models.big_bird.modeling_big_bird import BigBirdBlockSparseAttention, BigBirdModel

from gengram.benchmarks.speed.measure import measure_peak
from gengram.benchmarks.speed.program import answer, make_parser, run_apart
from gengram.command_line import whole_number
from gengram.gena.block_sparse_attention import attend_sparsely
from gengram.progress import track

B, H, D_HEAD, BLOCK, RANDOM = 1, 12, 64, 64, 3
MEGABYTE = 2**20
_MODULE = "gengram.benchmarks.speed.block_sparse"
TITLES = {
    "transformers": "transformers block_sparse",
    "gather": "gathered blocks",
    "flex": "flex_attention, compiled",
    "dense": "dense SDPA",
}


def make_parts(T: int, gradients: bool) -> list[torch.Tensor]:
    """Query, key, value [B, T, H, d] of random numbers."""
    torch.manual_seed(0)
    return [torch.randn(B, T, H, D_HEAD).requires_grad_(gradients) for _ in range(3)]


def make_arms(T: int) -> dict[str, Callable[[list[torch.Tensor]], torch.Tensor]]:
    """For each arm a function of query, key and value that returns [B, T, H, d]."""
    config = BigBirdConfig(
        hidden_size=H * D_HEAD,
        num_attention_heads=H,
        block_size=BLOCK,
        num_random_blocks=RANDOM,
        max_position_embeddings=max(T, 4096),
    )
    layer = BigBirdBlockSparseAttention(config, seed=0).eval()
    mask = torch.ones(B, T)
    blocked, band, from_mask, to_mask = BigBirdModel.create_masks_for_block_sparse_attn(mask, BLOCK)

    def run_transformers(parts: list[torch.Tensor]) -> torch.Tensor:
        query, key, value = (part.transpose(1, 2) for part in parts)
        sizes = (H, RANDOM, D_HEAD, BLOCK, BLOCK, B, T, T)
        masks = (band, from_mask, to_mask, blocked, blocked)
        return layer.bigbird_block_sparse_attention(
            query, key, value, *masks, *sizes, seed=0, plan_from_length=None, plan_num_rand_blocks=None
        )[0]

    def run_dense(parts: list[torch.Tensor]) -> torch.Tensor:
        return scaled_dot_product_attention(*(part.transpose(1, 2) for part in parts)).transpose(1, 2)

    return {
        "transformers": run_transformers,
        "gather": lambda parts: attend_sparsely(parts[0], parts[1], parts[2], mask, BLOCK, RANDOM, flex=False),
        "flex": lambda parts: attend_sparsely(parts[0], parts[1], parts[2], mask, BLOCK, RANDOM, flex=True),
        "dense": run_dense,
    }


def run_once(arm: Callable, T: int, gradients: bool) -> tuple[torch.Tensor, float]:
    """Output and seconds of a forward, or of a forward and backward."""
    parts = make_parts(T, gradients)
    with torch.set_grad_enabled(gradients):
        started = time.perf_counter()
        output = arm(parts)
        if gradients:
            output.sum().backward()
        return output.detach(), time.perf_counter() - started


def measure(T: int, rounds: int, with_flex: bool) -> dict[str, Any]:
    """Times, differences and peak memory of all arms."""
    arms = make_arms(T)
    results: dict[str, Any] = {name: {} for name in arms}
    for kind in ("forward", "forward_backward"):
        # flex_attention has no backward pass on a CPU
        names = [name for name in arms if name != "flex" or (with_flex and kind == "forward")]
        seconds: dict[str, list[float]] = {name: [] for name in names}
        outputs = {name: run_once(arms[name], T, kind != "forward")[0] for name in names}  # warms up as well
        for _ in track(range(rounds), desc=kind, unit=" rounds"):
            for name in names:
                seconds[name].append(run_once(arms[name], T, kind != "forward")[1])
        expected = outputs["transformers"].reshape(B, T, H, D_HEAD)
        for name in names:
            ratios = [theirs / ours for theirs, ours in zip(seconds["transformers"], seconds[name])]
            results[name][kind] = {
                "seconds": statistics.median(seconds[name]),
                "faster": statistics.median(ratios),
                "slowest_round": min(ratios),
                "fastest_round": max(ratios),
                "difference": float((outputs[name] - expected).abs().max() / expected.abs().max()),
                "peak": int(run_apart("-m", _MODULE, "--arm", name, "--kind", kind, "--tokens", str(T))),
            }
    return results


def tabulate(results: dict[str, Any]) -> str:
    """The table for the terminal."""
    lines = [f"{'':<28}{'ms':>9}{'faster':>9}{'rounds':>16}{'peak MB':>10}{'of peer':>9}{'difference':>12}"]
    for kind in ("forward", "forward_backward"):
        lines.append(kind.replace("_", " + "))
        peer = results["transformers"][kind]
        for name, kinds in results.items():
            if kind in kinds:
                cell = kinds[kind]
                spread = f"{cell['slowest_round']:.1f}..{cell['fastest_round']:.1f}x"
                lines.append(
                    f"  {TITLES[name]:<26}{1000 * cell['seconds']:>9.1f}{cell['faster']:>8.1f}x{spread:>16}"
                    f"{cell['peak'] / MEGABYTE:>10.0f}{cell['peak'] / peer['peak']:>9.2f}{cell['difference']:>12.1e}"
                )
    lines.append("dense attention is another function: its difference is no error")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Measure, print the table, write JSON where asked."""
    parser = make_parser("block_sparse", __doc__, "--no_flex --json block_sparse.json")
    parser.add_argument("--tokens", type=int, default=4096, help="a multiple of 64")
    parser.add_argument("--rounds", type=whole_number, default=7, help="timed rounds")
    parser.add_argument("--no_flex", "--no-flex", action="store_true", help="leave out what has to be compiled")
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.arm:  # the process of one measurement
        arm = make_arms(arguments.tokens)[arguments.arm]
        if arguments.arm == "flex":
            run_once(arm, arguments.tokens, False)  # compiles, by processes of its own and in this one
        print(measure_peak(lambda: run_once(arm, arguments.tokens, arguments.kind != "forward"), "cpu"))
        return 0
    results = measure(arguments.tokens, arguments.rounds, not arguments.no_flex)
    return answer(parser, tabulate(results), results, arguments.json)


__all__ = ["make_arms", "measure", "run_once", "tabulate"]

if __name__ == "__main__":
    sys.exit(main())
