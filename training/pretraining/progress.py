"""How far has an unfinished run come, and what of an earlier one is replaced?"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from gengram.errors import InputError
from gengram.files import check_free, check_output_folder
from gengram.training.checkpoints import find_checkpoint, is_trained
from gengram.training.pretraining.logs import LOG
from gengram.training.resume import UNFINISHED

REPORT, MARKDOWN = "pretraining.json", "pretraining.md"
MODEL = "model"
"""Folder of a stage with its model."""

_MODEL_FILES = ("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer*.json")
_OTHERS = ("special_tokens_map.json", "vocab.*", "*.py")
_PICTURES = ("curves.png", "references.json")
"""And the lines that are drawn in them."""


def name_stage(output: Path, number: int) -> Path:
    """Return the folder of a stage, counted from 1."""
    return output / f"stage-{number}"


def check_output(output: Path, *, overwrite: bool, resume: bool) -> None:
    """Refuse a folder that cannot be written, or in which something is that nobody has asked to replace.

    Raises:
        `InputError`: with what is there, and what to do.
    """
    check_output_folder(output)
    if overwrite or resume:
        return
    if (output / REPORT).exists():
        raise InputError(
            f"output_dir={str(output)!r} already holds a pre-trained model: choose another folder, or --overwrite it"
        )
    if (come := describe_unfinished(output)) is not None:
        raise InputError(
            f"output_dir={str(output)!r} holds a run that did not come to its end ({come}). Go on with it: the same "
            "command with --resume_from_checkpoint; or start anew with --overwrite."
        )
    check_free(output, [*_MODEL_FILES, "stage-*", LOG, MARKDOWN])


def describe_unfinished(output: Path) -> str | None:
    """Return how far an unfinished run has come; None if there is none in this folder."""
    if not (output / UNFINISHED).is_file():
        return None
    come = []
    for folder in list_stages(output):
        if is_trained(folder / MODEL):
            come.append(f"{folder.name} is trained")
        elif checkpoint := find_checkpoint(folder):
            come.append(f"{folder.name} has come to step {checkpoint.name.split('-')[-1]}")
    return ", ".join(come) or "no checkpoint is written yet, it may be running now"


def list_stages(output: Path) -> Sequence[Path]:
    """Return the folders of stages that are there, in order."""
    folders = [path for path in output.glob("stage-*") if path.name[6:].isdigit() and path.is_dir()]
    return sorted(folders, key=lambda path: int(path.name[6:]))


def clear_run(output: Path) -> None:
    """Remove the model, the stages and the log of an earlier run, finished or not; other files stay."""
    if not ((output / REPORT).is_file() or (output / UNFINISHED).is_file()):
        return
    (output / REPORT).unlink(missing_ok=True)
    for folder in list_stages(output):
        shutil.rmtree(folder)
    for pattern in (*_MODEL_FILES, *_OTHERS, *_PICTURES, LOG, MARKDOWN):
        for path in output.glob(pattern):
            path.unlink()
    (output / UNFINISHED).unlink(missing_ok=True)


def clear_if_nothing(output: Path) -> None:
    """Remove what a run has left that has neither a checkpoint nor a model to go on from."""
    stages = list_stages(output)
    if any(is_trained(folder / MODEL) or find_checkpoint(folder) for folder in stages):
        return
    for folder in stages:
        shutil.rmtree(folder, ignore_errors=True)
    for name in (LOG, UNFINISHED):
        (output / name).unlink(missing_ok=True)
    if output.is_dir() and not any(output.iterdir()):
        output.rmdir()


__all__ = [
    "MARKDOWN",
    "MODEL",
    "REPORT",
    "check_output",
    "clear_if_nothing",
    "clear_run",
    "describe_unfinished",
    "list_stages",
    "name_stage",
]
