"""Which models see the padding of a batch, and how are sequences put together for them? Most models see none of it."""

from collections.abc import Iterator
from typing import Any

from transformers import BigBirdModel

# Their attention, or what they have in its place, knows no mask, or pools and convolves across it.
_SEE_PADDING = frozenset({"convbert", "fnet", "funnel", "nystromformer", "xlnet", "yoso"})


def find_multiple(model: Any) -> int:
    """Return the number of tokens of which an input's length must be a multiple: a power of 2 for NTv3, 1 for all
    others. BigBird fills up its inputs by itself."""
    return model.config.length_multiple if model.config.model_type.startswith("ntv3") else 1


def find_block(model: Any) -> int | None:
    """Return the number of tokens to a multiple of which a sequence is padded and no further; None where padding is not
    seen.

    BigBird's last block of sparse attention sees all others, NTv3 reads padding, FNet and some more have no mask for
    it, and XLNet's head reads the last token of all: padded by more, a sequence would be another.
    """
    config = model.config.get_text_config()
    if config.model_type == "big_bird" and config.attention_type == "block_sparse":
        return config.block_size
    if config.model_type in _SEE_PADDING:
        return 1
    return find_multiple(model) if config.model_type.startswith("ntv3") else None


def restore_attention(model: Any) -> None:
    """Turn BigBird's sparse attention on again, in place: a short batch turns it off for good, and what a sequence gets
    must not depend on that."""
    if model.config.get_text_config().model_type != "big_bird":
        return
    for module in model.modules():
        if isinstance(module, BigBirdModel):
            module.set_attention_type(module.config.attention_type)


def make_batches(order: list[int], lengths: list[int], sizes: Any, block: int | None) -> Iterator[list[int]]:
    """Cut rows into batches, of lengths that fill the same number of blocks.

    Args:
        order: numbers of rows, the longest first.
        lengths: of each row, in tokens.
        sizes: takes the longest length of a batch, gives the number of its rows.
        block: of `find_block`.
    """
    start = 0
    while start < len(order):
        longest = lengths[order[start]]
        batch = order[start : start + sizes(longest)]
        if block is not None:
            batch = [number for number in batch if round_up(lengths[number], block) == round_up(longest, block)]
        yield batch
        start += len(batch)


def round_up(length: int, step: int) -> int:
    """Return the next multiple of a step."""
    return -(-length // step) * step


__all__ = ["find_block", "find_multiple", "make_batches", "restore_attention", "round_up"]
