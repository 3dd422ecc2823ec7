"""Does a model need as many bits for a window as for its other strand? Genes lie on both, so a model of DNA should."""

import math

import numpy as np

from gengram.progress import track
from gengram.training.corpus.windows import Windows
from gengram.training.evaluation.processes import find_place, merge_rows
from gengram.training.evaluation.scoring import WindowScorer, cut_batches, deal_batches


def measure_strand_gap(scorer: WindowScorer, windows: Windows, *, batch_tokens: int = 16_384) -> dict[str, float]:
    """Read windows on both strands and compare what the model needs for the bases that it is asked for on both.

    Args:
        scorer: of the model and the corpus. A masked model has the same bases masked on both strands where tokens are
            single bases, or windows whole k-mers; of BPE others.
        windows: of `choose_windows`.
        batch_tokens: tokens of a batch with its padding.

    Returns:
        `strand/forward_bits` and `strand/reverse_bits` per base; `strand/gap`, the mean over windows of the absolute
        difference: 0 where the model treats both strands of every window alike; `strand/difference`, the mean of
        forward minus reverse: 0 where neither strand is the easier one; `strand/bases`. Empty where no window has a
        base that is asked for on both strands.
    """
    forward = [windows.get(number) for number in range(len(windows.contig))]
    sides = [(window, window._replace(strand=1 - window.strand)) for window in forward]
    encoded = [tuple(scorer.encode(window) for window in pair) for pair in sides]
    sums = np.zeros((len(sides), 4))
    batches = cut_batches([max(len(tokens.ids) for tokens in pair) for pair in encoded], batch_tokens)
    shares = list(deal_batches(batches, *find_place()))
    for places, counts in track(shares, desc="Evaluating both strands", unit="batch", leave=False):
        scores = [
            scorer.score([sides[place][side] for place in places], [encoded[place][side] for place in places])
            for side in (0, 1)
        ]
        for place, one, other in zip(places if counts else (), *scores):
            sums[place] = _compare(one.nats, other.nats[::-1], common=scorer.is_causal)
    nats, other_nats, bases, other_bases = merge_rows(sums, scorer.model.device).T
    known = (bases > 0) & (other_bases > 0)
    if not known.any():
        return {}
    ways = [nats[known] / bases[known] / math.log(2), other_nats[known] / other_bases[known] / math.log(2)]
    return {
        "strand/forward_bits": math.fsum(nats[known]) / math.fsum(bases[known]) / math.log(2),
        "strand/reverse_bits": math.fsum(other_nats[known]) / math.fsum(other_bases[known]) / math.log(2),
        "strand/gap": float(np.mean(np.abs(ways[0] - ways[1]))),
        "strand/difference": float(np.mean(ways[0] - ways[1])),
        "strand/bases": int(math.fsum(bases[known])),
    }


def _compare(nats: np.ndarray, others: np.ndarray, common: bool) -> tuple[float, float, int, int]:
    """Return the sums of two strands' nats [L] and how many bases they are of; `common`: those of both."""
    known, also = ~np.isnan(nats), ~np.isnan(others)
    if common:  # a causal model says nothing of the first base, which is the last one of the other strand
        known = also = known & also
    return nats[known].sum(), others[also].sum(), int(known.sum()), int(also.sum())


__all__ = ["measure_strand_gap"]
