"""How are many rows kept and read? Without copies: some rows at a time, and only the columns that are asked for."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from datasets import Dataset, Features

_ROWS = 10_000
_BYTES = 4 << 20


def make_rows(table: pa.Table, features: "Features | None" = None) -> "Dataset":
    """Return a table as a data set in memory.

    Its fingerprint is drawn: `Dataset` itself would pickle all rows for one, which takes as much memory twice more.
    """
    from datasets import Dataset, DatasetInfo
    from datasets.fingerprint import generate_random_fingerprint

    return Dataset(table, DatasetInfo(features=features), fingerprint=generate_random_fingerprint())


def read_columns(rows: "Dataset", names: list[str]) -> Iterator[pa.Table]:
    """Yield some columns of all rows, in blocks of some megabytes or, where a row has more, of one row.

    Args:
        rows: of any number; those of a split, which are chosen from others, are copied block by block only.
        names: of the columns.
    """
    table = rows.data.table.select(names)
    step = max(1, min(_ROWS, _BYTES // (table.nbytes // max(len(table), 1) + 1)))
    # For rows that are chosen datasets itself makes a piece of each one.
    chosen = None if rows._indices is None else rows._indices.column(0).to_numpy()
    for start in range(0, len(rows), step):
        if chosen is None:
            yield table.slice(start, step)
        else:
            places = chosen[start : start + step].astype(np.int64)
            first = int(places.min())
            yield table.slice(first, int(places.max()) - first + 1).take(pa.array(places - first))


def read_column(rows: "Dataset", name: str) -> pa.ChunkedArray:
    """Return one column of all rows."""
    blocks = [block[name] for block in read_columns(rows, [name])]
    kind = rows.features.arrow_schema.field(name).type
    return pa.chunked_array([chunk for block in blocks for chunk in block.chunks], blocks[0].type if blocks else kind)


def list_texts(rows: "Dataset", name: str = "sequence") -> Iterator[str]:
    """Yield the texts of a column."""
    for block in read_columns(rows, [name]):
        yield from block[name].to_pylist()


def view_letters(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return the bytes of N texts without missing ones, uint8, and where each begins and ends, int64 (N + 1,)."""
    texts = texts.cast(pa.large_string())
    _, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    letters = np.frombuffer(data if data is not None else b"", dtype=np.uint8)
    return letters[bounds[0] : bounds[-1]], bounds - bounds[0]


def count_letters(texts: pa.ChunkedArray) -> np.ndarray:
    """Return how often each byte is in texts, int64 (256,)."""
    counts = np.zeros(256, dtype=np.int64)
    for chunk in texts.chunks:
        letters, _ = view_letters(chunk)
        for start in range(0, len(letters), _BYTES):  # which bincount holds as int64
            counts += np.bincount(letters[start : start + _BYTES], minlength=256)
    return counts


__all__ = ["count_letters", "list_texts", "make_rows", "read_column", "read_columns", "view_letters"]
