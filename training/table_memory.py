"""Do the rows of a training fit into memory? Told from the size of their files, before hours are lost."""

from pathlib import Path

import torch

from gengram.errors import InputError
from gengram.genome.formats import COMPRESSED, DELIMITERS, JSON, find_format
from gengram.training.devices import measure_available_memory

HELD = 2.5
"""Bytes that the rows of a text table take for each byte of it, the least that was measured: sequences, ids, labels,
and blocks of text that wait. 2.6 with 1,000 bp and 919 labels, 5.6 with 200 bp and one (`docs/scale.md`)."""

_PACKED = 3
"""Bytes of such text in a byte of a gzip file, the least of tables that were tried."""


def check_table_memory(files: list[str | None]) -> None:
    """Refuse text tables that cannot be held.

    Args:
        files: of all splits, some of which may be missing; other formats than text tables are not looked at.

    Raises:
        `InputError`: they would take more than there is; says how much of both, and what to do.
    """
    needed, largest = 0.0, ("", 0.0)
    for file in filter(None, files):
        if find_format(file) in (*DELIMITERS, *JSON):
            path = Path(file)
            size = path.stat().st_size * HELD * (_PACKED if path.suffix.lower() in COMPRESSED else 1)
            needed, largest = needed + size, max(largest, (file, size), key=lambda one: one[1])
    available = measure_available_memory(torch.device("cpu"))
    if needed > available:
        raise InputError(
            f"{largest[0]}: the rows of a fine-tuning are held in memory, which takes {needed / 1e9:,.1f} GB at least, "
            f"{HELD:g} bytes for each byte of the tables; {available / 1e9:,.1f} GB are free. Take a part of the rows, "
            "fewer label columns, or a machine with more memory"
        )


__all__ = ["HELD", "check_table_memory"]
