"""Before a training starts: how many rows, steps and parameters, how much memory, time and disk, and does it fit?

No weights are loaded, nothing is trained and nothing is written. Rows, tokenizer and configuration are read and checked
as the run does it (`prepare_run`), the model is made without numbers, and one step is counted on it (`dry_step`).
"""

import dataclasses
import math
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.trainer_utils import SaveStrategy

from gengram.costs import Head, count_operations, estimate_activations, estimate_operations
from gengram.loading.checkpoints import is_hub_id
from gengram.loading.faults import tell_error
from gengram.loading.weights import find_weights
from gengram.training.arguments import DataArguments, FinetuneArguments, ModelArguments
from gengram.training.classifier import build_classifier
from gengram.training.data.sampling import measure_lengths
from gengram.training.devices import (
    MFU,
    describe_device,
    find_peak,
    measure_available_memory,
    measure_bandwidth,
    measure_products,
    measure_resident,
)
from gengram.training.dry_step import DryStep, choose_memory_paths, make_dry, run_dry, run_dry_forward
from gengram.training.memory_estimate import (
    HEAP_SHARE,
    MemoryEstimate,
    count_parameters,
    measure_optimizer_state,
)
from gengram.training.preparation import Preparation, prepare_run
from gengram.training.search import check_search, find_space
from gengram.training.search_space import count_trials
from gengram.training.train_seed import make_collator
from gengram.training.trainer import select_inputs

_CONTEXT = 600 << 20  # bytes of a GPU that CUDA and its libraries take
_CALL_SECONDS = {"cpu": 1e-5}  # of calling one operation, besides its work
_OTHER_CALL_SECONDS = 5e-6
_GIB = 1 << 30
_USES_HEAP = sys.platform == "linux" and "MALLOC_MMAP_THRESHOLD_" not in os.environ


@dataclasses.dataclass(frozen=True)
class _Batch:
    """Rows of the largest batch of a split, and how many tokens all its batches have with their padding."""

    rows: list[int]
    longest: int
    padded: int


def plan_finetune(
    model_arguments: ModelArguments, data_arguments: DataArguments, training_arguments: FinetuneArguments
) -> dict[str, Any]:
    """Say what a fine-tuning with these arguments is going to take.

    Args:
        model_arguments, data_arguments, training_arguments: of `finetune`; the folder for the results is not looked at.

    Returns:
        `dict`, for JSON:
        - `rows`: of each split, with `mean_tokens`, `longest_tokens` and `truncated` rows of its file.
        - `steps`: `sequences` of one, `an_epoch`, `in_all`, `epochs`, `seeds`, `trials` of a search; `batch`: its rows
          and tokens on a device at a time, and over how many `accumulated` batches and `devices` a step goes.
        - `parameters`: `total` as in a report, `trained`, `active` (those that a token meets).
        - `memory`: bytes on one device by part, see `MemoryEstimate`, `available`, and `counted`: by a dry `step` or by
          a `formula`.
        - `time`: `seconds` of all seeds and what they are made of: operations, bytes moved, the device's speed.
        - `disk`: bytes of the results, and how many are free.
        - `fits`; where not, `remedies`: what to give, and the memory with it. `notes`: what else should be known.

    Raises:
        `InputError`: whatever stops the run before it has weights, see `prepare_run` and `build_classifier`.
    """
    check_search(model_arguments, training_arguments)
    ready = prepare_run(model_arguments, data_arguments, training_arguments)
    base = measure_resident()
    device = training_arguments.device
    model, new_weights = build_classifier(
        ready.model, ready.config, ready.data.classes, ready.training.seed, ready.data.problem, empty=True
    )
    trained: Any = model
    if ready.model.peft is not None:
        from gengram.training.adapters.adapt import add_adapter

        trained = add_adapter(model, new_weights, ready.model, ready.data.problem)
    parameters = dataclasses.replace(count_parameters(trained), total=model.num_parameters())
    notes = _list_notes(ready)
    train = _find_largest(ready)
    step = _Step(ready, trained, train, base, notes)
    memory = step.estimate()
    available = measure_available_memory(device)
    fits = memory.total <= available
    plan: dict[str, Any] = {
        "rows": _describe_rows(ready),
        "steps": _describe_steps(ready, train),
        "parameters": dataclasses.asdict(parameters),
        "memory": {
            **dataclasses.asdict(memory),
            "model": memory.model,
            "total": memory.total,
            "available": available,
            "counted": "step" if step.dry else "formula",
        },
        "device": describe_device(device),
        "fits": fits,
    }
    plan["time"] = _estimate_time(ready, step, plan)
    plan["disk"] = _estimate_disk(ready, memory, parameters.trained, plan["steps"])
    plan["remedies"] = [] if fits else _find_remedies(step, available)
    plan["notes"] = notes
    return plan


class _Step:
    """A step of the run on a model without numbers, with whatever batch and precision is asked for."""

    def __init__(self, ready: Preparation, model: Any, batch: _Batch, base: int, notes: list[str]):
        self.ready, self.batch, self.base, self.model = ready, batch, base, model
        arguments = ready.training
        self.device = arguments.device
        self.autocast = torch.bfloat16 if arguments.bf16 else torch.float16 if arguments.fp16 else None
        self.checkpoints = bool(
            arguments.gradient_checkpointing or getattr(arguments, "activation_checkpointing", False)
        )
        self.state = measure_optimizer_state(arguments, model)
        shards = arguments.world_size if arguments.fsdp else 1
        weights = list(model.parameters())
        self.weights = sum(weight.numel() * weight.element_size() for weight in weights) // shards
        self.trained = sum(weight.numel() for weight in weights if weight.requires_grad) // shards
        self.shards = shards
        model.train()
        choose_memory_paths(model, len(batch.rows), batch.longest, self.device)
        make_dry(model, self.device)
        if self.checkpoints:
            self._checkpoint()
        self.dry: DryStep | None = None
        self.evaluated: DryStep | None = None
        try:
            self.dry, self.evaluated = self.run(batch.rows), self.run_evaluation()
        except Exception as error:  # whatever a model's code raises where it asks a tensor for its numbers
            notes.append(
                "the model cannot take a step without numbers, so activations and time are estimated by a formula "
                f"for plain transformers ({tell_error(error)[:200]})"
            )

    def _checkpoint(self) -> None:
        enable = (
            getattr(self.model, "activation_checkpointing_enable", None) or self.model.gradient_checkpointing_enable
        )
        arguments = self.ready.training
        given = getattr(arguments, "activation_checkpointing_kwargs", None) or arguments.gradient_checkpointing_kwargs
        enable(given)

    def run(self, rows: list[int], autocast: torch.dtype | None = None) -> DryStep:
        """Forward and backward pass of some training rows."""
        return run_dry(
            self.model,
            self._collate("train", rows),
            self.ready.loss,
            autocast=autocast or self.autocast,
            accumulates=self.ready.training.gradient_accumulation_steps > 1,
        )

    def run_evaluation(self) -> DryStep | None:
        """The largest batch of evaluation; None without rows for one."""
        split = next((split for split in ("validation", "test") if split in self.ready.data.splits), None)
        if split is None:
            return None
        lengths = measure_lengths(self.ready.data.splits[split])
        rows = np.argsort(-lengths, kind="stable")[: self.ready.training.eval_batch_size]
        return run_dry_forward(self.model, self._collate(split, rows.tolist()), self.autocast)

    def estimate(
        self,
        step: DryStep | None = None,
        *,
        rows: int | None = None,
        checkpoints: bool | None = None,
        uses_heap: bool = _USES_HEAP,
    ) -> MemoryEstimate:
        """The memory with this step, by default that of the run."""
        step = step or self.dry
        gradients = 4 * self.trained
        if step is None:
            activations = estimate_activations(
                self.ready.config,
                rows or len(self.batch.rows),
                self.batch.longest,
                value_bytes=2 if self.autocast else 4,
                checkpoints=self.checkpoints if checkpoints is None else checkpoints,
            )
            peak, logits = activations + gradients, 0
        else:
            activations, logits, peak = step.activations, step.logits, step.peak
            peak -= step.gradients - step.gradients // self.shards
        evaluation = self._count_predictions() + (0 if self.evaluated is None else self.evaluated.peak)
        on_cpu = self.device.type == "cpu"
        heap = int(HEAP_SHARE * max(peak, evaluation)) if on_cpu and uses_heap else 0
        base, optimizer = self.base if on_cpu else _CONTEXT, int(self.state * self.trained)
        return MemoryEstimate(base, self.weights, optimizer, gradients, activations, logits, peak, evaluation, heap)

    def _count_predictions(self) -> int:
        """Bytes of the answers for all rows of a split, which are joined once more at the end."""
        data = self.ready.data
        sizes = [0]
        for split in ("validation", "test"):
            if split in data.splits:
                lengths = measure_lengths(data.splits[split])
                positions = len(lengths) * int(lengths.max()) if data.problem == "token" else len(lengths)
                sizes.append(positions * len(data.classes) * 4)
        return 2 * max(sizes)

    def _collate(self, split: str, rows: list[int]) -> dict[str, torch.Tensor]:
        ready = self.ready
        chosen = select_inputs(ready.data.splits[split], ready.tokenizer).select(rows)
        collate = make_collator(ready.tokenizer, ready.data.problem, ready.training)
        return dict(collate([chosen[row] for row in range(len(chosen))]).to(self.device))


def _find_largest(ready: Preparation) -> _Batch:
    """The batch of the first epoch that has most tokens; in any order, the longest rows can come together."""
    lengths = measure_lengths(ready.data.splits["train"])
    batches = [batch for batch in ready.steps if batch]
    sizes = [len(batch) * int(lengths[batch].max()) for batch in batches]
    if ready.training.max_tokens_per_step is not None:
        rows = batches[int(np.argmax(sizes))]
    else:
        most = max(map(len, batches))
        rows = np.argsort(-lengths, kind="stable")[:most].tolist()
    return _Batch(rows, int(lengths[rows].max()), sum(sizes) * ready.training.world_size)


def _describe_rows(ready: Preparation) -> dict[str, Any]:
    described = {}
    for split, rows in ready.data.splits.items():
        lengths = measure_lengths(rows)
        described[split] = {
            "rows": len(rows),
            "mean_tokens": float(lengths.mean()),
            "longest_tokens": int(lengths.max()),
            "truncated": ready.data.report[split]["truncated_rows_in_file"],
        }
    return described


def _describe_steps(ready: Preparation, batch: _Batch) -> dict[str, Any]:
    arguments = ready.training
    an_epoch = math.ceil(len(ready.steps) / arguments.gradient_accumulation_steps)
    in_all = arguments.max_steps if arguments.max_steps > 0 else math.ceil(arguments.num_train_epochs * an_epoch)
    return {
        "sequences": arguments.count_sequences(),  # None: as many as max_tokens_per_step allows
        "an_epoch": an_epoch,
        "in_all": in_all,
        "epochs": in_all / an_epoch,
        "seeds": len(arguments.seeds),
        "trials": count_trials(find_space(ready, arguments), arguments.search_trials) if arguments.search else 0,
        "batch": {
            "rows": len(batch.rows),
            "tokens": batch.longest,
            "accumulated": arguments.gradient_accumulation_steps,
            "devices": arguments.world_size,
        },
        "padded_tokens_an_epoch": batch.padded,
    }


def _estimate_time(ready: Preparation, step: _Step, plan: dict[str, Any]) -> dict[str, Any]:
    """Seconds of all seeds and trials: operations over the device's speed, bytes over its bandwidth, and the calls."""
    arguments, device, steps = ready.training, step.device, plan["steps"]
    dtype = step.autocast or torch.float32
    tokens = len(step.batch.rows) * step.batch.longest
    epochs, shares = steps["epochs"], steps["padded_tokens_an_epoch"] / (tokens * arguments.world_size)
    if step.dry is None:
        flops, forward = _estimate_flops(ready, step, plan["parameters"]["active"])
        moved = calls = 0
    else:
        flops, moved, calls, forward = step.dry.flops, step.dry.moved, step.dry.operations, step.dry.forward_flops
    evaluated = sum(
        len(ready.data.splits[split]) * plan["rows"][split]["mean_tokens"] * rounds
        for split, rounds in (("validation", 1 + math.ceil(epochs)), ("test", 1))
        if split in ready.data.splits
    )
    total = flops * shares * epochs + forward * evaluated / tokens / arguments.world_size
    # AdamW reads weight, gradient and two moments and writes all but the gradient.
    bytes_moved = moved * shares * epochs + 28 * step.trained * steps["in_all"]
    peak = find_peak(device, dtype)
    speed = MFU * peak if peak else measure_products(device, dtype)[0]
    bandwidth = measure_bandwidth(device)
    called = calls * shares * epochs
    per_call = _CALL_SECONDS.get(device.type, _OTHER_CALL_SECONDS)
    trained = steps["seeds"] + steps["trials"]
    seconds = trained * (total / speed + bytes_moved / bandwidth + called * per_call)
    return {
        "seconds": seconds,
        "flops": total * trained,
        "bytes_moved": bytes_moved * trained,
        "flops_per_second": speed,
        "bytes_per_second": bandwidth,
        "assumes": f"{MFU:.0%} of the device's peak" if peak else "matrix products and copies as fast as measured now",
    }


def _estimate_flops(ready: Preparation, step: _Step, active: int) -> tuple[int, int]:
    """Operations of a step, and of its forward pass, without a dry one: by parts where the architecture is known."""
    rows, length = len(step.batch.rows), step.batch.longest
    head: Head = "token" if ready.data.problem == "token" else "sequence"
    found = count_operations(ready.config, rows, length, head, training=True)
    if found is not None:
        return found.count_step(checkpoints=step.checkpoints), found.forward
    flops = estimate_operations(ready.config, active, rows * length, length)
    return flops, flops // 3


def _estimate_disk(ready: Preparation, memory: MemoryEstimate, trained: int, steps: dict[str, Any]) -> dict[str, int]:
    """Bytes of models and checkpoints: weights, or an adapter; a checkpoint has the optimizer's state too."""
    arguments = ready.training
    model = memory.weights if ready.model.peft is None else 4 * trained
    strategy = SaveStrategy(arguments.save_strategy)
    saves = {SaveStrategy.NO: 0, SaveStrategy.EPOCH: math.ceil(steps["epochs"]), SaveStrategy.BEST: 1}.get(strategy)
    if saves is None:
        every = arguments.save_steps if arguments.save_steps >= 1 else max(steps["in_all"] * arguments.save_steps, 1)
        saves = int(steps["in_all"] // every)
    if arguments.save_total_limit is not None:
        saves = min(saves, arguments.save_total_limit)
    checkpoint = model + (0 if arguments.save_only_model else memory.optimizer)
    place = Path(str(arguments.output_dir)).absolute()
    while not place.exists():
        place = place.parent
    return {
        "model": model,
        "checkpoints": saves * checkpoint,
        "total": steps["seeds"] * (model + saves * checkpoint),
        "free": shutil.disk_usage(place).free,
    }


def _find_remedies(step: _Step, available: int) -> list[dict[str, Any]]:
    """What makes the run smaller, and the memory that it then takes; those that make it fit come first."""
    arguments, rows, found = step.ready.training, step.batch.rows, []
    sequences = arguments.count_sequences()
    dry = step.dry is not None

    def add(give: str, memory: MemoryEstimate) -> None:
        found.append({"give": give, "total": memory.total, "fits": memory.total <= available})

    size = len(rows)
    while size > 1 and arguments.max_tokens_per_step is None and not (found and found[-1]["fits"]):
        size = (size + 1) // 2
        memory = step.estimate(step.run(rows[:size]) if dry else None, rows=size)
        if found:  # Only the last one tried is told.
            found.pop()
        kept = f" --sequences_per_step {sequences}" if sequences else ""
        add(f"--per_device_train_batch_size {size}{kept}", memory)
    if step.device.type == "cpu" and _USES_HEAP:
        add("MALLOC_MMAP_THRESHOLD_=1048576 in the environment (slower)", step.estimate(uses_heap=False))
    if step.autocast is None:
        add(
            "--bf16 --use_cpu" if step.device.type == "cpu" else "--bf16",
            step.estimate(step.run(rows, torch.bfloat16) if dry else None),
        )
    if not step.checkpoints and getattr(step.model, "supports_gradient_checkpointing", True):
        step._checkpoint()
        add("--gradient_checkpointing", step.estimate(step.run(rows) if dry else None, checkpoints=True))
    if step.ready.model.peft is None and step.ready.model.backbone is None and step.ready.model.memory is None:
        memory = step.estimate()
        frozen = max(memory.step - memory.gradients, memory.activations)
        heap = memory.heap * max(frozen, memory.evaluation) // max(memory.step, memory.evaluation, 1)
        add("--peft lora", dataclasses.replace(memory, optimizer=0, gradients=0, step=frozen, heap=heap))
    return sorted(found, key=lambda remedy: not remedy["fits"])


def _list_notes(ready: Preparation) -> list[str]:
    name = ready.model.model_name_or_path
    if name is not None and is_hub_id(name) and not find_weights(name):
        return [
            f"the weights of {name} are not on this machine; the run fetches them. If they hold a trained pooler, it "
            "is counted as new here"
        ]
    return []


def tabulate_plan(plan: dict[str, Any]) -> str:
    """Return a plan as text."""
    steps, batch, memory, spent = plan["steps"], plan["steps"]["batch"], plan["memory"], plan["time"]
    lines = []
    for split, rows in plan["rows"].items():
        cut = f", {rows['truncated']:,} rows of the file are cut" if rows["truncated"] else ""
        tokens = f"{rows['mean_tokens']:,.0f} tokens in the mean, {rows['longest_tokens']:,} at most{cut}"
        lines.append((split, f"{rows['rows']:,} rows, {tokens}"))
    of = f"of {steps['sequences']:,} sequences" if steps["sequences"] else "of as many sequences as fit"
    each = f"{batch['rows']:,} x {batch['tokens']:,} tokens at a time"
    times = [f"{batch[name]:,} {name}" for name in ("accumulated", "devices") if batch[name] > 1]
    searched = f", {steps['trials']} trials of a search" if steps["trials"] else ""
    lines += [
        ("steps", f"{steps['in_all']:,} {of} ({', '.join([each, *times])})"),
        ("", f"{steps['an_epoch']:,} an epoch, {steps['epochs']:.4g} epochs, {steps['seeds']} seeds{searched}"),
        ("parameters", f"{plan['parameters']['total']:,}, trained {plan['parameters']['trained']:,}"),
    ]
    if plan["parameters"]["active"] != plan["parameters"]["total"]:
        lines.append(("", f"{plan['parameters']['active']:,} of them for a token"))
    shown = {"weights": "weights", "optimizer": "optimizer", "gradients": "gradients", "activations": "activations"}
    lines += [
        (
            "memory",
            f"{_show_bytes(memory['total'])} at the most, of {_show_bytes(memory['available'])} ({plan['device']})",
        ),
        ("", f"{_show_bytes(memory['base'])} Python, libraries and rows"),
        *(("", f"{_show_bytes(memory[name])} {word}") for name, word in shown.items()),
        ("", f"{_show_bytes(memory['step'])} gradients and activations together, at the worst moment"),
        ("", f"{_show_bytes(memory['evaluation'])} evaluation, instead of these"),
        *([("", f"{_show_bytes(memory['heap'])} gaps in the heap")] if memory["heap"] else []),
        (
            "time",
            f"about {_show_seconds(spent['seconds'])}: {spent['flops']:.2g} operations, {spent['bytes_moved']:.2g} "
            "bytes moved",
        ),
        ("", f"{spent['flops_per_second']:.2g} and {spent['bytes_per_second']:.2g} a second ({spent['assumes']})"),
        ("disk", f"{_show_bytes(plan['disk']['total'])}, of {_show_bytes(plan['disk']['free'])} that are free"),
        ("fits", "yes" if plan["fits"] else "no: the memory is too small"),
    ]
    for remedy in plan["remedies"]:
        enough = "" if remedy["fits"] else ", not enough alone"
        lines.append(("", f"{remedy['give']}: {_show_bytes(remedy['total'])}{enough}"))
    lines += [("note", note) for note in plan["notes"]]
    return "\n".join(f"{name:<12}{text}" for name, text in lines)


def _show_bytes(count: float) -> str:
    return f"{count / _GIB:,.2f} GiB"


def _show_seconds(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


__all__ = ["plan_finetune", "tabulate_plan"]
