"""How far is it? A bar on a terminal, a line a minute elsewhere, nothing where somebody asked for quiet.

Bars are on standard error: what a command answers is alone on standard output.
"""

import os
import sys
import time
from collections.abc import Callable
from typing import Any

from tqdm.auto import tqdm as _terminal_tqdm
from tqdm.std import tqdm as _tqdm

from gengram.lazy import when_imported
from gengram.printable import make_printable
from gengram.team import is_main

QUIET = "GENGRAM_QUIET"
"""The environment variable that turns bars and notes off, also in processes that a command starts."""

MINUTE = 60.0
"""Seconds between two lines where nobody sees a bar move."""


_said = _barred = time.monotonic()


def last_said() -> float:
    """When a line was written (`time.monotonic`); at first when this module was imported."""
    return _said


def last_bar() -> float:
    """When `track` has last made a bar (`time.monotonic`); at first when this module was imported."""
    return _barred


def has_bar() -> bool:
    """Whether a bar is there that shows how far something is; without a terminal, one that writes lines."""
    try:
        bars = list(getattr(_tqdm, "_instances", ()))
    except RuntimeError:  # another thread makes one just now
        return True
    return any(not getattr(bar, "disable", True) for bar in bars)  # it is among them before it knows


def is_quiet() -> bool:
    """Whether bars and notes are turned off; one of several processes has them for all."""
    return os.environ.get(QUIET, "") not in ("", "0") or not is_main()


def tell(note: str) -> None:
    """Say something that is not the answer, in one line on standard error."""
    global _said
    if not is_quiet():
        _said = _barred = time.monotonic()
        print(make_printable(note), file=sys.stderr, flush=True)


def track(*arguments: Any, **options: Any) -> Any:
    """Return a `tqdm` for these arguments: a bar on a terminal or in a notebook, elsewhere at most a line a minute."""
    if is_quiet():
        return _tqdm(*arguments, **{**options, "disable": True})
    global _barred
    _barred = time.monotonic()
    if is_watched():
        return _terminal_tqdm(*arguments, **options)
    options = {"mininterval": MINUTE, "maxinterval": MINUTE, "delay": MINUTE, "ncols": 80, **options}
    if options.get("total") is not None or any(hasattr(one, "__len__") for one in arguments[:1]):
        options.setdefault("bar_format", "{desc}: {percentage:3.0f}%{r_bar}")
    return _LineTqdm(*arguments, **options)


def is_watched() -> bool:
    """Whether somebody sees a bar move: on a terminal or in a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


class _LineTqdm(_tqdm):
    """Writes lines, one below the other."""

    disable: bool  # set by tqdm

    @staticmethod
    def status_printer(file: Any) -> Callable[[str], None]:
        def print_status(status: str) -> None:
            if status.strip():
                file.write(f"{status.strip()}\n")
                file.flush()

        return print_status

    def close(self) -> None:
        """Write the last line, if there was one before and more is done since; tqdm itself would write an empty one."""
        if not self.disable:
            self.disable = True
            self._decr_instances(self)
            if self.last_print_t >= self.start_t + self.delay and self.last_print_n != self.n:
                self.display()


def quiet_libraries() -> None:
    """Let transformers, datasets and the Hub do as everything here, as soon as each is imported: errors only, and no
    bars without a terminal or where somebody asked for quiet."""
    when_imported("transformers.utils.logging", _quiet_transformers)
    when_imported("datasets.utils.tqdm", _hide_bars)
    when_imported("huggingface_hub.utils.tqdm", _hide_bars)


def _quiet_transformers(logging: Any) -> None:
    logging.set_verbosity_error()
    if is_quiet() or not is_watched():
        logging.disable_progress_bar()


def _hide_bars(tqdm: Any) -> None:
    if is_quiet() or not is_watched():
        tqdm.disable_progress_bars()


__all__ = [
    "MINUTE",
    "QUIET",
    "has_bar",
    "is_quiet",
    "is_watched",
    "last_bar",
    "last_said",
    "quiet_libraries",
    "tell",
    "track",
]
