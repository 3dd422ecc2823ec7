"""What a user can mend: the one error that commands print as a message, without a traceback."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """An argument, file or folder that cannot be used; the message names it, the place and the remedy."""


def suggest(name: str, known: Iterable[str]) -> str:
    """Return a question that names the most similar of the known names, for the end of a message; empty if none is.

    Upper and lower case are alike.
    """
    spelled: dict[str, str] = {}
    for each in known:
        spelled.setdefault(each.casefold(), each)
    close = difflib.get_close_matches(name.casefold(), spelled, n=1)
    return f"; did you mean {spelled[close[0]]!r}?" if close else ""


__all__ = ["InputError", "suggest"]
