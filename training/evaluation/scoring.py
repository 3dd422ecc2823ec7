"""How surprised is a language model by each base? Negative log-likelihoods of tokens, spread over their bases.

Dimensions: B windows of a batch, T tokens, L letters of a window, V rows of the vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gengram.errors import InputError
from gengram.loading.configurations import measure_capacity
from gengram.tokenization.coordinates import NOWHERE
from gengram.training.corpus.store import Corpus
from gengram.training.corpus.windows import Window, read_window
from gengram.training.evaluation.encoding import EncodedWindow, WindowEncoder
from gengram.training.objectives.build import Objective
from gengram.training.objectives.causal import CausalObjective
from gengram.training.problems import IGNORED

# Logits that are widened to float32 at once.
_LOGITS = 1 << 24
_CONTIG_BITS = 36  # a contig and a position in it as one number


@dataclass(frozen=True)
class BaseScores:
    """What a model says of one window.

    Attributes:
        nats: float64 [L], negative log-likelihood of each letter; NaN where the model says nothing of it, or where it
            is no base (N, other IUPAC codes). A token's is shared equally among the letters that it adds.
        tokens: how many tokens were predicted.
    """

    nats: np.ndarray
    tokens: int


class WindowScorer:
    """Scores windows of a corpus.

    A causal model: each token given those in front of it. The first token of a window has no prediction; where the
    tokenizer begins with a special token, the first base has.

    A masked model: the tokens that the objective chooses in the block with the window's number, all of a window at once
    and all replaced by the mask, given all others. So every scored token is hidden, and every token around it is the
    true one, whatever the objective does in training. These are factors of a pseudo-likelihood, no likelihood of the
    sequence: not to be compared with a causal model's. Of overlapping k-mers, which tell each other, the tokens of a
    base add up to more than the base takes: compare such models with each other alone.

    Args:
        model: a language model, as it is: its mode, dtype and device are the caller's.
        tokenizer: of the model.
        objective: of `build_objective`.
        corpus: of `open_corpus`.

    Raises:
        `InputError`: a masked model whose tokenizer has no mask token.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, objective: Objective, corpus: Corpus
    ):
        self.model, self.objective, self.corpus = model, objective, corpus
        self.is_causal = isinstance(objective, CausalObjective)
        self._encode = WindowEncoder(tokenizer, measure_capacity(model.config, tokenizer))
        # Padding lies behind an attention mask: any id does.
        self._pad = 0 if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self._mask = tokenizer.mask_token_id
        if not self.is_causal and self._mask is None:
            raise InputError("a masked model is evaluated with a mask token, and the tokenizer has none")

    def encode(self, window: Window) -> EncodedWindow:
        """Read a window, of its strand and haplotype, and encode as many tokens of it as the model takes."""
        return self._encode(read_window(self.corpus, window))

    def make_batch(self, windows: Sequence[Window], encoded: Sequence[EncodedWindow]) -> dict[str, Any]:
        """Return what the model is called with for B windows, given their tokens."""
        return self._make_batch(encoded, self._choose_masks(windows, encoded))

    @torch.no_grad()
    def score(self, windows: Sequence[Window], encoded: Sequence[EncodedWindow]) -> list[BaseScores]:
        """Score B windows in one forward pass, given their tokens."""
        masks = self._choose_masks(windows, encoded)
        scored = [mask & tokens.definite for mask, tokens in zip(masks, encoded)]
        logits = find_logits(self.model(**self._make_batch(encoded, masks)))
        nats = read_nats(logits, [tokens.ids for tokens in encoded], scored, shift=int(self.is_causal))
        return [self._spread(tokens, np.flatnonzero(some), one) for tokens, some, one in zip(encoded, scored, nats)]

    def _choose_masks(self, windows: Sequence[Window], encoded: Sequence[EncodedWindow]) -> list[np.ndarray]:
        """Return which tokens of each window are predicted, booleans [T]; of a masked model, which are masked."""
        if self.is_causal:
            return [np.arange(len(tokens.ids)) > 0 for tokens in encoded]
        return [
            choose_masked(self.objective, tokens, number_window(window), bool(window.strand))
            for window, tokens in zip(windows, encoded)
        ]

    def _make_batch(self, encoded: Sequence[EncodedWindow], masks: Sequence[np.ndarray]) -> dict[str, Any]:
        rows = [tokens.ids for tokens in encoded]
        if not self.is_causal:
            rows = [np.where(mask, self._mask, row) for mask, row in zip(masks, rows)]
        # A cache of keys and values would be kept for nothing.
        caches = getattr(self.model.config, "use_cache", False) and self.model.can_generate()
        return pad_rows(rows, self._pad, self.model.device) | ({"use_cache": False} if caches else {})

    def _spread(self, tokens: EncodedWindow, places: np.ndarray, values: np.ndarray) -> BaseScores:
        """Share the nats of tokens among their letters. Where tokens overlap, a causal model's are those that none in
        front has; a masked model's those that no masked one in front has."""
        nats = np.full(len(tokens.letters), np.nan)
        if self.is_causal:
            begins = tokens.first_new[places]
        else:
            begins = EncodedWindow(tokens.letters, tokens.ids[places], tokens.intervals[places]).first_new
        counts = tokens.intervals[places, 1] - begins
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        nats[np.repeat(begins, counts) + within] = np.repeat(values / np.maximum(counts, 1), counts)
        return BaseScores(nats, len(places))


def number_window(window: Window) -> int:
    """Return a number that no other place of the corpus has; both strands and all haplotypes have the same one."""
    return (window.contig << _CONTIG_BITS) + window.start


def choose_masked(objective: Objective, tokens: EncodedWindow, number: int, reverse: bool = False) -> np.ndarray:
    """Return which tokens of a window are masked, booleans [T]: those that the objective would choose in this block.

    Of the other strand it is the same bases, where its tokens are those of this one read backwards.

    Args:
        objective: its masks depend on the number of the block alone.
        tokens: of the window.
        number: of the block.
        reverse: whether the window is the other strand.
    """
    places = np.flatnonzero(tokens.intervals[:, 0] != NOWHERE)
    intervals = tokens.intervals[places]
    turns = reverse and np.array_equal(len(tokens.letters) - intervals[::-1, ::-1], intervals)
    ids = tokens.ids.copy()
    if turns:  # what is chosen depends on which tokens are of bases, not on which bases
        ids[places] = ids[places][::-1]
    chosen = objective([{"input_ids": torch.from_numpy(ids), "block": number}])["labels"][0].numpy() != IGNORED
    if turns:
        chosen[places] = chosen[places][::-1]
    return chosen


def read_nats(
    logits: torch.Tensor, targets: Sequence[np.ndarray], scored: Sequence[np.ndarray], shift: int
) -> list[np.ndarray]:
    """Return the negative log-likelihoods of the scored tokens of each row, float64, in nats.

    Args:
        logits: [B, T, V]; the softmax is taken in float32 or better.
        targets: ids of each row, int64 [t], t up to T.
        scored: booleans [t]: which are wanted.
        shift: how many tokens earlier a token is predicted.
    """
    counts = [int(some.sum()) for some in scored]
    rows = torch.from_numpy(np.repeat(np.arange(len(scored)), counts)).to(logits.device)
    places = torch.from_numpy(np.concatenate([np.flatnonzero(some) for some in scored]) - shift).to(logits.device)
    wanted = torch.from_numpy(np.concatenate([ids[some] for ids, some in zip(targets, scored)])).to(logits.device)
    values = np.empty(len(rows))
    step = max(1, _LOGITS // logits.shape[-1])
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        chosen = logits[rows[part], places[part]]
        chosen = chosen.to(torch.promote_types(chosen.dtype, torch.float32))
        losses = torch.nn.functional.cross_entropy(chosen, wanted[part], reduction="none")
        values[part] = losses.cpu().numpy()
    return np.split(values, np.cumsum(counts)[:-1])


def find_logits(outputs: Any) -> torch.Tensor:
    """Return the logits [B, T, V] of a language model's outputs; next-sentence models have others beside them."""
    logits = getattr(outputs, "prediction_logits", None)
    return outputs.logits if logits is None else logits


def pad_rows(rows: Sequence[np.ndarray], pad: int, device: torch.device | str) -> dict[str, torch.Tensor]:
    """Return `input_ids` int64 [B, T] of rows of ids, padded at the end, with an `attention_mask` if any is padded."""
    longest = max(map(len, rows))
    ids = np.full((len(rows), longest), pad, dtype=np.int64)
    for line, row in zip(ids, rows):
        line[: len(row)] = row
    batch = {"input_ids": torch.from_numpy(ids).to(device)}
    if min(map(len, rows)) < longest:
        counts = torch.tensor([len(row) for row in rows], device=device)
        batch["attention_mask"] = (torch.arange(longest, device=device) < counts[:, None]).long()
    return batch


def cut_batches(lengths: Sequence[int] | np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """Group windows of some numbers of tokens into batches of at most `batch_tokens` with their padding, longest first.

    A window that is longer than that is a batch of its own. Only the lengths decide: neither processes nor devices.

    Returns:
        Places of the windows of each batch, int64.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    batches, start = [], 0
    while start < len(order):
        size = max(1, batch_tokens // max(int(lengths[order[start]]), 1))
        batches.append(order[start : start + size])
        start += size
    return batches


def deal_batches(batches: Sequence[np.ndarray], rank: int, processes: int) -> Iterator[tuple[np.ndarray, bool]]:
    """Yield the batches of one of several processes, and whether each counts.

    All processes take equally many, as sharded weights need: who has none left reads the last one again in vain.
    """
    for turn in range(-(-len(batches) // processes)):
        number = turn * processes + rank
        yield batches[min(number, len(batches) - 1)], number < len(batches)


__all__ = [
    "BaseScores",
    "WindowScorer",
    "choose_masked",
    "cut_batches",
    "deal_batches",
    "find_logits",
    "number_window",
    "pad_rows",
    "read_nats",
]
