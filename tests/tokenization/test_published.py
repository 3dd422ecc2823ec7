"""Files beside a checkpoint as people have them: saved by transformers, with other line ends, with odd values."""

import json
from itertools import product

import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import AutoTokenizer, BertTokenizer

from gengram.errors import InputError
from gengram.loading import load_tokenizer
from gengram.loading.tokenizers import check_tokenizer, require_tokenizer

BERT_NAMES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
KMERS = ["".join(each) for each in product("ATCG", repeat=3)]
OVERLAPPING = [*BERT_NAMES, *KMERS]
ESM = ["<unk>", "<pad>", "<mask>", "<cls>", *KMERS, *"ATCGN", "<eos>", "<bos>"]
TEXT = "ACGTACGTTGCAGGNACC"


def spell_overlapping(text: str, vocabulary: list[str], k: int) -> list[int]:
    kmers = [text[at : at + k] for at in range(len(text) - k + 1)]
    return [2, *(vocabulary.index(kmer) if kmer in vocabulary else 1 for kmer in kmers), 3]


@pytest.mark.parametrize("vocabulary", [OVERLAPPING, [*BERT_NAMES, *"ATCG"], [*BERT_NAMES, *"ACGTN"]])
@pytest.mark.parametrize("saved", [False, True])
def test_a_vocabulary_of_bert_alone_and_as_transformers_saves_it(vocabulary, saved, tmp_path):
    """BertTokenizer would read a whole sequence as one unknown word, also from the tokenizer.json that it writes."""
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary))
    if saved:
        made = BertTokenizer.from_pretrained(tmp_path, do_lower_case=False)
        (tmp_path / "vocab.txt").unlink()
        made.save_pretrained(tmp_path)
        assert not (tmp_path / "vocab.txt").exists() and made(TEXT)["input_ids"] == [2, 1, 3]
    tokenizer = require_tokenizer(tmp_path)
    check_tokenizer(tokenizer, tmp_path)
    expected = spell_overlapping(TEXT, vocabulary, len(vocabulary[5]))
    assert tokenizer(TEXT)["input_ids"] == tokenizer(TEXT.lower())["input_ids"] == expected
    tokenizer.save_pretrained(tmp_path / "again")
    for read in (load_tokenizer, AutoTokenizer.from_pretrained):
        assert read(tmp_path / "again")(TEXT.lower())["input_ids"] == expected


@pytest.mark.parametrize(
    ("before", "between", "behind"), [("", "\r\n", "\r\n"), ("\ufeff", "\n", ""), ("", "\n", "\n\n")]
)
def test_line_ends_and_marks(before, between, behind, tmp_path):
    (tmp_path / "vocab.txt").write_bytes((before + between.join(OVERLAPPING) + behind).encode())
    assert load_tokenizer(tmp_path)(TEXT)["input_ids"] == spell_overlapping(TEXT, OVERLAPPING, 3)


@pytest.mark.parametrize("config", [None, "esm", "bert", "gpt2"])
@pytest.mark.parametrize("eos", [None, "<eos>", {"content": "<eos>"}])
def test_the_vocabulary_of_esm_needs_no_class(config, eos, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(ESM))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": eos}))
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": config}))
    tokens = ["<cls>", "ACG", "TAC", "GTT", "GCA", "G", "G", "N", "ACC", *(["<eos>"] if eos else [])]
    assert load_tokenizer(tmp_path)(TEXT)["input_ids"] == [ESM.index(token) for token in tokens]


def test_vocabulary_and_merges_without_a_tokenizer_file(tmp_path):
    """As GPT-2 was published first; soft-masked bases and RNA are the same sequence."""
    made = Tokenizer(BPE())
    made.pre_tokenizer = ByteLevel(add_prefix_space=False)
    names = {"special_tokens": ["<|endoftext|>"], "initial_alphabet": ByteLevel.alphabet(), "show_progress": False}
    made.train_from_iterator([TEXT * 9, "GGCATTACAGC" * 9], BpeTrainer(vocab_size=300, **names))
    made.model.save(str(tmp_path))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer", "model_max_length": 64}')
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    tokenizer = require_tokenizer(tmp_path)
    tokenizer.save_pretrained(tmp_path / "again")
    expected = made.encode(TEXT).ids
    assert tokenizer.model_max_length == 64 and tokenizer.eos_token == "<|endoftext|>"
    for one in (tokenizer, load_tokenizer(tmp_path / "again"), AutoTokenizer.from_pretrained(tmp_path / "again")):
        for text in (TEXT, TEXT.lower(), TEXT.replace("T", "U")):
            assert one(text)["input_ids"] == expected


@pytest.mark.parametrize("shift", ["2", 0, 4, 1.5, True])
def test_a_shift_is_a_number_of_bases(shift, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(OVERLAPPING))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"shift": shift}))
    with pytest.raises(InputError, match=f"'shift' is {shift!r}: its k-mers begin 1 to 3 bases apart"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("length", [0, -3, "512"])
def test_a_length_is_a_number_of_tokens(length, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(OVERLAPPING))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"max_len": length}))
    with pytest.raises(InputError, match=f"model_max_length={length!r} is no number of tokens"):
        require_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer_config.json", "{", "cannot be read as JSON"),
        ("tokenizer_config.json", "[]", "a JSON object is expected here"),
        ("config.json", "[1]", "a JSON object is expected here"),
        ("tokenizer.json", "[]", "the tokenizers library cannot read it"),
        ("tokenizer.json", '{"a": 1}', "the tokenizers library cannot read it"),
    ],
)
def test_a_file_that_is_none_is_named(name, content, message, tmp_path):
    if name != "tokenizer.json":
        (tmp_path / "vocab.txt").write_text("\n".join(OVERLAPPING))
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=rf"{name}: {message}"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("vocabulary", [["A", "B"], [*OVERLAPPING, "AAA"], [*BERT_NAMES, *KMERS[:-1]], []])
def test_a_vocabulary_that_nobody_knows_is_told(vocabulary, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary))
    with pytest.raises(InputError, match=r"the vocabulary in vocab\.txt is none that is known here\. Save one with"):
        load_tokenizer(tmp_path)


def test_a_class_that_transformers_only_names(tmp_path):
    """HyenaDNA's tokenizer is code, and its class's name stands for a part of another model in transformers."""
    code = {"tokenizer_class": "CharacterTokenizer", "auto_map": {"AutoTokenizer": ["own.CharacterTokenizer", None]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(code))
    with pytest.raises(InputError, match=r"code of its own \(own\.CharacterTokenizer\), which is never run"):
        load_tokenizer(tmp_path)
