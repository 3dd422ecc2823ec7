"""How good is a classifier? Single-label scores: of whole sequences, or of the labelled bases of all sequences."""

import warnings

import numpy as np
from scipy.special import log_softmax, softmax
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, matthews_corrcoef, roc_auc_score


def measure_classification(logits: np.ndarray, references: np.ndarray) -> dict[str, float]:
    """Compute the metrics of a single-label classifier.

    Args:
        logits (`np.ndarray`): (N, C) floats, the model's outputs before softmax.
        references (`np.ndarray`): (N,) class ids in 0..C-1.

    Returns:
        `dict[str, float]`: `accuracy` in [0, 1], `mcc` in [-1, 1] (0 where all predictions or all references are one
        class), `macro_f1` in [0, 1], `auroc`, `auprc` in [0, 1] and `cross_entropy`, the mean over rows in nats. AUROC
        and AUPRC (average precision) are those of class 1 where C = 2, else the plain mean over the classes that have
        them, and NaN where none has; F1 is the mean over classes that occur in references or predictions.

    Raises:
        `ValueError`: logits that are not finite, or a reference that has no column.
    """
    logits = _check(logits, references)
    predictions = logits.argmax(axis=1)
    per_class = measure_each_class(logits, references)
    present = np.union1d(predictions, references)
    with warnings.catch_warnings():
        # scikit-learn warns where there is one class on both sides: MCC is 0 there by definition.
        warnings.simplefilter("ignore", UserWarning)
        mcc = float(matthews_corrcoef(references, predictions))
    return {
        "accuracy": float(accuracy_score(references, predictions)),
        "mcc": mcc,
        "macro_f1": float(np.mean(np.asarray(per_class["f1"])[present])),
        "auroc": average_classes(per_class["auroc"]),
        "auprc": average_classes(per_class["auprc"]),
        "cross_entropy": float(-log_softmax(logits, axis=1)[np.arange(len(logits)), references].mean()),
    }


def measure_each_class(logits: np.ndarray, references: np.ndarray) -> dict[str, list[float]]:
    """Compute the metrics of each class against the rest.

    Args:
        logits, references: see `measure_classification`.

    Returns:
        `dict[str, list[float]]`: `auroc`, `auprc` and `f1`, each of length C. AUROC and AUPRC are NaN for a class that
        is absent from the references or is all of them, F1 is 0 for a class that is never predicted nor referred to.
    """
    logits = _check(logits, references)
    classes = np.arange(logits.shape[1])
    scores, truth = softmax(logits, axis=1), np.asarray(references)[:, None] == classes
    f1 = f1_score(references, logits.argmax(axis=1), labels=classes, average=None, zero_division=0.0)
    return {**rank_each_column(scores, truth), "f1": f1.tolist()}


def rank_each_column(scores: np.ndarray, truth: np.ndarray) -> dict[str, list[float]]:
    """Compute AUROC and AUPRC of each column; NaN where a column has no positives or no negatives.

    Args:
        scores (`np.ndarray`): (N, C) floats.
        truth (`np.ndarray`): (N, C) booleans.
    """
    ranked: dict[str, list[float]] = {"auroc": [], "auprc": []}
    for column, positives in zip(scores.T, truth.T):
        defined = 0 < positives.sum() < len(positives)
        ranked["auroc"].append(float(roc_auc_score(positives, column)) if defined else np.nan)
        ranked["auprc"].append(float(average_precision_score(positives, column)) if defined else np.nan)
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
    "average_classes",
    "measure_classification",
    "measure_each_class",
    "rank_each_column",
    "select_labelled_bases",
]
