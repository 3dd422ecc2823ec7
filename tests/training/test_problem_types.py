"""Every family has transformers' losses of one prediction a sequence, and records what it was trained for."""

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    EsmConfig,
    EsmForSequenceClassification,
    LlamaConfig,
)

from gengram import (
    GenaBertConfig,
    GenaBertForSequenceClassification,
    GenaBertForTokenClassification,
    GengramConfig,
    GengramForSequenceClassification,
    NTv3Config,
    NTv3ForSequenceClassification,
    NucleotideTransformerConfig,
    NucleotideTransformerForSequenceClassification,
    RmtConfig,
    RmtForSequenceClassification,
    RmtForTokenClassification,
)

SIZES = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
NTV3 = {
    "embed_dim": 16,
    "token_embed_dim": 8,
    "conv_init_embed_dim": 8,
    "ffn_embed_dim": 16,
    "key_size": 8,
    "num_layers": 1,
    "num_downsamples": 1,
    "attention_heads": 2,
}


def build(family: str, num_labels: int):
    """A classifier of the family with `num_labels` outputs and no problem type."""
    torch.manual_seed(0)
    labels = {"num_labels": num_labels}
    if family == "gena_bert":
        return GenaBertForSequenceClassification(GenaBertConfig(vocab_size=32, **SIZES, **labels)).eval()
    if family == "nucleotide_transformer":
        config = NucleotideTransformerConfig(vocab_size=32, **SIZES, **labels)
        return NucleotideTransformerForSequenceClassification(config).eval()
    if family == "ntv3":
        return NTv3ForSequenceClassification(NTv3Config(**NTV3, **labels)).eval()
    if family == "gengram":
        backbone = LlamaConfig(vocab_size=32, **SIZES)
        config = GengramConfig(backbone_config=backbone, memory_layers=[0], memory_dim=8, kmer_sizes=[1, 2], **labels)
        return GengramForSequenceClassification(config).eval()
    if family == "rmt":
        encoder = BertConfig(vocab_size=32, **SIZES, **labels)
        config = RmtConfig(backbone_config=encoder, num_memory_tokens=2, segment_length=32, **labels)
        return RmtForSequenceClassification(config).eval()
    if family == "bert":
        return BertForSequenceClassification(BertConfig(vocab_size=32, **SIZES, **labels)).eval()
    return EsmForSequenceClassification(EsmConfig(vocab_size=32, pad_token_id=1, **SIZES, **labels)).eval()


OURS = ["gena_bert", "nucleotide_transformer", "ntv3", "gengram", "rmt"]
# What labels of four sequences are: outputs, labels, problem type.
LABELS = {
    "classes": (3, torch.tensor([0, 2, 1, 1]), "single_label_classification"),
    "several labels": (3, torch.tensor([[0.0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1]]), "multi_label_classification"),
    "numbers": (1, torch.tensor([0.5, -1.0, 2.0, 0.0]), "regression"),
    "numbers in a column": (1, torch.tensor([[0.5], [-1.0], [2.0], [0.0]]), "regression"),
    "whole numbers": (1, torch.tensor([0, 1, 1, 0]), "regression"),
}


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("family", [*OURS, "bert", "esm"])
def test_loss_and_problem_type_are_those_of_transformers(family, kind):
    num_labels, labels, problem = LABELS[kind]
    model = build(family, num_labels)
    assert model.config.problem_type is None
    ids = torch.randint(6, 10, (4, 8), generator=torch.Generator().manual_seed(1))
    outputs = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels)
    assert model.config.problem_type == problem
    expected = BertConfig(num_labels=num_labels)
    targets = labels if problem == "single_label_classification" else labels.float()
    reference = build("bert", num_labels).loss_function
    torch.testing.assert_close(outputs.loss, reference(labels=targets, pooled_logits=outputs.logits, config=expected))
    assert expected.problem_type == problem
    if family in OURS:
        outputs.loss.backward()


@pytest.mark.parametrize("family", OURS)
def test_whole_numbers_in_columns_are_several_labels(family):
    """transformers' own classes fail at them; here they are what they would be as floats."""
    model, labels = build(family, 3), LABELS["several labels"][1]
    ids = torch.randint(6, 10, (4, 8), generator=torch.Generator().manual_seed(1))
    losses = []
    for given in (labels.long(), labels):
        model.config.problem_type = None
        losses.append(model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=given).loss)
        assert model.config.problem_type == "multi_label_classification"
    assert losses[0] == losses[1]


@pytest.mark.parametrize("family", OURS)
def test_what_was_trained_for_is_saved(family, tmp_path):
    model = build(family, 1)
    ids = torch.randint(6, 10, (4, 8))
    model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=LABELS["numbers"][1])
    model.save_pretrained(tmp_path)
    assert type(model.config).from_pretrained(tmp_path).problem_type == "regression"


@pytest.mark.parametrize("family", OURS)
def test_an_unknown_problem_is_named(family):
    model = build(family, 3)
    model.config.problem_type = "ranking"
    ids = torch.randint(6, 10, (4, 8))
    with pytest.raises((ValueError, RuntimeError), match="ranking"):
        model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=torch.zeros(4, dtype=torch.long))


@pytest.mark.parametrize("family", ["gena_bert", "rmt"])
def test_labels_of_tokens(family):
    """Classes of tokens go without saying, as in transformers; several labels a token are recorded."""
    config = {"num_labels": 3}
    if family == "gena_bert":
        model = GenaBertForTokenClassification(GenaBertConfig(vocab_size=32, **SIZES, **config))
    else:
        encoder = BertConfig(vocab_size=32, **SIZES, **config)
        rmt = RmtConfig(backbone_config=encoder, num_memory_tokens=2, segment_length=32, **config)
        model = RmtForTokenClassification(rmt)
    ids = torch.randint(6, 10, (2, 8))
    model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=torch.zeros(2, 8, dtype=torch.long))
    assert model.config.problem_type is None
    model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=torch.zeros(2, 8, 3))
    assert model.config.problem_type == "multi_label_classification"
