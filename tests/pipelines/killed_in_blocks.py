"""A run of `gengram embed` or `predict` that ends with kill -9 in the middle of a file; for `runpy.run_path`.

Names that the caller sets: `verb`, `argv`, and `part`, the number of the part that is half written then; None: the
final file.
"""

import os
import signal
from unittest import mock

from pyarrow.parquet import ParquetWriter

from gengram.pipelines import command, parts


def die(*_) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def write_half(stream, _):
    stream.write(b"ARROW1 and no more")
    stream.flush()
    die()


def run(verb: str, argv: list[str], part: int | None) -> None:
    open_part, number = parts.pa.ipc.new_file, -1

    def open_or_die(stream, schema):
        nonlocal number
        number += 1
        return write_half(stream, schema) if number == part else open_part(stream, schema)

    with mock.patch.object(parts.pa.ipc, "new_file", open_or_die):
        if part is None:
            with mock.patch.object(ParquetWriter, "close", die):
                getattr(command, verb)(argv)
        getattr(command, verb)(argv)


run(verb, argv, part)  # noqa: F821
