"""What would models that know little make of the same rows? Scores to compare those of a run with.

- `chance`: scores that have nothing to do with the sequence; worked out, not drawn.
- `majority` (of a regression `mean`): what is most frequent in the training rows, the same for every row.
- `kmer`: a linear model on 6-mer counts, see `gengram.training.baselines`; of labels of bases the class frequencies
  between the same neighbours.

They are fitted on the training rows of the run and measured on its validation and test rows with its metrics. What was
found is kept, by a checksum of the rows, for the next run on the same rows.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sklearn
from datasets import Dataset
from huggingface_hub import constants
from transformers import EvalPrediction

from gengram.errors import InputError
from gengram.files import write_text
from gengram.loading.folders import read_object
from gengram.progress import tell
from gengram.training.baselines.contexts import WIDTH, count_contexts
from gengram.training.baselines.linear import make_kmer_features
from gengram.training.baselines.predictors import MOST_ROWS, choose_rows, fit_linear, guess_constant
from gengram.training.data.inputs import LabelledSplits
from gengram.training.metrics.scores import Scores, score
from gengram.training.problems import IGNORED, METRICS, Problem

KMER = 6
# The 6-mer model is fitted on at most `MOST_ROWS` rows, so many bases, and rows times labels.
_MOST_BASES, _MOST_LABELS = 20_000_000, 500_000
_FEWEST_ROWS = 1000
_CHUNK_BASES = 5_000_000  # counted at a time
# To be changed with what is computed here: what was kept before is not read then.
_VERSION = 2

_TITLES: dict[Problem, str] = {
    "single_label": f"{KMER}-mer logistic regression",
    "multi_label": f"{KMER}-mer logistic regression of each label",
    "regression": f"{KMER}-mer ridge regression",
    "token": f"class frequencies of a base between the same {WIDTH - 1} neighbours",
}


@dataclasses.dataclass(frozen=True)
class Baselines:
    """What the simple models of a run score.

    Attributes:
        scores: of each model but chance and each split; of the split that is judged with the resamples of the metric
            that is compared.
        kmer_rows: training rows that the 6-mer model has seen; None where it could not be fitted.
    """

    scores: dict[str, dict[str, Scores]]
    kmer_rows: int | None


def name_compared(problem: Problem) -> dict[str, str]:
    """Return the simple models of a problem but chance, and by which metric a run is compared with each.

    What says the same of every row ranks nothing: it is compared by what it is good at.
    """
    constant = {"mean": "r2"} if problem == "regression" else {"majority": "accuracy"}
    return {**constant, "kmer": METRICS[problem][0]}


def measure_baselines(data: LabelledSplits, judged: str) -> Baselines:
    """Fit and measure the simple models, or read what an earlier run on the same rows has found.

    Args:
        data: the rows of the run.
        judged: the split that is resampled, so that differences to the run's models can be.
    """
    path = Path(constants.HF_HOME, "gengram", "baselines", f"{_hash_rows(data)}-{judged}.json")
    kept = _read_kept(path, data.problem)
    if kept is None:
        kept = _fit(data, judged)
        _keep(kept, path)
    return kept


def describe_baselines(baselines: Baselines, data: LabelledSplits) -> dict[str, Any]:
    """Return what `report.json` has of them: for each model its `title` and the metrics of each split.

    `rows` are the training rows that the 6-mer model has seen.
    """
    problem = data.problem
    titles = {
        "chance": "random scores",
        "mean": "mean of the training rows",
        "majority": "most frequent class of the training rows",
        "kmer": _TITLES[problem],
    }
    if problem == "multi_label":
        titles["majority"] = "each label as frequent as in the training rows"
    measured = {
        "chance": {
            split: work_out_chance(problem, _read_truth(data, split), len(data.classes)) for split in _list_splits(data)
        },
        **{name: {split: one.overall for split, one in found.items()} for name, found in baselines.scores.items()},
    }
    described: dict[str, Any] = {
        name: {
            "title": titles[name],
            **{
                split: {metric: float(value) if np.isfinite(value) else None for metric, value in one.items()}
                for split, one in found.items()
            },
        }
        for name, found in measured.items()
    }
    if baselines.kmer_rows is not None:
        described["kmer"]["rows"] = baselines.kmer_rows
    return described


def work_out_chance(problem: Problem, truth: np.ndarray, classes: int) -> dict[str, float]:
    """Return what scores that have nothing to do with the rows get on average; each class is guessed equally often.

    Args:
        problem: of the task.
        truth: (M,) class ids of rows or labelled bases, (N, L) of 0 and 1, or (N, R) targets.
        classes: how many classes, labels or targets there are.

    Returns:
        The `METRICS` of the problem; NaN where one is not defined: a regression's `r2` and `loss` depend on the spread
        of the guesses.
    """
    if problem == "regression":
        varies = bool((np.ptp(truth, axis=0) > 0).any())
        return {metric: 0.0 if varies and metric in ("pearson", "spearman") else np.nan for metric in METRICS[problem]}
    if problem == "multi_label":
        shares, guessed = truth.mean(axis=0), 0.5
    else:
        shares, guessed = np.bincount(truth, minlength=classes) / len(truth), 1 / classes
    ranked = shares[1:] if problem != "multi_label" and classes == 2 else shares
    ranked = ranked[(ranked > 0) & (ranked < 1)]
    values = {
        "mcc": 0.0,
        "accuracy": guessed,
        "auroc": 0.5 if len(ranked) else np.nan,
        "auprc": float(ranked.mean()) if len(ranked) else np.nan,
        "macro_f1": float((2 * shares * guessed / (shares + guessed)).mean()),
        "loss": -float(np.log(guessed)),
    }
    return {metric: values[metric] for metric in METRICS[problem]}


def _list_splits(data: LabelledSplits) -> list[str]:
    return [split for split in ("validation", "test") if split in data.splits]


def _fit(data: LabelledSplits, judged: str) -> Baselines:
    splits = _list_splits(data)
    names = name_compared(data.problem)
    models: dict[str, Callable[[str], EvalPrediction]] = {next(iter(names)): _guess_constant(data)}
    fit = _fit_contexts if data.problem == "token" else _fit_kmers
    fitted = fit(data)
    if fitted is not None:
        models["kmer"] = fitted[0]
    scores = {
        name: {
            split: _score(data.problem, predict(split), names[name] if split == judged else None) for split in splits
        }
        for name, predict in models.items()
    }
    return Baselines(scores, None if fitted is None else fitted[1])


def _score(problem: Problem, prediction: EvalPrediction, resampled: str | None) -> Scores:
    """Return the metrics, and the resamples of one of them if it is given."""
    found = score(problem, prediction, with_resamples=resampled is not None)
    return Scores(found.overall, {}, found.resamples and {str(resampled): found.resamples[str(resampled)].round(6)})


def _guess_constant(data: LabelledSplits) -> Callable[[str], EvalPrediction]:
    """What is most frequent in the training rows, as the outputs of a model that never sees a sequence."""
    output = guess_constant(data.problem, _read_truth(data, "train"), len(data.classes))

    def predict(split: str) -> EvalPrediction:
        labels = _read_labels(data, split)
        of_classes = data.problem in ("single_label", "token")
        return EvalPrediction(
            np.broadcast_to(output, (*labels.shape, len(output)) if of_classes else labels.shape), labels
        )

    return predict


def _fit_kmers(data: LabelledSplits) -> tuple[Callable[[str], EvalPrediction], int] | None:
    """The 6-mer model of whole sequences, and on how many rows; None where the training rows have one class only."""
    rows, problem = data.splits["train"], data.problem
    chosen = _choose_rows(rows, len(data.classes) if problem == "multi_label" else 1)
    truth, sequences = _read_labels(data, "train")[chosen], _read_sequences(rows.select(chosen))
    fitted = fit_linear(problem, make_kmer_features(KMER), sequences, truth, len(data.classes))
    if fitted is None:
        return None

    def predict(split: str) -> EvalPrediction:
        labels = _read_labels(data, split)
        outputs = np.concatenate([fitted(chunk) for chunk in _read_chunks(data.splits[split])])
        return EvalPrediction(outputs.reshape(labels.shape) if problem == "regression" else outputs, labels)

    return predict, len(chosen)


def _fit_contexts(data: LabelledSplits) -> tuple[Callable[[str], EvalPrediction], int]:
    """Class frequencies of bases between the same neighbours, and on how many rows."""
    rows = data.splits["train"].select_columns(["input_ids", "labels"]).with_format("numpy")
    ids, labels, bases = [], [], 0
    for number in np.random.default_rng(0).permutation(len(rows)).tolist():
        row = rows[number]
        ids.append(row["input_ids"])
        labels.append(row["labels"])
        bases += len(row["labels"])
        if bases >= _CHUNK_BASES and any((known != IGNORED).any() for known in labels):
            break
    table = count_contexts(ids, labels, len(data.classes))

    def predict(split: str) -> EvalPrediction:
        found = data.splits[split].select_columns(["input_ids", "labels"]).with_format("numpy")
        truth = _read_labels(data, split)
        outputs = np.zeros((*truth.shape, len(data.classes)), dtype=np.float32)
        for output, row in zip(outputs, found):
            known = table.predict(row["input_ids"], row["labels"])
            output[: len(known)] = known
        return EvalPrediction(outputs, truth)

    return predict, len(ids)


def _choose_rows(rows: Dataset, labels: int) -> np.ndarray:
    """Return the rows to fit on: all, or as many of a permutation as may be seen."""
    order = choose_rows(len(rows), min(MOST_ROWS, max(_FEWEST_ROWS, _MOST_LABELS // labels)))
    bases = pc.utf8_length(rows.select(order).with_format("arrow")[:]["sequence"]).to_numpy()
    return order[: max(int(np.searchsorted(bases.cumsum(), _MOST_BASES)) + 1, 1)]


def _read_sequences(rows: Dataset) -> list[str]:
    return [sequence for chunk in _read_chunks(rows) for sequence in chunk]


def _read_chunks(rows: Dataset) -> Iterator[list[str]]:
    """Yield the sequences of all rows in parts of about as many bases."""
    chunk: list[str] = []
    bases = 0
    for batch in rows.select_columns(["sequence"]).iter(1000):
        chunk += batch["sequence"]
        bases += sum(map(len, batch["sequence"]))
        if bases > _CHUNK_BASES:
            yield chunk
            chunk, bases = [], 0
    if chunk:
        yield chunk


def _read_labels(data: LabelledSplits, split: str) -> np.ndarray:
    """Return the labels of a split as `score` takes them; of bases (N, most in a row), known ones in front."""
    name = "labels" if data.problem == "token" else "label"
    column = data.splits[split].select_columns([name]).with_format("arrow")[:][name]
    if data.problem == "single_label":
        return column.to_numpy()
    flat, lengths = pc.list_flatten(column).to_numpy(), pc.list_value_length(column).to_numpy()
    if data.problem != "token":
        return flat.reshape(len(column), -1).astype(np.float32, copy=False)
    rows, known = np.repeat(np.arange(len(column)), lengths), flat != IGNORED
    numbers = np.bincount(rows[known], minlength=len(column))
    labels = np.full((len(column), numbers.max()), IGNORED, dtype=np.int64)
    labels[np.arange(labels.shape[1]) < numbers[:, None]] = flat[known]
    return labels


def _read_truth(data: LabelledSplits, split: str) -> np.ndarray:
    """Return the labels of rows, or those of all labelled bases."""
    labels = _read_labels(data, split)
    return labels[labels != IGNORED] if data.problem == "token" else labels


def _hash_rows(data: LabelledSplits) -> str:
    """Return a checksum of all that the scores depend on."""
    columns = ["input_ids", "labels"] if data.problem == "token" else ["sequence", "label"]
    settings = [_VERSION, sklearn.__version__, np.__version__, data.problem, len(data.classes), KMER, WIDTH]
    digest = hashlib.sha256(json.dumps(settings).encode())
    for split, rows in data.splits.items():
        digest.update(f"{split} {len(rows)}".encode())
        for batch in rows.select_columns(columns).with_format("arrow").iter(10_000):
            for name in columns:
                _hash_column(batch[name], digest)
    return digest.hexdigest()[:32]


def _hash_column(column: pa.ChunkedArray, digest: Any) -> None:
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        digest.update("\n".join(column.to_pylist()).encode())
        return
    if not pa.types.is_primitive(column.type):
        digest.update(pc.list_value_length(column).to_numpy().tobytes())
        column = pc.list_flatten(column)
    digest.update(column.to_numpy().tobytes())


def _keep(found: Baselines, path: Path) -> None:
    plain = {
        name: {
            split: {
                "overall": one.overall,
                "resamples": one.resamples and {metric: values.tolist() for metric, values in one.resamples.items()},
            }
            for split, one in splits.items()
        }
        for name, splits in found.scores.items()
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(json.dumps({"scores": plain, "rows": found.kmer_rows}), path)
    except (OSError, InputError) as error:
        tell(f"the scores of the simple models are not kept for the next run: {error}")


def _read_kept(path: Path, problem: Problem) -> Baselines | None:
    """Return what an earlier run has found; None where there is none, or a file that is not what was written."""
    if not path.is_file():
        return None
    try:
        kept = read_object(path)
        scores = {
            name: {
                split: Scores(
                    {metric: float(one["overall"][metric]) for metric in METRICS[problem]},
                    {},
                    one["resamples"]
                    and {metric: np.array(values, dtype=np.float64) for metric, values in one["resamples"].items()},
                )
                for split, one in splits.items()
            }
            for name, splits in kept["scores"].items()
        }
        return Baselines(scores, kept["rows"])
    except (InputError, OSError, LookupError, TypeError, ValueError, AttributeError):
        return None  # it is made again


__all__ = ["Baselines", "describe_baselines", "measure_baselines", "name_compared", "work_out_chance"]
