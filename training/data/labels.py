"""What is to be predicted? The problem of a task, the names of its classes or targets, and the label of each row.

Dimensions: N rows, L labels of a multi-label task, R targets of a regression.
"""

import dataclasses
import fnmatch
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, Features, List, Value
from transformers import PreTrainedConfig

from gengram.errors import InputError
from gengram.genome.columns import make_rows
from gengram.genome.tables import find_column, refuse_missing, shorten
from gengram.genome.values import (
    MISSING,
    NoNameError,
    are_flags,
    fold_name,
    is_list,
    is_text,
    read_names,
    read_numbers,
    strip_blanks,
)
from gengram.training.problems import IGNORED, MASKS, PROBLEMS, Problem

LABEL_COLUMNS = ("label", "labels", "target", "targets")
"""Names under which the label column is looked for, in this order; then all columns called label_... or target_... ."""

_SEVERAL = re.compile(r"(labels?|targets?)_.+", re.IGNORECASE)
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_FRACTION = re.compile(r"[+-]?[0-9]*\.[0-9]+([eE][+-]?[0-9]+)?")
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+([eE][+-]?[0-9]+)?")
_CACHE_LINE = 64  # columns that are put into a matrix of bytes together
_ROWS_TO_REPEAT = 10  # in as many rows, classes of which none comes twice are no classes


@dataclasses.dataclass(frozen=True)
class Labels:
    """The labels of one file, before names have ids.

    Attributes:
        problem: one of `PROBLEMS`.
        names: of classes (`single_label`, `token`; in any order), of labels or of targets.
        values: int64 (N,) positions in `names`; bool (N, L); float64 (N, R); or, for `token`, int64 of all labelled
            stretches one after the other, -1 where the label is not known.
        lengths: of `token` only: int64 (N,), how many labels each row has.
        fixed: the names are columns or positions: their order is theirs, and every file must have them all.
    """

    problem: Problem
    names: list[str]
    values: np.ndarray
    lengths: np.ndarray | None = None
    fixed: bool = False


def find_label_columns(rows: Dataset, path: str | Path, wanted: list[str] | None = None) -> list[str]:
    """Return the names of the columns with the labels.

    Args:
        rows: of `read_rows`.
        path: the file, for messages.
        wanted: names, or patterns like `label_*`; by default the first of `LABEL_COLUMNS` that there is, else all
            columns whose names begin with label_ or target_.

    Raises:
        `InputError`: there is no such column.
    """
    names = rows.column_names
    if wanted:
        found: list[str] = []
        for pattern in wanted:
            matched = fnmatch.filter(names, pattern) if any(sign in pattern for sign in "*?[") else []
            matched = [name for name in matched if name != "sequence"]
            found += matched or [find_column(names, path, [pattern], "label")]
        return list(dict.fromkeys(found))
    lower = {name.lower() for name in names}
    several = [name for name in names if _SEVERAL.fullmatch(name)]
    if several and not lower & set(LABEL_COLUMNS):
        return several
    return [find_column(names, path, LABEL_COLUMNS, "label")]


def infer_problem(rows: Dataset, columns: list[str], path: str | Path) -> Problem:
    """Return the only problem that the labels can mean.

    - Several columns: all 0 or 1 is `multi_label`, any fraction is `regression`.
    - A list a row: names, or 0 and 1 in lists of one length, are `multi_label`; any fraction is `regression`; as many
      entries as bases in every row is `token`.
    - Text: as many characters as bases in every row is `token`; names between semicolons are `multi_label`, numbers
      between semicolons `regression`.
    - Numbers with fractions are `regression`; whole numbers and names are `single_label`.

    Args:
        rows: of `read_rows`.
        columns: of `find_label_columns`.
        path: the file, for messages.

    Raises:
        `InputError`: the labels can mean several problems, or none.
    """
    where = f"{path}: column{'s' if len(columns) > 1 else ''} {shorten(columns)}"
    if len(columns) > 1:
        kinds = []
        for name in columns:
            if are_flags(rows.data.column(name)):
                kinds.append("binary")
                continue
            numbers = read_numbers(rows.data.column(name))
            if numbers is None:
                fault = _find_no_number(rows.data.column(name))
                raise InputError(
                    f"{path}, column {name!r}{fault}; several label columns must hold numbers. Name one column with "
                    "--label_column."
                )
            kinds.append(_describe_numbers(numbers))
        if "fractions" in kinds:
            return "regression"
        if set(kinds) == {"binary"}:
            return "multi_label"
        raise InputError(
            f"{where}: whole numbers in several columns can be a regression or one label a base. Say which with "
            f"--problem regression or --problem token.{_find_no_flag(rows, columns, kinds)}"
        )
    values = _name_entries(rows, columns)[columns[0]]
    lengths = pc.utf8_length(rows.data.column("sequence")).to_numpy()
    if is_list(values.type):
        values = values.combine_chunks()
        entries, counts = pc.list_flatten(values), pc.fill_null(pc.list_value_length(values), -1).to_numpy()
        return _infer_from_lists(entries, counts, where, (counts == lengths).all())
    if isinstance(rows.features[columns[0]], ClassLabel):
        return "single_label"
    if is_text(values.type):
        known = strip_blanks(values).drop_null()
        if len(known) == len(lengths) and (lengths > 1).all() and (_count_characters(known) == lengths).all():
            return "token"
        if pc.any(pc.match_substring(known, ";")).as_py():
            pieces = _split_cells(values)
            entries = pieces.flatten().drop_null()
            _refuse_decimal_commas(entries, pieces.flatten(), np.asarray(pc.list_value_length(pieces)), where)
            filled = np.asarray(pc.list_value_length(pieces)) * np.asarray(strip_blanks(values).is_valid())
            return _infer_from_lists(entries, filled, where, False)
        _refuse_decimal_commas(known, strip_blanks(values), None, where)
    numbers = read_numbers(values)
    if numbers is None and is_text(values.type):
        _refuse_measurements_with_text(values, where)
    return "regression" if numbers is not None and _describe_numbers(numbers) == "fractions" else "single_label"


def _split_cells(values: pa.ChunkedArray) -> pa.ListArray:
    """Split texts at semicolons; what is empty between them is null, an empty cell a list of one null."""
    pieces = pc.split_pattern(pc.fill_null(strip_blanks(values), ""), ";").combine_chunks()
    entries = strip_blanks(pieces.flatten())
    return pa.ListArray.from_arrays(pieces.offsets, entries)


def _refuse_decimal_commas(
    known: pa.ChunkedArray, values: pa.ChunkedArray, lengths: np.ndarray | None, where: str
) -> None:
    """Refuse a column of which all values are numbers once their commas are points."""
    if not len(known) or (not _DECIMAL_COMMA.fullmatch(str(next(iter(known)))) and read_numbers(known[:1]) is None):
        return
    commas = np.asarray(pc.match_substring(values, ",").fill_null(False))
    if commas.any() and read_numbers(pc.replace_substring(known, ",", ".", max_replacements=1)) is not None:
        first = int(commas.argmax())
        row = first if lengths is None else int(np.searchsorted(np.cumsum(lengths), first, side="right"))
        raise InputError(
            f"{where}, data row {row + 1}: {values[first].as_py()!r} has a comma where a number has a point. Write "
            "decimals with a point; names of several labels go between semicolons; or say --problem single_label if "
            "these are names of classes."
        )


def _refuse_measurements_with_text(values: pa.ChunkedArray, where: str) -> None:
    """Refuse a column in which most values are numbers with fractions: the others are faults, and no classes."""
    known = strip_blanks(values).drop_null()
    if 2 * pc.sum(pc.match_substring_regex(known, f"^({_FRACTION.pattern})$")).as_py() <= len(known):
        return
    raise InputError(
        f"{where}{_find_no_number(values)}, while most of the others are measurements. Write a number, or say "
        "--problem single_label if these are names of classes."
    )


def _find_no_flag(rows: Dataset, columns: list[str], kinds: list[str]) -> str:
    """Say which value keeps columns of 0 and 1 from being labels, where only some columns have such values."""
    if "binary" not in kinds:
        return ""
    name = next(name for name, kind in zip(columns, kinds) if kind != "binary")
    numbers = read_numbers(rows.data.column(name))
    assert numbers is not None  # It was read before.
    row = int(np.flatnonzero(~np.isin(numbers, (0, 1)) & np.isfinite(numbers))[0])
    return f" Several labels would be 0 or 1: data row {row + 1}, column {name!r} has {numbers[row]:g}."


def _find_no_number(values: pa.ChunkedArray | pa.Array, of_each_row: int = 1) -> str:
    """Say which value is no number, with its row: the first of texts, else what all are."""
    if not is_text(values.type):
        return f" holds {values.type}"
    numbers = strip_blanks(values)
    for position, text in enumerate(numbers):
        if text.is_valid and read_numbers(pa.array([text.as_py()])) is None:
            comma = ", with a comma for the point" if _DECIMAL_COMMA.fullmatch(text.as_py()) else ""
            return f", data row {position // of_each_row + 1}: {text.as_py()[:60]!r} is no number{comma}"
    return " holds no numbers"


def read_labels(
    rows: Dataset, columns: list[str], problem: Problem, path: str | Path, masks: tuple[str, ...] = MASKS
) -> Labels:
    """Read the labels of all rows.

    Args:
        rows: of `read_rows`.
        columns: of `find_label_columns`.
        problem: what they are.
        path: the file, for messages.
        masks: of `token`: the labels that mean "not known".

    Raises:
        `InputError`: a row without label, labels that do not fit the problem, a target that is not a finite number.
    """
    table = rows.data.table
    if problem == "single_label":
        if len(columns) > 1:
            raise InputError(f"{path}: single_label needs one label column, {len(columns)} were given")
        feature = rows.features[columns[0]]
        names, codes = _encode_text(_read_classes(table[columns[0]], feature, path, columns[0]))
        labels = Labels(problem, names, codes)
    elif problem == "multi_label":
        labels = _read_multi_label(_name_entries(rows, columns), columns, path)
    elif problem == "regression":
        return _read_targets(table, columns, path)
    else:
        return _read_bases(_name_entries(rows, columns), columns, path, masks)
    if not labels.fixed:
        for position, name in enumerate(labels.names):
            if name in MISSING:
                warnings.warn(
                    f"{path}, data row {find_row(labels, position)}: {name!r} in column {columns[0]!r} is read as the "
                    "name of a class. If it means that a label is missing, remove these rows.",
                    stacklevel=2,
                )
    return labels


def _name_entries(rows: Dataset, columns: list[str]) -> pa.Table:
    """Return the table; lists of a `ClassLabel` as lists of its names, where it has them (-1 and less as it is)."""
    table, features = rows.data.table, rows.features  # which is copied each time
    for column in columns:
        inner = getattr(features[column], "feature", None)
        if isinstance(inner, ClassLabel) and inner.names and is_list(table[column].type):
            lists = table[column].combine_chunks()
            ids = lists.flatten()
            unnamed = pc.or_(pc.less(ids, 0), pc.greater_equal(ids, len(inner.names)))
            known = pc.take(pa.array(inner.names), pc.if_else(unnamed, pa.scalar(None, ids.type), ids))
            names = pc.if_else(unnamed, ids.cast(pa.string()), known)
            offsets = np.concatenate([[0], np.cumsum(pc.fill_null(pc.list_value_length(lists), 0))])
            named = pa.LargeListArray.from_arrays(offsets.astype(np.int64), names, mask=lists.is_null())
            table = table.set_column(table.column_names.index(column), column, pa.chunked_array([named]))
    return table


def order_classes(labels: Labels, path: str | Path) -> list[str]:
    """Return the names of a training file's labels in the order of their ids: sorted, numbers by value.

    Args:
        labels: of `read_labels`.
        path: the file they come from, for messages.

    Raises:
        `InputError`: fewer than two classes, as many as rows, or class numbers that are not 0..C-1 without gaps.
    """
    if labels.fixed:
        return labels.names
    names = labels.names
    if labels.problem == "single_label" and len(names) == len(labels.values) >= _ROWS_TO_REPEAT:
        raise InputError(
            f"{path}: each of the {len(names)} rows has a label of its own ({shorten(names, 4)}). These are "
            "identifiers, not classes: name the column of the labels with --label_column. Measurements need --problem "
            "regression."
        )
    _warn_of_look_alikes(labels, path)
    if labels.problem != "multi_label" and len(names) < 2:
        what = "bases" if labels.problem == "token" else "rows"
        raise InputError(f"{path}: all {what} have the label {names[0]!r}; a classifier needs two classes or more")
    if not all(_INTEGER.fullmatch(name) for name in names):
        return sorted(names)
    ordered = sorted(names, key=int)
    codes = [int(name) for name in ordered]
    if labels.problem != "multi_label" and codes != list(range(len(codes))):
        out_of_place = next(code for position, code in enumerate(codes) if code != position)
        row = find_row(labels, names.index(str(out_of_place)))
        raise InputError(
            f"{path}: class numbers must be 0..C-1 without gaps, but {shorten(codes)} were found "
            f"(label {out_of_place} first in data row {row}). Renumber the classes, write their names, or say "
            "--problem regression if they are measurements."
        )
    return ordered


def _warn_of_look_alikes(labels: Labels, path: str | Path) -> None:
    seen: dict[str, int] = {}
    for position, name in enumerate(labels.names):
        before = seen.setdefault(fold_name(name), position)
        if before != position:
            warnings.warn(
                f"{path}: {labels.names[before]!a} (data row {find_row(labels, before)}) and {name!a} (data "
                f"row {find_row(labels, position)}) are two classes, but look much the same. Write them in one way if "
                "they are one.",
                stacklevel=3,
            )


def align_classes(classes: list[str], config: PreTrainedConfig) -> list[str]:
    """Return the classes in the order of a checkpoint that was trained on just these names, else as they are."""
    known: dict[str, Any] = config.label2id or {}
    if set(known) == set(classes):
        return sorted(classes, key=lambda name: int(known[name]))
    return classes


def encode_labels(
    rows: Dataset, labels: Labels, classes: list[str], columns: list[str], path: str | Path, label_start: int = 0
) -> Dataset:
    """Put the labels into the form that models take, in place of the label columns.

    Args:
        rows: of `read_rows`.
        labels: of `read_labels`.
        classes: names in the order of the ids, of `order_classes` of the training file.
        columns: the label columns, which are removed.
        path: the file, for messages.
        label_start: of `token`: the base, counted from 0, that the first label of a row belongs to; bases without label
            are masked. With 0, every base needs one.

    Returns:
        The rows with `label`: a `ClassLabel` (int64), a list of L int8, 0 or 1, or of R float32, or for
        `token` a list of int64, one a base, `IGNORED` where it is not known.

    Raises:
        `InputError`: a label that is not among `classes`, or labels and bases that are not equally many.
    """
    if labels.fixed and set(labels.names) != set(classes):
        what = "targets" if labels.problem == "regression" else "labels"
        raise InputError(
            f"{path}: {len(labels.names)} {what} ({shorten(labels.names)}), the training file has {len(classes)} "
            f"({shorten(classes)})"
        )
    id_of = {name: label for label, name in enumerate(classes)}
    for position, name in enumerate(labels.names):
        if name not in id_of:
            raise InputError(
                f"{path}, data row {find_row(labels, position)}: label {name!r} is not one of the training file's "
                f"classes {shorten(classes)}"
            )
    read = {*columns, "sequence", "label"}
    others = [name for name in rows.column_names if name not in read]
    rows = rows.select_columns(["sequence", *others])
    column: Any
    if labels.problem == "single_label":
        column, feature = np.array([id_of[name] for name in labels.names])[labels.values], ClassLabel(names=classes)
    elif labels.problem == "token":
        column, feature = _align_to_bases(rows, labels, id_of, path, label_start), List(Value("int64"))
    else:
        kind = np.dtype(np.int8 if labels.problem == "multi_label" else np.float32)
        if labels.names == classes:
            table = labels.values.view(kind) if labels.values.dtype == bool else labels.values.astype(kind)
        else:
            table = np.zeros((len(rows), len(classes)), dtype=kind)
            table[:, [id_of[name] for name in labels.names]] = labels.values
        column = pa.FixedSizeListArray.from_arrays(pa.array(table.ravel()), len(classes))
        feature = List(Value(kind.name), length=len(classes))
    encoded = rows.data.table.append_column("label", column if isinstance(column, pa.Array) else pa.array(column))
    features = Features({**rows.features, "label": feature})
    encoded = encoded.cast(features.arrow_schema).select(["sequence", "label", *others])
    return make_rows(encoded)


def _read_classes(values: pa.ChunkedArray, feature: Any, path: str | Path, column: str) -> pa.ChunkedArray:
    """Return the name of each row's class, see `read_names`."""
    if isinstance(feature, ClassLabel) and feature.names:
        # In such columns -1 stands for "no label".
        beyond = np.flatnonzero(np.asarray(pc.fill_null(pc.greater_equal(values, len(feature.names)), False)))
        if len(beyond):
            raise InputError(
                f"{path}, data row {beyond[0] + 1}: label {values[beyond[0]]} in column {column!r}, which has "
                f"{len(feature.names)} classes"
            )
        ids = pc.if_else(pc.less(values, 0), pa.scalar(None, values.type), values)
        values = pc.take(pa.array(feature.names), ids)
        values = pc.utf8_normalize(strip_blanks(values), form="NFC")
    else:
        values = pa.chunked_array([_tell_no_names(values, path, column)])
    refuse_missing(values, path, column)
    return values


def _tell_no_names(
    values: pa.ChunkedArray | pa.Array, path: str | Path, column: str, lengths: np.ndarray | None = None
) -> pa.Array:
    """Return the names of values, see `read_names`, in one piece; `lengths` says how many values each row has."""
    try:
        names = read_names(values)
    except TypeError as error:
        raise InputError(
            f"{path}: column {column!r} holds {values.type}; one class a row (a name or a whole number) is needed"
        ) from error
    except NoNameError as error:
        row = error.row
        if lengths is not None:
            row = int(np.searchsorted(np.cumsum(lengths), row, side="right"))
        raise InputError(
            f"{path}, data row {row + 1}: label {error.digits} in column {column!r} is {error.why}; classes are names "
            "or whole numbers (numbers that are measured: --problem regression)"
        ) from error
    return names.combine_chunks() if isinstance(names, pa.ChunkedArray) else names


def _read_multi_label(table: pa.Table, columns: list[str], path: str | Path) -> Labels:
    if len(columns) > 1:
        matrix = np.empty((table.num_rows, len(columns)), dtype=bool)
        for first in range(0, len(columns), _CACHE_LINE):
            some = columns[first : first + _CACHE_LINE]
            matrix[:, first : first + len(some)] = np.stack(
                [_read_binary(table[one], path, one) for one in some], axis=1
            )
        return Labels("multi_label", list(columns), matrix, fixed=True)
    column = columns[0]
    values = table[column]
    if text := is_text(values.type):
        # An empty cell is a row with none of the labels.
        values = _split_cells(values)
    elif not is_list(values.type):
        matrix = _read_binary(values, path, column)[:, None]
        return Labels("multi_label", [column], matrix, fixed=True)
    else:
        refuse_missing(values, path, column)
        values = values.combine_chunks()
    lengths = np.asarray(pc.list_value_length(values))
    entries = pc.list_flatten(values)
    if are_flags(entries) and lengths[0] > 1 and (lengths == lengths[0]).all():
        matrix = entries.to_numpy().reshape(len(lengths), -1) == 1
        return Labels("multi_label", [str(label) for label in range(matrix.shape[1])], matrix, fixed=True)
    if not text:
        _refuse_missing_entry(entries, lengths, path, column)
    numbers = read_numbers(entries) if text or not is_text(entries.type) else None
    if numbers is not None:
        binary = not np.isnan(numbers).any() and _describe_numbers(numbers) == "binary"
        if binary and len(set(lengths.tolist())) == 1 and lengths[0] > 1:
            matrix = numbers.reshape(len(lengths), -1) == 1
            return Labels("multi_label", [str(label) for label in range(matrix.shape[1])], matrix, fixed=True)
        _refuse_repeats(numbers, lengths, path, column)
    names = _tell_no_names(entries, path, column, lengths)
    written = strip_blanks(entries) if is_text(entries.type) else entries
    _refuse_missing_entry(pc.if_else(written.is_null(), "", names), lengths, path, column)
    named = ~np.asarray(names.is_null())
    owners = np.repeat(np.arange(len(lengths)), lengths)[named]
    distinct, codes = _encode_text(names.drop_null())
    if not distinct:
        raise InputError(f"{path}: no row has any label in column {column!r}")
    matrix = np.zeros((len(lengths), len(distinct)), dtype=bool)
    matrix[owners, codes] = True
    return Labels("multi_label", distinct, matrix)


def _refuse_repeats(numbers: np.ndarray, lengths: np.ndarray, path: str | Path, column: str) -> None:
    """Refuse lists with 0 or 1 more than once: they are zeros and ones with a fault, not the numbers of classes."""
    owners = np.repeat(np.arange(len(lengths)), lengths)
    if max(np.bincount(owners[numbers == flag], minlength=1).max() for flag in (0, 1)) < 2:
        return
    usual = int(np.bincount(lengths).argmax())
    odd = lengths != usual
    odd[owners[~np.isin(numbers, (0, 1))]] = True
    row = int(odd.argmax())
    found = ", ".join(f"{number:g}" for number in numbers[owners == row][:8])
    raise InputError(
        f"{path}, data row {row + 1}: {column!r} holds {found or 'nothing'}, and some lists of it have 0 or 1 more "
        f"than once. Write {usual} zeros and ones in each row, or the classes of a row, each once"
    )


def _read_binary(values: pa.ChunkedArray, path: str | Path, column: str) -> np.ndarray:
    if are_flags(values):
        return values.to_numpy() == 1
    numbers = read_numbers(values)
    if numbers is None:
        raise InputError(f"{path}, column {column!r}{_find_no_number(values)}; 0 and 1 are needed")
    faulty = np.flatnonzero(~np.isin(numbers, (0, 1)))
    if len(faulty):
        row = int(faulty[0])
        told = "has no value" if np.isnan(numbers[row]) else f"holds {numbers[row]:g}, not 0 or 1"
        raise InputError(
            f"{path}, data row {row + 1}: column {column!r} {told} (rows like this: {len(faulty)} of {len(numbers)})"
        )
    return numbers == 1


def _read_targets(table: pa.Table, columns: list[str], path: str | Path) -> Labels:
    parts, names = [], list(columns)
    for column in columns:
        values = table[column]
        if is_text(values.type) and pc.any(pc.match_substring(values, ";")).as_py():
            values = strip_blanks(values)
            refuse_missing(values, path, column)
            values = _split_cells(values)
        if is_list(values.type):
            if len(columns) > 1:
                raise InputError(f"{path}: column {column!r} holds lists; give either one column of lists or numbers")
            if isinstance(values, pa.ChunkedArray):
                refuse_missing(values, path, column)
                values = values.combine_chunks()
            lengths = np.asarray(pc.list_value_length(values))
            odd = np.flatnonzero(lengths != lengths[0])
            if len(odd):
                raise InputError(
                    f"{path}, data row {odd[0] + 1}: {lengths[odd[0]]} targets in column {column!r}, the first row has "
                    f"{lengths[0]}"
                )
            names = [f"{column}_{target}" for target in range(lengths[0])]
            values = pc.list_flatten(values)
        numbers = read_numbers(values)
        if numbers is None:
            fault = _find_no_number(values, len(values) // table.num_rows)
            raise InputError(f"{path}, column {column!r}{fault}; targets of a regression are numbers")
        parts.append(numbers.reshape(table.num_rows, -1))
    targets = np.concatenate(parts, axis=1)
    with np.errstate(over="ignore"):
        faulty = np.argwhere(~np.isfinite(targets.astype(np.float32)))  # what models compute in
    if len(faulty):
        row, target = faulty[0]
        raise InputError(
            f"{path}, data row {row + 1}: target {names[target]!r} is {targets[row, target]}, not a finite number in "
            f"float32 (rows like this: {len(np.unique(faulty[:, 0]))} of {len(targets)}). Fill them in or remove "
            "the rows."
        )
    return Labels("regression", names, targets, fixed=True)


def _read_bases(table: pa.Table, columns: list[str], path: str | Path, masks: tuple[str, ...]) -> Labels:
    by_character = False
    if len(columns) > 1:
        flat = np.stack([_read_base_column(table[column], path, column) for column in columns], axis=1).ravel()
        entries, lengths = pa.array(flat), np.full(table.num_rows, len(columns))
    else:
        values = table[columns[0]]
        if by_character := is_text(values.type):
            values = strip_blanks(values)
            refuse_missing(values, path, columns[0])
            lengths = _count_characters(values)
            text = "".join(values.to_pylist())
            entries = pa.array(np.array([text]).view("<U1")) if text.isascii() else pa.array(list(text))
        elif is_list(values.type):
            refuse_missing(values, path, columns[0])
            values = values.combine_chunks()
            lengths, entries = np.asarray(pc.list_value_length(values)), pc.list_flatten(values)
        else:
            raise InputError(
                f"{path}: column {columns[0]!r} holds {values.type}; one label a base is a list, a text of one "
                "character a base, or one column a base"
            )
    _refuse_missing_entry(entries, lengths, path, columns[0])
    if not by_character:
        entries = _tell_no_names(entries, path, columns[0], lengths)
        _refuse_missing_entry(entries, lengths, path, columns[0])
    names, codes = _encode_text(entries)
    known = [name for name in names if name not in masks]
    if not known:
        raise InputError(f"{path}: no base has a label, all are masked ({shorten(names)})")
    position = {name: code for code, name in enumerate(known)}
    return Labels("token", known, np.array([position.get(name, -1) for name in names])[codes], np.asarray(lengths))


def _read_base_column(values: pa.ChunkedArray, path: str | Path, column: str) -> np.ndarray:
    numbers = read_numbers(values)
    if numbers is None:
        raise InputError(f"{path}, column {column!r}{_find_no_number(values)}; one column a base needs numbers")
    if np.isnan(numbers).any():
        row = int(np.flatnonzero(np.isnan(numbers))[0]) + 1
        raise InputError(f"{path}, data row {row}: column {column!r} has no value")
    return numbers


def _align_to_bases(
    rows: Dataset, labels: Labels, id_of: dict[str, int], path: str | Path, label_start: int
) -> pa.Array:
    assert labels.lengths is not None
    bases = pc.utf8_length(rows.data.column("sequence")).to_numpy()
    fits = labels.lengths + label_start <= bases if label_start else labels.lengths == bases
    if not fits.all():
        row = int(np.flatnonzero(~fits)[0])
        behind = f" from base {label_start} on" if label_start else ""
        raise InputError(
            f"{path}, data row {row + 1}: {labels.lengths[row]} labels{behind} for a sequence of {bases[row]} bp (rows "
            f"like this: {(~fits).sum()} of {len(fits)}). Each base needs one label; labels that begin at a later base "
            "need --label_start, bases without label a mask (--mask_labels)."
        )
    ids = np.append(np.array([id_of[name] for name in labels.names]), IGNORED)[labels.values]
    offsets = np.concatenate([[0], np.cumsum(bases)])
    aligned = np.full(offsets[-1], IGNORED, dtype=np.int64)
    starts = offsets[:-1] + label_start
    inside = np.repeat(starts - np.concatenate([[0], np.cumsum(labels.lengths)[:-1]]), labels.lengths)
    aligned[inside + np.arange(len(ids))] = ids
    return pa.LargeListArray.from_arrays(offsets, aligned).cast(pa.list_(pa.int64()))


def find_row(labels: Labels, position: int) -> int:
    """Return the first data row, counted from 1, that has the name at this position."""
    if labels.problem == "multi_label":
        return int(labels.values[:, position].argmax()) + 1
    first = int((labels.values == position).argmax())
    if labels.lengths is not None:
        first = int(np.searchsorted(np.cumsum(labels.lengths), first, side="right"))
    return first + 1


def _infer_from_lists(entries: pa.Array, lengths: np.ndarray, where: str, by_base: bool) -> Problem:
    if are_flags(entries):
        kind = "binary"
    elif (numbers := read_numbers(entries)) is not None:
        kind = _describe_numbers(numbers)
    else:
        return "token" if by_base else "multi_label"
    if by_base and kind != "fractions":
        return "token"
    same = len(set(lengths.tolist())) == 1
    if kind == "fractions":
        return "regression"
    if kind == "binary" and same and lengths[0] > 1:
        return "multi_label"
    raise InputError(
        f"{where}: lists of whole numbers can be class numbers of a multi-label task, targets of a regression or "
        "labels of bases. Say which with --problem multi_label, regression or token."
    )


def _describe_numbers(values: np.ndarray) -> str:
    values = values[np.isfinite(values)]
    if np.isin(values, (0, 1)).all():
        return "binary"
    return "whole" if (values == np.round(values)).all() else "fractions"


def _encode_text(values: pa.ChunkedArray | pa.Array) -> tuple[list[str], np.ndarray]:
    """Return distinct values and, for each value, its position among them."""
    encoded = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    encoded = pc.dictionary_encode(encoded)
    return encoded.dictionary.to_pylist(), np.asarray(encoded.indices).astype(np.int64)


def _refuse_missing_entry(entries: pa.Array, lengths: np.ndarray, path: str | Path, column: str) -> None:
    missing = np.asarray(pc.is_null(entries, nan_is_null=True))
    if missing.any():
        row = int(np.searchsorted(np.cumsum(lengths), int(missing.argmax()), side="right")) + 1
        raise InputError(f"{path}, data row {row}: a label of column {column!r} has no value")


def _count_characters(values: pa.ChunkedArray) -> np.ndarray:
    return pc.utf8_length(values).to_numpy()


__all__ = [
    "IGNORED",
    "LABEL_COLUMNS",
    "MASKS",
    "PROBLEMS",
    "Labels",
    "Problem",
    "encode_labels",
    "find_label_columns",
    "find_row",
    "infer_problem",
    "order_classes",
    "read_labels",
]
