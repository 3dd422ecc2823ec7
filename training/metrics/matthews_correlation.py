"""Matthews correlation coefficient (MCC) as an `evaluate` module that needs no network."""

import warnings

import datasets
import evaluate
from sklearn.metrics import matthews_corrcoef

_DESCRIPTION = "Correlation between predicted and true classes, for two classes or more; 0 is chance, 1 is perfect."

_INPUTS = """
Args:
    predictions (`list[int]`): N predicted class ids.
    references (`list[int]`): N true class ids.

Returns:
    `dict`: `{"matthews_correlation": float}` in [-1, 1]; 0 where it is not defined, that is when all predictions or
    all references are one class.

Example:
    >>> MatthewsCorrelation().compute(predictions=[0, 1, 1, 0], references=[0, 1, 1, 0])
    {'matthews_correlation': 1.0}
"""

_CITATION = "Gorodkin (2004) Comparing two K-category assignments by a K-category correlation coefficient."


class MatthewsCorrelation(evaluate.Metric):
    """Matthews correlation coefficient; for more than two classes in Gorodkin's form (R_K)."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}),
            reference_urls=["https://scikit-learn.org/stable/modules/generated/sklearn.metrics.matthews_corrcoef.html"],
        )

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        with warnings.catch_warnings():
            # scikit-learn warns where there is one class on both sides: the case that is 0 by definition here.
            warnings.simplefilter("ignore", UserWarning)
            return {"matthews_correlation": float(matthews_corrcoef(references, predictions))}


__all__ = ["MatthewsCorrelation"]
