"""What is there to find out about a machine? All parts of it, in the order in which they are shown."""

from gengram.benchmarks.doctor.apart import examine_apart
from gengram.benchmarks.doctor.facts import Fact
from gengram.progress import tell

PARTS = ("libraries", "compiler", "devices", "threads", "kernels", "folders", "extras")
_PACKAGE = "gengram.benchmarks.doctor"


def examine_machine(hub: bool) -> list[Fact]:
    """
    Examine the machine, in processes of their own.

    Args:
        hub: whether to ask the Hub as well, over the network.
    """
    parts = (*PARTS, "hub") if hub else PARTS
    facts: list[Fact] = []
    told: set[str] = set()
    for fact in examine_apart([f"{_PACKAGE}.{part}" for part in parts]):
        if fact.group not in told:
            told.add(fact.group)
            tell(f"gengram doctor: {fact.group} ...")
        facts.append(fact)
    return facts


__all__ = ["PARTS", "examine_machine"]
