"""One encoder a kind of tokenizer: the tokenizer's ids on every text, wherever it was saved."""

import numpy as np
import pytest
from conformance.tokenizer_kinds import TOKENIZERS
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, BertTokenizer, TokenizersBackend

from gengram.pipelines.embed import tokenize_sequences
from gengram.tokenization import (
    encode,
    encode_bases,
    encode_bpe,
    encode_kmers,
    encode_overlapping,
    encode_whole_kmers,
    find_encoder,
)
from gengram.tokenization.encode import TokenizerEncoder
from gengram.tokenization.encode_bases import BaseEncoder
from gengram.tokenization.encode_bpe import BpeEncoder
from gengram.tokenization.encode_kmers import KmerEncoder
from gengram.tokenization.encode_overlapping import OverlappingKmerEncoder
from gengram.tokenization.encode_whole_kmers import WholeKmerEncoder

ENCODERS = {
    "nucleotide": BaseEncoder,
    "ntv3": BaseEncoder,
    "kmer": KmerEncoder,
    "overlapping": OverlappingKmerEncoder,
    "whole_kmer": WholeKmerEncoder,
    "bpe": BpeEncoder,
}
NAMES = ["<mask>", "[MASK]", "[CLS]", "<cls>", "<unk>", "[UNK]", "<s>", "</s>", "<oov>", "-", "<EOD>", "<N>"]
LETTERS = st.text("ACGT" * 8 + "NNacgtnuURyX- \n\t\r\x0b\x1c\0é<>[]MASKmask", max_size=60)
RUNS = st.builds(lambda letter, times: letter * times, st.sampled_from("ACGTNnX -"), st.integers(1, 40))
TEXT = st.lists(LETTERS | RUNS | st.sampled_from(NAMES) | st.text(max_size=4), max_size=4).map("".join)
EDGES = ["", "N", "", "A", "AC", "ACG", "ACGT", "ACGTA", "\n", " ", " ACGT ", "\x1cACGT", "ACGT\nACGTA", "é", "<cls>"]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    """Of each kind one as it was made, and that one saved and read by transformers alone."""
    folder = tmp_path_factory.mktemp("kinds")
    made = {name: make(folder / str(number)) for number, (name, make) in enumerate(TOKENIZERS.items())}
    found = {}
    for name, tokenizer in made.items():
        tokenizer.save_pretrained(folder / f"saved-{name}")
        found[name] = tokenizer, TokenizersBackend.from_pretrained(folder / f"saved-{name}")
    return found


@pytest.fixture(scope="module")
def encoders(tokenizers):
    return {name: [find_encoder(tokenizer) for tokenizer in pair] for name, pair in tokenizers.items()}


def expect(tokenizer, texts: list[str], **options) -> list[list[int]]:
    return [tokenizer(text, split_special_tokens=True, verbose=False, **options)["input_ids"] for text in texts]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_each_kind_has_its_encoder_wherever_it_is_loaded(name, encoders):
    for encoder in encoders[name]:
        assert type(encoder) is ENCODERS[name.split("-")[0]] and encoder.is_fast


def surrogates(text: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in text)


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(TEXT.filter(lambda text: not surrogates(text)), max_size=6))
@example(texts=[])
@example(texts=EDGES)
@example(texts=["XX X", "ACGTAX", "XACGTAC", "X-\n-X", "NNNNNNNNNNNNNACG", "ACNNNNNNNNNNNNNN"])
def test_ids_are_the_tokenizers(name, texts, encoders):
    for encoder in encoders[name]:
        encoded = encoder(texts, split_special_tokens=True)
        assert [ids.tolist() for ids in encoded.split()] == expect(encoder.tokenizer, texts)
        largest = max(encoder.tokenizer.get_vocab().values())
        assert encoded.ids.dtype == np.min_scalar_type(largest) and encoded.offsets.dtype == np.int64
        assert len(encoded) == len(texts) and encoded.offsets[0] == 0 and encoded.offsets[-1] == len(encoded.ids)
        bare = encoder(texts, split_special_tokens=True, add_special_tokens=False)
        assert [ids.tolist() for ids in bare.split()] == expect(encoder.tokenizer, texts, add_special_tokens=False)
        written = [encoder.tokenizer(text, verbose=False)["input_ids"] for text in texts]
        assert [ids.tolist() for ids in encoder(texts).split()] == written


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.lists(st.text("ACGTACGTN", max_size=60) | RUNS | LETTERS, min_size=3, max_size=8).map("".join))
@example(text="ACGTNXXXXX" * 40)
@example(text="X" * 200 + "ACGTA" + " X" * 60)
@example(text="N" * 300 + "ACGT" * 30 + "N" * 90)
def test_long_sequences_are_read_in_pieces_without_a_seam(name, text, encoders, monkeypatch):
    with pytest.MonkeyPatch.context() as patch:
        for module in (encode, encode_bases, encode_kmers, encode_overlapping, encode_whole_kmers):
            patch.setattr(module, "BLOCK", 16)
        patch.setattr(encode_bpe, "CHUNK", 64)
        patch.setattr(encode_bpe, "OVERLAP", 40)
        encoder = encoders[name][0]
        texts = ["ACG", text, "ACGTAC", text[:70], ""]
        encoded = encoder(texts, split_special_tokens=True)
        assert [ids.tolist() for ids in encoded.split()] == expect(encoder.tokenizer, texts)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_plain_dna_does_not_go_through_the_tokenizer(name, encoders, monkeypatch):
    encoder = encoders[name][0]
    monkeypatch.setattr(type(encoder.tokenizer), "__call__", None)
    # A BPE that was trained without N, but has a token for runs of it, asks the tokenizer which is which.
    gap = "" if name in ("bpe-as-published", "bpe-mended", "bpe-of-files", "bpe-other-names") else "NNNN"
    assert len(encoder([f"ACGT{gap}ACGTACGTA", "GATTACA" * 50_000], split_special_tokens=True)) == 2


@pytest.mark.parametrize("name", TOKENIZERS)
def test_what_is_put_around_is_told(name, encoders):
    encoder = encoders[name][0]
    [ids] = encoder(["ACGT" * 4]).split()
    [bare] = encoder(["ACGT" * 4], add_special_tokens=False).split()
    assert ids.tolist() == [*encoder.before, *bare, *encoder.after]


def build_words() -> TokenizersBackend:
    backend = Tokenizer(models.WordLevel({"[UNK]": 0, "ACGT": 1, "[PAD]": 2}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return TokenizersBackend(tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]")


def test_a_foreign_tokenizer_is_called_itself(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "acgt", "ac", "##gt"]))
    for tokenizer in (build_words(), BertTokenizer(str(tmp_path / "vocab.txt"))):
        encoder = find_encoder(tokenizer)
        assert type(encoder) is TokenizerEncoder and not encoder.is_fast
        texts = ["ACGT ACGT", "", "acgt", "é [MASK]"] * 3
        assert [ids.tolist() for ids in encoder(texts, split_special_tokens=True).split()] == expect(tokenizer, texts)
        assert encoder([]).offsets.tolist() == [0]


def test_a_tokenizer_that_looks_for_more_is_called_itself(tokenizers):
    for name in ("nucleotide", "kmer-v2", "overlapping", "whole_kmer", "bpe-mended"):
        tokenizer = TokenizersBackend(
            tokenizer_object=Tokenizer.from_str(tokenizers[name][0].backend_tokenizer.to_str())
        )
        tokenizer.add_tokens(["GATTACA"])
        encoder = find_encoder(tokenizer)
        assert not encoder.is_fast
        texts = ["ACGATTACACG", "acgattacacg"]
        assert [ids.tolist() for ids in encoder(texts, split_special_tokens=True).split()] == expect(tokenizer, texts)


def test_truncation_and_padding_that_a_tokenizer_was_left_with_change_nothing(tokenizers, tmp_path):
    for name in ("nucleotide-cls-sep", "kmer-v2", "bpe-mended"):
        tokenizers[name][0].save_pretrained(tmp_path / name)
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / name)
        tokenizer(["ACGT", "ACGTACGTACGTA"], truncation=True, max_length=5, padding=True)
        texts = ["ACGTACGTACGTACGT", "ACG"]
        found = find_encoder(tokenizer)(texts, split_special_tokens=True)
        tokenizer(["ACGT", "ACGTACGTACGTA"], truncation=True, max_length=5, padding=True)
        assert [ids.tolist() for ids in found.split()] == expect(tokenizer, texts)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokens_to_embed_are_the_same(name, encoders):
    encoder = encoders[name][0]
    texts = [*EDGES[1:], "ACGTNACGTACGTAACG", "[MASK]ACG é"]
    plain = tokenize_sequences(encoder.tokenizer, texts)
    for ours, expected in zip(tokenize_sequences(encoder.tokenizer, texts, encoder, places=True), plain, strict=True):
        assert ours.ids.tolist() == expected.ids.tolist() and ours.special.tolist() == expected.special.tolist()
        assert (ours.intervals is not None) is isinstance(encoder, BaseEncoder)
        if ours.intervals is not None:
            assert ours.intervals.tolist() == expected.intervals.tolist()
