"""How is a batch of sequences cut into segments that are read one after the other?"""

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
        begun: bool [R], whether each of the sequences has begun: all have, but where every step has every sequence.
    """

    rows: torch.Tensor
    places: torch.Tensor
    distance: int
    begun: torch.Tensor


def plan_steps(
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropped_ids: list[int],
    content_length: int,
    max_segments: int | None,
    alignment: str,
    whole: bool = False,
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
        whole: whether every step has all sequences, also those that have not begun, and all `content_length` places,
            so that all are of one shape.

    Returns:
        The steps in order, at least one; a sequence without content has one segment without content. A graph that is
        being traced knows T only, not what the sequences hold: it has the steps of T tokens of content.
    """
    traced = torch.compiler.is_compiling()
    B, T = input_ids.shape
    content = torch.stack([input_ids != token for token in dropped_ids]).all(0)
    if attention_mask is not None:
        content = content & attention_mask.bool()
    place = torch.arange(T, device=input_ids.device)
    order = torch.where(content, place, place + T).argsort(dim=1)  # the content first, in its order
    limit = T if max_segments is None else min(T, content_length * max_segments)
    counts = content.sum(1).clamp(max=limit)
    full, first = _measure_segments(counts, content_length, alignment)
    numbers = 1 + _divide_up(counts - first, full)
    most = max(1, -(-limit // content_length)) if traced else int(numbers.max())
    # Of each step and sequence: its segment, below 0 where the sequence has not begun, and where that lies.
    index = numbers - torch.arange(most, 0, -1, device=input_ids.device)[:, None]
    starts = torch.where(index > 0, first + (index - 1) * full, 0)
    ends = torch.where(index < 0, 0, torch.minimum(first + index * full, counts))
    everyone = torch.arange(B, device=input_ids.device)
    if traced or whole:
        width = content_length if whole else min(content_length, T)
        from_start = starts[..., None] + torch.arange(width, device=input_ids.device)
        places = order.expand(most, -1, -1).gather(2, from_start.clamp(max=T - 1)) if T else from_start
        places = places.masked_fill(from_start >= ends[..., None], -1)
        begun = index >= 0
        return [Step(everyone, places[number], most - number, begun[number]) for number in range(most)]
    steps = []
    for number in range(most):
        rows = (index[number] >= 0).nonzero()[:, 0]
        width = int((ends[number] - starts[number]).max())
        from_start = starts[number, rows, None] + torch.arange(width, device=input_ids.device)
        places = order[rows].gather(1, from_start.clamp(max=T - 1)) if width else from_start
        places = places.masked_fill(from_start >= ends[number, rows, None], -1)
        steps.append(Step(rows, places, most - number, index[number, rows] >= 0))
    return steps


def _measure_segments(counts: torch.Tensor, length: int, alignment: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens of the segments of `counts` [B] tokens, and of the first one of them."""
    full = torch.full_like(counts, length)
    if alignment == "balanced":
        full = _divide_up(counts, _divide_up(counts, full).clamp(min=1)).clamp(min=1)
    first = (counts - 1) % full + 1 if alignment == "right" else full
    return full, torch.minimum(first, counts)


def _divide_up(counts: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    return (counts + by - 1).div(by, rounding_mode="floor")


__all__ = ["Step", "plan_steps"]
