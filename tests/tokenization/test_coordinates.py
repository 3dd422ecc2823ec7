"""From tokens to bases and back, for single bases, k-mers and BPE."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import EsmTokenizer, TokenizersBackend

from gengram.tokenization import (
    assign_bases,
    build_kmer_tokenizer,
    build_nucleotide_tokenizer,
    find_tokens,
    list_kmer_vocabulary,
    locate_tokens,
    reverse_complement,
)


def train_bpe() -> TokenizersBackend:
    random = np.random.default_rng(0)
    corpus = ["".join(random.choice(list("ACGT"), 400)) for _ in range(20)]
    backend = Tokenizer(BPE(unk_token="[UNK]"))
    backend.train_from_iterator(corpus, BpeTrainer(vocab_size=80, special_tokens=["[UNK]"], show_progress=False))
    return TokenizersBackend(tokenizer_object=backend, unk_token="[UNK]")


TOKENIZERS = {
    "base": build_nucleotide_tokenizer(template="cls_sep"),
    "kmer": build_kmer_tokenizer(),
    "bpe": train_bpe(),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(max_examples=40, deadline=None)
@given(
    sequence=st.text("ACGTACGTACGTN", max_size=60), start=st.sampled_from([0, 1_000_000]), strand=st.sampled_from("+-")
)
def test_tokens_tile_the_sequence(kind, sequence, start, strand):
    tokenizer = TOKENIZERS[kind]
    intervals = locate_tokens(tokenizer, sequence, start=start, strand=strand)
    assert intervals.dtype == np.int64 and len(intervals) == len(tokenizer(sequence)["input_ids"])
    on_plus = sequence if strand == "+" else reverse_complement(sequence)
    for token, (begin, end) in zip(tokenizer.convert_ids_to_tokens(tokenizer(sequence)["input_ids"]), intervals):
        if begin == -1:
            assert token in tokenizer.all_special_tokens and end == -1
            continue
        letters = on_plus[begin - start : end - start]
        letters = letters if strand == "+" else reverse_complement(letters)
        assert token in (letters, "[UNK]")
    assigned = assign_bases(intervals, len(sequence), start)
    assert (assigned != -1).all()
    for base, token in enumerate(assigned):
        assert find_tokens(intervals, start + base, start + base + 1).tolist() == [token]


def test_frame_behind_an_n():
    intervals = locate_tokens(TOKENIZERS["kmer"], "ACGTGTACNTGCACGG")
    assert intervals.tolist() == [[-1, -1], [0, 6], [6, 7], [7, 8], [8, 9], [9, 15], [15, 16]]
    assert find_tokens(intervals, 5, 10).tolist() == [1, 2, 3, 4, 5]
    assert assign_bases(intervals, 16).tolist() == [1] * 6 + [2, 3, 4] + [5] * 6 + [6]


def test_cut_off_bases_and_padding_are_nowhere():
    intervals = locate_tokens(TOKENIZERS["kmer"], "ACGTGTACGTGTN", truncation=True, max_length=2)
    assert intervals.tolist() == [[-1, -1], [0, 6]]
    assert assign_bases(intervals, 13).tolist() == [1] * 6 + [-1] * 7
    padded = locate_tokens(TOKENIZERS["kmer"], "ACGTGT", padding="max_length", max_length=4)
    assert padded.tolist() == [[-1, -1], [0, 6], [-1, -1], [-1, -1]]


def test_blanks_are_in_no_token():
    intervals = locate_tokens(TOKENIZERS["kmer"], "ACGTGT\nACGTGT")
    assert intervals.tolist() == [[-1, -1], [0, 6], [7, 13]]
    assert assign_bases(intervals, 13)[6] == -1


def test_values_of_tokens_spread_over_bases():
    intervals = locate_tokens(TOKENIZERS["kmer"], "ACGTGTAN")
    values = np.array([0.0, 10.0, 20.0, 30.0])
    assert values[assign_bases(intervals, 8)].tolist() == [10.0] * 6 + [20.0, 30.0]


def test_faults(tmp_path):
    intervals = locate_tokens(TOKENIZERS["kmer"], "ACGTGTAC", start=100)
    with pytest.raises(ValueError, match="105-105 has no base"):
        find_tokens(intervals, 105, 105)
    with pytest.raises(ValueError, match="tokens lie at 100-108, outside the sequence at 100-106"):
        assign_bases(intervals, 6, 100)
    with pytest.raises(ValueError, match="outside the sequence at 101-109"):
        assign_bases(intervals, 8, 101)
    with pytest.raises(ValueError, match=r"strand='\.'"):
        locate_tokens(TOKENIZERS["kmer"], "ACGT", strand=".")
    (tmp_path / "vocab.txt").write_text("\n".join(list_kmer_vocabulary(3)))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": None}))
    with pytest.raises(ValueError, match="EsmTokenizer does not say where its tokens lie"):
        locate_tokens(EsmTokenizer.from_pretrained(tmp_path), "ACGT")
    assert assign_bases(np.empty((0, 2), dtype=np.int64), 3).tolist() == [-1] * 3
