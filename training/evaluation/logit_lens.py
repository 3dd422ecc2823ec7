"""At which layer is the prediction made? KL divergence of what the head reads of each layer from what it says at last.

After nostalgebraist's logit lens (2020) and figure 7 of arXiv 2601.22203.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from gengram.training.evaluation.scoring import find_logits

# Log-probabilities that are compared at once.
_LOGITS = 1 << 23


def measure_logit_lens(
    model: PreTrainedModel,
    batches: Iterable[dict[str, torch.Tensor]],
    *,
    final_norm: bool = True,
    vocabulary: int | None = None,
) -> dict[str, float]:
    """Return KL(p_L || p_l) for each layer l = 1 .. L: the mean over positions that are not padding, in nats.

    p_l is what everything behind the last layer (the final norm, a head's own transform, the output embeddings) makes
    of the hidden states that layer l gives on, so it is defined for every architecture with one stack of layers; p_L is
    the model's answer. It costs one forward pass a batch, and the head once more for each layer.

    Args:
        model: a language model, as it is.
        batches: arguments of its `forward`.
        final_norm: False: the output embeddings alone read layers 1 .. L, without the norm (or the transform) that the
            model has in front of them. The paper does not say which it takes.
        vocabulary: compare the first so many rows of the vocabulary alone, those that are tokens.

    Returns:
        `logit_lens/layer_l/kl` for each layer, from 1; empty for a model without one stack of layers, or with two.
    """
    layers = find_stack(model)
    if layers is None:
        return {}
    total, count = torch.zeros(len(layers), dtype=torch.float64), 0
    with torch.no_grad():
        for batch in batches:
            states, answer = _read_layers(model, layers, batch)
            real = batch.get("attention_mask", torch.ones_like(batch["input_ids"])).bool().to(answer.device)
            answer = answer[real][:, :vocabulary]
            count += len(answer)
            for number, state in enumerate(states):
                if final_norm:
                    logits = _finish(model, layers, batch, state)
                else:
                    logits = model.get_output_embeddings()(state)
                total[number] += _sum_divergence(answer, logits[real.to(logits.device)][:, :vocabulary])
    return {f"logit_lens/layer_{number + 1}/kl": value / count for number, value in enumerate(total.tolist()) if count}


def find_stack(model: PreTrainedModel) -> nn.ModuleList | None:
    """Return the layers of a model; None where it has no stack of as many as its configuration says, or several."""
    number = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    stacks = [
        module
        for module in model.modules()
        if isinstance(module, nn.ModuleList)
        and len(module) == number
        and all(isinstance(layer, GradientCheckpointingLayer) for layer in module)
    ]
    return stacks[0] if len(stacks) == 1 else None


def _read_layers(
    model: PreTrainedModel, layers: nn.ModuleList, batch: dict[str, torch.Tensor]
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Return the hidden states [B, T, D] that each layer gives on, and the logits [B, T, V]."""
    states: list[torch.Tensor] = []

    def keep(layer: nn.Module, args: tuple, output: Any) -> None:
        states.append(_take_state(output))

    hooks = [layer.register_forward_hook(keep) for layer in layers]
    try:
        answer = find_logits(model(**batch))
    finally:
        for hook in hooks:
            hook.remove()
    return states, answer


def _finish(
    model: PreTrainedModel, layers: nn.ModuleList, batch: dict[str, torch.Tensor], state: torch.Tensor
) -> torch.Tensor:
    """Return the logits that the model would have if its last layer gave on these hidden states.

    The layers do nothing meanwhile: each hands on what it is given, and the last one's output is replaced.
    """

    def skip(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return hidden_states

    def replace(layer: nn.Module, args: tuple, output: torch.Tensor) -> torch.Tensor:
        return state

    own: list[tuple[nn.Module, Callable | None]] = [(layer, layer.__dict__.get("forward")) for layer in layers]
    hook = layers[-1].register_forward_hook(replace)
    try:
        for layer in layers:
            layer.forward = skip
        return find_logits(model(**batch))
    finally:
        hook.remove()
        for layer, forward in own:
            if forward is None:
                del layer.forward
            else:  # Accelerate sets one where weights are elsewhere
                layer.forward = forward


def _take_state(output: Any) -> torch.Tensor:
    return output[0] if isinstance(output, tuple) else output


def _sum_divergence(answer: torch.Tensor, logits: torch.Tensor) -> float:
    """Return the sum over N positions of KL(softmax(answer) || softmax(logits)), of two [N, V], in nats."""
    total, step = 0.0, max(1, _LOGITS // answer.shape[-1])
    for start in range(0, len(answer), step):
        said, read = (
            torch.log_softmax(one[start : start + step].to(answer.device).float(), dim=-1) for one in (answer, logits)
        )
        total += float(torch.nn.functional.kl_div(read, said, reduction="sum", log_target=True))
    return total


__all__ = ["find_stack", "measure_logit_lens"]
