"""Which blocks are in which batch, and on which process? Step t reads blocks t*S to (t+1)*S-1, whoever reads them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from gengram.tokenization.base_tokens import list_base_tokens
from gengram.tokenization.coordinates import measure_tokens
from gengram.training.problems import IGNORED

COUNTS = "counts"
"""Key of a batch: int64 [3], its labels that are learned, their bases, and all bases, padding and N left out."""


class BlockBatches(torch.utils.data.Sampler[list[int]]):
    """The batches of one process, as a data loader's `batch_sampler`: lists of block numbers.

    The blocks of a step are dealt to `processes * accumulation` batches in order, as evenly as possible. A batch that
    gets no block is an empty list: see `FillingCollator`.

    Args:
        steps: of the stage.
        blocks: of a step, over all processes and accumulated batches.
        accumulation: batches of a step on each process.
        processes: how many there are.
        process: which one this is, counted from 0.
    """

    def __init__(self, steps: int, blocks: int, *, accumulation: int = 1, processes: int = 1, process: int = 0):
        self.steps, self.blocks = steps, blocks
        self.accumulation, self.processes, self.process = accumulation, processes, process

    def __iter__(self) -> Iterator[list[int]]:
        parts = np.array_split(np.arange(self.blocks), self.processes * self.accumulation)
        own = [part.tolist() for part in parts[self.process :: self.processes]]
        for step in range(self.steps):
            first = step * self.blocks
            yield from ([first + number for number in part] for part in own)

    def __len__(self) -> int:
        return self.steps * self.accumulation


class CountingCollator:
    """An objective whose batches say how many labels and bases they hold.

    Args:
        objective: makes batches of rows, see `gengram.training.objectives`.
        tokenizer: that made the ids.
    """

    def __init__(self, objective: Callable[[Sequence[dict[str, Any]]], dict[str, Any]], tokenizer: Any):
        self.objective, self.bases = objective, count_token_bases(tokenizer)

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Collate rows of `Blocks`."""
        read = sum(int(self.bases[np.asarray(row["input_ids"])].sum()) for row in rows)
        batch = dict(self.objective(rows))
        learned = batch["labels"][batch["labels"] != IGNORED].numpy()
        batch[COUNTS] = torch.tensor([len(learned), int(self.bases[learned].sum()), read])
        return batch


def count_token_bases(tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """Return how many bases the token of each id stands for, int64 [V]; N and special tokens have none.

    Of k-mers that overlap, each adds as many as it goes on.
    """
    vocabulary = tokenizer.get_vocab()
    bases = np.zeros(1 + max(vocabulary.values()), dtype=np.int64)
    measured = measure_tokens(tokenizer)
    for token in list_base_tokens(tokenizer):
        letters = sum(letter in "ACGTUacgtu" for letter in token)
        bases[vocabulary[token]] = letters if measured is None else min(letters, measured[1])
    return bases


__all__ = ["COUNTS", "BlockBatches", "CountingCollator", "count_token_bases"]
