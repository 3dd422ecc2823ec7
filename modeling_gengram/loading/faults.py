"""What can reading somebody's folder raise, and in which words is it told?"""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from gengram.errors import InputError

LOADING_ERRORS = (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, StrictDataclassError)
"""What reading a user's folder can raise: missing or foreign files, broken JSON, wrong shapes, cut-off weights."""


@contextmanager
def tell_faults(said: str, errors: tuple[type[Exception], ...] = LOADING_ERRORS) -> Iterator[None]:
    """Turn what goes wrong inside into an `InputError`: `said`, a colon, the error's own words; one stays as it is."""
    try:
        yield
    except InputError:
        raise
    except errors as error:
        raise InputError(f"{said}: {tell_error(error)}") from error


def tell_error(error: Exception) -> str:
    """Return the message of an error; of a failed check inside a configuration, the check's own words."""
    told = error.__cause__ if isinstance(error, StrictDataclassError) and error.__cause__ else error
    return str(told) or type(told).__name__


__all__ = ["LOADING_ERRORS", "tell_error", "tell_faults"]
