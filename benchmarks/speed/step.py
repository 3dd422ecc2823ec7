"""`gengram bench --step`: training steps of the paper's models without a memory, with ours, with the released one.

Forward pass, backward pass and AdamW, eager and compiled, all in turns in one run. The three models share their
weights, so that they fit together where one fits.
"""

import copy
import os
import platform
import statistics
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from gengram.benchmarks.speed.measure import measure_peak, take_turns
from gengram.benchmarks.speed.program import list_versions
from gengram.benchmarks.speed.released import run_released
from gengram.costs import bound_released, count_operations, estimate_activations
from gengram.errors import InputError, suggest
from gengram.files import save_figure
from gengram.gengram.configuration_gengram import SIZES, GengramConfig
from gengram.gengram.fallback import KernelError
from gengram.gengram.motif_memory import MotifMemory
from gengram.phases import phase
from gengram.printable import make_printable
from gengram.progress import track
from gengram.training.devices import describe_device, find_peak, measure_available_memory, measure_products

MEMORIES = ("none", "ours", "released")
PAPER = [name for name in SIZES if not name.startswith("10b")]  # `all`: six, of 0.3 and 1.2 billion parameters
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Fields of a backbone that are widths; what they are rounded to, so that 16 heads have an even width.
_WIDTHS = ("hidden_size", "intermediate_size", "moe_intermediate_size", "kv_lora_rank", "qk_nope_head_dim")
_WIDTHS += ("qk_rope_head_dim", "v_head_dim")
_MULTIPLE = {"hidden_size": 64}
_FEW_BYTES = 8 * 2**20  # a peak below it says nothing of a CPU's process


def choose_sizes(names: Sequence[str]) -> list[str]:
    """Return the sizes that are meant, each once; `all` is the paper's six architectures.

    Raises:
        `InputError`: a name that is none.
    """
    found: list[str] = []
    for name in names:
        if name != "all" and name not in SIZES:
            known = ", ".join(["all", *SIZES])
            raise InputError(f"--step {name}: there is no such size{suggest(name, SIZES) or '.'} Known: {known}")
        found += PAPER if name == "all" else [name]
    return list(dict.fromkeys(found))


def make_config(size: str, scale: float = 1.0) -> GengramConfig:
    """
    The configuration of a size, with all its widths times `scale`.

    Layers, heads, experts, k-mers and window stay, and with them the operators of a step. Matrices shrink by the
    square, tables and activations do not: attention's scores, whatever is no product, and the memory's tables weigh
    more than in the size itself. It is a way to try the program on a small machine, not to learn the size's speed.
    """
    config = GengramConfig.from_size(size)
    if scale == 1:
        return config
    fields = config.backbone_config.to_dict()
    for name in ("head_dim", "qk_head_dim"):  # follow from the others
        fields.pop(name, None)
    for name in _WIDTHS:
        if fields.get(name):
            fields[name] = _shrink(fields[name], scale, _MULTIPLE.get(name, 8))
    return GengramConfig(backbone_config=fields, memory_dim=_shrink(config.memory_dim, scale, 8))


def _shrink(width: int, scale: float, multiple: int) -> int:
    return max(round(width * scale / multiple), 1) * multiple


class TrainingStep:
    """
    One training step of a size: three models over the same weights, and one optimizer.

    Args:
        config (`GengramConfig`): with its memory.
        rows, length: of a batch of random bases.
        device, dtype: of weights, gradients, moments and activations.

    Attributes:
        fused (`bool`): whether AdamW is one kernel for all weights; otherwise a loop over operators.
        experts (`str` or `None`): how experts are computed, as transformers chose it.
    """

    def __init__(self, config: GengramConfig, rows: int, length: int, device: torch.device, dtype: torch.dtype):
        torch.manual_seed(0)
        plain = copy.deepcopy(config)
        plain.memory_layers = []
        ours = _make_model(config, device, dtype)
        released, none = (_make_model(one, torch.device("meta"), dtype) for one in (config, plain))
        for model in (released, none):
            _share_weights(ours, model)
        for module in released.modules():
            if isinstance(module, MotifMemory):
                module.forward = _bind_released(module)
        self.models: dict[str, Any] = {"none": none, "ours": ours, "released": released}
        weights = list(ours.parameters())
        try:
            self.optimizer, self.fused = torch.optim.AdamW(weights, lr=1e-5, fused=True), True
        except RuntimeError:  # this device has no such kernel
            self.optimizer, self.fused = torch.optim.AdamW(weights, lr=1e-5), False
        bases = torch.tensor(config.base_token_ids[:4])
        chosen = torch.randint(0, 4, (rows, length), generator=torch.Generator().manual_seed(1))
        self.ids = bases[chosen].to(device)
        is_mixture = any("experts" in name for name, _ in ours.named_modules())
        self.experts = ours.config.backbone_config._experts_implementation if is_mixture else None

    def run(self, model: Any) -> None:
        """Forward pass with its loss, backward pass, optimizer."""
        self.optimizer.zero_grad(set_to_none=True)
        model(input_ids=self.ids, labels=self.ids, use_cache=False).loss.backward()
        self.optimizer.step()

    def rest(self) -> None:
        """Let go of gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def count_parameters(self, memory: str) -> int:
        """Parameters of one of the models."""
        return sum(weight.numel() for weight in self.models[memory].parameters())

    def count_resting_bytes(self, memory: str) -> int:
        """Bytes of the weights of one of the models and of their moments."""
        found = 0
        for weight in self.models[memory].parameters():
            state = self.optimizer.state.get(weight, {}).values()
            tensors = [weight, *(value for value in state if isinstance(value, torch.Tensor))]
            found += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return found


def _make_model(config: GengramConfig, device: torch.device, dtype: torch.dtype) -> Any:
    with torch.device(device), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")  # experts that share nothing
        return AutoModelForCausalLM.from_config(config, dtype=dtype).train()


def _share_weights(source: Any, target: Any) -> None:
    """Let a model on the meta device have the weights and buffers of another one, under the same names."""
    owners = dict(source.named_modules())
    for name, module in target.named_modules():
        for kind in ("_parameters", "_buffers"):
            tensors = getattr(module, kind)
            tensors.update({each: getattr(owners[name], kind)[each] for each in tensors})


def _bind_released(memory: MotifMemory) -> Callable[..., torch.Tensor]:
    return lambda hidden_states, context: run_released(memory, hidden_states, context.letters)


def estimate_bytes(config: GengramConfig, rows: int, length: int, itemsize: int, memory: str) -> int:
    """About how many bytes a step takes at most: weights, gradients and two moments, activations, logits."""
    backbone, tokens = config.backbone_config, rows * length
    parameters = _make_model(config, torch.device("meta"), torch.float32).num_parameters()
    found = 4 * itemsize * parameters
    found += estimate_activations(config, rows, length, value_bytes=itemsize) + 3 * 4 * tokens * backbone.vocab_size
    D, E, layers = config.hidden_size, config.memory_dim, len(config.memory_layers)
    if memory == "released":
        found += layers * int(bound_released(D, E, tokens, itemsize)["bytes"])
    elif memory == "ours":  # tables of its own precision, and their gradients
        found += layers * (8 * D * itemsize * tokens + 4 * 4 * D * sum(5**k for k in config.kmer_sizes))
    return found


@phase("Training steps")
def measure_step(
    size: str,
    scale: float,
    rows: int,
    length: int,
    device: torch.device,
    dtype: torch.dtype,
    rounds: int,
    compiled: bool,
    flop_per_s: float,
    progress: Any,
) -> dict[str, Any]:
    """
    One size: every cell has `memory`, `mode` (eager, compiled), and what was measured, or why it was `skipped`.

    `seconds` is a median over rounds in which all cells take turns. `mfu`: operations of the backbone (`count_step`,
    half of the scores) a second, by `flop_per_s`: what the memory computes is no useful work here, or a memory that
    computes more would look better. `share`: median over rounds of 1 - none / with memory, `low` and `high` its
    extremes. `peak_bytes`: weights, moments, and the most that a step takes besides.
    """
    config = make_config(size, scale)
    modes = ["eager", "compiled"] if compiled else ["eager"]
    cells: list[dict[str, Any]] = [{"memory": memory, "mode": mode} for mode in modes for memory in MEMORIES]
    counted = count_operations(config.backbone_config, rows, length, training=True)
    flops = 0 if counted is None else counted.count_step(causal=True)
    answer: dict[str, Any] = {"size": size, "scale": scale, "flop": flops, "hidden_size": config.hidden_size}
    answer["memory_dim"] = config.memory_dim
    if reason := _find_no_room(config, rows, length, device, dtype, "none"):
        return {**answer, "cells": [{**cell, "skipped": reason} for cell in cells]}
    try:
        step = TrainingStep(config, rows, length, device, dtype)
    except (RuntimeError, MemoryError) as error:
        reason = _explain(error)
        return {**answer, "cells": [{**cell, "skipped": reason} for cell in cells]}
    answer |= {"parameters": step.count_parameters("none"), "fused_optimizer": step.fused, "experts": step.experts}
    answer["memory_parameters"] = step.count_parameters("ours") - answer["parameters"]
    torch._dynamo.reset()  # or the compiler would give up after some models
    runs: dict[str, Callable[[], None]] = {}
    for cell in cells:
        if reason := _find_no_room(config, rows, length, device, dtype, cell["memory"]):
            cell["skipped"] = reason
            continue
        model = step.models[cell["memory"]]
        call = torch.compile(model, dynamic=False) if cell["mode"] == "compiled" else model
        try:
            step.run(call)  # compiles, and makes the moments
            step.run(call)
            step.rest()
            peak = measure_peak(lambda call=call: step.run(call), device.type)
        except KernelError:  # the memory has none of its kernels: no figure of this run is one of this package's
            raise
        except (RuntimeError, MemoryError, torch._dynamo.exc.TorchDynamoException) as error:
            cell["skipped"] = _explain(error)
            continue
        finally:
            step.rest()
            if device.type != "cpu":
                torch.accelerator.empty_cache()
            progress.update()
        if peak is not None and not (device.type == "cpu" and peak < _FEW_BYTES):
            cell["peak_bytes"] = peak + step.count_resting_bytes(cell["memory"])
        runs[f"{cell['memory']} {cell['mode']}"] = _count_rounds(step, call, progress)
    wait = torch.accelerator.synchronize if device.type != "cpu" else lambda: None
    times = take_turns(runs, rounds, wait, seconds=120.0)
    for cell in cells:
        if (found := times.get(f"{cell['memory']} {cell['mode']}")) is None:
            continue
        seconds = statistics.median(found)
        cell |= {"seconds": seconds, "rounds": len(found), "bases_per_s": rows * length / seconds}
        cell["mfu"] = flops / seconds / flop_per_s
        without = times.get(f"none {cell['mode']}")
        if cell["memory"] != "none" and without is not None:
            shares = [1 - a / b for a, b in zip(without, found)]
            cell |= {"share": statistics.median(shares), "low": min(shares), "high": max(shares)}
    return {**answer, "cells": cells}


def _count_rounds(step: TrainingStep, call: Any, progress: Any) -> Callable[[], None]:
    def run() -> None:
        step.run(call)
        progress.update()

    return run


def _find_no_room(
    config: GengramConfig, rows: int, length: int, device: torch.device, dtype: torch.dtype, memory: str
) -> str | None:
    """Why a step should not be tried: a CPU's process that takes too much is killed, where a GPU says so."""
    if device.type != "cpu":
        return None
    plain = copy.deepcopy(config)
    plain.memory_layers = [] if memory == "none" else config.memory_layers
    need, free = estimate_bytes(plain, rows, length, dtype.itemsize, memory), measure_available_memory(device)
    return f"needs about {need / 1e9:.1f} GB, {free / 1e9:.1f} GB are free" if need > free else None


def _explain(error: BaseException) -> str:
    """The first line of what PyTorch says."""
    text = str(error).strip() or type(error).__name__
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "allocate memory" in text:
        return "does not fit in memory"
    return make_printable(f"{type(error).__name__}: {text.splitlines()[0]}")[:200]


def run_steps(
    sizes: Sequence[str],
    device: torch.device,
    dtype: torch.dtype,
    *,
    scale: float = 1.0,
    rows: int = 1,
    length: int = 1_000,
    rounds: int = 5,
    compiled: bool = True,
) -> dict[str, Any]:
    """
    Measure training steps and return the report: machine, versions, `steps` (one entry a size, see `measure_step`).

    Args:
        sizes: of `choose_sizes`.
        device, dtype: where, and of all numbers.
        scale: of all widths, see `make_config`.
        rows, length: B and T of a batch.
        rounds: at most; a size takes about two minutes, two rounds at least.
        compiled: also under `torch.compile`.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    peak, source = _find_speed(device, dtype)
    total = len(sizes) * len(MEMORIES) * (1 + compiled) * (rounds + 2)
    with track(total=total, desc="Training steps", unit=" steps") as progress:
        steps = [
            measure_step(size, scale, rows, length, device, dtype, rounds, compiled, peak, progress) for size in sizes
        ]
    return {
        **list_versions(),
        "dtype": str(dtype).removeprefix("torch."),
        "batch": rows,
        "length": length,
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "device": str(device),
            "name": describe_device(device),
            "threads": torch.get_num_threads(),
            "wait_policy": os.environ.get("OMP_WAIT_POLICY", ""),
            "flop_per_s": peak,
            "flop_per_s_is": source,
        },
        "steps": steps,
    }


def _find_speed(device: torch.device, dtype: torch.dtype) -> tuple[float, str]:
    """Operations a second by which MFU is counted, and where the figure is from."""
    if (peak := find_peak(device, dtype)) is not None:
        return peak, "the maker's figure"
    # Few CPUs have products in 16 bits of their own; without them, whatever is fast goes by way of float32.
    dtypes = {dtype, torch.float32} if device.type == "cpu" else {dtype}
    most = 2048 if device.type == "cpu" else 8192
    (peak, width), best = max(((measure_products(device, each, most), each) for each in dtypes), key=lambda x: x[0])
    return peak, f"measured: a product of {width:,} x {width:,}, {str(best).removeprefix('torch.')}"


def tabulate_steps(report: dict[str, Any]) -> str:
    """The report as text."""
    machine = report["machine"]
    lines = [
        f"training steps (forward, backward, AdamW) of {report['batch']} x {report['length']:,} bases, "
        f"{report['dtype']}, {make_printable(machine['name'])}; medians of turns in one run",
        f"MFU: the backbone's operations, by {machine['flop_per_s'] / 1e12:.3g} Tflop/s ({machine['flop_per_s_is']})",
    ]
    for one in report["steps"]:
        scaled = f" x {one['scale']:g} (hidden size {one['hidden_size']}, a trial: not the size's speed)"
        facts = [f"{one['size']}{scaled if one['scale'] != 1 else ''}"]
        if "parameters" in one:
            facts += [f"{one['parameters']:,} parameters", f"{one['memory_parameters']:,} of the memory"]
            facts += [f"experts: {one['experts']}"] if one["experts"] else []
            facts += [] if one["fused_optimizer"] else ["AdamW not fused"]
        lines += ["", ", ".join(facts)]
        lines.append(f"  {'memory':<10}{'mode':<10}{'a step':>12}{'bases/s':>12}{'MFU':>8}{'peak':>10}{'share':>8}"
                     f"{'extremes':>18}")  # fmt: skip
        for cell in one["cells"]:
            place = f"  {cell['memory']:<10}{cell['mode']:<10}"
            if "skipped" in cell:
                lines.append(f"{place}{cell['skipped']}")
                continue
            peak = f"{cell['peak_bytes'] / 1e9:.2f} GB" if "peak_bytes" in cell else ""
            share = f"{cell['share']:.1%}" if "share" in cell else ""
            spread = f"{cell['low']:.1%} to {cell['high']:.1%}" if "share" in cell else ""
            lines.append(
                f"{place}{cell['seconds'] * 1e3:>9,.1f} ms{cell['bases_per_s']:>12,.0f}{cell['mfu']:>8.1%}{peak:>10}"
                f"{share:>8}{spread:>18}"
            )
    return "\n".join(lines)


def plot_steps(report: dict[str, Any], path: Path) -> None:
    """Bases a second, one group of bars a size (needs matplotlib)."""
    from matplotlib.figure import Figure

    steps = report["steps"]
    kinds = [(cell["memory"], cell["mode"]) for cell in steps[0]["cells"]]
    figure = Figure(figsize=(max(5.0, 1.6 * len(steps) + 2.5), 4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(kinds)
    for number, (memory, mode) in enumerate(kinds):
        for group, one in enumerate(steps):
            cell = one["cells"][number]
            place = group + (number - (len(kinds) - 1) / 2) * width
            axes.bar(
                place,
                cell.get("bases_per_s", 0.0),
                width,
                color=f"C{MEMORIES.index(memory)}",
                hatch="//" if mode == "compiled" else None,
                edgecolor="white",
                label=f"{memory}, {mode}" if group == 0 else None,
            )
            if "skipped" in cell:
                axes.annotate("skipped", (place, 0), rotation=90, ha="center", va="bottom", fontsize=6)
            elif "share" in cell:
                axes.annotate(
                    f"{cell['share']:.0%}", (place, cell["bases_per_s"]), ha="center", va="bottom", fontsize=7
                )
    scaled = f"\nx {steps[0]['scale']:g}" if steps[0]["scale"] != 1 else ""
    axes.set_xticks(range(len(steps)), [f"{one['size']}{scaled}" for one in steps], fontsize=8)
    axes.set_ylabel("bases a second, training")
    figure.suptitle(
        f"{report['batch']} x {report['length']:,} bases, {report['dtype']}, {report['machine']['name']}\n"
        "percent: the memory's share of the step",
        fontsize=8,
    )
    axes.margins(y=0.12)
    figure.legend(loc="outside lower center", ncols=2 if len(kinds) > 3 else 3, fontsize=7)
    save_figure(figure, path, dpi=150)


__all__ = ["MEMORIES", "PAPER", "choose_sizes", "make_config", "plot_steps", "run_steps", "tabulate_steps"]
