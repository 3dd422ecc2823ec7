"""How certain is a metric? Bootstrap over rows (Efron 1979): the metrics of many resamples of a test set at once.

Calling scikit-learn a thousand times for each metric takes longer than training a small model. Here a resample is a
vector of counts, how often each row was drawn, and each metric is written for a whole matrix of counts. The tests
compare every one with scikit-learn's on the drawn rows.

Dimensions: B resamples, N rows, M measured elements (rows, or the labelled bases of all rows), C classes or columns.
"""

from collections.abc import Iterator

import numpy as np
from scipy.special import expit, log_softmax, softmax
from scipy.stats import rankdata

CONFIDENCE = 0.95
"""Share of the resamples that an interval holds: from the 2.5th to the 97.5th percentile."""

# Numbers in memory at once, and in all: larger test sets get fewer resamples, never fewer than the smallest number.
_CHUNK = 4_000_000
_BUDGET = 2_000_000_000
_FEWEST = 200


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
    cells = np.asarray(references) * classes + logits.argmax(axis=1)
    losses = -log_softmax(logits, axis=1)[np.arange(len(logits)), references]
    scores = softmax(logits, axis=1)
    ranked = _rank_resamples(scores, np.asarray(references)[:, None] == np.arange(classes), counts, rows)
    confusion, loss = [], []
    for weights in _spread(counts, rows):
        confusion += [np.bincount(cells, line, minlength=classes**2).reshape(classes, classes) for line in weights]
        loss += (weights @ losses / weights.sum(axis=1)).tolist()
    averaged = {name: values[:, 1] if classes == 2 else _average_columns(values) for name, values in ranked.items()}
    return {**_judge_confusion(np.stack(confusion)), **averaged, "cross_entropy": np.array(loss)}


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
    parts = [_resample_targets(predictions, references, weights) for weights in _spread(counts, None)]
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


def _spread(counts: np.ndarray, rows: np.ndarray | None) -> Iterator[np.ndarray]:
    """Yield (some of B, M) float64: the counts of the elements, as many resamples at once as memory allows."""
    elements = counts.shape[1] if rows is None else len(rows)
    step = max(1, _CHUNK // max(elements, 1))
    for start in range(0, len(counts), step):
        chunk = counts[start : start + step].astype(np.float64)
        yield chunk if rows is None else chunk[:, rows]


def _rank_resamples(
    scores: np.ndarray, truth: np.ndarray, counts: np.ndarray, rows: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Return AUROC and AUPRC of each column in each resample, float64 (B, C); NaN where a column is constant."""
    orders = [np.argsort(-column, kind="stable") for column in scores.T]
    measured: dict[str, list[np.ndarray]] = {"auroc": [], "auprc": []}
    for weights in _spread(counts, rows):
        areas = np.full((2, len(weights), len(orders)), np.nan)
        for label, order in enumerate(orders):
            if truth[:, label].any():
                areas[:, :, label] = _integrate(scores[order, label], truth[order, label], weights[:, order])
        measured["auroc"].append(areas[0])
        measured["auprc"].append(areas[1])
    return {name: np.concatenate(parts) for name, parts in measured.items()}


def _integrate(scores: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return AUROC (Mann-Whitney, ties count half) and average precision, (2, B), of scores that fall."""
    ties = np.flatnonzero(np.r_[True, np.diff(scores) != 0])
    positives = np.add.reduceat(weights * truth, ties, axis=1)
    negatives = np.add.reduceat(weights * ~truth, ties, axis=1)
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
