"""What do simple models need for the bases that a language model is measured on? The numbers to put beside its own."""

from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

import numpy as np

from gengram.training.baselines.compression import measure_compression
from gengram.training.baselines.markov import BaseCounts, MarkovModel, Smoothing, count_bases
from gengram.training.corpus.store import Corpus
from gengram.training.corpus.windows import Windows, find_split, read_window

MOST_TRAINED = 1 << 28
"""Training bases that the Markov models read; more of them move no digit that is shown."""
MOST_COMPRESSED = 1 << 21
"""Held-out bases that are compressed; xz takes two seconds for a million."""

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

    The Markov models are fitted to the training bases of the corpus, each once: the weights by which windows are drawn,
    haplotypes and anchors do not count. There is one for all species, and one for each, which knows more than a
    language model is told: that reads the species from the letters. Nothing is fitted for the compressors. N and other
    codes are left out everywhere. Takes about 50 nanoseconds a training base and two microseconds a compressed one, in
    constant memory.

    Args:
        corpus: of `open_corpus`.
        windows: those that the model is measured on, of `choose_windows` or `tile`.
        order: the highest one; all from 0 on are measured.
        both_strands: whether the reverse complement of each training segment is read as well.
        smoothing: of the Markov models, see `MarkovModel`.
        most_trained: of more training bases, pieces at equal distances are read.
        most_compressed: of more held-out bases, the first are compressed.

    Returns:
        For JSON: `held_out_bases`; `markov`: `training_bases` (of one strand), `both_strands`, `smoothing`, and of the
        models `one_for_all` and `one_a_species` each `bits_per_base` by order ("0" ... "8"), `by_species` likewise,
        `best_order` and `best` (chosen on these very windows); `compression`, see `measure_compression`. Bits are None
        where there is no base. A species without training bases has 2 bits a base in `one_a_species`.

    Raises:
        `InputError`: an order or smoothing that cannot be.
    """
    names = [one.species for one in corpus.contigs]
    held_out = count_species(_read_windows(corpus, windows), [names[one] for one in windows.contig.tolist()], order)
    contigs, pieces = _list_training(corpus, most_trained)
    trained = count_species(_read_pieces(corpus, pieces), [names[one] for one in contigs], order, both_strands)
    nothing = count_bases([], order)
    whole = sum(trained.values(), start=nothing)
    one_for_all = MarkovModel(whole, smoothing)
    each = {name: MarkovModel(trained.get(name, nothing), smoothing) for name in held_out}
    compression = measure_compression(_read_windows(corpus, windows), most_compressed)
    return {
        "held_out_bases": sum(counts.bases for counts in held_out.values()),
        "markov": {
            "training_bases": whole.bases // (2 if both_strands else 1),
            "both_strands": both_strands,
            "smoothing": smoothing,
            "one_for_all": _measure_orders(dict.fromkeys(held_out, one_for_all), held_out, order),
            "one_a_species": _measure_orders(each, held_out, order),
        },
        "compression": {name: None if np.isnan(value) else value for name, value in compression.items()},
    }


def list_references(found: dict[str, Any]) -> list[tuple[str, float | None]]:
    """Return names and bits per base of the best Markov models and of the compressors, of `measure_references`."""
    if not found:
        return []
    markov, compression = found["markov"], found["compression"]
    rows = []
    for name, kind in (("one for all species", "one_for_all"), ("one a species", "one_a_species")):
        if name == "one for all species" or len(markov[kind]["by_species"]) > 1:
            rows.append((f"Markov model of order {markov[kind]['best_order']}, {name}", markov[kind]["best"]))
    files = [("gzip -9", "gzip"), ("xz -9e", "xz")]
    for form, what in (("text", "a byte a base"), ("packed", "2 bits a base")):
        rows += [(f"{name} of {what}", compression[f"{key}_{form}"]) for name, key in files]
    return rows


def count_species(
    pieces: Iterator[np.ndarray], species: Sequence[str], order: int, both_strands: bool = False
) -> dict[str, BaseCounts]:
    """Count the bases of pieces, see `count_bases`, for each species apart; `species` has that of each piece."""
    found: dict[str, BaseCounts] = {}
    # Neighbours of one species are counted together.
    for name, group in groupby(zip(species, pieces), key=itemgetter(0)):
        counts = count_bases((piece for _, piece in group), order, both_strands)
        found[name] = found[name] + counts if name in found else counts
    return found


def _measure_orders(models: dict[str, MarkovModel], held_out: dict[str, BaseCounts], order: int) -> dict[str, Any]:
    """Bits per base by order: of all species, and of each with its model."""
    bits = {name: [models[name].measure_bits(one, each) for each in range(order + 1)] for name, one in held_out.items()}
    bases = {name: one.bases for name, one in held_out.items()}
    whole = _divide(np.sum(list(bits.values()), axis=0) if bits else np.zeros(order + 1), sum(bases.values()))
    best = min(whole, key=lambda each: whole[each] or 0.0)
    return {
        "bits_per_base": whole,
        "by_species": {name: _divide(bits[name], bases[name]) for name in bits},
        "best_order": int(best),
        "best": whole[best],
    }


def _divide(bits: Sequence[float] | np.ndarray, bases: int) -> dict[str, float | None]:
    return {str(order): float(each) / bases if bases else None for order, each in enumerate(bits)}


def _read_windows(corpus: Corpus, windows: Windows) -> Iterator[np.ndarray]:
    return (read_window(corpus, windows.get(place)) for place in range(len(windows.contig)))


def _read_pieces(corpus: Corpus, pieces: Sequence[tuple[int, int, int]]) -> Iterator[np.ndarray]:
    return (corpus.read(*piece) for piece in pieces)


def _list_training(corpus: Corpus, most: int) -> tuple[list[int], list[tuple[int, int, int]]]:
    """Return the training segments, or pieces of them at equal distances: the contig of each; contig, start and end."""
    segments = corpus.segments
    rows = np.flatnonzero(segments.split == find_split("train"))
    pieces = list(zip(*(column[rows].tolist() for column in segments[:3])))
    step = -(-sum(end - start for _, start, end in pieces) // most)
    if step > 1:
        cut = (
            (contig, first, min(first + _PIECE, end))
            for contig, start, end in pieces
            for first in range(start, end, _PIECE)
        )
        pieces = list(islice(cut, 0, None, step))
    return [contig for contig, _, _ in pieces], pieces


__all__ = ["MOST_COMPRESSED", "MOST_TRAINED", "count_species", "list_references", "measure_references"]
