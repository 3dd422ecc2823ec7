"""Whatever is imported first: transformers and PEFT know every family, and nothing is imported before it is needed.

Orders of imports need processes of their own, seconds each, so every process checks everything.
"""

import copy
import importlib
import importlib.abc
import importlib.util
import inspect
import os
import subprocess
import sys
import textwrap
import threading

import pytest

from gengram.lazy import _AfterImport, when_imported

HEAVY = ("torch", "transformers", "peft", "datasets", "numpy")

# What holds in every process, whatever it has imported before. `tiny` is a folder for a checkpoint.
EVERYTHING = """
    import json, sys
    from pathlib import Path
    import torch, transformers
    from transformers import AutoConfig, BertConfig
    from gengram.registration import FAMILIES, find_model, list_configurations

    for model_type in FAMILIES:
        config = AutoConfig.for_model(model_type)
        assert config.model_type == model_type and type(config).__module__.startswith("gengram."), model_type

    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    for configuration in list_configurations():
        for name in configuration.auto_classes.keys() - {"AutoConfig"}:
            config = configuration()
            if (configuration.model_type, name) == ("gengram", "AutoModelForMaskedLM"):
                config = configuration(backbone_config=BertConfig(**small), memory_layers=[0])
            with torch.device("meta"):
                model = getattr(transformers, name).from_config(config)
            found = find_model(configuration, name)
            if found.__name__ == "GengramForPreTraining":
                found = find_model(configuration, "AutoModelForCausalLM")
            assert type(model) is found, (configuration, name)

    from transformers import AutoModelForMaskedLM, pipeline
    from transformers.pipelines import PIPELINE_REGISTRY
    assert "dna-embedding" in PIPELINE_REGISTRY.get_supported_tasks()
    assert PIPELINE_REGISTRY.check_task("dna-embedding")[1]["impl"].__name__ == "EmbeddingPipeline"

    config = AutoConfig.for_model("gena_bert", **small, vocab_size=12)
    model = AutoModelForMaskedLM.from_config(config)
    model.save_pretrained("tiny")
    auto_map = json.loads(Path("tiny/config.json").read_text())["auto_map"]
    assert auto_map == dict(type(config).auto_classes)
    for target in auto_map.values():
        module, name = target.split(".")
        assert f"class {name}(" in Path("tiny", f"{module}.py").read_text(), target
    assert type(AutoModelForMaskedLM.from_pretrained("tiny")) is type(model)

    from peft import IA3Config, LoraConfig, get_peft_model
    from peft.utils import constants
    for method in (LoraConfig, IA3Config):
        adapted = get_peft_model(AutoModelForMaskedLM.from_config(config), method())
        assert 0 < adapted.get_nb_trainable_parameters()[0] < model.num_parameters(), method
    for table in ("LORA", "IA3", "ADALORA"):
        known = getattr(constants, f"TRANSFORMERS_MODELS_TO_{table}_TARGET_MODULES_MAPPING")
        assert FAMILIES.keys() <= known.keys(), table
    assert FAMILIES.keys() <= constants.TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING.keys()
    print("EVERYTHING")
"""

ORDERS = {
    "gengram, then the others": """
        import gengram
        import transformers
        from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, pipeline
        import peft
    """,
    "gengram after all others": """
        import transformers
        from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, pipeline
        import peft
        import gengram
    """,
    "between two Auto classes": """
        from transformers import AutoConfig
        import gengram
        from transformers import AutoModel
    """,
    "a configuration": "from gengram import GengramConfig",
    "a family's file": "import gengram.gengram.modeling_gengram",
    "pipelines.embed": "import gengram.pipelines.embed",
    "adapters.targets": "import gengram.adapters.targets",
    "training.arguments": "import gengram.training.arguments",
}
MORE_ORDERS = {
    "transformers, then gengram": "import transformers; import gengram",
    "gengram, then peft": "import gengram; import peft",
    "peft, then gengram": "import peft; import gengram",
    "gengram, then pipeline": "import gengram; from transformers import pipeline",
    "pipeline, then gengram": "from transformers import pipeline; import gengram",
    "gengram after Auto classes": "from transformers import AutoConfig, AutoModelForMaskedLM; import gengram",
    "gengram, then the Trainer": "import gengram; from transformers import Trainer",
    "a model": "from gengram import GenaBertForMaskedLM",
    "rmt": "import gengram.rmt.modeling_rmt",
    "gena": "import gengram.gena.modeling_gena",
    "segment_nt": "import gengram.nucleotide_transformer.modeling_segment_nt",
    "loading": "from gengram.loading.models import auto",
    "auto": "from gengram import auto",
    "cli": "import gengram.cli",
    "all names": "from gengram import *",
}


def run(code: str, folder) -> str:
    """Run code in a fresh process and return what it prints; it must end well."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV_")}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=folder,
        env=environment | {"HF_HUB_OFFLINE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "already registered" not in done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "order",
    [
        *(pytest.param(code, id=name) for name, code in ORDERS.items()),
        *(pytest.param(code, id=name, marks=pytest.mark.slow) for name, code in MORE_ORDERS.items()),
    ],
)
def test_every_order_of_imports_knows_everything(order, tmp_path):
    assert "EVERYTHING" in run(textwrap.dedent(order) + textwrap.dedent(EVERYTHING), tmp_path)


def test_gengram_while_another_thread_imports_transformers(tmp_path):
    """`import transformers` itself bears one thread only, so the other one imports what needs no library."""
    code = """
        import importlib, sys, threading
        sys.setswitchinterval(1e-5)
        failures, start = [], threading.Barrier(2)
        def load(*names):
            start.wait()
            try:
                for name in names:
                    importlib.import_module(name)
            except BaseException as error:
                failures.append((names, error))
        others = ("transformers.models.auto.modeling_auto", "transformers.pipelines", "peft")
        ours = ("gengram", "gengram.registration", "gengram.cli", "gengram.command_line")
        threads = [threading.Thread(target=load, args=names) for names in (others, ours)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(240)
        assert not failures and not any(thread.is_alive() for thread in threads), failures
    """
    assert "EVERYTHING" in run(textwrap.dedent(code) + textwrap.dedent(EVERYTHING), tmp_path)


def test_the_package_and_help_import_no_library(tmp_path):
    """Of all verbs but finetune, which shows the fields of transformers' arguments."""
    code = f"""
        import contextlib, io, sys

        def find_heavy():
            return [name for name in {HEAVY!r} if name in sys.modules]

        import gengram
        dir(gengram), gengram.__version__, gengram.__all__
        import gengram.registration
        assert find_heavy() == [], find_heavy()
        from gengram.cli import VERBS, main
        assert find_heavy() == [], find_heavy()
        assert main(["--help"]) == 0 and "finetune" in VERBS
        for verb in VERBS:
            if verb == "finetune":
                continue
            help = io.StringIO()
            with contextlib.redirect_stdout(help):
                try:
                    code = main([*verb.split(), "--help"])
                except SystemExit as stop:
                    code = stop.code
            assert not code and verb.split()[0] in help.getvalue(), (verb, help.getvalue())
            found = [name for name in find_heavy() if name != "numpy"]
            assert found == [], f"gengram {{verb}} --help imports {{found}}"
            print("verb", verb)
        print("torch" in sys.modules)
    """
    told = run(code, tmp_path).splitlines()
    assert told[-1] == "False" and sum(line.startswith("verb ") for line in told) >= 8


def test_mappings_after_reloads_and_registrations_of_others(tmp_path):
    code = """
        import copy, importlib, pickle, sys
        import gengram
        from transformers import AutoConfig, AutoModel, AutoModelForTokenClassification, BertConfig, BertModel
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING
        from gengram.registration import FAMILIES, find_configuration

        MODELS = AutoModel._model_mapping
        TOKENS = AutoModelForTokenClassification._model_mapping

        # Asking whether costs nothing.
        assert all(name in CONFIG_MAPPING for name in FAMILIES) and "rmtt" not in CONFIG_MAPPING
        assert BertConfig in MODELS and int not in MODELS and "rmt" not in MODELS and None not in MODELS
        assert list(CONFIG_MAPPING)[-len(FAMILIES):] == list(FAMILIES)
        assert not any(name.startswith("gengram.rmt") for name in sys.modules)

        # The same answers in every way of asking.
        RmtConfig = CONFIG_MAPPING["rmt"]
        assert RmtConfig is find_configuration("rmt")
        extra = CONFIG_MAPPING._extra_content
        assert extra.get("rmt") is RmtConfig and extra.get("rmtt") is None
        for mapping in (MODELS, TOKENS):
            assert mapping[RmtConfig] is mapping.get(RmtConfig, None) and mapping.get(int, "none") == "none"
            try:
                mapping[int]
            except KeyError:
                pass
            else:
                raise AssertionError
        for mapping in (CONFIG_MAPPING, MODELS, TOKENS):
            extra, keys = mapping._extra_content, list(mapping.keys())
            assert list(mapping) == keys and keys[-len(extra):] == list(extra) and len(set(extra)) == len(extra)
            assert len(extra) == len(list(extra)) == len(extra.keys()) == len(extra.values())
            assert list(extra.items()) == [(key, extra[key]) for key in extra]
            assert extra == dict(extra) and dict(extra) == dict(list(extra.items()))
        assert len(MODELS._extra_content) == len(FAMILIES)
        # Of all models, transformers fails to name its own where an optional library is missing.
        for mapping in (CONFIG_MAPPING, TOKENS):
            extra = mapping._extra_content
            assert list(mapping.values())[-len(extra):] == list(extra.values())
            assert list(mapping.items())[-len(extra):] == list(extra.items())

        # Copies are whole, and registering in them changes nothing here.
        ways = (copy.copy, copy.deepcopy, lambda mapping: pickle.loads(pickle.dumps(mapping)))
        for copied in [way(CONFIG_MAPPING) for way in ways]:
            assert list(copied) == list(CONFIG_MAPPING) and copied["rmt"] is RmtConfig
            copied.register("copied", BertConfig)
            assert "copied" not in CONFIG_MAPPING
        for copied in [way(MODELS) for way in ways]:
            assert len(copied) == len(MODELS) and copied[RmtConfig] is MODELS[RmtConfig]

        # Others register as they always do; a subclass is nobody's row.
        class Other(BertConfig):
            model_type = "other"
        class OtherModel(BertModel):
            config_class = Other
        class Wider(RmtConfig):
            model_type = "wider"
        AutoConfig.register("other", Other)
        AutoModel.register(Other, OtherModel)
        assert type(AutoConfig.for_model("other")) is Other and MODELS[Other] is OtherModel
        assert type(AutoModel.from_config(Other(num_hidden_layers=1, hidden_size=12))) is OtherModel
        assert Wider not in MODELS and len(MODELS._extra_content) == len(FAMILIES) + 1
        for exist_ok in (False, True):  # transformers asks for exist_ok where a model is its own only
            class OwnModel(MODELS[RmtConfig]):
                pass
            AutoModel.register(RmtConfig, OwnModel, exist_ok=exist_ok)
            assert MODELS[RmtConfig] is OwnModel and len(MODELS._extra_content) == len(FAMILIES) + 1
        for auto, key, value in ((AutoConfig, "bert", BertConfig), (AutoModel, BertConfig, BertModel)):
            try:
                auto.register(key, value)
            except ValueError as error:
                assert "already used" in str(error)
            else:
                raise AssertionError

        # Reloading keeps what others have registered, wraps nothing twice and brings no second finder.
        importlib.reload(gengram)
        assert MODELS[RmtConfig] is OwnModel and MODELS[Other] is OtherModel
        del MODELS._extra_content[RmtConfig]
        assert MODELS[RmtConfig].__name__ == "RmtModel"
        assert all(type(mapping._extra_content.registered) is dict for mapping in (CONFIG_MAPPING, MODELS, TOKENS))
        assert sum(type(finder).__name__ == "_AfterImport" for finder in sys.meta_path) == 1
        for name in ("lazy", "registration"):
            importlib.reload(sys.modules[f"gengram.{name}"])
        importlib.reload(gengram)
        assert type(MODELS._extra_content.registered) is dict and type(AutoConfig.for_model("rmt")) is RmtConfig
        import transformers.pipelines, peft
        from peft.utils import constants
        assert "rmt" in constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
        assert "dna-embedding" in transformers.pipelines.PIPELINE_REGISTRY.get_supported_tasks()

        # As notebooks do that start over: the new classes take the place of the old ones.
        for name in [name for name in sys.modules if name.split(".")[0] == "gengram"]:
            del sys.modules[name]
        import gengram
        from gengram import RmtConfig as New, RmtModel as NewModel
        assert New is not RmtConfig and type(AutoConfig.for_model("rmt")) is New and MODELS[New] is NewModel
        assert MODELS[Other] is OtherModel
    """
    run(code, tmp_path)


@pytest.fixture
def make_module(tmp_path, monkeypatch):
    """Write a module, and forget it and what waits for it at the end."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    made = []

    def make(name: str, text: str = "value = 1") -> str:
        (tmp_path / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        made.append(name)
        return name

    yield make
    finder = _AfterImport.install()
    for name in made:
        sys.modules.pop(name, None)
        finder.actions.pop(name, None)
        finder.acted_on.pop(name, None)


def test_an_action_follows_every_import_of_a_module(make_module):
    name, seen = make_module("waited_for"), []
    when_imported(name, lambda module: seen.append(module.value))
    assert seen == [] and name not in sys.modules
    assert importlib.util.find_spec(name) is not None  # looking for a module is no import, and uses nothing up
    module = importlib.import_module(name)
    importlib.import_module(name)
    assert seen == [1]
    importlib.reload(module)
    assert seen == [1, 1]
    del sys.modules[name]
    importlib.import_module(name)
    assert seen == [1, 1, 1]


def test_an_action_comes_at_once_for_what_is_there(make_module):
    name, seen = make_module("already_there"), []
    importlib.import_module(name)
    for _ in range(2):
        when_imported(name, seen.append)
    assert seen == [sys.modules[name]] * 2


def test_a_module_can_have_several_actions(make_module):
    name, seen = make_module("with_two"), []
    first, second, third = (lambda module, number=number: seen.append(number) for number in (1, 2, 3))
    for action in (first, second, first):
        when_imported(name, action)
    importlib.import_module(name)
    assert seen == [1, 2]
    when_imported(name, third)
    assert seen == [1, 2, 3]


def test_a_module_keeps_its_loader_and_its_source(make_module):
    name = make_module("with_source", "def answer():\n    return 42\n")
    when_imported(name, lambda module: None)
    assert importlib.util.find_spec(name).loader.get_source(name).startswith("def answer")
    module = importlib.import_module(name)
    assert type(module.__loader__) is type(module.__spec__.loader) is importlib.machinery.SourceFileLoader
    assert "return 42" in inspect.getsource(module.answer)
    assert copy.copy(module.__spec__).loader is module.__loader__


def test_an_import_that_fails_once_is_waited_for_again(make_module, tmp_path):
    name, seen = make_module("not_yet", "raise ValueError('not yet')"), []
    when_imported(name, seen.append)
    with pytest.raises(ValueError, match="not yet"):
        importlib.import_module(name)
    assert seen == []
    make_module(name, "# longer than what was there before\nvalue = 'now'")
    importlib.import_module(name)
    assert seen == [sys.modules[name]]


def test_an_error_of_the_action_is_not_hidden(make_module):
    name = make_module("with_error")
    when_imported(name, lambda module: module.no_such_name)
    with pytest.raises(AttributeError, match="no_such_name"):
        importlib.import_module(name)


def test_other_finders_come_before_and_behind(make_module):
    """One that asks all others, one of the old kind, and one that finds the module before anybody is asked."""

    class AsksAll(importlib.abc.MetaPathFinder):
        asking = False

        def find_spec(self, fullname, path=None, target=None):
            if self.asking or not fullname.startswith("found_by_"):
                return None
            self.asking = True
            try:
                return importlib.util.find_spec(fullname)
            finally:
                self.asking = False

    class Old:
        """Finders of Python 3.3 and before have no `find_spec`."""

    class First(importlib.abc.MetaPathFinder):
        def find_spec(self, fullname, path=None, target=None):
            if fullname != "found_by_first":
                return None
            return importlib.machinery.PathFinder.find_spec(fullname, path, target)

    seen = []
    for name in ("found_by_all", "found_by_first", "found_later"):
        make_module(name)
        when_imported(name, lambda module: seen.append(module.__name__))
    sys.meta_path.insert(0, AsksAll())
    importlib.import_module("found_by_all")
    assert seen == ["found_by_all"]
    sys.meta_path.insert(0, First())
    sys.meta_path.append(Old())
    importlib.import_module("found_by_first")
    make_module("another")
    importlib.import_module("another")  # what came in unseen is seen at the next import
    assert seen == ["found_by_all", "found_by_first"]
    importlib.import_module("found_later")
    assert seen == ["found_by_all", "found_by_first", "found_later"]


def test_another_threads_import_is_waited_for(make_module):
    name, seen = make_module("slow_module", "import time\ntime.sleep(0.5)\nvalue = 1\n"), []
    thread = threading.Thread(target=importlib.import_module, args=(name,))
    thread.start()
    while name not in sys.modules:
        pass
    when_imported(name, lambda module: seen.append(module.value))
    assert seen == [1]
    thread.join()


def test_an_action_noted_while_a_module_is_searched_comes_with_the_next_import(make_module):
    class NotesMeanwhile(importlib.abc.MetaPathFinder):
        def find_spec(self, fullname, path=None, target=None):
            if fullname == "searched":
                when_imported("searched", lambda module: seen.append(module.value))

    seen = []
    finder = _AfterImport.install()
    sys.meta_path.remove(finder)
    sys.meta_path[:0] = [finder, NotesMeanwhile()]  # ours has been asked already
    importlib.import_module(make_module("searched"))
    importlib.import_module(make_module("after_the_search"))
    assert seen == [1]


def test_a_module_that_notes_an_action_for_itself_gets_it_later(make_module):
    text = (
        "from gengram.lazy import when_imported\nseen = []\nwhen_imported(__name__, lambda m: seen.append(m.value))\n"
    )
    module = importlib.import_module(make_module("circular", text + "value = 1"))
    assert module.seen == []
    importlib.import_module(make_module("the_next"))
    assert module.seen == [1]
