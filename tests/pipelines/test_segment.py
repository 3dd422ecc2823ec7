"""Features along sequences of any length: windows put together are one pass."""

import numpy as np
import pytest
import torch

from gengram import SegmentNTConfig, SegmentNTForTokenClassification
from gengram.pipelines.segment import segment_sequence
from gengram.tokenization import build_kmer_tokenizer

TOKENIZER = build_kmer_tokenizer(uracil="unknown")


def build() -> SegmentNTForTokenClassification:
    torch.manual_seed(0)
    config = SegmentNTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=20,
        features=["exon", "intron", "CTCF"],
    )
    model = SegmentNTForTokenClassification(config).eval()
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
