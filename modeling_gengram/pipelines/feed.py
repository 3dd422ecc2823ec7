"""How is a model kept busy? Batches are made ahead of it and what it says is fetched behind it, so that an accelerator
computes while rows are read, tokenised, filled up and written. On a CPU, which does all of it, they take turns.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from accelerate.utils.memory import should_reduce_batch_size

from gengram.phases import phase
from gengram.progress import tell

_Item = TypeVar("_Item")
_Key = TypeVar("_Key")

_MADE = 2  # batches that wait for the model
_RUNNING = 2  # batches that the device has, and whose results are not fetched
_PATIENCE = 10.0  # seconds for which a thread that is not needed any more is waited for


class Batch(NamedTuple, Generic[_Key]):
    """Rows that a model reads together.

    Attributes:
        key: what the caller knows them by.
        inputs: of the model, [B, T ...], on the CPU; empty for a key that passes through without a model.
    """

    key: _Key
    inputs: dict[str, torch.Tensor]


class OutOfMemoryError(ValueError):
    """A single row needs more memory than there is.

    Attributes:
        key: of its batch.
        row: its number in that, from 0.
        length: of its inputs, padding included.
    """

    def __init__(self, key: Any, row: int, length: int):
        super().__init__(f"a row of {length} tokens does not fit into the memory of the device")
        self.key, self.row, self.length = key, row, length


class Device(Protocol):
    """Where a model computes, and how numbers get there and back.

    Attributes:
        running: batches that it is given before results of the first are waited for; 0: it is done at once.
    """

    running: int

    def send(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return inputs that are there, or on their way."""

    def fetch(self, output: torch.Tensor) -> Callable[[], np.ndarray]:
        """Begin to bring a result back; what is returned waits until it is here."""

    def free(self) -> None:
        """Give back what memory is not in use."""


class _Waiting:
    """A device that is waited for: a CPU, or one without events of its own."""

    running = 0

    def __init__(self, device: torch.device):
        self._device = device

    def send(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: one.to(self._device) for name, one in inputs.items()}

    def fetch(self, output: torch.Tensor) -> Callable[[], np.ndarray]:
        # A copy, since what is kept of torch's memory keeps it from being used for the next batch.
        found = output.cpu().numpy().copy()
        return lambda: found

    def free(self) -> None:
        pass


class _Cuda:
    """A CUDA device: copies from and to pinned memory, in the order of its stream; an event for each batch."""

    running = _RUNNING

    def __init__(self, device: torch.device):
        self._device = device

    def send(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        # Pinned memory is not used again before the copy is done: torch's allocator sees to that.
        return {name: one.pin_memory().to(self._device, non_blocking=True) for name, one in inputs.items()}

    def fetch(self, output: torch.Tensor) -> Callable[[], np.ndarray]:
        here = torch.empty(output.shape, dtype=output.dtype, pin_memory=True)
        here.copy_(output, non_blocking=True)
        with torch.cuda.device(self._device):
            arrived = torch.cuda.Event()
            arrived.record()

        def wait() -> np.ndarray:
            arrived.synchronize()
            return here.numpy().copy()  # pinned memory goes back at once

        return wait

    def free(self) -> None:
        torch.cuda.empty_cache()


def find_feeding(device: torch.device) -> Device:
    """Return how a device is fed."""
    return _Cuda(device) if device.type == "cuda" else _Waiting(device)


class Feeder:
    """Give batches to a model one after the other, and what it says back in their order.

    Where memory runs out, a batch is halved until it fits, and so are those behind it.

    Args:
        run: takes the inputs of a batch on the device, gives a tensor [B, ...] there; without a synchronisation, if
            the device is to be kept busy.
        device: of `find_feeding`.
    """

    def __init__(self, run: Callable[..., torch.Tensor], device: Device):
        self._run, self._device = run, device
        self._most: int | None = None  # numbers of an input that fit

    def __call__(self, batches: Iterable[Batch[_Key]]) -> Generator[tuple[_Key, np.ndarray], None, None]:
        """Yield the key of each batch with its result, [B, ...]; no rows where it had no inputs.

        Batches are made in a thread of their own, two ahead, if the device works beside this process. An error of
        theirs is raised here, behind the results of those before. Close it (`contextlib.closing`) if it is left early.

        Raises:
            `OutOfMemoryError`: a single row does not fit.
        """
        running: deque[tuple[_Key, list[Callable[[], np.ndarray]]]] = deque()
        failure: BaseException | None = None
        made = run_ahead(batches, _MADE) if self._device.running else (batch for batch in batches)
        with closing(made):
            while failure is None:
                try:
                    batch = next(made)
                except StopIteration:
                    break
                except Exception as error:  # raised below, when what came before is through
                    failure = error
                    break
                with phase("Model"):
                    running.append((batch.key, list(self._start(batch.key, batch.inputs, 0))))
                while len(running) > self._device.running:
                    yield _take(running)
            while running:
                yield _take(running)
        if failure is not None:
            raise failure

    def _start(self, key: Any, inputs: dict[str, torch.Tensor], first: int) -> Iterator[Callable[[], np.ndarray]]:
        """Run rows, the first of which is number `first` of its batch, in as many parts as memory asks for."""
        if not inputs:
            return
        rows, length = next(iter(inputs.values())).shape[:2]
        fits = self._most is None or rows == 1 or rows * length <= self._most
        output = self._try(inputs) if fits else None
        if output is not None:
            yield self._device.fetch(output)
            return
        if fits:
            # Here nothing holds the tensors of the failed call any more.
            self._device.free()
            if rows == 1:
                raise OutOfMemoryError(key, first, length)
            self._most = rows * length // 2
            tell(f"memory ran out at a batch of {rows} x {length} tokens: going on with batches of half of that")
        half = -(-rows // 2)
        for start, end in ((0, half), (half, rows)):
            some = {name: one[start:end] for name, one in inputs.items()}
            yield from self._start(key, some, first + start)

    def _try(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor | None:
        """Run rows; None if there is too little memory."""
        try:
            return self._run(**self._device.send(inputs))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        return None


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that a device, or the CPU, has too little memory."""
    return isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)


def _take(running: deque[tuple[_Key, list[Callable[[], np.ndarray]]]]) -> tuple[_Key, np.ndarray]:
    key, waits = running.popleft()
    with phase("Model"):
        found = [wait() for wait in waits]
    return key, found[0] if len(found) == 1 else np.concatenate(found or [np.empty(0)])


class _Raised(NamedTuple):
    """What ended the thread, in the place of an item."""

    error: BaseException | None


def run_ahead(items: Iterable[_Item], count: int) -> Generator[_Item, None, None]:
    """Yield items that a thread makes, at most so many before they are asked for.

    An error that making them raises is raised here, in its place. Closed early, or after an error or an interruption of
    what is done with them, the thread ends with the item that it is at.

    Args:
        items: that are made.
        count: how many of them wait.
    """
    made: queue.Queue[_Item | _Raised] = queue.Queue(count)
    over = threading.Event()

    def work() -> None:
        end = _Raised(None)
        try:
            for item in items:
                made.put(item)
                if over.is_set():
                    return
        except BaseException as error:
            end = _Raised(error)
        finally:
            if isinstance(items, Generator):
                items.close()  # its files, here and now
        made.put(end)

    thread = threading.Thread(target=work, name="gengram-feed", daemon=True)
    thread.start()
    try:
        while True:
            with phase("Waiting for rows"):
                item = _wait(made)
            if isinstance(item, _Raised):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        over.set()
        while thread.is_alive():  # it may wait to put one item more
            try:
                made.get_nowait()
            except queue.Empty:
                break
        thread.join(_PATIENCE)


def _wait(made: queue.Queue[_Item]) -> _Item:
    while True:
        try:
            return made.get(timeout=1.0)  # On Windows, nothing interrupts a wait without end.
        except queue.Empty:
            continue


__all__ = ["Batch", "Device", "Feeder", "OutOfMemoryError", "find_feeding", "is_out_of_memory", "run_ahead"]
