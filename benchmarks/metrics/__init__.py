"""Metrics: `evaluate` modules that work without a network, and all metrics of a task from a model's outputs.

Each module's file also loads by path: `evaluate.load(gengram.benchmarks.metrics.roc_auc.__file__)`.
"""

from gengram.benchmarks.metrics.accuracy import Accuracy
from gengram.benchmarks.metrics.classification import measure_classification
from gengram.benchmarks.metrics.matthews_correlation import MatthewsCorrelation
from gengram.benchmarks.metrics.multi_label import measure_multi_label
from gengram.benchmarks.metrics.regression import measure_regression
from gengram.benchmarks.metrics.roc_auc import RocAuc

__all__ = [
    "Accuracy",
    "MatthewsCorrelation",
    "RocAuc",
    "measure_classification",
    "measure_multi_label",
    "measure_regression",
]
