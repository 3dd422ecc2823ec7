"""How many bits does a language model need for a base that it has never read? In all, by species, by class of region.

Two bits a base is a guess among four letters. Causal models give the likelihood of a sequence, masked ones factors of
a pseudo-likelihood: their bits are of masked tokens given all others, and no rival of a causal model's.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gengram.errors import InputError
from gengram.loading.configurations import measure_capacity
from gengram.progress import track
from gengram.tokenization.coordinates import NOWHERE
from gengram.training.evaluation.encoding import EncodedWindow, WindowEncoder, complement_letters
from gengram.training.evaluation.held_out import HeldOutWindows
from gengram.training.evaluation.processes import find_place, merge_rows
from gengram.training.evaluation.regions import classify_bases, list_classes
from gengram.training.evaluation.scoring import BaseScores, list_pieces, score_causal, score_masked
from gengram.training.metrics.bootstrap import draw_in_parts, find_interval
from gengram.training.problems import IGNORED

RESAMPLES = 1000
_SEED = 0  # of the resamples


@dataclass(frozen=True)
class WindowBits:
    """What a model needed for W windows.

    Attributes:
        nats, bases: float64 [W]: sums of negative log-likelihoods, and of how many bases.
        tokens: float64 [W], how many tokens were predicted.
        by_class: for each class of region (nats, bases), float64 [W] both.
    """

    nats: np.ndarray
    bases: np.ndarray
    tokens: np.ndarray
    by_class: dict[str, tuple[np.ndarray, np.ndarray]]


def measure_bits(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    objective: Any,
    corpus: Any,
    windows: HeldOutWindows,
    *,
    batch_tokens: int = 16_384,
    reverse: bool = False,
    description: str = "evaluation",
) -> WindowBits:
    """Score windows of a corpus; where there are several processes each does a share, and all return the whole.

    The batches depend on the windows and `batch_tokens` alone, so that any number of processes computes the same
    numbers; of another `batch_tokens` they differ by the rounding of the device's matrix products.

    Args:
        model: a language model, as it is: its mode, dtype and device are the caller's.
        tokenizer: of the model.
        objective: of `gengram.training.objectives`.
        corpus: `gengram.training.corpus.store.Corpus`.
        windows: of `choose_windows`.
        batch_tokens: tokens of a batch with its padding.
        reverse: whether the other strand is read.
        description: of the bar.

    Raises:
        `InputError`: a masked model's tokenizer has no mask token.
    """
    encoder = WindowEncoder(tokenizer, measure_capacity(model.config, tokenizer))
    encoded = [encoder(letters) for letters in read_letters(corpus, windows, reverse)]
    score = choose_scoring(model, tokenizer, objective, windows, reverse)
    names = list_classes(corpus)
    sums = np.zeros((len(windows), 3 + 2 * len(names)))
    rank, processes = find_place()
    pieces = list(list_pieces([len(window.ids) for window in encoded], batch_tokens, rank, processes))
    for places, counts in track(pieces, desc=description, unit="batch", leave=False):
        scores = score(places, [encoded[place] for place in places])
        if not counts:
            continue
        for place, one in zip(places, scores):
            known = ~np.isnan(one.nats)
            sums[place, :3] = one.nats[known].sum(), known.sum(), one.tokens
            if windows.haplotype[place] >= 0 or reverse:
                continue
            window = windows.take(slice(place, place + 1))
            classes = classify_bases(
                corpus, int(window.contig[0]), int(window.start[0]), int(window.end[0]), encoded[place].letters
            )
            for column, name in enumerate(names):
                if name in classes:
                    among = known & classes[name]
                    sums[place, 3 + 2 * column : 5 + 2 * column] = one.nats[among].sum(), among.sum()
    sums = merge_rows(sums, model.device)
    by_class = {name: (sums[:, 3 + 2 * column], sums[:, 4 + 2 * column]) for column, name in enumerate(names)}
    return WindowBits(sums[:, 0], sums[:, 1], sums[:, 2], by_class)


def read_letters(corpus: Any, windows: HeldOutWindows, reverse: bool = False) -> Iterator[np.ndarray]:
    """Yield the letters of each window, uint8 [L], of its haplotype where it has one."""
    for contig, start, end in zip(windows.contig.tolist(), windows.start.tolist(), windows.end.tolist()):
        letters = np.array(corpus.read(contig, start, end))
        yield complement_letters(letters) if reverse else letters


def choose_scoring(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, objective: Any, windows: HeldOutWindows, reverse: bool
) -> Callable[[Sequence[int] | np.ndarray, list[EncodedWindow]], list[BaseScores]]:
    """Return what scores some of the windows, given their places and tokens, in one forward pass."""
    pad = 0 if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    if is_causal(objective):
        return lambda places, encoded: score_causal(model, encoded, pad)
    mask_id = tokenizer.mask_token_id
    if mask_id is None:
        raise InputError("a masked model is evaluated with a mask token, and the tokenizer has none")

    def score(places: Sequence[int] | np.ndarray, encoded: list[EncodedWindow]) -> list[BaseScores]:
        numbers = [number_window(windows, int(place)) for place in places]
        masks = [choose_masked(objective, window, number, reverse) for window, number in zip(encoded, numbers)]
        return score_masked(model, encoded, masks, pad, mask_id)

    return score


def is_causal(objective: Any) -> bool:
    """Whether an objective is that of the next token."""
    return type(objective).__name__ == "CausalObjective"


def number_window(windows: HeldOutWindows, place: int) -> int:
    """Return a number of a window that no other window of its corpus has, whatever else is chosen."""
    return (int(windows.contig[place]) << 36) + int(windows.start[place])


def choose_masked(objective: Any, window: EncodedWindow, number: int, reverse: bool = False) -> np.ndarray:
    """Return which tokens of a window are masked, booleans [T]: those that the objective would choose in this block.

    Of the other strand it is the same bases, where its tokens are those of this one read backwards.

    Args:
        objective: of `gengram.training.objectives`; its masks depend on the number of the block alone.
        window: its tokens.
        number: of the block.
        reverse: whether the window is the other strand.
    """
    places = np.flatnonzero(window.intervals[:, 0] != NOWHERE)
    intervals = window.intervals[places]
    turned = len(window.letters) - intervals[::-1, ::-1]
    mirrors = reverse and np.array_equal(turned, intervals)
    ids = window.ids.copy()
    if mirrors:  # what is chosen depends on which tokens are bases, not on which bases they are
        ids[places] = ids[places][::-1]
    chosen = objective([{"input_ids": torch.from_numpy(ids), "block": number}])["labels"][0].numpy() != IGNORED
    if mirrors:
        chosen[places] = chosen[places][::-1]
    return chosen


def summarise_bits(bits: WindowBits, species: Sequence[str]) -> dict[str, float]:
    """Return flat metrics of scored windows.

    `bits_per_base` and its interval (95 %, bootstrap over windows, 1000 resamples: windows of a chromosome are no
    independent samples of genomes, so it says how certain the number is on these contigs), `perplexity_per_base`
    (2 to the power of it), `loss` (nats a token) and `perplexity_per_token` (e to the power of it), `bases`,
    `tokens`, `windows`; `species/NAME/bits_per_base` and `species/NAME/bases`; `class/NAME/bits_per_base` and
    `class/NAME/bases`. What has no base is left out.

    Args:
        bits: of `measure_bits`.
        species: of each window.
    """
    nats, bases, tokens = math.fsum(bits.nats), math.fsum(bits.bases), math.fsum(bits.tokens)
    if not bases:
        return {"bases": 0, "tokens": 0, "windows": len(bits.nats)}
    per_base = nats / bases / math.log(2)
    low, high = find_interval(resample_bits(bits.nats, bits.bases)) or (math.nan, math.nan)
    metrics = {
        "bits_per_base": per_base,
        "bits_per_base_low": low,
        "bits_per_base_high": high,
        "perplexity_per_base": 2**per_base,
        "loss": nats / tokens,
        "perplexity_per_token": math.exp(min(nats / tokens, 700)),
        "bases": int(bases),
        "tokens": int(tokens),
        "windows": len(bits.nats),
    }
    names = np.asarray(species)
    for name in dict.fromkeys(species):
        metrics |= _describe(f"species/{name}", bits.nats[names == name], bits.bases[names == name])
    for name, (some_nats, some_bases) in bits.by_class.items():
        metrics |= _describe(f"class/{name}", some_nats, some_bases)
    return metrics


def _describe(name: str, nats: np.ndarray, bases: np.ndarray) -> dict[str, float]:
    total = math.fsum(bases)
    if not total:
        return {}
    return {f"{name}/bits_per_base": math.fsum(nats) / total / math.log(2), f"{name}/bases": int(total)}


def resample_bits(nats: np.ndarray, bases: np.ndarray, resamples: int = RESAMPLES) -> np.ndarray:
    """Return bits per base of resamples of the windows, float64 [resamples]; NaN where one has no base."""
    values = []
    for counts in draw_in_parts(len(nats), resamples, _SEED):
        drawn = counts.astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            values.append((drawn @ nats) / (drawn @ bases) / math.log(2))
    return np.concatenate(values)


__all__ = ["WindowBits", "choose_masked", "measure_bits", "read_letters", "resample_bits", "summarise_bits"]
