"""Does a published checkpoint need code of its own? That is never run: what it is, and what loads instead, is told."""

from pathlib import Path
from typing import Any

import transformers
from transformers import CONFIG_MAPPING

from gengram.catalogue import find_model_row, list_models
from gengram.errors import InputError
from gengram.printable import make_printable, shorten

# Of the architectures that transformers 5 has, none that reads text computes them any more.
_RELATIVE = "relative_key"


def check_architecture(fields: dict[str, Any], path: str | Path) -> None:
    """Refuse a config.json of an architecture that neither transformers nor this package has.

    Args:
        fields: content of config.json.
        path: folder or Hub id, for the message and for the catalogue.

    Raises:
        `InputError`: it needs code of its own, or positions that transformers does not compute; with what loads
            instead, where the catalogue knows that.
    """
    model_type = fields.get("model_type")
    named = shorten(repr(model_type), 60)
    if isinstance(model_type, str) and model_type not in CONFIG_MAPPING:
        code = name_code(fields)
        why = f"it needs code of its own ({code}), which is never run" if code else "nothing here can load it"
        raise InputError(
            f"{path}: model_type is {named}, which neither transformers {transformers.__version__} nor this package "
            f"has: {why}. {name_alternative(fields, path)}"
        )
    positions = fields.get("position_embedding_type")
    if isinstance(positions, str) and positions.startswith(_RELATIVE):
        raise InputError(
            f"{path}: its positions are relative (position_embedding_type {shorten(repr(positions), 40)}), which "
            f"transformers {transformers.__version__} does not compute for {named}: its answers would be wrong. "
            f"{name_alternative(fields, path)}"
        )


def name_code(fields: dict[str, Any]) -> str:
    """Return the class that a config.json wants to be run from code beside it, such as `bert_layers.BertModel`; empty
    if there is none."""
    auto_map = fields.get("auto_map")
    if not isinstance(auto_map, dict):
        return ""
    named = [auto_map[name] for name in sorted(auto_map) if name.startswith("AutoModel")] or list(auto_map.values())
    return shorten(make_printable(str(named[0]).rpartition("--")[2]), 80) if named else ""


def name_alternative(fields: dict[str, Any], path: str | Path) -> str:
    """Return a sentence on what loads in place of a checkpoint: the catalogue's row of it, or of one like it."""
    rows = [find_model_row(str(name)) for name in (path, fields.get("_name_or_path")) if name]
    rows += [row for row in list_models() if row.model_type == fields.get("model_type")]
    for row in rows:
        if row is not None and row.instead:
            return f"What loads instead: {row.instead}"
    return "`gengram models` lists what loads"


__all__ = ["check_architecture", "name_alternative", "name_code"]
