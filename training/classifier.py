"""From arguments to a tokenizer and a model with a head: a checkpoint, or a new backbone with or without memory."""

import contextlib
import copy
import dataclasses
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    CONFIG_MAPPING,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from gengram.errors import InputError, suggest
from gengram.gengram.configuration_gengram import GengramConfig
from gengram.gengram.modeling_gengram import GengramForSequenceClassification, GengramForTokenClassification
from gengram.loading.checkpoints import is_hub_id
from gengram.loading.configurations import require_config
from gengram.loading.faults import tell_faults
from gengram.loading.hub import require_repository
from gengram.loading.models import TASKS, find_head, is_decoder, load_weights
from gengram.loading.tokenizers import check_tokenizer, prepare_batches, require_tokenizer
from gengram.loading.weights import find_weights
from gengram.rmt.configuration_rmt import RmtConfig
from gengram.rmt.modeling_rmt import RmtForSequenceClassification, RmtForTokenClassification
from gengram.tokenization import EMBEDDING_ROWS, build_nucleotide_tokenizer
from gengram.training.arguments import ModelArguments
from gengram.training.problems import Problem

# Names that transformers takes into `rope_parameters`; they are no fields of a configuration class.
_ROPE_FIELDS = {"rope_theta", "rope_scaling", "partial_rotary_factor"}
_SPECIAL_TOKENS = ("pad", "bos", "eos", "cls", "sep", "mask")
_CONFIG_ERRORS = (ValueError, TypeError, StrictDataclassError)
# What transformers' losses go by; a token classifier has one loss only.
_PROBLEM_TYPES: dict[Problem, Any] = {
    "single_label": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
    "token": None,
}


def prepare_tokenizer(arguments: ModelArguments) -> PreTrainedTokenizerBase:
    """Return the tokenizer that is named, else the checkpoint's; a new model gets one token a base.

    Raises:
        `InputError`: no tokenizer can be read, or it cannot pad.
    """
    path = arguments.tokenizer_name_or_path or arguments.model_name_or_path
    if path is None:
        pools_cls = _as_mapping(arguments.memory).get("pooling") == "cls"
        return build_nucleotide_tokenizer(template="cls_sep" if pools_cls else "plain")
    try:
        if is_hub_id(path):
            require_repository(path, needs_weights=False)
        tokenizer = require_tokenizer(path)
    except InputError as error:
        if arguments.tokenizer_name_or_path is not None:
            raise
        require_config(path)  # Where that cannot be read either, another tokenizer is no remedy.
        raise InputError(f"{error}. Name one with --tokenizer_name_or_path.") from error
    return prepare_batches(tokenizer, path)


def prepare_config(arguments: ModelArguments, tokenizer: PreTrainedTokenizerBase) -> PreTrainedConfig:
    """Return the model's configuration: the checkpoint's, or a new one made for the tokenizer.

    Raises:
        `InputError`: a checkpoint without a readable configuration, an unknown architecture, a field that does not
            exist or does not fit (a memory layer that the backbone does not have), fewer embeddings than token ids.
    """
    if arguments.model_name_or_path is not None:
        path = arguments.model_name_or_path
        config = require_config(path)
        if isinstance(config, GengramConfig) and arguments.memory is not None:
            raise InputError(f"{path} is a Gengram model and brings its own memory: leave --memory out")
        if getattr(config, "pad_token_id", None) is None or is_decoder(config):
            config.pad_token_id = tokenizer.pad_token_id
        if config.is_encoder_decoder and tokenizer.eos_token is None:
            tokenizer.eos_token = (
                tokenizer.sep_token
            )  # Heads of T5 and BART read the end; Trainer takes its id from here.
        if arguments.memory is not None:
            config = add_memory(config, _as_mapping(arguments.memory), tokenizer)
    else:
        backbone = _build_backbone_config(str(arguments.backbone), arguments, tokenizer)
        memory = {"memory_layers": []} if arguments.memory is None else _as_mapping(arguments.memory)
        config = add_memory(backbone, memory, tokenizer)
    check_tokenizer(tokenizer, arguments.tokenizer_name_or_path or arguments.model_name_or_path or "tokenizer", config)
    return config if arguments.rmt is None else _add_segments(config, _as_mapping(arguments.rmt), tokenizer)


def build_classifier(
    arguments: ModelArguments,
    config: PreTrainedConfig,
    classes: list[str],
    seed: int,
    problem: Problem = "single_label",
    *,
    empty: bool = False,
) -> tuple[PreTrainedModel, list[str]]:
    """Make the model in float32; weights that no checkpoint gives are drawn with `seed`.

    Args:
        arguments: which model.
        config: of `prepare_config`; it is not changed.
        classes: names of the C classes, labels or targets; the position is the id.
        seed: of the new weights.
        problem: decides head and loss: `token` is classified base by base, everything else as a whole.
        empty: on the meta device, without numbers. Of a checkpoint only names and sizes of the weights are read; where
            its weights are not on this machine, head and pooler count as new.

    Returns:
        The model, and the names of the parameters that the checkpoint did not give (all of them are new without one).

    Raises:
        `InputError`: weights that cannot be read, or that do not fit or fill the model; the classification head (and a
            BERT pooler) may be new, anything else may not.
    """
    config = copy.deepcopy(config)
    encoder: Any = config.backbone_config if isinstance(config, RmtConfig) and arguments.rmt is not None else config
    for each in (config, encoder):
        each.id2label = dict(enumerate(classes))
        each.label2id = {name: label for label, name in enumerate(classes)}
        each.problem_type = _PROBLEM_TYPES[problem]
    set_seed(seed)
    model, new = _build_encoder(arguments, encoder, problem, empty)
    if not isinstance(config, RmtConfig) or encoder is config:
        return model, new
    rmt_class = RmtForTokenClassification if problem == "token" else RmtForSequenceClassification
    made = {id(parameter) for name, parameter in model.named_parameters() if name in new}
    with _place(empty):
        model = rmt_class(config, model)
    made.add(id(model.memory_tokens.weight))
    return model, [name for name, parameter in model.named_parameters() if id(parameter) in made]


def _build_encoder(
    arguments: ModelArguments, config: PreTrainedConfig, problem: Problem, empty: bool
) -> tuple[PreTrainedModel, list[str]]:
    """`build_classifier` without segments; the configuration has the classes."""
    place: dict[str, Any] = {"device_map": "meta"} if empty else {}
    by_base = problem == "token"
    task = "token_classification" if by_base else "sequence_classification"
    gengram_class = GengramForTokenClassification if by_base else GengramForSequenceClassification
    path = arguments.model_name_or_path
    if path is None or (empty and not find_weights(path)):
        said = f"backbone={arguments.backbone!r}" if path is None else path
        with tell_faults(f"{said}: no such model can be made with these fields"), _place(empty):
            model = TASKS[task].from_config(config, dtype=torch.float32)
        names = [name for name, _ in model.named_parameters()]
        if path is None:
            return model, names
        if arguments.memory is not None:
            return model, [name for name in names if ".backbone." not in name]
        return model, sorted(find_head(model, names))
    if arguments.memory is not None:
        fields = {entry.name: getattr(config, entry.name) for entry in dataclasses.fields(GengramConfig)}
        del fields["backbone_config"], fields["dtype"]
        with tell_faults(f"{path}: the model's weights cannot be loaded"):
            model = gengram_class.from_backbone(path, memory=fields, dtype=torch.float32, **place)
        model.config.pad_token_id = config.pad_token_id
        return model, [name for name, _ in model.named_parameters() if ".backbone." not in name]
    model, new = load_weights(path, task, config=config, **place)
    if lacking := sorted(set(new) - find_head(model, new)):
        raise InputError(
            f"{path}: the checkpoint does not fit {type(model).__name__}: {len(lacking)} weights of the model's body "
            f"are missing or of another size, e.g. {lacking[0]}"
        )
    return model, new


def _place(empty: bool) -> torch.device | contextlib.nullcontext:
    """Where weights are made."""
    return torch.device("meta") if empty else contextlib.nullcontext()


def _as_mapping(argument: dict[str, Any] | str | None) -> dict[str, Any]:
    # `ModelArguments` has turned text into mappings; this says so to the type checker.
    return argument if isinstance(argument, dict) else {}


def _build_backbone_config(
    model_type: str, arguments: ModelArguments, tokenizer: PreTrainedTokenizerBase
) -> PreTrainedConfig:
    if model_type not in CONFIG_MAPPING:
        raise InputError(
            f"backbone={model_type!r} is no architecture of transformers{suggest(model_type, CONFIG_MAPPING.keys())}"
        )
    config_class = CONFIG_MAPPING[model_type]
    known = {entry.name for entry in dataclasses.fields(config_class)} | set(config_class.attribute_map) | _ROPE_FIELDS
    given = _as_mapping(arguments.backbone_config)
    _refuse_unknown(given, known, "backbone_config", config_class)
    fields: dict[str, Any] = {"vocab_size": len(tokenizer) if arguments.tokenizer_name_or_path else EMBEDDING_ROWS}
    for token in _SPECIAL_TOKENS:
        if f"{token}_token_id" in known:
            fields[f"{token}_token_id"] = getattr(tokenizer, f"{token}_token_id")
    with tell_faults(f"backbone_config does not fit {model_type}", _CONFIG_ERRORS):
        return config_class(**{**fields, **given})


def add_memory(backbone: PreTrainedConfig, memory: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> GengramConfig:
    """Return the configuration of a backbone with a motif memory that reads the tokenizer's bases.

    Raises:
        `InputError`: an unknown field, a memory that does not fit, or a tokenizer that does not give one token a base.
    """
    known = {entry.name for entry in dataclasses.fields(GengramConfig)} - {"backbone_config"}
    _refuse_unknown(memory, known, "memory", GengramConfig)
    fields = dict(memory)
    if "base_token_ids" not in fields:
        bases = list("ACGTN")
        pieces = tokenizer.tokenize("ACGTN" + "ACGT" * 4)  # long enough for a k-mer
        if pieces == bases + list("ACGT") * 4:
            fields["base_token_ids"] = tokenizer.convert_tokens_to_ids(bases)
        elif fields.get("memory_layers") != []:
            longest = max(pieces, key=len)
            raise InputError(
                "the memory reads single bases, but the tokenizer does not give one token a base (it has tokens like "
                f"{longest!r}): leave --memory out, or take a model of single bases"
            )
    with tell_faults("memory does not fit", _CONFIG_ERRORS):
        return GengramConfig(backbone_config=backbone, **fields)


def _add_segments(backbone: PreTrainedConfig, rmt: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> RmtConfig:
    """Return the configuration of a recurrent memory around a model; its segments have the tokenizer's tokens."""
    known = {entry.name for entry in dataclasses.fields(RmtConfig)} - {"backbone_config"}
    _refuse_unknown(rmt, known, "rmt", RmtConfig)
    fields = {"pad_token_id": tokenizer.pad_token_id}
    for name, other in (("cls", "bos"), ("sep", "eos")):
        found = [getattr(tokenizer, f"{kind}_token_id", None) for kind in (name, other)]
        fields[f"{name}_token_id"] = next((token for token in found if token is not None), -1)
    with tell_faults("rmt does not fit", _CONFIG_ERRORS):
        return RmtConfig(backbone_config=backbone, **{**fields, **rmt})


def _refuse_unknown(given: dict[str, Any], known: set[str], argument: str, config_class: type) -> None:
    for name in given:
        if name not in known:
            raise InputError(f"{argument}: {config_class.__name__} has no field {name!r}{suggest(name, known)}")


__all__ = ["add_memory", "build_classifier", "prepare_config", "prepare_tokenizer"]
