"""Which table rows each position reads, and with which share: the integers of a memory, made on the GPU.

A *layer* is one set of row reads, for example all k-mers of one size. In layer n the occurrence that ends at e is read
by the positions t with `0 <= t - e - first_lag < life` in e's document, and position t takes `share[n, t]` of each of
its rows. Every form of the memory is a list of layers:

- means over any window (released, paper, centred, none; N, documents, start of the sequence): one layer a size, the
  share is 1 / number of occurrences, and de-duplication shortens lifetimes;
- merged tables: the same layers for positions without a full window, and two more, of share 1, for all others.

Letters: B batch, S positions (T tokens after H of history), N layers, R rows of all tables, L places in the window.
"""

import functools
from dataclasses import dataclass

import torch

from .kmer_index import NUM_LETTERS, KmerWindow, mirror_rows

try:
    import triton
    import triton.language as tl
except ImportError as error:
    raise ImportError("The fused kernels need triton, which comes with PyTorch's CUDA builds for Linux.") from error

FIELDS = tl.constexpr(4)  # of a layer: letters of its k-mers, first lag, L, first entry of its part of the row lookup
BLOCK = 256  # positions a program: integers only, so any size that fills a warp or more does


@dataclass(frozen=True)
class RowReads:
    """
    What the kernels of `triton_rows` read: a function of the letters, the same for every memory of a model.

    Args:
        layers (`torch.Tensor` int32 [N, 4]): letters of the k-mers, first lag, L, offset in the row lookup.
        rows (`torch.Tensor` int32 [N, B, S]): row of the occurrence that ends at each position, -1 if there is none.
        life (`torch.Tensor` int32 [N, B, S]): number of lags for which it counts, 0 to L.
        share (`torch.Tensor` float32 [N, B, S]): factor of the rows that a position reads, 0 if it reads none.
        documents (`torch.Tensor` int64 [B, S] or `None`)
        bounds (`tuple[int, ...]`): layer n reads rows `bounds[n]` to `bounds[n + 1] - 1`.
        history (`int`): H, positions at the front that are read from but do not read.
    """

    layers: torch.Tensor
    rows: torch.Tensor
    life: torch.Tensor
    share: torch.Tensor
    documents: torch.Tensor | None
    bounds: tuple[int, ...]
    history: int


@dataclass(frozen=True)
class RowLayout:
    """
    Which row each k-mer has, for every layer.

    Args:
        layers (`torch.Tensor` int32 [N, 4]): as in `RowReads`.
        lookup (`torch.Tensor` int32): row of each k-mer, layer after layer, -1 for k-mers without a row.
        bounds (`tuple[int, ...]`): as in `RowReads`.
        merged (`int`): how many layers, the last ones, serve the full windows; the others serve the rest.
    """

    layers: torch.Tensor
    lookup: torch.Tensor
    bounds: tuple[int, ...]
    merged: int


@functools.lru_cache(maxsize=64)
def lay_out_tables(window: KmerWindow, device: torch.device) -> RowLayout:
    """The layers of a memory's own tables, one a size, rows counted through all tables. Kept for each window."""
    layers, lookup, bounds, entries = [], [], [0], 0
    for k in window.kmer_sizes:
        layers.append([k, 0 if window.size is None else window.first_lag, window.places(k), entries])
        rows = mirror_rows(k) if window.tie_reverse_complement else torch.arange(NUM_LETTERS**k)
        lookup.append(rows + bounds[-1])
        bounds.append(bounds[-1] + NUM_LETTERS**k)
        entries += len(rows)
    return RowLayout(
        torch.tensor(layers, dtype=torch.int32, device=device),
        torch.cat(lookup).to(device, torch.int32),
        tuple(bounds),
        merged=0,
    )


def find_reads(
    layout: RowLayout,
    letters: torch.Tensor,
    window: KmerWindow,
    documents: torch.Tensor | None = None,
    history: int = 0,
) -> RowReads:
    """
    Rows, lifetimes and shares of every layer, in three launches of integer work: N (B S) (k + 3 L) loads.

    Args:
        layout (`RowLayout`), letters (`torch.Tensor` int64 [B, S]), window (`KmerWindow`).
        documents (`torch.Tensor` int64 [B, S], *optional*), history (`int`): H.

    Returns:
        `RowReads`.
    """
    rows = look_up_rows(layout.layers, layout.lookup, letters, documents)
    N, B, S = rows.shape
    life, share = torch.empty_like(rows), torch.empty(rows.shape, device=rows.device)
    grid = (triton.cdiv(S, BLOCK), B, N)
    cut = documents is not None
    documents = documents.contiguous() if cut else None
    _measure_lives[grid](rows, documents, layout.layers, life, B, S, window.deduplicate, cut, BLOCK)
    _measure_shares[grid](life, documents, layout.layers, share, N, B, S, layout.merged, cut, BLOCK)
    return RowReads(layout.layers, rows, life, share, documents, layout.bounds, history)


def look_up_rows(
    layers: torch.Tensor, lookup: torch.Tensor, letters: torch.Tensor, documents: torch.Tensor | None = None
) -> torch.Tensor:
    """Row of the k-mer that ends at each position, for every layer: int32 [N, B, S], -1 where there is none."""
    B, S = letters.shape
    rows = torch.empty(len(layers), B, S, dtype=torch.int32, device=letters.device)
    grid = (triton.cdiv(S, BLOCK), B, len(layers))
    cut = documents is not None
    documents = documents.contiguous() if cut else None
    _look_up_rows[grid](letters.contiguous(), documents, layers, lookup, rows, B, S, cut, BLOCK)
    return rows


def sort_reads(reads: RowReads) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """
    The occurrences that somebody reads, grouped by row: what a gradient of the tables sums over, in a fixed order.

    Returns:
        keys (int32 [N, B, S]): the row, or R for an occurrence that nobody reads.
        order (int64 [N * B * S]): occurrences, flat, by row and within a row from the first to the last.
        offsets (int64 [R + 1]): the occurrences of row r are `order[offsets[r]:offsets[r + 1]]`.
    """
    N, B, S = reads.rows.shape
    num_rows = reads.bounds[-1]
    keys = torch.empty_like(reads.rows)
    grid = (triton.cdiv(S, BLOCK), B, N)
    cut = reads.documents is not None
    _mark_unread[grid](
        reads.rows, reads.life, reads.share, reads.documents, reads.layers, keys,
        B, S, reads.history, num_rows, cut, BLOCK,
    )  # fmt: skip
    in_order, order = keys.view(-1).sort(stable=True)
    wanted = torch.arange(num_rows + 1, dtype=torch.int32, device=keys.device)
    return keys, order, torch.searchsorted(in_order, wanted)


# Every kernel below: one program for BLOCK positions of one sequence in one layer. CUT: documents count; without, the
# pointer `documents` is None. Positions are int32 (S < 2**31), offsets of planes int64.


@triton.jit
def _look_up_rows(letters, documents, layers, lookup, rows, B, S, CUT: tl.constexpr, BLOCK: tl.constexpr):
    """Base-5 number of the k letters that end at e, leftmost most significant, then its row."""
    e = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    b = tl.program_id(1).to(tl.int64)
    n = tl.program_id(2)
    k = tl.load(layers + n * FIELDS)
    entry = tl.load(layers + n * FIELDS + 3)
    valid = e < S
    if CUT:
        document = tl.load(documents + b * S + e, mask=e < S, other=0)
    number = tl.zeros([BLOCK], tl.int32)
    for place in range(k):
        at = e - (k - 1 - place)
        exists = (at >= 0) & (at < S)
        letter = tl.load(letters + b * S + at, mask=exists, other=-1).to(tl.int32)
        valid = valid & (letter >= 0)
        if CUT:
            valid = valid & (tl.load(documents + b * S + at, mask=exists, other=0) == document)
        number = number * 5 + letter
    row = tl.load(lookup + entry + number, mask=valid, other=-1)
    tl.store(rows + (n * B + b) * S + e, row, mask=e < S)


@triton.jit
def _measure_lives(
    rows, documents, layers, life, B, S, DEDUPLICATE: tl.constexpr, CUT: tl.constexpr, BLOCK: tl.constexpr
):
    """L lags for every occurrence; with de-duplication, only until the next copy."""
    e = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    b = tl.program_id(1).to(tl.int64)
    n = tl.program_id(2)
    plane = (n * B + b) * S
    places = tl.load(layers + n * FIELDS + 2)
    row = tl.load(rows + plane + e, mask=e < S, other=-1)
    left = tl.where(row >= 0, places, 0)
    if DEDUPLICATE:
        if CUT:
            document = tl.load(documents + b * S + e, mask=e < S, other=0)
        for gap in range(1, places):
            exists = e + gap < S
            copy = (tl.load(rows + plane + e + gap, mask=exists, other=-1) == row) & (left > gap)
            if CUT:
                copy = copy & (tl.load(documents + b * S + e + gap, mask=exists, other=0) == document)
            left = tl.where(copy, gap, left)
    tl.store(life + plane + e, left, mask=e < S)


@triton.jit
def _count_reads(life, documents, layers, n, b, t, B, S, CUT: tl.constexpr, BLOCK: tl.constexpr):
    """Number of occurrences of layer n that count at the positions t: int32 [BLOCK]."""
    first = tl.load(layers + n * FIELDS + 1)
    places = tl.load(layers + n * FIELDS + 2)
    if CUT:
        document = tl.load(documents + b * S + t, mask=t < S, other=0)
    count = tl.zeros([BLOCK], tl.int32)
    for lag in range(places):
        e = t - first - lag
        exists = (e >= 0) & (e < S) & (t < S)
        counts = tl.load(life + (n * B + b) * S + e, mask=exists, other=0) > lag
        if CUT:
            counts = counts & (tl.load(documents + b * S + e, mask=exists, other=0) == document)
        count += counts.to(tl.int32)
    return count


@triton.jit
def _measure_shares(
    life, documents, layers, share, N, B, S, MERGED: tl.constexpr, CUT: tl.constexpr, BLOCK: tl.constexpr
):
    """1 / count; in the last MERGED layers 1 where the window is full, and there 0 in all others."""
    t = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    b = tl.program_id(1).to(tl.int64)
    n = tl.program_id(2)
    count = _count_reads(life, documents, layers, n, b, t, B, S, CUT, BLOCK)
    part = tl.where(count > 0, 1.0 / tl.maximum(count, 1).to(tl.float32), 0.0)
    if MERGED:
        # The window is full exactly if the largest k-mer occurs, with a row, at all of its places.
        near = N - MERGED
        places = tl.load(layers + near * FIELDS + 2)
        full = _count_reads(life, documents, layers, near, b, t, B, S, CUT, BLOCK) == places
        part = tl.where(n >= near, full.to(tl.float32), tl.where(full, 0.0, part))
    tl.store(share + (n * B + b) * S + t, part, mask=t < S)


@triton.jit
def _mark_unread(
    rows, life, share, documents, layers, keys, B, S, history, unread, CUT: tl.constexpr, BLOCK: tl.constexpr
):
    """The row of every occurrence that a position after the history takes a share of, otherwise `unread`."""
    e = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    b = tl.program_id(1).to(tl.int64)
    n = tl.program_id(2)
    plane = (n * B + b) * S
    first = tl.load(layers + n * FIELDS + 1)
    places = tl.load(layers + n * FIELDS + 2)
    left = tl.load(life + plane + e, mask=e < S, other=0)
    if CUT:
        document = tl.load(documents + b * S + e, mask=e < S, other=0)
    read = tl.zeros([BLOCK], tl.int32)
    for lag in range(places):
        t = e + first + lag
        exists = (t >= history) & (t < S) & (lag < left)
        takes = tl.load(share + plane + t, mask=exists, other=0.0) > 0
        if CUT:
            takes = takes & (tl.load(documents + b * S + t, mask=exists, other=0) == document)
        read = read | takes.to(tl.int32)
    row = tl.load(rows + plane + e, mask=e < S, other=-1)
    tl.store(keys + plane + e, tl.where(read > 0, row, unread), mask=e < S)


__all__ = ["RowLayout", "RowReads", "find_reads", "lay_out_tables", "look_up_rows", "sort_reads"]
