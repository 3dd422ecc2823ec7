"""Where is a stream of rows cut into the blocks that are computed and saved one by one? The rows alone decide it."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc


def take_blocks(tables: Iterator[pa.Table], rows: int, bases: int) -> Iterator[pa.Table]:
    """Cut a stream of rows into blocks that fit into memory with what is computed of them.

    Args:
        tables: of `stream_rows`, with `sequence`.
        rows: most rows of a block.
        bases: most bases of a block; a longer sequence is a block of its own.
    """
    waiting: list[pa.Table] = []
    count = size = 0
    for table in tables:
        start = 0
        for row, length in enumerate(pc.utf8_length(table["sequence"]).to_pylist()):
            if count and (count == rows or size + length > bases):
                yield pa.concat_tables([*waiting, table.slice(start, row - start)], promote_options="permissive")
                waiting, start, count, size = [], row, 0, 0
            count, size = count + 1, size + length
        waiting.append(table.slice(start))
    if count:
        yield pa.concat_tables(waiting, promote_options="permissive")


__all__ = ["take_blocks"]
