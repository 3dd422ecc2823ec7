"""What a score has to beat: linear models that see how often a k-mer occurs, or which base stands where.

All are scikit-learn pipelines from sequences (strings) to labels, so `fit`, `predict`, `predict_proba`, `clone` and
cross-validation work as everywhere. A model is some features, and of what is predicted the linear model on top of them.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from scipy.sparse import hstack, issparse
from scipy.sparse.linalg import norm
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, ShuffleSplit
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, OneHotEncoder

from gengram.training.problems import Problem

_PENALTIES = (0.1, 1.0, 10.0, 100.0)  # of ridge regressions; chosen on a fifth of the rows
_FEWEST = 10  # rows from which on there is a fifth to choose on


def make_linear_model(problem: Problem, features: Pipeline, rows: int, strength: float = 10.0) -> Pipeline:
    """Features, and the linear model of a problem on top of them.

    Args:
        problem: one class a row: logistic regression; any number of labels (0 or 1 each): one for each label; numbers:
            ridge regression. Not `token`.
        features: of rows, see the functions below; whatever the rows are, sequences or pairs of them.
        rows: that it will be fitted on. The penalty of a ridge regression, one for all targets, is chosen by R2 on a
            fifth of them; of fewer than ten, there is none to choose on, and it is 1.
        strength: the inverse of a logistic regression's penalty.
    """
    if problem != "regression":
        logistic = LogisticRegression(C=strength, max_iter=300)
        return make_pipeline(
            *_list_steps(features), OneVsRestClassifier(logistic) if problem == "multi_label" else logistic
        )
    ridge: Any = Ridge()
    if rows >= _FEWEST:
        ridge = GridSearchCV(ridge, {"alpha": _PENALTIES}, cv=ShuffleSplit(1, test_size=0.2, random_state=0))
    return make_pipeline(*_list_steps(features), ridge)


def make_kmer_features(k: int = 6) -> Pipeline:
    """Counts of all 4**k k-mers over A, C, G, T: composition without position; sparse float32 (N, 4**k).

    Counts are square-rooted and divided by their Euclidean norm, which evens out sequence length and repeats; k-mers
    with another letter are skipped, case is ignored, U is T. Sequences may differ in length.
    """
    kmers = ["".join(letters) for letters in product("acgt", repeat=k)]
    counts = CountVectorizer(
        analyzer="char", ngram_range=(k, k), vocabulary=kmers, dtype=np.float32, preprocessor=_spell
    )
    return make_pipeline(counts, FunctionTransformer(np.sqrt, accept_sparse=True), Normalizer())


def make_kmer_classifier(k: int = 6) -> Pipeline:
    """Logistic regression on `make_kmer_features`."""
    return make_linear_model("single_label", make_kmer_features(k), 0)


class PairFeatures(TransformerMixin, BaseEstimator):
    """The features of both sequences of a pair, and their difference, side by side.

    A variant changes a base among hundreds, and its features by as little: the difference is scaled to the size that
    the features of the reference sequences have, so that a penalty weighs it like them.

    Args:
        features: a pipeline from sequences to features; fitted on both sequences of every pair.
    """

    def __init__(self, features: Pipeline):
        self.features = features

    def fit(self, pairs: Sequence[tuple[str, str]], labels: Any = None) -> "PairFeatures":
        references, alternatives = zip(*pairs)
        self.features_ = clone(self.features).fit([*references, *alternatives])
        one, other = self.features_.transform(references), self.features_.transform(alternatives)
        size, change = _measure_size(one), _measure_size(other - one)
        self.scale_ = size / change if size and change else 1.0
        return self

    def transform(self, pairs: Sequence[tuple[str, str]]) -> Any:
        one, other = (self.features_.transform(side) for side in zip(*pairs))
        parts = [one, other, (other - one) * self.scale_]
        return hstack(parts, format="csr") if issparse(one) else np.hstack(parts)


def _measure_size(features: Any) -> float:
    """Return the mean Euclidean norm of the rows."""
    return float(np.mean(norm(features, axis=1) if issparse(features) else np.linalg.norm(features, axis=1)))


def _list_steps(features: Pipeline) -> list[Any]:
    return [step for _, step in features.steps]


def _spell(sequence: str) -> str:
    return sequence.lower().replace("u", "t")


def split_bases(sequences: Sequence[str]) -> np.ndarray:
    """Upper-case letters of N sequences of equal length; `<U1` [N, bp]. Raises ValueError where a length differs."""
    bases = [list(sequence.upper()) for sequence in sequences]
    for number, letters in enumerate(bases):
        if len(letters) != len(bases[0]):
            raise ValueError(
                f"sequence {number} has {len(letters)} bp and sequence 0 has {len(bases[0])}: which base stands where "
                "is comparable only between sequences of one length; crop them, or use make_kmer_classifier"
            )
    return np.array(bases)


def make_position_classifier() -> Pipeline:
    """Logistic regression on one-hot bases: position without composition, the linear form of a weight matrix.

    All sequences must have one length, aligned as the task aligns them. A letter that no training sequence has at a
    position counts as no letter; case is ignored.
    """
    return make_pipeline(
        FunctionTransformer(split_bases),
        OneHotEncoder(handle_unknown="ignore"),
        LogisticRegression(max_iter=300),
    )


def make_centre_features(width: int) -> Pipeline:
    """One-hot bases of the middle of sequences of any length; sparse float64 (N, 4 * width).

    Sequences are aligned at their middle, base n // 2 of n. A letter that is no base is no letter, nor is what a
    shorter sequence does not have; case is ignored, U is T.
    """
    bases = OneHotEncoder(categories=[list("ACGT")] * width, handle_unknown="ignore")
    return make_pipeline(FunctionTransformer(_crop, kw_args={"width": width}), bases)


def _crop(sequences: Sequence[str], width: int) -> np.ndarray:
    """Return the letters around the middle, upper case, `<U1` [N, width]."""
    return split_bases([crop_centre(sequence, width) for sequence in sequences])


def crop_centre(sequence: str, width: int) -> str:
    """Return so many bases around the middle, base n // 2 of n, filled up with N at both ends; upper case, T for U."""
    start = len(sequence) // 2 - width // 2
    cut = sequence[max(start, 0) : max(start + width, 0)].upper().replace("U", "T")
    return ("N" * max(-start, 0) + cut).ljust(width, "N")


__all__ = [
    "PairFeatures",
    "crop_centre",
    "make_centre_features",
    "make_kmer_classifier",
    "make_kmer_features",
    "make_linear_model",
    "make_position_classifier",
    "split_bases",
]
