"""BigBird's block-sparse attention at a tenth of the time and of the memory, inside transformers' own BigBird.

A block of 64 queries attends to the first block, its neighbours, itself, the last block, and in the original training
to random blocks; the first and the last block attend to everything. The keys of each block are gathered and given to
scaled dot-product attention, so nothing of size T x T exists. Source: Zaheer et al. 2020, Big Bird (arXiv 2007.14062);
outputs are those of transformers' `block_sparse` (docs/gena.md has the differences of its versions).

Dimensions: B sequences of T tokens in n = T / S blocks of S; H heads of d channels; r random blocks; c key blocks.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.functional import scaled_dot_product_attention
from transformers import PreTrainedModel
from transformers.models.big_bird.modeling_big_bird import BigBirdBlockSparseAttention, BigBirdModel
from transformers.utils import logging

logger = logging.get_logger(__name__)

RandomBlocks = Literal["none", "training", "always"]
MASKED = -10000.0  # as transformers' BigBird has it; finite, so that a row of padding stays finite
TILE = 128  # tokens of a tile of flex_attention
_GROUP = 8  # query blocks whose keys are gathered at once where no gradient is wanted


def use_fast_attention(
    model: PreTrainedModel, random_blocks: RandomBlocks = "none", flex: bool | None = None
) -> PreTrainedModel:
    """
    Give a BigBird of transformers this attention, in place; weights and their names stay as they are.

    Inputs of at most `(5 + 2r) * S` tokens (704 of GENA-LM's) get full attention, as in transformers, but call by call:
    transformers' own model stays with full attention for good once it has seen a short one.

    Args:
        model: a `BigBirdModel`, or a model with a head that contains one.
        random_blocks: which queries also see random blocks. `none`: none do, and the first block counts r times more
            instead: what today's transformers does in evaluation. `training`: random blocks in training, as today's
            transformers. `always`: in evaluation too, as transformers 4.17, with which GENA-LM was trained. The draw
            is transformers', by the number of the layer; numpy's own generator is left alone.
        flex: compute with compiled `flex_attention`; where gradients are wanted, a GPU is needed for that. Defaults to
            true on a GPU.

    Returns:
        The same model.

    Raises:
        ValueError: there is no BigBird encoder in the model.
    """
    bodies = [module for module in model.modules() if isinstance(module, BigBirdModel)]
    if not bodies:
        raise ValueError(f"{type(model).__name__} is no BigBird: there is no block-sparse attention to replace")
    for body in bodies:
        if body.config.is_decoder:
            raise ValueError("a BigBird decoder has full attention")
        for layer in body.encoder.layer:
            fast = FastBlockSparseAttention(layer.attention, random_blocks, flex)
            layer.attention.self = fast.train(layer.training)
        body.register_forward_pre_hook(_choose_attention, with_kwargs=True)
        body.register_forward_hook(_forget_plans, always_call=True)
    return model


def _choose_attention(body: BigBirdModel, args: tuple, kwargs: dict) -> None:
    """Before each forward: block-sparse attention, or full attention for a short input."""
    inputs = args[0] if args else kwargs.get("input_ids")
    T = (kwargs["inputs_embeds"] if inputs is None else inputs).shape[1]
    config = body.config
    short = config.block_size * (5 + 2 * config.num_random_blocks) >= T
    kind = "original_full" if short or config.attention_type == "original_full" else "block_sparse"
    body.attention_type = kind
    maps = kwargs.get("output_attentions")
    # Of this forward, and none that a graph would keep.
    plans: dict[torch.device, FlexPlan] | None = None if torch.compiler.is_compiling() else {}
    for layer in body.encoder.layer:
        layer.attention.self.plans = plans
        layer.attention_type = layer.attention.attention_type = kind
        layer.attention.self.wants_maps = config.output_attentions if maps is None else maps


def _forget_plans(body: BigBirdModel, *_: Any) -> None:
    """After each forward: the next one may have another mask."""
    for layer in body.encoder.layer:
        layer.attention.self.plans = None


class FastBlockSparseAttention(BigBirdBlockSparseAttention):
    """
    The attention of one BigBird layer, sparse or full as the call wants it; it takes over the projections.

    Where attention maps are asked for, they are made by the class that it is in the place of, in its time and memory.
    """

    def __init__(self, attention: nn.Module, random_blocks: RandomBlocks, flex: bool | None):
        # With new projections, which go; on no device, so that nothing is drawn for them.
        with torch.device("meta"):
            super().__init__(attention.config, attention.seed)
        self.config, self.wants_maps, self.plans = attention.config, False, None
        self.query, self.key, self.value = attention.self.query, attention.self.key, attention.self.value
        self.num_heads, self.random_blocks, self.flex = self.config.num_attention_heads, random_blocks, flex

    def forward(
        self,
        hidden_states: torch.Tensor,
        band_mask: torch.Tensor | None = None,
        from_mask: torch.Tensor | None = None,
        to_mask: torch.Tensor | None = None,
        *blocked_masks: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        Attend over [B, T, D].

        Args:
            from_mask, to_mask: 1 at tokens, 0 at padding, [B, 1, T, 1] and [B, 1, 1, T]; of the sparse attention.
            attention_mask: of the full attention, [B, 1, T, T] or None.

        Returns:
            What was attended to, [B, T, D], and the map [B, heads, T, T] where it was asked for.

        Raises:
            ValueError: a map of random blocks that transformers would not have drawn.
        """
        if self.wants_maps and to_mask is not None:
            if (self.random_blocks == "always") != self.training and self.random_blocks != "training":
                raise ValueError(
                    f"output_attentions: maps are those of transformers, whose random blocks are not those of "
                    f"random_blocks={self.random_blocks!r}; use random_blocks='training'"
                )
            drawn = np.random.get_state()
            answer = super().forward(hidden_states, band_mask, from_mask, to_mask, *blocked_masks)
            np.random.set_state(drawn)  # transformers seeds it
            return answer
        B, T, _ = hidden_states.shape
        query, key, value = (
            part(hidden_states).view(B, T, self.num_heads, -1) for part in (self.query, self.key, self.value)
        )
        if to_mask is None:
            query, key, value = (part.transpose(1, 2) for part in (query, key, value))
            dropout = self.config.attention_probs_dropout_prob if self.training else 0.0
            if self.wants_maps:
                scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
                weights = (scores if attention_mask is None else scores + attention_mask).softmax(-1)
                weights = torch.dropout(weights, dropout, self.training)
                return (weights @ value).transpose(1, 2).reshape(B, T, -1), weights
            attended = scaled_dot_product_attention(query, key, value, attention_mask, dropout_p=dropout)
            return attended.transpose(1, 2).reshape(B, T, -1), None
        draws = self.random_blocks == "always" or (self.random_blocks == "training" and self.training)
        plan = draw_random_blocks(self.config, self.seed, T, draws)
        block, r = self.config.block_size, self.config.num_random_blocks
        attended = attend_sparsely(query, key, value, to_mask.reshape(B, T), block, r, plan, self.flex, self.plans)
        return attended.flatten(2) * from_mask.reshape(B, T, 1), None


def draw_random_blocks(config: Any, seed: int, T: int, draws: bool) -> torch.Tensor | None:
    """
    Return the random key blocks of the inner query blocks as transformers draws them in training.

    Args:
        config: of the BigBird.
        seed: the number of the layer.
        T: tokens, a multiple of the block.
        draws: whether there are any.

    Returns:
        int64 [H, n - 2, r]; None without random blocks.
    """
    if not draws or not config.num_random_blocks:
        return None
    return _draw_random_blocks(
        config.hidden_size,
        config.num_attention_heads,
        config.block_size,
        config.num_random_blocks,
        config.max_position_embeddings,
        seed,
        T,
    )


@functools.lru_cache(maxsize=256)
def _draw_random_blocks(
    hidden_size: int, heads: int, block: int, r: int, max_positions: int, seed: int, T: int
) -> torch.Tensor:
    fields = {"hidden_size": heads, "num_attention_heads": heads, "block_size": block, "num_random_blocks": r}
    config = type("Plan", (), {**fields, "max_position_embeddings": max_positions, "use_bias": False})
    planner = BigBirdBlockSparseAttention(config, seed).train()
    state = np.random.get_state()
    try:
        np.random.seed(seed)
        if T in (1024, 3072, 4096):  # lengths of the paper, with a plan of their own
            plan = [
                planner._bigbird_block_rand_mask(max_positions, max_positions, block, block, r, last_idx=1024)
                for _ in range(heads)
            ]
            plan = [rows[: T // block - 2] for rows in plan]
        else:
            lengths, counts = planner._get_rand_attn_plan(T, block, r)
            plan = planner._bigbird_block_rand_mask_with_head(
                from_seq_length=T,
                to_seq_length=T,
                from_block_size=block,
                to_block_size=block,
                num_heads=heads,
                plan_from_length=lengths,
                plan_num_rand_blocks=counts,
            )
    finally:
        np.random.set_state(state)
    return torch.as_tensor(np.stack(plan), dtype=torch.long)


def attend_sparsely(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    block_size: int,
    num_random_blocks: int,
    random_plan: torch.Tensor | None = None,
    flex: bool | None = None,
    plans: "dict[torch.device, FlexPlan] | None" = None,
) -> torch.Tensor:
    """
    Compute block-sparse attention.

    Args:
        query, key, value: [B, T, H, d].
        mask: [B, T], 1 at tokens, 0 at padding.
        block_size: S; T is a multiple of it.
        num_random_blocks: r.
        random_plan: int64 [H, n - 2, r], blocks that the inner blocks see besides; without it the first block counts
            r + 1 times.
        flex: see `use_fast_attention`. It is compiled for each shape, and for as many as Dynamo allows
            (`torch._dynamo.config.recompile_limit`, 8); further shapes have their blocks gathered.
        plans: where calls of the same mask and blocks find what flex needs to know, and put it.

    Returns:
        [B, T, H, d].
    """
    if flex is None:
        flex = query.is_cuda
    if flex and _is_compiled(query, block_size, num_random_blocks, random_plan is not None):
        if random_plan is not None:
            plan = plan_flex(mask, block_size, num_random_blocks, random_plan.to(query.device))
        elif plans is None:
            plan = plan_flex(mask, block_size, num_random_blocks)
        elif (plan := plans.get(query.device)) is None:
            plan = plans[query.device] = plan_flex(mask, block_size, num_random_blocks)
        return _attend_flex(query, key, value, plan)
    n, S = query.shape[1] // block_size, block_size
    bias = (1.0 - mask.to(query.dtype)) * MASKED  # [B, T]
    outer = torch.cat([query[:, :S], query[:, -S:]], dim=1)
    outer = _attend(outer, key, value, bias[:, None, None])
    inner = torch.arange(1, n - 1, device=query.device)
    # c = 5: first, previous, itself, next, last; the same block twice counts once
    blocks = torch.stack([inner * 0, inner - 1, inner, inner + 1, inner * 0 + n - 1], dim=1)
    weight = torch.zeros(n - 2, 5, dtype=query.dtype, device=query.device)
    weight[0, 1] = weight[-1, 3] = MASKED
    if random_plan is None:
        weight[:, 0] = math.log(1 + num_random_blocks)
    if random_plan is not None:
        middle = _attend_with_plan(query, key, value, bias, blocks, weight, random_plan.to(query.device), S)
    elif torch.compiler.is_compiling() or (torch.is_grad_enabled() and query.requires_grad):
        middle = _attend_gathered(query, key, value, bias, 1, blocks, weight, S)
    else:
        groups = [
            _attend_gathered(query, key, value, bias, 1 + _GROUP * group, which, slot, S)
            for group, (which, slot) in enumerate(zip(blocks.split(_GROUP), weight.split(_GROUP)))
        ]
        middle = torch.cat(groups, dim=1)
    return torch.cat([outer[:, :S], middle, outer[:, S:]], dim=1)


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Attention over [B, T, H, d] with a bias that broadcasts over [B, H, queries, keys]."""
    parts = (part.transpose(1, 2) for part in (query, key, value))
    return scaled_dot_product_attention(*parts, attn_mask=bias).transpose(1, 2)


def _attend_gathered(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor,
    start: int,
    blocks: torch.Tensor,
    weight: torch.Tensor,
    S: int,
) -> torch.Tensor:
    """m query blocks from `start` on over their key blocks [m, c], weighted by exp(weight [m, c]): [B, m*S, H, d]."""
    B, _, H, d = query.shape
    m, c = blocks.shape
    queries = query.view(B, -1, S, H, d)[:, start : start + m].reshape(B * m, S, H, d)
    keys, values = (
        part.view(B, -1, S, H, d).index_select(1, blocks.flatten()).view(B * m, c * S, H, d) for part in (key, value)
    )
    masks = bias.view(B, -1, S).index_select(1, blocks.flatten()).view(B, m, c, S) + weight[:, :, None]
    return _attend(queries, keys, values, masks.view(B * m, 1, 1, c * S)).reshape(B, m * S, H, d)


def _attend_with_plan(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor,
    blocks: torch.Tensor,
    weight: torch.Tensor,
    plan: torch.Tensor,
    S: int,
) -> torch.Tensor:
    """The inner query blocks over their blocks and the random ones, which differ between heads: [B, (n-2)*S, H, d]."""
    B, _, H, d = query.shape
    m, r = plan.shape[1:]
    chosen = torch.cat([blocks.expand(H, -1, -1), plan], dim=-1)  # [H, m, c]
    weight = nn.functional.pad(weight, (0, r))
    head = torch.arange(H, device=query.device)[:, None]
    by_head = (part.view(B, -1, S, H, d).permute(0, 3, 1, 2, 4) for part in (query, key, value))  # [B, H, n, S, d]
    queries, keys, values = by_head
    queries = queries[:, :, 1:-1].reshape(B * H * m, 1, S, d)
    keys, values = (part[:, head, chosen.flatten(1)].reshape(B * H * m, 1, -1, d) for part in (keys, values))
    masks = bias.view(B, -1, S)[:, chosen.flatten(1)].view(B, H, m, -1, S) + weight[:, :, None]
    attended = scaled_dot_product_attention(queries, keys, values, attn_mask=masks.view(B * H * m, 1, 1, -1))
    return attended.view(B, H, m * S, d).transpose(1, 2)


# Beyond its limit Dynamo would run flex_attention uncompiled, with all T x T scores.
_COMPILED: set[tuple] = set()


def _is_compiled(query: torch.Tensor, S: int, num_random_blocks: int, planned: bool) -> bool:
    """Whether flex_attention is compiled for such inputs, or may still be."""
    if torch.compiler.is_compiling():  # as a part of a compiled model
        return True
    gradients = torch.is_grad_enabled() and query.requires_grad
    key = (query.shape, query.dtype, query.device, gradients, S, num_random_blocks, planned)
    limit = torch._dynamo.config.recompile_limit
    if key not in _COMPILED and len(_COMPILED) < limit:
        _COMPILED.add(key)
    if key not in _COMPILED:
        logger.warning_once(
            f"BigBird: flex_attention is compiled for {limit} shapes, and this is another: from here on blocks of new "
            "shapes are gathered, which takes more time and memory. Pad batches to a few lengths, or raise "
            "torch._dynamo.config.recompile_limit before the first one."
        )
    return key in _COMPILED


@functools.lru_cache(maxsize=1)
def _compile_flex() -> Any:
    return torch.compile(flex_attention, dynamic=False)


@dataclass(frozen=True)
class FlexPlan:
    """
    What flex_attention needs to know: the same for all layers, unless they draw random blocks.

    Args:
        tiles: pairs of tiles in which a query sees a key, and, by `mask_mod`, which keys it sees there.
        weigh: adds the logarithm of how often a key counts to its score.
    """

    tiles: BlockMask
    weigh: Callable[..., torch.Tensor]


def plan_flex(
    mask: torch.Tensor, block_size: int, num_random_blocks: int, random_plan: torch.Tensor | None = None
) -> FlexPlan:
    """
    Describe the attention of `attend_sparsely`, whose arguments these are, in tiles that the kernels of a GPU take.

    Tiles are of `TILE` tokens, whatever the block is: the kernel's own tiles, which are chosen for each kind of GPU,
    must divide them (of 64 they do not on a Hopper). The blocks are told apart inside of tiles.
    """
    T, S, device = mask.shape[1], block_size, mask.device
    n, more, real = T // S, math.log(1 + num_random_blocks), mask.bool()
    block = torch.arange(n, device=device)
    seen = (block[:, None] - block).abs() <= 1
    seen = (seen | (block == 0) | (block == n - 1) | (block == 0)[:, None] | (block == n - 1)[:, None])[None]
    if random_plan is None:

        def sees(b, h, q, k):
            i, j = q // S, k // S
            return real[b, k] & ((i == 0) | (i == n - 1) | (j == 0) | (j == n - 1) | ((i - j).abs() <= 1))

        def weigh(score, b, h, q, k):
            i = q // S
            return torch.where((k < S) & (i > 0) & (i < n - 1), score + more, score)

    else:
        # A random block that is seen anyhow counts again.
        drawn = nn.functional.one_hot(random_plan, n).sum(2)  # [H, n - 2, n]
        counts = seen.int() + nn.functional.pad(drawn, (0, 0, 1, 1))
        seen, logarithms = counts > 0, counts.clamp(min=1).log()

        def sees(b, h, q, k):
            return real[b, k] & seen[h, q // S, k // S]

        def weigh(score, b, h, q, k):
            return score + logarithms[h, q // S, k // S].to(score.dtype)

    # The tiles as well: from the function alone they would be found by asking it for every pair of tokens.
    start = torch.arange(-(-T // TILE), device=device)[:, None] * TILE
    overlaps = ((block * S < start + TILE) & ((block + 1) * S > start)).float()  # [tiles, n]
    touched = (overlaps @ seen.float() @ overlaps.T) > 0
    tiles = BlockMask.from_kv_blocks(
        touched.sum(-1, dtype=torch.int32)[None],
        touched.int().argsort(dim=-1, descending=True, stable=True).int()[None],
        BLOCK_SIZE=TILE,
        mask_mod=sees,
        seq_lengths=(T, T),
    )
    return FlexPlan(tiles, weigh)


def _attend_flex(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, plan: FlexPlan) -> torch.Tensor:
    """The same by flex_attention, which visits only the tiles that are seen."""
    parts = (part.transpose(1, 2).contiguous() for part in (query, key, value))
    return _compile_flex()(*parts, score_mod=plan.weigh, block_mask=plan.tiles).transpose(1, 2)


__all__ = ["FastBlockSparseAttention", "attend_sparsely", "draw_random_blocks", "use_fast_attention"]
