"""Which id has a label? By the name of its class; a number is an id, or a code that the files of the Hub have."""

import dataclasses
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features, Value

from gengram.errors import InputError
from gengram.genome.columns import make_rows
from gengram.genome.tables import shorten
from gengram.training.data.class_names import name_classes
from gengram.training.data.labels import encode_labels, order_classes, read_labels
from gengram.training.problems import Problem


@dataclasses.dataclass(frozen=True)
class Coding:
    """What the labels of one file mean.

    Attributes:
        problem: what is to be predicted.
        classes: names in the order of the ids; None: they are those of the training rows.
        codes: the number of each class in the file; None: numbers are ids.
    """

    problem: Problem
    classes: Sequence[str] | None = None
    codes: Mapping[str, int] | None = None


def code_rows(rows: Dataset, columns: list[str], coding: Coding, origin: str) -> tuple[Dataset, tuple[str, ...], bool]:
    """Put labels into the schema's column `label`.

    Args:
        rows: of `arrange_layout`.
        columns: the label columns.
        coding: what the labels mean.
        origin: the file, for messages.

    Returns:
        The rows with `label`: a `ClassLabel`, a float32, or a list; the names of the classes, labels or targets;
        whether numbers were taken for ids of declared classes.

    Raises:
        `InputError`: see `read_labels`; a label outside the declared classes, with its row.
    """
    labels = read_labels(rows, columns, coding.problem, origin)
    classes, by_number = coding.classes, False
    if classes is None:
        classes = order_classes(labels, origin)
    elif labels.fixed:
        if len(labels.names) != len(classes):
            raise InputError(
                f"{origin}: {len(labels.names)} labels a row in {shorten(columns)}, the task has {len(classes)} "
                f"({shorten(list(classes))}). Give the columns of the task, each once."
            )
        if set(labels.names) != set(classes):  # Places of a list have no names of their own.
            labels = dataclasses.replace(labels, names=list(classes))
    else:
        named, by_number = name_classes(labels, columns, classes, coding.codes, origin)
        labels = dataclasses.replace(labels, names=named)
    coded = encode_labels(rows, labels, list(classes), columns, origin)
    if coding.problem == "regression" and len(classes) == 1:
        coded = _flatten_target(coded)
    return coded, tuple(classes), by_number


def _flatten_target(rows: Dataset) -> Dataset:
    """One target a row is a number, not a list of one."""
    table = rows.data.table
    place = table.column_names.index("label")
    values = pa.chunked_array([pc.list_flatten(chunk) for chunk in table["label"].chunks], pa.float32())
    table = table.set_column(place, "label", values)
    return make_rows(table.replace_schema_metadata(None), Features({**rows.features, "label": Value("float32")}))


__all__ = ["Coding", "code_rows"]
