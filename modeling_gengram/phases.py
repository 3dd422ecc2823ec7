"""What does a command spend its time on? Its phases: seconds, how much of what, and the peak of memory.

    with phase("Tokenising", unit="rows", total=len(rows)) as one:
        for block in blocks:
            ...
            one.add(len(block))

A phase that is entered again goes on counting. Inside another one it takes its time from that one, so that the phases
add up to the whole. Outside a command (`recording`), in another thread or in a process of its own, nothing is recorded.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from gengram.printable import make_printable
from gengram.progress import MINUTE, has_bar, is_quiet, is_watched, last_bar, last_said, tell, track

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

LONG = 5.0
"""Seconds from which on a phase is worth a line where nobody has seen a bar."""

START, REST = "Start and imports", "Rest"

_WORTH_A_TABLE = 1.0  # seconds of the whole command
_Item = TypeVar("_Item")


class Phase:
    """What is known of a phase.

    Attributes:
        name: e.g. `Tokenising`.
        unit: what is counted, in the plural: `rows`, `bp`; empty where nothing is.
        seconds: by the clock, without phases inside of it.
        cpu_seconds: of all threads, and of processes that it has started and waited for.
        count: how many of `unit`.
        peak_bytes: most memory of the process (resident set) since its start, as known at the end of the phase; None
            where the system does not tell.
    """

    def __init__(self, name: str, unit: str = ""):
        self.name, self.unit = name, unit
        self.seconds = self.cpu_seconds = 0.0
        self.count = 0
        self.peak_bytes: int | None = None
        self._bar: Any = None
        self._announced = False
        self._ended: float | None = None  # when a line at its end was written

    def add(self, count: int = 1) -> None:
        """Count what is done."""
        self.count += count
        if self._bar is not None:
            self._bar.update(count)

    def describe(self) -> dict[str, Any]:
        """Return it as a JSON object; what is not known, or not counted, is null."""
        counted = bool(self.unit)
        return {
            "name": self.name,
            "seconds": round(self.seconds, 3),
            "cpu_seconds": round(self.cpu_seconds, 3),
            "count": self.count if counted else None,
            "unit": self.unit if counted else None,
            "per_second": round(self.count / self.seconds, 1) if counted and self.seconds > 0 else None,
            "peak_bytes": self.peak_bytes,
        }

    def describe_count(self) -> str:
        """Return `1,000 rows, `; empty where nothing is counted."""
        return f"{self.count:,} {self.unit}, " if self.count and self.unit else ""

    def __str__(self) -> str:
        return f"{self.name}: {self.describe_count()}{self.seconds:,.1f} s"


class Recording:
    """The phases of a command, from its first moment on."""

    def __init__(self) -> None:
        self.phases: dict[str, Phase] = {}
        self._start, self._rest = Phase(START), Phase(REST)
        self._open = [self._start]
        self._clock, self._cpu = time.perf_counter(), _read_cpu_seconds()
        self._begun = time.monotonic()
        self._is_left = False
        self._owner = (os.getpid(), threading.get_ident())

    def is_ours(self) -> bool:
        """Whether the caller is the process and thread that is recorded."""
        return self._owner == (os.getpid(), threading.get_ident())

    def enter(self, name: str, unit: str) -> Phase:
        """Begin a phase, or go on with it."""
        self._charge()
        if self._open[0] is self._start:  # What came before the first phase.
            self._start.peak_bytes = read_peak_bytes()
            if self._start.seconds >= LONG:
                tell(str(self._start))
            self._open[0] = self._rest
        one = self.phases.setdefault(name, Phase(name, unit))
        one.unit = one.unit or unit
        self._open.append(one)
        return one

    def leave(self, one: Phase, before: float, begun: float) -> None:
        """End a phase, and write a line if it was long and nobody has seen a bar.

        Args:
            one: from `enter`.
            before: its seconds at that time.
            begun: that time (`time.monotonic`).
        """
        if not self.is_ours():  # a generator that was open when the process was forked
            return
        self._charge()
        one.peak_bytes = read_peak_bytes()
        # The last one of its name; a generator that is left open may end after what is around it.
        place = len(self._open) - 1 - self._open[::-1].index(one)
        del self._open[place]
        now = time.monotonic()
        seen = is_watched() and last_bar() >= begun
        # One that is entered again and again says it once a minute.
        fresh = one._ended is None or now - one._ended >= MINUTE
        if one.seconds - before >= LONG and fresh and not seen:
            one._ended = now
            tell(str(one))

    def list_phases(self) -> list[Phase]:
        """Return the phases in the order of their beginning, between what came before and the rest; they add up to the
        whole. Empty where there was none."""
        self._charge()
        self._rest.peak_bytes = read_peak_bytes()
        return [self._start, *self.phases.values(), self._rest] if self.phases else []

    def tell_of_silence(self) -> None:
        """Say what is being done, if nothing has been said of it for long."""
        one, silent = self._open[-1], time.monotonic() - max(last_said(), self._begun)
        if has_bar() or self._is_left:
            return
        if silent >= MINUTE:
            seconds = one.seconds + time.perf_counter() - self._clock
            tell(f"{one.name}: {one.describe_count()}{seconds:,.0f} s so far")
        elif silent >= LONG and is_watched() and not one._announced:
            one._announced = True
            tell(f"{one.name} ...")

    def leave_to_others(self) -> None:
        """Say nothing more of what is being done: processes that the command has started do."""
        self._is_left = True

    def _charge(self) -> None:
        """Put the time since the last change down to the innermost phase."""
        clock, cpu = time.perf_counter(), _read_cpu_seconds()
        self._open[-1].seconds += clock - self._clock
        self._open[-1].cpu_seconds += cpu - self._cpu
        self._clock, self._cpu = clock, cpu


_recordings: list[Recording] = []


@contextlib.contextmanager
def recording() -> Iterator[Recording]:
    """Record the phases of what is done inside; inside another recording this is that one."""
    if (outer := _find_recording()) is not None:
        yield outer
        return
    one = Recording()
    _recordings.append(one)
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(one, over), name="gengram-phases", daemon=True)
    if not is_quiet():
        watch.start()
    try:
        yield one
    finally:
        over.set()
        _recordings.remove(one)


def leave_to_others() -> None:
    """See `Recording.leave_to_others`; of the command that runs."""
    if (current := _find_recording()) is not None:
        current.leave_to_others()


def _find_recording() -> Recording | None:
    return next((one for one in reversed(_recordings) if one.is_ours()), None)


def _watch(one: Recording, over: threading.Event) -> None:
    while not over.wait(1.0):
        one.tell_of_silence()


@contextlib.contextmanager
def phase(name: str, unit: str = "", total: int | None = None) -> Iterator[Phase]:
    """Record what is done inside as a phase of the command that runs.

    Args:
        name: as it is shown: `Tokenising`.
        unit: what `add` counts, in the plural: `rows`.
        total: how many there are in all, for a phase that is entered once: a bar is shown (`gengram.progress.track`).

    Yields:
        The phase; its `add` counts what is done, and moves the bar.
    """
    current = _find_recording()
    one = Phase(name, unit) if current is None else current.enter(name, unit)
    before, begun = one.seconds, time.monotonic()
    if total is not None:
        soon = {"delay": 1} if is_watched() else {}  # What is short leaves no bar.
        one._bar = track(total=total, desc=name, unit=f" {unit}", unit_scale=total >= 1_000_000, **soon)
    try:
        yield one
    finally:
        if one._bar is not None:
            one._bar.close()
            one._bar = None
        if current is not None:
            current.leave(one, before, begun)


def timed(
    items: Iterable[_Item], name: str, unit: str = "", count: Callable[[_Item], int] | None = None
) -> Iterator[_Item]:
    """Yield items; the time that it takes to make them, and not what is done with them, is a phase.

    Args:
        items: e.g. the blocks of a file that is read.
        name: of the phase.
        unit: what is counted.
        count: how many of them an item holds, e.g. `len`; without it an item counts as one.
    """
    iterator = iter(items)
    while True:
        with phase(name, unit) as one:
            try:
                item = next(iterator)
            except StopIteration:
                return
            one.add(1 if count is None else count(item))
        yield item


def tabulate_phases(phases: Iterable[Phase]) -> str:
    """Return phases as a table, with their sum; empty if there are none, or all took less than a second."""
    phases = list(phases)
    if sum(one.seconds for one in phases) < _WORTH_A_TABLE:
        return ""
    whole = Phase("All")
    for one in phases:
        whole.seconds += one.seconds
        whole.cpu_seconds += one.cpu_seconds
        whole.peak_bytes = max(whole.peak_bytes or 0, one.peak_bytes or 0) or None
    rows = [["phase", "seconds", "CPU s", "count", "a second", "peak memory"]]
    for one in [*phases, whole]:
        told = one.describe()
        rate, peak = told["per_second"], told["peak_bytes"]
        rows.append(
            [
                make_printable(one.name),
                f"{one.seconds:,.1f}",
                f"{one.cpu_seconds:,.1f}",
                f"{one.count:,} {one.unit}" if one.unit else "",
                "" if rate is None else f"{rate:,.0f}" if rate >= 10 else f"{rate:,.2f}",
                "" if peak is None else f"{peak / 1e9:,.2f} GB",
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = []
    for name, *cells in rows:
        lines.append("  ".join([name.ljust(widths[0]), *map(str.rjust, cells, widths[1:])]).rstrip())
    return "\n".join(lines)


def read_peak_bytes() -> int | None:
    """Return the most memory that this process has held (resident set) since its start; None where nothing tells."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, ValueError, IndexError):
            status = Path("/proc/self/status").read_bytes()
            return int(status.split(b"VmHWM:")[1].split(maxsplit=1)[0]) * 1024
    if resource is None:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _read_cpu_seconds() -> float:
    """CPU seconds, user and system, of this process and of those that it has waited for."""
    if resource is None:
        return time.process_time()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


__all__ = [
    "LONG",
    "REST",
    "START",
    "Phase",
    "Recording",
    "leave_to_others",
    "phase",
    "read_peak_bytes",
    "recording",
    "tabulate_phases",
    "timed",
]
