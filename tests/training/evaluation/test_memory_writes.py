"""What the memories write: as computed from their own outputs; gates by the memory's definition."""

import pytest
import torch
from transformers import LlamaConfig

from gengram import GengramConfig, GengramForCausalLM
from gengram.training.evaluation import measure_memory_writes

IDS = torch.randint(5, 9, (2, 40), generator=torch.Generator().manual_seed(0))


def build(**fields):
    torch.manual_seed(0)
    backbone = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2, pad_token_id=0
    )
    config = GengramConfig(backbone_config=backbone, memory_layers=[0, 2], memory_dim=8, kmer_sizes=[1, 2], **fields)
    return GengramForCausalLM(config).eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_are_those_of_the_residuals(dtype):
    model = build(mixer="none").to(dtype)
    written = {}
    hooks = [
        memory.register_forward_hook(lambda memory, args, output: written.update({memory.layer_idx: (args[0], output)}))
        for memory in model.model.memory.values()
    ]
    with torch.no_grad():
        model(IDS)
    for hook in hooks:
        hook.remove()
    found = measure_memory_writes(model, [{"input_ids": IDS}])
    assert len(found) == 10
    for layer, (hidden, residual) in written.items():
        norms, others = residual.float().norm(dim=-1), hidden.float().norm(dim=-1)
        assert found[f"memory/layer_{layer}/write_norm"] == pytest.approx(float(norms.mean()), rel=1e-5)
        assert found[f"memory/layer_{layer}/hidden_norm"] == pytest.approx(float(others.mean()), rel=1e-5)
        assert found[f"memory/layer_{layer}/write_ratio"] == pytest.approx(float((norms / others).mean()), rel=1e-5)
    assert not any(module._forward_hooks for memory in model.model.memory.values() for module in memory.modules())


@pytest.mark.parametrize("kind", ["sigmoid", "signed_sqrt"])
def test_gates_are_those_of_the_residual(kind):
    """Without a mixer the residual is gate times value."""
    model = build(mixer="none", gate=kind)
    gates = []

    def keep(memory, args, kwargs, residual):
        _, value = memory.read(args[1])
        gates.append((residual * value).sum(-1) / (value * value).sum(-1))

    memory = model.model.memory["2"]
    hook = memory.register_forward_hook(keep, with_kwargs=True)
    with torch.no_grad():
        model(IDS)
    hook.remove()
    found = measure_memory_writes(model, [{"input_ids": IDS}])
    assert found["memory/layer_2/gate_mean"] == pytest.approx(float(gates[0].mean()), rel=1e-4)
    assert found["memory/layer_2/gate_open"] == pytest.approx(float((gates[0] > 0.5).float().mean()), abs=1e-6)


def test_a_silent_memory_writes_nothing():
    model = build(mixer="none")
    with torch.no_grad():
        for memory in model.model.memory.values():
            memory.value_proj.weight.zero_()
            if memory.value_proj.bias is not None:
                memory.value_proj.bias.zero_()
    found = measure_memory_writes(model, [{"input_ids": IDS}])
    assert found["memory/layer_0/write_norm"] == found["memory/layer_2/write_ratio"] == 0
    assert found["memory/layer_2/hidden_norm"] > 0


def test_padding_does_not_count():
    model = build()
    padded, mask = IDS.clone(), torch.ones_like(IDS)
    padded[1, 25:], mask[1, 25:] = 0, 0
    whole = measure_memory_writes(model, [{"input_ids": padded, "attention_mask": mask}])
    apart = measure_memory_writes(model, [{"input_ids": IDS[:1]}, {"input_ids": IDS[1:, :25]}])
    assert whole == {name: pytest.approx(value, rel=1e-4) for name, value in apart.items()}


def test_a_model_without_memory_has_none(llama):
    assert measure_memory_writes(llama, [{"input_ids": IDS}]) == {}
