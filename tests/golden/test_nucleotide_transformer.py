"""Nucleotide Transformer, SegmentNT and their tokenizer against the original classes.

A case is a folder as in test_gengram.py, in the published layout: the keys of its config.json and the names of its
weights say what it is, and it loads by `from_pretrained`, as a user's checkpoint would. Vocabularies, tokenized
sequences and lists of the published checkpoints' weights are found by their form below the same folder.
"""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import PreTrainedModel

from gengram import (
    NucleotideTransformerConfig,
    NucleotideTransformerForMaskedLM,
    NucleotideTransformerForSequenceClassification,
    NucleotideTransformerForTokenClassification,
    SegmentNTConfig,
    SegmentNTForTokenClassification,
)
from gengram.tokenization import KmerEncoder, build_kmer_tokenizer, list_kmer_vocabulary

KEYS = {"position_embedding_type", "token_dropout", "mask_token_id", "max_position_embeddings"}
TOLERANCE = 5e-5  # what the reference differs by from itself in float64 is 1.5e-5

# Weight of a head -> class; the first that a file has.
HEADS = {
    "fc.weight": SegmentNTForTokenClassification,
    "lm_head.bias": NucleotideTransformerForMaskedLM,
    "classifier.dense.weight": NucleotideTransformerForSequenceClassification,
    "classifier.weight": NucleotideTransformerForTokenClassification,
}

# Published config.json: layers, width, heads, width of the MLP, vocabulary, max_position_embeddings, token dropout.
V1_500M = (24, 1280, 20, 5120, 4105, 1002, True)
V1_2B5 = (32, 2560, 20, 10240, 4105, 1002, True)
PUBLISHED = {
    "nucleotide-transformer-500m-human-ref": V1_500M,
    "nucleotide-transformer-500m-1000g": V1_500M,
    "nucleotide-transformer-2.5b-1000g": V1_2B5,
    "nucleotide-transformer-2.5b-multi-species": V1_2B5,
    "agro-nucleotide-transformer-1b": (40, 1500, 20, 5120, 4105, 1026, False),
    "nucleotide-transformer-v2-50m-multi-species": (12, 512, 16, 2048, 4107, 2050, False),
    "nucleotide-transformer-v2-100m-multi-species": (22, 512, 16, 2048, 4107, 2050, False),
    "nucleotide-transformer-v2-250m-multi-species": (24, 768, 16, 3072, 4107, 2050, False),
    "nucleotide-transformer-v2-500m-multi-species": (29, 1024, 16, 4096, 4107, 2050, False),
    "nucleotide-transformer-v2-50m-3mer-multi-species": (12, 512, 16, 2048, 75, 2050, False),
    "segment_nt": (29, 1024, 16, 4096, 4107, 2050, False),
}
# What published files have and no forward pass reads; the position table only where positions are rotary.
LEFT_OUT = {"contact head", "inv_freq", "position table"}
VOCABULARIES = {"v1": (6, "v1"), "v2": (6, "v2"), "codon": (3, "v2")}


def pytest_generate_tests(metafunc):
    root = metafunc.config.getoption("--golden-dir")
    root = Path(__file__).resolve().parents[3] / "shared" / "golden" if root is None else Path(root)
    if "case" in metafunc.fixturenames:
        cases = [case for case in metafunc.config.find_golden_cases(KEYS) if find_class(case.folder) is not None]
        metafunc.parametrize("case", [pytest.param(case, id=case.id) for case in cases])
    for fixture, name in (("tokenized", "tokenizer.jsonl"), ("batches", "batch.json")):
        if fixture in metafunc.fixturenames:
            files = sorted(root.rglob(name))
            metafunc.parametrize(
                fixture, [pytest.param(file, id=f"{file.parents[1].name}/{file.parent.name}") for file in files]
            )
    if "manifest" in metafunc.fixturenames:
        files = [file for file in sorted(root.rglob("*.json")) if file.stem in PUBLISHED]
        metafunc.parametrize("manifest", [pytest.param(file, id=f"nt/{file.stem}") for file in files])


def find_class(folder: Path) -> type[PreTrainedModel] | None:
    with safe_open(folder / "model.safetensors", "pt") as weights:
        names = set(weights.keys())
    if "esm.embeddings.word_embeddings.weight" not in names:
        return None
    return next((model_class for name, model_class in HEADS.items() if name in names), None)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_outputs(case, attention):
    model = find_class(case.folder).from_pretrained(case.folder, attn_implementation=attention).eval()
    inputs, reference = case.load("inputs"), case.load("outputs")
    compared = set()
    for prefix in {"", *(f"{name.split('.')[0]}." for name in inputs if "." in name)}:
        given = {
            name.removeprefix(prefix): value
            for name, value in inputs.items()
            if name.startswith(prefix) and "." not in name.removeprefix(prefix)
        }
        with torch.no_grad():
            outputs = model(**given, output_hidden_states=True, output_attentions=attention == "eager")
        ours = {
            "logits": outputs.logits,
            **{f"hidden_states.{layer}": states for layer, states in enumerate(outputs.hidden_states)},
            **{f"attentions.{layer}": weights for layer, weights in enumerate(outputs.attentions or ())},
        }
        if outputs.loss is not None and "loss" in reference:
            ours["loss"] = outputs.loss[None]
        if isinstance(model, SegmentNTForTokenClassification):
            ours["probabilities"] = outputs.logits.softmax(-1)[..., 1]
        attended = given.get("attention_mask", torch.ones_like(given["input_ids"])).bool()
        for name, value in ours.items():
            if prefix + name not in reference:
                continue
            expected = reference[prefix + name]
            assert value.shape == expected.shape, name
            if value.shape[:2] == attended.shape:  # what stands at padding is nobody's
                value, expected = value[attended], expected[attended]
            elif name.startswith("attentions"):
                value, expected = value.transpose(1, 2)[attended], expected.transpose(1, 2)[attended]
            torch.testing.assert_close(value, expected, rtol=0, atol=TOLERANCE, msg=lambda m, name=name: f"{name}: {m}")
            compared.add(prefix + name)
    left = {name for name in reference if attention == "eager" or not name.startswith("attentions")} - compared
    assert not left, f"not compared: {left}"


def test_every_weight_is_used_or_known(case):
    """Nothing is missing, and what is left in the file is on the list in the documentation."""
    model, found = find_class(case.folder).from_pretrained(case.folder, output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"] and not found["mismatched_keys"]
    left = case.load("model").keys() - model.state_dict().keys()
    assert {classify_leftover(name) for name in left} <= LEFT_OUT


def classify_leftover(name: str) -> str:
    return {
        "esm.contact_head.regression.weight": "contact head",
        "esm.contact_head.regression.bias": "contact head",
        "esm.embeddings.position_embeddings.weight": "position table",
    }.get(name, name.rsplit(".", 1)[-1])


def write_published(name: str) -> dict:
    """The config.json of a published checkpoint, as far as it matters."""
    layers, width, heads, mlp, vocabulary, positions, token_dropout = PUBLISHED[name]
    fields = {
        "architectures": ["EsmForMaskedLM"],
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": mlp,
        "vocab_size": vocabulary,
        "max_position_embeddings": positions,
        "token_dropout": token_dropout,
        "position_embedding_type": "absolute" if vocabulary == 4105 else "rotary",
        "layer_norm_eps": 1e-5 if "3mer" in name else 1e-12,
        "is_folding_model": False,
        "vocab_list": None,
        "pad_token_id": 1,
        "mask_token_id": 2,
        "tie_word_embeddings": False,
    }
    if vocabulary == 4105:
        return {**fields, "model_type": "esm"}
    fields |= {"add_bias_fnn": False, "auto_map": {"AutoConfig": "esm_config.EsmConfig"}}
    if name == "segment_nt":
        features = [f"feature {index}" for index in range(14)]
        fields |= {"model_type": "esm", "features": features, "rescaling_factor": 2.44140625, "num_layers_head": 2}
    return fields


def build_on_meta(name: str) -> PreTrainedModel:
    fields = write_published(name)
    with torch.device("meta"):
        if SegmentNTConfig.recognizes(fields):
            return SegmentNTForTokenClassification(SegmentNTConfig.from_dict(fields))
        assert NucleotideTransformerConfig.recognizes(fields)
        return NucleotideTransformerForMaskedLM(NucleotideTransformerConfig.from_dict(fields))


def test_published_layout(manifest, pages):
    """Names and shapes of a full-size checkpoint, and its line in the documentation's table."""
    published = json.loads(manifest.read_text())
    ours = {name: list(tensor.shape) for name, tensor in build_on_meta(manifest.stem).state_dict().items()}
    assert len(published["keys"]) == published["tensors"]
    missing = ours.keys() - published["keys"].keys()
    left = published["keys"].keys() - ours.keys()
    unexpected = {name for name in left if classify_leftover(name) not in LEFT_OUT}
    assert {name: shape for name, shape in published["keys"].items() if name in ours} == ours
    row = [manifest.stem, published["tensors"], len(ours), len(left), len(missing), len(unexpected)]
    assert row[-2:] == [0, 0]
    assert "| " + " | ".join(map(str, row)) + " |" in pages["nucleotide_transformer"]


def test_lora_of_500m_has_the_parameters_of_the_notebook():
    """The notebook counts 482,205,925 parameters; 24 * 20 + 1 of them are the contact head, which is left out here."""
    from peft import LoraConfig, get_peft_model

    config = NucleotideTransformerConfig.from_dict(write_published("nucleotide-transformer-500m-human-ref"))
    with torch.device("meta"):
        model = NucleotideTransformerForSequenceClassification(config)
        adapted = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=1, target_modules=["query", "value"]))
    trainable, total = adapted.get_nb_trainable_parameters()
    assert total == 482_205_925 - 481
    assert trainable == 24 * 2 * 2 * 1280 + sum(weight.numel() for weight in model.classifier.parameters()) // 2


@cache
def tokenizer(vocabulary: str, policy: str):
    policies = {} if policy == "default" else dict.fromkeys(("case", "uracil", "ambiguous"), "unknown")
    return build_kmer_tokenizer(*VOCABULARIES[vocabulary], **policies)


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_tokenized_sequences(tokenized, vocabulary):
    """Every id with the original's policies; with the default ones every id but of letters that they read."""
    rows = [json.loads(line) for line in tokenized.read_text().splitlines()]
    strict, default = tokenizer(vocabulary, "strict"), tokenizer(vocabulary, "default")
    bulk = [ids.tolist() for ids in KmerEncoder(strict)([row["sequence"] for row in rows]).split()]
    for row, from_bulk in zip(rows, bulk):
        expected = row[vocabulary]["hf"]
        ids = strict(row["sequence"], verbose=False)["input_ids"]
        assert from_bulk == ids, row["sequence"]
        if max(expected) < len(strict):
            assert ids == expected, row["sequence"]
        else:  # <eos> and <bos> of v1, beyond the model's embedding
            assert vocabulary == "v1" and any(name in row["sequence"] for name in ("<eos>", "<bos>"))
        if set(row["sequence"]) <= set("ACGTN"):
            assert default(row["sequence"], verbose=False)["input_ids"] == expected, row["sequence"]


def test_batches(batches):
    for batch in json.loads(batches.read_text()):
        ours = tokenizer(batch["vocab"], "strict")(batch["sequences"], **batch["kwargs"])
        assert ours["input_ids"] == batch["input_ids"], batch["kwargs"]
        assert ours["attention_mask"] == batch["attention_mask"], batch["kwargs"]


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_vocabulary(tokenized, vocabulary):
    k, layout = VOCABULARIES[vocabulary]
    file = tokenized.parents[1] / "vocab" / f"vocab_{layout}_{k}mer.txt"
    if not file.exists():
        pytest.skip(f"no {file.name} beside these sequences")
    published, ours = file.read_text().split(), list_kmer_vocabulary(k, layout)
    assert published[: len(ours)] == ours
    assert published[len(ours) :] == (["<eos>", "<bos>"] if layout == "v1" else [])
