"""What does a probe see of a task? The rows of its splits as vectors of a frozen model, by layer; and which setting of
those that were tried is taken.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gengram.benchmarks.protocols.embeddings import EmbeddedRows, embed_rows
from gengram.benchmarks.protocols.entrants import Entrant
from gengram.benchmarks.protocols.probe_settings import EmbeddingSettings
from gengram.errors import InputError

if TYPE_CHECKING:
    from gengram.benchmarks.data.prepared import PreparedTask, Rows

Split = Literal["train", "validation", "test"]


class Features:
    """The vectors of a task's rows.

    Attributes:
        layers: that there are, in the order in which they are offered.
    """

    def __init__(self, splits: dict[Split, list[EmbeddedRows]], pairs: Literal["cat", "mean"]):
        self._splits, self._pairs = splits, pairs
        self.layers: tuple[int, ...] = tuple(splits["train"][0])

    def take(self, split: Split, layer: int) -> np.ndarray:
        """Return the vectors of a split, float32 [N, D]; of pairs [N, 2 D], the reference first, or [N, D] of means."""
        parts = [part[layer] for part in self._splits[split]]
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts, axis=1) if self._pairs == "cat" else np.stack(parts).mean(axis=0)

    def measure_width(self, layer: int) -> int:
        """Return D of what `take` gives of a layer."""
        parts = self._splits["train"]
        return parts[0].measure_width(layer) * (len(parts) if self._pairs == "cat" else 1)


def embed_task(entrant: Entrant, task: "PreparedTask", settings: EmbeddingSettings, cache: Path | None) -> Features:
    """Embed the rows of a task.

    What trains and what validates is one list to the cache, whichever way it is split; the test rows are another, so
    that a test file takes no more time than its own rows.

    Raises:
        `InputError`: labels of bases, a split without rows; see `embed_rows`.
    """
    if task.problem == "token":
        raise InputError(f"{task.task.name}: its labels are of bases, and a probe sees whole rows; take finetune")
    for split in ("train", "validation", "test"):
        if not len(getattr(task, split).labels):
            raise InputError(
                f"{task.task.name}: the {split} split has no rows; a probe needs training, validation and test rows"
            )
    found: dict[Split, list[EmbeddedRows]] = {"train": [], "validation": [], "test": []}
    groups: tuple[tuple[Split, ...], ...] = (("train", "validation"), ("test",))
    for group in groups:
        rows = [getattr(task, split) for split in group]
        texts = [(split, place, part) for split, one in zip(group, rows) for place, part in enumerate(_list_parts(one))]
        sequences = [sequence for _, _, part in texts for sequence in part]
        starts = np.cumsum([0, *(len(part) for _, _, part in texts)])

        def name_row(number: int, texts: Any = texts, starts: np.ndarray = starts) -> str:
            index = int(np.searchsorted(starts, number, side="right")) - 1
            split, place, _ = texts[index]
            kind = " (alternative)" if place else ""
            return f"{task.task.name}, {split} row {number - starts[index] + 1}{kind}"

        embedded = embed_rows(
            entrant, sequences, settings.layers, **settings.choose_embedding(), cache=cache, name_row=name_row
        )
        for (split, _, _), start, stop in zip(texts, starts, starts[1:]):
            found[split].append(embedded.take(slice(start, stop)))
    return Features(found, settings.pairs)


def _list_parts(rows: "Rows") -> list[list[str]]:
    return [rows.sequences] if rows.alternatives is None else [rows.sequences, rows.alternatives]


def choose_best(tried: Sequence[dict[str, Any]], metric: str) -> int:
    """Return the number of the best setting: the highest score; where equal the lower loss; where equal the first.

    Args:
        tried: of each setting `loss` and, where it is defined, the metric.
        metric: by which it is chosen.
    """
    losses = metric == "loss"

    def rank(number: int) -> tuple[float, float]:
        one = tried[number]
        loss = -one.get("loss", np.inf)
        return (loss if losses else one.get(metric, -np.inf), loss)

    return max(range(len(tried)), key=rank)


__all__ = ["Features", "Split", "choose_best", "embed_task"]
