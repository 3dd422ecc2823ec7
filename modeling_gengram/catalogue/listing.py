"""How does the catalogue answer? Which rows fit, a table that fits a terminal, and one row with its sources."""

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from gengram.catalogue.licences import BY_OUR_CODE, allows_commercial_use
from gengram.catalogue.rows import FACTS, LOADS, ModelRow, find_model_row, list_families, list_models
from gengram.catalogue.uses import describe_use, suggest_id
from gengram.command_line import Answer
from gengram.errors import InputError, suggest
from gengram.printable import shorten

_SHORTEST_ID = 34


class Filter(NamedTuple):
    """A condition on rows.

    Attributes:
        flag: that asks for it.
        holds: of a row: whether it fits, or None if what it asks about is not known.
    """

    flag: str
    holds: Callable[[ModelRow], bool | None]


def show_models(
    family: str | None = None,
    loads: str | None = None,
    objective: str | None = None,
    commercial_ok: bool = False,
    max_parameters: int | None = None,
    min_bases: int | None = None,
) -> Answer:
    """Answer with the rows that fit all that is given, and with how many were left out as not known.

    Raises:
        `InputError`: there is no such family.
    """
    if family is not None and family not in list_families():
        known = list_families()
        raise InputError(f"there is no family {family!r} (there are {', '.join(known)}){suggest(family, known)}")
    asked: list[Filter] = []
    if family is not None:
        asked.append(Filter("--family", lambda row: row.family == family))
    if loads is not None:
        asked.append(Filter("--loads", lambda row: row.loads == loads))
    if objective is not None:
        asked.append(Filter("--objective", lambda row: _compare(row.objective, lambda known: known == objective)))
    if commercial_ok:
        asked.append(Filter("--commercial_ok", allows_commercial_use))
    if max_parameters is not None:
        asked.append(
            Filter("--max_parameters", lambda row: _compare(row.parameters, lambda known: known <= max_parameters))
        )
    if min_bases is not None:
        asked.append(Filter("--min_bases", lambda row: _compare(row.max_bases, lambda known: known >= min_bases)))
    fitting, unknown = _choose(asked)
    lines = [*_format_table(fitting), ""] if fitting else []
    if unknown:
        flags = sorted({flag for one in unknown.values() for flag in one})
        some = "1 more may fit: it lacks" if len(unknown) == 1 else f"{len(unknown)} more may fit: they lack"
        lines.append(f"{some} a fact that {' or '.join(flags)} asks for; --json names them.")
    if fitting and not any(row.loads in BY_OUR_CODE for row in fitting):
        lines.append("None of these loads here yet; `gengram models ID` says what can be used instead.")
    lines.append(_count(fitting))
    return Answer("\n".join(lines), {"models": [describe_row(row) for row in fitting], "unknown": unknown})


def show_model(id: str) -> Answer:
    """Answer with all that is known of a checkpoint, where it was read, and how it is used.

    Raises:
        `InputError`: the catalogue has no such row.
    """
    row = find_model_row(id)
    if row is None:
        raise InputError(
            f"{id}: the catalogue has no such model; `gengram models` lists those it has, and one that it lacks may "
            f"load all the same{suggest_id(id)}"
        )
    lines = [row.id, *_wrap_facts(row), "", *describe_use(row)]
    return Answer("\n".join(lines), describe_row(row))


def describe_row(row: ModelRow) -> dict[str, Any]:
    """Return a row as JSON has it: unknown facts are null, and `commercial_ok` is added."""
    data = dataclasses.asdict(row)
    return {**data, "heads": row.heads and list(row.heads), "commercial_ok": allows_commercial_use(row)}


def _choose(asked: Sequence[Filter]) -> tuple[list[ModelRow], dict[str, list[str]]]:
    """Rows that fit, those that load first; and the ids of those that might, with the flags that nobody can answer."""
    fitting, unknown = [], {}
    for row in sorted(list_models(), key=lambda row: LOADS.index(row.loads)):
        answers = {one.flag: one.holds(row) for one in asked}
        if all(answers.values()):
            fitting.append(row)
        elif False not in answers.values():
            unknown[row.id] = [flag for flag, answer in answers.items() if answer is None]
    return fitting, unknown


def _compare(known: Any, holds: Callable[[Any], bool]) -> bool | None:
    return None if known is None else holds(known)


def _format_table(rows: Sequence[ModelRow]) -> list[str]:
    head = ("model", "parameters", "bases", "tokens", "trained", "licence", "loads")
    table = [
        (
            row.id,
            format_amount(row.parameters),
            format_amount(row.max_bases),
            format_tokens(row),
            row.objective or "?",
            row.license_weights or "?",
            row.loads,
        )
        for row in rows
    ]
    columns = list(range(len(head)))
    room = shutil.get_terminal_size(fallback=(0, 0)).columns
    if room:  # In a pipe nothing is cut.
        for column in (4, 3, 5):
            if _measure(head, table, columns[1:]) + _SHORTEST_ID > room:
                columns.remove(column)
    ids = max(_SHORTEST_ID, room - _measure(head, table, columns[1:])) if room else max(map(len, (r[0] for r in table)))
    widths = {0: min(ids, max(len(row[0]) for row in table))}
    widths |= {column: max(len(row[column]) for row in (head, *table)) for column in columns[1:]}
    lines = []
    for row in (head, *table):
        cells = [shorten(row[0], widths[0]).ljust(widths[0])]
        cells += [
            row[column].rjust(widths[column]) if column in (1, 2) else row[column].ljust(widths[column])
            for column in columns[1:]
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def _measure(head: Sequence[str], table: Sequence[Sequence[str]], columns: Sequence[int]) -> int:
    return sum(2 + max(len(row[column]) for row in (head, *table)) for column in columns)


def _count(rows: Sequence[ModelRow]) -> str:
    if not rows:
        return "No model of the catalogue fits. Leave out a filter."
    some = "1 model" if len(rows) == 1 else f"{len(rows)} models"
    return f"{some}. `gengram models ID` shows one, with the source of every fact."


def _wrap_facts(row: ModelRow) -> list[str]:
    """A line a fact, with a number in brackets for its source; then the sources."""
    numbers: dict[str, int] = {}
    lines = [f"  {'family':<16}{row.family}: {list_families()[row.family]}"]
    for name in FACTS:
        value = getattr(row, name)
        if value is None and (name == "note" or (name.startswith("kmer_") and row.tokenizer != "k-mer")):
            continue
        if value is None:
            shown = "?"
        else:
            number = numbers.setdefault(row.sources[name], len(numbers) + 1)
            shown = f"{_format_fact(value)} [{number}]"
        lines.append(f"  {name:<16}{shown}")
    lines.append(f"  {'verified':<16}{_VERIFIED.get(row.verified, f'on the Hub, {row.verified}')}")
    return [*lines, "", *(f"  [{number}] {source}" for source, number in numbers.items())]


_VERIFIED = {
    "unverified": "unverified: the Hub was not asked, the sources below were read",
    "sizes": "the published file has as many numbers as the classes make of the published configuration",
}


def _format_fact(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def format_amount(number: int | None) -> str:
    """Return a number in three digits: 485.7M, 12.3k, 512; `?` where it is not known."""
    if number is None:
        return "?"
    rounded = int(float(f"{number:.3g}"))
    for unit, letter in ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "k")):
        if rounded >= unit:
            return f"{rounded / unit:.10g}{letter}"
    return str(number)


def format_tokens(row: ModelRow) -> str:
    """Return the kind of tokens in a word: `base`, `6-mer`, `6-mer/1` (one begins at every base), `BPE 32k`."""
    if row.tokenizer == "k-mer" and row.kmer_size:
        return f"{row.kmer_size}-mer" + (f"/{row.kmer_stride}" if row.kmer_stride not in (None, row.kmer_size) else "")
    if row.tokenizer == "BPE" and row.vocabulary:
        return f"BPE {format_amount(row.vocabulary)}"
    return row.tokenizer or "?"


__all__ = ["describe_row", "format_amount", "format_tokens", "show_model", "show_models"]
