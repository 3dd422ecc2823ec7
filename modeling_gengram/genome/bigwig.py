"""How is a bigWig file written? Values in order, one file in a constant amount of memory.

The format is that of Kent et al. 2010 (doi:10.1093/bioinformatics/btq351, supplementary tables 5 to 19): compressed
sections of values, a tree of the contigs' names, a tree that finds the sections of a region, and the same for summaries
of ever longer bins ("zoom levels"), from which a genome browser draws what is too wide for single bases.
"""

import array
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gengram.errors import InputError

_MAGIC, _TREE_MAGIC, _INDEX_MAGIC = 0x888FFC26, 0x78CA8C91, 0x2468ACE0
_VERSION = 4
_STEPS, _INTERVALS = 3, 1  # types of a section: a value for each base, or for each interval
_BASES = 8192  # of a section with a value for each base
_RUNS = 2048  # intervals of a section with these
_SUMMARIES = 1024  # of a block of a zoom level
_BRANCHES = 256  # of a node of a tree
_LARGEST = 24 + 4 * _BASES  # bytes of a block before it is compressed, the largest
_EFFORT = 4  # of zlib: as small as with 6, in two thirds of the time
_LEVELS = 10
_FINEST = 256  # bp of the bins of the first zoom level
_ZOOMED = 4  # bins of a level that are one of the next
_READ = _SUMMARIES * 64
_HUGE = np.finfo(np.float32).max
_LONGEST = (1 << 32) - 1  # bp of a contig: places are numbers of 32 bits

_INTERVAL = np.dtype([("start", "<u4"), ("end", "<u4"), ("value", "<f4")])
# What a zoom level has of a bin: the bases that have a value, and of these the least, the largest, sums.
_SUMMARY = np.dtype(
    [("chrom", "<u4"), ("start", "<u4"), ("end", "<u4"), ("valid", "<u4")]
    + [(name, "<f4") for name in ("min", "max", "sum", "squares")]
)


class BigWigWriter(ExitStack):
    """A file that is written from its first contig to its last; whole when the context ends without an error.

    Args:
        path: of the file; replaced if it is there.
        lengths: of all contigs, in bp; values come in the same order.

    Raises:
        `InputError`: see `check_lengths`; nothing is opened.
    """

    def __init__(self, path: Path, lengths: Mapping[str, int]):
        super().__init__()
        check_lengths(path, lengths)
        self._ids = {chrom: number for number, chrom in enumerate(lengths)}
        longest = max(lengths.values(), default=0)
        self._bins = [size for size in (_FINEST * _ZOOMED**level for level in range(_LEVELS)) if size < longest]
        self._file: BinaryIO = self.enter_context(open(path, "wb"))  # noqa: SIM115
        self._summaries: Any = self.enter_context(_open_scratch(path.parent))
        self._pending = np.empty(0, _SUMMARY)
        self._total = [0, np.inf, -np.inf, 0.0, 0.0]  # bases, least, largest, sum, sum of squares
        self._file.write(bytes(64 + 24 * _LEVELS + 40))
        self._tree_offset = self._file.tell()
        _write_names(self._file, lengths)
        self._data_offset = self._file.tell()
        self._file.write(bytes(8))
        self._sections = array.array("Q")

    def write(self, chrom: str, start: int, values: np.ndarray) -> None:
        """Write values of bases that follow each other, float32 [bp], all of them finite; behind those before."""
        number, bp = self._ids[chrom], len(values)
        changes = np.empty(bp, dtype=bool)
        changes[:1] = True
        np.not_equal(values[1:], values[:-1], out=changes[1:])
        begins = np.arange(0, bp, _BASES)
        sizes = np.diff(np.append(begins, bp))
        # An interval takes three times the bytes of a base.
        are_runs = 3 * np.add.reduceat(changes, begins, dtype=np.int64) < sizes
        cuts = [0, *(begins[1:][are_runs[1:] != are_runs[:-1]]).tolist(), bp]
        for first, end in pairwise(cuts):
            if are_runs[first // _BASES]:
                self._add_runs(number, start + first, values[first:end], changes[first:end])
            else:
                for place in range(first, end, _BASES):
                    some = values[place : min(place + _BASES, end)]
                    self._add_section(number, start + place, start + place + len(some), _STEPS, len(some), some)
        self._summarise(number, start, values)

    def _add_runs(self, chrom: int, start: int, values: np.ndarray, changes: np.ndarray) -> None:
        edges = np.append(0, 1 + np.flatnonzero(changes[1:]))
        items = np.empty(len(edges), dtype=_INTERVAL)
        items["start"], items["value"] = start + edges, values[edges]
        items["end"] = np.append(items["start"][1:], start + len(values))
        for first in range(0, len(items), _RUNS):
            some = items[first : first + _RUNS]
            self._add_section(chrom, int(some["start"][0]), int(some["end"][-1]), _INTERVALS, len(some), some)

    def _add_section(self, chrom: int, start: int, end: int, kind: int, count: int, items: np.ndarray) -> None:
        step = int(kind == _STEPS)
        head = struct.pack("<5IBBH", chrom, start, end, step, step, kind, 0, count)
        block = zlib.compress(head + np.ascontiguousarray(items).tobytes(), _EFFORT)
        self._sections.extend((chrom, start, end, self._file.tell(), len(block)))
        self._file.write(block)

    def _summarise(self, chrom: int, start: int, values: np.ndarray) -> None:
        edges = np.append(0, np.arange((start // _FINEST + 1) * _FINEST - start, len(values), _FINEST))
        exact = values.astype(np.float64)
        found = np.empty(len(edges), dtype=_SUMMARY)
        found["chrom"], found["start"] = chrom, start + edges
        found["end"] = np.append(found["start"][1:], start + len(values))
        found["valid"] = found["end"] - found["start"]
        found["min"], found["max"] = np.minimum.reduceat(values, edges), np.maximum.reduceat(values, edges)
        sums, squares = np.add.reduceat(exact, edges), np.add.reduceat(exact * exact, edges)
        found["sum"], found["squares"] = _narrow(sums), _narrow(squares)
        bases, least, largest, total, total_squares = self._total
        self._total = [
            bases + len(values),
            min(least, float(found["min"].min())),
            max(largest, float(found["max"].max())),
            total + float(sums.sum()),
            total_squares + float(squares.sum()),
        ]
        if self._bins:
            merged = _merge(np.concatenate([self._pending, found]), _FINEST)
            self._summaries.write(merged[:-1].tobytes())
            self._pending = merged[-1:]

    def __exit__(self, kind, *details):
        with ExitStack() as closing:
            closing.push(super().__exit__)
            if kind is None:
                self._finish()
        return None

    def _finish(self) -> None:
        """Write what finds the values, the zoom levels, and the head with all the places."""
        file = self._file
        index_offset = file.tell()
        _write_index(file, np.frombuffer(self._sections, dtype=np.uint64).reshape(-1, 5))
        self._summaries.write(self._pending.tobytes())
        heads, source = [], self._summaries
        for level, size in enumerate(self._bins):
            coarser = None
            if level + 1 < len(self._bins):
                coarser = self.enter_context(_open_scratch(Path(file.name).parent))
            offset = file.tell()
            blocks = _write_summaries(file, source, coarser, size * _ZOOMED)
            heads.append(struct.pack("<2I2Q", size, 0, offset, file.tell()))
            _write_index(file, blocks)
            source.close()
            source = coarser
        file.write(struct.pack("<I", _MAGIC))
        bases, least, largest, total, squares = self._total
        head = struct.pack(
            "<I2H3Q2H2QIQ",
            *(_MAGIC, _VERSION, len(heads), self._tree_offset, self._data_offset, index_offset),
            *(0, 0, 0, 64 + 24 * _LEVELS, _LARGEST, 0),
        )
        file.seek(0)
        file.write((head + b"".join(heads)).ljust(64 + 24 * _LEVELS, b"\0"))
        file.write(struct.pack("<Q4d", bases, *((least, largest) if bases else (0.0, 0.0)), total, squares))
        file.seek(self._data_offset)
        file.write(struct.pack("<Q", len(self._sections) // 5))
        file.seek(0, os.SEEK_END)


def check_lengths(path: Path, lengths: Mapping[str, int]) -> None:
    """Refuse contigs that a bigWig file cannot hold.

    Args:
        path: of the file that is to be written.
        lengths: of all contigs, in bp.

    Raises:
        `InputError`: a contig of more bases than its numbers count.
    """
    if long := [chrom for chrom, length in lengths.items() if length > _LONGEST]:
        raise InputError(
            f"{path}: {long[0]} has {lengths[long[0]]:,} bp, but a bigWig file counts to {_LONGEST:,}: write bedGraph"
        )


def _open_scratch(folder: Path) -> Any:
    """Open a file without a name: nothing is left of it after a kill."""
    return tempfile.TemporaryFile(dir=folder)


def _merge(found: np.ndarray, size: int) -> np.ndarray:
    """Return one summary for all neighbours that are in one bin of a contig."""
    bins = found["start"] // size
    edges = np.append(0, 1 + np.flatnonzero((np.diff(bins) != 0) | (np.diff(found["chrom"]) != 0)))
    merged = found[edges]
    merged["end"] = found["end"][np.append(edges[1:], len(found)) - 1]
    merged["min"], merged["max"] = np.minimum.reduceat(found["min"], edges), np.maximum.reduceat(found["max"], edges)
    merged["valid"] = np.add.reduceat(found["valid"], edges, dtype=np.int64)
    for name in ("sum", "squares"):
        merged[name] = _narrow(np.add.reduceat(found[name], edges, dtype=np.float64))
    return merged


def _narrow(sums: np.ndarray) -> np.ndarray:
    """Return float64 as float32; what is too large for it is the largest."""
    return np.clip(sums, -_HUGE, _HUGE).astype(np.float32)


def _write_summaries(file: BinaryIO, source: Any, coarser: Any, size: int) -> np.ndarray:
    """Write a zoom level from a file of its summaries, and those of the next one to a file, its bins of this size.

    Returns:
        int64 [blocks, 5]: see `_write_index`.
    """
    blocks = array.array("Q")
    pending = np.empty(0, _SUMMARY)
    source.seek(0, os.SEEK_END)
    file.write(struct.pack("<I", source.tell() // _SUMMARY.itemsize))
    source.seek(0)
    while data := source.read(_READ * _SUMMARY.itemsize):
        found = np.frombuffer(data, dtype=_SUMMARY)
        # A block is of one contig.
        for some in _cut(found):
            block = zlib.compress(some.tobytes(), _EFFORT)
            places = int(some["chrom"][0]), int(some["start"][0]), int(some["end"][-1])
            blocks.extend((*places, file.tell(), len(block)))
            file.write(block)
        if coarser is not None:
            merged = _merge(np.concatenate([pending, found]), size)
            coarser.write(merged[:-1].tobytes())
            pending = merged[-1:]
    if coarser is not None:
        coarser.write(pending.tobytes())
    return np.frombuffer(blocks, dtype=np.uint64).reshape(-1, 5)


def _cut(found: np.ndarray) -> Iterator[np.ndarray]:
    for part in np.split(found, 1 + np.flatnonzero(np.diff(found["chrom"]))):
        for first in range(0, len(part), _SUMMARIES):
            yield part[first : first + _SUMMARIES]


def _write_names(file: BinaryIO, lengths: Mapping[str, int]) -> None:
    """Write the tree that finds number and length of a contig by its name."""
    names = [chrom.encode() for chrom in lengths]
    width = max(map(len, names), default=1)
    order = sorted(range(len(names)), key=names.__getitem__)
    sizes = list(lengths.values())
    leaves = [names[one].ljust(width, b"\0") + struct.pack("<2I", one, sizes[one]) for one in order]
    branches = max(2, min(_BRANCHES, len(leaves)))
    file.write(struct.pack("<4I2Q", _TREE_MAGIC, branches, width, 8, len(leaves), 0))
    _write_tree(file, leaves, branches, lambda children, offset: children[0][:width] + struct.pack("<Q", offset))


def _write_index(file: BinaryIO, blocks: np.ndarray) -> None:
    """Write the tree that finds blocks by their bases.

    Args:
        file: the file, at its end.
        blocks: integers [blocks, 5]: contig, first base, end, place in the file, bytes.
    """
    first = blocks[0, :2].tolist() if len(blocks) else [0, 0]
    last = blocks[-1, [0, 2]].tolist() if len(blocks) else [0, 0]
    head = (_INDEX_MAGIC, _BRANCHES, len(blocks), *first, *last, file.tell(), 1, 0)
    file.write(struct.pack("<2IQ4IQ2I", *head))
    leaves = [
        struct.pack("<4I2Q", chrom, start, chrom, end, place, size)
        for chrom, start, end, place, size in blocks.tolist()
    ]

    def join(children: Sequence[bytes], offset: int) -> bytes:
        return children[0][:8] + children[-1][8:16] + struct.pack("<Q", offset)

    _write_tree(file, leaves, _BRANCHES, join)


def _write_tree(file: BinaryIO, leaves: list[bytes], branches: int, join: Any) -> None:
    """Write sorted items as a tree, its root first; `join` makes of the items of a node, and its place, one of the node
    above."""
    levels = [leaves]
    while len(levels[-1]) > branches:
        items = levels[-1]
        levels.append([join(items[first : first + branches], 0) for first in range(0, len(items), branches)])
    offset = file.tell()
    for level in range(len(levels) - 1, -1, -1):
        items = levels[level]
        nodes = range(0, max(1, len(items)), branches)
        size = 4 + branches * len((items or [b""])[0])
        below = offset + size * len(nodes)
        if level:
            width = 4 + branches * len(levels[level - 1][0])
            items = [item[:-8] + struct.pack("<Q", below + width * number) for number, item in enumerate(items)]
        for first in nodes:
            some = items[first : first + branches]
            file.write((struct.pack("<2BH", int(not level), 0, len(some)) + b"".join(some)).ljust(size, b"\0"))
        offset = below


__all__ = ["BigWigWriter", "check_lengths"]
