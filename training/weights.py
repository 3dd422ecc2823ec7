"""How much does each class count in the training loss? Class weights, and weights of positives where labels are many.

Dimensions: B rows, T tokens, C classes or labels.
"""

import dataclasses
from typing import Any

import torch
import torch.nn.functional as F
from transformers.utils import ModelOutput

from gengram.errors import InputError
from gengram.genome.tables import shorten
from gengram.training.arguments import FinetuneArguments
from gengram.training.data.inputs import LabelledSplits
from gengram.training.problems import IGNORED


@dataclasses.dataclass(frozen=True)
class WeightedLoss:
    """The training loss with weights, as Trainer's `compute_loss_func`.

    - One class a row or base: the mean of `w[class] * cross-entropy` over rows or labelled bases.
    - Several labels: the mean of `-(w[label] * y * log p + (1 - y) * log(1 - p))` over rows and labels.

    The mean is over all rows of an optimizer step: Trainer counts them over accumulated batches and processes. How a
    step's rows are divided into batches and processes therefore does not change its gradient; to divide by the sum of
    the weights instead would need that sum from everywhere.

    Attributes:
        problem: `single_label`, `token` or `multi_label`.
        weights: for each of `classes`, as it is used: those of classes have the mean 1 over the training rows (or
            labelled bases), so that the loss and the learning rate keep their size.
        label_smoothing: of classes, see `torch.nn.functional.cross_entropy`.
    """

    problem: str
    weights: dict[str, float]
    label_smoothing: float = 0.0

    def __call__(
        self, outputs: ModelOutput, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Return the loss of a batch.

        Args:
            outputs: with `logits` [B, C] or [B, T, C].
            labels: class ids int64 [B] or [B, T], `IGNORED` is left out; or 0/1 floats [B, C].
            num_items_in_batch: labels of the whole optimizer step; by default those of this batch.
        """
        logits = outputs["logits"].float()
        weights = torch.tensor(list(self.weights.values()), device=logits.device)
        labels = labels.to(logits.device)
        if self.problem == "multi_label":
            total = F.binary_cross_entropy_with_logits(logits, labels, pos_weight=weights, reduction="sum")
        else:
            total = F.cross_entropy(
                logits.flatten(0, -2),
                labels.flatten(),
                weights,
                ignore_index=IGNORED,
                reduction="sum",
                label_smoothing=self.label_smoothing,
            )
        items = labels.ne(IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        return total / (items.to(logits.device) if isinstance(items, torch.Tensor) else items)


def choose_loss(arguments: FinetuneArguments, data: LabelledSplits) -> WeightedLoss | None:
    """Return the weighted loss that the arguments ask for, computed from the training rows alone; None for no weights.

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
        return WeightedLoss(data.problem, weights)
    if absent := [name for name, count in counts.items() if not count]:
        raise InputError(f"{train['file']}: no row is left to train the class {absent[0]!r}, so it cannot be weighted")
    weights = {name: 1 / count for name, count in counts.items()}
    if asked != "balanced":
        weights = _fill_in(asked, data.classes)
    mean = sum(weights[name] * count for name, count in counts.items()) / sum(counts.values())
    weights = {name: weight / mean for name, weight in weights.items()}
    return WeightedLoss(data.problem, weights, arguments.label_smoothing_factor)


def _balance_labels(counts: dict[str, int], rows: int) -> dict[str, float]:
    return {name: (rows - count) / count if 0 < count < rows else 1.0 for name, count in counts.items()}


def _fill_in(weights: Any, classes: list[str]) -> dict[str, float]:
    if unknown := [name for name in weights if name not in classes]:
        raise InputError(f"a weight is given for {unknown[0]!r}, which is none of the classes {shorten(classes)}")
    return {name: weights.get(name, 1.0) for name in classes}


__all__ = ["WeightedLoss", "choose_loss"]
