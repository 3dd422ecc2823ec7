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
            `chrom`, `start` and length `bp`, and its values, the bytes of float32 [bp, files].

    Returns:
        What is wrong with the files; None if they are whole.
    """
    import pyBigWig

    task = json.loads(orders.readline())
    tracks = [pyBigWig.open(path, "w") for path in task["paths"]]
    for track in tracks:
        track.addHeader(list(task["lengths"].items()))
    written: list[tuple[str, int, int, list[int]]] = []
    while line := orders.readline():
        run = json.loads(line)
        size = run["bp"] * len(tracks) * np.dtype(np.float32).itemsize
        values = np.frombuffer(orders.read(size), np.float32).reshape(run["bp"], len(tracks))
        sums = []
        for track, column in zip(tracks, values.T):
            # pyBigWig takes Python's integers only, and numpy's arrays in one block.
            column = np.ascontiguousarray(column)
            track.addEntries(run["chrom"], run["start"], values=column, span=1, step=1)
            sums.append(zlib.crc32(column.data))
        written.append((run["chrom"], run["start"], run["start"] + len(values), sums))
    for track in tracks:
        track.close()
    faults = (_find_fault(Path(path), number, written) for number, path in enumerate(task["paths"]))
    return next(filter(None, faults), None)


def _find_fault(path: Path, number: int, written: Sequence[tuple[str, int, int, list[int]]]) -> str | None:
    import pyBigWig

    with open(path, "rb") as file:
        file.seek(-len(_END), 2)
        if file.read() != _END:
            return f"{path}: the file is cut off"
    track: Any = pyBigWig.open(str(path))
    for chrom, start, end, sums in written:
        values = np.asarray(track.values(chrom, start, end, numpy=True), dtype=np.float32)
        if zlib.crc32(np.ascontiguousarray(values).data) != sums[number]:
            return f"{path}: {chrom}:{start}-{end} is not what was written"
    track.close()
    return None


def main() -> int:
    """Run the program; returns the exit code."""
    fault = write_bigwig(sys.stdin.buffer)
    print(fault or "")
    return int(fault is not None)


__all__ = ["main", "write_bigwig"]
