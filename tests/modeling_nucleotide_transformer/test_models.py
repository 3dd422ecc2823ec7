"""Nucleotide Transformer encoders: against a definition in float64, and as members of transformers."""

import math

import pytest
import torch
from torch.nn import functional
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification, pipeline

from gengram import (
    NucleotideTransformerConfig,
    NucleotideTransformerForMaskedLM,
    NucleotideTransformerForSequenceClassification,
    NucleotideTransformerForTokenClassification,
    NucleotideTransformerModel,
)
from gengram.tokenization import build_kmer_tokenizer

GENERATIONS = {
    "v1": {"gated_mlp": False, "mlp_bias": True, "position_embedding_type": "absolute", "token_dropout": True},
    "agro": {"gated_mlp": False, "mlp_bias": True, "position_embedding_type": "absolute"},
    "v2": {},
    "stretched": {"rescaling_factor": 2.5},
    "unbiased": {"gated_mlp": False, "mlp_bias": False},
}
CLASSES = [
    NucleotideTransformerModel,
    NucleotideTransformerForMaskedLM,
    NucleotideTransformerForSequenceClassification,
    NucleotideTransformerForTokenClassification,
]
LENGTHS = (11, 7, 3)


def make_config(generation: str = "v2", **fields) -> NucleotideTransformerConfig:
    small = {
        "vocab_size": 75,
        "hidden_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "intermediate_size": 20,
        "max_position_embeddings": 18,
        "layer_norm_eps": 1e-5,
    }
    return NucleotideTransformerConfig(**{**small, **GENERATIONS[generation], **fields})


def build(model_class, generation: str = "v2", seed: int = 0, **fields):
    """A model whose weights are large enough to show a fault in any of them."""
    torch.manual_seed(seed)
    model = model_class(make_config(generation, **fields)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * (0.3 if weight.dim() == 1 else 0.2))
    return model


def make_batch() -> dict[str, torch.Tensor]:
    """Three sequences of different length, `<cls>` first, masks among them, padding on the right."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(6, 75, (len(LENGTHS), max(LENGTHS)), generator=generator)
    ids[:, 0] = 3
    ids[0, 4] = ids[0, 6] = ids[1, 2] = 2
    real = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    return {"input_ids": torch.where(real, ids, 1), "attention_mask": real.long()}


def define(model: NucleotideTransformerForMaskedLM, ids: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Logits [T, V] and hidden states of one sequence without padding: the specification, line by line, in float64.

    It shares the parameters with the model, through `.double()`, so that gradients arrive there.
    """
    config, weights = model.config, {name: weight.double() for name, weight in model.named_parameters()}
    eps, heads, D = config.layer_norm_eps, config.num_attention_heads, config.hidden_size
    d, T = D // heads, len(ids)

    def norm(x, name):
        return functional.layer_norm(x, (D,), weights[f"{name}.weight"], weights[f"{name}.bias"], eps)

    def linear(x, name):
        return functional.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    def gelu(x):
        return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))

    def rotate(x):  # [heads, T, d]
        base = config.rope_theta * (config.rescaling_factor or 1.0) ** (d / (d - 2))
        rows = []
        for t in range(T):
            columns = [None] * d
            for j in range(d // 2):
                angle = t * base ** (-2 * j / d)
                a, b = x[:, t, j], x[:, t, j + d // 2]
                columns[j] = a * math.cos(angle) - b * math.sin(angle)
                columns[j + d // 2] = b * math.cos(angle) + a * math.sin(angle)
            rows.append(torch.stack(columns, -1))
        return torch.stack(rows, 1)

    x = weights["esm.embeddings.word_embeddings.weight"][ids]
    if config.token_dropout:
        masked = ids == 2
        x = torch.where(masked[:, None], 0.0, x) * (1 - 0.12) / (1 - masked.sum().item() / T)
    if config.position_embedding_type == "absolute":
        x = x + weights["esm.embeddings.position_embeddings.weight"][2 : T + 2]
    states = [x]
    for layer in range(config.num_hidden_layers):
        name = f"esm.encoder.layer.{layer}"
        h = norm(x, f"{name}.attention.LayerNorm")
        query, key, value = (
            linear(h, f"{name}.attention.self.{part}").view(T, heads, d).transpose(0, 1)
            for part in ("query", "key", "value")
        )
        query = query * d**-0.5
        if config.position_embedding_type == "rotary":
            query, key = rotate(query), rotate(key)
        attended = torch.softmax(query @ key.transpose(1, 2), -1) @ value
        x = x + linear(attended.transpose(0, 1).reshape(T, D), f"{name}.attention.output.dense")
        h = linear(norm(x, f"{name}.LayerNorm"), f"{name}.intermediate.dense")
        if config.gated_mlp:
            gate, up = h[:, : config.intermediate_size], h[:, config.intermediate_size :]
            h = gate * torch.sigmoid(gate) * up
        else:
            h = gelu(h)
        x = x + linear(h, f"{name}.output.dense")
        states.append(x)
    x = states[-1] = norm(x, "esm.encoder.emb_layer_norm_after")
    x = norm(gelu(linear(x, "lm_head.dense")), "lm_head.layer_norm")
    return linear(x, "lm_head.decoder") + weights["lm_head.bias"], states


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("generation", GENERATIONS)
def test_outputs_and_gradients_are_the_definitions(generation, attention):
    model = build(NucleotideTransformerForMaskedLM, generation, attn_implementation=attention)
    batch = make_batch()
    outputs = model(**batch, output_hidden_states=True)
    expected_loss = torch.zeros((), dtype=torch.float64)
    loss = torch.zeros(())
    for row, length in enumerate(LENGTHS):
        logits, states = define(model, batch["input_ids"][row, :length])
        torch.testing.assert_close(outputs.logits[row, :length].double(), logits, rtol=0, atol=2e-5)
        for ours, theirs in zip(outputs.hidden_states, states, strict=True):
            torch.testing.assert_close(ours[row, :length].double(), theirs, rtol=0, atol=2e-5)
        loss = loss + outputs.logits[row, :length].square().mean()
        expected_loss = expected_loss + logits.square().mean()
    names, weights = zip(*model.named_parameters())
    gradients = torch.autograd.grad(loss, weights)
    expected = torch.autograd.grad(expected_loss, weights)
    scale = max(float(theirs.norm()) for theirs in expected)
    for name, ours, theirs in zip(names, gradients, expected):
        # Without rotation a bias of the keys shifts all scores alike: its gradient is zero but for rounding.
        error = float((ours - theirs).norm() / theirs.norm().clamp(min=1e-3 * scale))
        assert error < 2e-5, f"{name}: {error:.1e}"


@pytest.mark.filterwarnings("ignore:.*flex_attention")
def test_flex_attention():
    """Not compiled, which takes half a minute on a CPU; the backward pass needs a GPU."""
    batch = make_batch()
    expected = build(NucleotideTransformerModel, attn_implementation="eager")(**batch).last_hidden_state
    model = build(NucleotideTransformerModel, attn_implementation="flex_attention")
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        ours = model(**batch).last_hidden_state
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(ours[real], expected[real], rtol=0, atol=2e-5)


def test_attention_maps_are_distributions_over_real_tokens():
    batch = make_batch()
    model = build(NucleotideTransformerModel, attn_implementation="eager")
    attentions = model(**batch, output_attentions=True).attentions
    assert [weights.shape for weights in attentions] == [(3, 3, 11, 11)] * 3
    real = batch["attention_mask"].bool()
    for weights in attentions:
        torch.testing.assert_close(weights.sum(-1), torch.ones(3, 3, 11))
        assert weights.transpose(1, 3)[~real].max() == 0


@pytest.mark.parametrize("generation", ["v1", "v2"])
def test_padding_changes_nothing(generation):
    model, batch = build(NucleotideTransformerModel, generation), make_batch()
    together = model(**batch).last_hidden_state
    for row, length in enumerate(LENGTHS):
        alone = model(input_ids=batch["input_ids"][row : row + 1, :length]).last_hidden_state
        torch.testing.assert_close(together[row, :length], alone[0], rtol=0, atol=1e-5)


def test_token_dropout_scales_a_sequence_without_masks_too():
    model = build(NucleotideTransformerModel, "v1")
    ids = torch.tensor([[3, 10, 11, 12]])
    embedded = model.embeddings.word_embeddings(ids)
    positions = model.embeddings.position_embeddings.weight[2:6]
    first = model(input_ids=ids, output_hidden_states=True).hidden_states[0]
    torch.testing.assert_close(first, embedded * 0.88 + positions)
    torch.testing.assert_close(
        model(inputs_embeds=embedded).last_hidden_state, model(input_ids=ids).last_hidden_state, rtol=0, atol=1e-6
    )


def test_hidden_states_end_behind_the_last_norm_and_the_raw_output_is_before_it():
    model, raw = build(NucleotideTransformerModel), []
    model.encoder.layer[-1].register_forward_hook(lambda layer, inputs, output: raw.append(output))
    outputs = model(**make_batch(), output_hidden_states=True)
    assert len(outputs.hidden_states) == 4
    torch.testing.assert_close(outputs.hidden_states[-1], outputs.last_hidden_state)
    torch.testing.assert_close(model.encoder.emb_layer_norm_after(raw[0]), outputs.last_hidden_state)


def test_more_tokens_than_learned_positions_stop_with_both_numbers():
    model = build(NucleotideTransformerModel, "v1")
    assert model.config.max_tokens == 16
    ids = torch.full((1, 17), 10)
    with pytest.raises(ValueError, match=r"17 tokens.*positions for 16"):
        model(input_ids=ids)
    with pytest.raises(ValueError, match=r"17 tokens.*positions for 16"):
        model(inputs_embeds=torch.zeros(1, 17, 24))
    ids[0, 16] = 1
    assert model(input_ids=ids).last_hidden_state.shape == (1, 17, 24)
    assert build(NucleotideTransformerModel, "v2")(torch.full((1, 30), 10)).last_hidden_state.isfinite().all()


@pytest.mark.parametrize("given", [{}, {"input_ids": torch.ones(1, 2).long(), "inputs_embeds": torch.ones(1, 2, 24)}])
def test_ids_or_embeddings(given):
    with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
        build(NucleotideTransformerModel)(**given)


def test_rotation_keeps_its_digits_in_half_precision():
    """A buffer of frequencies would be rounded with the model: at position 2,000 that is a wrong angle."""
    model = build(NucleotideTransformerModel)
    positions = torch.arange(2000, 2048)[None]
    exact = model.rotary_embeddings(positions)
    half = model.to(torch.bfloat16).rotary_embeddings(positions)
    assert all(torch.equal(a, b) for a, b in zip(exact, half))
    assert not list(model.rotary_embeddings.buffers())


def test_training_after_inference_mode():
    model, batch = build(NucleotideTransformerForMaskedLM), make_batch()
    with torch.inference_mode():
        model(**batch)
    model.train()(**batch, labels=batch["input_ids"]).loss.backward()


@pytest.mark.parametrize("generation", ["v1", "v2"])
@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing(generation, reentrant):
    batch, gradients = make_batch(), []
    for checkpointing in (False, True):
        model = build(NucleotideTransformerForMaskedLM, generation).train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        model(**batch, labels=batch["input_ids"]).loss.backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters()})
    for name, plain in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], plain, rtol=0, atol=1e-7, msg=name)


def test_every_parameter_learns():
    """None is dead: data-parallel training stops at parameters without a gradient."""
    for generation in ("v1", "v2"):
        model, batch = build(NucleotideTransformerForMaskedLM, generation), make_batch()
        model(**batch, labels=batch["input_ids"]).loss.backward()
        assert [name for name, weight in model.named_parameters() if weight.grad is None] == []


@pytest.mark.parametrize("model_class", CLASSES)
@pytest.mark.parametrize("generation", ["v1", "v2"])
def test_save_and_load(model_class, generation, tmp_path):
    model, batch = build(model_class, generation, num_labels=3), make_batch()
    model.save_pretrained(tmp_path)
    loaded, found = model_class.from_pretrained(tmp_path, output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"]
    ours, theirs = model.config.to_dict(), loaded.config.to_dict()
    assert {name: theirs[name] for name in ours if name not in ("_name_or_path", "dtype")} == {
        name: value for name, value in ours.items() if name not in ("_name_or_path", "dtype")
    }
    torch.testing.assert_close(loaded(**batch)[0], model(**batch)[0], rtol=0, atol=0)
    assert isinstance(AutoModel.from_pretrained(tmp_path), NucleotideTransformerModel)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), NucleotideTransformerConfig)
    assert set(model.config.auto_map) == {
        "AutoConfig",
        "AutoModel",
        "AutoModelForMaskedLM",
        "AutoModelForPreTraining",
        "AutoModelForSequenceClassification",
        "AutoModelForTokenClassification",
    }


def test_half_precision_checkpoint_keeps_its_type(tmp_path):
    build(NucleotideTransformerForMaskedLM).to(torch.bfloat16).save_pretrained(tmp_path)
    assert AutoModelForMaskedLM.from_pretrained(tmp_path).dtype == torch.bfloat16
    assert AutoModelForMaskedLM.from_pretrained(tmp_path, dtype=torch.float32).dtype == torch.float32


def test_embeddings_are_tied_only_if_asked(tmp_path):
    untied = build(NucleotideTransformerForMaskedLM)
    assert untied.lm_head.decoder.weight is not untied.get_input_embeddings().weight
    tied = NucleotideTransformerForMaskedLM(make_config(tie_word_embeddings=True))
    assert tied.lm_head.decoder.weight is tied.get_input_embeddings().weight
    tied.save_pretrained(tmp_path)
    loaded = NucleotideTransformerForMaskedLM.from_pretrained(tmp_path)
    assert loaded.lm_head.decoder.weight is loaded.get_input_embeddings().weight


@pytest.mark.parametrize("rows", [80, 70])
def test_resized_vocabulary(rows):
    model, batch = build(NucleotideTransformerForMaskedLM), make_batch()
    batch["input_ids"].clamp_(max=60)
    before = model(**batch).logits
    model.resize_token_embeddings(rows)
    after = model(**batch).logits
    assert after.shape[-1] == model.config.vocab_size == rows
    torch.testing.assert_close(after[..., :70], before[..., :70])


def test_loss_counts_labels_over_accumulated_batches():
    model, batch = build(NucleotideTransformerForMaskedLM), make_batch()
    labels = batch["input_ids"].masked_fill(batch["input_ids"] % 2 == 0, -100)
    mean = model(**batch, labels=labels).loss
    count = int((labels != -100).sum())
    torch.testing.assert_close(model(**batch, labels=labels, num_items_in_batch=2 * count).loss, mean / 2)


@pytest.mark.parametrize(
    "labels,num_labels,problem",
    [
        (torch.tensor([0, 2, 1]), 3, "single_label_classification"),
        (torch.rand(3, 3).round(), 3, "multi_label_classification"),
        (torch.rand(3), 1, "regression"),
    ],
)
def test_sequence_classification_problems(labels, num_labels, problem):
    model = build(NucleotideTransformerForSequenceClassification, num_labels=num_labels)
    outputs = model(**make_batch(), labels=labels)
    assert outputs.logits.shape == (3, num_labels) and outputs.loss.isfinite()
    assert model.config.problem_type == problem


@pytest.mark.parametrize("problem", ["single_label_classification", "multi_label_classification", "regression"])
def test_micro_batches_have_their_share_of_the_loss(problem):
    model = build(NucleotideTransformerForSequenceClassification, num_labels=3, problem_type=problem)
    batch = make_batch()
    labels = torch.tensor([0, 2, 1]) if problem.startswith("single") else torch.rand(3, 3).round()
    parts = [
        model(**{name: part[rows] for name, part in batch.items()}, labels=labels[rows], num_items_in_batch=count).loss
        for rows, count in ((slice(0, 1), labels.numel()), (slice(1, 3), torch.tensor(labels.numel())))
    ]
    torch.testing.assert_close(sum(parts), model(**batch, labels=labels).loss)


def test_token_classification_leaves_ignored_labels_out():
    model, batch = build(NucleotideTransformerForTokenClassification, num_labels=3), make_batch()
    labels = torch.where(batch["attention_mask"].bool(), 1, -100)
    outputs = model(**batch, labels=labels)
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(outputs.loss, functional.cross_entropy(outputs.logits[real], labels[real]))


def test_packed_rotary_positions():
    """Positions that start anew are positions of their own: the rotation sees distances within them only."""
    model = build(NucleotideTransformerModel)
    ids = torch.randint(6, 75, (1, 6))
    shifted = torch.arange(6)[None] + 5
    torch.testing.assert_close(
        model(ids, position_ids=shifted).last_hidden_state, model(ids).last_hidden_state, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize(
    "fields,message",
    [
        ({"num_attention_heads": 5}, "not a multiple"),
        ({"hidden_size": 9, "num_attention_heads": 3}, "must be even"),
        ({"rescaling_factor": 2.0, "position_embedding_type": "absolute"}, "rescaling_factor"),
        ({"mask_token_id": 75}, "mask_token_id=75"),
        ({"pad_token_id": -1}, "pad_token_id=-1"),
    ],
)
def test_configurations_that_do_not_fit(fields, message):
    with pytest.raises(Exception, match=message):
        make_config(**fields)


def test_new_model_from_auto_class():
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(make_config(num_labels=4))
    assert isinstance(model, NucleotideTransformerForSequenceClassification)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            assert not weight.any(), name
        elif weight.dim() == 2:
            assert 0.01 < weight.std() < 0.03, name
    assert not NucleotideTransformerForMaskedLM(make_config()).lm_head.bias.any()


def test_pipelines_of_transformers():
    tokenizer = build_kmer_tokenizer(3)
    masked = pipeline("fill-mask", model=build(NucleotideTransformerForMaskedLM), tokenizer=tokenizer)
    best = masked("ACGT<mask>TTT", top_k=2)
    assert len(best) == 2 and best[0]["score"] >= best[1]["score"]
    assert best[0]["sequence"] == "ACGT" + best[0]["token_str"] + "TTT"
    features = pipeline("feature-extraction", model=build(NucleotideTransformerModel), tokenizer=tokenizer)
    assert torch.tensor(features("ACGTTT")).shape == (1, 3, 24)


def test_exported_graph_takes_any_batch_and_length():
    model, batch = build(NucleotideTransformerForMaskedLM), make_batch()
    free = {0: torch.export.Dim("B", min=2, max=8), 1: torch.export.Dim("T", min=3, max=60)}
    exported = torch.export.export(model, (), batch, dynamic_shapes=dict.fromkeys(batch, free)).module()
    part = {name: value[:2, :7] for name, value in batch.items()}
    with torch.no_grad():
        torch.testing.assert_close(exported(**part).logits, model(**part).logits, rtol=0, atol=1e-5)


def test_compiled_model_equals_eager():
    model, batch = build(NucleotideTransformerModel), make_batch()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(**batch).last_hidden_state, model(**batch).last_hidden_state)
