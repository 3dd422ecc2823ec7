"""Every class of a family reads what any other has saved: the body is the checkpoint's, and what is new is told."""

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from small_models import VARIANTS, build_model, draw_inputs, find_class, list_classes
from transformers import PreTrainedModel

import gengram
from gengram import RmtModel
from gengram.registration import find_model

ONE_OF_EACH = ["gengram-modernbert", "gengram-llama", "gena_bert", "rmt-gena", "rmt-modernbert", "rmt-gengram"]
ONE_OF_EACH += [name for name in VARIANTS if "-" not in name and name != "gena_bert"]
RECURRENT = ["rmt-gena", "rmt-esm", "rmt-modernbert", "rmt-gengram"]  # whose names are of different forms
# A head of a language model was trained with the body: these families refuse to draw a new one.
REFUSES_NEW_LANGUAGE_MODELS = ("gena_bert", "nucleotide_transformer", "ntv3")


def _list_body(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The weights of the base model; not those that published names put into it and that are a head's."""
    return {
        name: weight
        for name, weight in model.base_model.named_parameters()
        if not name.startswith(("lm_head.", "bigwig_head.", "bed_head.", "conditions_heads."))
    }


def _check_body(loaded: PreTrainedModel, saved: PreTrainedModel, missing: set[str]):
    """The body is that of the checkpoint; only a pooler, which is a head's, may be told as new."""
    expected = _list_body(saved)
    names = {id(weight): name for name, weight in loaded.named_parameters()}
    for name, weight in _list_body(loaded).items():
        if name in expected:
            assert torch.equal(weight, expected[name]), name
        else:
            assert "pooler." in name and names[id(weight)] in missing, name


@pytest.mark.parametrize("variant", ONE_OF_EACH)
def test_every_class_reads_what_any_other_has_saved(variant, tmp_path):
    config = VARIANTS[variant]()
    classes = list_classes(config)
    for number, saving in enumerate(classes):
        saved = build_model(variant, saving.__name__)
        folder = tmp_path / str(number)
        saved.save_pretrained(folder, max_shard_size="20KB" if number % 2 else "1GB")
        for loading in classes:
            new_head = loading not in (saving, classes[0])
            if (
                new_head
                and loading.__name__.endswith(("MaskedLM", "PreTraining"))
                and variant.startswith(REFUSES_NEW_LANGUAGE_MODELS)
                and saving.__name__ != "GenaBertForPreTraining"
            ):
                with pytest.raises(ValueError, match="missing"):
                    loading.from_pretrained(folder)
                continue
            loaded, found = loading.from_pretrained(folder, output_loading_info=True)
            missing = set(found["missing_keys"])
            _check_body(loaded, saved, missing)
            body = {f"{loaded.base_model_prefix}.{name}" for name in _list_body(loaded) if "pooler." not in name}
            assert not missing & body
            if new_head and saving is classes[0]:
                assert missing, "a head that the checkpoint does not have is told"
            if not new_head:
                assert all("pooler." in name for name in missing)


@pytest.mark.parametrize("variant", RECURRENT)
def test_auto_classes_and_gengram_auto_read_a_recurrent_memory(variant, tmp_path):
    config = VARIANTS[variant]()
    head = build_model(variant, "RmtForSequenceClassification")
    head.save_pretrained(tmp_path / "head")
    base = build_model(variant, "RmtModel", seed=1)
    base.save_pretrained(tmp_path / "base")
    for load in (transformers.AutoModel.from_pretrained, gengram.auto):
        _check_body(load(tmp_path / "head"), head, set())
    for name in type(config).auto_classes:
        if name not in ("AutoConfig", "AutoModel"):
            loaded, found = getattr(transformers, name).from_pretrained(tmp_path / "base", output_loading_info=True)
            assert type(loaded) is find_model(type(config), name)
            _check_body(loaded, base, set(found["missing_keys"]))
    with pytest.raises(ValueError, match="missing"):
        gengram.auto(tmp_path / "base", "sequence_classification")
    _check_body(
        *(gengram.auto(tmp_path / "base", "sequence_classification", num_labels=2), base),
        missing={name for name, _ in head.named_parameters()},
    )


def _name_as_before(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The weights of a recurrent memory by the names of version 0.1."""
    backbone = model.base_model.backbone
    prefix = "" if isinstance(model, RmtModel) else f"{backbone.base_model_prefix}."
    old = {f"model.{prefix}{name}": weight for name, weight in backbone.state_dict().items()}
    if not isinstance(model, RmtModel):
        old |= {f"model.{name}": weight for name, weight in model.head.named_parameters()}
    return {name: weight.data.clone() for name, weight in old.items()} | {
        "memory_tokens.weight": model.memory_tokens.weight.data.clone()
    }


@pytest.mark.parametrize("variant", RECURRENT)
def test_names_of_version_0_1_are_read(variant, tmp_path, caplog):
    config = VARIANTS[variant]()
    for saving in list_classes(config):
        saved = build_model(variant, saving.__name__)
        folder = tmp_path / saving.__name__
        saved.config.save_pretrained(folder)
        old = _name_as_before(saved)
        save_file(old, folder / "model.safetensors", metadata={"format": "pt"})
        inputs = draw_inputs(config, saving.__name__, labelled=False)
        loaded, found = saving.from_pretrained(folder, output_loading_info=True)
        assert not found["missing_keys"] and not found["unexpected_keys"]
        taken = build_model(variant, saving.__name__, seed=1)
        taken.load_state_dict(saved.state_dict())
        assert "The state of an optimizer" not in caplog.text
        # As `Trainer` does when it resumes, with the state of an optimizer that counts weights.
        taken.load_state_dict(old, strict=False)
        assert "The state of an optimizer" in caplog.text
        caplog.clear()
        with torch.no_grad():
            expected = saved(**inputs).to_tuple()[0]
            for model in (loaded, taken):
                assert torch.allclose(model.eval()(**inputs).to_tuple()[0], expected, atol=1e-6)
        loaded.save_pretrained(folder / "again")
        again = saving.from_pretrained(folder / "again")
        assert again.state_dict().keys() == saved.state_dict().keys()
        for loading in list_classes(config):
            loaded, found = loading.from_pretrained(folder, output_loading_info=True)
            _check_body(loaded, saved, set(found["missing_keys"]))


@pytest.mark.parametrize("name", ["RmtForSequenceClassification", "RmtForMaskedLM"])
def test_adapters_of_version_0_1_are_read(name, tmp_path):
    model = build_model("rmt-gena", name)
    head = ["classifier"] if "Sequence" in name else []
    settings = LoraConfig(
        target_modules=["query", "value"], modules_to_save=["memory_tokens", *head], init_lora_weights=False
    )
    adapted = get_peft_model(model, settings).eval()
    torch.nn.init.normal_(adapted.base_model.model.memory_tokens.modules_to_save["default"].weight)
    adapted.save_pretrained(tmp_path)
    weights = {
        key.replace("model.model.model.backbone.", "model.model.model.bert.")
        .replace("model.model.model.memory_tokens.", "model.model.memory_tokens.")
        .replace("model.model.head.", "model.model.model."): tensor
        for key, tensor in load_file(tmp_path / "adapter_model.safetensors").items()
    }
    save_file(weights, tmp_path / "adapter_model.safetensors", metadata={"format": "pt"})
    inputs = draw_inputs(model.config, name, labelled=False)
    again = PeftModel.from_pretrained(build_model("rmt-gena", name), tmp_path).eval()
    with torch.no_grad():
        assert torch.allclose(again(**inputs).logits, adapted(**inputs).logits, atol=1e-6)


def test_an_encoder_without_its_head_is_refused():
    encoder = transformers.AutoModel.from_config(VARIANTS["rmt-gena"]().backbone_config)
    with pytest.raises(ValueError, match="GenaBertModel has no head"):
        find_class(VARIANTS["rmt-gena"](), "RmtForMaskedLM").from_backbone(encoder)
