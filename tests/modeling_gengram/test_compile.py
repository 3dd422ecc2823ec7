"""torch.compile and torch.export: the memory is one graph."""

import pytest
import torch
from transformers import CompileConfig, StaticCache

from gengram import GengramForCausalLM, MotifMemory
from gengram.gengram.kmer_index import KmerContext
from gengram.gengram.memory_cache import find_memory_layer
from gengram.gengram.modeling_gengram import find_letters


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("preset", ["released", "paper"])
@pytest.mark.parametrize("packed", [False, True])
def test_the_memory_has_no_graph_break(make_backbone, make_config, make_ids, preset, packed):
    config = make_config(make_backbone("llama-mha"), memory_preset=preset)
    memory = MotifMemory(config).eval()
    letters = find_letters(make_ids(2, 40), config.base_token_ids)
    documents = torch.arange(40).div(15, rounding_mode="floor").expand(2, -1) if packed else None
    hidden = torch.randn(2, 40, 32, requires_grad=True)
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    def forward(hidden, letters, documents):
        return memory(hidden, KmerContext(letters, documents))

    compiled = torch.compile(forward, backend=count, fullgraph=True)(hidden, letters, documents)
    torch.testing.assert_close(compiled, forward(hidden, letters, documents))
    assert len(graphs) == 1


@pytest.mark.parametrize("name", ["llama-mha", "modernbert"])
def test_compiled_models_train_alike(make_backbone, make_model, make_ids, name):
    model, ids = make_model(make_backbone(name)).float(), make_ids(2, 32)
    loss = model(ids, labels=ids).loss
    loss.backward()
    plain = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    again = compiled(ids, labels=ids, use_cache=False) if model.config.is_causal else compiled(ids, labels=ids)
    again.loss.backward()
    torch.testing.assert_close(again.loss, loss)
    for name_, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, plain[name_], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["llama-mha", "bert"])
def test_export(make_backbone, make_model, make_ids, name):
    model, ids = make_model(make_backbone(name)).float(), make_ids(2, 24)
    kwargs = {"use_cache": False} if model.config.is_causal else {}
    T = torch.export.Dim("T", min=16, max=96)
    shapes = {"input_ids": {1: T}, **({"use_cache": None} if kwargs else {})}
    program = torch.export.export(model, (), {"input_ids": ids, **kwargs}, dynamic_shapes=shapes, strict=False)
    longer = make_ids(2, 53)
    with torch.no_grad():
        for x in (ids, longer):
            exported = program.module()(input_ids=x, **kwargs)
            torch.testing.assert_close(exported.logits, model(x, **kwargs).logits, rtol=1e-4, atol=1e-5)


def test_merged_tables_are_left_to_eager_mode(make_backbone, make_config, make_ids):
    config = make_config(make_backbone("llama-mha"))
    memory = MotifMemory(config)
    context = KmerContext(find_letters(make_ids(4, 120), config.base_token_ids))
    assert memory.choose_path(context) in ("merged", "fused")
    paths = []

    def forward(x):
        paths.append(memory.choose_path(context))
        return x + 1

    torch.compile(forward, backend="eager")(torch.zeros(1))
    assert paths[-1] == "lifetime"


@pytest.mark.parametrize(
    "fields, padded",
    [
        ({}, False),
        ({}, True),
        ({"memory_preset": "paper"}, True),
        ({"window_size": None}, False),
        ({"conv_norm": True}, True),
    ],
)
def test_a_step_of_generation_is_compiled_once(make_backbone, make_config, make_ids, fields, padded):
    """With a static cache transformers compiles the step; the memory's state is part of the one graph."""
    model = GengramForCausalLM(make_config(make_backbone("llama-mha"), **fields)).eval()
    ids = make_ids(2, 20)
    mask = torch.ones_like(ids)
    if padded:
        ids[0, :7] = mask[0, :7] = 0
    kwargs = {"attention_mask": mask, "max_new_tokens": 24, "do_sample": False, "eos_token_id": None}
    expected = model.generate(ids, **kwargs)
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compile_config = CompileConfig(backend=count, fullgraph=True, mode=None)
    compile_config._compile_all_devices = True  # otherwise on GPUs only
    again = model.generate(ids, cache_implementation="static", compile_config=compile_config, **kwargs)
    assert torch.equal(again, expected)
    assert len(graphs) == 1


def test_a_static_cache_begins_anew_and_follows_its_rows(make_backbone, make_config, make_ids):
    config = make_config(make_backbone("llama-mha"))
    model, ids = GengramForCausalLM(config).eval(), make_ids(2, 30)
    cache = StaticCache(config.backbone_config, 40)
    with torch.no_grad():
        expected = model(ids, use_cache=False).logits
        for _ in range(2):
            first = model(ids[:, :12], past_key_values=cache, use_cache=True).logits
            rest = [model(ids[:, t : t + 1], past_key_values=cache, use_cache=True).logits for t in range(12, 30)]
            torch.testing.assert_close(torch.cat([first, *rest], dim=1), expected, rtol=1e-4, atol=1e-5)
            cache.reset()
        model(ids[:, :12], past_key_values=cache, use_cache=True)
        cache.reorder_cache(torch.tensor([1, 0]))
        turned = model(ids[[1, 0], 12:13], past_key_values=cache, use_cache=True).logits
        torch.testing.assert_close(turned, expected[[1, 0], 12:13], rtol=1e-4, atol=1e-5)
    with pytest.raises(RuntimeError, match="use a dynamic one"):
        find_memory_layer(cache, 3).crop(-1)
