"""What is the loss of an optimizer step? A mean that does not depend on how its rows are divided into batches.

Dimensions: B rows, T tokens, C classes, labels or targets.
"""

import dataclasses

import torch
import torch.nn.functional as F
from transformers.utils import ModelOutput

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
            labels: class ids int64 [B] or [B, T], `IGNORED` is left out; or floats [B, C] (0 and 1 for labels).
            num_items_in_batch: labels of the whole optimizer step.
        """
        logits = outputs["logits"].float()
        labels = labels.to(logits.device)
        weights = None if self.weights is None else torch.tensor(list(self.weights.values()), device=logits.device)
        if self.problem == "multi_label":
            total = F.binary_cross_entropy_with_logits(logits, labels, pos_weight=weights, reduction="sum")
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
        return total / (items.to(logits.device) if isinstance(items, torch.Tensor) else items)


def count_labels(labels: torch.Tensor) -> int:
    """Return how many labels a mean is over: numbers, or class ids that are known."""
    return labels.numel() if labels.is_floating_point() else int(labels.ne(IGNORED).sum())


__all__ = ["StepLoss", "count_labels"]
