"""Tokenizers of DNA that others trained and that know no lower case: their ids, also for soft-masked sequences."""

import json
import re

from tokenizers.normalizers import Sequence as NormalizerSequence
from transformers import PreTrainedTokenizerBase, TokenizersBackend

from gengram.genome.alphabet import ANY_BASE, BASES, IUPAC_BASES
from gengram.tokenization.bpe import fold_letters, fuse_tokens
from gengram.tokenization.published import PublishedFiles

_TRAINED = ("BPE", "Unigram", "WordPiece")


def recognizes_published(files: PublishedFiles) -> bool:
    """Whether a tokenizer has tokens of several bases, all in upper case, and reads lower case otherwise."""
    tokenizer = files.tokenizer
    if not tokenizer.is_fast:
        return False
    if json.loads(tokenizer.backend_tokenizer.to_str())["model"]["type"] not in _TRAINED:
        return False
    words = _list_words(tokenizer)
    if not words or not all(set(word) <= set(IUPAC_BASES) for word in words):
        return False
    longest = max(words, key=len)
    upper, lower = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (longest, longest.lower()))
    return upper != lower


def load_published(files: PublishedFiles) -> PreTrainedTokenizerBase:
    """Load it as written, with lower case read as upper case and U as T in front of everything else, and tokens written
    without blanks between them.

    Without a `tokenizer.json` it is the one that transformers makes of `vocab.json` and `merges.txt`.
    """
    if files.written is None:
        made = files.tokenizer
        names = {kind: token for kind, token in made.special_tokens_map.items() if kind.endswith("_token")}
        tokenizer = TokenizersBackend(
            tokenizer_object=made.backend_tokenizer, **names, model_max_length=made.model_max_length
        )
    else:
        tokenizer = TokenizersBackend.from_pretrained(files.path, **files.hub)
    backend = tokenizer.backend_tokenizer
    # Single letters say nothing: a BPE of bytes has a token for each.
    letters = {*BASES, ANY_BASE, *"".join(_list_words(tokenizer))}
    steps = fold_letters(letters, case="fold", uracil="thymine")
    backend.normalizer = NormalizerSequence([*steps, *([backend.normalizer] if backend.normalizer is not None else [])])
    fuse_tokens(backend)
    return tokenizer


def _list_words(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """The letters of the tokens that have more than one; names in brackets aside."""
    names = re.compile(r"[<\[].*[>\]]")
    words = {re.sub("[^A-Za-z]", "", token) for token in tokenizer.get_vocab() if not names.fullmatch(token)}
    return {word for word in words if len(word) > 1}


__all__ = ["load_published", "recognizes_published"]
