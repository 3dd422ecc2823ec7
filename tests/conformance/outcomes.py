"""A pytest plugin: one JSON line a test, and the list of what does not apply.

    python -m pytest -p conformance.outcomes --outcomes FILE --suite models --family 'gengram-*' tests/families/...

A test that `not_applicable.yaml` names for its family and the version is run all the same and must fail: one that
passes is a failure, since the list is then out of date. A line has `suite`, `family`, `test`, `seconds`, `outcome`
(`passed`, `failed`, `skipped`, `not applicable`), `standin` (whether the test is one of our stand-ins), and the
`reason` of what did not pass.
"""

from __future__ import annotations

import fnmatch
import inspect
import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

LIST = Path(__file__).with_name("not_applicable.yaml")


class Row(NamedTuple):
    """
    A row of the list.

    Attributes:
        suite: name of the suite.
        test: pattern of the test's name.
        families: patterns of variants.
        reason: why nobody could want it of these families.
        instead: the test of ours that stands in for it, `tests/path.py::name`.
        versions: patterns of transformers' versions; all if not given.
    """

    suite: str
    test: str
    families: tuple[str, ...]
    reason: str
    instead: str
    versions: tuple[str, ...] = ("*",)

    def covers(self, suite: str, test: str, family: str, version: str) -> bool:
        """Whether it speaks of this test."""
        return (
            suite == self.suite
            and fnmatch.fnmatchcase(test, self.test)
            and matches(family, self.families)
            and matches(version, self.versions)
        )


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether one of the patterns fits."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


@cache
def read_list() -> tuple[Row, ...]:
    """Return the rows of `not_applicable.yaml`."""
    rows = yaml.safe_load(LIST.read_text()) or []
    return tuple(
        Row(**{name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}) for row in rows
    )


def find_family(item: Any) -> str:
    """Return the variant of a test: attribute of its class, or parameter of that name."""
    if hasattr(item, "callspec") and "family" in item.callspec.params:
        return str(item.callspec.params["family"])
    return getattr(item.cls, "family", "")


def find_test(item: Any) -> str:
    """Return the name of a test, with what it is parametrised by, but for the family."""
    name = item.name
    return name.replace(f"[{find_family(item)}]", "").replace(f"[{find_family(item)}-", "[")


def is_standin(item: Any) -> bool:
    """Whether a test is written in a stand-in of ours, and not in the distribution: pytest.ini lists those; or what it
    calls is, as its class says."""
    if getattr(item.cls, "is_standin", False):
        return True
    file = inspect.getsourcefile(inspect.unwrap(item.function)) or ""
    return Path(file) in item.config.getini("standins")


def pytest_addoption(parser):
    parser.addini("standins", "files that the distribution lacks", type="paths")
    group = parser.getgroup("conformance")
    group.addoption("--outcomes", help="file to which a JSON line a test is added")
    group.addoption("--suite", default="", help="name of the suite, as the list has it")
    group.addoption("--family", action="append", default=[], help="pattern of the variants to test; again for more")


def pytest_collection_modifyitems(config, items):
    patterns = tuple(config.getoption("--family"))
    if patterns:
        chosen = [item for item in items if matches(find_family(item), patterns)]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
        items[:] = chosen
    import transformers

    for item in items:
        where = (config.getoption("--suite"), find_test(item), find_family(item), transformers.__version__)
        row = next((row for row in read_list() if row.covers(*where)), None)
        if row is not None:
            item.stash[_ROW] = row


_ROW = pytest.StashKey[Row]()
_SEEN = pytest.StashKey[set[str]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Tell a listed test that fails as expected to; a mark could not, as it knows nothing of parts (`subTest`)."""
    report = yield
    report.conformance = {"family": find_family(item), "test": find_test(item), "standin": is_standin(item)}
    row = item.stash.get(_ROW, None)
    if row is not None:
        seen = item.stash.setdefault(_SEEN, set())
        seen.add(report.outcome)
        if report.failed:
            report.outcome, report.wasxfail = "skipped", row.reason
        elif report.when == "teardown" and seen == {"passed"}:
            report.outcome = "failed"
            report.longrepr = f"not_applicable.yaml lists {row.test} for {', '.join(row.families)}, but it passes"
    return report


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    if config.getoption("--outcomes") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Writer(config), "conformance-writer")


class _Writer:
    """Writes a line when a test's last phase is over; with several processes, in the one that hears them all."""

    def __init__(self, config):
        self.path, self.suite = Path(config.getoption("--outcomes")), config.getoption("--suite")
        self.told: dict[str, dict] = {}

    def pytest_runtest_logreport(self, report):
        line = self.told.setdefault(report.nodeid, {"suite": self.suite, "seconds": 0.0})
        line |= getattr(report, "conformance", {})
        part = type(report).__name__ == "SubtestReport"
        line["seconds"] += 0.0 if part else report.duration
        if report.failed:
            line["outcome"], line["reason"] = "failed", _shorten(report)
        elif hasattr(report, "wasxfail"):
            line["outcome"], line["reason"] = "not applicable", report.wasxfail
        elif report.skipped and not part:
            line.setdefault("outcome", "skipped")
            line.setdefault("reason", _shorten(report))
        if report.when == "teardown" and not part:
            line = self.told.pop(report.nodeid)
            line.setdefault("outcome", "passed")
            line["seconds"] = round(line["seconds"], 2)
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")


def _shorten(report) -> str:
    """The last line that says something: of a skip its reason, of a failure the exception."""
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    return (crash.message if crash else str(report.longrepr)).strip()[:500]
