"""Try every way on every family, and keep what came of it in `outcomes/`, a file for each version of transformers.

`make deployment-page` does so for the installed version, and draws the table of docs/deployment.md (`page.py`).
"""

import argparse
import importlib.util
import json
import sys
import tempfile
import warnings
from pathlib import Path

import transformers

sys.path.append(str(Path(__file__).parents[1]))

from conformance.testers import TESTERS
from deployment.two_processes import WAYS as TWO_PROCESSES
from deployment.two_processes import try_cases
from deployment.ways import ONE_PROCESS, list_cases, make_case, tell

OUTCOMES = Path(__file__).parent / "outcomes"
VERSION = ".".join(transformers.__version__.split(".")[:2])
Outcomes = dict[str, dict[str, dict[str, float | str]]]
"""Variant -> way -> Auto class -> the largest difference, or the error."""


def try_way(way: str, names: list[str], keep) -> None:
    """Call `keep` with variant, Auto class, and the difference or the error."""
    cases = list_cases(names, way)
    if way in TWO_PROCESSES:
        with tempfile.TemporaryDirectory() as folder:
            for (name, auto), found in try_cases(Path(folder), cases, way).items():
                keep(name, auto, found)
        return
    for name, auto in cases:
        try:
            found = ONE_PROCESS[way](make_case(name, auto))
        except Exception as error:  # Whatever it is, it is what the table is about.
            found = tell(error)
        keep(name, auto, found)


def read_arguments(argv: list[str]) -> argparse.Namespace:
    """Return the options; what is not there to be tried is refused, before it looks like a fault of every family."""
    ways = [*ONE_PROCESS, *TWO_PROCESSES]
    example = """make deployment-page ARGUMENTS="rmt-bert --ways export compile\""""
    parser = argparse.ArgumentParser(
        prog="make deployment-page", description=__doc__.split("\n")[0], epilog=f"Example: {example}"
    )
    parser.add_argument("variants", nargs="*", default=list(TESTERS), help="names of `TESTERS` (all)")
    parser.add_argument("--ways", nargs="*", choices=ways, default=ways, help="what to try (all)")
    parser.add_argument("--out", type=Path, default=OUTCOMES, help="folder that keeps what came of it")
    arguments = parser.parse_args(argv)
    if unknown := [name for name in arguments.variants if name not in TESTERS]:
        parser.error(f"there is no variant {unknown[0]!r}; there are {', '.join(TESTERS)}")
    if "onnx" in arguments.ways and not all(map(importlib.util.find_spec, ("onnx", "onnxscript", "onnxruntime"))):
        parser.error('onnx needs .venv/bin/pip install ".[onnx]"; or give other --ways')
    return arguments


def main(argv: list[str]) -> None:
    arguments = read_arguments(argv)
    warnings.filterwarnings("ignore")
    arguments.out.mkdir(exist_ok=True)
    path = arguments.out / f"{VERSION}.json"

    for way in arguments.ways:

        def keep(name, auto, found, way=way):
            outcomes: Outcomes = json.loads(path.read_text()) if path.is_file() else {}
            outcomes.setdefault(name, {}).setdefault(way, {})[auto] = found
            print(way, name, auto, found, flush=True)
            path.write_text(json.dumps(outcomes, indent=1) + "\n", encoding="utf-8")

        try_way(way, arguments.variants, keep)


if __name__ == "__main__":
    main(sys.argv[1:])
