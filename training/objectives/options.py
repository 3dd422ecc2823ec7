"""What may an option of an objective be? Recipes are written by hand: a text where a number belongs is told by name."""

from collections.abc import Sequence
from typing import Any

from gengram.errors import InputError, suggest


def is_number(value: Any) -> bool:
    """Whether it is a number, and no flag."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_share(name: str, value: Any, above_zero: bool = False) -> None:
    """Refuse what is no share from 0 to 1 (`above_zero`: nor 0 itself), with `InputError`."""
    if not is_number(value) or not 0 <= value <= 1 or (above_zero and value == 0):
        raise InputError(f"{name}={value!r}: give a share {'above 0, at most' if above_zero else 'from 0 to'} 1")


def check_flag(name: str, value: Any) -> None:
    """Refuse what is neither true nor false, with `InputError`."""
    if not isinstance(value, bool):
        raise InputError(f"{name}={value!r}: give true or false")


def check_choice(name: str, value: Any, known: Sequence[str]) -> None:
    """Refuse what is none of the names that are known, with `InputError`."""
    if not isinstance(value, str) or value not in known:
        raise InputError(f"{name}={value!r}: give one of {', '.join(known)}{suggest(str(value), known)}")


__all__ = ["check_choice", "check_flag", "check_share", "is_number"]
