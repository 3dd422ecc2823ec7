"""What does a model have to beat? Simple models, judged on the same rows and by the same metrics as any entrant.

- `baseline:majority`: what is most frequent in the training rows, the same for every row.
- `baseline:composition`: length, bases and CpG, six numbers, a linear model.
- `baseline:kmer`: square-rooted 6-mer counts, a linear model, at most 10,000 training rows.
- `baseline:positions`: which base stands where around the middle, a linear model.
- `baseline:cnn`: a small convolutional network, trained on the letters from nothing.

Linear models are logistic regressions, of numbers ridge regressions. Where nothing is chosen they are fitted on the
training and validation rows together. A pair's features are those of both sequences, and their difference.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gengram.errors import InputError
from gengram.progress import track

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

    from gengram.benchmarks.data.prepared import PreparedTask, Rows
    from gengram.benchmarks.protocols.table import Outcome

PREFIX = "baseline:"

KMER = 6
CENTRE = 40
"""Width in bp around the middle that `positions` looks at; splice signals are within 20 bp of the junction."""
WHOLE = 1024
"""Rows of one length up to so many bp are offered to `positions` as a whole, too."""

_CHUNK = 2_000_000  # bases of rows whose features are in memory at a time


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A simple model that any task has beside the models.

    Attributes:
        name: as in a table.
        version: to be raised with every change that may move a score.
        title: what it is, for a reader.
        seeded: whether a seed changes it; those that it does not are run once.
        settings: that a score depends on, JSON.
        run: "module:function", imported when it is needed: task, seeds, cache -> an outcome for each seed.
    """

    name: str
    version: int
    title: str
    seeded: bool
    settings: Mapping[str, Any]
    run: str

    def judge(self, task: "PreparedTask", seeds: Sequence[int], cache: Path | None = None) -> "list[Outcome]":
        """
        Fit on the task's training rows, and return what it says of the test rows.

        Args:
            task: with rows of any problem but `token`.
            seeds: of the trainings; of a baseline that is not `seeded`, the first one names the only outcome.
            cache: a folder for what other runs may read; none of these needs one.

        Raises:
            `InputError`: it is not available for this task; the message has the reason.
        """
        if task.problem == "token":
            raise InputError(f"{self.name} is a model of whole rows; the labels of {task.task.name} are of bases")
        if not len(task.train):
            raise InputError(f"{self.name} has nothing to learn from: {task.task.name} has no training rows")
        module, function = self.run.split(":")
        return getattr(import_module(module), function)(task, seeds if self.seeded else seeds[:1], cache)


_LINEAR = {"rows": 10_000}
_HERE = "gengram.benchmarks.protocols.baselines"

BASELINES: dict[str, Baseline] = {
    one.name: one
    for one in (
        Baseline(
            f"{PREFIX}majority",
            1,
            "most frequent class, or mean, of the training rows",
            False,
            {},
            f"{_HERE}:run_majority",
        ),
        Baseline(
            f"{PREFIX}composition",
            1,
            "length, bases and CpG: linear model on six numbers",
            False,
            {**_LINEAR, "strength": 10.0},
            f"{_HERE}:run_composition",
        ),
        Baseline(
            f"{PREFIX}kmer",
            1,
            f"{KMER}-mer counts: linear model",
            False,
            {**_LINEAR, "k": KMER, "strength": 10.0},
            f"{_HERE}:run_kmer",
        ),
        Baseline(
            f"{PREFIX}positions",
            1,
            "bases around the middle of a row: linear model",
            False,
            {**_LINEAR, "centre": CENTRE, "whole": WHOLE, "strength": 1.0},
            f"{_HERE}:run_positions",
        ),
        Baseline(
            f"{PREFIX}cnn",
            1,
            "small convolutional network, trained on the letters from nothing",
            True,
            {"rows": 10_000, "longest": 4096},
            f"{_HERE}:run_cnn",
        ),
    )
}
"""By name; `evaluate --baselines` takes the names, with or without `baseline:`."""


def find_baselines(names: Sequence[str]) -> list[Baseline]:
    """
    Return baselines by name, in the order of `BASELINES`.

    Args:
        names: with or without `baseline:`; `all`, or `none`.

    Raises:
        `InputError`: there is no such baseline, or `none` stands beside others.
    """
    plain = [name.removeprefix(PREFIX) for name in names]
    if "none" in plain and len(set(plain)) > 1:
        raise InputError("--baselines: 'none' is given beside others; give one or the other")
    known = [name.removeprefix(PREFIX) for name in BASELINES]
    for name in plain:
        if name not in (*known, "all", "none"):
            raise InputError(f"--baselines: there is no baseline {name!r}; there are {', '.join(known)}, all and none")
    return [one for name, one in zip(known, BASELINES.values()) if name in plain or "all" in plain]


def run_majority(task: "PreparedTask", seeds: Sequence[int], cache: Path | None) -> "list[Outcome]":
    """What is most frequent in the training and validation rows, for every test row."""
    from gengram.training.baselines.predictors import guess_constant

    output = guess_constant(task.problem, task.all_train.labels, len(task.classes))
    return _tell(seeds, np.tile(output, (len(task.test), 1)))


def run_kmer(task: "PreparedTask", seeds: Sequence[int], cache: Path | None) -> "list[Outcome]":
    """A linear model on 6-mer counts.

    A variant changes six of them: in a pair the features of both sequences and their difference are used where they
    have the lower loss on the validation rows, else those of the reference sequence alone.
    """
    from gengram.training.baselines.linear import make_kmer_features

    name, features = f"{PREFIX}kmer", make_kmer_features(KMER)
    if task.train.alternatives is None:
        return _tell(seeds, _fit(name, task, features, task.all_train)(task.test))
    views: dict[str, Callable[[Any], Any]] = {"reference": _take_references, "pair": lambda rows: rows}
    tried: list[dict[str, Any]] = []
    if len(task.validation):
        for read, view in views.items():
            found = _fit(name, task, features, view(task.train))(view(task.validation))
            tried.append({"features": read, "validation": measure_rows(task, found, task.validation)})
    best: dict[str, Any] = {"features": "pair", "validation": {}}
    if tried:
        best = min(tried, key=lambda one: one["validation"]["loss"])
    view = views[best["features"]]
    found = _fit(name, task, features, view(task.all_train))(view(task.test))
    return _tell(seeds, found, best["validation"], {"features": best["features"], "tried": tried})


def _take_references(rows: "Rows") -> "Rows":
    return dataclasses.replace(rows, alternatives=None)


def run_composition(task: "PreparedTask", seeds: Sequence[int], cache: Path | None) -> "list[Outcome]":
    """A linear model on length, bases and CpG."""
    from gengram.training.baselines.composition import make_composition_features

    return _tell(seeds, _fit(f"{PREFIX}composition", task, make_composition_features(), task.all_train)(task.test))


def run_positions(task: "PreparedTask", seeds: Sequence[int], cache: Path | None) -> "list[Outcome]":
    """A linear model on one-hot bases: of the middle, or of whole rows where those do better on the validation rows."""
    from gengram.training.baselines.linear import make_centre_features

    name = f"{PREFIX}positions"
    lengths = _measure_lengths(task.all_train)
    if np.mean(lengths < CENTRE) > 0.1:
        raise InputError(
            f"{name}: {np.mean(lengths < CENTRE):.0%} of the training rows of {task.task.name} are shorter than the "
            f"{CENTRE} bp around the middle that it compares ({lengths.min()} to {lengths.max()} bp)"
        )
    widths = [CENTRE]
    if CENTRE < lengths.min() == lengths.max() <= WHOLE:
        widths.append(int(lengths[0]))
    tried: list[dict[str, Any]] = []
    if len(widths) > 1 and len(task.validation):
        for width in widths:
            predict = _fit(name, task, make_centre_features(width), task.train, strength=1.0)
            tried.append({"width": width, "validation": measure_rows(task, predict(task.validation), task.validation)})
    best: dict[str, Any] = {"width": CENTRE, "validation": {}}
    if tried:
        best = max(tried, key=lambda one: one["validation"].get(task.task.metric, -np.inf))
    chosen = {"width": best["width"], "tried": tried}
    predict = _fit(name, task, make_centre_features(best["width"]), task.all_train, strength=1.0)
    return _tell(seeds, predict(task.test), best["validation"], chosen)


def run_cnn(task: "PreparedTask", seeds: Sequence[int], cache: Path | None) -> "list[Outcome]":
    """A small convolutional network; the epoch is chosen on the validation rows, for each seed."""
    from gengram.benchmarks.protocols.table import Outcome
    from gengram.loading.models import choose_device
    from gengram.training.baselines.cnn import train_cnn
    from gengram.training.baselines.predictors import choose_rows

    name = f"{PREFIX}cnn"
    if not len(task.validation):
        raise InputError(f"{name}: {task.task.name} has no validation rows, and the epoch is not chosen on test rows")
    order = choose_rows(len(task.train))
    if len(order) < 2:
        raise InputError(f"{name}: {task.task.name} has a single training row")
    inputs, held = list_inputs(task.train), list_inputs(task.validation)
    outputs = task.train.labels.shape[1] if task.train.labels.ndim == 2 else len(task.classes)
    outcomes = []
    for seed in track(seeds, desc=name, unit="seed"):
        trained = train_cnn(
            task.problem,
            outputs,
            ([inputs[row] for row in order], task.train.labels[order]),
            held,
            lambda found: measure_rows(task, found, task.validation),
            task.task.metric,
            seed,
            device=choose_device(),
        )
        tried = [{"epoch": place, "validation": one} for place, one in enumerate(trained.tried, start=1)]
        chosen = {"epoch": trained.epoch, "tried": tried}
        found = trained.predict(list_inputs(task.test))
        outcomes.append(Outcome(seed, found, trained.tried[trained.epoch - 1], chosen))
    return outcomes


def measure_rows(task: "PreparedTask", outputs: np.ndarray, rows: "Rows") -> dict[str, float]:
    """Return the `METRICS` of outputs (N, C) for some rows of a task; those that are not defined left out."""
    from transformers import EvalPrediction

    from gengram.training.metrics.scores import measure

    labels = rows.labels.astype(np.float32) if task.problem == "multi_label" else rows.labels
    found = measure(task.problem, EvalPrediction(outputs, labels))
    return {metric: float(value) for metric, value in found.items() if np.isfinite(value)}


def _fit(
    name: str, task: "PreparedTask", features: "Pipeline", rows: "Rows", strength: float = 10.0
) -> "Callable[[Rows], np.ndarray]":
    """Fit a linear model on at most 10,000 rows; returns what it says of others, float64 (N, C)."""
    from sklearn.pipeline import make_pipeline

    from gengram.training.baselines.linear import PairFeatures
    from gengram.training.baselines.predictors import choose_rows, fit_linear

    if rows.alternatives is not None:
        features = make_pipeline(PairFeatures(features))
    inputs, order = list_inputs(rows), choose_rows(len(rows))
    if len(order) < len(rows) and task.report["caps"]["train"] is not None:  # they are in such an order already
        order = np.arange(len(order))
    labels = rows.labels[order].astype(np.int64) if task.problem == "multi_label" else rows.labels[order]
    predict = fit_linear(task.problem, features, [inputs[row] for row in order], labels, len(task.classes), strength)
    if predict is None:
        raise InputError(f"{name}: the training rows of {task.task.name} are all of one class")
    return lambda others: np.concatenate([predict(chunk) for chunk in _cut(list_inputs(others))])


def list_inputs(rows: "Rows") -> list[Any]:
    """Return what a baseline sees of each row: its sequence, or reference and alternative."""
    if rows.alternatives is None:
        return list(rows.sequences)
    return list(zip(rows.sequences, rows.alternatives, strict=True))


def _cut(inputs: list[Any]) -> Iterator[list[Any]]:
    """Yield inputs in parts of about as many bases."""
    chunk: list[Any] = []
    bases = 0
    for one in inputs:
        chunk.append(one)
        bases += len(one) if isinstance(one, str) else sum(map(len, one))
        if bases > _CHUNK:
            yield chunk
            chunk, bases = [], 0
    if chunk:
        yield chunk


def _measure_lengths(rows: "Rows") -> np.ndarray:
    """Return the lengths in bp of all rows, of pairs those of both sequences; int64."""
    return np.array([len(sequence) for sequence in (*rows.sequences, *(rows.alternatives or ()))])


def _tell(
    seeds: Sequence[int],
    outputs: np.ndarray,
    validation: Mapping[str, float] | None = None,
    chosen: Mapping[str, Any] | None = None,
) -> "list[Outcome]":
    from gengram.benchmarks.protocols.table import Outcome

    return [Outcome(seeds[0], np.asarray(outputs, dtype=np.float64), dict(validation or {}), dict(chosen or {}))]


__all__ = [
    "BASELINES",
    "CENTRE",
    "KMER",
    "PREFIX",
    "WHOLE",
    "Baseline",
    "find_baselines",
    "list_inputs",
    "measure_rows",
]
