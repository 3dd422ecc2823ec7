"""What does a small convolutional network learn from the letters of the same rows? What a reviewer asks for.

Four layers of convolutions, as large as DeepSTARR's (de Almeida et al. 2022), on one-hot letters. Rows of any length:
what is behind the end of a row is 0 in every layer and counts in no mean. A fifth input says how far a letter is from
the middle of the row, so that a motif at the junction of a splice site is not one elsewhere. The epoch is chosen on
validation rows.

It is trained by a plain loop: a `Trainer` would open a process group where several processes share out the cells of a
table, and wait for the others at every step.
"""

import copy
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from gengram.training.baselines.base_codes import NO_BASE, read_codes
from gengram.training.problems import Problem

_PADDING = NO_BASE + 1
_CENTRES = (10.0, 100.0)  # bp from the middle at which an input of the position has fallen to 1 / e


@dataclasses.dataclass(frozen=True)
class CnnSettings:
    """How large the network is, and how it is trained.

    Attributes:
        channels, kernels: of the convolutions; each is followed by a pooling of two bases but the last.
        hidden: width of the layer before the outputs.
        dropout: before that layer and behind it.
        longest: bp of a row that it reads; of longer ones those around the middle.
        epochs: at most; `patience` so many without a better one end the training.
        batch: rows a step.
        learning_rate: at its highest, after the first tenth of the steps; a cosine from there.
        weight_decay: of AdamW.
    """

    channels: tuple[int, ...] = (64, 64, 64, 96)
    kernels: tuple[int, ...] = (11, 5, 5, 5)
    hidden: int = 128
    dropout: float = 0.3
    longest: int = 4096
    epochs: int = 20
    patience: int = 4
    batch: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.01


@dataclasses.dataclass(frozen=True)
class TrainedCnn:
    """A network at its best epoch.

    Attributes:
        predict: rows -> float64 (N, C), logits or predictions.
        epoch: the best one, from 1.
        tried: for each epoch what `measure` has said of the validation rows.
    """

    predict: Callable[[Sequence[Any]], np.ndarray]
    epoch: int
    tried: list[dict[str, float]]


class SmallCnn(nn.Module):
    """Convolutions on one-hot letters, largest and mean value of each channel, two layers on top.

    Args:
        outputs: classes, labels or targets.
        settings: of its size.
        sides: sequences a row: 1, or 2 for pairs, which the same convolutions read and whose difference is read, too.
    """

    def __init__(self, outputs: int, settings: CnnSettings, sides: int = 1):
        super().__init__()
        letters = torch.zeros(_PADDING + 1, 4)
        letters[:4] = torch.eye(4)  # no base and no letter are 0
        self.letters: torch.Tensor
        self.register_buffer("letters", letters, persistent=False)
        widths = (4 + len(_CENTRES), *settings.channels)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(before, after, kernel, padding=kernel // 2, bias=False)
            for before, after, kernel in zip(widths, widths[1:], settings.kernels)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for width in settings.channels)
        self.head = nn.Sequential(
            nn.Dropout(settings.dropout),
            nn.Linear(2 * widths[-1] * (3 if sides == 2 else 1), settings.hidden),
            nn.ReLU(),
            nn.Dropout(settings.dropout),
            nn.Linear(settings.hidden, outputs),
        )

    def forward(self, *sides: torch.Tensor) -> torch.Tensor:
        """Return the outputs (B, C) of rows: codes (B, L) of each of their sequences, padded at the end."""
        read = [self._read(codes) for codes in sides]
        if len(read) == 2:
            read.append(read[1] - read[0])
        return self.head(torch.cat(read, dim=1))

    def _read(self, codes: torch.Tensor) -> torch.Tensor:
        there = (codes != _PADDING).unsqueeze(1)  # (B, 1, L)
        middle = there.sum(dim=2, keepdim=True) // 2
        away = (torch.arange(codes.shape[1], device=codes.device) - middle).abs()
        near = torch.cat([torch.exp(-away / width) for width in _CENTRES], dim=1)
        hidden = torch.cat([self.letters[codes].transpose(1, 2), near * there], dim=1)
        for place, (convolution, norm) in enumerate(zip(self.convolutions, self.norms)):
            hidden = nn.functional.relu(_normalize(convolution(hidden), there, norm)) * there
            if place < len(self.convolutions) - 1 and hidden.shape[2] > 1:
                hidden = nn.functional.max_pool1d(hidden, 2, ceil_mode=True)
                there = nn.functional.max_pool1d(there.to(hidden.dtype), 2, ceil_mode=True) > 0
        return torch.cat([hidden.amax(dim=2), hidden.sum(dim=2) / there.sum(dim=2).clamp(min=1)], dim=1)


def _normalize(hidden: torch.Tensor, there: torch.Tensor, norm: nn.Module) -> torch.Tensor:
    """Batch normalisation over the bases that are there: what is behind the end of a row moves no mean."""
    if there.all():
        return norm(hidden)
    kept = there.squeeze(1)
    rows = hidden.transpose(1, 2)
    normal = torch.zeros_like(rows)
    normal[kept] = norm(rows[kept])
    return normal.transpose(1, 2)


def train_cnn(
    problem: Problem,
    outputs: int,
    train: tuple[Sequence[Any], np.ndarray],
    validation: Sequence[Any],
    measure: Callable[[np.ndarray], dict[str, float]],
    metric: str,
    seed: int,
    settings: CnnSettings | None = None,
    device: str | torch.device = "cpu",
) -> TrainedCnn:
    """Train a small network, and keep its best epoch.

    Args:
        problem: of the task, not `token`.
        outputs: how many classes, labels or targets there are.
        train: rows, strings or pairs of them, and their labels: (N,) class ids, (N, L) of 0 and 1, (N, R) numbers.
        validation: rows that choose the epoch.
        measure: of the outputs for them, (N, C), the metrics that are defined, `loss` among them.
        metric: by which the best epoch is chosen; an epoch without it is judged by its loss, as are all.
        seed: of the weights, the order of the rows and dropout. The global generators stay as they are.
        settings: of the network and the training.
        device: to train on.
    """
    settings = settings or CnnSettings()
    rows, labels = train
    codes, targets = _encode(rows, settings.longest), _prepare_targets(problem, labels)
    held, scale = _encode(validation, settings.longest), _find_scale(problem, labels)
    with torch.random.fork_rng(devices=[device] if torch.device(device).type == "cuda" else []):
        torch.manual_seed(seed)
        random = np.random.default_rng(seed)
        model = SmallCnn(outputs, settings, 2 if rows and not isinstance(rows[0], str) else 1).to(device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
        steps = math.ceil(len(rows) / settings.batch) * settings.epochs
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _find_rate(step, steps))
        tried: list[dict[str, float]] = []
        states: list[dict[str, torch.Tensor]] = []
        best = 0
        for _ in range(settings.epochs):
            model.train()
            for chosen in _batch(random.permutation(len(rows)), settings.batch):
                found = model(*_pad(codes, chosen, device))
                loss = _find_loss(problem, found, targets[chosen].to(device), scale)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
            tried.append(measure(_predict(model, held, settings.batch, scale, device)))
            states.append(copy.deepcopy(model.state_dict()))
            best = _find_best(tried, metric)
            states = [state if place == best else {} for place, state in enumerate(states)]
            if len(tried) - 1 - best >= settings.patience:
                break
    model.load_state_dict(states[best])

    def predict(others: Sequence[Any]) -> np.ndarray:
        return _predict(model, _encode(others, settings.longest), settings.batch, scale, device)

    return TrainedCnn(predict, best + 1, tried)


def _find_best(tried: Sequence[dict[str, float]], metric: str) -> int:
    """Return the first epoch with the best value of the metric, or of the loss if the metric is not defined in all."""
    if metric == "loss" or any(metric not in one for one in tried):
        return int(np.argmin([one["loss"] for one in tried]))
    return int(np.argmax([one[metric] for one in tried]))


def _find_rate(step: int, steps: int) -> float:
    """Return the share of the learning rate: up in the first tenth, then half a cosine down."""
    rising = max(steps // 10, 1)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising + 1)))


def _encode(rows: Sequence[Any], longest: int) -> list[tuple[torch.Tensor, ...]]:
    """Return the codes of the sequences of each row, uint8, of long ones those around the middle."""
    return [
        tuple(_encode_sequence(side, longest) for side in ((row,) if isinstance(row, str) else row)) for row in rows
    ]


def _encode_sequence(sequence: str, longest: int) -> torch.Tensor:
    start = max(len(sequence) - longest, 0) // 2
    letters = sequence[start : start + longest].encode("ascii", "replace")
    return torch.from_numpy(read_codes(np.frombuffer(letters, dtype=np.uint8)))


def _pad(codes: list[tuple[torch.Tensor, ...]], chosen: np.ndarray, device: Any) -> list[torch.Tensor]:
    """Return the codes of some rows, int64 (B, L) for each of their sequences."""
    sides = zip(*(codes[row] for row in chosen))
    return [
        nn.utils.rnn.pad_sequence(list(side), batch_first=True, padding_value=_PADDING).long().to(device)
        for side in sides
    ]


def _batch(order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Yield parts of row numbers of about one size, at most `size`: none is a single row, which has no variance."""
    yield from np.array_split(order, max(math.ceil(len(order) / size), 1))


def _prepare_targets(problem: Problem, labels: np.ndarray) -> torch.Tensor:
    if problem == "single_label":
        return torch.from_numpy(np.asarray(labels, dtype=np.int64))
    return torch.from_numpy(np.asarray(labels, dtype=np.float32).reshape(len(labels), -1))


def _find_scale(problem: Problem, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return mean and deviation of each target of a regression, which is learned with mean 0 and deviation 1."""
    if problem != "regression":
        return None
    targets = np.asarray(labels, dtype=np.float64).reshape(len(labels), -1)
    deviation = targets.std(axis=0)
    return targets.mean(axis=0), np.where(deviation > 0, deviation, 1.0)


def _find_loss(
    problem: Problem, found: torch.Tensor, targets: torch.Tensor, scale: tuple[np.ndarray, np.ndarray] | None
) -> torch.Tensor:
    if problem == "single_label":
        return nn.functional.cross_entropy(found, targets)
    if scale is None:
        return nn.functional.binary_cross_entropy_with_logits(found, targets)
    mean, deviation = (torch.as_tensor(part, dtype=found.dtype, device=found.device) for part in scale)
    return nn.functional.mse_loss(found, (targets - mean) / deviation)


@torch.no_grad()
def _predict(
    model: SmallCnn,
    codes: list[tuple[torch.Tensor, ...]],
    batch: int,
    scale: tuple[np.ndarray, np.ndarray] | None,
    device: Any,
) -> np.ndarray:
    """Return the outputs for all rows, float64 (N, C); rows of about one length together, so that little is padded."""
    model.eval()
    order = np.argsort([max(map(len, row)) for row in codes], kind="stable")
    found = [model(*_pad(codes, chosen, device)).double().cpu().numpy() for chosen in _batch(order, 4 * batch)]
    outputs = np.empty((len(codes), found[0].shape[1]))
    outputs[order] = np.concatenate(found)
    return outputs if scale is None else outputs * scale[1] + scale[0]


__all__ = ["CnnSettings", "SmallCnn", "TrainedCnn", "train_cnn"]
