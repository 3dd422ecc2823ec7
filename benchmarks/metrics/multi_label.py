"""How good is a classifier whose rows have any number of labels?"""

import warnings

import numpy as np
from scipy.special import expit
from sklearn.metrics import f1_score, matthews_corrcoef

from gengram.benchmarks.metrics.classification import rank_each_column


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
    predictions = logits > 0
    with warnings.catch_warnings():
        # scikit-learn warns where a label is one class on both sides: MCC is 0 there by definition.
        warnings.simplefilter("ignore", UserWarning)
        mcc = [float(matthews_corrcoef(true, guess)) for true, guess in zip(truth.T, predictions.T)]
    f1 = [float(f1_score(true, guess, zero_division=0.0)) for true, guess in zip(truth.T, predictions.T)]
    return {**rank_each_column(expit(logits), truth), "f1": f1, "mcc": mcc}


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
