"""How does an examination survive what it examines? In a process of its own, which may crash, hang or be killed.

The process says on standard output, a line of JSON each, which step it begins and what it has found. Where it dies, the
step that it had begun is what fails, and another process goes on behind it.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator, Sequence
from importlib import import_module
from typing import Any, BinaryIO

from gengram.benchmarks.doctor.facts import Fact, Step

_STARTING = 180.0  # seconds: importing PyTorch from a slow file system
# As this process finds modules; and what it does without, its children do without.
_CHILD = """
import sys
sys.path[:] = {path!r}
sys.modules.update(dict.fromkeys({blocked!r}))
from gengram.benchmarks.doctor.apart import answer
answer({parts!r}, {part!r}, {step!r})
"""


def examine_apart(parts: Sequence[str]) -> Iterator[Fact]:
    """
    Yield what the steps of some modules find.

    Args:
        parts: names of modules with a function `list_steps`, which returns a list of `Step`.
    """
    begun: tuple[int, int] | None = (0, -1)
    while begun is not None:
        begun = yield from _examine_from(parts, *begun)


def _examine_from(parts: Sequence[str], part: int, step: int) -> Generator[Fact, None, tuple[int, int] | None]:
    """Yield what is found from a step on; returns where to go on, or None at the end."""
    blocked = [name for name, module in list(sys.modules.items()) if module is None]
    code = _CHILD.format(path=sys.path, blocked=blocked, parts=list(parts), part=part, step=step)
    with _open_nowhere() as said:
        child = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said, start_new_session=True,
        )  # fmt: skip
        try:
            lines: queue.Queue[str | None] = queue.Queue()
            threading.Thread(target=_read, args=(child.stdout, lines), daemon=True).start()
            one = Step("libraries", "Python", lambda: [], _STARTING)
            while True:
                try:
                    line = lines.get(timeout=one.seconds)
                except queue.Empty:
                    _kill(child)
                    yield Fact(one.group, one.name, f"no answer within {one.seconds:.0f} s", "fails", one.remedy)
                    return _next(parts, part, step)
                if line is None:
                    break
                told = json.loads(line)
                if "fact" in told:
                    yield Fact(**told["fact"])
                elif "end" in told:
                    return None
                elif "again" in told:
                    return _next(parts, part, step)
                else:
                    part, step = told["part"], told["step"]
                    one = Step(told["group"], told["name"], one.run, told["seconds"], remedy=told["remedy"])
            ended = _describe_end(child.wait())
            yield Fact(one.group, one.name, f"{ended}: {_read_end(said)}", "fails", one.remedy)
            return _next(parts, part, step)
        finally:
            _kill(child)


def _next(parts: Sequence[str], part: int, step: int) -> tuple[int, int] | None:
    """Behind a step; behind a part, where its steps could not even be listed."""
    if step >= 0:
        return part, step + 1
    return (part + 1, -1) if part + 1 < len(parts) else None


def _describe_end(code: int) -> str:
    if code >= 0:
        return f"the process ended with exit code {code}"
    try:
        return f"the process was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"the process was ended by signal {-code}"


def _open_nowhere() -> BinaryIO:
    """A file for what a process says; where no file can be, what it says is lost."""
    try:
        return tempfile.TemporaryFile()
    except OSError:
        return open(os.devnull, "r+b")


def _read_end(stream: BinaryIO) -> str:
    """The last line of what a process has said."""
    try:
        stream.seek(0)
        lines = stream.read().decode(errors="replace").strip().splitlines()
    except (OSError, ValueError):
        lines = []
    return lines[-1] if lines else "it has said nothing"


def _read(stream: Any, lines: "queue.Queue[str | None]") -> None:
    for line in stream:
        lines.put(line.decode())
    lines.put(None)


def _kill(child: subprocess.Popen) -> None:
    """With what it has started, a compiler for example."""
    if child.poll() is None:
        if hasattr(os, "killpg"):
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()
    child.wait()
    if child.stdout is not None:
        child.stdout.close()


def answer(parts: Sequence[str], part: int, step: int) -> None:
    """Run the steps of modules from a step on, in a process that is there for it (`examine_apart`)."""
    stream = os.dup(1)
    os.dup2(2, 1)  # what libraries print is not the answer
    with os.fdopen(stream, "w", encoding="utf-8") as out:

        def tell(**told: Any) -> None:
            out.write(json.dumps(told) + "\n")
            out.flush()

        def begin(part: int, step: int, one: Step) -> None:
            tell(part=part, step=step, group=one.group, name=one.name, seconds=one.seconds, remedy=one.remedy)

        for number in range(part, len(parts)):
            first = step if number == part else -1
            label = parts[number].rpartition(".")[2]
            listing = Step(label, label, lambda: [], _STARTING)
            begin(number, -1, listing)
            steps, fault = _list_steps(parts[number], listing)
            if fault is not None:
                tell(fact=fault._asdict())
            for index in range(max(first, 0), len(steps)):
                one = steps[index]
                begin(number, index, one)
                facts = _attempt(one)
                for fact in facts:
                    tell(fact=fact._asdict())
                if one.spoils and any(fact.verdict == "fails" for fact in facts):
                    tell(again=True)
                    return
        tell(end=True)


def _list_steps(part: str, listing: Step) -> tuple[list[Step], Fact | None]:
    """Of a part, or why there are none: what it imports is broken."""
    try:
        return import_module(part).list_steps(), None
    except Exception as error:
        return [], _tell_error(listing, error)


def _attempt(one: Step) -> list[Fact]:
    try:
        facts = one.run()
    except Exception as error:  # whatever is wrong with it is what was to be found
        return [_tell_error(one, error)]
    return [facts] if isinstance(facts, Fact) else facts


def _tell_error(one: Step, error: Exception) -> Fact:
    said = f"{type(error).__name__}: {str(error).strip() or 'no message'}"
    return Fact(one.group, one.name, said, "fails", one.remedy)


__all__ = ["answer", "examine_apart"]
