"""What can be chosen of a probe: which numbers of a model it sees, and what it is; no torch here."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from gengram.errors import InputError

if TYPE_CHECKING:
    from gengram.benchmarks.tasks.task import Task


@dataclass(frozen=True)
class EmbeddingSettings:
    """How a model's numbers become the features of a row.

    Raises:
        `InputError`: a layer that is given twice, or none.
    """

    layers: tuple[int, ...] | Literal["all", "last"] = field(
        default="last",
        metadata={
            "help": "layers that are offered, 0 the embedding, -1 the last: numbers, all, or last; the best on the "
            "validation rows is taken"
        },
    )
    pool: Literal["mean", "max", "cls", "last"] = field(
        default="mean", metadata={"help": "one vector of all tokens of a row: their mean, maximum, first or last"}
    )
    exclude_special: bool = field(
        default=False, metadata={"help": "leave out tokens that the tokenizer puts around a row"}
    )
    too_long: Literal["error", "window", "truncate", "center"] = field(
        default="error",
        metadata={
            "help": "rows that are longer than the model: refuse, read windows, keep the beginning or the middle"
        },
    )
    max_length: int | None = field(
        default=None, metadata={"help": "limit in tokens, special ones included; by default the model's"}
    )
    pairs: Literal["cat", "mean"] = field(
        default="cat", metadata={"help": "reference and alternative: both vectors side by side, or their mean"}
    )
    dtype: Literal["float32", "bfloat16"] = field(
        default="float32", metadata={"help": "what the model computes in; vectors are float32 in any case"}
    )

    def __post_init__(self) -> None:
        if isinstance(self.layers, str):
            if self.layers not in ("all", "last"):
                raise InputError(f"layers={self.layers!r}: give numbers, all, or last")
            return
        if not self.layers or any(not isinstance(layer, int) for layer in self.layers):
            raise InputError(f"layers={' '.join(map(str, self.layers))!r}: give numbers, all, or last")
        if len(set(self.layers)) < len(self.layers):
            raise InputError(f"layers={' '.join(map(str, self.layers))}: a layer is given twice")

    def choose_embedding(self) -> dict[str, Any]:
        """Return the arguments of `embed_rows` among the settings, but for the layers."""
        names = ("pool", "exclude_special", "too_long", "max_length", "dtype")
        return {name: getattr(self, name) for name in names}

    def resolve(self, task: "Task") -> dict[str, Any]:
        """Return what a task decides of the settings, as JSON: nothing; its rows and metric are kept beside it."""
        return {}


@dataclass(frozen=True)
class LinearProbeSettings(EmbeddingSettings):
    """Of `linear-probe`."""


@dataclass(frozen=True)
class GenosProbeSettings(EmbeddingSettings):
    """Of `genos-probe` and `genos-probe-compat`."""

    head: Literal["task", "mlp", "xgboost"] = field(
        default="task", metadata={"help": "what reads the vectors; task: the one of the published table"}
    )

    def choose_head(self, task: "Task") -> str:
        """Return what reads the vectors of a task."""
        return task.head if self.head == "task" else self.head

    def resolve(self, task: "Task") -> dict[str, Any]:
        """Return what a task decides of the settings, as JSON."""
        return {"head": self.choose_head(task)}


__all__ = ["EmbeddingSettings", "GenosProbeSettings", "LinearProbeSettings"]
