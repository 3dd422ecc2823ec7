"""A row of the model table comes with all its things: tests against a reference, a page, a card, adapters, names.

Every check returns what a row lacks, in words; at the end a made-up row lacks everything. Where a family has a good
reason to go without something, the reason stands in a table here, and the test fails once it is no longer needed.
"""

import ast
import functools
import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import pytest
import torch
import transformers
from peft.utils import constants
from transformers import PreTrainedConfig

import gengram
from gengram import registration
from gengram.loading.tokenizers import _BY_CONTENT
from gengram.model_cards.card import find_task
from gengram.registration import FAMILIES, TOKENIZERS, find_configuration, find_model

ROOT = Path(__file__).parents[2]

NOT_EXPORTED = {
    "megatron_decoder": "internal to conversion: `Auto*` load what was converted, and nobody builds one by hand",
}
"""Families without public names, and why."""

REFERENCE_BY_ANOTHER_NAME = {
    # Megatron's checkpoints are converted first, and the class is what AutoModelForCausalLM finds for them.
    "megatron_decoder": (
        "tests/golden/test_megatron.py",
        "convert_megatron",
        "modeling_gengram/conversion/megatron.py",
    ),
}
"""Families whose class a golden test does not name: the test, what it calls, and the file behind it, which names the
model type."""

CARD_OF_THE_ENCODER = {
    "AutoModelForPreTraining": "neither two heads at once nor a name for two classes is a task of the Hub",
}
"""Auto classes that a card replaces by `AutoModel`, and why."""


def list_classes(model_type: str) -> list[str]:
    """Names of a family's configuration and models."""
    return [path.rpartition(".")[2] for path in find_configuration(model_type).auto_classes.values()]


@functools.cache
def read_names(path: Path) -> frozenset[str]:
    """Every name that a file's code uses, and every word of a string that is one name; comments do not count."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.alias):
            names.add(node.name)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            names.add(node.value)
    return frozenset(names)


@functools.cache
def list_targets() -> dict[str, dict]:
    """PEFT's tables of default layers, by method: those of methods that have a default for Llama."""
    found = {
        name: re.fullmatch(r"TRANSFORMERS_MODELS_TO_(\w+)_TARGET_MODULES_MAPPING", name) for name in vars(constants)
    }
    return {match[1]: getattr(constants, name) for name, match in found.items() if match}


def find_faults_of_classes(model_type: str) -> list[str]:
    """The row and its files say the same: model type, names, `_auto_class`, and the folder is one family's."""
    configuration = find_configuration(model_type)
    faults = []
    if configuration.model_type != model_type:
        faults.append(f"{configuration.__name__}.model_type is {configuration.model_type!r}")
    if configuration._auto_class != "AutoConfig" or "auto_classes" not in vars(configuration):
        faults.append(f"{configuration.__name__}: no _auto_class and auto_classes of its own")
    own = f"{configuration.__module__.rpartition('.')[2]}.{configuration.__name__}"
    if configuration.auto_classes.get("AutoConfig") != own:
        faults.append(f"auto_classes['AutoConfig'] is not {own}")
    if "AutoModel" not in configuration.auto_classes:
        faults.append("no AutoModel: nothing to embed with")
    for name in configuration.auto_classes.keys() - {"AutoConfig"}:
        model = find_model(configuration, name)
        # What pre-training goes on with is a class of another name, or chooses among those of other names.
        if model._auto_class != name and name != "AutoModelForPreTraining":
            faults.append(f"{model.__name__}._auto_class is {model._auto_class!r}, not {name!r}")
        if model.config_class is not configuration:
            faults.append(f"{model.__name__}.config_class is {model.config_class.__name__}")
        if model not in getattr(transformers, name)._model_mapping._extra_content.values():
            faults.append(f"{name} does not know {model.__name__}: registration fills no such table")
    return faults


def find_faults_of_references(model_type: str) -> list[str]:
    """A file in tests/golden names a class of the family, in code, and has tests that are given a golden case.

    Golden files are compared with a reference implementation: numbers of the original code, or of a brute force of the
    paper's equations.
    """
    classes = set(list_classes(model_type))
    for path in sorted((ROOT / "tests" / "golden").glob("test_*.py")):
        if classes & read_names(path) and "find_golden_cases" in read_names(path):
            return []
    if model_type in REFERENCE_BY_ANOTHER_NAME:
        test, called, behind = REFERENCE_BY_ANOTHER_NAME[model_type]
        if called in read_names(ROOT / test) and model_type in read_names(ROOT / behind) | read_types(behind):
            return []
    return [f"no file in tests/golden compares {' or '.join(sorted(classes))} with a reference"]


def read_types(path: str) -> set[str]:
    """Model types whose configuration class a file names."""
    return {one for one in FAMILIES if find_configuration(one).__name__ in read_names(ROOT / path)}


def find_faults_of_pages(model_type: str) -> list[str]:
    """A page for users names the model type or one of the classes; reasons alone (decisions.md) are no page."""
    words = re.compile(rf"\b({'|'.join([model_type, *list_classes(model_type)])})\b")
    pages = [page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "decisions.md"]
    if model_type == "gengram":  # The package's name is on every page.
        words = re.compile(rf"\b({'|'.join(list_classes(model_type))})\b")
    return (
        [] if any(words.search(page.read_text(encoding="utf-8")) for page in pages) else ["no page in docs/ names it"]
    )


def find_faults_of_cards(model_type: str) -> list[str]:
    """A card's example loads every class with the Auto class under which it is registered."""
    faults = []
    classes = find_configuration(model_type).auto_classes
    for name, path in classes.items():
        if name == "AutoModelForPreTraining" and list(classes.values()).count(path) > 1:
            continue
        if name != "AutoConfig":
            _, shown = find_task({"model_type": model_type, "architectures": [path.rpartition(".")[2]]})
            if shown != ("AutoModel" if name in CARD_OF_THE_ENCODER else name):
                faults.append(f"a card of {path} shows {shown} instead of {name}")
    return faults


def find_faults_of_adapters(model_type: str) -> list[str]:
    """Every method with default layers knows some of the family, and the base model has such layers."""
    faults = []
    for method, table in list_targets().items():
        if model_type not in table:
            faults.append(f"{method} has no default layers")
        elif not any(
            name.endswith(tuple(f".{target}" for target in table[model_type])) for name in list_layers(model_type)
        ):
            faults.append(f"none of the default layers of {method} is in the model")
    if model_type not in constants.TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING:
        faults.append("IA3 does not know which of its layers are feed-forward ones")
    return faults


@functools.cache
def list_layers(model_type: str) -> list[str]:
    configuration = find_configuration(model_type)
    with torch.device("meta"):
        model = find_model(configuration, "AutoModel")(configuration())
    return [f".{name}" for name, _ in model.named_modules()]


def find_faults_of_names(model_type: str) -> list[str]:
    """`import gengram` has the configuration and every class."""
    missing = [name for name in list_classes(model_type) if name not in gengram.__all__]
    if model_type in NOT_EXPORTED:
        return [] if len(missing) == len(list_classes(model_type)) else [f"NOT_EXPORTED, but some are: not {missing}"]
    return [f"gengram has no {name}" for name in missing]


def find_faults_of_tokenizers(model_type: str) -> list[str]:
    """A kind of published tokenizer is one that can be recognized and loaded."""
    kind = registration.FAMILIES[model_type].tokenizer
    if kind is None:
        return []
    if kind not in TOKENIZERS:
        return [f"no tokenizer is called {kind!r}; there are {', '.join(TOKENIZERS)}"]
    module = import_module(TOKENIZERS[kind])
    lacking = [name for name in ("recognizes_published", "load_published") if not callable(getattr(module, name, None))]
    return [f"{TOKENIZERS[kind]} has no {name}" for name in lacking]


CHECKS = {
    check.__name__.removeprefix("find_faults_of_"): check
    for check in (
        find_faults_of_classes,
        find_faults_of_references,
        find_faults_of_pages,
        find_faults_of_cards,
        find_faults_of_adapters,
        find_faults_of_names,
        find_faults_of_tokenizers,
    )
}


@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_a_family_has_all_its_things(check, model_type):
    assert check(model_type) == []


def test_every_family_folder_has_a_row():
    """Each configuration class that travels is in the table."""
    classes = {
        f"{path.parent.name}.{path.stem}.{node.name}"
        for path in (ROOT / "modeling_gengram").glob("*/configuration_*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
        and any("model_type" in ast.unparse(line).split(":")[0].split("=")[0] for line in node.body)
    }
    assert classes == {family.configuration for family in FAMILIES.values()}


def test_every_kind_of_tokenizer_is_asked_for():
    """By a family, or, since models of others have it, by what the files contain."""
    assert {family.tokenizer for family in FAMILIES.values()} - {None} | {*_BY_CONTENT} == TOKENIZERS.keys()


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_kind_of_tokenizer_is_recognized_and_loaded(kind):
    module = import_module(TOKENIZERS[kind])
    assert callable(module.recognizes_published) and callable(module.load_published)


def test_exceptions_are_still_needed():
    for model_type in NOT_EXPORTED:
        assert model_type in FAMILIES and not set(list_classes(model_type)) & set(gengram.__all__)
    for model_type, (test, called, behind) in REFERENCE_BY_ANOTHER_NAME.items():
        assert model_type in FAMILIES
        assert called in read_names(ROOT / test) and model_type in read_types(behind), "the exception leads nowhere"
        golden = (ROOT / "tests" / "golden").glob("test_*.py")
        assert not any(set(list_classes(model_type)) & read_names(path) for path in golden), "a golden test names it"
    used = {name for model_type in FAMILIES for name in find_configuration(model_type).auto_classes}
    assert CARD_OF_THE_ENCODER.keys() <= used
    for name in CARD_OF_THE_ENCODER:
        assert find_task({"architectures": [name.removeprefix("Auto")]})[1] == "AutoModel", "a card knows it now"


def test_public_names_are_the_same_for_readers_and_for_python():
    """`__all__`, where each name is defined, and what a type checker reads."""
    tree = ast.parse((ROOT / "modeling_gengram" / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {alias.name: node.module for node in block.body for alias in node.names}
    defined = dict(gengram._DEFINED_IN)
    assert {name: defined[name] for name in typed} == typed
    # A function of the same name would hide the sub-module from a type checker: `auto` is left out there.
    assert defined.keys() - typed.keys() <= {"auto"}
    assert sorted(gengram.__all__) == sorted({*defined, "__version__"})
    for name in gengram.__all__:
        assert getattr(gengram, name) is not None and name in dir(gengram)


@pytest.fixture
def made_up(monkeypatch) -> str:
    """A row whose files are there and that has nothing else."""
    configuration_module = ModuleType("gengram.made_up.configuration_made_up")
    modeling_module = ModuleType("gengram.made_up.modeling_made_up")

    class MadeUpConfig(PreTrainedConfig):
        model_type = "made_up_too"
        _auto_class = "AutoConfig"
        auto_classes: ClassVar[dict[str, str]] = {
            "AutoConfig": "configuration_made_up.MadeUpConfig",
            "AutoModel": "modeling_made_up.MadeUpForecast",
            "AutoModelForMaskedLM": "modeling_made_up.MadeUpForecast",
        }

    class MadeUpForecast(torch.nn.Module):
        _auto_class = "AutoModel"
        config_class = PreTrainedConfig

        def __init__(self, config):
            super().__init__()

    MadeUpConfig.__module__, MadeUpForecast.__module__ = configuration_module.__name__, modeling_module.__name__
    configuration_module.MadeUpConfig, modeling_module.MadeUpForecast = MadeUpConfig, MadeUpForecast
    for module in (configuration_module, modeling_module):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    row = registration.Family("made_up.configuration_made_up.MadeUpConfig", "letters")
    monkeypatch.setitem(registration.FAMILIES, "made_up", row)
    return "made_up"


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_a_row_without_its_things_fails(check, made_up):
    assert check(made_up)


def test_what_a_made_up_row_lacks_is_said_in_words(made_up, monkeypatch):
    faults = find_faults_of_classes(made_up)
    assert "MadeUpConfig.model_type is 'made_up_too'" in faults
    assert "MadeUpForecast._auto_class is 'AutoModel', not 'AutoModelForMaskedLM'" in faults
    assert "MadeUpForecast.config_class is PreTrainedConfig" in faults
    assert find_faults_of_names(made_up)[0] == "gengram has no MadeUpConfig"
    # Layers that are named but not there.
    for table in list_targets().values():
        monkeypatch.setitem(table, made_up, ["query"])
    list_layers.cache_clear()
    assert "none of the default layers of LORA is in the model" in find_faults_of_adapters(made_up)
    list_layers.cache_clear()


def test_a_row_without_its_file_fails(monkeypatch):
    monkeypatch.setitem(registration.FAMILIES, "lost", registration.Family("lost.configuration_lost.LostConfig"))
    with pytest.raises(ModuleNotFoundError, match=r"gengram\.lost"):
        find_faults_of_classes("lost")


def test_paths_in_contributing_exist():
    """Every path in backticks, from the root; `<name>` stands for any name, a bare file name for any such file."""
    text = re.sub(r"```.*?```", "", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    ending = r"(/|\.(py|md|cfg|toml|yaml|cpp|txt))"
    paths = [word for word in re.findall(r"`([^`\s]+)`", text) if re.fullmatch(rf"[\w.<>/-]+{ending}", word)]
    folders = [ROOT / name for name in ("modeling_gengram", "tokenization", "training", "benchmarks", "model_cards")]

    def exists(path: str) -> bool:
        found = any(ROOT.glob(re.sub(r"<\w+>", "*", path).rstrip("/")))
        return found or ("/" not in path and any(any(folder.rglob(path)) for folder in folders))

    assert len(paths) > 50
    assert [path for path in paths if not exists(path)] == []
    commands = re.findall(r"\btests/\S+\.py\b", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert [path for path in commands if not exists(path)] == []
