"""Weights that a checkpoint lacks are drawn as the class that owns them draws them, whatever is around it."""

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, ModernBertConfig

from gengram import (
    GengramForCausalLM,
    GengramForMaskedLM,
    GengramForSequenceClassification,
    GengramForTokenClassification,
    GengramModel,
    RmtConfig,
    RmtForMaskedLM,
    RmtForSequenceClassification,
    RmtForTokenClassification,
)

HEADS = [GengramModel, GengramForSequenceClassification, GengramForTokenClassification]


def read_tensors(model) -> dict[str, torch.Tensor]:
    return {name: x.detach().double() for name, x in (*model.named_parameters(), *model.named_buffers())}


def assert_same_distributions(found, expected):
    """Same names, means, spreads and, within a factor of two, largest values: within six standard errors."""
    found, expected = read_tensors(found), read_tensors(expected)
    assert found.keys() == expected.keys()
    for name, ours in found.items():
        theirs = expected[name]
        if ours.numel() < 100 and not torch.equal(ours, theirs):
            continue  # drawn, and too few to tell
        error = 6 * float(theirs.std(correction=0)) / ours.numel() ** 0.5 + 1e-9
        assert abs(float(ours.mean() - theirs.mean())) < 1.5 * error, name
        assert abs(float(ours.std(correction=0) - theirs.std(correction=0))) < error, name
        assert 0.5 <= float((ours.abs().max() + 1e-9) / (theirs.abs().max() + 1e-9)) <= 2, name


@pytest.mark.parametrize("head", [*HEADS, "language model"])
def test_missing_weights_of_any_head(backbone_config, make_config, head):
    config = make_config(backbone_config)
    if head == "language model":
        head = GengramForCausalLM if config.is_causal else GengramForMaskedLM
    made = head(copy.deepcopy(config))
    assert_same_distributions(head.from_pretrained(None, config=copy.deepcopy(config), state_dict={}), made)
    with torch.device("meta"):
        empty = head(config)
    empty.to_empty(device="cpu").initialize_weights()
    empty.tie_weights()
    assert_same_distributions(empty, made)


def test_they_are_those_of_the_backbone_alone(backbone_config, make_config):
    """Of the transformers class for the same task, name by name."""
    config = make_config(backbone_config, memory_layers=[])
    head, native = (
        (GengramForCausalLM, AutoModelForCausalLM) if config.is_causal else (GengramForMaskedLM, AutoModelForMaskedLM)
    )
    ours = read_tensors(head.from_pretrained(None, config=copy.deepcopy(config), state_dict={}).model.backbone)
    theirs = read_tensors(native.from_config(copy.deepcopy(backbone_config)).base_model)
    assert ours.keys() == theirs.keys()
    for name in ours:
        spread, other = float(ours[name].std(correction=0)), float(theirs[name].std(correction=0))
        assert abs(spread - other) <= 6 * other / ours[name].numel() ** 0.5 + 1e-9, name


@pytest.mark.parametrize("head", [RmtForMaskedLM, RmtForSequenceClassification, RmtForTokenClassification])
@pytest.mark.parametrize("with_memory", [False, True])
def test_new_heads_in_a_recurrent_memory(make_backbone, make_config, head, with_memory):
    backbone = make_backbone("modernbert")
    if with_memory:
        backbone = make_config(backbone)
    config = RmtConfig(backbone_config=backbone, num_memory_tokens=4, segment_length=32)
    made = head(copy.deepcopy(config))
    body = {id(x) for x in (*made.model.base_model.parameters(), *made.memory_tokens.parameters())}
    weights = {name: x for name, x in made.named_parameters(remove_duplicate=False) if id(x) in body}
    loaded, found = head.from_pretrained(None, config=config, state_dict=weights, output_loading_info=True)
    assert found["missing_keys"]
    assert_same_distributions(loaded, made)


def test_one_missing_weight_leaves_the_others(make_backbone, make_config, tmp_path):
    """The rest of its module is what the checkpoint says."""
    config = make_config(ModernBertConfig(**{**make_backbone("modernbert").to_dict(), "hidden_size": 128}))
    model = GengramForMaskedLM(config)
    missing = "model.backbone.layers.1.mlp.Wo.weight"
    state = {name: x for name, x in model.state_dict().items() if name != missing}
    loaded = GengramForMaskedLM.from_pretrained(None, config=copy.deepcopy(config), state_dict=state)
    for name, x in loaded.state_dict().items():
        assert torch.equal(x, model.state_dict()[name]) == (name != missing), name
    drawn = loaded.state_dict()[missing]
    expected = config.backbone_config.initializer_range / (2 * config.num_hidden_layers) ** 0.5
    assert abs(float(drawn.std()) / expected - 0.88) < 0.03  # a normal distribution, cut where ModernBERT cuts it
