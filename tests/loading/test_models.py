"""`gengram.auto` and the loader of the verbs: nothing random in silence, nothing infinite, nothing left over."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    BigBirdConfig,
    BigBirdForMaskedLM,
    EsmConfig,
    EsmForMaskedLM,
)

import gengram
from gengram.errors import InputError
from gengram.loading.configurations import require_config
from gengram.loading.models import check_present, find_device, is_finite, load_weights, require_model
from gengram.pipelines.embed import embed_sequences
from gengram.tokenization import build_nucleotide_tokenizer


@pytest.fixture
def lm(small, tmp_path) -> Path:
    torch.manual_seed(0)
    BertForMaskedLM(BertConfig(vocab_size=128, **small)).save_pretrained(tmp_path / "lm")
    return tmp_path / "lm"


@pytest.fixture
def classifier(small, tmp_path) -> Path:
    torch.manual_seed(0)
    config = BertConfig(vocab_size=128, num_labels=3, **small)
    BertForSequenceClassification(config).save_pretrained(tmp_path / "classifier")
    return tmp_path / "classifier"


def change(folder: Path, edit) -> None:
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


class TestMissingWeights:
    def test_of_the_body_are_refused_on_a_stock_class(self, classifier):
        change(classifier, lambda weights: weights.pop("bert.encoder.layer.0.output.dense.weight"))
        for asks in ({}, {"num_labels": 3}):
            with pytest.raises(InputError, match=r"1 weights of BertForSequenceClassification .*layer\.0\.output"):
                gengram.auto(classifier, "sequence_classification", **asks)

    @pytest.mark.parametrize("task", ["sequence_classification", "token_classification"])
    def test_a_new_head_has_to_be_asked_for(self, task, lm):
        with pytest.raises(
            InputError, match=r"e\.g\. \S+\. To train a new head, ask for it with num_labels= or id2label="
        ):
            gengram.auto(lm, task)
        for asks in ({"num_labels": 4}, {"id2label": dict(enumerate("abcd"))}):
            model = gengram.auto(lm, task, **asks)
            assert model.classifier.out_features == model.config.num_labels == 4
        with pytest.raises(InputError, match="ask for it"):
            gengram.auto(lm, task, config=BertConfig.from_pretrained(lm))
        given = BertConfig.from_pretrained(lm)
        model = gengram.auto(lm, task, config=given, num_labels=4)
        assert model.classifier.out_features == 4 and given.num_labels == 2
        body = load_file(lm / "model.safetensors")["bert.encoder.layer.0.output.dense.weight"]
        assert torch.equal(model.bert.encoder.layer[0].output.dense.weight, body)

    def test_what_is_there_needs_no_asking(self, classifier):
        model, found = gengram.auto(classifier, "sequence_classification", output_loading_info=True)
        assert model.config.num_labels == 3 and not found["missing_keys"]

    def test_a_pooler_below_a_trained_head_may_not_be_new(self, classifier):
        change(classifier, lambda weights: weights.pop("bert.pooler.dense.weight"))
        with pytest.raises(InputError, match=r"bert\.pooler\.dense\.weight\. Take the checkpoint"):
            gengram.auto(classifier, "sequence_classification", num_labels=3)

    def test_the_head_of_a_language_model_may_not_be_new(self, small, tmp_path):
        BertModel(BertConfig(vocab_size=128, **small)).save_pretrained(tmp_path / "body")
        with pytest.raises(InputError, match="weights of BertForMaskedLM are missing"):
            gengram.auto(tmp_path / "body", "masked_lm", num_labels=2)

    @pytest.mark.parametrize(
        ("config", "model"),
        [
            (BertConfig, BertForMaskedLM),
            (EsmConfig, EsmForMaskedLM),
            (BigBirdConfig, BigBirdForMaskedLM),
        ],
        ids=["bert", "esm", "big_bird"],
    )
    def test_a_base_model_without_a_pooler_has_none(self, config, model, small, tmp_path):
        model(config(vocab_size=128, pad_token_id=1, **small)).save_pretrained(tmp_path)
        change(tmp_path, lambda weights: [weights.pop(name) for name in list(weights) if "pooler" in name])
        base = gengram.auto(tmp_path).eval()
        assert base.pooler is None
        assert base(input_ids=torch.randint(5, 9, (1, 12))).pooler_output is None
        assert require_model(tmp_path).pooler is None

    def test_another_size(self, classifier):
        change(classifier, lambda weights: weights.update({"classifier.weight": torch.zeros(5, 16)}))
        with pytest.raises(InputError, match=r"1 weights are missing or of another size, e\.g\. classifier\.weight"):
            require_model(classifier, "sequence_classification")
        assert load_weights(classifier, "sequence_classification")[1] == ["classifier.weight"]


def test_layers_that_the_configuration_does_not_have_are_refused(small, tmp_path):
    config = BertConfig(vocab_size=128, **{**small, "num_hidden_layers": 3})
    BertForMaskedLM(config).save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**fields, "num_hidden_layers": 2}))
    for task in ("base", "masked_lm"):
        with pytest.raises(
            InputError, match=r"16 weights have no place in Bert\w+, e\.g\. (bert\.)?encoder\.layer\.2\."
        ):
            gengram.auto(tmp_path, task)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite(value, lm):
    change(lm, lambda weights: weights["bert.encoder.layer.0.output.dense.bias"].fill_(value))
    for load in (lambda: gengram.auto(lm, "masked_lm"), lambda: load_weights(lm), lambda: require_model(lm)):
        with pytest.raises(
            InputError, match=r"1 tensors have values that are not finite .*layer\.0\.output\.dense\.bias"
        ):
            load()


def test_finite_in_every_format():
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.int8):
        assert is_finite(torch.ones(3).to(dtype))
    assert not is_finite(torch.tensor([1, float("nan")]).to(torch.float8_e5m2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_auto_keeps_the_type_of_the_file_and_the_verbs_take_float32(dtype, small, tmp_path):
    BertForMaskedLM(BertConfig(vocab_size=128, **small)).to(dtype).save_pretrained(tmp_path)
    assert gengram.auto(tmp_path, "masked_lm").dtype == dtype
    assert gengram.auto(tmp_path, "masked_lm", dtype=torch.float32).dtype == torch.float32
    assert require_model(tmp_path, "masked_lm").dtype == torch.float32
    assert require_model(tmp_path, "masked_lm", dtype="auto").dtype == dtype


def test_shards_and_tied_weights_are_the_same_model(lm, tmp_path):
    model = BertForMaskedLM.from_pretrained(lm)
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert (tmp_path / "shards/model.safetensors.index.json").is_file()
    again = gengram.auto(tmp_path / "shards", "masked_lm")
    assert again.get_output_embeddings().weight is again.get_input_embeddings().weight
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_weights_without_values_are_refused_by_name(small):
    with torch.device("meta"):
        model = BertModel(BertConfig(vocab_size=128, **small)).eval()
    with pytest.raises(InputError, match=r"BertModel: \d+ weights have no values .*word_embeddings.*offload_folder"):
        check_present(model)
    with pytest.raises(ValueError, match="have no values"):
        embed_sequences(model, build_nucleotide_tokenizer(), ["ACGT"])


@pytest.mark.parametrize("device_map", [{"": "disk"}, {"embeddings": "cpu", "encoder": "disk", "pooler": "cpu"}])
def test_a_model_that_is_offloaded_to_disk_embeds_as_in_memory(lm, device_map, tmp_path):
    tokenizer, sequences = build_nucleotide_tokenizer(), ["ACGT", "TTGACCAN"]
    model = gengram.auto(lm, device_map=device_map, offload_folder=str(tmp_path / "offloaded"))
    assert any(weight.is_meta for weight in model.parameters()) and find_device(model) == torch.device("cpu")
    for found, expected in zip(
        embed_sequences(model.eval(), tokenizer, sequences), embed_sequences(gengram.auto(lm), tokenizer, sequences)
    ):
        assert (found == expected).all()


def test_a_folder_that_is_not_there_is_told_where_its_name_looks_like_an_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="runs/nope: there is no such folder here, and from the Hub no model"):
        require_config("runs/nope")
    (tmp_path / "runs" / "nope").mkdir(parents=True)
    with pytest.raises(InputError, match="runs/nope: no model configuration can be read here"):
        require_config("runs/nope")
