"""Overlapping k-mers: the rule of DNABERT and ProkBERT in plain Python, policies, offsets, a folder that travels."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from gengram.loading import load_tokenizer
from gengram.loading.tokenizers import check_tokenizer, require_tokenizer
from gengram.tokenization import assign_bases, locate_tokens
from gengram.tokenization.overlapping import (
    OverlappingKmerTokenizer,
    build_overlapping_tokenizer,
    list_overlapping_vocabulary,
)

STRICT = dict.fromkeys(("case", "uracil", "ambiguous"), "unknown")
MADE = {
    (k, stride): build_overlapping_tokenizer(list_overlapping_vocabulary(k), stride)
    for k, stride in [(1, 1), (3, 1), (3, 2), (4, 4), (6, 1), (6, 2)]
}


def spell(text: str, k: int, stride: int) -> list[str]:
    """The published rule, as both authors' code has it."""
    return [text[start : start + k] for start in range(0, len(text) - k + 1, stride)]


def fold(text: str) -> str:
    """What the default policies read."""
    text = text.upper().replace("U", "T")
    return "".join(letter if letter in "ACGT" else "N" for letter in text)


@settings(max_examples=150, deadline=None)
@given(st.text("ACGTacgtNnUuRYx- \n", max_size=40), st.sampled_from(list(MADE)))
def test_every_text_follows_the_rule(text, kind):
    k, stride = kind
    tokenizer, vocabulary = MADE[kind], MADE[kind].get_vocab()
    expected = [vocabulary.get(kmer, vocabulary["[UNK]"]) for kmer in spell(fold(text), k, stride)]
    assert tokenizer(text)["input_ids"] == [vocabulary["[CLS]"], *expected, vocabulary["[SEP]"]]
    places = range(0, len(text) - k + 1, stride)
    assert locate_tokens(tokenizer, text).tolist() == [[-1, -1], *([at, at + k] for at in places), [-1, -1]]


def test_the_policies():
    vocabulary = list_overlapping_vocabulary(2)
    strict = build_overlapping_tokenizer(vocabulary, **STRICT)
    assert strict.tokenize("ACgUCC") == ["AC", "[UNK]", "[UNK]", "[UNK]", "CC"]
    assert build_overlapping_tokenizer(vocabulary).tokenize("ACgUCC") == ["AC", "CG", "GT", "TC", "CC"]


def test_cut_sequences_keep_their_places():
    tokenizer = MADE[3, 1]
    parts = tokenizer(
        "ACGTACGTAC", truncation=True, max_length=5, stride=1, return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )  # fmt: skip
    assert [each[1:-1] for each in parts["offset_mapping"]][:2] == [[(0, 3), (1, 4), (2, 5)], [(2, 5), (3, 6), (4, 7)]]
    marked = tokenizer("ACG[MASK]ACG", return_offsets_mapping=True)
    assert marked["offset_mapping"] == [(0, 0), (0, 3), (3, 9), (9, 12), (0, 0)]
    pair = tokenizer("ACGT", "TTT", return_offsets_mapping=True)
    assert pair["token_type_ids"] == [0, 0, 0, 0, 1, 1] and pair["offset_mapping"][4] == (0, 3)


def test_a_base_is_in_the_token_around_it():
    intervals = locate_tokens(MADE[3, 1], "ACGTAC")
    assert assign_bases(intervals, 6).tolist() == [1, 1, 2, 3, 4, 4]
    assert assign_bases(locate_tokens(MADE[3, 2], "ACGTAC"), 6).tolist() == [1, 1, 1, 2, 2, -1]
    assert assign_bases(locate_tokens(MADE[4, 4], "ACGTAC"), 6).tolist() == [1, 1, 1, 1, -1, -1]


def test_saved_folder_needs_no_code(tmp_path):
    tokenizer = build_overlapping_tokenizer(list_overlapping_vocabulary(3), 2, model_max_length=512)
    tokenizer.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]
    text = "acgTGCANuUACGG"
    expected = tokenizer(text)["input_ids"]
    assert Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode(text).ids == expected
    plain, again = AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(tmp_path)
    assert plain(text)["input_ids"] == again(text)["input_ids"] == expected and again.model_max_length == 512
    assert type(again) is OverlappingKmerTokenizer
    np.testing.assert_array_equal(locate_tokens(again, text), locate_tokens(tokenizer, text))


@pytest.mark.parametrize(
    ("digits", "settings", "config", "stride"),
    [
        ("ATCG", {"do_lower_case": False, "max_len": 512}, {"model_type": "bert"}, 1),  # DNABERT
        ("ACGT", {"tokenizer_class": "LCATokenizer", "shift": 2, "kmer": 3}, {"model_type": "prokbert"}, 2),
        ("ACGT", {"auto_map": {"AutoTokenizer": ["tokenizer.LCATokenizer", None]}}, {"shift": 2}, 2),
    ],
)
def test_published_vocabularies(digits, settings, config, stride, tmp_path):
    vocabulary = list_overlapping_vocabulary(3, digits)
    (tmp_path / "vocab.txt").write_bytes("\r\n".join(vocabulary).encode())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "config.json").write_text(json.dumps(config))
    tokenizer = require_tokenizer(tmp_path)
    check_tokenizer(tokenizer, tmp_path)
    assert tokenizer.is_fast and tokenizer.model_max_length == settings.get("max_len", int(1e30))
    text = "ACGTTGCAAC"
    expected = [2, *(vocabulary.index(kmer) for kmer in spell(text, 3, stride)), 3]
    assert tokenizer(text)["input_ids"] == expected


def test_a_shift_that_no_file_gives_is_told(tmp_path, capsys):
    (tmp_path / "vocab.txt").write_text("\n".join(list_overlapping_vocabulary(3, "ACGT")))
    (tmp_path / "config.json").write_text('{"model_type": "megatron-bert"}')
    assert load_tokenizer(tmp_path).tokenize("ACGT") == ["ACG", "CGT"]
    assert "how far apart its k-mers begin" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("vocabulary", "stride", "message"),
    [
        (list_overlapping_vocabulary(2)[:-1], 1, "not that of overlapping k-mers"),
        ([*list_overlapping_vocabulary(2)[:-1], "GN"], 1, "not that of overlapping k-mers"),
        (list_overlapping_vocabulary(2)[1:], 1, "not that of overlapping k-mers"),
        (list_overlapping_vocabulary(2), 3, "stride=3: give 1 to 2"),
        (list_overlapping_vocabulary(2), 0, "stride=0: give 1 to 2"),
    ],
)
def test_wrong_arguments(vocabulary, stride, message):
    with pytest.raises(ValueError, match=message):
        build_overlapping_tokenizer(vocabulary, stride)


def test_the_time_of_offsets_grows_with_the_length_and_not_with_its_square():
    tokenizer = build_overlapping_tokenizer(list_overlapping_vocabulary(3))
    letters = "ACGTTGCA" * 25_000  # minutes, if each token looked at all others
    offsets = tokenizer(letters, return_offsets_mapping=True)["offset_mapping"]
    assert offsets[1:-1] == [(start, start + 3) for start in range(len(letters) - 2)]
