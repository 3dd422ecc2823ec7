"""Exported graphs say what the model says: every head, with a cache and without, from one step to the next."""

import copy
import json

import pytest
import torch
from transformers import GenerationConfig
from transformers.exporters.exporter_dynamo import DynamoConfig, DynamoExporter
from transformers.exporters.utils import decompose_prefill_decode, get_leaf_tensors

import gengram
from gengram import GengramForCausalLM

HEADS = ["GengramModel", "GengramForSequenceClassification", "GengramForTokenClassification", "language model"]


def name_head(head: str, config) -> str:
    if head != "language model":
        return head
    return "GengramForCausalLM" if config.is_causal else "GengramForMaskedLM"


def make(backbone_config, make_config, head="language model"):
    """A model in single precision, its experts in a form that can be exported."""
    if hasattr(backbone_config, "num_experts_per_tok"):
        backbone_config._experts_implementation = "grouped_mm"
    config = make_config(backbone_config)
    torch.manual_seed(0)
    return getattr(gengram, name_head(head, config))(config).eval()


def export(model, inputs, dynamic=False):
    exporter = DynamoExporter()
    settings = DynamoConfig(dynamic=dynamic)
    if hasattr(exporter, "export_program"):  # 5.23
        return exporter.export_program(model, copy.deepcopy(inputs), settings)[0]
    return exporter.export(model, copy.deepcopy(inputs), settings)


def assert_exported_alike(model, inputs):
    """Everything that can be reached from the outputs is equal, caches included."""
    program = export(model, inputs)
    with torch.no_grad():
        found = get_leaf_tensors(program.module()(**copy.deepcopy(inputs)))
        expected = get_leaf_tensors(model(**copy.deepcopy(inputs)))
    assert found.keys() == expected.keys()
    for name, x in expected.items():
        assert torch.allclose(found[name].double(), x.double(), rtol=1e-4, atol=1e-5), name
    return found


def take_apart(model, ids, **kwargs):
    """What `generate` gives the model for the prompt, and for the step behind it."""
    settings = GenerationConfig(do_sample=False, **kwargs.pop("settings", {}))
    parts = decompose_prefill_decode(
        model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, settings, **kwargs
    )
    for _, inputs in parts.values():
        for flag in ("use_cache", "return_dict"):
            inputs.pop(flag, None)
    return {part: inputs for part, (_, inputs) in parts.items()}


@pytest.mark.parametrize(
    ("name", "head"), [("llama-mha", "language model"), ("modernbert", "GengramForTokenClassification")]
)
def test_a_head_of_either_direction(make_backbone, make_config, make_ids, name, head):
    model, ids = make(make_backbone(name), make_config, head), make_ids(2, 20)
    assert_exported_alike(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_every_head_of_every_backbone(backbone_config, make_config, make_ids, head):
    model, ids = make(backbone_config, make_config, head), make_ids(2, 20)
    assert_exported_alike(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})


@pytest.mark.parametrize(
    "settings", [{}, {"cache_implementation": "static", "max_cache_len": 64}], ids=["grows", "static"]
)
def test_prompt_and_step_of_a_generation(make_backbone, make_config, make_ids, settings):
    model = make(make_backbone("llama-mha"), make_config)
    for inputs in take_apart(model, make_ids(2, 20), settings=settings).values():
        found = assert_exported_alike(model, inputs)
        assert any(name.endswith("past.letters") for name in found)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{}, {"cache_implementation": "static", "max_cache_len": 64}], ids=["grows", "static"]
)
def test_prompt_and_step_with_every_backbone(causal_config, make_config, make_ids, settings):
    model = make(causal_config, make_config)
    for inputs in take_apart(model, make_ids(2, 20), settings=settings).values():
        assert_exported_alike(model, inputs)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama-mha", "deepseek-v3"])
def test_a_step_goes_on_for_any_length(make_backbone, make_config, make_ids, name):
    """Of one graph, exported at 20 tokens: steps of one and of many tokens, past what the cache keeps."""
    backbone = make_backbone(name)
    backbone.max_position_embeddings = 512
    model, ids = make(backbone, make_config), make_ids(2, 300)
    inputs = take_apart(model, ids[:, :20], multi_token_decode=True)["decode"]
    step = export(model, inputs, dynamic=True).module()
    with torch.no_grad():
        expected = model(ids, use_cache=False).logits
        cache, place = model(ids[:, :30], use_cache=True).past_key_values, 30
        for T in (1, 1, 3, 150, 1, 1, 40):
            given = {
                "input_ids": ids[:, place : place + T],
                "position_ids": torch.arange(place, place + T).expand(2, -1),
                "attention_mask": torch.ones(2, place + T, dtype=torch.int64),
                "past_key_values": cache,
            }
            outputs = step(**{name: x for name, x in given.items() if name in inputs})
            torch.testing.assert_close(outputs.logits, expected[:, place : place + T], rtol=1e-4, atol=1e-5)
            cache, place = outputs.past_key_values, place + T


def test_a_cache_survives_being_flattened(make_backbone, make_config, make_ids):
    """As exporters do it: a context of JSON and a list of tensors."""
    exporter = pytest.importorskip("transformers.exporters.exporter_dynamo")
    model, ids = make(make_backbone("llama-mha"), make_config), make_ids(2, 40)
    assert isinstance(model, GengramForCausalLM)
    with torch.no_grad():
        expected = model(ids, use_cache=False).logits
        cache = model(ids[:, :30], use_cache=True).past_key_values
        leaves, context = exporter._pytree_flatten(cache)
        assert all(isinstance(leaf, torch.Tensor) for leaf in leaves)
        again = exporter._pytree_unflatten(leaves, json.loads(json.dumps(context)))
        longer = model(ids[:, :31], use_cache=True).past_key_values
        assert exporter._pytree_flatten(longer)[1] == context  # nothing in it counts tokens
        rest = model(ids[:, 30:], past_key_values=again, use_cache=True).logits
    torch.testing.assert_close(rest, expected[:, 30:], rtol=1e-4, atol=1e-5)


def test_a_compiled_step_is_compiled_once(make_backbone, make_config, make_ids):
    torch._dynamo.reset()
    model, ids = make(make_backbone("llama-mha"), make_config), make_ids(2, 40)
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(model, backend=count, dynamic=True, fullgraph=True)
    with torch.no_grad():
        expected = model(ids, use_cache=False).logits
        cache = model(ids[:, :30], use_cache=True).past_key_values
        for t in range(30, 40):
            outputs = compiled(input_ids=ids[:, t : t + 1], past_key_values=cache, use_cache=True)
            cache = outputs.past_key_values
            torch.testing.assert_close(outputs.logits, expected[:, t : t + 1], rtol=1e-4, atol=1e-5)
    assert len(graphs) <= 2  # the first may see sizes as constants
    torch._dynamo.reset()
