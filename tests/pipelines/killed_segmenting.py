"""Runs of `gengram segment` that end with kill -9; for `runpy.run_path`.

Names that the caller sets: `runs`, for each the arguments, the name of a function, and the number of its call at which
the process is killed.
"""

import importlib
import os
import signal
import sys

import torch

from gengram.pipelines import command, segment_genome

torch.set_num_threads(1)
segment_genome._PIECE = 500


def kill_at(name: str, number: int) -> None:
    place, function = name.split(":")
    *owner, function = function.split(".")
    module = importlib.import_module(place)
    for one in owner:
        module = getattr(module, one)
    right, calls = getattr(module, function), 0

    def count(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return right(*args, **kwargs)

    setattr(module, function, count)


for argv, name, number in runs:  # noqa: F821
    if not (child := os.fork()):
        kill_at(name, number)
        os._exit(command.segment(argv))
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
        sys.exit(f"{name}, call {number}: {status}")
