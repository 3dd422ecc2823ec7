"""Which settings does a search try? Spaces of the publications by name, and a user's own; which trials these make."""

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gengram.errors import InputError, suggest
from gengram.files import check_input_files
from gengram.loading.faults import tell_faults
from gengram.printable import shorten
from gengram.training.mappings import read_mapping
from gengram.training.yaml_files import read_yaml

TRIALS = 10
"""How many settings a search tries where a space has ranges."""

_LARGEST = 2**53  # whole numbers from there on have no float of their own
_MOST = 10_000  # combinations of a grid

OF_ADAPTERS = ("lora_r", "lora_alpha", "lora_dropout")
"""Settings of `ModelArguments`; the others are those of `FinetuneArguments`."""


class _Kind(NamedTuple):
    kind: type
    least: float
    below: float
    with_least: bool = True


SEARCHED: dict[str, _Kind] = {
    "learning_rate": _Kind(float, 0, math.inf, False),
    "sequences_per_step": _Kind(int, 1, math.inf),
    "weight_decay": _Kind(float, 0, math.inf),
    "warmup_steps": _Kind(float, 0, math.inf),
    "num_train_epochs": _Kind(float, 0, math.inf, False),
    "lora_r": _Kind(int, 1, math.inf),
    "lora_alpha": _Kind(int, 1, math.inf),
    "lora_dropout": _Kind(float, 0, 1),
}
"""What a space may have, and which numbers these can be."""

# Values are lists (each of them is tried) or ranges. Sources: the publications' scripts and configuration files;
# GENERator's range is as its paper tells it.
SPACES: dict[str, dict[str, Any]] = {
    "caduceus-genomic-benchmarks": {"learning_rate": [1e-3, 2e-3], "sequences_per_step": [128, 256]},
    "caduceus-nucleotide-transformer": {"learning_rate": [1e-3, 2e-3], "sequences_per_step": [128, 512]},
    "generator": {"learning_rate": {"low": 1e-5, "high": 1e-3, "log": True}},
    "moderngena": {
        "learning_rate": [1e-5, 3e-5, 5e-5],
        "sequences_per_step": [16, 32, 64],
        "weight_decay": [1e-2, 1e-3, 1e-4],
    },
}
"""Published ones, by name."""


def build_default(learning_rate: float) -> dict[str, Any]:
    """Return the space without a name: a decade to either side of a learning rate, steps and decays as are usual."""
    return {
        "learning_rate": {"low": learning_rate / 10, "high": learning_rate * 10, "log": True},
        "sequences_per_step": [16, 32, 64],
        "weight_decay": [0.0, 0.01, 0.1],
    }


def read_space(value: Mapping[str, Any] | str | None) -> dict[str, Any] | None:
    """Return a space: of each setting a list of numbers, or a mapping `low`, `high` and `log`.

    Args:
        value: a name of `SPACES`, JSON, a YAML or JSON file, or the mapping; None stays None.

    Raises:
        `InputError`: no such name or file, a setting that is not searched, numbers that it cannot have.
    """
    if value is None:
        return None
    name = "search_space"
    found: Any = value
    if isinstance(value, str) and not value.lstrip().startswith("{"):
        if value in SPACES:
            return {
                key: list(choice) if isinstance(choice, list) else dict(choice) for key, choice in SPACES[value].items()
            }
        path = Path(value)
        if path.suffix not in (".yaml", ".yml", ".json"):
            raise InputError(
                f"search_space={value!r}: no space is called so{suggest(value, SPACES)}; there are "
                f"{', '.join(SPACES)}, or give JSON, or a file that ends with .yaml or .json"
            )
        check_input_files(path)
        node, loader = read_yaml(path)
        with tell_faults(f"{path}: a space cannot be made of it"):  # `!!int ""`: PyYAML does not expect them
            name, found = str(path), None if node is None else loader.construct_document(node)
    elif isinstance(value, str):
        found = read_mapping(name, value) or {}
    if not isinstance(found, Mapping) or not found:
        raise InputError(f"{name}: a space is a mapping of settings to values, e.g. {{learning_rate: [1e-5, 3e-5]}}")
    space = {str(key): _read_values(name, str(key), values) for key, values in found.items()}
    if all(isinstance(values, list) for values in space.values()):
        combinations = math.prod(map(len, space.values()))
        if combinations > _MOST:
            raise InputError(f"{name}: {combinations:,} combinations, {_MOST:,} are the most: give ranges of some")
    return space


def _read_values(name: str, key: str, values: Any) -> Any:
    if key not in SEARCHED:
        raise InputError(f"{name}: {key!r} is not searched{suggest(key, SEARCHED)}; there are {', '.join(SEARCHED)}")
    if isinstance(values, list):
        if not values:
            raise InputError(f"{name}: {key} has no values")
        read = [_read_number(name, key, value) for value in values]
        if len(set(read)) < len(read):
            raise InputError(f"{name}: {key} has the same value twice: {values}")
        return read
    if not isinstance(values, Mapping) or not {"low", "high"} <= set(values) <= {"low", "high", "log"}:
        raise InputError(
            f"{name}: {key} is {values!r}: give a list of values, or a range like {{low: 1e-5, high: 1e-3, log: true}}"
        )
    low, high, log = (values.get(part) for part in ("low", "high", "log"))
    low, high = _read_number(name, key, low), _read_number(name, key, high)
    if not low < high:
        raise InputError(f"{name}: {key} goes from {low:g} to {high:g}: low must be below high")
    if log not in (None, True, False):
        raise InputError(f"{name}: {key}: log is {log!r}; give true or false")
    if log and low <= 0:
        raise InputError(f"{name}: {key} begins with {low:g}; a logarithmic range begins above 0")
    return {"low": low, "high": high, "log": bool(log)}


def _read_number(name: str, key: str, value: Any) -> int | float:
    kind, least, below, with_least = SEARCHED[key]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    within = is_number and least <= value < min(below, _LARGEST)  # not a number is not, and compares as false
    fits = within and (with_least or value != least)
    if fits and (kind is float or value == int(value)):
        return kind(value)
    wanted = "a whole number" if kind is int else "a number"
    ends = f"{'of at least' if with_least else 'above'} {least:g}" + (f", below {below:g}" if below < math.inf else "")
    raise InputError(f"{name}: {key} is {shorten(repr(value), 80)}: give {wanted} {ends}")


def list_combinations(space: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Return all settings of a space of lists in a random order, always the same one; None if there is a range."""
    if not all(isinstance(values, list) for values in space.values()):
        return None
    combinations = [dict(zip(space, chosen)) for chosen in itertools.product(*space.values())]
    return [combinations[place] for place in np.random.default_rng(0).permutation(len(combinations))]


def count_trials(space: Mapping[str, Any], wanted: int | None) -> int:
    """Return how many trials a search has: all combinations of lists, `TRIALS` where there is a range, or less."""
    combinations = list_combinations(space)
    if combinations is None:
        return wanted or TRIALS
    return min(len(combinations), wanted or len(combinations))


__all__ = [
    "OF_ADAPTERS",
    "SEARCHED",
    "SPACES",
    "TRIALS",
    "build_default",
    "count_trials",
    "list_combinations",
    "read_space",
]
