"""Tensor parallelism of backbones that norm each head (Qwen3): the norm's gradient, summed over the processes once."""

import contextlib
from collections.abc import Iterator

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate
from transformers.distributed.tensor_parallel import ALL_PARALLEL_STYLES, TensorParallelLayer

HEAD_NORM = "replicated_with_gradient_sum"
_BY_TRANSFORMERS = "replicated_with_grad_allreduce"


class HeadNormParallel(TensorParallelLayer):
    """
    A norm over the heads of one process: its weight is on all of them, its gradient is the sum of theirs.

    transformers' style for this sums what the weight has accumulated: after a second backward pass the first one's sum
    is in it twice. Here the gradient is summed on its way to the weight.
    """

    @contextlib.contextmanager
    def context_around_forward(self, module: nn.Module, mesh: DeviceMesh) -> Iterator[None]:
        weights = dict(module._parameters)
        for name, weight in weights.items():
            if weight is not None:
                shared = DTensor.from_local(weight, mesh, [Replicate()], run_check=False)
                module._parameters[name] = shared.to_local(grad_placements=[Partial()])
        try:
            yield
        finally:
            module._parameters.update(weights)


def sum_norm_gradients(plan: dict[str, str]) -> dict[str, str]:
    """The plan with this style in the place of transformers'."""
    return {rule: HEAD_NORM if style == _BY_TRANSFORMERS else style for rule, style in plan.items()}


ALL_PARALLEL_STYLES.register(HEAD_NORM, HeadNormParallel())

__all__ = ["HEAD_NORM", "HeadNormParallel", "sum_norm_gradients"]
