"""`gengram bench`: the motif memory beside the released algorithm, eager and compiled, in one run on this machine.

Every figure is a median over rounds in which all take turns, so that a machine that slows down slows all of them.
"""

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig

from gengram.benchmarks.speed.measure import (
    measure_machine,
    measure_peak,
    summarize_ratio,
    take_turns,
)
from gengram.benchmarks.speed.program import list_versions
from gengram.benchmarks.speed.released import read_released, run_released
from gengram.costs import bound_merged, bound_released
from gengram.files import save_figure
from gengram.gengram.configuration_gengram import GengramConfig
from gengram.gengram.kmer_index import KmerContext
from gengram.gengram.memory_cache import MotifMemoryLayer
from gengram.gengram.modeling_gengram import GengramForCausalLM
from gengram.gengram.motif_memory import MotifMemory
from gengram.phases import phase
from gengram.progress import track
from gengram.training.devices import measure_available_memory

SHAPES = [(256, 128), (1024, 1024), (4096, 1024)]  # hidden size D, memory_dim E
LENGTHS = [200, 1_000, 8_192, 32_768, 131_072]
QUICK = {(256, 128): [200, 1_000, 8_192], (1024, 1024): [200, 8_192]}
MODES = ["forward", "train"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
EXACT_LENGTHS = [8_192, 32_768, 131_072]  # the last one not with --quick
REACH = 39  # bases on which a position of the released form depends: what recomputing has to go through


def make_memory(D: int, E: int, device: str = "cpu", dtype: torch.dtype = torch.float32, **fields: Any) -> MotifMemory:
    """A memory in the released form, k = 1..6, W = 21; `fields` of `GengramConfig` change it."""
    torch.manual_seed(0)
    backbone = LlamaConfig(hidden_size=D, num_attention_heads=1, num_hidden_layers=1, vocab_size=16)
    config = GengramConfig(backbone_config=backbone, memory_layers=[0], memory_dim=E, **fields)
    return MotifMemory(config).to(device, dtype)


@phase("Speed of the memory")
def measure_speed(
    D: int,
    E: int,
    T: int,
    mode: str,
    device: str,
    rounds: int,
    peers: dict[str, Callable],
    dtype: torch.dtype = torch.float32,
) -> dict[str, Any]:
    """One cell: `forward` (evaluation, tables kept) or `train` (forward and backward), batch of one sequence."""
    memory = make_memory(D, E, device, dtype).train(mode == "train")
    generator = torch.Generator().manual_seed(1)
    letters = torch.randint(0, 4, (1, T), generator=generator).to(device)
    hidden = torch.randn(1, T, D, generator=generator).to(device, dtype)
    context = KmerContext(letters)
    forwards = {"ours": lambda x: memory(x, context)}
    for name, released in peers.items():
        forwards[name] = lambda x, released=released: released(memory, x, letters)

    def call(forward: Callable) -> None:
        if mode == "forward":
            with torch.no_grad():
                forward(hidden)
        else:
            memory.zero_grad()
            hidden.grad = None
            forward(hidden.requires_grad_()).sum().backward()

    runs = {name: (lambda forward=forward: call(forward)) for name, forward in forwards.items()}
    with torch.set_grad_enabled(mode == "train"):
        path = memory.choose_path(context)
    times = take_turns(runs, rounds, _wait(device))
    cell: dict[str, Any] = {"D": D, "E": E, "T": T, "mode": mode, "path": path, "rounds": len(times["ours"])}
    cell["seconds"] = {name: statistics.median(found) for name, found in times.items()}
    cell["ratios"] = {name: summarize_ratio(times[name], times["ours"]) for name in peers}
    if mode == "train":
        memory.zero_grad()
        cell["peak_bytes"] = {}
        for name in ("ours", "eager"):
            memory.zero_grad()
            hidden.grad = None
            cell["peak_bytes"][name] = measure_peak(runs[name], device)
    return cell


@torch.no_grad()
@phase("Speed of generation")
def measure_decoding(D: int, E: int, device: str, rounds: int, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """
    A step of generation, one new base with its cache, against the released algorithm on the 39 bases that one position
    depends on: the least that recomputing can be.
    """
    memory = make_memory(D, E, device, dtype).eval()
    letters = torch.randint(0, 4, (1, REACH), device=device)
    hidden = torch.randn(1, REACH, D, device=device, dtype=dtype)
    state = MotifMemoryLayer()

    def step(x: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        window, history = state.extend_letters(new, memory.window.history)
        return memory(x, KmerContext(window, history=history, state=state))

    step(hidden[:, :-1], letters[:, :-1])
    times = take_turns(
        {"ours": lambda: step(hidden[:, -1:], letters[:, -1:]), "eager": lambda: run_released(memory, hidden, letters)},
        rounds * 20, _wait(device),
    )  # fmt: skip
    cell: dict[str, Any] = {"D": D, "E": E, "T": 1, "mode": "decode", "path": "step", "rounds": len(times["ours"])}
    cell["seconds"] = {name: statistics.median(found) for name, found in times.items()}
    return {**cell, "ratios": {"eager": summarize_ratio(times["eager"], times["ours"])}}


@phase("Exactness")
def measure_exactness(lengths: list[int], device: str) -> list[dict[str, Any]]:
    """Relative L2 error of key and value against float64 of the same rounded weights, D = E = 64, table mean 0.25."""
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        memory = make_memory(64, 64).eval()
        with torch.no_grad():
            for table in memory.embeddings:
                table.weight += 0.25
        memory = memory.to(device, dtype)
        exact = make_memory(64, 64).double()
        exact.load_state_dict({name: tensor.double().cpu() for name, tensor in memory.state_dict().items()})
        exact.path = "definition"
        memory.path = "auto"
        fastest = memory.choose_path(KmerContext(torch.zeros(1, lengths[0], dtype=torch.int64, device=device)))
        for T in lengths:
            letters = torch.randint(0, 4, (1, T), generator=torch.Generator().manual_seed(T))
            with torch.no_grad():
                truth = torch.cat(exact.read(KmerContext(letters)), dim=-1)
                context = KmerContext(letters.to(device))
                row: dict[str, Any] = {"dtype": str(dtype).removeprefix("torch."), "T": T}
                for path in dict.fromkeys([fastest, "merged", "lifetime"]):
                    memory.path = path
                    row[path] = _error(torch.cat(memory.read(context), dim=-1), truth)
                row["released"] = _error(torch.cat(read_released(memory, context.letters), dim=-1), truth)
            rows.append(row)
    return rows


def _error(found: torch.Tensor, truth: torch.Tensor) -> float:
    return float((found.double().cpu() - truth).norm() / truth.norm())


def describe_backbone(device: str) -> tuple[GengramConfig, int, torch.dtype]:
    """
    A model with three memory layers, the length and the dtype of its training step: a Llama of 12 layers, D = 256,
    E = 128, on 1,000 bases; on a GPU the paper's 1.2B mixture of experts on 8,192, in bfloat16.
    """
    if device == "cuda":
        return GengramConfig.from_size("1.2b-moe-gqa", memory_layers=[2, 5, 9]), 8192, torch.bfloat16
    small = LlamaConfig(
        hidden_size=256, intermediate_size=1024, num_hidden_layers=12, num_attention_heads=8, vocab_size=16
    )
    return GengramConfig(backbone_config=small, memory_layers=[2, 5, 9], memory_dim=128), 1000, torch.float32


@phase("Share of a training step")
def measure_backbone(device: str, rounds: int) -> dict[str, Any]:
    """Share of the memory layers in a training step, forward and backward (`describe_backbone`)."""
    config, T, dtype = describe_backbone(device)
    torch.manual_seed(0)
    with torch.device(device):
        model = GengramForCausalLM(config).to(dtype).train()
    ids = torch.randint(5, 9, (1, T), generator=torch.Generator().manual_seed(1)).to(device)
    memories = list(model.model.memory.values())
    forwards = [memory.forward for memory in memories]

    def train(replacement: Callable | None) -> None:
        model.zero_grad()
        for memory, forward in zip(memories, forwards):
            memory.forward = forward if replacement is None else _bind(replacement, memory)
        model(ids, labels=ids, use_cache=False).loss.backward()

    runs = {
        "ours": lambda: train(None),
        "eager": lambda: train(lambda memory, x, context: run_released(memory, x, context.letters)),
        "none": lambda: train(lambda memory, x, context: torch.zeros_like(x)),
    }
    times = take_turns(runs, rounds, _wait(device))
    middle = {name: statistics.median(found) for name, found in times.items()}
    shares = {
        name: statistics.median(1 - none / some for some, none in zip(times[name], times["none"]))
        for name in ("ours", "eager")
    }
    return {"T": T, "dtype": str(dtype).removeprefix("torch."), "seconds": middle, "share": shares}


def _bind(function: Callable, memory: MotifMemory) -> Callable:
    return lambda x, context: function(memory, x, context)


def _wait(device: str) -> Callable[[], None]:
    return torch.cuda.synchronize if device == "cuda" else lambda: None


def run_benchmark(
    quick: bool,
    device: str = "cpu",
    rounds: int = 5,
    compiled: bool = True,
    seconds: float = 60.0,
    dtype: torch.dtype = torch.float32,
) -> dict[str, Any]:
    """
    Measure the grid and return the report: machine, versions, `speed` (one entry a cell, `skipped` with a reason where
    the peer would need more than half of the free memory or longer than `seconds` a round), `exactness`, `backbone`.
    """
    grid = [(D, E, T) for D, E in SHAPES for T in (QUICK.get((D, E), []) if quick else LENGTHS)]
    machine = measure_machine(device, _wait(device), dtype)
    speed: list[dict[str, Any]] = []
    begun = time.perf_counter()
    with track(total=len(grid) * len(MODES) + 4, desc="Measuring", unit=" cells") as progress:
        for D, E, T in grid:
            for mode in MODES:
                need, factor = bound_released(D, E, T, dtype.itemsize), 3 if mode == "train" else 1
                cell: dict[str, Any] = {"D": D, "E": E, "T": T, "mode": mode}
                takes = need["flop"] * factor / machine["flop_per_s"]
                if need["bytes"] * factor > measure_available_memory(torch.device(device)) / 2:
                    cell["skipped"] = f"the released algorithm would hold {need['bytes'] * factor / 1e9:.1f} GB"
                elif takes > seconds:
                    cell["skipped"] = f"the released algorithm would take over {takes:.0f} s a round"
                else:
                    peers: dict[str, Callable] = {"eager": run_released}
                    if compiled and (not quick or max(QUICK[D, E]) == T):  # compiling takes most of the time
                        torch._dynamo.reset()  # otherwise the compiler would give up after some shapes
                        peers["compiled"] = torch.compile(run_released, dynamic=False)
                    cell = measure_speed(D, E, T, mode, device, rounds, peers, dtype)
                    bound = bound_merged(D, E, T, mode, dtype.itemsize)
                    cell["bound_seconds"] = max(
                        bound["bytes"] / machine["bytes_per_s"], bound["flop"] / machine["flop_per_s"]
                    )
                speed.append(cell)
                progress.update()
        for D, E in SHAPES[:2]:
            speed.append(measure_decoding(D, E, device, rounds, dtype))
            progress.update()
        backbone = measure_backbone(device, max(rounds, 9))  # a share of little is a difference of much
        progress.update()
        exactness = measure_exactness(EXACT_LENGTHS[:-1] if quick else EXACT_LENGTHS, device)
        progress.update()
    return {
        **list_versions(),
        "dtype": str(dtype).removeprefix("torch."),
        "machine": {"processor": platform.processor() or platform.machine(), "device": device,
                    "threads": torch.get_num_threads(), "wait_policy": os.environ.get("OMP_WAIT_POLICY", ""),
                    **machine},
        "seconds": time.perf_counter() - begun,
        "speed": speed,
        "backbone": backbone,
        "exactness": exactness,
    }  # fmt: skip


def tabulate(report: dict[str, Any]) -> str:
    """The report as text."""
    machine = report["machine"]
    lines = [
        f"time of the released algorithm / time of this memory (median, extremes), batch 1, {report['dtype']}",
        f"roofline: {machine['bytes_per_s'] / 1e9:.1f} GB/s copied, {machine['flop_per_s'] / 1e9:.0f} Gflop/s here",
        "",
        f"{'D':>6}{'E':>6}{'T':>9}  {'mode':<8}{'form':<10}{'ours':>11}{'eager':>11}{'ratio':>8}{'extremes':>13}"
        f"{'compiled':>10}{'peak':>7}{'roofline':>10}",
    ]
    for cell in report["speed"]:
        place = f"{cell['D']:>6}{cell['E']:>6}{cell['T']:>9,}  {cell['mode']:<8}"
        if "skipped" in cell:
            lines.append(f"{place}skipped: {cell['skipped']}")
            continue
        seconds, eager = cell["seconds"], cell["ratios"]["eager"]
        times = f"{seconds['ours'] * 1e3:>8.2f} ms{seconds['eager'] * 1e3:>8.1f} ms{eager['ratio']:>7.1f}x"
        spread = f"{eager['low']:.1f}-{eager['high']:.1f}"
        compiled = f"{cell['ratios']['compiled']['ratio']:.1f}x" if "compiled" in cell["ratios"] else ""
        peak = cell.get("peak_bytes", {})
        share = f"{peak['ours'] / peak['eager']:.2f}" if peak.get("ours") and peak.get("eager") else ""
        reached = f"{cell['bound_seconds'] / seconds['ours']:.0%}" if "bound_seconds" in cell else ""
        lines.append(f"{place}{cell['path']:<10}{times}{spread:>13}{compiled:>10}{share:>7}{reached:>10}")
    backbone = report["backbone"]
    lines += [
        "",
        f"three memory layers in a training step of {backbone['T']:,} bases ({backbone['dtype']}): "
        f"{backbone['share']['ours']:.1%} of its time, released algorithm {backbone['share']['eager']:.1%}",
        "",
        "relative L2 error of key and value against float64",
        "",
    ]
    columns = [name for name in report["exactness"][0] if name not in ("dtype", "T")]
    lines.append(f"{'dtype':<10}{'T':>9}" + "".join(f"{name:>14}" for name in columns))
    for row in report["exactness"]:
        lines.append(f"{row['dtype']:<10}{row['T']:>9,}" + "".join(f"{row[name]:>14.1e}" for name in columns))
    return "\n".join(lines)


def plot(report: dict[str, Any], path: Path) -> None:
    """Ratio over length, one panel a mode, one line a shape and peer (needs matplotlib)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, mode in zip(figure.subplots(1, 2, sharey=True), MODES):
        cells = [cell for cell in report["speed"] if cell["mode"] == mode and "skipped" not in cell]
        for number, (D, E) in enumerate(SHAPES):
            for peer, style in (("eager", "o-"), ("compiled", "s--")):
                found = [
                    (c["T"], c["ratios"][peer]) for c in cells if (c["D"], c["E"]) == (D, E) and peer in c["ratios"]
                ]
                if found:
                    lengths, ratios = zip(*found)
                    middle = [r["ratio"] for r in ratios]
                    spread = [[r["ratio"] - r["low"] for r in ratios], [r["high"] - r["ratio"] for r in ratios]]
                    axes.errorbar(
                        lengths, middle, spread, fmt=style, color=f"C{number}", capsize=2,
                        label=f"D = {D}, E = {E}, {peer}",
                    )  # fmt: skip
        axes.axhline(1, color="grey", linewidth=0.8)
        axes.set(xscale="log", yscale="log", xlabel="bases", title={"train": "forward and backward"}.get(mode, mode))
        lengths = sorted({cell["T"] for cell in cells})
        axes.set_xticks(lengths, [f"{length:,}" for length in lengths])
        axes.set_xticks([], minor=True)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("released algorithm's time / this memory's")
    figure.axes[0].legend(fontsize=7)
    save_figure(figure, path, dpi=150)


__all__ = ["make_memory", "plot", "run_benchmark", "tabulate"]
