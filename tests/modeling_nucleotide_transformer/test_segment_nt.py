"""SegmentNT: lengths, loss, stretched rotation, and windows put together."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from gengram import SegmentNTConfig, SegmentNTForTokenClassification
from gengram.nucleotide_transformer.configuration_segment_nt import FEATURES
from gengram.nucleotide_transformer.modeling_segment_nt import compute_focal_loss
from gengram.nucleotide_transformer.segmentation import segment_sequence
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


def make_local(model: SegmentNTForTokenClassification) -> SegmentNTForTokenClassification:
    """Without attention a base is seen only by the U-Net's neighbours, so that windows can be exact."""
    with torch.no_grad():
        for layer in model.esm.encoder.layer:
            layer.attention.output.dense.weight.zero_()
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


def run_once(model, sequence: str) -> np.ndarray:
    with torch.no_grad():
        logits = model(torch.tensor([TOKENIZER(sequence, verbose=False)["input_ids"]])).logits
    return logits.softmax(-1)[0, ..., 1].numpy()


def test_one_window_is_one_pass():
    model, sequence = build(), draw(480)
    assert np.array_equal(segment_sequence(model, TOKENIZER, sequence), run_once(model, sequence))


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("length", [2400, 2424, 3096])
def test_windows_put_together_are_one_pass(length, batch_size):
    """All of it: half of the overlap is more than the U-Net sees."""
    model, sequence = make_local(build()), draw(length)
    stitched = segment_sequence(model, TOKENIZER, sequence, window=960, overlap=480, batch_size=batch_size)
    one = run_once(model, sequence)
    assert one.std() > 0.01
    np.testing.assert_allclose(stitched, one, rtol=0, atol=1e-5)


def test_too_little_overlap_shows():
    """The test above would notice wrong places."""
    model, sequence = make_local(build()), draw(2400)
    stitched = segment_sequence(model, TOKENIZER, sequence, window=960, overlap=0)
    assert np.abs(stitched - run_once(model, sequence)).max() > 1e-3


@pytest.mark.parametrize("length", [24, 25, 47, 100, 959, 961, 1000, 1499])
def test_every_base_of_any_length_has_probabilities(length):
    probabilities = segment_sequence(build(), TOKENIZER, draw(length), window=960, overlap=480)
    assert probabilities.shape == (length, 3) and np.isfinite(probabilities).all()


def test_stretches_between_unknown_bases():
    model, left, right = build(), draw(96), draw(120, 1)
    sequence = left + "NNNR" + right + "N" + "ACGT" * 5
    with pytest.raises(ValueError, match=r"'NNNR' at position 96 .*unknown='skip'"):
        segment_sequence(model, TOKENIZER, sequence)
    probabilities = segment_sequence(model, TOKENIZER, sequence, unknown="skip")
    np.testing.assert_allclose(probabilities[:96], run_once(model, left), rtol=0, atol=1e-6)
    np.testing.assert_allclose(probabilities[100:220], run_once(model, right), rtol=0, atol=1e-6)
    assert np.isnan(probabilities[96:100]).all() and np.isnan(probabilities[220:]).all()


@pytest.mark.parametrize(
    "sequence,options,message",
    [
        ("ACGTACGTAC", {}, "no stretch of 24 bases"),
        ("ACGT" * 20, {"window": 100}, "window=100: give a multiple of 24 bp, e.g. 96"),
        ("ACGT" * 20, {"window": 96, "overlap": 24}, "overlap=24: give a multiple of 48"),
        ("ACGT" * 20, {"window": 96, "overlap": 96}, "overlap=96"),
        ("ACGT" * 20, {"window": 40_008}, r"6669 tokens.*rescaling_factor=3\.256"),
        ("ACGU" * 20, {}, "use the tokenizer of the model"),
    ],
)
def test_what_does_not_fit(sequence, options, message):
    with pytest.raises(ValueError, match=message):
        segment_sequence(build(), TOKENIZER, sequence, **options)
