"""Which column of a published table is what? Sequence, alternative, label, place and name, found by their names.

Every benchmark has a layout of its own: `seq, label`; `sequence, name, label, task`; `ref_seq, alt_seq, disease`;
intervals with their sequences (`dataset, split, label, region, start, end, strand, seq`); FASTA headers `name|label`.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, Features

from gengram.errors import InputError, suggest
from gengram.genome.columns import make_rows
from gengram.genome.fasta import find_regions
from gengram.genome.tables import (
    SEQUENCE_COLUMNS,
    arrange_rows,
    find_column,
    read_sequences,
    read_table,
    refuse_missing,
    shorten,
)
from gengram.genome.values import is_text, read_numbers, strip_blanks
from gengram.training.data.labels import LABEL_COLUMNS, find_label_columns
from gengram.training.data.splits import CHROMOSOME_COLUMNS

SEQUENCES = (
    *SEQUENCE_COLUMNS,
    "ref_seq",
    "ref_sequence",
    "reference_sequence",
    "ref_forward_sequence",
    "forward_sequence",
)
ALTERNATIVES = (
    "alternative",
    "alt_seq",
    "alt_sequence",
    "alternative_sequence",
    "alternate_sequence",
    "variant_sequence",
    "alt_forward_sequence",
)
"""Names under which the sequence with the alternative allele is looked for, in this order."""
LABELS = (*LABEL_COLUMNS, "disease")
CHROMOSOMES = (*CHROMOSOME_COLUMNS, "region")
STARTS, ENDS, STRANDS, NAMES = ("start",), ("end", "stop"), ("strand",), ("name",)
SPLITS, TASKS = ("split",), ("task", "dataset", "task_name")
"""Names of the columns that say which split, and which task of several in one file, a row is of."""

TEXTS = (*SEQUENCES, *ALTERNATIVES, *LABELS, *CHROMOSOMES, *STRANDS, *NAMES, *SPLITS, *TASKS)
"""Columns of a csv whose cells stay text, whatever is in them."""

PLACES = ("chrom", "start", "end", "strand", "name")
"""What is kept of a row beside sequences and label, where it is known."""


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Names of columns that a task says; None where they are found by `SEQUENCES`, `LABELS` ... ."""

    sequence: str | None = None
    alternative: str | None = None
    label: str | Sequence[str] | None = None
    chrom: str | None = None
    start: str | None = None
    end: str | None = None
    strand: str | None = None
    name: str | None = None


def read_layout(path: str | Path) -> pa.Table:
    """Read a table in which cells of sequences, names and labels are text, whatever is in them."""
    table = read_table(path, TEXTS, narrow=True)
    if table.num_rows == 0:
        raise InputError(f"{path}: the file has a header but no data rows")
    return table


def choose_task(table: pa.Table, origin: str, names: Iterable[str]) -> tuple[pa.Table, str]:
    """Take the rows of one task out of a table that may hold several, told apart by a column of `TASKS`.

    Args:
        table: of one file.
        origin: the file, for messages.
        names: what the task may be called in it.

    Returns:
        The rows, and what messages add to the file's name, as these rows are counted anew; empty if they are all.

    Raises:
        `InputError`: the table has several tasks and none is called so.
    """
    column, present = _find_tasks(table)
    if column is None:
        return table, ""
    values = strip_blanks(table[column])
    folded = {value.casefold(): value for value in present}
    wanted = next((folded[name.casefold()] for name in names if name.casefold() in folded), None)
    if wanted is None:
        if len(present) < 2:
            return table, ""
        asked = next(iter(names), "")
        raise InputError(
            f"{origin}: the column {column!r} has {len(present)} tasks, {shorten(sorted(present), 20)}; none is called "
            f"{asked!r}{suggest(asked, present)} Name one behind the benchmark, as in 'NAME/{sorted(present)[0]}'."
        )
    if len(present) == 1 and not values.null_count:
        return table, ""
    return table.filter(pc.fill_null(pc.equal(values, wanted), False)), f" (rows whose {column} is {wanted!r})"


def list_inner_tasks(table: pa.Table) -> list[str]:
    """Return the tasks that a table tells apart by a column of `TASKS`, sorted; none without one."""
    return sorted(_find_tasks(table)[1])


def _find_tasks(table: pa.Table) -> tuple[str | None, list[str]]:
    column = find_any(table.column_names, TASKS)
    if column is None or not is_text(table[column].type):
        return None, []
    return column, [value for value in strip_blanks(table[column]).unique().to_pylist() if value is not None]


def divide_splits(
    table: pa.Table, origin: str, name_split: Callable[[str], str | None]
) -> list[tuple[str, pa.Table, str]]:
    """Divide a table by its column of splits; without one, all rows are `train`.

    Args:
        table: of one task.
        origin: the file, for messages.
        name_split: which split a word means, None if none.

    Returns:
        Split, rows, and what messages add to the file's name.

    Raises:
        `InputError`: a word that means no split.
    """
    column = find_any(table.column_names, SPLITS)
    if column is None or not is_text(table[column].type):
        return [("train", table, "")]
    values = strip_blanks(table[column])
    refuse_missing(values, origin, column)
    found: dict[str, list[str]] = {}
    for word in values.unique().to_pylist():
        split = name_split(word)
        if split is None:
            row = values.index(word).as_py() + 1
            raise InputError(
                f"{origin}, data row {row}: {word!r} in column {column!r} is no split; write train, validation or test"
            )
        found.setdefault(split, []).append(word)
    return [
        (split, table.filter(pc.is_in(values, pa.array(words))), f" (rows whose {column} is {' or '.join(words)!r})")
        for split, words in found.items()
    ]


def find_any(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    """Return the first of the wanted columns that a table has, upper and lower case aside; None if it has none."""
    lower = {name.strip().lower(): name for name in reversed(names)}
    return next((lower[name] for name in wanted if name in lower), None)


def arrange_layout(table: pa.Table, origin: str, wanted: Wanted = Wanted()) -> tuple[Dataset, list[str]]:
    """Bring the columns of a table into the schema; labels stay as the file has them.

    Args:
        table: of `read_layout`, or of a data set.
        origin: the file, for messages.
        wanted: what the task says about its columns; one that the table lacks is looked for by other names.

    Returns:
        Rows with `sequence`, `alternative` (of pairs only), the label columns, and what of `PLACES` is known; the names
        of the label columns.

    Raises:
        `InputError`: no column of sequences or labels, a row without sequence or alternative.
    """
    names = table.column_names
    sequence = _find(names, wanted.sequence, SEQUENCES)
    if sequence is None:
        find_column(names, origin, SEQUENCES, "sequence")  # which raises
    rows = arrange_rows(table, origin, sequence)
    alternative = _find(names, wanted.alternative, ALTERNATIVES)
    label_columns = _find_labels(rows, origin, wanted)
    source, features = rows.data.table, rows.features
    columns: dict[str, pa.ChunkedArray] = {"sequence": source["sequence"]}
    if alternative is not None:
        columns["alternative"] = read_sequences(source, origin, alternative)
    for name in label_columns:
        columns[_name_label(name)] = source[name]
    places = _read_places(source, features, wanted)
    columns |= {name: values for name, values in places.items() if name not in columns}
    made = pa.table(columns)
    kept = {_name_label(name): features[name] for name in label_columns}
    found = Features.from_arrow_schema(made.schema.remove_metadata())
    return make_rows(made, Features({name: kept.get(name, found[name]) for name in columns})), [
        _name_label(name) for name in label_columns
    ]


def _name_label(name: str) -> str:
    """A label column that is called as a column of the schema would be lost in it."""
    return f"label_{name}" if name in ("sequence", "alternative", *PLACES) else name


def _find(names: Sequence[str], wanted: str | None, usual: Sequence[str]) -> str | None:
    return wanted if wanted is not None and wanted in names else find_any(names, usual)


def _find_labels(rows: Dataset, origin: str, wanted: Wanted) -> list[str]:
    named = [wanted.label] if isinstance(wanted.label, str) else list(wanted.label or ())
    if named and all(name in rows.column_names for name in named):
        return named
    if usual := find_any(rows.column_names, LABELS):
        return [usual]
    return find_label_columns(rows, origin)


def _read_places(table: pa.Table, features: Features, wanted: Wanted) -> dict[str, pa.ChunkedArray]:
    """Return what is known of chromosome, start, end, strand and name; what cannot be one is left out."""
    names = table.column_names
    places: dict[str, pa.ChunkedArray] = {}
    for name, usual in (("chrom", CHROMOSOMES), ("strand", STRANDS), ("name", NAMES)):
        column = _find(names, getattr(wanted, name), usual)
        if column is not None and (texts := _read_texts(table[column], features[column])) is not None:
            places[name] = texts
    ends = [_find(names, wanted.start, STARTS), _find(names, wanted.end, ENDS)]
    numbers = [None if column is None else _read_whole(table[column]) for column in ends]
    if numbers[0] is not None and numbers[1] is not None and "chrom" in places:
        places["start"], places["end"] = numbers[0], numbers[1]
    if "chrom" not in places and "name" in places:
        places |= _read_regions(places["name"], table["sequence"])
    return {name: places[name] for name in PLACES if name in places}


def _read_texts(values: pa.ChunkedArray, feature: object) -> pa.ChunkedArray | None:
    if isinstance(feature, ClassLabel) and feature.names:
        values = pc.take(pa.array(feature.names), pc.if_else(pc.less(values, 0), None, values))
        return pa.chunked_array([values]) if isinstance(values, pa.Array) else values
    if is_text(values.type):
        return strip_blanks(values)
    return values.cast(pa.string()) if pa.types.is_integer(values.type) else None


def _read_whole(values: pa.ChunkedArray) -> pa.ChunkedArray | None:
    numbers = read_numbers(values)
    if numbers is None or not ((numbers == numbers.round()) & (abs(numbers) < 2**53)).all():
        return None
    return pa.chunked_array([pa.array(numbers.astype("int64"))])


def _read_regions(names: pa.ChunkedArray, sequences: pa.ChunkedArray) -> dict[str, pa.ChunkedArray]:
    """Return the places that names like `chr3:100-200|1` tell, where they are as long as the sequences."""
    if names.null_count or not (found := find_regions(names.to_pylist())):
        return {}
    start, end = pa.array(found[1], pa.int64()), pa.array(found[2], pa.int64())
    if not pc.all(pc.equal(pc.subtract(end, start), pc.utf8_length(sequences))).as_py():
        return {"chrom": pa.chunked_array([pa.array(found[0])])}
    return {name: pa.chunked_array([pa.array(each)]) for name, each in zip(("chrom", "start", "end"), found[:3])}


__all__ = [
    "PLACES",
    "TEXTS",
    "Wanted",
    "arrange_layout",
    "choose_task",
    "divide_splits",
    "list_inner_tasks",
    "read_layout",
]
