"""Which table rows each position reads, and with which share: the integers of a memory, made on the GPU.

A *layer* is one set of row reads. In layer n the occurrence that ends at e is read by the positions t with
`0 <= t - e - first_lag < life` in e's document, and position t takes `share[n, t]` of each of its rows. A window has

- a layer a size, in the order of `kmer_sizes`: means over any window (released, paper, centred, none; N, documents,
  start of the sequence). Row: the k-mer in base 5; share: 1 / number of occurrences. De-duplication shortens lives;
- without de-duplication two *merged* layers more, of which a full window (all its letters A, C, G or T) reads nothing
  else: the largest k-mers, and the (K-1)-mer behind them (none if K = 1). Row: in base 4; share: 1 or 0.

All of it is arithmetic on the letters and a few small numbers (`describe_window`), so nothing is uploaded, looked up or
waited for, and it is the same for every memory of a model: made once a forward pass (`KmerContext.reads`).

For the gradient of the tables one sort serves all sizes. Its key is the largest k-mer, most recent letter first, in
base 6 with 5 for "no letter": the occurrences of every k-mer of every size then lie side by side, and where those of a
row begin and end is a binary search for numbers that follow from the row.

Letters: B batch, S positions (T tokens after H of history), N layers, R rows of all layers.
"""

import re

import torch

from .kernel_device import run_beside_tensors
from .kmer_index import NUM_LETTERS, KmerWindow, RowReads

try:
    import triton
    import triton.language as tl
except ImportError as error:
    raise ImportError("The fused kernels need triton, which comes with PyTorch's CUDA builds for Linux.") from error

BLOCK = 256  # positions or rows a program: integers only, so any size that fills a warp or more does

# A copy of this file that travels with a checkpoint registers operators of its own.
NAMESPACE = re.sub(r"\W", "_", __name__)


def describe_window(window: KmerWindow) -> list[int]:
    """A window in numbers, as operators take them: size (0 for none), first lag, the two switches, k-mer sizes."""
    switches = [int(window.deduplicate), int(window.tie_reverse_complement)]
    return [window.size or 0, 0 if window.size is None else window.first_lag, *switches, *window.kmer_sizes]


def count_merged(window: list[int]) -> int:
    """Number of merged layers of a described window: 0, 1 or 2."""
    size, _, deduplicate, _, *sizes = window
    return 0 if size == 0 or deduplicate else min(max(sizes), 2)


def count_rows(window: list[int]) -> tuple[list[int], list[int]]:
    """Rows of each layer of a described window: those of the sizes, and those of the merged layers."""
    sizes = window[4:]
    merged = [4 ** (max(sizes) - shorter) for shorter in range(count_merged(window))]
    return [NUM_LETTERS**k for k in sizes], merged


def layer_constants(window: list[int]) -> dict[str, int]:
    """
    The constants by which kernels know a described window's layers (`describe_layer`).

    Returns:
        SIZES: letters of each layer's k-mers, four bits each; PLAIN: layers that are not merged; WINDOW, FIRST: size (0
        for none) and first lag.
    """
    size, first_lag, _, _, *sizes = window
    largest = max(sizes)
    letters = [*sizes, *(largest - shorter for shorter in range(count_merged(window)))]
    return {
        "SIZES": sum(k << 4 * n for n, k in enumerate(letters)),
        "PLAIN": len(sizes),
        "WINDOW": size,
        "FIRST": first_lag,
    }


def find_reads(
    letters: torch.Tensor, window: KmerWindow, documents: torch.Tensor | None = None, gradient: bool = False
) -> RowReads:
    """
    Rows, lives and shares of every layer.

    Two launches of integer work (three with de-duplication); for gradients a sort and one launch more.

    Args:
        letters (`torch.Tensor` int64 [B, S]), window (`KmerWindow`), documents (`torch.Tensor` int64 [B, S],
        *optional*).
        gradient (`bool`): also what the gradients of tables need.

    Returns:
        `RowReads`.
    """
    if documents is not None:
        documents = documents.contiguous()
    rows, lives, shares, *sorting = _find_reads(letters, documents, describe_window(window), gradient)
    order, ranges = sorting or (None, None)
    return RowReads(rows, lives, shares, documents, order, ranges)


@torch.library.custom_op(f"{NAMESPACE}::find_reads", mutates_args=())
@run_beside_tensors
def _find_reads(
    letters: torch.Tensor, documents: torch.Tensor | None, window: list[int], gradient: bool
) -> list[torch.Tensor]:
    B, S = letters.shape
    letters = letters.contiguous()
    rows, lives, shares, *sorting = _make_empty(letters, window, gradient)
    N, constants = len(rows), layer_constants(window)
    _, _, deduplicate, tie, *sizes = window
    cut, largest = documents is not None, max(sizes)
    keys = torch.empty(B * S, dtype=torch.int32, device=letters.device) if gradient else None
    blocks = B * triton.cdiv(S, BLOCK)
    _find_rows_kernel[(blocks, N + gradient)](
        letters, documents, rows, lives, keys, B, S,
        LAYERS=N, LARGEST=largest, TIE=bool(tie), CUT=cut, KEYS=gradient, BLOCK=BLOCK, **constants,
    )  # fmt: skip
    if deduplicate:
        _shorten_lives_kernel[(blocks, N)](rows, documents, lives, B, S, CUT=cut, BLOCK=BLOCK, **constants)
    _measure_shares_kernel[(blocks, N)](lives, documents, shares, B, S, CUT=cut, BLOCK=BLOCK, **constants)
    if not gradient:
        return [rows, lives, shares]
    in_order, order = keys.sort(stable=True)
    ranges = sorting[1]
    _find_ranges_kernel[(triton.cdiv(ranges.shape[2], BLOCK), len(ranges))](
        in_order, ranges, B * S, (B * S).bit_length(), ranges.shape[2],
        LAYERS=N, LARGEST=largest, BLOCK=BLOCK, **constants,
    )  # fmt: skip
    return [rows, lives, shares, order, ranges]


@_find_reads.register_fake
def _(letters, documents, window, gradient):
    rows, lives, shares, *sorting = _make_empty(letters, window, gradient)
    if gradient:
        sorting[0] = letters.new_empty(letters.shape[0] * letters.shape[1])
    return [rows, lives, shares, *sorting]


def _make_empty(letters: torch.Tensor, window: list[int], gradient: bool) -> list:
    """Outputs of the operator; the order, which the sort makes, is left out."""
    plain, merged = count_rows(window)
    shape = len(plain) + len(merged), *letters.shape
    rows, lives = (letters.new_empty(shape, dtype=torch.int32) for _ in range(2))
    shares = letters.new_empty(shape, dtype=torch.float32)
    if not gradient:
        return [rows, lives, shares]
    ranges = letters.new_empty(1 + window[3], 2, sum(plain) + sum(merged), dtype=torch.int32)
    return [rows, lives, shares, None, ranges]


# Kernels below: one program for BLOCK positions of one sequence in one layer. CUT: documents count; without, the
# pointer `documents` is None. Positions are int32 (S < 2**31), offsets of planes int64. An integer argument may be a
# constant (if it is 1) or 64 bits wide, so that none has methods called or its width taken for granted.


@triton.jit
def describe_layer(n, SIZES: tl.constexpr, PLAIN: tl.constexpr, WINDOW: tl.constexpr, FIRST: tl.constexpr):
    """Letters of layer n's k-mers, its first lag, how many lags an occurrence counts at most, and the rows' base."""
    k = tl.cast((tl.cast(SIZES, tl.int64) >> (n * 4)) & 15, tl.int32)
    is_far = n > PLAIN
    if WINDOW == 0:
        first = k * 0
        places = first + 1
    else:
        first = tl.where(is_far, FIRST + WINDOW - k, FIRST)  # behind the largest k-mers, one letter longer
        places = tl.where(is_far, 1, WINDOW - k + 1)
    return k, first, places, tl.where(n < PLAIN, 5, 4)


@triton.jit
def raise_power(base, exponent):
    """base ** exponent: int32."""
    power = tl.cast(base, tl.int32) * 0 + 1
    for _ in range(exponent):
        power = power * base
    return power


@triton.jit
def _find_block(S, BLOCK: tl.constexpr):
    """Positions and sequence of a program: along one axis, as the others have no more than 65,535 programs."""
    blocks = tl.cdiv(S, BLOCK)
    place = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    return place, tl.cast(tl.program_id(0) // blocks, tl.int64)


@triton.jit
def _find_rows_kernel(
    letters, documents, rows, lives, keys, B, S,
    SIZES: tl.constexpr, PLAIN: tl.constexpr, WINDOW: tl.constexpr, FIRST: tl.constexpr,
    LAYERS: tl.constexpr, LARGEST: tl.constexpr, TIE: tl.constexpr, CUT: tl.constexpr, KEYS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Number of the k letters that end at e, its row, and L lags for it; in layer LAYERS the sort key instead."""
    e, b = _find_block(S, BLOCK)
    n = tl.program_id(1)
    exists = e < S
    document = tl.zeros([BLOCK], tl.int64)
    if CUT:
        document = tl.load(documents + b * S + e, mask=exists, other=0)
    valid = exists
    if KEYS:  # noqa: SIM102 - by itself, so that the rest is compiled only then
        if n == LAYERS:
            key = tl.zeros([BLOCK], tl.int32)
            for back in range(LARGEST):
                inside = exists & (e >= back)
                letter = tl.load(letters + b * S + e - back, mask=inside, other=-1).to(tl.int32)
                valid = valid & (letter >= 0)
                if CUT:
                    valid = valid & (tl.load(documents + b * S + e - back, mask=inside, other=0) == document)
                key = key * 6 + tl.where(valid, letter, 5)
            tl.store(keys + b * S + e, key, mask=exists)
    if n < LAYERS:
        k, _, places, base = describe_layer(n, SIZES, PLAIN, WINDOW, FIRST)
        number = tl.zeros([BLOCK], tl.int32)
        mirrored = tl.zeros([BLOCK], tl.int32)
        weight = base * 0 + 1
        for back in range(k):
            inside = exists & (e >= back)
            letter = tl.load(letters + b * S + e - back, mask=inside, other=-1).to(tl.int32)
            valid = valid & (letter >= 0) & (letter < base)
            if CUT:
                valid = valid & (tl.load(documents + b * S + e - back, mask=inside, other=0) == document)
            number += letter * weight
            mirrored = mirrored * base + tl.where(letter < 4, 3 - letter, letter)
            weight = weight * base
        if TIE:
            number = tl.where(n < PLAIN, tl.minimum(number, mirrored), number)
        plane = (n * B + b) * S
        tl.store(rows + plane + e, tl.where(valid, number, -1), mask=exists)
        tl.store(lives + plane + e, tl.where(valid, places, 0), mask=exists)


@triton.jit
def _shorten_lives_kernel(
    rows, documents, lives, B, S,
    SIZES: tl.constexpr, PLAIN: tl.constexpr, WINDOW: tl.constexpr, FIRST: tl.constexpr,
    CUT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """An occurrence counts until the next copy of its k-mer."""
    e, b = _find_block(S, BLOCK)
    n = tl.program_id(1)
    plane = (n * B + b) * S
    _, _, places, _ = describe_layer(n, SIZES, PLAIN, WINDOW, FIRST)
    row = tl.load(rows + plane + e, mask=e < S, other=-1)
    left = tl.where(row >= 0, places, 0)
    document = tl.zeros([BLOCK], tl.int64)
    if CUT:
        document = tl.load(documents + b * S + e, mask=e < S, other=0)
    for gap in range(1, places):
        exists = e + gap < S
        copy = (tl.load(rows + plane + e + gap, mask=exists, other=-1) == row) & (left > gap)
        if CUT:
            copy = copy & (tl.load(documents + b * S + e + gap, mask=exists, other=0) == document)
        left = tl.where(copy, gap, left)
    tl.store(lives + plane + e, left, mask=e < S)


@triton.jit
def _measure_shares_kernel(
    lives, documents, shares, B, S,
    SIZES: tl.constexpr, PLAIN: tl.constexpr, WINDOW: tl.constexpr, FIRST: tl.constexpr,
    CUT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """1 / number of occurrences that count; of merged layers 1 where the window is full, otherwise 0."""
    t, b = _find_block(S, BLOCK)
    n = tl.program_id(1)
    # A window is full exactly if a largest k-mer without N occurs at all of its places.
    counted = tl.minimum(n, PLAIN)
    plane = (counted * B + b) * S
    _, first, places, _ = describe_layer(counted, SIZES, PLAIN, WINDOW, FIRST)
    document = tl.zeros([BLOCK], tl.int64)
    if CUT:
        document = tl.load(documents + b * S + t, mask=t < S, other=0)
    count = tl.zeros([BLOCK], tl.int32)
    for lag in range(places):
        e = t - first - lag
        exists = (e >= 0) & (e < S) & (t < S)
        counts = tl.load(lives + plane + e, mask=exists, other=0) > lag
        if CUT:
            counts = counts & (tl.load(documents + b * S + e, mask=exists, other=0) == document)
        count += counts.to(tl.int32)
    mean = tl.where(count > 0, 1.0 / tl.maximum(count, 1).to(tl.float32), 0.0)
    share = tl.where(n < PLAIN, mean, (count == places).to(tl.float32))
    tl.store(shares + (n * B + b) * S + t, share, mask=t < S)


@triton.jit
def _find_ranges_kernel(
    in_order, ranges, count, steps, R,
    SIZES: tl.constexpr, PLAIN: tl.constexpr, WINDOW: tl.constexpr, FIRST: tl.constexpr,
    LAYERS: tl.constexpr, LARGEST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """
    Where the occurrences of each row begin and end in the order of their keys, for BLOCK rows: those of its own k-mer
    (plane 0) or, of tied tables, those of its reverse complement (plane 1). A row that no k-mer has gets none.
    """
    r = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    side = tl.program_id(1)
    local = r * 0
    k = r * 0
    base = r * 0 + 5
    is_plain = r < 0
    before = side * 0  # rows of earlier layers
    for n in range(LAYERS):
        letters, _, _, its_base = describe_layer(n, SIZES, PLAIN, WINDOW, FIRST)
        rows = raise_power(its_base, letters)
        here = (r >= before) & (r < before + rows)
        local = tl.where(here, r - before, local)
        k = tl.where(here, letters, k)
        base = tl.where(here, its_base, base)
        is_plain = tl.where(here, n < PLAIN, is_plain)
        before += rows
    rest = local
    mirrored = r * 0
    for place in range(LARGEST):
        digit = rest % base
        rest = rest // base
        mirrored = tl.where(place < k, mirrored * base + tl.where(digit < 4, 3 - digit, digit), mirrored)
    is_tied = (tl.num_programs(1) == 2) & is_plain
    none = is_tied & (local > mirrored)
    if side == 1:
        none = none | (local == mirrored) | (is_plain == 0)
    rest = tl.where(side == 1, mirrored, local)
    key = r * 0
    width = r * 0 + 1
    for place in range(LARGEST):
        digit = rest % base
        rest = rest // base
        key = key * 6 + tl.where(place < k, digit, 0)
        width = tl.where(place < k, width, width * 6)
    begin = _search(in_order, key, count, steps)
    end = _search(in_order, key + width, count, steps)
    tl.store(ranges + side * 2 * R + r, begin, mask=r < R)
    tl.store(ranges + (side * 2 + 1) * R + r, tl.where(none, begin, end), mask=r < R)


@triton.jit
def _search(in_order, wanted, count, steps):
    """Numbers of an ascending list that are less than those wanted."""
    low = wanted * 0
    high = low + tl.cast(count, tl.int32)
    for _ in range(steps):
        middle = low + (high - low) // 2
        searching = low < high
        less = tl.load(in_order + middle, mask=searching, other=0) < wanted
        low = tl.where(searching & less, middle + 1, low)
        high = tl.where(searching & (less == 0), middle, high)
    return low


__all__ = [
    "count_merged",
    "count_rows",
    "describe_layer",
    "describe_window",
    "find_reads",
    "layer_constants",
    "raise_power",
]
