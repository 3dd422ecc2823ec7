"""What a score has to beat: linear models that see how often a k-mer occurs, or which base stands where.

All are scikit-learn pipelines from sequences (strings) to labels, so `fit`, `predict`, `predict_proba`, `clone` and
cross-validation work as everywhere.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, ShuffleSplit
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, OneHotEncoder

_PENALTIES = (0.1, 1.0, 10.0, 100.0)  # of ridge regressions; chosen on a fifth of the rows
_FEWEST = 10  # rows from which on there is a fifth to choose on


def make_kmer_classifier(k: int = 6) -> Pipeline:
    """Logistic regression on the counts of all 4**k k-mers over A, C, G, T: composition without position.

    Counts are square-rooted and divided by their Euclidean norm, which evens out sequence length and repeats; k-mers
    with another letter are skipped, case is ignored. Sequences may differ in length.
    """
    return make_pipeline(*_count_kmers(k), _make_logistic())


def make_kmer_labeller(k: int = 6) -> Pipeline:
    """`make_kmer_classifier` for any number of labels a sequence, 0 or 1 each: a logistic regression a label."""
    return make_pipeline(*_count_kmers(k), OneVsRestClassifier(_make_logistic()))


def make_kmer_regressor(rows: int, k: int = 6) -> Pipeline:
    """Ridge regression of one target or several on the same counts.

    Args:
        rows: that it will be fitted on. The penalty, one for all targets, is chosen by R2 on a fifth of them; of fewer
            than ten, there is none to choose on, and it is 1.
        k: length of the k-mers.
    """
    ridge: Any = Ridge()
    if rows >= _FEWEST:
        ridge = GridSearchCV(ridge, {"alpha": _PENALTIES}, cv=ShuffleSplit(1, test_size=0.2, random_state=0))
    return make_pipeline(*_count_kmers(k), ridge)


def _count_kmers(k: int) -> list[Any]:
    """The steps that turn N sequences into their features, sparse float64 (N, 4**k)."""
    kmers = ["".join(letters) for letters in product("acgt", repeat=k)]
    counts = CountVectorizer(analyzer="char", ngram_range=(k, k), vocabulary=kmers, dtype=np.float64)
    return [counts, FunctionTransformer(np.sqrt, accept_sparse=True), Normalizer()]


def _make_logistic() -> LogisticRegression:
    return LogisticRegression(C=10, max_iter=300)


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


__all__ = ["make_kmer_classifier", "make_kmer_labeller", "make_kmer_regressor", "make_position_classifier"]
