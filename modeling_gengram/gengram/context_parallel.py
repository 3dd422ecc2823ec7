"""The memory where a sequence is spread over processes (context or sequence parallelism).

A position depends on a few positions before it, so each process needs the end of the piece in front of its own: the
letters of the window, and the hidden states from which the convolution's gated vectors are computed again. The gated
vectors themselves would be as many numbers; hidden states leave the memory's fused forms as they are.
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.distributed as dist
from torch import nn

from .kmer_index import INVALID_LETTER, KmerContext, KmerWindow


class ContextParallel:
    """
    Which pieces of the sequence this process holds, and how they are exchanged.

    Args:
        group (`ProcessGroup`): the processes that share a sequence, in the sequence's order.
        layout (`"zigzag"` or `"contiguous"`): with n processes, rank r holds pieces r and 2n-1-r of 2n (the
            load-balanced layout of ring attention and of `torch.distributed.tensor.experimental.context_parallel`), or
            piece r of n.

    Raises:
        ValueError: another layout.
    """

    def __init__(self, group: dist.ProcessGroup, layout: Literal["zigzag", "contiguous"] = "zigzag"):
        if layout not in ("zigzag", "contiguous"):
            raise ValueError(f"layout={layout!r}: use 'zigzag' or 'contiguous'.")
        self.group = group
        rank, ranks = dist.get_rank(group), dist.get_world_size(group)
        zigzag = layout == "zigzag"
        self.pieces = [rank, 2 * ranks - 1 - rank] if zigzag else [rank]
        self.total = len(self.pieces) * ranks

    def owner(self, piece: int) -> int:
        """Rank in the group that holds a piece."""
        return piece if piece < dist.get_world_size(self.group) else self.total - 1 - piece

    def run(
        self,
        compute: Callable[[torch.Tensor, KmerContext], torch.Tensor],
        hidden_states: torch.Tensor,
        context: KmerContext,
        window: KmerWindow,
        reach: int,
    ) -> torch.Tensor:
        """
        Run a memory on this process's part of the sequence.

        Args:
            compute: the memory: hidden states and context of the same positions -> residual.
            hidden_states (`torch.Tensor` [B, T, D]): this process's pieces, one behind the other.
            context (`KmerContext`): of the same T positions; documents are numbered over the whole sequence.
            reach (`int`): positions before one whose gated vectors its convolution reads.

        Returns:
            `torch.Tensor` [B, T, D].

        Raises:
            ValueError: a cache, a centred window, T that the pieces do not divide, or pieces shorter than the halo.
        """
        B, T, D = hidden_states.shape
        P = len(self.pieces)
        halo = window.history + reach  # positions in front of a piece: letters of all, hidden states of the last
        if context.state is not None:
            raise ValueError("A cache cannot be spread over processes: pass use_cache=False with context parallelism.")
        if window.first_lag < 0:
            raise ValueError("A centred window sees bases to the right: it has no context parallelism.")
        if T % P or halo > T // P:
            raise ValueError(
                f"{T} positions a process: context parallelism needs {P} equal pieces of at least {halo} positions."
            )

        def split(x: torch.Tensor) -> torch.Tensor:  # [B, T, ...] -> [P, B, T / P, ...]
            return x.unflatten(1, (P, T // P)).transpose(0, 1)

        def extend(x: torch.Tensor, length: int) -> torch.Tensor:  # -> [P * B, length + T / P, ...]
            x = split(x)
            if length == 0:
                return x.flatten(0, 1)
            past = _Exchange.apply(x[:, :, -length:], self, 1)
            return torch.cat([past, x], dim=2).flatten(0, 1)

        # Shifted, so that the zeros in front of the first piece are no letters.
        letters = extend(context.letters - INVALID_LETTER, halo) + INVALID_LETTER
        documents = None if context.documents is None else extend(context.documents, halo)
        real = torch.ones(B, T, dtype=torch.bool, device=letters.device) if context.real is None else context.real
        real = extend(real.to(letters.dtype), reach).bool()
        hidden_states = extend(hidden_states, reach)
        pieces = KmerContext(letters, documents, real, history=window.history)
        residual = compute(hidden_states, pieces)[:, reach:]
        return residual.unflatten(0, (P, B)).transpose(0, 1).reshape(B, T, D)


class _Exchange(torch.autograd.Function):
    """Hand something of each piece to the next one (step 1) or the one before (-1); gradients go the other way."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, ranks: ContextParallel, step: int) -> torch.Tensor:
        ctx.ranks, ctx.step = ranks, step
        received = torch.zeros_like(x, memory_format=torch.contiguous_format)
        mine = dist.get_rank(ranks.group)
        operations = []
        for index, piece in enumerate(ranks.pieces):
            target, source = piece + step, piece - step
            if 0 <= target < ranks.total:
                if (owner := ranks.owner(target)) == mine:
                    received[ranks.pieces.index(target)] = x[index]
                else:
                    operations.append(
                        dist.P2POp(dist.isend, x[index].contiguous(), group=ranks.group, group_peer=owner)
                    )
            if 0 <= source < ranks.total and (owner := ranks.owner(source)) != mine:
                operations.append(dist.P2POp(dist.irecv, received[index], group=ranks.group, group_peer=owner))
        if operations:
            for request in dist.batch_isend_irecv(operations):
                request.wait()
        return received

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return _Exchange.apply(gradient, ctx.ranks, -ctx.step), None, None


def set_context_parallel(
    model: nn.Module,
    group: dist.ProcessGroup | None,
    layout: Literal["zigzag", "contiguous"] = "zigzag",
) -> None:
    """
    Tell every memory of a model that sequences are spread over processes.

    It covers the memories. Attention's part (ring attention over the same pieces, with `position_ids` of the whole
    sequence) is PyTorch's; gradients of the weights are sums over the processes, as for every other weight.

    Args:
        model (`nn.Module`): a Gengram model, or a memory.
        group (`ProcessGroup` or `None`): the processes that share a sequence; `None` ends it.
        layout (`"zigzag"` or `"contiguous"`): see `ContextParallel`.

    Raises:
        ValueError: there is no memory in the model, or another layout.
    """
    memories = [module for module in model.modules() if hasattr(module, "context_parallel")]
    if not memories:
        raise ValueError(f"{type(model).__name__} has no motif memory.")
    ranks = None if group is None else ContextParallel(group, layout)
    for memory in memories:
        memory.context_parallel = ranks


__all__ = ["ContextParallel", "set_context_parallel"]
