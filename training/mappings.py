"""Which mapping does an argument give, as a flag or in a script?"""

import json
from typing import Any


def read_mapping(name: str, value: dict[str, Any] | str | None) -> dict[str, Any] | None:
    """Return the mapping that a flag gives as JSON; a mapping and None are returned as they are.

    Raises:
        ValueError: no JSON, something else than a mapping, or a name that is there twice; `name` is the argument's.
    """
    if isinstance(text := value, str):
        try:
            value = json.loads(text, object_pairs_hook=_refuse_twice, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{name} is not JSON ({error}): {text[:200]!r}. Write it like '{{\"name\": 1}}'."
            ) from error
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"{name} must be a mapping of names to values, not {value!r}")
    return value


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"{twice!r} is given twice")
    return dict(pairs)


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


__all__ = ["read_mapping"]
