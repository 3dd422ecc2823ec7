"""Which flags are settings of a protocol? All of them are flags of the verb; one that the chosen protocol does not
have is refused, and none is ignored."""

import argparse
import dataclasses
import math
import re
import types
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from gengram.benchmarks.protocols.table import PROTOCOLS, Protocol
from gengram.command_line import VerbParser
from gengram.errors import InputError


def add_settings(parser: VerbParser) -> None:
    """Declare the settings of all protocols as flags; what a protocol does not know is refused later."""
    group = parser.add_argument_group("settings of the protocol")
    taken = {flag for action in parser._actions for flag in action.option_strings}
    for name, owners in _list_settings().items():
        field, kind = owners[next(iter(owners))]
        if f"--{name}" in taken:
            raise AssertionError(f"--{name} is a flag of the verb and a setting of {next(iter(owners))}")
        of = "" if len(owners) == len(PROTOCOLS) else f" ({', '.join(owners)})"
        defaults = {protocol: _show_default(entry) for protocol, (entry, _) in owners.items()}
        same = len(set(defaults.values())) == 1
        shown = (
            field_default
            if same and (field_default := next(iter(defaults.values())))
            else ", ".join(f"{value} in {protocol}" for protocol, value in defaults.items())
        )
        text = f"{field.metadata.get('help', name.replace('_', ' '))}{of} (default: {shown})"
        group.add_argument(f"--{name}", help=text.replace("%", "%%"), default=argparse.SUPPRESS, **_declare(kind))


def _list_settings() -> dict[str, dict[str, tuple[Any, Any]]]:
    """Setting -> protocol -> its field, and the type."""
    found: dict[str, dict[str, tuple[Any, Any]]] = {}
    for protocol in PROTOCOLS.values():
        hints = get_type_hints(protocol.settings)
        for field in dataclasses.fields(protocol.settings):
            found.setdefault(field.name, {})[protocol.name] = field, hints[field.name]
    return found


def _declare(kind: Any) -> dict[str, Any]:
    """What argparse needs to read a value of a type: numbers, text, choices, yes or no, and lists of these."""
    if get_origin(kind) in (Union, types.UnionType):
        inner = [one for one in get_args(kind) if one is not type(None)]
        lists = [one for one in inner if get_origin(one) in (tuple, list)]
        if lists and len(inner) > 1:  # numbers, or a word that stands for some
            return {"nargs": "+", "type": _word_or_number, "metavar": "VALUE"}
        return _declare((lists or inner)[0])
    if get_origin(kind) in (tuple, list):
        return {**_declare(get_args(kind)[0]), "nargs": "+"}
    if get_origin(kind) is Literal:
        return {"choices": list(get_args(kind))}
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    return {"type": {int: _integer, float: _number}.get(kind, str), "metavar": {int: "N", float: "X"}.get(kind, "NAME")}


def read_settings(protocol: Protocol, options: dict[str, Any]) -> Any:
    """Take the settings that were given out of the options, as an instance of the protocol's class.

    Raises:
        `InputError`: a setting of another protocol, or a value that this one refuses.
    """
    known = _list_settings()
    given = {name: options.pop(name) for name in list(options) if name in known}
    for name, value in given.items():
        if protocol.name not in known[name]:
            own = ", ".join(f"--{one}" for one, owners in known.items() if protocol.name in owners) or "none"
            raise InputError(
                f"--{name} is no setting of {protocol.name}, but of {', '.join(known[name])}. Its own: {own}"
            )
        if isinstance(value, list):
            given[name] = _fit_list(value, known[name][protocol.name][1])
    return protocol.settings(**given)


def _fit_list(values: list[Any], kind: Any) -> Any:
    """A word alone stands for itself (`--layers all`), several values are a tuple."""
    words = [one for one in get_args(kind) if one is str or get_origin(one) is Literal]
    if words and len(values) == 1 and isinstance(values[0], str):
        return values[0]
    return tuple(values)


def _show_default(field: Any) -> str:
    value = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    if isinstance(value, tuple | list):
        return " ".join(map(str, value))
    return (
        {None: "none", True: "yes", False: "no"}.get(value, str(value))
        if not isinstance(value, float)
        else f"{value:g}"
    )


def _word_or_number(text: str) -> int | str:
    return int(text) if re.fullmatch("-?[0-9]{1,9}", text) else text


def _integer(text: str) -> int:
    if not re.fullmatch("-?[0-9]{1,18}", text):
        raise argparse.ArgumentTypeError(f"{text[:60]!r}: give a whole number")
    return int(text)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text[:60]!r}: give a number")
    return value


__all__ = ["add_settings", "read_settings"]
