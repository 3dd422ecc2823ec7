"""Area under the ROC curve (AUROC) as an `evaluate` module that needs no network."""

import datasets
import evaluate
import numpy as np
from sklearn.metrics import roc_auc_score

_DESCRIPTION = "Area under the ROC curve of the second of two classes, or the mean area of each class against the rest."

_INPUTS = """
Args:
    prediction_scores (`list[list[float]]`): N x C scores, higher means more likely; probabilities or any monotone
        function of them within a class.
    references (`list[int]`): N true class ids in 0..C-1.

Returns:
    `dict`:
    - `"roc_auc"` (`float`): for C = 2 the area for class 1; for C > 2 the plain mean (macro) of the one-against-rest
      areas of the classes that `references` has. NaN where no class has both positives and negatives.
    - `"per_class"` (`list[float]`): C one-against-rest areas; NaN for a class that is absent from `references`, or
      that is all of it.

Example:
    >>> scores = [[0.9, 0.1], [0.4, 0.6], [0.7, 0.3], [0.2, 0.8]]
    >>> RocAuc().compute(prediction_scores=scores, references=[0, 1, 1, 1])["roc_auc"]
    1.0
"""


class RocAuc(evaluate.Metric):
    """Area under the ROC curve, binary or macro one-against-rest."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features(
                {
                    "prediction_scores": datasets.Sequence(datasets.Value("float64")),
                    "references": datasets.Value("int64"),
                }
            ),
            reference_urls=["https://scikit-learn.org/stable/modules/generated/sklearn.metrics.roc_auc_score.html"],
        )

    def _compute(self, prediction_scores: list[list[float]], references: list[int]) -> dict[str, float | list[float]]:
        scores, truth = np.asarray(prediction_scores), np.asarray(references)
        classes = scores.shape[1]
        if truth.min() < 0 or truth.max() >= classes:
            raise ValueError(f"references hold class {truth.min()}..{truth.max()}, the scores are of {classes} classes")
        per_class = [np.nan] * classes
        for label in range(classes):
            if 0 < (truth == label).sum() < len(truth):
                per_class[label] = float(roc_auc_score(truth == label, scores[:, label]))
        defined = [area for area in per_class if not np.isnan(area)]
        if classes == 2:
            roc_auc = per_class[1]
        else:
            roc_auc = float(np.mean(defined)) if defined else np.nan
        return {"roc_auc": roc_auc, "per_class": per_class}


__all__ = ["RocAuc"]
