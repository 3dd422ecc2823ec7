"""Train an entrant on rows, as `gengram finetune` does, and read what it then says of others: for every protocol that
trains.

The test rows are no part of the training: it gets two files, of training and validation rows, and its models are asked
about the test rows when all of them are done.
"""

import contextlib
import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
import transformers

from gengram._version import __version__
from gengram.benchmarks.protocols.entrants import Entrant
from gengram.benchmarks.protocols.table import Outcome
from gengram.benchmarks.protocols.tuning_settings import TrainingSettings
from gengram.errors import InputError
from gengram.files import make_scratch, make_whole, replace_whole
from gengram.loading.adapters import is_adapter
from gengram.loading.models import choose_device
from gengram.loading.reports import find_training
from gengram.pipelines.predict import predict_file
from gengram.progress import tell
from gengram.training.arguments import DataArguments, FinetuneArguments, ModelArguments
from gengram.training.finetune import finetune
from gengram.training.problems import METRICS

if TYPE_CHECKING:
    from gengram.benchmarks.data.prepared import PreparedTask, Rows

_FOLDER = "trainings"
_HEADS = ("ForSequenceClassification", "ForTokenClassification")
_SCRATCH_RATE = 1e-3  # learning rate of random weights, as of a new model in `gengram finetune`
_LEAST = np.finfo(np.float32).tiny  # a probability that is zero in float32 has no logarithm
_TOLD = ("learning_rate", "sequences_per_step", "num_train_epochs", "max_steps", "weight_decay", "warmup_steps")


@contextlib.contextmanager
def open_work(
    protocol: str, entrant: Entrant, task: "PreparedTask", settings: TrainingSettings, cache: Path | None, *more: Any
) -> Iterator[Path]:
    """Give a folder for the trainings of one cell of a table: the same one after a kill, removed when all is done.

    Args:
        protocol: name and version.
        entrant, task, settings: what is judged, on what, and how.
        cache: folder that stays; without one nothing is kept of what was interrupted.
        more: what else the outcome depends on, as JSON.
    """
    if cache is None:
        with make_scratch() as scratch:
            yield scratch
        return
    versions = [__version__, torch.__version__, transformers.__version__]
    of_task = [task.fingerprint, task.task.name, task.task.metric]
    what = [protocol, entrant.fingerprint, of_task, dataclasses.asdict(settings), *more, versions]
    key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    work = cache / _FOLDER / key
    work.mkdir(parents=True, exist_ok=True)
    yield work
    shutil.rmtree(work)
    with contextlib.suppress(OSError):  # There are others.
        work.parent.rmdir()


def check_task(task: "PreparedTask", protocol: str) -> None:
    """Refuse a task whose rows `gengram finetune` cannot be given.

    Raises:
        `InputError`: pairs, labels of bases, or no validation rows.
    """
    if task.train.alternatives is not None:
        raise InputError(
            f"{protocol}: a row of {task.task.name} is a pair, reference and alternative, and a classifier reads one "
            "sequence a row. genos-probe and linear-probe take pairs: they put the embeddings of both side by side."
        )
    if task.problem == "token":
        raise InputError(f"{protocol}: {task.task.name} has a label for each base; use gengram finetune for it")
    if not len(task.validation.sequences):
        raise InputError(
            f"{protocol}: {task.task.name} has no validation rows, and the best epoch is never chosen on test rows"
        )


def train_entrant(
    entrant: Entrant,
    task: "PreparedTask",
    settings: TrainingSettings,
    seeds: Sequence[int],
    work: Path,
    *,
    train: "Rows | None" = None,
    validation: "Rows | None" = None,
    start: Path | None = None,
) -> list[Outcome]:
    """Train a model for each seed, and return what each says of the test rows.

    Args:
        entrant: the model to start from; its classification head, if it has one, is not used.
        task: what is predicted; its test rows are read by finished models only.
        settings: of the training.
        seeds: of new weights, order of the rows and dropout.
        work: folder of this training; what lies there of an interrupted one is gone on with.
        train, validation: other rows than the task's.
        start: folder for the model to start from, where it has to be made; for several trainings the same.

    Returns:
        An outcome a seed. `chosen`: the `metric` and the `epoch` of the best validation, the settings of the training,
        `tried`, the validations of this seed's training, and with a search its trials; `seconds`: of the training and
        of the search with its CPU seconds.

    Raises:
        `InputError`: whatever stops `gengram finetune`; what was trained stays in the folder.
    """
    train, validation = train or task.train, validation or task.validation
    files = _write_rows(task, train, validation, work)
    names = _name_columns(task)
    chosen = settings.choose_arguments(task.task.name)
    metric = _choose_metric(task, chosen)
    try:
        model, data, training = _make_arguments(
            entrant, task, settings, chosen, metric, list(seeds), work, files, start or work / "start"
        )
    except InputError:
        raise
    except ValueError as error:  # of the dataclasses: arguments that do not go together
        raise InputError(f"{task.task.name}: the settings cannot be used: {error}") from error
    report = finetune(model, data, training)
    outcomes = []
    for position, seed in enumerate(seeds):
        folder = work / "run" / f"seed-{seed}"
        predictions = predict_file(
            folder,
            files["test"],
            work / f"test-{seed}.parquet",
            batch_size=training.per_device_eval_batch_size,
            max_length=settings.max_length,
            too_long=settings.too_long,
            max_non_dna=1.0,
            devices=entrant.device,
        )
        validated = {
            name: float(values["per_seed"][position])
            for name, values in (report["validation"] or {}).items()
            if values["per_seed"][position] is not None
        }
        outputs = _read_outputs(predictions, names, task)
        outcomes.append(Outcome(seed, outputs, validated, _describe(report, position, metric)))
    return outcomes


def _make_arguments(
    entrant: Entrant,
    task: "PreparedTask",
    settings: TrainingSettings,
    chosen: dict[str, Any],
    metric: str,
    seeds: list[int],
    work: Path,
    files: dict[str, Path],
    start: Path,
) -> tuple[ModelArguments, DataArguments, FinetuneArguments]:
    of_model = {entry.name for entry in dataclasses.fields(ModelArguments)}
    training = {name: value for name, value in chosen.items() if name not in of_model}
    if training.get("learning_rate") is None and entrant.random is not None and not chosen.get("peft"):
        training["learning_rate"] = _SCRATCH_RATE
    if choose_device(entrant.device).type == "cpu":
        training["use_cpu"] = True
    data = DataArguments(
        train_file=str(files["train"]),
        validation_file=str(files["validation"]),
        label_column=_name_columns(task) if task.problem != "single_label" else ["label"],
        problem=task.problem,
        max_length=settings.max_length,
        too_long=settings.too_long,  # type: ignore[arg-type]  # windows are refused by the settings
        max_non_dna=1.0,  # The task's own checks have told of such letters.
    )
    finetuning = FinetuneArguments(
        output_dir=str(work / "run"),
        seeds=seeds,
        resume_from_checkpoint=True,
        baselines=False,
        report_to="none",
        **{**training, "metric_for_best_model": metric, "load_best_model_at_end": True},
    )
    model = {name: value for name, value in chosen.items() if name in of_model}
    return ModelArguments(model_name_or_path=_find_start(entrant, start), **model), data, finetuning


def _find_start(entrant: Entrant, start: Path) -> str:
    """The folder of the model to start from: the entrant's, or one that is made of it here.

    Random weights, an adapter merged into its base, and a classifier without its head exist in no file.
    """
    is_whole = entrant.random is None and not is_adapter(Path(entrant.folder))
    names = getattr(entrant.load_config(), "architectures", None) or []
    if is_whole and not any(str(name).endswith(_HEADS) for name in names):
        return entrant.folder
    if not start.is_dir():
        model, tokenizer = entrant.load()
        start.parent.mkdir(parents=True, exist_ok=True)
        with make_whole(start) as partial:
            model.cpu().save_pretrained(partial)
            tokenizer.save_pretrained(partial)
    return str(start)


def _choose_metric(task: "PreparedTask", chosen: dict[str, Any]) -> str:
    """What epochs and settings are compared by: the task's metric, a preset's, or the first of the problem."""
    known = METRICS[task.problem]
    wanted = [task.task.metric, chosen.get("metric_for_best_model")]
    return next((str(metric) for metric in wanted if metric in known), known[0])


def _name_columns(task: "PreparedTask") -> list[str]:
    """Names that stand for the classes, labels or targets in the order of their ids, whatever these are called."""
    kind = {"single_label": "class", "multi_label": "label"}.get(task.problem, "target")
    return [f"{kind}_{place}" for place in range(len(task.classes))]


def _write_rows(task: "PreparedTask", train: "Rows", validation: "Rows", work: Path) -> dict[str, Path]:
    """Write the rows as tables; those for the test have no labels."""
    if task.problem == "single_label" and not np.isin(validation.labels, train.labels).all():
        known = np.isin(validation.labels, train.labels)
        tell(f"{task.task.name}: {(~known).sum()} validation rows are of classes that no training row has")
        kept = [sequence for sequence, is_known in zip(validation.sequences, known) if is_known]
        validation = dataclasses.replace(validation, sequences=kept, labels=validation.labels[known])
    files = {}
    for split, rows in (("train", train), ("validation", validation), ("test", task.test)):
        columns: dict[str, Any] = {"sequence": pa.array(rows.sequences, pa.string())}
        if split != "test":
            columns |= _label_columns(task, rows)
        files[split] = work / f"{split}.parquet"
        if not files[split].is_file():
            with replace_whole(files[split]) as partial:
                pa.parquet.write_table(pa.table(columns), partial)
    return files


def _label_columns(task: "PreparedTask", rows: "Rows") -> dict[str, pa.Array]:
    names = _name_columns(task)
    if task.problem == "single_label":
        return {"label": pa.array([names[label] for label in rows.labels])}
    labels = np.asarray(rows.labels).reshape(len(rows.sequences), -1)
    kind = np.int64 if task.problem == "multi_label" else np.float64
    return {name: pa.array(labels[:, place].astype(kind)) for place, name in enumerate(names)}


def _read_outputs(path: Path, names: list[str], task: "PreparedTask") -> np.ndarray:
    """Return what predictions say, float64 (N, C): logarithms of probabilities, logits of labels, values."""
    table = pa.parquet.read_table(path)
    prefix = "prediction_" if task.problem == "regression" else "probability_"
    columns = []
    for name in names:
        if f"{prefix}{name}" in table.column_names:
            columns.append(table[f"{prefix}{name}"].to_numpy().astype(np.float64))
        else:  # No training row has this class.
            columns.append(np.zeros(len(table)))
    values = np.stack(columns, axis=1)
    if not np.isfinite(values).all():
        row = int(np.argwhere(~np.isfinite(values))[0, 0])
        raise InputError(f"{task.task.name}, test row {row + 1}: the trained model gives no finite number for it")
    if task.problem == "regression":
        return values
    outputs = np.log(np.maximum(values, _LEAST))
    return outputs if task.problem == "single_label" else outputs - np.log(np.maximum(1 - values, _LEAST))


def _describe(report: dict[str, Any], position: int, metric: str) -> dict[str, Any]:
    """What was chosen, by which validations, and what that took."""
    key, training, search = f"eval_{metric}", find_training(report), report.get("search")
    tried = [
        {"epoch": line["epoch"], metric: line[key]}
        for line in report["history"][position]
        if line.get(key) is not None and "epoch" in line
    ]
    best = (min if metric == "loss" else max)(tried, key=lambda line: line[metric], default=None)
    chosen: dict[str, Any] = {"metric": metric, "epoch": best and best["epoch"]}
    by_steps = training.get("max_steps", -1) > 0
    told = [name for name in _TOLD if name != ("num_train_epochs" if by_steps else "max_steps")]
    chosen |= {name: training[name] for name in told if training.get(name) is not None}
    chosen |= {name: value for name, value in (search or {}).get("settings", {}).items()}
    if report.get("adapter"):
        chosen["adapter"] = report["adapter"]
    chosen["tried"] = tried
    seconds: Any = {"training": report["seconds"]}
    if search is not None:
        chosen["search"] = {
            **{name: search[name] for name in ("space", "sampler", "metric", "seed", "chosen")},
            "trials": [{name: trial[name] for name in ("settings", "value", "failed")} for trial in search["trials"]],
        }
        seconds |= {"search": search["seconds"], "search_cpu": search["cpu_seconds"]}
    return {**chosen, "seconds": seconds}


__all__ = ["check_task", "open_work", "train_entrant"]
