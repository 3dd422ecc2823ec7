"""Nucleotide Transformers by Hub id: as they are published, and as this package pushes them."""

import json
from pathlib import Path

import pytest
import torch

from gengram import (
    NTv3Config,
    NTv3ForMaskedLM,
    NucleotideTransformerConfig,
    NucleotideTransformerForMaskedLM,
    SegmentNTConfig,
    SegmentNTForTokenClassification,
)
from gengram.tokenization import build_kmer_tokenizer, build_ntv3_tokenizer, list_kmer_vocabulary

SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20}
SEQUENCE = "ATTCCGATTCCGACGTGTTTTTTT"


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """v2 in the published form: no architecture, remote code, a binary file with buffers and a stale table."""
    folder = tmp_path_factory.mktemp("published")
    torch.manual_seed(0)
    weights = dict(NucleotideTransformerForMaskedLM(NucleotideTransformerConfig(**SIZES)).state_dict())
    weights |= {
        "esm.embeddings.position_embeddings.weight": torch.randn(2050, 24),
        "esm.embeddings.position_ids": torch.arange(2050)[None],
        "esm.encoder.layer.0.attention.self.rotary_embeddings.inv_freq": torch.randn(4),
        "esm.contact_head.regression.weight": torch.randn(1, 6),
    }
    torch.save(weights, folder / "pytorch_model.bin")
    fields = {
        **SIZES,
        "add_bias_fnn": False,
        "architectures": ["EsmForMaskedLM"],
        "auto_map": {"AutoConfig": "esm_config.EsmConfig", "AutoModelForMaskedLM": "modeling_esm.EsmForMaskedLM"},
        "mask_token_id": 2,
        "max_position_embeddings": 2050,
        "pad_token_id": 1,
        "position_embedding_type": "rotary",
        "tie_word_embeddings": False,
        "token_dropout": False,
        "vocab_size": 4107,
    }
    (folder / "config.json").write_text(json.dumps(fields))
    (folder / "modeling_esm.py").write_text("raise RuntimeError('remote code ran')")
    (folder / "esm_config.py").write_text("raise RuntimeError('remote code ran')")
    (folder / "vocab.txt").write_text("\n".join(list_kmer_vocabulary()))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "EsmTokenizer", "eos_token": None, "model_max_length": 2048})
    )
    return folder


def upload(folder, repo):
    from huggingface_hub import HfApi

    HfApi().create_repo(repo, exist_ok=True)
    HfApi().upload_folder(repo_id=repo, folder_path=folder)


def load_by_id(repo, sequence):
    import torch

    import gengram
    from gengram.loading.tokenizers import load_tokenizer

    tokenizer = load_tokenizer(repo)
    batch = tokenizer(sequence, return_tensors="pt")
    model = gengram.auto(repo, "masked_lm")
    by_class = gengram.NucleotideTransformerForMaskedLM.from_pretrained(repo)
    with torch.no_grad():
        logits = model(**batch).logits
        assert torch.equal(by_class(**batch).logits, logits)
    kinds = [
        type(gengram.auto(repo)).__name__,
        type(gengram.auto(repo, "sequence_classification", num_labels=2)).__name__,
    ]
    return {"kinds": kinds, "fast": tokenizer.is_fast, "ids": batch["input_ids"].tolist(), "logits": logits.tolist()}


def push(folder, repo):
    import transformers

    import gengram

    gengram.auto(folder, "token_classification" if "segment" in repo else "masked_lm").push_to_hub(repo)
    transformers.AutoTokenizer.from_pretrained(folder).push_to_hub(repo)


def predict(repo, sequence, auto, **options):
    import sys

    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(repo)
    model = getattr(transformers, auto).from_pretrained(repo, **options)
    with torch.no_grad():
        logits = model(**tokenizer(sequence, return_tensors="pt")).logits
    return {"package": "gengram" in sys.modules, "logits": logits.tolist()}


def test_a_published_model_loads_by_id(hub, user, published):
    user.call(upload, folder=published, repo="lab/nt-v2")
    answer = user.call(load_by_id, repo="lab/nt-v2", sequence=SEQUENCE)
    assert answer["kinds"] == ["NucleotideTransformerModel", "NucleotideTransformerForSequenceClassification"]
    assert answer["fast"] and answer["ids"] == [[3, 369, 369, 739, 6 + 1365]]
    with torch.no_grad():
        expected = NucleotideTransformerForMaskedLM.from_pretrained(published)(torch.tensor(answer["ids"])).logits
    torch.testing.assert_close(torch.tensor(answer["logits"]), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", ["nt", "segment", "ntv3"])
def test_a_pushed_model_comes_back_without_the_package(hub, user, stranger, family, tmp_path):
    torch.manual_seed(1)
    tokenizer = build_kmer_tokenizer()
    if family == "nt":
        model, auto = NucleotideTransformerForMaskedLM(NucleotideTransformerConfig(**SIZES)), "AutoModelForMaskedLM"
    elif family == "ntv3":
        config = NTv3Config(conv_init_embed_dim=8, embed_dim=12, ffn_embed_dim=8, num_downsamples=3)
        model, auto, tokenizer = NTv3ForMaskedLM(config), "AutoModelForMaskedLM", build_ntv3_tokenizer()
    else:
        config = SegmentNTConfig(**SIZES, features=["exon", "intron"])
        model, auto = SegmentNTForTokenClassification(config), "AutoModelForTokenClassification"
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    repo = f"lab/{family}-pushed"
    user.call(push, folder=tmp_path, repo=repo)
    assert "modeling_nucleotide_transformer.py" in hub.list_files(repo)
    theirs = stranger.call(predict, repo=repo, sequence=SEQUENCE, auto=auto, trust_remote_code=True)
    assert not theirs["package"]
    with torch.no_grad():
        expected = model.eval()(**tokenizer(SEQUENCE, return_tensors="pt")).logits
    torch.testing.assert_close(torch.tensor(theirs["logits"]), expected, rtol=0, atol=1e-6)
