"""What generation must remember of the past for the memory, kept beside the keys and values of attention."""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import Cache, StaticCache
from transformers.cache_utils import CacheLayerMixin

from .cpu_kernel import FusedStep
from .kmer_index import INVALID_LETTER

# Positions kept beyond what the next step needs, so that a rollback (assisted generation) finds its past.
ROLLBACK = 128


class MotifMemoryLayer(CacheLayerMixin):
    """
    One more layer at the end of a transformers `Cache`: the last letters, which all memory layers share, and the last
    gated vectors of each memory layer for its convolution. As a layer it is reordered, repeated, selected, cropped
    and reset together with the keys and values.

    Attributes:
        latest (`dict[int | None, Latest]`): memory layer -> gated vectors [B, S, D] of its latest S positions;
            `None` -> letters [B, S].
        steps (`dict[int, tuple]`): memory layer -> memory and `FusedStep`, what its steps on a CPU have in common.
            Copies leave it behind.
        seen (`int`; a tensor beside static layers): tokens seen so far.
    """

    is_compileable = False
    is_croppable = True
    is_sliding = True  # never taken for the full-attention layer from which masks are made
    supports_early_init = False

    def __init__(self):
        super().__init__()
        self.reset()

    def reset(self) -> None:
        self.latest: dict[int | None, Latest] = {}
        self.history: dict[int | None, int] = {}  # positions that each of them needs
        self.steps: dict[int, tuple[nn.Module, FusedStep]] = {}
        self.seen: int | torch.Tensor = 0

    def __getstate__(self) -> dict:
        return {**self.__dict__, "steps": {}}

    def extend_letters(self, letters: torch.Tensor, history: int) -> tuple[torch.Tensor, int]:
        """
        Put the remembered letters in front of new ones, and remember the new ones.

        Args:
            letters (`torch.Tensor` int64 [B, T]), history (`int`): positions wanted in front.

        Returns:
            letters [B, H + T] with H <= history, and H.
        """
        T = letters.shape[1]
        before = self._find(None, history) if T > ROLLBACK else None
        self._add(None, letters, history)
        self.seen += T
        if T > ROLLBACK:  # more than is remembered
            found = letters if before is None else torch.cat([before, letters], dim=1)
        else:
            found = self._find(None, history + T)
        return found, found.shape[1] - T

    def find_gated(self, layer_idx: int, history: int) -> torch.Tensor | None:
        """The gated vectors of one memory layer at the last `history` positions, [B, history, D]; None before them."""
        gated = self._find(layer_idx, history)
        if gated is None or gated.shape[1] == history:
            return gated
        return F.pad(gated, (0, 0, history - gated.shape[1], 0))

    def add_gated(self, layer_idx: int, gated: torch.Tensor, history: int) -> None:
        """Remember the gated vectors [B, T, D] of the latest positions of one memory layer."""
        self._add(layer_idx, gated, history)

    def _find(self, name: int | None, history: int) -> torch.Tensor | None:
        latest = self.latest.get(name)
        return None if latest is None else latest.values[:, max(latest.size - history, 0) :]

    def _add(self, name: int | None, values: torch.Tensor, history: int) -> None:
        if name not in self.latest:
            self.latest[name] = Latest(history + ROLLBACK)
        self.history[name] = history
        self.latest[name].append(values)

    def _map(self, change) -> None:
        for latest in self.latest.values():
            latest.values = change(latest.values)

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        self._map(lambda x: x.index_select(0, beam_idx.to(x.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        self._map(lambda x: x.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self._map(lambda x: x[indices])

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the latest `-tokens_to_remove` tokens; a positive number is the length to keep (before 5.18)."""
        remove = max(self.seen - tokens_to_remove, 0) if tokens_to_remove > 0 else -tokens_to_remove
        if remove == 0 or not self.latest:
            return
        if remove >= self.seen:
            return self.reset()
        seen = self.seen - remove
        for name, latest in self.latest.items():
            if latest.size - remove < min(self.history[name], seen):
                raise RuntimeError(
                    f"The cache cannot forget {remove} tokens: the motif memory keeps the past of the last {ROLLBACK} "
                    "tokens only. Start again from an empty cache."
                )
        self.seen = seen
        self._map(lambda x: x[:, : x.shape[1] - remove])

    def offload(self) -> None:
        """Stays where it is: a few hundred positions."""

    def prefetch(self) -> None:
        """Never offloaded."""

    # The attention interface of a cache layer; nothing attends to this one.
    def lazy_initialization(self, key_states, value_states) -> None:
        raise NotImplementedError("A motif memory layer holds no keys and values.")

    def update(self, key_states, value_states, *args, **kwargs):
        raise NotImplementedError("A motif memory layer holds no keys and values.")

    def get_seq_length(self) -> int | torch.Tensor:
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return int(self.seen) + query_length, 0

    def get_max_length(self) -> int:
        return -1


class StaticMotifMemoryLayer(MotifMemoryLayer):
    """
    The same beside static layers: tensors of one size, changed in place, so that a step of generation is compiled once.
    What lies before the first token is no base and a vector of zeros. Only the past of the next step is kept: no crop.
    """

    is_compileable = True
    is_croppable = False

    def reset(self) -> None:
        super().reset()
        self.static: dict[int | None, torch.Tensor] = {}  # as `latest`, [B, history, ...]
        self.seen = torch.tensor(0)  # an integer would compile each step anew

    def extend_letters(self, letters: torch.Tensor, history: int) -> tuple[torch.Tensor, int]:
        if not self.static:
            self.seen = _mark_static(self.seen.to(letters.device))
        self.seen.add_(letters.shape[1])
        return self._append(None, letters, history, INVALID_LETTER), history

    def find_gated(self, layer_idx: int, history: int) -> torch.Tensor | None:
        return self.static.get(layer_idx)

    def add_gated(self, layer_idx: int, gated: torch.Tensor, history: int) -> None:
        self._append(layer_idx, gated, history, 0)

    def _append(self, name: int | None, new: torch.Tensor, history: int, before: float) -> torch.Tensor:
        """The new values behind those that are kept; then the last of them are kept."""
        if name not in self.static:
            shape = new.shape[0], history, *new.shape[2:]
            self.static[name] = _mark_static(new.new_full(shape, before))
        both = torch.cat([self.static[name], new], dim=1)
        self.static[name].copy_(both[:, both.shape[1] - history :])
        return both

    def _map(self, change) -> None:
        self.static = {name: change(values) for name, values in self.static.items()}

    def crop(self, tokens_to_remove: int) -> None:
        raise RuntimeError("A static cache cannot forget its last tokens; use a dynamic one.")


def _mark_static(x: torch.Tensor) -> torch.Tensor:
    """Its address will not change: compiled code may keep it."""
    if not torch.compiler.is_compiling():
        torch._dynamo.mark_static_address(x)
    return x


class Latest:
    """
    The end of a growing sequence of letters or vectors. They lie in a buffer with room for as many again,
    so that a step writes its own and moves the others only once in a while.

    Args:
        length (`int`): positions to keep, at least.

    Attributes:
        values (`torch.Tensor` [B, S, ...]): the latest S positions, at most twice `length`.
    """

    def __init__(self, length: int):
        self.length = length
        self.buffer: torch.Tensor | None = None
        self.size = 0

    @property
    def values(self) -> torch.Tensor:
        return self.buffer[:, : self.size]

    @values.setter
    def values(self, values: torch.Tensor) -> None:
        self.buffer, self.size = values, values.shape[1]  # full: the next one to come makes room

    def append(self, x: torch.Tensor) -> None:
        """Add T positions behind."""
        T = x.shape[1]
        # What was made in inference mode cannot be written to outside of it.
        locked = self.buffer is not None and self.buffer.is_inference() and not torch.is_inference_mode_enabled()
        if self.buffer is None or locked or self.size + T > self.buffer.shape[1]:
            stored = x if self.buffer is None else torch.cat([self.values, x], dim=1)
            stored = stored[:, -self.length :]
            self.buffer = x.new_empty(x.shape[0], 2 * self.length, *x.shape[2:])
            self.size, T, x = 0, stored.shape[1], stored
        self.buffer[:, self.size : self.size + T] = x
        self.size += T


def find_memory_layer(cache: Cache, num_hidden_layers: int) -> MotifMemoryLayer:
    """
    The motif memory layer of a cache; added behind the attention layers if it has none yet.

    Args:
        cache (`Cache`): any decoder cache of transformers.
        num_hidden_layers (`int`): attention layers of the backbone, created first where the cache makes them lazily.

    Raises:
        ValueError: the cache already holds tokens that the memory has not seen.
    """
    for layer in cache.layers:
        if isinstance(layer, MotifMemoryLayer):
            return layer
    if cache.get_seq_length() > 0:
        raise ValueError(
            f"past_key_values already holds {cache.get_seq_length()} tokens that this model's motif memory has not "
            "seen; pass a cache that this model filled, or an empty one."
        )
    if cache.layer_class_to_replicate is not None:
        while len(cache.layers) < num_hidden_layers:
            cache.layers.append(cache.layer_class_to_replicate())
    layer = StaticMotifMemoryLayer() if isinstance(cache, StaticCache) else MotifMemoryLayer()
    cache.layers.append(layer)
    return layer


__all__ = ["MotifMemoryLayer", "find_memory_layer"]
