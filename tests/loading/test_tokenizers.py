"""Does a tokenizer read DNA, and does it belong to the model? Asked by every verb before anything is computed."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import BertConfig, BertForMaskedLM, EsmTokenizer, TokenizersBackend

from gengram import GengramConfig, NTv3Config, NucleotideTransformerConfig
from gengram.errors import InputError
from gengram.loading.tokenizers import check_tokenizer, load_tokenizer, require_tokenizer
from gengram.pipelines.command import embed
from gengram.tokenization import build_kmer_tokenizer, build_ntv3_tokenizer, build_nucleotide_tokenizer
from gengram.training.command import finetune


def make(letters: str = "ACGTN", unknown: str | None = "[UNK]", **special: str) -> TokenizersBackend:
    """One token a character, of `letters`."""
    names = ["[PAD]", "[UNK]", "[MASK]", *letters]
    backend = Tokenizer(WordLevel({name: index for index, name in enumerate(names)}, unk_token="[UNK]"))
    backend.pre_tokenizer = Split("", "isolated")
    special = {"pad_token": "[PAD]", "unk_token": unknown, "mask_token": "[MASK]", **special}
    return TokenizersBackend(tokenizer_object=backend, **special)


@pytest.mark.parametrize(
    ("tokenizer", "config"),
    [
        (build_nucleotide_tokenizer(), BertConfig(vocab_size=16)),
        (build_nucleotide_tokenizer(template="cls_sep"), BertConfig(vocab_size=16)),
        (build_kmer_tokenizer(layout="v1"), NucleotideTransformerConfig(vocab_size=4105)),
        (build_kmer_tokenizer(), NucleotideTransformerConfig()),
        (build_kmer_tokenizer(3), NucleotideTransformerConfig(vocab_size=75, kmer_size=3)),
        (build_ntv3_tokenizer(), NTv3Config()),  # it pads with N, where the configuration says <pad>
        (make(), BertConfig(vocab_size=8)),
        (make("ACGTNacgtn"), BertConfig(vocab_size=99)),
    ],
    ids=["bases", "bases in [CLS] and [SEP]", "v1", "v2", "codons", "ntv3", "own", "both cases"],
)
def test_those_that_belong_together(tokenizer, config, capsys):
    check_tokenizer(tokenizer, "here", config)
    check_tokenizer(tokenizer, "here")
    told = capsys.readouterr().err
    assert told == "" or told.count("reads lower-case (soft-masked) bases as unknown") == 2


@pytest.mark.parametrize("case", ["fold", "unknown"])
def test_lower_case_that_is_not_read_is_told(case, capsys):
    check_tokenizer(build_nucleotide_tokenizer(case=case), "here")
    told = capsys.readouterr().err
    assert ("here: the tokenizer there reads lower-case (soft-masked) bases as unknown" in told) == (case == "unknown")


@pytest.mark.parametrize("letters", ["", "acgt", "ACG", "MKVLA", "01234"])
def test_letters_that_are_no_dna(letters):
    with pytest.raises(InputError, match="here: the tokenizer there does not read DNA"):
        check_tokenizer(make(letters), "here")


def test_bases_that_are_one_token():
    tokenizer = make("ACGT")
    vocabulary = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary["model"]["vocab"]["T"] = vocabulary["model"]["vocab"]["A"]
    same = TokenizersBackend(
        tokenizer_object=Tokenizer.from_str(json.dumps(vocabulary)), pad_token="[PAD]", unk_token="[UNK]"
    )
    with pytest.raises(InputError, match="unknown to it or the same token"):
        check_tokenizer(same, "here")


def test_a_sequence_that_does_not_come_back():
    """Every base is known, but pairs are read as something else."""
    vocabulary = {"[UNK]": 0, **{base * 12: index for index, base in enumerate("ACGT", start=1)}}
    backend = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    with pytest.raises(InputError, match=r"ACGTTGCAAGGCCTTAGACTCATGTA comes back as '\[UNK\]'|comes back as"):
        check_tokenizer(TokenizersBackend(tokenizer_object=backend, unk_token="[UNK]"), "here")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (BertConfig(vocab_size=9), "the tokenizer has the id 15, but the model has 9 embeddings"),
        (
            BertConfig(vocab_size=16, pad_token_id=8),
            "pad_token_id is 8 in the model's configuration, .* 'A'; its own pad",
        ),
        (BertConfig(vocab_size=16, pad_token_id=3), r"pad_token_id is 3 .* '\[SEP\]'; its own pad token has the id 0"),
        (BertConfig(vocab_size=16, pad_token_id=4), r"pad_token_id is 4 .* '\[MASK\]'"),
        (
            NucleotideTransformerConfig(vocab_size=16, pad_token_id=0, mask_token_id=5, cls_token_id=2),
            "mask_token_id is 5 .* 'C'; its own mask token has the id 4",
        ),
        (
            GengramConfig(backbone_config=BertConfig(vocab_size=16, pad_token_id=7)),
            "pad_token_id is 7 .* 'T'",
        ),
        (
            GengramConfig(
                backbone_config=BertConfig(vocab_size=16), memory_layers=[0], base_token_ids=[6, 7, 8, 9, 10]
            ),
            r"the model's memory reads the ids \[6, 7, 8, 9\] as A, C, G and T, .* \[8, 5, 6, 7\]",
        ),
    ],
    ids=["id", "pad is a base", "pad is read", "pad is mask", "mask", "backbone", "memory"],
)
def test_those_that_do_not_belong_together(config, message):
    with pytest.raises(InputError, match=f"here: {message}"):
        check_tokenizer(build_nucleotide_tokenizer(template="cls_sep"), "here", config)


def test_an_unknown_letter_has_a_token():
    """The library raises where the token for unknown letters is none: in the middle of a file."""
    backend = Tokenizer(WordLevel({"[PAD]": 0, "A": 1, "C": 2, "G": 3, "T": 4}, unk_token="[UNK]"))
    backend.pre_tokenizer = Split("", "isolated")
    with pytest.raises(InputError, match="here: the tokenizer there stops at a letter that it does not know"):
        check_tokenizer(TokenizersBackend(tokenizer_object=backend, pad_token="[PAD]", unk_token=None), "here")


def test_what_is_put_around_a_sequence_has_an_embedding():
    tokenizer = build_nucleotide_tokenizer(template="cls_sep")
    saved = json.loads(tokenizer.backend_tokenizer.to_str())
    saved["post_processor"]["special_tokens"]["[CLS]"]["ids"] = [99999]
    other = TokenizersBackend(tokenizer_object=Tokenizer.from_str(json.dumps(saved)), pad_token="[PAD]")
    with pytest.raises(InputError, match="has the id 99999, but the model has 16 embeddings"):
        check_tokenizer(other, "here", BertConfig(vocab_size=16))


@pytest.mark.parametrize(
    ("field", "value"),
    [("model_input_names", []), ("model_input_names", "input_ids"), ("model_max_length", True)],
)
def test_settings_that_no_verb_can_use(field, value, tmp_path):
    build_nucleotide_tokenizer().save_pretrained(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {field: value}))
    with pytest.raises(InputError, match=f"the tokenizer's {field}="):
        require_tokenizer(tmp_path)


@pytest.mark.parametrize(("length", "read"), [(float("inf"), int(1e30)), (1e30, int(1e30)), (512.0, 512)])
def test_a_longest_input_is_a_whole_number(length, read, tmp_path):
    build_nucleotide_tokenizer().save_pretrained(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_max_length": length}))
    tokenizer = require_tokenizer(tmp_path)
    assert tokenizer.model_max_length == read and isinstance(tokenizer.model_max_length, int)


def test_a_folder_without_a_tokenizer(small, tmp_path):
    BertForMaskedLM(BertConfig(vocab_size=16, **small)).save_pretrained(tmp_path)
    for load in (load_tokenizer, require_tokenizer):
        with pytest.raises(InputError, match="there is no tokenizer in this folder"):
            load(tmp_path)


def test_a_slow_tokenizer_is_refused_by_name_and_replaced_where_it_is_known(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own/vocab.txt").write_text(
        "\n".join(["<cls>", "<pad>", "<eos>", "<unk>", *"ACDEFGHIKLMNPQRSTVWY", "<mask>"])
    )
    (tmp_path / "own/tokenizer_config.json").write_text('{"tokenizer_class": "EsmTokenizer"}')
    assert isinstance(load_tokenizer(tmp_path / "own"), EsmTokenizer)
    with pytest.raises(
        InputError, match=r"own: transformers reads this tokenizer with EsmTokenizer, in Python.*tokenizer\.json"
    ):
        require_tokenizer(tmp_path / "own")
    (tmp_path / "v2").mkdir()
    (tmp_path / "v2/vocab.txt").write_text(
        "\n".join(sorted(vocabulary := build_kmer_tokenizer().get_vocab(), key=vocabulary.get))
    )
    (tmp_path / "v2/tokenizer_config.json").write_text('{"tokenizer_class": "EsmTokenizer"}')
    assert require_tokenizer(tmp_path / "v2").is_fast


@pytest.mark.parametrize("verb", ["embed", "finetune"])
def test_verbs_ask_before_they_compute(verb, small, task, tmp_path, capsys):
    torch.manual_seed(0)
    folder, out = tmp_path / "model", tmp_path / "out.npz"
    BertForMaskedLM(BertConfig(vocab_size=16, pad_token_id=8, **small)).save_pretrained(folder)
    build_nucleotide_tokenizer(model_max_length=64).save_pretrained(folder)
    if verb == "embed":
        done = embed([task["train_file"], "--model", str(folder), "--out", str(out)])
    else:
        options = ["--model_name_or_path", str(folder), "--output_dir", str(tmp_path / "run"), "--report_to", "none"]
        done = finetune(["--train_file", task["train_file"], "--validation_fraction", "0", *options])
    assert done == 1 and f"{folder}: pad_token_id is 8" in capsys.readouterr().err
    assert not out.exists() and not Path(tmp_path / "run").exists()
