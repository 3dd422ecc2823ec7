"""Of which class is each base of a window? Of a repeat by its case, of an exon, intron or between genes by the corpus."""

from typing import Any

import numpy as np

REPEAT, UNIQUE = "repeat", "unique"
"""Classes of lower and upper case letters, where the genomes have both: soft-masked repeats, and what is none."""


def list_classes(corpus: Any) -> list[str]:
    """Return the classes that the bases of a corpus can be of, sorted; REPEAT and UNIQUE are always among them."""
    found = set() if corpus.classes is None else set(corpus.classes.names)
    return sorted(found | {REPEAT, UNIQUE})


def classify_bases(corpus: Any, contig: int, start: int, end: int, letters: np.ndarray) -> dict[str, np.ndarray]:
    """Return which letters of a stretch of the reference are of each class, booleans [L]; a letter may be of several.

    Args:
        corpus: `gengram.training.corpus.store.Corpus`.
        contig: row number of the corpus's table of contigs.
        start, end: 0-based, half-open, in bp of the record.
        letters: uint8 [L], ASCII, of the stretch on its forward strand.
    """
    masked = letters >= ord("a")
    classes = {REPEAT: masked, UNIQUE: ~masked}
    if corpus.classes is None:
        return classes
    table = corpus.classes
    first, last = np.searchsorted(table.contig, [contig, contig + 1])
    for place in first + np.flatnonzero((table.end[first:last] > start) & (table.start[first:last] < end)):
        name = table.names[table.kind[place]]
        if name not in classes:
            classes[name] = np.zeros(len(letters), dtype=bool)
        classes[name][max(table.start[place] - start, 0) : table.end[place] - start] = True
    return classes


__all__ = ["REPEAT", "UNIQUE", "classify_bases", "list_classes"]
