"""Which checkpoint can a killed run go on from? A checkpoint counts only when everything in it was written.

Trainer writes a checkpoint file by file under its final name. `CheckpointSeal` notes the names and sizes of all files
when the last one is written; a checkpoint without that note, or that does not fit it, is one that was cut off.
"""

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import nn
from transformers import TrainerCallback, TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, sort_checkpoints

from gengram.errors import InputError
from gengram.files import sync, write_text
from gengram.loading.models import check_finite

_SEAL = "complete.json"
TRAINED = "trained.json"
_STATE = "trainer_state.json"


class CheckpointSeal(TrainerCallback):
    """Seals each checkpoint when all processes have written their part.

    A checkpoint at the last step of an epoch is put off until the epoch's validation is done: a run that goes on from
    it begins with the next epoch. `training_args.bin`, a pickle that nothing reads, is removed. With `save_only_model`
    no checkpoint is sealed: without the optimizer, no run goes on from it as if it had never stopped.
    """

    def __init__(self):
        self._puts_off = False

    def on_step_end(self, args, state, control, **kwargs):
        """Put a checkpoint off to the end of the epoch."""
        if control.should_save and state.epoch == math.floor(state.epoch):
            control.should_save, self._puts_off = False, True

    def on_epoch_end(self, args, state, control, **kwargs):
        """Save what was put off."""
        control.should_save, self._puts_off = control.should_save or self._puts_off, False

    def on_save(self, args, state, control, **kwargs):
        """Seal the checkpoint that was written, if it has the optimizer.

        Raises:
            `InputError`: a weight is not finite; a run does not go on from such a checkpoint, nor call it the best.
        """
        check_finite(kwargs["model"], f"step {state.global_step}")
        args.distributed_state.wait_for_everyone()
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
            (folder / "training_args.bin").unlink(missing_ok=True)
            if not args.save_only_model:
                _seal(folder)


def find_checkpoint(folder: Path) -> Path | None:
    """Return the last checkpoint from which a run goes on as if it had never stopped; None if there is none.

    It is complete, and so is the best one so far that it refers to.
    """
    for path in reversed(sort_checkpoints(str(folder))):
        checkpoint = Path(path)
        if not _is_complete(checkpoint):
            continue
        best = _read_state(checkpoint).best_model_checkpoint
        if best is None or _is_complete(folder / Path(best).name):
            return checkpoint
    return None


def check_names(checkpoint: Path, model: nn.Module) -> None:
    """Refuse a checkpoint in whose time the model had its weights in another order, as other names of them tell.

    The weights themselves are read by their names; the state of the optimizer counts them.

    Raises:
        `InputError`: the checkpoint is of an earlier version.
    """
    patterns = getattr(model, "_checkpoint_conversion_mapping", {})
    for file in sorted(checkpoint.glob("*.safetensors")):
        with safe_open(file, "pt") as weights:
            names = weights.keys()
        if old := next((name for name in names if any(re.search(pattern, name) for pattern in patterns)), None):
            raise InputError(
                f"{file}: a checkpoint of an earlier version ({old}), whose optimizer has the weights in another "
                "order. Go on with that version, or start anew with --overwrite."
            )


def mark_trained(folder: Path) -> None:
    """Note the model in the folder of a seed as whole: what is left to do is to measure it."""
    write_text(json.dumps(_list_files(folder)), folder / TRAINED)


def is_trained(folder: Path) -> bool:
    """Whether `mark_trained` was called, and all that was there then still is."""
    mark = folder / TRAINED
    if not mark.is_file():
        return False
    return json.loads(mark.read_text(encoding="utf-8")).items() <= _list_files(folder).items()


def forget_trained(folder: Path) -> None:
    """Remove the note of `mark_trained`."""
    (folder / TRAINED).unlink(missing_ok=True)


def clear_unusable(folder: Path) -> None:
    """Remove files and checkpoints of a seed that was not finished, but `find_checkpoint`'s answer and those before.

    Where the folder was moved since, the path of the best checkpoint in Trainer's state is mended. The model of a seed
    that is trained and not measured stays.
    """
    if is_trained(folder):
        return
    checkpoint = find_checkpoint(folder)
    kept: list[Path] = []
    if checkpoint is not None:
        complete = [Path(path) for path in sort_checkpoints(str(folder)) if _is_complete(Path(path))]
        kept = complete[: complete.index(checkpoint) + 1]
        state = _read_state(checkpoint)
        if state.best_model_checkpoint is not None:
            best = folder / Path(state.best_model_checkpoint).name
            if str(best) != state.best_model_checkpoint:
                (checkpoint / _SEAL).unlink()
                state.best_model_checkpoint = str(best)
                state.save_to_json(str(checkpoint / _STATE))
                _seal(checkpoint)
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name.startswith(f"{PREFIX_CHECKPOINT_DIR}-") and path not in kept:
            shutil.rmtree(path)
        elif path.is_file():
            path.unlink()


def skip_rest(checkpoint: Path, arguments: Any) -> None:
    """Change the arguments so that Trainer, which forgets it, does not train on after an early stop."""
    state = _read_state(checkpoint)
    callbacks: Any = state.stateful_callbacks  # By name, as it was saved.
    if callbacks["TrainerControl"]["args"]["should_training_stop"]:
        arguments.num_train_epochs, arguments.max_steps = math.floor(state.epoch), -1


def _seal(folder: Path) -> None:
    sync(folder)  # What is sealed is on the disk, also where the disk is full and nobody has said so yet.
    write_text(json.dumps(_list_sizes(folder)), folder / _SEAL)


def _is_complete(folder: Path) -> bool:
    seal = folder / _SEAL
    return seal.is_file() and json.loads(seal.read_text(encoding="utf-8")) == _list_sizes(folder)


def _list_sizes(folder: Path) -> dict[str, int]:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(_SEAL))
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def _list_files(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file() and path.name != TRAINED}


def _read_state(folder: Path) -> TrainerState:
    return TrainerState.load_from_json(str(folder / _STATE))


__all__ = [
    "TRAINED",
    "CheckpointSeal",
    "check_names",
    "clear_unusable",
    "find_checkpoint",
    "forget_trained",
    "is_trained",
    "mark_trained",
    "skip_rest",
]
