"""A run of `gengram pretrain` that may end with kill -9 at a moment of our choice; for `runpy.run_path`.

Names that the caller sets: `argv`; `moment`, a function's name and the number of the call in which it dies, or None;
`number`, of the signal that it gets then, if that is another one; `rank`, `processes` and `port` if it is one of
several processes. A function that writes a file dies with half of it written.
"""

import os
import signal
import sys
from unittest import mock

import safetensors.torch
import torch
import transformers.modeling_utils

from gengram.training.pretraining import command, pretrain, trainer

FUNCTIONS = {
    "step": (trainer.BlockTrainer, "training_step"),
    "evaluate": (trainer.BlockTrainer, "evaluate"),
    "weights": (transformers.modeling_utils, "safe_save_file"),
    "optimizer": (torch, "save"),
    "finish": (pretrain, "_finish"),
    "move": (pretrain.os, "replace"),
    "report": (pretrain, "write_json"),
}


def write_half(content: bytes, path: str) -> None:
    with open(path, "wb") as file:
        file.write(content[: len(content) // 2])
        file.flush()


def make_deadly(name: str, last_call: int, function):
    calls = 0

    def deadly(*args, **kwargs):
        nonlocal calls
        # Files of the system are renamed all the time: those of the model are meant.
        calls += name != "move" or os.path.basename(os.path.dirname(args[0])) == "model"
        if calls != last_call:
            return function(*args, **kwargs)
        if sent != signal.SIGKILL:
            os.kill(os.getpid(), sent)
            return function(*args, **kwargs)
        if name == "weights":
            write_half(safetensors.torch.save(*args[:1]), args[1])
        elif name == "optimizer":
            write_half(b"PK" * 200, args[1])
        os.kill(os.getpid(), signal.SIGKILL)

    return deadly


def run(argv: list[str], moment: tuple[str, int] | None) -> int:
    if moment is None:
        return command.pretrain(argv)
    name, last_call = moment
    owner, attribute = FUNCTIONS[name]
    with mock.patch.object(owner, attribute, make_deadly(name, last_call, getattr(owner, attribute))):
        return command.pretrain(argv)


sent = globals().get("number", signal.SIGKILL)
os.setsid()  # Its workers are in the group that has its number.
if processes > 1:  # type: ignore[name-defined]  # noqa: F821
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}  # type: ignore[name-defined]  # noqa: F821
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # type: ignore[name-defined]  # noqa: F821
torch.set_num_threads(1)
sys.exit(run(argv, moment))  # type: ignore[name-defined]  # noqa: F821
