"""What would a training step keep in memory, and how many operations is it? A step on tensors that have no data.

The weights are PyTorch's fake tensors: shape, dtype and device, no numbers. The batch is a real one, so whatever a
model decides by its tokens (segments, k-mers in use, padding) is decided as in a run. Each operation passes a dispatch
mode that counts bytes as storages come and go, and floating-point operations. Nothing of a model's architecture is
assumed: attention kernel, gates, experts, checkpointing and autocast are those that run.
"""

import contextlib
import dataclasses
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gengram.costs import count_operator
from gengram.gengram.kmer_index import KmerContext
from gengram.gengram.motif_memory import MotifMemory

_ATEN = torch.ops.aten
_KERNELS = ("triton", "triton_pooled")  # forms of the memory that need a GPU's numbers


@dataclasses.dataclass(frozen=True)
class DryStep:
    """What forward and backward pass of one batch take; bytes and counts.

    Attributes:
        activations: bytes kept for the backward pass, where the forward pass ends.
        gradients: bytes of all gradients together.
        logits: bytes of the model's answer.
        peak: most bytes at one time besides weights and optimizer, gradients included.
        flops: floating-point operations of both passes; a multiplication and an addition are two.
        forward_flops: of the forward pass alone.
        moved: bytes that operations read and write.
        operations: how many operations there are.
    """

    activations: int
    gradients: int
    logits: int
    peak: int
    flops: int
    forward_flops: int
    moved: int
    operations: int


def make_dry(model: Any, device: torch.device) -> Any:
    """Give a model on the meta device fake weights on a device; the model itself is changed and returned.

    Args:
        model: `PreTrainedModel` or `PeftModel`; weights that are not on the meta device lose their numbers, too.
        device: that the weights pretend to be on.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    made: dict[int, torch.Tensor] = {}

    def make(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in made:  # Tied weights stay tied.
            with mode:
                fake = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
                is_weight = isinstance(tensor, torch.nn.Parameter)
                made[id(tensor)] = torch.nn.Parameter(fake, tensor.requires_grad) if is_weight else fake
        return made[id(tensor)]

    kept = list(model.parameters())  # An id must not be given twice.
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = make(tensor)
    del kept
    return model


def choose_memory_paths(model: Any, rows: int, tokens: int, device: torch.device) -> None:
    """Fix the form of each motif memory that training batches of `rows` x `tokens` have; before `make_dry`.

    A form that runs in Triton is counted as the plain one, which keeps more.
    """
    segment = getattr(model.config, "segment_length", None)  # of a recurrent memory
    letters = torch.empty(rows, min(tokens, segment or tokens), dtype=torch.long, device=device)
    for module in model.modules():
        if isinstance(module, MotifMemory) and module.path == "auto":
            module.train()
            chosen = module.choose_path(KmerContext(letters))
            module.path = "lifetime" if chosen in _KERNELS else chosen


def run_dry(
    model: Any,
    batch: dict[str, torch.Tensor],
    loss: Callable[..., torch.Tensor],
    *,
    autocast: torch.dtype | None = None,
    accumulates: bool = False,
) -> DryStep:
    """Pass a batch through a dry model, forward and backward.

    Args:
        model: of `make_dry`, in training mode, with gradient checkpointing where it is wanted.
        batch: real tensors on the model's device, `labels` among them.
        loss: of outputs and labels.
        autocast: dtype of mixed precision.
        accumulates: gradients of earlier batches are there from the beginning.

    Returns:
        `DryStep`.
    """
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    counter = _Counter(model, batch)
    with _enter(counter, model, autocast):
        outputs = model(**inputs, return_dict=True)
        logits = outputs["logits"]
        kept, forward_flops, answer = counter.live, counter.flops, logits.numel() * logits.element_size()
        value = loss(outputs, batch["labels"])
        del outputs, logits
        value.backward()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    gradients = sum(weight.numel() * weight.element_size() for weight in trained)
    for weight in trained:
        weight.grad = None
    peak = counter.peak + (gradients if accumulates else 0)
    return DryStep(kept, gradients, answer, peak, counter.flops, forward_flops, counter.moved, counter.operations)


def run_dry_forward(model: Any, batch: dict[str, torch.Tensor], autocast: torch.dtype | None = None) -> DryStep:
    """Pass a batch through a dry model as evaluation does, without gradients; see `run_dry`."""
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    counter = _Counter(model, batch)
    model.eval()
    for module in model.modules():
        if isinstance(module, MotifMemory):  # In evaluation it keeps tables, and compares numbers to do so.
            module.train()
    with torch.no_grad(), _enter(counter, model, autocast):
        logits = model(**inputs, return_dict=True)["logits"]
        answer = logits.numel() * logits.element_size()
    model.train()
    return DryStep(0, 0, answer, counter.peak, counter.flops, counter.flops, counter.moved, counter.operations)


@contextlib.contextmanager
def _enter(counter: "_Counter", model: Any, autocast: torch.dtype | None) -> Iterator[None]:
    device = next(model.parameters()).device.type
    with counter, torch.autocast(device, dtype=autocast, enabled=autocast is not None):
        yield


class _Counter(TorchDispatchMode):
    """Counts the bytes of the storages that operations make, as long as each lives, and what the operations cost."""

    def __init__(self, model: Any, batch: dict[str, torch.Tensor]):
        super().__init__()
        tensors = [*model.parameters(), *model.buffers(), *batch.values()]
        self._known = {tensor.untyped_storage()._cdata for tensor in tensors}
        self._sizes: dict[int, int] = {}
        self.live = self.peak = self.flops = self.moved = self.operations = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is _ATEN._grouped_mm.default:  # Its check of shapes knows one dtype only; on a CPU it takes all.
            answer = _shape_grouped(*args, **kwargs)
        else:
            answer = function(*args, **kwargs)
        self.flops += count_operator(function, args, kwargs, answer)
        outputs = [leaf for leaf in tree_leaves(answer) if isinstance(leaf, torch.Tensor)]
        if any([self._add(tensor) for tensor in outputs]) or function._schema.is_mutable:
            inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
            self.operations += 1
            self.moved += sum(tensor.numel() * tensor.element_size() for tensor in (*inputs, *outputs))
        return answer

    def _add(self, tensor: torch.Tensor) -> bool:
        """Count a tensor's storage, if it is new; whether it is."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known or key in self._sizes:
            return False
        self._sizes[key] = storage.nbytes()
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._drop, key)
        return True

    def _drop(self, key: int) -> None:
        self.live -= self._sizes.pop(key)


def _shape_grouped(a: torch.Tensor, b: torch.Tensor, offsets: torch.Tensor | None = None, *_: Any, **__: Any):
    """An empty answer of a grouped matrix product: E experts, each with its rows of `a` or `b` where that has two
    dimensions (`offsets` [E] says which)."""
    if a.dim() == 2 and b.dim() == 3:  # [N, D] x [E, D, F]
        return a.new_empty(a.shape[0], b.shape[2])
    if a.dim() == 2 and offsets is not None:  # [D, N] x [N, F], a gradient of weights
        return a.new_empty(len(offsets), a.shape[0], b.shape[1])
    return a.new_empty(a.shape[-2], b.shape[-1]) if b.dim() == 2 else a.new_empty(*a.shape[:-1], b.shape[-1])


__all__ = ["DryStep", "choose_memory_paths", "make_dry", "run_dry", "run_dry_forward"]
