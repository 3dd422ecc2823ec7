"""What a protocol gets of a task: rows that train, validate and test, as texts and arrays, with one fingerprint."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset

from gengram.benchmarks.data.load import LoadedTask
from gengram.benchmarks.tasks.task import Task
from gengram.errors import InputError
from gengram.genome.columns import list_texts, read_column
from gengram.training.data.splits import split_chromosomes, split_validation
from gengram.training.problems import IGNORED, Problem


@dataclasses.dataclass(frozen=True)
class Rows:
    """N rows of one split.

    Attributes:
        sequences: texts.
        alternatives: of pairs, the sequences with the alternative allele; else None.
        labels: int64 (N,) ids of classes; float64 (N, R) targets; bool (N, L) labels; of `token`, int64 of all bases
            one row after the other, `IGNORED` where not known.
    """

    sequences: list[str]
    alternatives: list[str] | None
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.sequences)


@dataclasses.dataclass(frozen=True)
class PreparedTask:
    """A task as a protocol is run on it.

    Attributes:
        task: what the registry, or the folder, says.
        problem, classes: what is predicted, and the names of classes, labels or targets in the order of their ids.
        train, validation, test: the rows.
        all_train: those of `train` and `validation` together, in the order before validation was split off: for
            methods that choose nothing on validation.
        fingerprint: SHA-256 over all rows of all splits in their order, the problem and the classes.
        report: what JSON holds of where the rows are from and what they are like.
    """

    task: Task
    problem: Problem
    classes: tuple[str, ...]
    train: Rows
    validation: Rows
    test: Rows
    all_train: Rows
    fingerprint: str
    report: dict[str, Any]


def prepare_task(
    loaded: LoadedTask,
    *,
    max_train_rows: int | None = None,
    max_test_rows: int | None = None,
    validation_fraction: float = 0.1,
    seed: int = 0,
) -> PreparedTask:
    """Cap the rows of a task and split off what validates.

    Args:
        loaded: of `read_task`.
        max_train_rows: keep the first so many rows of `numpy.random.default_rng(0).permutation(N)` of the train split,
            in that order, before validation is split off.
        max_test_rows: the same of the test split, in the order of the file.
        validation_fraction: share of the groups of near-duplicates that validate, where the task has no validation
            split and no chromosomes for it.
        seed: of that split.

    Raises:
        `InputError`: no train or test split, a cap below 1, a train split of one class, or of too few rows to split.
    """
    splits, name = loaded.splits, loaded.task.name
    for split in ("train", "test"):
        if split not in splits:
            raise InputError(
                f"{name}: the split {split!r} is missing; a task is judged with train and test"
                + (", and test_file can be the test" if split == "test" else "")
            )
    for argument, cap in (("max_train_rows", max_train_rows), ("max_test_rows", max_test_rows)):
        if cap is not None and cap < 1:
            raise InputError(f"{argument}={cap}: give 1 or more")
    train = splits["train"]
    if max_train_rows is not None and max_train_rows < len(train):
        train = train.select(np.random.default_rng(0).permutation(len(train))[:max_train_rows])
    test = splits["test"]
    if max_test_rows is not None and max_test_rows < len(test):
        test = test.select(np.sort(np.random.default_rng(0).permutation(len(test))[:max_test_rows]))
    _require_classes(train, name, max_train_rows)
    all_train = read_split(train, loaded.problem)
    if "validation" in splits:
        kept, validation, how = train, splits["validation"], "the task's own split"
        all_train = _join(all_train, read_split(validation, loaded.problem))
    elif loaded.task.validation_chromosomes and "chrom" in train.column_names:
        chromosomes = list(loaded.task.validation_chromosomes)
        kept, validation, _ = split_chromosomes(train, chromosomes, name, "validation_chromosomes")
        how = f"chromosomes {', '.join(chromosomes)} of train"
    else:
        kept, validation = split_validation(train, validation_fraction, seed, path=name)
        how = f"{validation_fraction:g} of train, near-duplicates together, seed {seed}"
    rows = {
        split: read_split(each, loaded.problem)
        for split, each in (("train", kept), ("validation", validation), ("test", test))
    }
    report = {
        "task": name,
        "problem": loaded.problem,
        "classes": list(loaded.classes),
        "rows": {split: len(each) for split, each in rows.items()},
        "caps": {"train": max_train_rows, "test": max_test_rows},
        "validation": how,
        "sources": [dataclasses.asdict(source) for source in loaded.sources],
        "removed": loaded.removed,
        "survey": loaded.survey.as_dict(),
    }
    return PreparedTask(
        task=loaded.task,
        problem=loaded.problem,
        classes=loaded.classes,
        **rows,
        all_train=all_train,
        fingerprint=hash_rows(loaded.problem, loaded.classes, list(rows.values())),
        report=report,
    )


def read_split(rows: Dataset, problem: Problem) -> Rows:
    """Return the coded rows of one split as texts and an array."""
    alternatives = list(list_texts(rows, "alternative")) if "alternative" in rows.column_names else None
    column = read_column(rows, "label")
    if problem == "single_label":
        labels = np.asarray(column).astype(np.int64)
    elif problem == "token":
        labels = np.asarray(pc.list_flatten(column)).astype(np.int64)
    else:
        flat = column if not hasattr(column.type, "value_type") else pc.list_flatten(column)
        labels = np.asarray(flat).reshape(len(rows), -1).astype(bool if problem == "multi_label" else np.float64)
    return Rows(list(list_texts(rows)), alternatives, labels)


def _join(first: Rows, second: Rows) -> Rows:
    alternatives = None
    if first.alternatives is not None and second.alternatives is not None:
        alternatives = first.alternatives + second.alternatives
    return Rows(first.sequences + second.sequences, alternatives, np.concatenate([first.labels, second.labels]))


def _require_classes(train: Dataset, name: str, cap: int | None) -> None:
    feature = train.features["label"]
    if not isinstance(feature, ClassLabel):
        return
    present = np.unique(np.asarray(read_column(train, "label")))
    if len(present) < 2:
        capped = f" among the first {cap} of them (max_train_rows)" if cap is not None else ""
        raise InputError(
            f"{name}: all rows of train{capped} are of class {feature.names[present[0]]!r}; nothing can be "
            "learned from one class"
        )


def hash_rows(problem: Problem, classes: Sequence[str], splits: Sequence[Rows]) -> str:
    """Return the SHA-256 of rows in their order, with what their labels mean."""
    digest = hashlib.sha256(json.dumps([problem, list(classes)]).encode())
    for rows in splits:
        digest.update(f"\n{len(rows)} {rows.labels.dtype.str} {rows.labels.shape}\n".encode())
        for texts in (rows.sequences, rows.alternatives or []):
            for first in range(0, len(texts), 1000):
                digest.update("\n".join([*texts[first : first + 1000], ""]).encode())
        digest.update(np.ascontiguousarray(rows.labels).tobytes())
    return digest.hexdigest()


__all__ = ["IGNORED", "PreparedTask", "Rows", "hash_rows", "prepare_task", "read_split"]
