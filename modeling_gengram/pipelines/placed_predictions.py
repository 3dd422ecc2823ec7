"""Predictions of rows with places, as BED and bedGraph: a line for each row, or for stretches of bases."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from gengram.errors import InputError
from gengram.files import find_suffix, tell_write_faults
from gengram.genome.places import sort_places
from gengram.genome.row_files import write_rows
from gengram.genome.tracks import Piece, find_runs, write_track
from gengram.pipelines.outputs import PLACES, check_track
from gengram.training.problems import Problem

_CALLED = {"regression": "targets", "multi_label": "labels"}


def choose_track(out: Path, track: str | None, names: list[str], problem: Problem) -> list[str]:
    """Return the classes, labels or targets that a file is about, see `check_track`.

    Raises:
        `InputError`: see `check_track`; one where the file has all; a target as the score of a BED file, which is of
            probabilities.
    """
    what = _CALLED.get(problem, "classes")
    if track is not None and find_suffix(out) not in PLACES:
        raise InputError(f"{out}: the file has all {what}; leave --track out, or write .bed or .bedgraph")
    if track is not None and problem == "regression" and find_suffix(out) == ".bed":
        raise InputError(f"{out}: targets are no scores of a BED file; leave --track out, or write .bedgraph")
    return check_track(out, track, names, what)


def write_placed(out: Path, tables: Iterator[pa.Table], shown: list[str], problem: Problem, scratch: Path) -> None:
    """Write predictions as BED or bedGraph; one table is in memory at a time, of a bedGraph the places of all rows.

    Args:
        out: the file.
        tables: rows with their places (`place_rows`) and the columns of `describe_rows` or `describe_bases`.
        shown: of `choose_track`.
        problem: what was predicted. Of `token`, a BED file has a line for each stretch of bases of the same class, with
            the mean of its probabilities, and a bedGraph the probability of each base.
        scratch: a folder for what is sorted.
    """
    if problem == "token" and find_suffix(out) == ".bed":
        write_rows(out, (row for table in tables for row in _list_stretches(table, shown)), values=["probability"])
    elif problem == "token":
        write_track(_list_pieces(tables, shown[0], scratch / "values"), out, shown[0], {})
    elif problem == "regression":
        values = [] if find_suffix(out) == ".bed" else [f"prediction_{shown[0]}"]
        write_rows(out, tables, values=values, label=shown[0])
    else:
        write_rows(out, tables, values=[f"probability_{name}" for name in shown], label=shown[0])


def _list_pieces(tables: Iterator[pa.Table], name: str, scratch: Path) -> Iterator[Piece]:
    """Yield the probabilities of a class at the bases of each row, in the order of the genome."""
    chroms: list[str] = []
    places: list[tuple[int, int, int, int]] = []  # of the row, then its first value's, and the number of values
    with tell_write_faults(scratch), open(scratch, "wb") as stream:
        for table in tables:
            chroms += table["chrom"].to_pylist()
            for row, place in enumerate(zip(table["start"].to_pylist(), table["end"].to_pylist())):
                first, _, values = _locate(table, row, [name])
                places.append((*place, first, len(values)))
                stream.write(np.ascontiguousarray(values[:, 0]).data)
    starts, ends, firsts, lengths = np.array(places, dtype=np.int64).T
    order = sort_places(np.asarray(chroms, dtype=object), starts, ends, lambda row: f"data row {row + 1}")
    offsets = np.cumsum(lengths) - lengths
    found = np.memmap(scratch, dtype=np.float32, mode="r")
    for row in order.tolist():
        yield Piece(chroms[row], int(firsts[row]), found[offsets[row] : offsets[row] + lengths[row], None])


def _list_stretches(table: pa.Table, shown: list[str]) -> Iterator[pa.Table]:
    """Yield for each row the stretches of its bases with the same prediction, of the classes that are shown."""
    for row in range(len(table)):
        start, strand, values = _locate(table, row, shown)
        prediction = np.array(table["prediction"][row].as_py(), dtype=object)[:: -1 if strand == "-" else 1]
        runs = [
            (int(first), int(end), name, float(values[first:end, place].mean(dtype=np.float64)))
            for place, name in enumerate(shown)
            for first, end in find_runs(prediction == name)
        ]
        firsts, ends, names, means = zip(*sorted(runs)) if runs else ((), (), (), ())
        yield pa.table(
            {
                "chrom": pa.array([table["chrom"][row].as_py()] * len(runs), pa.string()),
                "start": pa.array(start + np.array(firsts, dtype=np.int64)),
                "end": pa.array(start + np.array(ends, dtype=np.int64)),
                "name": pa.array(names, pa.string()),
                "strand": pa.array([strand] * len(runs), pa.string()),
                "probability": pa.array(means, pa.float32()),
            }
        )


def _locate(table: pa.Table, row: int, names: list[str]) -> tuple[int, str, np.ndarray]:
    """Return where in its contig begins what was read of a row, its strand, and the probabilities in the direction of
    the contig, float32 [bp, names], not a number where there is none."""
    strand = table["strand"][row].as_py() if "strand" in table.column_names else None
    lists = [table[f"probability_{name}"][row].values.to_numpy(zero_copy_only=False) for name in names]
    values = np.stack(lists, axis=1).astype(np.float32, copy=False)
    first = table["prediction_start"][row].as_py()
    if strand == "-":
        return table["end"][row].as_py() - first - len(values), "-", values[::-1]
    return table["start"][row].as_py() + first, strand or ".", values


__all__ = ["choose_track", "write_placed"]
