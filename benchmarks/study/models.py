"""Which models does a study train? One for each architecture, arm and seed, by a recipe of `gengram pretrain`.

A recipe is a file beside the model: anybody can train the same model again, alone.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import yaml

from gengram.benchmarks.study.matching import ARMS, Arm, make_arm
from gengram.benchmarks.study.presets import Preset, describe_model


@dataclasses.dataclass(frozen=True)
class StudiedModel:
    """
    One training of a study.

    Attributes:
        preset: of the study.
        architecture: one of `ARCHITECTURES`.
        arm: with or without memory, and how large.
        seed: of weights and data. Arms of the same seed read the same blocks in the same order.
    """

    preset: Preset
    architecture: str
    arm: Arm
    seed: int

    @property
    def name(self) -> str:
        """A name for files."""
        return f"{self.architecture}-{self.arm.name}-seed-{self.seed}"

    def describe(self) -> dict[str, Any]:
        """Return the recipe: arguments of `gengram pretrain` but for the corpus and the folder."""
        preset = self.preset
        every = max(preset.steps // preset.evaluations, 1)
        return {
            "config": describe_model(preset, self.architecture, self.arm.memory, self.arm.width),
            "tokenizer_name_or_path": "bases",
            "objective": "causal",
            "block_size": preset.block_size,
            "max_steps": preset.steps,
            "blocks_per_step": self.arm.blocks_per_step,
            "per_device_train_batch_size": min(preset.blocks_per_device, self.arm.blocks_per_step),
            "per_device_eval_batch_size": preset.blocks_per_device,
            "learning_rate": preset.learning_rate,
            "lr_scheduler_kwargs": {"min_lr": preset.lowest_rate},
            "warmup_steps": preset.warmup_steps,
            "weight_decay": preset.weight_decay,
            "eval_steps": every,
            "eval_bases": preset.held_out_blocks * preset.block_size,
            "logging_steps": max(every // 4, 1),
            "save_steps": every,
            "save_total_limit": 1,
            "bf16": preset.bf16,
            "seed": self.seed,
        }

    @cached_property
    def recipe(self) -> str:
        """The recipe as a file."""
        head = (
            f"# {self.architecture}, {self.arm.name}, seed {self.seed}: `gengram pretrain THIS --corpus DIR --out DIR`"
        )
        return f"{head}\n{yaml.safe_dump(self.describe(), sort_keys=False)}"

    @property
    def checksum(self) -> str:
        """Of the recipe: what was trained by another one is another model."""
        return hash_recipe(self.recipe)


def hash_recipe(recipe: str) -> str:
    """SHA-256 of a recipe's text."""
    return hashlib.sha256(recipe.encode()).hexdigest()


def find_arms(preset: Preset, architecture: str, comparison: str) -> tuple[Arm, Arm]:
    """Return the arm with memory and the one without that a comparison is between.

    Where the memory's share is less than half a block of a step, equal FLOPs are the same blocks, and the same models.
    """
    ours, plain = (make_arm(preset, architecture, name) for name in ARMS[comparison])
    if ours.blocks_per_step == preset.blocks_per_step:
        ours = make_arm(preset, architecture, "memory")
    return ours, plain


def list_models(
    preset: Preset, architectures: Sequence[str], seeds: Sequence[int], comparisons: Sequence[str]
) -> list[StudiedModel]:
    """Return the models that some comparisons need, each once: all arms of a seed and architecture, then the next."""
    models = []
    for seed in seeds:
        for architecture in architectures:
            pairs = [find_arms(preset, architecture, comparison) for comparison in comparisons]
            arms = {arm.name: arm for pair in pairs for arm in reversed(pair)}
            models += [StudiedModel(preset, architecture, arm, seed) for arm in arms.values()]
    return models


__all__ = ["StudiedModel", "find_arms", "hash_recipe", "list_models"]
