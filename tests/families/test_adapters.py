"""Adapters of PEFT on every class: default layers of each method, added and merged, saved and loaded."""

import re

import peft
import pytest
import torch
from peft import PeftModel, TaskType, get_peft_model
from peft.utils import constants
from small_models import VARIANTS, build_model, draw_inputs, find_class, list_classes, list_pairs
from transformers import AutoModel, BigBirdConfig, DynamicCache, ModernBertConfig

import gengram  # noqa: F401  # Registers the layers.
from gengram.registration import FAMILIES

TABLES = {
    found[1]: table
    for name, table in vars(constants).items()
    if (found := re.fullmatch(r"TRANSFORMERS_MODELS_TO_(\w+)_TARGET_MODULES_MAPPING", name))
}
# Configurations of the methods whose tables differ from LoRA's.
METHODS = {
    "LORA": peft.LoraConfig,
    "IA3": peft.IA3Config,
    "BEFT": peft.BeftConfig,
    "LNTUNING": peft.LNTuningConfig,
    "OSF": peft.OSFConfig,
}
_NATIVE_SIZE = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2}
NATIVE = {
    "big_bird": lambda: BigBirdConfig(**_NATIVE_SIZE, num_hidden_layers=2),
    "modernbert": lambda: ModernBertConfig(**_NATIVE_SIZE, num_hidden_layers=2, pad_token_id=0),
}
TASKS = {
    "SequenceClassification": TaskType.SEQ_CLS,
    "TokenClassification": TaskType.TOKEN_CLS,
    "CausalLM": TaskType.CAUSAL_LM,
}
ENCODERS = [name for name in VARIANTS if not name.startswith(("gengram", "rmt", "megatron"))]
ENCODERS += ["gengram-modernbert", "gengram-bert", "gengram-nucleotide_transformer"]
IDLE = ("GenaBertForPreTraining", "GenaBertForBinnedRegression", "RmtModel")


def find_task(name: str) -> TaskType | None:
    """What PEFT calls the task of a class."""
    return next((task for end, task in TASKS.items() if name.endswith(end)), None)


def read(model, variant: str, name: str) -> torch.Tensor:
    """What the model says about a batch, in evaluation mode."""
    model.eval()
    with torch.no_grad():
        outputs = model(**draw_inputs(VARIANTS[variant](), name, labelled=False))
    return outputs.logits if "logits" in outputs else outputs.last_hidden_state


def train(model, seed: int = 0) -> None:
    """Give the weights of an adapter, and of the heads that it trains, values that change what the model says."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in (weight for weight in model.parameters() if weight.requires_grad):
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)


@pytest.mark.parametrize("method", TABLES)
def test_every_method_with_default_layers_has_some_for_every_family(method):
    assert set(FAMILIES) | {"big_bird", "modernbert"} <= TABLES[method].keys()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("variant", [*VARIANTS, *NATIVE])
def test_default_layers_are_in_the_model_and_not_in_its_memory(variant, method):
    if variant in NATIVE:
        torch.manual_seed(0)
        model = AutoModel.from_config(NATIVE[variant]())
    else:
        model = build_model(variant, list_classes(VARIANTS[variant]())[0].__name__)
    adapted = get_peft_model(model, METHODS[method]())
    names = [name for name, module in adapted.named_modules() if hasattr(module, "base_layer")]
    numbers = {int(found[1]) for name in names if (found := re.search(r"\.(\d+)\.", name))}
    assert numbers >= {0, 1}
    assert not [name for name in names if re.search(r"\.memory\.\d", name)]


@pytest.mark.parametrize(("variant", "name"), [pair for pair in list_pairs() if pair[1] not in IDLE])
def test_an_adapter_is_switched_merged_saved_and_loaded(variant, name, tmp_path):
    config = peft.LoraConfig(task_type=find_task(name), r=4)
    base = read(build_model(variant, name), variant, name)
    model = get_peft_model(build_model(variant, name), config)
    torch.testing.assert_close(read(model, variant, name), base)
    train(model)
    adapted = read(model, variant, name)
    assert (adapted - base).abs().max() > 1e-6
    with model.disable_adapter():
        torch.testing.assert_close(read(model, variant, name), base)
    model.add_adapter("second", config)
    model.set_adapter("second")
    torch.testing.assert_close(read(model, variant, name), base)
    model.set_adapter("default")
    model.save_pretrained(tmp_path, selected_adapters=["default"])
    for low_cpu_mem_usage in (False, True):
        again = PeftModel.from_pretrained(
            build_model(variant, name), str(tmp_path), low_cpu_mem_usage=low_cpu_mem_usage
        )
        torch.testing.assert_close(read(again, variant, name), adapted)
    merged = model.merge_and_unload()
    torch.testing.assert_close(read(merged, variant, name), adapted, atol=1e-4, rtol=1e-4)
    assert not [key for key in merged.state_dict() if "lora" in key or "modules_to_save" in key]


@pytest.mark.parametrize(("variant", "name"), [pair for pair in list_pairs() if pair[1] not in IDLE])
def test_transformers_own_way_to_an_adapter(variant, name, tmp_path):
    """`model.add_adapter`, and the Auto class on the folder of an adapter."""
    whole = tmp_path / "whole"
    model_class = find_class(VARIANTS[variant](), name)
    build_model(variant, name).save_pretrained(whole)
    model = model_class.from_pretrained(whole)
    base = read(model, variant, name)
    model.add_adapter(peft.LoraConfig(r=4), adapter_name="one")
    train(model)
    adapted = read(model, variant, name)
    assert (adapted - base).abs().max() > 1e-6
    model.disable_adapters()
    torch.testing.assert_close(read(model, variant, name), base)
    model.enable_adapters()
    model.save_pretrained(tmp_path / "adapter")
    assert not (tmp_path / "adapter" / "config.json").exists()
    torch.testing.assert_close(read(model_class.from_pretrained(tmp_path / "adapter"), variant, name), adapted)
    loaded = model_class.from_pretrained(whole)
    loaded.load_adapter(str(tmp_path / "adapter"))
    torch.testing.assert_close(read(loaded, variant, name), adapted)


@pytest.mark.parametrize("variant", ENCODERS)
def test_encoders_refuse_keys_and_values_of_a_past(variant):
    """They would be left out, and prefix tuning train what nobody reads."""
    for model_class in list_classes(VARIANTS[variant]()):
        name = model_class.__name__
        model = build_model(variant, name)
        inputs = draw_inputs(model.config, name, labelled=False)
        past = DynamicCache()
        past.update(torch.ones(2, 4, 3, 8), torch.ones(2, 4, 3, 8), 0)
        with pytest.raises(ValueError, match=r"past_key_values: .*no past.*prefix tuning cannot be used.*LoRA"):
            model(**inputs, past_key_values=past)


def build_prefixed(variant: str, name: str, config_class=peft.PrefixTuningConfig, **fields):
    """A model with a prefix of 4 virtual tokens, large enough to be seen."""
    config = config_class(task_type=find_task(name), num_virtual_tokens=4, **fields)
    model = get_peft_model(build_model(variant, name), config).eval()
    train(model)
    return model


@pytest.mark.parametrize("config_class", [peft.PrefixTuningConfig, peft.CartridgeConfig])
@pytest.mark.parametrize("variant", ["gengram-llama", "gengram-megatron_decoder", "megatron_decoder"])
def test_generation_behind_a_prefix_is_that_of_the_full_forward(variant, config_class):
    """Virtual tokens have no bases, and the memory counts them."""
    name = next(each.__name__ for each in list_classes(VARIANTS[variant]()) if each.__name__.endswith("CausalLM"))
    model = build_prefixed(variant, name, config_class)
    assert (read(model, variant, name) - read(build_model(variant, name), variant, name)).abs().max() > 1e-4
    inputs = draw_inputs(VARIANTS[variant](), name, labelled=False)
    written = model.generate(
        **inputs, max_new_tokens=4, do_sample=False, output_logits=True, return_dict_in_generate=True
    )
    for step, logits in enumerate(written.logits):
        ids = written.sequences[:, : inputs["input_ids"].shape[1] + step]
        with torch.no_grad():
            expected = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[:, -1]
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    assert model.generate(**inputs, max_new_tokens=4, num_beams=2).shape[0] == 2


@pytest.mark.parametrize("name", ["GengramForSequenceClassification", "GengramForTokenClassification"])
def test_classifiers_of_a_decoder_are_trained_behind_a_prefix(name):
    model = build_prefixed("gengram-llama", name)
    inputs = draw_inputs(VARIANTS["gengram-llama"](), name)
    model.train()(**inputs).loss.backward()
    assert all(weight.grad is not None for weight in model.parameters() if weight.requires_grad)


def test_a_prefix_is_refused_by_an_encoder_with_a_memory():
    name = "GengramForTokenClassification"
    model = build_prefixed("gengram-bert", name)
    with pytest.raises(ValueError, match="prefix tuning cannot be used"):
        model(**draw_inputs(VARIANTS["gengram-bert"](), name))


def test_prompts_cannot_reach_a_memory():
    """They hand over embeddings alone, and the memory reads bases."""
    name = "GengramForCausalLM"
    model = build_prefixed("gengram-llama", name, peft.PromptTuningConfig)
    with pytest.raises(ValueError, match=r"prompt tuning, cannot be used; LoRA and IA3 can"):
        model(**draw_inputs(VARIANTS["gengram-llama"](), name))


@pytest.mark.parametrize(
    "name", ["RmtModel", "RmtForSequenceClassification", "RmtForTokenClassification", "RmtForMaskedLM"]
)
def test_prompts_and_prefixes_cannot_reach_a_recurrent_memory(name):
    """Segments are laid out by ids, and what one hands to the next is no past."""
    bare = build_model("rmt-gena", name)
    inputs = draw_inputs(VARIANTS["rmt-gena"](), name, labelled=False)
    for given in ({}, {"input_ids": inputs["input_ids"]}):
        with pytest.raises(
            TypeError, match=r"inputs_embeds: .*as prompt tuning does, cannot be used; LoRA and IA3 can"
        ):
            bare(**given, inputs_embeds=torch.zeros(2, 17, 32))
    with pytest.raises(TypeError, match=r"past_key_values: .*prefix tuning cannot be used; LoRA and IA3 can"):
        bare(**inputs, past_key_values=DynamicCache())
    with pytest.raises(TypeError, match="input_ids: they are missing"):
        bare(attention_mask=inputs["attention_mask"])


@pytest.mark.parametrize(
    ("variant", "name", "config_class", "expected"),
    [
        # A prefix is as wide as keys and values, a prompt as the embeddings.
        ("gengram-llama", "GengramForCausalLM", peft.PrefixTuningConfig, (16, 2)),
        ("gengram-mixtral", "GengramForCausalLM", peft.CartridgeConfig, (16, 2)),
        ("megatron_decoder", "MegatronDecoderForCausalLM", peft.PromptEncoderConfig, (32, 4)),
        ("gengram-bert", "GengramForSequenceClassification", peft.PromptTuningConfig, (32, 4)),
        ("rmt-gengram", "RmtForSequenceClassification", peft.PromptTuningConfig, (32, 4)),
        ("ntv3", "NTv3ForSequenceClassification", peft.PromptTuningConfig, (16, 2)),
    ],
)
def test_sizes_of_prompts_are_found_in_the_backbone(variant, name, config_class, expected):
    config = config_class(task_type=find_task(name), num_virtual_tokens=4)
    found = get_peft_model(build_model(variant, name), config).active_peft_config
    assert (found.token_dim, found.num_attention_heads) == expected
    given = config_class(task_type=find_task(name), num_virtual_tokens=4, token_dim=8, num_attention_heads=1)
    if config_class is peft.PromptTuningConfig:
        assert get_peft_model(build_model(variant, name), given).active_peft_config.token_dim == 8


def test_prompts_of_a_u_net_are_as_wide_as_its_embeddings():
    name = "NTv3ForSequenceClassification"
    model = build_prefixed("ntv3", name, peft.PromptTuningConfig)
    assert (read(model, "ntv3", name) - read(build_model("ntv3", name), "ntv3", name)).abs().max() > 1e-4


def test_a_mixture_of_experts_is_trained_behind_a_prefix():
    """The loss of its balance counts the tokens that are routed, not those of the prefix."""
    model = build_prefixed("gengram-mixtral", "GengramForCausalLM")
    answer = model.train()(**draw_inputs(VARIANTS["gengram-mixtral"](), "GengramForCausalLM"))
    assert answer.aux_loss > 0
    answer.loss.backward()
    assert all(weight.grad is not None for weight in model.parameters() if weight.requires_grad)


def test_a_second_adapter_of_norms_is_saved_beside_the_first(tmp_path):
    """The norm of a head is part of the head, which PEFT saves as a whole."""
    name = "NTv3ForTokenClassification"
    model = get_peft_model(build_model("ntv3", name), peft.LNTuningConfig(task_type=TaskType.TOKEN_CLS))
    model.add_adapter("second", peft.LNTuningConfig(task_type=TaskType.TOKEN_CLS))
    model.set_adapter("second")
    train(model)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(build_model("ntv3", name), tmp_path / "second")
    torch.testing.assert_close(read(loaded, "ntv3", name), read(model, "ntv3", name))


@pytest.mark.parametrize("variant", ["gengram-mixtral", "gengram-modernbert", "gena_bert", "rmt-gena", "ntv3"])
def test_layers_by_number(variant):
    """`layers_to_transform` finds the number of a layer behind the name of its list, and `layers_pattern` says it."""
    class_name = list_classes(VARIANTS[variant]())[0].__name__
    pattern = {"gengram": "layers", "gena_bert": "layer", "rmt": "layer", "ntv3": "transformer_blocks"}
    config = peft.LoraConfig(layers_to_transform=[1], layers_pattern=pattern[variant.split("-")[0]])
    model = get_peft_model(build_model(variant, class_name), config)
    names = [name for name, _ in model.named_modules() if name.endswith("lora_A")]
    assert names and all(".1." in name for name in names)
