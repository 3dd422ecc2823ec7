"""Both strands: nothing between them for a model that treats them alike, and the right sign for one that does not."""

import math

import numpy as np
import pytest

from gengram.tokenization import build_kmer_tokenizer
from gengram.training.evaluation import WindowScorer, choose_windows, measure_strand_gap
from gengram.training.objectives.build import build_objective


@pytest.mark.parametrize("objective", ["causal", "masked"])
def test_a_symmetric_model_has_no_gap(corpus, tokenizer, make_fixed, objective):
    model = make_fixed({"A": 0.3, "T": 0.3, "C": 0.2, "G": 0.2})
    scorer = WindowScorer(model, tokenizer, build_objective(objective, tokenizer), corpus)
    metrics = measure_strand_gap(scorer, choose_windows(corpus, 100))
    assert metrics["strand/gap"] == pytest.approx(0, abs=1e-7)
    assert metrics["strand/difference"] == pytest.approx(0, abs=1e-7)
    assert metrics["strand/forward_bits"] == pytest.approx(metrics["strand/reverse_bits"], rel=1e-7)


@pytest.mark.parametrize("objective", ["causal", "masked"])
def test_a_model_of_one_strand_has_one(corpus, tokenizer, make_fixed, objective):
    model = make_fixed({"A": 0.4, "T": 0.1, "C": 0.25, "G": 0.25})
    scorer = WindowScorer(model, tokenizer, build_objective(objective, tokenizer), corpus)
    windows = choose_windows(corpus, 350)
    metrics = measure_strand_gap(scorer, windows)
    if objective == "masked":
        assert metrics["strand/gap"] > 0
        return
    gaps = []
    for place in zip(windows.contig.tolist(), windows.start.tolist(), windows.end.tolist()):
        text = corpus.read(*place)[1:-1].tobytes().decode().upper()
        bases = sum(text.count(base) for base in "ACGT")
        gaps.append((text.count("T") - text.count("A")) * (math.log2(0.4) - math.log2(0.1)) / bases)
    assert metrics["strand/difference"] == pytest.approx(np.mean(gaps), rel=1e-5)
    assert metrics["strand/gap"] == pytest.approx(np.mean(np.abs(gaps)), rel=1e-5)


def test_the_same_bases_are_masked_on_both_strands(corpus, tokenizer, make_fixed):
    model = make_fixed(dict.fromkeys("ACGT", 0.25))
    scorer = WindowScorer(model, tokenizer, build_objective("masked", tokenizer), corpus)
    measure_strand_gap(scorer, choose_windows(corpus, 350), batch_tokens=1)
    pairs = {"A": "T", "C": "G", "G": "C", "T": "A"}
    for call, other in zip(model.calls[::2], model.calls[1::2]):
        one, two = (tokenizer.convert_ids_to_tokens(each[0].tolist()) for each in (call, other))
        assert one == [pairs.get(token, token) for token in two[::-1]]
        assert tokenizer.mask_token in one


def test_tokens_that_do_not_mirror(corpus, make_fixed):
    tokenizer = build_kmer_tokenizer(k=3)
    model = make_fixed({token: 1 / 80 for token in tokenizer.get_vocab() if set(token) <= set("ACGT")}, tokenizer)
    for objective in ("causal", "masked"):
        scorer = WindowScorer(model, tokenizer, build_objective(objective, tokenizer), corpus)
        metrics = measure_strand_gap(scorer, choose_windows(corpus, 100))
        assert metrics["strand/bases"] > 0
        assert abs(metrics["strand/difference"]) <= metrics["strand/gap"] < 0.5


def test_windows_without_bases_have_none(tokenizer, make_fixed, tmp_path, write_corpus):
    corpus = write_corpus(tmp_path / "n", [{"letters": "N" * 50, "split": "validation"}])
    scorer = WindowScorer(make_fixed({"A": 1.0}), tokenizer, build_objective("causal", tokenizer), corpus)
    assert measure_strand_gap(scorer, choose_windows(corpus, 50)) == {}
