"""DNA models of other groups, in the form in which they are published: through embed, fine-tuning and prediction.

A form is a folder with the published kind of config.json (fields, class, code that it names) and tokenizer files, and a
small model of that architecture with random weights. Ids are compared with `tokenizers` itself, or with the published
rule written as a loop.
"""

import json
import re
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.special import softmax
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Metaspace, Whitespace
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
)

import gengram
from gengram import GengramConfig, GengramForCausalLM
from gengram.errors import InputError
from gengram.loading import load_config, load_tokenizer
from gengram.loading.models import TASKS
from gengram.pipelines.command import embed, predict
from gengram.registration import FAMILIES
from gengram.training.command import finetune

TOLERANCE = 1e-5
BERT_NAMES = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
ENCODER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
DECODER = ENCODER | {"num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 256}
FAST = {f"{kind}_token": f"[{kind.upper()}]" for kind in ("unk", "cls", "sep", "pad", "mask")}


def list_kmers(k: int, letters: str = "ATCG") -> list[str]:
    return ["".join(each) for each in product(letters, repeat=k)]


def train_bpe(names: list[str], before, template: bool) -> Tokenizer:
    """A BPE of DNA, as `tokenizers` trains it."""
    random = np.random.default_rng(0)
    tokenizer = Tokenizer(BPE(unk_token=None if isinstance(before, ByteLevel) else names[0]))
    tokenizer.pre_tokenizer = before
    alphabet = ByteLevel.alphabet() if isinstance(before, ByteLevel) else []
    size = len(alphabet) + 100
    trainer = BpeTrainer(vocab_size=size, special_tokens=names, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["".join(random.choice(list("ACGT"), 400)) for _ in range(40)], trainer)
    if template:
        around = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
        tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=around)
    return tokenizer


class Form(NamedTuple):
    """What a repository has beside its weights: config.json, tokenizer_config.json, and a vocab.txt or a tokenizer."""

    config: dict[str, Any]
    settings: dict[str, Any]
    vocabulary: list[str] | None = None
    tokenizer: Tokenizer | None = None


def name_code(module: str, *names: str) -> dict[str, Any]:
    return {"auto_map": {f"AutoModel{name}": f"{module}.Own{name}" for name in names}}


GENERATOR = ["<oov>", "<s>", "</s>", "<pad>", "<mask>", "<bog>", "<+>", "<cds>", *list_kmers(3)]
ESM_NAMES = ["<unk>", "<pad>", "<mask>", "<cls>"]
FORMS = {
    "DNABERT": Form(
        {"model_type": "bert", "architectures": ["BertForMaskedLM"], "max_position_embeddings": 512, "num_rnn_layer": 1}
        | {"split": 10, "output_past": True, "eos_token_ids": 0, "pad_token_id": 0, "bos_token_id": 0}
        | name_code("dnabert_layer", "", "ForMaskedLM", "ForSequenceClassification")
        | ENCODER,
        {"do_lower_case": False, "max_len": 512},
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *list_kmers(3)],
    ),
    "GROVER": Form(
        {"model_type": "bert", "architectures": ["BertForMaskedLM"], "max_position_embeddings": 512} | ENCODER,
        FAST | {"tokenizer_class": "BertTokenizer", "model_max_length": 512},
        tokenizer=train_bpe(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], Whitespace(), template=True),
    ),
    "Plant DNABERT 6mer": Form(
        {"model_type": "bert", "architectures": ["BertForMaskedLM"], "max_position_embeddings": 512} | ENCODER,
        {"tokenizer_class": "EsmTokenizer", "eos_token": None, "model_max_length": 512},
        [*ESM_NAMES, *list_kmers(3), *"ATCGN", "<eos>", "<bos>"],
    ),
    "Plant DNABERT single base": Form(
        {"model_type": "bert", "architectures": ["BertForMaskedLM"], "max_position_embeddings": 512} | ENCODER,
        {"tokenizer_class": "EsmTokenizer", "eos_token": None, "model_max_length": 512},
        [*ESM_NAMES, *"ATCGN", "<eos>", "<bos>"],
    ),
    "ModernBERT-DNA": Form(
        {"model_type": "modernbert", "architectures": ["ModernBertForMaskedLM"], "max_position_embeddings": 512}
        | {"pad_token_id": 3, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
        | ENCODER,
        FAST | {"tokenizer_class": "PreTrainedTokenizerFast"},
        tokenizer=train_bpe(BERT_NAMES, Whitespace(), template=True),
    ),
    "Plant DNAGPT BPE": Form(
        {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 32, "n_head": 4, "n_layer": 2}
        | {"n_positions": 256, "bos_token_id": 0, "eos_token_id": 0},
        {f"{kind}_token": "<|endoftext|>" for kind in ("bos", "eos", "unk")} | {"tokenizer_class": "GPT2Tokenizer"},
        tokenizer=train_bpe(["<|endoftext|>"], ByteLevel(add_prefix_space=False), template=False),
    ),
    "Plant DNAGPT 6mer": Form(
        {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 32, "n_head": 4, "n_layer": 2}
        | {"n_positions": 256, "bos_token_id": 70, "eos_token_id": 73},
        {"tokenizer_class": "EsmTokenizer", "eos_token": "<eos>", "model_max_length": 256},
        [*ESM_NAMES, *list_kmers(3), *"ATCGN", "<eos>", "<bos>"],
    ),
    "Plant DNAGemma 6mer": Form(
        # The configuration's padding is the tokenizer's unknown token; the head would read the padding.
        {"model_type": "gemma", "architectures": ["GemmaForCausalLM"], "head_dim": 8, "pad_token_id": 0}
        | DECODER
        | {"bos_token_id": 2, "eos_token_id": 1},
        {"tokenizer_class": "EsmTokenizer", "eos_token": None, "model_max_length": 256},
        [*ESM_NAMES, *list_kmers(3), *"ATCGN", "<eos>", "<bos>"],
    ),
    "GENERator": Form(
        {"model_type": "llama", "architectures": ["GENERatorForCausalLM"], "rope_theta": 500000.0}
        | name_code("modeling_generator", "ForCausalLM")
        | DECODER,
        {"tokenizer_class": "DNAKmerTokenizer", "k": 3, "add_bos_token": True, "add_eos_token": False}
        | {"auto_map": {"AutoTokenizer": ["tokenizer.DNAKmerTokenizer", None]}},
        [f"{token} {index}" for index, token in enumerate(GENERATOR)],
    ),
    "GenomeOcean": Form(
        {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": None, "is_causal": True}
        | name_code("modeling_mistral", "", "ForCausalLM", "ForSequenceClassification")
        | DECODER,
        FAST | {"tokenizer_class": "PreTrainedTokenizerFast"},
        tokenizer=train_bpe(BERT_NAMES, Whitespace(), template=True),
    ),
    "Mistral-DNA": Form(
        {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_local_experts": 2}
        | {"num_experts_per_tok": 1, "pad_token_id": 3}
        | DECODER,
        FAST | {"tokenizer_class": "PreTrainedTokenizerFast"},
        tokenizer=train_bpe(BERT_NAMES, Whitespace(), template=True),
    ),
    "Llama with a tokenizer of words": Form(
        {"model_type": "llama", "architectures": ["LlamaForCausalLM"]} | DECODER,
        {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
        tokenizer=train_bpe(["<unk>", "<s>", "</s>"], Metaspace(prepend_scheme="never"), template=False),
    ),
}


@pytest.fixture(params=FORMS, scope="module")
def published(request, tmp_path_factory) -> tuple[str, Path]:
    """The name of a form and its folder."""
    folder = tmp_path_factory.mktemp("published")
    write_form(FORMS[request.param], folder)
    return request.param, folder


def write_form(form: Form, folder: Path) -> None:
    if form.tokenizer is not None:
        form.tokenizer.save(str(folder / "tokenizer.json"))
        size = form.tokenizer.get_vocab_size()
    else:
        (folder / "vocab.txt").write_text("\n".join(form.vocabulary) + "\n")
        size = len(form.vocabulary)
    (folder / "tokenizer_config.json").write_text(json.dumps(form.settings))
    fields = {"vocab_size": size, **form.config}
    stock = {name: value for name, value in fields.items() if name not in ("auto_map", "architectures")}
    torch.manual_seed(0)
    decoder = str(form.config["architectures"][0]).endswith(("ForCausalLM", "LMHeadModel"))
    auto_class = AutoModelForCausalLM if decoder else AutoModelForMaskedLM
    model = auto_class.from_config(AutoConfig.for_model(**stock))
    for name, weight in model.named_parameters():  # as trained ones have it, nothing is zero or one
        if weight.dim() == 1:
            weight.data += 0.1 * torch.randn_like(weight)
        elif "embed" in name or "wte" in name:
            weight.data = torch.randn_like(weight)
    model.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(fields))


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    """Eight labelled sequences of different length, each a multiple of three."""
    random = np.random.default_rng(0)
    rows = ["".join(random.choice(list("ACGT"), 60 + 15 * (number % 4))) for number in range(8)]
    file = tmp_path_factory.mktemp("table") / "rows.csv"
    pd.DataFrame({"sequence": rows, "label": ["a", "b"] * 4}).to_csv(file, index=False)
    return file


def spell(form: Form, text: str) -> list[int]:
    """The ids of upper-case DNA by the published rule."""
    if form.tokenizer is not None:
        return form.tokenizer.encode(text).ids
    vocabulary = [line.split()[0] for line in form.vocabulary]
    k = max(len(token) for token in vocabulary if set(token) <= set("ACGT"))

    def look_up(token: str, unknown: str) -> int:
        return vocabulary.index(token if token in vocabulary else unknown)

    if "[CLS]" in vocabulary:
        body = [look_up(text[at : at + k], "[UNK]") for at in range(len(text) - k + 1)]
        return [vocabulary.index("[CLS]"), *body, vocabulary.index("[SEP]")]
    if "<oov>" in vocabulary:
        text = text[len(text) % k :] if len(text) > k else text
        return [1, *(look_up(text[at : at + k], "<oov>") for at in range(0, len(text), k))]
    tokens, place = [], 0
    while place < len(text):
        whole = text[place : place + k]
        tokens.append(whole if len(whole) == k and "N" not in whole else text[place])
        place += len(tokens[-1])
    behind = ["<eos>"] if form.settings["eos_token"] else []
    return [vocabulary.index(token) for token in ["<cls>", *tokens, *behind]]


def test_ids_are_the_published_ones(published):
    name, folder = published
    tokenizer = load_tokenizer(folder)
    random = np.random.default_rng(1)
    for length in (1, 2, 3, 4, 5, 17, 60):
        for letters in ("ACGT", "ACGTN"):
            text = "".join(random.choice(list(letters), length))
            assert tokenizer(text)["input_ids"] == spell(FORMS[name], text), (name, text)


def test_lower_case_and_rna_are_read_as_upper_case_dna(published):
    _, folder = published
    tokenizer = load_tokenizer(folder)
    text = "ACGTTGCAAGGCCTTAGACTCATGTA" * 3
    expected = tokenizer(text)["input_ids"]
    assert tokenizer(text.lower())["input_ids"] == tokenizer(text.replace("T", "U"))["input_ids"] == expected


@torch.no_grad()
def read_states(folder: Path, table: Path, which: str) -> np.ndarray:
    """What the model itself makes of each sequence alone."""
    model, tokenizer = gengram.auto(folder), load_tokenizer(folder)
    model.eval()
    states = []
    for sequence in pd.read_csv(table)["sequence"]:
        hidden = model(**tokenizer(sequence, return_tensors="pt")).last_hidden_state[0]
        states.append((hidden.mean(0) if which == "mean" else hidden[-1]).numpy())
    return np.stack(states)


@pytest.mark.parametrize("pool", ["mean", "last"])
def test_embed(pool, published, table, tmp_path):
    _, folder = published
    out = tmp_path / "out.npz"
    options = ["--model", str(folder), "--out", str(out), "--dtype", "float32", "--pool", pool]
    assert embed([str(table), *options]) == 0
    expected = read_states(folder, table, pool)
    np.testing.assert_allclose(np.load(out)["embeddings"], expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())
    assert len(np.unique(expected, axis=0)) == len(expected)


def test_a_vector_for_each_base(published, table, tmp_path):
    _, folder = published
    out = tmp_path / "bases.npz"
    options = ["--model", str(folder), "--out", str(out), "--dtype", "float32", "--pool", "none", "--per_base"]
    assert embed([str(table), *options]) == 0
    found, lengths = np.load(out), pd.read_csv(table)["sequence"].str.len()
    assert np.diff(found["offsets"]).tolist() == lengths.tolist() and np.isfinite(found["embeddings"]).all()


def test_finetune_and_predict(published, table, tmp_path, capsys):
    name, folder = published
    argv = ["--train_file", table, "--model_name_or_path", folder, "--output_dir", tmp_path / "run", "--max_steps", 2]
    argv += ["--validation_fraction", 0, "--report_to", "none", "--learning_rate", 1e-2]
    assert finetune(list(map(str, argv))) == 0, capsys.readouterr().err
    trained = tmp_path / "run/seed-0"
    fields = json.loads((trained / "config.json").read_text())
    tokenizer = load_tokenizer(trained)
    assert "auto_map" not in fields and fields["pad_token_id"] == tokenizer.pad_token_id
    out = tmp_path / "out.parquet"
    assert predict([str(tmp_path / "run"), str(table), "--out", str(out)]) == 0
    model = gengram.auto(trained, "sequence_classification").eval()
    sequences = pd.read_csv(table)["sequence"]
    with torch.no_grad():
        logits = [model(**tokenizer(each, return_tensors="pt")).logits[0].float().numpy() for each in sequences]
    found = pd.read_parquet(out)[["probability_a", "probability_b"]].to_numpy()
    np.testing.assert_allclose(found, softmax(np.stack(logits), axis=1), rtol=0, atol=TOLERANCE)
    text = sequences[0] + "N" + sequences[1][:2]
    assert tokenizer(text)["input_ids"] == spell(FORMS[name], text)


@pytest.mark.parametrize("published", ["DNABERT", "Plant DNAGPT BPE", "GENERator", "Mistral-DNA"], indirect=True)
def test_adapters_find_their_layers(published, table, tmp_path, capsys):
    _, folder = published
    argv = ["--train_file", table, "--model_name_or_path", folder, "--output_dir", tmp_path / "run", "--max_steps", 1]
    argv += ["--validation_fraction", 0, "--report_to", "none", "--peft", "lora"]
    assert finetune(list(map(str, argv))) == 0, capsys.readouterr().err
    assert predict([str(tmp_path / "run"), str(table), "--out", str(tmp_path / "out.parquet")]) == 0


def test_labels_of_bases_need_a_token_a_base(published, tmp_path, capsys):
    name, folder = published
    pd.DataFrame({"sequence": ["ACGTTGCAACGT"] * 4, "label": ["010101010101"] * 4}).to_csv(tmp_path / "t.csv")
    argv = ["--train_file", tmp_path / "t.csv", "--model_name_or_path", folder, "--output_dir", tmp_path / "run"]
    argv += ["--max_steps", 1, "--validation_fraction", 0, "--report_to", "none", "--problem", "token"]
    code = finetune(list(map(str, argv)))
    told = capsys.readouterr().err
    if name.endswith("single base"):
        assert code == 0, told
    else:
        assert code == 1 and "the tokenizer has longer tokens" in told


def test_pretraining_is_the_task_of_the_head(published):
    name, folder = published
    encoder = FORMS[name].config["model_type"] in ("bert", "modernbert")
    expected = gengram.auto(folder, "masked_lm" if encoder else "causal_lm")
    assert type(gengram.auto(folder, "pretraining")) is type(expected)


# What is refused.


def test_a_model_whose_code_computes_something_else(tmp_path, table, capsys):
    """DNABERT-2: model_type bert, and weights that no BERT has."""
    write_form(FORMS["GROVER"], tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    code = name_code("bert_layers", "", "ForMaskedLM", "ForSequenceClassification")
    (tmp_path / "config.json").write_text(json.dumps(fields | code))
    weights = load_file(tmp_path / "model.safetensors")
    for layer in range(2):
        part = f"bert.encoder.layer.{layer}.attention.self"
        for kind in ("weight", "bias"):
            three = [weights.pop(f"{part}.{name}.{kind}") for name in ("query", "key", "value")]
            weights[f"{part}.Wqkv.{kind}"] = torch.cat(three)
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    told = r"needs code of its own \(bert_layers\.Own\), which is never run"
    for task in ("base", "masked_lm"):
        with pytest.raises(InputError, match=told):
            gengram.auto(tmp_path, task)
    assert embed([str(table), "--model", str(tmp_path), "--out", str(tmp_path / "out.npz")]) == 1
    assert re.search(told, capsys.readouterr().err)
    argv = ["--train_file", str(table), "--model_name_or_path", str(tmp_path), "--output_dir", str(tmp_path / "run")]
    assert finetune([*argv, "--validation_fraction", "0", "--report_to", "none"]) == 1
    assert re.search(told, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"model_type": "caduceus", "auto_map": {"AutoModel": "kuleshov/x--modeling_caduceus.Caduceus"}},
            r"model_type is 'caduceus'.*needs code of its own \(modeling_caduceus\.Caduceus\), which is never run",
        ),
        ({"model_type": "made-up"}, "model_type is 'made-up'.*nothing here can load it"),
        (
            {"model_type": "megatron-bert", "position_embedding_type": "relative_key_query"},
            r"its positions are relative \(position_embedding_type 'relative_key_query'\)",
        ),
    ],
)
def test_architectures_that_nothing_here_has(fields, message, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(fields))
    with pytest.raises(InputError, match=message):
        load_config(tmp_path)


def test_a_tokenizer_that_is_code(tmp_path):
    code = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own_tokenizer.Own", None]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(code))
    (tmp_path / "vocab.txt").write_text("A\nC\nG\nT\n")
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(
        InputError, match=r"its tokenizer is code of its own \(own_tokenizer\.Own\), which is never run"
    ):
        load_tokenizer(tmp_path)


def test_a_token_without_a_letter(tmp_path, table):
    """GROVER's file has one more token than the model has embeddings, the empty one."""
    write_form(FORMS["GROVER"], tmp_path)
    written = json.loads((tmp_path / "tokenizer.json").read_text())
    written["model"]["vocab"][""] = len(written["model"]["vocab"])
    (tmp_path / "tokenizer.json").write_text(json.dumps(written))
    assert embed([str(table), "--model", str(tmp_path), "--out", str(tmp_path / "out.npz")]) == 0


def test_a_sequence_shorter_than_a_token(tmp_path, capsys):
    write_form(FORMS["DNABERT"], tmp_path)
    pd.DataFrame({"sequence": ["ACGT", "AC"]}).to_csv(tmp_path / "short.csv")
    assert embed([str(tmp_path / "short.csv"), "--model", str(tmp_path), "--out", str(tmp_path / "out.npz")]) == 1
    assert "data row 2: the sequence is shorter than a token of this model" in capsys.readouterr().err
    pd.DataFrame({"sequence": ["ACGT", "AC"] * 2, "label": ["a", "b"] * 2}).to_csv(tmp_path / "rows.csv")
    argv = ["--train_file", tmp_path / "rows.csv", "--model_name_or_path", tmp_path, "--output_dir", tmp_path / "run"]
    assert finetune([*map(str, argv), "--validation_fraction", "0", "--report_to", "none"]) == 1
    assert "data row 2: the sequence of 2 bp is shorter than a token of this model" in capsys.readouterr().err


def test_the_page_has_the_tasks_of_each_architecture():
    page = (Path(__file__).parents[2] / "docs/other_models.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\|(.*)\|$", page, re.MULTILINE)
    rows = [[cell.strip().strip("`") for cell in line.split("|")] for line in lines]
    head, *rows = [row for row in rows if len(row) == len(TASKS) + 1 and not set(row[0]) <= {"-"}]
    order = [head.index(task) for task in TASKS]
    listed = {model_type: row for row in rows for model_type in row[0].split(", ")}
    assert set(FAMILIES) <= set(listed)
    for model_type, row in listed.items():
        config_class = CONFIG_MAPPING[model_type]
        for task, place in zip(TASKS, order, strict=True):
            if task == "pretraining":
                language_models = [row[order[list(TASKS).index(name)]] for name in ("causal_lm", "masked_lm")]
                words = {"- yes": "masked", "yes yes": "masked", "yes -": "causal", "- -": "-"}
                expected = "as trained" if model_type == "gengram" else words[" ".join(language_models)]
            else:
                expected = "yes" if config_class in TASKS[task]._model_mapping else "-"
            assert row[place] == expected, (model_type, task)


def test_pretraining_follows_the_checkpoint(tmp_path):
    backbone = LlamaConfig(vocab_size=16, pad_token_id=0, **DECODER)
    config = GengramConfig(backbone_config=backbone, memory_layers=[0], memory_dim=8)
    GengramForCausalLM(config).save_pretrained(tmp_path)
    assert type(gengram.auto(tmp_path, "pretraining")) is GengramForCausalLM
    fields = json.loads((tmp_path / "config.json").read_text())
    del fields["architectures"]
    (tmp_path / "config.json").write_text(json.dumps(fields))
    assert type(gengram.auto(tmp_path, "pretraining")) is GengramForCausalLM
    with pytest.raises(InputError, match="there is no class of llama for masked_lm"):
        LlamaForCausalLM(backbone).save_pretrained(tmp_path)
        gengram.auto(tmp_path, "masked_lm")
