"""When does a run stop before its end? At a time limit or SIGTERM, with a checkpoint, on all processes at once."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import distributed
from transformers import TrainerCallback

HOUR = 3600.0


class RunLimits(TrainerCallback):
    """Has a checkpoint written and the training stopped when the time is over or the process is asked to end.

    Args:
        hours: from now on; None: no limit.

    Attributes:
        reason: why the run stops, for people; None while it goes on.
    """

    def __init__(self, hours: float | None = None):
        self._end = None if hours is None else time.monotonic() + hours * HOUR
        self._hours = hours
        self._signalled = False
        self.reason: str | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take the first SIGTERM as the wish to stop; a second one does what one did before."""
        if threading.current_thread() is not threading.main_thread():
            yield  # Python allows it to the main thread only.
            return

        def note(number: int, frame: Any) -> None:
            self._signalled = True
            signal.signal(signal.SIGTERM, before)

        before = signal.signal(signal.SIGTERM, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def check(self, device: torch.device) -> bool:
        """Whether to stop, the same answer on all processes; they all have to ask."""
        over = self._end is not None and time.monotonic() > self._end
        told = torch.tensor([float(self._signalled), float(over)], device=device)
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(told, op=distributed.ReduceOp.MAX)
        signalled, over = (bool(value) for value in told.tolist())
        if signalled or over:
            self.reason = "SIGTERM" if signalled else f"--max_hours {self._hours:g}"
        return self.reason is not None

    def on_step_end(self, args, state, control, **kwargs):
        """Ask for a checkpoint. What else is due at the step (a line of the log, an evaluation) is done first."""
        if self.check(args.device):
            control.should_save = True

    def on_save(self, args, state, control, **kwargs):
        """Stop now: the state that was saved does not say so, and whoever goes on from it goes on."""
        if self.reason is not None:
            control.should_training_stop = True


__all__ = ["RunLimits"]
