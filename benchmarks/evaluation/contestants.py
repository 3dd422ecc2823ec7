"""Who is compared in a table? Models under the run's protocol, and baselines under their own: one form for both."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gengram.benchmarks.data.prepared import PreparedTask
    from gengram.benchmarks.protocols.baselines import Baseline
    from gengram.benchmarks.protocols.entrants import Entrant
    from gengram.benchmarks.protocols.table import Outcome, Protocol
    from gengram.benchmarks.tasks.task import Task


@dataclasses.dataclass(frozen=True)
class Contestant:
    """A column of a table.

    Attributes:
        name: in the table.
        kind: `model` or `baseline`.
        protocol, version, settings: how it is judged; JSON.
        seeds: of its trainings.
        fingerprint: of the weights, configuration and tokenizer; of a baseline of its name.
        run: task, seeds, cache -> an outcome for each seed.
        resolve: task -> what the settings come to on it, where that depends on the task; JSON.
        source, revision, random: of a model, where it is from, and the seed of weights that nobody has trained.
        model: of a model, what its limits are asked of.
    """

    name: str
    kind: str
    protocol: str
    version: int
    settings: Mapping[str, Any]
    seeds: tuple[int, ...]
    fingerprint: str
    run: "Callable[[PreparedTask, Sequence[int], Path | None], list[Outcome]]"
    resolve: "Callable[[Task], dict[str, Any]]" = lambda task: {}
    source: str | None = None
    revision: str | None = None
    random: int | None = None
    model: "Entrant | None" = None

    def describe(self) -> dict[str, Any]:
        """What the report says of it; JSON."""
        return {
            "kind": self.kind,
            "protocol": self.protocol,
            "version": self.version,
            "settings": dict(self.settings),
            "seeds": list(self.seeds),
            "fingerprint": self.fingerprint,
            "source": self.source,
            "revision": self.revision,
            "random": self.random,
            "weights": [] if self.model is None else list(self.model.weights),
        }

    def list_inputs(self, task: "Task", fingerprint: str, metric: str) -> dict[str, Any]:
        """Return everything that the content of its cell on a task depends on, see `make_key`.

        Args:
            task: what it is called may say how long is trained, or by which head.
            fingerprint: of the task's rows.
            metric: by which the task's settings are chosen.
        """
        return {
            "protocol": self.protocol,
            "version": self.version,
            "settings": dict(self.settings),
            "resolved": _round_trip(self.resolve(task)),
            "seeds": list(self.seeds),
            "entrant": self.fingerprint,
            "task": fingerprint,
            "metric": metric,
        }


def enter_model(model: "Entrant", protocol: "Protocol", settings: Any, seeds: Sequence[int]) -> Contestant:
    """Return a model that is judged by a protocol; `settings` is an instance of `protocol.settings`."""

    def run(task: "PreparedTask", seeds: Sequence[int], cache: Path | None) -> "list[Outcome]":
        module, function = protocol.run.split(":")
        return getattr(import_module(module), function)(model, task, settings, seeds, cache)

    return Contestant(
        name=model.name,
        kind="model",
        protocol=protocol.name,
        version=protocol.version,
        settings=to_json(settings),
        seeds=tuple(seeds),
        fingerprint=model.fingerprint,
        run=run,
        resolve=settings.resolve,
        source=model.source,
        revision=model.revision,
        random=model.random,
        model=model,
    )


def enter_baseline(baseline: "Baseline", seeds: Sequence[int]) -> Contestant:
    """Return a baseline; where no seed changes it, it is run once."""
    return Contestant(
        name=baseline.name,
        kind="baseline",
        protocol=baseline.name,
        version=baseline.version,
        settings=dict(baseline.settings),
        seeds=tuple(seeds) if baseline.seeded else (0,),
        fingerprint=hashlib.sha256(baseline.name.encode()).hexdigest(),
        run=baseline.judge,
    )


def to_json(settings: Any) -> dict[str, Any]:
    """Return a dataclass of settings as JSON has it: tuples are lists."""
    return _round_trip(dataclasses.asdict(settings))


def _round_trip(values: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(values, allow_nan=False))


__all__ = ["Contestant", "enter_baseline", "enter_model", "to_json"]
