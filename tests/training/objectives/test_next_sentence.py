"""Pairs for next-sentence prediction: neighbours or not, and that a row is a function of its number."""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from gengram.errors import InputError
from gengram.gena.configuration_gena import GenaBertConfig
from gengram.gena.modeling_gena import GenaBertForPreTraining
from gengram.tokenization import build_kmer_tokenizer, build_nucleotide_tokenizer
from gengram.training.corpus.build import build_corpus
from gengram.training.corpus.store import open_corpus
from gengram.training.corpus.windows import Drawing
from gengram.training.objectives.build import build_objective
from gengram.training.objectives.next_sentence import PairBlocks

TOKENIZER = build_nucleotide_tokenizer(template="cls_sep")
CLS, SEP, PAD = TOKENIZER.cls_token_id, TOKENIZER.sep_token_id, TOKENIZER.pad_token_id
GENOME = "".join(np.random.default_rng(0).choice(list("ACGT"), 60_000))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    (folder / "genome.fa").write_text(f">long\n{GENOME}\n>short\n{GENOME[:40][::-1]}\n>n\n{'N' * 50}\n>one\nA\n")
    (folder / "recipe.yaml").write_text("name: small\ngenomes: [{species: yeast, fasta: genome.fa}]\n")
    build_corpus(folder / "recipe.yaml", folder / "corpus")
    return open_corpus(folder / "corpus")


def make_blocks(corpus, block_size=2003, count=400, **options):
    options.setdefault("drawing", Drawing(strand="forward"))
    return PairBlocks(corpus, TOKENIZER, block_size, count, **options)


def read_pair(row):
    """The two pieces of a row as text."""
    ids, kinds = row["input_ids"].numpy(), row["token_type_ids"].numpy()
    attended = row["attention_mask"].numpy() == 1
    assert (ids[~attended] == PAD).all() and (np.diff(attended.astype(int)) <= 0).all()
    first, second = ids[attended & (kinds == 0)], ids[attended & (kinds == 1)]
    assert first[0] == CLS and first[-1] == SEP and second[-1] == SEP
    names = [TOKENIZER.convert_ids_to_tokens(piece.tolist()) for piece in (first[1:-1], second[:-1])]
    return ["".join(piece) for piece in names]


def test_half_of_the_rows_are_neighbours_and_half_are_swapped(corpus):
    rows = make_blocks(corpus).__getitems__(range(400))
    labels = np.array([row["next_sentence_label"] for row in rows])
    assert binomtest(int(labels.sum()), 400, 0.5).pvalue > 1e-4
    for row, label in zip(rows, labels):
        first, second = read_pair(row)
        assert (first + second in GENOME) or len(first + second) <= 40 or label
        assert (second + first in GENOME) or len(first + second) <= 40 or not label
        assert row["input_ids"].shape == row["token_type_ids"].shape == row["attention_mask"].shape == (2003,)


def test_pieces_end_where_sentences_do(corpus):
    """A begins with its window, and is one sentence or several of 500 to 1,000 bp."""
    lengths = [len(read_pair(row)[row["next_sentence_label"]]) for row in make_blocks(corpus).__getitems__(range(200))]
    # Rows that are short, or in a short segment, have no whole sentence.
    assert np.mean([length >= 500 for length in lengths]) > 0.8
    short = [len(read_pair(row)[0]) for row in make_blocks(corpus, 103).__getitems__(range(100))]
    assert min(short) >= 1 and max(short) <= 99 and len(set(short)) > 40


def test_one_row_of_ten_is_shorter_than_it_could_be(corpus):
    lengths = [int(row["attention_mask"].sum()) for row in make_blocks(corpus, 103).__getitems__(range(400))]
    assert max(lengths) == 103 and min(lengths) >= 5
    assert binomtest(sum(length < 103 for length in lengths), 400, 0.1).pvalue > 1e-6
    full = make_blocks(corpus, 43, short_share=0).__getitems__(range(50))
    assert all(row["attention_mask"].all() for row in full)


def test_negatives_from_elsewhere_do_not_follow(corpus):
    rows = make_blocks(corpus, negatives="elsewhere").__getitems__(range(200))
    apart = 0
    for row in rows:
        first, second = read_pair(row)
        if len(first + second) <= 40:
            continue
        assert first in GENOME and second in GENOME
        if row["next_sentence_label"]:
            apart += first + second not in GENOME
        else:
            assert first + second in GENOME
    assert apart > 60


def test_a_pair_is_a_function_of_its_number(corpus):
    blocks = make_blocks(corpus, 203, drawing=Drawing())
    together = blocks.__getitems__([7, 3, 300])
    again = make_blocks(corpus, 203, drawing=Drawing())
    for row in together:
        other = again[row["block"]]
        assert torch.equal(row["input_ids"], other["input_ids"])
        assert row["next_sentence_label"] == other["next_sentence_label"]
    for change in ({"seed": 1}, {"stage": 1}):
        changed = make_blocks(corpus, 203, drawing=Drawing(), **change)[7]
        assert not torch.equal(changed["input_ids"], together[0]["input_ids"])
    with pytest.raises(IndexError):
        blocks[400]


def test_a_model_with_both_heads_learns_from_them(corpus):
    objective = build_objective("next_sentence", TOKENIZER, 5)
    batch = objective(make_blocks(corpus, 64).__getitems__(range(8)))
    assert set(batch) >= {"input_ids", "labels", "token_type_ids", "next_sentence_label"}
    torch.manual_seed(0)
    config = GenaBertConfig(
        vocab_size=16, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    output = GenaBertForPreTraining(config)(**batch)
    assert torch.isfinite(output.loss)
    assert output.loss.item() == pytest.approx((output.mlm_loss + output.nsp_loss).item())
    output.loss.backward()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block_size": 4}, "5 or more"),
        ({"sentence": (0, 10)}, "sentence="),
        ({"sentence": (20, 10)}, "sentence="),
        ({"sentence": 500}, "sentence=500"),
        ({"sentence": "500-1000"}, "sentence='500-1000'"),
        ({"sentence": [500.0, 1000]}, "sentence="),
        ({"short_share": "0.1"}, "short_share='0.1'"),
        ({"short_share": 1.5}, "short_share=1.5"),
        ({"negatives": "swap"}, "did you mean 'swapped'"),
        ({"drawing": Drawing(length=100)}, "leave their length out"),
        ({"drawing": Drawing(order="covering")}, "order random"),
    ],
)
def test_what_cannot_be_is_refused(corpus, options, message):
    with pytest.raises(InputError, match=message):
        make_blocks(corpus, **options)


def test_a_tokenizer_without_separator_is_refused(corpus):
    with pytest.raises(InputError, match=r"\[CLS\] and \[SEP\]"):
        PairBlocks(corpus, build_kmer_tokenizer(), 64, 10)
