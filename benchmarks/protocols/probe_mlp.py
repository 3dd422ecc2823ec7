"""How is the Genos papers' small network trained on vectors? Several at once, one for each seed and layer, with the
numbers that each has alone.

Linear(H, H/2) - ReLU - Dropout - Linear(H/2, H/4) - ReLU - Dropout - Linear(H/4, min(H/8, 128)) - ReLU - Dropout -
Linear(.., outputs). Adam, no weight decay, no scaling of the vectors, no early stopping: the network after the last
epoch is the one that counts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch.nn import functional as F

from gengram.progress import track
from gengram.training.problems import Problem

RATE, BATCH, EPOCHS, DROPOUT = 1e-4, 64, 100, 0.2
"""As published."""

_ORDER = 1 << 32  # added to the seed of the first weights: rows and what is dropped are drawn from another one
_ROWS = 4096  # that are read at a time once the networks are trained


@dataclass(frozen=True)
class Networks:
    """M trained networks of one shape, each with its own rows of numbers.

    Attributes:
        weights: of each linear layer [M, in, out].
        biases: [M, 1, out].
    """

    weights: tuple[torch.Tensor, ...]
    biases: tuple[torch.Tensor, ...]

    @torch.no_grad()
    def predict(self, number: int, inputs: np.ndarray) -> np.ndarray:
        """Return what network `number` says of rows, float32 [N, H] -> float64 [N, outputs]."""
        some = Networks(
            tuple(weight[number : number + 1] for weight in self.weights),
            tuple(bias[number : number + 1] for bias in self.biases),
        )
        device, dtype = self.weights[0].device, self.weights[0].dtype
        found = [
            some.run(torch.from_numpy(inputs[first : first + _ROWS]).to(device, dtype)[None])[0]
            for first in range(0, len(inputs), _ROWS)
        ]
        return torch.cat(found).double().cpu().numpy()

    def run(self, inputs: torch.Tensor, kept: Sequence[torch.Tensor] = ()) -> torch.Tensor:
        """Return the outputs [M, B, outputs] of inputs [M, B, H].

        Args:
            inputs: of each network.
            kept: after each hidden layer what its values are multiplied by, [M, B, width]: 0 where they are dropped.
        """
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            inputs = torch.baddbmm(bias, inputs, weight)
            if number < len(self.weights) - 1:
                inputs = inputs.relu()
                if kept:
                    inputs = inputs * kept[number]
        return inputs


def list_widths(width: int) -> tuple[int, int, int]:
    """Return the widths of the hidden layers on vectors of so many numbers; a layer has one number at least."""
    return max(1, width // 2), max(1, width // 4), max(1, min(width // 8, 128))


def draw_networks(width: int, outputs: int, seeds: Sequence[int], dtype: torch.dtype = torch.float32) -> Networks:
    """Return new networks, one for each seed, with the weights that `torch.nn.Linear` begins with.

    Those of a seed do not depend on the others.
    """
    sizes = (width, *list_widths(width), outputs)
    weights: list[list[torch.Tensor]] = [[] for _ in sizes[1:]]
    biases: list[list[torch.Tensor]] = [[] for _ in sizes[1:]]
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        for place, (inner, outer) in enumerate(pairwise(sizes)):
            # Kaiming's uniform distribution with a = sqrt(5), and the bias, have the same bound.
            bound = 1 / math.sqrt(inner)
            weight = torch.empty(outer, inner, dtype=dtype).uniform_(-bound, bound, generator=generator)
            weights[place].append(weight.T)
            biases[place].append(torch.empty(1, outer, dtype=dtype).uniform_(-bound, bound, generator=generator))
    return Networks(tuple(torch.stack(each) for each in weights), tuple(torch.stack(each) for each in biases))


def train_networks(
    problem: Problem,
    inputs: Sequence[np.ndarray],
    labels: np.ndarray,
    outputs: int,
    seeds: Sequence[int],
    *,
    dropout_epochs: int | None = None,
    epochs: int = EPOCHS,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Networks:
    """Train a network for each layer and seed.

    A seed gives the first weights, the order of the rows in each epoch and what is dropped, the same for every layer;
    a network does not depend on which others are trained beside it.

    Args:
        problem: cross-entropy of classes, binary cross-entropy of labels, Huber loss of numbers.
        inputs: of L layers the vectors, float32 [N, H], all of one width.
        labels: int64 [N] class ids, bool [N, outputs] or float64 [N, outputs].
        outputs: how many classes, labels or numbers.
        seeds: S of them.
        dropout_epochs: the number of epochs, from the first, in which values are dropped; None: all.
        epochs: how often every row is seen.
        device, dtype: what is computed on, and in.

    Returns:
        L x S networks; that of layer l and seed s is number l * S + s.
    """
    device = torch.device(device)
    features = torch.stack([torch.from_numpy(one) for one in inputs]).to(device, dtype)  # [L, N, H]
    targets = _prepare(problem, labels, dtype).to(device)
    layers, rows, width = features.shape
    drawn = draw_networks(width, outputs, seeds, dtype)
    networks = Networks(
        *(
            tuple(each.repeat(layers, 1, 1).to(device).requires_grad_() for each in some)
            for some in (drawn.weights, drawn.biases)
        )
    )
    optimizer = torch.optim.Adam([*networks.weights, *networks.biases], lr=RATE, fused=True)
    generators = [torch.Generator().manual_seed(seed + _ORDER) for seed in seeds]
    for epoch in track(range(epochs), desc="Probing", unit="epoch", leave=False):
        drops = dropout_epochs is None or epoch < dropout_epochs
        orders = torch.stack([torch.randperm(rows, generator=generator) for generator in generators])  # [S, N]
        for order in orders.to(device).split(BATCH, dim=1):
            # [L, S, B, H] -> [M, B, H]
            batch = features[:, order].flatten(0, 1)
            kept = _draw_kept(generators, order.shape[1], list_widths(width), layers, batch) if drops else ()
            answer = targets[order].repeat(layers, *([1] * targets.dim()))
            optimizer.zero_grad(set_to_none=True)
            _measure_loss(problem, networks.run(batch, kept), answer).backward()
            optimizer.step()
    return Networks(*(tuple(each.detach() for each in some) for some in (networks.weights, networks.biases)))


def _prepare(problem: Problem, labels: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    targets = torch.from_numpy(np.ascontiguousarray(labels))
    return targets if problem == "single_label" else targets.to(dtype)


def _draw_kept(
    generators: Sequence[torch.Generator], rows: int, widths: Sequence[int], layers: int, like: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Draw what is kept behind each hidden layer, [M, B, width]: 0, or 1 / (1 - DROPOUT)."""
    drawn = torch.stack([torch.rand(rows, sum(widths), generator=generator) for generator in generators])
    kept = (drawn >= DROPOUT).to(like.device, like.dtype) / (1 - DROPOUT)
    return tuple(each.repeat(layers, 1, 1) for each in kept.split(list(widths), dim=2))


def _measure_loss(problem: Problem, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The sum over networks of the mean loss of their rows, so that none has a part in another's gradient."""
    if problem == "single_label":
        loss = F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="sum")
        return loss / targets.shape[1]
    measure = F.binary_cross_entropy_with_logits if problem == "multi_label" else F.huber_loss
    return measure(outputs, targets, reduction="sum") / (targets.shape[1] * targets.shape[2])


__all__ = ["BATCH", "DROPOUT", "EPOCHS", "RATE", "Networks", "draw_networks", "list_widths", "train_networks"]
