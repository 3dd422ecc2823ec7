"""What is a fact of a machine, and how are facts shown? One line each, and below it what to do about it."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from gengram.printable import make_printable, shorten

Verdict = Literal["ok", "note", "fails"]

_LONGEST = 400  # letters of what was found


class Fact(NamedTuple):
    """
    Attributes:
        group: the heading that it stands below.
        name: what was looked at.
        found: what it is like, in a few words.
        verdict: `fails` where something that should run does not; `note` where something is missing that nobody needs,
            or costs time.
        remedy: what to do; empty where there is nothing.
        data: numbers and names for programs, by name.
    """

    group: str
    name: str
    found: str
    verdict: Verdict = "ok"
    remedy: str = ""
    data: dict[str, Any] = {}


class Step(NamedTuple):
    """
    What is looked at in one go.

    Attributes:
        group, name: of its fact, where it does not come to one.
        run: returns facts.
        seconds: that it may take.
        spoils: whether an error of it may make fail what follows in the same process.
        remedy: what to do where it crashes, hangs or raises an error.
    """

    group: str
    name: str
    run: Callable[[], Fact | list[Fact]]
    seconds: float = 120.0
    spoils: bool = False
    remedy: str = "what is broken stands above, among the libraries; if nothing does, please report it with this table"


def describe_facts(facts: Sequence[Fact]) -> dict[str, Any]:
    """Return them as a JSON object."""
    counts = {verdict: sum(fact.verdict == verdict for fact in facts) for verdict in ("ok", "note", "fails")}
    return {"healthy": not counts["fails"], "verdicts": counts, "facts": [fact._asdict() for fact in facts]}


def tabulate_facts(facts: Sequence[Fact]) -> str:
    """Return them as text: groups, in each of them a line a fact, and below it the remedy."""
    width = max((len(_show(fact.name)) for fact in facts), default=0)
    lines: list[str] = []
    for group in dict.fromkeys(fact.group for fact in facts):
        lines += ["", group] if lines else [group]
        for fact in (fact for fact in facts if fact.group == group):
            lines.append(f"  {fact.verdict:<6}{_show(fact.name):<{width + 2}}{_show(fact.found)}".rstrip())
            if fact.remedy:
                lines.append(f"{'':<8}{'':<{width + 2}}-> {_show(fact.remedy)}")
    failing, notes = (sum(fact.verdict == verdict for fact in facts) for verdict in ("fails", "note"))
    told = f"{failing} {'line' if failing == 1 else 'lines'} with something to be done"
    told = told if failing else "everything that should run here does"
    return "\n".join([*lines, "", f"{told}; {notes} {'note' if notes == 1 else 'notes'}"])


def _show(text: str) -> str:
    return shorten(make_printable(text), _LONGEST)


__all__ = ["Fact", "Step", "Verdict", "describe_facts", "tabulate_facts"]
