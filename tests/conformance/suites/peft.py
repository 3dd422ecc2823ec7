"""PEFT's own tests of models: every method of adapters that it knows, on every family.

Its test classes are parametrised by ids of models on the Hub; here each becomes one class a family, with the family's
small models in folders. Tests that name a model themselves, or need a data set, are about PEFT alone and left out.
"""

import copy
import functools
import inspect
import os
import sys
import types
from pathlib import Path

import peft
import pytest
import torch
import transformers
from conformance.testers import TESTERS, Tester
from transformers import set_seed

# The tests name a pipeline of pictures, which none of these needs.
sys.modules["diffusers"] = types.ModuleType("diffusers")
sys.modules["diffusers"].StableDiffusionPipeline = type("StableDiffusionPipeline", (), {})
from . import test_decoder_models as decoders  # noqa: E402
from . import test_feature_extraction_models as encoders  # noqa: E402
from . import test_seq_classifier as sequences  # noqa: E402
from . import test_token_classification_qa as tokens  # noqa: E402
from . import test_xlora as xlora  # noqa: E402

del sys.modules["diffusers"]

# One of each kind has every method; the other variants differ from it in what no method looks at.
FAMILIES = (
    "gengram-mixtral",
    "gengram-modernbert",
    "gena_bert",
    "big_bird",
    "modernbert",
    "rmt-gena-bert",
    "megatron_decoder",
    "nucleotide_transformer",
    "segment_nt",
    "ntv3",
    "ntv3_posttrained",
)

# They read a data set of the Hub.
_LEFT_OUT = ("test_prompt_learning_with_gradient_checkpointing",)

# What PEFT's lists of methods lack: three of its methods, and forms of LoRA.
_MORE = {
    "LoHa": (peft.LoHaConfig, {"r": 4}),
    "LoKr": (peft.LoKrConfig, {"r": 4}),
    "LNTuning": (peft.LNTuningConfig, {}),
    "OSF": (peft.OSFConfig, {}),
    "UniLora": (peft.UniLoraConfig, {}),
    "Lora-dora": (peft.LoraConfig, {"use_dora": True}),
}


def list_methods(configurations: list, task_type: str) -> dict[str, tuple[type, dict]]:
    """Name -> configuration class and fields: PEFT's own, and those that are missing there."""
    methods: dict[str, tuple[type, dict]] = {}
    for config_class, fields in configurations:
        name = kind = config_class.__name__.removesuffix("Config")
        while name in methods:
            name = f"{kind}-{int(name.removeprefix(kind).removeprefix('-') or 1) + 1}"
        methods[name] = config_class, dict(fields)
    known = {config_class for config_class, _ in methods.values()}
    for name, (config_class, fields) in _MORE.items():
        if config_class is peft.LoraConfig or config_class not in known:
            methods[name] = config_class, {"task_type": task_type, **fields}
    return methods


class _OnFamily:
    """First base of every class: where PEFT's tests find a model of the family, and what it reads."""

    family: str
    tester: Tester
    auto_class: str

    @pytest.fixture(autouse=True, scope="class")
    def _enter_models(self, request, models):
        before = Path.cwd()
        os.chdir(models)
        if not Path(request.cls.family, request.cls.auto_class).is_dir():
            save_model(request.cls.family, request.cls.auto_class)
        yield
        os.chdir(before)

    @pytest.fixture(autouse=True)
    def _set_seed(self):
        set_seed(0)

    @pytest.fixture
    def model_id(self):
        """The folder of the model, from the folder of all."""
        return f"{self.family}/{self.auto_class}"

    def prepare_inputs_for_testing(self):
        """Two sequences; those that are continued are short, as the tests stop at 15 tokens."""
        inputs = self.tester.draw_inputs(self.tester.build_configuration(), B=2)
        if "CausalLM" in self.auto_class:
            inputs = {name: value[:, :8] for name, value in inputs.items()}
            # Tokens at which some of the methods begin, or that they train.
            inputs["input_ids"][:, 1:3] = torch.tensor([1, 3])
        return inputs


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """Folder of all models; each is made when it is first asked for."""
    return tmp_path_factory.mktemp("models")


def save_model(family: str, auto_class: str) -> None:
    """Save a small model and its tokenizer here, its weights large enough to show what an adapter does."""
    tester, folder = TESTERS[family], Path(family, auto_class)
    set_seed(0)
    model = getattr(transformers, auto_class).from_config(tester.build_configuration())
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    model.save_pretrained(folder)
    tester.build_tokenizer().save_pretrained(folder)


def choose_methods(methods: dict[str, tuple[type, dict]], tester: Tester) -> dict[str, tuple[type, dict]]:
    """
    The methods whose requirements a family meets.

    Left out, and refused by the models with the reason (`tests/families/test_adapters.py`): prompts where a memory or
    segments need ids, and a U-Net a fixed number of positions; prefixes of encoders, which have no past. ShadowPEFT
    looks for the layers of a plain decoder.
    """
    decoder = "AutoModelForCausalLM" in tester.list_classes()
    chosen = {}
    for name, (config_class, fields) in methods.items():
        past = config_class in (peft.PrefixTuningConfig, peft.CartridgeConfig)
        prompt = issubclass(config_class, peft.PromptLearningConfig) and not past
        if past and not decoder:
            continue
        if prompt and tester.row in ("gengram", "rmt", "segment_nt", "ntv3", "ntv3_posttrained"):
            continue
        if config_class is peft.ShadowConfig and tester.row != "megatron_decoder":
            continue
        chosen[name] = config_class, fields
    return chosen


def adapt_test(function: types.FunctionType, methods: dict[str, tuple[type, dict]], label: str) -> types.FunctionType:
    """A copy of a test of PEFT's: its model is a fixture, and its methods are ours, by name."""
    adapted = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    functools.update_wrapper(adapted, function)
    del adapted.__wrapped__
    adapted.pytestmark = []
    if any(word in function.__name__ for word in ("merge", "unload", "disable")):
        # They want an adapter that changes something, and LN tuning begins as the base.
        methods = {name: method for name, method in methods.items() if name != "LNTuning"}
    if "mixed" in function.__name__:  # PEFT refuses it
        methods = {name: method for name, method in methods.items() if name != "Lora-dora"}
    if "weighted" in function.__name__ and label == "causal":
        # A rank of 20 is more than the few heads of keys and values have.
        methods = {
            name: (
                config_class,
                {**fields, "target_modules": ["q_proj"]} if config_class is peft.LoraConfig else fields,
            )
            for name, (config_class, fields) in methods.items()
        }
    for mark in function.pytestmark:
        names = mark.args[0] if mark.name == "parametrize" else ""
        if names == "model_id":
            continue
        if "config_cls" in names:
            values = [(config_class, copy.deepcopy(fields)) for config_class, fields in methods.values()]
            ids = [f"{label}-{name}" for name in methods]
            mark = pytest.mark.parametrize("config_cls,config_kwargs", values, ids=ids).mark
        adapted.pytestmark.append(mark)
    return adapted


def build_classes(theirs: type, auto_class: str, label: str, configurations: list, task_type: str) -> None:
    """Put a class of each family that has such a model into this module."""
    methods = list_methods(configurations, task_type)
    for family in FAMILIES:
        tester = TESTERS[family]
        classes = tester.list_classes()
        # A decoder's tests are more of the same, so it is not read without its head.
        if auto_class not in classes or (auto_class == "AutoModel" and "AutoModelForCausalLM" in classes):
            continue
        chosen = choose_methods(methods, tester)
        tests = {
            name: adapt_test(function, chosen, label)
            if {"model_id", "config_cls"} <= set(inspect.signature(function).parameters) and name not in _LEFT_OUT
            else None  # no test of ours
            for name, function in inspect.getmembers(theirs, inspect.isfunction)
            if name.startswith("test_")
        }
        name = f"Test_{family.replace('-', '_')}_{label}"
        content = {"family": family, "tester": tester, "auto_class": auto_class, "__module__": __name__, **tests}
        globals()[name] = type(name, (_OnFamily, theirs), content)


build_classes(encoders.TestPeftFeatureExtractionModel, "AutoModel", "base", encoders.ALL_CONFIGS, "FEATURE_EXTRACTION")
build_classes(decoders.TestDecoderModels, "AutoModelForCausalLM", "causal", decoders.ALL_CONFIGS, "CAUSAL_LM")
build_classes(
    sequences.TestSequenceClassificationModels,
    "AutoModelForSequenceClassification",
    "sequence",
    sequences.ALL_CONFIGS,
    "SEQ_CLS",
)
build_classes(
    tokens.TestTokenClassificationModels,
    "AutoModelForTokenClassification",
    "token",
    sequences.ALL_CONFIGS,
    "TOKEN_CLS",
)


# Tests about one model each, which is the family's here; those left out name layers of OPT or other models.
for _family in ("gengram-mixtral", "megatron_decoder"):
    _name = f"Test_{_family.replace('-', '_')}_xlora"
    _content = {
        "family": _family,
        "tester": TESTERS[_family],
        "auto_class": "AutoModelForCausalLM",
        "model_id": f"{_family}/AutoModelForCausalLM",
        "__module__": __name__,
        "test_forward_hooks_are_cleaned_up": None,
        "test_xlora_loading_valid": None,
        "test_xlora_embed_scale_is_applied": None,
        # Greedy texts, which are often the same; `..._matches_base_model` compares logits.
        "test_disable_adapter": None,
    }
    globals()[_name] = type(_name, (_OnFamily, xlora.TestXlora), _content)
