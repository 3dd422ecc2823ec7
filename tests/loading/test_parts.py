"""The configuration of an encoder is read from the folder of a model around it, as transformers' own are."""

import pytest
from transformers import BertConfig

from gengram import GenaBertConfig, GengramConfig, NucleotideTransformerConfig, RmtConfig, SegmentNTConfig

SIZE = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
ENCODERS = {
    "bert": lambda: BertConfig(**SIZE),
    "gena": lambda: GenaBertConfig(**SIZE, pre_layer_norm=False),
    "nucleotide_transformer": lambda: NucleotideTransformerConfig(**SIZE, kmer_size=1),
}
AROUND = {
    "gengram": lambda encoder: GengramConfig(backbone_config=encoder, memory_layers=[0], memory_dim=4),
    "rmt": lambda encoder: RmtConfig(backbone_config=encoder, num_memory_tokens=2, segment_length=16),
}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_an_encoder_s_configuration_is_read_from_the_model_around_it(encoder, around, tmp_path):
    config = ENCODERS[encoder]()
    AROUND[around](config).save_pretrained(tmp_path)
    read = type(config).from_pretrained(tmp_path)
    assert type(read) is type(config)
    assert {name: getattr(read, name) for name in SIZE} == SIZE
    if encoder == "gena":
        assert read.pre_layer_norm is False


def test_another_family_s_part_is_not_taken(tmp_path):
    AROUND["gengram"](NucleotideTransformerConfig(**SIZE, kmer_size=1)).save_pretrained(tmp_path)
    for configuration in (GenaBertConfig, SegmentNTConfig):
        with pytest.raises(ValueError, match="gengram"):
            configuration.from_pretrained(tmp_path)
