"""Bits per base: known answers, what is counted, and that neither batches nor processes change them."""

import math

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from gengram.errors import InputError
from gengram.tokenization import build_kmer_tokenizer
from gengram.training.evaluation import WindowScorer, choose_windows, evaluate_corpus
from gengram.training.evaluation.bits_per_base import resample_bits
from gengram.training.evaluation.scoring import cut_batches, deal_batches
from gengram.training.metrics.bootstrap import find_interval
from gengram.training.objectives.build import build_objective

SHARES = {"A": 0.4, "C": 0.1, "G": 0.2, "T": 0.3}


def read_scored(corpus, windows, first=1):
    """The upper-case letters of windows from the first predicted one on."""
    letters = [
        corpus.read(*place)[first:].tobytes().decode().upper()
        for place in zip(windows.contig.tolist(), windows.start.tolist(), windows.end.tolist())
    ]
    return "".join(letters)


def measure(model, tokenizer, objective, corpus, length=100, **options):
    options = {"paired_bases": 0, "probe_bases": 0, "bases": None, **options}
    return evaluate_corpus(model, tokenizer, objective, corpus, length=length, **options)


def test_a_fixed_distribution_has_its_cross_entropy(corpus, tokenizer, make_fixed):
    metrics = measure(make_fixed(SHARES), tokenizer, "causal", corpus)
    text = read_scored(corpus, choose_windows(corpus, 100))
    counts = {base: text.count(base) for base in SHARES}
    bases = sum(counts.values())
    expected = -sum(counts[base] * math.log2(share) for base, share in SHARES.items()) / bases
    assert metrics["bases"] == metrics["tokens"] == bases  # no N, no ambiguity code
    assert metrics["bits_per_base"] == pytest.approx(expected, rel=1e-6)
    assert metrics["perplexity_per_base"] == pytest.approx(2**expected, rel=1e-6)
    assert metrics["loss"] == pytest.approx(expected * math.log(2), rel=1e-6)
    assert metrics["perplexity_per_token"] == pytest.approx(metrics["perplexity_per_base"])
    assert metrics["bits_per_base_low"] < metrics["bits_per_base"] < metrics["bits_per_base_high"]
    assert metrics["windows"] == 14


def test_a_guess_among_four_needs_two_bits(corpus, tokenizer, make_fixed):
    metrics = measure(make_fixed(dict.fromkeys("ACGT", 0.25)), tokenizer, "causal", corpus)
    bits = {name: value for name, value in metrics.items() if name.endswith("bits_per_base")}
    assert bits.keys() == {
        "bits_per_base",
        "species/human/bits_per_base",
        "species/mouse/bits_per_base",
        *(f"class/{name}/bits_per_base" for name in ("exon", "intron", "intergenic", "repeat", "unique")),
    }
    assert list(bits.values()) == pytest.approx([2.0] * len(bits), abs=1e-6)


def test_classes_and_species_count_their_bases(corpus, tokenizer, make_fixed):
    metrics = measure(make_fixed(SHARES), tokenizer, "causal", corpus, length=1_000)
    human, mouse = corpus.read(1, 1, 1_000), [corpus.read(2, 1, 350), corpus.read(3, 1, 90)]
    known = np.isin(human, np.frombuffer(b"ACGTacgt", dtype=np.uint8))
    assert metrics["species/human/bases"] == known.sum() == 966
    assert metrics["species/mouse/bases"] == 349 + 89
    assert metrics["class/exon/bases"] == known[149:419].sum()
    assert metrics["class/intron/bases"] == known[419:].sum()
    assert metrics["class/intergenic/bases"] == known[:149].sum() + 349
    lower = sum(int((one >= ord("a")).sum()) for one in (human[known], *mouse))
    assert metrics["class/repeat/bases"] == lower
    assert metrics["class/repeat/bases"] + metrics["class/unique/bases"] == metrics["bases"]


def test_a_masked_model_is_asked_for_masked_bases_alone(corpus, tokenizer, make_fixed):
    model = make_fixed(SHARES)
    objective = build_objective("masked", tokenizer, seed=3)
    metrics = measure(model, tokenizer, objective, corpus, length=1_000)
    asked, hidden = [], tokenizer.mask_token_id
    windows = choose_windows(corpus, 1_000)
    rows = [row for call in model.calls for row in call.tolist()]
    for row, place in zip(rows, zip(windows.contig, windows.start, windows.end), strict=True):
        letters = corpus.read(*(int(one) for one in place)).tobytes().decode().upper()
        letters = letters.translate(str.maketrans("RYK", "NNN"))
        row = row[: len(letters)]
        asked += [letter for letter, token in zip(letters, row) if token == hidden]
        # All others are the true ones.
        shown = tokenizer.convert_ids_to_tokens([token for token in row if token != hidden])
        assert shown == [letter for letter, token in zip(letters, row) if token != hidden]
    expected = -np.mean([math.log2(SHARES[base]) for base in asked])
    assert metrics["bases"] == len(asked) and 0.1 < len(asked) / 1_440 < 0.2
    assert metrics["bits_per_base"] == pytest.approx(expected, rel=1e-6)
    again = make_fixed(SHARES)
    assert measure(again, tokenizer, objective, corpus, length=1_000) == metrics
    assert all(torch.equal(one, other) for one, other in zip(model.calls, again.calls))


def test_kmers_are_counted_by_their_bases(corpus, make_fixed):
    tokenizer = build_kmer_tokenizer(k=3)
    kmers = [token for token in tokenizer.get_vocab() if len(token) == 3 and set(token) <= set("ACGT")]
    model = make_fixed({**dict.fromkeys(kmers, 0.9 / 64), **dict.fromkeys("ACGT", 0.1 / 4)}, tokenizer)
    metrics = measure(model, tokenizer, "causal", corpus, length=100)
    # 33 3-mers of 6 bits (and what the single bases take), and a last base alone.
    kmer, single = -math.log2(0.9 / 64), -math.log2(0.1 / 4)
    assert metrics["species/mouse/bases"] == 3 * 100 + 90
    assert metrics["species/mouse/bits_per_base"] == pytest.approx((129 * kmer + 3 * single) / 390, rel=1e-6)
    assert metrics["loss"] * metrics["tokens"] / math.log(2) / metrics["bases"] == pytest.approx(
        metrics["bits_per_base"], rel=1e-9
    )


def test_batches_do_not_change_the_bits(corpus, tokenizer, llama):
    found = [
        measure(llama, tokenizer, "causal", corpus, length=150, batch_tokens=tokens) for tokens in (1, 400, 100_000)
    ]
    for one in found[1:]:
        assert one.keys() == found[0].keys()
        for name, value in one.items():
            assert value == pytest.approx(found[0][name], rel=2e-6), name


def test_the_batches_of_all_processes_are_those_of_one():
    batches = cut_batches([5, 9, 1, 1, 7, 5, 9], 16)
    assert [one.tolist() for one in batches] == [[1], [6], [4, 0], [5, 2, 3]]
    dealt = [list(deal_batches(batches, rank, 3)) for rank in range(3)]
    assert {len(one) for one in dealt} == {2}
    counted = [places.tolist() for one in dealt for places, counts in one if counts]
    assert sorted(counted) == sorted(one.tolist() for one in batches)


def test_mode_dtype_and_random_numbers_stay(corpus, tokenizer, llama):
    llama.train()
    llama.model.layers[1].eval()
    modes = [module.training for module in llama.modules()]
    torch.manual_seed(5)
    state = torch.get_rng_state()
    before = {name: value.clone() for name, value in llama.state_dict().items()}
    first = measure(llama, tokenizer, "causal", corpus, paired_bases=300, probe_bases=100)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in llama.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in llama.state_dict().items())
    assert all(parameter.grad is None for parameter in llama.parameters())
    assert not any("forward" in vars(module) for module in llama.modules())
    # Dropout is off, whatever the mode was.
    assert measure(llama.eval(), tokenizer, "causal", corpus, paired_bases=300, probe_bases=100) == first


def test_what_the_model_does_not_take_is_not_counted(corpus, tokenizer, make_fixed):
    model = make_fixed(SHARES)
    model.config.max_position_embeddings = 64
    metrics = measure(model, tokenizer, "causal", corpus, length=350)
    assert {call.shape[1] for call in model.calls} == {64}
    assert metrics["species/mouse/bases"] == 2 * 63


def test_a_masked_model_needs_a_mask(corpus, make_fixed, tokenizer):
    objective = build_objective("masked", tokenizer)
    bare = build_kmer_tokenizer(k=1)
    bare.mask_token = None
    with pytest.raises(InputError, match="mask token"):
        WindowScorer(make_fixed(SHARES), bare, objective, corpus)


def test_genomes_without_soft_masks_have_no_repeats(tokenizer, make_fixed, tmp_path, write_corpus):
    corpus = write_corpus(tmp_path / "upper", [{"letters": "ACGT" * 20, "split": "validation"}])
    metrics = measure(make_fixed(SHARES), tokenizer, "causal", corpus)
    assert not [name for name in metrics if name.startswith("class/")]


def test_windows_without_a_base_say_nothing(tokenizer, make_fixed, tmp_path, write_corpus):
    corpus = write_corpus(tmp_path / "n", [{"letters": "N" * 50, "split": "validation"}])
    metrics = measure(make_fixed(SHARES), tokenizer, "causal", corpus, paired_bases=50)
    assert metrics == {"bases": 0, "tokens": 0, "windows": 1}


def test_the_interval_is_that_of_a_mean():
    random = np.random.default_rng(0)
    bases = np.full(400, 100.0)
    nats = random.normal(130, 20, 400)
    low, high = find_interval(resample_bits(nats, bases))
    expected = 2 * 1.96 * nats.std() / math.sqrt(400) / 100 / math.log(2)
    assert high - low == pytest.approx(expected, rel=0.1)
    assert low < nats.sum() / bases.sum() / math.log(2) < high


def test_a_masked_model_of_transformers(corpus, tokenizer):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=128, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16
    )
    metrics = measure(BertForMaskedLM(config), tokenizer, "masked", corpus, paired_bases=200, probe_bases=200)
    assert metrics["bits_per_base"] == pytest.approx(math.log2(128), rel=0.1)  # it knows nothing
    assert metrics["logit_lens/layer_2/kl"] == 0 < metrics["logit_lens/layer_1/kl"]
