"""Which arguments does a recipe give? YAML files of the user's, and those in recipes/ that come with the package."""

from pathlib import Path
from typing import Any

import yaml

from gengram.errors import InputError, suggest
from gengram.progress import tell

RECIPES = Path(__file__).parent / "recipes"
"""Published hyper-parameters by benchmark; the comment at the top of each says whose, and how it is used."""


# What the command line calls them.
_ALIASES = {"model": "model_name_or_path", "out": "output_dir", "ref": "genome"}


def list_recipes() -> dict[str, str]:
    """Return the names of the package's recipes, and what each is for: its first line."""
    return {path.stem: path.read_text(encoding="utf-8").splitlines()[0][2:] for path in sorted(RECIPES.glob("*.yaml"))}


def read_recipe(name: str, known: list[str]) -> dict[str, Any]:
    """Read a recipe.

    Args:
        name: path of a YAML file, or the bare name of one of the package's recipes.
        known: names of the arguments that there are.

    Raises:
        `InputError`: no such recipe, a file that cannot be read, or a key that is no argument.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") and path.name == name:  # no folder in front: a recipe of the package
        if path.is_file():
            tell(f"the recipe {name!r} of the package is taken, not the file of that name: write ./{name} for the file")
        path = RECIPES / f"{name}.yaml"
        if not path.is_file():
            raise InputError(
                f"no recipe is called {name!r}{suggest(name, list_recipes())}; there are {', '.join(list_recipes())}, "
                "or give a file that ends with .yaml"
            )
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(recipe, dict):
        raise InputError(f"{path}: a recipe is a mapping of argument names to values, e.g. `train_file: train.csv`")
    recipe = {_ALIASES.get(key, key): value for key, value in recipe.items()}
    for key in recipe:
        if key not in known:
            raise InputError(f"{path}: no argument is called {key!r}{suggest(str(key), known)}")
    return recipe


__all__ = ["RECIPES", "list_recipes", "read_recipe"]
