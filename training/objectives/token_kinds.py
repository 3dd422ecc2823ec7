"""Which tokens of a vocabulary can be learned, and which may stand in for others."""

import dataclasses

import numpy as np
from transformers import PreTrainedTokenizerBase

from gengram.errors import InputError
from gengram.tokenization.base_tokens import list_base_tokens


@dataclasses.dataclass(frozen=True)
class TokenKinds:
    """What the V ids of a vocabulary are.

    Attributes:
        is_base: booleans [V]: the token is made of A, C, G and T (or U) alone.
        is_special: booleans [V]: padding, unknown, begin, end, mask and their like.
        pad: id that rows are padded with; 0 where the tokenizer has none.
        pad_is_letter: whether padding is a letter of the sequence, as the `N` of NTv3: then an id does not tell it.
    """

    is_base: np.ndarray
    is_special: np.ndarray
    pad: int
    pad_is_letter: bool

    def choose_learnable(self, skip_n: bool) -> np.ndarray:
        """Return which ids can be a label, booleans [V]: bases; with `skip_n` False also N and other codes."""
        return self.is_base if skip_n else ~self.is_special


def find_token_kinds(tokenizer: PreTrainedTokenizerBase) -> TokenKinds:
    """Return the kinds of a tokenizer's ids.

    Raises:
        `InputError`: the vocabulary has no token of bases.
    """
    rows = 1 + max(tokenizer.get_vocab().values(), default=0)
    bases = tokenizer.convert_tokens_to_ids(list_base_tokens(tokenizer))
    if not bases:
        raise InputError("the tokenizer has no token of A, C, G and T: give one that reads DNA")
    is_base, is_special = np.zeros((2, rows), dtype=bool)
    is_base[bases] = True
    is_special[[number for number in tokenizer.all_special_ids if number < rows]] = True
    pad = tokenizer.pad_token_id
    return TokenKinds(
        is_base,
        is_special,
        pad=0 if pad is None else pad,
        # A special token of one letter is one that sequences have as well.
        pad_is_letter=pad is None or len(tokenizer.pad_token) == 1,
    )


__all__ = ["TokenKinds", "find_token_kinds"]
