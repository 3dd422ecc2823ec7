"""Letters of FASTA files -> Arrow files of rows `contig`, `start`, `letters`, as `datasets` writes them."""

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import DatasetInfo, Features, List, Value
from datasets.arrow_writer import ArrowWriter

from gengram.errors import InputError
from gengram.files import hash_file, open_whole, write_json
from gengram.genome.alphabet import AMBIGUITY_CODES, ANY_BASE, BASES
from gengram.genome.fasta import stream_fasta
from gengram.training.corpus.journal import Journal
from gengram.training.corpus.sources import LEFT_OUT, Record, Source

FEATURES = Features(contig=Value("int32"), start=Value("int64"), letters=List(Value("uint8")))
DATASET_FILES = ("dataset_info.json", "state.json")
"""What `write_dataset` writes."""
ROW_LETTERS = 1 << 20
"""Letters of a row at most."""
SHARD_ROWS, SHARD_LETTERS = 1 << 14, 1 << 26
"""Rows and letters of a file at most, about."""

_BATCH_ROWS = 64  # written together: rows that continue each other lie side by side
_N = ord("N")


def _map_letters() -> np.ndarray:
    """What is stored for each byte: DNA with its case, T for U, N for what is no DNA."""
    stored = np.full(256, _N, dtype=np.uint8)
    stored[ord("a") : ord("z") + 1] = ord("n")
    for letter in (BASES + ANY_BASE + AMBIGUITY_CODES).encode():
        stored[letter] = letter
        stored[letter + 32] = letter + 32
    stored[ord("U")], stored[ord("u")] = ord("T"), ord("t")
    return stored


_STORED = _map_letters()


def store_file(
    source: Source,
    number: int,
    records: Sequence[tuple[int, Record]],
    folder: Path,
    journal: Journal,
    done: Callable[[int], Any],
) -> dict[str, Any]:
    """Write the letters of a FASTA file; what an earlier run has finished stays as it is.

    Args:
        source: the file.
        number: of the file among the sources.
        records: its records, in order, each with its number `contig`.
        folder: for the parts; the letters that are left out go to a file of their own there, which is only for
            comparisons while the corpus is built.
        journal: remembers finished parts.
        done: is told how many letters were read.

    Returns:
        `shards`: list of `file`, `rows`, `bytes`, `sha256`; `sha256`: of the letters of each record, as stored.
    """
    state = list(source.state)
    finished = journal.find("file", file=number, state=state)
    if finished and all(_is_whole(folder, shard) for shard in finished["shards"]) and _left(folder, number).is_file():
        done(sum(record.length for _, record in records))
        return finished
    shards: list[dict[str, Any]] = []
    digests: list[str] = []
    with open_whole(_left(folder, number)) as left:
        rows = _list_rows(source, records, left.write, digests, done)
        for rows_of_shard in _group(rows):
            name = f"{number:05d}-{len(shards):05d}.arrow"
            known = journal.find("shard", file=name, state=state)
            if known is None or not _is_whole(folder, known):
                known = {"file": name, "state": state, **_write_shard(folder / name, rows_of_shard)}
                journal.write("shard", known)
            shards.append({key: known[key] for key in ("file", "rows", "bytes", "sha256")})
    entry = {"file": number, "state": state, "shards": shards, "sha256": digests}
    journal.write("file", entry)
    return entry


def read_left_out(folder: Path, number: int) -> np.ndarray:
    """Return the letters of a source that were left out, one behind the other; uint8."""
    path = _left(folder, number)
    return np.memmap(path, dtype=np.uint8, mode="r") if path.stat().st_size else np.empty(0, dtype=np.uint8)


def write_dataset(folder: Path, shards: Sequence[str], digest: str) -> None:
    """Write what makes Arrow files a data set that `datasets.load_from_disk` opens.

    Args:
        folder: of the files.
        shards: their names.
        digest: of all of them.
    """
    DatasetInfo(features=FEATURES).write_to_directory(str(folder))
    state: dict[str, Any] = {
        "_data_files": [{"filename": name} for name in shards],
        "_fingerprint": digest[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    write_json(state, folder / DATASET_FILES[1])


class PartLetters:
    """The letters of finished parts, memory-mapped."""

    def __init__(self, parts: Sequence[Path]):
        self._rows: dict[int, list[np.ndarray]] = {}
        for path in parts:
            for batch in pa.ipc.open_stream(pa.memory_map(str(path))):
                bounds, letters = batch["letters"].offsets.to_numpy(), batch["letters"].values.to_numpy()
                contigs = batch["contig"].to_numpy()
                edges = np.concatenate([[0], np.flatnonzero(np.diff(contigs)) + 1, [len(contigs)]])
                for first, after in itertools.pairwise(edges.tolist()):
                    self._rows.setdefault(int(contigs[first]), []).append(letters[bounds[first] : bounds[after]])

    def read(self, contig: int) -> np.ndarray:
        """Return all letters of a record; uint8, a view where they lie together."""
        rows = self._rows[contig]
        return rows[0] if len(rows) == 1 else np.concatenate(rows)


def _left(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.left_out"


def _is_whole(folder: Path, shard: dict[str, Any]) -> bool:
    path = folder / shard["file"]
    return path.is_file() and path.stat().st_size == shard["bytes"] and hash_file(path) == shard["sha256"]


_Row = tuple[int, int, np.ndarray]


def _list_rows(
    source: Source,
    records: Sequence[tuple[int, Record]],
    leave: Callable[[bytes], Any],
    digests: list[str],
    done: Callable[[int], Any],
) -> Iterator[_Row]:
    """Yield the rows of a file; the last letters of a record are a row, however few."""
    ahead = iter(records)
    contig, record = -1, None
    start, waiting, length = 0, list[np.ndarray](), 0
    digest = hashlib.sha256()

    def flush(size: int) -> Iterator[_Row]:
        nonlocal start, waiting, length
        letters = np.concatenate(waiting)
        while len(letters) >= size:
            yield contig, start, letters[:size]
            start, letters = start + size, letters[size:]
        waiting, length = [letters] if len(letters) else [], len(letters)

    for _, header, position, text in stream_fasta(source.path):
        if not position:
            if waiting:
                yield from flush(length)
            if record is not None:
                digests.append(digest.hexdigest())
            contig, record = next(ahead, (-1, None))
            start, waiting, length, digest = 0, [], 0, hashlib.sha256()
        if record is None or position + len(text) > record.length or header.split()[0] != record.name:
            raise InputError(f"{source.path}: the file was changed while the corpus was built; build it again")
        letters = _STORED[np.frombuffer(text.encode("ascii", "replace"), dtype=np.uint8)]
        letters = _leave_out(record, position, letters, leave)
        digest.update(letters.data)
        done(len(letters))
        if record.split != LEFT_OUT:
            waiting.append(letters)
            length += len(letters)
            if length >= ROW_LETTERS:
                yield from flush(ROW_LETTERS)
    if waiting:
        yield from flush(length)
    digests.append(digest.hexdigest())


def _leave_out(record: Record, position: int, letters: np.ndarray, leave: Callable[[bytes], Any]) -> np.ndarray:
    """Take out the letters of a piece that are left out: N stands in their place."""
    for span in record.spans:
        start, end = max(span.start - position, 0), min(span.end - position, len(letters))
        if span.split == LEFT_OUT and start < end:
            leave(letters[start:end].tobytes())
            letters[start:end] = _N
    return letters


def _group(rows: Iterator[_Row]) -> Iterator[list[_Row]]:
    """Rows of one shard each."""
    shard: list[_Row] = []
    size = 0
    for row in rows:
        shard.append(row)
        size += len(row[2])
        if len(shard) == SHARD_ROWS or size >= SHARD_LETTERS:
            yield shard
            shard, size = [], 0
    if shard:
        yield shard


def _write_shard(path: Path, rows: list[_Row]) -> dict[str, Any]:
    with open_whole(path) as stream, ArrowWriter(stream=stream, features=FEATURES) as writer:
        for first in range(0, len(rows), _BATCH_ROWS):
            batch = rows[first : first + _BATCH_ROWS]
            bounds = np.cumsum([0, *(len(letters) for *_, letters in batch)], dtype=np.int64)
            columns = {
                "contig": pa.array([contig for contig, *_ in batch], pa.int32()),
                "start": pa.array([start for _, start, _ in batch], pa.int64()),
                "letters": pa.ListArray.from_arrays(
                    pa.array(bounds, pa.int32()), pa.array(np.concatenate([letters for *_, letters in batch]))
                ),
            }
            writer.write_table(pa.table(columns))
        writer.finalize(close_stream=False)
    return {"rows": len(rows), "bytes": path.stat().st_size, "sha256": hash_file(path)}


__all__ = [
    "DATASET_FILES",
    "FEATURES",
    "ROW_LETTERS",
    "SHARD_LETTERS",
    "SHARD_ROWS",
    "PartLetters",
    "read_left_out",
    "store_file",
    "write_dataset",
]
