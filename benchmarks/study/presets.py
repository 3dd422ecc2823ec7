"""Which models does a study train? Six architectures in three sizes, and how long each is trained.

The classes are those of the paper's sizes (`GengramConfig.from_size`): Llama, DeepSeek-V3 with dense layers, Mixtral,
DeepSeek-V3 with experts. A smaller preset has fewer layers and smaller widths of the same classes; k-mers, window and
memory are the paper's, on layers at the same places of the stack.
"""

import dataclasses
from typing import Any

from gengram.errors import InputError, suggest
from gengram.gengram.configuration_gengram import GengramConfig

ARCHITECTURES = ("dense-mha", "dense-gqa", "dense-mla", "moe-mha", "moe-gqa", "moe-mla")
_PAPER = {name: f"{'0.3b' if name.startswith('dense') else '1.2b'}-{name}" for name in ARCHITECTURES}
# Fields of a backbone by which a preset differs from the paper's size.
_SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "moe_intermediate_size",
    "max_position_embeddings",
    "first_k_dense_replace",
    "kv_lora_rank",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "v_head_dim",
)
# What follows from other fields, or is of one installation.
_OTHERS = (*_SIZES, "architectures", "dtype", "transformers_version", "head_dim", "qk_head_dim")


@dataclasses.dataclass(frozen=True)
class Preset:
    """
    Size and training of all models of a study.

    Attributes:
        name: of the preset.
        hidden_size, layers, heads, groups: of the backbones; `groups` of key and value heads where they are shared.
        dense_width, expert_width: of an MLP, and of each of the 8 experts of which a token meets 2.
        memory_layers, memory_dim: of the memory, layers counted from 0.
        block_size: tokens (bases) of a block.
        blocks_per_step, steps: of the training, for models without a memory.
        blocks_per_device: most blocks that a device takes at a time.
        learning_rate, lowest_rate, warmup_steps, weight_decay: AdamW; the rate falls along a cosine.
        evaluations: how often held-out bits are measured during the training, the end included.
        held_out_blocks: of the held-out contigs, for each of these measurements.
        scored_blocks: of the held-out contigs at most, for the final figures; evenly spread.
        bf16: mixed precision.
        needs_gpu: whether a CPU would need years.
        paper: the sizes of the paper, as `GengramConfig.from_size` has them.
    """

    name: str
    hidden_size: int
    layers: int
    heads: int
    groups: int
    dense_width: int
    expert_width: int
    memory_layers: tuple[int, ...]
    memory_dim: int
    block_size: int
    blocks_per_step: int
    steps: int
    blocks_per_device: int
    learning_rate: float
    lowest_rate: float
    warmup_steps: int
    weight_decay: float
    evaluations: int
    held_out_blocks: int
    scored_blocks: int
    bf16: bool = False
    needs_gpu: bool = False
    paper: bool = False


TINY = Preset(
    name="tiny",
    hidden_size=64,
    layers=4,
    heads=4,
    groups=2,
    dense_width=256,
    expert_width=128,
    memory_layers=(0, 1, 3),
    memory_dim=32,
    block_size=128,
    blocks_per_step=16,
    steps=256,
    blocks_per_device=16,
    learning_rate=3e-3,
    lowest_rate=3e-4,
    warmup_steps=26,
    weight_decay=0.1,
    evaluations=4,
    held_out_blocks=64,
    scored_blocks=1024,
)
SMALL = Preset(
    name="small",
    hidden_size=128,
    layers=6,
    heads=8,
    groups=4,
    dense_width=512,
    expert_width=256,
    memory_layers=(1, 2, 4),
    memory_dim=64,
    block_size=512,
    blocks_per_step=16,
    steps=600,
    blocks_per_device=16,
    learning_rate=1e-3,
    lowest_rate=1e-4,
    warmup_steps=60,
    weight_decay=0.1,
    evaluations=10,
    held_out_blocks=128,
    scored_blocks=1024,
)
# The paper's tables 9 to 11: 8,192 bases, batches of 1,024, 50 billion tokens, rate 1e-4 to 1e-5. Of the warm-up its
# script for the 10-billion model says 5 %.
PAPER = Preset(
    name="paper",
    hidden_size=1280,
    layers=12,
    heads=16,
    groups=8,
    dense_width=5120,
    expert_width=4096,
    memory_layers=(2, 5, 9),
    memory_dim=1024,
    block_size=8192,
    blocks_per_step=1024,
    steps=5960,
    blocks_per_device=2,
    learning_rate=1e-4,
    lowest_rate=1e-5,
    warmup_steps=298,
    weight_decay=0.1,
    evaluations=20,
    held_out_blocks=256,
    scored_blocks=4096,
    bf16=True,
    needs_gpu=True,
    paper=True,
)
PRESETS = {preset.name: preset for preset in (TINY, SMALL, PAPER)}


def choose_architectures(names: list[str] | None) -> list[str]:
    """Return the architectures that are meant, each once, in the order of `ARCHITECTURES`; None: all of them.

    Raises:
        `InputError`: a name that is none.
    """
    for name in names or ():
        if name not in ARCHITECTURES:
            close = suggest(name, ARCHITECTURES)
            raise InputError(
                f"--architectures {name}: there is no such architecture{close or '.'} Known: {', '.join(ARCHITECTURES)}"
            )
    return [name for name in ARCHITECTURES if names is None or name in names]


def describe_model(preset: Preset, architecture: str, memory: bool, width: int | None = None) -> dict[str, Any]:
    """
    Return a model's configuration as a recipe has it: `model_type`, `backbone_config` and the memory's fields.

    Args:
        preset: of the study.
        architecture: one of `ARCHITECTURES`.
        memory: whether it has the motif memory; without, it is the same class with no memory layers.
        width: of its MLP or of each expert, in place of the preset's.
    """
    backbone: Any = GengramConfig.from_size(_PAPER[architecture]).backbone_config
    fields, defaults = backbone.to_dict(), type(backbone)().to_dict()
    sizes = {name: fields[name] for name in _SIZES if name in fields}
    if not preset.paper:
        sizes = _shrink(preset, architecture, sizes)
    if width is not None:
        sizes[name_width(architecture)] = width
    if backbone.model_type == "mixtral":
        sizes["output_router_logits"] = True  # then its loss has the term that balances experts, 0.001 as in the paper
    fields = {name: value for name, value in fields.items() if name not in _OTHERS and value != defaults.get(name)}
    return {
        "model_type": GengramConfig.model_type,
        "backbone_config": {**fields, "model_type": backbone.model_type, **sizes},
        "memory_layers": list(preset.memory_layers) if memory else [],
        "memory_dim": preset.memory_dim,
    }


def make_config(preset: Preset, architecture: str, memory: bool, width: int | None = None) -> GengramConfig:
    """Return the configuration that `describe_model` describes."""
    fields = describe_model(preset, architecture, memory, width)
    return GengramConfig(**{name: value for name, value in fields.items() if name != "model_type"})


def _shrink(preset: Preset, architecture: str, sizes: dict[str, Any]) -> dict[str, Any]:
    head = preset.hidden_size // preset.heads
    width = preset.dense_width if architecture.startswith("dense") else preset.expert_width
    smaller = {
        "hidden_size": preset.hidden_size,
        "num_hidden_layers": preset.layers,
        "num_attention_heads": preset.heads,
        "num_key_value_heads": preset.groups if architecture.endswith("gqa") else preset.heads,
        "intermediate_size": width,
        "moe_intermediate_size": width,
        "first_k_dense_replace": preset.layers if architecture.startswith("dense") else 0,
        # As wide a query, key and value as the other two attentions have, half of it turned; the short vector is that
        # of the paper's ratio, a quarter to two fifths of the hidden size.
        "kv_lora_rank": preset.hidden_size // 4,
        "qk_nope_head_dim": head // 2,
        "qk_rope_head_dim": head // 2,
        "v_head_dim": head,
        "max_position_embeddings": preset.block_size,
    }
    return {name: smaller[name] for name in sizes}


def name_width(architecture: str) -> str:
    """The field of a backbone that holds the width of its MLP or of its experts."""
    return "moe_intermediate_size" if architecture == "moe-mla" else "intermediate_size"


def find_width(preset: Preset, architecture: str) -> int:
    """The width of the MLP or of the experts of a preset's model."""
    return preset.dense_width if architecture.startswith("dense") else preset.expert_width


__all__ = [
    "ARCHITECTURES",
    "PAPER",
    "PRESETS",
    "SMALL",
    "TINY",
    "Preset",
    "choose_architectures",
    "describe_model",
    "find_width",
    "make_config",
    "name_width",
]
