"""Does a model need more bits for haplotypes than for the reference? The same windows, read twice."""

import math

import numpy as np

from gengram.training.corpus.store import Corpus
from gengram.training.corpus.windows import Windows
from gengram.training.evaluation.bits_per_base import measure_bits
from gengram.training.evaluation.held_out import spread_choice
from gengram.training.evaluation.scoring import WindowScorer


def measure_haplotypes(
    scorer: WindowScorer, windows: Windows, bases: int, *, batch_tokens: int = 16_384
) -> dict[str, float]:
    """Read windows with the variants of a haplotype and without them.

    Args:
        scorer: of the model and the corpus.
        windows: of `choose_windows`; those in which a haplotype has a variant are read, with one of these haplotypes.
        bases: at most so many are read, in bp, but at least one window.
        batch_tokens: tokens of a batch with its padding.

    Returns:
        `haplotype/alternative_bits` and `haplotype/reference_bits` per base, `haplotype/difference` (the first minus
        the second) and `haplotype/bases`, of the windows with variants. Empty where there are none.
    """
    windows = find_varied(scorer.corpus, windows)
    if not len(windows.contig):
        return {}
    length = int(windows.length.max())
    windows = windows.take(spread_choice(windows, max(1, bases // length)))
    reference = windows._replace(haplotype=np.full_like(windows.haplotype, -1))
    bits, total = [], 0
    for some, description in ((windows, "Evaluating haplotypes"), (reference, "Evaluating their reference")):
        found = measure_bits(scorer, some, batch_tokens=batch_tokens, description=description)
        total = int(math.fsum(found.bases))
        if not total:
            return {}
        bits.append(math.fsum(found.nats) / total / math.log(2))
    return {
        "haplotype/alternative_bits": bits[0],
        "haplotype/reference_bits": bits[1],
        "haplotype/difference": bits[0] - bits[1],
        "haplotype/bases": total,
    }


def find_varied(corpus: Corpus, windows: Windows) -> Windows:
    """Return the windows in which haplotypes have variants, each with one of these: the haplotypes take turns."""
    table, names = corpus.haplotypes, corpus.facts.get("haplotypes") or []
    if table is None or not len(table.position):
        return windows.take(np.empty(0, dtype=np.int64))
    places, haplotypes = list[int](), list[int]()
    for place in range(len(windows.contig)):
        window = windows.get(place)
        varied = [
            number
            for number in range(len(names))
            if (corpus.find_edits(number, window.contig, window.start, window.end).position < window.end).any()
        ]
        if varied:
            haplotypes.append(varied[len(places) % len(varied)])
            places.append(place)
    chosen = windows.take(np.array(places, dtype=np.int64))
    return chosen._replace(haplotype=np.array(haplotypes, dtype=np.int64))


__all__ = ["find_varied", "measure_haplotypes"]
