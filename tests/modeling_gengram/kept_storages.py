"""What a call allocates and keeps: a CUDA graph's memory must hold nothing but its outputs when the capture ends."""

import contextlib
import gc
from collections.abc import Iterator

import torch
from torch._library.custom_ops import OPDEFS
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class AllocationMode(TorchDispatchMode):
    """Notes, without holding it, the memory that every operation makes, also inside an operator of ours."""

    def __init__(self):
        super().__init__()
        self.made: list[tuple[str, StorageWeakRef]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function.namespace not in ("aten", "prim", "prims"):
            with self:
                return OPDEFS[function._schema.name]._init_fn(*args, **kwargs)
        result = function(*args, **kwargs)
        given = {_key(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and _key(leaf) not in given:
                self.made.append((function._schema.name, StorageWeakRef(leaf.untyped_storage())))
        return result

    def find_kept(self, outputs=()) -> list[str]:
        """Which operations made memory that is still alive and not that of `outputs`."""
        gc.collect()
        known = {_key(leaf) for leaf in tree_leaves(outputs) if isinstance(leaf, torch.Tensor)}
        return [name for name, storage in self.made if not storage.expired() and storage.cdata not in known]


def _key(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


@contextlib.contextmanager
def watch_allocations() -> Iterator[AllocationMode]:
    """Inside the block, every allocation is noted; `find_kept` behind it tells what is left."""
    with AllocationMode() as mode:
        yield mode


__all__ = ["watch_allocations"]
