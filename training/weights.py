"""How much does each class count in the training loss? Weights of classes, and of positives where labels are many."""

from typing import Any

from gengram.errors import InputError
from gengram.genome.tables import shorten
from gengram.training.arguments import FinetuneArguments
from gengram.training.data.inputs import LabelledSplits
from gengram.training.losses import StepLoss


def choose_loss(arguments: FinetuneArguments, data: LabelledSplits) -> StepLoss | None:
    """Return the weighted loss that the arguments ask for, computed from the training rows alone; None for no weights.

    Weights of classes have the mean 1 over the training rows (or labelled bases), so that the loss and the learning
    rate keep their size.

    - `class_weights="balanced"`: `N / (C * n[class])` for N labels of which n are of the class. Weights by name are
      scaled to the mean 1 over the training rows.
    - `pos_weight="balanced"`: for each label, rows without it divided by rows with it; 1 for a label that no or every
      training row has. Factors by name, or one for all labels, are taken as they are.

    Raises:
        `InputError`: weights for a problem that has no classes, or for a name that there is not; a class that no
            training row has.
    """
    for name, problems in (("class_weights", ("single_label", "token")), ("pos_weight", ("multi_label",))):
        if getattr(arguments, name) is not None and data.problem not in problems:
            other = {"multi_label": "; use pos_weight", "regression": ""}.get(data.problem, "; use class_weights")
            raise InputError(f"{name} does not fit: the problem is {data.problem}{other}")
    if data.problem == "regression":
        return None
    asked = arguments.pos_weight if data.problem == "multi_label" else arguments.class_weights
    if asked is None:
        return None
    train = data.report["train"]
    counts: dict[str, int] = train["bases_per_class" if data.problem == "token" else "rows_per_class"]
    if data.problem == "multi_label":
        if isinstance(asked, str) and asked != "balanced":
            weights = dict.fromkeys(data.classes, float(asked))
        else:
            weights = _balance_labels(counts, train["rows"]) if asked == "balanced" else _fill_in(asked, data.classes)
        return StepLoss(data.problem, weights=weights)
    if absent := [name for name, count in counts.items() if not count]:
        raise InputError(f"{train['file']}: no row is left to train the class {absent[0]!r}, so it cannot be weighted")
    weights = {name: 1 / count for name, count in counts.items()}
    if asked != "balanced":
        weights = _fill_in(asked, data.classes)
    mean = sum(weights[name] * count for name, count in counts.items()) / sum(counts.values())
    weights = {name: weight / mean for name, weight in weights.items()}
    return StepLoss(data.problem, arguments.label_smoothing_factor, weights)


def _balance_labels(counts: dict[str, int], rows: int) -> dict[str, float]:
    return {name: (rows - count) / count if 0 < count < rows else 1.0 for name, count in counts.items()}


def _fill_in(weights: Any, classes: list[str]) -> dict[str, float]:
    if unknown := [name for name in weights if name not in classes]:
        raise InputError(f"a weight is given for {unknown[0]!r}, which is none of the classes {shorten(classes)}")
    return {name: weights.get(name, 1.0) for name in classes}


__all__ = ["choose_loss"]
