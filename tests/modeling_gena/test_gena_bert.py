"""GENA-LM's encoders as citizens of transformers: loading, refusing, saving, Trainer-style losses."""

import json

import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    BertForMaskedLM,
)

import gengram
from gengram import (
    GenaBertConfig,
    GenaBertForBinnedRegression,
    GenaBertForMaskedLM,
    GenaBertForPreTraining,
    GenaBertForSequenceClassification,
    GenaBertForTokenClassification,
    GenaBertModel,
)
from gengram.gena.modeling_gena import compute_loss

VARIANTS = {
    "post-LN": {"pre_layer_norm": False},
    "pre-LN": {},
    "pre-LN, last": {"last_layer_norm": True},
    "rotary": {"position_embedding_type": "rotary"},
    "partly rotary, last": {"position_embedding_type": "rotary", "rotary_dim": 4, "last_layer_norm": True},
}


def build_config(**fields) -> GenaBertConfig:
    size = {
        "vocab_size": 40,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 24,
    }
    return GenaBertConfig(**{**size, **fields})


@pytest.fixture(params=VARIANTS)
def config(request) -> GenaBertConfig:
    return build_config(**VARIANTS[request.param])


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[1, 7:] = 0
    return {"input_ids": torch.randint(5, 40, (2, 12)).masked_fill(mask == 0, 3), "attention_mask": mask}


def write_published(folder, model, **changes):
    """Save as GENA-LM is published: model_type bert, code that does not import, the tied decoder and buffers stored."""
    config = json.loads(model.config.to_json_string(use_diff=False))
    config |= {
        "model_type": "bert",
        "architectures": ["BertForPretraining"],
        "auto_map": {"AutoModel": "modeling_bert.BertForMaskedLM"},
        **changes,
    }
    config = {name: value for name, value in config.items() if value != "absent"}
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights["bert.embeddings.position_ids"] = torch.arange(24)[None]
    weights["bert.encoder.layer.0.attention.self.rotary_emb.inv_freq"] = torch.ones(4)
    save_file(weights, folder / "model.safetensors")
    return weights


def test_every_variant_loads_from_a_published_folder(config, batch, tmp_path):
    model = GenaBertForMaskedLM(config).eval()
    write_published(tmp_path / "gena", model)
    loaded = GenaBertForMaskedLM.from_pretrained(tmp_path / "gena").eval()
    assert loaded.config.describe_variant() == config.describe_variant()
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)


def test_auto_tells_gena_from_bert(config, batch, tmp_path):
    write_published(tmp_path / "gena", GenaBertForMaskedLM(config))
    classifier = gengram.auto(tmp_path / "gena", "token_classification", num_labels=2)
    assert type(classifier) is GenaBertForTokenClassification
    BertForMaskedLM(BertConfig(num_hidden_layers=1, hidden_size=24, vocab_size=40)).save_pretrained(tmp_path / "bert")
    assert type(gengram.auto(tmp_path / "bert", "masked_lm")) is BertForMaskedLM


def test_published_configuration_without_last_layer_norm_has_that_of_pre_layer_norm(tmp_path):
    model = GenaBertForMaskedLM(build_config(last_layer_norm=True))
    write_published(tmp_path, model, last_layer_norm="absent")
    assert GenaBertForMaskedLM.from_pretrained(tmp_path).config.last_layer_norm
    write_published(tmp_path, GenaBertForMaskedLM(build_config(pre_layer_norm=False)), pre_layer_norm="absent")
    assert GenaBertForMaskedLM.from_pretrained(tmp_path).config.describe_variant().startswith("post-LN")


@pytest.mark.parametrize(
    ("trained", "claimed", "named"),
    [
        ("pre-LN", {"pre_layer_norm": False, "last_layer_norm": False}, "attention.output.LayerNorm"),
        ("post-LN", {"pre_layer_norm": True, "last_layer_norm": False}, "pre_attention_ln"),
        ("pre-LN", {"last_layer_norm": "absent"}, "missing are bert.encoder.last_layer_ln"),
        ("pre-LN, last", {"last_layer_norm": False}, "left over are bert.encoder.last_layer_ln"),
        ("rotary", {"position_embedding_type": "absolute"}, "missing are bert.embeddings.position_embeddings"),
        ("pre-LN", {"position_embedding_type": "rotary"}, "left over are bert.embeddings.position_embeddings"),
    ],
)
def test_wrong_variant_is_refused(trained, claimed, named, tmp_path):
    write_published(tmp_path, GenaBertForMaskedLM(build_config(**VARIANTS[trained])), **claimed)
    with pytest.raises(ValueError, match="is not the GenaBertForMaskedLM that its configuration describes") as refusal:
        GenaBertForMaskedLM.from_pretrained(tmp_path)
    assert named in str(refusal.value)
    assert "Check pre_layer_norm" in str(refusal.value)


@pytest.mark.parametrize("name", ["bert.encoder.layer.1.post_attention_ln.weight", "bert.embeddings.LayerNorm.bias"])
def test_missing_norm_is_refused(name, tmp_path):
    weights = write_published(tmp_path, GenaBertForMaskedLM(build_config()))
    del weights[name]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=f"missing are {name}"):
        GenaBertForSequenceClassification.from_pretrained(tmp_path)


def test_untied_decoder_is_refused_unless_asked_for(batch, tmp_path):
    weights = write_published(tmp_path, GenaBertForMaskedLM(build_config()))
    weights["cls.predictions.decoder.weight"] += 1
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"decoder.weight differs from .*tie_word_embeddings=False"):
        GenaBertForMaskedLM.from_pretrained(tmp_path)
    untied = GenaBertForMaskedLM.from_pretrained(tmp_path, tie_word_embeddings=False)
    assert torch.equal(untied.cls.predictions.decoder.weight, weights["cls.predictions.decoder.weight"])


def test_language_model_head_is_never_drawn(tmp_path):
    GenaBertForTokenClassification(build_config()).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"missing are cls\.predictions"):
        GenaBertForMaskedLM.from_pretrained(tmp_path)


def test_new_task_head_and_pooler_are_drawn(tmp_path):
    write_published(tmp_path, GenaBertForMaskedLM(build_config()))
    model, found = GenaBertForSequenceClassification.from_pretrained(tmp_path, num_labels=3, output_loading_info=True)
    assert model.classifier.out_features == 3
    assert found["missing_keys"] == {
        "classifier.weight", "classifier.bias", "bert.pooler.dense.weight", "bert.pooler.dense.bias"
    }  # fmt: skip


def test_base_model_without_stored_pooler_has_none(batch, tmp_path):
    write_published(tmp_path / "mlm", GenaBertForMaskedLM(build_config()))
    assert GenaBertModel.from_pretrained(tmp_path / "mlm")(**batch).pooler_output is None
    write_published(tmp_path / "nsp", GenaBertForPreTraining(build_config()))
    assert GenaBertModel.from_pretrained(tmp_path / "nsp")(**batch).pooler_output.shape == (2, 32)


def test_bigbird_configuration_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "big_bird"}))
    with pytest.raises(ValueError, match="transformers' BigBird and ModernBert classes"):
        GenaBertConfig.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pre_layer_norm": False, "last_layer_norm": True}, "last_layer_norm needs pre_layer_norm"),
        ({"position_embedding_type": "rotary", "rotary_dim": 5}, "rotary_dim=5: give an even number"),
        ({"position_embedding_type": "rotary", "rotary_dim": 10}, "rotary_dim=10"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"is_decoder": True}, "encoder"),
        ({"num_attention_heads": 5}, "not a multiple"),
    ],
)
def test_impossible_variant_is_refused(fields, message):
    with pytest.raises(Exception, match=message):
        build_config(**fields)


@pytest.mark.parametrize(
    ("auto_class", "model_class"),
    [
        (AutoModel, GenaBertModel),
        (AutoModelForPreTraining, GenaBertForPreTraining),
        (AutoModelForMaskedLM, GenaBertForMaskedLM),
        (AutoModelForSequenceClassification, GenaBertForSequenceClassification),
        (AutoModelForTokenClassification, GenaBertForTokenClassification),
    ],
)
def test_saved_model_loads_by_its_auto_class(auto_class, model_class, config, batch, tmp_path):
    model = model_class(config).eval()
    model.save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).describe_variant() == config.describe_variant()
    loaded = auto_class.from_pretrained(tmp_path).eval()
    assert type(loaded) is model_class
    assert torch.equal(loaded(**batch)[0], model(**batch)[0])


def test_padding_does_not_matter(config, batch):
    model = GenaBertModel(config).eval()
    together = model(**batch).last_hidden_state
    alone = model(batch["input_ids"][1:, :7]).last_hidden_state
    assert torch.allclose(together[1, :7], alone[0], atol=1e-5)


def test_gradient_checkpointing_gives_the_same_gradients(config, batch):
    model = GenaBertForMaskedLM(config).train()
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable()
        model.zero_grad()
        torch.manual_seed(1)  # of dropout
        model(**batch, labels=batch["input_ids"]).loss.backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for plain, recomputed in zip(*gradients):
        assert torch.allclose(plain, recomputed, atol=1e-6)


def test_hidden_states_are_embeddings_and_layers(config, batch):
    outputs = GenaBertModel(config).eval()(**batch, output_hidden_states=True)
    assert len(outputs.hidden_states) == 3
    assert torch.equal(outputs.hidden_states[-1], outputs.last_hidden_state)


def test_attentions_are_probabilities(config, batch):
    config._attn_implementation = "eager"
    attentions = GenaBertModel(config).eval()(**batch, output_attentions=True).attentions
    assert len(attentions) == 2
    assert torch.allclose(attentions[0].sum(-1), torch.ones(()), atol=1e-5)


def test_too_many_tokens():
    ids = torch.full((1, 25), 6)
    with pytest.raises(ValueError, match="25 tokens, but the model has 24 positions"):
        GenaBertModel(build_config())(ids)
    rotary = GenaBertModel(build_config(position_embedding_type="rotary"))
    assert rotary(ids).last_hidden_state.shape == (1, 25, 32)


def test_word_vectors_in_place_of_ids(config, batch):
    model = GenaBertModel(config).eval()
    vectors = model.get_input_embeddings()(batch["input_ids"])
    by_vectors = model(inputs_embeds=vectors, attention_mask=batch["attention_mask"]).last_hidden_state
    assert torch.equal(by_vectors, model(**batch).last_hidden_state)
    with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
        model(**batch, inputs_embeds=vectors)


def test_resizing_keeps_the_decoder_tied(batch):
    model = GenaBertForMaskedLM(build_config())
    model.resize_token_embeddings(48)
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
    assert model(**batch).logits.shape == (2, 12, 48)


def test_the_first_labels_decide_the_problem_type(batch):
    for labels, problem in ((torch.tensor([0, 2]), "single_label"), (torch.rand(2, 3), "multi_label")):
        model = GenaBertForSequenceClassification(build_config(num_labels=3))
        assert model(**batch, labels=labels).loss.isfinite()
        assert model.config.problem_type == f"{problem}_classification"


@pytest.mark.parametrize("problem", ["single_label_classification", "multi_label_classification", "regression"])
def test_micro_batches_have_their_share_of_the_loss(problem):
    torch.manual_seed(0)
    logits = torch.randn(6, 5, 3)
    labels = torch.randint(0, 3, (6, 5)) if problem.startswith("single") else torch.rand(6, 5, 3).round()
    whole = compute_loss(problem, logits, labels)
    parts = [
        compute_loss(problem, logits[i:j], labels[i:j], num_items_in_batch=labels.numel()) for i, j in ((0, 4), (4, 6))
    ]
    assert torch.allclose(sum(parts), whole)


def test_micro_batches_have_their_share_of_the_loss_of_pretraining(batch):
    model = GenaBertForPreTraining(build_config()).eval()
    labels = torch.full((2, 12), -100)
    labels[:, 3] = 7  # as many masked tokens in each
    batch |= {"labels": labels, "next_sentence_label": torch.tensor([0, 1])}
    whole = model(**batch)
    parts = [
        model(**{name: part[[row]] for name, part in batch.items()}, num_items_in_batch=torch.tensor(2))
        for row in range(2)
    ]
    for name in ("loss", "mlm_loss", "nsp_loss"):
        assert torch.allclose(sum(part[name] for part in parts), whole[name], atol=1e-6), name


def test_micro_batches_have_their_share_of_the_loss_of_bins(batch):
    model = GenaBertForBinnedRegression(build_config(num_labels=4)).eval()
    bins = torch.zeros(2, 12, dtype=torch.bool)
    bins[:, [2, 5]] = True
    batch |= {"bins_mask": bins, "labels": torch.rand(2, 2, 4)}
    parts = [
        model(**{name: part[[row]] for name, part in batch.items()}, num_items_in_batch=16).loss for row in range(2)
    ]
    assert torch.allclose(sum(parts), model(**batch).loss, atol=1e-6)


@pytest.mark.parametrize("problem", ["single_label_classification", "multi_label_classification", "regression"])
def test_masked_labels_do_not_matter(problem):
    torch.manual_seed(0)
    logits, mask = torch.randn(2, 6, 3), torch.tensor([[1, 1, 0, 0, 1, 0], [0, 0, 1, 0, 0, 0]])
    labels = torch.randint(0, 3, (2, 6)) if problem.startswith("single") else torch.rand(2, 6, 3).round()
    other = torch.where((mask == 0).view(2, 6, *[1] * (labels.dim() - 2)), 1 - labels.clamp(max=1), labels)
    losses = [compute_loss(problem, logits, each, labels_mask=mask) for each in (labels, other)]
    assert torch.equal(*losses)
    assert compute_loss(problem, logits, labels, labels_mask=mask * 0) == 0
    # Trainer counts the labels without the mask.
    parts = [compute_loss(problem, logits, labels, None, mask, 2 * labels.numel()) for _ in range(2)]
    assert torch.allclose(sum(parts), losses[0])


def test_bins(batch):
    model = GenaBertForBinnedRegression(build_config(num_labels=4, add_head_dense=6))
    bins = torch.zeros(2, 12, dtype=torch.bool)
    bins[0, [2, 5]] = bins[1, 4] = True
    outputs = model(**batch, bins_mask=bins, labels=torch.rand(2, 2, 4), labels_mask=torch.tensor([[1, 1], [1, 0]]))
    assert outputs.logits.shape == (3, 4)
    outputs.loss.backward()
    with pytest.raises(ValueError, match="marks 3 bins, but there are labels for 4"):
        model(**batch, bins_mask=bins, labels=torch.rand(2, 2, 4))
    with pytest.raises(ValueError, match="bins_mask is missing"):
        model(**batch)
