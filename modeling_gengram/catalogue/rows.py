"""What is a row of the catalogue, and where does it come from? One YAML file a family, read once, without torch.

A file has the facts grouped by the source that they were read in, so that none can be without one:

    title: GENA-LM
    sources:                      # short names, and what they stand for: an address, or a document
      code: https://github.com/AIRI-Institute/GENA_LM (commit 4a88463)
    shared:                       # facts of all rows that do not say otherwise
      code: {tokenizer: BPE, vocabulary: 32000}
    models:
      - id: AIRI-Institute/gena-lm-bert-base
        loads: gengram
        facts:
          code: {layers: 12, hidden_size: 768}

What nobody could read anywhere is left out: it is unknown, and no default takes its place. A null (`~`) takes back what
`shared` says.
"""

import dataclasses
from functools import cache
from importlib import resources
from typing import Any, Literal, get_args

import yaml

Loads = Literal["gengram", "transformers", "convert", "remote_code", "planned", "elsewhere"]
LOADS = get_args(Loads)
Objective = Literal["masked", "causal", "contrastive", "supervised"]
OBJECTIVES = get_args(Objective)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """A published checkpoint. None: not known.

    Attributes:
        id: on the Hub.
        family: the file that the row stands in.
        loads: `gengram` by classes of this package, `transformers` by its own ones, `convert` after
            `gengram convert megatron`, `remote_code` only by code that comes with the weights (which is never run
            here), `planned` by classes that this package will have, `elsewhere` by a package of its authors.
        instead: what can be used where `loads` is none of the first three.
        verified: `unverified` where the Hub was not asked; `sizes` where the published file has as many numbers as the
            classes make of the published configuration; or the date when the Hub was asked.
        architecture: in words.
        model_type: of the configuration that it is loaded as.
        classes: what loads it with the head that is in its file.
        parameters: how many numbers.
        layers, hidden_size: of the trunk.
        max_tokens: with special tokens.
        bases_per_token: exact for bases and k-mers, a mean for BPE.
        max_bases: of one input; `max_tokens` times `bases_per_token` where no source says it.
        tokenizer: `base`, `k-mer` or `BPE`.
        kmer_size, kmer_stride: bases of a token, and from one to the next.
        vocabulary: how many tokens.
        case: what becomes of lower case.
        objective: of its training.
        heads: in the file.
        layer: the one whose states are recommended as embeddings.
        license_weights, license_code: an SPDX id, or the name of another licence.
        data: what it was trained on.
        paper: address.
        note: what else one should know before using it.
        sources: fact -> where it was read.
    """

    id: str
    family: str
    loads: Loads
    verified: str
    instead: str | None = None
    architecture: str | None = None
    model_type: str | None = None
    classes: str | None = None
    parameters: int | None = None
    layers: int | None = None
    hidden_size: int | None = None
    max_tokens: int | None = None
    bases_per_token: float | None = None
    max_bases: int | None = None
    tokenizer: str | None = None
    kmer_size: int | None = None
    kmer_stride: int | None = None
    vocabulary: int | None = None
    case: str | None = None
    objective: Objective | None = None
    heads: tuple[str, ...] | None = None
    layer: str | None = None
    license_weights: str | None = None
    license_code: str | None = None
    data: str | None = None
    paper: str | None = None
    note: str | None = None
    sources: dict[str, str] = dataclasses.field(default_factory=dict)


_FOLDER = resources.files("gengram.catalogue").joinpath("families")
_NO_FACTS = ("id", "family", "loads", "verified", "instead", "sources")
FACTS = tuple(field.name for field in dataclasses.fields(ModelRow) if field.name not in _NO_FACTS)
# libyaml reads the catalogue in a tenth of the time; wheels of PyYAML have it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def list_models() -> tuple[ModelRow, ...]:
    """Return all rows, family by family."""
    return tuple(row for file in _list_files() for row in _read_family(file))


def find_model_row(id: str) -> ModelRow | None:
    """Return the row of a checkpoint; None if the catalogue has none. The Hub, too, reads ids in any case."""
    return _index().get(id.casefold())


@cache
def list_families() -> dict[str, str]:
    """Return the families, with their titles."""
    return {file.stem: _read(file)["title"] for file in _list_files()}


@cache
def _index() -> dict[str, ModelRow]:
    return {row.id.casefold(): row for row in list_models()}


def _list_files() -> list[Any]:
    return sorted(_FOLDER.iterdir(), key=lambda file: file.name)


@cache
def _read(file: Any) -> dict[str, Any]:
    return yaml.load(file.read_text(encoding="utf-8"), _LOADER)  # a safe loader, both


def _read_family(file: Any) -> list[ModelRow]:
    data = _read(file)
    return [_make_row(file.stem, data, model) for model in data["models"]]


def _make_row(family: str, data: dict[str, Any], model: dict[str, Any]) -> ModelRow:
    facts: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for group in (data.get("shared", {}), model.get("facts", {})):
        for source, found in group.items():
            facts |= found
            sources |= dict.fromkeys(found, data["sources"][source])
    facts = {name: value for name, value in facts.items() if value is not None}
    if "max_bases" not in facts and {"max_tokens", "bases_per_token"} <= facts.keys():
        facts["max_bases"] = int(facts["max_tokens"] * facts["bases_per_token"])
        sources["max_bases"] = "max_tokens times bases_per_token"
    if "heads" in facts:
        facts["heads"] = tuple(facts["heads"])
    given: dict[str, Any] = {name: model.get(name, data.get(name)) for name in ("loads", "instead")}
    return ModelRow(
        id=model["id"],
        family=family,
        verified=str(model.get("verified", "unverified")),
        sources={name: sources[name] for name in FACTS if name in facts},
        **given,
        **facts,
    )


__all__ = ["FACTS", "LOADS", "OBJECTIVES", "ModelRow", "find_model_row", "list_families", "list_models"]
