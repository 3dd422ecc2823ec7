"""Predictions of rows with places, as BED and bedGraph: a line for each row, or for stretches of bases."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Dataset

from gengram.errors import InputError
from gengram.files import find_suffix
from gengram.genome.places import place_rows, sort_places
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


def check_bases(rows: Dataset, counted_from: int, file: str) -> None:
    """Refuse rows of which it is not known where each base is.

    Raises:
        `InputError`: a place that has not as many bases as the row.
    """
    table = place_rows(rows.data.table, counted_from)
    bases = table["end"].to_numpy() - table["start"].to_numpy()
    lengths = np.array([len(sequence) for sequence in rows["sequence"]])
    for row in np.flatnonzero(bases != lengths)[:1].tolist():
        raise InputError(
            f"{file}, data row {row + 1}: the sequence has {lengths[row]} bases and its place {bases[row]}, so it is "
            "not known where each base is; write a .tsv, .csv or .parquet file"
        )


def write_placed(out: Path, table: pa.Table, shown: list[str], problem: Problem) -> None:
    """Write predictions as BED or bedGraph.

    Args:
        out: the file.
        table: rows with their places (`place_rows`) and the columns of `describe_rows` or `describe_bases`.
        shown: of `choose_track`.
        problem: what was predicted. Of `token`, a BED file has a line for each stretch of bases of the same class, with
            the mean of its probabilities, and a bedGraph the probability of each base.
    """
    if problem == "token" and find_suffix(out) == ".bed":
        write_rows(out, _list_stretches(table, shown), values=["probability"])
    elif problem == "token":
        write_track(_list_pieces(table, shown[0]), out, shown[0], {})
    elif problem == "regression":
        values = [] if find_suffix(out) == ".bed" else [f"prediction_{shown[0]}"]
        write_rows(out, table, values=values, label=shown[0])
    else:
        write_rows(out, table, values=[f"probability_{name}" for name in shown], label=shown[0])


def _list_pieces(table: pa.Table, name: str) -> Iterator[Piece]:
    """Yield the probabilities of a class at the bases of each row, in the order of the genome."""
    chroms = np.asarray(table["chrom"].to_pylist(), dtype=object)
    order = sort_places(chroms, table["start"].to_numpy(), table["end"].to_numpy(), lambda row: f"data row {row + 1}")
    for row in order.tolist():
        start, _, values = _locate(table, row, [name])
        yield Piece(chroms[row], start, values)


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


__all__ = ["check_bases", "choose_track", "write_placed"]
