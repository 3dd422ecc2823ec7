"""What a model says of a row does not depend on the rows beside it, also where the model sees padding."""

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BigBirdConfig,
    BigBirdForSequenceClassification,
    FNetConfig,
    FNetForSequenceClassification,
)

import gengram
from gengram.pipelines.logits import compute_logits
from gengram.pipelines.padding import find_block, make_batches
from gengram.tokenization import build_ntv3_tokenizer, build_nucleotide_tokenizer

SIZE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZE |= {"vocab_size": 16, "max_position_embeddings": 1024, "pad_token_id": 0}
LENGTHS = [700, 30, 699, 450, 31, 30, 452]


def build(name: str):
    torch.manual_seed(0)
    if name == "ntv3":
        config = gengram.NTv3Config(
            embed_dim=32, num_layers=1, attention_heads=2, ffn_embed_dim=32, num_downsamples=2, conv_init_embed_dim=16
        )
        return gengram.NTv3ForSequenceClassification(config), build_ntv3_tokenizer()
    models = {
        "bert": (BertConfig, BertForSequenceClassification, {}),
        "fnet": (FNetConfig, FNetForSequenceClassification, {}),
        "big_bird": (BigBirdConfig, BigBirdForSequenceClassification, {"block_size": 16, "num_random_blocks": 1}),
    }
    config, model, more = models[name]
    return model(config(**SIZE, **more)), build_nucleotide_tokenizer(template="cls_sep")


@pytest.mark.parametrize(("name", "block"), [("bert", None), ("fnet", 1), ("big_bird", 16), ("ntv3", 4)])
def test_a_row_alone_and_among_others(name, block):
    model, tokenizer = build(name)
    model.eval()
    assert find_block(model) == block
    generator = torch.Generator().manual_seed(1)
    letters = [torch.randint(4, (length,), generator=generator).tolist() for length in LENGTHS]
    rows = tokenizer(["".join("ACGT"[one] for one in row) for row in letters])["input_ids"]
    together = compute_logits(model, tokenizer, rows, batch_size=4)
    for number in (1, 2, 0, 6, 3):  # a short one before long ones
        alone = compute_logits(model, tokenizer, [rows[number]], batch_size=1)[0]
        torch.testing.assert_close(torch.tensor(together[number]), torch.tensor(alone), rtol=0, atol=1e-5)


def test_batches_have_every_row_once():
    order = sorted(range(len(LENGTHS)), key=lambda number: -LENGTHS[number])
    for block, count in ((None, 3), (1, 6), (16, 3), (32, 3)):
        batches = list(make_batches(order, LENGTHS, lambda longest: 3, block))
        assert [number for batch in batches for number in batch] == order and len(batches) == count
