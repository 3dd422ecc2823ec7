"""Metrics: `evaluate` modules that work without a network, and all metrics of a task from a model's outputs.

Each module's file also loads by path: `evaluate.load(gengram.training.metrics.roc_auc.__file__)`.
"""

from typing import TYPE_CHECKING

from gengram.lazy import attach

if TYPE_CHECKING:
    from gengram.training.metrics.accuracy import Accuracy
    from gengram.training.metrics.classification import measure_classification
    from gengram.training.metrics.matthews_correlation import MatthewsCorrelation
    from gengram.training.metrics.multi_label import measure_multi_label
    from gengram.training.metrics.regression import measure_regression
    from gengram.training.metrics.roc_auc import RocAuc

_DEFINED_IN = {
    "Accuracy": "gengram.training.metrics.accuracy",
    "MatthewsCorrelation": "gengram.training.metrics.matthews_correlation",
    "RocAuc": "gengram.training.metrics.roc_auc",
    "measure_classification": "gengram.training.metrics.classification",
    "measure_multi_label": "gengram.training.metrics.multi_label",
    "measure_regression": "gengram.training.metrics.regression",
}
__getattr__, __dir__ = attach(__name__, _DEFINED_IN)

__all__ = [
    "Accuracy",
    "MatthewsCorrelation",
    "RocAuc",
    "measure_classification",
    "measure_multi_label",
    "measure_regression",
]
