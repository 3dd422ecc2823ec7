"""`gengram bench`: the motif memory beside the released algorithm, in one run on this machine.

Every figure is a median over rounds in which the two take turns, so that a machine that slows down slows both.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tqdm.auto import tqdm
from transformers import LlamaConfig

from gengram import GengramConfig, MotifMemory, __version__
from gengram.benchmarks.speed.released import read_released, run_released
from gengram.gengram.kmer_index import KmerContext

SHAPES = [(256, 128), (1024, 1024), (4096, 1024)]  # hidden size D, memory_dim E
LENGTHS = [200, 1_000, 8_000, 32_000, 131_000]
QUICK = {(256, 128): [200, 1_000, 8_000], (1024, 1024): [200, 1_000, 8_000]}
MODES = ["forward", "train"]


def make_memory(D: int, E: int, device: str = "cpu", dtype: torch.dtype = torch.float32) -> MotifMemory:
    """A memory in the released form, k = 1..6, W = 21."""
    torch.manual_seed(0)
    backbone = LlamaConfig(hidden_size=D, num_attention_heads=1, num_hidden_layers=1, vocab_size=16)
    config = GengramConfig(backbone_config=backbone, memory_layers=[0], memory_dim=E)
    return MotifMemory(config).to(device, dtype)


def estimate_peer(D: int, E: int, T: int, itemsize: int = 4) -> dict[str, float]:
    """What the released algorithm needs for T tokens: bytes held for a backward pass, and operations forward."""
    return {"bytes": T * (5 * 6 * E + 6 * E + 6 * D) * itemsize, "flop": 4 * T * 6 * E * D}


def compare(
    ours: Callable[[], Any], peer: Callable[[], Any], rounds: int, wait: Callable[[], None]
) -> dict[str, float]:
    """
    Time two functions in turns.

    Returns:
        `ours`, `peer`: median seconds; `ratio`: median over rounds of peer / ours; `low`, `high`: its extremes.
    """
    times: dict[str, list[float]] = {"ours": [], "peer": []}
    ours(), peer()
    for _ in range(rounds):
        for name, run in (("ours", ours), ("peer", peer)):
            wait()
            begun = time.perf_counter()
            run()
            wait()
            times[name].append(time.perf_counter() - begun)
    ratios = [b / a for a, b in zip(times["ours"], times["peer"])]
    return {
        "ours": statistics.median(times["ours"]),
        "peer": statistics.median(times["peer"]),
        "ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
    }


def measure_speed(D: int, E: int, T: int, mode: str, device: str, rounds: int, compiled: bool) -> dict[str, Any]:
    """One cell: `forward` (evaluation, tables kept) or `train` (forward and backward), batch of one sequence."""
    memory = make_memory(D, E, device).train(mode == "train")
    generator = torch.Generator().manual_seed(1)
    letters = torch.randint(0, 4, (1, T), generator=generator).to(device)
    hidden = torch.randn(1, T, D, generator=generator).to(device)
    context = KmerContext(letters)
    released = torch.compile(run_released) if compiled else run_released

    def train(run: Callable[[torch.Tensor], torch.Tensor]) -> None:
        memory.zero_grad()
        run(hidden.requires_grad_()).sum().backward()

    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    with torch.set_grad_enabled(mode == "train"):
        path = memory.choose_path(context)
    if mode == "train":
        cell = compare(
            lambda: train(lambda x: memory(x, context)), lambda: train(lambda x: released(memory, x, letters)),
            rounds, wait,
        )  # fmt: skip
    else:
        with torch.no_grad():
            cell = compare(lambda: memory(hidden, context), lambda: released(memory, hidden, letters), rounds, wait)
    return {"D": D, "E": E, "T": T, "mode": mode, "path": path, "compiled": compiled, **cell}


def measure_decoding(D: int, E: int, device: str, rounds: int) -> dict[str, Any]:
    """One new base with its history, against the released algorithm on the 40 bases that one position depends on."""
    memory = make_memory(D, E, device).eval()
    letters = torch.randint(0, 4, (1, 40), device=device)
    hidden = torch.randn(1, 40, D, device=device)
    H = memory.window.history
    context = KmerContext(letters[:, -1 - H :], history=H)
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    with torch.no_grad():
        cell = compare(
            lambda: memory(hidden[:, -1:], context), lambda: run_released(memory, hidden, letters), rounds * 10, wait
        )
    return {"D": D, "E": E, "T": 1, "mode": "decode", "path": "merged", "compiled": False, **cell}


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
        for T in lengths:
            letters = torch.randint(0, 4, (1, T), generator=torch.Generator().manual_seed(T))
            with torch.no_grad():
                truth = torch.cat(exact.read(KmerContext(letters)), dim=-1)
                context = KmerContext(letters.to(device))
                row: dict[str, Any] = {"dtype": str(dtype).removeprefix("torch."), "T": T}
                for path in ("merged", "lifetime"):
                    memory.path = path
                    row[path] = _error(torch.cat(memory.read(context), dim=-1), truth)
                row["released"] = _error(torch.cat(read_released(memory, context.letters), dim=-1), truth)
            rows.append(row)
    return rows


def _error(found: torch.Tensor, truth: torch.Tensor) -> float:
    return float((found.double().cpu() - truth).norm() / truth.norm())


def run_benchmark(quick: bool, device: str = "cpu", rounds: int = 5, compiled: bool = False) -> dict[str, Any]:
    """
    Measure the grid and return the report: machine, versions, `speed` (one entry a cell, `skipped` with a reason where
    the peer would need more than half of the free memory or a minute a round), `exactness`.
    """
    grid = [(D, E, T) for D, E in SHAPES for T in (QUICK.get((D, E), []) if quick else LENGTHS)]
    free = _free_bytes(device)
    speed: list[dict[str, Any]] = []
    with tqdm(total=len(grid) * len(MODES) + 2, desc="Measuring", unit=" cells") as progress:
        for D, E, T in grid:
            for mode in MODES:
                need = estimate_peer(D, E, T)
                factor = 3 if mode == "train" else 1
                cell = {"D": D, "E": E, "T": T, "mode": mode}
                if need["bytes"] * factor > free / 2:
                    cell["skipped"] = f"the peer would hold {need['bytes'] * factor / 1e9:.1f} GB"
                elif device == "cpu" and need["flop"] * factor > 60 * 1e11:
                    cell["skipped"] = f"the peer would take over a minute a round ({need['flop'] * factor:.0e} flop)"
                else:
                    cell = measure_speed(D, E, T, mode, device, rounds, compiled)
                speed.append(cell)
                progress.update()
        for D, E in SHAPES[:2]:
            speed.append(measure_decoding(D, E, device, rounds))
            progress.update()
    return {
        "gengram_version": __version__,
        "torch_version": torch.__version__,
        "transformers_version": transformers.__version__,
        "machine": {"processor": platform.processor() or platform.machine(), "device": device,
                    "threads": torch.get_num_threads(), "wait_policy": os.environ.get("OMP_WAIT_POLICY", "")},
        "speed": speed,
        "exactness": measure_exactness([8_192, 32_768] if quick else [8_192, 32_768, 131_072], device),
    }  # fmt: skip


def _free_bytes(device: str) -> int:
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def tabulate(report: dict[str, Any]) -> str:
    """The report as text."""
    peer = "compiled released algorithm" if any(c.get("compiled") for c in report["speed"]) else "released algorithm"
    lines = [f"time of the {peer} / time of this memory (median, extremes), batch 1, float32", ""]
    lines.append(f"{'D':>6}{'E':>6}{'T':>9}  {'mode':<9}{'form':<10}{'ours':>11}{'peer':>11}{'ratio':>8}  extremes")
    for cell in report["speed"]:
        place = f"{cell['D']:>6}{cell['E']:>6}{cell['T']:>9,}  {cell['mode']:<9}"
        if "skipped" in cell:
            lines.append(f"{place}skipped: {cell['skipped']}")
            continue
        times = f"{cell['ours'] * 1e3:>8.2f} ms{cell['peer'] * 1e3:>8.2f} ms{cell['ratio']:>7.1f}x"
        lines.append(f"{place}{cell['path']:<10}{times}  {cell['low']:.1f}-{cell['high']:.1f}")
    lines += ["", "relative L2 error of key and value against float64", ""]
    lines.append(f"{'dtype':<10}{'T':>9}{'merged':>11}{'lifetime':>11}{'released':>11}")
    for row in report["exactness"]:
        errors = "".join(f"{row[name]:>11.1e}" for name in ("merged", "lifetime", "released"))
        lines.append(f"{row['dtype']:<10}{row['T']:>9,}{errors}")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """Run `gengram bench`; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="gengram bench",
        description="Measure the motif memory beside the released algorithm in one run: ratios of time, and exactness.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        epilog="example: OMP_WAIT_POLICY=PASSIVE gengram bench --quick --json bench.json",
    )
    parser.add_argument("--quick", action="store_true", help="a part of the grid, within five minutes on two cores")
    parser.add_argument("--compiled", action="store_true", help="compile the released algorithm (torch.compile)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where to measure")
    parser.add_argument("--rounds", type=int, default=5, help="rounds a cell, of which the median is taken")
    parser.add_argument("--json", type=Path, help="file for the report")
    arguments = parser.parse_args(argv)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("gengram bench: error: no CUDA device here; leave --device out", file=sys.stderr)
        return 1
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    report = run_benchmark(arguments.quick, arguments.device, arguments.rounds, arguments.compiled)
    print(tabulate(report))
    if arguments.json:
        try:
            unfinished = arguments.json.with_name(arguments.json.name + ".unfinished")
            unfinished.write_text(json.dumps(report, indent=2))
            os.replace(unfinished, arguments.json)
        except OSError as error:
            print(f"gengram bench: error: {arguments.json} cannot be written: {error}", file=sys.stderr)
            return 1
    return 0


__all__ = ["compare", "main", "make_memory", "run_benchmark", "tabulate"]
