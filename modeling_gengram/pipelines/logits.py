"""What does a model with a head compute for tokenized rows? In batches of similar length, given back in their order."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gengram.loading.models import find_device
from gengram.pipelines.feed import Batch, Feeder, OutOfMemoryError, find_feeding
from gengram.pipelines.padding import find_block, make_batches, restore_attention

if TYPE_CHECKING:
    from peft import PeftModel

_Key = TypeVar("_Key")
_Rows = Sequence[Sequence[int] | np.ndarray]


class LargeRowError(ValueError):
    """The device has too little memory for a row, in a batch of its own.

    Attributes:
        index: its number among those given, from 0.
        tokens: how many it has.
        key: of its block, see `stream_logits`.
    """

    def __init__(self, index: int, tokens: int, key: Any = None):
        super().__init__(f"{tokens} tokens do not fit into the memory of the device, in a batch of their own")
        self.index, self.tokens, self.key = index, tokens, key


class _Block(Generic[_Key]):
    """Rows on their way, and what is found of them."""

    def __init__(self, key: _Key, rows: _Rows):
        self.key, self.rows, self.left = key, rows, len(rows)
        self.found: list[np.ndarray] = [np.empty(0)] * len(rows)


def compute_logits(
    model: "PreTrainedModel | PeftModel", tokenizer: PreTrainedTokenizerBase, rows: _Rows, batch_size: int
) -> list[np.ndarray]:
    """Return the logits of each row in the order of the rows: float32 (1, C), or (T, C) for a token classifier.

    Args:
        model: in evaluation mode, on any device.
        tokenizer: it fills up the rows of a batch.
        rows: the ids of each.
        batch_size: rows a forward pass; fewer where a model sees padding (`gengram.pipelines.padding`).

    Raises:
        `LargeRowError`: a row that is too large for the device's memory.
    """
    with closing(stream_logits(model, tokenizer, [(None, rows)], batch_size)) as blocks:
        return next(blocks)[1]


def stream_logits(
    model: "PreTrainedModel | PeftModel",
    tokenizer: PreTrainedTokenizerBase,
    blocks: Iterable[tuple[_Key, _Rows]],
    batch_size: int,
) -> Generator[tuple[_Key, list[np.ndarray]], None, None]:
    """Yield the logits of block after block; while one is with the model, the next is made (see `Feeder`).

    Args:
        model, tokenizer, batch_size: see `compute_logits`.
        blocks: of rows that are sorted by length together, and what the caller knows each by. A block without rows
            passes through.

    Raises:
        `LargeRowError`: a row that is too large for the device's memory.
    """
    feed = Feeder(partial(_read_logits, model), find_feeding(find_device(model)))
    try:
        with closing(feed(_cut(model, tokenizer, blocks, batch_size))) as results:
            for (block, numbers, real), logits in results:
                for position, number in enumerate(numbers):
                    one = logits[position] if logits.ndim == 3 else logits[position : position + 1]
                    block.found[number] = one[real[position]] if logits.ndim == 3 else one
                block.left -= len(numbers)
                if not block.left:
                    yield block.key, block.found
    except OutOfMemoryError as error:
        block, numbers, _ = error.key
        index = numbers[error.row]
        raise LargeRowError(index, len(block.rows[index]), block.key) from error


def _cut(
    model: "PreTrainedModel | PeftModel",
    tokenizer: PreTrainedTokenizerBase,
    blocks: Iterable[tuple[_Key, _Rows]],
    batch_size: int,
) -> Iterator[Batch[tuple[_Block[_Key], list[int], np.ndarray]]]:
    """Make the batches of blocks: their keys are the block, the numbers of its rows, and where their own ids are."""
    padding = find_block(model)
    for key, rows in blocks:
        block = _Block(key, rows)
        if not len(rows):
            yield Batch((block, [], np.empty(0)), {})
        lengths = np.array([len(ids) for ids in rows])
        order = np.argsort(-lengths, kind="stable")
        for numbers in make_batches(order.tolist(), lengths.tolist(), lambda longest: batch_size, padding):
            ids, real = fill_up([rows[number] for number in numbers], tokenizer)
            inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(real.astype(np.int64))}
            yield Batch((block, numbers, real), inputs)


@torch.inference_mode()
def _read_logits(model: "PreTrainedModel | PeftModel", **inputs: torch.Tensor) -> torch.Tensor:
    restore_attention(model)
    return model(**inputs, return_dict=True).logits.float()


def fill_up(
    rows: Sequence[Sequence[int] | np.ndarray], tokenizer: PreTrainedTokenizerBase
) -> tuple[np.ndarray, np.ndarray]:
    """Return a batch of rows, filled up to the longest as a tokenizer's `pad` does.

    Args:
        rows: the ids of each of B rows.
        tokenizer: it knows with what, and on which side.

    Returns:
        int64 (B, T), and bool (B, T), where a row's own ids are.
    """
    longest = max(len(ids) for ids in rows)
    filled = np.full((len(rows), longest), tokenizer.pad_token_id, dtype=np.int64)
    real = np.zeros((len(rows), longest), dtype=bool)
    for row, ids in enumerate(rows):
        place = slice(longest - len(ids), None) if tokenizer.padding_side == "left" else slice(len(ids))
        filled[row, place], real[row, place] = ids, True
    return filled, real


__all__ = ["LargeRowError", "compute_logits", "fill_up", "stream_logits"]
