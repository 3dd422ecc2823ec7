"""A sequence spread over two processes gives what one process gives: outputs, gradients, both layouts.

The two processes run all cases once; each is compared with the whole sequence in the same process.
"""

import itertools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.distributed.nn.functional as differentiable
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, LlamaConfig, LlamaModel

from gengram import GengramConfig, GengramForCausalLM, MotifMemory
from gengram.gengram.context_parallel import ContextParallel, set_context_parallel
from gengram.gengram.kmer_index import KmerContext

RANKS = 2
BACKBONE = {
    "vocab_size": 128,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
MEMORY = {"memory_layers": [0, 1], "kmer_sizes": [1, 2, 3], "memory_dim": 4, "window_size": 9}
FORMS = {
    "released": {},
    "paper": {"memory_preset": "paper"},
    "conv-norm": {"conv_norm": True},
    "no-window": {"window_size": None, "conv_dilation": 4},
}
LAYOUTS = ["contiguous", "zigzag"]
EXTRAS = ["nothing", "documents", "padding"]


def make_config(**fields) -> GengramConfig:
    return GengramConfig(backbone_config=LlamaConfig(**BACKBONE), **{**MEMORY, **fields})


def take(x: torch.Tensor, layout: str, rank: int) -> torch.Tensor:
    """This rank's pieces of dimension 1."""
    pieces = x.chunk(2 * RANKS if layout == "zigzag" else RANKS, dim=1)
    return torch.cat([pieces[rank], pieces[-1 - rank]], dim=1) if layout == "zigzag" else pieces[rank]


def find_difference(parallel, whole, group) -> float:
    """Largest difference of gradients that are sums over the processes, relative to the largest gradient."""
    worst = 0.0
    for mine, reference in zip(parallel.parameters(), whole.parameters()):
        total = mine.grad.clone()
        dist.all_reduce(total, group=group)
        worst = max(worst, float((total - reference.grad).abs().max() / reference.grad.abs().max().clamp(min=1e-3)))
    return worst


def compare_memory(form: str, layout: str, extra: str, dtype: torch.dtype, rank: int) -> tuple[float, float, float]:
    torch.manual_seed(0)
    whole = MotifMemory(make_config(**FORMS[form])).to(dtype)
    parallel = MotifMemory(make_config(**FORMS[form])).to(dtype)
    parallel.load_state_dict(whole.state_dict())
    set_context_parallel(parallel, dist.group.WORLD, layout)
    T = 96
    letters = torch.randint(-1, 5, (2, T))
    hidden, cotangent = torch.randn(2, T, 16, dtype=dtype), torch.randn(2, T, 16, dtype=dtype)
    documents = (torch.arange(T) // 31).expand(2, T) if extra == "documents" else None
    real = torch.arange(T).expand(2, T) >= torch.tensor([[13], [0]]) if extra == "padding" else None
    letters = letters if real is None else letters.masked_fill(~real, -1)

    everything = hidden.clone().requires_grad_()
    expected = whole(everything, KmerContext(letters, documents, real))
    (expected * cotangent).sum().backward()
    mine = take(hidden, layout, rank).clone().requires_grad_()
    parts = [None if x is None else take(x, layout, rank) for x in (letters, documents, real)]
    found = parallel(mine, KmerContext(*parts))
    (found * take(cotangent, layout, rank)).sum().backward()
    return (
        float((found - take(expected, layout, rank)).abs().max()),
        float((mine.grad - take(everything.grad, layout, rank)).abs().max()),
        find_difference(parallel, whole, dist.group.WORLD),
    )


def compare_model(layout: str, rank: int) -> tuple[float, float]:
    """Logits and gradients of a language model whose attention gathers keys and values of all processes."""
    T = 96
    place = take(torch.arange(T)[None], layout, rank)[0]
    order = torch.cat([take(torch.arange(T)[None], layout, r)[0] for r in range(RANKS)]).argsort()

    def attend(module, query, key, value, mask, scaling=None, dropout=0.0, **kwargs):
        key, value = (torch.cat(differentiable.all_gather(x.contiguous()), dim=2)[:, :, order] for x in (key, value))
        seen = torch.arange(T) <= place[:, None]
        return scaled_dot_product_attention(query, key, value, seen, scale=scaling).transpose(1, 2), None

    AttentionInterface.register("gathered", attend)
    AttentionMaskInterface.register("gathered", lambda *args, **kwargs: None)
    torch.manual_seed(0)
    whole = GengramForCausalLM(make_config()).double()
    parallel = GengramForCausalLM(make_config()).double()
    parallel.load_state_dict(whole.state_dict())
    parallel.set_attn_implementation("gathered")
    set_context_parallel(parallel, dist.group.WORLD, layout)
    ids = torch.tensor([8, 5, 6, 7])[torch.randint(0, 4, (1, T))]
    labels = ids.roll(-1)
    expected = whole(ids, use_cache=False).logits
    cross_entropy(expected[0], labels[0], reduction="sum").backward()
    mine = parallel(take(ids, layout, rank), position_ids=place[None]).logits
    cross_entropy(mine[0], take(labels, layout, rank)[0], reduction="sum").backward()
    difference = float((mine - take(expected, layout, rank)).abs().max())
    return difference, find_difference(parallel, whole, dist.group.WORLD)


def refuse(rank: int) -> list[str]:
    messages = []
    memory = MotifMemory(make_config())
    set_context_parallel(memory, dist.group.WORLD)
    hidden, letters = torch.zeros(1, 96, 16), torch.zeros(1, 96, dtype=torch.int64)
    centred = MotifMemory(make_config(center_window=True))
    set_context_parallel(centred, dist.group.WORLD)
    model = GengramForCausalLM(make_config())
    set_context_parallel(model, dist.group.WORLD)
    for call in (
        lambda: memory(hidden[:, :20], KmerContext(letters[:, :20])),
        lambda: memory(hidden, KmerContext(letters, state=object())),
        lambda: centred(hidden, KmerContext(letters)),
        lambda: model(letters, use_cache=True),
        lambda: model(letters, seq_idx=letters),
        lambda: ContextParallel(dist.group.WORLD, "ring"),
    ):
        try:
            call()
            messages.append("")
        except ValueError as error:
            messages.append(str(error))
    set_context_parallel(memory, None)
    memory(hidden[:, :20], KmerContext(letters[:, :20]))
    return messages


def run(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS)
    results: dict = {"refused": refuse(rank)}
    for form, layout, extra in itertools.product(FORMS, LAYOUTS, EXTRAS):
        results[form, layout, extra] = compare_memory(form, layout, extra, torch.float64, rank)
    for layout in LAYOUTS:
        results["float32", layout] = compare_memory("released", layout, "nothing", torch.float32, rank)
        results["model", layout] = compare_model(layout, rank)
    torch.save(results, Path(folder) / f"{rank}.pt")
    dist.barrier()
    # Now and then gloo's threads abort a process that takes the interpreter down.
    os._exit(0)


@pytest.fixture(scope="module")
def results():
    with tempfile.TemporaryDirectory() as folder:
        workers = [subprocess.Popen([sys.executable, __file__, str(rank), folder]) for rank in range(RANKS)]
        assert [worker.wait() for worker in workers] == [0] * RANKS
        yield [torch.load(Path(folder) / f"{rank}.pt") for rank in range(RANKS)]


@pytest.mark.parametrize("extra", EXTRAS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("form", FORMS)
def test_two_processes_equal_one(results, form, layout, extra):
    for rank in range(RANKS):
        output, hidden, weights = results[rank][form, layout, extra]
        assert output < 1e-12 and hidden < 1e-9 and weights < 1e-9


@pytest.mark.parametrize("layout", LAYOUTS)
def test_in_single_precision(results, layout):
    for rank in range(RANKS):
        output, hidden, weights = results[rank]["float32", layout]
        assert output < 1e-6 and hidden < 1e-5 and weights < 1e-5


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_language_model_with_gathered_attention(results, layout):
    for rank in range(RANKS):
        logits, weights = results[rank]["model", layout]
        assert logits < 1e-10 and weights < 1e-8


def test_what_has_no_context_parallelism_says_so(results):
    short, cache, centred, cached_model, packed, layout = results[0]["refused"]
    assert "20 positions a process" in short and "at least 17" in short
    assert "use_cache=False" in cache and "centred" in centred
    assert "one document a row" in cached_model and "one document a row" in packed
    assert "layout='ring'" in layout


def test_models_without_a_memory_are_refused():
    with pytest.raises(ValueError, match="LlamaModel has no motif memory"):
        set_context_parallel(LlamaModel(LlamaConfig(**BACKBONE)), None)


if __name__ == "__main__":
    run(int(sys.argv[1]), sys.argv[2])
