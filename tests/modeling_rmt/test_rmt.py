"""The recurrent memory as a citizen of transformers, over every kind of encoder."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    BigBirdConfig,
    EsmConfig,
    ModernBertConfig,
    RobertaConfig,
    Trainer,
    TrainingArguments,
)

from gengram import (
    GenaBertConfig,
    GengramConfig,
    GengramForSequenceClassification,
    NTv3Config,
    NucleotideTransformerConfig,
    NucleotideTransformerForSequenceClassification,
    RmtConfig,
    RmtForMaskedLM,
    RmtForSequenceClassification,
    RmtForTokenClassification,
    RmtModel,
    SegmentNTConfig,
)
from gengram.rmt.segments import plan_steps

SIZE = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 3,
}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
TOKENS = {"cls_token_id": 1, "sep_token_id": 2}


def _modernbert() -> ModernBertConfig:
    return ModernBertConfig(**SIZE, **TOKENS, bos_token_id=1, eos_token_id=2, local_attention=8)


ENCODERS = {
    "gena": lambda: GenaBertConfig(**SIZE, **NO_DROPOUT),
    "bert": lambda: BertConfig(**SIZE, **NO_DROPOUT),
    "bigbird": lambda: BigBirdConfig(**SIZE, **NO_DROPOUT, attention_type="original_full"),
    "modernbert": _modernbert,
    "esm": lambda: EsmConfig(**SIZE, **NO_DROPOUT, position_embedding_type="rotary", mask_token_id=4),
    "nucleotide_transformer": lambda: NucleotideTransformerConfig(**SIZE, mask_token_id=4),
    "gengram": lambda: GengramConfig(backbone_config=_modernbert(), memory_layers=[0], memory_dim=8),
}


def build_config(encoder: str = "gena", **fields) -> RmtConfig:
    given = {"segment_length": 16, "num_memory_tokens": 3, **TOKENS, "pad_token_id": 3}
    return RmtConfig(backbone_config=ENCODERS[encoder](), **{**given, **fields})


@pytest.fixture(params=ENCODERS)
def config(request) -> RmtConfig:
    torch.manual_seed(0)
    return build_config(request.param)


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Three sequences of 35, 9 and 0 tokens, the first two with special tokens around them."""
    torch.manual_seed(0)
    ids = torch.full((3, 37), 3)
    for row, count in enumerate((35, 9)):
        ids[row, : count + 2] = torch.cat([torch.tensor([1]), torch.randint(5, 40, (count,)), torch.tensor([2])])
    return {"input_ids": ids, "attention_mask": (ids != 3).long()}


@settings(deadline=None, max_examples=60)
@given(
    counts=st.lists(st.integers(0, 23), min_size=1, max_size=4),
    length=st.integers(1, 9),
    limit=st.none() | st.integers(1, 4),
    alignment=st.sampled_from(["right", "left", "balanced"]),
)
def test_segments_hold_every_token_once_and_in_order(counts, length, limit, alignment):
    ids = torch.full((len(counts), 25), 3)
    for row, count in enumerate(counts):
        ids[row, 1 : 1 + count] = 7
    steps = plan_steps(ids, None, [1, 2, 3], length, limit, alignment)
    assert [step.distance for step in steps] == list(range(len(steps), 0, -1))
    for row, count in enumerate(counts):
        parts = [step.places[step.rows == row].flatten() for step in steps if (step.rows == row).any()]
        parts = [part[part >= 0] for part in parts]
        kept = min(count, length * limit) if limit else count
        assert torch.cat(parts).tolist() == list(range(1, 1 + kept))
        sizes = [len(part) for part in parts]
        assert max(sizes) <= length and (row in steps[-1].rows)
        assert len(sizes) == max(1, -(-kept // length)) or alignment == "balanced"
        if len(sizes) > 1:
            full = {"right": sizes[1:], "left": sizes[:-1], "balanced": sizes[:-1]}[alignment]
            assert len(set(full)) == 1
            assert alignment == "balanced" or full[0] == length


@pytest.mark.parametrize("alignment", ["right", "left", "balanced"])
def test_a_batch_gives_what_its_sequences_give_alone(config, batch, alignment):
    config.segment_alignment = alignment
    model = RmtForTokenClassification(config).eval()
    together = model(**batch)
    for row, count in enumerate((37, 11, 0)):
        alone = model(batch["input_ids"][row : row + 1, : max(count, 1)])
        assert torch.allclose(together.logits[row, :count], alone.logits[0, :count], atol=1e-5)
        assert torch.allclose(together.memory[row], alone.memory[0], atol=1e-5)


def test_answers_stand_where_the_tokens_do(batch):
    model = RmtForTokenClassification(build_config(num_memory_tokens=0)).eval()
    logits = model(**batch).logits
    content = (batch["input_ids"] > 4)[..., None]
    assert logits.shape == (3, 37, 2)
    assert ((logits != 0) == content).all()
    # Without memory tokens a segment is just a sequence: the last full one of the first row.
    last = batch["input_ids"][:1, 23:36]
    direct = model.head(torch.cat([torch.tensor([[1, 2]]), last, torch.tensor([[2]])], 1)).logits[0, 2:-1]
    assert torch.allclose(logits[0, 23:36], direct, atol=1e-5)


def test_memory_carries_the_past(batch):
    model = RmtForTokenClassification(build_config()).eval()
    changed = batch["input_ids"].clone()
    changed[0, 1] = 39 if changed[0, 1] != 39 else 38  # in the first segment
    difference = (model(**batch).logits - model(changed, batch["attention_mask"]).logits).abs().amax(-1)
    assert (difference[0, -6:-1] > 0).all()
    assert (difference[1:] == 0).all()


def test_reading_on_with_the_memory_gives_the_whole(config):
    config.segment_alignment = "left"
    model = RmtModel(config).eval()
    ids = torch.randint(5, 40, (2, 5 * config.content_length + 4))
    whole = model(ids)
    middle = 2 * config.content_length
    first = model(ids[:, :middle])
    second = model(ids[:, middle:], memory=first.memory)
    pieces = torch.cat([first.last_hidden_state, second.last_hidden_state], 1)
    assert torch.allclose(pieces, whole.last_hidden_state, atol=1e-5)
    assert torch.allclose(second.memory, whole.memory, atol=1e-5)


@pytest.mark.parametrize(
    ("model_class", "labels"),
    [
        (RmtForSequenceClassification, lambda ids: torch.tensor([0, 1, 1])),
        (RmtForTokenClassification, lambda ids: torch.where(ids > 4, ids % 2, -100)),
        (RmtForMaskedLM, lambda ids: torch.where(ids > 30, ids, -100)),
    ],
)
def test_recomputing_segments_changes_no_gradient(model_class, labels, config, batch):
    model = model_class(config).double().train()
    gradients, losses = [], []
    for recompute in (False, True):
        model.config.recompute_segments = recompute
        model.zero_grad()
        loss = model(**batch, labels=labels(batch["input_ids"])).loss
        loss.backward()
        losses.append(loss.detach())
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert torch.equal(*losses)
    for name, plain in gradients[0].items():
        assert (plain is None) == (gradients[1][name] is None), name
        assert plain is None or torch.allclose(plain, gradients[1][name], rtol=1e-9, atol=1e-12), name
    assert gradients[0]["model.memory_tokens.weight"].abs().max() > 0


def test_recomputing_repeats_dropout(batch):
    config = build_config()
    config.backbone_config.hidden_dropout_prob = 0.3
    model = RmtForSequenceClassification(config).train()
    gradients = []
    for recompute in (False, True):
        model.config.recompute_segments = recompute
        model.zero_grad()
        torch.manual_seed(5)
        model(**batch, labels=torch.tensor([0, 1, 1])).loss.backward()
        gradients.append(model.memory_tokens.weight.grad)
    assert torch.allclose(*gradients, atol=1e-7)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_cut_gradients_still_train_the_memory_tokens(depth, batch):
    model = RmtForSequenceClassification(build_config(bptt_depth=depth)).train()
    batch = {name: tensor[:1] for name, tensor in batch.items()}
    model(**batch, labels=torch.tensor([1])).loss.backward()
    assert model.memory_tokens.weight.grad.abs().max() > 0
    whole = RmtForSequenceClassification(build_config()).eval()
    whole.load_state_dict(model.state_dict())
    assert torch.equal(model.eval()(**batch).logits, whole(**batch).logits)


def test_deep_enough_is_all(batch):
    gradients = []
    for depth in (None, 4):
        torch.manual_seed(0)
        model = RmtForSequenceClassification(build_config(bptt_depth=depth)).train()
        model(**batch, labels=torch.tensor([0, 1, 1])).loss.backward()
        gradients.append(model.memory_tokens.weight.grad)
    assert torch.equal(*gradients)


def test_losses_of_all_segments_weigh_sequences_equally(batch):
    torch.manual_seed(0)
    model = RmtForSequenceClassification(build_config(segment_losses="all")).eval()
    labels = torch.tensor([0, 1, 1])
    alone = [model(batch["input_ids"][[row]], labels=labels[[row]]).loss for row in range(3)]
    assert torch.allclose(model(**batch, labels=labels).loss, torch.stack(alone).mean(), atol=1e-6)


@pytest.mark.parametrize(
    ("model_class", "auto_class"),
    [
        (RmtForSequenceClassification, AutoModelForSequenceClassification),
        (RmtForTokenClassification, AutoModelForTokenClassification),
        (RmtForMaskedLM, AutoModelForMaskedLM),
    ],
)
def test_saved_model_loads_by_its_auto_class(model_class, auto_class, config, batch, tmp_path):
    model = model_class(config).eval()
    model.save_pretrained(tmp_path)
    loaded, found = auto_class.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is model_class
    assert not found["missing_keys"] and not found["unexpected_keys"]
    assert torch.equal(loaded.eval()(**batch).logits, model(**batch).logits)


def test_encoder_checkpoint_is_no_model_with_memory(tmp_path):
    AutoModelForMaskedLM.from_config(ENCODERS["gena"]()).save_pretrained(tmp_path)
    build_config().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"is no RmtForMaskedLM.*weights are missing.*from_backbone"):
        RmtForMaskedLM.from_pretrained(tmp_path)


def test_memory_around_a_trained_classifier(batch):
    native = AutoModelForSequenceClassification.from_config(ENCODERS["bert"]())
    native.config.id2label = {0: "no", 1: "yes"}
    model = RmtForSequenceClassification.from_backbone(native, num_memory_tokens=2, segment_length=20, **TOKENS)
    assert model.model.backbone is native.base_model
    assert native(batch["input_ids"]).logits.shape == (3, 2)
    assert "bert.embeddings.word_embeddings.weight" in native.state_dict()
    assert model.config.id2label == {0: "no", 1: "yes"}
    assert model.config.label2id == native.config.label2id == {"no": 0, "yes": 1}
    assert model(**batch).logits.shape == (3, 2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"segment_length": 6}, "leaves no room for content beside 3 memory tokens and 3 special tokens"),
        ({"num_memory_tokens": -1}, "num_memory_tokens=-1"),
        ({"bptt_depth": -1}, "bptt_depth=-1"),
        ({"max_segments": 0}, "max_segments=0"),
        ({"segment_alignment": "middle"}, "segment_alignment"),
        ({"pad_token_id": -1}, "pad_token_id is missing"),
        ({"segment_length": 65}, "segment_length=65: the encoder has learned positions for 64 tokens"),
    ],
)
def test_impossible_segments_are_refused(fields, message):
    with pytest.raises(Exception, match=message):
        build_config(**fields)


V1 = {"position_embedding_type": "absolute", "max_position_embeddings": 20}


@pytest.mark.parametrize(
    ("encoder", "length"),
    [
        (lambda: BertConfig(**SIZE), 64),
        (lambda: RobertaConfig(**{**SIZE, "pad_token_id": 1}), 62),
        (lambda: EsmConfig(**SIZE, position_embedding_type="absolute"), 60),
        (lambda: NucleotideTransformerConfig(**V1), 18),
        (lambda: NucleotideTransformerConfig(max_position_embeddings=20), 18),
    ],
)
def test_segments_are_as_long_as_the_encoder_s_inputs(encoder, length):
    assert RmtConfig(backbone_config=encoder()).segment_length == length


@pytest.mark.parametrize("config_class", [NTv3Config, SegmentNTConfig])
def test_encoders_with_a_u_net_are_refused(config_class):
    with pytest.raises(ValueError, match=f"{config_class.model_type} cannot be read in segments"):
        RmtConfig(backbone_config=config_class())


def test_nucleotide_transformer_keeps_its_cls():
    size = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    native = NucleotideTransformerForSequenceClassification(NucleotideTransformerConfig(**size, **V1))
    model = RmtForSequenceClassification.from_backbone(native, num_memory_tokens=2).eval()
    assert (model.config.cls_token_id, model.config.sep_token_id, model.config.content_length) == (3, -1, 15)
    seen = []
    model.head.register_forward_pre_hook(lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True)
    ids = torch.cat([torch.full((1, 1), 3), torch.randint(6, 40, (1, 40))], 1)
    model(ids)
    cls = model.get_input_embeddings().weight[3]
    assert len(seen) == 3 and all(torch.equal(each["inputs_embeds"][0, 0], cls) for each in seen)


def test_gengram_within_a_recurrent_memory_trains_with_trainer(batch, tmp_path):
    torch.manual_seed(0)
    native = GengramForSequenceClassification(ENCODERS["gengram"]())
    model = RmtForSequenceClassification.from_backbone(native, num_memory_tokens=2, segment_length=16, **TOKENS)
    rows = [{"input_ids": torch.randint(5, 40, (30,)), "labels": torch.tensor(index % 2)} for index in range(8)]
    arguments = TrainingArguments(
        tmp_path / "run", num_train_epochs=1, per_device_train_batch_size=4, report_to="none", use_cpu=True
    )
    before = model.memory_tokens.weight.detach().clone()
    trainer = Trainer(model, arguments, train_dataset=rows, eval_dataset=rows)
    trainer.train()
    assert not torch.equal(before, model.memory_tokens.weight)
    assert trainer.predict(rows).predictions.shape == (8, 2)
    trainer.save_model(tmp_path / "saved")
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()
    assert torch.equal(loaded(**batch).logits, model.eval()(**batch).logits)


@pytest.mark.parametrize(
    "model_class", [RmtModel, RmtForSequenceClassification, RmtForTokenClassification, RmtForMaskedLM]
)
def test_arguments_without_effect_are_refused(model_class, batch):
    model = model_class(build_config()).eval()
    ones = torch.ones_like(batch["input_ids"])
    for name, value in {"output_hidden_states": True, "output_attentions": True, "atention_mask": ones}.items():
        with pytest.raises(TypeError, match=f"{name}: a model with a recurrent memory"):
            model(**batch, **{name: value})
    with pytest.raises(TypeError, match="token_type_ids: there are no pairs"):
        model(**batch, token_type_ids=ones)
    silent = {"output_hidden_states": False, "inputs_embeds": None, "token_type_ids": ones * 0}
    for ours, plain in zip(model(**batch, **silent, return_dict=False), model(**batch).to_tuple(), strict=True):
        assert torch.equal(ours, plain)


def test_adapters_train_and_save_the_memory_tokens(batch, tmp_path):
    torch.manual_seed(0)
    model = RmtForSequenceClassification(build_config())
    adapted = get_peft_model(
        model, LoraConfig(target_modules=["query", "value"], modules_to_save=["memory_tokens", "classifier"])
    )
    optimizer = torch.optim.SGD([each for each in adapted.parameters() if each.requires_grad], lr=1.0)
    adapted.train()
    adapted(**batch, labels=torch.tensor([0, 1, 1])).loss.backward()
    optimizer.step()
    trained = adapted.eval()(**batch).logits
    adapted.save_pretrained(tmp_path)
    fresh = RmtForSequenceClassification(build_config())
    fresh.load_state_dict(
        {
            name.replace("base_layer.", "").replace("original_module.", ""): tensor
            for name, tensor in adapted.base_model.model.state_dict().items()
            if "lora_" not in name and "modules_to_save" not in name
        }
    )
    again = PeftModel.from_pretrained(fresh, tmp_path).eval()
    assert torch.allclose(again(**batch).logits, trained, atol=1e-6)
    assert not torch.allclose(fresh.memory_tokens(1), model.memory_tokens.original_module(1))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_resized_vocabulary_resizes_the_head_s_bias_wherever_it_lies(encoder):
    torch.manual_seed(0)
    model = RmtForMaskedLM(
        RmtConfig(backbone_config=ENCODERS[encoder](), segment_length=16, num_memory_tokens=2, **TOKENS)
    )
    model.eval()
    ids = torch.randint(5, 36, (2, 20))
    with torch.no_grad():
        before = model(ids).logits
        for rows in (47, 37):
            model.resize_token_embeddings(rows)
            after = model(ids).logits
            assert model.config.vocab_size == after.shape[-1] == rows
            torch.testing.assert_close(after[..., :37], before[..., :37])
