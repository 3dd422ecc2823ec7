"""At which layer is the prediction made? KL divergence of what the head reads of each layer from what it says at last.

After nostalgebraist's logit lens (2020) and figure 7 of arXiv 2601.22203.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from gengram.training.evaluation.scoring import find_logits

# Log-probabilities that are compared at once.
_LOGITS = 1 << 23


class LogitLens:
    """Compares what the head reads of each layer with what the model says, batch after batch.

    Args:
        model, final_norm, vocabulary: see `measure_logit_lens`.
    """

    def __init__(self, model: PreTrainedModel, *, final_norm: bool = True, vocabulary: int | None = None):
        self._model, self._final_norm, self._vocabulary = model, final_norm, vocabulary
        self._layers = find_stack(model)
        self._total, self._count = torch.zeros(len(self._layers), dtype=torch.float64), 0

    def look(self, batch: dict[str, Any]) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Return the hidden states [B, T, D] that each layer gives on, and the logits [B, T, V]: one forward pass."""
        states: list[torch.Tensor] = []

        def keep(layer: nn.Module, args: tuple, output: Any) -> None:
            states.append(output[0] if isinstance(output, tuple) else output)

        hooks = [layer.register_forward_hook(keep) for layer in self._layers]
        try:
            answer = find_logits(self._model(**batch))
        finally:
            for hook in hooks:
                hook.remove()
        return states, answer

    def add(self, batch: dict[str, Any], states: Sequence[torch.Tensor], answer: torch.Tensor) -> None:
        """Compare what `look` has returned: the head is called once for each layer."""
        real = batch.get("attention_mask", torch.ones_like(batch["input_ids"])).bool()
        said = answer[real.to(answer.device)][:, : self._vocabulary]
        self._count += len(said)
        for number, state in enumerate(states):
            if self._final_norm:
                logits = _finish(self._model, self._layers, batch, state)
            else:
                logits = self._model.get_output_embeddings()(state)
            self._total[number] += _sum_divergence(said, logits[real.to(logits.device)][:, : self._vocabulary])

    def summarise(self) -> dict[str, float]:
        """Return what `measure_logit_lens` does, of all batches so far."""
        means = (self._total / max(self._count, 1)).tolist()
        return {f"logit_lens/layer_{number}/kl": mean for number, mean in enumerate(means, start=1) if self._count}


def measure_logit_lens(
    model: PreTrainedModel,
    batches: Iterable[dict[str, Any]],
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
    lens = LogitLens(model, final_norm=final_norm, vocabulary=vocabulary)
    with torch.no_grad():
        for batch in batches:
            lens.add(batch, *lens.look(batch))
    return lens.summarise()


def find_stack(model: PreTrainedModel) -> Sequence[nn.Module]:
    """Return the layers of a model; none where it has no stack of as many as its configuration says, or several."""
    number = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    stacks = [
        module
        for module in model.modules()
        if isinstance(module, nn.ModuleList)
        and len(module) == number
        and all(isinstance(layer, GradientCheckpointingLayer) for layer in module)
    ]
    return list(stacks[0]) if len(stacks) == 1 else []


def _finish(
    model: PreTrainedModel, layers: Sequence[nn.Module], batch: dict[str, Any], state: torch.Tensor
) -> torch.Tensor:
    """Return the logits that the model would have if its last layer gave on these hidden states.

    The layers do nothing meanwhile: each hands on what it is given, and the last one's output is replaced.
    """

    def skip(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return hidden_states

    def replace(layer: nn.Module, args: tuple, output: torch.Tensor) -> torch.Tensor:
        return state

    # Routers in layers that do nothing say nothing: their loss, which some classes compute in every call, has no input.
    routed = getattr(model.config.get_text_config(), "output_router_logits", False)
    options = {"output_router_logits": False} if routed else {}
    own: list[tuple[nn.Module, Callable | None]] = [(layer, layer.__dict__.get("forward")) for layer in layers]
    hook = layers[-1].register_forward_hook(replace)
    try:
        for layer in layers:
            layer.forward = skip
        return find_logits(model(**batch, **options))
    finally:
        hook.remove()
        for layer, forward in own:
            if forward is None:
                del layer.forward
            else:  # Accelerate sets one where weights are elsewhere
                layer.forward = forward


def _sum_divergence(answer: torch.Tensor, logits: torch.Tensor) -> float:
    """Return the sum over N positions of KL(softmax(answer) || softmax(logits)), of two [N, V], in nats."""
    total, step = 0.0, max(1, _LOGITS // answer.shape[-1])
    for start in range(0, len(answer), step):
        said, read = (
            torch.log_softmax(one[start : start + step].to(answer.device).float(), dim=-1) for one in (answer, logits)
        )
        total += float(torch.nn.functional.kl_div(read, said, reduction="sum", log_target=True))
    return total


__all__ = ["LogitLens", "find_stack", "measure_logit_lens"]
