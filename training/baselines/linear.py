"""What a score has to beat: logistic regressions that see how often a k-mer occurs, or which base stands where.

Both are scikit-learn pipelines from sequences (strings) to labels, so `fit`, `predict`, `predict_proba`, `clone` and
cross-validation work as everywhere.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, OneHotEncoder


def make_kmer_classifier(k: int = 6) -> Pipeline:
    """Logistic regression on the counts of all 4**k k-mers over A, C, G, T: composition without position.

    Counts are square-rooted and divided by their Euclidean norm, which evens out sequence length and repeats; k-mers
    with another letter are skipped, case is ignored. Sequences may differ in length.
    """
    kmers = ["".join(letters) for letters in product("acgt", repeat=k)]
    return make_pipeline(
        CountVectorizer(analyzer="char", ngram_range=(k, k), vocabulary=kmers, dtype=np.float64),
        FunctionTransformer(np.sqrt, accept_sparse=True),
        Normalizer(),
        LogisticRegression(C=10, max_iter=300),
    )


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


__all__ = ["make_kmer_classifier", "make_position_classifier"]
