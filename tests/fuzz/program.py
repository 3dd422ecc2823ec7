"""`make fuzz`: every reader on thousands of changed copies of sound files.

    python tests/fuzz/program.py [READER ...] [--inputs 10000] [--first 0] [--corpus FOLDER]

The right answers are an answer and an `InputError`. Everything else is a crash: another exception, a signal, a wait of
more than `SECONDS`, more memory than `MOST_MEMORY`. A copy is made of the reader's name, a number and the sound files,
and of nothing else: `--first NUMBER --inputs 1` makes it again, `--keep` keeps it.
"""

import argparse
import logging
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from functions import READERS, Reader
from mutations import mutate

SECONDS = 20
MOST_MEMORY = 8 << 30
MOST_BYTES = 256 << 10  # of a file of the corpus
_STUCK = 4 * SECONDS  # in compiled code, where no alarm is heard


class Crash(NamedTuple):
    """An input that was neither read nor refused: its number, and what came instead."""

    number: int
    said: str


class Tally(NamedTuple):
    """What came of a reader's inputs."""

    inputs: int
    accepted: int
    refused: int
    crashes: list[Crash]
    seconds: float


class TooLong(BaseException):
    """The alarm: not an `Exception`, so that no reader takes it for a fault of the file."""


def prepare(reader: Reader, sound: Path, folder: Path) -> Path:
    """Copy what a reader needs into a folder; returns the file that is changed."""
    for item in (reader.item, *reader.others):
        source = sound / item
        shutil.copytree(source, folder / item) if source.is_dir() else shutil.copy(source, folder / item)
    return folder / reader.item / reader.file


def read_contents(reader: Reader, sound: Path, corpus: Path | None) -> list[bytes]:
    """Return what a reader's copies are made of: its sound file, and the corpus's files of the same name or ending."""
    contents = [Path(sound, reader.item, reader.file).read_bytes()]
    if corpus is not None:
        file = Path(reader.file or reader.item)
        pattern = file.name if reader.file else "*" + "".join(file.suffixes)
        paths = (path for path in sorted(corpus.rglob(pattern)) if path.is_file())
        contents += [path.read_bytes() for path in paths if path.stat().st_size <= MOST_BYTES]
    return contents


def make_input(name: str, number: int, contents: list[bytes]) -> bytes:
    """Return one changed copy."""
    return mutate(contents[number % len(contents)], READERS[name].form, random.Random(f"{name} {number}"))


def try_input(reader: Reader, item: Path) -> str:
    """Read one input; returns `accepted` or `refused`. What else is raised is a crash."""
    from gengram.errors import InputError

    try:
        reader.read(item)
    except InputError:
        return "refused"
    return "accepted"


def _ring(*_: Any) -> None:
    raise TooLong


def _work(name: str, sound: Path, corpus: Path | None, first: int, last: int, counts: Any, said: Any) -> None:
    """Read the inputs from `first` to `last`; `counts` holds how far it has come, accepted, refused."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    signal.signal(signal.SIGALRM, _ring)
    reader = READERS[name]
    contents = read_contents(reader, sound, corpus)
    with tempfile.TemporaryDirectory() as folder:
        path = prepare(reader, sound, Path(folder))
        for number in range(first, last):
            counts[0] = number
            path.write_bytes(make_input(name, number, contents))
            signal.alarm(SECONDS)
            try:
                counts[1 if try_input(reader, Path(folder) / reader.item) == "accepted" else 2] += 1
            except (Exception, TooLong) as error:
                said.put(Crash(number, "".join(traceback.format_exception(error)[-12:])))
            except BaseException as error:
                said.put(Crash(number, f"{type(error).__name__}: {error}"))
            finally:
                signal.alarm(0)
    counts[0] = last


def fuzz(name: str, sound: Path, first: int, inputs: int, corpus: Path | None = None) -> Tally:
    """Read changed copies in a process of its own, and in a new one where that has died."""
    context = multiprocessing.get_context("forkserver")
    last, crashes, begun = first + inputs, list[Crash](), time.monotonic()
    counts, said = context.Array("q", 3), context.SimpleQueue()
    number = first
    while number < last:
        child = context.Process(target=_work, args=(name, sound, corpus, number, last, counts, said))
        child.start()
        seen, moved = -1, time.monotonic()
        while child.is_alive():
            child.join(1)
            while not said.empty():
                crashes.append(said.get())
            if counts[0] != seen:
                seen, moved = counts[0], time.monotonic()
            elif time.monotonic() - moved > _STUCK:
                child.kill()
                child.join()
        while not said.empty():
            crashes.append(said.get())
        if counts[0] >= last:
            break
        crashes.append(Crash(counts[0], f"the process ended with {child.exitcode}"))
        number = counts[0] + 1
    return Tally(inputs, counts[1], counts[2], crashes, time.monotonic() - begun)


def main() -> int:
    """Run the program; returns the exit code: 1 if there are crashes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("readers", nargs="*", help=", ".join(READERS))
    parser.add_argument("--inputs", type=int, default=10_000, help="changed copies for each reader")
    parser.add_argument("--first", type=int, default=0, help="number of the first copy")
    parser.add_argument("--sound", type=Path, help="folder of sound files; made if it is not there")
    parser.add_argument("--corpus", type=Path, help="folder of further sound files, each up to 256 KB")
    parser.add_argument("--keep", type=Path, help="folder for the inputs that crashed")
    parser.add_argument("--jobs", type=int, default=2, help="readers at the same time")
    options = parser.parse_args()
    if unknown := set(options.readers) - set(READERS):
        parser.error(f"there is no reader {', '.join(sorted(unknown))}; there are {', '.join(READERS)}")
    sound = options.sound or Path(tempfile.mkdtemp(prefix="sound-")) / "sound"
    if not sound.is_dir():
        from sound import make_sound

        make_sound(sound)
    multiprocessing.get_context("forkserver").set_forkserver_preload(["functions", "gengram.training.publishing.model"])
    names = options.readers or list(READERS)
    print(f"{'reader':<28}{'inputs':>8}{'accepted':>10}{'refused':>9}{'crashes':>9}{'seconds':>9}", flush=True)
    failed = 0

    def run(name: str) -> Tally:
        return fuzz(name, sound, options.first, options.inputs, options.corpus)

    with ThreadPoolExecutor(options.jobs) as pool:
        for name, tally in zip(names, pool.map(run, names)):
            counts = (
                f"{tally.inputs:>8}{tally.accepted:>10}{tally.refused:>9}{len(tally.crashes):>9}{tally.seconds:>9.0f}"
            )
            print(f"{name:<28}{counts}", flush=True)
            failed += len(tally.crashes)
            for kind in {crash.said.strip().splitlines()[-1][:60]: crash for crash in reversed(tally.crashes)}.values():
                print(f"--- {name}, input {kind.number}:\n{kind.said}", file=sys.stderr, flush=True)
            if options.keep:
                _keep(options.keep, name, read_contents(READERS[name], sound, options.corpus), tally.crashes)
    return int(failed > 0)


def _keep(folder: Path, name: str, contents: list[bytes], crashes: list[Crash]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for crash in crashes:
        (folder / f"{name.replace(' ', '-')}-{crash.number}").write_bytes(make_input(name, crash.number, contents))


if __name__ == "__main__":
    sys.exit(main())
