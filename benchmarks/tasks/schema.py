"""Does what a YAML file says have the form of a dataclass? Names, types, and nothing that the class does not know."""

import dataclasses
import types
import typing
from functools import cache
from typing import Any, Literal, TypeVar, Union

from gengram.errors import InputError, suggest
from gengram.printable import shorten

T = TypeVar("T")
_LONGEST = 60
_WORDS = {bool: "true or false", float: "a number", int: "a whole number", str: "a text"}


def make(cls: type[T], data: Any, place: str, at: str = "") -> T:
    """Return an object of a dataclass; lists become tuples, and a whole number is a number, too.

    Args:
        cls: a dataclass of texts, numbers, truth values, `Literal`, tuples, dictionaries and other such dataclasses.
        data: as read.
        place: the file, for messages.
        at: the key that holds it, `hub`; the keys inside are `hub.id`.

    Raises:
        `InputError`: a key is unknown or missing, or a value is of another kind; with file and key.
    """
    where = f"{place}, {at}" if at else place
    if not isinstance(data, dict):
        raise InputError(f"{where}: {_show(data)} should be a mapping of names to values")
    fields = {field.name: field for field in dataclasses.fields(typing.cast(Any, cls)) if field.init}
    for name in data:
        if name not in fields:
            remedy = suggest(str(name), fields) or f"; the keys are {', '.join(fields)}"
            raise InputError(f"{where}: there is no key {_show(name)}{remedy}")
    for name, field in fields.items():
        needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if needed and name not in data:
            raise InputError(f"{where}: the key {name!r} is missing")
    kinds = _list_kinds(typing.cast(Any, cls))
    return cls(**{name: _read(kinds[name], data[name], place, f"{at}.{name}" if at else name) for name in data})


@cache
def _list_kinds(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _read(kind: Any, value: Any, place: str, at: str) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        kinds = [one for one in inner if one is not type(None)]
        fitting = [one for one in kinds if _fits(one, value)]
        return _read(fitting[0] if fitting else kinds[0], value, place, at)
    if dataclasses.is_dataclass(kind):
        return make(typing.cast(Any, kind), value, place, at)
    if origin is Literal:
        if value in inner and not isinstance(value, bool):
            return value
        words = [word for word in inner if isinstance(word, str)]
        question = suggest(value, words) if isinstance(value, str) else ""
        raise InputError(f"{place}, {at}: {_show(value)} is none of {', '.join(words)}{question}")
    if origin is tuple:
        if not isinstance(value, list):
            raise InputError(f"{place}, {at}: {_show(value)} should be a list")
        return tuple(_read(inner[0], one, place, f"{at}[{number}]") for number, one in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise InputError(f"{place}, {at}: {_show(value)} should be a mapping of names to values")
        return {
            _read(inner[0], name, place, f"{at}, a name"): _read(inner[1], one, place, f"{at}.{name}")
            for name, one in value.items()
        }
    if not _fits(kind, value):
        raise InputError(f"{place}, {at}: {_show(value)} should be {_WORDS[kind]}")
    return float(value) if kind is float else value


def _fits(kind: Any, value: Any) -> bool:
    """Whether a value may be of a kind, as far as its own class says."""
    origin = typing.get_origin(kind)
    if origin is Literal:
        return value in typing.get_args(kind)
    wanted: Any = {tuple: list, dict: dict}.get(typing.cast(Any, origin), kind)
    if dataclasses.is_dataclass(wanted):
        wanted = dict
    if wanted is float:
        wanted = int | float
    return isinstance(value, wanted) and not (isinstance(value, bool) and kind is not bool)


def _show(value: Any) -> str:
    return shorten(repr(value), _LONGEST)


__all__ = ["make"]
