"""SegmentNT: lengths, loss, stretched rotation."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from gengram import SegmentNTConfig, SegmentNTForTokenClassification
from gengram.nucleotide_transformer.configuration_segment_nt import FEATURES
from gengram.nucleotide_transformer.modeling_segment_nt import compute_focal_loss
from gengram.tokenization import build_kmer_tokenizer

TOKENIZER = build_kmer_tokenizer(uracil="unknown")


def build(features=("exon", "intron", "CTCF"), **fields) -> SegmentNTForTokenClassification:
    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20}
    model = SegmentNTForTokenClassification(SegmentNTConfig(**small, features=list(features), **fields)).eval()
    with torch.no_grad():  # large enough for the U-Net to say something
        for name, weight in model.named_parameters():
            if name.startswith(("unet", "fc")) and weight.dim() > 1:
                weight.normal_(0, (2 / weight[0].numel()) ** 0.5)
    return model


def draw(length: int, seed: int = 0) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length))


def test_defaults_are_the_published_models():
    config = SegmentNTConfig()
    assert config.features == list(FEATURES) and config.num_labels == 14
    assert (config.rescaling_factor, config.length_multiple, config.max_tokens) == (5000 / 2048, 24, 2048)


def test_rescaling_follows_the_longest_input():
    config = SegmentNTConfig()
    assert config.measure_rescaling(1_200) == config.measure_rescaling(30_000) == 5000 / 2048
    assert config.measure_rescaling(40_008) == 6669 / 2048
    model = build(rescaling_factor=4.0)
    d = model.config.head_dim
    assert model.esm.rotary_embeddings.base == pytest.approx(10000 * 4.0 ** (d / (d - 2)))
    steps = model.esm.rotary_embeddings(torch.tensor([[1]]))
    lowest = math.atan2(float(steps[1][0, 0, d // 2 - 1]), float(steps[0][0, 0, d // 2 - 1]))
    assert lowest == pytest.approx(10000 ** (-(d - 2) / d) / 4.0, rel=1e-5)  # a quarter of the plain one


@pytest.mark.parametrize("kmers", [0, 1, 3, 6])
def test_lengths_that_do_not_halve_twice_are_refused(kmers):
    with pytest.raises(ValueError, match=f"{kmers} k-mers behind <cls>.*multiple of 4.*24 bp without N"):
        build()(torch.full((1, kmers + 1), 10))


@pytest.mark.parametrize("features,depth", [(["a"], 1), (["a", "b"], 3)])
def test_any_features_and_depth(features, depth):
    model = build(features, num_layers_head=depth)
    outputs = model(torch.full((2, 2**depth * 3 + 1), 10))
    assert outputs.logits.shape == (2, 2**depth * 3 * 6, len(features), 2)


def test_focal_loss():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 5, 3, 2, dtype=torch.float64, requires_grad=True), torch.randint(0, 2, (2, 5, 3))
    labels[0, 0] = -100
    given = labels != -100
    plain = functional.cross_entropy(logits[given].float(), labels[given])
    torch.testing.assert_close(compute_focal_loss(logits, labels, 0.0), plain)
    p = logits.softmax(-1)[given].gather(1, labels[given][:, None])[:, 0]
    expected = (-((1 - p) ** 2) * p.log()).mean().float()
    torch.testing.assert_close(compute_focal_loss(logits, labels, 2.0), expected)
    torch.testing.assert_close(compute_focal_loss(logits, labels, 2.0, 2 * int(given.sum())), expected / 2)
    compute_focal_loss(logits, labels, 2.0).backward()
    assert not logits.grad[0, 0].any() and logits.grad[given].any(-1).all()


def test_loss_of_the_model_reaches_every_weight():
    model = build()
    ids = torch.tensor(TOKENIZER([draw(48), draw(48, 1)])["input_ids"])
    outputs = model(ids, labels=torch.randint(0, 2, (2, 48, 3)))
    outputs.loss.backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []
