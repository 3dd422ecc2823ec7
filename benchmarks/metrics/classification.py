"""How good is a classifier? The metrics of a single-label task from its scores."""

import numpy as np
from scipy.special import log_softmax, softmax

from gengram.benchmarks.metrics.accuracy import Accuracy
from gengram.benchmarks.metrics.matthews_correlation import MatthewsCorrelation
from gengram.benchmarks.metrics.roc_auc import RocAuc


def measure_classification(logits: np.ndarray, references: np.ndarray) -> dict[str, float]:
    """Compute accuracy, MCC, AUROC and cross-entropy of a single-label classifier.

    Args:
        logits (`np.ndarray`): (N, C) floats, the model's outputs before softmax.
        references (`np.ndarray`): (N,) class ids in 0..C-1.

    Returns:
        `dict[str, float]`: `accuracy` in [0, 1], `mcc` in [-1, 1], `auroc` in [0, 1] and `cross_entropy`, the mean over
        rows in nats. See `Accuracy`, `MatthewsCorrelation` and `RocAuc` for what they do with a class that is absent
        (AUROC leaves it out, and is NaN where none is left).

    Raises:
        `ValueError`: logits that are not finite, or a reference that has no column.
    """
    logits = np.asarray(logits, dtype=np.float64)
    if not np.isfinite(logits).all():
        faulty = (~np.isfinite(logits)).any(axis=1).sum()
        raise ValueError(f"{faulty} of {len(logits)} rows have NaN or infinite logits")
    predictions = logits.argmax(axis=1)
    # One process computes over all rows that Trainer has gathered, so nothing needs to go through a cache file.
    accuracy = Accuracy(keep_in_memory=True).compute(predictions=predictions, references=references)
    mcc = MatthewsCorrelation(keep_in_memory=True).compute(predictions=predictions, references=references)
    auroc = RocAuc(keep_in_memory=True).compute(prediction_scores=softmax(logits, axis=1), references=references)
    return {
        "accuracy": accuracy["accuracy"],
        "mcc": mcc["matthews_correlation"],
        "auroc": auroc["roc_auc"],
        "cross_entropy": float(-log_softmax(logits, axis=1)[np.arange(len(logits)), references].mean()),
    }


__all__ = ["measure_classification"]
