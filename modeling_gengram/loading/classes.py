"""Which output of a model has which name? `id2label`, of a configuration or beside an adapter, where it is read."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from gengram.errors import InputError
from gengram.printable import make_printable, shorten


def name_outputs(id2label: Mapping[Any, Any] | None, where: object) -> list[str]:
    """Return the names of a model's outputs, in their order.

    Args:
        id2label: number of the output, as `int` or in digits -> name.
        where: the file or folder that it is from, for the message.

    Raises:
        `InputError`: a name that is no text or that two outputs share: columns and classes are told by it; numbers that
            are not 0, 1, 2 ...: a prediction would get another output's name.
    """
    given = dict(id2label or {})
    names = {int(key): name for key, name in given.items() if str(key).isdecimal() and len(str(key)) < 10}
    if len(names) < len(given) or sorted(names) != list(range(len(names))):
        keys = _show(", ".join(map(str, given)))
        raise InputError(f"{where}: id2label names the outputs {keys}; count from 0, each once, without gaps")
    ordered = [names[number] for number in range(len(names))]
    if strange := [name for name in ordered if not isinstance(name, str)]:
        raise InputError(f"{where}: id2label has {_show(strange[0])} as a name, which is no text")
    if twice := [name for name, count in Counter(ordered).items() if count > 1]:
        raise InputError(f"{where}: id2label gives the name '{_show(twice[0])}' to several outputs; rename all but one")
    return ordered


def _show(text: object) -> str:
    return shorten(make_printable(text), 60)


__all__ = ["name_outputs"]
