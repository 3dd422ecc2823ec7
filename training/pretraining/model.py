"""From arguments to tokenizer, configuration and model: a new one, or a checkpoint; changed from stage to stage."""

import copy
import dataclasses
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, set_seed

from gengram.errors import InputError, suggest
from gengram.gengram.configuration_gengram import SIZES, GengramConfig
from gengram.gengram.modeling_gengram import GengramForCausalLM, GengramForMaskedLM
from gengram.loading.faults import tell_faults
from gengram.loading.models import TASKS, load_weights
from gengram.loading.tokenizers import check_tokenizer
from gengram.tokenization import build_kmer_tokenizer, build_nucleotide_tokenizer
from gengram.training.arguments import ModelArguments
from gengram.training.classifier import add_memory, prepare_config, prepare_tokenizer
from gengram.training.pretraining.arguments import PretrainModelArguments

_LONGEST = 1 << 30  # tokens, of a tokenizer that is made here: the model has the last word


def make_tokenizer(arguments: PretrainModelArguments) -> PreTrainedTokenizerBase:
    """Return the tokenizer that is named, else the checkpoint's; one token a base for a new model.

    Raises:
        `InputError`: no tokenizer can be read, or it cannot pad.
    """
    name = arguments.tokenizer_name_or_path
    if name is None and arguments.model_name_or_path is None:
        name = "bases"
    if name == "bases":
        template: Any = "plain" if arguments.objective == "causal" else "cls_sep"
        return build_nucleotide_tokenizer(template=template, model_max_length=_LONGEST)
    if name == "kmer6":
        return build_kmer_tokenizer(6, model_max_length=_LONGEST)
    path = name or arguments.model_name_or_path
    return prepare_tokenizer(ModelArguments(model_name_or_path=path, tokenizer_name_or_path=name))


def make_config(arguments: PretrainModelArguments, tokenizer: PreTrainedTokenizerBase) -> PreTrainedConfig:
    """Return the configuration of the model before its first stage.

    Of a new model the vocabulary and the special tokens are the tokenizer's, unless they are given.

    Raises:
        `InputError`: an unknown architecture, size or field, a value or memory that does not fit, a tokenizer that does
            not fit the checkpoint.
    """
    memory = _as_mapping(arguments.memory) if arguments.memory is not None and not arguments.without_memory else None
    named = arguments.tokenizer_name_or_path
    if arguments.model_name_or_path is not None:
        start = ModelArguments(
            model_name_or_path=arguments.model_name_or_path, memory=memory, tokenizer_name_or_path=named
        )
        return prepare_config(start, tokenizer)
    if arguments.size is not None:
        return _make_size(arguments.size, _as_mapping(arguments.config), memory, tokenizer)
    fields = dict(_as_mapping(arguments.config))
    model_type = fields.pop("model_type")
    if model_type == "gengram":  # as GengramConfig is saved
        inner = fields.pop("backbone_config", None)
        if not isinstance(inner, dict) or "model_type" not in inner:
            raise InputError("config: gengram needs a backbone_config with a model_type, e.g. llama")
        memory = None if arguments.without_memory else {**fields, **(memory or {})}
        fields, model_type = dict(inner), inner["model_type"]
        del fields["model_type"]
    if not isinstance(model_type, str):
        raise InputError(f"config: model_type={model_type!r} is no name of an architecture, such as llama")
    start = ModelArguments(
        backbone=model_type,
        backbone_config=fields,
        memory=memory,
        tokenizer_name_or_path=None if named == "bases" else named,
    )
    made: Any = prepare_config(start, tokenizer)
    return made if memory is not None else made.backbone_config


def _make_size(
    size: str, changes: dict[str, Any], memory: dict[str, Any] | None, tokenizer: PreTrainedTokenizerBase
) -> PreTrainedConfig:
    if size not in SIZES:
        raise InputError(f"size={size!r} is none of the paper{suggest(size, SIZES)}; there are {', '.join(SIZES)}")
    published: Any = GengramConfig.from_size(size).backbone_config
    known = {entry.name for entry in dataclasses.fields(type(published))}
    if unknown := next((name for name in changes if name not in known), None):
        raise InputError(f"config: {type(published).__name__} has no field {unknown!r}{suggest(unknown, known)}")
    with tell_faults(f"config does not fit {size}"):
        backbone = type(published).from_dict({**published.to_dict(), **changes})
    made = backbone if memory is None else add_memory(backbone, memory, tokenizer)
    check_tokenizer(tokenizer, "tokenizer", made)
    return made


def change_config(
    config: PreTrainedConfig, rope_theta: float | None, max_position_embeddings: int | None
) -> PreTrainedConfig:
    """Return the configuration as a stage wants it; None leaves a value as it is.

    Raises:
        `InputError`: the model has no rotary positions, or no number of positions.
    """
    config = copy.deepcopy(config)
    backbone: Any = config.get_text_config()
    if max_position_embeddings is not None:
        if getattr(backbone, "max_position_embeddings", None) is None:
            raise InputError(f"max_position_embeddings: a {backbone.model_type} has none")
        backbone.max_position_embeddings = int(max_position_embeddings)
    if rope_theta is not None:
        _turn_faster(backbone, float(rope_theta))
    return config


def _turn_faster(backbone: Any, rope_theta: float) -> None:
    """Set the base of a model's rotary positions, by whatever name its configuration has it."""
    rope = getattr(backbone, "rope_parameters", None) or {}
    kinds = [rope] if "rope_theta" in rope else [kind for kind in rope.values() if isinstance(kind, dict)]
    for kind in kinds:
        kind["rope_theta"] = rope_theta
    rotary = getattr(backbone, "position_embedding_type", "rotary") == "rotary"
    names = [name for name in ("rope_theta", "rotary_base") if name in vars(backbone) and rotary and not kinds]
    for name in names:
        setattr(backbone, name, rope_theta)
    if not kinds and not names:
        raise InputError(f"rope_theta: a {backbone.model_type} has no rotary positions")


def choose_task(config: PreTrainedConfig, objective: str) -> str:
    """Return the name of the head in `TASKS` that an objective trains.

    Args:
        config: of the model.
        objective: its name; all but causal and next_sentence are masked.

    Raises:
        `InputError`: the architecture has no such head.
    """
    kind = objective if objective in ("causal", "next_sentence") else "masked"
    task = {"causal": "causal_lm", "masked": "masked_lm", "next_sentence": "pretraining"}[kind]
    fits = type(config) in TASKS[task]._model_mapping
    if isinstance(config, GengramConfig):
        fits = {"causal": config.is_causal, "masked": not config.is_causal, "next_sentence": False}[kind]
    elif kind == "causal" and type(config) in TASKS["masked_lm"]._model_mapping:
        fits = fits and bool(getattr(config, "is_decoder", False))
    if not fits:
        other = "a bidirectional architecture (modernbert, bert, esm)" if kind != "causal" else "a decoder (llama)"
        raise InputError(f"objective: a {config.model_type} model cannot learn it ({kind}); take {other}")
    return task


def build_model(
    arguments: PretrainModelArguments, config: PreTrainedConfig, task: str, seed: int, start: Path | None = None
) -> PreTrainedModel:
    """Make the model of a stage in float32.

    Args:
        arguments: which model the run begins with.
        config: of this stage, see `change_config`.
        task: of `choose_task`.
        seed: of weights that no checkpoint gives.
        start: folder with the weights of the stage before; None: the run begins.

    Raises:
        `InputError`: weights that cannot be read, or that do not fit or fill the model.
    """
    config = copy.deepcopy(config)
    set_seed(seed)
    path = start or arguments.model_name_or_path
    if path is None:
        with tell_faults("config: no such model can be made with these fields"):
            return TASKS[task].from_config(config, dtype=torch.float32)
    if start is None and arguments.memory is not None and not arguments.without_memory:
        kind: Any = GengramForCausalLM if task == "causal_lm" else GengramForMaskedLM
        fields = {entry.name: getattr(config, entry.name) for entry in dataclasses.fields(GengramConfig)}
        del fields["backbone_config"], fields["dtype"]
        with tell_faults(f"{path}: the model's weights cannot be loaded"):
            return kind.from_backbone(path, memory=fields, dtype=torch.float32)
    model, new = load_weights(path, task, config=config)
    if new:
        raise InputError(
            f"{path}: the checkpoint does not fit {type(model).__name__} as this stage needs it: {len(new)} weights "
            f"are missing or of another size, e.g. {new[0]}"
        )
    return model


def check_sizes(configs: list[PreTrainedConfig], task: str) -> None:
    """Refuse a stage whose model has other weights than that of the stage before, such as a longer table of positions.

    Args:
        configs: of the stages; no weights are made.
        task: of `choose_task`.

    Raises:
        `InputError`: naming the stage and the first weight.
    """
    for number, (before, config) in enumerate(pairwise(configs), 2):
        if before.to_dict() == config.to_dict():
            continue
        with tell_faults("config: no such model can be made with these fields"), torch.device("meta"):
            old, new = (TASKS[task].from_config(copy.deepcopy(one)).state_dict() for one in (before, config))
        for name, weight in new.items():
            was = tuple(old[name].shape) if name in old else None
            if was != tuple(weight.shape):
                raise InputError(
                    f"stage {number}: the model would have other weights than in the stage before: {name} was {was} "
                    f"and would be {tuple(weight.shape)}. Give the first stage the max_position_embeddings of the last"
                )


def _as_mapping(argument: dict[str, Any] | str | None) -> dict[str, Any]:
    # The arguments have turned text into mappings; this says so to the type checker.
    return argument if isinstance(argument, dict) else {}


__all__ = ["build_model", "change_config", "check_sizes", "choose_task", "make_config", "make_tokenizer"]
