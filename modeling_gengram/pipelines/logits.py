"""What does a model with a head compute for tokenized rows? In batches of similar length, given back in their order."""

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import DataCollatorWithPadding, PreTrainedModel, PreTrainedTokenizerBase

from gengram.loading.models import find_device
from gengram.pipelines.padding import find_block, make_batches, restore_attention
from gengram.progress import track

if TYPE_CHECKING:
    from peft import PeftModel


@torch.inference_mode()
def compute_logits(
    model: "PreTrainedModel | PeftModel",
    tokenizer: PreTrainedTokenizerBase,
    encoded: Dataset,
    batch_size: int,
    progress: str = "",
) -> list[np.ndarray]:
    """Return the logits of each row in the order of the rows: float32 (1, C), or (T, C) for a token classifier.

    Args:
        model: in evaluation mode, on any device.
        tokenizer: it fills up the rows of a batch.
        encoded: rows with `input_ids` and, where there is one, `attention_mask`; other columns are not looked at.
        batch_size: rows a forward pass; fewer where a model sees padding (`gengram.pipelines.padding`).
        progress: what a bar is called; none without a name.
    """
    inputs = encoded.select_columns([name for name in ("input_ids", "attention_mask") if name in encoded.column_names])
    lengths = pc.list_value_length(encoded.with_format("arrow")[:]["input_ids"]).to_numpy()
    order = np.argsort(-lengths, kind="stable")
    batches = list(make_batches(order.tolist(), lengths.tolist(), lambda longest: batch_size, find_block(model)))
    loader = DataLoader(inputs, batch_sampler=batches, collate_fn=DataCollatorWithPadding(tokenizer))
    outputs: list[np.ndarray] = [np.empty(0)] * len(lengths)
    rows = itertools.chain.from_iterable(batches)
    for batch in track(loader, desc=progress, disable=not progress):
        restore_attention(model)
        batch = batch.to(find_device(model))
        # A copy, since what is kept of torch's memory keeps it from being used for the next batch.
        logits = model(**batch, return_dict=True).logits.float().cpu().numpy().copy()
        real = batch["attention_mask"].bool().cpu().numpy()
        for position in range(len(logits)):
            found = logits[position][real[position]] if logits.ndim == 3 else logits[position : position + 1]
            outputs[next(rows)] = found
    return outputs


__all__ = ["compute_logits"]
