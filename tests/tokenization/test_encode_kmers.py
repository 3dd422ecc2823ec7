"""The bulk encoder: the tokenizer's ids, whatever the batch."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from gengram.tokenization import KmerEncoder, build_kmer_tokenizer, build_nucleotide_tokenizer, encode, encode_kmers

STRICT = dict.fromkeys(("case", "uracil", "ambiguous"), "unknown")
TOKENIZERS = {
    "v1": build_kmer_tokenizer(6, "v1"),
    "v2": build_kmer_tokenizer(),
    "strict": build_kmer_tokenizer(**STRICT),
    "codon": build_kmer_tokenizer(3),
    "five": build_kmer_tokenizer(5, case="unknown"),
}
TEXT = st.text("ACGT" * 6 + "NNacgtnuURyX- \n\t\x1c\0é<>mask", max_size=70)


def expect(tokenizer, texts: list[str]) -> list[list[int]]:
    return [tokenizer(text, verbose=False)["input_ids"] for text in texts]


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=60, deadline=None)
@given(texts=st.lists(TEXT, max_size=6))
@example(texts=[])
@example(texts=[""])
@example(texts=["", "N", "", "<mask>", "ACGTAC", "é", ""])
@example(texts=["XX X", "ACGTAX", "XACGTAC", "X-\n-X"])
def test_ids_are_the_tokenizers(name, texts):
    encoded = KmerEncoder(TOKENIZERS[name])(texts)
    assert [ids.tolist() for ids in encoded.split()] == expect(TOKENIZERS[name], texts)
    assert encoded.ids.dtype in (np.uint16, np.uint8) and encoded.offsets.dtype == np.int64
    assert len(encoded) == len(texts) and encoded.offsets[0] == 0 and encoded.offsets[-1] == len(encoded.ids)


def test_blocks_meet_without_a_seam(monkeypatch):
    monkeypatch.setattr(encode, "BLOCK", 40)
    monkeypatch.setattr(encode_kmers, "BLOCK", 40)
    random = np.random.default_rng(0)
    texts = ["".join(random.choice(list("ACGTACGTACGTN"), length)) for length in random.integers(0, 60, 100)]
    texts[17] = texts[40] = "ACG<mask>TT"
    encoded = KmerEncoder(TOKENIZERS["v2"])(texts)
    assert [ids.tolist() for ids in encoded.split()] == expect(TOKENIZERS["v2"], texts)


def test_long_sequence_with_runs_of_n():
    random = np.random.default_rng(1)
    bases = random.choice(np.frombuffer(b"ACGT", np.uint8), 300_000)
    bases[random.random(300_000) < 0.002] = ord("N")
    bases[1000:21_000] = ord("N")
    text = bases.tobytes().decode()
    assert KmerEncoder(TOKENIZERS["v2"])([text]).ids.tolist() == expect(TOKENIZERS["v2"], [text])[0]


def test_saved_tokenizer(tmp_path):
    TOKENIZERS["strict"].save_pretrained(tmp_path)
    texts = ["acgtACGTGTN", "ACGRTT"]
    encoded = KmerEncoder(AutoTokenizer.from_pretrained(tmp_path))(texts)
    assert [ids.tolist() for ids in encoded.split()] == expect(TOKENIZERS["strict"], texts)


def test_other_tokenizers_are_refused():
    with pytest.raises(ValueError, match="build_kmer_tokenizer"):
        KmerEncoder(build_nucleotide_tokenizer())
