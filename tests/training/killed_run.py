"""A run of `gengram finetune` that ends with kill -9 at a moment of our choice; for `runpy.run_path`.

Names that the caller sets: `argv`, and `moment`, a function's name and the number of the call in which it dies; `rank`
and `port` if it is one of two processes. A function that writes a file dies with half of it written.
"""

import io
import os
import signal
from unittest import mock

import safetensors.torch
import torch
import transformers.modeling_utils

from gengram.training import command, finetune, train_seed

FUNCTIONS = {
    "step": (train_seed.StepTrainer, "training_step"),
    "evaluate": (train_seed.StepTrainer, "evaluate"),
    "weights": (transformers.modeling_utils, "safe_save_file"),
    "torch.save": (torch, "save"),
    "scores": (train_seed, "write_scores"),
    "report": (finetune, "write_json"),
}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def write_half(content: bytes, path: str) -> None:
    with open(path, "wb") as file:
        file.write(content[: len(content) // 2])
        file.flush()


def make_deadly(name: str, last_call: int, function):
    calls = 0

    def deadly(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls < last_call:
            return function(*args, **kwargs)
        if name == "weights":
            write_half(safetensors.torch.save(*args[:1]), args[1])
        elif name == "torch.save":
            buffer = io.BytesIO()
            function(args[0], buffer)
            write_half(buffer.getvalue(), args[1])
        die()

    return deadly


def run(argv: list[str], moment: tuple[str, int]) -> None:
    name, last_call = moment
    owner, attribute = FUNCTIONS[name]
    with mock.patch.object(owner, attribute, make_deadly(name, last_call, getattr(owner, attribute))):
        command.finetune(argv)


if "rank" in globals():
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}  # noqa: F821
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # noqa: F821
run(argv, moment)  # noqa: F821
