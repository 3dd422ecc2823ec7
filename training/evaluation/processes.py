"""What do the processes of a run add up to? Each scores its share of the windows; what they found is put together."""

from typing import Any

import numpy as np
import torch
from torch import distributed


def find_place(group: Any = None) -> tuple[int, int]:
    """Return which process this is and how many there are in a group of torch.distributed; (0, 1) without one."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(group), distributed.get_world_size(group)


def merge_rows(rows: np.ndarray, device: torch.device, group: Any = None) -> np.ndarray:
    """Return rows of which each process has filled some and left the others zero: exact, as all but one term are 0.

    Args:
        rows: float64 of any shape, the same in all processes.
        device: where the group's processes exchange tensors.
        group: of torch.distributed; None: all processes.
    """
    if find_place(group)[1] == 1:
        return rows
    # NCCL takes tensors of a GPU alone, gloo those of a CPU; MPS has no float64.
    place = device if device.type == "cuda" else torch.device("cpu")
    whole = torch.from_numpy(rows).to(place)
    distributed.all_reduce(whole, group=group)
    return whole.cpu().numpy()


__all__ = ["find_place", "merge_rows"]
