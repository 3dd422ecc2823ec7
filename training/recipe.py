"""Which arguments does a recipe give? YAML files of the user's, and those in recipes/ that come with the package."""

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from gengram.errors import InputError, suggest
from gengram.files import check_input_files
from gengram.loading.faults import tell_faults
from gengram.progress import tell
from gengram.training.yaml_files import Loader, read_yaml

RECIPES = Path(__file__).parent / "recipes"
"""Published hyper-parameters by benchmark; the comment at the top of each says whose, and how it is used."""


# What the command line calls them.
_ALIASES = {
    "model": "model_name_or_path",
    "tokenizer": "tokenizer_name_or_path",
    "out": "output_dir",
    "ref": "genome",
    "steps": "max_steps",
}


def list_recipes(folder: Path = RECIPES) -> dict[str, str]:
    """Return the names of the package's recipes in a folder, and what each is for: its first line."""
    return {path.stem: path.read_text(encoding="utf-8").splitlines()[0][2:] for path in sorted(folder.glob("*.yaml"))}


def read_recipe(
    name: str,
    parser: argparse.ArgumentParser,
    arguments: Mapping[str, bool],
    folder: Path = RECIPES,
    keys: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Read a recipe.

    A value is read as its text would be on the command line: `no` is no, 1e-5 is a number, 0001 keeps its zeros, a list
    is for an argument that takes several. What is empty or `null` keeps its default.

    Args:
        name: path of a YAML file, or the bare name of one of the package's recipes.
        parser: reads the values.
        arguments: names of those that a recipe may have, and whether they may be mappings.
        folder: with the package's recipes.
        keys: of an argument that is a list of mappings, the names that these may have.

    Raises:
        `InputError`: no such recipe, a file that cannot be read, a key that is no argument or is there twice, a value
            that does not fit; with the line.
    """
    path = _find_recipe(name, folder)
    root, loader = read_yaml(path)
    if not isinstance(root, yaml.MappingNode):
        raise InputError(f"{path}: a recipe is a mapping of argument names to values, e.g. `train_file: train.csv`")
    actions = {action.dest: action for action in parser._actions if action.dest in arguments}
    recipe: dict[str, Any] = {}
    for key, value in root.value:
        place = f"{path}, line {key.start_mark.line + 1}"
        argument = _ALIASES.get(key.value, key.value) if isinstance(key, yaml.ScalarNode) else None
        if argument not in actions:
            known = [*actions, *_ALIASES]
            raise InputError(f"{place}: no argument is called {_show(key)!r}{suggest(_show(key), known)}")
        if argument in recipe:
            raise InputError(f"{place}: {argument} is given twice")
        with tell_faults(f"{place}: {argument}"):  # `!!int ""`, `!!timestamp x` ...: PyYAML does not expect them
            if keys is not None and argument in keys:
                _check_entries(value, path, argument, keys[argument])
            try:
                recipe[argument] = _read_value(value, parser, actions[argument], arguments[argument], loader)
            except argparse.ArgumentError as error:
                raise InputError(f"{place}: {argument}: {error.message}") from error
    return {argument: value for argument, value in recipe.items() if value is not None}


def _check_entries(node: yaml.Node, path: Path, argument: str, known: Sequence[str]) -> None:
    """Refuse names in a list of mappings that nothing reads."""
    for entry in node.value if isinstance(node, yaml.SequenceNode) else ():
        if not isinstance(entry, yaml.MappingNode):
            raise InputError(f"{path}, line {entry.start_mark.line + 1}: {argument} is a list of mappings")
        for key, _ in entry.value:
            if not isinstance(key, yaml.ScalarNode) or key.value not in known:
                place = f"{path}, line {key.start_mark.line + 1}"
                raise InputError(f"{place}: {argument}: nothing is called {_show(key)!r}{suggest(_show(key), known)}")


def _find_recipe(name: str, folder: Path) -> Path:
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") and path.name == name:  # no folder in front: a recipe of the package
        if path.is_file():
            tell(f"the recipe {name!r} of the package is taken, not the file of that name: write ./{name} for the file")
        path = folder / f"{name}.yaml"
        if not path.is_file():
            known = list_recipes(folder)
            raise InputError(
                f"no recipe is called {name!r}{suggest(name, known)}; there are {', '.join(known)}, or give a file "
                "that ends with .yaml"
            )
    check_input_files(path)
    return path


# NUL and halves of letters, which YAML can write and a command line cannot: U+DC80 to U+DCFF are its bytes that are no
# UTF-8.
_NO_LETTER = re.compile("[\0\ud800-\udc7f\udd00-\udfff]")


def _read_value(
    node: yaml.Node, parser: argparse.ArgumentParser, action: argparse.Action, may_map: bool, loader: Loader
) -> Any:
    if isinstance(node, yaml.MappingNode) and may_map:
        return loader.construct_document(node)
    if isinstance(node, yaml.SequenceNode) and may_map and action.nargs is None:
        return loader.construct_document(node)
    if isinstance(node, yaml.SequenceNode) and action.nargs in ("+", "*"):
        return [_read_scalar(entry, parser, action) for entry in node.value]
    if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null":
        return None
    value = _read_scalar(node, parser, action)
    return [value] if action.nargs in ("+", "*") else value


def _read_scalar(node: yaml.Node, parser: argparse.ArgumentParser, action: argparse.Action) -> Any:
    if not isinstance(node, yaml.ScalarNode):
        kind = "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"
        raise argparse.ArgumentError(None, f"one value is needed here, and this is {kind}")
    if none := _NO_LETTER.search(node.value):
        raise argparse.ArgumentError(None, f"{none[0]!r} is no letter, and cannot be in an argument")
    value = parser._get_value(action, node.value)
    parser._check_value(action, value)
    return value


def _show(key: yaml.Node) -> str:
    return key.value if isinstance(key, yaml.ScalarNode) else "[...]"


__all__ = ["RECIPES", "list_recipes", "read_recipe"]
