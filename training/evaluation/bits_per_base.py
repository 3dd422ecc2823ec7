"""How many bits does a language model need for a base that it has never read? In all, by species, by class of region.

Two bits a base is a guess among four letters. Causal models give the likelihood of a sequence, masked ones factors of
a pseudo-likelihood: their bits are of masked tokens given all others, and no rival of a causal model's. Of a tokenizer
with several ways to write a sequence (BPE) the bits are those of the one that it takes: at most so many are needed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gengram.progress import track
from gengram.training.corpus.windows import Windows
from gengram.training.evaluation.processes import find_place, merge_rows
from gengram.training.evaluation.regions import REPEAT, UNIQUE, classify_bases, list_classes
from gengram.training.evaluation.scoring import WindowScorer, cut_batches, deal_batches
from gengram.training.metrics.bootstrap import draw_in_parts, find_interval

RESAMPLES = 1000
_SEED = 0  # of the resamples
_LARGEST = 700  # e to the power of more is no number


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
    scorer: WindowScorer, windows: Windows, *, batch_tokens: int = 16_384, description: str = "Evaluating"
) -> WindowBits:
    """Score windows; where there are several processes each does a share, and all return the whole.

    The batches depend on the windows and `batch_tokens` alone, so that any number of processes computes the same
    numbers; of another `batch_tokens` they differ by the rounding of the device's matrix products.

    Args:
        scorer: of the model and the corpus.
        windows: W of them, of `choose_windows`.
        batch_tokens: tokens of a batch with its padding.
        description: of the bar.
    """
    chosen = [windows.get(number) for number in range(len(windows.contig))]
    encoded = [scorer.encode(window) for window in chosen]
    names = list_classes(scorer.corpus)
    sums = np.zeros((len(chosen), 3 + 2 * len(names)))
    batches = cut_batches([len(tokens.ids) for tokens in encoded], batch_tokens)
    shares = list(deal_batches(batches, *find_place()))
    for places, counts in track(shares, desc=description, unit="batch", leave=False):
        scores = scorer.score([chosen[place] for place in places], [encoded[place] for place in places])
        for place, one in zip(places if counts else (), scores):
            known = ~np.isnan(one.nats)
            sums[place, :3] = one.nats[known].sum(), known.sum(), one.tokens
            classes = classify_bases(scorer.corpus, chosen[place], encoded[place].letters)
            for column, name in enumerate(names):
                if name in classes:
                    among = known & classes[name]
                    sums[place, 3 + 2 * column : 5 + 2 * column] = one.nats[among].sum(), among.sum()
    sums = merge_rows(sums, scorer.model.device)
    by_class = {name: (sums[:, 3 + 2 * column], sums[:, 4 + 2 * column]) for column, name in enumerate(names)}
    return WindowBits(sums[:, 0], sums[:, 1], sums[:, 2], by_class)


def summarise_bits(bits: WindowBits, species: Sequence[str]) -> dict[str, float]:
    """Return flat metrics of scored windows; what has no base is left out.

    Args:
        bits: of `measure_bits`.
        species: of each window.

    Returns:
        - `bits_per_base` with `bits_per_base_low` and `bits_per_base_high`, the ends of a 95 % interval by the
          bootstrap over windows: how certain the number is on these contigs (windows of one chromosome are no
          independent samples of genomes); `perplexity_per_base`, 2 to the power of it;
        - `loss`, nats a token, and `perplexity_per_token`, e to the power of it;
        - `bases`, `tokens`, `windows`: how many there were;
        - `species/NAME/bits_per_base` and `species/NAME/bases`, `class/NAME/bits_per_base` and `class/NAME/bases`.
    """
    metrics: dict[str, float] = {}
    nats, bases, tokens = (math.fsum(column) for column in (bits.nats, bits.bases, bits.tokens))
    if bases:
        per_base = nats / bases / math.log(2)
        low, high = find_interval(resample_bits(bits.nats, bits.bases)) or (per_base, per_base)
        metrics |= {
            "bits_per_base": per_base,
            "bits_per_base_low": low,
            "bits_per_base_high": high,
            "perplexity_per_base": math.exp(min(nats / bases, _LARGEST)),
            "loss": nats / tokens,
            "perplexity_per_token": math.exp(min(nats / tokens, _LARGEST)),
        }
    metrics |= {"bases": int(bases), "tokens": int(tokens), "windows": len(bits.nats)}
    names = np.asarray(species)
    for name in sorted(set(species)):
        metrics |= describe_bits(f"species/{name}", bits.nats[names == name], bits.bases[names == name])
    for name, (some_nats, some_bases) in bits.by_class.items():
        if name == UNIQUE and not bits.by_class[REPEAT][1].any():
            continue  # nothing is masked
        metrics |= describe_bits(f"class/{name}", some_nats, some_bases)
    return metrics


def describe_bits(name: str, nats: np.ndarray, bases: np.ndarray) -> dict[str, float]:
    """Return `NAME/bits_per_base` and `NAME/bases` of some windows; empty where they have no base."""
    total = math.fsum(bases)
    if not total:
        return {}
    return {f"{name}/bits_per_base": math.fsum(nats) / total / math.log(2), f"{name}/bases": int(total)}


def resample_bits(nats: np.ndarray, bases: np.ndarray, resamples: int = RESAMPLES) -> np.ndarray:
    """Return the bits per base of resamples of W windows, float64 [resamples]; NaN where one has no base.

    Args:
        nats, bases: float64 [W], of `WindowBits`.
        resamples: how many.
    """
    values = []
    for counts in draw_in_parts(len(nats), resamples, _SEED):
        drawn = counts.astype(np.float64)
        total = drawn @ bases
        values.append(np.divide(drawn @ nats, total * math.log(2), out=np.full(len(drawn), np.nan), where=total > 0))
    return np.concatenate(values)


__all__ = ["WindowBits", "describe_bits", "measure_bits", "resample_bits", "summarise_bits"]
