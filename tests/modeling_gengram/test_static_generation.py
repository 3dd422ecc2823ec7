"""Generation with a static cache: what a compiled step, recorded as a CUDA graph, needs, as far as a CPU shows it."""

import gc
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import CompileConfig, StaticCache

from gengram.gengram.gpu_kernel import INTERPRETED
from gengram.gengram.memory_cache import find_memory_layer

PRESETS = [
    pytest.param({}, id="released"),
    pytest.param({"memory_preset": "paper"}, id="paper"),
    pytest.param({"window_size": None, "kmer_sizes": [2, 3]}, id="no-window"),
    pytest.param({"conv_norm": True}, id="conv-norm"),
]


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


class Recorder:
    """
    A backend that holds each run of a graph to what a CUDA graph demands: that nothing made inside outlives it, but
    what it returns.

    Attributes:
        graphs (`int`): compiled; left (`list[int]`): tensors that each run left behind.
    """

    def __init__(self, backend: str):
        self.backend, self.graphs, self.left = backend, 0, []

    def __call__(self, graph, inputs):
        run = torch._dynamo.lookup_backend(self.backend)(graph, inputs)
        self.graphs += 1

        def run_and_look(*args):
            gc.freeze()  # what there was is of no interest, and is not looked through
            try:
                outputs = run(*args)
                gc.collect()
                returned = {x.untyped_storage()._cdata for x in tree_leaves(outputs) if isinstance(x, torch.Tensor)}
                made = [x for x in gc.get_objects() if issubclass(type(x), torch.Tensor)]
                made = [x for x in made if x.device.type == "cpu" and not issubclass(type(x), FakeTensor)]
                self.left.append(len({x.untyped_storage()._cdata for x in made} - returned))
            finally:
                gc.unfreeze()
            return outputs

        return run_and_look

    def __deepcopy__(self, memo):  # `CompileConfig.to_dict` copies
        return self


def compile_with(backend) -> CompileConfig:
    settings = CompileConfig(backend=backend, fullgraph=True, mode=None)
    settings._compile_all_devices = True  # otherwise on GPUs only
    return settings


def make_prompt(make_ids, B: int, T: int, seed: int) -> dict[str, torch.Tensor]:
    """Prompts; of several, the first one is shorter and padded on the left."""
    ids = make_ids(B, T, seed=seed)
    mask = torch.ones_like(ids)
    if B > 1:
        ids[0, :7] = mask[0, :7] = 0
    return {"input_ids": ids, "attention_mask": mask}


WAYS = [
    pytest.param(1, {}, id="one"),
    pytest.param(3, {}, id="left-padded"),
    pytest.param(2, {"do_sample": True, "num_return_sequences": 2}, id="sample"),
    pytest.param(2, {"num_beams": 3}, id="beams"),  # which transformers does not compile
    pytest.param(2, {"prefill_chunk_size": 7}, id="prompt-in-compiled-chunks"),
]


@pytest.mark.parametrize("B, kwargs", WAYS)
def test_every_way_says_what_a_growing_cache_says(make_backbone, make_model, make_ids, B, kwargs):
    model, recorder = make_model(make_backbone("llama-mha")), Recorder("aot_eager")
    settings = compile_with(recorder)
    common = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, **kwargs}
    for seed, T in enumerate((14,) if "prefill_chunk_size" in kwargs else (21, 28)):
        prompt = make_prompt(make_ids, B, T, seed)
        torch.manual_seed(1)
        expected = model.generate(**prompt, **{k: v for k, v in common.items() if k != "prefill_chunk_size"})
        torch.manual_seed(1)
        found = model.generate(
            **prompt, cache_implementation="static", max_cache_len=64, compile_config=settings, **common
        )
        assert torch.equal(found, expected)
    assert not any(recorder.left)
    if "num_beams" not in kwargs and "prefill_chunk_size" not in kwargs:
        assert recorder.graphs == 1 and len(recorder.left) == 2 * 7  # the same for the cache of the second prompt


@pytest.mark.parametrize("fields", PRESETS)
def test_a_step_keeps_addresses_and_is_compiled_once(make_backbone, make_model, make_ids, fields):
    model, recorder = make_model(make_backbone("llama-mha"), **fields), Recorder("aot_eager")
    step, ids = torch.compile(model.__call__, backend=recorder, fullgraph=True), make_ids(2, 40)
    cache = StaticCache(model.config.backbone_config, 48)
    places = set()
    with torch.no_grad():
        expected = model(ids, use_cache=False).logits[:, 30:]
        for _ in range(2):
            model(ids[:, :30], past_key_values=cache, use_cache=True)
            logits = []
            for t in range(30, 40):
                one, place = ids[:, t : t + 1].clone(), torch.full((2, 1), t)
                logits.append(step(one, position_ids=place, past_key_values=cache, use_cache=True).logits)
                layer = find_memory_layer(cache, 3)
                places.add(tuple(x.data_ptr() for x in (*layer.past.values(), layer.seen)))
            torch.testing.assert_close(torch.cat(logits, dim=1), expected, rtol=0, atol=1e-9)
            cache.reset()
    assert len(places) == 1
    assert recorder.graphs == 1 and recorder.left == [0] * 20
    assert not counters["graph_break"]


def test_beams_are_reordered_where_they_lie(make_backbone, make_model, make_ids):
    model, ids = make_model(make_backbone("llama-mha")), make_ids(3, 20)
    cache, token = StaticCache(model.config.backbone_config, 48), make_ids(3, 1, seed=3)
    with torch.no_grad():
        model(ids, past_key_values=cache, use_cache=True)
        layer = find_memory_layer(cache, 3)
        places = [x.data_ptr() for x in layer.past.values()]
        cache.reorder_cache(torch.tensor([2, 2, 0]))
        assert [x.data_ptr() for x in layer.past.values()] == places
        found = model(token, past_key_values=cache, use_cache=True).logits
        expected = model(torch.cat([ids[[2, 2, 0]], token], dim=1), use_cache=False).logits[:, -1:]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_a_prompt_is_compiled_where_memory_was_reserved(make_backbone, make_model, make_ids):
    """As transformers' `early_initialization` for keys and values: nothing that is kept is made inside of a graph."""
    model, recorder = make_model(make_backbone("llama-mha")), Recorder("aot_eager")
    read, ids = torch.compile(model.__call__, backend=recorder, fullgraph=True, dynamic=False), make_ids(2, 33)
    cache = StaticCache(model.config.backbone_config, 48)
    cache.early_initialization(2, 4, 8, torch.float64, torch.device("cpu"))
    model.model.reserve_memory(cache, 2)
    layer = find_memory_layer(cache, 3)
    places = [x.data_ptr() for x in layer.past.values()]
    with torch.no_grad():
        expected = model(ids, use_cache=False).logits
        parts = [read(part.clone(), past_key_values=cache, use_cache=True) for part in ids[:, :22].split(11, dim=1)]
        parts.append(model(ids[:, 22:], past_key_values=cache, use_cache=True))  # not compiled, it goes on
    torch.testing.assert_close(torch.cat([part.logits for part in parts], dim=1), expected, rtol=0, atol=1e-9)
    assert [x.data_ptr() for x in layer.past.values()] == places
    assert not any(recorder.left) and recorder.graphs == 1


class Elsewhere(TorchDispatchMode):
    """Lists the operators that touch a tensor which is not on this device."""

    def __init__(self, device: str):
        super().__init__()
        self.device, self.others = device, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        outputs = func(*args, **(kwargs or {}))
        for x in tree_leaves((args, kwargs, outputs)):
            if isinstance(x, torch.Tensor) and x.device.type != self.device:
                self.others.append(f"{func}: {x.device}")
        return outputs


@pytest.mark.parametrize("fields", PRESETS)
def test_a_step_touches_the_device_alone_and_asks_for_no_number(make_backbone, make_model, make_ids, fields):
    """On the meta device: a number that is asked for has no answer there, and nothing may come from the CPU."""
    model = make_model(make_backbone("llama-mha"), **fields).to("meta")
    for memory in model.model.memory.values():
        memory.path = "window"  # of a step that is compiled
    cache = StaticCache(model.config.backbone_config, 48)
    ids, place = (torch.zeros(2, T, dtype=torch.int64, device="meta") for T in (20, 1))
    with torch.no_grad():
        model(ids, past_key_values=cache, use_cache=True)
        for _ in range(2):
            with Elsewhere("meta") as seen:
                model(ids[:, :1], position_ids=place, past_key_values=cache, use_cache=True)
            assert seen.others == []


def count_operators(model, prompt) -> int:
    """Operators of one compiled step that are neither views nor metadata."""
    counted = []

    def count(graph, inputs):
        views = ("view", "expand", "slice", "select", "squeeze", "permute", "transpose", "aten.t.", "alias", "getitem")
        names = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
        counted.append(sum(not any(view in name for view in views) for name in names))
        return graph.forward

    from torch._dynamo.backends.common import aot_autograd

    torch._dynamo.reset()
    settings = compile_with(aot_autograd(fw_compiler=count))
    with torch.no_grad():
        model.generate(
            **prompt, max_new_tokens=3, do_sample=False, cache_implementation="static", compile_config=settings
        )
    (number,) = counted
    return number


@pytest.mark.parametrize("preset, most", [("released", 170), ("paper", 170)])
def test_operators_that_a_memory_adds_to_a_step(make_backbone, make_model, make_ids, preset, most):
    """By lifetimes it would be about 470 and 1,180, with six sizes of k-mers."""
    sizes = {"kmer_sizes": [1, 2, 3, 4, 5, 6], "window_size": 21}
    prompt = make_prompt(make_ids, 1, 20, 0)
    plain = count_operators(make_model(make_backbone("llama-mha"), memory_layers=[]), prompt)
    model = make_model(make_backbone("llama-mha"), memory_layers=[1], memory_preset=preset, **sizes)
    assert count_operators(model, prompt) - plain <= most


@pytest.mark.slow
def test_a_step_compiled_by_inductor(make_backbone, make_model, make_ids):
    model, recorder = make_model(make_backbone("llama-gqa-tied"), memory_layers=[1]), Recorder("inductor")
    prompt = make_prompt(make_ids, 2, 20, 0)
    common = {"max_new_tokens": 20, "do_sample": False, "eos_token_id": None}
    expected = model.generate(**prompt, **common)
    settings = compile_with(recorder)
    found = model.generate(**prompt, cache_implementation="static", compile_config=settings, **common)
    assert torch.equal(found, expected)
    assert recorder.graphs == 1 and recorder.left == [0] * 19


@pytest.mark.skipif(not INTERPRETED, reason="run by test_the_kernels_in_a_step_leave_nothing_behind")
@pytest.mark.parametrize("preset", ["released", "paper"])
def test_kernels_in_a_step(make_backbone, make_model, make_ids, preset):
    model = make_model(make_backbone("llama-mha"), memory_preset=preset).float()
    recorder, prompt = Recorder("aot_eager"), make_prompt(make_ids, 2, 20, 0)
    common = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    settings = compile_with(recorder)
    found = model.generate(**prompt, cache_implementation="static", compile_config=settings, **common)
    assert model.model.memory["0"].path == "auto" and recorder.graphs == 1
    assert recorder.left == [0] * 5
    assert torch.equal(found, model.generate(**prompt, use_cache=False, **common))


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton has no release for this system")
def test_the_kernels_in_a_step_leave_nothing_behind():
    """In a process of its own, because triton reads TRITON_INTERPRET when it is imported."""
    command = [sys.executable, "-m", "pytest", __file__, "-q", "-x", "-k", "test_kernels_in_a_step"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider"],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout[-4000:] + done.stderr[-2000:]
