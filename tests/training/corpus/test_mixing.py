"""Weights of groups and genomes become shares of windows."""

import pytest

from gengram.errors import InputError
from gengram.training.corpus.mixing import weigh_species


def describe(*species) -> dict:
    return {"species": [{"name": name, "group": group, "weight": weight} for name, group, weight in species]}


FACTS = describe(("human", "human", None), ("mouse", "others", None), ("rat", "others", None))
BASES = {"human": 1000, "mouse": 300, "rat": 100}


def test_without_weights_bases_count():
    assert weigh_species(FACTS, BASES) == pytest.approx({"human": 10 / 14, "mouse": 3 / 14, "rat": 1 / 14})


def test_groups_share_by_their_weights_and_genomes_by_their_bases():
    expected = pytest.approx({"human": 0.5, "mouse": 0.375, "rat": 0.125})
    assert weigh_species(FACTS, BASES, {"human": 1, "others": 1}) == expected
    assert weigh_species({**FACTS, "recipe": {"groups": {"human": 7, "others": 7}}}, BASES) == expected
    assert weigh_species(FACTS, BASES, {"human": 0, "others": 2}) == pytest.approx(
        {"human": 0, "mouse": 0.75, "rat": 0.25}
    )


def test_genomes_share_by_their_weights():
    facts = describe(("human", "human", 3), ("mouse", "others", 1), ("rat", "others", 4))
    found = weigh_species(facts, BASES, {"human": 1, "others": 1})
    assert found == pytest.approx({"human": 0.5, "mouse": 0.1, "rat": 0.4})


def test_what_has_nothing_to_draw_takes_no_part():
    found = weigh_species(FACTS, {"human": 10, "mouse": 0}, {"human": 1, "others": 3})
    assert found == {"human": 1, "mouse": 0, "rat": 0}


@pytest.mark.parametrize(
    ("facts", "groups", "message"),
    [
        (FACTS, {"human": 0, "others": 0}, "sum to zero: human of group human, mouse of group others"),
        (describe(("human", "human", 0)), None, "sum to zero: human"),
        (FACTS, {"human": 1}, "group others has no weight"),
        (FACTS, {"human": 1, "others": 1, "othres": 1}, "group othres, and no genome.*did you mean 'others'"),
        (FACTS, {"human": -1, "others": 1}, "group human is -1"),
        (FACTS, {"human": float("nan"), "others": 1}, "group human is nan"),
        (FACTS, {"human": True, "others": 1}, "group human is True"),
        (FACTS, {"human": "1", "others": 1}, "group human is '1'"),
        (describe(("human", "human", float("inf"))), None, "weight of human is inf"),
        (describe(("mouse", "others", 1), ("rat", "others", None)), None, "mouse has a weight and rat has none"),
    ],
)
def test_weights_that_are_none_are_refused(facts, groups, message):
    with pytest.raises(InputError, match=message):
        weigh_species(facts, BASES, groups)
