"""One block on several processes (context parallelism): for blocks whose activations no device holds, 32k and 131k.

Of n processes, each has two of 2n pieces of every block, r and 2n - 1 - r, so that all have as many pairs to attend to.
Whatever is of single tokens stays where it is. Keys and values of a layer are gathered from all (as in Dubey et al.
2024, The Llama 3 Herd of Models, section 3.3.2; those of one layer are small beside its other activations), and motif
memories get the end of the piece before each (`gengram.gengram.context_parallel`).

PyTorch's own `context_parallel`, which accelerate's `cp_size` turns on, knows kernels of CUDA only, cuts the batch
behind the back of the loss, and does not know the memories. Dimensions: B blocks, T tokens, n processes.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from gengram.errors import InputError
from gengram.gengram.context_parallel import set_context_parallel
from gengram.gengram.motif_memory import MotifMemory
from gengram.training.problems import IGNORED

_GATHERED = "gathered"


class SharedBlocks:
    """Spreads the blocks of a causal model over groups of processes: ranks 0 .. n-1, n .. 2n-1, ...

    All processes make it at the same time. Until `apart`, the model's attention and memories are those of pieces.

    Args:
        model: to be trained.
        size: n, processes that share a block.
        block_size: T.

    Raises:
        `InputError`: processes that do not make groups, blocks that do not make pieces, or a model that cannot be
            spread.
    """

    def __init__(self, model: Any, size: int, block_size: int):
        check_shared(model.config, size, block_size, dist.get_world_size() if dist.is_initialized() else 1)
        for part in model.modules():
            if isinstance(part, MotifMemory):
                halo = part.window.history + (0 if part.short_conv is None else part.short_conv.history)
                if block_size // (2 * size) < halo:
                    raise InputError(
                        f"context_parallel={size}: pieces of {block_size // (2 * size)} tokens are shorter than the "
                        f"{halo} that a memory looks back; take longer blocks or fewer processes"
                    )
        self.group = dist.new_subgroups(group_size=size)[0]
        self.size, self.rank = size, dist.get_rank(self.group)
        self.model = model
        pieces = [[rank, 2 * size - 1 - rank] for rank in range(size)]
        self.pieces = pieces[self.rank]
        self._order = torch.tensor(pieces).flatten().argsort()
        self._before = model.config._attn_implementation
        AttentionInterface.register(_GATHERED, self._attend)
        AttentionMaskInterface.register(_GATHERED, lambda *args, **kwargs: None)
        self._join()

    def _join(self) -> None:
        self.model.set_attn_implementation(_GATHERED)
        if any(isinstance(part, MotifMemory) for part in self.model.modules()):
            set_context_parallel(self.model, self.group)

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """Let each process compute whole sequences by itself, as an evaluation does."""
        self.model.set_attn_implementation(self._before)
        if any(isinstance(part, MotifMemory) for part in self.model.modules()):
            set_context_parallel(self.model, None)
        try:
            yield
        finally:
            self._join()

    def cut(
        self, inputs: dict[str, torch.Tensor], labels: torch.Tensor
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Return this process's part of a batch.

        Args:
            inputs: `input_ids` int64 [B, T] and, if there is one, an `attention_mask` of ones.
            labels: int64 [B, T], each of its own token.

        Returns:
            inputs of T / n tokens with their `position_ids`, and for each the label of the token behind it.

        Raises:
            `InputError`: padding, or documents that are packed.
        """
        ids = inputs["input_ids"]
        mask = inputs.get("attention_mask")
        if (mask is not None and not bool(mask.all())) or inputs.get("position_ids") is not None:
            raise InputError("blocks that processes share have no padding and one document each: leave pack out")
        if ids.shape[1] % (2 * self.size):
            raise InputError(
                f"{self.size} processes share a block in {2 * self.size} pieces; {ids.shape[1]} tokens cannot be cut so"
            )
        positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        following = pad(labels[:, 1:], (0, 1), value=IGNORED)
        return {"input_ids": self._take(ids), "position_ids": self._take(positions)}, self._take(following)

    def _take(self, x: torch.Tensor) -> torch.Tensor:
        pieces = x.chunk(2 * self.size, dim=1)
        return torch.cat([pieces[number] for number in self.pieces], dim=1)

    def _attend(
        self,
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        scaling: float | None = None,
        dropout: float = 0.0,
        **_: Any,
    ) -> tuple[torch.Tensor, None]:
        """Attention of this process's queries [B, H, T / n, d] to keys and values of the whole block, up to each."""
        groups = getattr(module, "num_key_value_groups", 1)
        key, value = (self._gather(x, groups) for x in (key, value))
        length = query.shape[2] // 2
        answers = []
        for number, part in zip(self.pieces, query.chunk(2, dim=2)):
            end = (number + 1) * length
            seen: Any = causal_lower_right(length, end)
            answers.append(
                scaled_dot_product_attention(
                    part, key[:, :, :end], value[:, :, :end], attn_mask=seen, dropout_p=dropout, scale=scaling
                )
            )
        return torch.cat(answers, dim=2).transpose(1, 2), None

    def _gather(self, x: torch.Tensor, groups: int) -> torch.Tensor:
        """[B, H / groups, T / n, d] of this process -> [B, H, T, d] in order; gradients are summed on the way back."""
        parts = _Gather.apply(x.contiguous(), self.group)
        pieces = [piece for part in parts for piece in part.chunk(2, dim=2)]
        whole = torch.cat([pieces[number] for number in self._order], dim=2)
        return whole.repeat_interleave(groups, dim=1) if groups > 1 else whole


class _Gather(torch.autograd.Function):
    """All processes' tensors of one shape; each gets the sum of what comes back for its own."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, group: dist.ProcessGroup) -> tuple[torch.Tensor, ...]:
        ctx.group = group
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size(group))]
        dist.all_gather(parts, x, group=group)
        return tuple(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        own = torch.empty_like(gradients[0], memory_format=torch.contiguous_format)
        dist.reduce_scatter(own, [gradient.contiguous() for gradient in gradients], group=ctx.group)
        return own, None


def check_shared(config: Any, size: int, block_size: int, processes: int) -> None:
    """Refuse what processes cannot share; without any process or weights.

    Raises:
        `InputError`: see `SharedBlocks`.
    """
    if size < 2 or processes % size:
        raise InputError(
            f"context_parallel={size}: {processes} processes cannot be divided into groups of {size} that share a block"
        )
    if block_size % (2 * size):
        raise InputError(
            f"context_parallel={size}: blocks are cut into {2 * size} pieces; {block_size} tokens cannot be cut so"
        )
    inner = config
    while getattr(inner, "backbone_config", None) is not None:
        inner = inner.backbone_config
    kinds = set(getattr(inner, "layer_types", None) or ["full_attention"]) - {"full_attention"}
    if kinds or (getattr(inner, "sliding_window", None) and getattr(inner, "layer_types", None) is None):
        raise InputError(f"context_parallel: a {inner.model_type} with windows of attention cannot be spread")


__all__ = ["SharedBlocks", "check_shared"]
