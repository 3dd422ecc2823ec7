"""What genome browsers and numpy open: probabilities along contigs as bigWig or bedGraph, called features, arrays.

pyBigWig is an extra (`pip install "gengram[genomics]"`); only a process that writes bigWig files imports it.
"""

import json
import os
import re
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from itertools import count, pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

import numpy as np

from gengram import printable
from gengram.errors import InputError
from gengram.files import find_suffix, probe, replace_together, replace_whole
from gengram.genome.row_files import BED, name_column
from gengram.genome.text import open_output

TrackFormat = Literal["bigwig", "bedgraph"]

CALLS_FILE = "features.bed"
ARRAYS_FOLDER = "arrays"

_SUFFIXES = {"bigwig": ".bw", "bedgraph": ".bedgraph"}
_UNSAFE = re.compile(r"[^\w.+-]+")
# A file system takes names of 255 bytes; an ending and a number have to fit as well.
_LONGEST_NAME = 200


class Locus(NamedTuple):
    """A piece of a contig: its first base, counted from 0, and its end, not included."""

    chrom: str
    start: int
    end: int

    def __str__(self) -> str:
        return f"{self.chrom}:{self.start}-{self.end}"


class Piece(NamedTuple):
    """Probabilities float32 [bp, features] from one base of a contig on; not a number where there is none."""

    chrom: str
    start: int
    probabilities: np.ndarray


class Steps(NamedTuple):
    """Values float32 [steps, features] along a contig, each of the bases from one of `edges` (int64 [steps + 1],
    ascending) to the next; not a number where there is none."""

    chrom: str
    edges: np.ndarray
    values: np.ndarray


class Call(NamedTuple):
    """A stretch of a contig where a feature (its column) is called, and the mean of its probabilities, float32."""

    chrom: str
    start: int
    end: int
    feature: int
    probability: np.float32


def check_format(track_format: TrackFormat) -> None:
    """Refuse a format that nothing installed can write.

    Raises:
        `InputError`: bigWig without pyBigWig.
    """
    if track_format == "bigwig" and find_spec("pyBigWig") is None:
        raise InputError(
            "bigWig files are written by pyBigWig, which is not installed: pip install 'gengram[genomics]', or choose "
            "--format bedgraph, which is text"
        )


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
    pieces: Iterable[Piece],
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
        pieces: in the order of the contigs and of their bases, without overlap; read once, one at a time.
        folder: where the files go; there already.
        features: names of the columns.
        lengths: of all contigs, in bp, in the order of the genome.
        track_format: of the tracks; `check_format` has been asked.
        threshold: a feature is called along bases whose probability is at least that.
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
    with ExitStack() as stack:
        # Last in, first out: the files are closed before any of them gets its name.
        partial = stack.enter_context(replace_together([folder / file for file in files]))
        if track_format == "bigwig":
            track_writer: Any = stack.enter_context(_BigWigWriter(partial[: len(tracks)], lengths))
        else:
            opened = [stack.enter_context(open(path, "w", encoding="utf-8")) for path in partial[: len(tracks)]]
            track_writer = stack.enter_context(_BedGraphWriter([file.write for file in opened], features))
        calls = stack.enter_context(_CallWriter(partial[len(tracks)], features, threshold))
        array_writer = stack.enter_context(_ArrayWriter(partial[len(tracks) + 1 :], arrays, features))
        for piece in pieces:
            for writer in (track_writer, calls, array_writer):
                writer.add(piece)
    return files


def write_track(pieces: Iterable[Piece | Steps], out: Path, feature: str, lengths: Mapping[str, int]) -> None:
    """Write one track, in one piece.

    Args:
        pieces: of one feature, float32 [bp, 1] or [steps, 1], in the order of the contigs and of their bases, without
            overlap; read once, one at a time.
        out: `.bw` (`check_format` has been asked), or `.bedgraph`, also with `.gz`; replaced if it is there.
        feature: whose values they are.
        lengths: of all contigs, in bp, in the order of the genome; only a bigWig has them.

    Raises:
        `InputError`: it cannot be written.
    """
    with ExitStack() as stack:
        if find_suffix(out) == ".bw":
            partial = stack.enter_context(replace_whole(out))
            writer: Any = stack.enter_context(_BigWigWriter([partial], lengths))
        else:
            writer = stack.enter_context(_BedGraphWriter([stack.enter_context(open_output(out))], [feature]))
        for piece in pieces:
            writer.add(piece)


def find_runs(present: np.ndarray) -> np.ndarray:
    """Return first and end of each run of true values, int64 [runs, 2], of a boolean array [bp]."""
    edges = np.diff(np.concatenate([[False], present, [False]]).astype(np.int8))
    return np.stack([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)], axis=1)


class _BigWigWriter(ExitStack):
    """A value for each base or step, in bigWig files; see `gengram.genome.bigwig`."""

    def __init__(self, paths: Sequence[Path], lengths: Mapping[str, int]):
        super().__init__()
        self._paths = paths
        # Its modules are found where ours are, and not in the working folder.
        program = "import sys; sys.path[:] = sys.argv[1:]; from gengram.genome.bigwig import main; sys.exit(main())"
        self._process = subprocess.Popen(
            [sys.executable, "-c", program, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # libBigWig's own words
            start_new_session=True,  # Ctrl-C is for us.
        )
        self._send(json.dumps({"paths": list(map(str, paths)), "lengths": dict(lengths)}))

    def add(self, piece: Piece | Steps) -> None:
        if isinstance(piece, Steps):
            present = ~np.isnan(piece.values[:, 0])
            places = np.stack([piece.edges[:-1][present], piece.edges[1:][present]]).astype(np.int64, copy=False)
            if places.size:
                order = {"chrom": piece.chrom, "steps": places.shape[1]}
                values = piece.values[present].astype(np.float32, copy=False)
                self._send(json.dumps(order), places.tobytes() + values.tobytes())
            return
        for first, end in find_runs(~np.isnan(piece.probabilities[:, 0])):
            order = {"chrom": piece.chrom, "start": int(piece.start + first), "bp": int(end - first)}
            self._send(json.dumps(order), piece.probabilities[first:end].astype(np.float32, copy=False).tobytes())

    def __exit__(self, kind, *details):
        if kind is not None:
            self._process.kill()
            self._process.communicate()
            return super().__exit__(kind, *details)
        try:
            told, _ = self._process.communicate()
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        if self._process.returncode:
            self._complain(told.decode(errors="replace").strip())
        return super().__exit__(None, *details)

    def _send(self, order: str, values: bytes = b"") -> None:
        stream: Any = self._process.stdin
        try:
            stream.write(order.encode() + b"\n")
            stream.write(values)
        except BrokenPipeError:
            self._complain("")

    def _complain(self, told: str) -> NoReturn:
        for path in self._paths:
            if number := probe(path):
                raise OSError(number, os.strerror(number), str(path))
        told = told or f"pyBigWig has ended with code {self._process.wait()}"
        raise InputError(f"{self._paths[0].with_suffix('')}: cannot be written ({told}); is the disk full?")


class _BedGraphWriter(ExitStack):
    """Neighbouring bases, or steps, of one value share a line."""

    def __init__(self, writers: Sequence[Callable[[str], Any]], features: Sequence[str]):
        super().__init__()
        self._writers = writers
        for write, feature in zip(writers, features):
            write(name_column(feature))

    def add(self, piece: Piece | Steps) -> None:
        if isinstance(piece, Piece):
            edges = piece.start + np.arange(len(piece.probabilities) + 1)
            piece = Steps(piece.chrom, edges, piece.probabilities)
        for first, end in find_runs(~np.isnan(piece.values[:, 0])):
            for write, values in zip(self._writers, piece.values[first:end].T):
                cuts = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
                write(
                    "".join(
                        f"{piece.chrom}\t{piece.edges[first + left]}\t{piece.edges[first + right]}\t{values[left]!s}\n"
                        for left, right in pairwise(cuts)
                    )
                )


class _CallFinder:
    """Runs of bases at or above a threshold, in the order of their starts."""

    def __init__(self, threshold: float):
        self._threshold = threshold
        # By feature, first base and sum of the probabilities of a run that goes on into the next piece.
        self._open: dict[int, tuple[int, float]] = {}
        self._done: list[tuple[int, int, int, float]] = []
        self._chrom, self._end = "", 0

    def add(self, piece: Piece) -> list[Call]:
        """Return the runs that begin before what is still open."""
        ready = []
        if (piece.chrom, piece.start) != (self._chrom, self._end):
            ready = self.finish()
            self._chrom, self._end = piece.chrom, piece.start
        bp = len(piece.probabilities)
        for feature, values in enumerate(piece.probabilities.T):
            runs = find_runs(values >= self._threshold).tolist()
            before = self._open.pop(feature, None)
            if before is not None and (not runs or runs[0][0] != 0):
                self._done.append((before[0], piece.start, feature, before[1]))
                before = None
            for first, end in runs:
                begin, total = piece.start + first, float(values[first:end].sum(dtype=np.float64))
                if before is not None:
                    begin, total, before = before[0], before[1] + total, None
                if end == bp:
                    self._open[feature] = (begin, total)
                else:
                    self._done.append((begin, piece.start + end, feature, total))
        self._end = piece.start + bp
        return ready + self._take(min((begin for begin, _ in self._open.values()), default=self._end))

    def finish(self) -> list[Call]:
        """Return the runs that are left, at the end of a contig or of what is read of it."""
        for feature, (begin, total) in self._open.items():
            self._done.append((begin, self._end, feature, total))
        self._open = {}
        return self._take(self._end)

    def _take(self, limit: int) -> list[Call]:
        """Return what begins before a base; what is still open begins there or later."""
        ready = sorted(call for call in self._done if call[0] < limit)
        self._done = [call for call in self._done if call[0] >= limit]
        return [
            Call(self._chrom, begin, end, feature, np.float32(total / (end - begin)))
            for begin, end, feature, total in ready
        ]


def find_calls(pieces: Iterable[Piece], threshold: float) -> Iterator[Call]:
    """Yield the stretches of each feature at or above a threshold, by contig and start.

    Args:
        pieces: in the order of the contigs and of their bases, without overlap.
        threshold: a feature is called along bases whose probability is at least that.
    """
    finder = _CallFinder(threshold)
    for piece in pieces:
        yield from finder.add(piece)
    yield from finder.finish()


class _CallWriter(ExitStack):
    """A BED file of calls; score: 1000 times their mean probability, which is in a column of its own."""

    def __init__(self, path: Path, features: Sequence[str], threshold: float):
        super().__init__()
        self._file = self.enter_context(open(path, "w", encoding="utf-8"))  # noqa: SIM115
        # A tab or a line break would end the name's column.
        self._features = [printable.make_printable(feature) or "." for feature in features]
        self._finder = _CallFinder(threshold)
        self._file.write("#" + "\t".join((*BED, "probability")) + "\n")
        self.callback(lambda: self._write(self._finder.finish()))

    def add(self, piece: Piece) -> None:
        self._write(self._finder.add(piece))

    def _write(self, calls: Iterable[Call]) -> None:
        for chrom, start, end, feature, probability in calls:
            score = round(1000 * float(probability))
            self._file.write(f"{chrom}\t{start}\t{end}\t{self._features[feature]}\t{score}\t.\t{probability!s}\n")


class _ArrayWriter(ExitStack):
    """An npz file for each locus, written as its pieces come; `np.load` reads it."""

    def __init__(self, paths: Sequence[Path], loci: Sequence[Locus], features: Sequence[str]):
        super().__init__()
        self._waiting = list(zip(paths, loci))[::-1]
        self._features = features
        self._file: Any = None
        self._missing = 0

    def add(self, piece: Piece) -> None:
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
    "Call",
    "Locus",
    "Piece",
    "Steps",
    "TrackFormat",
    "check_format",
    "find_calls",
    "find_runs",
    "name_files",
    "name_tracks",
    "write_track",
    "write_tracks",
]
