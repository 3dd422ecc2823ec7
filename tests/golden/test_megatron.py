"""Megatron checkpoints of the reference implementation, in every sharding: converted, loaded, compared.

A case is a folder whose config.json holds Megatron's argument values; its sub-folders with a
`latest_checkpointed_iteration.txt` are the same weights in different layouts.
"""

import pytest
import torch
from transformers import AutoModelForCausalLM

from gengram.conversion.megatron import convert_megatron

MEGATRON_KEYS = {"padded_vocab_size", "num_layers", "megatron_command_line"}


def pytest_generate_tests(metafunc):
    if "megatron_case" in metafunc.fixturenames:
        cases = metafunc.config.find_golden_cases(MEGATRON_KEYS)
        metafunc.parametrize(
            "megatron_case, layout",
            [
                pytest.param(case, tracker.parent, id=f"{case.id}-{tracker.parent.name}")
                for case in cases
                for tracker in sorted(case.folder.glob("*/latest_checkpointed_iteration.txt"))
            ],
        )


def test_converted_logits_and_loss(megatron_case, layout, tmp_path):
    convert_megatron(layout, tmp_path / "converted")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "converted")
    inputs, outputs = megatron_case.load("inputs"), megatron_case.load("outputs")
    with torch.no_grad():
        logits = model(inputs["input_ids"], position_ids=inputs["position_ids"], use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), inputs["labels"], reduction="none")
    assert float((logits - outputs["logits"]).abs().max()) <= 1e-4
    assert float((loss.mean() - outputs["loss_per_token"].mean()).abs()) <= 1e-5
    # transformers fixes 1e-6 as the epsilon of DeepSeek-V3's latent norm, where Megatron has an argument (1e-5).
    latent = megatron_case.config["multi_latent_attention"]
    assert float((loss - outputs["loss_per_token"]).abs().max()) <= (1e-4 if latent else 1e-5)
