"""What can reading somebody's folder raise, and in which words is it told?"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import StrictDataclassError

from gengram.errors import InputError

# Letters that move the cursor or end a line are no part of a message.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_LONGEST = 400


@contextmanager
def tell_faults(said: str, errors: tuple[type[BaseException], ...] = (Exception,)) -> Iterator[None]:
    """Turn what goes wrong inside into an `InputError`: `said`, a colon, the error's own words; one stays as it is.

    Args:
        said: what could not be done, with the folder or file.
        errors: by default every exception: other libraries read a foreign file here, and what they raise at its faults
            (AttributeError, ZeroDivisionError, plain `Exception`, panics of compiled code ...) is written down nowhere.
            Put nothing else inside.
    """
    try:
        yield
    except InputError:
        raise
    except errors as error:
        raise InputError(f"{said}: {tell_error(error)}") from error
    except BaseException as error:
        # A library in Rust has panicked; the class is not to be had for an import.
        if type(error).__name__ != "PanicException":
            raise
        raise InputError(f"{said}: {tell_error(error)}") from error


def tell_error(error: BaseException) -> str:
    """Return the message of an error in one line; of a failed check inside a configuration, the check's own words."""
    told = error.__cause__ if isinstance(error, StrictDataclassError) and error.__cause__ else error
    words = _UNPRINTABLE.sub(" ", str(told)).strip()
    words = words if len(words) <= _LONGEST else f"{words[:_LONGEST]} ..."
    if isinstance(told, OSError | ValueError | RuntimeError) and words:
        return words
    return f"{type(told).__name__}: {words}" if words else type(told).__name__


__all__ = ["tell_error", "tell_faults"]
