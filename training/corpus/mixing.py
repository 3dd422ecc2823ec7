"""How often is each species drawn? Weights of groups, and within a group of genomes."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from gengram.errors import InputError, suggest
from gengram.printable import shorten

_MOST = 1e12  # weights are ratios: larger ones are mistakes


def weigh_species(
    facts: Mapping[str, Any], bases: Mapping[str, int], groups: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Return the share of windows that each species gets; they sum to 1.

    Groups share windows by their weights. Within a group, genomes share by their weights or, where they have none, by
    their bases. Where no group has a weight, all genomes are one group. A group or genome without a base to draw takes
    no part, and the others share what it would have had.

    Args:
        facts: of a corpus: `species`, each with `name`, `group` and `weight`, and its recipe's `groups`.
        bases: that windows can be drawn from, by name of species.
        groups: weights of groups, in place of the recipe's.

    Raises:
        `InputError`: a group that the corpus does not have, one of the corpus without a weight, genomes of a group of
            which only some have a weight, a weight that is none, weights that sum to zero.

    Example:
        >>> species = [{"name": name, "group": "apes", "weight": None} for name in ("human", "chimp")]
        >>> weigh_species({"species": species}, {"human": 300, "chimp": 100})
        {'human': 0.75, 'chimp': 0.25}
    """
    species = facts["species"]
    weights = groups if groups is not None else (facts.get("recipe") or {}).get("groups")
    members: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for one in species:
        members[one["group"] if weights else "all"].append(one)
    if weights:
        _check_groups(weights, members)
    shares: dict[str, float] = {}
    for group, genomes in members.items():
        found = _weigh_genomes(group, genomes, bases)
        total = sum(found.values())
        for name, weight in found.items():
            shares[name] = (weights[group] if weights else 1) * weight / total if total else 0.0
    total = sum(shares.values())
    if not total:
        raise InputError(
            "the weights of what can be drawn sum to zero: "
            + ", ".join(f"{one['name']} of group {one['group']}" for one in species if bases.get(one["name"]))
            + " would never be drawn. Give one of them, and its group, a weight above 0"
        )
    return {name: share / total for name, share in shares.items()}


def _weigh_genomes(group: str, genomes: list[Mapping[str, Any]], bases: Mapping[str, int]) -> dict[str, float]:
    given = [one for one in genomes if one.get("weight") is not None]
    if given and len(given) < len(genomes):
        without = next(one["name"] for one in genomes if one.get("weight") is None)
        raise InputError(
            f"group {group}: {given[0]['name']} has a weight and {without} has none; give all genomes of a group "
            "weights, or none of them (then they share by their bases)"
        )
    for one in given:
        _check_weight(f"the weight of {one['name']}", one["weight"])
    return {
        one["name"]: (float(one["weight"]) if given else float(bases.get(one["name"], 0)))
        if bases.get(one["name"])
        else 0.0
        for one in genomes
    }


def _check_groups(weights: Mapping[str, float], members: Mapping[str, Any]) -> None:
    for group, weight in weights.items():
        _check_weight(f"the weight of group {group}", weight)
        if group not in members:
            raise InputError(
                f"there is a weight for group {group}, and no genome is of it (there are {', '.join(members)})"
                f"{suggest(group, members)}"
            )
    for group in members:
        if group not in weights:
            raise InputError(
                f"group {group} has no weight (there are weights for {', '.join(weights)}); 0 leaves it out"
            )


def _check_weight(name: str, weight: Any) -> None:
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not (0 <= weight <= _MOST):
        raise InputError(f"{name} is {shorten(repr(weight), 60)}: give a number from 0 to {_MOST:g}")


__all__ = ["weigh_species"]
