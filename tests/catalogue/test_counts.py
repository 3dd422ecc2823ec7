"""Parameters that were counted: made again of what the row says, they are as many."""

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoModelForPreTraining, BertConfig, BigBirdConfig

from gengram import GenaBertConfig
from gengram.catalogue import list_models

COUNTED = {
    row.id: row
    for row in list_models()
    if row.sources.get("parameters", "").startswith("counted") and row.model_type in ("bert", "big_bird", "gena_bert")
}


def make_configuration(row):
    size = {"hidden_size": row.hidden_size, "num_hidden_layers": row.layers, "vocab_size": row.vocabulary}
    size |= {"num_attention_heads": row.hidden_size // 64, "intermediate_size": 4 * row.hidden_size}
    if row.model_type == "bert":
        return BertConfig(**size, max_position_embeddings=row.max_tokens)
    if row.model_type == "big_bird":
        return BigBirdConfig(**size, max_position_embeddings=row.max_tokens)
    size |= {"pre_layer_norm": True, "last_layer_norm": "last LayerNorm" in row.architecture}
    if "rotary" in row.architecture:
        size |= {"position_embedding_type": "rotary", "rotary_base": 10000, "rotary_dim": 32}
    return GenaBertConfig(**size, max_position_embeddings=row.max_tokens)


@pytest.mark.parametrize("row", COUNTED.values(), ids=COUNTED)
def test_a_model_of_this_shape_has_as_many(row):
    makes = AutoModelForPreTraining if "next_sentence" in row.heads else AutoModelForMaskedLM
    with torch.device("meta"):
        model = makes.from_config(make_configuration(row))
    assert type(model).__name__ == row.classes.partition(".")[2]
    assert sum(parameter.numel() for parameter in model.parameters()) == row.parameters


def test_there_are_such_rows():
    assert len(COUNTED) >= 10
