"""How long are the windows that a model reads of a longer sequence, if nobody says so?"""

from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from gengram.errors import InputError
from gengram.loading.checkpoints import find_checkpoint

_LONGEST = 30_000


def choose_window(
    model_path: str | Path, tokenizer: PreTrainedTokenizerBase, window: int | None = None, limit: int | None = None
) -> int:
    """Return the length of windows in bp.

    By default it is that of the longest sequence that the model was trained with, as the run's report has it: what is
    longer the model has never seen, and what is shorter has less context. Where this is not known, as many bases as fit
    whatever they are, at most 30 kb.

    Args:
        model_path: folder or Hub id of the model.
        tokenizer: of the model; its `model_max_length` is what the model takes.
        window: what the user asks for.
        limit: tokens that the user allows, special ones included.

    Raises:
        `InputError`: a window without bases; more tokens than the model takes; a limit that special tokens fill.
    """
    limit = limit or tokenizer.model_max_length
    if limit > tokenizer.model_max_length:
        raise InputError(
            f"max_length={limit} tokens is longer than the model, which takes {tokenizer.model_max_length} tokens"
        )
    room = limit - tokenizer.num_special_tokens_to_add()  # no token is shorter than a base
    if room < 1:
        raise InputError(f"max_length={limit} tokens leaves no room for bases beside the special tokens")
    if window is not None:
        if window < 1:
            raise InputError(f"--window {window}: give at least 1 bp")
        return window
    train = _read_training(model_path)
    if "longest" in train:
        longest = int(train["longest"])
        # Of what was cut, the model has seen less.
        return max(1, min(longest, room) if train.get("truncated_rows_in_file") else longest)
    return min(room, _LONGEST)


def _read_training(model_path: str | Path) -> dict[str, Any]:
    """What the report of the run says about its training rows; empty where there is none."""
    if not Path(model_path).is_dir():
        return {}
    report = find_checkpoint(model_path).report or {}
    return (report.get("data") or {}).get("train") or {}


__all__ = ["choose_window"]
