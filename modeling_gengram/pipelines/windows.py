"""How is a sequence read that is longer than a model takes? In windows: where they lie, and which bases each is for.

Positions are 0-based and half-open, in bases of the sequence.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch

from gengram.pipelines.feed import Batch, Feeder, OutOfMemoryError, find_feeding
from gengram.progress import track


class Window(NamedTuple):
    """A window, and the bases of it that are kept: those nearer to its middle than to that of a neighbour."""

    start: int
    end: int
    kept_from: int
    kept_to: int


def place_windows(length: int, window: int, stride: int) -> np.ndarray:
    """Cover a sequence with windows.

    Args:
        length: of the sequence, in bp.
        window: bp of a window; a shorter sequence is one.
        stride: bp from the start of one to the next. The last one begins earlier, so that it ends with the sequence.

    Returns:
        `np.ndarray` int64 [windows, 2]: start and end of each, ascending.

    Example:
        >>> place_windows(10, 4, 3).tolist(), place_windows(11, 4, 3).tolist(), place_windows(3, 4, 3).tolist()
        ([[0, 4], [3, 7], [6, 10]], [[0, 4], [3, 7], [6, 10], [7, 11]], [[0, 3]])
    """
    last = max(length - window, 0)
    starts = np.append(np.arange(0, last, stride, dtype=np.int64), last)
    return np.stack([starts, np.minimum(starts + window, length)], axis=1)


def share_bases(begin: int, end: int, window: int, overlap: int, multiple: int = 1) -> list[Window]:
    """Cover a stretch with windows, and give each base to the one in whose middle it is.

    Args:
        begin, end: of the stretch.
        window: bp of a window; a shorter stretch is one, or two where `multiple` asks for it.
        overlap: bp that neighbours share at least.
        multiple: bp of which the length of a window must be a multiple. Of a stretch that is none, the last window
            begins in another frame than the others.
    """
    length = min(window, (end - begin) // multiple * multiple)
    starts = (begin + place_windows(end - begin, length, window - overlap)[:, 0]).tolist()
    cuts = [begin]
    for left, right in pairwise(starts):
        cuts.append((left + length + right) // 2)  # the middle of what two neighbours share
    cuts.append(end)
    return [Window(start, start + length, *kept) for start, kept in zip(starts, pairwise(cuts))]


class WindowReader(NamedTuple):
    """A model that reads texts of one length.

    Attributes:
        make: takes B texts, gives what `finish` needs of them and the inputs of a batch, [B, ...].
        run: takes the inputs on the device, gives a tensor [B, ...] there.
        finish: takes what `make` gave and the result, gives float32 [B, bp, outputs].
        device: where the model is.
    """

    make: Callable[[list[str]], tuple[Any, dict[str, torch.Tensor]]]
    run: Callable[..., torch.Tensor]
    finish: Callable[[Any, np.ndarray], np.ndarray]
    device: torch.device


def stitch_windows(
    reader: WindowReader,
    sequence: str,
    windows: Sequence[Window],
    outputs: int,
    *,
    batch_size: int = 1,
    may_overflow: bool = False,
    progress: str = "",
    advance: Callable[[int], Any] | None = None,
) -> np.ndarray:
    """Read windows and put together what is kept of them; while some are with the model, the next are made.

    Args:
        reader: what reads them.
        sequence: that the windows lie in.
        windows: in any order.
        outputs: numbers a base.
        batch_size: windows that are read together. They have one length: padding would change the numbers near it.
        may_overflow: whether numbers that are not finite are passed on.
        progress: what a bar is called; none without a name.
        advance: is told after each batch how many bases are kept of it.

    Returns:
        `np.ndarray` float32 [bp, outputs]; not a number where no window is kept.

    Raises:
        `OverflowError`: a number is not finite.
        `ValueError`: a window is too large for the device's memory.
    """
    found = np.full((len(sequence), outputs), np.nan, dtype=np.float32)
    order = sorted(windows, key=lambda window: (window.end - window.start, window.start))
    feed = Feeder(reader.run, find_feeding(reader.device))
    try:
        with (
            track(total=len(order), desc=progress, disable=not progress) as bar,
            closing(feed(_cut(reader, sequence, order, batch_size))) as results,
        ):
            for (batch, made), result in results:
                for window, rows in zip(batch, reader.finish(made, result)):
                    if not may_overflow and not np.isfinite(rows).all():
                        raise OverflowError(
                            f"the probabilities of the bases {window.start} to {window.end} (counted from 0) are not "
                            "finite: the model's numbers overflow. Load it in float32"
                        )
                    found[window.kept_from : window.kept_to] = rows[
                        window.kept_from - window.start : window.kept_to - window.start
                    ]
                bar.update(len(batch))
                if advance is not None:
                    advance(sum(window.kept_to - window.kept_from for window in batch))
    except OutOfMemoryError as error:
        window = error.key[0][error.row]
        raise ValueError(
            f"the bases {window.start} to {window.end} (counted from 0) do not fit into the memory of the device, in a "
            "batch of their own: take a shorter window, or another device"
        ) from error
    return found


def _cut(
    reader: WindowReader, sequence: str, order: Sequence[Window], batch_size: int
) -> Iterator[Batch[tuple[list[Window], Any]]]:
    for first in range(0, len(order), batch_size):
        some = order[first : first + batch_size]
        for length in dict.fromkeys(window.end - window.start for window in some):
            batch = [window for window in some if window.end - window.start == length]
            made, inputs = reader.make([sequence[window.start : window.end] for window in batch])
            yield Batch((batch, made), inputs)


__all__ = ["Window", "WindowReader", "place_windows", "share_bases", "stitch_windows"]
