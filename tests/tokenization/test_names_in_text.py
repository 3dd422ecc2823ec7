"""Names of special tokens in a text: tokens where somebody writes them, letters where a file is read; of every kind."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conformance.tokenizer_kinds import BRACKETS, TOKENIZERS, train_published
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, FillMaskPipeline, TokenizersBackend, pipeline

from gengram.loading import load_tokenizer
from gengram.pipelines import BaseFillMaskPipeline
from gengram.pipelines.embed import tokenize_sequences
from gengram.tokenization import BpeEncoder, KmerEncoder, list_base_tokens


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    return {name: make(folder / str(number)) for number, (name, make) in enumerate(TOKENIZERS.items())}


@pytest.fixture(scope="module")
def folders(tokenizers, tmp_path_factory):
    """A language model and its tokenizer in a folder, of each kind."""
    torch.manual_seed(0)
    found = {}
    for name, tokenizer in tokenizers.items():
        sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
        found[name] = tmp_path_factory.mktemp("model")
        BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(found[name])
        tokenizer.save_pretrained(found[name])
    return found


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_mask_that_somebody_writes_is_a_mask(name, tokenizers, folders):
    text = f"ACGTACGT{tokenizers[name].mask_token}TTGCATGC"
    made = tokenizers[name](text)["input_ids"]
    assert made.count(tokenizers[name].mask_token_id) == 1
    for read in (AutoTokenizer.from_pretrained, TokenizersBackend.from_pretrained, load_tokenizer):
        assert read(folders[name])(text)["input_ids"] == made


@pytest.mark.parametrize("name", TOKENIZERS)
def test_names_in_data_are_letters(name, tokenizers, folders):
    """As the verbs read them; whatever is put around a sequence is there once."""
    for tokenizer in (tokenizers[name], AutoTokenizer.from_pretrained(folders[name])):
        around = tokenizer("")["input_ids"]
        harmless = {tokenizer.unk_token_id, *tokenizer.convert_tokens_to_ids(["N", "-"])}
        for special in tokenizer.all_special_tokens:
            if special in ("N", "-"):
                continue
            text = f"ACGTACGT{special}TTGCATGC"
            [tokens] = tokenize_sequences(tokenizer, [text])
            inner = [index for index in tokens.ids.tolist() if index in tokenizer.all_special_ids]
            assert [index for index in inner if index not in harmless] == around, (special, tokens.ids)
            # A call does not change how the next one reads.
            assert tokenizer.mask_token_id in tokenizer(f"ACGT{tokenizer.mask_token}ACGT")["input_ids"]


@pytest.mark.parametrize("name", [name for name in TOKENIZERS if name.startswith(("kmer-v", "bpe"))])
def test_the_bulk_encoders_read_them_as_they_are_told(name, tokenizers):
    tokenizer = tokenizers[name]
    encoder = (KmerEncoder if name.startswith("kmer") else BpeEncoder)(tokenizer)
    texts = ["ACGT", f"ACGT{tokenizer.mask_token}ACGT", f"{tokenizer.cls_token}{tokenizer.pad_token}", "GATTACA"]
    for split in (None, True, False):
        given = {} if split is None else {"split_special_tokens": split}
        expected = [tokenizer(text, **given)["input_ids"] for text in texts]
        assert [ids.tolist() for ids in encoder(texts, **given).split()] == expected
        assert (tokenizer.mask_token_id in expected[1]) is not (split is True)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_fill_mask_works_as_it_comes(name, folders):
    fill = pipeline("fill-mask", model=str(folders[name]), device="cpu")
    assert type(fill) is BaseFillMaskPipeline
    text = f"ACGTACGT{fill.tokenizer.mask_token}TTGCATGC"
    proposed = fill(text, top_k=1000)
    assert {one["token"] for one in proposed} == set(
        fill.tokenizer.convert_tokens_to_ids(list_base_tokens(fill.tokenizer))
    )
    plain = FillMaskPipeline(model=fill.model, tokenizer=fill.tokenizer, device="cpu")
    assert plain(text, targets=list_base_tokens(fill.tokenizer), top_k=1000) == proposed
    assert len(plain(text, top_k=3)) == 3
    two = fill(f"{text}ACG{fill.tokenizer.mask_token}", top_k=2)
    assert [len(each) for each in two] == [2, 2]


def test_fill_mask_works_where_the_package_is_not_installed(folders, tmp_path):
    code = """
        import json, sys
        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] == "gengram":
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        sys.meta_path.insert(0, Blocker())
        from transformers import pipeline
        found = {}
        for name, folder in json.loads(sys.argv[1]).items():
            fill = pipeline("fill-mask", model=folder, device="cpu")
            assert type(fill).__module__ == "transformers.pipelines.fill_mask"
            found[name] = fill(f"ACGTACGT{fill.tokenizer.mask_token}TTGCATGC", top_k=2)
        print(json.dumps(found))
    """
    code = "\n".join(line.removeprefix(" " * 8) for line in code.splitlines())
    given = json.dumps({name: str(folder) for name, folder in folders.items()})
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, given], capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for name, folder in folders.items():
        here = FillMaskPipeline(
            model=BertForMaskedLM.from_pretrained(folder), tokenizer=AutoTokenizer.from_pretrained(folder), device="cpu"
        )
        expected = here(f"ACGTACGT{here.tokenizer.mask_token}TTGCATGC", top_k=2)
        assert [one["token"] for one in found[name]] == [one["token"] for one in expected]
        assert [one["score"] for one in found[name]] == pytest.approx([one["score"] for one in expected])


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_tokenizer_can_be_told_to_split_always(name, folders):
    tokenizer = load_tokenizer(folders[name], split_special_tokens=True)
    assert tokenizer.mask_token_id not in tokenizer(f"ACGT{tokenizer.mask_token}ACGT")["input_ids"]


def test_a_file_that_says_otherwise_is_filled_all_the_same(tmp_path):
    """Tokenizers that were saved as ones that split names, by whomever."""
    train_published(tmp_path, BRACKETS, split_special_tokens=True)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(tmp_path)
    assert tokenizer.mask_token_id not in tokenizer("ACGT[MASK]ACGT")["input_ids"]
    assert len(pipeline("fill-mask", model=str(tmp_path), device="cpu")("ACGT[MASK]ACGT", top_k=2)) == 2


def test_whoever_reads_files_says_that_names_are_letters():
    """Every call of a tokenizer in the rooms that read data; a constant of the file is no data."""
    root = Path(__file__).parents[2]
    silent = []
    for folder in ("modeling_gengram", "training", "benchmarks/builders", "model_cards"):
        for file in sorted((root / folder).rglob("*.py")):
            for call in ast.walk(ast.parse(file.read_text())):
                called = call.func if isinstance(call, ast.Call) else None
                name = getattr(called, "id", getattr(called, "attr", ""))
                if name != "tokenizer" or "split_special_tokens" in {keyword.arg for keyword in call.keywords}:
                    continue
                if not (isinstance(call.args[0], ast.Name) and call.args[0].id.strip("_").isupper()):
                    silent.append(f"{file.relative_to(root)}:{call.lineno}")
    assert silent == []
