"""How good is a classifier whose rows have any number of labels?"""

import numpy as np
from scipy.special import expit
from sklearn.metrics import f1_score, multilabel_confusion_matrix

from gengram.training.metrics.classification import rank_each_column


def measure_multi_label(logits: np.ndarray, references: np.ndarray) -> dict[str, float]:
    """Compute the metrics of a multi-label classifier; a label is predicted where its logit is above 0.

    Args:
        logits (`np.ndarray`): (N, L) floats, the model's outputs before the sigmoid.
        references (`np.ndarray`): (N, L) of 0 and 1.

    Returns:
        `dict[str, float]`: `auroc`, `auprc`, the plain means over the labels that have both positives and negatives
        (NaN where none has); `macro_f1` and `mcc`, the means over all labels, 0 for one that is never right;
        `accuracy`, the share of the N x L decisions that are right, which rare labels make high; `cross_entropy`, the
        mean binary cross-entropy of a decision in nats.

    Raises:
        `ValueError`: logits that are not finite.
    """
    logits, truth = _check(logits, references)
    per_label = measure_each_label(logits, truth)
    return {
        "accuracy": float(((logits > 0) == truth).mean()),
        "mcc": float(np.mean(per_label["mcc"])),
        "macro_f1": float(np.mean(per_label["f1"])),
        "auroc": _average(per_label["auroc"]),
        "auprc": _average(per_label["auprc"]),
        "cross_entropy": float((np.logaddexp(0, logits) - truth * logits).mean()),
    }


def measure_each_label(logits: np.ndarray, references: np.ndarray) -> dict[str, list[float]]:
    """Compute `auroc`, `auprc` (NaN without positives or negatives), `f1` and `mcc`, lists of length L."""
    logits, truth = _check(logits, references)
    if truth.shape[1] == 1:  # scikit-learn takes one column for a task of two classes.
        each = measure_each_label(np.repeat(logits, 2, axis=1), np.repeat(truth, 2, axis=1))
        return {metric: values[:1] for metric, values in each.items()}
    (correct, alarms), (misses, hits) = np.moveaxis(multilabel_confusion_matrix(truth, logits > 0), 0, 2) * 1.0
    spread = np.sqrt((hits + alarms) * (hits + misses) * (correct + alarms) * (correct + misses))
    mcc = np.divide(hits * correct - alarms * misses, spread, out=np.zeros_like(spread), where=spread > 0)
    f1 = f1_score(truth, logits > 0, average=None, zero_division=0.0)
    return {**rank_each_column(expit(logits), truth), "f1": f1.tolist(), "mcc": mcc.tolist()}


def _average(values: list[float]) -> float:
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else np.nan


def _check(logits: np.ndarray, references: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    logits = np.asarray(logits, dtype=np.float64)
    if not np.isfinite(logits).all():
        raise ValueError(
            f"{(~np.isfinite(logits)).any(axis=1).sum()} of {len(logits)} rows have NaN or infinite logits"
        )
    return logits, np.asarray(references) > 0.5


__all__ = ["measure_each_label", "measure_multi_label"]
