"""A device that works beside the process, as a CUDA device does: results are there only when they were waited for."""

import numpy as np
import torch


class FakeDevice:
    """Writes down what happens; a result that nobody waited for is not a number."""

    def __init__(self, running: int = 2):
        self.running, self.events, self.sent, self.freed = running, [], 0, 0

    def send(self, inputs):
        self.sent += 1
        self.events.append(("send", self.sent))
        return {name: one.clone() for name, one in inputs.items()}

    def fetch(self, output):
        number, here = self.sent, np.full(output.shape, np.nan, dtype=np.float32)
        there = output.detach().clone()

        def wait():
            self.events.append(("wait", number))
            here[...] = there.numpy()
            return here

        return wait

    def free(self):
        self.freed += 1


class SmallMemory:
    """Stands in for a model's `forward`: no batch of more tokens fits."""

    def __init__(self, model, most: int, error=torch.OutOfMemoryError):
        self.forward, self.most, self.error = model.forward, most, error
        self.tokens, self.largest = [], 0
        model.forward = self

    def __call__(self, input_ids, **others):
        self.tokens.append(input_ids.numel())
        if input_ids.numel() > self.most:
            raise self.error("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.largest = max(self.largest, input_ids.numel())
        return self.forward(input_ids=input_ids, **others)
