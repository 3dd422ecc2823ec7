"""Merged tables kept between calls, for as long as the weights they were made of stay the same."""

from collections.abc import Callable, Sequence

import torch

from .merged_tables import MergedTables

SAMPLES = 2048  # values of each weight that are compared


class TableCache:
    """
    One memory's merged tables, made when they are first asked for and made anew after any change of a weight.

    A change is told by the storage (loading, moving, replacing), by PyTorch's version counter (optimizers and other
    changes in place), and, for changes through `.data` that no counter sees (merging an adapter), by a sample of the
    values. Copies and pickles of a model leave the tables behind.
    """

    def __init__(self):
        self._merged: MergedTables | None = None
        self._seen: list[tuple[torch.Tensor, int, torch.Tensor]] = []

    def find(self, weights: Sequence[torch.Tensor], make: Callable[[], MergedTables]) -> MergedTables:
        """The tables made of `weights`; `make` is called if there are none, or others were made of other values."""
        if self._merged is None or not self._is_current(weights):
            self._seen = [(weight.detach(), _version(weight), _sample(weight)) for weight in weights]
            self._merged = make()
        return self._merged

    def clear(self) -> None:
        """Let go of the tables' memory."""
        self._merged, self._seen = None, []

    def _is_current(self, weights: Sequence[torch.Tensor]) -> bool:
        # A seen tensor keeps its storage alive, so no other one can be at its address.
        return len(weights) == len(self._seen) and all(
            weight.data_ptr() == seen.data_ptr()
            and weight.dtype == seen.dtype
            and _version(weight) == version
            and torch.equal(_sample(weight), sample)
            for weight, (seen, version, sample) in zip(weights, self._seen)
        )

    def __getstate__(self) -> dict:
        return {}

    def __setstate__(self, state: dict) -> None:
        self.clear()


def _version(weight: torch.Tensor) -> int:
    return 0 if weight.is_inference() else weight._version


def _sample(weight: torch.Tensor) -> torch.Tensor:
    values = weight.detach().reshape(-1)
    return values[:: max(values.numel() // SAMPLES, 1)].clone()


__all__ = ["TableCache"]
