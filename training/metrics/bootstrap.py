"""How certain is a metric? Bootstrap over rows (Efron 1979): the metrics of many resamples of a test set at once.

Calling scikit-learn a thousand times for each metric takes longer than training a small model. Here a resample is a
vector of counts, how often each row was drawn, and each metric is written for a whole matrix of counts. Where a row has
many elements, its bases, the counts meet sums over each row only: the bases of a genome need no more memory for a
thousand resamples than for one. The tests compare every metric with scikit-learn's on the drawn rows.

Dimensions: B resamples, N rows, M measured elements (rows, or the labelled bases of all rows), C classes or columns,
G groups of elements between which thresholds lie.
"""

from collections.abc import Iterator

import numpy as np
from scipy.sparse import csr_array
from scipy.special import expit, log_softmax, softmax
from scipy.stats import rankdata

CONFIDENCE = 0.95
"""Share of the resamples that an interval holds: from the 2.5th to the 97.5th percentile."""

# Numbers in memory at once, and in all: larger test sets get fewer resamples, never fewer than the smallest number.
_CHUNK = 4_000_000
_BUDGET = 2_000_000_000
_FEWEST = 200

# Thresholds at which curves are measured: more different scores of positives than these share them.
_THRESHOLDS = 16_384


def choose_resamples(elements: int, columns: int, most: int = 1000) -> int:
    """Return how many resamples are computed: `most`, or fewer (at least 200) for very large test sets."""
    return max(min(most, _FEWEST), min(most, _BUDGET // max(elements * columns, 1)))


def draw_resamples(rows: int, resamples: int, seed: int) -> np.ndarray:
    """Draw rows with replacement, as often as there are rows.

    Returns:
        int32 (B, N): how often each row was drawn; each line sums to N. The same numbers give the same resamples.
    """
    random = np.random.default_rng(seed)
    counts = np.empty((resamples, rows), dtype=np.int32)
    for line in counts:
        line[:] = np.bincount(random.integers(rows, size=rows), minlength=rows)
    return counts


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
    logits = np.asarray(logits, dtype=np.float64)
    classes = logits.shape[1]
    rows = np.arange(len(logits)) if rows is None else rows
    cells = np.asarray(references) * classes + logits.argmax(axis=1)
    confusion = _weigh(counts, _count_in_rows(rows, cells, (counts.shape[1], classes**2)))
    losses = -log_softmax(logits, axis=1)[np.arange(len(logits)), references]
    loss, size = (counts @ np.bincount(rows, part, counts.shape[1]) for part in (losses, None))
    scores = softmax(logits, axis=1)
    ranked = _rank_resamples(scores, np.asarray(references)[:, None] == np.arange(classes), counts, rows)
    averaged = {name: values[:, 1] if classes == 2 else _average_columns(values) for name, values in ranked.items()}
    return {**_judge_confusion(confusion.reshape(-1, classes, classes)), **averaged, "cross_entropy": loss / size}


def resample_multi_label(logits: np.ndarray, references: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """Compute what `measure_multi_label` does, for every resample; see `resample_classification`."""
    logits, truth = np.asarray(logits, dtype=np.float64), np.asarray(references) > 0.5
    guesses, total = logits > 0, counts.sum(axis=1, keepdims=True)
    hits, guessed, true = (counts @ part.astype(np.float64) for part in (truth & guesses, guesses, truth))
    f1 = 2 * hits / np.maximum(guessed + true, 1)
    spread = np.sqrt(guessed * (total - guessed) * true * (total - true))
    mcc = np.divide(total * hits - guessed * true, spread, out=np.zeros_like(hits), where=spread > 0)
    entropy = (np.logaddexp(0, logits) - truth * logits).mean(axis=1)
    return {
        "accuracy": counts @ (guesses == truth).mean(axis=1) / total[:, 0],
        "mcc": mcc.mean(axis=1),
        "macro_f1": f1.mean(axis=1),
        **{name: _average_columns(values) for name, values in _rank_resamples(expit(logits), truth, counts).items()},
        "cross_entropy": counts @ entropy / total[:, 0],
    }


def resample_regression(predictions: np.ndarray, references: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """Compute what `measure_regression` does, for every resample; see `resample_classification`."""
    predictions = np.asarray(predictions, dtype=np.float64).reshape(len(predictions), -1)
    references = np.asarray(references, dtype=np.float64).reshape(len(references), -1)
    parts = [_resample_targets(predictions, references, weights) for weights in _spread(counts, counts.shape[1])]
    return {metric: np.concatenate([part[metric] for part in parts]) for metric in parts[0]}


def find_interval(values: np.ndarray) -> list[float] | None:
    """Return the percentile interval of a metric's resamples; those where it is not defined are left out.

    None where more than half are: then the interval would be about other test sets than this one.
    """
    defined = values[~np.isnan(values)]
    if len(defined) < max(len(values) / 2, 1):
        return None
    tail = (1 - CONFIDENCE) / 2
    return np.quantile(defined, [tail, 1 - tail]).tolist()


def _spread(counts: np.ndarray, width: int) -> Iterator[np.ndarray]:
    """Yield (some of B, N) float64, as many resamples at once as memory allows for `width` numbers a resample."""
    step = max(1, _CHUNK // max(width, 1))
    for start in range(0, len(counts), step):
        yield counts[start : start + step].astype(np.float64)


def _count_in_rows(rows: np.ndarray, groups: np.ndarray, shape: tuple[int, int]) -> csr_array:
    """Return (N, G): how many elements of each row are in each group."""
    return csr_array((np.ones(len(rows)), (rows, groups)), shape=shape)


def _weigh(counts: np.ndarray, in_rows: csr_array) -> np.ndarray:
    """Return float64 (B, G): how many elements of each group a resample has."""
    return np.concatenate([weights @ in_rows for weights in _spread(counts, max(counts.shape[1], in_rows.shape[1]))])


def _rank_resamples(
    scores: np.ndarray, truth: np.ndarray, counts: np.ndarray, rows: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Return AUROC and AUPRC of each column in each resample, float64 (B, C); NaN where a column is constant."""
    rows = np.arange(len(scores)) if rows is None else rows
    areas = np.full((2, len(counts), scores.shape[1]), np.nan)
    for label, (column, positive) in enumerate(zip(scores.T, truth.T)):
        if not positive.any():
            continue
        groups, number = _group_scores(column, positive)
        shape = (counts.shape[1], number)
        hits, alarms = (_count_in_rows(rows[part], groups[part], shape) for part in (positive, ~positive))
        parts = [
            _integrate(weights @ hits, weights @ alarms) for weights in _spread(counts, max(counts.shape[1], number))
        ]
        areas[:, :, label] = np.concatenate(parts, axis=1)
    return {"auroc": areas[0], "auprc": areas[1]}


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


def _integrate(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Return AUROC (Mann-Whitney, ties count half) and average precision, (2, B), of groups (B, G) by falling score."""
    hits, alarms = positives.cumsum(axis=1), negatives.cumsum(axis=1)
    pairs = hits[:, -1] * alarms[:, -1]
    above = (negatives * (hits - positives / 2)).sum(axis=1)
    precision = hits / np.maximum(hits + alarms, 1)
    both = pairs > 0
    return np.stack(
        [
            np.where(both, above / np.where(both, pairs, 1), np.nan),
            np.where(both, (positives * precision).sum(axis=1) / np.where(both, hits[:, -1], 1), np.nan),
        ]
    )


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


def _rank_rows(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the ranks of the rows inside of each resample, (B, N) floats; ties share the mean of their ranks."""
    position = rankdata(values, method="dense") - 1
    order = np.argsort(position, kind="stable")
    drawn = np.add.reduceat(weights[:, order], np.flatnonzero(np.r_[True, np.diff(position[order]) > 0]), axis=1)
    return (drawn.cumsum(axis=1) - (drawn - 1) / 2)[:, position]


def _correlate(guess: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation in each resample, (B,); the values are (N,), or (B, N) of their own."""
    total = weights.sum(axis=1)

    def sum_up(values: np.ndarray) -> np.ndarray:
        return (weights * values).sum(axis=1)

    covariance = sum_up(guess * truth) - sum_up(guess) * sum_up(truth) / total
    variances = [sum_up(side**2) - sum_up(side) ** 2 / total for side in (guess, truth)]
    floors = [1e-12 * sum_up(side**2) for side in (guess, truth)]
    varies = (variances[0] > floors[0]) & (variances[1] > floors[1])
    return np.where(varies, covariance / np.sqrt(np.where(varies, variances[0] * variances[1], 1)), np.nan)


def _resample_targets(predictions: np.ndarray, references: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    measured: dict[str, list[np.ndarray]] = {"pearson": [], "spearman": [], "r2": [], "mse": []}
    total = weights.sum(axis=1)
    for guess, truth in zip(predictions.T, references.T):
        squares, centred = weights @ (guess - truth) ** 2, truth - truth.mean()
        deviation = weights @ centred**2 - (weights @ centred) ** 2 / total
        varies = deviation > 1e-12 * (weights @ centred**2)
        measured["pearson"].append(_correlate(guess - guess.mean(), centred, weights))
        measured["spearman"].append(_correlate(_rank_rows(guess, weights), _rank_rows(truth, weights), weights))
        measured["r2"].append(np.where(varies, 1 - squares / np.where(varies, deviation, 1), np.nan))
        measured["mse"].append(squares / total)
    return {metric: _average_columns(np.stack(values, axis=1)) for metric, values in measured.items()}


def _average_columns(values: np.ndarray) -> np.ndarray:
    defined = ~np.isnan(values)
    number = defined.sum(axis=1)
    return np.where(number > 0, np.where(defined, values, 0).sum(axis=1) / np.maximum(number, 1), np.nan)


__all__ = [
    "CONFIDENCE",
    "choose_resamples",
    "draw_resamples",
    "find_interval",
    "resample_classification",
    "resample_multi_label",
    "resample_regression",
]
