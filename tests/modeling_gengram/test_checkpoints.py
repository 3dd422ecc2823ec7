"""Checkpoints travel: with the package, without it, and with a clear message where they cannot."""

import json
import os
import subprocess
import sys
import textwrap

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    LlamaConfig,
    LlamaForCausalLM,
)

import gengram
from gengram import (
    GenaBertConfig,
    GenaBertForPreTraining,
    GengramConfig,
    GengramForCausalLM,
    GengramForMaskedLM,
    GengramForPreTraining,
    GengramForSequenceClassification,
    GengramModel,
    NTv3Config,
    NTv3ForMaskedLM,
    NucleotideTransformerConfig,
    NucleotideTransformerForMaskedLM,
    RmtConfig,
    RmtForMaskedLM,
)
from gengram.megatron_decoder.configuration_megatron_decoder import MegatronDecoderConfig
from gengram.megatron_decoder.modeling_megatron_decoder import MegatronDecoderForCausalLM
from gengram.registration import find_model, list_configurations

SIZES = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 32}
MEMORY = {"memory_layers": [0], "memory_dim": 8}
RMT_IDS = {"segment_length": 16, "cls_token_id": 1, "sep_token_id": 2, "pad_token_id": 0}


def run_stranger(code: str, cache) -> subprocess.CompletedProcess:
    """Run code in a process to which the package does not exist."""
    blocker = """
        import sys
        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in ("gengram", "modeling_gengram"):
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        sys.meta_path.insert(0, Blocker())
    """
    environment = {**os.environ, "HF_HOME": str(cache), "HF_MODULES_CACHE": str(cache / "modules")}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(blocker) + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=environment,
        cwd=cache,
    )


def test_every_model_is_registered(make_backbone, make_config):
    for config_class in list_configurations():
        assert type(AutoConfig.for_model(config_class.model_type)) is config_class
        for name in config_class.auto_classes.keys() - {"AutoConfig"}:
            auto_class, model_class = getattr(transformers, name), find_model(config_class, name)
            config = config_class()
            if config_class is GengramConfig and auto_class is AutoModelForMaskedLM:
                config = make_config(make_backbone("bert"))
            with torch.device("meta"):
                model = auto_class.from_config(config)
            if model_class is GengramForPreTraining:  # the language model that the configuration is of
                model_class = GengramForCausalLM
            assert type(model) is model_class


PRETRAINED = {  # model type -> class, and a small configuration
    "gengram causal": (
        GengramForCausalLM,
        lambda: GengramConfig(backbone_config=LlamaConfig(**SIZES), **MEMORY),
    ),
    "gengram masked": (GengramForMaskedLM, lambda: GengramConfig(backbone_config=BertConfig(**SIZES), **MEMORY)),
    "gena_bert": (GenaBertForPreTraining, lambda: GenaBertConfig(**SIZES)),
    "rmt": (RmtForMaskedLM, lambda: RmtConfig(backbone_config=BertConfig(**SIZES), **RMT_IDS)),
    "megatron_decoder": (MegatronDecoderForCausalLM, lambda: MegatronDecoderConfig(**SIZES)),
    "nucleotide_transformer": (NucleotideTransformerForMaskedLM, lambda: NucleotideTransformerConfig(**SIZES)),
    "ntv3": (NTv3ForMaskedLM, lambda: NTv3Config(conv_init_embed_dim=8, embed_dim=8, ffn_embed_dim=8, num_layers=1)),
}
NO_LANGUAGE_MODEL = {"segment_nt", "ntv3_posttrained"}


def test_every_language_model_has_a_class_for_pre_training():
    named = {name.split()[0] for name in PRETRAINED}
    for config_class in list_configurations():
        kinds = {"AutoModelForMaskedLM", "AutoModelForCausalLM"} & config_class.auto_classes.keys()
        assert bool(kinds) == ("AutoModelForPreTraining" in config_class.auto_classes), config_class
        assert (config_class.model_type in named) != (config_class.model_type in NO_LANGUAGE_MODEL)


@pytest.mark.parametrize("name", PRETRAINED)
def test_pre_training_goes_on_with_the_class_that_was_trained(name, tmp_path):
    model_class, make = PRETRAINED[name]
    model_class(make()).save_pretrained(tmp_path)
    model, found = AutoModelForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert type(model) is model_class and not found["missing_keys"] and not found["unexpected_keys"]
    assert type(AutoModelForPreTraining.from_config(make())) is model_class
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["architectures"] == [model_class.__name__]
    if name != "megatron_decoder":  # Llama saves it
        assert saved["auto_map"] == type(model.config).auto_classes


def test_one_name_for_both_directions(make_backbone, make_config, tmp_path):
    for backbone, model_class in (("llama-mha", GengramForCausalLM), ("esm", GengramForMaskedLM)):
        config = make_config(make_backbone(backbone))
        assert type(GengramForPreTraining(config)) is model_class
        model_class(config).save_pretrained(tmp_path / backbone)
        model = GengramForPreTraining.from_pretrained(tmp_path / backbone, dtype="float64")
        assert type(model) is model_class and model.dtype == torch.float64
        given = AutoModelForPreTraining.from_pretrained(tmp_path / backbone, config=config)
        assert type(given) is model_class
    LlamaForCausalLM(make_backbone("llama-mha")).save_pretrained(tmp_path / "native")
    model = GengramForPreTraining.from_backbone(tmp_path / "native", memory_layers=[1], memory_dim=8)
    assert type(model) is GengramForCausalLM and model.config.memory_layers == [1]


@pytest.mark.parametrize("backbone,wrong", [("llama-mha", AutoModelForMaskedLM), ("bert", AutoModelForCausalLM)])
def test_the_other_direction_is_refused(make_backbone, make_model, tmp_path, backbone, wrong):
    make_model(make_backbone(backbone)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"Use GengramFor(CausalLM|MaskedLM)"):
        wrong.from_pretrained(tmp_path)


def test_importing_again_registers_again_silently():
    gengram.registration.register()


def test_round_trip_through_auto_classes(backbone_config, make_model, make_ids, tmp_path):
    model, ids = make_model(backbone_config).float(), make_ids(2, 20)
    model.save_pretrained(tmp_path)
    auto = AutoModelForCausalLM if model.config.is_causal else AutoModelForMaskedLM
    loaded = auto.from_pretrained(tmp_path)
    assert type(loaded) is type(model) and not loaded.training
    with torch.no_grad():  # Where a weight begins in memory decides how a product is summed.
        torch.testing.assert_close(loaded(ids).logits, model(ids).logits, rtol=0, atol=1e-6)
    changes = ("_name_or_path", "backbone_config", "dtype")
    ours, saved = ({k: v for k, v in m.config.to_dict().items() if k not in changes} for m in (loaded, model))
    assert ours == saved
    names = set(load_file(tmp_path / "model.safetensors"))
    assert names <= set(model.state_dict()), "written in a foreign layout"
    base, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert type(base) is GengramModel and not info["missing_keys"]
    for auto, keys in (
        (AutoModelForSequenceClassification, {"classifier.weight", "classifier.bias"}),
        (AutoModelForTokenClassification, {"classifier.weight", "classifier.bias"}),
    ):
        _, info = auto.from_pretrained(tmp_path, num_labels=4, output_loading_info=True)
        assert set(info["missing_keys"]) == keys


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_checkpoint_keeps_its_dtype(make_backbone, make_model, tmp_path, dtype):
    make_model(make_backbone("llama-mha")).to(dtype).save_pretrained(tmp_path)
    assert {p.dtype for p in GengramForCausalLM.from_pretrained(tmp_path).parameters()} == {dtype}
    again = GengramForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert {p.dtype for p in again.parameters()} == {torch.float32}


def test_sharded_checkpoints(make_backbone, make_model, make_ids, tmp_path):
    model, ids = make_model(make_backbone("mixtral")), make_ids(1, 15)
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    loaded = GengramForCausalLM.from_pretrained(tmp_path, experts_implementation="eager")
    for (name, saved), weight in zip(model.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert torch.equal(saved, weight), name
    with torch.no_grad():  # Where a weight begins in memory decides how a product is summed.
        torch.testing.assert_close(loaded(ids).logits, model(ids).logits, rtol=0, atol=1e-12)


def test_a_stranger_loads_every_head_without_the_package(make_backbone, make_model, make_ids, tmp_path):
    """Saved from one head, loaded as each: the auto_map is complete and the code is beside the weights."""
    (tmp_path / "home").mkdir()
    expected = {}
    for name in ("mixtral", "modernbert"):
        model = make_model(make_backbone(name)).float()
        model.save_pretrained(tmp_path / name)
        with torch.no_grad():
            expected[name] = float(model(make_ids(1, 30)).logits.double().sum())
        auto_map = json.loads((tmp_path / name / "config.json").read_text())["auto_map"]
        assert auto_map == {
            "AutoConfig": "configuration_gengram.GengramConfig",
            "AutoModel": "modeling_gengram.GengramModel",
            "AutoModelForPreTraining": "modeling_gengram.GengramForPreTraining",
            "AutoModelForCausalLM": "modeling_gengram.GengramForCausalLM",
            "AutoModelForMaskedLM": "modeling_gengram.GengramForMaskedLM",
            "AutoModelForSequenceClassification": "modeling_gengram.GengramForSequenceClassification",
            "AutoModelForTokenClassification": "modeling_gengram.GengramForTokenClassification",
        }
    ids = make_ids(1, 30).tolist()
    result = run_stranger(
        f"""
        import torch
        from transformers import (AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForPreTraining,
                                  AutoModelForSequenceClassification, AutoModelForTokenClassification)
        ids = torch.tensor({ids})
        lm = {{"mixtral": AutoModelForCausalLM, "modernbert": AutoModelForMaskedLM}}
        for name, auto in lm.items():
            folder = r"{tmp_path}/" + name
            kwargs = {{"trust_remote_code": True, "experts_implementation": "eager"}}
            if name == "modernbert":
                del kwargs["experts_implementation"]
            model = auto.from_pretrained(folder, **kwargs)
            with torch.no_grad():
                print("SUM", name, float(model(ids).logits.double().sum()))
            assert type(AutoModelForPreTraining.from_pretrained(folder, **kwargs)).__name__ == type(model).__name__
            if name == "mixtral":  # bases and the end
                assert set(range(128)) - set(model.generation_config.suppress_tokens) == {{5, 6, 7, 8, 12}}
            for other in (AutoModel, AutoModelForSequenceClassification, AutoModelForTokenClassification):
                print("LOADED", type(other.from_pretrained(folder, **kwargs)).__name__)
            model.save_pretrained(folder + "-again")
            again = auto.from_pretrained(folder + "-again", **kwargs)
            with torch.no_grad():  # Where a weight begins in memory decides how a product is summed.
                torch.testing.assert_close(again(ids).logits, model(ids).logits, rtol=0, atol=1e-6)
        print("GENGRAM", "gengram" in __import__("sys").modules)
        """,
        tmp_path / "home",
    )
    assert result.returncode == 0, result.stderr[-3000:]
    sums = {line.split()[1]: float(line.split()[2]) for line in result.stdout.splitlines() if line.startswith("SUM")}
    assert sums == pytest.approx(expected, abs=1e-3)
    assert result.stdout.count("LOADED") == 6 and "GENGRAM False" in result.stdout


def test_remote_code_needs_consent_only_where_the_package_is_missing(make_backbone, make_model, tmp_path):
    (tmp_path / "home").mkdir()
    make_model(make_backbone("llama-mha")).save_pretrained(tmp_path / "model")
    assert type(AutoModelForCausalLM.from_pretrained(tmp_path / "model")) is GengramForCausalLM  # no prompt here
    result = run_stranger(
        f"from transformers import AutoModel; AutoModel.from_pretrained(r'{tmp_path}/model')", tmp_path / "home"
    )
    assert result.returncode != 0 and "trust_remote_code" in result.stderr


def test_a_backbone_of_the_package_says_that_the_package_is_needed(make_backbone, make_model, tmp_path):
    (tmp_path / "home").mkdir()
    make_model(make_backbone("megatron-decoder")).save_pretrained(tmp_path / "model")
    result = run_stranger(
        f"from transformers import AutoModel; AutoModel.from_pretrained(r'{tmp_path}/model', trust_remote_code=True)",
        tmp_path / "home",
    )
    assert result.returncode != 0
    assert "'megatron_decoder' is unknown" in result.stderr and "pip install gengram" in result.stderr


def test_a_corrupt_checkpoint_is_an_error(make_backbone, make_model, tmp_path):
    make_model(make_backbone("llama-mha")).save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(Exception, match=r"(?i)safetensor|incomplete|header|invalid"):
        GengramForCausalLM.from_pretrained(tmp_path)


def test_weights_of_another_shape_are_an_error(make_backbone, make_model, make_config, tmp_path):
    make_model(make_backbone("llama-mha")).save_pretrained(tmp_path)
    config = make_config(make_backbone("llama-mha"), memory_dim=16)
    with pytest.raises(RuntimeError, match=r"(?i)mismatch"):
        GengramForCausalLM.from_pretrained(tmp_path, config=config)


def test_saving_from_trainer_and_loading_as_auto_model(make_backbone, make_config, make_ids, tmp_path):
    from transformers import Trainer, TrainingArguments

    model = GengramForSequenceClassification(make_config(make_backbone("llama-mha"), num_labels=3))
    rows = [{"input_ids": make_ids(1, 24, seed=i)[0], "labels": i % 3} for i in range(12)]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    arguments = TrainingArguments(
        tmp_path / "run",
        max_steps=3,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        weight_decay=0.1,
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = Trainer(model, arguments, train_dataset=rows)
    trainer.train()
    still = [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    assert not still, f"never trained: {still}"
    trainer.save_model(tmp_path / "model")
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    ids = make_ids(2, 24, seed=77)
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, model.eval()(ids).logits, rtol=0, atol=0)


def test_loading_native_heads_needs_a_known_backbone():
    with pytest.raises(ValueError, match="no model_type"):
        GengramConfig(backbone_config={"hidden_size": 8})
    with pytest.raises(ValueError, match="unknown to this transformers"):
        GengramConfig(backbone_config={"model_type": "nothing"})


def test_a_configuration_given_as_dict_or_object_is_the_same():
    backbone = LlamaConfig(vocab_size=16, hidden_size=8, num_attention_heads=1, num_hidden_layers=1)
    a = GengramConfig(backbone_config=backbone, memory_layers=[0])
    b = GengramConfig(backbone_config=backbone.to_dict(), memory_layers=[0])
    assert a.to_dict() == b.to_dict()
