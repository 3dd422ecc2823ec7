"""The motif memory as functions: the definition first, then forms of it that are fast.

Letters: B batch, S positions (T tokens after H of history), K k-mer sizes, E memory_dim, D hidden size, W window in
bases, L = W - k + 1 places of a k-mer in the window.

Every form returns, for each position, the means of the table rows of the k-mers in its window, or their linear
projections. None keeps a running sum over the sequence: a sum starts anew at every position or block, so its rounding
does not grow with S (the released code's prefix sums lose almost half of the signal at 8k bases in bfloat16).
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F

from .kmer_index import (
    INVALID_LETTER,
    NUM_LETTERS,
    KmerWindow,
    count_lifetimes,
    count_occurrences,
    index_kmers,
    same_document,
    shift,
)
from .merged_tables import MergedTables, accumulation_dtype

GATE_FLOOR = 1e-6  # below it the square root is constant and has no gradient (released code)


def pool_by_definition(
    tables: Sequence[torch.Tensor], letters: torch.Tensor, window: KmerWindow, documents: torch.Tensor | None = None
) -> torch.Tensor:
    """
    Mean table row of the k-mers in each position's window, one mean per size: the definition of the memory.

    An occurrence takes part if all its letters are bases of the position's document; without any, the mean is 0.
    Released code: all occurrences of `[t-W+1, t]`; paper, equations 5-9: the set of k-mers of `[t-W, t-1]`.

    Args:
        tables (K tensors [5**k, E]): in the order of `window.kmer_sizes`.
        letters (`torch.Tensor` int64 [B, S]), documents (`torch.Tensor` int64 [B, S], *optional*).

    Returns:
        `torch.Tensor` [B, S, K * E] in the accumulation dtype of the tables.
    """
    pooled = []
    for k, table in zip(window.kmer_sizes, tables):
        table = table.to(accumulation_dtype(table.dtype))
        rows, valid = index_kmers(letters, k, documents, window.tie_reverse_complement)
        first_lag = 0 if window.size is None else window.first_lag
        total = table.new_zeros(*letters.shape, table.shape[1])
        count = torch.zeros_like(letters)
        nearer: list[tuple[torch.Tensor, torch.Tensor]] = []
        for lag in range(first_lag, first_lag + window.places(k)):
            row = shift(rows, lag, 0)
            counts = shift(valid, lag, False) & same_document(documents, lag)
            if window.deduplicate:
                for other_row, other_counts in nearer:
                    counts = counts & ~(other_counts & (other_row == row))
                nearer.append((row, counts))
            total = total + table[row] * counts[..., None]
            count = count + counts
        pooled.append(total / count.clamp(min=1)[..., None])
    return torch.cat(pooled, dim=-1)


def pool_by_lifetime(
    tables: Sequence[torch.Tensor],
    letters: torch.Tensor,
    window: KmerWindow,
    documents: torch.Tensor | None = None,
    history: int = 0,
    block: int = 64,
) -> torch.Tensor:
    """
    The same means for every setting of the window, as a banded product.

    Each occurrence counts over one interval of lags (`count_lifetimes`), so a block of positions is a small 0/1
    matrix times the rows of the block and its surroundings. Cost per position: (block + L - 1) E multiply-adds a
    size, against 2 K E D for the projections that follow. An exported graph sums the band lag by lag instead, which
    holds for every length.

    Args:
        as `pool_by_definition`; history (`int`): leave out the first H positions of the result.
        block (`int`): positions a block.

    Returns:
        `torch.Tensor` [B, S - H, K * E] in the dtype of the tables; sums and means are taken in float32 or better.
    """
    pooled = []
    for k, table in zip(window.kmer_sizes, tables):
        rows, valid = index_kmers(letters, k, documents, window.tie_reverse_complement)
        first, last = count_lifetimes(rows, valid, k, window, documents)
        count = count_occurrences(first, last)[:, history:]
        nearest = 0 if window.size is None else window.first_lag
        lags = range(nearest, nearest + window.places(k))
        if torch.compiler.is_exporting():
            total = _sum_by_lag(table, rows, first, last, lags)[:, history:]
        else:
            total = _sum_by_block(table, rows, first, last, lags, history, block)
        mean = total.to(accumulation_dtype(table.dtype)) / count.clamp(min=1)[..., None]
        pooled.append(mean.to(table.dtype))
    return torch.cat(pooled, dim=-1)


def _sum_by_lag(table, rows, first, last, lags: range) -> torch.Tensor:
    """Sum over the occurrences that count at each position: [B, S, E], in the accumulation dtype."""
    gathered = F.embedding(rows, table).to(accumulation_dtype(table.dtype))
    S = rows.shape[1]
    total = torch.zeros_like(gathered)
    for lag in lags:
        counts = (shift(first, lag, lag + 1) <= lag) & (lag <= shift(last, lag, lag))
        earlier = F.pad(gathered, (0, 0, lag, 0))[:, :S] if lag >= 0 else F.pad(gathered, (0, 0, 0, -lag))[:, -lag:]
        total = total + earlier * counts[..., None]
    return total


def _sum_by_block(table, rows, first, last, lags: range, history: int, block: int) -> torch.Tensor:
    """The same as products of 0/1 bands with the rows around each block: [B, S - H, E], in the table's dtype."""
    S = rows.shape[1]
    T = S - history
    block = min(block, T)
    num_blocks = -(-T // block)
    farthest = lags[-1]
    # The occurrences around a block that can count for it: from its farthest to its nearest lag.
    around = torch.arange(block + len(lags) - 1, device=rows.device)
    place = block * torch.arange(num_blocks, device=rows.device)[:, None] + history - farthest + around
    exists = (place >= 0) & (place < S)
    place = place.clamp(0, S - 1)  # [blocks, block + L - 1]
    lag = torch.arange(block, device=rows.device)[:, None] - around + farthest  # [block, block + L - 1]
    band = (first[:, place][:, :, None] <= lag) & (lag <= last[:, place][:, :, None]) & exists[:, None]
    gathered = F.embedding(rows[:, place], table)  # [B, blocks, block + L - 1, E]
    return torch.matmul(band.to(gathered.dtype), gathered).flatten(1, 2)[:, :T]


def pool_by_window(
    tables: Sequence[torch.Tensor],
    letters: torch.Tensor,
    window: KmerWindow,
    documents: torch.Tensor | None = None,
    history: int = 0,
) -> torch.Tensor:
    """
    The same means for a few positions, each from its own window: L E additions a size and position, in few operators.

    In a compiled step of generation, what is done with integers becomes a part of the kernels that read the tables.

    Args, returns:
        as `pool_by_lifetime`.
    """
    S, device = letters.shape[1], letters.device
    nearest, W = (0, max(window.kmer_sizes)) if window.size is None else (window.first_lag, window.size)
    at = torch.arange(history, S, device=device)[:, None] - nearest - torch.arange(W, device=device)  # [T, W]
    place = at.clamp(0, S - 1)
    seen = letters[:, place].masked_fill((at < 0) | (at >= S), INVALID_LETTER)  # [B, T, W], the latest letter first
    if documents is not None:
        seen = seen.masked_fill(documents[:, place] != documents[:, history:, None], INVALID_LETTER)
    found = dict(_number_windows(seen, max(window.kmer_sizes), window.tie_reverse_complement))
    places = [window.places(k) for k in window.kmer_sizes]
    found = [found[k][..., :L] for k, L in zip(window.kmer_sizes, places)]
    numbers = torch.stack([F.pad(rows, (0, W - L), value=-1) for rows, L in zip(found, places)])  # [K, B, T, W]
    counts = numbers >= 0
    if window.deduplicate:  # once, at the latest of its places
        nearer = torch.ones(W, W, dtype=torch.bool, device=device).tril(-1)
        counts = counts & ~((numbers[..., :, None] == numbers[..., None, :]) & nearer).any(-1)
    pooled = []
    for number, counted, L, table in zip(numbers, counts, places, tables):
        counted = counted[..., :L]
        rows = F.embedding(number[..., :L].clamp(min=0), table).to(accumulation_dtype(table.dtype))  # [B, T, L, E]
        total = torch.where(counted[..., None], rows, 0).sum(-2)
        pooled.append((total / counted.sum(-1, keepdim=True).clamp(min=1)).to(table.dtype))
    return torch.cat(pooled, dim=-1)


def _number_windows(seen: torch.Tensor, largest: int, tied: bool) -> Iterator[tuple[int, torch.Tensor]]:
    """Each size k = 1 .. largest and the table rows of its k-mers, [B, T, W - k + 1], -1 where a letter is none."""
    W = seen.shape[-1]
    rows = mirrored = torch.zeros_like(seen)
    valid = torch.ones_like(seen, dtype=torch.bool)
    for k in range(1, largest + 1):
        length = max(W - k + 1, 0)
        letter = seen[..., k - 1 :]  # the leftmost one
        complement = torch.where(letter < 4, 3 - letter, letter)
        rows = rows[..., :length] + letter * NUM_LETTERS ** (k - 1)
        mirrored = mirrored[..., :length] * NUM_LETTERS + complement
        valid = valid[..., :length] & (letter != INVALID_LETTER)
        yield k, torch.where(valid, torch.minimum(rows, mirrored) if tied else rows, -1)


def find_full_windows(letters: torch.Tensor, window: KmerWindow, documents: torch.Tensor | None = None) -> torch.Tensor:
    """
    Positions whose window holds W bases of their own document, so that every size has L occurrences.

    Args:
        letters (`torch.Tensor` int64 [B, S]), documents (`torch.Tensor` int64 [B, S], *optional*).

    Returns:
        `torch.Tensor` bool [B, S].
    """
    _, valid = index_kmers(letters, 1, documents)
    # Integer count of the bases up to each position: exact at any length.
    seen = F.pad(valid.cumsum(1), (1, 0))
    W, lag = window.size, window.first_lag
    S = letters.shape[1]
    position = torch.arange(S, device=letters.device)
    end = position - lag + 1  # one past the last base of the window
    inside = (end - W >= 0) & (end <= S)
    full = (seen[:, end.clamp(0, S)] - seen[:, (end - W).clamp(0, S)] == W) & inside
    if documents is not None:
        full = full & same_document(documents, lag) & same_document(documents, lag + W - 1)
    return full


def read_merged(
    merged: MergedTables,
    tables: Sequence[torch.Tensor],
    key_weight: torch.Tensor,
    value_weight: torch.Tensor,
    letters: torch.Tensor,
    window: KmerWindow,
    documents: torch.Tensor | None = None,
    history: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Keys and values of every position: full windows from the merged tables, the others from their own occurrences.

    Args:
        merged (`MergedTables`): of the same tables, weights and window.
        others: as `merge_tables` and `pool_by_lifetime`.

    Returns:
        key, value (`torch.Tensor` [B, S - H, D]) without bias, in the dtype of the tables.
    """
    device = letters.device
    B, S = letters.shape
    largest, last = max(window.kmer_sizes), len(window.kmer_sizes) - 1
    known = letters.masked_fill(letters >= merged.num_letters, INVALID_LETTER)
    full = find_full_windows(known, window, documents)[:, history:]
    lags = window.first_lag + torch.arange(window.places(largest), device=device)
    bags = [_read_at(merged.find(last, index_kmers(known, largest)[0]), lags, history)]
    if largest > 1:
        bags.append(_read_at(merged.find(last + 1, index_kmers(known, largest - 1)[0]), lags[-1:] + 1, history))
    bag = torch.cat(bags, dim=-1).flatten(0, 1).clamp(min=0)  # [B * T, L_K + 1]; -1 only outside full windows
    if bool(full.any()):
        kv = F.embedding_bag(bag, merged.rows, mode="sum").view(B, S - history, -1)
    else:  # perhaps without a single row
        kv = merged.rows.new_zeros(B, S - history, merged.rows.shape[1])
    partial = ~full
    if bool(partial.any()):
        kv[partial] = read_chosen(tables, key_weight, value_weight, letters, window, partial, documents, history)
    key, value = kv.to(tables[0].dtype).chunk(2, dim=-1)
    return key, value


def read_chosen(
    tables: Sequence[torch.Tensor],
    key_weight: torch.Tensor,
    value_weight: torch.Tensor,
    letters: torch.Tensor,
    window: KmerWindow,
    chosen: torch.Tensor,
    documents: torch.Tensor | None = None,
    history: int = 0,
) -> torch.Tensor:
    """
    Keys and values of a few positions, from their own occurrences.

    Args:
        chosen (`torch.Tensor` bool [B, S - H]): the N positions.
        others: as `read_merged`.

    Returns:
        `torch.Tensor` [N, 2D] in the accumulation dtype of the tables.
    """
    S = letters.shape[1]
    compute = accumulation_dtype(tables[0].dtype)
    at = torch.arange(history, S, device=letters.device)[:, None]
    pooled = []
    for k, table in zip(window.kmer_sizes, tables):
        rows, valid = index_kmers(letters, k, documents, window.tie_reverse_complement)
        lags = window.first_lag + torch.arange(window.places(k), device=letters.device)
        counts = _read_at(valid, lags, history) & (at - lags >= 0) & (at - lags < S)
        if documents is not None:
            counts = counts & (_read_at(documents, lags, history) == documents[:, history:, None])
        counts = counts[chosen].to(compute)
        shares = counts / counts.sum(-1, keepdim=True).clamp(min=1)
        pooled.append(_sum_rows(table, _read_at(rows, lags, history)[chosen], shares))
    features = torch.cat(pooled, dim=-1)
    return torch.cat([features @ weight.to(compute).T for weight in (key_weight, value_weight)], dim=-1)


def _read_at(x: torch.Tensor, lags: torch.Tensor, history: int) -> torch.Tensor:
    """The values at some lags of each position behind the history: [B, S] -> [B, S - H, len(lags)]."""
    S = x.shape[1]
    at = torch.arange(history, S, device=x.device)[:, None]
    return x[:, (at - lags).clamp(0, S - 1)]


def _sum_rows(table: torch.Tensor, rows: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Weighted sums of table rows, rows and shares [N, L] -> [N, E] in the dtype of the shares."""
    if table.dtype == shares.dtype:
        return F.embedding_bag(rows, table, mode="sum", per_sample_weights=shares)
    return (shares[:, None] @ F.embedding(rows, table).to(shares.dtype))[:, 0]  # without a copy of the whole table


def gate_scores(hidden: torch.Tensor, key: torch.Tensor, kind: str) -> torch.Tensor:
    """
    One gate per position from the normalised hidden state and key.

    s = <hidden, key> / sqrt(D); "sigmoid" (paper, equation 12): sigmoid(s); "signed_sqrt" (released code, after
    Engram): sigmoid(sign(s) sqrt(max(|s|, 1e-6))).

    Args:
        hidden, key (`torch.Tensor` [B, T, D]): after their RMSNorms.

    Returns:
        `torch.Tensor` [B, T, 1].
    """
    score = (hidden * key).sum(-1, keepdim=True) / hidden.shape[-1] ** 0.5
    if kind == "signed_sqrt":
        score = score.abs().clamp(min=GATE_FLOOR).sqrt() * score.sign()
    return score.sigmoid()


def convolve_causal(
    x: torch.Tensor, weight: torch.Tensor, dilation: int, documents: torch.Tensor | None = None
) -> torch.Tensor:
    """
    Depthwise causal convolution along the sequence; taps do not reach into another document.

    Args:
        x (`torch.Tensor` [B, S, D]), weight (`torch.Tensor` [D, 1, taps]): tap j multiplies position
            t - (taps - 1 - j) * dilation. documents (`torch.Tensor` int64 [B, S], *optional*).

    Returns:
        `torch.Tensor` [B, S, D].
    """
    S, taps = x.shape[1], weight.shape[-1]
    total = x * weight[:, 0, -1]
    for back in range(1, taps):
        lag = back * dilation
        earlier = F.pad(x, (0, 0, lag, 0))[:, :S]
        if documents is not None:
            earlier = earlier * same_document(documents, lag)[..., None]
        total = total + earlier * weight[:, 0, taps - 1 - back]
    return total


__all__ = [
    "convolve_causal",
    "find_full_windows",
    "gate_scores",
    "pool_by_definition",
    "pool_by_lifetime",
    "pool_by_window",
    "read_chosen",
    "read_merged",
]
