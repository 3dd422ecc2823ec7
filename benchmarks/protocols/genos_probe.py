"""How good are a frozen model's vectors by the protocol of the Genos and Gengram papers? A small network, or XGBoost.

Two things of the published code are unsound, and are replaced: it offers several layers and reports the one that is
best on the test rows, where here the validation rows choose; and it drops values in the first epoch only, since the
network is put into evaluation mode after that and never back. `genos-probe-compat` has both, to compare with published
scores.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from itertools import groupby, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gengram.benchmarks.protocols.baselines import measure_rows
from gengram.benchmarks.protocols.entrants import Entrant
from gengram.benchmarks.protocols.features import Features, Split, choose_best, embed_task
from gengram.benchmarks.protocols.probe_mlp import Networks, train_networks
from gengram.benchmarks.protocols.probe_settings import GenosProbeSettings
from gengram.benchmarks.protocols.table import Outcome
from gengram.errors import InputError
from gengram.loading.models import choose_device
from gengram.phases import phase

if TYPE_CHECKING:
    from gengram.benchmarks.data.prepared import PreparedTask

TREES = {"n_estimators": 100, "learning_rate": 0.1, "max_depth": 6}
"""Of XGBoost, as published."""

_ABSENT = -30.0  # logit of a class or label that no training row has
_MEMORY = 1 << 30  # bytes of vectors whose networks are trained together

_Predict = Callable[[Split], np.ndarray]


def run_genos_probe(
    model: Entrant, task: "PreparedTask", settings: GenosProbeSettings, seeds: Sequence[int], cache: Path | None
) -> list[Outcome]:
    """Judge a model by `genos-probe`: values are dropped in every epoch, the layer is chosen on the validation rows.

    Args:
        model: whose embeddings are read.
        task: of any problem but `token`.
        settings: which layers are offered, how they are read, and by what.
        seeds: of the network's weights, order of rows, and dropped values. XGBoost draws no random numbers with the
            published settings: the first seed names its only outcome.
        cache: folder, see `embed_rows`.

    Returns:
        An outcome for each seed. `chosen` has `layer`, `head` and `chosen_on`; `tried` every layer with the task's
        metric and the loss on the rows that it was chosen on.

    Raises:
        `InputError`: see `embed_task`; no xgboost; training rows of one class only.
    """
    return _run(model, task, settings, seeds, cache, chosen_on="validation", dropout_epochs=None)


def run_compatible_probe(
    model: Entrant, task: "PreparedTask", settings: GenosProbeSettings, seeds: Sequence[int], cache: Path | None
) -> list[Outcome]:
    """Judge a model by `genos-probe-compat`: `run_genos_probe`, but values are dropped in the first epoch only, and the
    layer is the best on the TEST rows, which makes scores too high where several are offered."""
    return _run(model, task, settings, seeds, cache, chosen_on="test", dropout_epochs=1)


def _run(
    model: Entrant,
    task: "PreparedTask",
    settings: GenosProbeSettings,
    seeds: Sequence[int],
    cache: Path | None,
    *,
    chosen_on: Split,
    dropout_epochs: int | None,
) -> list[Outcome]:
    head = settings.choose_head(task.task)
    if head == "xgboost" and find_spec("xgboost") is None:
        raise InputError(
            f"{task.task.name}: this task is read with XGBoost, which is not installed: pip install 'gengram[probes]', "
            "or take the network, --head mlp"
        )
    if task.problem != "regression" and len(np.unique(task.train.labels, axis=0)) < 2:
        raise InputError(f"{task.task.name}: all training rows are of one class; nothing can be learned from them")
    features = embed_task(model, task, settings, cache)
    started = time.process_time()
    metric = task.task.metric
    seeds = list(seeds) if head == "mlp" else [seeds[0]]
    tried: list[list[dict[str, Any]]] = [[] for _ in seeds]
    best: list[dict[str, Any]] = [{} for _ in seeds]
    with phase("Probing"):
        for layer, seed, predict in _fit(head, features, task, seeds, choose_device(model.device), dropout_epochs):
            number = seeds.index(seed)
            outputs = predict("test")
            validation = measure_rows(task, predict("validation"), task.validation)
            scores = validation if chosen_on == "validation" else measure_rows(task, outputs, task.test)
            tried[number].append({"layer": layer, **{key: scores[key] for key in (metric, "loss") if key in scores}})
            if choose_best(tried[number], metric) == len(tried[number]) - 1:
                best[number] = {"outputs": outputs, "validation": validation, "layer": layer}
    seconds = round((time.process_time() - started) / len(seeds), 3)
    return [
        Outcome(
            seed,
            one["outputs"],
            one["validation"],
            {"layer": one["layer"], "head": head, "chosen_on": chosen_on, "tried": every, "seconds": seconds},
        )
        for seed, one, every in zip(seeds, best, tried)
    ]


def _fit(
    head: str, features: Features, task: "PreparedTask", seeds: Sequence[int], device: Any, dropout_epochs: int | None
) -> Iterator[tuple[int, int, _Predict]]:
    """Yield layer, seed and what gives the outputs of a split, for every layer and seed; each until the next."""
    classes = len(task.classes) if task.problem == "single_label" else task.train.labels.shape[1]
    if head == "xgboost":
        for layer in features.layers:
            yield layer, seeds[0], _fit_trees(features, layer, task, seeds[0], classes)
        return
    for layers in _group(features, len(task.train.labels)):
        trained = train_networks(
            task.problem,
            [features.take("train", layer) for layer in layers],
            task.train.labels,
            classes,
            seeds,
            dropout_epochs=dropout_epochs,
            device=device,
        )
        for number, (layer, seed) in enumerate(product(layers, seeds)):
            yield layer, seed, partial(_predict, trained, number, features, layer)


def _predict(networks: Networks, number: int, features: Features, layer: int, split: Split) -> np.ndarray:
    return networks.predict(number, features.take(split, layer))


def _group(features: Features, rows: int) -> Iterator[list[int]]:
    """Yield layers whose networks are trained together: of one width, and as many as memory allows."""
    for width, layers in groupby(features.layers, features.measure_width):
        most, some = max(1, _MEMORY // (rows * width * 4)), list(layers)
        for first in range(0, len(some), most):
            yield some[first : first + most]


def _fit_trees(features: Features, layer: int, task: "PreparedTask", seed: int, classes: int) -> _Predict:
    """Fit XGBoost on a layer; returns what gives the outputs of a split, float64 [N, C]."""
    from xgboost import XGBClassifier, XGBRegressor

    inputs, labels = features.take("train", layer), task.train.labels
    if task.problem == "regression":
        regressor = XGBRegressor(**TREES, random_state=seed).fit(inputs, labels)
        return lambda split: regressor.predict(features.take(split, layer)).astype(np.float64).reshape(-1, classes)
    if task.problem == "single_label":
        # XGBoost counts the classes that are there from 0.
        present, codes = np.unique(labels, return_inverse=True)
    else:
        present = np.flatnonzero(labels.any(axis=0) & ~labels.all(axis=0))
        codes = labels[:, present].astype(np.int64)
    classifier = XGBClassifier(**TREES, random_state=seed, eval_metric="mlogloss").fit(inputs, codes)

    def predict(split: Split) -> np.ndarray:
        margins = classifier.predict(features.take(split, layer), output_margin=True).astype(np.float64)
        found = np.full((len(margins), classes), _ABSENT)
        if task.problem == "multi_label":
            found[:, labels.all(axis=0)] = -_ABSENT
        # Of two classes there is the logit of the second.
        two = task.problem == "single_label" and len(present) == 2
        found[:, present] = np.stack([0 * margins, margins], axis=1) if two else margins.reshape(len(margins), -1)
        return found

    return predict


__all__ = ["TREES", "run_compatible_probe", "run_genos_probe"]
