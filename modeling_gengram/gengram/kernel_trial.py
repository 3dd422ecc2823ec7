"""Do the memory's kernels run on a device, and right? Small memories, forward and backward, beside the definition.

Whole memories are called and not single operators: all six sizes, several layers that read one context, packed
documents, N and padding, with and without gradients. So each kernel is compiled under the kinds of arguments that a
model gives it, for example a number of a layer that is 1, which Triton makes a constant.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes
from transformers import LlamaConfig

from .configuration_gengram import GengramConfig
from .kmer_index import KmerContext

PRESETS = ("released", "paper")


@dataclass(frozen=True)
class Scale:
    """How much is computed: layers, B sequences of T bases, tables of E columns, width D, k-mers of these sizes."""

    layers: int = 3
    B: int = 2
    T: int = 150
    D: int = 64
    E: int = 32
    kmer_sizes: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    window_size: int = 21


FULL = Scale()
# For an interpreter, which takes a millisecond for what a processor does in a microsecond.
SMALL = Scale(layers=2, B=1, T=20, D=8, E=4, kmer_sizes=(1, 2), window_size=6)


@dataclass(frozen=True)
class Found:
    """Relative L2 errors against the definition in float64 of the same weights: the worst of all tensors."""

    evaluation: float
    training: float
    gradients: float


def try_memory(
    memory: type[nn.Module],
    path: str,
    preset: str,
    device: torch.device,
    dtype: torch.dtype,
    scale: Scale = FULL,
    packed: bool = True,
) -> Found:
    """
    Run a form of the memory as a model does, in several layers, and compare it with the definition.

    Args:
        memory (`type`): `MotifMemory`, whose file asks for this one.
        path (`str`): the form, as in `MotifMemory.path`; preset (`str`): `"released"` or `"paper"`.
        device (`torch.device`), dtype (`torch.dtype`): of weights and hidden states.
        scale (`Scale`): how much.
        packed (`bool`): with documents and padding.

    Returns:
        `Found`. Random numbers, modes and gradients of the caller are left alone.

    Raises:
        whatever compiling or running raises.
    """
    with _apart(device):
        torch.manual_seed(0)
        config = _make_config(preset, scale)
        memories = [memory(config, layer).to(dtype) for layer in range(scale.layers)]
        exact = [copy.deepcopy(one).double() for one in memories]
        context = _make_context(scale, packed)
        hidden = _make_hidden(exact, context, scale).to(dtype)
        cotangent = torch.randn(scale.B, scale.T, scale.D).to(dtype)
        truth = _run(exact, "definition", hidden.double(), cotangent.double(), context)
        ours = [one.to(device) for one in memories]
        found = _run(ours, path, hidden.to(device), cotangent.to(device), context.to(device))
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        evaluation, training, *gradients = _measure(found, truth)
    return Found(evaluation, training, max(gradients))


@contextmanager
def _apart(device: torch.device) -> Iterator[None]:
    """Whatever the caller is doing: inference, tracing, autocast, drawing random numbers."""
    devices = [device] if device.type == "cuda" else []
    with (
        _disable_current_modes(),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
        torch.device("cpu"),
        torch.random.fork_rng(devices=devices),
    ):
        yield


def _make_config(preset: str, scale: Scale) -> GengramConfig:
    backbone = LlamaConfig(hidden_size=scale.D, num_attention_heads=1, num_hidden_layers=scale.layers, vocab_size=16)
    fields: dict[str, Any] = {
        "memory_layers": list(range(scale.layers)), "memory_dim": scale.E, "kmer_sizes": list(scale.kmer_sizes),
        "window_size": scale.window_size, "memory_preset": preset,
    }  # fmt: skip
    return GengramConfig(backbone_config=backbone, **fields)


def _make_context(scale: Scale, packed: bool) -> KmerContext:
    letters = torch.randint(0, 4, (scale.B, scale.T))
    letters[:, scale.T // 2] = 4  # N
    if not packed:
        return KmerContext(letters)
    real = torch.ones(scale.B, scale.T, dtype=torch.bool)
    real[0, : scale.T // 8] = False
    documents = torch.arange(scale.T).div(scale.T // 3, rounding_mode="floor").expand(scale.B, -1).contiguous()
    return KmerContext(letters.masked_fill(~real, -1), documents, real)


def _make_hidden(memories: list[nn.Module], context: KmerContext, scale: Scale) -> torch.Tensor:
    """Hidden states [B, T, D] that agree with the keys of all layers, or disagree: the slope of the released gate has
    no bound where a score is 0, and would make much of rounding."""
    hidden = 0.2 * torch.randn(scale.B, scale.T, scale.D, dtype=torch.float64)
    for memory in memories:
        memory.path = "definition"
        with torch.no_grad():
            hidden += nn.functional.normalize(memory.read(context)[0], dim=-1) * scale.D**0.5
    return hidden * torch.where(torch.rand(scale.B, scale.T, 1) < 0.5, -1, 1)


def _run(
    memories: list[nn.Module], path: str, hidden: torch.Tensor, cotangent: torch.Tensor, context: KmerContext
) -> list[torch.Tensor]:
    """Residuals of an evaluation and of a training step, then its gradients."""
    for memory in memories:
        memory.path = path
    hidden = hidden.requires_grad_()
    with torch.no_grad():
        evaluated = _add_up([memory.eval() for memory in memories], hidden, context)
    trained = _add_up([memory.train() for memory in memories], hidden, context)
    leaves = [hidden, *(parameter for memory in memories for parameter in memory.parameters())]
    return [evaluated, trained, *torch.autograd.grad(trained, leaves, cotangent)]


def _add_up(memories: list[nn.Module], hidden: torch.Tensor, context: KmerContext) -> torch.Tensor:
    context = memories[0].index(context)  # as a model does, once for all layers
    return torch.stack([memory(hidden, context) for memory in memories]).sum(0)


def _measure(found: list[torch.Tensor], truth: list[torch.Tensor]) -> list[float]:
    errors = []
    for ours, exact in zip(found, truth, strict=True):
        size = exact.detach().norm().clamp(min=1e-12)
        error = float((ours.detach().double().cpu() - exact.detach()).norm() / size)
        errors.append(error if error == error else float("inf"))
    return errors


__all__ = ["FULL", "PRESETS", "SMALL", "Found", "Scale", "try_memory"]
