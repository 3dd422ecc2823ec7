"""Which tokens of a vocabulary are bases: what a language model may propose where it is asked for DNA."""

from transformers import PreTrainedTokenizerBase

_LETTERS = frozenset("ACGTUacgtu")
# What stands before a token of SentencePiece, of byte-level BPE, and of WordPiece, and is no letter of it.
_MARKS = ("▁", "Ġ", "##")


def list_base_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the tokens that are one base or several (`A`, `ACGTAC`, `TATAA`), in the order of their ids.

    None of them is a special token, and none has an `N` or another letter that says "unknown". With one-base tokens,
    these are four; of k-mers and BPE, all that are DNA. With `targets=list_base_tokens(tokenizer)`, transformers'
    `fill-mask` proposes no others.

    Args:
        tokenizer: any of transformers.

    Example:
        >>> from gengram.tokenization import build_nucleotide_tokenizer
        >>> list_base_tokens(build_nucleotide_tokenizer())
        ['C', 'G', 'T', 'A']
    """
    special = set(tokenizer.all_special_tokens)
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return [token for token, _ in vocabulary if token not in special and _is_dna(token)]


def is_of_dna(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether most of a vocabulary's tokens, special ones aside, are bases: that of no other language is so."""
    plain = len(tokenizer.get_vocab().keys() - set(tokenizer.all_special_tokens))
    return 2 * len(list_base_tokens(tokenizer)) > plain


def _is_dna(token: str) -> bool:
    for mark in _MARKS:
        token = token.removeprefix(mark)
    return bool(token) and _LETTERS.issuperset(token)


__all__ = ["is_of_dna", "list_base_tokens"]
