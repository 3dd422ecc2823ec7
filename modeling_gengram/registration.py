"""One table of what gengram adds to transformers and PEFT, and how they come to know it (runs at `import gengram`).

Nothing is imported for it: `transformers`' and PEFT's own tables are filled when those modules are, and a family's
files are imported when one of its models is looked up. A configuration class says which Auto classes its family has
(`auto_classes`), since it travels to the Hub with them.
"""

import importlib
import importlib.abc
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NamedTuple


class Family(NamedTuple):
    """A row of the table.

    Attributes:
        configuration: module and class, below `gengram`.
        tokenizer: which of `TOKENIZERS` its published checkpoints have; None: whatever lies beside the checkpoint.
    """

    configuration: str
    tokenizer: str | None = None


FAMILIES: dict[str, Family] = {
    "gengram": Family("gengram.configuration_gengram.GengramConfig"),
    "gena_bert": Family("gena.configuration_gena.GenaBertConfig", "bpe"),
    "rmt": Family("rmt.configuration_rmt.RmtConfig"),
    "megatron_decoder": Family("megatron_decoder.configuration_megatron_decoder.MegatronDecoderConfig"),
    "nucleotide_transformer": Family(
        "nucleotide_transformer.configuration_nucleotide_transformer.NucleotideTransformerConfig", "kmer"
    ),
    "segment_nt": Family("nucleotide_transformer.configuration_segment_nt.SegmentNTConfig", "kmer"),
    "ntv3": Family("nucleotide_transformer.configuration_ntv3.NTv3Config", "ntv3"),
    "ntv3_posttrained": Family("nucleotide_transformer.configuration_ntv3.NTv3PostTrainedConfig", "ntv3"),
}
"""model_type -> row. transformers' own classes read GENA-LM's BigBird and modernGENA; they have no row."""

TOKENIZERS: dict[str, str] = {
    "ntv3": "gengram.tokenization.ntv3",
    "bpe": "gengram.tokenization.bpe",
    "kmer": "gengram.tokenization.kmer",
}
"""Kinds of published tokenizers that transformers reads wrong or not at all -> module with `recognizes_published` and
`load_published`; asked in this order."""


def find_configuration(model_type: str) -> Any:
    """Return the configuration class of a row."""
    return _find(f"gengram.{FAMILIES[model_type].configuration}")


def list_configurations() -> list[Any]:
    """Return the configuration classes of all rows, in the order of the table."""
    return [find_configuration(model_type) for model_type in FAMILIES]


def find_model(configuration: Any, auto_class: str) -> Any:
    """Return the class of a family for an Auto class, by its name (`AutoModelForMaskedLM`).

    Raises:
        `KeyError`: the family has none.
    """
    package = configuration.__module__.rpartition(".")[0]
    return _find(f"{package}.{configuration.auto_classes[auto_class]}")


def register() -> None:
    """Let `Auto*`, `pipeline` and PEFT know every family, now or when they are imported."""
    when_imported("transformers.models.auto.configuration_auto", _register_configurations)
    when_imported("transformers.models.auto.modeling_auto", _register_models)
    when_imported("transformers.pipelines", _register_pipelines)
    when_imported("peft.utils.constants", _register_adapter_targets)


def when_imported(name: str, action: Callable[[ModuleType], None]) -> None:
    """Call `action(module)` as soon as a module has been imported: at once, if it is there already."""
    module = sys.modules.get(name)
    if module is not None and not getattr(getattr(module, "__spec__", None), "_initializing", False):
        action(module)
        return
    _AfterImport.install().actions[name] = action


class _AfterImport(importlib.abc.MetaPathFinder):
    """Finds what the other finders find, and sees to it that an action follows the import."""

    def __init__(self) -> None:
        self.actions: dict[str, Callable[[ModuleType], None]] = {}

    @classmethod
    def install(cls) -> "_AfterImport":
        """Return the one that is installed, after installing it if there is none."""
        for finder in sys.meta_path:
            if isinstance(finder, cls):
                return finder
        finder = cls()
        sys.meta_path.insert(0, finder)
        return finder

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        action = self.actions.pop(fullname, None)
        if action is None:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next((found for one in others if (found := one.find_spec(fullname, path, target))), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _ActingLoader(spec.loader, action)
        return spec


class _ActingLoader(importlib.abc.Loader):
    """A module's loader, and an action behind it; the module keeps its own loader."""

    def __init__(self, loader: Any, action: Callable[[ModuleType], None]):
        self.loader, self.action = loader, action

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        self.action(module)


class _OnDemand(dict):
    """What was registered by others, and behind it our rows, imported when they are read."""

    def __init__(self, registered: dict, holds: Callable[[Any], bool], list_keys: Callable[[], list], find: Callable):
        super().__init__(registered)
        self._holds, self._list_keys, self._find = holds, list_keys, find

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or self._holds(key)

    def __missing__(self, key: Any) -> Any:
        if not self._holds(key):
            raise KeyError(key)
        self[key] = self._find(key)
        return self[key]

    def __iter__(self) -> Iterator:
        return iter([*super().__iter__(), *(key for key in self._list_keys() if not super().__contains__(key))])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def get(self, key: Any, default: Any = None) -> Any:
        return self[key] if key in self else default  # noqa: SIM401  # dict's own does not ask `__missing__`

    def keys(self) -> list:  # type: ignore[override]
        return list(self)

    def values(self) -> list:  # type: ignore[override]
        return [self[key] for key in self]

    def items(self) -> list:  # type: ignore[override]
        return [(key, self[key]) for key in self]


def _register_configurations(module: ModuleType) -> None:
    mapping: Any = module.CONFIG_MAPPING
    mapping._extra_content = _OnDemand(
        mapping._extra_content, FAMILIES.__contains__, lambda: list(FAMILIES), find_configuration
    )


def _register_models(module: ModuleType) -> None:
    for name in (
        "AutoModel",
        "AutoModelForPreTraining",
        "AutoModelForCausalLM",
        "AutoModelForMaskedLM",
        "AutoModelForSequenceClassification",
        "AutoModelForTokenClassification",
    ):
        mapping: Any = getattr(module, name)._model_mapping
        mapping._extra_content = _OnDemand(
            mapping._extra_content,
            lambda key, name=name: _is_ours(key) and name in key.auto_classes,
            lambda name=name: [one for one in list_configurations() if name in one.auto_classes],
            lambda configuration, name=name: find_model(configuration, name),
        )


def _register_pipelines(module: ModuleType) -> None:
    # Where it is being imported, it registers itself at its end.
    if "gengram.pipelines.embed" not in sys.modules:
        importlib.import_module("gengram.pipelines.embed")


def _register_adapter_targets(module: ModuleType) -> None:
    from gengram.adapters.targets import register_adapter_targets

    register_adapter_targets(list(FAMILIES))


def _is_ours(key: Any) -> bool:
    # Code that came with a checkpoint from the Hub has the same names and another module.
    return isinstance(key, type) and key.__module__.startswith("gengram.") and "auto_classes" in vars(key)


def _find(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


__all__ = [
    "FAMILIES",
    "TOKENIZERS",
    "Family",
    "find_configuration",
    "find_model",
    "list_configurations",
    "register",
    "when_imported",
]
