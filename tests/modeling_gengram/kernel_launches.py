"""Which Triton kernels a call launches, and with which arguments, on a machine without a GPU.

Two ways to run the calls, one a process, as triton reads TRITON_INTERPRET when a kernel is made:

- under the interpreter (TRITON_INTERPRET=1): the kernels run, slowly, and their launches are recorded beside it;
- without it, after `import_kernels`: tensors of the CPU take the kernels, nothing is launched, operators return memory
  that nobody has written, and the arguments are exactly those that the compiler would see on a GPU.
"""

import contextlib
import functools
import inspect
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple
from unittest import mock

import torch
import triton
from torch.utils._python_dispatch import _disable_current_modes
from triton.runtime.autotuner import Autotuner
from triton.runtime.jit import JITFunction


class Pointer(NamedTuple):
    """A tensor as a kernel sees it: its dtype, and whether 16 divides the address."""

    dtype: torch.dtype
    aligned: bool


class Launch(NamedTuple):
    """
    One launch, counted once whatever an autotuner times.

    Attributes:
        kernel: what is decorated by `triton.jit`, without an autotuner around it.
        arguments: by name, in the order of the kernel: `Pointer`, int, float, bool, None, dtype.
        configurations: what an autotuner chooses from: arguments of its own, `num_warps`, `num_stages` and so on; one
            where there is none.
        grid: programs along each axis, of the first configuration.
    """

    kernel: Any
    arguments: dict[str, Any]
    configurations: tuple[dict[str, Any], ...]
    grid: tuple[int, ...]

    @property
    def name(self) -> str:
        return self.kernel.__name__


def import_kernels():
    """
    The memory's kernels without a GPU and without the interpreter, to record their launches.

    Returns:
        The module `gengram.gengram.gpu_kernel`, for which every tensor of the CPU is one that kernels serve.
    """
    if triton.knobs.runtime.interpret:
        raise RuntimeError("TRITON_INTERPRET is set: kernels of this process are the interpreter's")
    with mock.patch.object(torch.backends.cuda, "is_built", return_value=True):
        from gengram.gengram import gpu_kernel
    if "gengram.gengram.motif_memory" in sys.modules:
        raise RuntimeError("the memory was imported before its kernels: call this in a process of its own, first")
    if gpu_kernel.missing is not None:
        raise gpu_kernel.missing
    # Without a trial, which would compare what nobody has written with the definition.
    gpu_kernel.can_run_kernels = lambda device, dtype, memory: dtype in gpu_kernel.DTYPES
    return gpu_kernel


@contextlib.contextmanager
def record_launches() -> Iterator[list[Launch]]:
    """Every launch inside the block, in order."""
    launches: list[Launch] = []
    inside = False  # of a launch that is recorded already: an autotuner's, a kernel's warm-up

    def record(kernel, configurations, grid, args, kwargs) -> None:
        while not hasattr(kernel, "arg_names") or isinstance(kernel, Autotuner):
            kernel = kernel.fn
        launches.append(_describe(kernel, configurations, grid, args, kwargs))

    def watch(kind: type, launch):
        @functools.wraps(launch)
        def run(self, *args, grid, warmup=False, **kwargs):
            nonlocal inside
            if inside:
                return launch(self, *args, grid=grid, warmup=warmup, **kwargs)
            if isinstance(self, Autotuner):
                self.nargs = dict(zip(self.arg_names, args))
                configurations = tuple(one.all_kwargs() for one in self.prune_configs(kwargs))
                self.nargs = None
            else:
                configurations = ({},)
            record(self, configurations, grid, args, kwargs)
            if not triton.knobs.runtime.interpret:
                return None
            inside = True
            try:
                with _disable_current_modes():  # what the interpreter does with tensors is no part of the call
                    return launch(self, *args, grid=grid, warmup=warmup, **kwargs)
            finally:
                inside = False

        return mock.patch.object(kind, "run", run)

    kinds: list[type] = [Autotuner, JITFunction]
    if triton.knobs.runtime.interpret:
        from triton.runtime.interpreter import InterpretedFunction

        kinds.append(InterpretedFunction)
    with contextlib.ExitStack() as stack:
        for kind in kinds:
            stack.enter_context(watch(kind, kind.run))
        yield launches


def _describe(kernel, configurations, grid, args, kwargs) -> Launch:
    parameters = inspect.signature(kernel.fn).parameters
    given = dict(zip(kernel.arg_names, args)) | {name: value for name, value in kwargs.items() if name in parameters}
    options = {name: value for name, value in kwargs.items() if name not in parameters}
    chosen = configurations[0]
    if callable(grid):
        grid = grid({**given, **chosen})
    arguments = {}
    for name, parameter in parameters.items():
        if any(name in one for one in configurations):
            continue  # the configuration's
        value = given.get(name, parameter.default)
        arguments[name] = _see(value)
    return Launch(kernel, arguments, tuple({**options, **one} for one in configurations), tuple(grid))


def _see(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return Pointer(value.dtype, value.data_ptr() % 16 == 0)
    if isinstance(value, triton.language.constexpr):
        return value.value
    return value


__all__ = ["Launch", "Pointer", "import_kernels", "record_launches"]
