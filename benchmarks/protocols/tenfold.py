"""Ten folds of the training rows, as the Nucleotide Transformer was judged: the protocol `nt-10fold`.

Each fold trains on nine parts and chooses on the tenth; what comes of it says something of the same test rows, so that
mean and spread are over folds. A task's own validation rows are training rows here.
"""

import contextlib
import dataclasses
import json
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.model_selection import KFold, StratifiedKFold

from gengram.benchmarks.protocols.entrants import Entrant
from gengram.benchmarks.protocols.linear_probe import run_linear_probe
from gengram.benchmarks.protocols.probe_settings import LinearProbeSettings
from gengram.benchmarks.protocols.table import PROTOCOLS, Outcome
from gengram.benchmarks.protocols.train import check_task, open_work, train_entrant
from gengram.benchmarks.protocols.tuning_settings import FOLD_SEED, FOLDS, TenfoldSettings
from gengram.errors import InputError
from gengram.files import make_scratch, replace_whole
from gengram.progress import tell

if TYPE_CHECKING:
    from gengram.benchmarks.data.prepared import PreparedTask, Rows


def run_nt_10fold(
    model: Entrant, task: "PreparedTask", settings: TenfoldSettings, seeds: Sequence[int], cache: Path | None
) -> list[Outcome]:
    """Judge a model by `nt-10fold`.

    Args:
        model: the entrant.
        task: its training and validation rows together are divided, stratified by class, with seed 42.
        settings: what is trained on a fold, and how.
        seeds: the first one is that of all trainings; the folds take the place of several seeds.
        cache: folder for finished folds, and for embeddings.

    Returns:
        An outcome a fold, its number in place of the seed.

    Raises:
        `InputError`: fewer rows than folds; see `train_entrant` and `run_linear_probe`.
    """
    folds = divide_rows(task)
    if settings.method == "logistic":
        return list(_probe_folds(model, task, settings, folds, cache))
    check_task(task, "nt-10fold")
    outcomes = []
    version = f"nt-10fold {PROTOCOLS['nt-10fold'].version}"
    with open_work(version, model, task, settings, cache, seeds[0]) as work:
        for number, (train, validation) in enumerate(folds):
            kept = work / f"fold-{number}.npz"
            if (outcome := _read_outcome(kept)) is None:
                tell(f"{task.task.name}: fold {number + 1} of {FOLDS}")
                folder = work / f"fold-{number}"
                folder.mkdir(exist_ok=True)
                rows = {"train": train, "validation": validation}
                (trained,) = train_entrant(model, task, settings, seeds[:1], folder, **rows, start=work / "start")
                outcome = dataclasses.replace(trained, seed=number)
                _keep_outcome(outcome, kept)
                shutil.rmtree(folder)
            outcomes.append(outcome)
    return outcomes


def divide_rows(task: "PreparedTask") -> list[tuple["Rows", "Rows"]]:
    """Return of each fold the rows that train and those that validate.

    Raises:
        `InputError`: fewer rows than folds, or than folds of every class.
    """
    rows = task.all_train
    count = len(rows.sequences)
    if count < FOLDS:
        raise InputError(f"nt-10fold: {task.task.name} has {count} training rows; {FOLDS} folds need as many or more")
    kind = StratifiedKFold if task.problem == "single_label" else KFold
    splitter = kind(FOLDS, shuffle=True, random_state=FOLD_SEED)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        try:
            divided = list(splitter.split(np.zeros(count), rows.labels if kind is StratifiedKFold else None))
        except ValueError as error:  # every class has fewer rows than there are folds
            raise InputError(f"nt-10fold: {task.task.name}: {error}") from error
    return [(_take(rows, train), _take(rows, validation)) for train, validation in divided]


def _take(rows: "Rows", places: np.ndarray) -> "Rows":
    alternatives = None if rows.alternatives is None else [rows.alternatives[place] for place in places]
    sequences = [rows.sequences[place] for place in places]
    return dataclasses.replace(rows, sequences=sequences, alternatives=alternatives, labels=rows.labels[places])


def _probe_folds(
    model: Entrant,
    task: "PreparedTask",
    settings: TenfoldSettings,
    folds: list[tuple["Rows", "Rows"]],
    cache: Path | None,
) -> Iterator[Outcome]:
    """A logistic regression for each fold; the rows are embedded once."""
    names = [entry.name for entry in dataclasses.fields(LinearProbeSettings)]
    probe = LinearProbeSettings(**{name: getattr(settings, name) for name in names})
    with contextlib.nullcontext(cache) if cache is not None else make_scratch() as folder:
        for number, (train, validation) in enumerate(folds):
            fold = dataclasses.replace(task, train=train, validation=validation)
            (outcome,) = run_linear_probe(model, fold, probe, [number], folder)
            yield outcome


def _keep_outcome(outcome: Outcome, path: Path) -> None:
    told: dict[str, Any] = {"seed": outcome.seed, "validation": outcome.validation, "chosen": outcome.chosen}
    with replace_whole(path) as partial, open(partial, "wb") as stream:
        np.savez(stream, outputs=outcome.outputs, told=np.array(json.dumps(told)))


def _read_outcome(path: Path) -> Outcome | None:
    """The outcome of a fold that was finished before; None if there is none."""
    if not path.is_file():
        return None
    with np.load(path) as kept:
        return Outcome(outputs=kept["outputs"], **json.loads(str(kept["told"])))


__all__ = ["divide_rows", "run_nt_10fold"]
