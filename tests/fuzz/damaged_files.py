"""Run each command on each damaged file, and draw the table of what came of it."""

import argparse
import json
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from commands import COMMANDS, Command, run_command
from damages import DAMAGES, Damage
from sound import SIZE, make_sound

SECONDS = 90
_SIZE = json.dumps(SIZE, separators=(",", ":"))
PAGE = Path(__file__).parents[2] / "docs" / "damaged_files.md"
_BEGIN, _END = "<!-- made by tests/fuzz/test_damaged_files.py: begin -->\n", "<!-- end -->\n"
_MODULES = ["commands", "functions", "gengram.cli", "gengram.training.finetune", "gengram.pipelines.predict"]
_MODULES += ["gengram.pipelines.embed_file", "gengram.pipelines.segment_genome", "gengram.training.publishing.dataset"]
_MODULES += ["gengram.training.corpus.build", "gengram.training.corpus.publish", "encodings.utf_8_sig"]
_MODULES += ["gengram.training.publishing.model", "gengram.conversion.megatron", "gengram.conversion.to_megatron"]
_MODULES += ["gengram.tokenization.train_tokenizer", "gengram.training.adapters.adapt", "peft"]


class Outcome(NamedTuple):
    """What a command did with a damaged file.

    Attributes:
        answer: `refused` or `read`.
        faults: what it should not have done; empty where all is well.
        said: standard error.
    """

    answer: str
    faults: list[str]
    said: str


def start_server() -> multiprocessing.context.ForkServerContext:
    """Return a context whose processes are forks of one that has imported the package, and has no threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_MODULES)
    return context


def try_damage(context, sound: Path, command: Command, damage: Damage | None) -> Outcome:
    """Run a command on a file that is damaged (None: on the sound one)."""
    root = Path(tempfile.mkdtemp(prefix="damaged-"))
    try:
        for name in ("home", "home/tmp", "home/cwd", "home/out", "case"):
            (root / name).mkdir()
            (root / name).chmod(0o777)
        root.chmod(0o755)
        item = root / "case" / command.item
        source = sound / command.item
        shutil.copytree(source, item) if source.is_dir() else shutil.copy(source, item)
        path = item / command.file if command.file else item
        if damage is not None:
            damage.make(path, path.read_bytes())
        names = {"sound": sound, "case": root / "case", "out": root / "home" / "out", "size": _SIZE}
        words = [word.format(**names) for word in command.words.split()]
        if words[0] == "read":
            words.append(str(item))
        before = _list(root / "case")
        forbidden = damage is not None and damage.said == DAMAGES["forbidden"].said
        child = context.Process(target=run_command, args=(words, root / "home", forbidden))
        child.start()
        child.join(SECONDS)
        if child.is_alive():
            child.kill()
            child.join()
            return Outcome("none", [f"not done after {SECONDS} s"], "")
        # Its own word: a fork server that is busy may lose the code of a process that has ended.
        told = root / "home" / "code"
        code = int(told.read_text()) if told.is_file() else child.exitcode
        said = (root / "home" / "stderr").read_text(errors="replace")
        passes = damage is None or damage.may_pass or damage in map(DAMAGES.get, command.passes)
        faults = _judge(code, said, command, passes, root)
        if code and _list(root / "case") != before:
            faults.append(f"the input has changed: {sorted(set(_list(root / 'case')) ^ set(before))}")
        return Outcome({0: "read", 1: "refused"}.get(code, "none"), faults, said)
    finally:
        shutil.rmtree(root)


def _list(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path.relative_to(folder)), path.lstat().st_size) for path in folder.rglob("*"))


def _judge(code: int | None, said: str, command: Command, passes: bool, root: Path) -> list[str]:
    faults = []
    if code not in (0, 1):
        faults.append(f"exit code {code}")
    if "Traceback" in said or "panicked" in said or "Fatal Python error" in said:
        faults.append("a traceback")
    if code == 0 and not passes:
        faults.append("read as if it were sound")
    if code == 1:
        place = said.rfind("error: ")
        message = said[place:] if place >= 0 else ""
        names = {command.name, command.item}
        if not any(name in message for name in names):
            faults.append(f"the message does not name {command.name}")
        if re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", message):
            faults.append("control characters in the message")
        if len(message) > 2000:
            faults.append(f"a message of {len(message)} letters")
        if left := [name for part in ("out", "tmp", "cwd") for name, _ in _list(root / "home" / part)]:
            faults.append(f"left: {', '.join(left[:5])}")
    return faults


def try_all(sound: Path, commands: dict[str, Command], damages: dict[str, Damage]) -> dict[tuple[str, str], Outcome]:
    """Run commands on damaged files, two at a time; keys are names of both."""
    context = start_server()
    pairs = [
        (name, kind)
        for name, command in commands.items()
        for kind, damage in damages.items()
        if command.form in damage.forms and kind not in command.leaves_out
    ]

    def attempt(pair: tuple[str, str]) -> Outcome:
        return try_damage(context, sound, commands[pair[0]], damages[pair[1]])

    outcomes = {}
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        for (name, kind), outcome in zip(pairs, pool.map(attempt, pairs)):
            outcomes[name, kind] = outcome
            if outcome.faults:
                print(f"{name} x {kind}: {outcome.answer} {outcome.faults}\n    {outcome.said[-500:]}", flush=True)
    return outcomes


def draw_table(outcomes: dict[tuple[str, str], Outcome]) -> str:
    """Return the table of readers by damages as Markdown; readers that were not tried keep their row of the page."""
    before = {row.split(" | ")[0].removeprefix("| "): row for row in read_table().splitlines()[2:]}
    tried = {name for name, _ in outcomes}
    lines = [
        f"| reader | {' | '.join(damage.said for damage in DAMAGES.values())} |",
        "| --- |" + " --- |" * len(DAMAGES),
    ]
    for name in COMMANDS:
        cells = [outcomes[name, kind].answer if (name, kind) in outcomes else "" for kind in DAMAGES]
        lines.append(before[name] if name not in tried and name in before else f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def read_table() -> str:
    """Return the table that the page has."""
    return PAGE.read_text(encoding="utf-8").split(_BEGIN)[1].split(_END)[0]


def write_table(table: str) -> None:
    """Put a table into the page."""
    before, rest = PAGE.read_text(encoding="utf-8").split(_BEGIN)
    PAGE.write_text(before + _BEGIN + table + _END + rest.split(_END)[1], encoding="utf-8")


def main() -> int:
    """Show the faults of all readers, or of those that are named; returns 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readers", nargs="*", help=", ".join(COMMANDS))
    parser.add_argument("--damages", nargs="*", default=list(DAMAGES), choices=list(DAMAGES), help="only these")
    parser.add_argument("--sound", type=Path, help="folder of sound files; made if it is not there")
    parser.add_argument("--write", action="store_true", help="put the rows into the table of the page")
    options = parser.parse_args()
    sound = options.sound or Path(tempfile.mkdtemp(prefix="sound-")) / "files"
    if not sound.is_dir():
        sound.parent.chmod(0o755)
        make_sound(sound)
    commands = {name: command for name, command in COMMANDS.items() if not options.readers or name in options.readers}
    server = start_server()
    for name, command in commands.items():
        outcome = try_damage(server, sound, command, None)
        if outcome.answer != "read" or outcome.faults:
            print(f"{name}, sound: {outcome.answer} {outcome.faults}\n    {outcome.said[-500:]}", flush=True)
    outcomes = try_all(sound, commands, {kind: DAMAGES[kind] for kind in options.damages})
    faulty = sum(bool(outcome.faults) for outcome in outcomes.values())
    print(f"{len(outcomes)} cells, {faulty} with faults")
    if options.write:
        write_table(draw_table(outcomes))
    return int(faulty > 0)


if __name__ == "__main__":
    sys.exit(main())
