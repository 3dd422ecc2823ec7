"""The verb that makes tasks: dataset build KIND."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from gengram.benchmarks.builders.element_kinds import ELEMENT_KINDS
from gengram.benchmarks.builders.kinds import Kind
from gengram.benchmarks.builders.window_kinds import WINDOW_KINDS
from gengram.command_line import Answer, VerbParser, run
from gengram.errors import suggest

KINDS: dict[str, Kind] = {**ELEMENT_KINDS, **WINDOW_KINDS}
"""What can be built, by the word behind `gengram dataset build`."""


def build(argv: Sequence[str] | None = None) -> int:
    """Run `gengram dataset build KIND`; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    name = words[0].replace("_", "-") if words else ""
    if name not in KINDS:
        return _answer_without_kind(words)
    kind = KINDS[name]
    parser = VerbParser(
        f"dataset build {name}",
        usage=kind.usage,
        description=f"Build a task from genomes: {kind.help}.",
        example=kind.example,
        notes=kind.notes,
    )
    kind.declare(parser)
    parser.add_common()

    def work(**options: Any) -> Answer:
        module, function = kind.function.split(":")
        built = getattr(import_module(module), function)(**options)
        return Answer(built.describe(), {"kind": name, **built.facts})

    return run(parser, parser.parse(words[1:]), work)


def _answer_without_kind(words: Sequence[str]) -> int:
    """Show the kinds; a wrong or missing one ends the process with exit code 2."""
    parser = VerbParser(
        "dataset build",
        usage="KIND [...]",
        description="Build a benchmark task from genomes and annotations: tables with a README and a task.yaml, which "
        "`gengram finetune --dataset`, `gengram evaluate --data` and `gengram dataset push` take.",
        example=ELEMENT_KINDS["genomic-element"].example,
        notes="kinds:\n"
        + "\n".join(f"  {kind:<22}{one.help}" for kind, one in KINDS.items())
        + "\n\n`gengram dataset build KIND --help` shows a kind's arguments.",
    )
    parser.add_argument("kind", metavar="KIND", nargs="?", help=argparse.SUPPRESS)
    parser.add_common()
    name = parser.parse_args(words).kind
    if name is None:
        parser.error(f"name a kind: {', '.join(KINDS)}")
    if name.replace("_", "-") in KINDS:
        parser.error(f"the kind comes first: gengram dataset build {name} ...")
    parser.error(f"there is no kind {name!r}{suggest(name, KINDS) or ': choose ' + ', '.join(KINDS)}")


__all__ = ["KINDS", "build"]
