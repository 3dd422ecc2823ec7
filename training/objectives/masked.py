"""Tokens behind a mask: which ones are hidden, what stands in their place, and what the model has to say."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from gengram.errors import InputError
from gengram.tokenization.coordinates import measure_tokens
from gengram.training.corpus.draws import make_generator
from gengram.training.objectives.batch import find_padding, find_starts, stack_rows
from gengram.training.objectives.options import check_choice, check_flag, check_share
from gengram.training.objectives.spans import choose_spans, list_lengths, measure_room
from gengram.training.objectives.token_kinds import find_token_kinds
from gengram.training.problems import IGNORED

Choice = Literal["tokens", "words", "ngrams", "spans"]
Replacement = Literal["bases", "vocabulary"]

STREAM = "masks"
"""Of the random numbers, apart from those of windows."""


class MaskedObjective:
    """Hide a share of the tokens; labels are the hidden ids, -100 everywhere else.

    `choice` says which are hidden:

    - `"tokens"`: each alone with probability `share`, as transformers' `DataCollatorForLanguageModeling`.
    - `"words"`: runs of tokens that share a base, so that no neighbour tells it: of overlapping k-mers, all that have
      the drawn base (6 of 6-mers; fewer at the ends). Where tokens share no base, runs of `length` tokens.
    - `"ngrams"`: one to `length` tokens with probabilities in proportion to 1, 1/2, 1/3 ..., as GENA-LM.
    - `"spans"`: geometric lengths with mean `length`, as SpanBERT.

    Of the last three no two overlap; runs are drawn until `share` of the tokens is hidden, to the token for n-grams
    and spans (the last run is cut) and without cutting for words. None crosses a token that is never chosen or the end
    of a document. At least one token is hidden where one can be.

    Of the hidden tokens `mask_share` are `[MASK]`, `random_share` another token, the rest stay as they are: drawn for
    each token, and for words and spans once for all tokens of a run, as otherwise a neighbour that stays would tell.

    Special tokens and padding are never chosen, N only with `skip_n=False`. A mask depends on the seed and the row's
    block number alone: not on the batch, the process or what was drawn before. A block of 8,192 tokens takes about
    200 microseconds of a core with tokens, 400 with runs.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        seed: int = 0,
        *,
        share: float = 0.15,
        mask_share: float = 0.8,
        random_share: float = 0.1,
        choice: Choice = "tokens",
        length: float | None = None,
        replacement: Replacement = "bases",
        skip_n: bool = True,
        count_all: bool = False,
    ):
        """
        Args:
            tokenizer: that made the ids; it has a mask token.
            seed: of all masks.
            share: of the tokens that are hidden, above 0 and at most 1.
            mask_share, random_share: of the hidden tokens, that are masked and that are replaced; together at most 1.
            choice: see above.
            length: tokens; by default 3 for n-grams (the longest), 3 for spans (the mean), and for words as many as
                share a base, or 3 where none do.
            replacement: what random tokens are drawn from: `"bases"`, those of A, C, G and T alone, or
                `"vocabulary"`, every id, special ones too, as GENA-LM and BERT did.
            skip_n: whether tokens with an N or another letter that is no base are never chosen.
            count_all: whether the share is one of all tokens of a row but padding, as GENA-LM counts; by default of
                those that can be chosen. Without effect for `choice="tokens"`.

        Raises:
            `InputError`: a share, length or choice that cannot be; a tokenizer without mask token or without bases.
        """
        self.kinds = find_token_kinds(tokenizer)
        if tokenizer.mask_token_id is None:
            raise InputError("the tokenizer has no mask token: learn the next token (causal), or choose another one")
        check_share("share", share, above_zero=True)
        check_share("mask_share", mask_share)
        check_share("random_share", random_share)
        check_choice("choice", choice, get_args(Choice))
        check_choice("replacement", replacement, get_args(Replacement))
        check_flag("skip_n", skip_n)
        check_flag("count_all", count_all)
        if mask_share + random_share > 1 + 1e-9:
            raise InputError(
                f"mask_share={mask_share} and random_share={random_share} are more than 1 together: what is left of 1 "
                "is the share of hidden tokens that stay as they are"
            )
        self.mask_id: int = tokenizer.mask_token_id
        self.seed, self.share, self.choice, self.count_all = seed, share, choice, count_all
        self.mask_share, self.random_share = mask_share, random_share
        self.is_learned = self.kinds.choose_learnable(skip_n)
        self.replacements = (
            np.flatnonzero(self.kinds.is_base) if replacement == "bases" else np.arange(len(self.kinds.is_base))
        )
        self.together = choice in ("words", "spans")
        self.reach = 0
        if choice == "tokens":
            if length is not None:
                raise InputError(f'length={length}: choice="tokens" chooses one at a time; leave it out, or see words')
            return
        if choice == "words" and length is None:
            bases, step = measure_tokens(tokenizer) or (1, 1)
            if bases > step:
                length = -(-bases // step)
                self.reach = length - 1
        self.chances = list_lengths(choice, 3 if length is None else length)

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Make a batch.

        Args:
            rows: B of `Blocks`: `input_ids` int64 [T] and `block`, its number; where documents are packed
                `position_ids` int64 [T], which start anew at each; where rows are padded `attention_mask`; of pairs
                `token_type_ids` and `next_sentence_label`.

        Returns:
            `input_ids`, `labels` int64 [B, T]; `position_ids` or, where a row is padded, `attention_mask`; of pairs
            also `token_type_ids` [B, T] and `next_sentence_label` [B].
        """
        hidden = [self.mask(row) for row in rows]
        return stack_rows(rows, [ids for ids, _ in hidden], [labels for _, labels in hidden], self.kinds)

    def mask(self, row: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids of a row as the model gets them, and the labels, int64 [T] both."""
        ids = np.asarray(row["input_ids"])
        random = make_generator(self.seed, STREAM, int(row["block"]))
        is_padding = find_padding(row, ids, self.kinds)
        can_be = self.is_learned[ids] & ~is_padding
        labels = np.full(len(ids), IGNORED, dtype=ids.dtype)
        shown = ids.copy()
        if not can_be.any():
            return shown, labels
        if self.choice == "tokens":
            chosen = np.flatnonzero(can_be & (random.random(len(ids), dtype=np.float32) < self.share))
            if not len(chosen):
                chosen = random.choice(np.flatnonzero(can_be), 1)
            run = np.arange(len(chosen))
        else:
            counted = len(ids) - is_padding.sum() if self.count_all else can_be.sum()
            room = measure_room(can_be, find_starts(row, len(ids)))
            budget = max(1, round(self.share * int(counted)))
            chosen, run = choose_spans(room, self.chances, budget, random, self.choice != "words", self.reach)
        labels[chosen] = ids[chosen]
        fate = random.random(int(run.max()) + 1)[run] if self.together else random.random(len(chosen))
        drawn = self.replacements[random.integers(len(self.replacements), size=len(chosen))]
        shown[chosen] = np.where(
            fate < self.mask_share,
            self.mask_id,
            np.where(fate < self.mask_share + self.random_share, drawn, ids[chosen]),
        )
        return shown, labels


__all__ = ["STREAM", "Choice", "MaskedObjective", "Replacement"]
