"""What genome browsers and numpy open: probabilities along contigs as bigWig or bedGraph, called features, arrays."""

import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gengram.errors import InputError
from gengram.files import find_suffix, replace_together, replace_whole
from gengram.genome.bigwig import BigWigWriter
from gengram.genome.row_files import name_column, write_bed
from gengram.genome.text import open_output

TrackFormat = Literal["bigwig", "bedgraph"]

CALLS_FILE = "features.bed"
ARRAYS_FOLDER = "arrays"

_SUFFIXES = {"bigwig": ".bw", "bedgraph": ".bedgraph"}
_UNSAFE = re.compile(r"[^\w.+-]+")
# A file system takes names of 255 bytes; an ending and a number have to fit as well.
_LONGEST_NAME = 200
_BASES = 1 << 18  # of steps in memory at once
_LINES = 1 << 16  # of text in memory at once
_CONTIGS = 256  # whose calls are written at once, if they are few

_CALL = np.dtype([("start", np.int64), ("end", np.int64), ("feature", np.int64), ("sum", np.float64)])


class Locus(NamedTuple):
    """A piece of a contig: its first base, counted from 0, and its end, not included."""

    chrom: str
    start: int
    end: int

    def __str__(self) -> str:
        return f"{self.chrom}:{self.start}-{self.end}"


class Piece(NamedTuple):
    """Probabilities float32 [bp, features] from one base of a contig on; not a number where there is none.

    `called` says where a feature is called, booleans [bp, features], if that does not follow from them: they may be
    rounded.
    """

    chrom: str
    start: int
    probabilities: np.ndarray
    called: np.ndarray | None = None


ReadPieces: TypeAlias = Callable[[int | None], Iterable[Piece]]
"""Gives the pieces of one feature (its column), or of all (None), in the order of the contigs and of their bases,
without overlap."""


class Steps(NamedTuple):
    """Values float32 [steps, features] along a contig, each of the bases from one of `edges` (int64 [steps + 1],
    ascending) to the next; not a number where there is none."""

    chrom: str
    edges: np.ndarray
    values: np.ndarray


def name_tracks(features: Sequence[str], track_format: TrackFormat) -> list[str]:
    """Return the file name of each feature's track, in their order: the feature's name as far as a file can have it.

    Names that would be one file, also where upper and lower case are the same there, get numbers from the second on.

    Raises:
        `InputError`: two features of one name.
    """
    if twice := [name for name, count in Counter(features).items() if count > 1]:
        raise InputError(f"several features are called {twice[0][:100]!r}: their tracks cannot be told apart")
    return name_files(features, _SUFFIXES[track_format])


def name_files(names: Sequence[str], suffix: str) -> list[str]:
    """Return a file name for each name, no two of them alike and none of them hidden or a folder's."""
    found: dict[str, None] = {}
    for name in names:
        stem = _UNSAFE.sub("_", name).encode()[:_LONGEST_NAME].decode(errors="ignore")
        stem = f"_{stem}" if stem[:1] in ("", ".", "-") else stem
        taken = set(map(str.lower, found))
        number = next(number for number in count(1) if _number(stem, number, suffix).lower() not in taken)
        found[_number(stem, number, suffix)] = None
    return list(found)


def _number(stem: str, number: int, suffix: str) -> str:
    return f"{stem}{suffix}" if number == 1 else f"{stem}_{number}{suffix}"


def write_tracks(
    read: ReadPieces,
    folder: Path,
    features: Sequence[str],
    lengths: Mapping[str, int],
    *,
    track_format: TrackFormat = "bigwig",
    threshold: float = 0.5,
    arrays: Sequence[Locus] = (),
) -> list[str]:
    """Write a track of each feature, the features that are called, and arrays; all of them or none.

    Args:
        read: gives the pieces; asked once for all features, and once for each.
        folder: where the files go; there already.
        features: names of the columns.
        lengths: of all contigs, in bp, in the order of the genome.
        track_format: of the tracks.
        threshold: a feature is called along bases whose probability is at least that, if the pieces do not say where.
        arrays: loci whose probabilities are also written to `arrays/CONTIG_START-END.npz`, each made of whole pieces.

    Returns:
        The files, relative to the folder.

    Raises:
        `InputError`: see `name_tracks`.
    """
    tracks = name_tracks(features, track_format)
    contigs = list(dict.fromkeys(locus.chrom for locus in arrays))
    named = dict(zip(contigs, name_files(contigs, "")))
    safe = [f"{ARRAYS_FOLDER}/{named[locus.chrom]}_{locus.start}-{locus.end}.npz" for locus in arrays]
    if arrays:
        (folder / ARRAYS_FOLDER).mkdir(exist_ok=True)
    files = [*tracks, CALLS_FILE, *safe]
    # The files are closed before any of them gets its name.
    with replace_together([folder / file for file in files]) as partial:
        with (
            _ArrayWriter(partial[len(tracks) + 1 :], arrays, features) as array_writer,
            open(partial[len(tracks)], "w", encoding="utf-8") as calls,
        ):
            pieces = map(array_writer.pass_on, read(None))
            write_bed(calls.write, list_calls(pieces, features, threshold), ["probability"])
        for column, (path, feature) in enumerate(zip(partial, features)):
            with ExitStack() as stack:
                if track_format == "bigwig":
                    writer: Any = stack.enter_context(_BigWigTrack(path, lengths))
                else:
                    file = stack.enter_context(open(path, "w", encoding="utf-8"))
                    writer = _BedGraphTrack(file.write, feature)
                for piece in read(column):
                    writer.add(piece)
    return files


def write_track(pieces: Iterable[Piece | Steps], out: Path, feature: str, lengths: Mapping[str, int]) -> None:
    """Write one track, in one piece.

    Args:
        pieces: of one feature, float32 [bp, 1] or [steps, 1], in the order of the contigs and of their bases, without
            overlap; read once, one at a time.
        out: `.bw`, or `.bedgraph`, also with `.gz`; replaced if it is there.
        feature: whose values they are.
        lengths: of all contigs, in bp, in the order of the genome; only a bigWig has them.

    Raises:
        `InputError`: it cannot be written.
    """
    with ExitStack() as stack:
        if find_suffix(out) == ".bw":
            writer: Any = stack.enter_context(_BigWigTrack(stack.enter_context(replace_whole(out)), lengths))
        else:
            writer = _BedGraphTrack(stack.enter_context(open_output(out)), feature)
        for piece in pieces:
            writer.add(piece)


def find_runs(present: np.ndarray) -> np.ndarray:
    """Return first and end of each run of true values, int64 [runs, 2], of a boolean array [bp]."""
    edges = np.diff(np.concatenate([[False], present, [False]]).astype(np.int8))
    return np.stack([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)], axis=1)


class _BigWigTrack(BigWigWriter):
    """A value for each base, or for those of each step; see `gengram.genome.bigwig`."""

    def add_piece(self, chrom: str, start: int, values: np.ndarray) -> None:
        for first, end in find_runs(~np.isnan(values)).tolist():
            self.write(chrom, start + first, values[first:end])

    def add(self, piece: Piece | Steps) -> None:
        if isinstance(piece, Piece):
            self.add_piece(piece.chrom, piece.start, piece.probabilities[:, 0])
            return
        # Steps may be of any length: their bases are made some at a time.
        begin, end = (int(piece.edges[place]) for place in (0, -1)) if len(piece.edges) else (0, 0)
        for first in range(begin, end, _BASES):
            bases = np.arange(first, min(first + _BASES, end))
            self.add_piece(piece.chrom, first, piece.values[np.searchsorted(piece.edges, bases, "right") - 1, 0])


class _BedGraphTrack:
    """Neighbouring bases, or steps, of one value share a line."""

    def __init__(self, write: Callable[[str], Any], feature: str):
        self._write = write
        write(name_column(feature))

    def add(self, piece: Piece | Steps) -> None:
        if isinstance(piece, Piece):
            edges, values = piece.start + np.arange(len(piece.probabilities) + 1), piece.probabilities[:, 0]
        else:
            edges, values = piece.edges, piece.values[:, 0]
        for first, end in find_runs(~np.isnan(values)).tolist():
            cuts = first + np.append(0, 1 + np.flatnonzero(np.diff(values[first:end])))
            for some in np.array_split(cuts, 1 + len(cuts) // _LINES):
                ends = np.append(cuts, end)[np.searchsorted(cuts, some, "right")]
                cells = [pa.array(edges[some]), pa.array(edges[ends]), pa.array(values[some])]
                texts = [cell.cast(pa.string()) for cell in cells]
                lines = pc.binary_join_element_wise(piece.chrom, *texts, "\t")
                self._write("\n".join([*lines.to_pylist(), ""]))


class _CallFinder:
    """Runs of bases where a feature is called, in the order of their starts."""

    def __init__(self, features: int, threshold: float):
        self._threshold = threshold
        # Of the run of each feature that goes on into the next piece: its first base, or none (-1), and the sum of its
        # probabilities.
        self._open, self._sums = np.full(features, -1), np.zeros(features)
        # Those that are behind an open one wait: blocks of calls, and the first base of each.
        self._done: list[tuple[int, np.ndarray]] = []
        self._chrom, self._end = "", 0

    def add(self, piece: Piece) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the runs that begin before what is still open, with their contig."""
        if (piece.chrom, piece.start) != (self._chrom, self._end):
            yield from self.finish()
            self._chrom, self._end = piece.chrom, piece.start
        bp = len(piece.probabilities)
        called = piece.probabilities >= self._threshold if piece.called is None else piece.called
        for feature, column in enumerate(called.T):
            runs = find_runs(column)
            found = np.zeros(len(runs), dtype=_CALL)
            found["feature"] = feature
            found["start"], found["end"] = piece.start + runs.T
            if len(runs):
                values = np.append(piece.probabilities[:, feature].astype(np.float64), 0.0)
                found["sum"] = np.add.reduceat(values, runs.ravel())[::2]
            if (begin := self._open[feature]) >= 0:
                if not len(runs) or runs[0, 0] != 0:
                    self._keep(np.array([(begin, piece.start, feature, self._sums[feature])], dtype=_CALL))
                else:
                    found["start"][0] = begin
                    found["sum"][0] += self._sums[feature]
                self._open[feature] = -1
            if len(runs) and runs[-1, 1] == bp:
                self._open[feature], self._sums[feature] = found["start"][-1], found["sum"][-1]
                found = found[:-1]
            self._keep(found)
        self._end = piece.start + bp
        yield from self._take(int(min(self._open[self._open >= 0], default=self._end)))

    def finish(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the runs that are left, at the end of a contig or of what is read of it."""
        for feature in np.flatnonzero(self._open >= 0).tolist():
            self._keep(np.array([(self._open[feature], self._end, feature, self._sums[feature])], dtype=_CALL))
        self._open[:] = -1
        yield from self._take(self._end)

    def _keep(self, calls: np.ndarray) -> None:
        if len(calls):
            self._done.append((int(calls["start"][0]), calls))

    def _take(self, limit: int) -> Iterator[tuple[str, np.ndarray]]:
        """Yield what begins before a base; what is still open begins there or later."""
        if min((first for first, _ in self._done), default=limit) >= limit:
            return
        done = np.concatenate([calls for first, calls in self._done if first < limit])
        self._done = [(first, calls) for first, calls in self._done if first >= limit]
        ready = done["start"] < limit
        for feature in np.unique(done["feature"][~ready]):
            self._keep(done[~ready & (done["feature"] == feature)])
        done = done[ready]
        yield self._chrom, done[np.lexsort((done["feature"], done["end"], done["start"]))]


def list_calls(pieces: Iterable[Piece], features: Sequence[str], threshold: float) -> Iterator[pa.Table]:
    """Yield the stretches where a feature is called, by contig and start, as tables: at least one, that may be empty.

    Args:
        pieces: in the order of the contigs and of their bases, without overlap.
        features: names of their columns.
        threshold: a feature is called along bases whose probability is at least that, if the pieces do not say where.

    Yields:
        `chrom`, `start`, `end`, `name` of the feature, and `probability`, the mean of those in the piece, float32.
    """
    finder = _CallFinder(len(features), threshold)
    yield _tabulate([], features)
    waiting: list[tuple[str, np.ndarray]] = []  # short contigs have few calls each
    for piece in pieces:
        waiting.extend(finder.add(piece))
        if len(waiting) >= _CONTIGS or sum(len(calls) for _, calls in waiting) >= _LINES:
            yield _tabulate(waiting, features)
            waiting = []
    yield _tabulate([*waiting, *finder.finish()], features)


def _tabulate(found: Sequence[tuple[str, np.ndarray]], features: Sequence[str]) -> pa.Table:
    """Return calls of contigs as a table."""
    calls = np.concatenate([np.empty(0, dtype=_CALL), *(some for _, some in found)])
    places = np.repeat(np.arange(len(found), dtype=np.int32), [len(some) for _, some in found])
    chroms = pa.DictionaryArray.from_arrays(pa.array(places), pa.array([chrom for chrom, _ in found], pa.string()))
    names = [feature.encode(errors="backslashreplace").decode() for feature in features]  # text for Arrow in any case
    named = pa.DictionaryArray.from_arrays(pa.array(calls["feature"].astype(np.int32)), pa.array(names, pa.string()))
    means = (calls["sum"] / (calls["end"] - calls["start"])).astype(np.float32)
    columns = {"chrom": chroms.cast(pa.string()), "start": pa.array(calls["start"]), "end": pa.array(calls["end"])}
    return pa.table({**columns, "name": named.cast(pa.string()), "probability": pa.array(means)})


class _ArrayWriter(ExitStack):
    """An npz file for each locus, written as its pieces come; `np.load` reads it."""

    def __init__(self, paths: Sequence[Path], loci: Sequence[Locus], features: Sequence[str]):
        super().__init__()
        self._waiting = list(zip(paths, loci))[::-1]
        self._features = features
        self._file: Any = None
        self._missing = 0

    def pass_on(self, piece: Piece) -> Piece:
        """Write a piece, and return it."""
        self._add(piece)
        return piece

    def _add(self, piece: Piece) -> None:
        if not self._missing and not self._waiting:
            return
        if not self._missing:
            path, locus = self._waiting.pop()
            self._missing = locus.end - locus.start
            archive = self.enter_context(zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED))
            for name, value in {**locus._asdict(), "features": list(self._features)}.items():
                with archive.open(f"{name}.npy", "w") as file:
                    np.lib.format.write_array(file, np.asarray(value), allow_pickle=False)
            self._file = self.enter_context(archive.open("probabilities.npy", "w", force_zip64=True))
            shape = {"descr": "<f4", "fortran_order": False, "shape": (self._missing, len(self._features))}
            np.lib.format.write_array_header_2_0(self._file, shape)
        self._file.write(np.ascontiguousarray(piece.probabilities, dtype="<f4").tobytes())
        self._missing -= len(piece.probabilities)
        if not self._missing:
            self.close()


__all__ = [
    "ARRAYS_FOLDER",
    "CALLS_FILE",
    "Locus",
    "Piece",
    "ReadPieces",
    "Steps",
    "TrackFormat",
    "find_runs",
    "list_calls",
    "name_files",
    "name_tracks",
    "write_track",
    "write_tracks",
]
