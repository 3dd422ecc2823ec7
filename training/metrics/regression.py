"""How good is a regression, of one target or several?"""

import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import mean_squared_error, r2_score


def measure_regression(predictions: np.ndarray, references: np.ndarray) -> dict[str, float]:
    """Compute the metrics of a regression, plain means over its targets.

    Args:
        predictions, references (`np.ndarray`): (N, R) floats, or (N,) for one target.

    Returns:
        `dict[str, float]`: `pearson` and `spearman` in [-1, 1], the means over the targets that have them (not NaN: two
        rows or more, neither side constant); `r2`, at most 1; `mse`, in squared units of the targets.

    Raises:
        `ValueError`: predictions that are not finite.
    """
    per_target = measure_each_target(predictions, references)
    return {metric: _average(values) for metric, values in per_target.items()}


def measure_each_target(predictions: np.ndarray, references: np.ndarray) -> dict[str, list[float]]:
    """Compute `pearson`, `spearman`, `r2` and `mse` of each target, lists of length R; NaN where not defined."""
    predictions = np.asarray(predictions, dtype=np.float64).reshape(len(predictions), -1)
    references = np.asarray(references, dtype=np.float64).reshape(len(references), -1)
    if not np.isfinite(predictions).all():
        faulty = (~np.isfinite(predictions)).any(axis=1).sum()
        raise ValueError(f"{faulty} of {len(predictions)} rows have NaN or infinite predictions")
    measured: dict[str, list[float]] = {"pearson": [], "spearman": [], "r2": [], "mse": []}
    for guess, truth in zip(predictions.T, references.T):
        varies = len(truth) > 1 and np.ptp(truth) > 0
        correlates = varies and np.ptp(guess) > 0
        measured["pearson"].append(float(pearsonr(guess, truth).statistic) if correlates else np.nan)
        measured["spearman"].append(float(spearmanr(guess, truth).statistic) if correlates else np.nan)
        measured["r2"].append(float(r2_score(truth, guess)) if varies else np.nan)
        measured["mse"].append(float(mean_squared_error(truth, guess)))
    return measured


def _average(values: list[float]) -> float:
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else np.nan


__all__ = ["measure_each_target", "measure_regression"]
