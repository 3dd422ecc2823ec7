"""Are the experts of a mixture used alike? The load-balancing loss of Switch Transformers (arXiv 2101.03961)."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel


class ExpertWatch:
    """Sees which experts a model chooses while it reads; padding does not count.

    Args:
        model: of any family of transformers whose routers return logits, weights and the chosen experts: Mixtral,
            DeepSeek-V2 and V3, Qwen-MoE, OLMoE ...; with or without the motif memory.
    """

    def __init__(self, model: PreTrainedModel):
        self._routers = {
            name: module for name, module in model.named_modules() if re.search("Top[kK]Router$", type(module).__name__)
        }
        self._counts: dict[str, torch.Tensor] = {}
        self._chances: dict[str, torch.Tensor] = {}

    @contextmanager
    def watch(self, attention_mask: torch.Tensor | None = None) -> Iterator[None]:
        """What the model reads meanwhile is seen; `attention_mask` [B, T]: 0 at padding."""
        real = None if attention_mask is None else attention_mask.flatten().bool()

        def look(name: str, router: nn.Module, output: Any) -> None:
            if isinstance(output, tuple) and len(output) == 3:
                self._count(name, router, output[0], output[2], real)

        hooks = [
            router.register_forward_hook(lambda router, args, output, name=name: look(name, router, output))
            for name, router in self._routers.items()
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _count(
        self, name: str, router: nn.Module, logits: torch.Tensor, chosen: torch.Tensor, real: torch.Tensor | None
    ) -> None:
        logits, chosen = (one.reshape(-1, one.shape[-1]) for one in (logits, chosen))
        if real is not None:
            logits, chosen = logits[real.to(logits.device)], chosen[real.to(chosen.device)]
        counts = torch.bincount(chosen.flatten(), minlength=logits.shape[-1]).cpu().double()
        chances = find_probabilities(router, logits).cpu().double().sum(dim=0)
        self._counts[name] = self._counts.get(name, torch.zeros_like(counts)) + counts
        self._chances[name] = self._chances.get(name, torch.zeros_like(chances)) + chances

    def summarise(self) -> dict[str, float]:
        """Return what `measure_expert_balance` does, of all that was seen."""
        balances = {_find_layer(name): find_balance(self._counts[name], self._chances[name]) for name in self._counts}
        if not balances:
            return {}
        return {
            **{f"experts/layer_{layer}/balance": value for layer, value in sorted(balances.items())},
            "experts/balance_mean": sum(balances.values()) / len(balances),
            "experts/balance_max": max(balances.values()),
        }


def measure_expert_balance(model: PreTrainedModel, batches: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Watch the routers of a model while it reads some batches.

    Of E experts, of which a token takes k, the balance of a layer is E * sum_i f_i P_i: f_i the share of the choices
    that fell on expert i, P_i its mean probability, the softmax over all experts (where a router scores each expert by
    a sigmoid, as DeepSeek-V3's, these scores divided by their sum). 1 is even use; E / k is reached where all tokens
    take the same experts with certainty.

    Args:
        model: see `ExpertWatch`.
        batches: arguments of its `forward`.

    Returns:
        `experts/layer_l/balance` for each layer l (from 0) with experts, and `experts/balance_mean` and
        `experts/balance_max` over them. Empty for a model without experts.
    """
    experts = ExpertWatch(model)
    with torch.no_grad():
        for batch in batches:
            with experts.watch(batch.get("attention_mask")):
                model(**batch)
    return experts.summarise()


def find_balance(counts: torch.Tensor, chances: torch.Tensor) -> float:
    """Return E * sum_i f_i P_i of E experts.

    Args:
        counts: float64 [E], how often each was chosen.
        chances: float64 [E], sums of their probabilities.
    """
    return float(len(counts) * (counts / counts.sum()) @ (chances / chances.sum()))


def find_probabilities(router: nn.Module, logits: torch.Tensor) -> torch.Tensor:
    """Return the probability of each expert, float32 [N, E]."""
    if hasattr(router, "e_score_correction_bias"):
        scores = logits.float().sigmoid()
        return scores / scores.sum(dim=-1, keepdim=True)
    return logits.float().softmax(dim=-1)


def _find_layer(name: str) -> int:
    """The number of a layer in the name of a module of it."""
    found = re.search(r"layers\.(\d+)\.", f"{name}.")
    return int(found[1]) if found else 0


__all__ = ["ExpertWatch", "find_balance", "find_probabilities", "measure_expert_balance"]
