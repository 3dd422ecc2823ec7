"""What does a model with a head compute for tokenized rows? In batches of similar length, given back in their order."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import DataCollatorWithPadding, PreTrainedModel, PreTrainedTokenizerBase

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
    fill = DataCollatorWithPadding(tokenizer)
    outputs: list[np.ndarray] = [np.empty(0)] * len(lengths)
    for numbers in make_batches(order.tolist(), lengths.tolist(), lambda longest: batch_size, find_block(model)):
        restore_attention(model)
        batch = fill([{"input_ids": rows[number]} for number in numbers]).to(find_device(model))
        # A copy, since what is kept of torch's memory keeps it from being used for the next batch.
        logits = model(**batch, return_dict=True).logits.float().cpu().numpy().copy()
        real = batch["attention_mask"].bool().cpu().numpy()
        for position, number in enumerate(numbers):
            outputs[number] = logits[position][real[position]] if logits.ndim == 3 else logits[position : position + 1]
    return outputs


__all__ = ["compute_logits"]
