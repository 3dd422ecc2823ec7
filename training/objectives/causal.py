"""The next token: labels of a causal language model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from gengram.training.objectives.batch import find_padding, find_starts, stack_rows
from gengram.training.objectives.options import check_flag
from gengram.training.objectives.token_kinds import find_token_kinds
from gengram.training.problems import IGNORED


class CausalObjective:
    """Labels are the tokens themselves: the models shift them inside, as all of transformers do.

    -100, never learned, are the first token of each document of a block (what stands before it belongs to another),
    padding, and unless chosen otherwise N and special tokens, which are no bases. A block of 8,192 tokens takes
    about 70 microseconds of a core.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, skip_n: bool = True, skip_special: bool = True):
        """
        Args:
            tokenizer: that made the ids.
            skip_n: whether tokens with an N or another letter that is no base are left out of the labels.
            skip_special: whether special tokens are; give False to learn where documents end.

        Raises:
            `InputError`: the tokenizer has no token of bases; a value that cannot be.
        """
        check_flag("skip_n", skip_n)
        check_flag("skip_special", skip_special)
        self.kinds = find_token_kinds(tokenizer)
        self.is_learned = self.kinds.choose_learnable(skip_n)
        if not skip_special:
            self.is_learned = self.is_learned | self.kinds.is_special

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Make a batch.

        Args:
            rows: B of `Blocks`: `input_ids` int64 [T]; where documents are packed `position_ids` int64 [T], which
                start anew at each; where rows are padded `attention_mask`.

        Returns:
            `input_ids`, `labels` int64 [B, T], and `position_ids` or, where a row is padded, `attention_mask`.
        """
        ids = [np.asarray(row["input_ids"]) for row in rows]
        return stack_rows(rows, ids, [self._label(row, each) for row, each in zip(rows, ids)], self.kinds)

    def _label(self, row: dict[str, Any], ids: np.ndarray) -> np.ndarray:
        is_left_out = ~self.is_learned[ids] | find_starts(row, len(ids)) | find_padding(row, ids, self.kinds)
        return np.where(is_left_out, IGNORED, ids)


__all__ = ["CausalObjective"]
