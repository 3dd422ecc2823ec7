"""Accuracy as an `evaluate` module that needs no network."""

import datasets
import evaluate
from sklearn.metrics import accuracy_score

_DESCRIPTION = "Share of rows whose predicted class is the true class."

_INPUTS = """
Args:
    predictions (`list[int]`): N predicted class ids.
    references (`list[int]`): N true class ids.

Returns:
    `dict`: `{"accuracy": float}` in [0, 1].

Example:
    >>> Accuracy().compute(predictions=[0, 1, 1, 0], references=[0, 1, 0, 0])
    {'accuracy': 0.75}
"""


class Accuracy(evaluate.Metric):
    """Share of rows whose predicted class is the true class."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}),
            reference_urls=["https://scikit-learn.org/stable/modules/generated/sklearn.metrics.accuracy_score.html"],
        )

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        return {"accuracy": float(accuracy_score(references, predictions))}


__all__ = ["Accuracy"]
