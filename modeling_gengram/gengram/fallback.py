"""What happens where a kernel of the memory should run and does not: a slower form and one line, or an error.

A fallback gives the same numbers and costs a factor of ten, so it is never silent: one line says which kernel, why,
what it costs and what to do. Whoever measures, or tests the kernels, requires them instead.
"""

import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from transformers.utils import logging

logger = logging.get_logger(__name__)

_required = 0  # blocks of `require_kernels` that are open


@dataclass(frozen=True)
class Fallback:
    """
    A kernel that should run here and does not.

    Args:
        kernel (`str`): which; reason (`str`): why, of a compiler's words the first that tell of an error.
        cost (`str`): what the slower form costs; remedy (`str`): what to do.
    """

    kernel: str
    reason: str
    cost: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.kernel} do not run here, a slower form does ({self.cost}): {self.reason}. {self.remedy}"


class KernelError(RuntimeError):
    """A kernel does not run, and was required to; `fallback` (`Fallback`) has the parts of the message."""

    def __init__(self, fallback: Fallback):
        super().__init__(str(fallback))
        self.fallback = fallback


def fall_back(fallback: Fallback) -> None:
    """
    Say once that a slower form runs.

    Raises:
        KernelError: inside `require_kernels`.
    """
    if _required:
        raise KernelError(fallback)
    _tell_once(fallback)


@contextmanager
def require_kernels() -> Iterator[None]:
    """Make a fallback an error, `KernelError`, inside; in all threads, as a backward pass has its own."""
    global _required
    _required += 1
    try:
        yield
    finally:
        _required -= 1


@functools.cache
def _tell_once(fallback: Fallback) -> None:
    logger.warning(str(fallback))


def shorten_reason(text: str) -> str:
    """Of a compiler's answer, or a Python error's, the line that tells of the error, in at most 300 letters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["it says nothing"]
    # Compilers of C++ and assemblers say `error`; Triton quotes the code, then the Python error that it met.
    said = next((line for line in lines if re.search(r"\berror\b", line, re.IGNORECASE)), None)
    raised = next((line for line in reversed(lines) if re.search(r"\w+Error\b", line)), lines[0])
    shown = said or (raised if raised == lines[0] else f"{lines[0]} {raised}")
    return (shown if len(shown) <= 300 else f"{shown[:299]}…").rstrip(".")


__all__ = ["Fallback", "KernelError", "fall_back", "require_kernels", "shorten_reason"]
