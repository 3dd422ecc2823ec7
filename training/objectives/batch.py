"""From rows of tokens to the tensors of a batch: what all objectives have in common."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from gengram.training.objectives.token_kinds import TokenKinds
from gengram.training.problems import IGNORED

_ROW_VALUES = ("next_sentence_label",)  # one number a row


def find_padding(row: dict[str, Any], ids: np.ndarray, kinds: TokenKinds) -> np.ndarray:
    """Return which tokens of a row are padding, booleans [T]: as its `attention_mask` says, or its ids."""
    if "attention_mask" in row:
        return np.asarray(row["attention_mask"]) == 0
    return np.zeros(len(ids), dtype=bool) if kinds.pad_is_letter else ids == kinds.pad


def find_starts(row: dict[str, Any], length: int) -> np.ndarray:
    """Return where documents begin, booleans [T]: at the first token, and where `position_ids` do not go up."""
    starts = np.zeros(length, dtype=bool)
    starts[:1] = True
    if "position_ids" in row:
        positions = np.asarray(row["position_ids"])
        starts[1:] |= positions[1:] <= positions[:-1]
    return starts


def stack_rows(
    rows: Sequence[dict[str, Any]], ids: Sequence[np.ndarray], labels: Sequence[np.ndarray], kinds: TokenKinds
) -> dict[str, torch.Tensor]:
    """Put B rows into tensors [B, T], shorter ones padded on the right.

    A padded tail of packed rows is a document of its own, its positions count from 0. Where rows are not packed,
    `attention_mask` tells the padding; it is left out where there is none, as models are faster without.

    Args:
        rows: as an objective got them; of each `token_type_ids` [T] and `next_sentence_label` go on to the model.
        ids, labels: int64 [T] of each row.
        kinds: of the tokenizer.
    """
    longest = max(map(len, ids))
    batch = {"input_ids": _pad(ids, longest, kinds.pad), "labels": _pad(labels, longest, IGNORED)}
    if "position_ids" in rows[0]:
        positions = [np.asarray(row["position_ids"]) for row in rows]
        tails = [np.arange(longest - len(each)) for each in positions]
        batch["position_ids"] = np.stack([np.concatenate(pair) for pair in zip(positions, tails)])
    else:
        padding = [find_padding(row, each, kinds) for row, each in zip(rows, ids)]
        is_padding = _pad(padding, longest, True)
        if is_padding.any():
            batch["attention_mask"] = (~is_padding).astype(np.int64)
    if "token_type_ids" in rows[0]:
        batch["token_type_ids"] = _pad([np.asarray(row["token_type_ids"]) for row in rows], longest, 0)
    for name in _ROW_VALUES:
        if name in rows[0]:
            batch[name] = np.array([row[name] for row in rows], dtype=np.int64)
    return {name: torch.from_numpy(values) for name, values in batch.items()}


def _pad(rows: Sequence[np.ndarray], length: int, value: int | bool) -> np.ndarray:
    padded = np.full((len(rows), length), value, dtype=rows[0].dtype)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return padded


__all__ = ["find_padding", "find_starts", "stack_rows"]
