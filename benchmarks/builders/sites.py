"""Windows around the places of a table, with labels from its columns: expression at start sites, marks of bins."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from gengram.errors import InputError
from gengram.genome.tables import shorten
from gengram.genome.values import are_flags, is_text

from .folder import Built
from .genome import Finder, read_contig_names, store_genome
from .places import PlaceTable, RowCollector, finish, keep_name, order_labels, plan_schema
from .window_rows import RESERVED, Cutting, Output, TaskPlan, centre, centre_interval, write_task
from .window_splits import SplitRule


def build_sites(
    genome: str,
    table: str,
    length: int,
    out: Output,
    rule: SplitRule,
    *,
    label_columns: Sequence[str] = ("label",),
    position_column: str | None = None,
    log1p: bool = False,
    contigs: Sequence[str] = (),
    pad: bool = False,
    max_n: float = 1.0,
) -> Built:
    """Make a task of windows around the places of a table.

    One column of text or whole numbers is classes; decimal numbers are a regression; several columns of nothing but 0
    and 1 are labels of which a row has any number.

    Args:
        genome: a FASTA file.
        table: with a place and labels in each row: a position from 1 (then it is at `length // 2` of the window), or
            `start` and `end` from 0 (then their middle is that of the window); a column `strand`, where it is `-` the
            window is the reverse complement; a column `split`, where rows are dealt already.
        length, out, rule: see `build_variants`.
        label_columns: names; of columns called `target_1` and so on, `target_*` is all.
        position_column: see `PlaceTable`.
        log1p: whether the labels of a regression are log(1 + value).
        contigs, pad, max_n: see `build_variants`.

    Raises:
        `InputError`: see `PlaceTable`, `write_task`; a column that is missing, a label that is none.
    """
    cutting, named = Cutting(length, pad, max_n), read_contig_names(contigs)
    out.check(genome, table)
    counts: Counter[str] = Counter()
    with store_genome(genome) as stored:
        cutting.check(stored)
        places = PlaceTable(table, position_column=position_column)
        columns = _find_labels(places, label_columns)
        problem = _find_problem(places, columns)
        if log1p and problem != "regression":
            raise InputError(f"{table}: --log1p is for numbers, and the labels are classes")
        kind = pa.string()
        if problem != "single_label":
            value = pa.float32() if problem == "regression" else pa.int8()
            kind = pa.list_(value) if len(columns) > 1 else value
        split = next((name for name in places.others if name.casefold() == "split"), None)
        kept = [name for name in places.others if name not in (*columns, split)]
        schema = plan_schema(
            ("label", kind),
            ("name", pa.string()),
            *((keep_name(name, RESERVED), places.table[name].type) for name in kept),
            *([("split", pa.string())] if split else []),
        )
        rows, finder = RowCollector(schema), Finder(stored, table, named)
        for place in places.stream(finder):
            values = [_read_label(place.cells[name], place.where, name, problem, log1p) for name in columns]
            if places.position is not None:
                start = centre(place.start, length)
            else:
                start = centre_interval(place.start, place.end, length)
            extra = [place.cells[name] for name in kept] + ([str(place.cells[split])] if split else [])
            label = values if len(columns) > 1 else values[0]
            rows.add(place.record, start, start + length, place.strand, label, place.name, *extra)
        finish([finder], counts)
        plan = rows.finish()
        if not len(plan):
            raise InputError(f"{table}: no row of it lies in {stored.path}")
        notes: dict[str, Any] = {
            "title": f"Places of a table, {length:,} bp",
            "description": f"What does the table say of the place in the middle? Its columns {', '.join(columns[:20])}"
            f"{' ...' if len(columns) > 20 else ''}.",
            "problem": problem,
        }
        if problem == "single_label":
            notes["classes"] = order_labels(plan["label"].unique().to_pylist(), table)
        elif problem == "multi_label":
            notes["classes"] = columns
        settings: dict[str, Any] = {"label_columns": columns, "position_column": position_column, "log1p": log1p}
        task = TaskPlan(
            "sites",
            plan,
            **notes,
            settings={**settings, "contigs": list(contigs)},
            sources={"table": table},
            counts=counts,
        )
        return write_task(stored, task, cutting, rule, out)


def _find_labels(places: PlaceTable, wanted: Sequence[str]) -> list[str]:
    columns: list[str] = []
    for name in wanted:
        found = [one for one in places.others if one == name]
        if name.endswith("*"):
            found = [one for one in places.others if one.startswith(name[:-1])]
        if not found:
            raise InputError(
                f"{places.path}: no column {name!r} has labels; the columns are {shorten(places.table.column_names)}. "
                "Name the right ones with --label_columns"
            )
        columns += [one for one in found if one not in columns]
    return columns


def _find_problem(places: PlaceTable, columns: Sequence[str]) -> str:
    kinds = [places.table[name].type for name in columns]
    if len(columns) == 1 and (is_text(kinds[0]) or pa.types.is_integer(kinds[0]) or kinds[0] == pa.bool_()):
        return "single_label"
    if len(columns) > 1 and all(are_flags(places.table[name]) for name in columns):
        return "multi_label"
    if bad := [
        name for name, kind in zip(columns, kinds) if not (pa.types.is_integer(kind) or pa.types.is_floating(kind))
    ]:
        raise InputError(f"{places.path}: column {bad[0]!r} holds no numbers, as several labels of a row do")
    return "regression"


def _read_label(value: Any, where: str, column: str, problem: str, log1p: bool) -> Any:
    if value is None or value == "":
        raise InputError(f"{where}: column {column!r} has no label; fill it in, or remove the row")
    if problem == "single_label":
        return str(value).strip()
    if problem == "multi_label":
        return int(value)
    if not math.isfinite(value) or (log1p and value <= -1):
        raise InputError(f"{where}: {value} in column {column!r} is no label{' for --log1p' if log1p else ''}")
    return math.log1p(value) if log1p else float(value)


__all__ = ["build_sites"]
