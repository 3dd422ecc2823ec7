"""How merged tables add up over the k-mer sizes, and how their gradients come back down.

Letters: K the largest k-mer size, D hidden size, R merged rows, F of them far rows.
"""

import ctypes
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensor

from .cpu_library import count_threads, find_function, load_kernel
from .kmer_index import NUM_LETTERS


@dataclass(frozen=True)
class TableLevels:
    """
    Which rows of merged tables (`merge_tables`) are sums of which. A row of one size contains the row of its end, the
    k-mer of the next smaller size; below the sizes, a far row is the sum of the beginnings of its (K-1)-mer.

    Args:
        bounds (`tuple[int, ...]`): first row of each size, ascending, then the first far row.
        parents (`torch.Tensor` int64 [R - F]): row of the end of each row; unused for the smallest size.
        parts (`torch.Tensor` int64 [F, P]): the rows that a far row is the sum of.
    """

    bounds: tuple[int, ...]
    parents: torch.Tensor
    parts: torch.Tensor

    def add_up(self, rows: torch.Tensor) -> None:
        """
        Make merged rows of projected ones, in place.

        Args:
            rows (`torch.Tensor` [R, 2D]): contiguous; of each size its own projected rows, of far rows anything.
        """
        if _can_call(rows):
            _call("add_up", self, rows, merged=rows)
            return
        for begin, end in itertools.pairwise(self.bounds[1:]):
            rows[begin:end] += rows[self.parents[begin:end]]
        rows[self.bounds[-1] :] = _sum_rows(self.parts.flatten(), _count_up(self.parts), rows)

    def hand_down(self, grad: torch.Tensor) -> list[torch.Tensor]:
        """
        Gradients of the projected rows, size by size, from those of the merged rows [R, 2D]. The order of the sums is
        that of the rows, always.
        """
        grad = grad.contiguous()
        children, starts = self._find_children()
        *below, largest, _ = self.bounds
        if _can_call(grad):
            total = grad.new_empty(largest, grad.shape[1])
            _call("hand_down", self, grad, grad=grad, total=total, children=children, starts=starts)
        else:
            total = grad.clone()
            for begin, end in reversed([*itertools.pairwise((*below, largest))]):
                first, last = int(starts[begin]), int(starts[end])
                total[begin:end] += _sum_rows(children[first:last], starts[begin : end + 1] - first, total)
        return [total[a:b] for a, b in itertools.pairwise((*below, largest))] + [grad[largest : self.bounds[-1]]]

    def _find_children(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows that contain each row, one after the other, and where those of each row begin, [R - F + 1]."""
        first, far = self.bounds[1], self.bounds[-1]
        containing = torch.arange(first, far + len(self.parts), device=self.parts.device)
        containing = torch.cat(
            [containing[: far - first], containing[far - first :].repeat_interleave(self.parts.shape[1])]
        )
        contained = torch.cat([self.parents[first:], self.parts.flatten()])
        ends = torch.bincount(contained, minlength=far).cumsum(0)
        return containing[contained.argsort(stable=True)], torch.cat([ends.new_zeros(1), ends])


def find_levels(kmers: Sequence[torch.Tensor], sizes: Sequence[int]) -> TableLevels:
    """
    Args:
        kmers: indices (int64, ascending) of the k-mers that have a row, for k = 0 .. K; with each k-mer those at its
            end and at its beginning.
        sizes: k-mer sizes, ascending, the last of them K.
    """
    bounds = (0, *itertools.accumulate(len(kmers[k]) for k in sizes))
    first = dict(zip(sizes, bounds))

    def find(k: int, indices: torch.Tensor) -> torch.Tensor:
        return first[k] + torch.searchsorted(kmers[k], indices % NUM_LETTERS**k)

    parents = [torch.zeros_like(kmers[sizes[0]])]
    parents += [find(smaller, kmers[k]) for smaller, k in itertools.pairwise(sizes)]
    far, shorter = kmers[sizes[-1] - 1], sizes[-1] - 1
    parts = [
        find(max(size for size in sizes if size <= k), far // NUM_LETTERS ** (shorter - k))
        for k in range(sizes[0], sizes[-1])
    ]
    return TableLevels(bounds, torch.cat(parents), torch.stack(parts, 1) if parts else far.new_zeros(len(far), 0))


def sum_rows(rows: torch.Tensor, groups: torch.Tensor, count: int) -> torch.Tensor:
    """
    Sum of the rows [n, C] of each of `count` groups, by the group [n] of each row: [count, C]. As `index_add_`, but
    always in the order of the rows, and several times faster than its CPU version where rows are few.
    """
    ends = torch.bincount(groups, minlength=count).cumsum(0)
    return _sum_rows(groups.argsort(stable=True), torch.cat([ends.new_zeros(1), ends]), rows)


def _sum_rows(chosen: torch.Tensor, starts: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Sums of the rows that are chosen from each start to the next."""
    return F.embedding_bag(chosen, rows, starts, mode="sum", include_last_offset=True)


def _count_up(parts: torch.Tensor) -> torch.Tensor:
    return torch.arange(len(parts) + 1, device=parts.device) * parts.shape[1]


class _Levels(ctypes.Structure):
    """`Levels` of `cpu_kernel.cpp`, field by field."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("columns", "num_sizes", "num_far", "num_parts", "threads")),
        *((name, ctypes.c_void_p) for name in (
            "bounds", "parents", "parts", "merged", "children", "starts", "grad", "total",
        )),
    ]  # fmt: skip


def _can_call(rows: torch.Tensor) -> bool:
    return rows.device.type == "cpu" and rows.dtype in (torch.float32, torch.float64) and load_kernel() is not None


def _call(direction: str, levels: TableLevels, rows: torch.Tensor, **tensors: torch.Tensor) -> None:
    if isinstance(rows, FakeTensor):  # There are no numbers to add: somebody asks for the sizes of the results.
        return
    tensors = {"bounds": torch.tensor(levels.bounds), "parents": levels.parents, "parts": levels.parts, **tensors}
    call = _Levels(
        columns=rows.shape[1], num_sizes=len(levels.bounds) - 1, num_far=len(levels.parts),
        num_parts=levels.parts.shape[1], threads=count_threads(rows),
        **{name: tensor.data_ptr() for name, tensor in tensors.items()},
    )  # fmt: skip
    find_function(direction, rows.dtype)(ctypes.byref(call))


__all__ = ["TableLevels", "find_levels", "sum_rows"]
