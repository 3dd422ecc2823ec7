"""Behaviour that every Gengram model shows on every backbone."""

import copy
import pickle
import re

import pytest
import torch
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from gengram import (
    GengramConfig,
    GengramForCausalLM,
    GengramForMaskedLM,
    GengramForSequenceClassification,
    GengramForTokenClassification,
    GengramModel,
)
from gengram.gengram.configuration_gengram import SIZES
from gengram.gengram.modeling_gengram import find_first_position, find_layers


def exact(ours, reference, atol=1e-10):
    torch.testing.assert_close(ours, reference, rtol=0, atol=atol)


def gradients(model) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same_gradients(ours, reference, allowed=1e-6):
    assert set(ours) == set(reference)
    largest = max(float(gradient.norm()) for gradient in reference.values())
    for name in reference:
        # BERT's key biases have no gradient but rounding: softmax does not see them.
        scale = max(float(reference[name].norm()), 1e-9 * largest)
        off = float((ours[name] - reference[name]).norm()) / scale
        assert off <= allowed, f"{name}: {off:.1e}"


def test_backbone_keeps_its_names_and_memory_has_its_own(backbone_config, make_model):
    model = make_model(backbone_config)
    native = AutoModel.from_config(model.config.backbone_config)
    names = {name.removeprefix("model.backbone.") for name in model.state_dict() if ".backbone." in name}
    assert names == {name for name in native.state_dict() if not name.startswith("pooler.")}
    memory = {name.removeprefix("model.memory.2.") for name in model.state_dict() if ".memory.2." in name}
    assert memory == {
        *(f"embeddings.{j}.weight" for j in range(3)),
        *("key_proj.weight", "value_proj.weight", "norm_q.weight", "norm_k.weight", "short_conv.conv.weight"),
    }


def test_without_memory_it_is_the_native_model(backbone_config, make_model, make_ids):
    model, ids = make_model(backbone_config, memory_layers=[]), make_ids(2, 24)
    auto = AutoModelForCausalLM if model.config.is_causal else AutoModelForMaskedLM
    native = auto.from_config(model.config.backbone_config).double().eval()
    prefix = native.base_model_prefix
    weights = {
        name.removeprefix("head.").replace("model.backbone.", f"{prefix}.", 1): tensor
        for name, tensor in model.state_dict().items()
    }
    native.load_state_dict(weights)
    with torch.no_grad():
        exact(model(ids, labels=ids).logits, native(ids).logits)


def test_memory_reads_bases_not_embeddings(backbone_config, make_model, make_ids):
    """With the same embeddings, other bases change the output at and after their place only through the memory."""
    model, ids = make_model(backbone_config), make_ids(1, 40)
    other = ids.clone()
    other[0, 20] = 5 if ids[0, 20] != 5 else 6
    embeds = model.get_input_embeddings()(ids)
    with torch.no_grad():
        a = model(input_ids=ids, inputs_embeds=embeds).logits
        b = model(input_ids=other, inputs_embeds=embeds).logits
    assert (a - b)[0, 20:].abs().max() > 1e-6
    if model.config.is_causal:
        exact(a[0, :20], b[0, :20], 0.0)
    with pytest.raises(ValueError, match="pass input_ids as well"):
        model(inputs_embeds=embeds)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_initialisation_reaches_the_memory(make_backbone, make_config, dtype):
    """transformers gives every Linear and Embedding the backbone's 0.02; the memory has its own start."""
    config = make_config(make_backbone("llama-mha"), memory_dim=64, kmer_sizes=[1, 2, 3, 4])
    memory = GengramForCausalLM._from_config(config, dtype=dtype).model.memory["0"]
    assert memory.key_proj.weight.dtype == dtype
    table = memory.embeddings[-1].weight.float()
    assert 0.95 < table.std() < 1.05 and abs(table.mean()) < 0.05
    for projection in (memory.key_proj, memory.value_proj):
        bound = projection.in_features**-0.5
        assert 0.9 * bound < projection.weight.float().abs().max() <= bound * 1.01
    conv = memory.short_conv.conv.weight.float()
    assert 0.4 < conv.abs().max() <= 0.5
    assert torch.equal(memory.norm_q.weight.float(), torch.ones(32))
    silent = GengramModel(make_config(make_backbone("llama-mha"), conv_init="zeros")).memory["0"]
    assert not silent.short_conv.conv.weight.any()


def test_initialisation_of_a_memory_that_the_checkpoint_lacks(tmp_path, make_backbone, make_config):
    """from_pretrained builds on the meta device: what is missing must still get the memory's own start."""
    GengramForCausalLM(make_config(make_backbone("llama-mha"), memory_layers=[])).save_pretrained(tmp_path)
    config = make_config(make_backbone("llama-mha"), memory_dim=64, kmer_sizes=[1, 2, 3, 4])
    model, info = GengramForCausalLM.from_pretrained(tmp_path, config=config, output_loading_info=True)
    assert {name.split(".")[1] for name in info["missing_keys"]} == {"memory"} and not info["unexpected_keys"]
    memory = model.model.memory["2"]
    assert 0.9 < memory.embeddings[-1].weight.std() < 1.1
    assert 0.05 < memory.key_proj.weight.abs().max() <= memory.key_proj.in_features**-0.5
    assert torch.equal(memory.norm_k.weight, torch.ones(32))


def test_a_backbone_checkpoint_becomes_the_backbone(backbone_config, make_config, make_ids, tmp_path):
    is_causal = make_config(backbone_config).is_causal
    auto = AutoModelForCausalLM if is_causal else AutoModelForMaskedLM
    native = auto.from_config(backbone_config).eval()
    native.save_pretrained(tmp_path)
    model_class = GengramForCausalLM if is_causal else GengramForMaskedLM
    model = model_class.from_backbone(str(tmp_path), memory_layers=[1], memory_dim=8, kmer_sizes=[1, 2])
    assert model.config.memory_layers == [1] and not model.training
    ids = make_ids(2, 20)
    with torch.no_grad():
        assert (model(ids).logits - native(ids).logits).abs().max() > 1e-4
        nn.init.zeros_(model.model.memory["1"].value_proj.weight)
        exact(model(ids).logits, native(ids).logits, 1e-5)
    classifier = GengramForSequenceClassification.from_backbone(
        str(tmp_path), memory_layers=[0, 2], num_labels=5, dtype=torch.bfloat16
    )
    assert {p.dtype for p in classifier.parameters()} == {torch.bfloat16}
    half = auto.from_pretrained(tmp_path, dtype=torch.bfloat16)
    kept = {name.removeprefix("model.backbone."): b for name, b in classifier.named_buffers()}
    for name, buffer in half.base_model.named_buffers():  # such as inverse frequencies, which stay in float32
        assert buffer.dtype == kept[name].dtype and torch.equal(buffer, kept[name])
    assert classifier(ids).logits.shape == (2, 5)
    with pytest.raises(Exception, match="layer 7 does not exist"):
        model_class.from_backbone(str(tmp_path), memory_layers=[7])


def test_from_backbone_keeps_the_generation_config(make_backbone, tmp_path):
    native = AutoModelForCausalLM.from_config(make_backbone("llama-mha"))
    native.generation_config.max_new_tokens = 77
    native.save_pretrained(tmp_path)
    model = GengramForCausalLM.from_backbone(str(tmp_path), memory_layers=[0])
    assert model.generation_config.max_new_tokens == 77
    model.save_pretrained(tmp_path / "gengram")
    with pytest.raises(Exception, match="Gengram model itself"):
        GengramForCausalLM.from_backbone(str(tmp_path / "gengram"), memory_layers=[0])
    AutoModel.from_config(make_backbone("llama-mha")).save_pretrained(tmp_path / "headless")
    with pytest.raises(ValueError, match=r"missing or of another size, e\.g\. lm_head\.weight"):
        GengramForCausalLM.from_backbone(str(tmp_path / "headless"), memory_layers=[0])


@pytest.mark.parametrize("model_class", [GengramForCausalLM, GengramForSequenceClassification])
def test_a_backbone_checkpoint_that_lacks_weights_is_refused(make_backbone, tmp_path, model_class):
    """transformers would draw the missing ones at random and only print a table."""
    native = AutoModelForCausalLM.from_config(make_backbone("llama-mha"))
    weights = {name: tensor for name, tensor in native.state_dict().items() if "layers.1.input_layernorm" not in name}
    native.save_pretrained(tmp_path, state_dict=weights)
    told = r"1 weights of the model's body are missing or of another size, e\.g\. .*layers\.1\.input_layernorm"
    with pytest.raises(ValueError, match=told):
        model_class.from_backbone(str(tmp_path), memory_layers=[0])


def test_packed_documents_equal_documents_alone(backbone_config, make_model, make_ids):
    model = make_model(backbone_config)
    first, second = make_ids(1, 17), make_ids(1, 26, seed=1)
    packed = torch.cat([first, second], dim=1)
    position_ids = torch.cat([torch.arange(17), torch.arange(26)])[None]
    seq_idx = torch.tensor([[0] * 17 + [1] * 26])
    with torch.no_grad():
        alone = torch.cat([model(first).logits, model(second).logits], dim=1)
        exact(model(packed, position_ids=position_ids).logits, alone, 1e-6)
        exact(model(packed, seq_idx=seq_idx).logits, alone, 1e-6)
        assert (model(packed).logits - alone).abs().max() > 1e-4


def test_packed_documents_with_a_mask_equal_documents_alone(backbone_config, make_model, make_ids):
    """transformers looks for packed documents only where no mask is given; the memory's models cut in any case."""
    model = make_model(backbone_config)
    first, second = make_ids(1, 17), make_ids(1, 26, seed=1)
    ids = torch.cat([first, second, torch.zeros(1, 5, dtype=torch.int64)], dim=1)
    position_ids = torch.cat([torch.arange(17), torch.arange(26), torch.arange(5)])[None]
    seq_idx = torch.tensor([[0] * 17 + [1] * 26 + [2] * 5])
    mask = (ids != 0).long()
    with torch.no_grad():
        alone = torch.cat([model(first).logits, model(second).logits], dim=1)
        for implementation in ("sdpa", "eager"):
            model.set_attn_implementation(implementation)
            by_position = model(ids, attention_mask=mask, position_ids=position_ids).logits[:, :43]
            exact(by_position, alone, 1e-6)
            by_number = model(ids, attention_mask=mask, seq_idx=seq_idx).logits[:, :43]
            exact(by_number, alone, 1e-6)


def test_documents_between_padding_and_numbers_of_any_kind(backbone_config, make_model, make_ids):
    """Documents are cut where seq_idx changes, also across padding, whatever the numbers and the type of the ids."""
    model = make_model(backbone_config)
    ids = make_ids(1, 60)
    ids[0, 20:24] = 0
    mask = torch.ones_like(ids)
    mask[0, 20:24] = 0
    numbers = torch.tensor([[7] * 20 + [1] * 4 + [7] * 36])
    kwargs = {"use_cache": False} if model.config.is_causal else {}
    with torch.no_grad():
        alone = torch.cat([model(ids[:, :20], **kwargs).logits, model(ids[:, 24:], **kwargs).logits], dim=1)
        for given in (ids, ids.int()):
            found = model(given, attention_mask=mask, seq_idx=numbers, **kwargs).logits[:, mask[0].bool()]
            torch.testing.assert_close(found, alone, rtol=0, atol=1e-6)
        positions = torch.cat([torch.arange(20), torch.zeros(4).long(), torch.arange(36)])[None]
        positions = positions + find_first_position(model.model.backbone)
        found = model(ids, attention_mask=mask, position_ids=positions, **kwargs).logits[:, mask[0].bool()]
        torch.testing.assert_close(found, alone, rtol=0, atol=1e-6)


def test_positions_of_documents_start_where_the_backbone_counts_from(make_config, make_ids):
    from transformers import RobertaConfig

    backbone = RobertaConfig(
        vocab_size=128, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48,
        pad_token_id=0, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = GengramForMaskedLM(make_config(backbone)).double().eval()
    first, second = make_ids(1, 9), make_ids(1, 12, seed=1)
    with torch.no_grad():
        alone = torch.cat([model(first).logits, model(second).logits], dim=1)
        packed = model(torch.cat([first, second], dim=1), seq_idx=torch.tensor([[0] * 9 + [1] * 12])).logits
    exact(packed, alone, 1e-6)


def test_packed_documents_equal_documents_alone_without_memory(backbone_config, make_model, make_ids):
    model = make_model(backbone_config, memory_layers=[])
    first, second = make_ids(1, 9), make_ids(1, 12, seed=1)
    position_ids = torch.cat([torch.arange(9), torch.arange(12)])[None]
    with torch.no_grad():
        alone = torch.cat([model(first).logits, model(second).logits], dim=1)
        exact(model(torch.cat([first, second], dim=1), position_ids=position_ids).logits, alone, 1e-6)


def test_packed_gradients_equal_the_sum_of_gradients_alone(backbone_config, make_model, make_ids):
    model = make_model(backbone_config)
    first, second = make_ids(1, 17), make_ids(1, 26, seed=1)
    position_ids = torch.cat([torch.arange(17), torch.arange(26)])[None]
    weight = torch.randn(1, 43, 128, dtype=torch.float64)
    (model(torch.cat([first, second], dim=1), position_ids=position_ids).logits * weight).sum().backward()
    packed = gradients(model)
    model.zero_grad()
    (model(first).logits * weight[:, :17]).sum().backward()
    (model(second).logits * weight[:, 17:]).sum().backward()
    assert_same_gradients(packed, gradients(model))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("preset", ["released", "paper"])
def test_padding_changes_nothing(backbone_config, make_model, make_ids, side, preset):
    model = make_model(backbone_config, memory_preset=preset)
    short, long = make_ids(1, 21), make_ids(1, 33, seed=1)
    padded = torch.full((2, 33), 6)  # padding is told by the mask alone: here it looks like a base
    mask = torch.zeros(2, 33, dtype=torch.int64)
    place = slice(12, 33) if side == "left" else slice(0, 21)
    padded[0, place], mask[0, place] = short[0], 1
    padded[1], mask[1] = long[0], 1
    position_ids = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        logits = model(padded, attention_mask=mask, position_ids=position_ids).logits
        exact(logits[0, place], model(short).logits[0], 1e-9)
        exact(logits[1], model(long).logits[0], 1e-9)


def test_two_forwards_before_one_backward(backbone_config, make_model, make_ids):
    model = make_model(backbone_config).train()
    a, b = make_ids(2, 20), make_ids(2, 31, seed=1)
    outputs = model(a).logits.square().sum(), model(b).logits.square().sum()
    sum(outputs).backward()
    together = gradients(model)
    model.zero_grad()
    model(a).logits.square().sum().backward()
    model(b).logits.square().sum().backward()
    assert_same_gradients(together, gradients(model))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_changes_nothing(backbone_config, make_model, make_ids, packed, use_reentrant):
    model = make_model(backbone_config).train()
    ids = make_ids(1, 40)
    kwargs = {"position_ids": torch.arange(20).repeat(2)[None]} if packed else {}
    model(ids, **kwargs).logits.square().sum().backward()
    plain = gradients(model)
    model.zero_grad()
    model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    memory = model.model.memory["2"]
    assert isinstance(memory, GradientCheckpointingLayer) and memory.gradient_checkpointing
    writes = []
    original = memory._write
    memory._write = lambda *inputs: writes.append(1) or original(*inputs)
    model(ids, **kwargs).logits.square().sum().backward()
    assert len(writes) >= 2, "the memory was not recomputed: its activations were kept"
    assert_same_gradients(gradients(model), plain)


def test_hidden_states_and_attentions(backbone_config, make_model, make_ids):
    model, ids = make_model(backbone_config), make_ids(2, 18)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        outputs = model(ids, output_hidden_states=True, output_attentions=True)
        base = model.model(ids, output_hidden_states=True)
        plain = make_model(model.config.backbone_config, memory_layers=[])
        plain.load_state_dict(model.state_dict(), strict=False)
        embedding = plain(ids, output_hidden_states=True).hidden_states[0]
    assert len(outputs.hidden_states) == 4 and len(outputs.attentions) == 3
    assert outputs.attentions[0].shape == (2, 4, 18, 18)
    exact(outputs.hidden_states[0], embedding)  # without the memory of layer 0
    exact(base.hidden_states[-1], base.last_hidden_state)
    model.config.output_hidden_states = True
    assert len(model(ids).hidden_states) == 4


def test_attention_implementations_agree(backbone_config, make_model, make_ids):
    model, ids = make_model(backbone_config), make_ids(2, 40)
    position_ids = torch.arange(20).repeat(2)[None].expand(2, -1)
    results = []
    for implementation in ("sdpa", "eager"):
        model.set_attn_implementation(implementation)
        assert model.model.backbone.config._attn_implementation == implementation
        with torch.no_grad():
            results.append((model(ids).logits, model(ids, position_ids=position_ids).logits))
    exact(results[0][0], results[1][0], 1e-6)  # eager attention takes its softmax in float32
    exact(results[0][1], results[1][1], 1e-6)


def test_resizing_the_embeddings(backbone_config, make_model, make_ids, tmp_path):
    model, ids = make_model(backbone_config), make_ids(1, 20)
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert tied is model.config.tie_word_embeddings
    with torch.no_grad():
        before = model(ids).logits
    model.resize_token_embeddings(131)
    with torch.no_grad():
        after = model(ids, labels=ids)
    assert after.logits.shape[-1] == 131 and model.config.vocab_size == 131
    exact(after.logits[..., :128], before)
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) is tied
    model.save_pretrained(tmp_path)
    assert type(model).from_pretrained(tmp_path).config.vocab_size == 131


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dtypes(backbone_config, make_model, make_ids, dtype):
    model, ids = make_model(backbone_config), make_ids(2, 30)
    with torch.no_grad():
        truth = model(ids).logits
        model.to(dtype)
        logits = model(ids).logits
    assert logits.dtype == dtype and torch.isfinite(logits).all()
    assert (logits.double() - truth).norm() / truth.norm() < (1e-4 if dtype == torch.float32 else 0.1)


@pytest.mark.parametrize("path", ["auto", "lifetime", "merged", "definition"])
@pytest.mark.parametrize("training", [True, False])
def test_autocast(make_backbone, make_config, make_ids, path, training):
    model, ids = GengramForCausalLM(make_config(make_backbone("llama-mha"))), make_ids(8, 100)
    for memory in model.model.memory.values():
        memory.path = path
    model.train(training)
    with torch.autocast("cpu", torch.bfloat16):
        if not training:
            with torch.no_grad():
                assert torch.isfinite(model(ids, labels=ids).loss)
            return
        loss = model(ids, labels=ids).loss
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_copies_and_pickles(backbone_config, make_model, make_ids):
    """Hooks hold no closure over the model they were made for: a copy reads its own memory."""
    model, ids = make_model(backbone_config), make_ids(1, 20)
    with torch.no_grad():
        before = model(ids).logits
        for clone in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            exact(clone(ids).logits, before, 0.0)
            nn.init.zeros_(clone.model.memory["0"].value_proj.weight)
            assert (clone(ids).logits - before).abs().max() > 1e-6
            exact(model(ids).logits, before, 0.0)


def test_memories_replaced_by_an_adapter_are_the_ones_read(make_backbone, make_config, make_ids):
    """PEFT swaps modules in place; the hook must find the new one."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    model = GengramForSequenceClassification(make_config(make_backbone("llama-mha"), num_labels=3)).eval()
    ids = make_ids(2, 30)
    with torch.no_grad():
        before = model(ids).logits
    adapted = get_peft_model(
        model, LoraConfig(target_modules=["q_proj", "key_proj", "value_proj"], modules_to_save=["classifier"])
    )
    assert adapted.base_model.model.model.memory["0"].choose_path is not None
    with torch.no_grad():
        exact(adapted(input_ids=ids).logits, before, 1e-6)  # LoRA starts silent
        for name, parameter in adapted.named_parameters():
            if "memory" in name and "lora_B" in name:
                parameter.normal_()
        assert (adapted(input_ids=ids).logits - before).abs().max() > 1e-4
        trained = adapted(input_ids=ids).logits
        exact(adapted.merge_and_unload()(ids).logits, trained, 1e-4)


def test_adapters_on_tables_and_norms_are_read(make_backbone, make_config, make_ids):
    from peft import LNTuningConfig, LoraConfig, get_peft_model

    model = GengramForSequenceClassification(make_config(make_backbone("llama-mha"), num_labels=3)).eval()
    ids = make_ids(2, 60)
    adapted = get_peft_model(copy.deepcopy(model), LoraConfig(target_modules=r".*embeddings\.[012]"))
    with torch.no_grad():
        before = adapted(input_ids=ids).logits
        exact(before, model(ids).logits, 1e-6)
        for name, parameter in adapted.named_parameters():
            if "lora_embedding" in name:
                parameter.normal_()
        after = adapted(input_ids=ids).logits
        assert (after - before).abs().max() > 1e-4
        exact(adapted.merge_and_unload()(ids).logits, after, 1e-4)
    tuned = get_peft_model(copy.deepcopy(model), LNTuningConfig(target_modules=["norm_q", "norm_k"]))
    tuned(input_ids=ids).logits.sum().backward()
    trained = {name for name, p in tuned.named_parameters() if p.grad is not None and p.grad.any()}
    assert any("norm_q" in name for name in trained)
    wrapped = get_peft_model(copy.deepcopy(model), LoraConfig(r=32, target_modules=["conv"]))
    with pytest.raises(TypeError, match="adapters reach its tables"):
        wrapped(input_ids=ids)


def test_continuous_batching_is_refused(make_backbone, make_model, make_ids):
    with pytest.raises(ValueError, match="continuous batching is not supported"):
        make_model(make_backbone("llama-mha"))(make_ids(1, 9), block_table=torch.zeros(1))


def test_decoders_that_look_both_ways_are_bidirectional(make_backbone, make_config):
    from transformers import Gemma3TextConfig

    backbone = Gemma3TextConfig(
        vocab_size=128, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, head_dim=8,
        use_bidirectional_attention=True,
    )  # fmt: skip
    with pytest.raises(ValueError, match="sees both sides"):
        GengramForCausalLM(make_config(backbone))


def test_a_tuple_holds_the_same_hidden_states(make_backbone, make_model, make_ids):
    model, ids = make_model(make_backbone("llama-mha")).model, make_ids(1, 12)
    with torch.no_grad():
        named = model(ids, output_hidden_states=True, use_cache=False)
        plain = model(ids, output_hidden_states=True, use_cache=False, return_dict=False)
    assert isinstance(plain, tuple)
    exact(plain[1][0], named.hidden_states[0], 0.0)


def test_causal_language_models_need_a_causal_backbone(bidirectional_config, make_config):
    with pytest.raises(ValueError, match="sees both sides"):
        GengramForCausalLM(make_config(bidirectional_config))


def test_masked_language_models_need_a_bidirectional_backbone(causal_config, make_config):
    with pytest.raises(ValueError, match="sees only the left"):
        GengramForMaskedLM(make_config(causal_config))


def test_a_centred_window_is_refused_where_it_would_show_the_answer(make_backbone, make_config):
    with pytest.raises(ValueError, match="bases to predict"):
        GengramForCausalLM(make_config(make_backbone("llama-mha"), center_window=True))


def test_causal_models_see_no_future(causal_config, make_model, make_ids):
    model, ids = make_model(causal_config), make_ids(1, 40)
    other = ids.clone()
    other[0, 25:] = make_ids(1, 15, seed=9)[0]
    with torch.no_grad():
        exact(model(ids).logits[:, :25], model(other).logits[:, :25], 1e-12)


def test_mixture_of_experts_keeps_its_balance_loss(make_backbone, make_model, make_ids):
    config, ids = make_backbone("mixtral"), make_ids(2, 20)
    config.output_router_logits = True
    outputs = make_model(config)(ids, labels=ids)
    assert outputs.aux_loss is not None and len(outputs.router_logits) == 3
    config.output_router_logits = False
    plain = make_model(config)(ids, labels=ids)
    exact(outputs.loss, plain.loss + config.router_aux_loss_coef * outputs.aux_loss)


def test_loss_is_the_mean_over_accumulated_items(backbone_config, make_model, make_ids):
    """Trainer passes the number of labels of all accumulated batches; the loss must use it."""
    model, ids = make_model(backbone_config), make_ids(2, 20)
    labels = ids.clone()
    items = labels[:, 1:].numel() if model.config.is_causal else labels.numel()
    with torch.no_grad():
        mean = model(ids, labels=labels).loss
        exact(model(ids, labels=labels, num_items_in_batch=torch.tensor(2 * items)).loss, mean / 2, 1e-9)


@pytest.mark.parametrize("head", [GengramForSequenceClassification, GengramForTokenClassification])
def test_a_backbone_that_hides_its_layers_is_refused(head, make_config, make_backbone):
    class Closed(PreTrainedModel):
        """A model whose layers take no keyword arguments."""

        config_class = type(make_backbone("llama-mha"))

        def __init__(self, config):
            super().__init__(config)
            self.layers = nn.ModuleList([ClosedLayer() for _ in range(config.num_hidden_layers)])

        def forward(self, input_ids, **kwargs):
            raise AssertionError("refused before it runs")

    config = make_config(make_backbone("llama-mha"))
    with pytest.raises(ValueError, match="takes no keyword arguments"):
        head(config, Closed(config.backbone_config))
    with pytest.raises(ValueError, match="0 stacks of 3"):
        find_layers(Bare(config.backbone_config))


class ClosedLayer(GradientCheckpointingLayer):
    def forward(self, hidden_states):
        return hidden_states


class Bare(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config


def test_the_backbone_alone_says_why_it_has_no_memory(make_backbone, make_model, make_ids):
    model = make_model(make_backbone("llama-mha"))
    with pytest.raises(RuntimeError, match="Call the Gengram model"):
        model.model.backbone(make_ids(1, 9))


def test_sizes_of_the_paper(pages):
    """Counts as the page states them; they agree with the paper's where it gives any."""
    section = pages["memory"].split("| name | backbone | backbone parameters |")[1].split("\n\n")[0]
    table = dict(re.findall(r"^\| `([\w.-]+)` \| [\w-]+ \| (.*) \|$", section, flags=re.MULTILINE))
    assert set(table) == set(SIZES)
    for size, figures in table.items():
        with torch.device("meta"):
            model = GengramForCausalLM(GengramConfig.from_size(size))
        counts = {"backbone": 0, "experts": 0, "memory": 0}
        for name, parameter in model.named_parameters():
            if ".memory." in name:
                counts["memory"] += parameter.numel()
            elif "embed_tokens" not in name and not name.startswith("head."):
                counts["backbone"] += parameter.numel()
                counts["experts"] += parameter.numel() if ".experts." in name else 0
        active = counts["backbone"] - counts["experts"] * 6 // 8
        told = [counts["backbone"], active, counts["memory"]]
        assert figures.split(" | ") == ["all" if i and n == told[0] else f"{n:,}" for i, n in enumerate(told)]
