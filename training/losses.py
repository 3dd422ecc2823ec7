"""What is the loss of an optimizer step? A mean that does not depend on how its rows are divided into batches.

Dimensions: B rows, T tokens, C classes, labels or targets.
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
from gengram.training.problems import IGNORED, Problem


@dataclasses.dataclass(frozen=True)
class StepLoss:
    """The mean loss of a step, as Trainer's `compute_loss_func`.

    - One class a row or base: the mean of `w[class] * cross-entropy` over rows or labelled bases.
    - Several labels: the mean of `-(w[label] * y * log p + (1 - y) * log(1 - p))` over rows and labels.
    - Regression: the mean squared error over rows and targets.

    The mean is over all rows of an optimizer step: Trainer counts them over accumulated batches and processes. How a
    step's rows are divided into batches and processes therefore does not change its gradient; to divide by the sum of
    the weights instead would need that sum from everywhere.

    Attributes:
        problem: what the labels are.
        label_smoothing: of classes, see `torch.nn.functional.cross_entropy`.
        weights: for each class or label, as it is used, see `choose_loss`; None: all are 1.
    """

    problem: Problem
    label_smoothing: float = 0.0
    weights: dict[str, float] | None = None

    def __call__(
        self, outputs: ModelOutput, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Return a batch's part of the mean over `num_items_in_batch` labels, by default the mean over its own.

        Args:
            outputs: with `logits` [B, C] or [B, T, C].
            labels: class ids int64 [B] or [B, T], `IGNORED` is left out; or numbers [B, C] (0 and 1 for labels).
            num_items_in_batch: labels of the whole optimizer step.
        """
        logits = outputs["logits"].float()
        labels = labels.to(logits.device)
        weights = None if self.weights is None else torch.tensor(list(self.weights.values()), device=logits.device)
        if self.problem == "multi_label":
            total = F.binary_cross_entropy_with_logits(logits, labels.float(), pos_weight=weights, reduction="sum")
        elif self.problem == "regression":
            total = F.mse_loss(logits, labels.view_as(logits), reduction="sum")
        else:
            total = F.cross_entropy(
                logits.flatten(0, -2),
                labels.flatten(),
                weights,
                ignore_index=IGNORED,
                reduction="sum",
                label_smoothing=self.label_smoothing,
            )
        items = count_labels(labels) if num_items_in_batch is None else num_items_in_batch
        # A step whose bases all have no known label has the loss 0, and not 0 / 0.
        return total / (items.to(logits.device).clamp(min=1) if isinstance(items, torch.Tensor) else max(items, 1))


def count_labels(labels: torch.Tensor) -> int:
    """Return how many labels a mean is over: numbers, or class ids that are known."""
    return labels.numel() if labels.is_floating_point() else int(labels.ne(IGNORED).sum())


def choose_loss(arguments: FinetuneArguments, data: LabelledSplits) -> StepLoss:
    """Return the loss that the arguments ask for; weights are computed from the training rows alone.

    Weights of classes have the mean 1 over the training rows (or labelled bases), so that the loss and the learning
    rate keep their size.

    - `class_weights="balanced"`: `N / (C * n[class])` for N labels of which n are of the class. Weights by name are
      scaled to the mean 1 over the training rows.
    - `pos_weight="balanced"`: for each label, rows without it divided by rows with it; 1 for a label that no or every
      training row has. Factors by name, or one for all labels, are taken as they are.

    Raises:
        `InputError`: weights or label smoothing that do not fit the problem, a weight for a name that there is not, a
            class that no training row has.
    """
    for name, problems in (("class_weights", ("single_label", "token")), ("pos_weight", ("multi_label",))):
        if getattr(arguments, name) is not None and data.problem not in problems:
            other = {"multi_label": "; use pos_weight", "regression": ""}.get(data.problem, "; use class_weights")
            raise InputError(f"{name} does not fit: the problem is {data.problem}{other}")
    if arguments.label_smoothing_factor and data.problem not in ("single_label", "token"):
        raise InputError(f"label_smoothing_factor does not fit: it is for classes, and the problem is {data.problem}")
    unweighted = StepLoss(data.problem, arguments.label_smoothing_factor)
    if data.problem == "regression":
        return unweighted
    asked = arguments.pos_weight if data.problem == "multi_label" else arguments.class_weights
    if asked is None:
        return unweighted
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


__all__ = ["StepLoss", "choose_loss", "count_labels"]
