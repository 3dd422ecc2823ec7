"""Which bases does the n-th window have? Windows are drawn from a corpus, not stored: each is a function of its number.

A window is an interval of a record, a strand, and maybe a haplotype. Its number, a seed and a stream say which one it
is, so that any process finds any window, and a run that goes on needs no state but a number.
"""

import dataclasses
from typing import Literal, get_args

import numpy as np

from gengram.errors import InputError
from gengram.training.corpus.draws import Permutation, Stream, draw_uniform
from gengram.training.corpus.mixing import weigh_species
from gengram.training.corpus.reading import (
    REFERENCE,
    Window,
    Windows,
    count_unknown,
    fit_haplotype,
    has_edits,
    locate_letters,
    read_window,
)
from gengram.training.corpus.store import SPLITS, Corpus

Strand = Literal["forward", "random"]
Order = Literal["random", "covering"]
REDRAWS = 100
"""Windows with too many N that are drawn one after the other before that is an error."""
_COLUMNS = 5  # numbers that a window takes: anchor, base, offset, strand, haplotype


@dataclasses.dataclass(frozen=True)
class Drawing:
    """How windows are drawn.

    Args:
        length: bp of a window; None: what a block takes.
        strand: `"forward"`, or `"random"`: half of the windows are reverse complements.
        order: `"random"`: anywhere; `"covering"`: tiles of all segments in a random order, each once an epoch, shifted
            in each epoch as far as all bases stay covered.
        stride: bp from tile to tile of `"covering"`; None: the length.
        max_n: largest share of N in a window. One with more is drawn again, also in place of a tile.
        haplotype_share: share of the windows of a species with haplotypes that is read from one of these; None: they
            and the reference get the same.
        groups: weights of groups of species, in place of the corpus'; for `"random"`.
        whole_short: segments shorter than a window are drawn whole, and not left out.

    Raises:
        `InputError`: a value that none of these can have.
    """

    length: int | None = None
    strand: Strand = "random"
    order: Order = "random"
    stride: int | None = None
    max_n: float = 0.5
    haplotype_share: float | None = None
    groups: dict[str, float] | None = None
    whole_short: bool = False

    def __post_init__(self):
        for name, value, choices in (("strand", self.strand, Strand), ("order", self.order, Order)):
            if value not in get_args(choices):
                raise InputError(f"{name}={value!r}: choose {' or '.join(get_args(choices))}")
        for name in ("length", "stride"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InputError(f"{name}={value!r}: give bp, 1 or more")
        for name in ("max_n", "haplotype_share"):
            value = getattr(self, name)
            if not (value is None and name == "haplotype_share") and not _is_share(value):
                raise InputError(f"{name}={value!r}: give a share, from 0 to 1")
        if self.stride is not None and self.order == "random":
            raise InputError("stride is for order covering: random windows lie anywhere")
        if self.groups is not None and self.order == "covering":
            raise InputError("weights of groups are for order random: covering reads every base equally often")
        if self.whole_short and self.order == "covering":
            raise InputError("whole_short is for order random: tiles have one length")


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


class WindowSource:
    """Windows of a split of a corpus, by number.

    Args:
        corpus: of `open_corpus`.
        drawing: how; with a length.
        seed: of the run.
        split: `train`, `validation` or `test`.
        stream: keeps windows of several stages apart.

    Attributes:
        corpus, drawing: as given.
        length: bp of a window.
        bases: bp of the segments that windows are drawn from.
        left_out: bp of those that are too short for a window.
        epoch: tiles of an epoch of order covering; None for random.

    Raises:
        `InputError`: nothing in the split, a window longer than every segment of it, weights that sum to zero.

    Example:
        >>> source = WindowSource(corpus, Drawing(length=8192), seed=0)  # doctest: +SKIP
        >>> source.draw(np.arange(3)).start  # doctest: +SKIP
    """

    def __init__(self, corpus: Corpus, drawing: Drawing, seed: int, split: str = "train", stream: Stream = 0):
        if drawing.length is None:
            raise ValueError("the drawing has no length")
        self.corpus, self.drawing, self.split = corpus, drawing, split
        self.length, self._seed = drawing.length, seed
        self._stream: tuple[int | str, ...] = stream if isinstance(stream, tuple) else (stream,)
        segments = corpus.segments
        lengths = segments.end - segments.start
        of_split = segments.split == find_split(split)
        if not of_split.any():
            raise InputError(
                f"{corpus.folder}: nothing of it is in the split {split}; hold contigs out when the corpus is built "
                "(hold_out of its recipe), or choose another split"
            )
        usable = of_split if drawing.whole_short else of_split & (lengths >= self.length)
        if not usable.any():
            raise InputError(
                f"{corpus.folder}: windows of {self.length:,} bp are longer than every stretch of the split {split}, "
                f"the longest of which has {int(lengths[of_split].max()):,} bp. Choose shorter blocks, or pack short "
                "sequences into them"
            )
        self.bases, self.left_out = int(lengths[usable].sum()), int(lengths[of_split & ~usable].sum())
        self._starts_of = segments.start
        self.epoch: int | None = None
        if drawing.order == "random":
            self._weigh_anchors(usable, lengths)
        else:
            self._cut_tiles(np.flatnonzero(usable), lengths)
        self._choices = self._list_haplotypes()

    def draw(self, numbers: np.ndarray) -> Windows:
        """Return the windows of these numbers."""
        if self.drawing.max_n >= 1:
            return self._draw(np.asarray(numbers, dtype=np.int64), 0)
        if self.drawing.whole_short:
            return self._draw_whole(np.asarray(numbers, dtype=np.int64))
        return self.draw_letters(numbers)[0]

    def draw_letters(self, numbers: np.ndarray, attempt: int = 0) -> tuple[Windows, np.ndarray]:
        """Return the windows of these numbers and their letters, all equally many (not with `whole_short`).

        Args:
            numbers: int [N], of the windows, from 0.
            attempt: how many windows of each number are passed over.

        Returns:
            The windows, and uint8 [N, length]: ASCII codes, haplotypes applied, not yet turned to their strand.

        Raises:
            `InputError`: windows with too many N, again and again.
        """
        numbers = np.asarray(numbers, dtype=np.int64)
        letters = np.empty((len(numbers), self.length), dtype=np.uint8)
        windows = self._draw(numbers, attempt)
        self._fill(windows, letters)
        for tries in range(attempt + 1, attempt + REDRAWS):
            again = self._find_unknown(letters)
            if not len(again):
                return windows, letters
            others, found = self._draw(numbers[again], tries), letters[again]
            self._fill(others, found)
            windows.put(again, others)
            letters[again] = found
        if len(again := self._find_unknown(letters)):
            self._refuse_unknown(int(numbers[again[0]]))
        return windows, letters

    def _draw_whole(self, numbers: np.ndarray) -> Windows:
        """Draw windows of several lengths."""
        windows = self._draw(numbers, 0)
        for place, number in enumerate(numbers.tolist()):
            for tries in range(1, REDRAWS + 1):
                letters = read_window(self.corpus, windows.get(place))
                if count_unknown(letters) <= self.drawing.max_n * len(letters):
                    break
                if tries == REDRAWS:
                    self._refuse_unknown(number)
                windows.put(np.array([place]), self._draw(np.array([number]), tries))
        return windows

    def _draw(self, numbers: np.ndarray, attempt: int) -> Windows:
        """Draw windows without a look at their letters."""
        drawn = draw_uniform(self._seed, (*self._stream, "windows"), numbers, _COLUMNS, attempt * _COLUMNS)
        if self.epoch is None:
            segment, start = self._place_randomly(drawn)
        elif attempt:
            segment, start = self._find_tiles(self._epochs_of(numbers), (drawn[:, 0] * self.epoch).astype(np.int64))
        else:
            segment, start = self._place_tiles(numbers)
        segments = self.corpus.segments
        length = np.minimum(self.length, segments.end[segment] - segments.start[segment])
        strand = (drawn[:, 3] < 0.5).astype(np.int64) if self.drawing.strand == "random" else np.zeros_like(start)
        contig = segments.contig[segment].astype(np.int64)
        windows = Windows(contig, start, start + length, strand, np.full_like(start, REFERENCE), length, segment)
        for place in np.flatnonzero(self._has_haplotypes[contig]).tolist():
            self._choose_haplotype(windows, place, float(drawn[place, 4]))
        return windows

    def _fill(self, windows: Windows, letters: np.ndarray) -> None:
        """Read windows of one length."""
        self.corpus.fill(windows.contig, windows.start, letters)
        for place in np.flatnonzero(windows.haplotype >= 0).tolist():
            window = windows.get(place)
            if has_edits(self.corpus, window):  # Most windows of a haplotype are as the reference has them.
                letters[place] = read_window(self.corpus, window._replace(strand=0))

    def _find_unknown(self, letters: np.ndarray) -> np.ndarray:
        """Rows with too many N."""
        if self.drawing.max_n >= 1:
            return np.empty(0, dtype=np.int64)
        limit = int(self.drawing.max_n * letters.shape[1])
        unknown = (letters | 32) == ord("n")
        if np.count_nonzero(unknown) <= limit:
            return np.empty(0, dtype=np.int64)
        return np.flatnonzero(np.count_nonzero(unknown, axis=1) > limit)

    def _refuse_unknown(self, number: int) -> None:
        raise InputError(
            f"{self.corpus.folder}: window {number}: {REDRAWS} windows of {self.length:,} bp, drawn one after the "
            f"other, have more than {self.drawing.max_n:.0%} N. Allow more with max_n, or build the corpus with a "
            "smaller max_n_run"
        )

    # ------------------------------------------------------------ anywhere

    def _weigh_anchors(self, usable: np.ndarray, lengths: np.ndarray) -> None:
        """Sum up the weights of anchors, so that one number finds one of them."""
        corpus, anchors = self.corpus, self.corpus.anchors
        names = [one["name"] for one in corpus.facts["species"]]
        number = {name: index for index, name in enumerate(names)}
        species = np.array([number[one.species] for one in corpus.contigs], dtype=np.int64)
        of_segments = species[corpus.segments.contig]
        bases = np.bincount(of_segments[usable], weights=lengths[usable], minlength=len(names))
        masses = np.where(usable[anchors.segment], anchors.weight.astype(np.float64) * (anchors.end - anchors.start), 0)
        of_anchors = of_segments[anchors.segment]
        totals = np.bincount(of_anchors, weights=masses, minlength=len(names))
        # A genome whose anchors all have weight 0 is never drawn.
        known = {name: int(bases[index]) if totals[index] else 0 for name, index in number.items()}
        shares = weigh_species(corpus.facts, known, self.drawing.groups)
        self.shares = {name: share for name, share in shares.items() if share}
        factors = np.array([shares[name] / totals[index] if totals[index] else 0 for name, index in number.items()])
        self._sums = np.cumsum(masses * factors[of_anchors])

    def _place_randomly(self, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        anchors, segments = self.corpus.anchors, self.corpus.segments
        found = np.searchsorted(self._sums, drawn[:, 0] * self._sums[-1], side="right")
        found = np.minimum(found, len(self._sums) - 1)
        segment = anchors.segment[found].astype(np.int64)
        base = anchors.start[found] + (drawn[:, 1] * (anchors.end[found] - anchors.start[found])).astype(np.int64)
        first, last = segments.start[segment], segments.end[segment]
        start = base - (drawn[:, 2] * self.length).astype(np.int64)
        return segment, np.maximum(np.minimum(start, last - self.length), first)

    # ------------------------------------------------------------ tile by tile

    def _cut_tiles(self, usable: np.ndarray, lengths: np.ndarray) -> None:
        """Count the tiles of each segment; the last one ends with it."""
        anchors = self.corpus.anchors
        mine = np.isin(anchors.segment, usable)
        whole = int((anchors.end - anchors.start)[mine].sum()) == int(lengths[usable].sum())
        if not whole or len(np.unique(anchors.weight[mine])) > 1:
            raise InputError(
                f"{self.corpus.folder}: covering reads every base equally often, but the corpus was built with rules "
                "of what its windows are drawn by (near_genes, gene_centred or soft_masked_weight): choose order random"
            )
        self._stride = self.drawing.stride or self.length
        free = lengths[usable] - self.length
        counts = -(-free // self._stride) + 1
        self._tiled, self._free = usable, free
        self._slack = (counts - 1) * self._stride - free
        self._tiles = np.cumsum(counts)
        self.epoch = int(self._tiles[-1])

    def _epochs_of(self, numbers: np.ndarray) -> np.ndarray:
        return numbers // self.epoch

    def _place_tiles(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        epochs, places = np.divmod(numbers, self._tiles[-1])
        tiles = np.empty_like(places)
        for epoch in np.unique(epochs).tolist():
            chosen = epochs == epoch
            tiles[chosen] = Permutation(self._seed, (*self._stream, "tiles", epoch), self._tiles[-1])(places[chosen])
        return self._find_tiles(epochs, tiles)

    def _find_tiles(self, epochs: np.ndarray, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return segment and start of tiles of an epoch: all are shifted by what the last one overlaps, or less."""
        index = np.searchsorted(self._tiles, tiles, side="right")
        within = tiles - np.where(index > 0, self._tiles[index - 1], 0)
        drawn = np.empty(len(tiles))
        for epoch in np.unique(epochs).tolist():
            chosen = epochs == epoch
            stream = (*self._stream, "shift", epoch)
            drawn[chosen] = draw_uniform(self._seed, stream, index[chosen], 1)[:, 0]
        shift = (drawn * (self._slack[index] + 1)).astype(np.int64)
        start = np.clip(within * self._stride - shift, 0, self._free[index])
        segment = self._tiled[index]
        return segment, self.corpus.segments.start[segment] + start

    # ------------------------------------------------------------ haplotypes

    def _list_haplotypes(self) -> dict[str, np.ndarray]:
        """The haplotypes of each species: those with a variant on one of its records."""
        corpus, found = self.corpus, dict[str, np.ndarray]()
        self._has_haplotypes = np.zeros(len(corpus.contigs), dtype=bool)
        table = corpus.haplotypes
        if table is None or not len(table.haplotype) or self.drawing.haplotype_share == 0:
            return found
        numbers: dict[str, set[int]] = {}
        for haplotype in range(len(corpus.facts["haplotypes"])):
            for contig in corpus.list_varied(haplotype):
                numbers.setdefault(corpus.contigs[contig].species, set()).add(haplotype)
        for contig, one in enumerate(corpus.contigs):
            self._has_haplotypes[contig] = one.species in numbers
        return {species: np.array(sorted(some)) for species, some in numbers.items()}

    def _choose_haplotype(self, windows: Windows, place: int, drawn: float) -> None:
        """Draw a haplotype or the reference, and make room for as many letters of it."""
        choices = self._choices[self.corpus.contigs[int(windows.contig[place])].species]
        share = self.drawing.haplotype_share
        share = len(choices) / (len(choices) + 1) if share is None else share
        if drawn >= share:
            return
        haplotype = int(choices[int(drawn / share * len(choices))])
        segment = int(windows.segment[place])
        bounds = int(self.corpus.segments.start[segment]), int(self.corpus.segments.end[segment])
        one = windows.get(place)
        fitted = fit_haplotype(self.corpus, one._replace(haplotype=haplotype), bounds)
        if fitted is not None:
            windows.start[place], windows.end[place] = fitted.start, fitted.end
            windows.haplotype[place], windows.length[place] = haplotype, fitted.length


def find_split(split: str) -> int:
    """Return the number of a split in the table of segments.

    Raises:
        `InputError`: another name.
    """
    if split not in SPLITS:
        raise InputError(f"split={split!r}: choose {', '.join(SPLITS)}")
    return SPLITS.index(split)


def tile(corpus: Corpus, split: str, length: int, stride: int | None = None, keep_rest: bool = False) -> Windows:
    """Return windows that cover a split in its own order, forward, of the reference: for evaluation.

    Args:
        corpus: of `open_corpus`.
        split: `train`, `validation` or `test`.
        length: bp of a window.
        stride: bp from one to the next; None: `length`, so that no base is in two of them.
        keep_rest: whether what is left at the end of a segment is a shorter window.

    Raises:
        `InputError`: another split, or no window.
    """
    segments, step = corpus.segments, stride or length
    rows = np.flatnonzero(segments.split == find_split(split))
    lengths = (segments.end - segments.start)[rows]
    counts = -(-lengths // step) if keep_rest else np.maximum((lengths - length) // step + 1, 0)
    if not counts.sum():
        raise InputError(
            f"{corpus.folder}: the split {split} has no window of {length:,} bp: its longest stretch has "
            f"{int(lengths.max(initial=0)):,} bp"
        )
    segment = np.repeat(rows, counts)
    within = np.arange(len(segment)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = segments.start[segment] + within * step
    end = np.minimum(start + length, segments.end[segment])
    none = np.zeros_like(start)
    return Windows(segments.contig[segment].astype(np.int64), start, end, none, none + REFERENCE, end - start, segment)


__all__ = [
    "REDRAWS",
    "REFERENCE",
    "Drawing",
    "Window",
    "WindowSource",
    "Windows",
    "find_split",
    "locate_letters",
    "read_window",
    "tile",
]
