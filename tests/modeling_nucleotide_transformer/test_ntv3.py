"""NTv3: against a definition in float64, lengths, species, checkpoints."""

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification, pipeline

import gengram
from gengram import (
    NTv3Config,
    NTv3ForMaskedLM,
    NTv3ForSequenceClassification,
    NTv3ForTokenClassification,
    NTv3Model,
    NTv3PostTrainedConfig,
    NTv3PostTrainedModel,
)
from gengram.loading.tokenizers import load_tokenizer
from gengram.nucleotide_transformer.ntv3_layers import eager_attention_forward
from gengram.tokenization import build_ntv3_tokenizer

SMALL = {
    "token_embed_dim": 6,
    "conv_init_embed_dim": 9,
    "embed_dim": 14,
    "ffn_embed_dim": 10,
    "num_layers": 2,
    "attention_heads": 3,
    "key_size": 4,
    "num_downsamples": 2,
}
SPECIES = {
    "species_to_token_id": {"fly": 9, "human": 6, "plant": 8, "mouse": 7},
    "bigwigs_per_species": {"mouse": ["d"], "human": ["a", "b", "c"], "fly": ["e", "f"]},
    "bed_elements_names": ["exon", "intron"],
}
FORMS = {
    "repeated": {},
    "odd zeros": {"deconv_upsample_type": "conv_transpose", "num_hidden_layers_head": 1},
    "even zeros": {"deconv_upsample_type": "conv_transpose", "deconv_phase": "even", "use_skip_connection": False},
}


def build(model_class, seed: int = 0, **fields):
    """A model whose weights are large enough to show a fault in any of them."""
    fields = {**SMALL, **fields}
    post = model_class is NTv3PostTrainedModel
    config = NTv3PostTrainedConfig(**SPECIES, **fields) if post else NTv3Config(**fields)
    torch.manual_seed(seed)
    model = model_class(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * (0.3 if weight.dim() == 1 else 0.2))
    return model


def draw(B: int = 2, T: int = 12) -> torch.Tensor:
    return torch.randint(6, 11, (B, T), generator=torch.Generator().manual_seed(1))


def define(model, ids: torch.Tensor, species: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    """The specification, line by line, in float64, of one sequence [T]; shares the parameters with the model."""
    config = model.config
    weights = {name.removeprefix("core."): weight.double() for name, weight in model.named_parameters()}
    condition = None if species is None else weights["cond_tables.0.weight"][species]

    def linear(x, name):
        return functional.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    def norm(x, name):  # [T, C]
        x = functional.layer_norm(
            x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], config.layer_norm_eps
        )
        if condition is None or f"{name}.modulation_layers.0.weight" not in weights:
            return x
        modulation = linear(condition, f"{name}.modulation_layers.0")
        C = x.shape[-1]
        return x * (1 + modulation[C:]) + modulation[:C]

    def gate(x, name):
        return x if condition is None else x * (1 + linear(condition, f"{name}.modulation_layers.0"))

    def gelu(x):
        return 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))

    def convolve(x, name):
        weight = weights[f"{name}.weight"]
        return functional.conv1d(x.T[None], weight, weights[f"{name}.bias"], padding=weight.shape[-1] // 2)[0].T

    def transpose_convolve(x, name, shift):
        """Stride 2, by torch's own: its kernel runs the other way."""
        weight = weights[f"{name}.weight"].transpose(0, 1).flip(-1)
        full = functional.conv_transpose1d(x.T[None], weight, weights[f"{name}.bias"], stride=2)[0].T
        return full[shift : shift + 2 * len(x)]

    def residual(x, name):
        states = norm(x, f"{name}.conv_block.layer_norm")
        weight, bias = weights[f"{name}.conv_block.conv.weight"], weights[f"{name}.conv_block.conv.bias"]
        product = functional.conv_transpose1d if name.startswith("deconv") else functional.conv1d
        return x + gate(gelu(product(states.T[None], weight, bias)[0].T), name)

    def rotate(x):  # [heads, T, d]
        d, T = x.shape[-1], x.shape[-2]
        angles = torch.arange(T)[:, None].double() * 10000.0 ** (-torch.arange(0, d, 2).double() / d)
        first, second = x[..., : d // 2], x[..., d // 2 :]
        cos, sin = angles.cos(), angles.sin()
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)

    x = gelu(convolve(weights["embed_layer.weight"][ids], "stem.conv"))
    skips = []
    for i in range(config.num_downsamples):
        skips.append(x)
        name = f"conv_tower_blocks.{i}"
        x = gelu(convolve(norm(x, f"{name}.conv.layer_norm"), f"{name}.conv.conv"))
        x = residual(x, f"{name}.res_conv")
        x = (x[0::2] + x[1::2]) / 2
    for i in range(config.num_layers):
        name = f"transformer_blocks.{i}"
        states = norm(x, f"{name}.self_attention_layer_norm")
        query, key, value = (
            linear(states, f"{name}.sa_layer.{part}_head.linear").view(len(x), -1, config.key_size).transpose(0, 1)
            for part in ("query", "key", "value")
        )
        scores = rotate(query) @ rotate(key).transpose(1, 2) / config.key_size**0.5
        attended = (scores.softmax(-1) @ value).transpose(0, 1).flatten(1)
        x = x + linear(attended, f"{name}.sa_layer.mha_output")
        first, second = linear(norm(x, f"{name}.final_layer_norm"), f"{name}.fc1").chunk(2, dim=-1)
        x = x + gate(linear(functional.silu(first) * second, f"{name}.fc2"), name)
    bottom = x
    for i in range(config.num_downsamples):
        name = f"deconv_tower_blocks.{i}"
        states = norm(x, f"{name}.conv.layer_norm")
        if config.deconv_upsample_type == "repeat+conv":
            states = convolve(states.repeat_interleave(2, dim=0), f"{name}.conv.conv")
        else:
            states = transpose_convolve(states, f"{name}.conv.conv", 1 if config.deconv_phase == "odd" else 2)
        x = residual(gelu(states), f"{name}.res_conv")
        x = x + skips.pop() if config.use_skip_connection else x
    states = gelu(x)
    for k in range(config.num_hidden_layers_head):
        states = gelu(linear(states, f"lm_head.hidden_layers.{k}"))
    outputs = {"logits": linear(states, "lm_head.head")}
    if species is not None:
        kept = int(len(x) * config.keep_target_center_fraction)
        center = x[(len(x) - kept) // 2 :][:kept]
        outputs["species_logits"] = linear(bottom.mean(0), "conditions_heads.0")
        outputs["bed_tracks_logits"] = linear(norm(center, "bed_head.layer_norm"), "bed_head.head").view(kept, -1, 2)
        order = sorted(config.bigwigs_per_species, key=lambda name: config.species_to_token_id[name])
        ids_with_tracks = [config.species_to_token_id[name] for name in order]
        signals = torch.zeros(kept, max(map(len, config.bigwigs_per_species.values())), dtype=torch.float64)
        if int(species) in ids_with_tracks:
            name = f"bigwig_head.species_heads.{ids_with_tracks.index(int(species))}"
            own = functional.softplus(linear(norm(center, f"{name}.layer_norm"), f"{name}.head"))
            signals = torch.cat([own, signals[:, own.shape[1] :]], dim=1)
        outputs["bigwig_tracks_logits"] = signals
    return outputs


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("form", [*FORMS, "post-trained"])
def test_outputs_and_gradients_are_the_definitions(form, attention):
    ids = draw(3)
    if form == "post-trained":
        model = build(NTv3PostTrainedModel, attn_implementation=attention)
        species = {"species_ids": torch.tensor(model.config.encode_species(["fly", "plant", "human"]))}
    else:
        model, species = build(NTv3ForMaskedLM, attn_implementation=attention, **FORMS[form]), {}
    ours = model(ids, **species)
    rows = [define(model, row, *given) for row, *given in zip(ids, *species.values())]
    definition = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    generator = torch.Generator().manual_seed(2)
    goals = {name: torch.randn(value.shape, generator=generator) for name, value in definition.items()}
    parameters = dict(model.named_parameters())
    gradients = {
        side: torch.autograd.grad(
            sum((outputs[name] * goal.to(outputs[name])).sum() for name, goal in goals.items()),
            list(parameters.values()),
            allow_unused=True,
            materialize_grads=True,
        )
        for side, outputs in (("ours", ours), ("definition", definition))
    }
    for name, value in definition.items():
        torch.testing.assert_close(ours[name].double(), value, rtol=1e-5, atol=1e-5, msg=lambda m, name=name: name + m)
    for name, got, expected in zip(parameters, gradients["ours"], gradients["definition"]):
        scale = expected.abs().max().item()
        assert scale > 0 or "species_heads.1" in name, name  # the mouse is not in the batch
        torch.testing.assert_close(got, expected, rtol=0, atol=2e-5 * max(scale, 1), msg=lambda m, name=name: name + m)


def test_published_size():
    """8M parameters, as published; with the frequencies of two layers 147 tensors."""
    with torch.device("meta"):
        model = NTv3ForMaskedLM(NTv3Config())
    assert model.num_parameters() == 7_692_475
    assert len(model.state_dict()) == 147 - 2
    assert NTv3Config(conv_init_embed_dim=20, embed_dim=31, num_downsamples=3).widths == [20, 23, 27, 31]


def test_usual_names_of_fields():
    config = NTv3Config(hidden_size=14, num_hidden_layers=3, num_attention_heads=2)
    assert (config.embed_dim, config.num_layers, config.attention_heads) == (14, 3, 2)
    assert "hidden_size" not in config.to_dict() and config.to_dict()["embed_dim"] == 14


@pytest.mark.parametrize("length", [6, 13])
def test_post_trained_models_refuse_lengths_that_do_not_halve_so_often(length):
    model = build(NTv3PostTrainedModel)
    with pytest.raises(ValueError, match=f"{length} bases.*multiple of 4.*N.*pad_to_multiple_of=4"):
        model(torch.full((1, length), 6), species_ids=torch.tensor([6]))


def test_an_input_has_a_base():
    for model_class in (NTv3Model, NTv3ForMaskedLM, NTv3ForSequenceClassification):
        with pytest.raises(ValueError, match="no bases"):
            build(model_class)(torch.empty(1, 0, dtype=torch.long))


CLASSES = [NTv3Model, NTv3ForMaskedLM, NTv3ForSequenceClassification, NTv3ForTokenClassification]


@pytest.mark.parametrize("model_class", CLASSES)
def test_any_length_is_that_of_the_input_filled_up_with_n(model_class):
    model = build(model_class, **({} if model_class in (NTv3Model, NTv3ForMaskedLM) else {"num_labels": 3}))
    flags = {"output_hidden_states": True, "output_attentions": True}
    model.set_attn_implementation("eager")
    for length in range(1, 14):
        ids = draw(2, length)
        short = -length % 4
        filled = torch.cat([ids, torch.full((2, short), 10)], dim=1)
        mask = (torch.arange(length + short) < length).long().expand(2, -1)
        expected = model(filled, attention_mask=mask, **flags)
        embeds = model.get_input_embeddings()(ids)
        for given in ({"input_ids": ids}, {"inputs_embeds": embeds}):
            outputs = model(**given, **flags)
            assert outputs.keys() == expected.keys()
            for name, value in outputs.items():
                if name in ("last_hidden_state", "logits") and value.dim() == 3:
                    torch.testing.assert_close(value, expected[name][:, :length])
                elif name not in ("hidden_states", "attentions"):
                    torch.testing.assert_close(value, expected[name])
            lengths = [states.shape[1] for states in outputs.hidden_states]
            halved = [-(-length // width) for width in (1, 2, 4)]
            assert lengths == [halved[0], halved[1], halved[2], halved[2], halved[1], halved[0]]
            for states, whole in zip(outputs.hidden_states, expected.hidden_states, strict=True):
                torch.testing.assert_close(states, whole[:, : states.shape[1]])
            for weights, whole in zip(outputs.attentions, expected.attentions, strict=True):
                torch.testing.assert_close(weights, whole)


def test_a_tuple_is_given_where_it_is_asked_for():
    model, ids = build(NTv3Model), draw(1, 7)
    expected = model(ids, output_hidden_states=True)
    found = model(ids, output_hidden_states=True, return_dict=False)
    assert isinstance(found, tuple) and len(found) == 3
    torch.testing.assert_close(found[0], expected.last_hidden_state)
    model.config.return_dict = False
    assert isinstance(model(ids), tuple)


@pytest.mark.parametrize("task", ["feature-extraction", "fill-mask", "text-classification", "token-classification"])
def test_pipelines_take_any_length(task):
    """Of transformers, for lengths 1 to 200 with the published seven halvings."""
    by_task = dict(zip(("feature-extraction", "fill-mask", "text-classification", "token-classification"), CLASSES))
    model = build(by_task[task], num_downsamples=7)
    tokenizer = build_ntv3_tokenizer()
    run = pipeline(task, model=model, tokenizer=tokenizer, device="cpu")
    text = tokenizer.decode(draw(1, 200)[0].clamp(max=9))
    for length in (1, 2, 3, 17, 64, 127, 128, 129, 200):
        sequence = text[:length]
        filled = tokenizer(sequence, padding=True, pad_to_multiple_of=128, return_tensors="pt")
        if task == "fill-mask":
            place = length // 2
            filled["input_ids"][0, place] = tokenizer.mask_token_id
            found = run(sequence[:place] + "<mask>" + sequence[place + 1 :], top_k=4)
            scores = model(**filled).logits[0, place].softmax(-1)
            assert {one["token_str"] for one in found} == set("ACGT")
            for one in found:
                assert one["score"] == pytest.approx(scores[one["token"]].item(), abs=1e-5)
                assert one["sequence"] == sequence[:place] + one["token_str"] + sequence[place + 1 :]
        elif task == "feature-extraction":
            expected = model(**filled).last_hidden_state[0, :length]
            torch.testing.assert_close(torch.tensor(run(sequence)[0]), expected)
        elif task == "text-classification":
            scores = {one["label"]: one["score"] for one in run(sequence, top_k=None)}
            expected = model(**filled).logits[0].softmax(-1)
            assert list(scores[f"LABEL_{label}"] for label in (0, 1)) == pytest.approx(expected.tolist(), abs=1e-5)
        else:
            found = run(sequence)
            scores = model(**filled).logits[0, :length].softmax(-1).max(-1)
            assert [(one["start"], one["end"]) for one in found] == [(base, base + 1) for base in range(length)]
            assert [one["score"] for one in found] == pytest.approx(scores.values.tolist(), abs=1e-5)


def test_the_mean_leaves_padding_out():
    model, ids = build(NTv3ForSequenceClassification), draw(2, 12)
    mask = torch.tensor([[1] * 12, [1] * 5 + [0] * 7])
    states = model.core(ids).last_hidden_state
    expected = model.classifier(torch.stack([states[0].mean(0), states[1, :5].mean(0)]))
    torch.testing.assert_close(model(ids, attention_mask=mask).logits, expected)


def test_losses():
    ids, labels = draw(), draw()
    labels[:, ::2] = -100
    outputs = build(NTv3ForMaskedLM)(ids, labels=labels)
    expected = functional.cross_entropy(outputs.logits.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(outputs.loss, expected)
    outputs = build(NTv3ForTokenClassification)(ids, labels=labels.clamp(max=1))
    torch.testing.assert_close(
        outputs.loss, functional.cross_entropy(outputs.logits.flatten(0, 1), labels.clamp(max=1).flatten())
    )
    outputs = build(NTv3ForSequenceClassification, num_labels=1)(ids, labels=torch.tensor([0.5, 2.0]))
    torch.testing.assert_close(outputs.loss, functional.mse_loss(outputs.logits[:, 0], torch.tensor([0.5, 2.0])))


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
def test_micro_batches_have_their_share_of_the_loss(problem):
    model, ids = build(NTv3ForSequenceClassification, num_labels=2, problem_type=problem), draw(3)
    labels = torch.rand(3, 2).round()
    parts = [
        model(ids[rows], labels=labels[rows], num_items_in_batch=labels.numel()).loss
        for rows in (slice(0, 1), slice(1, 3))
    ]
    torch.testing.assert_close(sum(parts), model(ids, labels=labels).loss)


def test_hidden_states_and_attention_maps():
    outputs = build(NTv3ForMaskedLM, attn_implementation="eager")(
        draw(), output_hidden_states=True, output_attentions=True
    )
    shapes = [tuple(states.shape[1:]) for states in outputs.hidden_states]
    assert shapes == [(12, 11), (6, 14), (3, 14), (3, 14), (6, 11), (12, 9)]
    assert [tuple(weights.shape) for weights in outputs.attentions] == [(2, 3, 3, 3)] * 2
    for weights in outputs.attentions:
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 3))


def test_attention_is_in_float32():
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 2, 5, 8, dtype=torch.bfloat16) * 9 for _ in range(3))
    _, weights = eager_attention_forward(None, query, key, value, None, scaling=0.1)
    exact = (query.double() @ key.double().transpose(2, 3) * 0.1).softmax(-1)
    assert torch.equal(weights, exact.float().bfloat16())


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing(reentrant):
    ids, species = draw(), torch.tensor([6, 9])
    gradients = []
    for checkpointed in (False, True):
        model = build(NTv3PostTrainedModel).train()
        if checkpointed:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        outputs = model(ids, species_ids=species, labels=ids)
        (outputs.loss + outputs.bigwig_tracks_logits.sum() + outputs.bed_tracks_logits.square().sum()).backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters()})
    for name, expected in gradients[0].items():
        assert (expected is None) == (gradients[1][name] is None), name
        if expected is not None:
            torch.testing.assert_close(gradients[1][name], expected, msg=lambda m, name=name: name + m)


def test_species_of_a_batch_are_its_rows():
    model, ids = build(NTv3PostTrainedModel), draw(4)
    names = ["fly", "human", "mouse", "plant"]
    species = torch.tensor(model.config.encode_species(names))
    together = model(ids, species_ids=species)
    for row, name in enumerate(names):
        alone = model(ids[row : row + 1], species_ids=species[row : row + 1])
        torch.testing.assert_close(together.bigwig_tracks_logits[row], alone.bigwig_tracks_logits[0])
        tracks = len(model.config.bigwigs_per_species.get(name, []))
        assert (together.bigwig_tracks_logits[row, :, :tracks] > 0).all()
        assert not together.bigwig_tracks_logits[row, :, tracks:].any()
    assert together.bigwig_tracks_logits.shape == (4, 4, 3) and together.bed_tracks_logits.shape == (4, 4, 2, 2)
    assert together.species_logits.shape == (4, 10) and together.logits.shape == (4, 12, 11)


def test_species_are_named_where_they_are_missing_or_unknown():
    model, ids = build(NTv3PostTrainedModel), draw(1)
    with pytest.raises(ValueError, match=r"Give species_ids.*encode_species"):
        model(ids)
    with pytest.raises(ValueError, match=r"\[2, 5\] are no species.*'human': 6"):
        model(draw(2), species_ids=torch.tensor([2, 5]))
    with pytest.raises(ValueError, match=r"'yeast'.*fly, human"):
        model.config.encode_species(["human", "yeast"])
    with pytest.raises(ValueError, match="knows no species"):
        build(NTv3ForMaskedLM)(ids, species_ids=torch.tensor([6]))


@pytest.mark.parametrize("length,expected", [(128, (40, 88)), (131072, (40960, 90112)), (12, (4, 8))])
def test_tracks_are_of_the_middle(length, expected):
    assert NTv3PostTrainedConfig(**SPECIES).locate_center(length) == expected


@pytest.mark.parametrize(
    "config_class,fields,message",
    [
        (NTv3Config, {"key_size": 5}, "key_size=5"),
        (NTv3Config, {"num_downsamples": 0}, "num_downsamples=0"),
        (NTv3Config, {"n_token_id": 11}, "n_token_id=11"),
        (NTv3PostTrainedConfig, {"conditions_names": ["species", "assay"]}, "assay.*generative"),
        (NTv3PostTrainedConfig, {"species_to_token_id": {"a": 6, "b": 6}}, "id of its own"),
        (NTv3PostTrainedConfig, {"species_to_token_id": {"a": 5}}, "from 6"),
        (NTv3PostTrainedConfig, {"bigwigs_per_species": {"yeast": ["a"]}}, "yeast"),
        (NTv3PostTrainedConfig, {"keep_target_center_fraction": 0.0}, "keep_target_center_fraction"),
    ],
)
def test_configurations_that_do_not_fit(config_class, fields, message):
    with pytest.raises(Exception, match=message):
        config_class(**fields)


@pytest.mark.parametrize(
    "model_class,auto",
    [(NTv3Model, AutoModel), (NTv3ForMaskedLM, AutoModelForMaskedLM), (NTv3PostTrainedModel, AutoModel)],
)
def test_save_and_load(model_class, auto, tmp_path):
    model, ids = build(model_class), draw()
    species = {"species_ids": torch.tensor([6, 9])} if model_class is NTv3PostTrainedModel else {}
    model.save_pretrained(tmp_path)
    again = auto.from_pretrained(tmp_path)
    assert type(again) is model_class
    for name, value in model(ids, **species).items():
        torch.testing.assert_close(again(ids, **species)[name], value)
    code = {file.name for file in tmp_path.glob("*.py")}
    assert {"modeling_ntv3.py", "ntv3_layers.py", "configuration_ntv3.py"} <= code
    assert again.config.to_diff_dict() | {"_name_or_path": ""} == model.config.to_diff_dict() | {"_name_or_path": ""}


@pytest.fixture
def published(tmp_path):
    """A checkpoint as it is published: remote code, buffers, a tokenizer that is remote code."""
    model = build(NTv3ForMaskedLM)
    buffers = {"core.transformer_blocks.0.sa_layer.rotary_embedding.inv_freq": torch.ones(2)}
    save_file({**model.state_dict(), **buffers}, tmp_path / "model.safetensors", {"format": "pt"})
    remote = {"AutoConfig": "remote.Config", "AutoModel": "remote.Model", "AutoModelForMaskedLM": "remote.Model"}
    fields = {**model.config.to_dict(), "architectures": ["NTv3PreTrained"], "auto_map": remote}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "NTv3Tokenizer", "auto_map": {"AutoTokenizer": ["remote.Tokenizer", None]}})
    )
    (tmp_path / "remote.py").write_text("raise RuntimeError('remote code ran')")
    return tmp_path


def test_published_checkpoint(published):
    ids, expected = draw(), build(NTv3ForMaskedLM)
    for model in (gengram.auto(published, "masked_lm"), AutoModelForMaskedLM.from_pretrained(published)):
        assert torch.equal(model(ids).logits, expected(ids).logits)
    base = gengram.auto(published)
    assert torch.equal(base(ids).last_hidden_state, expected.core(ids).last_hidden_state)
    classifier = AutoModelForSequenceClassification.from_pretrained(published, num_labels=4)
    assert classifier(ids).logits.shape == (2, 4)
    assert torch.equal(classifier.core.stem.conv.weight, expected.core.stem.conv.weight)
    tokenizer = load_tokenizer(published)
    assert tokenizer("ATCGN")["input_ids"] == [6, 7, 8, 9, 10]
    build_ntv3_tokenizer(case="unknown").save_pretrained(published)  # one of this package is taken as it is
    assert load_tokenizer(published)("a")["input_ids"] == [0]


@pytest.mark.parametrize("fault", ["missing", "foreign"])
def test_weights_that_do_not_fit(published, fault):
    file = published / "model.safetensors"
    weights = load_file(file)
    name = "core.transformer_blocks.1.fc2.weight"
    value = weights.pop(name)
    if fault == "foreign":
        weights |= {name: value, "core.transformer_blocks.2.fc2.weight": value.clone()}
    save_file(weights, file, {"format": "pt"})
    expected = f"{name}$" if fault == "missing" else "no place in the model.*transformer_blocks.2"
    with pytest.raises(ValueError, match=expected):
        NTv3ForMaskedLM.from_pretrained(published)


def test_a_new_model_learns_a_motif():
    """With transformers' usual 0.02 for new weights the loss stays at 0.67."""
    torch.manual_seed(0)
    sizes = {**SMALL, "conv_init_embed_dim": 24, "embed_dim": 24, "num_layers": 1}
    model = NTv3ForSequenceClassification(NTv3Config(**sizes)).train()
    optimizer, losses = torch.optim.AdamW(model.parameters(), 3e-3), []
    for _ in range(60):
        ids, labels = torch.randint(6, 10, (32, 24)), torch.arange(32) % 2
        ids[1::2, 9:15] = torch.tensor([7, 6, 7, 6, 6, 9])
        loss = model(ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert sum(losses[-10:]) / 10 < 0.3


def test_lora_without_a_list_of_layers():
    adapted = get_peft_model(build(NTv3ForSequenceClassification), LoraConfig(task_type="SEQ_CLS", r=2))
    changed = {
        name.split(".lora_A")[0].rsplit(".", 2)[-2] for name, _ in adapted.named_parameters() if "lora_A" in name
    }
    assert changed == {"query_head", "value_head"}
    adapted(draw(2, 10), labels=torch.tensor([0, 1])).loss.backward()
    assert all(weight.grad is not None for name, weight in adapted.named_parameters() if "lora_B" in name)
