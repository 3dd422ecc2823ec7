"""What generation must remember of the past for the memory, kept beside the keys and values of attention."""

from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from transformers import Cache, StaticCache
from transformers.cache_utils import CacheLayerMixin

from .kmer_index import INVALID_LETTER

# Positions kept beyond what the next step needs, so that a rollback (assisted generation) finds its past.
ROLLBACK = 128
LETTERS = "letters"  # under which name the letters are kept


class MotifMemoryLayer(CacheLayerMixin):
    """
    One more layer at the end of a transformers `Cache`: the last letters, which all memory layers share, and the last
    gated vectors of each memory layer for its convolution. As a layer it is reordered, repeated, selected, cropped
    and reset together with the keys and values. It holds tensors, and no number that changes from step to step: it
    can be copied, flattened and put together again, and a step of it be exported.

    Attributes:
        past (`dict[str, torch.Tensor]`): letters [B, S] under `"letters"`, gated vectors [B, S, D] under the number of
            their memory layer: those of the latest S positions. Before the first token is no base, and a zero vector.
        seen (`torch.Tensor` int64 []): tokens seen so far.
        furthest (`torch.Tensor` int64 []): the most that it had seen when some of them were forgotten; 0 if none were.
    """

    is_compileable = False
    is_croppable = True
    is_sliding = True  # never taken for the full-attention layer from which masks are made
    supports_early_init = False

    def __init__(self):
        super().__init__()
        self.past: dict[str, torch.Tensor] = {}
        self.seen, self.furthest = torch.tensor(0), torch.tensor(0)

    def reset(self) -> None:
        self.past = {}
        self.seen, self.furthest = torch.zeros_like(self.seen), torch.zeros_like(self.furthest)

    def extend_letters(self, letters: torch.Tensor, history: int) -> tuple[torch.Tensor, int]:
        """
        Put the remembered letters in front of new ones, and remember the new ones.

        Args:
            letters (`torch.Tensor` int64 [B, T]), history (`int`): positions wanted in front.

        Returns:
            letters [B, H + T], and H: `history`, or 0 where nothing is remembered yet.
        """
        T = letters.shape[1]
        self._count(T, letters.device)
        if not _is_recorded() and T <= ROLLBACK and self.is_croppable and self.past:
            self._append(LETTERS, letters, history)
            return self._find(LETTERS, history + T), history  # they lie there together
        before = self._find(LETTERS, history)
        found = letters if before is None else torch.cat([before, letters], dim=1)
        self._append(LETTERS, letters, history)
        return found, 0 if before is None else history

    def find_gated(self, layer_idx: int, history: int) -> torch.Tensor | None:
        """The gated vectors of one memory layer at the last `history` positions, [B, history, D]; None before them."""
        return self._find(str(layer_idx), history)

    def has_gated(self, layer_idx: int) -> bool:
        """Whether there are gated vectors of a memory layer."""
        return str(layer_idx) in self.past

    def add_gated(self, layer_idx: int, gated: torch.Tensor, history: int) -> None:
        """Remember the gated vectors [B, T, D] of the latest positions of one memory layer."""
        self._append(str(layer_idx), gated, history)

    def _count(self, T: int, device: torch.device) -> None:
        self.seen = self.seen.to(device) + T

    def _find(self, name: str, history: int) -> torch.Tensor | None:
        return _keep_last(self.past[name], history) if name in self.past else None

    def _append(self, name: str, new: torch.Tensor, history: int) -> None:
        length = history + ROLLBACK
        past = self.past[name] if name in self.past else _make_empty(name, new, length)
        if torch.compiler.is_compiling():  # a graph takes any number of positions
            self.past[name] = _keep_last(torch.cat([past, new], dim=1), length)
        else:
            new = new if new.shape[1] <= length else _keep_last(new, length)
            self.past[name] = _slide(_ROOMS.setdefault(self, {}), name, past, new)

    def _map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.past = {name: change(values) for name, values in self.past.items()}

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        self._map(lambda x: x.index_select(0, beam_idx.to(x.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        self._map(lambda x: x.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self._map(lambda x: x[indices.to(x.device)])

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the latest `-tokens_to_remove` tokens; a positive number is the length to keep (before 5.18)."""
        seen = int(self.seen)
        furthest = max(int(self.furthest), seen)
        remove = max(seen - tokens_to_remove, 0) if tokens_to_remove > 0 else -tokens_to_remove
        if remove == 0 or not self.past:
            return
        if remove >= seen:
            return self.reset()
        for values in self.past.values():
            needed = max(seen - remove - (values.shape[1] - ROLLBACK), 0)  # the first position that the next step reads
            if needed < furthest - values.shape[1]:
                raise RuntimeError(
                    f"The cache cannot forget {remove} tokens: the motif memory keeps the past of the last {ROLLBACK} "
                    "tokens only. Start again from an empty cache."
                )
        self.seen, self.furthest = self.seen - remove, torch.full_like(self.seen, furthest)
        for name, values in self.past.items():
            kept = values[:, : values.shape[1] - remove]
            self.past[name] = torch.cat([_make_empty(name, values, remove), kept], dim=1)

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
        return int(self.seen)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return int(self.seen) + query_length, 0

    def get_max_length(self) -> int:
        return -1


class StaticMotifMemoryLayer(MotifMemoryLayer):
    """
    The same beside static layers: tensors of one size, made once and changed in place, so that a step of generation is
    compiled once and can be recorded as a CUDA graph. Only the past of the next step is kept: no crop.

    Attributes:
        written (`list[str]`): names in `past` that code which is not compiled has written to since the last reset.
    """

    is_compileable = True
    is_croppable = False

    def __init__(self):
        super().__init__()
        self.written: list[str] = []

    def reserve(self, name: str, like: torch.Tensor, history: int) -> None:
        """
        Make what is kept under a name before there is anything to keep, as a graph that holds the first tokens needs.

        Args:
            like (`torch.Tensor` [B, 0, ...]): batch size, size of a position, dtype and device; history (`int`).
        """
        if not self.past:
            self.seen = _mark_static(self.seen.to(like.device))
        self.past[name] = _mark_static(_make_empty(name, like, history))

    def reset(self) -> None:
        """Everything stays at its address: compiled steps know it."""
        for name, values in self.past.items():
            values.copy_(_make_empty(name, values, values.shape[1]))
        self.seen.zero_()
        self.written = []

    def _count(self, T: int, device: torch.device) -> None:
        if not self.past:
            self.seen = _mark_static(self.seen.to(device))
        self.seen.add_(T)

    def has_gated(self, layer_idx: int) -> bool:
        return str(layer_idx) in self.written

    def _append(self, name: str, new: torch.Tensor, history: int) -> None:
        if name not in self.past:
            self.past[name] = _mark_static(_make_empty(name, new, history))
        if name not in self.written and not torch.compiler.is_compiling():  # a graph would be another for it
            self.written.append(name)
        self.past[name].copy_(_keep_last(torch.cat([self.past[name], new], dim=1), history))

    def _map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        for name, values in self.past.items():
            changed = change(values)
            if changed.shape == values.shape:
                values.copy_(changed)
            else:  # another batch
                self.past[name] = _mark_static(changed)

    def crop(self, tokens_to_remove: int) -> None:
        raise RuntimeError("A static cache cannot forget its last tokens; use a dynamic one.")

    def get_seq_length(self) -> int | torch.Tensor:
        return self.seen


def _is_recorded() -> bool:
    """Whether what is done has to be done again: in a backward pass, or by a graph."""
    return torch.is_grad_enabled() or torch.compiler.is_compiling()


def _make_empty(name: str, like: torch.Tensor, length: int) -> torch.Tensor:
    """What lies before the first token, [B, length, ...]."""
    return like.new_full((like.shape[0], length, *like.shape[2:]), INVALID_LETTER if name == LETTERS else 0)


def _keep_last(x: torch.Tensor, length: int) -> torch.Tensor:
    """The last positions of [B, S, ...]; all where there are fewer."""
    return x[:, -length:] if length else x[:, :0]


@dataclass
class _Room:
    """
    What a cache keeps under one name, with room behind it: a step writes its own there and moves the others only once
    in a while.

    Attributes:
        buffer (`torch.Tensor` [B, R, ...]), end (`int`): written to up to there.
        past (`torch.Tensor` [B, S, ...]): the last S positions before `end`, a view of it.
    """

    buffer: torch.Tensor
    end: int
    past: torch.Tensor


# Beside the caches, not in them: who flattens, copies or pickles one gets tensors, and not the right to write behind
# them, which is of one cache alone.
_ROOMS: WeakKeyDictionary[MotifMemoryLayer, dict[str, _Room]] = WeakKeyDictionary()


def _slide(rooms: dict[str, _Room], name: str, past: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """As many of the last positions as `past` has, of [B, S, ...] and, behind them, [B, T, ...], T at most S."""
    S, T = past.shape[1], new.shape[1]
    if new.requires_grad or past.requires_grad:  # what backward needs is not written to
        return torch.cat([past[:, T:], new], dim=1)
    room = rooms.get(name)
    # Tensors of inference mode cannot be written to outside of it.
    if room is None or room.past is not past or (room.buffer.is_inference() and not torch.is_inference_mode_enabled()):
        room = None
    if room is None or room.end + T > room.buffer.shape[1]:
        buffer = past.new_zeros(past.shape[0], 2 * S, *past.shape[2:])
        buffer[:, : S - T] = past[:, T:]
        room = rooms[name] = _Room(buffer, S - T, past)
    room.buffer.narrow(1, room.end, T).copy_(new)
    room.end += T
    room.past = room.buffer.narrow(1, room.end - S, S)
    return room.past


def _mark_static(x: torch.Tensor) -> torch.Tensor:
    """Its address will not change: compiled code may keep it."""
    if not torch.compiler.is_compiling():
        torch._dynamo.mark_static_address(x)
    return x


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


def count_seen(cache: Cache | None) -> int | torch.Tensor:
    """Tokens that a cache's motif memory layer has seen."""
    layers = [] if cache is None else [layer for layer in cache.layers if isinstance(layer, MotifMemoryLayer)]
    if not layers:
        return 0
    # The keys have the same number in their shape, which needs no look at a tensor and may be unknown in a graph.
    return layers[0].seen if isinstance(layers[0], StaticMotifMemoryLayer) else cache.get_seq_length()


__all__ = ["LETTERS", "MotifMemoryLayer", "StaticMotifMemoryLayer", "count_seen", "find_memory_layer"]
