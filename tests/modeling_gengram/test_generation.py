"""Generation with a cache is the full forward, token for token."""

import copy
import pickle

import pytest
import torch
from transformers import DynamicCache, StaticCache

from gengram.gengram import memory_cache
from gengram.gengram.cpu_library import load_kernel
from gengram.gengram.memory_cache import MotifMemoryLayer, find_memory_layer

PRESETS = [
    pytest.param({"memory_preset": "released"}, id="released"),
    pytest.param({"memory_preset": "paper"}, id="paper"),
    pytest.param({"window_size": None}, id="no-window"),
    pytest.param({"conv_norm": True, "window_size": 3}, id="conv-norm"),
]


@pytest.fixture
def prompt(make_ids):
    """Two prompts, the shorter one padded on the left: ids and mask [2, 26]."""
    ids = make_ids(2, 26)
    mask = torch.ones_like(ids)
    ids[0, :9], mask[0, :9] = 0, 0
    return ids, mask


def continue_greedily(model, ids, mask, steps):
    """Reference without a cache: the whole sequence again for every token."""
    logits = []
    for _ in range(steps):
        position_ids = (mask.cumsum(1) - 1).clamp(min=0)
        with torch.no_grad():
            logits.append(model(ids, attention_mask=mask, position_ids=position_ids, use_cache=False).logits[:, -1])
        ids = torch.cat([ids, logits[-1].argmax(-1, keepdim=True)], dim=1)
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
    return ids, torch.stack(logits, dim=1)


@pytest.mark.parametrize("fields", PRESETS)
@pytest.mark.parametrize("rows", [slice(1, 2), slice(0, 2)], ids=["one", "left-padded"])
def test_greedy_equals_the_full_forward(causal_config, make_model, prompt, fields, rows):
    model = make_model(causal_config, **fields)
    ids, mask = prompt[0][rows], prompt[1][rows]
    expected, logits = continue_greedily(model, ids, mask, 30)
    result = model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=30,
        min_new_tokens=30,
        do_sample=False,
        eos_token_id=None,
        suppress_tokens=[],  # the reference chooses among all tokens
        return_dict_in_generate=True,
        output_logits=True,
    )
    assert torch.equal(result.sequences, expected)
    torch.testing.assert_close(torch.stack(result.logits, dim=1).double(), logits, rtol=0, atol=1e-5)
    assert any(isinstance(layer, MotifMemoryLayer) for layer in result.past_key_values.layers)


@pytest.mark.parametrize("rows", [slice(1, 2), slice(0, 2)], ids=["one", "left-padded"])
def test_beam_search_equals_beam_search_without_a_cache(causal_config, make_model, prompt, rows):
    model = make_model(causal_config)
    kwargs = {
        "attention_mask": prompt[1][rows],
        "max_new_tokens": 20,
        "num_beams": 3,
        "num_return_sequences": 3,
        "do_sample": False,
        "return_dict_in_generate": True,
        "output_scores": True,
        "eos_token_id": None,
    }
    cached = model.generate(prompt[0][rows], use_cache=True, **kwargs)
    plain = model.generate(prompt[0][rows], use_cache=False, **kwargs)
    assert torch.equal(cached.sequences, plain.sequences)
    torch.testing.assert_close(cached.sequences_scores, plain.sequences_scores, rtol=0, atol=1e-5)
    assert len({tuple(row) for row in cached.sequences.tolist()}) > 1  # the beams differ, so they were reordered


@pytest.mark.parametrize("chunks", [[1] * 40, [7, 1, 20, 12], [39, 1]])
@pytest.mark.parametrize("fields", PRESETS)
def test_chunks_equal_one_pass(make_backbone, make_model, make_ids, chunks, fields):
    model, ids = make_model(make_backbone("mixtral"), **fields), make_ids(2, 40)
    cache, parts = None, []
    with torch.no_grad():
        expected = model(ids, use_cache=False).logits
        for part in ids.split(chunks, dim=1):
            outputs = model(part, past_key_values=cache, use_cache=True)
            cache = outputs.past_key_values
            parts.append(outputs.logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("make_cache", [lambda config: DynamicCache(), lambda config: StaticCache(config, 64)])
def test_any_cache_of_transformers_serves(make_backbone, make_model, make_ids, make_cache):
    model, ids = make_model(make_backbone("llama-mha")), make_ids(1, 30)
    cache = make_cache(model.config.backbone_config)
    with torch.no_grad():
        expected = model(ids, use_cache=False).logits
        first = model(ids[:, :20], past_key_values=cache, use_cache=True).logits
        second = model(ids[:, 20:], past_key_values=cache, use_cache=True).logits
    torch.testing.assert_close(torch.cat([first, second], dim=1), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kwargs", [{"cache_implementation": "static"}, {"prefill_chunk_size": 7}, {"num_beams": 2}])
def test_left_padding_with_other_ways_to_generate(make_backbone, make_model, prompt, kwargs):
    model = make_model(make_backbone("llama-mha"))
    common = {"attention_mask": prompt[1], "max_new_tokens": 12, "do_sample": False, "eos_token_id": None}
    plain = {key: value for key, value in kwargs.items() if key == "num_beams"}
    expected = model.generate(prompt[0], use_cache=False, **common, **plain)
    assert torch.equal(model.generate(prompt[0], **common, **kwargs), expected)


def test_a_mask_of_the_whole_static_cache(make_backbone, make_model, prompt):
    """The columns of the new tokens are behind those seen, not the last ones."""
    model, (ids, mask) = make_model(make_backbone("llama-mha")), prompt
    position_ids = (mask.cumsum(1) - 1).clamp(min=0)
    longer = torch.cat([mask, torch.zeros(2, 30, dtype=mask.dtype)], dim=1)
    cache = StaticCache(model.config.backbone_config, 56)
    with torch.no_grad():
        expected = model(ids, attention_mask=mask, position_ids=position_ids, use_cache=False).logits[mask.bool()]
        logits = model(
            ids, attention_mask=longer, position_ids=position_ids, past_key_values=cache, use_cache=True
        ).logits[mask.bool()]
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-9)


def test_a_cache_and_checkpointing_exclude_each_other(make_backbone, make_model, make_ids):
    model, ids = make_model(make_backbone("llama-mha")), make_ids(1, 12)
    model.train()
    model.gradient_checkpointing_enable()
    assert model(ids).past_key_values is None
    with pytest.raises(ValueError, match=r"Call model\.eval\(\) to generate"):
        model.generate(ids, max_new_tokens=6)


def test_assisted_generation_rolls_the_cache_back(make_backbone, make_model, make_ids):
    model = make_model(make_backbone("llama-mha"))
    assistant = make_model(make_backbone("llama-gqa-tied"))
    ids = make_ids(1, 26)
    kwargs = {"max_new_tokens": 30, "do_sample": False, "eos_token_id": None}
    expected = model.generate(ids, **kwargs)
    assert torch.equal(model.generate(ids, assistant_model=assistant, **kwargs), expected)


@pytest.mark.parametrize("remove", [1, 5, 19])
def test_cropped_cache_equals_a_shorter_past(make_backbone, make_model, make_ids, remove):
    model, ids = make_model(make_backbone("llama-mha")), make_ids(1, 50)
    with torch.no_grad():
        cache = model(ids, use_cache=True).past_key_values
        cache.crop(-remove)
        again = model(ids[:, 50 - remove :], past_key_values=cache, use_cache=True).logits
        expected = model(ids, use_cache=False).logits[:, 50 - remove :]
    torch.testing.assert_close(again, expected, rtol=0, atol=1e-9)


def test_a_cache_keeps_a_bounded_past_and_says_so(make_backbone, make_model, make_ids, monkeypatch):
    monkeypatch.setattr(memory_cache, "ROLLBACK", 4)
    model, ids = make_model(make_backbone("llama-mha")), make_ids(1, 60)
    with torch.no_grad():
        cache = model(ids, use_cache=True).past_key_values
    layer = find_memory_layer(cache, 3)
    window, conv = model.model.memory["0"].window, model.model.memory["0"].short_conv
    shapes = {name: values.shape for name, values in layer.past.items()}
    assert shapes.pop("letters") == (1, window.history + 4)
    assert set(shapes.values()) == {(1, conv.history + 4, 32)}
    layer.crop(-4)
    with pytest.raises(RuntimeError, match="cannot forget 1 tokens"):
        layer.crop(-1)
    layer.crop(-56)
    assert layer.get_seq_length() == 0 and not layer.past


def test_steps_of_one_generation_look_their_weights_up_once(make_backbone, make_model, make_ids, monkeypatch):
    if load_kernel() is None:
        pytest.skip("needs a C++ compiler")
    model, ids = make_model(make_backbone("llama-mha")), make_ids(2, 40)
    ids[0, 33] = model.config.base_token_ids[4]  # N has no row: the steps that see it take the general way
    memory = model.model.memory["0"]
    decided = []
    choose_path = memory.choose_path
    monkeypatch.setattr(memory, "choose_path", lambda context: decided.append(1) or choose_path(context))
    expected = model(ids, use_cache=False).logits[:, 30:].detach()
    decided.clear()
    with torch.no_grad():
        cache = model(ids[:, :30], use_cache=True).past_key_values
        copied = copy.deepcopy(cache)
        assert find_memory_layer(cache, 3) in memory.steps and find_memory_layer(copied, 3) not in memory.steps
        for some in (cache, copied):
            parts = [model(ids[:, t : t + 2], past_key_values=some, use_cache=True).logits for t in range(30, 40, 2)]
            torch.testing.assert_close(torch.cat(parts, dim=1), expected, rtol=0, atol=1e-9)
    assert len(decided) == (1 + 4) + (1 + 4)  # prefill and N; the copy's first step and N


def test_a_step_with_gradients_has_them(make_backbone, make_model, make_ids):
    model, ids = make_model(make_backbone("llama-mha")), make_ids(1, 21)
    with torch.no_grad():
        cache = model(ids[:, :20], use_cache=True).past_key_values
    model(ids[:, 20:], past_key_values=cache, use_cache=True).logits.sum().backward()
    assert float(model.model.memory["0"].key_proj.weight.grad.abs().max()) > 0


def test_a_cache_filled_by_another_model_is_refused(make_backbone, make_model, make_ids):
    model, ids = make_model(make_backbone("llama-mha")), make_ids(1, 12)
    cache = make_model(make_backbone("llama-mha"), memory_layers=[])(ids, use_cache=True).past_key_values
    with pytest.raises(ValueError, match="already holds 12 tokens"):
        model(ids, past_key_values=cache)


def test_packed_documents_and_a_cache_exclude_each_other(make_backbone, make_model, make_ids):
    model, ids = make_model(make_backbone("llama-mha")), make_ids(1, 20)
    position_ids = torch.arange(10).repeat(2)[None]
    assert model(ids, position_ids=position_ids).past_key_values is None
    with pytest.raises(ValueError, match="cannot be used with a cache"):
        model(ids, position_ids=position_ids, use_cache=True)


def test_batch_operations_of_the_cache(make_backbone, make_model, make_ids):
    """The cache's batch operations move letters and gated vectors with the keys."""
    model, ids = make_model(make_backbone("llama-mha")), make_ids(3, 20)
    with torch.no_grad():
        cache = model(ids, use_cache=True).past_key_values
        cache.batch_repeat_interleave(2)
        cache.batch_select_indices(torch.tensor([5, 0]))
        cache.reorder_cache(torch.tensor([1, 0]))
        token = make_ids(2, 1, seed=4)
        step = model(token, past_key_values=cache, use_cache=True).logits
        expected = model(torch.cat([ids[[0, 2]], token], dim=1), use_cache=False).logits[:, -1:]
    torch.testing.assert_close(step, expected, rtol=0, atol=1e-9)
    layer = find_memory_layer(cache, 3)
    layer.reset()
    assert not layer.past and layer.get_seq_length() == 0


def test_a_cache_from_inference_mode_goes_on_without_it(make_backbone, make_model, make_ids):
    model, ids = make_model(make_backbone("llama-mha")), make_ids(1, 40)
    with torch.inference_mode():
        cache = model(ids[:, :30], use_cache=True).past_key_values
    with torch.no_grad():
        rest = [model(ids[:, t : t + 1], past_key_values=cache, use_cache=True).logits for t in range(30, 40)]
        expected = model(ids, use_cache=False).logits[:, 30:]
    torch.testing.assert_close(torch.cat(rest, dim=1), expected, rtol=0, atol=1e-9)


def test_a_step_is_that_of_the_model_that_is_called(make_backbone, make_model, make_ids):
    """Also where a cache was filled by another model: its keys and values are the caller's affair."""
    one, two = make_model(make_backbone("llama-mha")), make_model(make_backbone("llama-mha"))
    with torch.no_grad():
        for parameter in two.parameters():
            parameter.mul_(1.5)
        cache = one(make_ids(1, 30), use_cache=True).past_key_values
        copied = copy.deepcopy(cache)  # without the steps
        found, expected = (two(make_ids(1, 1), past_key_values=some, use_cache=True).logits for some in (cache, copied))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


WAYS = [
    pytest.param({}, id="greedy"),
    pytest.param({"do_sample": True}, id="sample"),
    pytest.param({"num_beams": 3, "num_return_sequences": 2}, id="beams"),
    pytest.param({"cache_implementation": "static"}, id="static"),
    pytest.param({"prefill_chunk_size": 7}, id="chunked-prefill"),
    pytest.param({"use_cache": False}, id="no-cache"),
]


@pytest.mark.parametrize("kwargs", WAYS)
@pytest.mark.parametrize("rows", [slice(1, 2), slice(0, 2)], ids=["one", "left-padded"])
def test_embeddings_beside_ids_generate_the_same(causal_config, make_model, prompt, kwargs, rows):
    model = make_model(causal_config)
    ids, mask = prompt[0][rows], prompt[1][rows]
    kwargs = {"attention_mask": mask, "max_new_tokens": 8, "do_sample": False, "eos_token_id": None, **kwargs}
    embeddings = model.get_input_embeddings()(ids).detach()
    torch.manual_seed(1)
    expected = model.generate(ids, **kwargs)
    torch.manual_seed(1)
    assert torch.equal(model.generate(ids, inputs_embeds=embeddings, **kwargs), expected)


@pytest.mark.parametrize("kwargs", [{}, {"prefill_chunk_size": 7}, {"prompt_lookup_num_tokens": 3}])
def test_embeddings_of_a_prompt_are_read_beside_its_ids(make_backbone, make_model, make_ids, kwargs):
    """Embeddings of their own, as a trained prompt has them: the backbone reads these, and new ids behind them."""
    model, ids = make_model(make_backbone("llama-mha")), make_ids(1, 26)
    torch.manual_seed(0)
    given = torch.randn(1, 26, 32, dtype=torch.float64)
    expected = ids
    for _ in range(8):
        embeddings = torch.cat([given, model.get_input_embeddings()(expected[:, 26:])], dim=1)
        with torch.no_grad():
            logits = model(expected, inputs_embeds=embeddings, use_cache=False).logits[:, -1]
        chosen = logits[:, model.config.base_token_ids[:4]].argmax(-1)
        expected = torch.cat([expected, torch.tensor(model.config.base_token_ids)[chosen][:, None]], dim=1)
    kwargs = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, **kwargs}
    found = model.generate(
        ids, inputs_embeds=given, suppress_tokens=[t for t in range(128) if t not in [5, 6, 7, 8]], **kwargs
    )
    assert torch.equal(found, expected)
    assert not torch.equal(model.generate(ids, **kwargs), expected)


@pytest.mark.parametrize("length", [None, 5])
def test_embeddings_alone_are_refused_before_the_first_step(make_backbone, make_model, make_ids, length):
    model, ids = make_model(make_backbone("llama-mha")), make_ids(2, 12)
    given = {} if length is None else {"input_ids": ids[:, :length]}
    with pytest.raises(ValueError, match=r"generate\(input_ids, inputs_embeds=\.\.\.\) needs the ids of all 2 x 12"):
        model.generate(inputs_embeds=model.get_input_embeddings()(ids), max_new_tokens=3, **given)
    plain = make_model(make_backbone("llama-mha"), memory_layers=[])
    assert plain.generate(inputs_embeds=plain.get_input_embeddings()(ids), max_new_tokens=3).shape == (2, 3)


def find_tensors(x) -> list[torch.Tensor]:
    """Every tensor that can be reached from an object."""
    seen, found, todo = set(), [], [x]
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        assert not isinstance(one, torch.nn.Module)
        if isinstance(one, torch.Tensor):
            found.append(one)
        elif isinstance(one, dict):
            todo += one.values()
        elif isinstance(one, (list, tuple, set)):
            todo += one
        elif hasattr(one, "__dict__") and not isinstance(one, type):
            todo += vars(one).values()
    return found


@pytest.mark.parametrize("make_cache", [lambda config: DynamicCache(), lambda config: StaticCache(config, 64)])
def test_a_cache_holds_tensors_and_none_of_the_model(make_backbone, make_model, make_ids, make_cache):
    model, ids = make_model(make_backbone("llama-mha")), make_ids(2, 40)
    cache = make_cache(model.config.backbone_config)
    with torch.no_grad():
        expected = model(ids, use_cache=False).logits
        model(ids[:, :30], past_key_values=cache, use_cache=True)
        model(ids[:, 30:31], past_key_values=cache, use_cache=True)
        weights = {x.untyped_storage().data_ptr() for x in (*model.parameters(), *model.buffers())}
        kept = find_tensors(cache)
        assert kept and not weights & {x.untyped_storage().data_ptr() for x in kept}
        assert all(torch.isfinite(x).all() for x in kept if x.is_floating_point())  # nothing that nobody wrote
        again = pickle.loads(pickle.dumps(cache))
        for some in (copy.deepcopy(cache), again, cache):
            logits = model(ids[:, 31:], past_key_values=some, use_cache=True).logits
            torch.testing.assert_close(logits, expected[:, 31:], rtol=0, atol=1e-9)
    assert list(cache)[-1][:2] == (None, None) if isinstance(cache, DynamicCache) else True


def test_a_model_that_has_generated_is_copied_and_pickled(make_backbone, make_model, make_ids):
    model, ids = make_model(make_backbone("llama-mha")), make_ids(1, 30)
    with torch.no_grad():
        cache = model(ids, use_cache=True).past_key_values  # goes on while the model is copied
        for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(again(ids, use_cache=False).logits, model(ids, use_cache=False).logits)
            assert not again.model.memory["0"].steps
    del cache
    assert not model.model.memory["0"].steps  # no longer than the cache


@pytest.mark.parametrize("make_cache", [lambda config: DynamicCache(), lambda config: StaticCache(config, 64)])
def test_a_cache_begins_anew_with_other_weights(make_backbone, make_model, make_ids, make_cache):
    model, ids = make_model(make_backbone("llama-mha")), make_ids(2, 40)
    cache = make_cache(model.config.backbone_config)
    with torch.no_grad():
        for scale in (1.0, 1.5):
            for parameter in model.parameters():
                parameter.mul_(scale)
            cache.reset() if isinstance(cache, StaticCache) else cache.crop(-40)
            parts = [
                model(part, past_key_values=cache, use_cache=True).logits for part in ids.split([30, 1, 1, 8], dim=1)
            ]
            expected = model(ids, use_cache=False).logits
            torch.testing.assert_close(torch.cat(parts, dim=1), expected, rtol=0, atol=1e-9)


def test_a_static_cache_keeps_its_addresses(make_backbone, make_model, make_ids):
    """Compiled steps know them: also after the cache was reset."""
    model, ids = make_model(make_backbone("llama-mha")), make_ids(2, 20)
    cache = StaticCache(model.config.backbone_config, 64)
    places = []
    with torch.no_grad():
        for part in (ids, ids[:, :1]):
            model(part, past_key_values=cache, use_cache=True)
            layer = find_memory_layer(cache, 3)
            places.append([x.data_ptr() for x in (*layer.past.values(), layer.seen)])
            cache.reset()
            assert int(layer.get_seq_length()) == 0
    assert places[0] == places[1]


def test_crops_one_after_the_other(make_backbone, make_model, make_ids):
    model, ids = make_model(make_backbone("llama-mha")), make_ids(1, 64)
    with torch.no_grad():
        expected = model(ids, use_cache=False).logits
        cache = model(ids[:, :40], use_cache=True).past_key_values
        cache.crop(-10)
        model(ids[:, 30:35], past_key_values=cache, use_cache=True)
        cache.crop(-20)
        model(ids[:, 15:50], past_key_values=cache, use_cache=True)
        cache.crop(-1)
        again = model(ids[:, 49:], past_key_values=cache, use_cache=True).logits
    torch.testing.assert_close(again, expected[:, 49:], rtol=0, atol=1e-9)


def test_a_step_writes_where_there_is_room_and_nowhere_else(make_backbone, make_model, make_ids):
    """What the cache keeps is moved once in a while only; a copy made in between goes its own way."""
    model, ids, other = make_model(make_backbone("llama-mha")), make_ids(2, 340), make_ids(2, 340, seed=1)
    with torch.no_grad():
        cache = model(ids[:, :30], use_cache=True).past_key_values
        layer, places = find_memory_layer(cache, 3), set()
        for t in range(30, 340):
            if t == 100:
                copied = copy.deepcopy(cache)
            logits = model(ids[:, t : t + 1], past_key_values=cache, use_cache=True).logits
            places.add(layer.past["0"].untyped_storage().data_ptr())
        assert len(places) <= 4
        torch.testing.assert_close(logits, model(ids, use_cache=False).logits[:, -1:], rtol=0, atol=1e-9)
        for t in range(100, 120):
            logits = model(other[:, t : t + 1], past_key_values=copied, use_cache=True).logits
        expected = model(torch.cat([ids[:, :100], other[:, 100:120]], dim=1), use_cache=False).logits[:, -1:]
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-9)


def fork_by_tensors(cache):
    """As exporters do it: the tensors go on as they are, in objects of their own."""
    again = copy.copy(cache)
    again.layers = [copy.copy(layer) for layer in cache.layers]
    find_memory_layer(again, 3).past = dict(find_memory_layer(cache, 3).past)
    return again


@pytest.mark.parametrize("fork", [copy.deepcopy, fork_by_tensors])
def test_two_caches_of_one_past_do_not_write_over_each_other(make_backbone, make_model, make_ids, fork):
    model, prompt = make_model(make_backbone("llama-mha")), make_ids(2, 30)
    ways = make_ids(2, 20, seed=1), make_ids(2, 20, seed=2)
    with torch.no_grad():
        cache = model(prompt[:, :29], use_cache=True).past_key_values
        model(prompt[:, 29:], past_key_values=cache, use_cache=True)
        caches = cache, fork(cache)
        for t in range(20):
            found = [
                model(ids[:, t : t + 1], past_key_values=some, use_cache=True).logits for ids, some in zip(ways, caches)
            ]
        for ids, logits in zip(ways, found):
            expected = model(torch.cat([prompt, ids], dim=1), use_cache=False).logits[:, -1:]
            torch.testing.assert_close(logits, expected, rtol=0, atol=1e-9)


def test_several_steps_with_gradients_have_them(make_backbone, make_model, make_ids):
    model, ids = make_model(make_backbone("llama-mha")), make_ids(1, 34)
    with torch.no_grad():
        cache = model(ids[:, :30], use_cache=True).past_key_values
    model(ids[:, 30:31], past_key_values=cache, use_cache=True)
    logits = [model(ids[:, t : t + 1], past_key_values=cache, use_cache=True).logits for t in range(31, 34)]
    torch.cat(logits, dim=1).square().sum().backward()
    assert all(torch.isfinite(x.grad).all() for x in model.parameters() if x.grad is not None)
    assert float(model.model.memory["0"].key_proj.weight.grad.abs().max()) > 0
    expected = model(ids, use_cache=False).logits[:, 31:]
    torch.testing.assert_close(torch.cat(logits, dim=1), expected, rtol=0, atol=1e-9)
