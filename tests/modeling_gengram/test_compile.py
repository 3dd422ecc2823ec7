"""torch.compile and torch.export: the memory is one graph."""

import pytest
import torch

from gengram import GengramForCausalLM, MotifMemory
from gengram.gengram.kmer_index import KmerContext
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


def test_generation_compiles_nothing_it_cannot(make_backbone, make_config, make_ids):
    """A static cache works; the memory's part of it tells transformers not to compile the step."""
    model = GengramForCausalLM(make_config(make_backbone("llama-mha"))).eval()
    ids = make_ids(1, 20)
    kwargs = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None}
    assert torch.equal(model.generate(ids, cache_implementation="static", **kwargs), model.generate(ids, **kwargs))
