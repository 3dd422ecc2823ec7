"""How is a batch of sequences cut into segments that are read one after the other?"""

import itertools
import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Step:
    """
    The segments that are read at the same time: one of each sequence that is not finished.

    Attributes:
        rows: int64 [R], the sequences of the batch.
        places: int64 [R, N], where in its sequence each token of the content stands; -1 behind the last one.
        distance: steps to the end, 1 for the last one.
    """

    rows: torch.Tensor
    places: torch.Tensor
    distance: int


def plan_steps(
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropped_ids: list[int],
    content_length: int,
    max_segments: int | None,
    alignment: str,
) -> list[Step]:
    """
    Cut sequences into segments; all sequences end with the last step, the shorter ones begin later.

    Args:
        input_ids: int64 [B, T].
        attention_mask: [B, T], 0 where there is nothing; or None.
        dropped_ids: tokens that every segment has anew, and padding.
        content_length: most tokens of a segment's content.
        max_segments: of a sequence; what is beyond is cut off at the end. None: no limit.
        alignment: `right` (the first segment is short), `left` (the last one), `balanced` (as equal as can be).

    Returns:
        The steps in order, at least one; a sequence without content has one segment without content.
    """
    content = ~torch.isin(input_ids, torch.tensor(dropped_ids, device=input_ids.device))
    if attention_mask is not None:
        content &= attention_mask.bool()
    order = torch.argsort(content.int(), dim=1, descending=True, stable=True)  # the content first, in its order
    bounds = [_cut(count, content_length, max_segments, alignment) for count in content.sum(1).tolist()]
    steps = []
    for distance in range(max(map(len, bounds)), 0, -1):
        rows = [row for row, segments in enumerate(bounds) if len(segments) >= distance]
        starts, ends = zip(*(bounds[row][-distance] for row in rows))
        within = torch.arange(max(end - start for start, end in zip(starts, ends)), device=input_ids.device)
        here = torch.tensor(rows, device=input_ids.device)
        from_start = torch.tensor(starts, device=input_ids.device)[:, None] + within
        inside = from_start < torch.tensor(ends, device=input_ids.device)[:, None]
        places = order[here].gather(1, from_start.clamp(max=max(order.shape[1] - 1, 0))) if len(within) else from_start
        steps.append(Step(here, places.masked_fill(~inside, -1), distance))
    return steps


def _cut(count: int, length: int, max_segments: int | None, alignment: str) -> list[tuple[int, int]]:
    """Start and end of the segments of `count` tokens."""
    if max_segments is not None:
        count = min(count, length * max_segments)
    if count == 0:
        return [(0, 0)]
    if alignment == "balanced":
        length = math.ceil(count / math.ceil(count / length))
    first = (count % length or length) if alignment == "right" else min(length, count)
    edges = [0, *range(first, count, length), count]
    return list(itertools.pairwise(edges))


__all__ = ["Step", "plan_steps"]
