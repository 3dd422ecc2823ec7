"""What a pre-training takes: every number of the paper's 1.2B and 10B worked out by hand, with Python's integers only.

1.2B: D = 1024, F = 4096, 16 heads of 64, 8 of keys and values; 10B: D = 4096, F = 8192, 16 heads of 256, 8 of keys and
values. Both: 12 layers, 8 experts of which a token meets 2, 128 tokens of vocabulary, untied; memories of E = 1024
with k = 1..6 in three layers.
"""

import json
import math

import pytest
import torch
from transformers import BertConfig, GPT2Config, LlamaConfig

from gengram import GengramConfig
from gengram.costs import count_operations, estimate_memory_activations
from gengram.errors import InputError
from gengram.training.pretraining import plan as module
from gengram.training.pretraining.plan import (
    SHARDINGS,
    PlannedStage,
    PlanOptions,
    make_empty_model,
    plan_pretraining,
    tabulate_plan,
)

TABLES = (5 + 25 + 125 + 625 + 3125 + 15625) * 1024
STAGE = PlannedStage("8k", block_size=8192, blocks_per_step=1024, steps=1000)


def plan(size, stages=(STAGE,), **options):
    return plan_pretraining(GengramConfig.from_size(size), list(stages), PlanOptions(**options))


@pytest.fixture
def by_formula(monkeypatch):
    """No step without numbers, which takes most of the time."""
    monkeypatch.setattr(module, "_count_step", lambda *_: None)


@pytest.fixture(scope="module")
def small():
    return plan("1.2b-moe-gqa", gpu="H100", gpus=8)


@pytest.fixture(scope="module")
def large():
    stages = [STAGE, PlannedStage("32k", block_size=32768, blocks_per_step=256, steps=500)]
    return plan("10b-moe-gqa", stages, gpu="H100", gpus=64, sharding="fsdp2", checkpoints=True)


def test_parameters_of_the_1_2b(small):
    attention = 1024 * 1024 + 2 * 1024 * 512 + 1024 * 1024
    expert = 3 * 1024 * 4096
    layer = attention + 8 * 1024 + 8 * expert + 2 * 1024
    memory = TABLES + 2 * 6 * 1024 * 1024 + 2 * 1024 + 4 * 1024
    total = 12 * layer + 2 * 128 * 1024 + 1024 + 3 * memory
    assert total == 1_343_857_664 and 3 * memory == 97_763_328
    active = total - 12 * 6 * expert
    assert active == 437_888_000
    assert small["parameters"] == {"total": total, "trained": total, "active": active, "memory": 3 * memory}


def test_parameters_of_the_10b(large):
    attention = 4096 * 4096 + 2 * 4096 * 2048 + 4096 * 4096
    expert = 3 * 4096 * 8192
    layer = attention + 8 * 4096 + 8 * expert + 2 * 4096
    memory = TABLES + 2 * 6 * 1024 * 4096 + 2 * 4096 + 4 * 4096
    total = 12 * layer + 2 * 128 * 4096 + 4096 + 3 * memory
    assert total == 10_480_265_216 and total - 12 * 6 * expert == 3_232_507_904
    assert large["parameters"] == {
        "total": total, "trained": total, "active": 3_232_507_904, "memory": 3 * memory
    }  # fmt: skip


def test_sixteen_bytes_a_parameter_of_the_1_2b_and_who_holds_them(small):
    P = 1_343_857_664
    whole = {"weights": 5_375_430_656, "gradients": 5_375_430_656, "optimizer": 10_750_861_312}
    assert sum(whole.values()) == 16 * P
    divided = {  # by 8 devices
        "ddp": (),
        "zero1": ("optimizer",),
        "zero2": ("gradients", "optimizer"),
        "zero3": ("weights", "gradients", "optimizer"),
        "fsdp2": ("weights", "gradients", "optimizer"),
    }
    assert set(divided) == set(SHARDINGS)
    for sharding, parts in divided.items():
        found = small["memory"][sharding]
        for part, size in whole.items():
            assert found[part] == (size // 8 if part in parts else size), (sharding, part)
        assert found["total"] == sum(value for name, value in found.items() if name not in ("total", "fits"))
    assert small["memory"]["zero2"]["optimizer"] == 1_343_857_664
    # Two layers whole in 16 bits, and an eighth of all.
    layer = 2 * 1024 * 1024 + 2 * 1024 * 512 + 8 * 1024 + 8 * 3 * 1024 * 4096 + 2 * 1024
    assert small["memory"]["fsdp2"]["working_copy"] == 2 * 2 * layer + 2 * P // 8
    assert [small["memory"][name]["working_copy"] for name in ("ddp", "zero1", "zero2")] == [0, 0, 0]


def test_sixteen_bytes_a_parameter_of_the_10b(large):
    P = 10_480_265_216
    assert large["memory"]["ddp"]["optimizer"] == 83_842_121_728 == 8 * P
    found = large["memory"]["fsdp2"]
    assert (found["weights"], found["gradients"], found["optimizer"]) == (655_016_576, 655_016_576, 1_310_033_152)
    assert large["memory"]["zero1"]["gradients"] == large["memory"]["ddp"]["gradients"] == 41_921_060_864
    assert not large["memory"]["ddp"]["fits"] and found["fits"]


def test_activations_of_the_1_2b_with_and_without_checkpointing(small):
    layer = 8192 * (18 * 1024 + 6 * 2 * 4096)  # two experts of width F
    assert layer == 553_648_128
    (stage,) = small["stages"]
    assert stage["activations"] == 12 * layer == 6_643_777_536
    assert stage["activations_checkpointed"] == 12 * 2 * 8192 * 1024 + layer == 754_974_720
    assert small["memory"]["ddp"]["activations"] == 6_643_777_536
    assert small["memory"]["ddp"]["logits"] == 2 * 4 * 8192 * 128


def test_activations_of_the_10b_with_and_without_checkpointing(large):
    short, long = large["stages"]
    layer = 8192 * (18 * 4096 + 6 * 2 * 8192)
    assert short["activations"] == 12 * layer == 16_911_433_728
    assert short["activations_checkpointed"] == 12 * 2 * 8192 * 4096 + layer == 2_214_592_512
    assert long["activations"] == 4 * short["activations"]
    assert long["activations_checkpointed"] == 4 * 2_214_592_512 == large["memory"]["fsdp2"]["activations"]


def test_operations_and_hours_of_the_1_2b(small):
    (stage,) = small["stages"]
    per_token = 6 * 437_888_000 + 12 * 12 * 1024 * 8192 // 2  # a causal mask leaves half of the pairs
    assert per_token == 3_231_307_776 == stage["flops_per_token"]
    assert stage["tokens"] == small["tokens"] == 1000 * 1024 * 8192 == 8_388_608_000
    hours = 3_231_307_776 * 8_388_608_000 / (0.4 * 989e12 * 8) / 3600
    assert small["hours"] == stage["hours"] == pytest.approx(hours) == pytest.approx(2.3792, abs=1e-3)
    assert small["gpu_hours"] == pytest.approx(8 * hours)


def test_operations_and_hours_of_the_10b(large):
    short, long = large["stages"]
    assert short["flops_per_token"] == 6 * 3_232_507_904 + 12 * 12 * 4096 * 8192 // 2 == 21_810_966_528
    assert long["flops_per_token"] == 6 * 3_232_507_904 + 12 * 12 * 4096 * 32768 // 2 == 29_058_723_840
    flops = 21_810_966_528 * 8_388_608_000 + 29_058_723_840 * 500 * 256 * 32768
    assert large["flops"] == flops and large["tokens"] == 8_388_608_000 + 4_194_304_000
    assert large["hours"] == pytest.approx(flops / (0.4 * 989e12 * 64) / 3600)


def test_bytes_of_a_checkpoint(small, large):
    assert small["checkpoint"] == {"weights": 5_375_430_656, "optimizer": 10_750_861_312, "total": 16_126_291_968}
    assert large["checkpoint"]["total"] == 12 * 10_480_265_216


def test_products_are_counted_by_part_beside_the_rule(small):
    (stage,) = small["stages"]
    counted = count_operations(GengramConfig.from_size("1.2b-moe-gqa"), 1, 8192, training=True)
    assert stage["counted_per_token"] * 8192 == counted.count_step(causal=True)
    # The rule counts tables and embeddings as if each token met all of their rows, and nothing twice.
    assert 0.8 < stage["counted_per_token"] / stage["flops_per_token"] < 1


def test_a_step_without_numbers_is_counted_beside_the_formula(small, large):
    for found, sharding in ((small, "ddp"), (large, "fsdp2")):
        counted, estimated = found["counted"], found["memory"][sharding]
        formula = estimated["activations"] + estimated["motif_memory"] + estimated["logits"] // 2
        assert counted["ratio"] == pytest.approx(counted["activations"] / formula)
        assert 1 < counted["ratio"] < 3 and counted["total"] > estimated["total"]
    assert large["counted"]["weight_copies"] == 0
    assert small["counted"]["weight_copies"] == pytest.approx(2 * small["parameters"]["total"], rel=0.06)


def test_weights_in_16_bits_take_half(by_formula):
    found = plan("1.2b-moe-gqa", pure=True)["memory"]["ddp"]
    assert found["weights"] + found["gradients"] + found["optimizer"] == 8 * 1_343_857_664


def test_devices_that_share_a_block_keep_less_of_it(by_formula):
    stage = PlannedStage("131k", block_size=131072, blocks_per_step=8, steps=1)
    apart = plan("0.3b-dense-mha", [stage], gpus=8, checkpoints=True, sharding="fsdp2")["memory"]["fsdp2"]
    together = plan("0.3b-dense-mha", [stage], gpus=8, checkpoints=True, sharding="fsdp2", context=8)
    shared = together["memory"]["fsdp2"]
    assert shared["activations"] == apart["activations"] // 8 and shared["logits"] == apart["logits"] // 8
    assert shared["optimizer"] == apart["optimizer"]


def test_what_does_not_fit_is_told_with_what_would(by_formula):
    told = plan("10b-moe-gqa", gpu="A100-40GB")
    assert not told["fits"] and told["gpu"]["memory"] == 40e9 and told["gpu"]["peak"] == 312e12
    assert told["remedies"][0]["fits"] and "fsdp2" in told["remedies"][0]["give"]
    assert not told["remedies"][-1]["fits"]
    text = tabulate_plan(told)
    assert "fits        no (1 x A100 40 GB, ddp)" in text and told["remedies"][0]["give"] in text


def test_devices_that_wait_are_in_the_hours(by_formula):
    stage = PlannedStage("s", 1024, 8, 10)
    even, uneven = (plan("0.3b-dense-mha", [stage], gpus=gpus) for gpus in (4, 5))
    # Two blocks for the busiest device of both.
    assert uneven["hours"] == pytest.approx(even["hours"]) and uneven["flops"] == even["flops"]
    assert any("8 blocks of a step for 5 devices: 2 of them wait" in note for note in uneven["notes"])


def test_two_kinds_of_one_gpu_are_both_judged(by_formula):
    told = plan("1.2b-moe-gqa", gpu="A100", checkpoints=True)
    assert told["fits"] and any("A100 with 40 GB: it also fits" in note for note in told["notes"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gpu": "H10"}, "gpu='H10': choose A100, H100, H200, L40S, A10, 4090, V100; did you mean 'H100'"),
        ({"gpu": "A100-64GB"}, "A100 comes with 40 or 80 GB"),
        ({"gpus": 0}, "gpus=0: give 1 or more"),
        ({"mfu": 40}, "mfu=40: give a share"),
        ({"mfu": math.nan}, "mfu=nan: give a share"),
        ({"sharding": "fsdp"}, "sharding='fsdp': choose ddp"),
        ({"gpus": 8, "context": 3}, "3 devices share a block: 8 GPUs cannot be divided so"),
    ],
)
def test_what_cannot_be_planned(options, message):
    with pytest.raises(InputError) as told:
        plan("0.3b-dense-mha", **options)
    assert message in str(told.value)


def test_no_stages_and_no_language_model():
    with pytest.raises(InputError, match="no stages"):
        plan("0.3b-dense-mha", [])
    from transformers import ViTConfig

    with pytest.raises(InputError, match="no language model of this kind"):
        make_empty_model(ViTConfig())


def test_other_families_and_a_model_that_asks_for_numbers(monkeypatch):
    size = {"vocab_size": 32, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    stage = PlannedStage("s", 64, 4, 10, rows=2)
    bert = plan_pretraining(BertConfig(**size, intermediate_size=128), [stage], PlanOptions(precision="no"))
    # D = 32, F = 128: (14 D + 4 F) B T bytes a layer in 16 bits, twice that in float32; every pair is seen.
    assert bert["memory"]["ddp"]["activations"] == 2 * 2 * 2 * 64 * (14 * 32 + 4 * 128)
    assert bert["stages"][0]["flops_per_token"] == 6 * bert["parameters"]["active"] + 12 * 2 * 32 * 64
    assert bert["parameters"]["memory"] == 0 and "float32" in bert["notes"][0]
    other = GPT2Config(vocab_size=32, n_embd=32, n_layer=2, n_head=4)
    found = plan_pretraining(other, [stage])
    assert found["stages"][0]["counted_per_token"] is None
    assert found["stages"][0]["flops_per_token"] == 6 * found["parameters"]["active"] + 12 * 2 * 32 * 64 / 2

    def fail(*arguments, **options):
        raise RuntimeError("what is the number of this tensor?")

    monkeypatch.setattr(module, "run_dry", fail)
    told = plan_pretraining(LlamaConfig(**size, intermediate_size=48), [stage])
    assert told["counted"] is None and "what is the number of this tensor?" in told["notes"][0]
    json.dumps(told), tabulate_plan(told)


def test_a_model_that_is_there_already_is_read(by_formula):
    config = GengramConfig.from_size("0.3b-dense-mha")
    model = make_empty_model(config)
    assert {weight.device for weight in model.parameters()} == {torch.device("meta")}
    assert plan_pretraining(config, [STAGE], model=model)["parameters"]["total"] == 422_137_600


@pytest.mark.parametrize(("size", "tokens"), [("0.3b-dense-mha", 8192), ("10b-moe-gqa", 2048)])
def test_what_memories_keep_is_near_what_a_dry_step_counts(size, tokens):
    stage = PlannedStage("s", tokens, 1, 1)
    kept = []
    for layers in ([], [2, 5, 9]):
        config = GengramConfig.from_size(size, memory_layers=layers)
        kept.append(plan_pretraining(config, [stage], PlanOptions(precision="no"))["counted"]["activations"])
    told = estimate_memory_activations(GengramConfig.from_size(size), 1, tokens)
    assert kept[1] - kept[0] == pytest.approx(told, rel=0.25)
    assert estimate_memory_activations(GengramConfig.from_size(size, memory_layers=[]), 1, tokens) == 0
