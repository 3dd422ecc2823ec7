"""Try every way on every family, and draw the table of docs/deployment.md.

`python tests/deployment/deployment.py` tries what it is told (all variants, all ways) and keeps what came of it in
`outcomes/` with the version of transformers; `--write` draws the page from what is kept. `make deployment-page` does
both for the installed version.
"""

import argparse
import json
import math
import os
import sys
import tempfile
import warnings
from pathlib import Path

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE.parent)]
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import transformers
from conformance.testers import TESTERS
from two_processes import WAYS as TWO_PROCESSES
from two_processes import try_cases
from ways import ONE_PROCESS, list_cases, make_case

from gengram.markdown import escape_text, format_code, format_table

PAGE = HERE.parents[1] / "docs" / "deployment.md"
OUTCOMES = HERE / "outcomes"
BEGIN, END = "<!-- made by tests/deployment/deployment.py: begin -->\n", "<!-- end -->\n"
Outcomes = dict[str, dict[str, dict[str, float | str]]]
"""Variant -> Auto class -> way -> the largest difference, or the error."""


def try_one_process(name: str, auto: str, ways: list[str]) -> dict[str, float | str]:
    """Return the difference, or the error, of each way."""
    case = make_case(name, auto)
    found: dict[str, float | str] = {}
    for way in ways:
        try:
            found[way] = ONE_PROCESS[way](case)
        except Exception as error:  # Whatever it is, it is what the table is about.
            found[way] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return found


def read_outcomes() -> dict[str, Outcomes]:
    """Version of transformers (two numbers) -> what came of it, the newest version last."""
    files = sorted(OUTCOMES.glob("*.json"), key=lambda path: [int(part) for part in path.stem.split(".")])
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variants", nargs="*", default=list(TESTERS))
    parser.add_argument("--ways", nargs="*", default=[*ONE_PROCESS, *TWO_PROCESSES])
    parser.add_argument("--write", action="store_true", help="draw the page")
    parser.add_argument("--out", type=Path, default=OUTCOMES)
    arguments = parser.parse_args(argv)
    warnings.filterwarnings("ignore")
    version = ".".join(transformers.__version__.split(".")[:2])
    arguments.out.mkdir(exist_ok=True)
    path = arguments.out / f"{version}.json"
    outcomes: Outcomes = json.loads(path.read_text()) if path.is_file() else {}
    for name, auto in list_cases(arguments.variants):
        found = try_one_process(name, auto, [way for way in ONE_PROCESS if way in arguments.ways])
        outcomes.setdefault(name, {}).setdefault(auto, {}).update(found)
        print(name, auto, found, flush=True)
        path.write_text(json.dumps(outcomes, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
