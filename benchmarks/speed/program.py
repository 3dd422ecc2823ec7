"""What do the programs of this folder share? `python -m gengram.benchmarks.speed.NAME [...] [--json FILE]`."""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import transformers

from gengram._version import __version__
from gengram.command_line import HelpFormatter, complain
from gengram.errors import InputError
from gengram.files import write_json

_PACKAGE = "gengram.benchmarks.speed"


def make_parser(name: str, description: str | None, example: str = "") -> argparse.ArgumentParser:
    """Return a parser with `--json`.

    Args:
        name: of the program.
        description: what it measures.
        example: arguments that somebody might give.
    """
    prog = f"python -m {_PACKAGE}.{name}"
    parser = argparse.ArgumentParser(
        prog=prog, description=description, formatter_class=HelpFormatter, epilog=f"example: {prog} {example}".strip()
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for the figures")
    return parser


def answer(parser: argparse.ArgumentParser, text: str, report: Any, path: Path | None) -> int:
    """Print what was found, and write it to a JSON file where one is asked for; returns the exit code."""
    print(text)
    if path is not None:
        try:
            write_json(report, path)
        except InputError as error:
            return complain(parser.prog, str(error))
    return 0


def list_versions() -> dict[str, str]:
    """What was measured, for a report."""
    return {
        "gengram_version": __version__,
        "torch_version": torch.__version__,
        "transformers_version": transformers.__version__,
    }


def run_apart(*arguments: str) -> str:
    """Run Python in a process of its own, and return what it prints.

    MALLOC_MMAP_THRESHOLD_ stays at 64 KB: glibc otherwise raises it as it goes, and freed blocks stay in the heap
    between small ones that live, so that a peak says more about the allocator than about what is measured.

    Args:
        arguments: of the interpreter.
    """
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return done.stdout


__all__ = ["answer", "list_versions", "make_parser", "run_apart"]
