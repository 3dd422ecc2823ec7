"""What a user can mend: the one error that commands print as a message, without a traceback."""


class InputError(ValueError):
    """An argument, file or folder that cannot be used; the message names it, the place and the remedy."""


__all__ = ["InputError"]
