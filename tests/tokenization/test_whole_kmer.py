"""GENERator's tokenizer: the published rule in plain Python, the remainder, and a folder that travels."""

import json
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer, TokenizersBackend

from gengram.errors import InputError
from gengram.loading import load_tokenizer
from gengram.loading.tokenizers import check_tokenizer, require_tokenizer
from gengram.tokenization import locate_tokens
from gengram.tokenization.whole_kmer import build_whole_kmer_tokenizer

NAMES = ["<oov>", "<s>", "</s>", "<pad>", "<mask>", "<bog>", "<+>", "<cds>", "<sp0>"]


def list_vocabulary(k: int) -> list[str]:
    return [*NAMES, *("".join(letters) for letters in product("ATCG", repeat=k))]


VOCABULARIES = {k: list_vocabulary(k) for k in (2, 3, 6)}
PUBLISHED = {k: build_whole_kmer_tokenizer(tokens, remainder="unknown") for k, tokens in VOCABULARIES.items()}
TRIMMED = {k: build_whole_kmer_tokenizer(tokens, add_eos=True) for k, tokens in VOCABULARIES.items()}


def spell(text: str, k: int) -> list[str]:
    """The published rule: k letters at a time, what remains of a run of letters, any other character."""
    tokens, place = [], 0
    while place < len(text):
        run = 0
        while place + run < len(text) and run < k and "A" <= text[place + run] <= "Z":
            run += 1
        tokens.append(text[place : place + max(run, 1)])
        place += len(tokens[-1])
    return tokens


def fold(text: str) -> str:
    return "".join("N" if letter in "RYKrykn" else letter.upper() for letter in text).replace("U", "T")


@settings(max_examples=120, deadline=None)
@given(st.text("ACGTacgtNnUuRY- ", max_size=40), st.sampled_from([2, 3, 6]))
def test_every_text_follows_the_rule(text, k):
    vocabulary = {token: index for index, token in enumerate(VOCABULARIES[k])}
    expected = [vocabulary.get(token, 0) for token in spell(fold(text), k)]
    assert PUBLISHED[k](text)["input_ids"] == [1, *expected]


@settings(max_examples=80, deadline=None)
@given(st.text("ACGTN", max_size=40), st.sampled_from([2, 3, 6]))
def test_a_remainder_is_left_out_in_front(text, k):
    whole = text[len(text) % k :] if len(text) > k else text
    vocabulary = {token: index for index, token in enumerate(VOCABULARIES[k])}
    tokens = spell(whole, k)
    assert TRIMMED[k](text)["input_ids"] == [1, *(vocabulary.get(token, 0) for token in tokens), 2]
    begin = len(text) - len(whole)
    places = [[begin + at, min(begin + at + k, len(text))] for at in range(0, len(whole), k)]
    assert locate_tokens(TRIMMED[k], text).tolist() == [[-1, -1], *places, [-1, -1]]


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize(
    ("settings", "front", "behind"),
    [({}, [1], [2]), ({"add_bos_token": True, "add_eos_token": False}, [1], []), ({"add_bos_token": False}, [], [2])],
)
def test_published_files(indexed, settings, front, behind, tmp_path, capsys):
    vocabulary = VOCABULARIES[3]
    lines = [f"{token} {index}" for index, token in enumerate(vocabulary)] if indexed else vocabulary
    (tmp_path / "vocab.txt").write_text("\n".join(lines))
    code = {"tokenizer_class": "DNAKmerTokenizer", "auto_map": {"AutoTokenizer": ["tokenizer.DNAKmerTokenizer", None]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**code, "k": 3, **settings}))
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    tokenizer = require_tokenizer(tmp_path)
    check_tokenizer(tokenizer, tmp_path)
    assert "the first bases are left out" in capsys.readouterr().err
    ids = [vocabulary.index(kmer) for kmer in ("ACG", "TTG")]
    assert tokenizer("gACGTTG")["input_ids"] == [*front, *ids, *behind]
    assert (tokenizer.unk_token, tokenizer.pad_token_id, tokenizer.bos_token_id) == ("<oov>", 3, 1)


def write_lines(folder, lines, **settings):
    (folder / "vocab.txt").write_text("\n".join(lines))
    code = {"tokenizer_class": "DNAKmerTokenizer", "auto_map": {"AutoTokenizer": ["tokenizer.DNAKmerTokenizer", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(code | settings))
    (folder / "config.json").write_text('{"model_type": "llama"}')


def test_the_ids_of_a_vocabulary_count_and_not_its_lines(tmp_path):
    lines = [f"{token} {index}" for index, token in enumerate(VOCABULARIES[2])]
    write_lines(tmp_path, lines[::-1])
    assert load_tokenizer(tmp_path).get_vocab() == {token: index for index, token in enumerate(VOCABULARIES[2])}


def test_ids_with_a_gap_are_no_vocabulary(tmp_path):
    lines = [f"{token} {index}" for index, token in enumerate(VOCABULARIES[2])]
    write_lines(tmp_path, [*lines[:-1], f"{VOCABULARIES[2][-1]} {len(lines)}"])
    with pytest.raises(InputError, match=r"code of its own \(tokenizer\.DNAKmerTokenizer\).* none that is known here"):
        load_tokenizer(tmp_path)


def test_what_is_added_is_true_or_false(tmp_path):
    write_lines(tmp_path, VOCABULARIES[2], add_bos_token="no")
    with pytest.raises(InputError, match=r"add_bos_token in tokenizer_config\.json is 'no': write true or false"):
        load_tokenizer(tmp_path)


def test_saved_folder_needs_no_code(tmp_path):
    TRIMMED[3].save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    text = "acgTGCANuUACGG"
    expected = TRIMMED[3](text)["input_ids"]
    assert Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode(text).ids == expected
    for loaded in (AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(tmp_path)):
        assert type(loaded) is TokenizersBackend and loaded(text)["input_ids"] == expected
    assert not (tmp_path / "vocab.txt").exists()


@pytest.mark.parametrize(
    ("tokens", "options", "message"),
    [
        (VOCABULARIES[2][1:], {}, "not that of GENERator"),
        ([*VOCABULARIES[2], "ACG"], {}, "not that of GENERator"),
        (VOCABULARIES[2], {"remainder": "drop_right"}, "remainder='drop_right'"),
        (VOCABULARIES[2], {"case": "upper"}, "case='upper'"),
    ],
)
def test_wrong_arguments(tokens, options, message):
    with pytest.raises(ValueError, match=message):
        build_whole_kmer_tokenizer(tokens, **options)
