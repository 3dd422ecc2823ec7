"""A tokenizer of single nucleotides with the ids of Gengram and Genos: one token a base, always."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from transformers import TokenizersBackend

from gengram.tokenization.policies import Ambiguous, Case, Uracil, check_choice, read_letters

Template = Literal["plain", "cls_sep"]
PaddingSide = Literal["left", "right"]

# Ids 0-9 are the pieces of the released one_hot.bpe.model; 10-15 are what Megatron's wrapper appends to them.
_SENTENCEPIECE = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "C", "G", "T", "A", "N")
_MEGATRON = ("<CLS>", "<SEP>", "<EOD>", "<MASK>", "<BOS>", "<EOS>")

NUCLEOTIDE_VOCABULARY: Mapping[str, int] = MappingProxyType(
    {token: index for index, token in enumerate(_SENTENCEPIECE + _MEGATRON)}
)
"""Token to id, 16 entries: `C` 5, `G` 6, `T` 7, `A` 8, `N` 9; every other id is a special token."""

EMBEDDING_ROWS = 128
"""Rows of the embedding that goes with this vocabulary: Megatron pads the 16 tokens to a multiple of 128."""


def build_nucleotide_tokenizer(
    *,
    case: Case = "fold",
    uracil: Uracil = "thymine",
    ambiguous: Ambiguous = "n",
    template: Template = "plain",
    padding_side: PaddingSide = "right",
    model_max_length: int = 8192,
) -> TokenizersBackend:
    """Build a tokenizer that gives every character of a sequence one token.

    The result is a plain `TokenizersBackend`: its saved folder loads with `AutoTokenizer` where this package is not
    installed. Each policy says what a letter outside `A C G T N` is read as; whatever no policy reads (blanks, line
    ends, digits, gaps, `X`, any other character) is one `[UNK]` a character, in runs too, so token `i` of a plain
    sequence is base `i` of the text. The only exception are the special tokens' names: `ACG[MASK]T` is five tokens.
    Call the tokenizer with `split_special_tokens=True` to read those names as characters as well.

    Args:
        case: `"fold"` reads `acgtn` as `ACGTN` (soft-masking is lost), and lower-case codes as the two policies below
            say; `"unknown"` gives `[UNK]` for every lower-case letter, as the released SentencePiece model does.
        uracil: `"thymine"` reads `U` as `T`; `"unknown"` gives `[UNK]`.
        ambiguous: `"n"` reads the IUPAC codes for two or three bases (`RYSWKMBDHV`) as `N`; `"unknown"` gives
            `[UNK]`. Models with a motif memory know k-mers with `N`, but none with `[UNK]`.
        template: `"plain"` adds no special token, as Gengram and Genos were trained (a pair is one sequence after the
            other, with nothing between); `"cls_sep"` writes `[CLS] a [SEP]` and `[CLS] a [SEP] b [SEP]`, for encoders.
        padding_side: `"right"`, or `"left"` for batched generation.
        model_max_length: length in tokens, special tokens included, to which `truncation=True` cuts and beyond which
            transformers warns. The default is the length of Gengram's pre-training fragments, 8,192 bp.

    Returns:
        `TokenizersBackend`: `len(tokenizer)` is 16, while the embedding has `EMBEDDING_ROWS` (128) rows: ids 16 to 127
        are untrained padding. Tokens that are added later take those ids, with no resize needed.

    Raises:
        `ValueError`: a policy that does not exist, or a `model_max_length` below 1.

    Example:
        >>> tokenizer = build_nucleotide_tokenizer()
        >>> tokenizer("ACGTNacgu")["input_ids"]
        [8, 5, 6, 7, 9, 8, 5, 6, 7]
    """
    letters = read_letters(case=case, uracil=uracil, ambiguous=ambiguous)
    check_choice("template", template, Template)
    check_choice("padding_side", padding_side, PaddingSide)
    if model_max_length < 1:
        raise ValueError(f"model_max_length={model_max_length}: give the model's length in tokens, 1 or more")

    # BPE without merges is the fastest model that emits single characters; unfused, a run of [UNK] keeps its length.
    backend = Tokenizer(BPE(vocab=dict(NUCLEOTIDE_VOCABULARY), merges=[], unk_token="[UNK]", fuse_unk=False))
    backend.normalizer = letters
    backend.post_processor = _write_template(template)
    backend.decoder = Fuse()
    # Not normalized: the names are looked for in the text as it is, or the policies would rewrite `[MASK]` first.
    special = [token for token in NUCLEOTIDE_VOCABULARY if len(token) > 1]
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])

    named = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
        "eos_token": "<EOD>",
    }
    return TokenizersBackend(
        tokenizer_object=backend,
        **named,
        extra_special_tokens=[token for token in special if token not in named.values()],
        padding_side=padding_side,
        model_max_length=model_max_length,
        model_input_names=["input_ids", "attention_mask"],
    )


def _write_template(template: Template) -> TemplateProcessing:
    if template == "plain":
        return TemplateProcessing(single="$A:0", pair="$A:0 $B:1", special_tokens=[])
    return TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(token, NUCLEOTIDE_VOCABULARY[token]) for token in ("[CLS]", "[SEP]")],
    )


__all__ = ["EMBEDDING_ROWS", "NUCLEOTIDE_VOCABULARY", "build_nucleotide_tokenizer"]
