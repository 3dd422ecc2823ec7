"""Checkpoints as they are published: which architecture they are, what is left out, what is refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM, EsmConfig, EsmForMaskedLM, LlamaConfig

import gengram
from gengram import (
    NucleotideTransformerConfig,
    NucleotideTransformerForMaskedLM,
    NucleotideTransformerForSequenceClassification,
    NucleotideTransformerModel,
    SegmentNTConfig,
    SegmentNTForTokenClassification,
)
from gengram.loading.configurations import load_config
from gengram.loading.tokenizers import load_tokenizer
from gengram.tokenization import list_kmer_vocabulary

SIZES = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 34,
}
V1 = {
    **SIZES,
    "architectures": ["EsmForMaskedLM"],
    "model_type": "esm",
    "vocab_size": 4105,
    "position_embedding_type": "absolute",
    "token_dropout": True,
    "emb_layer_norm_before": False,
    "is_folding_model": False,
    "esmfold_config": None,
    "vocab_list": None,
    "use_cache": False,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 1,
    "mask_token_id": 2,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "transformers_version": "4.29.0.dev0",
}
V2 = {
    **{name: value for name, value in V1.items() if name != "model_type"},
    "add_bias_fnn": False,
    "auto_map": {"AutoConfig": "esm_config.EsmConfig", "AutoModelForMaskedLM": "modeling_esm.EsmForMaskedLM"},
    "vocab_size": 4107,
    "position_embedding_type": "rotary",
    "token_dropout": False,
}
# As the published code saves it again: a fine-tuned model, or one of another group with its own vocabulary.
V2_AGAIN = {**V2, "model_type": "esm", "vocab_size": 4110}
SEGMENT = {**V2, "model_type": "esm", "features": ["exon", "intron", "CTCF"], "rescaling_factor": 2.5}


def publish(folder: Path, fields: dict, vocabulary: list[str] | None = None, binary: bool = False) -> dict:
    """A folder as on the Hub: foreign config.json, weights with everything that no forward pass reads, vocab.txt."""
    torch.manual_seed(0)
    if "features" in fields:
        model = SegmentNTForTokenClassification(SegmentNTConfig.from_dict(fields))
    else:
        model = NucleotideTransformerForMaskedLM(NucleotideTransformerConfig.from_dict(fields))
    L, heads, D = fields["num_hidden_layers"], fields["num_attention_heads"], fields["hidden_size"]
    weights = dict(model.state_dict())
    weights |= {
        "esm.contact_head.regression.weight": torch.randn(1, L * heads),
        "esm.contact_head.regression.bias": torch.randn(1),
    }
    if fields["position_embedding_type"] == "rotary":
        weights["esm.embeddings.position_embeddings.weight"] = torch.randn(34, D)
        for layer in range(L):
            name = f"esm.encoder.layer.{layer}.attention.self.rotary_embeddings.inv_freq"
            weights[name] = torch.randn(D // heads // 2)
    if binary:
        weights["esm.embeddings.position_ids"] = torch.arange(34)[None]
        torch.save(weights, folder / "pytorch_model.bin")
    else:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(fields))
    if vocabulary is not None:
        (folder / "vocab.txt").write_text("\n".join(vocabulary))
        (folder / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "EsmTokenizer", "eos_token": None, "model_max_length": 32})
        )
    return dict(model.state_dict())


@pytest.mark.parametrize("binary", [False, True], ids=["safetensors", "bin"])
@pytest.mark.parametrize("fields", [V1, V2, V2_AGAIN, SEGMENT], ids=["v1", "v2", "v2 saved again", "segment"])
def test_published_files_load(fields, binary, tmp_path, caplog):
    expected = publish(tmp_path, fields, binary=binary)
    task = "token_classification" if "features" in fields else "masked_lm"
    model = gengram.auto(tmp_path, task)
    assert type(model).__module__.startswith("gengram.nucleotide_transformer")
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    assert "instantiate" not in caplog.text and "UNEXPECTED" not in caplog.text
    model.save_pretrained(tmp_path / "ours")
    again = gengram.auto(tmp_path / "ours", task)
    assert type(again) is type(model) and not hasattr(again.config, "add_bias_fnn")


def test_what_the_published_fields_mean():
    v1, v2 = NucleotideTransformerConfig.from_dict(V1), NucleotideTransformerConfig.from_dict(V2)
    assert (v1.gated_mlp, v1.mlp_bias, v1.token_dropout, v1.max_tokens) == (False, True, True, 32)
    assert (v2.gated_mlp, v2.mlp_bias, v2.token_dropout, v2.max_tokens) == (True, False, False, 32)
    assert (v1.kmer_size, v2.kmer_size) == (6, 6)
    assert NucleotideTransformerConfig.from_dict({**V2, "vocab_size": 75}).kmer_size == 3
    segment = SegmentNTConfig.from_dict(SEGMENT)
    assert segment.features == ["exon", "intron", "CTCF"] and segment.num_labels == 3
    assert (segment.rescaling_factor, segment.length_multiple) == (2.5, 24)
    assert SegmentNTConfig.from_dict({**SEGMENT, "rescaling_factor": None}).rescaling_factor is None


def test_fields_and_arguments_of_the_model_are_told_apart(tmp_path):
    publish(tmp_path, V2)
    model, found = gengram.auto(
        tmp_path,
        "sequence_classification",
        num_labels=3,
        rescaling_factor=2.0,
        dtype=torch.bfloat16,
        attn_implementation="eager",
        output_loading_info=True,
    )
    assert (model.config.num_labels, model.config.rescaling_factor) == (3, 2.0)
    assert (model.dtype, model.config._attn_implementation) == (torch.bfloat16, "eager")
    assert model.esm.rotary_embeddings.base > 10000 and "classifier.dense.weight" in found["missing_keys"]
    named = gengram.auto(tmp_path, "token_classification", id2label={0: "a", 1: "b"}, label2id={"a": 0, "b": 1})
    assert named.config.id2label == {0: "a", 1: "b"} and named.dtype == torch.float32
    given = gengram.auto(tmp_path, "masked_lm", config=NucleotideTransformerConfig.from_pretrained(tmp_path))
    assert isinstance(given, NucleotideTransformerForMaskedLM)


def test_auto_class_loads_a_file_without_architecture_by_our_configuration(tmp_path):
    publish(tmp_path, V2)
    model = AutoModelForMaskedLM.from_pretrained(tmp_path, config=NucleotideTransformerConfig.from_pretrained(tmp_path))
    assert isinstance(model, NucleotideTransformerForMaskedLM)


def test_other_models_are_not_taken_for_one(tmp_path):
    protein = EsmConfig(vocab_size=33, mask_token_id=32, pad_token_id=1, position_embedding_type="rotary", **SIZES)
    EsmForMaskedLM(protein).save_pretrained(tmp_path / "protein")
    assert type(gengram.auto(tmp_path / "protein", "masked_lm")) is EsmForMaskedLM
    with pytest.raises(ValueError, match="ESM-2"):
        NucleotideTransformerForMaskedLM.from_pretrained(tmp_path / "protein")
    LlamaConfig(**{**SIZES, "num_attention_heads": 4}).save_pretrained(tmp_path / "llama")
    assert type(load_config(tmp_path / "llama")) is LlamaConfig
    with pytest.raises(ValueError, match="'llama' configuration"):
        NucleotideTransformerConfig.from_pretrained(tmp_path / "llama")
    with pytest.raises(ValueError, match="is_decoder"):
        NucleotideTransformerConfig.from_dict({**V1, "is_decoder": True})
    with pytest.raises(ValueError, match="choose one of base"):
        gengram.auto(tmp_path / "protein", "translation")


def test_new_classifier_and_nothing_else_may_be_missing(tmp_path):
    publish(tmp_path, V2)
    model, found = NucleotideTransformerForSequenceClassification.from_pretrained(
        tmp_path, num_labels=3, output_loading_info=True
    )
    assert model.config.num_labels == 3 and {name.split(".")[0] for name in found["missing_keys"]} == {"classifier"}
    assert NucleotideTransformerModel.from_pretrained(tmp_path).config.hidden_size == 24


@pytest.mark.parametrize(
    "name,fault",
    [
        ("esm.encoder.layer.1.output.dense.weight", "1 weights are missing"),
        ("esm.encoder.emb_layer_norm_after.bias", "1 weights are missing"),
        ("lm_head.bias", "1 weights are missing"),
    ],
)
def test_missing_weight_is_named(name, fault, tmp_path):
    publish(tmp_path, V2)
    weights = load_file(tmp_path / "model.safetensors")
    del weights[name]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"{fault} in the checkpoint, e.g. {name}"):
        gengram.auto(tmp_path, "masked_lm")


def test_missing_position_table_of_v1_is_an_error(tmp_path):
    publish(tmp_path, V1)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["esm.embeddings.position_embeddings.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"esm\.embeddings\.position_embeddings\.weight"):
        gengram.auto(tmp_path, "masked_lm")


@pytest.mark.parametrize(
    "fields",
    [
        {**V2, "model_type": "bert"},
        {**V2_AGAIN, "position_embedding_type": "relative_key"},
        {name: value for name, value in V2_AGAIN.items() if name != "add_bias_fnn"},  # ESM-2, a protein model
        {**V1, "vocab_size": 33},  # ESM-1b
        SEGMENT,
    ],
)
def test_configurations_of_others_are_not_taken(fields):
    assert not NucleotideTransformerConfig.recognizes(fields)


@pytest.mark.parametrize("name", ["esm.encoder.layer.0.output.dense.bias", "esm.encoder.layer.0.extra.weight"])
def test_foreign_weight_is_named(name, tmp_path):
    publish(tmp_path, V2)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({**weights, name: torch.zeros(24)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    for model_class in (NucleotideTransformerForMaskedLM, NucleotideTransformerModel):
        with pytest.raises(ValueError, match="1 weights have no place in the model, e.g. .*" + name[4:]):
            model_class.from_pretrained(tmp_path)


def test_v2_weights_under_a_v1_configuration_are_refused(tmp_path):
    publish(tmp_path, V2)
    fields = {name: value for name, value in V2.items() if name not in ("add_bias_fnn", "auto_map")}
    fields |= {"position_embedding_type": "absolute", "model_type": "esm"}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    with pytest.raises(RuntimeError, match=r"(?s)intermediate\.dense\.weight|mismatch"):
        NucleotideTransformerForMaskedLM.from_pretrained(tmp_path)


def test_published_tokenizer_becomes_the_fast_one(tmp_path):
    publish(tmp_path, V1, [*list_kmer_vocabulary(6, "v1"), "<eos>", "<bos>"])
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.is_fast and tokenizer.model_max_length == 32
    assert len(tokenizer) == 4105  # the two others have no embedding
    assert tokenizer("ATTCCGatt")["input_ids"] == [3, 367, 4100, 4101, 4101]


def test_configuration_of_the_encoder_takes_a_segmentation_head(tmp_path):
    (tmp_path / "nt").mkdir()
    publish(tmp_path / "nt", V2)
    NucleotideTransformerForMaskedLM.from_pretrained(tmp_path / "nt").save_pretrained(tmp_path / "ours")
    for folder in ("nt", "ours"):
        model, found = SegmentNTForTokenClassification.from_pretrained(
            tmp_path / folder, features=["a", "b"], output_loading_info=True
        )
        assert model.config.features == ["a", "b"] and model.fc.out_features == 6 * 2 * 2
        assert {name.split(".")[0] for name in found["missing_keys"]} == {"unet", "fc"}


def test_no_code_of_the_checkpoint_runs(tmp_path):
    publish(tmp_path, V2)
    for name in ("esm_config.py", "modeling_esm.py"):
        (tmp_path / name).write_text("raise RuntimeError('remote code ran')")
    assert isinstance(gengram.auto(tmp_path, "masked_lm"), NucleotideTransformerForMaskedLM)
