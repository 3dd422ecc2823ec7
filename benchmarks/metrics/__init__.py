"""Metrics: `evaluate` modules that live in the package, so they work without a network.

Each module's file also loads by path: `evaluate.load(gengram.benchmarks.metrics.roc_auc.__file__)`.
"""

from gengram.benchmarks.metrics.accuracy import Accuracy
from gengram.benchmarks.metrics.classification import measure_classification
from gengram.benchmarks.metrics.matthews_correlation import MatthewsCorrelation
from gengram.benchmarks.metrics.roc_auc import RocAuc

__all__ = ["Accuracy", "MatthewsCorrelation", "RocAuc", "measure_classification"]
