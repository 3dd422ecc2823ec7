"""What is equal in a comparison with and without memory? Tokens, operations or parameters: never all three.

- *Equal tokens*: both read the same blocks in the same order. The memory's operations and parameters come on top.
- *Equal FLOPs*: the same number of optimizer steps; the batch of the model with memory has fewer blocks, by the share
  of a step's operations that is the memory's.
- *Equal parameters*: both read the same blocks; the MLP (or each expert) of the model without memory is wider, so that
  it has as many parameters.

Operations are those of the memory as it is defined, a projection of each position's mean, whichever form computes it:
forms that project tables instead need fewer, so the model with memory is rather given too few tokens than too many.
"""

import dataclasses
import json
import warnings
from functools import cache
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from gengram.benchmarks.study.presets import Preset, find_width, make_config
from gengram.costs import count_operations
from gengram.gengram.configuration_gengram import GengramConfig

COMPARISONS = ("tokens", "flops", "parameters")


@dataclasses.dataclass(frozen=True)
class Arm:
    """
    One of the models that are compared of an architecture.

    Attributes:
        name: `none`, `memory`, `memory-equal-flops` or `none-wider`.
        memory: whether it has the memory.
        blocks_per_step: blocks that a step of it reads.
        width: of its MLP or of each expert.
        parameters, active: all, and those that a token meets; rows of embeddings and tables count as all of them.
        step_flops: operations of a training step (forward and backward pass, half of the scores).
        memory_flops: the memory's part of them.
    """

    name: str
    memory: bool
    blocks_per_step: int
    width: int
    parameters: int
    active: int
    step_flops: int
    memory_flops: int

    def count_tokens(self, preset: Preset) -> int:
        """Tokens of the whole training."""
        return preset.steps * self.blocks_per_step * preset.block_size


ARMS = {"tokens": ("memory", "none"), "flops": ("memory-equal-flops", "none"), "parameters": ("memory", "none-wider")}
"""Comparison -> the arm with memory and the one without."""


def make_arm(preset: Preset, architecture: str, name: str) -> Arm:
    """Return an arm of an architecture: `none`, `memory`, `memory-equal-flops`, `none-wider`."""
    memory = name.startswith("memory")
    blocks, width = preset.blocks_per_step, find_width(preset, architecture)
    if name == "memory-equal-flops":
        blocks = match_blocks(preset, architecture)
    elif name == "none-wider":
        width = match_width(preset, architecture)
    config = make_config(preset, architecture, memory, width)
    parameters, active = count_parameters(config)
    total, of_memory = count_step(config, blocks, preset.block_size)
    return Arm(name, memory, blocks, width, parameters, active, total, of_memory)


def match_blocks(preset: Preset, architecture: str) -> int:
    """Return how many blocks a step with memory may read for the operations of one without: the nearest whole number,
    at least 1."""
    width = find_width(preset, architecture)
    plain, ours = (
        count_step(make_config(preset, architecture, memory, width), 1, preset.block_size)[0]
        for memory in (False, True)
    )
    return max(round(preset.blocks_per_step * plain / ours), 1)


def match_width(preset: Preset, architecture: str) -> int:
    """Return the width at which a model without memory has as many parameters as one with it, as nearly as whole
    numbers allow."""
    width = find_width(preset, architecture)
    ours = count_parameters(make_config(preset, architecture, True))[0]
    plain, wider = (count_parameters(make_config(preset, architecture, False, width + more))[0] for more in (0, 1))
    # GPUs want widths that are multiples of 8; of small models each number counts.
    multiple = 8 if preset.paper else 1
    return multiple * round((width + (ours - plain) / (wider - plain)) / multiple)


def count_step(config: GengramConfig, blocks: int, block_size: int) -> tuple[int, int]:
    """Return the operations of a training step, and those of them that are the memory's."""
    found = count_operations(config, blocks, block_size, memory="projected", training=True)
    if found is None:  # none of the six architectures
        raise ValueError(f"the operations of {config.get_text_config().model_type} cannot be counted")
    return found.count_step(causal=True), 3 * found.memory


def count_parameters(config: GengramConfig) -> tuple[int, int]:
    """Return all parameters of a model, and those that a token meets: of its experts as many as it is sent to."""
    return _count_parameters(config.to_json_string())


@cache
def _count_parameters(text: str) -> tuple[int, int]:
    fields = json.loads(text)
    config = GengramConfig(**{name: value for name, value in fields.items() if name != "model_type"})
    backbone: Any = config.backbone_config
    with torch.device("meta"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")  # experts that share nothing
        model = AutoModelForCausalLM.from_config(config)
    total = experts = 0
    for name, weight in model.named_parameters():
        total += weight.numel()
        experts += weight.numel() if ".experts." in name and "shared" not in name else 0
    number = getattr(backbone, "num_local_experts", None) or getattr(backbone, "n_routed_experts", None)
    idle = experts * (number - backbone.num_experts_per_tok) // number if experts and number else 0
    return total, total - idle


__all__ = ["ARMS", "COMPARISONS", "Arm", "count_parameters", "count_step", "make_arm", "match_blocks", "match_width"]
