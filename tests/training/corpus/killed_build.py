"""Builds a corpus with small parts, and kills itself at a moment: `killed_build.py RECIPE OUT EVENT NUMBER`.

Events are lines of the journal (`write`), shards that are renamed at the end (`rename`), and tables (`table`).
"""

import os
import signal
import sys

import pyarrow as pa

from gengram.training.corpus import letters
from gengram.training.corpus.build import build_corpus
from gengram.training.corpus.journal import Journal

recipe, out, event, number = sys.argv[1:]
letters.ROW_LETTERS, letters.SHARD_LETTERS = 1000, 5000
left = int(number)


def die(name: str) -> None:
    global left
    left -= name == event
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)


def count(owner: object, function: str, name: str, before: bool) -> None:
    call = getattr(owner, function)

    def counted(*arguments, **options):
        if before:
            die(name)
        result = call(*arguments, **options)
        if not before:
            die(name)
        return result

    setattr(owner, function, counted)


count(Journal, "write", "write", before=False)
count(letters, "_write_shard", "shard", before=True)
count(os, "replace", "rename", before=True)
count(pa, "OSFile", "table", before=False)
build_corpus(recipe, out)
