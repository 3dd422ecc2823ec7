"""From token ids to k-mers: which table row each k-mer reads, and for which positions it counts.

Letters: B batch, T tokens (one base each), H positions of history that a cache puts in front, K k-mer sizes,
S = H + T positions in all, L = W - k + 1 places that a k-mer has in a window of W bases.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

NUM_LETTERS = 5  # A, C, G, T, N: N is a letter of its own, k-mers with N are learned
INVALID_LETTER = -1
LARGEST_KMER = 11  # of the GPU kernels: 32 bits number the k-mers in base 6; a table of 12-mers has 244 million rows


@dataclass(frozen=True)
class KmerWindow:
    """
    Which k-mers a position sees. A k-mer of size k that ends at e is inside the window of position t if
    `first_lag <= t - e <= first_lag + W - k`.

    Args:
        kmer_sizes (`tuple[int, ...]`): the K sizes k, in bases.
        size (`int` or `None`): W in bases; `None` for the single k-mer that ends at the position.
        first_lag (`int`): 0 for the window `[t-W+1, t]`, 1 for `[t-W, t-1]`, negative for a centred window.
        deduplicate (`bool`): count a k-mer once a window, at its last place.
        tie_reverse_complement (`bool`): a k-mer and its reverse complement are the same k-mer.
    """

    kmer_sizes: tuple[int, ...]
    size: int | None
    first_lag: int
    deduplicate: bool
    tie_reverse_complement: bool

    def places(self, k: int) -> int:
        """L, the number of places of a k-mer in the window."""
        return 1 if self.size is None else self.size - k + 1

    @property
    def history(self) -> int:
        """Letters before a position on which its memory depends."""
        return max(self.kmer_sizes) - 1 if self.size is None else max(self.first_lag + self.size - 1, 0)


@dataclass(frozen=True)
class RowReads:
    """
    Which table rows the GPU kernels read for each position, in N layers (`triton_index` tells which these are): a
    function of the letters, the same for every memory of a model.

    Args:
        rows (`torch.Tensor` int32 [N, B, S]): row, counted in its layer, of the k-mer that ends there; -1 for none.
        lives (`torch.Tensor` int32 [N, B, S]): number of lags for which that occurrence counts.
        shares (`torch.Tensor` float32 [N, B, S]): factor of the rows that a position reads, 0 if it reads none.
        documents (`torch.Tensor` int64 [B, S] or `None`): as in the context.
        order (`torch.Tensor` int64 [B * S], *optional*): occurrences, flat, so that those of each row lie side by side.
        ranges (`torch.Tensor` int32 [1 or 2, 2, R], *optional*): begin and end of the occurrences of each row of all
            layers in `order`; in the second plane of those of its reverse complement, where the two are tied. With
            `order` there if gradients of tables are wanted.
    """

    rows: torch.Tensor
    lives: torch.Tensor
    shares: torch.Tensor
    documents: torch.Tensor | None = None
    order: torch.Tensor | None = None
    ranges: torch.Tensor | None = None

    def tensors(self) -> list[torch.Tensor | None]:
        """All of them, in the order in which operators take them."""
        return [self.rows, self.lives, self.shares, self.documents, self.order, self.ranges]

    def narrow(self, begin: int, end: int) -> "RowReads":
        """Those of the positions `begin` to `end`, as views, for a forward pass."""
        rows, lives, shares = (x[:, :, begin:end] for x in (self.rows, self.lives, self.shares))
        return RowReads(rows, lives, shares, None if self.documents is None else self.documents[:, begin:end])

    def to(self, device, non_blocking: bool = False) -> "RowReads":
        """The same on another device."""
        there = {name: x for name, x in vars(self).items() if x is not None}
        return replace(self, **{name: x.to(device, non_blocking=non_blocking) for name, x in there.items()})


@dataclass(frozen=True)
class KmerContext:
    """
    What the memory layers of one forward pass need to know of the input; made once, read by each of them.

    Args:
        letters (`torch.Tensor` int64 [B, S]): 0..4 for A, C, G, T, N; -1 for everything else, padding included.
        documents (`torch.Tensor` int64 [B, S] or `None`): number of the packed document of each position.
        real (`torch.Tensor` bool [B, T] or `None`): false at padding.
        history (`int`): H, positions at the front of `letters` that are context only.
        state (`MotifMemoryLayer` or `None`): where a cache keeps the gated vectors of earlier positions.
        reads (`RowReads` or `None`): what GPU kernels read, where they run; a memory that needs it makes its own else.
    """

    letters: torch.Tensor
    documents: torch.Tensor | None = None
    real: torch.Tensor | None = None
    history: int = 0
    state: object | None = None
    reads: RowReads | None = None

    def to(self, device, non_blocking: bool = False) -> "KmerContext":
        """The same context on another device (accelerate moves keyword arguments of layers by this method)."""

        def move(tensor):
            return None if tensor is None else tensor.to(device, non_blocking=non_blocking)

        moved = {name: move(getattr(self, name)) for name in ("letters", "documents", "real")}
        return replace(self, **moved, reads=None if self.reads is None else self.reads.to(device, non_blocking))


def find_documents(position_ids: torch.Tensor) -> torch.Tensor:
    """
    Number the packed documents of each row: a new one begins where a position does not follow its left neighbour's
    (transformers' own rule for packed sequences).

    Args:
        position_ids (`torch.Tensor` int64 [B, T]).

    Returns:
        `torch.Tensor` int64 [B, T], 0, 1, ... along each row.
    """
    steps = torch.diff(position_ids, dim=-1, prepend=position_ids[:, :1] - 1)
    return (steps != 1).cumsum(-1)


def shift(x: torch.Tensor, lag: int, fill) -> torch.Tensor:
    """
    The value `lag` positions earlier (later if negative).

    Args:
        x (`torch.Tensor` [B, S]), fill: what stands in for positions that do not exist.

    Returns:
        `torch.Tensor` [B, S].
    """
    S = x.shape[1]
    if lag >= 0:
        return F.pad(x, (lag, 0), value=fill)[:, :S]
    return F.pad(x, (0, -lag), value=fill)[:, -lag:]


def same_document(documents: torch.Tensor | None, lag: int) -> torch.Tensor | bool:
    """Whether the position `lag` earlier belongs to the same document: bool [B, S], or True without documents."""
    return True if documents is None else shift(documents, lag, -1) == documents


def index_kmers(
    letters: torch.Tensor, k: int, documents: torch.Tensor | None = None, tie_reverse_complement: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Table row of the k-mer that ends at each position: base 5, leftmost letter most significant (released code).

    Args:
        letters (`torch.Tensor` int64 [B, S]), k (`int`): size in bases, documents (`torch.Tensor` [B, S], *optional*).
        tie_reverse_complement (`bool`): give the smaller of the rows of the k-mer and of its reverse complement.

    Returns:
        rows (int64 [B, S], 0 where invalid) and valid (bool [B, S]): all k letters exist, are one of A, C, G, T, N
        and belong to one document.
    """
    rows = torch.zeros_like(letters)
    mirrored = torch.zeros_like(letters)
    valid = torch.ones_like(letters, dtype=torch.bool)
    for place in range(k):  # 0: the letter at the position itself
        letter = shift(letters, place, INVALID_LETTER)
        valid = valid & (letter != INVALID_LETTER) & same_document(documents, place)
        rows = rows + letter * NUM_LETTERS**place
        # A, C, G, T = 0..3 pair up to 3; N is its own complement.
        complement = torch.where(letter < 4, 3 - letter, letter)
        mirrored = mirrored + complement * NUM_LETTERS ** (k - 1 - place)
    if tie_reverse_complement:
        rows = torch.minimum(rows, mirrored)
    return rows * valid, valid


def mirror_rows(k: int, device=None) -> torch.Tensor:
    """Row of the smaller of each k-mer and its reverse complement: int64 [5**k]."""
    rows = torch.arange(NUM_LETTERS**k, device=device)
    letters = torch.stack([rows // NUM_LETTERS ** (k - 1 - i) % NUM_LETTERS for i in range(k)], dim=1)
    return index_kmers(letters, k, tie_reverse_complement=True)[0][:, -1]


def count_lifetimes(
    rows: torch.Tensor, valid: torch.Tensor, k: int, window: KmerWindow, documents: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    The lags at which an occurrence counts. An occurrence that ends at e counts for position t exactly if
    `first[e] <= t - e <= last[e]`: it is inside the window, t is in its document, and, with de-duplication, no later
    copy of the k-mer is inside the window.

    Args:
        rows (int64 [B, S]), valid (bool [B, S]): from `index_kmers`.

    Returns:
        first, last (int64 [B, S]); an occurrence that never counts has last < first.
    """
    places = window.places(k)
    first_lag = 0 if window.size is None else window.first_lag
    S = rows.shape[1]
    life = torch.full_like(rows, places)
    if window.deduplicate:
        # From the farthest to the nearest next copy, so that the nearest one stays.
        reach = places if torch.compiler.is_compiling() else min(places, S)
        for gap in range(reach - 1, 0, -1):
            copy = (shift(rows, -gap, -1) == rows) & shift(valid, -gap, False) & same_document(documents, -gap)
            life = torch.where(copy, gap, life)
    first = torch.full_like(rows, first_lag)
    last = first_lag + life - 1
    if documents is not None:
        position = torch.arange(S, device=rows.device).expand_as(rows)
        starts = torch.where(same_document(documents, 1), 0, position).cummax(1).values
        ends = torch.where(same_document(documents, -1), S - 1, position).flip(1).cummin(1).values.flip(1)
        first = torch.maximum(first, starts - position)
        last = torch.minimum(last, ends - position)
    return first, torch.where(valid, last, first - 1)


def count_occurrences(first: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    """
    Number of occurrences that count at each position, exactly: integers, one up where an occurrence begins to count
    and one down after it ends.

    Args:
        first, last (int64 [B, S]): from `count_lifetimes`.

    Returns:
        int64 [B, S].
    """
    S = first.shape[1]
    position = torch.arange(S, device=first.device)
    counts = (last >= first).to(torch.int64)
    steps = torch.zeros(first.shape[0], S + 1, dtype=torch.int64, device=first.device)
    steps = steps.scatter_add(1, (position + first).clamp(0, S), counts)
    steps = steps.scatter_add(1, (position + last + 1).clamp(0, S), -counts)
    return steps.cumsum(1)[:, :S]


__all__ = [
    "INVALID_LETTER",
    "LARGEST_KMER",
    "NUM_LETTERS",
    "KmerContext",
    "KmerWindow",
    "RowReads",
    "count_lifetimes",
    "count_occurrences",
    "find_documents",
    "index_kmers",
    "mirror_rows",
    "same_document",
    "shift",
]
