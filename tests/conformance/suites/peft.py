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

# What PEFT's lists of methods lack: three of its methods, and forms of LoRA.
_MORE = {
    "LoHa": (peft.LoHaConfig, {"r": 4}),
    "LoKr": (peft.LoKrConfig, {"r": 4}),
    "LNTuning": (peft.LNTuningConfig, {}),
    "OSF": (peft.OSFConfig, {}),
    "UniLora": (peft.UniLoraConfig, {}),
    "Lora-dora": (peft.LoraConfig, {"use_dora": True}),
    "Lora-pissa": (peft.LoraConfig, {"init_lora_weights": "pissa"}),
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
        """Two sequences."""
        return self.tester.draw_inputs(self.tester.build_configuration(), B=2)


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


def adapt_test(function: types.FunctionType, methods: dict[str, tuple[type, dict]], label: str) -> types.FunctionType:
    """A copy of a test of PEFT's: its model is a fixture, and its methods are ours, by name."""
    adapted = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    functools.update_wrapper(adapted, function)
    del adapted.__wrapped__
    adapted.pytestmark = []
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
    found = {
        name: adapt_test(function, methods, label)
        if {"model_id", "config_cls"} <= set(inspect.signature(function).parameters)
        else None  # no test of ours
        for name, function in inspect.getmembers(theirs, inspect.isfunction)
        if name.startswith("test_")
    }
    for family in FAMILIES:
        tester = TESTERS[family]
        classes = tester.list_classes()
        # A decoder's tests are more of the same, so it is not read without its head.
        if auto_class not in classes or (auto_class == "AutoModel" and "AutoModelForCausalLM" in classes):
            continue
        name = f"Test_{family.replace('-', '_')}_{label}"
        content = {"family": family, "tester": tester, "auto_class": auto_class, "__module__": __name__, **found}
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
