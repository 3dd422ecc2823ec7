"""The motif memory as functions: the definition first, then forms of it that are fast.

Letters: B batch, S positions (T tokens after H of history), K k-mer sizes, E memory_dim, D hidden size, W window in
bases, L = W - k + 1 places of a k-mer in the window.

Every form returns, for each position, the means of the table rows of the k-mers in its window, or their linear
projections. None keeps a running sum over the sequence: a sum starts anew at every position or block, so its rounding
does not grow with S (the released code's prefix sums lose almost half of the signal at 8k bases in bfloat16).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from .kmer_index import (
    NUM_LETTERS,
    KmerWindow,
    count_lifetimes,
    count_occurrences,
    index_kmers,
    mirror_rows,
    same_document,
    shift,
)

GATE_FLOOR = 1e-6  # below it the square root is constant and has no gradient (released code)


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """float32 for half precision, otherwise the dtype itself."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


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


def project_merged(
    tables: Sequence[torch.Tensor],
    key_weight: torch.Tensor,
    value_weight: torch.Tensor,
    letters: torch.Tensor,
    window: KmerWindow,
    documents: torch.Tensor | None = None,
    history: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Keys and values from projected tables, without a matrix product per position.

    Lookup, mean and projection are linear, so the tables can be projected instead of the positions. With k-mer
    indices in base 5 the row of a k-mer is its K-mer's modulo 5**k (K here the largest size), so in a full window all
    projected tables merge into two: Q over the K-mers (sum over k of P_k / L_k), read at the L_K nearest places, and R
    over the (K-1)-mer of the oldest bases, which collects the shorter k-mers that end before the first K-mer does.
    A full window is L_K + 1 row reads (17 for k = 1..6, W = 21). The other positions read their single occurrences.
    Only K-mers that occur are projected.

    Args:
        tables (K tensors [5**k, E]), key_weight, value_weight (`torch.Tensor` [D, K * E]).
        letters, documents, history: as `pool_by_lifetime`. Needs a window and no de-duplication.

    Returns:
        key, value (`torch.Tensor` [B, S - H, D]) without bias, in the dtype of the tables.
    """
    if window.size is None or window.deduplicate:
        raise ValueError("Projected tables merge only where a window is full and every occurrence counts.")
    dtype = tables[0].dtype
    compute = accumulation_dtype(dtype)
    device = letters.device
    B, S = letters.shape
    T = S - history
    order = sorted(range(len(tables)), key=lambda i: window.kmer_sizes[i])
    sizes = [window.kmer_sizes[i] for i in order]
    largest = sizes[-1]
    E = tables[0].shape[1]
    weight = torch.cat([key_weight, value_weight]).to(compute)  # [2D, K * E]
    weights = [weight[:, i * E : (i + 1) * E] for i in order]

    occurrences = {k: index_kmers(letters, k, documents) for k in {*sizes, largest - 1} if k > 0}
    # Rows of Q in use, and for each position [B, S] its row among them.
    used, compact = torch.unique(occurrences[largest][0], return_inverse=True)

    # P_k: the projected tables; of the largest size only the rows in use.
    projected = []
    for k, i, w in zip(sizes, order, weights):
        read = mirror_rows(k, device) if window.tie_reverse_complement else None
        if k == largest:
            read = used if read is None else read[used]
        table = tables[i] if read is None else tables[i][read]
        projected.append(table.to(compute) @ w.T)

    # Q_j[b] = sum over sizes k <= j of P_k[b mod 5**k] / L_k, for j = 1 .. largest - 1; then Q over the used K-mers.
    D2 = weight.shape[0]
    merged = weight.new_zeros(1, D2)
    short = dict(zip(sizes[:-1], projected[:-1]))
    levels = []
    for j in range(1, largest):
        merged = merged.repeat(NUM_LETTERS, 1)  # row b reads b mod 5**(j-1)
        if j in short:
            merged = merged + short[j] / window.places(j)
        levels.append(merged)
    Q = projected[-1] / window.places(largest) + merged[used % NUM_LETTERS ** (largest - 1)]
    R = weight.new_zeros(NUM_LETTERS ** (largest - 1), D2)
    for j, level in enumerate(levels, start=1):
        R = R + level.repeat_interleave(NUM_LETTERS ** (largest - 1 - j), dim=0)  # row a reads a div 5**(K-1-j)

    # One bag of row reads a position, over the tables one below the other.
    full = find_full_windows(letters, window, documents)[:, history:]
    near, places = window.first_lag, window.places(largest)
    lags = torch.arange(near, near + places, device=device)
    at = torch.arange(history, S, device=device)

    def read_at(x, lags):  # [B, S] -> [B, T, len(lags)]
        return x[:, (at[:, None] - lags).clamp(0, S - 1)]

    parts = [read_at(compact, lags)]
    if largest > 1:
        parts.append(read_at(occurrences[largest - 1][0], lags[-1:] + 1) + len(used))
    bags = torch.cat(parts, dim=-1)[full]  # [N, L_K + 1]
    kv = F.embedding_bag(bags, torch.cat([Q, R]), mode="sum")

    partial = ~full
    if bool(partial.any()):
        bags, shares, offset = [], [], 0
        for k in sizes:
            k_rows = compact if k == largest else occurrences[k][0]
            lags = torch.arange(near, near + window.places(k), device=device)
            here = read_at(occurrences[k][1], lags) & ((at[:, None] - lags >= 0) & (at[:, None] - lags < S))
            if documents is not None:
                here = here & (read_at(documents, lags) == documents[:, history:, None])
            here = here[partial]
            bags.append(read_at(k_rows, lags)[partial] + offset)
            shares.append(here.to(compute) / here.sum(-1, keepdim=True).clamp(min=1))
            offset += len(short[k]) if k in short else len(used)
        rest = F.embedding_bag(
            torch.cat(bags, dim=-1), torch.cat(projected), mode="sum", per_sample_weights=torch.cat(shares, dim=-1)
        )
        result = kv.new_zeros(B, T, D2)
        kv = result.masked_scatter(full[..., None], kv).masked_scatter(partial[..., None], rest)
    key, value = kv.view(B, T, D2).to(dtype).split(D2 // 2, dim=-1)
    return key, value


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
    "accumulation_dtype",
    "convolve_causal",
    "find_full_windows",
    "gate_scores",
    "pool_by_definition",
    "pool_by_lifetime",
    "project_merged",
]
