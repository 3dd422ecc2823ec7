"""What is written down while a model is trained: log.jsonl, a line a logging or evaluation, and lines for people."""

import json
import math
import os
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from gengram.progress import MINUTE, tell

LOG = "log.jsonl"
COUNTS_FILE = "counts.json"  # in a checkpoint
_SECONDS_APART = 5  # lines with the loss of the training
_SHOWN = ("loss", "bits_per_base", "learning_rate", "tokens_per_second", "eval_loss", "eval_bits_per_base")
_OF_TRAINER = ("epoch", "total_flos", "train_", "eval_runtime", "eval_steps_per_second", "eval_samples_per_second")


class RunLog(TrainerCallback):
    """Writes log.jsonl and counts what was read; both go on where a checkpoint left them.

    A line has `stage`, `step` (of the stage), `tokens` and `bases` (read so far, all stages), and what Trainer logs:
    `loss` (mean over the steps since the line before), `bits_per_base`, `learning_rate`, `table_learning_rate`,
    `grad_norm`, `tokens_per_second`; or the metrics of an evaluation, their names beginning with `eval_`. Numbers that
    are not finite are null.

    Args:
        path: of the file.
        stage, stages: which stage this is, from 1, of how many.
        is_main: whether this process writes the file.

    Attributes:
        tokens, bases: read so far, all stages.
        shows_lines: whether it tells people how far the training is; where there is a bar, that does.
    """

    def __init__(self, path: Path, stage: int, stages: int, is_main: bool = True):
        self.path, self.stage, self.stages, self._is_main = path, stage, stages, is_main
        self.tokens = self.bases = 0
        self.shows_lines = True
        self._seconds = 0.0  # of earlier processes and stages
        self._told = self._begun = self._rated = time.monotonic()
        self._rated_tokens = 0

    def count(self, tokens: int, bases: int) -> None:
        """Add what a step reads on all processes."""
        self.tokens, self.bases = self.tokens + tokens, self.bases + bases

    def begin(self, checkpoint: Path | None) -> None:
        """Set counts and file to what they were when the checkpoint, or that of the stage before, was written."""
        kept: dict[str, Any] = {"bytes": 0, "tokens": 0, "bases": 0, "seconds": 0.0}
        if checkpoint is not None:
            kept = json.loads((checkpoint / COUNTS_FILE).read_text(encoding="utf-8"))
        self.tokens, self.bases, self._seconds = kept["tokens"], kept["bases"], kept["seconds"]
        self._rated_tokens = self.tokens
        self._begun = self._rated = time.monotonic()
        if self._is_main:
            with open(self.path, "ab") as file:
                file.truncate(min(kept["bytes"], file.tell()))

    def keep(self, checkpoint: Path) -> None:
        """Write down beside a checkpoint what `begin` goes on from."""
        size = self.path.stat().st_size if self.path.exists() else 0
        kept = {"bytes": size, "tokens": self.tokens, "bases": self.bases, "seconds": self.measure_seconds()}
        (checkpoint / COUNTS_FILE).write_text(json.dumps(kept), encoding="utf-8")

    def measure_rate(self) -> float:
        """Return the tokens a second since the last call."""
        now = time.monotonic()
        rate = (self.tokens - self._rated_tokens) / max(now - self._rated, 1e-9)
        self._rated_tokens, self._rated = self.tokens, now
        return rate

    def measure_seconds(self) -> float:
        """Return how long the run trains and evaluates, all stages; what was done twice counts once."""
        return self._seconds + time.monotonic() - self._begun

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Write a line."""
        values = {name: value for name, value in (logs or {}).items() if not name.startswith(_OF_TRAINER)}
        if not values:
            return
        place = {"stage": self.stage, "step": state.global_step, "tokens": self.tokens, "bases": self.bases}
        if self._is_main:
            line = json.dumps({**place, **{name: _to_json(value) for name, value in values.items()}})
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(f"{line}\n")
                file.flush()
                os.fsync(file.fileno())
        if self.shows_lines and (time.monotonic() - self._told > _SECONDS_APART or "loss" not in values):
            self._tell(state, values)

    def on_step_end(self, args, state, control, **kwargs):
        """Say at least once a minute how far the training is."""
        if self.shows_lines and time.monotonic() - self._told > MINUTE:
            self._tell(state, {})

    def _tell(self, state: Any, values: dict[str, Any]) -> None:
        self._told = time.monotonic()
        shown = {name: value for name, value in values.items() if name in _SHOWN and isinstance(value, float | int)}
        numbers = "".join(f", {name} {value:.4g}" for name, value in shown.items())
        stage = f"stage {self.stage} of {self.stages}, " if self.stages > 1 else ""
        tell(f"{stage}step {state.global_step:,} of {state.max_steps:,}{numbers}")


def read_seconds(folder: Path) -> float:
    """Return how long it took to come to a checkpoint or a stage's model, see `RunLog.keep`."""
    return float(json.loads((folder / COUNTS_FILE).read_text(encoding="utf-8"))["seconds"])


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the lines of log.jsonl."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def _to_json(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


__all__ = ["COUNTS_FILE", "LOG", "RunLog", "read_log", "read_seconds"]
