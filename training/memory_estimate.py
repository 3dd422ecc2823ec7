"""How many bytes will a training take? Weights, gradients, the optimizer's moments; activations are in `costs`."""

import dataclasses
from typing import Any

import torch
from transformers import Trainer, TrainingArguments

ADAM_BYTES = 8
"""Of an optimizer's state for a parameter in float32: two moments in float32, AdamW."""

HEAP_SHARE = 0.75
"""Bytes that a process on a CPU holds besides each byte of a training step. Tensors below 32 MiB lie in the heap of the
C library, and the gaps between those that have come and gone are lost: 0.3, 0.8 and 1.6 were measured with glibc 2.36
(`docs/finetuning.md`), and none where `MALLOC_MMAP_THRESHOLD_` keeps tensors out of the heap."""

_TRIED = 256  # rows and columns of the matrix that an optimizer is tried on


@dataclasses.dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of a training on one device.

    Attributes:
        base: Python, the libraries, and the rows; on a GPU its context.
        weights: of the model.
        optimizer: what the optimizer keeps of each trained parameter.
        gradients: of the trained parameters.
        activations: kept for the backward pass.
        logits: of these, the model's answer.
        step: the most that gradients and activations take together; less than their sum, since one goes as the other
            comes.
        evaluation: the most that evaluation takes beside weights and optimizer, predictions of all rows included.
        heap: what lies between tensors in the heap of a CPU's process, see `HEAP_SHARE`.
    """

    base: int
    weights: int
    optimizer: int
    gradients: int
    activations: int
    logits: int
    step: int
    evaluation: int
    heap: int = 0

    @property
    def model(self) -> int:
        """What the training adds to the base."""
        return self.weights + self.optimizer + max(self.step, self.evaluation) + self.heap

    @property
    def total(self) -> int:
        """Base and training together."""
        return self.base + self.model


@dataclasses.dataclass(frozen=True)
class ParameterCount:
    """Parameters of a model: in all, those that are trained, and those that one token meets (of experts, the few that
    it is sent to)."""

    total: int
    trained: int
    active: int


def count_parameters(model: Any) -> ParameterCount:
    """Count a model's parameters, tied ones once; it may be on the meta device."""
    sizes = [(name, weight.numel(), weight.requires_grad) for name, weight in model.named_parameters()]
    total = sum(size for _, size, _ in sizes)
    experts = sum(size for name, size, _ in sizes if ".experts." in name)
    config = model.config.get_text_config()
    config = getattr(config, "backbone_config", None) or config
    chosen = getattr(config, "num_experts_per_tok", None)
    counts = [getattr(config, name, 0) for name in ("num_local_experts", "num_experts", "n_routed_experts")]
    there = next((count for count in counts if count), 0)
    idle = experts * (there - chosen) // there if experts and chosen and there else 0
    return ParameterCount(total, sum(size for _, size, trained in sizes if trained), total - idle)


def measure_optimizer_state(arguments: TrainingArguments, model: Any) -> float:
    """Return the bytes that an optimizer keeps for each trained parameter, tried on a matrix of 256 x 256.

    16 bytes a parameter in all is AdamW in float32 (4 for the weight, 4 for its gradient, 8 for the moments; the
    arithmetic of Rajbhandari et al. 2020, ZeRO, section 3.1, for one precision); here the optimizer itself says.
    One that is made for certain layers, or that runs on a GPU only, counts as AdamW.
    """
    matrix = torch.nn.Parameter(torch.zeros(_TRIED, _TRIED))
    kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    if {"model", "params", "optimizer_dict"} & set(options) or kind.__module__.startswith("bitsandbytes"):
        return ADAM_BYTES
    optimizer = kind([matrix], **options)
    matrix.grad = torch.ones_like(matrix)
    optimizer.step()
    state = [value for value in optimizer.state[matrix].values() if isinstance(value, torch.Tensor)]
    return sum(value.numel() * value.element_size() for value in state if value.dim()) / matrix.numel()


__all__ = [
    "ADAM_BYTES",
    "HEAP_SHARE",
    "MemoryEstimate",
    "ParameterCount",
    "count_parameters",
    "measure_optimizer_state",
]
