"""Which rows are in which step, and on which process? The same steps on any number of devices."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from accelerate.data_loader import SeedableRandomSampler
from datasets import Dataset
from transformers import TrainerCallback
from transformers.trainer_pt_utils import get_length_grouped_indices

from gengram.errors import InputError
from gengram.genome.columns import read_columns
from gengram.training.arguments import ORDERS


class StepBatches(torch.utils.data.Sampler[list[int]]):
    """The batches of one process, as a data loader's `batch_sampler`.

    First the rows are divided into optimizer steps, which depends on the rows, the seed and the epoch alone. Then each
    step's rows are dealt out to `processes * accumulation` batches, as evenly as possible. A batch that gets no row (in
    the last step, if at all) is an empty list: see `FillingCollator`.

    Steps hold `sequences` rows each, the last one what is left. With `max_tokens` they hold as many rows of similar
    length as fit: rows times the longest of them is at most `max_tokens`, so a batch has at most its share of that,
    rounded up to whole rows. The lengths in each step are the same in every epoch, which rows of a length they are and
    the order of the steps are drawn anew.

    Args:
        lengths: of the N rows, in tokens.
        sequences: rows of a step, over all processes and accumulated batches.
        order: one of `ORDERS`; `group_by_length` brings rows of similar length together, as in transformers, but
            within windows that do not depend on the number of devices.
        seed: of the order.
        max_tokens: tokens of a step, padding included; takes the place of `sequences` and `order`.
        accumulation: batches of a step on each process.
        processes: how many there are.
        process: which one this is, counted from 0.

    Raises:
        `InputError`: a row is longer than `max_tokens`.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        sequences: int,
        *,
        order: str = "random",
        seed: int = 0,
        max_tokens: int | None = None,
        accumulation: int = 1,
        processes: int = 1,
        process: int = 0,
    ):
        self.lengths = np.asarray(lengths)
        self.sequences, self.order, self.seed, self.max_tokens = sequences, order, seed, max_tokens
        self.accumulation, self.processes, self.process = accumulation, processes, process
        self.epoch = 0
        self._shuffle = SeedableRandomSampler(
            self.lengths,
            generator=torch.Generator(),
            data_seed=seed,  # type: ignore[arg-type]  # It asks for the length.
        )
        if max_tokens is not None:
            if self.lengths.max() > max_tokens:
                raise InputError(
                    f"max_tokens_per_step={max_tokens}: the longest training sequence has {self.lengths.max()} tokens"
                )
            self._bounds = _fill_steps(np.sort(self.lengths), max_tokens)

    def set_epoch(self, epoch: int) -> None:
        """Choose the draws of an epoch."""
        self.epoch = epoch

    def plan_steps(self) -> list[np.ndarray]:
        """Return the rows of each step of the epoch, all processes together."""
        if self.max_tokens is not None:
            random = np.random.default_rng([self.seed, self.epoch])
            shuffled = random.permutation(len(self.lengths))
            by_length = shuffled[np.argsort(self.lengths[shuffled], kind="stable")]
            steps = np.split(by_length, self._bounds)
            return [steps[position] for position in random.permutation(len(steps))]
        if self.order == "sequential":
            rows = np.arange(len(self.lengths))
        elif self.order == "group_by_length":
            generator = torch.Generator().manual_seed(self.seed + self.epoch)
            rows = np.asarray(get_length_grouped_indices(self.lengths.tolist(), self.sequences, generator=generator))
        else:
            self._shuffle.set_epoch(self.epoch)
            rows = np.fromiter(self._shuffle, dtype=np.int64)
        return np.split(rows, range(self.sequences, len(rows), self.sequences))

    def __iter__(self) -> Iterator[list[int]]:
        for rows in self.plan_steps():
            batches = np.array_split(rows, self.processes * self.accumulation)
            yield from (batch.tolist() for batch in batches[self.process :: self.processes])

    def __len__(self) -> int:
        if self.max_tokens is not None:
            return (len(self._bounds) + 1) * self.accumulation
        return math.ceil(len(self.lengths) / self.sequences) * self.accumulation


def _fill_steps(lengths: np.ndarray, max_tokens: int) -> list[int]:
    """Return where a new step begins in rows that are sorted by length, ascending: as late as possible."""
    bounds, start = [], 0
    for row, length in enumerate(lengths):
        if (row + 1 - start) * length > max_tokens:
            bounds.append(row)
            start = row
    return bounds


def measure_lengths(rows: Dataset) -> np.ndarray:
    """Return the number of tokens of each row, int (N,)."""
    lengths = [pc.list_value_length(block["input_ids"]).to_numpy() for block in read_columns(rows, ["input_ids"])]
    return np.concatenate(lengths) if lengths else np.zeros(0, dtype=np.int32)


class EpochCallback(TrainerCallback):
    """Tells sampler and rows which epoch it is, also where a run is resumed.

    Trainer itself reaches them only through the data loader's class, and not in every version.
    """

    def __init__(self, *listeners: Any):
        self.listeners = [listener for listener in listeners if hasattr(listener, "set_epoch")]

    def on_epoch_begin(self, args, state, control, **kwargs):
        """Set the epoch."""
        for listener in self.listeners:
            listener.set_epoch(int(state.epoch or 0))


__all__ = ["ORDERS", "EpochCallback", "StepBatches", "measure_lengths"]
