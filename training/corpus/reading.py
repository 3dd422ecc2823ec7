"""Which letters has a window: an interval of a record, a strand, maybe a haplotype? And where is each letter from?"""

from typing import NamedTuple

import numpy as np

from gengram.genome.alphabet import COMPLEMENT
from gengram.training.corpus.haplotypes import INSERTED, apply_edits
from gengram.training.corpus.store import Corpus

REFERENCE = -1
"""The haplotype of a window that is read as the reference has it."""


def _pair_letters() -> np.ndarray:
    """The other strand's letter of every byte: uint8 [256]; what is no letter of DNA stays as it is."""
    table = np.arange(256, dtype=np.uint8)
    for code, partner in COMPLEMENT.items():
        table[ord(code)], table[ord(code.lower())] = ord(partner), ord(partner.lower())
    return table


PARTNERS = _pair_letters()
"""The letter that pairs with each of 256 bytes, case kept: uint8 [256]."""
_PARTNERS = PARTNERS.tobytes()


class Window(NamedTuple):
    """Where letters are from.

    Attributes:
        contig: number of the record.
        start, end: in bp of the record, in coordinates of the reference, half-open.
        strand: 0 as the record has it, 1 its reverse complement.
        haplotype: number of it, -1 the reference.
        length: letters of it, from `start` on, before they are turned; None: all of them.
    """

    contig: int
    start: int
    end: int
    strand: int = 0
    haplotype: int = REFERENCE
    length: int | None = None


class Windows(NamedTuple):
    """N windows, int64 [N] each, see `Window`; `segment` is the row of the corpus' segments that a window lies in."""

    contig: np.ndarray
    start: np.ndarray
    end: np.ndarray
    strand: np.ndarray
    haplotype: np.ndarray
    length: np.ndarray
    segment: np.ndarray

    def get(self, number: int) -> Window:
        """Return one of them."""
        return Window(*(int(column[number]) for column in self[:6]))

    def take(self, places: np.ndarray) -> "Windows":
        """Return some of them."""
        return Windows(*(column[places] for column in self))

    def put(self, places: np.ndarray, others: "Windows") -> None:
        """Replace some of them."""
        for column, other in zip(self, others):
            column[places] = other


def read_window(corpus: Corpus, window: Window) -> np.ndarray:
    """Return a window's letters: uint8 [length], ASCII codes, haplotype applied, turned to its strand, case kept."""
    whole = window.haplotype == REFERENCE
    letters = corpus.read(window.contig, window.start, window.end) if whole else _edit(corpus, window)[0]
    return turn(letters[: window.length], window.strand)


def locate_letters(corpus: Corpus, window: Window) -> np.ndarray:
    """Return where each letter of `read_window` is from: int64 [length], bp of the record; -1 where it is inserted.

    Descending for strand 1. Letters of a haplotype that replace others lie where these are, the first on the first.
    """
    whole = window.haplotype == REFERENCE
    places = (np.arange(window.start, window.end) if whole else _edit(corpus, window)[1])[: window.length]
    return places[::-1] if window.strand else places


def fit_haplotype(corpus: Corpus, window: Window, bounds: tuple[int, int]) -> Window | None:
    """Return a window of a haplotype with as many letters as a window of the reference, near it.

    Where variants take letters away, it reaches further on, and at the end of its segment further back.

    Args:
        corpus: of the window.
        window: with its haplotype; `end - start` letters are needed.
        bounds: of its segment, in bp.

    Returns:
        The window; None where the whole segment has too few letters.
    """
    needed, start, end = window.end - window.start, window.start, window.end
    if not has_edits(corpus, window):
        return window._replace(length=needed)
    while True:
        window = window._replace(start=start, end=end, length=None)
        lacking = needed - len(_edit(corpus, window)[0])
        if lacking <= 0:
            return window._replace(length=needed)
        if (start, end) == bounds:
            return None
        further = min(end + lacking, bounds[1])
        start, end = max(start - (lacking - (further - end)), bounds[0]), further


def has_edits(corpus: Corpus, window: Window) -> bool:
    """Whether the haplotype of a window differs from the reference there."""
    return len(corpus.find_edits(window.haplotype, window.contig, window.start, window.end).position) > 0


def _edit(corpus: Corpus, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Letters of a haplotype, and where each is from."""
    letters = corpus.read(window.contig, window.start, window.end)
    edits = corpus.find_edits(window.haplotype, window.contig, window.start, window.end)
    return apply_edits(letters, window.start, edits)


def turn(letters: np.ndarray, strand: int) -> np.ndarray:
    """Return letters as they are (strand 0), or their reverse complement: uint8 [n], IUPAC codes and case kept."""
    # Bytes are translated several times as fast as numpy looks them up.
    return np.frombuffer(letters.tobytes().translate(_PARTNERS)[::-1], dtype=np.uint8) if strand else letters


def count_unknown(letters: np.ndarray) -> int:
    """Return how many of some letters are N."""
    return int(np.count_nonzero((letters | 32) == ord("n")))


__all__ = [
    "INSERTED",
    "PARTNERS",
    "REFERENCE",
    "Window",
    "Windows",
    "count_unknown",
    "fit_haplotype",
    "has_edits",
    "locate_letters",
    "read_window",
    "turn",
]
