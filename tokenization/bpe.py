"""The BPE tokenizers of GENA-LM, as published and mended, and the form that trained ones have."""

import json
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Encoding, Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.normalizers import Replace
from tokenizers.normalizers import Sequence as NormalizerSequence
from transformers import TokenizersBackend

from gengram.genome.alphabet import ANY_BASE, URACIL
from gengram.tokenization.policies import Case, Uracil, check_choice
from gengram.tokenization.published import PublishedFiles

GAP = "-"
"""The token of a run of N."""
# In the order of their ids, 0 to 4.
_NAMES = {"unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "mask": "[MASK]"}


class BpeTokenizer(TokenizersBackend):
    """A BPE tokenizer of DNA: its offsets cover runs of N, and it gives sequences back, or says that it cannot.

    Where this package is not installed, a saved one loads as a plain `TokenizersBackend` with the same ids.
    """

    def _convert_encoding(self, encoding, *args, **kwargs):
        converted, encodings = super()._convert_encoding(encoding, *args, **kwargs)
        gap = self.backend_tokenizer.token_to_id(GAP)
        if gap is not None and "offset_mapping" in converted:
            parts = [encoding, *encoding.overflowing]  # of the same text, cut to length
            if any(gap in part.ids for part in parts):
                ends = [sorted(_list_ends(parts, which)) for which in (0, 1)]
                for offsets, each in zip(converted["offset_mapping"], encodings):
                    _widen_gaps(offsets, each, gap, ends)
        return converted, encodings

    def restore_sequence(
        self, ids: Sequence[int], offsets: Sequence[tuple[int, int]] | np.ndarray | None = None
    ) -> str:
        """
        Return the sequence that tokens stand for, base for base.

        Args:
            ids: of the tokens; special tokens among them are left out.
            offsets: of the tokens (`return_offsets_mapping=True`), start and end in bp. With them a run of N has its
                length back, and so have unknown characters, as N.

        Raises:
            `ValueError`: there is a run of N or an unknown character, and no offsets tell its length.
        """
        names = self.convert_ids_to_tokens(list(ids))
        added = {self.cls_token, self.sep_token, self.pad_token, self.mask_token} - {None}
        parts = []
        for place, name in enumerate(names):
            if name in added:
                continue
            if name not in (GAP, self.unk_token):
                parts.append(name)
            elif offsets is None:
                what = "a run of N of unknown length" if name == GAP else "an unknown character"
                raise ValueError(
                    f"token {place} is {what}: give the offsets of the tokens to restore the sequence's length"
                )
            else:
                parts.append(ANY_BASE * int(offsets[place][1] - offsets[place][0]))
        return "".join(parts)


def load_bpe_tokenizer(
    pretrained_model_name_or_path: str | Path,
    *,
    case: Case = "fold",
    uracil: Uracil = "thymine",
    model_max_length: int = 512,
    **kwargs: Any,
) -> BpeTokenizer:
    """
    Load a BPE tokenizer of GENA-LM with its defects mended; ids of upper-case DNA are the original's.

    - Lower case is read as upper case; originally each soft-masked base is `[UNK]`.
    - The offsets of a run of ten or more N cover all of it; originally only its last N.
    - `decode` writes tokens without blanks between them, so that what a model generates can be read again.
    - `model_max_length` is set, and `token_type_ids` are returned for pairs.

    Names of special tokens in a text are those tokens, as originally and with every tokenizer here, so that `fill-mask`
    finds its mask. Call the tokenizer with `split_special_tokens=True` to read them as letters, as this package does
    with every text of a file.

    `AutoTokenizer.from_pretrained` loads the original as it is.

    Args:
        pretrained_model_name_or_path: folder or Hub id.
        case: `"fold"` or `"unknown"` (as in the original).
        uracil: `"thymine"` reads `U` as `T`; `"unknown"` gives `[UNK]`.
        model_max_length: in tokens, `[CLS]` and `[SEP]` included: 512 for the BERT models, 4096 for the sparse ones.
        kwargs: that choose and fetch a file (`revision`, `token`, `cache_dir` ...).

    Raises:
        `OSError`: no tokenizer can be read.
        `ValueError`: it is no BPE tokenizer, a policy that does not exist, a `model_max_length` below 1.
    """
    original = PublishedFiles(pretrained_model_name_or_path, kwargs).tokenizer
    if not original.is_fast or json.loads(original.backend_tokenizer.to_str())["model"]["type"] != "BPE":
        raise ValueError(f"{pretrained_model_name_or_path}: this is no BPE tokenizer with a tokenizer.json")
    backend = Tokenizer.from_str(original.backend_tokenizer.to_str())
    letters = {token for token in backend.get_vocab() if len(token) == 1 and token.isalpha()}
    folding = fold_letters(letters, case=case, uracil=uracil)
    steps = [*folding, *([backend.normalizer] if backend.normalizer is not None else [])]
    if steps:
        backend.normalizer = NormalizerSequence(steps)
    return wrap_bpe(backend, model_max_length)


def recognizes_published(files: PublishedFiles) -> bool:
    """Whether a tokenizer is a BPE of bases with GENA-LM's special tokens: a published one, or one trained here."""
    tokenizer = files.tokenizer
    if not tokenizer.is_fast or [*map(tokenizer.convert_tokens_to_ids, _NAMES.values())] != [0, 1, 2, 3, 4]:
        return False
    letters = {token for token in tokenizer.get_vocab() if len(token) == 1 and token.isalnum()}
    if not set("ACGT") <= letters <= set("ABCDGHKMNRSTUVWY"):
        return False
    return json.loads(tokenizer.backend_tokenizer.to_str())["model"]["type"] == "BPE"


def load_published(files: PublishedFiles) -> BpeTokenizer:
    """Load it mended; one that was mended before it was saved, in the ways that were chosen then."""
    if files.tokenizer_config.get("tokenizer_class") == BpeTokenizer.__name__:
        return BpeTokenizer.from_pretrained(files.path, **files.hub)
    return load_bpe_tokenizer(files.path, model_max_length=files.tokenizer.model_max_length, **files.hub)


def fold_letters(letters: set[str], *, case: Case, uracil: Uracil) -> list[Replace]:
    """Return the normalizers that read lower case and uracil as letters of the vocabulary, one character for one."""
    check_choice("case", case, Case)
    check_choice("uracil", uracil, Uracil)
    read_as = {URACIL: "T"} if uracil == "thymine" and URACIL not in letters else {}
    if case == "fold":
        lower = {letter.lower(): letter for letter in letters} | {name.lower(): base for name, base in read_as.items()}
        read_as |= {name: base for name, base in lower.items() if name not in letters}
    groups: dict[str, list[str]] = {}
    for letter, base in read_as.items():
        groups.setdefault(base, []).append(letter)
    return [Replace(Regex(f"[{''.join(sorted(group))}]"), base) for base, group in sorted(groups.items())]


def fuse_tokens(backend: Tokenizer) -> None:
    """Let `decode` write tokens one after the other, in place; without a decoder it puts a blank between them, which is
    no DNA: what a model generates could not be read again."""
    if backend.decoder is None:
        backend.decoder = Fuse()


def wrap_bpe(backend: Tokenizer, model_max_length: int) -> BpeTokenizer:
    """Make a tokenizer for transformers of one with GENA-LM's special tokens.

    Raises:
        `ValueError`: a special token is missing, or `model_max_length` is below 1.
    """
    if model_max_length < 1:
        raise ValueError(f"model_max_length={model_max_length}: give the model's length in tokens, 1 or more")
    if lacking := [name for name in _NAMES.values() if backend.token_to_id(name) is None]:
        raise ValueError(f"the tokenizer has no {lacking[0]}: GENA-LM's have {', '.join(_NAMES.values())}")
    fuse_tokens(backend)
    return BpeTokenizer(
        tokenizer_object=backend,
        **{f"{kind}_token": name for kind, name in _NAMES.items()},
        model_max_length=model_max_length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def _list_ends(parts: list[Encoding], which: int) -> set[int]:
    """Where the tokens of the first (0) or second (1) text end, in bp, and 0, where the text begins."""
    pairs = (pair for part in parts for pair in zip(part.sequence_ids, part.offsets))
    return {0, *(end for sequence, (_, end) in pairs if sequence == which)}


def _widen_gaps(offsets: list[tuple[int, int]], encoding: Encoding, gap: int, ends: list[list[int]]) -> None:
    """Let each gap begin where the token before it ends, in this part or another: the library gives it its last N."""
    for place, (index, which) in enumerate(zip(encoding.ids, encoding.sequence_ids)):
        if index == gap and which is not None:
            start, end = offsets[place]
            offsets[place] = (ends[which][bisect_right(ends[which], start) - 1], end)


__all__ = [
    "GAP",
    "BpeTokenizer",
    "fold_letters",
    "fuse_tokens",
    "load_bpe_tokenizer",
    "load_published",
    "recognizes_published",
    "wrap_bpe",
]
