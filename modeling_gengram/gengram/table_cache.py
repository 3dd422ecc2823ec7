"""Merged tables kept between calls, for as long as the weights they were made of stay the same."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

Tables = TypeVar("Tables")  # `MergedTables`, or `ProjectedTables` on a GPU
SAMPLES = 64  # values of each weight that are compared: few, since a step of generation looks at them, too


class TableCache:
    """
    One memory's merged tables, made when they are first asked for and made anew after any change of a weight.

    A change is told by the storage (loading, moving, replacing), by PyTorch's version counter (optimizers and other
    changes in place), and, for changes through `.data` that no counter sees (merging an adapter), by a sample of the
    values. Copies and pickles of a model leave the tables behind.
    """

    _merged: Any
    _seen: list[tuple[int, torch.dtype, int]]
    _views: list[torch.Tensor]
    _values: torch.Tensor | None

    def __init__(self):
        self.clear()

    def find(self, weights: Sequence[torch.Tensor], make: Callable[[], Tables]) -> Tables:
        """The tables made of `weights`; `make` is called if there are none, or others were made of other values."""
        if self._merged is None or not self._is_current(weights):
            self.clear()  # before the new ones need the memory
            merged = make()
            self._seen = [_identify(weight) for weight in weights]
            # Views of the weights: they keep the storages alive, so no other tensor can be at these addresses.
            self._views = [_choose_values(weight.detach()) for weight in weights]
            self._values = torch.cat(self._views)
            self._merged = merged
            return merged
        return self._merged

    def clear(self) -> None:
        """Let go of the tables' memory."""
        self._merged, self._seen, self._views, self._values = None, [], [], None

    def _is_current(self, weights: Sequence[torch.Tensor]) -> bool:
        same = [_identify(weight) for weight in weights] == self._seen
        return same and torch.equal(torch.cat(self._views), self._values)

    def __getstate__(self) -> dict:
        return {}

    def __setstate__(self, state: dict) -> None:
        self.clear()


def _identify(weight: torch.Tensor) -> tuple[int, torch.dtype, int]:
    return weight.data_ptr(), weight.dtype, 0 if weight.is_inference() else weight._version


def _choose_values(weight: torch.Tensor) -> torch.Tensor:
    values = weight.view(-1)
    return values[:: max(values.numel() // SAMPLES, 1)]


__all__ = ["TableCache"]
