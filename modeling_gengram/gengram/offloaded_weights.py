"""Weights that accelerate keeps on disk or in main memory, for a module that reads those of its parts.

accelerate brings a module's weights in for that module's own call. A part that is not called, because what is computed
with its weights is another thing than the part's forward, has to be asked for.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import nn
from transformers.utils import is_accelerate_available

if is_accelerate_available():
    from accelerate.utils import align_module_device, has_offloaded_params


def is_offloaded(module: nn.Module) -> bool:
    """Whether weights of the parts of a module are elsewhere until the part is called."""
    # Not by `modules()`: this is asked in every call of the memory, and takes a microsecond so.
    for part in module._modules.values():
        if part is not None and (("_hf_hook" in part.__dict__ and has_offloaded_params(part)) or is_offloaded(part)):
            return True
    return False


@contextmanager
def bring_in(module: nn.Module) -> Iterator[None]:
    """Have the weights of all parts of a module at hand; behind it they are away again."""
    with ExitStack() as stack:
        for part in module.modules():
            if part is not module:  # its own have come with its call
                stack.enter_context(align_module_device(part))
        yield


__all__ = ["bring_in", "is_offloaded"]
