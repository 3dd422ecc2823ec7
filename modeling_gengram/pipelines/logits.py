"""What does a model with a head compute for tokenized rows? In batches of similar length, given back in their order."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gengram.loading.models import find_device
from gengram.pipelines.padding import find_block, make_batches, restore_attention

if TYPE_CHECKING:
    from peft import PeftModel


@torch.inference_mode()
def compute_logits(
    model: "PreTrainedModel | PeftModel",
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Sequence[int] | np.ndarray],
    batch_size: int,
) -> list[np.ndarray]:
    """Return the logits of each row in the order of the rows: float32 (1, C), or (T, C) for a token classifier.

    Args:
        model: in evaluation mode, on any device.
        tokenizer: it fills up the rows of a batch.
        rows: the ids of each.
        batch_size: rows a forward pass; fewer where a model sees padding (`gengram.pipelines.padding`).
    """
    lengths = np.array([len(ids) for ids in rows])
    order = np.argsort(-lengths, kind="stable")
    device = find_device(model)
    found: list[np.ndarray] = [np.empty(0)] * len(lengths)
    for numbers in make_batches(order.tolist(), lengths.tolist(), lambda longest: batch_size, find_block(model)):
        restore_attention(model)
        ids, real = fill_up([rows[number] for number in numbers], tokenizer)
        inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(real.astype(np.int64))}
        outputs = model(**{name: one.to(device) for name, one in inputs.items()}, return_dict=True)
        # A copy, since what is kept of torch's memory keeps it from being used for the next batch.
        logits = outputs.logits.float().cpu().numpy().copy()
        for position, number in enumerate(numbers):
            found[number] = logits[position][real[position]] if logits.ndim == 3 else logits[position : position + 1]
    return found


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


__all__ = ["compute_logits", "fill_up"]
