"""On which device a Triton kernel runs: that of its tensors."""

import functools
from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")


def run_beside_tensors(function: Callable[..., Result]) -> Callable[..., Result]:
    """
    Run a function that launches kernels on the device of its first argument, a tensor or a list of them.

    Triton launches on the *current* device and stream. In a model that is spread over several GPUs, the current one
    is not that of every layer, and a kernel would read another GPU's memory, and not wait for what is written there.
    """

    @functools.wraps(function)
    def run(first, *rest, **named):
        with torch.cuda.device_of(first if isinstance(first, torch.Tensor) else first[0]):
            return function(first, *rest, **named)

    return run


__all__ = ["run_beside_tensors"]
