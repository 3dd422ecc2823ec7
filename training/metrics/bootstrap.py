"""How certain is a metric? Bootstrap over rows (Efron 1979): the metrics of many resamples of a test set at once.

Calling scikit-learn a thousand times for each metric takes longer than training a small model. Here a resample is a
vector of counts, how often each row was drawn, and each metric is written for a whole matrix of counts. Where a row has
many elements, its bases, the counts meet sums over each row only: the bases of a genome need no more memory for a
thousand resamples than for one. The tests compare every metric with scikit-learn's on the drawn rows.

Dimensions: B resamples, N rows, M measured elements (rows, or the labelled bases of all rows), C classes or columns,
G groups of elements between which thresholds lie.
"""

import math
from collections.abc import Iterator

import numpy as np
from scipy.sparse import csc_array
from scipy.special import expit, log_softmax, softmax

CONFIDENCE = 0.95
"""Share of the resamples that an interval holds: from the 2.5th to the 97.5th percentile."""

# Numbers in all: larger test sets get fewer resamples, never fewer than the smallest number.
_BUDGET = 2_000_000_000
_FEWEST = 200
# Counts in memory at once, a byte each, and weights that are computed with at once, if a row has not more of them.
_DRAWN, _CHUNK, _NARROWEST = 128_000_000, 500_000, 8

# Thresholds at which curves are measured: more different scores of positives than these share them.
_THRESHOLDS = 16_384


def choose_resamples(elements: int, columns: int, most: int = 1000) -> int:
    """Return how many resamples are computed: `most`, or fewer (at least 200) for very large test sets."""
    return max(min(most, _FEWEST), min(most, _BUDGET // max(elements * columns, 1)))


def draw_resamples(rows: int, resamples: int, seed: int | np.random.Generator) -> np.ndarray:
    """Draw rows with replacement, as often as there are rows.

    Returns:
        uint8 (B, N): how often each row was drawn; each line sums to N. The same numbers give the same resamples.
    """
    random = np.random.default_rng(seed)
    # That a row is drawn more often than 255 times of as many as there are rows has a probability of about 1 / 256!.
    counts = np.empty((resamples, rows), dtype=np.uint8)
    for line in counts:
        line[:] = np.bincount(random.integers(rows, size=rows), minlength=rows)
    return counts


def draw_in_parts(rows: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the lines of `draw_resamples` as many at a time as memory should hold: uint8 (some of B, N)."""
    random, step = np.random.default_rng(seed), max(1, _DRAWN // max(rows, 1))
    for start in range(0, resamples, step):
        yield draw_resamples(rows, min(step, resamples - start), random)


def resample_classification(
    logits: np.ndarray, references: np.ndarray, counts: np.ndarray, rows: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Compute what `measure_classification` does, for every resample.

    Args:
        logits (`np.ndarray`): (M, C) floats.
        references (`np.ndarray`): (M,) class ids.
        counts (`np.ndarray`): (B, N) of `draw_resamples`.
        rows (`np.ndarray`, *optional*): (M,) the row that each element is from; not given: M = N, one element a row.

    Returns:
        For each metric float64 (B,); NaN in a resample where it is not defined.
    """
    logits, blocks = np.asarray(logits, dtype=np.float64), _turn(counts)
    classes = logits.shape[1]
    rows = np.arange(len(logits)) if rows is None else rows
    cells = np.asarray(references, dtype=np.int64) * classes + logits.argmax(axis=1)
    in_rows = _count_in_rows(rows, cells, (classes**2, counts.shape[1]))
    confusion = np.concatenate([(in_rows @ weights).T for weights in _widen(blocks)])
    losses = -log_softmax(logits, axis=1)[np.arange(len(logits)), references]
    in_row = np.stack([np.bincount(rows, part, counts.shape[1]) for part in (losses, None)])
    loss, size = np.concatenate([in_row @ weights for weights in _widen(blocks)], axis=1)
    # Of two classes, the curves are those of the second.
    ranked = range(1, 2) if classes == 2 else range(classes)
    truth = np.asarray(references) == np.array(ranked)[:, None]
    areas = _rank_resamples(softmax(logits, axis=1).T[ranked], truth, blocks, rows)
    averaged = {name: _average_columns(values) for name, values in areas.items()}
    return {**_judge_confusion(confusion.reshape(-1, classes, classes)), **averaged, "cross_entropy": loss / size}


def resample_multi_label(logits: np.ndarray, references: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """Compute what `measure_multi_label` does, for every resample; see `resample_classification`."""
    logits, truth = np.asarray(logits, dtype=np.float64), np.asarray(references) > 0.5
    guesses, total, blocks = logits > 0, float(counts.shape[1]), _turn(counts)
    # Whole numbers up to 2**24 are exact in float32.
    weights = counts.astype(np.float32 if counts.shape[1] < 2**24 else np.float64)
    hits, guessed, true = (
        (weights @ part.astype(weights.dtype)).astype(np.float64) for part in (truth & guesses, guesses, truth)
    )
    f1 = 2 * hits / np.maximum(guessed + true, 1)
    spread = np.sqrt(guessed * (total - guessed) * true * (total - true))
    mcc = np.divide(total * hits - guessed * true, spread, out=np.zeros_like(hits), where=spread > 0)
    in_row = np.stack([(guesses == truth).mean(axis=1), (np.logaddexp(0, logits) - truth * logits).mean(axis=1)])
    right, entropy = np.concatenate([in_row @ weights for weights in _widen(blocks)], axis=1)
    areas = _rank_resamples(expit(logits.T), np.ascontiguousarray(truth.T), blocks)
    return {
        "accuracy": right / total,
        "mcc": mcc.mean(axis=1),
        "macro_f1": f1.mean(axis=1),
        **{name: _average_columns(values) for name, values in areas.items()},
        "cross_entropy": entropy / total,
    }


def resample_regression(predictions: np.ndarray, references: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """Compute what `measure_regression` does, for every resample; see `resample_classification`."""
    predictions = np.asarray(predictions, dtype=np.float64).reshape(len(predictions), -1)
    references = np.asarray(references, dtype=np.float64).reshape(len(references), -1)
    blocks = _turn(counts)
    measured = [_resample_target(guess, truth, blocks) for guess, truth in zip(predictions.T, references.T)]
    return {metric: _average_columns(np.stack([one[metric] for one in measured], axis=1)) for metric in measured[0]}


def find_interval(values: np.ndarray) -> list[float] | None:
    """Return the percentile interval of a metric's resamples; those where it is not defined are left out.

    None where more than half are: then the interval would be about other test sets than this one.
    """
    defined = values[~np.isnan(values)]
    if len(defined) < max(len(values) / 2, 1):
        return None
    tail = (1 - CONFIDENCE) / 2
    return np.quantile(defined, [tail, 1 - tail]).tolist()


def _turn(counts: np.ndarray) -> list[np.ndarray]:
    """Return counts (B, N) in blocks (N, some of B): what is drawn of a row lies side by side."""
    step = max(_NARROWEST, _CHUNK // max(counts.shape[1], 1))
    return [np.ascontiguousarray(counts[start : start + step].T) for start in range(0, len(counts), step)]


def _widen(blocks: list[np.ndarray], groups: int = 1) -> Iterator[np.ndarray]:
    """Yield blocks as float64, of so few resamples that numbers for as many groups of elements are not too many."""
    step = max(_NARROWEST, _CHUNK // groups)
    for block in blocks:
        for start in range(0, block.shape[1], step):
            yield block[:, start : start + step].astype(np.float64)


def _count_in_rows(rows: np.ndarray, groups: np.ndarray, shape: tuple[int, int]) -> csc_array:
    """Return (G, N): how many elements of each row are in each group."""
    return csc_array((np.ones(len(rows)), (groups, rows)), shape=shape)


def _rank_resamples(
    scores: np.ndarray, truth: np.ndarray, blocks: list[np.ndarray], rows: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Return AUROC and AUPRC of each column in each resample, float64 (B, C); NaN where a column is constant.

    Args:
        scores, truth: floats and booleans (C, M).
        blocks: of `_turn`.
        rows: see `resample_classification`.
    """
    rows = np.arange(scores.shape[1]) if rows is None else rows
    areas = np.full((2, sum(block.shape[1] for block in blocks), len(scores)), np.nan)
    for label, (column, positive) in enumerate(zip(scores, truth)):
        if positive.any():
            curve = _prepare_curve(column, positive, rows, len(blocks[0]))
            parts = [_integrate(*curve, weights) for weights in _widen(blocks, curve[1].shape[0])]
            areas[:, :, label] = np.concatenate(parts, axis=1)
    return {"auroc": areas[0], "auprc": areas[1]}


def _prepare_curve(
    column: np.ndarray, positive: np.ndarray, rows: np.ndarray, size: int
) -> tuple[csc_array, csc_array, csc_array]:
    """Return how many elements each row has at the K thresholds, scores of positives from the highest on.

    Returns:
        (K, N) the positives of each threshold; (K + 1, N) the negatives that are counted from each threshold on, last
        those below all; (K, N) the negatives that are at a threshold.
    """
    groups, number = _group_scores(column, positive)
    held = np.bincount(groups[positive], minlength=number) > 0
    thresholds, places = int(held.sum()), (held.cumsum() - held)[groups]
    tied = ~positive & held[groups]
    return (
        _count_in_rows(rows[positive], places[positive], (thresholds, size)),
        _count_in_rows(rows[~positive], places[~positive], (thresholds + 1, size)),
        _count_in_rows(rows[tied], places[tied], (thresholds, size)),
    )


def _group_scores(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the group of each element, from the highest score on, and the number of groups.

    Only the order of negatives and positives matters, so all negatives between two neighbouring scores of positives are
    one group. That is exact; where the positives have more than `_THRESHOLDS` scores, those between two of so many
    quantiles count as equal.
    """
    edges = np.unique(scores[positive])
    if len(edges) > _THRESHOLDS:
        edges = edges[np.linspace(0, len(edges) - 1, _THRESHOLDS).round().astype(int)]
    above = np.searchsorted(edges, scores)
    equal = edges[np.minimum(above, len(edges) - 1)] == scores
    return 2 * len(edges) - (2 * above + equal), 2 * len(edges) + 1


def _integrate(hits: csc_array, alarms: csc_array, tied: csc_array, weights: np.ndarray) -> np.ndarray:
    """Return AUROC (Mann-Whitney, ties count half) and average precision, (2, some of B), see `_prepare_curve`."""
    positives = hits @ weights
    found, raised = _accumulate(positives.copy()), _accumulate(alarms @ weights)
    number, others = found[-1].copy(), raised[-1]
    below = others - raised[:-1]
    if tied.nnz:
        below += (tied @ weights) / 2
    above = np.einsum("kb,kb->b", positives, below)
    reached = raised[:-1]
    reached += found
    precision = np.divide(found, np.maximum(reached, 1, out=reached), out=found)
    # Row by row: numbers that are 0 change nothing then, so thresholds that nobody reaches do not.
    precise = np.multiply(positives, precision, out=precision).sum(axis=0)
    both = number * others > 0
    pairs, number = np.where(both, number * others, 1), np.where(both, number, 1)
    return np.where(both, np.stack([above / pairs, precise / number]), np.nan)


def _accumulate(values: np.ndarray) -> np.ndarray:
    """Turn whole numbers (K, some of B) into their sums from the first line on, in their place.

    `cumsum` goes through a line number by number. Here all sections of about the root of K lines are summed together.
    """
    step = math.isqrt(len(values))
    for place in range(1, step):
        part = values[place::step]
        part += values[place - 1 :: step][: len(part)]
    before = values[step - 1 :: step].cumsum(axis=0)
    for place in range(step):
        part = values[step + place :: step]
        part += before[: len(part)]
    return values


def _judge_confusion(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Return accuracy, MCC (Gorodkin 2004) and macro F1 of confusion matrices (B, C, C), true classes first."""
    total = confusion.sum(axis=(1, 2))
    right = np.trace(confusion, axis1=1, axis2=2)
    true, guessed = confusion.sum(axis=2), confusion.sum(axis=1)
    spread = np.sqrt((total**2 - (true**2).sum(axis=1)) * (total**2 - (guessed**2).sum(axis=1)))
    covariance = right * total - (true * guessed).sum(axis=1)
    f1 = 2 * np.diagonal(confusion, axis1=1, axis2=2) / np.maximum(true + guessed, 1)
    return {
        "accuracy": right / total,
        "mcc": np.divide(covariance, spread, out=np.zeros_like(covariance), where=spread > 0),
        "macro_f1": f1.sum(axis=1) / (true + guessed > 0).sum(axis=1),
    }


def _resample_target(guess: np.ndarray, truth: np.ndarray, blocks: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Return `pearson`, `spearman`, `r2` and `mse` of one target in each resample, float64 (B,)."""
    size, errors = len(truth), (guess - truth) ** 2
    guess, truth = guess - guess.mean(), truth - truth.mean()
    products = np.stack([guess, truth, guess**2, truth**2, guess * truth, errors])
    values = [np.unique(side, return_inverse=True)[1] for side in (guess, truth)]
    groups = [_count_in_rows(np.arange(size), places, (int(places.max()) + 1, size)) for places in values]
    measured: dict[str, list[np.ndarray]] = {"pearson": [], "spearman": [], "r2": [], "mse": []}
    for weights in _widen(blocks):
        guesses, truths, guess_squares, truth_squares, both, squares = products @ weights
        deviation = truth_squares - truths**2 / size
        varies = deviation > 1e-12 * truth_squares
        measured["pearson"].append(_correlate(guesses, truths, guess_squares, truth_squares, both, size))
        measured["spearman"].append(_correlate(*_sum_ranks(values, groups, weights), size))
        measured["r2"].append(np.where(varies, 1 - squares / np.where(varies, deviation, 1), np.nan))
        measured["mse"].append(squares / size)
    return {metric: np.concatenate(parts) for metric, parts in measured.items()}


def _sum_ranks(
    values: list[np.ndarray], groups: list[csc_array], weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return of the ranks of two sides in each resample the two sums, those of their squares, and of their products.

    Ties share the mean of their ranks.

    Args:
        values: of each side int (N,), which of its different values, in order, each row has.
        groups: (values, N) the same as matrices.
        weights: (N, some of B).
    """
    drawn = [group @ weights for group in groups]
    ranks = [_accumulate(times.copy()) - (times - 1) / 2 for times in drawn]
    squares, others = (np.einsum("kb,kb,kb->b", times, rank, rank) for times, rank in zip(drawn, ranks))
    products = np.einsum("kb,kb->b", groups[1] @ (weights * ranks[0][values[0]]), ranks[1])
    total = np.full(weights.shape[1], len(weights) * (len(weights) + 1) / 2)
    return total, total, squares, others, products


def _correlate(
    guess: np.ndarray,
    truth: np.ndarray,
    guess_squares: np.ndarray,
    truth_squares: np.ndarray,
    products: np.ndarray,
    size: int,
) -> np.ndarray:
    """Return Pearson's correlation from sums over the `size` rows of each resample, all (some of B,)."""
    covariance = products - guess * truth / size
    variances = guess_squares - guess**2 / size, truth_squares - truth**2 / size
    varies = (variances[0] > 1e-12 * guess_squares) & (variances[1] > 1e-12 * truth_squares)
    return np.where(varies, covariance / np.sqrt(np.where(varies, variances[0] * variances[1], 1)), np.nan)


def _average_columns(values: np.ndarray) -> np.ndarray:
    defined = ~np.isnan(values)
    number = defined.sum(axis=1)
    return np.where(number > 0, np.where(defined, values, 0).sum(axis=1) / np.maximum(number, 1), np.nan)


__all__ = [
    "CONFIDENCE",
    "choose_resamples",
    "draw_in_parts",
    "draw_resamples",
    "find_interval",
    "resample_classification",
    "resample_multi_label",
    "resample_regression",
]
