"""`make conformance`: transformers' and PEFT's own tests on every family, for every supported transformers.

    python tests/conformance/program.py [--suite NAME ...] [--family PATTERN ...] [--transformers VERSION ...]
                                        [--jobs 2] [--fetch] [--slice] [--offline]

Outcomes are kept in `.conformance/outcomes/`, a file a suite and version; what is run again takes the place of what was
there. The tables of docs/conformance.md are made of all of them, once there are some of every suite and variant; a part
leaves the page as it is. The exit code is 1 where a test fails that
`not_applicable.yaml` does not name, or one passes that it names.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from conformance import layout  # noqa: E402
from conformance.outcomes import matches  # noqa: E402
from conformance.page import OUTCOMES, list_missing, write_page  # noqa: E402
from conformance.testers import SLICE, TESTERS  # noqa: E402
from conformance.tokenizer_kinds import VARIANTS  # noqa: E402

SLICE_SUITES = ("configurations", "models")
SLICE_TESTS = "not test_eager_matches_sdpa or 12_fp32"
"""Of 25 forms of one test, one."""


def read_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    example = """make conformance ARGUMENTS="--suite models --family 'rmt-*' --transformers 5.17.0\""""
    parser = argparse.ArgumentParser(
        prog="make conformance", description=__doc__.split("\n")[0], epilog=f"Example: {example}"
    )
    suites, versions = layout.list_suites(), [source.version for source in layout.list_sources("transformers")]
    parser.add_argument("--suite", action="append", choices=suites, help="only this suite; again for more")
    what = "only variants that fit this pattern, e.g. 'rmt-*'; again for more"
    parser.add_argument("--family", action="append", default=[], help=what)
    parser.add_argument("--transformers", action="append", choices=versions, help="only this version; again for more")
    parser.add_argument("--test", help="only tests whose name has this (pytest's -k)")
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each (2)")
    parser.add_argument("--fetch", action="store_true", help="fetch what is missing, and end")
    parser.add_argument("--slice", action="store_true", help="one family of each kind, the installed transformers")
    parser.add_argument("--offline", action="store_true", help="skip what would have to be fetched, and say so")
    parser.add_argument("--page", type=Path, help="page whose tables are written anew, once outcomes are complete")
    arguments = parser.parse_args(argv)
    for pattern in arguments.family:
        if not any(matches(name, (pattern,)) for name in (*TESTERS, *VARIANTS)):
            parser.error(f"--family {pattern}: no variant fits it; there are {', '.join((*TESTERS, *VARIANTS))}")
    return arguments


def run_suite(suite: str, version: str, arguments: argparse.Namespace, folder: Path) -> list[dict]:
    """
    Run a suite in a folder that was laid out for a version; return its outcomes, see `outcomes`.

    Raises:
        SystemExit: pytest could not run the suite at all.
    """
    path = [str(folder)]
    if version != importlib.metadata.version("transformers"):
        path.append(str(layout.fetch_version(version, download=not arguments.offline)))
    told = folder / f"{suite}.jsonl"
    told.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "conformance.outcomes", "--tb=short", "--no-header"]
    command += ["--outcomes", str(told), "--suite", suite, *(f"--family={one}" for one in arguments.family)]
    command += ["-n", str(arguments.jobs), "--dist", "loadscope"] if arguments.jobs > 1 else []
    command += ["-k", arguments.test] if arguments.test else []
    offline = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    environment = {**os.environ, **offline, "PYTHONPATH": os.pathsep.join(path)}
    done = subprocess.run([*command, str(layout.find_module(suite, folder))], cwd=folder, env=environment)
    if done.returncode not in (0, 1, 5):  # passed, failed, none chosen
        sys.exit(f"suite {suite}, transformers {version}: pytest could not run it (exit code {done.returncode})")
    return [json.loads(line) for line in told.read_text().splitlines()] if told.is_file() else []


def keep_outcomes(suite: str, version: str, outcomes: list[dict]) -> None:
    """Put outcomes into the file of a suite and version, in the place of those of the same tests."""
    path = OUTCOMES / version / f"{suite}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {}
    for line in [*(path.read_text().splitlines() if path.is_file() else []), *map(json.dumps, outcomes)]:
        outcome = json.loads(line)
        kept[outcome["family"], outcome["test"]] = line
    path.write_text("".join(f"{kept[key]}\n" for key in sorted(kept)))


def main(argv: Sequence[str] | None = None) -> int:
    """Run what was asked for; return the exit code."""
    arguments = read_arguments(argv)
    versions = arguments.transformers or [source.version for source in layout.list_sources("transformers")]
    suites = arguments.suite or layout.list_suites()
    if arguments.slice:
        versions, suites = [importlib.metadata.version("transformers")], list(SLICE_SUITES)
        arguments.family, arguments.test = list(SLICE), SLICE_TESTS
    failed = 0
    for version in versions:
        try:
            if arguments.fetch:
                fetch(version, suites)
            else:
                failed += run_version(version, suites, arguments)
        except layout.Unavailable as reason:
            print(f"skipped: transformers {version}: {reason}")
    if arguments.page is not None and not arguments.fetch:
        renew_page(arguments.page, part=arguments.test is not None)
    return 1 if failed else 0


def renew_page(page: Path, *, part: bool) -> None:
    """Write the tables of the page anew, unless they would lack something: `part` of a suite, or what was never run."""
    if part:
        print(f"{page} is left as it is: --test runs a part of each suite")
    elif missing := list_missing():
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        print(f"{page} is left as it is: no outcomes of {', '.join(missing[:3])}{more}; `make conformance` runs all")
    else:
        write_page(page)


def fetch(version: str, suites: Sequence[str]) -> None:
    """Bring what the suites of a version need into `.conformance/`."""
    layout.fetch_source(layout.find_source("transformers", version))
    if (peft := find_peft(suites)) is not None:
        layout.fetch_source(peft)
    if version != importlib.metadata.version("transformers"):
        layout.fetch_version(version)


def find_peft(suites: Sequence[str]) -> layout.Source | None:
    """Return PEFT's distribution, if one of the suites needs it."""
    needed = set(suites) & set(layout.SUITES_OF_PEFT)
    return layout.find_source("peft", importlib.metadata.version("peft")) if needed else None


def run_version(version: str, suites: Sequence[str], arguments: argparse.Namespace) -> int:
    """Run suites with one version, say what came of each, and return how many tests failed."""
    failed = 0
    with tempfile.TemporaryDirectory(prefix="conformance-") as temporary:
        source = layout.find_source("transformers", version)
        folder = layout.lay_out(source, find_peft(suites), Path(temporary), download=not arguments.offline)
        for suite in suites:
            outcomes = run_suite(suite, version, arguments, folder)
            if not arguments.slice:
                keep_outcomes(suite, version, outcomes)
            counts = Counter(outcome["outcome"] for outcome in outcomes)
            failed += counts["failed"]
            told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
            print(f"{suite}, transformers {version}: {told or 'no such test'}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
