"""A configuration around another hands on what it does not have itself, and saves each fact once."""

import copy
import json

import pytest
from small_models import VARIANTS, build_model, draw_inputs, list_classes
from transformers import AutoConfig

from gengram import GengramConfig, RmtConfig

AROUND = [name for name in VARIANTS if "-" in name and name.startswith(("gengram", "rmt"))]
HANDED_ON = {
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 99,
    "vocab_size": 50,
    "initializer_range": 0.1,
    "bos_token_id": 7,
}


@pytest.mark.parametrize("variant", AROUND)
def test_what_a_configuration_lacks_is_read_and_set_in_the_one_inside(variant, tmp_path):
    config = VARIANTS[variant]()
    for name, value in HANDED_ON.items():
        assert getattr(config, name) == getattr(config.backbone_config, name)
        setattr(config, name, value)
        assert getattr(config.backbone_config, name) == value and name not in vars(config)
    for other in (copy.deepcopy(config), type(config).from_dict(config.to_dict())):
        assert other.to_dict() == config.to_dict()
        other.update({"num_attention_heads": 8})
        assert other.backbone_config.num_attention_heads == 8 and config.num_attention_heads == 2
    inside = type(config.backbone_config).__name__
    with pytest.raises(AttributeError, match=rf"neither {type(config).__name__} nor .* \({inside}\) has nothing"):
        _ = config.nothing
    assert {*HANDED_ON, "backbone_config"} <= {*dir(config)}
    assert not hasattr(config, "quantization_config") and not hasattr(config, "auto_map")


@pytest.mark.parametrize("variant", AROUND)
def test_saving_and_loading_changes_nothing(variant, tmp_path):
    config = VARIANTS[variant]()
    config.auto_map = {"AutoConfig": "somewhere.Configuration"}
    config.save_pretrained(tmp_path / "first")
    loaded = AutoConfig.from_pretrained(tmp_path / "first")
    loaded.save_pretrained(tmp_path / "second")
    first, second = (json.loads((tmp_path / one / "config.json").read_text()) for one in ("first", "second"))
    assert first == second
    inside = first["backbone_config"]
    assert not {"num_attention_heads", "hidden_size", "vocab_size"} & first.keys() and "auto_map" not in inside
    changed, rest = AutoConfig.from_pretrained(
        tmp_path / "first", num_attention_heads=2, hidden_size=8, some_option=1, return_unused_kwargs=True
    )
    assert (changed.backbone_config.num_attention_heads, changed.backbone_config.hidden_size) == (2, 8)
    assert rest == {"some_option": 1}


@pytest.mark.parametrize("variant", ["gengram-llama", "gengram-bert", "rmt-gena", "rmt-nucleotide_transformer"])
def test_fewer_layers_and_more_tokens_by_the_configuration_outside(variant):
    for each in list_classes(VARIANTS[variant]()):
        fields = {"memory_layers": [0]} if variant.startswith("gengram") else {}
        model = build_model(variant, each.__name__, num_hidden_layers=1, vocab_size=44, **fields)
        assert model.get_input_embeddings().num_embeddings == 44
        model(**draw_inputs(model.config, each.__name__))
        model.resize_token_embeddings(47)
        assert model.config.vocab_size == model.config.backbone_config.vocab_size == 47
        assert model(**draw_inputs(model.config, each.__name__)).to_tuple()


def test_arguments_of_a_configuration_reach_the_one_inside():
    backbone = VARIANTS["gengram-llama"]().backbone_config
    config = GengramConfig(backbone_config=backbone, memory_layers=[0], num_attention_heads=8, vocab_size=60)
    assert (config.backbone_config.num_attention_heads, config.backbone_config.vocab_size) == (8, 60)
    encoder = VARIANTS["rmt-gena"]().backbone_config
    assert RmtConfig(backbone_config=encoder, hidden_size=16).backbone_config.hidden_size == 16
