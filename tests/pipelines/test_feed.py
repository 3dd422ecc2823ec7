"""A fed model: every batch once and in order, errors in their place, no thread that stays, memory that runs out."""

import gc
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest
import torch
from fake_device import FakeDevice
from hypothesis import given
from hypothesis import strategies as st

from gengram.phases import recording
from gengram.pipelines.feed import Batch, Feeder, OutOfMemoryError, find_feeding, run_ahead


def list_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "gengram-feed"]


def batch(key, rows: int, length: int = 4) -> Batch:
    ids = torch.arange(rows * length).reshape(rows, length)
    return Batch(key, {"ids": ids + 1000 * key, "mask": torch.ones_like(ids)})


def add_up(ids, mask):
    return (ids * mask).sum(1, keepdim=True).float()


@pytest.mark.parametrize("running", [0, 1, 2, 5])
def test_results_come_in_the_order_of_the_batches(running):
    batches = [batch(key, rows) for key, rows in enumerate([3, 1, 7, 2, 4])]
    found = list(Feeder(add_up, FakeDevice(running))(batches))
    assert [key for key, _ in found] == [0, 1, 2, 3, 4]
    for one, (_, result) in zip(batches, found):
        np.testing.assert_array_equal(result, add_up(**one.inputs).numpy())
    assert not list_threads()


def test_a_key_without_inputs_passes_through_in_its_place():
    found = Feeder(add_up, FakeDevice())([batch(0, 2), Batch(1, {}), batch(2, 2), Batch(3, {})])
    assert [(key, len(result)) for key, result in found] == [(0, 2), (1, 0), (2, 2), (3, 0)]


def test_a_device_has_the_next_batches_before_a_result_is_waited_for():
    device = FakeDevice(running=2)
    for _ in Feeder(add_up, device)(batch(key, 2) for key in range(5)):
        pass
    order = device.events
    for number in (1, 2, 3):  # two behind it are sent before
        assert order.index(("send", number + 2)) < order.index(("wait", number))
    assert [number for what, number in order if what == "wait"] == [1, 2, 3, 4, 5]


def test_few_batches_are_made_ahead():
    made, most = [], 0

    def make():
        for key in range(40):
            made.append(key)
            yield batch(key, 1)

    for key, _ in Feeder(add_up, FakeDevice(running=2))(make()):
        time.sleep(0.002)
        most = max(most, len(made) - key)
    assert most <= 2 + 2 + 2  # running, made, and those in both hands


def test_the_next_batch_is_made_while_one_runs():
    """Making and running sleep: together they take as long as the longer of the two, and not the sum."""

    def make():
        for key in range(8):
            time.sleep(0.25)
            yield batch(key, 1)

    def run(ids, mask):
        time.sleep(0.25)
        return add_up(ids, mask)

    begun = time.perf_counter()
    assert len(list(Feeder(run, FakeDevice())(make()))) == 8
    assert time.perf_counter() - begun < 3.5  # 2.25 of 4


@pytest.mark.parametrize("running", [0, 2])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, MemoryError])
def test_an_error_of_making_comes_behind_the_results_before_it(running, error):
    def make():
        yield batch(0, 2)
        yield batch(1, 2)
        raise error("this")

    seen = []
    with pytest.raises(error, match="this"):
        for key, _ in Feeder(add_up, FakeDevice(running))(make()):
            seen.append(key)
    if issubclass(error, Exception):
        assert seen == [0, 1]
    assert not list_threads()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_of_the_model_ends_the_thread(error):
    def run(ids, mask):
        if ids[0, 0] >= 1000:
            raise error("that")
        return add_up(ids, mask)

    with pytest.raises(error, match="that"):
        list(Feeder(run, FakeDevice())(batch(key, 1) for key in range(100)))
    assert not list_threads()


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_left_early_the_thread_ends_and_what_it_reads_is_closed(taken):
    closed = []

    def make():
        try:
            for key in range(1000):
                yield batch(key, 1)
        finally:
            closed.append(threading.current_thread().name)

    results = Feeder(add_up, FakeDevice())(make())
    for _ in range(taken):
        next(results)
    results.close()
    gc.collect()
    assert not list_threads()
    assert closed == (["gengram-feed"] if taken else [])


@given(st.lists(st.integers(), max_size=30), st.integers(1, 4), st.integers(0, 30))
def test_a_thread_gives_what_it_is_given(items, count, taken):
    ahead = run_ahead(iter(items), count)
    some = [item for item, _ in zip(ahead, range(taken))]
    ahead.close()
    assert some == items[:taken]
    assert not list_threads()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_wait_for_a_thread_can_be_interrupted():
    """Ctrl-C where the process waits for a thread that has nothing yet."""
    code = """
import signal, threading, time
from gengram.pipelines.feed import run_ahead

stop = threading.Event()

def make():
    yield 1
    stop.wait(20)

def interrupt(*_):
    threading.Timer(0.3, stop.set).start()
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
ahead = run_ahead(make(), 2)
next(ahead)
signal.setitimer(signal.ITIMER_REAL, 0.3)
begun = time.perf_counter()
try:
    next(ahead)
except KeyboardInterrupt:
    soon = time.perf_counter() - begun < 15
    print("interrupted", soon, [one.name for one in threading.enumerate() if one.name == "gengram-feed"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "interrupted True []", done.stderr


def test_waiting_for_rows_is_a_phase():
    def make():
        time.sleep(0.2)
        yield batch(0, 1)

    with recording() as recorded:
        list(Feeder(add_up, FakeDevice())(make()))
        told = {one.name: one.seconds for one in recorded.list_phases()}
    assert told["Waiting for rows"] > 0.15 and "Model" in told


class Memory:
    """Runs rows as long as they are few enough."""

    def __init__(self, most: int, error: Exception):
        self.most, self.error, self.sizes = most, error, []

    def __call__(self, ids, mask):
        self.sizes.append(ids.numel())
        if ids.numel() > self.most:
            raise self.error
        return add_up(ids, mask)


FAULTS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    torch.OutOfMemoryError("no more"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried"),
]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("running", [0, 2])
def test_where_memory_runs_out_batches_are_halved_until_they_fit(fault, running, capsys):
    batches = [batch(key, rows) for key, rows in enumerate([13, 16, 1, 5, 16])]
    memory, device = Memory(5 * 4, fault), FakeDevice(running)
    found = list(Feeder(memory, device)(batches))
    for one, (_, result) in zip(batches, found, strict=True):
        np.testing.assert_array_equal(result, add_up(**one.inputs).numpy())
    failed = [size for size in memory.sizes if size > memory.most]
    assert failed == [13 * 4, 6 * 4]  # and none of those behind it
    assert device.freed == 2
    assert "memory ran out at a batch of 13 x 4 tokens" in capsys.readouterr().err


@pytest.mark.parametrize("running", [0, 2])
def test_one_row_that_does_not_fit_is_named(running):
    memory = Memory(3, FAULTS[0])
    with pytest.raises(OutOfMemoryError, match="a row of 4 tokens does not fit") as told:
        list(Feeder(memory, FakeDevice(running))([batch(7, 6)]))
    assert (told.value.key, told.value.row, told.value.length) == (7, 0, 4)
    assert memory.sizes == [24, 12, 4] and not list_threads()


def test_a_later_row_is_named_by_its_number():
    def run(ids, mask):
        if (ids == 5 * 4).any():  # row 5
            raise FAULTS[0]
        return add_up(ids, mask)

    with pytest.raises(OutOfMemoryError) as told:
        list(Feeder(run, FakeDevice())([batch(0, 7)]))
    assert told.value.row == 5


def test_what_a_failed_call_held_is_gone_before_the_next():
    held = []

    def run(ids, mask):
        assert not any(one() is not None for one in held)
        activations = torch.zeros(ids.shape)
        held.append(weakref.ref(activations))
        if len(ids) > 2:
            raise torch.OutOfMemoryError("no more")
        return activations.sum(1)

    device = FakeDevice(0)
    device.free = lambda: [one() for one in held] == [None] * len(held) or pytest.fail("still held")
    list(Feeder(run, device)([batch(0, 8)]))


def test_another_error_of_the_model_is_its_own():
    def run(ids, mask):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        list(Feeder(run, FakeDevice())([batch(0, 4)]))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_gives_what_the_cpu_gives():
    weight = torch.randn(64, 512, generator=torch.Generator().manual_seed(0))

    def make():
        for key in range(30):
            ids = torch.randint(64, (50 + key, 100), generator=torch.Generator().manual_seed(key))
            yield Batch(key, {"ids": ids})

    device = torch.device("cuda")
    there = weight.to(device)
    found = dict(Feeder(lambda ids: there[ids].sum(1), find_feeding(device))(make()))
    for one in make():
        np.testing.assert_allclose(found[one.key], weight[one.inputs["ids"]].sum(1).numpy(), atol=1e-3)
