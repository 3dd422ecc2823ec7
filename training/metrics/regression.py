"""How good is a regression, of one target or several?"""

import numpy as np
from scipy.stats import rankdata

from gengram.training.metrics.classification import Each


def measure_regression(predictions: np.ndarray, references: np.ndarray, each: Each | None = None) -> dict[str, float]:
    """Compute the metrics of a regression, plain means over its targets.

    Args:
        predictions, references (`np.ndarray`): (N, R) floats, or (N,) for one target.
        each (`dict`, *optional*): what `measure_each_target` returns for them, where it is known already.

    Returns:
        `dict[str, float]`: `pearson` and `spearman` in [-1, 1], the means over the targets that have them (not NaN: two
        rows or more, neither side constant); `r2`, at most 1; `mse`, in squared units of the targets.

    Raises:
        `ValueError`: predictions that are not finite.
    """
    each = each or measure_each_target(predictions, references)
    return {metric: _average(values) for metric, values in each.items()}


def measure_each_target(predictions: np.ndarray, references: np.ndarray) -> Each:
    """Compute `pearson`, `spearman`, `r2` and `mse` of each target, lists of length R; NaN where not defined."""
    predictions = np.asarray(predictions, dtype=np.float64).reshape(len(predictions), -1)
    references = np.asarray(references, dtype=np.float64).reshape(len(references), -1)
    if not np.isfinite(predictions).all():
        faulty = (~np.isfinite(predictions)).any(axis=1).sum()
        raise ValueError(f"{faulty} of {len(predictions)} rows have NaN or infinite predictions")
    varies = (np.ptp(references, axis=0) > 0) & (len(references) > 1)
    correlates = varies & (np.ptp(predictions, axis=0) > 0)
    sides = predictions[:, correlates], references[:, correlates]
    measured = {metric: np.full(references.shape[1], np.nan) for metric in ("pearson", "spearman", "r2")}
    measured["pearson"][correlates] = _correlate(*sides)
    measured["spearman"][correlates] = _correlate(*(rankdata(side, axis=0) for side in sides))
    squares = (references - predictions) ** 2
    spread = ((references - references.mean(axis=0)) ** 2).sum(axis=0)
    # As scikit-learn has it where squares are too small to be numbers: 1 without an error, else 0.
    missed = np.asarray((squares > 0).any(axis=0), dtype=np.float64)
    np.divide(squares.sum(axis=0), spread, out=missed, where=spread > 0)
    measured["r2"][varies] = (1 - missed)[varies]
    measured["mse"] = squares.mean(axis=0)
    return {metric: values.tolist() for metric, values in measured.items()}


def _correlate(guesses: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of each column, (R,), of floats (N, R) that vary."""
    centred = []
    for side in (guesses, truths):
        side = side - side.mean(axis=0)
        side /= np.abs(side).max(axis=0)  # Squares of very small or very large numbers are no numbers any more.
        centred.append(side / np.sqrt((side**2).sum(axis=0)))
    return np.clip((centred[0] * centred[1]).sum(axis=0), -1, 1)


def _average(values: list[float]) -> float:
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else np.nan


__all__ = ["measure_each_target", "measure_regression"]
