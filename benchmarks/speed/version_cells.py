"""The cells of `versions`, in one process with one version of the package; told what to do on standard input.

Run by its text, not imported: `gengram` is then the version under test. Only what all versions have is used.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import LlamaConfig

from gengram.gengram.configuration_gengram import GengramConfig
from gengram.gengram.kmer_index import KmerContext
from gengram.gengram.memory_cache import MotifMemoryLayer
from gengram.gengram.motif_memory import MotifMemory

REACH = 39  # bases of the prompt of a step of generation


def prepare(D: int, E: int, T: int, mode: str, dtype: str) -> Callable[[], None]:
    """One call of a cell: `forward` (evaluation), `train` (forward and backward), or `decode` (one new base)."""
    torch.manual_seed(0)
    backbone = LlamaConfig(hidden_size=D, num_attention_heads=1, num_hidden_layers=1, vocab_size=16)
    memory = MotifMemory(GengramConfig(backbone_config=backbone, memory_layers=[0], memory_dim=E))
    memory = memory.to(getattr(torch, dtype)).train(mode == "train")
    length = REACH if mode == "decode" else T
    letters = torch.randint(0, 4, (1, length))
    hidden = torch.randn(1, length, D, dtype=getattr(torch, dtype))
    if mode == "train":
        hidden.requires_grad_()

        def train() -> None:
            memory.zero_grad()
            hidden.grad = None
            memory(hidden, KmerContext(letters)).sum().backward()

        return train
    if mode == "forward":

        def forward() -> None:
            with torch.no_grad():
                memory(hidden, KmerContext(letters))

        return forward
    state = MotifMemoryLayer()

    def step(new_hidden: torch.Tensor, new_letters: torch.Tensor) -> None:
        with torch.no_grad():
            window, history = state.extend_letters(new_letters, memory.window.history)
            memory(new_hidden, KmerContext(window, history=history, state=state))

    step(hidden[:, :-1], letters[:, :-1])
    return lambda: step(hidden[:, -1:], letters[:, -1:])


def take_time(call: Callable[[], None], least: float) -> dict[str, float]:
    """Seconds of a call, and CPU seconds of all threads: the mean of as many calls as take `least` seconds together."""
    begun, cpu, calls = time.perf_counter(), time.process_time(), 0
    while True:
        call()
        calls += 1
        if (spent := time.perf_counter() - begun) >= least:
            return {"seconds": spent / calls, "cpu_seconds": (time.process_time() - cpu) / calls}


def serve() -> None:
    """Answer each line: `prepare` with the arguments of a cell, or `time`."""
    call: Callable[[], None] | None = None
    answer: dict[str, Any]
    for line in sys.stdin:
        request = json.loads(line)
        if "prepare" in request:
            call = None  # before the next one is there
            call = prepare(**request["prepare"])
            call()
            take_time(call, request["seconds"])
            answer = {
                "files": [
                    file
                    for name in sys.modules
                    if name.partition(".")[0] == "gengram"
                    if (file := getattr(sys.modules[name], "__file__", None))
                ]
            }
        else:
            assert call is not None
            answer = take_time(call, request["seconds"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve()
