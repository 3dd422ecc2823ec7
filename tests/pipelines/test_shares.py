"""Shares of a run: every part has one process, and lengths are dealt out evenly."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed import FileStore

from gengram.pipelines.shares import ALONE, Member, Shard, name_share
from gengram.team import Team


def test_every_part_is_of_one_shard():
    for count in (1, 2, 5):
        taken = [[Shard(index, count).takes(part) for index in range(1, count + 1)] for part in range(12)]
        assert all(sum(row) == 1 for row in taken)
    assert Shard(1, 1) == ALONE and str(Shard(2, 8)) == "2/8" and name_share((2, 8)) == Shard(2, 8)


@given(st.lists(st.integers(1, 2_000_000), max_size=60), st.integers(1, 9))
def test_lengths_are_dealt_out_evenly(sizes, count):
    dealt = [Shard(index, count).deal(sizes) for index in range(1, count + 1)]
    owners = [[number for number, takes in enumerate(dealt) if takes(part)] for part in range(len(sizes))]
    assert all(len(some) == 1 for some in owners)
    loads = Counter({number: 0 for number in range(count)})
    for size, (owner,) in zip(sizes, owners):
        loads[owner] += size
    assert max(loads.values()) - min(loads.values()) <= max(sizes, default=0)


def test_a_contig_that_is_longer_than_all_others_is_one_process_s_only_one():
    takes = Shard(1, 2).deal([10, 1, 2, 3])
    assert [takes(part) for part in range(4)] == [True, False, False, False]


@pytest.mark.parametrize("deal", [False, True])
def test_members_take_what_is_left(deal, tmp_path):
    teams = [Team(rank, 2, FileStore(str(tmp_path / "store"), 2)) for rank in range(2)]
    takes = [Member(team).deal([1] * 6) if deal else Member(team).takes for team in teams]
    assert [takes[0](0), takes[1](0), takes[1](1), takes[1](2), takes[0](1), takes[0](2), takes[0](3)] == [
        True, False, True, True, False, False, True,
    ]  # fmt: skip
    assert str(Member(teams[1])) == "2/2" and name_share(member := Member(teams[0])) is member
