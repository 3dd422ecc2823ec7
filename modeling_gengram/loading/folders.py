"""Can the files of a model's folder be read? Asked before a library opens one, and waits or is led elsewhere."""

import json
from pathlib import Path
from typing import Any

from gengram.errors import InputError
from gengram.files import check_input_files

# What libraries look for in the folder of a model, a tokenizer or an adapter.
# As transformers calls them, which is not imported for the help of a verb.
_INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SUFFIXES = (".json", ".safetensors", ".bin", ".txt", ".model", ".jinja")


def check_folder(folder: Path) -> None:
    """Refuse a folder in which a file is none, or whose index names weights elsewhere.

    Raises:
        `InputError`: a folder, pipe, device or dangling link in the place of a file; an index that cannot be read, or
            that names a file which is not in the folder.
    """
    for path in sorted(folder.iterdir()):
        if path.suffix in _SUFFIXES:
            check_input_files(path)
    for name in _INDICES:
        if (folder / name).is_file():
            list_shards(folder / name)


def list_shards(index: Path) -> list[str]:
    """Return the files that an index of weights names.

    Raises:
        `InputError`: see `check_folder`.
    """
    weights = read_object(index).get("weight_map")
    if not isinstance(weights, dict) or not weights or not all(isinstance(name, str) for name in weights.values()):
        raise InputError(f"{index}: no index of weights: weight_map says which file has which of them")
    names = sorted(set(weights.values()))
    for name in names:
        if Path(name).name != name or name in ("", ".."):
            raise InputError(f"{index}: it names {name!r}, which is not in this folder; shards lie beside their index")
    return names


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Raises:
        `InputError`: it cannot be read, or holds something else.
    """
    check_input_files(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise InputError(f"{path}: cannot be read as JSON: its brackets are nested too deep") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: a JSON object is expected here")
    return content


__all__ = ["check_folder", "list_shards", "read_object"]
