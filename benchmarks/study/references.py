"""What do the few bases before a base say already? Markov models beside the models of a study, on the same windows."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from gengram.training.baselines.markov import MarkovModel, count_bases
from gengram.training.corpus.store import Corpus
from gengram.training.corpus.windows import Windows
from gengram.training.evaluation.held_out import choose_windows

ORDERS = tuple(range(1, 9))
_COUNTED = 200_000_000  # bases of the training contigs at most
_PIECE = 1 << 16  # bases that are counted together


def measure_markov(store: Corpus, windows: Windows) -> dict[str, Any]:
    """
    Measure Markov models on the windows of a study.

    Args:
        store: `gengram.training.corpus.store.Corpus`.
        windows: held out.

    Returns:
        `bases` of the training contigs that were counted: all, or 200 million in evenly spaced pieces; and
        `bits_per_base` of each order. As for a language model, the first base of a window is context alone.
    """
    pieces = choose_windows(store, _PIECE, _COUNTED, "train")
    counts = count_bases(_read(store, pieces), max(ORDERS))
    found = {}
    for order in ORDERS:
        model = MarkovModel(counts, order)
        bits = np.concatenate([model.score_bases(letters)[1:] for letters in _read(store, windows)])
        found[str(order)] = float(np.nanmean(bits))
    return {"bases": counts.bases, "bits_per_base": found}


def _read(store: Corpus, windows: Windows) -> Iterator[np.ndarray]:
    places = zip(windows.contig.tolist(), windows.start.tolist(), windows.end.tolist())
    return (store.read(contig, start, end) for contig, start, end in places)


__all__ = ["ORDERS", "measure_markov"]
