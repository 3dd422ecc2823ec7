"""Which tokens does the b-th block have? Windows of a corpus as ids, all blocks equally long, nothing padded.

A block is a function of its number: workers, processes and batches change nothing, and going on is a matter of the next
number alone.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info
from transformers import PreTrainedTokenizerBase

from gengram.errors import InputError
from gengram.training.corpus.reading import Window, locate_letters, read_window, turn
from gengram.training.corpus.store import Corpus
from gengram.training.corpus.tokens import LetterEncoder
from gengram.training.corpus.windows import REDRAWS, Drawing, WindowSource

NOWHERE = -1
"""Document and offsets of a token that stands for no letter, as special tokens do."""
_DOCUMENTS = 1 << 20  # numbers of windows that a packed block has for its documents
_TOGETHER = 1 << 18  # letters that are read at a time: they stay in the processor's cache
_MEASURED = 32  # windows that tell how many letters a token has


class LocatedBlock(NamedTuple):
    """Where the tokens of a block are from.

    Attributes:
        windows: of its documents; one, where blocks are not packed. Their last letters may be behind the block's end.
        document: int32 [T], the window of each token; -1: it stands for no letter.
        letters: int64 [T, 2], the first of a token's letters in `read_window` of its window, and the one after its
            last; -1 where it has none.
    """

    windows: list[Window]
    document: np.ndarray
    letters: np.ndarray

    def find_places(self, corpus: Corpus) -> np.ndarray:
        """Return the interval of each token in bp of its record, int64 [T, 2]; -1 where there is none."""
        places = np.full((len(self.document), 2), NOWHERE)
        for number, window in enumerate(self.windows):
            where = locate_letters(corpus, window)
            tokens = np.flatnonzero(self.document == number)
            for token in tokens.tolist():
                found = where[slice(*self.letters[token])]
                if (found := found[found >= 0]).size:
                    places[token] = found.min(), found.max() + 1
        return places


class Blocks(Dataset):
    """Blocks of tokens from a corpus, map-style: `blocks[b]`, and whole batches at once for a `DataLoader`.

    A block is one window, with the special tokens that the tokenizer puts around a sequence; or, packed, as many
    documents as it takes, each with its special tokens and with `position_ids` that begin at 0, the last one cut at the
    block's end. Tokens of several letters are cut from windows that are long enough; one that is not is made longer as
    far as its segment goes, else drawn again.

    Args:
        corpus: of `open_corpus`.
        tokenizer: any of transformers; single bases are fastest.
        block_size: tokens of a block, special ones included.
        count: how many blocks there are; a run takes them in order.
        drawing: of the windows. Its `length` is for packed blocks, the longest document in bp; else a block says it.
        seed: of the run.
        stage: of the run: other stages have other windows.
        split: `train`, `validation` or `test`.
        packed: whether documents are packed, short segments whole.

    Attributes:
        source: of the windows.

    Raises:
        `InputError`: a block longer than every segment, or too short for a letter; what does not go together.

    Example:
        >>> blocks = Blocks(corpus, build_nucleotide_tokenizer(), block_size=8192, count=1000)  # doctest: +SKIP
        >>> blocks[0]["input_ids"].shape  # doctest: +SKIP
        torch.Size([8192])
    """

    def __init__(
        self,
        corpus: Corpus,
        tokenizer: PreTrainedTokenizerBase,
        block_size: int,
        count: int,
        drawing: Drawing | None = None,
        seed: int = 0,
        stage: int = 0,
        split: str = "train",
        packed: bool = False,
    ):
        drawing = drawing or Drawing()
        self.corpus, self.block_size, self.count, self.packed = corpus, block_size, count, packed
        self._encoder = LetterEncoder(tokenizer)
        self._body = block_size - len(self._encoder.before) - len(self._encoder.after)
        if self._body < 1:
            raise InputError(
                f"blocks of {block_size} tokens leave no room for bases beside {block_size - self._body} special tokens"
            )
        if packed and drawing.order == "covering":
            raise InputError("packed blocks are of random windows: choose order random, or leave packing out")
        if not packed and drawing.length is not None:
            raise InputError("the length of windows is for packed blocks; others are as long as a block: leave it out")
        if not packed and drawing.whole_short:
            raise InputError("whole_short is for packed blocks: a short segment fills no other block")
        self._stream = ("blocks", stage)
        self.source = WindowSource(corpus, self._fit_drawing(drawing, seed, split), seed, split, self._stream)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> dict[str, Any]:
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Return blocks: `input_ids` int64 [T], `block` its number, and packed `position_ids` int64 [T]."""
        places = np.array(numbers, dtype=np.int64)
        if len(places) and (places.min() < 0 or places.max() >= self.count):
            raise IndexError(f"blocks are numbered from 0 to {self.count - 1}")
        columns = {"input_ids": torch.empty(len(places), self.block_size, dtype=torch.int64)}
        if self.packed:
            columns["position_ids"] = torch.empty_like(columns["input_ids"])
            written = [column.numpy() for column in columns.values()]
            for row, number in enumerate(places.tolist()):
                self._write_packed(number, *(column[row] for column in written))
        else:
            step = max(1, _TOGETHER // self.source.length)
            for first in range(0, len(places), step):
                some = slice(first, first + step)
                self._write_windows(places[some], columns["input_ids"][some])
        rows = zip(*(column.unbind() for column in columns.values()))
        return [{**dict(zip(columns, row)), "block": number} for row, number in zip(rows, places.tolist())]

    def locate(self, number: int) -> LocatedBlock:
        """Return where the tokens of a block are from."""
        before = len(self._encoder.before)
        document = np.full(self.block_size, NOWHERE, dtype=np.int32)
        letters = np.full((self.block_size, 2), NOWHERE, dtype=np.int64)
        if self.packed:
            documents = self._pack(number)
        else:
            documents = [self._find_window(number)]
        place = 0
        for index, (window, ids) in enumerate(documents):
            room = max(min(len(ids), (self.block_size if self.packed else before + self._body) - place - before), 0)
            tokens = slice(place + before, place + before + room)
            document[tokens] = index
            letters[tokens] = self._encoder.locate(read_window(self.corpus, window))[:room]
            place += before + len(ids) + len(self._encoder.after)
        return LocatedBlock([window for window, _ in documents], document, letters)

    # ------------------------------------------------------------ one window

    def _write_windows(self, numbers: np.ndarray, ids: torch.Tensor) -> None:
        before, after = self._encoder.before, self._encoder.after
        if len(before) + len(after):
            ids[:, : len(before)] = torch.from_numpy(before)
            ids[:, self.block_size - len(after) :] = torch.from_numpy(after)
        body = ids[:, len(before) : len(before) + self._body]
        windows, letters = self.source.draw_letters(numbers)
        if self._encoder.tables is not None:
            # Torch widens whole batches twice as fast as numpy.
            body.copy_(torch.from_numpy(self._encoder.encode_strands(letters, windows.strand)))
            return
        turned = [turn(letters[row], strand) for row, strand in enumerate(windows.strand.tolist())]
        rows = body.numpy()
        for row, found in enumerate(self._encoder.encode(turned)):
            enough = found if len(found) >= self._body else self._find_longer(int(numbers[row]))[1]
            rows[row] = enough[: self._body]

    def _find_window(self, number: int) -> tuple[Window, np.ndarray]:
        """Return the window of a block and its ids."""
        windows, _ = self.source.draw_letters(np.array([number]))
        ids = self._encoder.encode([read_window(self.corpus, windows.get(0))])[0]
        return (windows.get(0), ids) if len(ids) >= self._body else self._find_longer(number)

    def _find_longer(self, number: int) -> tuple[Window, np.ndarray]:
        """Return a window with enough tokens where the one that was drawn has too few."""
        segments = self.corpus.segments
        for attempt in range(REDRAWS):
            windows, _ = self.source.draw_letters(np.array([number]), attempt)
            window, segment = windows.get(0), int(windows.segment[0])
            first, last = int(segments.start[segment]), int(segments.end[segment])
            while True:
                ids = self._encoder.encode([read_window(self.corpus, window)])[0]
                if len(ids) >= self._body:
                    return window, ids
                if (window.start, window.end) == (first, last):
                    break
                window = _double(window, first, last)
        raise InputError(
            f"{self.corpus.folder}: {REDRAWS} segments, drawn one after the other, have fewer than the {self._body:,} "
            "tokens of a block. Choose shorter blocks, or pack"
        )

    # ------------------------------------------------------------ documents

    def _pack(self, number: int) -> list[tuple[Window, np.ndarray]]:
        """Return the windows of a packed block and the ids of each, without special tokens."""
        around = len(self._encoder.before) + len(self._encoder.after)
        documents: list[tuple[Window, np.ndarray]] = []
        room, done, empty = self.block_size, 0, 0
        while room > 0:
            some = np.arange(done, 2 * done + 1)
            windows = self.source.draw(number * _DOCUMENTS + some)
            done = int(some[-1]) + 1
            pieces = [read_window(self.corpus, windows.get(place)) for place in range(len(some))]
            for place, ids in enumerate(self._encoder.encode(pieces)):
                if room > 0 and len(ids):
                    documents.append((windows.get(place), ids))
                    room -= len(ids) + around
                empty = 0 if len(ids) else empty + 1
            if empty >= REDRAWS:
                raise InputError(f"{self.corpus.folder}: block {number}: {empty} documents in a row have no token")
        return documents

    def _write_packed(self, number: int, ids: np.ndarray, positions: np.ndarray) -> None:
        place = 0
        for _, found in self._pack(number):
            whole = np.concatenate([self._encoder.before, found, self._encoder.after])[: self.block_size - place]
            ids[place : place + len(whole)] = whole
            positions[place : place + len(whole)] = np.arange(len(whole))
            place += len(whole)

    # ------------------------------------------------------------ how long

    def _fit_drawing(self, drawing: Drawing, seed: int, split: str) -> Drawing:
        """Give the drawing the length that a block takes."""
        changes: dict[str, Any] = {"whole_short": True} if self.packed else {}
        if self._encoder.sizes is not None:
            bases, step = self._encoder.sizes
            length = used = (self._body - 1) * step + bases
        else:
            mean, most = self._measure_tokens(drawing, seed, split)
            used, length = max(1, round(self._body * mean)), math.ceil(self._body * most)
        if drawing.order == "covering":
            changes["stride"] = drawing.stride or used
        return dataclasses.replace(drawing, length=drawing.length or length, **changes)

    def _measure_tokens(self, drawing: Drawing, seed: int, split: str) -> tuple[float, float]:
        """The letters of a token in some windows: on average, and in the one that has most of them."""
        plain = Drawing(length=max(64, 4 * self._body), strand=drawing.strand, max_n=drawing.max_n, whole_short=True)
        source = WindowSource(self.corpus, plain, seed, split, (*self._stream, "lengths"))
        windows = source.draw(np.arange(_MEASURED))
        pieces = [read_window(self.corpus, windows.get(place)) for place in range(_MEASURED)]
        letters = np.array(list(map(len, pieces)))
        tokens = np.maximum(list(map(len, self._encoder.encode(pieces))), 1)
        return float(letters.sum() / tokens.sum()), float((letters / tokens).max())


class BlockStream(IterableDataset):
    """The same blocks one after the other, from any on: what it has to remember is the next number.

    Workers of a `DataLoader` share them by chunks: with batches of `chunk` they come in order, whatever their number.

    Args:
        blocks: what is streamed.
        chunk: blocks that are read together.
    """

    def __init__(self, blocks: Blocks, chunk: int = 16):
        self.blocks, self.chunk, self._next = blocks, chunk, 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        share, shares = (worker.id, worker.num_workers) if worker else (0, 1)
        first = self._next
        for start in range(first + share * self.chunk, len(self.blocks), shares * self.chunk):
            for row in self.blocks.__getitems__(range(start, min(start + self.chunk, len(self.blocks)))):
                self._next = row["block"] + 1
                yield row

    def state_dict(self) -> dict[str, int]:
        """Return the number of the next block."""
        return {"next": self._next}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on with the block of this number."""
        self._next = int(state["next"])


def _double(window: Window, first: int, last: int) -> Window:
    """Make a window twice as long, on in the direction that it is read in, at the end of its segment in the other."""
    more = window.end - window.start
    if window.strand:
        start = max(window.start - more, first)
        return window._replace(start=start, end=min(window.end + more - (window.start - start), last), length=None)
    end = min(window.end + more, last)
    return window._replace(start=max(window.start - (more - (end - window.end)), first), end=end, length=None)


__all__ = ["NOWHERE", "BlockStream", "Blocks", "LocatedBlock"]
