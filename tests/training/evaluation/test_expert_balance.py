"""Balance of experts: 1 where all are used alike, E / k where one choice is always taken."""

import pytest
import torch
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM, MixtralConfig, MixtralForCausalLM
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from gengram import GengramConfig, GengramForCausalLM
from gengram.training.evaluation import measure_expert_balance
from gengram.training.evaluation.expert_balance import find_balance

SIZE = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
IDS = torch.randint(5, 9, (2, 40), generator=torch.Generator().manual_seed(0))


def build_mixtral():
    torch.manual_seed(0)
    return MixtralForCausalLM(MixtralConfig(**SIZE, num_key_value_heads=2, num_local_experts=4)).eval()


def build_deepseek():
    torch.manual_seed(0)
    config = DeepseekV3Config(
        **SIZE,
        num_key_value_heads=2,
        q_lora_rank=None,
        kv_lora_rank=8,
        qk_nope_head_dim=8,
        qk_rope_head_dim=8,
        v_head_dim=8,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_shared_experts=1,
        n_group=1,
        topk_group=1,
        moe_intermediate_size=16,
        first_k_dense_replace=1,
    )
    return DeepseekV3ForCausalLM(config).eval()


def test_even_use_is_one_and_one_choice_is_all():
    even = torch.full((8,), 5.0, dtype=torch.float64)
    assert find_balance(even, even) == 1
    one = torch.tensor([10.0, 10, 0, 0], dtype=torch.float64)
    assert find_balance(one, torch.tensor([10.0, 10, 0, 0], dtype=torch.float64)) == 2  # 4 experts, top 2


def test_a_router_without_preference_is_balanced_in_its_probabilities():
    model = build_mixtral()
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.gate.weight.zero_()
    found = measure_expert_balance(model, [{"input_ids": IDS}])
    assert found == {name: pytest.approx(1, abs=1e-9) for name in found}
    assert set(found) == {*(f"experts/layer_{layer}/balance" for layer in range(3)), "experts/balance_mean"} | {
        "experts/balance_max"
    }


def test_a_layer_has_the_loss_of_transformers():
    model = build_mixtral()
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.gate.weight.mul_(30)
        logits = model(IDS, output_router_logits=True).router_logits
    found = measure_expert_balance(model, [{"input_ids": IDS}])
    # Theirs sums over the k choices where the definition takes their share.
    expected = [float(load_balancing_loss_func((one,), 4, 2)) / 2 for one in logits]
    assert [found[f"experts/layer_{layer}/balance"] for layer in range(3)] == pytest.approx(expected, rel=1e-5)
    assert found["experts/balance_mean"] == pytest.approx(sum(expected) / 3)
    assert found["experts/balance_max"] == pytest.approx(max(expected))
    assert 1 < found["experts/balance_max"] <= 2


@pytest.mark.parametrize("memory", [False, True])
def test_deepseek_and_models_with_a_memory(memory):
    model = build_deepseek()
    if memory:
        model = GengramForCausalLM(GengramConfig(backbone_config=model.config, memory_layers=[0], memory_dim=8)).eval()
    found = measure_expert_balance(model, [{"input_ids": IDS}])
    assert set(found) == {
        f"experts/{name}" for name in ("layer_1/balance", "layer_2/balance", "balance_mean", "balance_max")
    }
    assert all(0.5 < value <= 2 for value in found.values())


def test_the_bias_of_deepseek_moves_the_choices():
    model = build_deepseek()
    with torch.no_grad():
        for layer in model.model.layers[1:]:
            layer.mlp.gate.e_score_correction_bias.copy_(torch.tensor([10.0, 10, 0, 0]))
            layer.mlp.gate.weight.zero_()
    found = measure_expert_balance(model, [{"input_ids": IDS}])
    assert found["experts/balance_mean"] == pytest.approx(1)  # even probabilities: the loss has no slope to mend it


def test_padding_does_not_count():
    model = build_mixtral()
    padded, mask = IDS.clone(), torch.ones_like(IDS)
    padded[1, 25:], mask[1, 25:] = 0, 0
    whole = measure_expert_balance(model, [{"input_ids": padded, "attention_mask": mask}])
    apart = measure_expert_balance(model, [{"input_ids": IDS[:1]}, {"input_ids": IDS[1:, :25]}])
    assert whole == {name: pytest.approx(value, rel=1e-5) for name, value in apart.items()}


def test_a_dense_model_has_no_experts(llama):
    assert measure_expert_balance(llama, [{"input_ids": IDS}]) == {}
