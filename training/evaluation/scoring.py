"""How surprised is a language model by each base? Negative log-likelihoods of tokens, spread over their bases.

Dimensions: B windows of a batch, T tokens, L letters of a window, V rows of the vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from gengram.training.evaluation.encoding import EncodedWindow

# Logits that are widened to float32 at once.
_LOGITS = 1 << 24


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


def pad_batch(rows: Sequence[np.ndarray], pad: int, device: torch.device | str) -> dict[str, torch.Tensor]:
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


def score_causal(model: PreTrainedModel, windows: Sequence[EncodedWindow], pad: int) -> list[BaseScores]:
    """Score windows by a causal model: each token given those in front of it, in one forward pass.

    The first token of a window has no prediction; where the tokenizer begins with a special token, the first base has.

    Args:
        model: with a head for the next token; as it is (mode, dtype, device).
        windows: B of them, of about as many tokens.
        pad: id of padding.
    """
    targets = [window.ids for window in windows]
    scored = [window.definite & (np.arange(len(window.ids)) > 0) for window in windows]
    nats = _score_tokens(model, targets, targets, scored, pad, shift=1)
    return [
        _spread(window, places, values, window.first_new[places])
        for window, places, values in zip(windows, map(np.flatnonzero, scored), nats)
    ]


def score_masked(
    model: PreTrainedModel,
    windows: Sequence[EncodedWindow],
    masks: Sequence[np.ndarray],
    pad: int,
    mask_id: int,
) -> list[BaseScores]:
    """Score windows by a masked model: the masked tokens, all of a window at once, given all the others.

    These are factors of a pseudo-likelihood, no likelihood of the sequence: not to be compared with a causal model's.

    Args:
        model: with a head for the masked token; as it is (mode, dtype, device).
        windows: B of them.
        masks: booleans [T] of each window: which tokens are replaced by the mask; of these, tokens of A, C, G and T
            alone are scored.
        pad, mask_id: ids of padding and of the mask.
    """
    inputs = [np.where(mask, mask_id, window.ids) for window, mask in zip(windows, masks)]
    scored = [mask & window.definite for window, mask in zip(windows, masks)]
    nats = _score_tokens(model, inputs, [window.ids for window in windows], scored, pad, shift=0)
    spread = []
    for window, places, values in zip(windows, map(np.flatnonzero, scored), nats):
        # Where tokens overlap, a base belongs to the first masked token that has it.
        ends = window.intervals[places, 1]
        reached = np.maximum.accumulate(np.concatenate([[0], ends]))[: len(ends)]
        spread.append(_spread(window, places, values, np.clip(reached, window.intervals[places, 0], ends)))
    return spread


def _score_tokens(
    model: PreTrainedModel,
    inputs: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    scored: Sequence[np.ndarray],
    pad: int,
    shift: int,
) -> list[np.ndarray]:
    """Return the nats of the scored tokens of each row, predicted `shift` tokens earlier."""
    batch = pad_batch(inputs, pad, model.device)
    rows = np.repeat(np.arange(len(scored)), [int(one.sum()) for one in scored])
    places = np.concatenate([np.flatnonzero(one) for one in scored])
    wanted = np.concatenate([ids[one] for ids, one in zip(targets, scored)])
    logits = find_logits(model(**batch, **choose_options(model)))
    values = np.empty(len(rows), dtype=np.float64)
    step = max(1, _LOGITS // logits.shape[-1])
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        chosen = logits[
            torch.from_numpy(rows[part]).to(logits.device), torch.from_numpy(places[part] - shift).to(logits.device)
        ]
        chosen = chosen.to(torch.promote_types(chosen.dtype, torch.float32))
        losses = torch.nn.functional.cross_entropy(
            chosen, torch.from_numpy(wanted[part]).to(logits.device), reduction="none"
        )
        values[part] = losses.double().cpu().numpy()
    return np.split(values, np.cumsum([int(one.sum()) for one in scored])[:-1])


def _spread(window: EncodedWindow, places: np.ndarray, values: np.ndarray, begins: np.ndarray) -> BaseScores:
    """Share the nats of tokens at `places` equally among their letters from `begins` on."""
    nats = np.full(len(window.letters), np.nan)
    counts = window.intervals[places, 1] - begins
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    nats[np.repeat(begins, counts) + within] = np.repeat(values / np.maximum(counts, 1), counts)
    return BaseScores(nats, len(places))


def find_logits(outputs: Any) -> torch.Tensor:
    """Return the logits [B, T, V] of a language model's outputs; next-sentence models have others beside them."""
    logits = getattr(outputs, "prediction_logits", None)
    return outputs.logits if logits is None else logits


def choose_options(model: PreTrainedModel) -> dict[str, Any]:
    """Return what a call for logits alone is given: no cache of keys and values where a model would keep one."""
    return {"use_cache": False} if getattr(model.config, "use_cache", False) and model.can_generate() else {}


def list_pieces(lengths: Sequence[int], batch_tokens: int, rank: int, processes: int) -> Iterator[tuple[np.ndarray, bool]]:
    """Yield the batches of one of several processes, and whether each counts.

    All processes take equally many, as sharded weights need: who has none left reads the last one again in vain.
    """
    batches = cut_batches(lengths, batch_tokens)
    for turn in range(-(-len(batches) // processes)):
        number = turn * processes + rank
        yield batches[min(number, len(batches) - 1)], number < len(batches)


__all__ = [
    "BaseScores",
    "choose_options",
    "cut_batches",
    "find_logits",
    "list_pieces",
    "pad_batch",
    "score_causal",
    "score_masked",
]
