"""What is the loss of a step? The mean over its learned tokens, however it is divided into batches and processes."""

from typing import Any

import torch
import torch.nn.functional as F

from gengram.training.problems import IGNORED


class PretrainLoss:
    """The parts of a step's loss that a batch has; the sum over all batches of all processes is the step's loss.

    Tokens count alike, wherever they are. What is a mean over blocks (whether sentences follow each other, the balance
    of experts) counts by the batch's share of the step's blocks.

    Args:
        is_causal: labels are shifted here, as transformers' causal models do.
        balance: weight of the loss that keeps experts in balance.
        shifted: of a causal model, labels are shifted before they come here.
    """

    def __init__(self, is_causal: bool, balance: float = 0.0, shifted: bool = False):
        self.is_causal, self.balance, self.shifted = is_causal, balance, shifted

    def __call__(
        self, outputs: Any, labels: torch.Tensor, others: dict[str, torch.Tensor], tokens: torch.Tensor, share: float
    ) -> tuple[torch.Tensor, torch.Tensor | float]:
        """Return the loss of the tokens, and that of everything else; numbers.

        Args:
            outputs: of the model, without labels: `logits` or `prediction_logits` [B, T, V]; `seq_relationship_logits`
                [B, 2]; `aux_loss` of mixtures of experts.
            labels: int64 [B, T].
            others: `next_sentence_label` int64 [B], if there is one.
            tokens: learned tokens of the whole step.
            share: of the step's blocks.
        """
        logits = getattr(outputs, "prediction_logits", None)
        logits = outputs.logits if logits is None else logits
        if self.is_causal and not self.shifted:
            logits, labels = logits[:, :-1], labels[:, 1:]
        labels = labels.to(logits.device)
        total = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum")
        besides: torch.Tensor | float = 0.0
        if (follows := others.get("next_sentence_label")) is not None:
            answer = outputs.seq_relationship_logits.float()
            besides = besides + share * F.cross_entropy(answer, follows.to(answer.device))
        if self.balance and (balance := getattr(outputs, "aux_loss", None)) is not None:
            besides = besides + self.balance * share * balance.to(logits.device)
        return total / tokens.to(total.device).clamp(min=1), besides


__all__ = ["PretrainLoss"]
