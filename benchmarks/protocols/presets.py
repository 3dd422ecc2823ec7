"""Which settings did a publication train with? The package's recipes of fine-tuning, as settings of the protocols."""

import re
from typing import Any

from gengram.errors import InputError, suggest
from gengram.training.recipe import RECIPES
from gengram.training.yaml_files import read_yaml

PRESETS = (
    "gue",
    "gue-lora",
    "genomic-benchmarks-hyenadna",
    "genomic-benchmarks-caduceus",
    "nucleotide-transformer",
    "nucleotide-transformer-lora",
    "nucleotide-transformer-ia3",
    "nucleotide-transformer-caduceus",
    "nucleotide-transformer-moderngena",
    "genos",
    "long-range",
)
"""Names of recipes; the comment at the top of each says whose numbers they are."""

# What a protocol decides by itself: the rows, the seeds, and by which names an adapter finds its layers.
_NOT_TAKEN = ("problem", "validation_fraction", "seeds", "peft_target_modules")

# Of DNABERT-2's scripts: passes over the rows by the end of a task's name; other tasks have the recipe's.
_EPOCHS = {
    "gue": (
        (r"/prom_(core|300)_tata$", 10),
        (r"/prom_", 4),
        (r"/splice", 5),
        (r"/mouse_", 5),
        (r"/covid|/virus", 8),
    )
}


def read_preset(name: str, task: str) -> dict[str, Any]:
    """Return the arguments of a published training, as `ModelArguments` and `FinetuneArguments` call them.

    Args:
        name: of `PRESETS`.
        task: name of the task, `BENCHMARK/task`; some publications train longer for some tasks.

    Raises:
        `InputError`: there is no such preset.
    """
    if name not in PRESETS:
        raise InputError(f"preset={name!r}: there is none{suggest(name, PRESETS)}; there are {', '.join(PRESETS)}")
    node, loader = read_yaml(RECIPES / f"{name}.yaml")
    assert node is not None  # It is the package's.
    preset = {key: value for key, value in loader.construct_document(node).items() if key not in _NOT_TAKEN}
    for pattern, epochs in _EPOCHS.get(name.removesuffix("-lora"), ()):
        if re.search(pattern, task):
            return {**preset, "num_train_epochs": epochs}
    return preset


def find_adapter(name: str) -> str | None:
    """Return the method of a preset's adapter; None where all weights are trained."""
    return read_preset(name, "").get("peft")


__all__ = ["PRESETS", "find_adapter", "read_preset"]
