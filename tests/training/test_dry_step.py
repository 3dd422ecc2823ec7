"""A step on tensors without data keeps the same bytes as one on real tensors, operation by operation."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertConfig, LlamaConfig, MixtralConfig

from gengram import GengramConfig
from gengram.costs import estimate_activations
from gengram.rmt.configuration_rmt import RmtConfig
from gengram.training.dry_step import choose_memory_paths, make_dry, run_dry, run_dry_forward
from gengram.training.memory_estimate import count_parameters

CPU = torch.device("cpu")
SIZE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 64}
LLAMA = LlamaConfig(**SIZE, pad_token_id=0)
CONFIGS = {
    "bert": BertConfig(**SIZE),
    "llama": LLAMA,
    "mixtral": MixtralConfig(**SIZE, num_key_value_heads=1, num_local_experts=4, pad_token_id=0),
    # Many tokens for few k-mers: the tables are merged. And a few tokens: they are not.
    "memory": GengramConfig(backbone_config=LLAMA, memory_layers=[0], memory_dim=16, kmer_sizes=[1, 2, 3]),
    "pooled": GengramConfig(backbone_config=LLAMA, memory_layers=[0], memory_dim=16, deduplicate=True),
    "segments": RmtConfig(
        backbone_config=BertConfig(**SIZE), num_memory_tokens=2, segment_length=24, cls_token_id=1, sep_token_id=2
    ),
}


def cross_entropy(outputs, labels):
    return torch.nn.functional.cross_entropy(outputs["logits"].float(), labels)


def draw_batch(rows: int = 4, tokens: int = 48) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 9, (rows, tokens), generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.zeros(rows, dtype=torch.long)}


def make_model(config, checkpoints: bool, dry: bool):
    with torch.device("meta" if dry else "cpu"):
        model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32).train()
    if dry:
        choose_memory_paths(model, 4, 48, CPU)
        make_dry(model, CPU)
    if checkpoints:
        model.gradient_checkpointing_enable()
    return model


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable")
@pytest.mark.parametrize("checkpoints", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_the_bytes_are_those_of_a_real_step(name, checkpoints):
    batch = draw_batch()
    dry = run_dry(make_model(CONFIGS[name], checkpoints, True), batch, cross_entropy)
    real = run_dry(make_model(CONFIGS[name], checkpoints, False), batch, cross_entropy)
    assert dry.peak == pytest.approx(real.peak, rel=0.02) and dry.activations == pytest.approx(
        real.activations, rel=0.02
    )
    assert (dry.gradients, dry.logits, dry.flops) == (real.gradients, real.logits, real.flops)
    assert dry.moved == pytest.approx(real.moved, rel=0.02)


def test_mixed_precision_keeps_less_and_counts_the_same_operations():
    batch = draw_batch()
    model = make_model(LLAMA, False, True)
    whole, half = run_dry(model, batch, cross_entropy), run_dry(model, batch, cross_entropy, autocast=torch.bfloat16)
    real = run_dry(make_model(LLAMA, False, False), batch, cross_entropy, autocast=torch.bfloat16)
    assert half.activations == real.activations < whole.activations
    assert half.flops == whole.flops


def test_nothing_is_computed_and_gradients_do_not_stay():
    model = make_model(CONFIGS["bert"], False, True)
    first, second = (run_dry(model, draw_batch(), cross_entropy) for _ in range(2))
    assert first.peak == second.peak and all(weight.grad is None for weight in model.parameters())
    accumulated = run_dry(model, draw_batch(), cross_entropy, accumulates=True)
    assert accumulated.peak == first.peak + first.gradients


def test_evaluation_takes_less_than_training():
    model = make_model(CONFIGS["memory"], False, True)
    step, forward = run_dry(model, draw_batch(), cross_entropy), run_dry_forward(model, draw_batch())
    assert 0 < forward.peak < step.peak and forward.flops == step.forward_flops and model.training


def test_attention_and_products_are_counted():
    """2 T D^2 (4 D^2 of attention, 3 D F of the gated layers) a layer, scores 4 B H T^2 d; the head sees one token."""
    B, T, D, F, L = 4, 48, 32, 64, 2
    forward = run_dry(make_model(LLAMA, False, True), draw_batch(B, T), cross_entropy).forward_flops
    expected = L * (2 * B * T * (4 * D * D + 3 * D * F) + 4 * B * T * T * D)
    assert forward == pytest.approx(expected, rel=0.02)


def test_of_experts_a_token_meets_a_few():
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(CONFIGS["mixtral"])
    counted = count_parameters(model)
    experts = sum(weight.numel() for name, weight in model.named_parameters() if ".experts." in name)
    assert experts and counted.total == counted.trained == model.num_parameters()
    assert counted.active == counted.total - experts // 2  # two of four


@pytest.mark.parametrize("checkpoints", [False, True])
def test_the_formula_is_near_what_is_counted(checkpoints):
    config = LlamaConfig(
        **{**SIZE, "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 4}, pad_token_id=0
    )
    counted = run_dry(make_model(config, checkpoints, True), draw_batch(8, 128), cross_entropy)
    guessed = estimate_activations(config, 8, 128, checkpoints=checkpoints)
    assert guessed == pytest.approx(counted.peak - counted.gradients * (not checkpoints), rel=0.5)
