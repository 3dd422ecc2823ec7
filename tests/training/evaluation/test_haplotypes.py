"""The windows of a haplotype against the same ones of the reference."""

import math

import pytest

from gengram.training.evaluation import WindowScorer, choose_windows, evaluate_corpus, measure_haplotypes
from gengram.training.evaluation.haplotypes import find_varied
from gengram.training.objectives.build import build_objective


def test_haplotypes_take_turns(corpus):
    varied = find_varied(corpus, choose_windows(corpus, 100))
    assert varied.start.tolist() == [400, 600]
    assert varied.haplotype.tolist() == [0, 0]  # the second one has no variant in the second window
    varied = find_varied(corpus, choose_windows(corpus, 15))
    assert list(zip(varied.start.tolist(), varied.haplotype.tolist())) == [(450, 0), (615, 0)]


def test_variants_are_read(corpus, tokenizer, make_fixed):
    model = make_fixed({"A": 0.5, "C": 0.3, "G": 0.1, "T": 0.1})
    scorer = WindowScorer(model, tokenizer, build_objective("causal", tokenizer), corpus)
    metrics = measure_haplotypes(scorer, choose_windows(corpus, 100), 1_000)
    shares = {"A": 0.5, "C": 0.3, "G": 0.1, "T": 0.1}
    reference = "".join(corpus.read(1, start + 1, start + 100).tobytes().decode().upper() for start in (400, 600))
    changed = reference[:49] + "A" + reference[50:118] + "T" + reference[121:]
    for name, text in (("reference", reference), ("alternative", changed)):
        expected = -sum(math.log2(shares[base]) for base in text) / len(text)
        assert metrics[f"haplotype/{name}_bits"] == pytest.approx(expected, rel=1e-6)
    assert metrics["haplotype/difference"] == pytest.approx(
        metrics["haplotype/alternative_bits"] - metrics["haplotype/reference_bits"]
    )
    assert metrics["haplotype/bases"] == len(reference)


def test_no_haplotypes_no_metrics(tmp_path, write_corpus, tokenizer, make_fixed):
    corpus = write_corpus(tmp_path / "plain", [{"letters": "ACGT" * 20, "split": "validation"}])
    model = make_fixed(dict.fromkeys("ACGT", 0.25))
    metrics = evaluate_corpus(model, tokenizer, "causal", corpus, length=40)
    assert not [name for name in metrics if name.startswith("haplotype")]
