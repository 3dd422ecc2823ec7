"""One table of what gengram adds to transformers and PEFT, and how they come to know it (runs at `import gengram`).

Nothing is imported for it: `transformers`' and PEFT's own tables are filled when those modules are, and a family's
files are imported when one of its models is looked up. A configuration class says which Auto classes its family has
(`auto_classes`), since it travels to the Hub with them.
"""

import importlib
import sys
from collections.abc import Callable, Iterator, MutableMapping
from types import ModuleType
from typing import Any, NamedTuple

from gengram.lazy import when_imported


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
    "overlapping": "gengram.tokenization.overlapping",
    "whole_kmer": "gengram.tokenization.whole_kmer",
    "kmer": "gengram.tokenization.kmer",
    "bpe": "gengram.tokenization.bpe",
    "other_bpe": "gengram.tokenization.other_bpe",
}
"""Kinds of published tokenizers that transformers reads wrong or not at all -> module with `recognizes_published` and
`load_published`; asked in this order."""

PIPELINES: dict[str, str] = {"dna-embedding": "gengram.pipelines.embed"}
"""Task of transformers' `pipeline` -> module that registers it."""

_ADAPTER_TARGETS = "gengram.adapters.targets"
_PREFIXES = "gengram.adapters.prefixes"
_PROMPT_SIZES = "gengram.adapters.prompt_sizes"
_BASE_PIPELINES = "gengram.pipelines.bases"


# Classes of tokenizers that are saved by their name -> module of `gengram.tokenization`.
_TOKENIZER_CLASSES = {"BpeTokenizer": "bpe", "OverlappingKmerTokenizer": "overlapping"}


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
    when_imported("transformers.models.auto.tokenization_auto", _register_tokenizers)
    when_imported("transformers.pipelines", _register_pipelines)
    when_imported("transformers.pipelines", _import_base_pipelines)
    when_imported(_BASE_PIPELINES, _register_base_pipelines)
    when_imported("peft.utils.constants", _import_adapter_targets)
    when_imported(_ADAPTER_TARGETS, _register_adapter_targets)
    when_imported("peft.utils.constants", _register_prefixes)
    when_imported("peft.peft_model", _register_prompt_sizes)


class _OnDemand(MutableMapping):
    """What others have registered, and behind it our rows, imported when they are read."""

    def __init__(self, registered: Any, holds: Callable[[Any], bool], list_keys: Callable[[], list], find: Callable):
        # Registering again, from a reloaded module too, takes the place of what was here before.
        self.registered: Any = getattr(registered, "registered", registered)
        self._holds, self._list_keys, self._find = holds, list_keys, find

    def __getitem__(self, key: Any) -> Any:
        if key in self.registered:
            return self.registered[key]
        if self._holds(key):
            return self._find(key)
        raise KeyError(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.registered[key] = value

    def __delitem__(self, key: Any) -> None:
        del self.registered[key]

    def __contains__(self, key: object) -> bool:
        return key in self.registered or self._holds(key)

    def __iter__(self) -> Iterator:
        yield from list(self.registered)
        yield from [key for key in self._list_keys() if key not in self.registered]

    def __len__(self) -> int:
        return len(list(iter(self)))


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
        _add_models(getattr(module, name)._model_mapping, name)


def _add_models(mapping: Any, auto_class: str) -> None:
    mapping._extra_content = _OnDemand(
        mapping._extra_content,
        lambda key: _is_ours(key) and auto_class in key.auto_classes,
        lambda: [one for one in list_configurations() if auto_class in one.auto_classes],
        lambda configuration: find_model(configuration, auto_class),
    )


def _register_tokenizers(module: Any) -> None:
    # A class of the name in tokenizer_config.json; unknown ones are read as TokenizersBackend, which has other offsets.
    module.REGISTERED_TOKENIZER_CLASSES = _OnDemand(
        module.REGISTERED_TOKENIZER_CLASSES,
        _TOKENIZER_CLASSES.__contains__,
        lambda: list(_TOKENIZER_CLASSES),
        lambda name: _find(f"gengram.tokenization.{_TOKENIZER_CLASSES[name]}.{name}"),
    )


def _register_pipelines(module: ModuleType) -> None:
    registry: Any = module.PIPELINE_REGISTRY

    def find(task: str) -> Any:
        importlib.import_module(PIPELINES[task])  # It registers itself.
        return registry.supported_tasks.registered[task]

    def list_tasks() -> list[str]:
        return [task for task, name in PIPELINES.items() if name not in sys.modules]

    registry.supported_tasks = _OnDemand(registry.supported_tasks, lambda task: task in list_tasks(), list_tasks, find)


def _import_base_pipelines(module: ModuleType) -> None:
    # It imports transformers' pipelines, so it may be on its way already.
    if _BASE_PIPELINES not in sys.modules:
        importlib.import_module(_BASE_PIPELINES)


def _register_base_pipelines(module: ModuleType) -> None:
    # In the place of transformers' own, from which it differs for vocabularies of DNA only.
    tasks: Any = sys.modules["transformers.pipelines"].PIPELINE_REGISTRY.supported_tasks
    tasks["fill-mask"]["impl"] = module.BaseFillMaskPipeline


def _import_adapter_targets(module: ModuleType) -> None:
    # It imports PEFT, so it may be on its way already.
    if _ADAPTER_TARGETS not in sys.modules:
        importlib.import_module(_ADAPTER_TARGETS)


def _register_adapter_targets(module: ModuleType) -> None:
    module.register_adapter_targets(list(FAMILIES))


def _register_prefixes(module: ModuleType) -> None:
    def make_prefix(past_key_values: Any) -> Any:
        return importlib.import_module(_PREFIXES).make_prefix(past_key_values)

    module.TRANSFORMERS_MODELS_TO_PREFIX_TUNING_POSTPROCESS_MAPPING["gengram"] = make_prefix


def _register_prompt_sizes(module: ModuleType) -> None:
    importlib.import_module(_PROMPT_SIZES).read_sizes(module, list(FAMILIES))


def _is_ours(key: Any) -> bool:
    # Code that came with a checkpoint from the Hub has the same names and another module.
    return isinstance(key, type) and key.__module__.startswith("gengram.") and "auto_classes" in vars(key)


def _find(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


__all__ = [
    "FAMILIES",
    "PIPELINES",
    "TOKENIZERS",
    "Family",
    "find_configuration",
    "find_model",
    "list_configurations",
    "register",
]
