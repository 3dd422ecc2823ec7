"""How good is a classifier whose rows have any number of labels?"""

import numpy as np
from scipy.special import expit

from gengram.training.metrics.classification import Each, rank_each_row


def measure_multi_label(logits: np.ndarray, references: np.ndarray, each: Each | None = None) -> dict[str, float]:
    """Compute the metrics of a multi-label classifier; a label is predicted where its logit is above 0.

    Args:
        logits (`np.ndarray`): (N, L) floats, the model's outputs before the sigmoid.
        references (`np.ndarray`): (N, L) of 0 and 1.
        each (`dict`, *optional*): what `measure_each_label` returns for them, where it is known already.

    Returns:
        `dict[str, float]`: `auroc`, `auprc`, the plain means over the labels that have both positives and negatives
        (NaN where none has); `macro_f1` and `mcc`, the means over all labels, 0 for one that is never right;
        `accuracy`, the share of the N x L decisions that are right, which rare labels make high; `cross_entropy`, the
        mean binary cross-entropy of a decision in nats.

    Raises:
        `ValueError`: logits that are not finite.
    """
    logits, truth = _check(logits, references)
    each = each or measure_each_label(logits, truth)
    return {
        "accuracy": float(((logits > 0) == truth).mean()),
        "mcc": float(np.mean(each["mcc"])),
        "macro_f1": float(np.mean(each["f1"])),
        "auroc": _average(each["auroc"]),
        "auprc": _average(each["auprc"]),
        "cross_entropy": float((np.logaddexp(0, logits) - truth * logits).mean()),
    }


def measure_each_label(logits: np.ndarray, references: np.ndarray) -> Each:
    """Compute `auroc`, `auprc` (NaN without positives or negatives), `f1` and `mcc`, lists of length L."""
    logits, truth = _check(logits, references)
    guesses = logits > 0
    hits, guessed, true = ((part.sum(axis=0)).astype(np.float64) for part in (truth & guesses, guesses, truth))
    alarms, misses = guessed - hits, true - hits
    correct = len(logits) - hits - alarms - misses
    spread = np.sqrt(guessed * true * (correct + alarms) * (correct + misses))
    mcc = np.divide(hits * correct - alarms * misses, spread, out=np.zeros_like(spread), where=spread > 0)
    f1 = 2 * hits / np.maximum(guessed + true, 1)
    # A label's scores side by side: they are sorted.
    ranked = rank_each_row(expit(logits.T), np.ascontiguousarray(truth.T))
    return {**ranked, "f1": f1.tolist(), "mcc": mcc.tolist()}


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
