"""How does docs/conformance.md show the outcomes? Tables behind what is written by hand, from those that are kept."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from conformance import layout
from conformance.outcomes import Row, matches, read_list
from conformance.testers import TESTERS
from conformance.tokenizer_kinds import VARIANTS

from gengram.files import write_text
from gengram.markdown import escape_text, format_code, format_table

HEADING = "## Outcomes\n"
OUTCOMES = layout.CACHE / "outcomes"
_FAMILIES = (*TESTERS, *VARIANTS)
_KINDS = ("passed", "stand-in", "not applicable", "skipped", "failed")


def list_outcomes(folder: Path = OUTCOMES) -> list[dict]:
    """Return all outcomes that are kept, with their `version`, in the order of the testers."""
    order = list(_FAMILIES)
    kept = [
        {**json.loads(line), "version": path.parent.name}
        for path in sorted(folder.glob("*/*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    return sorted(
        (one for one in kept if one["family"] in _FAMILIES),
        key=lambda one: (order.index(one["family"]), one["suite"], one["version"], one["test"]),
    )


def name_kind(outcome: dict) -> str:
    """Return the column of an outcome: what passed in a module of ours is a stand-in."""
    return "stand-in" if outcome["outcome"] == "passed" and outcome.get("standin") else outcome["outcome"]


def render_page(page: str, outcomes: list[dict], rows: Iterable[Row]) -> str:
    """Return the text of the page with new tables; what stands above `HEADING` stays."""
    written = page.partition(HEADING)[0]
    versions = sorted({one["version"] for one in outcomes})
    parts = [written + HEADING, _describe_sum(outcomes, versions), _describe_families(outcomes, versions)]
    parts += ["### What does not apply\n", _describe_list(rows), "### What was skipped\n", _describe_skipped(outcomes)]
    return "\n".join(parts)


def list_missing(folder: Path = OUTCOMES) -> list[str]:
    """Return what the tables would lack: suites that were not run, a version each, and variants without outcomes."""
    versions = [source.version for source in layout.list_sources("transformers")]
    missing = []
    for version in versions:
        suites = [suite for suite in layout.list_suites() if not (folder / version / f"{suite}.jsonl").is_file()]
        seen = {one["family"] for one in list_outcomes(folder) if one["version"] == version}
        missing += [f"{name} ({version})" for name in [*suites, *(name for name in _FAMILIES if name not in seen)]]
    return missing


def write_page(path: Path) -> None:
    """Write the tables of a page anew."""
    write_text(render_page(path.read_text(encoding="utf-8"), list_outcomes(), read_list()), path)


def _describe_sum(outcomes: list[dict], versions: list[str]) -> str:
    """A row a suite and version: how many of each kind, and the time."""
    counts: dict[tuple[str, str], Counter] = defaultdict(Counter)
    seconds: Counter = Counter()
    for one in outcomes:
        counts[one["suite"], one["version"]][name_kind(one)] += 1
        seconds[one["suite"], one["version"]] += one["seconds"]
    head = ("suite", "transformers", *_KINDS, "minutes of one core")
    body = [
        (
            escape_text(suite),
            version,
            *(str(counts[suite, version][kind]) for kind in _KINDS),
            f"{seconds[suite, version] / 60:.1f}",
        )
        for suite, version in sorted(counts)
    ]
    for version in versions:
        total = sum((count for (_, one), count in counts.items() if one == version), Counter())
        spent = sum(time for (_, one), time in seconds.items() if one == version)
        body.append(("all", version, *(str(total[kind]) for kind in _KINDS), f"{spent / 60:.1f}"))
    return format_table(head, body, numbers=range(2, len(head))) + "\n"


def _describe_families(outcomes: list[dict], versions: list[str]) -> str:
    """A table a version: variant x suite, in a cell how many of each kind."""
    suites = sorted({one["suite"] for one in outcomes})
    counts: dict[tuple[str, str, str], Counter] = defaultdict(Counter)
    for one in outcomes:
        counts[one["version"], one["family"], one["suite"]][name_kind(one)] += 1
    parts = []
    for version in versions:
        body = [
            (format_code(family), *(_shorten(counts[version, family, suite]) for suite in suites))
            for family in _FAMILIES
        ]
        parts.append(f"### transformers {version}, by family\n\n{format_table(('variant', *suites), body)}\n")
    return "\n".join(parts)


def _shorten(count: Counter) -> str:
    """`101, 12 s, 3 n, 48 -`: passed, passed as stand-ins, not applicable, skipped; failures in words."""
    letters = {"stand-in": "s", "not applicable": "n", "skipped": "-", "failed": "failed"}
    told = [str(count["passed"])] if count["passed"] else []
    told += [f"{count[kind]} {letter}" for kind, letter in letters.items() if count[kind]]
    return ", ".join(told)


def _describe_list(rows: Iterable[Row]) -> str:
    """The rows of the list; those of one reason together."""
    body = []
    for row in rows:
        versions = "" if row.versions == ("*",) else f" ({', '.join(row.versions)})"
        tests = f"{row.suite}: {row.test}"
        found = [family for family in _FAMILIES if matches(family, row.families)]
        families = ", ".join(row.families) if len(found) < len(_FAMILIES) else "all"
        body.append(
            (format_code(tests), escape_text(families + versions), escape_text(row.reason), format_code(row.instead))
        )
    return format_table(("test", "families", "reason", "instead"), body) + "\n" if body else "Nothing.\n"


def _describe_skipped(outcomes: list[dict]) -> str:
    """Reasons and how often, most frequent first; names of classes taken out."""
    reasons: Counter = Counter()
    for one in outcomes:
        if one["outcome"] == "skipped":
            reasons[re.sub(r"\b(\w+\.)*[A-Z]\w+(For|Model)\w*", "this model", one["reason"]).split("\n")[0]] += 1
    body = [(str(count), escape_text(reason)) for reason, count in reasons.most_common(60)]
    return format_table(("tests", "reason"), body, numbers=(0,)) + "\n" if body else "Nothing.\n"
