"""Tables that are kept in evaluation are never older than the weights."""

import copy
import pickle

import pytest
import torch
from torch import nn

from gengram import GengramForSequenceClassification, MotifMemory
from gengram.gengram import motif_memory
from gengram.gengram.kmer_index import KmerContext


@pytest.fixture
def memory(make_config, make_backbone):
    return MotifMemory(make_config(make_backbone("llama-mha"))).eval()


@pytest.fixture
def count_merges(monkeypatch):
    calls = []
    original = motif_memory.merge_tables
    monkeypatch.setattr(motif_memory, "merge_tables", lambda *a: calls.append(1) or original(*a))
    return calls


def make_context(B=2, T=50, seed=0):
    letters = torch.randint(0, 4, (B, T), generator=torch.Generator().manual_seed(seed))
    letters[0, T // 2] = 4  # an N, which the kept tables do not hold
    return KmerContext(letters)


def read(memory, path, context=None):
    memory.path = path
    with torch.no_grad():
        return torch.cat(memory.read(make_context() if context is None else context), dim=-1)


def test_made_once_and_read_many_times(memory, count_merges):
    for seed in range(3):
        context = make_context(seed=seed)
        torch.testing.assert_close(read(memory, "auto", context), read(memory, "definition", context))
    assert len(count_merges) == 1


def change_by_optimizer(memory):
    for parameter in memory.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD(memory.parameters(), lr=0.1).step()


def change_in_place(memory):
    with torch.no_grad():
        memory.embeddings[1].weight[3].add_(1)


def change_behind_the_counter(memory):
    memory.value_proj.weight.data += 0.01 * torch.randn_like(memory.value_proj.weight)  # how PEFT merges


def change_by_loading(memory):
    memory.load_state_dict({name: tensor + 0.1 for name, tensor in memory.state_dict().items()})


def change_by_replacing(memory):
    memory.key_proj.weight = nn.Parameter(memory.key_proj.weight.detach() * 2)


def change_dtype(memory):
    memory.double()


@pytest.mark.parametrize(
    "change",
    [
        change_by_optimizer,
        change_in_place,
        change_behind_the_counter,
        change_by_loading,
        change_by_replacing,
        change_dtype,
    ],
)
def test_any_change_of_a_weight_is_seen(memory, change):
    before = read(memory, "auto")
    change(memory)
    after = read(memory, "auto")
    assert after.dtype != before.dtype or (after - before).abs().max() > 1e-4
    torch.testing.assert_close(after, read(memory, "definition"))


def test_results_depend_on_weights_and_input_only(memory):
    """What was computed before decides nothing: a reloaded model gives the same bits."""
    hidden = torch.randn(2, 50, 32)
    fresh = copy.deepcopy(memory)
    with torch.no_grad():
        for T in (5, 400, 11):
            memory(torch.randn(3, T, 32), make_context(3, T))
        assert torch.equal(memory(hidden, make_context()), fresh(hidden, make_context()))


def test_not_kept_where_gradients_are_wanted(memory, count_merges):
    hidden = torch.randn(1, 400, 32, requires_grad=True)
    memory(hidden, make_context(1, 400)).sum().backward()
    memory.train()
    with torch.no_grad():
        memory(hidden, make_context(1, 400))
    assert memory.table_cache._merged is None
    assert all(parameter.grad is not None for parameter in memory.parameters())


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda memory: pickle.loads(pickle.dumps(memory))])
def test_copies_leave_the_tables_behind(memory, clone):
    expected = read(memory, "auto")
    assert memory.table_cache._merged is not None
    copied = clone(memory)
    assert copied.table_cache._merged is None
    assert torch.equal(read(copied, "auto"), expected)
    assert not any("cache" in name for name in memory.state_dict())
    memory.table_cache.clear()
    assert memory.table_cache._merged is None


def test_weights_made_in_inference_mode(make_config, make_backbone):
    with torch.inference_mode():
        memory = MotifMemory(make_config(make_backbone("llama-mha"))).eval()
        context = make_context()
        fast = torch.cat(memory.read(context), dim=-1)
        memory.path = "definition"
        torch.testing.assert_close(fast, torch.cat(memory.read(context), dim=-1))


def test_merging_an_adapter(make_config, make_backbone, make_ids):
    from peft import LoraConfig, get_peft_model

    model = GengramForSequenceClassification(make_config(make_backbone("llama-mha"), num_labels=3)).eval()
    ids = make_ids(2, 60)
    with torch.no_grad():
        before = model(ids).logits
        adapted = get_peft_model(model, LoraConfig(target_modules=["key_proj", "value_proj"])).eval()
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
        wrapped = adapted(input_ids=ids).logits
        merged = adapted.merge_and_unload()(ids).logits
    assert (merged - before).abs().max() > 1e-3
    torch.testing.assert_close(merged, wrapped, rtol=0, atol=1e-4)


def test_a_merge_that_fails_leaves_nothing_behind(memory, monkeypatch):
    read(memory, "auto")
    change_in_place(memory)
    original = motif_memory.merge_tables

    def fail(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(motif_memory, "merge_tables", fail)
    with pytest.raises(KeyboardInterrupt):
        read(memory, "auto")
    monkeypatch.setattr(motif_memory, "merge_tables", original)
    torch.testing.assert_close(read(memory, "auto"), read(memory, "definition"))
