"""What of a sequence does a model read that has more tokens than it takes?"""

from typing import Literal

import numpy as np

TooLong = Literal["truncate", "center", "window"]


def cut_tokens(special: np.ndarray, limit: int, too_long: TooLong) -> list[np.ndarray]:
    """Choose tokens of one sequence so that no window has more than a model takes; special tokens are in each.

    Args:
        special: bool [T], the tokens that the tokenizer added around the sequence.
        limit: tokens of a window, special ones included.
        too_long: `"truncate"` keeps the beginning, `"center"` the middle, `"window"` everything, in windows that follow
            each other and are, but for one token, equally long.

    Returns:
        The positions of the tokens of each window, ascending, each int64 [at most `limit`]; one window unless
        `"window"`.

    Raises:
        `ValueError`: the special tokens alone fill the limit.

    Example:
        >>> [window.tolist() for window in cut_tokens(np.array([True, False, False, False, True]), 4, "window")]
        [[0, 1, 2, 4], [0, 3, 4]]
    """
    added, body = np.flatnonzero(special), np.flatnonzero(~special.astype(bool))
    room = limit - len(added)
    if room < 1:
        raise ValueError(f"a limit of {limit} tokens leaves no room for bases beside {len(added)} special tokens")
    if len(body) <= room:
        return [np.arange(len(special))]
    if too_long == "window":
        parts = np.array_split(body, -(-len(body) // room))
    else:
        start = (len(body) - room) // 2 if too_long == "center" else 0
        parts = [body[start : start + room]]
    return [np.sort(np.concatenate([added, part])) for part in parts]


__all__ = ["TooLong", "cut_tokens"]
