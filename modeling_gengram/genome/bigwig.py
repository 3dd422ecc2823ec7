"""How are bigWig files written? By a process of its own, which takes its orders from standard input.

pyBigWig (0.3.29) says nothing of a full disk: it leaves a file that is cut off, or brings its process down. Here that
is not the process of the user, and what was written is read again.
"""

import json
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

# The last bytes of a whole file: libBigWig writes the magic number once more when all the rest is there.
_END = bytes.fromhex("26fc8f88")


def write_bigwig(orders: BinaryIO) -> str | None:
    """Write files as standard input says, and read them again.

    Args:
        orders: a line of JSON with `paths` and `lengths` of the contigs; then for each run of bases a line with its
            `chrom`, `start` and length `bp`, and its values, the bytes of float32 [bp, files]. Or for some stretches
            that have one value each a line with their `chrom` and number `steps`, and the bytes of int64 [2, steps],
            their starts and ends, and of float32 [steps, files].

    Returns:
        What is wrong with the files; None if they are whole.
    """
    import pyBigWig

    task = json.loads(orders.readline())
    tracks = [pyBigWig.open(path, "w") for path in task["paths"]]
    for track in tracks:
        track.addHeader(list(task["lengths"].items()))
    written: list[tuple[bool, str, int, int, list[int]]] = []
    while line := orders.readline():
        run = json.loads(line)
        chrom, is_stepped = run["chrom"], "steps" in run
        count = run["steps" if is_stepped else "bp"]
        if is_stepped:
            starts, ends = _read(orders, np.int64, (2, count)).tolist()
        else:
            starts, ends = [run["start"]], [run["start"] + count]
        sums = []
        for track, column in zip(tracks, _read(orders, np.float32, (count, len(tracks))).T):
            # pyBigWig takes Python's integers only, and numpy's arrays in one block.
            column = np.ascontiguousarray(column)
            if is_stepped:
                track.addEntries([chrom] * count, starts, ends=ends, values=column.tolist())
                sums.append(_sum_steps(starts, ends, column))
            else:
                track.addEntries(chrom, starts[0], values=column, span=1, step=1)
                sums.append(zlib.crc32(column.data))
        written.append((is_stepped, chrom, starts[0], ends[-1], sums))
    for track in tracks:
        track.close()
    faults = (_find_fault(Path(path), number, written) for number, path in enumerate(task["paths"]))
    return next(filter(None, faults), None)


def _read(orders: BinaryIO, kind: type, shape: tuple[int, int]) -> np.ndarray:
    return np.frombuffer(orders.read(shape[0] * shape[1] * np.dtype(kind).itemsize), kind).reshape(shape)


def _sum_steps(starts: Any, ends: Any, values: np.ndarray) -> int:
    places = np.stack([np.asarray(starts, np.int64), np.asarray(ends, np.int64)])
    return zlib.crc32(values.astype(np.float32).tobytes(), zlib.crc32(places.tobytes()))


def _find_fault(path: Path, number: int, written: Sequence[tuple[bool, str, int, int, list[int]]]) -> str | None:
    import pyBigWig

    with open(path, "rb") as file:
        file.seek(-len(_END), 2)
        if file.read() != _END:
            return f"{path}: the file is cut off"
    track: Any = pyBigWig.open(str(path))
    for is_stepped, chrom, start, end, sums in written:
        if is_stepped:
            starts, ends, values = map(np.array, zip(*track.intervals(chrom, start, end) or [(0, 0, 0.0)]))
            found = _sum_steps(starts, ends, values)
        else:
            values = np.asarray(track.values(chrom, start, end, numpy=True), dtype=np.float32)
            found = zlib.crc32(np.ascontiguousarray(values).data)
        if found != sums[number]:
            return f"{path}: {chrom}:{start}-{end} is not what was written"
    track.close()
    return None


def main() -> int:
    """Run the program; returns the exit code."""
    fault = write_bigwig(sys.stdin.buffer)
    print(fault or "")
    return int(fault is not None)


__all__ = ["main", "write_bigwig"]
