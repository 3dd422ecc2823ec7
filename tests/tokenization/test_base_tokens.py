"""Which tokens are bases: of one base, of k-mers, of BPE, and of no DNA at all."""

from itertools import product

import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE, WordLevel
from transformers import TokenizersBackend

from gengram.tokenization import (
    build_kmer_tokenizer,
    build_ntv3_tokenizer,
    build_nucleotide_tokenizer,
    list_base_tokens,
)
from gengram.tokenization.base_tokens import is_of_dna


def make_tokenizer(tokens: list[str]) -> TokenizersBackend:
    vocabulary = {token: index for index, token in enumerate(["[UNK]", "[MASK]", *tokens])}
    backend = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    return TokenizersBackend(tokenizer_object=backend, unk_token="[UNK]", mask_token="[MASK]")


@pytest.mark.parametrize("build", [build_nucleotide_tokenizer, build_ntv3_tokenizer])
def test_single_bases(build):
    tokenizer = build()
    assert sorted(list_base_tokens(tokenizer)) == list("ACGT")
    ids = tokenizer.convert_tokens_to_ids(list_base_tokens(tokenizer))
    assert ids == sorted(ids)
    assert is_of_dna(tokenizer)


@pytest.mark.parametrize("k", [2, 3, 6])
def test_kmers(k):
    tokenizer = build_kmer_tokenizer(k)
    expected = {"".join(letters) for letters in product("ACGT", repeat=k)} | set("ACGT")
    assert set(list_base_tokens(tokenizer)) == expected
    assert is_of_dna(tokenizer)


def test_bpe():
    vocabulary = {
        token: index for index, token in enumerate(["[UNK]", "A", "C", "G", "T", "N", "AC", "ACAC", "NN", "-"])
    }
    tokenizer = TokenizersBackend(tokenizer_object=Tokenizer(BPE(vocabulary, [("A", "C"), ("AC", "AC"), ("N", "N")])))
    assert list_base_tokens(tokenizer) == ["A", "C", "G", "T", "AC", "ACAC"]
    assert is_of_dna(tokenizer)


@pytest.mark.parametrize(
    "tokens, bases",
    [
        (["▁ACG", "ĠTTA", "##GA", "u", "acg"], ["▁ACG", "ĠTTA", "##GA", "u", "acg"]),
        (["N", "ANA", "R", "A C", "A1", "▁", "##", "", "ÀC"], []),
        (["cat", "dog", "tag", "act", "walk"], ["cat", "tag", "act"]),
    ],
)
def test_marks_and_other_letters(tokens, bases):
    assert set(list_base_tokens(make_tokenizer(tokens))) == set(bases)


def test_no_other_language_is_dna():
    words = ["the", "cat", "sat", "on", "a", "mat", "with", "its", "tag", "walking", "slowly", "there"]
    assert not is_of_dna(make_tokenizer(words))
    assert not is_of_dna(make_tokenizer([]))
