"""Of which class is each base? Of a repeat by its case, of an exon, an intron or neither by the annotation."""

import numpy as np

from gengram.training.corpus.store import Corpus
from gengram.training.corpus.windows import REFERENCE, Window

REPEAT, UNIQUE = "repeat", "unique"
"""Classes of lower and upper case letters: soft-masked repeats, and what is none where some are masked."""


def list_classes(corpus: Corpus) -> list[str]:
    """Return the classes that the bases of a corpus can be of, sorted; REPEAT and UNIQUE are always among them."""
    found = set() if corpus.classes is None else set(corpus.classes.names)
    return sorted(found | {REPEAT, UNIQUE})


def classify_bases(corpus: Corpus, window: Window, letters: np.ndarray) -> dict[str, np.ndarray]:
    """Return which letters of a window are of each class, booleans [L]; a letter may be of several.

    Args:
        corpus: of `open_corpus`.
        window: where the letters are from; those of a haplotype are of no class but by their case.
        letters: uint8 [L], ASCII.
    """
    masked = letters >= ord("a")
    classes = {REPEAT: masked, UNIQUE: ~masked}
    table = corpus.classes
    if table is None or window.haplotype != REFERENCE:
        return classes
    first, last = np.searchsorted(table.contig, [window.contig, window.contig + 1])
    some = slice(int(first), int(last))
    for place in first + np.flatnonzero((table.end[some] > window.start) & (table.start[some] < window.end)):
        name = table.names[table.kind[place]]
        here = classes.setdefault(name, np.zeros(len(letters), dtype=bool))
        here[max(table.start[place] - window.start, 0) : table.end[place] - window.start] = True
    if window.strand:
        return classes | {name: here[::-1] for name, here in classes.items() if name not in (REPEAT, UNIQUE)}
    return classes


__all__ = ["REPEAT", "UNIQUE", "classify_bases", "list_classes"]
