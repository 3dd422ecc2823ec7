"""The k-mer tokenizer: rules, policies, what the original did wrong, and a folder that travels."""

import json
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer, DataCollatorForLanguageModeling, EsmTokenizer, TokenizersBackend

from gengram.tokenization import build_kmer_tokenizer, list_kmer_vocabulary, load_kmer_tokenizer

STRICT = dict.fromkeys(("case", "uracil", "ambiguous"), "unknown")


def spell(text: str, k: int = 6) -> list[str]:
    """The rule, letter by letter."""
    tokens, place = [], 0
    while place < len(text):
        piece = text[place : place + k]
        whole = len(piece) == k and "N" not in piece
        tokens.append(piece if whole else text[place])
        place += len(tokens[-1])
    return tokens


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> EsmTokenizer:
    """transformers' tokenizer with the published v2 vocabulary and settings."""
    folder = tmp_path_factory.mktemp("original")
    (folder / "vocab.txt").write_text("\n".join(list_kmer_vocabulary()))
    settings = {"tokenizer_class": "EsmTokenizer", "eos_token": None, "model_max_length": 2048}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return EsmTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(
    "text,tokens",
    [
        ("", []),
        ("ACGTGTACNTGCACGGANCGACTAGTCTGA", ["ACGTGT", "A", "C", "N", "TGCACG", "G", "A", "N", "CGACTA", "GTCTGA"]),
        ("ACGTG", list("ACGTG")),
        ("NNACGTAC", ["N", "N", "ACGTAC"]),
        ("ACGTACN", ["ACGTAC", "N"]),
    ],
)
def test_rule(text, tokens):
    assert build_kmer_tokenizer().tokenize(text) == tokens


@settings(max_examples=60, deadline=None)
@given(st.text("ACGTN", max_size=80), st.sampled_from([2, 3, 6]))
def test_every_text_of_bases_follows_the_rule(text, k):
    tokenizer = build_kmer_tokenizer(k)
    assert tokenizer.tokenize(text) == spell(text, k)
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


@settings(max_examples=100, deadline=None)
@given(text=st.text("ACGTNacgtURYn \n<mask>-9é", max_size=60))
def test_strict_ids_are_the_originals_on_any_text(text, original):
    ours = build_kmer_tokenizer(**STRICT)(text)["input_ids"]
    assert ours == original(text)["input_ids"]


@pytest.mark.parametrize(
    "k,layout,token,index",
    [
        (6, "v1", "ATTCCG", 367),
        (6, "v2", "ATTCCG", 369),
        (3, "v2", "AAA", 6),
        (3, "v2", "GGG", 69),
        (6, "v1", "N", 4104),
    ],
)
def test_ids(k, layout, token, index):
    assert build_kmer_tokenizer(k, layout).convert_tokens_to_ids(token) == index


@pytest.mark.parametrize("k,layout,rows", [(6, "v1", 4105), (6, "v2", 4107), (3, "v2", 75)])
def test_no_id_is_beyond_the_models_embedding(k, layout, rows):
    assert len(build_kmer_tokenizer(k, layout)) == len(set(list_kmer_vocabulary(k, layout))) == rows


def test_policies():
    text = "acgtguRYacgtgt"
    assert build_kmer_tokenizer().tokenize(text) == ["ACGTGT", "N", "N", "ACGTGT"]
    assert build_kmer_tokenizer(**STRICT)("ACGTGTacgRACGTGT")["input_ids"] == [3, 739, 0, 739]
    assert build_kmer_tokenizer(uracil="unknown")("acuacg")["input_ids"] == [3, 4102, 4104, 0, 4102, 4104, 4105]


def test_special_tokens_mask_is_as_long_as_the_ids(original):
    ours = build_kmer_tokenizer()("ACGTGTAC", return_special_tokens_mask=True)
    assert ours["special_tokens_mask"] == [1, 0, 0, 0]
    theirs = original("ACGTGTAC", return_special_tokens_mask=True)
    assert len(theirs["special_tokens_mask"]) == len(theirs["input_ids"]) + 1  # the reason for a tokenizer of ours


def test_masking_for_pre_training():
    torch.manual_seed(0)
    tokenizer = build_kmer_tokenizer()
    rows = [tokenizer("ACGTGT" * count, return_special_tokens_mask=True) for count in (200, 90)]
    batch = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)(rows)
    chosen = batch["labels"] != -100
    assert not chosen[:, 0].any() and not (chosen & (batch["attention_mask"] == 0)).any()
    assert 0.10 < chosen.sum() / batch["attention_mask"].sum() < 0.20
    assert (batch["labels"][chosen] == 739).all()


def test_pair_is_two_sequences_each_with_cls():
    ids = build_kmer_tokenizer()("ACGTGT", "NACGTGT", return_special_tokens_mask=True)
    assert ids["input_ids"] == [3, 739, 3, 4106, 739]
    assert ids["special_tokens_mask"] == [1, 0, 1, 0, 0]
    assert "token_type_ids" not in ids


def test_offsets_are_bases():
    encoded = build_kmer_tokenizer()("acgtgtac\nNTT<mask>", return_offsets_mapping=True)
    assert encoded["offset_mapping"] == [(0, 0), (0, 6), (6, 7), (7, 8), (9, 10), (10, 11), (11, 12), (12, 18)]


def test_truncation_keeps_the_left_and_padding_goes_right():
    tokenizer = build_kmer_tokenizer(model_max_length=3)
    batch = tokenizer(["ACGTGTNN", "N"], truncation=True, padding="max_length")
    assert batch["input_ids"] == [[3, 739, 4106], [3, 4106, 1]] and batch["attention_mask"] == [[1, 1, 1], [1, 1, 0]]


@pytest.mark.parametrize("policies", [{}, STRICT], ids=["default", "strict"])
def test_saved_folder_needs_no_code(policies, tmp_path):
    tokenizer = build_kmer_tokenizer(3, **policies)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert type(loaded) is TokenizersBackend and loaded.model_max_length == 2048
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]
    text = "acgTGCANuU<mask>RYXX ACG"
    expected = tokenizer(text)["input_ids"]
    assert loaded(text)["input_ids"] == expected
    assert Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode(text).ids == expected
    for kind in ("unk", "pad", "mask", "cls", "eos", "bos", "sep"):
        assert getattr(loaded, f"{kind}_token") == getattr(tokenizer, f"{kind}_token")


@pytest.mark.parametrize("k,layout", [(6, "v1"), (6, "v2"), (3, "v2")])
def test_published_vocabulary(k, layout, tmp_path):
    tail = ["<eos>", "<bos>"] if layout == "v1" else []
    (tmp_path / "vocab.txt").write_text("\n".join([*list_kmer_vocabulary(k, layout), *tail]))
    ours = load_kmer_tokenizer(tmp_path)
    assert ours.get_vocab() == build_kmer_tokenizer(k, layout).get_vocab()
    assert ours.model_max_length == (1000 if layout == "v1" else 2048)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 1024}))
    assert load_kmer_tokenizer(tmp_path).model_max_length == 1024


@pytest.mark.parametrize("text", ["<cls>\n<pad>\nA\nC\nG\nT", "<unk>\n<pad>\n<mask>\n<cls>\nAAA\nAAC", ""])
def test_other_vocabularies_are_refused(text, tmp_path):
    (tmp_path / "vocab.txt").write_text(text)
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path}: vocab.txt is not that of a Nucleotide Transformer")):
        load_kmer_tokenizer(tmp_path)


def test_folder_without_vocabulary(tmp_path):
    with pytest.raises(OSError, match=r"vocab\.txt"):
        load_kmer_tokenizer(tmp_path)


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"k": 0}, "k=0: give 1 to 8"),
        ({"k": 9}, "k=9: give 1 to 8"),
        ({"layout": "v3"}, "layout='v3'"),
        ({"case": "upper"}, "case='upper'"),
        ({"model_max_length": 0}, "model_max_length=0"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_kmer_tokenizer(**arguments)
