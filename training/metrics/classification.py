"""How good is a classifier? Single-label scores: of whole sequences, or of the labelled bases of all sequences."""

import numpy as np
from scipy.special import log_softmax, softmax

Each = dict[str, list[float]]
"""The values of metrics for each class, label or target."""


def measure_classification(logits: np.ndarray, references: np.ndarray, each: Each | None = None) -> dict[str, float]:
    """Compute the metrics of a single-label classifier.

    Args:
        logits (`np.ndarray`): (N, C) floats, the model's outputs before softmax.
        references (`np.ndarray`): (N,) class ids in 0..C-1.
        each (`dict`, *optional*): what `measure_each_class` returns for them, where it is known already.

    Returns:
        `dict[str, float]`: `accuracy` in [0, 1], `mcc` in [-1, 1] (0 where all predictions or all references are one
        class), `macro_f1` in [0, 1], `auroc`, `auprc` in [0, 1] and `cross_entropy`, the mean over rows in nats. AUROC
        and AUPRC (average precision) are those of class 1 where C = 2, else the plain mean over the classes that have
        them, and NaN where none has; F1 is the mean over classes that occur in references or predictions.

    Raises:
        `ValueError`: logits that are not finite, or a reference that has no column.
    """
    logits = _check(logits, references)
    each = each or measure_each_class(logits, references)
    confusion = _confuse(logits, references)
    true, guessed, right = confusion.sum(axis=1), confusion.sum(axis=0), np.trace(confusion)
    # Gorodkin (2004), as scikit-learn has it.
    spread = (len(logits) ** 2 - true @ true) * (len(logits) ** 2 - guessed @ guessed)
    mcc = (right * len(logits) - true @ guessed) / np.sqrt(spread) if spread > 0 else 0.0
    return {
        "accuracy": float(right / len(logits)),
        "mcc": float(mcc),
        "macro_f1": float(np.mean(np.asarray(each["f1"])[true + guessed > 0])),
        "auroc": average_classes(each["auroc"]),
        "auprc": average_classes(each["auprc"]),
        "cross_entropy": float(-log_softmax(logits, axis=1)[np.arange(len(logits)), references].mean()),
    }


def measure_each_class(logits: np.ndarray, references: np.ndarray) -> Each:
    """Compute the metrics of each class against the rest.

    Args:
        logits, references: see `measure_classification`.

    Returns:
        `dict[str, list[float]]`: `auroc`, `auprc` and `f1`, each of length C. AUROC and AUPRC are NaN for a class that
        is absent from the references or is all of them, F1 is 0 for a class that is never predicted nor referred to.
    """
    logits = _check(logits, references)
    truth = np.asarray(references) == np.arange(logits.shape[1])[:, None]
    confusion = _confuse(logits, references)
    occurs = confusion.sum(axis=0) + confusion.sum(axis=1)
    f1 = 2 * np.diagonal(confusion) / np.maximum(occurs, 1)
    return {**rank_each_row(softmax(logits, axis=1).T, truth), "f1": f1.tolist()}


def rank_each_row(scores: np.ndarray, truth: np.ndarray) -> Each:
    """Compute AUROC and AUPRC of each row of scores; NaN where a row has no positives or no negatives.

    AUROC is the share of pairs of a positive and a negative that are in the right order, ties counting half (Mann and
    Whitney 1947); AUPRC is the mean over the positives of the precision at their score, which is the average precision.
    Both need the scores in order, and the positives' places there; not which element is at the other places.

    Args:
        scores (`np.ndarray`): (C, N) floats.
        truth (`np.ndarray`): (C, N) booleans.
    """
    ranked: Each = {"auroc": [], "auprc": []}
    for row, positives in zip(scores, truth):
        found, size = np.sort(row[positives]), len(row)
        number, others = len(found), size - len(found)
        if not number or not others:
            ranked["auroc"].append(np.nan)
            ranked["auprc"].append(np.nan)
            continue
        ordered = np.sort(row)
        first, last = (np.searchsorted(ordered, found, side) for side in ("left", "right"))
        ranks = int((first + last + 1).sum()) / 2  # the sum over the positives; ties share the mean of their ranks
        hits = number - np.searchsorted(found, found, "left")
        ranked["auroc"].append((ranks - number * (number + 1) / 2) / (number * others))
        ranked["auprc"].append(float((hits / (size - first)).mean()))
    return ranked


def average_classes(per_class: list[float]) -> float:
    """Return the value of the second of two classes, or the mean of the values that are not NaN."""
    if len(per_class) == 2:
        return per_class[1]
    defined = [value for value in per_class if not np.isnan(value)]
    return float(np.mean(defined)) if defined else np.nan


def select_labelled_bases(logits: np.ndarray, references: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the logits and class ids of all labelled tokens, and the row that each is from.

    Args:
        logits (`np.ndarray`): (N, T, C) floats.
        references (`np.ndarray`): (N, T) class ids; -100 where there is no label: padding, special tokens, masks.

    Returns:
        (M, C), (M,) and (M,), for `measure_classification` and, with the rows, for a bootstrap over sequences.
    """
    labelled = np.asarray(references) != -100
    return np.asarray(logits)[labelled], np.asarray(references)[labelled], np.nonzero(labelled)[0]


def _confuse(logits: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Return how many rows of each class (first) were taken for each, float64 (C, C)."""
    classes = logits.shape[1]
    cells = np.asarray(references, dtype=np.int64) * classes + logits.argmax(axis=1)
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes).astype(np.float64)


def _check(logits: np.ndarray, references: np.ndarray) -> np.ndarray:
    logits, references = np.asarray(logits, dtype=np.float64), np.asarray(references)
    if not np.isfinite(logits).all():
        faulty = (~np.isfinite(logits)).any(axis=1).sum()
        raise ValueError(f"{faulty} of {len(logits)} rows have NaN or infinite logits")
    if references.min() < 0 or references.max() >= logits.shape[1]:
        raise ValueError(
            f"references hold class {references.min()}..{references.max()}, the scores are of {logits.shape[1]} classes"
        )
    return logits


__all__ = [
    "Each",
    "average_classes",
    "measure_classification",
    "measure_each_class",
    "rank_each_row",
    "select_labelled_bases",
]
