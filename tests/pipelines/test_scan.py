"""A model along sequences of any length: windows are what the model says of them alone, stitched bases are one pass."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BigBirdConfig,
    BigBirdForTokenClassification,
)

from gengram.genome.alphabet import reverse_complement
from gengram.pipelines.scan import LongWindowError, check_stride, classify_bases, scan_sequence, score_windows
from gengram.tokenization import build_kmer_tokenizer, build_nucleotide_tokenizer, find_encoder
from gengram.tokenization.encode import TokenizerEncoder
from gengram.tokenization.overlapping import build_overlapping_tokenizer, list_overlapping_vocabulary

TOKENIZER = build_nucleotide_tokenizer(model_max_length=100_000)


def draw(length: int, seed: int = 0) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length))


def ask(model, text: str) -> np.ndarray:
    with torch.no_grad():
        return model(**TOKENIZER(text, return_tensors="pt")).logits[0].numpy()


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize(("length", "window", "stride"), [(1000, 250, 125), (1013, 300, 150), (700, 256, 100)])
def test_bases_from_windows_are_one_pass(build_local, length, window, stride, batch_size):
    model, sequence = build_local(True), draw(length)
    one = softmax(ask(model, sequence), axis=1)
    assert one.std() > 0.1
    stitched = classify_bases(model, TOKENIZER, sequence, window=window, stride=stride, batch_size=batch_size)
    np.testing.assert_allclose(softmax(stitched, axis=1), one, rtol=0, atol=1e-5)


def test_too_little_overlap_shows(build_local):
    """The test above would notice wrong places."""
    model, sequence = build_local(True), draw(1000)
    stitched = classify_bases(model, TOKENIZER, sequence, window=250, stride=250)
    assert np.abs(stitched - ask(model, sequence)).max() > 1e-3


def test_both_strands_of_bases(build_local):
    model, sequence = build_local(True), draw(500)
    back = ask(model, reverse_complement(sequence))[::-1]
    expected = (softmax(ask(model, sequence), axis=1) + softmax(back, axis=1)) / 2
    found = classify_bases(model, TOKENIZER, sequence, window=200, average_strands=True)
    np.testing.assert_allclose(softmax(found, axis=1), expected, rtol=0, atol=1e-5)


def test_windows_of_nothing_but_n_are_not_read(build_local):
    model, sequence = build_local(True), draw(300) + "N" * 900 + draw(300, 1)
    found = classify_bases(model, TOKENIZER, sequence, window=200, skip_unknown=True)
    one = softmax(ask(model, sequence), axis=1)
    np.testing.assert_allclose(softmax(found, axis=1)[:300], one[:300], rtol=0, atol=1e-5)
    np.testing.assert_allclose(softmax(found, axis=1)[1200:], one[1200:], rtol=0, atol=1e-5)
    assert np.isnan(found[500:1000]).all()
    assert np.isfinite(classify_bases(model, TOKENIZER, sequence, window=200)).all()


@pytest.mark.parametrize("problem", ["single_label", "multi_label", "regression"])
@pytest.mark.parametrize("average_strands", [False, True])
def test_windows_are_what_the_model_says_of_them(build_local, problem, average_strands):
    model, sequence = build_local(False), draw(730)
    places, found = scan_sequence(
        model, TOKENIZER, sequence, problem, window=200, average_strands=average_strands, batch_size=3
    )
    assert places.tolist() == [[0, 200], [100, 300], [200, 400], [300, 500], [400, 600], [500, 700], [530, 730]]
    for (start, end), row in zip(places, found):
        text = sequence[start:end]
        expected = ask(model, text)
        if average_strands and problem == "regression":
            expected = (expected + ask(model, reverse_complement(text))) / 2
        elif not average_strands:
            np.testing.assert_allclose(row, expected, rtol=0, atol=1e-5)
            continue
        if problem == "single_label":
            back = ask(model, reverse_complement(text))
            np.testing.assert_allclose(softmax(row), (softmax(expected) + softmax(back)) / 2, rtol=0, atol=1e-5)
        elif problem == "regression":
            np.testing.assert_allclose(row, expected, rtol=0, atol=1e-5)


def test_windows_with_too_many_unknown_letters_have_no_value(build_local):
    model = build_local(False)
    texts = [draw(100), "N" * 11 + draw(89), "n" * 10 + draw(90), "", "N" * 100]
    found = score_windows(model, TOKENIZER, texts[:3] + texts[4:], "single_label", max_unknown=0.1)
    assert np.isnan(found).all(axis=1).tolist() == [False, True, False, True]
    assert np.isfinite(score_windows(model, TOKENIZER, texts[1:2], "single_label", max_unknown=1)).all()
    assert score_windows(model, TOKENIZER, texts[4:], "single_label").shape == (1, 3)


def test_windows_with_more_tokens_than_the_model_takes():
    """An N in a window of 6-mers makes more tokens of it: no value. A window of bases that is too long is an error."""
    torch.manual_seed(0)
    tokenizer = build_kmer_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=11,
    )
    model = BertForSequenceClassification(config).eval()
    found = score_windows(model, tokenizer, [draw(60), draw(30) + "N" + draw(29, 1)], "single_label", limit=11)
    assert np.isfinite(found[0]).all() and np.isnan(found[1]).all()
    with pytest.raises(LongWindowError, match="a window of 66 bp is 12 tokens, but the limit is 11 tokens") as error:
        score_windows(model, tokenizer, [draw(60), draw(66)], "single_label", limit=11)
    assert error.value.index == 1
    with pytest.raises(ValueError, match="60 bp are 10 tokens; bases need one token each"):
        classify_bases(model, tokenizer, draw(60), window=60)


class _Counting(TokenizerEncoder):
    calls = 0

    def __call__(self, sequences, **options):
        self.calls += 1
        return super().__call__(sequences, **options)


@pytest.mark.parametrize("average_strands", [False, True])
def test_the_encoder_of_a_run_is_used_and_makes_no_difference(build_local, average_strands):
    """Letters of either case, codes and N; ids are those of the tokenizer itself."""
    sequence = draw(300) + "nRYacgtu" + draw(200, 1)
    plain = _Counting(TOKENIZER)
    options = {"average_strands": average_strands, "batch_size": 3}
    by_base, whole = build_local(True), build_local(False)
    for encoder in (plain, find_encoder(TOKENIZER), None):
        bases = classify_bases(by_base, TOKENIZER, sequence, window=120, encoder=encoder, **options)
        texts = [sequence[first : first + 90] for first in range(0, 500, 50)]
        windows = score_windows(whole, TOKENIZER, texts, "multi_label", encoder=encoder, **options)
        if encoder is plain:
            expected = bases, windows
        np.testing.assert_array_equal(bases, expected[0])
        np.testing.assert_array_equal(windows, expected[1])
    assert plain.calls >= 2


def test_a_short_sequence_does_not_change_what_is_said_of_the_next():
    """BigBird turns its sparse attention off for a short one, and leaves it off."""
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    config = BigBirdConfig(
        vocab_size=len(TOKENIZER),
        block_size=8,
        num_random_blocks=1,
        max_position_embeddings=512,
        pad_token_id=0,
        **size,
    )
    model = BigBirdForTokenClassification(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0, 0.5)
    first = classify_bases(model, TOKENIZER, draw(256), window=256)
    classify_bases(model, TOKENIZER, draw(20), window=256)
    np.testing.assert_array_equal(classify_bases(model, TOKENIZER, draw(256), window=256), first)


def test_a_window_without_a_token():
    """Shorter than a k-mer of which every base begins one: special tokens alone are no answer."""
    torch.manual_seed(0)
    tokenizer = build_overlapping_tokenizer(list_overlapping_vocabulary(3), model_max_length=64)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = BertForSequenceClassification(BertConfig(vocab_size=len(tokenizer), **size)).eval()
    found = score_windows(model, tokenizer, [draw(20), "AC", "ACG"], "single_label")
    assert np.isfinite(found).all(axis=1).tolist() == [True, False, True] and np.isnan(found[1]).all()


def test_an_output_that_is_not_finite_is_not_one_that_was_not_read(build_local):
    model = build_local(False)
    with torch.no_grad():
        model.classifier.weight.fill_(3e38)
    found = score_windows(model, TOKENIZER, [draw(50), "N" * 50], "regression")
    assert np.isinf(found[0]).all() and np.isnan(found[1]).all()


@pytest.mark.parametrize(("window", "stride"), [(0, None), (10, 0), (10, 11), (-5, 2)])
def test_windows_that_are_none(window, stride):
    with pytest.raises(ValueError, match="give"):
        check_stride(window, stride)
