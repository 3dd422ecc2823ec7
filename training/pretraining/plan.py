"""Before a pre-training starts: parameters, memory of a device by part, tokens, operations, checkpoints and hours.

No weights are made: the model lies on the meta device. Memory is told twice. The first way is a formula for each part,
which can be worked out by hand: 16 bytes a parameter of AdamW in float32 (Rajbhandari et al. 2020, ZeRO, section 3.1),
activations by Korthikanti et al. 2022 (`gengram.costs.estimate_activations`). The second counts the storages of one
step on tensors without numbers (`gengram.training.dry_step`). What fits has to fit by both.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedConfig, PreTrainedModel

from gengram.costs import (
    count_operations,
    count_token_operations,
    estimate_activations,
    estimate_memory_activations,
)
from gengram.errors import InputError
from gengram.gengram.motif_memory import MotifMemory
from gengram.loading.faults import tell_error
from gengram.training.devices import MFU, Gpu, find_gpu
from gengram.training.dry_step import choose_memory_paths, make_dry, run_dry
from gengram.training.memory_estimate import ADAM_BYTES, count_parameters

Sharding = Literal["ddp", "zero1", "zero2", "zero3", "fsdp2"]
SHARDINGS: dict[Sharding, str] = {
    "ddp": "every device has all",
    "zero1": "DeepSpeed ZeRO-1: the optimizer's state is divided",
    "zero2": "DeepSpeed ZeRO-2: gradients and the optimizer's state are divided",
    "zero3": "DeepSpeed ZeRO-3: all is divided",
    "fsdp2": "FSDP2: all is divided",
}
"""Ways to divide a model among devices -> what they divide; `gengram.training.accelerate_configs` has most of them."""

_CONTEXT = 600 * 10**6  # bytes of a GPU that CUDA and its libraries take
_LONGEST_DRY = 1 << 18  # tokens of a batch that a dry step is taken for
_MOST_ROWS = 1 << 10  # blocks at a time that are tried, where there is room


class PlannedStage(NamedTuple):
    """One stage of a pre-training.

    Attributes:
        name: how it is called.
        block_size: tokens of a block.
        blocks_per_step: blocks of an optimizer step, on all devices together.
        steps: optimizer steps.
        rows: blocks that a device has at a time.
    """

    name: str
    block_size: int
    blocks_per_step: int
    steps: int
    rows: int = 1

    @property
    def tokens(self) -> int:
        """Tokens of the stage, special ones included."""
        return self.block_size * self.blocks_per_step * self.steps


@dataclasses.dataclass(frozen=True)
class PlanOptions:
    """What the plan is made for.

    Attributes:
        gpu: name of the devices, see `gengram.training.devices.find_gpu`.
        gpus: how many there are in all.
        mfu: share of the peak that model FLOPs reach.
        sharding: how the model is divided among the devices.
        precision: `bf16` and `fp16` are mixed precision: weights, gradients and moments in float32.
        pure: weights, gradients and moments are themselves in 16 bits.
        checkpoints: gradient checkpointing.
        optimizer_bytes: what the optimizer keeps for each trained parameter in float32; half of it where `pure`.
        context: devices that share a block (context parallelism).
    """

    gpu: str = "H100"
    gpus: int = 1
    mfu: float = MFU
    sharding: Sharding = "ddp"
    precision: Literal["no", "bf16", "fp16"] = "bf16"
    pure: bool = False
    checkpoints: bool = False
    optimizer_bytes: float = ADAM_BYTES
    context: int = 1

    def __post_init__(self) -> None:
        if self.gpus < 1:
            raise InputError(f"gpus={self.gpus}: give 1 or more")
        if not 0 < self.mfu <= 1:
            raise InputError(f"mfu={self.mfu}: give a share of the peak above 0 and at most 1, e.g. {MFU}")
        if self.sharding not in SHARDINGS:
            raise InputError(f"sharding={self.sharding!r}: choose {', '.join(SHARDINGS)}")
        if self.context < 1 or self.gpus % self.context:
            raise InputError(f"{self.context} devices share a block: {self.gpus} GPUs cannot be divided so")


def plan_pretraining(
    config: PreTrainedConfig,
    stages: Sequence[PlannedStage],
    options: PlanOptions | None = None,
    *,
    causal: bool | None = None,
    model: PreTrainedModel | None = None,
) -> dict[str, Any]:
    """Say what a pre-training is going to take.

    Args:
        config: of the model.
        stages: one after the other.
        options: devices and precision.
        causal: whether a token sees only those before it; by default as the configuration's language model does.
        model: the model, on the meta device; made from `config` by default. It is used up.

    Returns:
        `dict`, for JSON; bytes, operations and hours are numbers:
        - `parameters`: `total`, `trained`, `active` (those that a token meets), `memory` (of motif memories).
        - `stages`: for each its `tokens`, `steps`, `flops_per_token`, `counted_per_token` (by part, of matrix products
          only, see `gengram.costs.count_operations`), `flops`, `hours`; with gradient checkpointing and without, what a
          device keeps: `activations`, `activations_checkpointed`.
        - `steps`, `tokens`, `flops`, `hours`, `gpu_hours` of all stages.
        - `memory`: for each of `SHARDINGS` the bytes of one device by part in the stage that takes most:
          `weights`, `working_copy`, `gradients`, `optimizer`, `activations`, `motif_memory`, `logits`, `context`, their
          sum `total`, and whether it `fits`.
        - `counted`: of the same step without numbers, `activations` kept for the backward pass, `weight_copies` that
          mixed precision keeps besides, `ratio` of the first to the formula's, `total` as above; None where the model
          cannot take one.
        - `checkpoint`: bytes of `weights`, of `optimizer` and of both, `total`.
        - `gpu`, `options`; `fits`; `remedies`: what to give where it does not, and the total with it; `notes`.

    Raises:
        `InputError`: a GPU that is not known, or stages that the devices cannot share.
    """
    options = options or PlanOptions()
    gpu = find_gpu(options.gpu)
    _check_stages(stages, options)
    if model is None:
        model = make_empty_model(config, causal)
    causal = _is_causal(model) if causal is None else causal
    parameters = count_parameters(model)
    remembered = sum(
        weight.numel() for part in model.modules() if isinstance(part, MotifMemory) for weight in part.parameters()
    )
    units = _measure_units(model)
    notes = _list_notes(stages, options, gpu, parameters.trained)
    described = [_describe_stage(config, stage, options, gpu, parameters.active, causal) for stage in stages]
    largest = max(stages, key=lambda stage: stage.rows * stage.block_size)
    memory = {}
    for sharding in SHARDINGS:
        chosen = dataclasses.replace(options, sharding=sharding)
        memory[sharding] = _estimate_memory(config, largest, chosen, parameters, units, gpu)
    found = memory[options.sharding]
    remedies_model = parameters, units
    counted = _count_step(model, config, largest, options, found, notes)
    need = max(found["total"], counted["total"] if counted else 0)
    fits = need <= gpu.memory
    if fits and gpu.smaller:
        word = "also fits" if need <= gpu.smaller else "does not fit"
        notes.append(f"a {gpu.name.split()[0]} with {gpu.smaller // 10**9} GB: it {word}")
    value = 2 if options.pure else 4
    kept = {"weights": value * parameters.total, "optimizer": int(_moments(options) * parameters.trained)}
    hours = sum(stage["hours"] for stage in described)
    return {
        "parameters": {**dataclasses.asdict(parameters), "memory": remembered},
        "stages": described,
        "steps": sum(stage.steps for stage in stages),
        "tokens": sum(stage.tokens for stage in stages),
        "flops": sum(stage["flops"] for stage in described),
        "hours": hours,
        "gpu_hours": hours * options.gpus,
        "memory": memory,
        "counted": counted,
        "checkpoint": {**kept, "total": sum(kept.values())},
        "gpu": gpu._asdict(),
        "options": dataclasses.asdict(options),
        "fits": fits,
        "remedies": [] if fits else _find_remedies(config, largest, options, *remedies_model, gpu),
        "notes": notes,
    }


def make_empty_model(config: PreTrainedConfig, causal: bool | None = None) -> PreTrainedModel:
    """Return the language model of a configuration on the meta device.

    Args:
        config: of the model.
        causal: which language model; by default the masked one, where the architecture has one.

    Raises:
        `InputError`: there is none.
    """
    if causal is None:
        inner: Any = config
        while getattr(inner, "backbone_config", None) is not None:
            inner = inner.backbone_config
        causal = not _has_class(AutoModelForMaskedLM, inner)
    kind = AutoModelForCausalLM if causal else AutoModelForMaskedLM
    if not _has_class(kind, config):
        raise InputError(f"model_type={config.model_type!r}: there is no language model of this kind to be pre-trained")
    with torch.device("meta"):
        return kind.from_config(config)


def _has_class(kind: Any, config: PreTrainedConfig) -> bool:
    return type(config) in kind._model_mapping


def _check_stages(stages: Sequence[PlannedStage], options: PlanOptions) -> None:
    if not stages:
        raise InputError("the recipe has no stages, so there is nothing to plan")
    for stage in stages:
        if stage.block_size % (2 * options.context) and options.context > 1:
            raise InputError(
                f"{stage.name}: {options.context} devices share a block in {2 * options.context} pieces, and "
                f"{stage.block_size} tokens cannot be cut so"
            )


def _is_causal(model: PreTrainedModel) -> bool:
    return not type(model).__name__.endswith(("ForMaskedLM", "ForPreTraining"))


def _moments(options: PlanOptions) -> float:
    return options.optimizer_bytes / (2 if options.pure else 1)


def _value_bytes(options: PlanOptions) -> int:
    return 4 if options.precision == "no" and not options.pure else 2


def _measure_units(model: nn.Module) -> list[int]:
    """Parameters of each part that is divided and gathered as one: layers and memories, and all the rest together."""
    names = set(getattr(model, "_no_split_modules", None) or ())
    seen: set[int] = set()
    sizes = []
    for part in model.modules():
        if type(part).__name__ in names:
            weights = [weight for weight in part.parameters() if id(weight) not in seen]
            seen |= {id(weight) for weight in weights}
            sizes.append(sum(weight.numel() for weight in weights))
    sizes.append(sum(weight.numel() for weight in model.parameters() if id(weight) not in seen))
    return sorted(sizes, reverse=True)


def _describe_stage(
    config: PreTrainedConfig, stage: PlannedStage, options: PlanOptions, gpu: Gpu, active: int, causal: bool
) -> dict[str, Any]:
    per_token = count_token_operations(config, active, stage.block_size, causal=causal)
    parts = count_operations(config, 1, stage.block_size, training=True)
    flops = per_token * stage.tokens
    groups = options.gpus // options.context
    waiting = -(-stage.blocks_per_step // groups) * groups / stage.blocks_per_step
    kept = [
        _estimate_kept(config, stage, dataclasses.replace(options, checkpoints=checkpoints))
        for checkpoints in (False, True)
    ]
    return {
        **stage._asdict(),
        "tokens": stage.tokens,
        "flops_per_token": per_token,
        "counted_per_token": parts and parts.count_step(causal=causal) / stage.block_size,
        "flops": flops,
        "hours": waiting * flops / (options.mfu * gpu.peak * options.gpus) / 3600,
        "activations": kept[0],
        "activations_checkpointed": kept[1],
    }


def _estimate_kept(config: PreTrainedConfig, stage: PlannedStage, options: PlanOptions) -> int:
    tokens = stage.block_size // options.context
    return estimate_activations(
        config, stage.rows, tokens, value_bytes=_value_bytes(options), checkpoints=options.checkpoints
    )


def _estimate_memory(
    config: PreTrainedConfig,
    stage: PlannedStage,
    options: PlanOptions,
    parameters: Any,
    units: list[int],
    gpu: Gpu,
) -> dict[str, Any]:
    """Bytes of one device by part. Of FSDP2 and ZeRO-3 the working copy is the divided weights in 16 bits, and two
    units whole: the one that is computed and the one that is fetched meanwhile."""
    value, shards = 2 if options.pure else 4, options.gpus
    of_weights = shards if options.sharding in ("zero3", "fsdp2") else 1
    of_gradients = shards if options.sharding in ("zero2", "zero3", "fsdp2") else 1
    of_moments = 1 if options.sharding == "ddp" else shards
    working = 0
    if of_weights > 1:
        narrow = _value_bytes(options)
        working = narrow * sum(units[:2]) + (narrow * parameters.total // shards if narrow < value else 0)
    tokens = stage.block_size // options.context
    parts = {
        "weights": value * parameters.total // of_weights,
        "working_copy": working,
        "gradients": value * parameters.trained // of_gradients,
        "optimizer": int(_moments(options) * parameters.trained) // of_moments,
        "activations": _estimate_kept(config, stage, options),
        "motif_memory": estimate_memory_activations(config, stage.rows, tokens),
        "logits": 2 * 4 * stage.rows * tokens * _count_vocabulary(config),
        "context": _CONTEXT,
    }
    total = sum(parts.values())
    return {**parts, "total": total, "fits": total <= gpu.memory}


def _count_vocabulary(config: Any) -> int:
    """Numbers of a token's answer: of U-Nets letters, of all others the vocabulary."""
    inner: Any = config
    while getattr(inner, "backbone_config", None) is not None:
        inner = inner.backbone_config
    return getattr(inner, "alphabet_size", None) or inner.get_text_config().vocab_size


def _count_step(
    model: PreTrainedModel,
    config: PreTrainedConfig,
    stage: PlannedStage,
    options: PlanOptions,
    found: dict[str, Any],
    notes: list[str],
) -> dict[str, Any] | None:
    """What a step without numbers keeps, beside the formula."""
    tokens = stage.block_size // options.context
    if stage.rows * tokens > _LONGEST_DRY:
        return None
    narrow = {"bf16": torch.bfloat16, "fp16": torch.float16, "no": None}[options.precision]
    device = torch.device("cpu")
    drawn = torch.Generator().manual_seed(0)  # bases: how many k-mers are in use decides what a memory keeps
    ids = torch.randint(5, 9, (stage.rows, tokens), generator=drawn).clamp(max=_count_vocabulary(config) - 1)
    batch = {"input_ids": ids, "labels": ids}
    copies = 0
    try:
        if options.pure:
            nn.Module.to(model, torch.bfloat16)
            narrow = None
        if narrow is not None:
            copies = 2 * sum(weight.numel() for name, weight in model.named_parameters() if _is_factor(name, weight))
        model.train()
        choose_memory_paths(model, stage.rows, tokens, device)
        make_dry(model, device)
        kept = run_dry(model, batch, _compute_loss, autocast=narrow).activations - copies
        if options.checkpoints:
            # What is kept at the end of the forward pass, and one layer as a whole, as the formula has it.
            getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
            layer = kept // _count_layers(config)
            kept, copies = layer + run_dry(model, batch, _compute_loss, autocast=narrow).activations, 0
    except Exception as error:  # whatever a model's code raises where it asks a tensor for its numbers
        notes.append(f"memory is by formula only: the model takes no step without numbers ({tell_error(error)[:200]})")
        return None
    whole = options.sharding in ("zero3", "fsdp2") and options.gpus > 1
    formula = found["activations"] + found["motif_memory"] + found["logits"] // 2
    others = sum(found[name] for name in ("weights", "working_copy", "gradients", "optimizer", "context"))
    return {
        "activations": kept,
        "weight_copies": 0 if whole else copies,
        "ratio": kept / formula,
        "total": others + kept + (0 if whole else copies) + found["logits"] // 2,
    }


def _count_layers(config: Any) -> int:
    while getattr(config, "backbone_config", None) is not None:
        config = config.backbone_config
    return getattr(config, "num_hidden_layers", None) or config.num_layers


def _is_factor(name: str, weight: torch.Tensor) -> bool:
    """Whether a weight is a factor of a product, which mixed precision copies in 16 bits and keeps."""
    return weight.dim() > 1 and "embed" not in name and "conv" not in name


def _compute_loss(outputs: Any, labels: torch.Tensor) -> torch.Tensor:
    logits = outputs["logits"].float()
    return nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten() % logits.shape[-1])


def _find_remedies(
    config: PreTrainedConfig,
    stage: PlannedStage,
    options: PlanOptions,
    parameters: Any,
    units: list[int],
    gpu: Gpu,
) -> list[dict[str, Any]]:
    """What makes a device's share smaller, by the formula; those that make it fit come first."""
    tries: list[tuple[str, PlannedStage, PlanOptions]] = []
    with_checkpoints = dataclasses.replace(options, checkpoints=True)
    if not options.checkpoints:
        tries.append(("--gradient_checkpointing", stage, with_checkpoints))
    if stage.rows > 1:
        tries.append(("one block on a device at a time", stage._replace(rows=1), options))
    others: tuple[Sharding, ...] = ("zero2", "fsdp2")
    for sharding in others:
        if options.gpus > 1 and options.sharding not in ("zero3", "fsdp2", sharding):
            divided = dataclasses.replace(options, sharding=sharding)
            tries.append((f"--sharding {sharding}", stage, divided))
            if not options.checkpoints:
                both = dataclasses.replace(divided, checkpoints=True)
                tries.append((f"--sharding {sharding} --gradient_checkpointing", stage, both))
    for gpus in (8, 16, 32, 64, 128):
        if gpus > options.gpus and stage.blocks_per_step % gpus == 0:
            more = dataclasses.replace(with_checkpoints, gpus=gpus, context=1, sharding="fsdp2")
            tries.append((f"--gpus {gpus} --sharding fsdp2 --gradient_checkpointing", stage, more))
            if _estimate_memory(config, stage, more, parameters, units, gpu)["fits"]:
                break
    found = []
    for give, tried, changed in tries:
        memory = _estimate_memory(config, tried, changed, parameters, units, gpu)
        found.append({"give": give, "total": memory["total"], "fits": memory["fits"]})
    return sorted(found, key=lambda remedy: not remedy["fits"])


def _list_notes(stages: Sequence[PlannedStage], options: PlanOptions, gpu: Gpu, trained: int) -> list[str]:
    groups, notes = options.gpus // options.context, []
    for stage in stages:
        if waits := -stage.blocks_per_step % groups:
            who = "devices" if options.context == 1 else "groups of devices"
            notes.append(
                f"{stage.name}: {stage.blocks_per_step:,} blocks of a step for {groups} {who}: {waits} of them wait "
                "for the others, which is in the hours; give a multiple as blocks_per_step"
            )
    if gpu.name.startswith("V100") and options.precision == "bf16":
        notes.append("a V100 has no bf16: its peak is that of fp16")
    if options.precision == "no" and not options.pure:
        notes.append(f"the peak is of 16 bits; in float32 a {gpu.name} is slower: give --bf16, or a lower --mfu")
    if options.checkpoints:
        notes.append("MFU does not count layers that are computed twice: with checkpointing it is about 3/4 of without")
    if options.sharding == "ddp" and options.gpus > 1:
        notes.append(
            f"DDP's buckets hold another copy of the gradients ({_show(4 * trained)}), unless it is made with "
            "gradient_as_bucket_view"
        )
    return notes


def tabulate_plan(plan: dict[str, Any]) -> str:
    """Return a plan as text."""
    options, gpu, parameters = plan["options"], plan["gpu"], plan["parameters"]
    lines = [("parameters", f"{parameters['total']:,}, trained {parameters['trained']:,}")]
    if parameters["active"] != parameters["total"]:
        lines.append(("", f"{parameters['active']:,} of them for a token"))
    if parameters["memory"]:
        lines.append(("", f"{parameters['memory']:,} of them in motif memories"))
    for stage in plan["stages"]:
        each = f"{stage['steps']:,} steps of {stage['blocks_per_step']:,} x {stage['block_size']:,} tokens"
        lines.append((stage["name"], f"{each} = {stage['tokens']:.4g} tokens"))
        by_part = f", by part {stage['counted_per_token']:.4g}" if stage["counted_per_token"] else ""
        work = f"{stage['flops_per_token']:.4g} FLOPs a token (6 N + 12 L D T{by_part}), {stage['flops']:.4g} in all"
        lines.append(("", work))
        kept = f"{_show(stage['activations'])}, with checkpointing {_show(stage['activations_checkpointed'])}"
        lines.append(("", f"activations of {stage['rows']:,} at a time: {kept} (estimated)"))
    devices = f"{options['gpus']} x {gpu['name']}"
    lines.append(
        ("time", f"about {_show_hours(plan['hours'])}: {plan['flops']:.4g} FLOPs at {options['mfu']:.0%} of {devices}")
    )
    lines.append(("", f"{plan['gpu_hours']:,.1f} GPU hours, evaluation and checkpoints not counted"))
    checkpoint = plan["checkpoint"]
    parts = f"{_show(checkpoint['weights'])} weights, {_show(checkpoint['optimizer'])} optimizer"
    lines.append(("checkpoint", f"{_show(checkpoint['total'])}: {parts}"))
    chosen = list(plan["memory"]) if options["gpus"] > 1 else ["ddp"]
    lines.append(("memory", f"of one device of {_show(gpu['memory'])}, estimated"))
    names = {"working_copy": "copy in 16 bits", "motif_memory": "motif memory", "context": "CUDA"}
    lines.append(("", "".join([f"{'':<16}", *(f"{sharding:>12}" for sharding in chosen)])))
    for part in plan["memory"]["ddp"]:
        if part != "fits":
            amounts = [f"{_show(plan['memory'][sharding][part]):>12}" for sharding in chosen]
            lines.append(("", f"{names.get(part, part):<16}" + "".join(amounts)))
    if counted := plan["counted"]:
        lines.append(("", f"counted on a step without numbers, {options['sharding']}: {_show(counted['total'])}"))
        kept = f"{_show(counted['activations'])} of activations and logits, {counted['ratio']:.2f} of the estimate"
        copies = f", and {_show(counted['weight_copies'])} of weights in 16 bits" if counted["weight_copies"] else ""
        lines.append(("", f"  ({kept}{copies})"))
    lines.append(("fits", f"{'yes' if plan['fits'] else 'no'} ({devices}, {options['sharding']})"))
    for remedy in plan["remedies"]:
        enough = "" if remedy["fits"] else ", not enough alone"
        lines.append(("", f"{remedy['give']}: {_show(remedy['total'])}{enough}"))
    lines += [("note", note) for note in plan["notes"]]
    return "\n".join(f"{name:<12}{text}" for name, text in lines)


def _show(count: float) -> str:
    return f"{count / 1e9:,.2f} GB"


def _show_hours(hours: float) -> str:
    if hours < 2:
        return f"{60 * hours:,.1f} min"
    return f"{hours:,.1f} h" if hours < 72 else f"{hours / 24:,.1f} days"


__all__ = [
    "SHARDINGS",
    "PlanOptions",
    "PlannedStage",
    "make_empty_model",
    "plan_pretraining",
    "tabulate_plan",
]
