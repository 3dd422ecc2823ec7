"""Which parts of a run does a process compute? All, a fixed share of them, or whichever the others have not taken."""

import dataclasses
import heapq
from collections.abc import Callable, Sequence
from typing import TypeAlias

from gengram.team import Team


@dataclasses.dataclass(frozen=True)
class Shard:
    """One of `count` processes that know nothing of each other but their number, `index` from 1."""

    index: int = 1
    count: int = 1

    def takes(self, part: int) -> bool:
        """Whether a part, counted from 0, is one of its own."""
        return part % self.count == self.index - 1

    def deal(self, sizes: Sequence[int]) -> Callable[[int], bool]:
        """Return `takes` for parts of these sizes: the longest first, each to the shard that has the least yet."""
        loads = [(0, shard) for shard in range(self.count)]
        owners = {}
        for part in sorted(range(len(sizes)), key=lambda part: -sizes[part]):
            load, shard = heapq.heappop(loads)
            owners[part] = shard
            heapq.heappush(loads, (load + sizes[part], shard))
        return lambda part: owners[part] == self.index - 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


class Member:
    """One of several processes that were started together: it takes a part when it has time for one, so that all end
    at about the same time, however long the parts are and whatever they run on."""

    def __init__(self, team: Team):
        self.team = team

    def takes(self, part: int) -> bool:
        """Whether nobody else has taken a part; now this one has."""
        return self.team.claim(f"part {part}")

    def deal(self, sizes: Sequence[int]) -> Callable[[int], bool]:
        """Return `takes`."""
        return self.takes

    def __str__(self) -> str:
        return f"{self.team.rank + 1}/{self.team.size}"


Share: TypeAlias = Shard | Member

ALONE = Shard()
"""A process that does all itself."""


def name_share(shard: tuple[int, int] | Member) -> Share:
    """Return the share that a number of a shard and their count stand for."""
    return shard if isinstance(shard, Member) else Shard(*shard)


__all__ = ["ALONE", "Member", "Shard", "Share", "name_share"]
