"""What did a model say about each row? Predictions as a Parquet file: its columns, how it is written and read again.

Dimensions: N rows, M measured elements (rows, or the labelled bases of all rows), T tokens, C classes, labels or
targets.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from datasets import Dataset
from scipy.special import expit, softmax
from transformers import EvalPrediction, PreTrainedTokenizerBase

from gengram.errors import InputError
from gengram.files import replace_whole
from gengram.tokenization.coordinates import find_bases
from gengram.training.problems import IGNORED, ROW_COLUMN, Problem

# Numbers in memory at once: rows are written and read in groups of so many.
_CHUNK = 4_000_000
SPREAD = "_sd"
"""How the names of columns end that hold standard deviations over several models."""

_INPUTS = ("sequence", "label", "labels", "input_ids", "attention_mask", "token_type_ids")


def name_predictions(folder: Path, split: str) -> Path:
    """Return the path of a model's predictions for a split in the model's folder."""
    return folder / f"predictions-{split}.parquet"


def describe_rows(logits: np.ndarray, names: list[str], problem: Problem) -> dict[str, pa.Array]:
    """Return the columns of predictions that are one a row.

    Args:
        logits: (N, C) floats, or (S, N, C) of S models, of whose answers mean and standard deviation are told.
        names: of the classes, labels or targets.
        problem: `single_label`, `multi_label` or `regression`.

    Returns:
        `prediction` (the name, or the list of names with a probability above 0.5) and `probability_NAME`; of a
        regression `prediction_NAME`. Of several models these are means, and behind each is `..._sd`, see
        `measure_outputs`. All are null where a row has a logit that is not finite.
    """
    values, spread, missing = measure_outputs(logits, problem)
    if problem == "regression":
        return _name_values("prediction_", names, values, spread, missing)
    if problem == "multi_label":
        positive = values > 0.5 if logits.ndim == 3 else np.where(missing[:, None], 0, logits) > 0
        prediction = _list_names(positive, names, missing)
    else:
        prediction = _name_classes(_find_highest(logits, values), names, missing)
    return {"prediction": prediction, **_name_values("probability_", names, values, spread, missing)}


def describe_bases(logits: list[np.ndarray], starts: list[int], names: list[str]) -> dict[str, pa.Array]:
    """Return the columns of predictions that are one a base.

    Args:
        logits: for each row floats (bases that the model has read, C), or (S, bases, C) of S models.
        starts: for each row the base, counted from 0, that the model has read first.
        names: of the classes.

    Returns:
        `prediction_start`, and lists with one entry a base: `prediction`, the name, and `probability_NAME`, as in
        `describe_rows`; null where a base has a logit that is not finite.
    """
    offsets = pa.array(np.cumsum([0, *(row.shape[-2] for row in logits)]), pa.int32())
    flat = np.concatenate(logits, axis=-2)
    values, spread, missing = measure_outputs(flat, "token")
    columns = _name_values("probability_", names, values.astype(np.float32), spread, missing)
    columns = {"prediction": _name_classes(_find_highest(flat, values), names, missing), **columns}
    return {
        "prediction_start": pa.array(starts, pa.int64()),
        **{name: pa.ListArray.from_arrays(offsets, column) for name, column in columns.items()},
    }


def measure_outputs(logits: np.ndarray, problem: Problem) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Return what logits say.

    Args:
        logits: floats (M, C) of one model, or (S, M, C) of S models.
        problem: what they are of.

    Returns:
        Floats (M, C), probabilities, or the values of a regression: of several models their mean. Probabilities and not
        logits are averaged, see `gengram.training.data.strands.average_outputs`.
        The standard deviation (M, C) over the models, with S - 1 in its denominator: not a number for S = 1; None where
        there was one model to begin with.
        Bool (M,), where one of the logits is not finite: values are those of zeros there.
    """
    missing = find_missing(logits)
    logits = np.where(missing[..., None], 0, logits)
    if logits.ndim == 3:
        missing, logits = np.asarray(missing.any(axis=0)), logits.astype(np.float64)
    values = logits
    if problem != "regression":
        values = expit(logits) if problem == "multi_label" else softmax(logits, axis=-1)
    if logits.ndim == 2:
        return values, None, missing
    if len(values) == 1:
        return values[0].astype(np.float32), np.full(values.shape[1:], np.nan, np.float32), missing
    return values.mean(axis=0).astype(np.float32), values.std(axis=0, ddof=1).astype(np.float32), missing


def check_spread(names: list[str], seed: int | str | None) -> None:
    """Refuse names of outputs whose standard deviation would be called like another output.

    Raises:
        `InputError`: names both.
    """
    for name in names if seed == "all" else ():
        if f"{name}{SPREAD}" in names:
            raise InputError(
                f"the outputs {name!r} and {name + SPREAD!r} leave no name for a column with the standard deviation of "
                "the first; take one model with --seed N"
            )


def _find_highest(logits: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the class of each, (M,): of one model by its logits, where probabilities may be equal by rounding."""
    return (values if logits.ndim == 3 else logits).argmax(axis=1)


def _name_values(
    prefix: str, names: list[str], values: np.ndarray, spread: np.ndarray | None, missing: np.ndarray
) -> dict[str, pa.Array]:
    """Name the columns of (M, C) values: `PREFIX_NAME` of each, and `PREFIX_NAME_sd` where there is a spread."""
    columns: dict[str, pa.Array] = {}
    for place, name in enumerate(names):
        columns[f"{prefix}{name}"] = pa.array(values[:, place], mask=missing)
        if spread is not None:
            column = spread[:, place]
            columns[f"{prefix}{name}{SPREAD}"] = pa.array(column, mask=missing | np.isnan(column))
    return columns


def find_missing(logits: np.ndarray) -> np.ndarray:
    """Return where there is no prediction: bool (M,) for logits (M, C) of which one is infinite or not a number."""
    return ~np.isfinite(logits).all(axis=-1)


def find_start(bases: int, read: int, too_long: str) -> int:
    """Return the base, counted from 0, that the model has read first, of a sequence that was cut to `read` bases."""
    return (bases - read) // 2 if too_long == "center" else 0


def write_predictions(
    path: Path,
    rows: Dataset,
    prediction: EvalPrediction,
    problem: Problem,
    classes: list[str],
    tokenizer: PreTrainedTokenizerBase,
    too_long: str,
) -> None:
    """Write the predictions of a split whose labels are known, in one piece.

    The file has `ROW_COLUMN`, the columns of the input without the sequences, the labels, and the columns of
    `gengram predict`. Labels are named as predictions are: `label`, a name, a list of names, or for `token` a list with
    one name a base, null where it is not known; of a regression `label_NAME` for each target.

    Args:
        path: replaced if it is there.
        rows: N rows of `prepare_splits`.
        prediction: outputs (N, C) or (N, T, C) and labels of these rows, in their order, padded behind; or lists of
            batches of them, each padded on its own.
        problem, classes: of the task.
        tokenizer: that the rows were tokenized with.
        too_long: what happened to long sequences, see `tokenize_rows`.
    """
    outputs, labels = (_list_rows(part) for part in (prediction.predictions, prediction.label_ids))
    widest = max(output.size for output in outputs) if isinstance(outputs, list) else outputs[0].size
    kept = [name for name in rows.column_names if name not in _INPUTS]
    kept.sort(key=lambda name: name != ROW_COLUMN)
    step = max(1, _CHUNK // max(widest, 1))
    needed = [*kept, "sequence", "input_ids"] if problem == "token" else kept

    def describe(start: int) -> pa.Table:
        part = slice(start, start + step)
        chunk = rows.select_columns(needed).select(range(start, min(start + step, len(rows))))
        if problem == "token":
            columns = _pair_bases(chunk, outputs[part], labels[part], classes, tokenizer, too_long)
        else:
            columns = _pair_rows(outputs[part], labels[part], classes, problem)
        table = chunk.select_columns(kept).with_format("arrow")[:]
        return pa.table({**{name: table[name] for name in kept if name not in columns}, **columns})

    path.parent.mkdir(parents=True, exist_ok=True)
    first = describe(0)
    with replace_whole(path) as partial, pa.parquet.ParquetWriter(partial, first.schema, compression="zstd") as writer:
        writer.write_table(first)
        for start in range(step, len(rows), step):
            writer.write_table(describe(start))


def read_predictions(path: Path, problem: Problem, classes: list[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read the predictions of `write_predictions` again, a part at a time.

    Yields:
        Float32 (some of M, C), the probabilities or predicted values, and what is true: class ids (M,), or booleans or
        floats (M, C).
    """
    prefix = "prediction_" if problem == "regression" else "probability_"
    names = [f"{prefix}{name}" for name in classes]
    truth = [f"label_{name}" for name in classes] if problem == "regression" else ["label"]
    file = pa.parquet.ParquetFile(path)
    for group in range(file.num_row_groups):
        table = file.read_row_group(group, columns=[*names, *truth])
        if problem == "regression":
            yield _stack(table, names), _stack(table, truth).astype(np.float64)
            continue
        labels = table["label"].combine_chunks()
        if problem == "multi_label":
            lengths = np.diff(labels.offsets.to_numpy())
            positive = np.zeros((len(table), len(classes)), dtype=bool)
            positive[np.repeat(np.arange(len(table)), lengths), _find_classes(labels.flatten(), classes)] = True
            yield _stack(table, names), positive
        elif problem == "token":
            known = labels.flatten()
            scores = np.stack([table[name].combine_chunks().flatten().to_numpy() for name in names], axis=1)
            yield scores[known.is_valid().to_numpy(False)], _find_classes(known.drop_null(), classes)
        else:
            yield _stack(table, names), _find_classes(labels, classes)


def _list_rows(values: Any) -> Any:
    """Return the values of each row, of one array as they are, or of batches as a list."""
    return [row for batch in values for row in batch] if isinstance(values, list) else np.asarray(values)


def _pair_rows(outputs: np.ndarray, labels: np.ndarray, classes: list[str], problem: Problem) -> dict[str, pa.Array]:
    columns: dict[str, pa.Array]
    if problem == "regression":
        targets = labels.reshape(len(labels), -1)
        columns = {f"label_{name}": pa.array(column) for name, column in zip(classes, targets.T)}
    elif problem == "multi_label":
        columns = {"label": _list_names(labels > 0.5, classes)}
    else:
        columns = {"label": _name_classes(labels, classes)}
    return {**columns, **describe_rows(outputs, classes, problem)}


def _pair_bases(
    rows: Dataset,
    outputs: np.ndarray,
    labels: np.ndarray,
    classes: list[str],
    tokenizer: PreTrainedTokenizerBase,
    too_long: str,
) -> dict[str, pa.Array]:
    logits, starts, known = [], [], []
    for sequence, ids, output, label in zip(rows["sequence"], rows["input_ids"], outputs, labels):
        tokens = _find_tokens(output, len(ids), tokenizer.padding_side)
        bases = find_bases(ids, tokenizer)
        logits.append(output[tokens][bases])
        known.append(label[tokens][bases])
        starts.append(find_start(len(sequence), len(logits[-1]), too_long))
    columns = describe_bases(logits, starts, classes)
    flat = np.concatenate(known)
    named = _name_classes(np.where(flat == IGNORED, 0, flat), classes, flat == IGNORED)
    columns["label"] = pa.ListArray.from_arrays(columns["prediction"].offsets, named)
    first = ["label", "prediction_start"]
    return {name: columns[name] for name in [*first, *(name for name in columns if name not in first)]}


def _find_tokens(output: np.ndarray, length: int, padding_side: str) -> slice:
    """Return where a row's own tokens are: a batch is padded on the tokenizer's side, and by Trainer behind."""
    if padding_side == "right":
        return slice(0, length)
    batch = np.flatnonzero((output != IGNORED).any(axis=1))  # Trainer pads outputs with the same number as labels.
    end = int(batch[-1]) + 1
    return slice(end - length, end)


def _name_classes(ids: np.ndarray, names: list[str], missing: np.ndarray | None = None) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(ids, pa.int32(), mask=missing), pa.array(names)).cast(pa.string())


def _list_names(chosen: np.ndarray, names: list[str], missing: np.ndarray | None = None) -> pa.Array:
    """Return for each row of booleans (N, C) the names of what is chosen; null where it is missing."""
    offsets = pa.array(np.r_[0, chosen.sum(axis=1).cumsum()], pa.int32())
    mask = None if missing is None else pa.array(missing)
    return pa.ListArray.from_arrays(offsets, _name_classes(np.nonzero(chosen)[1], names), mask=mask)


def _find_classes(values: pa.Array, classes: list[str]) -> np.ndarray:
    return pa.compute.index_in(values, pa.array(classes)).to_numpy(zero_copy_only=False).astype(np.int64)


def _stack(table: pa.Table, names: list[str]) -> np.ndarray:
    return np.stack([table[name].to_numpy() for name in names], axis=1)


__all__ = [
    "SPREAD",
    "check_spread",
    "describe_bases",
    "describe_rows",
    "find_missing",
    "find_start",
    "measure_outputs",
    "name_predictions",
    "read_predictions",
    "write_predictions",
]
