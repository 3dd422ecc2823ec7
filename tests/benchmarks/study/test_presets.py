"""The models of a study: sizes of the paper, smaller ones of the same classes, and what is made equal, by hand."""

import pytest
import yaml

from gengram import GengramConfig
from gengram.benchmarks.study.matching import count_parameters, count_step, make_arm, match_blocks, match_width
from gengram.benchmarks.study.presets import (
    ARCHITECTURES,
    PAPER,
    PRESETS,
    SMALL,
    TINY,
    choose_architectures,
    describe_model,
    make_config,
)
from gengram.errors import InputError


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_papers_preset_is_from_size(architecture):
    size = f"{'0.3b' if architecture.startswith('dense') else '1.2b'}-{architecture}"
    ours, theirs = make_config(PAPER, architecture, True), GengramConfig.from_size(size)
    assert (ours.memory_layers, ours.memory_dim) == (theirs.memory_layers, theirs.memory_dim)
    found, meant = (config.backbone_config.to_dict() for config in (ours, theirs))
    assert {name for name in meant if found[name] != meant[name]} <= {"output_router_logits"}


@pytest.mark.parametrize("preset", [TINY, SMALL])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_smaller_presets_are_of_the_same_classes(preset, architecture):
    ours, theirs = (make_config(one, architecture, True).backbone_config for one in (preset, PAPER))
    assert type(ours) is type(theirs)
    for name in ("num_local_experts", "num_experts_per_tok", "n_routed_experts", "q_lora_rank", "n_shared_experts"):
        assert getattr(ours, name, "none") == getattr(theirs, name, "none")
    shared = [one.num_attention_heads // one.num_key_value_heads for one in (ours, theirs)]
    assert shared[0] == shared[1] == (2 if architecture.endswith("gqa") else 1)
    if architecture == "dense-mla":
        assert ours.first_k_dense_replace == ours.num_hidden_layers
    if architecture == "moe-mla":
        assert ours.first_k_dense_replace == 0 and ours.moe_intermediate_size == preset.expert_width


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_without_memory_nothing_else_differs(preset, architecture):
    ours, plain = (describe_model(preset, architecture, memory) for memory in (True, False))
    assert plain["memory_layers"] == [] and len(ours["memory_layers"]) == 3
    assert {**ours, "memory_layers": []} == plain
    assert yaml.safe_load(yaml.safe_dump(ours)) == ours  # a recipe holds it


def test_operations_and_parameters_of_a_tiny_model_by_hand():
    """D = 64, 4 layers, MLP of 256, 4 heads of 16, vocabulary of 128; 3 memories of 32 a row, k = 1..6."""
    D, F, L, V, E, K = 64, 256, 4, 128, 32, 6
    T, blocks = 128, 16
    layer = 4 * D * D + 3 * D * F  # projections of the attention, gated MLP
    plain = L * (layer + 2 * D) + 2 * V * D + D  # two norms a layer, embeddings in and out, last norm
    rows = sum(5**k for k in range(1, 7))
    assert rows == 19_530
    memory = rows * E + 2 * K * E * D + 2 * D + 4 * D  # tables, key and value projection, two norms, four taps
    assert make_arm(TINY, "dense-mha", "none").parameters == plain
    assert make_arm(TINY, "dense-mha", "memory").parameters == plain + 3 * memory
    # A multiplication and an addition are two; backward twice as much as forward; causal: half of the pairs.
    step = 3 * (blocks * T * 2 * (L * layer + D * V) + blocks * L * 4 * T * T * D // 2)
    ours = 3 * 3 * blocks * T * 4 * K * E * D
    assert make_arm(TINY, "dense-mha", "none").step_flops == step
    arm = make_arm(TINY, "dense-mha", "memory")
    assert (arm.step_flops, arm.memory_flops) == (step + ours, ours)
    # 4.03 of 4.93 billion: 16 blocks become 13.06.
    assert make_arm(TINY, "dense-mha", "memory-equal-flops").blocks_per_step == 13


def test_tokens_that_a_token_meets_in_a_mixture_of_experts():
    total, active = count_parameters(make_config(TINY, "moe-mha", False))
    one = 3 * 64 * 128
    assert total - active == 4 * 6 * one  # of 8 experts a layer 2 are met


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_equal_flops_are_equal_to_half_a_block_and_equal_parameters_to_half_a_width(preset, architecture):
    plain, ours, equal, wider = (
        make_arm(preset, architecture, name) for name in ("none", "memory", "memory-equal-flops", "none-wider")
    )
    per_block = ours.step_flops / ours.blocks_per_step
    assert abs(equal.step_flops - plain.step_flops) <= 0.5 * per_block
    assert equal.blocks_per_step == match_blocks(preset, architecture) < plain.blocks_per_step
    assert ours.count_tokens(preset) == plain.count_tokens(preset) > equal.count_tokens(preset)
    a_width = abs(count_parameters(make_config(preset, architecture, False, wider.width + 1))[0] - wider.parameters)
    assert abs(wider.parameters - ours.parameters) <= (4 if preset.paper else 0.5) * a_width
    assert wider.width == match_width(preset, architecture) > plain.width


def test_a_smaller_batch_is_cheaper_by_its_blocks():
    config = make_config(TINY, "dense-mla", True)
    assert count_step(config, 26, 128)[0] == 2 * count_step(config, 13, 128)[0]


def test_architectures_are_chosen_by_name():
    assert choose_architectures(None) == list(ARCHITECTURES)
    assert choose_architectures(["moe-gqa", "dense-mha", "moe-gqa"]) == ["dense-mha", "moe-gqa"]
    with pytest.raises(InputError, match="dense-mqa: there is no such architecture; did you mean"):
        choose_architectures(["dense-mqa"])
