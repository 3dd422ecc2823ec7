"""`gengram train-tokenizer`: what is learned, what a folder holds, and that loaders and bulk encoder read it."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from gengram.cli import main
from gengram.errors import InputError
from gengram.loading.tokenizers import require_tokenizer
from gengram.tokenization import BpeEncoder, BpeTokenizer, load_bpe_tokenizer, reverse_complement
from gengram.tokenization.train_tokenizer import measure_tokenizer, sample_pieces, train_bpe_tokenizer, train_tokenizer


def draw_bases(length: int, seed: int = 0) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length, p=[0.35, 0.15, 0.15, 0.35]))


@pytest.fixture(scope="module")
def genome(tmp_path_factory) -> str:
    """Two contigs of 60 kb, one with a long run of N and soft-masked repeats, gzip."""
    path = tmp_path_factory.mktemp("genome") / "genome.fa.gz"
    second = draw_bases(20_000, 1) + "N" * 5_000 + ("ttaggg" * 1_000) + draw_bases(10_000, 2)
    with gzip.open(path, "wt") as file:
        file.write(f">one\n{draw_bases(40_000)}\n>two\n{second}\n")
    return str(path)


@pytest.fixture(scope="module")
def trained(genome, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "tokenizer"
    return folder, train_tokenizer([genome], folder, vocab_size=300, max_token_length=12)


def test_the_folder_is_read_by_both_loaders_with_the_same_ids(trained):
    folder, report = trained
    plain, mended = AutoTokenizer.from_pretrained(folder), load_bpe_tokenizer(folder)
    sequence = draw_bases(500, 5) + "N" * 12 + "acgtNNacg"
    assert plain(sequence)["input_ids"] == mended(sequence)["input_ids"]
    assert len(plain) == report["vocabulary"] == 300
    assert [plain.convert_ids_to_tokens(i) for i in range(11)] == [
        *("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "-"),
        *"ACGNT",
    ]
    assert plain.model_max_length == 512
    pair = plain("ACGT", "TTTT", return_token_type_ids=True)
    assert pair["token_type_ids"].count(1) >= 2 and pair["input_ids"][0] == 1 and pair["input_ids"][-1] == 2


def test_tokens_are_bases_of_at_most_the_length_and_n_stays_alone(trained):
    tokenizer = AutoTokenizer.from_pretrained(trained[0])
    tokens = [token for token in tokenizer.get_vocab() if not token.startswith("[") and token not in ("-", "N")]
    assert all(set(token) <= set("ACGT") for token in tokens) and max(map(len, tokens)) == 12
    assert tokenizer.tokenize("ANNNNNNNNNA") == ["A", *"NNNNNNNNN", "A"]
    assert tokenizer.tokenize("ANNNNNNNNNNA") == ["A", "-", "A"]


def test_the_bulk_encoder_is_fast_and_agrees(trained):
    pytest.importorskip("numba")
    tokenizer = load_bpe_tokenizer(trained[0])
    encoder = BpeEncoder(tokenizer)
    assert encoder.is_fast
    sequences = [draw_bases(n, n) for n in (0, 1, 7, 400)] + ["ttaggg" * 30, "ACNNNNNNNNNNNNGT"]
    assert [ids.tolist() for ids in encoder(sequences).split()] == [tokenizer(one)["input_ids"] for one in sequences]


def test_the_same_genome_gives_the_same_tokenizer_and_another_seed_another(genome, trained, tmp_path):
    same = train_tokenizer([genome], tmp_path / "same", vocab_size=300, max_token_length=12)
    train_tokenizer([genome], tmp_path / "other", vocab_size=300, max_token_length=12, sample=20_000, seed=1)
    assert (tmp_path / "same/tokenizer.json").read_bytes() == (trained[0] / "tokenizer.json").read_bytes()
    assert (tmp_path / "other/tokenizer.json").read_bytes() != (trained[0] / "tokenizer.json").read_bytes()
    assert same == trained[1]


def test_both_strands_give_tokens_of_both_strands():
    one = ["GATTACA" * 40]
    alone = train_bpe_tokenizer(one, vocab_size=40)
    both = train_bpe_tokenizer([*one, *map(reverse_complement, one)], vocab_size=80)
    forward, backward = "GATTACA" * 8, reverse_complement("GATTACA" * 8)
    assert len(alone.tokenize(forward)) < 10 < len(alone.tokenize(backward))
    assert len(both.tokenize(forward)) < 10 > len(both.tokenize(backward))


def test_no_token_of_runs(tmp_path):
    tokenizer = train_bpe_tokenizer(["ACGTACGT" * 20], vocab_size=20, n_run=0)
    assert tokenizer.tokenize("ACGT" + "N" * 20)[-20:] == ["N"] * 20 and "-" not in tokenizer.get_vocab()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text("ACGTNacgtn", max_size=60), min_size=1, max_size=4))
def test_every_base_is_in_one_token(pieces):
    tokenizer = _SMALL
    for piece in pieces:
        encoded = tokenizer(piece, return_offsets_mapping=True)
        offsets = encoded["offset_mapping"]
        assert tokenizer.restore_sequence(encoded["input_ids"], offsets) == piece.upper()
        assert tokenizer.unk_token_id not in encoded["input_ids"]


_SMALL = train_bpe_tokenizer([draw_bases(3_000)], vocab_size=60)


def test_pieces_are_drawn_once_and_held_out(genome):
    train, measured, counts = sample_pieces([genome], sample=30_000, both_strands=False)
    assert len(train) == 30 and len(measured) == 81 // 20
    shared = set(train) & set(measured)
    assert all("TTAGGG" * 5 in piece or piece == "N" * 1000 for piece in shared)  # the same pieces of the genome
    strands, _, with_strands = sample_pieces([genome], sample=30_000)
    assert strands[:30] == train and strands[30:] == [reverse_complement(piece) for piece in train]
    assert counts["bp"] == 81_000 and with_strands["trained_bp"] == 2 * counts["trained_bp"] == 60_000


def test_measures_are_counts_of_what_was_read():
    tokenizer = _SMALL
    pieces = ["ACGTTTTACG" * 10, "NNNNN" + "ACGT", "R" * 5]
    measured = measure_tokenizer(tokenizer, pieces)
    ids = [index for piece in pieces for index in tokenizer(piece, add_special_tokens=False)["input_ids"]]
    assert (measured["bp"], measured["tokens"]) == (114, len(ids))
    assert measured["unknown_share"] == 5 / 114 and measured["n_share"] == pytest.approx(5 / 114)
    assert sum(row["used"] * row["bp"] for row in measured["lengths"]) == 104
    assert sum(row["vocabulary"] for row in measured["lengths"]) == 60 - 5 - 2  # special, and N and -


def test_the_command_prints_and_writes_a_report(genome, tmp_path, capsys):
    out = tmp_path / "tokenizer"
    assert main(["train-tokenizer", genome, "--out", str(out), "--vocab_size", "100", "--one_strand", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in printed.pop("phases")][1:4] == [
        "Reading genomes",
        "Training the tokenizer",
        "Measuring the tokenizer",
    ]
    assert printed.pop("out") == str(out)
    assert printed == json.loads((out / "report.json").read_text())
    assert not printed["settings"]["both_strands"] and printed["sample"]["held_out"]
    lines = (out / "token_lengths.tsv").read_text().splitlines()
    assert lines[0] == "bp\tvocabulary\tused" and len(lines) == 1 + len(printed["measured"]["lengths"])
    assert (out / "token_lengths.png").read_bytes().startswith(b"\x89PNG")
    assert isinstance(load_bpe_tokenizer(out), BpeTokenizer)
    assert require_tokenizer(out).get_vocab() == load_bpe_tokenizer(out).get_vocab()  # its report is none of a run
    assert main(["train-tokenizer", genome, "--out", str(out)]) == 1
    assert "there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"vocab_size": 5}, "vocab_size=5"),
        ({"vocab_size": 10**12}, "at most 10,000,000 tokens"),
        ({"n_run": 1}, "n_run=1"),
        ({"max_token_length": 1}, "max_token_length=1"),
        ({"max_token_length": 2**63}, "give 2 to 10,000,000 bp"),
        ({"seed": -1}, "seed=-1: give 0 or more"),
    ],
)
def test_wrong_numbers_are_refused_and_nothing_is_written(genome, tmp_path, fault, message):
    with pytest.raises(InputError, match=message):
        train_tokenizer([genome], tmp_path / "out", sample=1000, **fault)
    assert not list(tmp_path.iterdir())


def test_letters_that_are_not_dna_are_told_or_refused(tmp_path, capsys):
    (tmp_path / "x.fa").write_text(">a\n" + "ACGT" * 300 + "\n>b\n" + "AC-GTACGTA*" * 200 + "\n")
    with pytest.raises(InputError, match=r"x\.fa: 400 of 3,400 .* '-' \(a gap\) at position 2 .* in line 3, 'b'"):
        train_tokenizer([tmp_path / "x.fa"], tmp_path / "out", vocab_size=20)
    assert not (tmp_path / "out").exists()
    train_tokenizer([tmp_path / "x.fa"], tmp_path / "out", vocab_size=20, max_non_dna=0.2)
    assert "400 of 3,400 letters are not DNA" in capsys.readouterr().err
    tokens = set(load_bpe_tokenizer(tmp_path / "out").get_vocab())
    assert not {token for token in tokens if set(token) - set("ACGTN")} - {
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[PAD]",
        "[MASK]",
        "-",
    }


def test_a_genome_without_bases_is_refused(tmp_path):
    (tmp_path / "gaps.fa").write_text(">a\n" + "N" * 5000 + "\n>b\nRYK\n")
    with pytest.raises(InputError, match=r"gaps\.fa: no A, C, G or T in what was drawn to train on"):
        train_tokenizer([tmp_path / "gaps.fa"], tmp_path / "out", sample=1_000_000)
    assert not (tmp_path / "out").exists()
