"""YAML files as nodes that know their lines, with the numbers and truth values of JSON."""

import re
from pathlib import Path
from typing import Any

import yaml

from gengram.errors import InputError
from gengram.loading.faults import tell_faults


def read_yaml(path: Path) -> tuple[yaml.Node | None, "Loader"]:
    """The nodes of a file, with their lines, and what makes values of them."""
    with tell_faults(f"{path}: cannot be read as YAML"):
        loader = Loader(path.read_text(encoding="utf-8-sig"))
        try:
            return loader.get_single_node(), loader
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            if mark is None:
                raise
            # Its own words are several lines, with a drawing of the place.
            place = f"{path}, line {mark.line + 1}, column {mark.column + 1}"
            raise InputError(f"{place}: cannot be read as YAML: {error.problem}") from error


class Loader(yaml.SafeLoader):
    """YAML with the numbers and truth values of JSON: `no` is a word, 1e-5 a number, and no key is there twice."""

    yaml_implicit_resolvers: dict[str, Any] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise yaml.constructor.ConstructorError(None, None, f"{twice!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep=deep)


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
):
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


__all__ = ["Loader", "read_yaml"]
