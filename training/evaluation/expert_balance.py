"""Are the experts of a mixture used alike? The load-balancing loss of Switch Transformers (arXiv 2101.03961)."""

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel


def measure_expert_balance(model: PreTrainedModel, batches: Iterable[dict[str, torch.Tensor]]) -> dict[str, float]:
    """Watch the routers of a model while it reads some batches; padding does not count.

    Of E experts, of which a token takes k, the balance of a layer is E * sum_i f_i P_i: f_i the share of the choices
    that fell on expert i, P_i its mean probability, the softmax over all experts (where a router scores each expert by
    a sigmoid, as DeepSeek-V3's, these scores divided by their sum). 1 is even use; E / k is reached where all
    tokens take the same experts with certainty.

    Args:
        model: of any family of transformers whose routers return logits, weights and the chosen experts: Mixtral,
            DeepSeek-V2 and V3, Qwen-MoE, OLMoE ...; with or without the motif memory.
        batches: arguments of its `forward`.

    Returns:
        `experts/layer_l/balance` for each layer l (from 0) with experts, and `experts/balance_mean` and
        `experts/balance_max` over them. Empty for a model without experts.
    """
    routers = {
        name: module for name, module in model.named_modules() if re.search("Top[kK]Router$", type(module).__name__)
    }
    counts: dict[str, torch.Tensor] = {}
    chances: dict[str, torch.Tensor] = {}
    real: torch.Tensor | None = None

    def watch(name: str, router: nn.Module, output: Any) -> None:
        if not (isinstance(output, tuple) and len(output) == 3):
            return
        logits, _, chosen = output
        logits, chosen = (one.reshape(-1, one.shape[-1]) for one in (logits, chosen))
        if real is not None:
            logits, chosen = logits[real.to(logits.device)], chosen[real.to(chosen.device)]
        some = torch.bincount(chosen.flatten(), minlength=logits.shape[-1]).double().cpu()
        sums = find_probabilities(router, logits).double().sum(dim=0).cpu()
        counts[name] = counts.get(name, 0) + some
        chances[name] = chances.get(name, 0) + sums

    hooks = [
        router.register_forward_hook(lambda router, args, output, name=name: watch(name, router, output))
        for name, router in routers.items()
    ]
    try:
        with torch.no_grad():
            for batch in batches if routers else ():
                real = batch["attention_mask"].flatten().bool() if "attention_mask" in batch else None
                model(**batch)
    finally:
        for hook in hooks:
            hook.remove()
    balances = {_find_layer(name): find_balance(counts[name], chances[name]) for name in counts}
    if not balances:
        return {}
    return {
        **{f"experts/layer_{layer}/balance": value for layer, value in sorted(balances.items())},
        "experts/balance_mean": sum(balances.values()) / len(balances),
        "experts/balance_max": max(balances.values()),
    }


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


__all__ = ["find_balance", "find_probabilities", "measure_expert_balance"]
