"""What do simple models need for the bases that a language model is measured on? The numbers to put beside its own."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from gengram.training.baselines.compression import measure_compression
from gengram.training.baselines.markov import BaseCounts, MarkovModel, Smoothing, count_bases
from gengram.training.corpus.store import Corpus
from gengram.training.corpus.windows import Windows, find_split, read_window

MOST_TRAINED = 1 << 28
"""Training bases that the Markov models read; more of them move no digit that is shown."""
MOST_COMPRESSED = 1 << 23
"""Held-out bases that are compressed; xz takes about a second for a million."""

_PIECE = 1 << 16  # letters of a training segment that are read at a time


def measure_references(
    corpus: Corpus,
    windows: Windows,
    *,
    order: int = 8,
    both_strands: bool = True,
    smoothing: Smoothing = "dirichlet",
    most_trained: int = MOST_TRAINED,
    most_compressed: int = MOST_COMPRESSED,
) -> dict[str, Any]:
    """Measure bits per base of Markov models and compressors on held-out windows.

    The Markov models, one for all species, are fitted to the training bases of the corpus, each once: the weights by
    which windows are drawn, haplotypes and left-out anchors do not count. Nothing is fitted for the compressors. N and
    other codes are left out everywhere. Takes about 50 nanoseconds a training base and a microsecond a compressed one,
    in constant memory.

    Args:
        corpus: of `open_corpus`.
        windows: those that the model is measured on, of `choose_windows` or `tile`.
        order: the highest one; all from 0 on are measured.
        both_strands: whether the reverse complement of each training segment is read as well.
        smoothing: of the Markov models, see `MarkovModel`.
        most_trained: of more training bases, pieces at equal distances are read.
        most_compressed: of more held-out bases, the first are compressed.

    Returns:
        For JSON: `held_out_bases`; `markov`, with `training_bases` (of one strand), `both_strands`, `smoothing`,
        `bits_per_base` by order ("0" ... "8"), `by_species` likewise, `best_order` and `best` (chosen on these very
        windows); `compression`, see `measure_compression`. Bits are None where there is no base.

    Raises:
        `InputError`: an order or smoothing that cannot be.
    """
    trained = count_bases(_read_training(corpus, most_trained), order, both_strands)
    species = np.array([corpus.contigs[contig].species for contig in windows.contig.tolist()], dtype=object)
    held_out: dict[str, BaseCounts] = {}
    for name in dict.fromkeys(species.tolist()):
        held_out[name] = count_bases(_read_windows(corpus, windows, np.flatnonzero(species == name)), order)
    whole = sum(held_out.values(), start=count_bases([], order))
    model = MarkovModel(trained, smoothing)
    bits = _measure_orders(model, whole)
    best = min(bits, key=lambda each: bits[each] or 0.0)
    return {
        "held_out_bases": whole.bases,
        "markov": {
            "training_bases": trained.bases // (2 if both_strands else 1),
            "both_strands": both_strands,
            "smoothing": smoothing,
            "bits_per_base": bits,
            "by_species": {name: _measure_orders(model, counts) for name, counts in held_out.items()},
            "best_order": int(best),
            "best": bits[best],
        },
        "compression": {
            name: None if value != value else value
            for name, value in measure_compression(
                _read_windows(corpus, windows, np.arange(len(windows.contig))), most_compressed
            ).items()
        },
    }


def _measure_orders(model: MarkovModel, counts: BaseCounts) -> dict[str, float | None]:
    return {
        str(order): model.measure_bits(counts, order) / counts.bases if counts.bases else None
        for order in range(model.order + 1)
    }


def _read_windows(corpus: Corpus, windows: Windows, places: np.ndarray) -> Iterator[np.ndarray]:
    return (read_window(corpus, windows.get(place)) for place in places.tolist())


def _read_training(corpus: Corpus, most: int) -> Iterator[np.ndarray]:
    """Yield the letters of the training segments, or of pieces of them at equal distances."""
    segments = corpus.segments
    rows = np.flatnonzero(segments.split == find_split("train"))
    total = int((segments.end - segments.start)[rows].sum())
    step = -(-total // most)
    number = 0
    for contig, start, end in zip(*(column[rows].tolist() for column in segments[:3])):
        if step <= 1:
            yield corpus.read(contig, start, end)
            continue
        for first in range(start, end, _PIECE):
            if number % step == 0:
                yield corpus.read(contig, first, min(first + _PIECE, end))
            number += 1


__all__ = ["MOST_COMPRESSED", "MOST_TRAINED", "measure_references"]
