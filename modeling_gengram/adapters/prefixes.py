"""What does the motif memory make of prefix tuning? Virtual tokens, which it counts and in which it finds no bases."""

import torch
from transformers import DynamicCache

from gengram.gengram.kmer_index import INVALID_LETTER
from gengram.gengram.memory_cache import MotifMemoryLayer


def make_prefix(past_key_values: tuple[torch.Tensor, ...]) -> DynamicCache:
    """
    The cache of a prefix, as PEFT hands it to a Gengram model: without the memory's part it would be refused as that of
    another model.

    Args:
        past_key_values: keys and values of V virtual tokens, for each layer [2, B, heads, V, head width].
    """
    cache = DynamicCache([(keys, values) for keys, values in past_key_values])
    _, B, _, V, _ = past_key_values[0].shape
    memory = MotifMemoryLayer()
    memory.extend_letters(past_key_values[0].new_full((B, V), INVALID_LETTER, dtype=torch.long), history=0)
    cache.layers.append(memory)
    return cache


__all__ = ["make_prefix"]
