"""The tokenizer of the Nucleotide Transformers: k-mers without overlap, single letters where no k-mer fits."""

import json
from itertools import product
from pathlib import Path
from typing import Any, Literal

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Sequence, Split, WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import EsmTokenizer, TokenizersBackend
from transformers.utils import cached_file

from gengram.genome.alphabet import ANY_BASE
from gengram.tokenization.policies import Ambiguous, Case, Uracil, check_choice, read_letters
from gengram.tokenization.published import PublishedFiles

Layout = Literal["v1", "v2"]

DIGITS = "ATCG"
"""The bases in the order of the vocabulary: `AAAAAA`, `AAAAAT`, `AAAAAC`, ... (not alphabetical)."""

# v1 lists `<eos>` and `<bos>` behind the letters, where its embedding has no rows: they are left out.
_SPECIAL: dict[Layout, tuple[str, ...]] = {
    "v1": ("<unk>", "<pad>", "<mask>", "<cls>"),
    "v2": ("<unk>", "<pad>", "<mask>", "<cls>", "<eos>", "<bos>"),
}
_MAX_TOKENS: dict[Layout, int] = {"v1": 1000, "v2": 2048}
_LONGEST_K = 8


def list_kmer_vocabulary(k: int = 6, layout: Layout = "v2") -> list[str]:
    """Return the tokens in the order of their ids: special tokens, the 4**k k-mers, `A T C G N`.

    The id of a k-mer is `offset + sum(digit[i] * 4 ** (k - 1 - i))` over its letters, with A 0, T 1, C 2, G 3 and an
    offset of 4 (v1) or 6 (v2): `ATTCCG` is 367 or 369.

    Args:
        k: letters of a token, 2 to 8; published are 6 and 3.
        layout: `"v1"` (Nucleotide Transformer v1, AgroNT; 4105 tokens for k = 6) or `"v2"` (v2, SegmentNT, 4107 tokens;
            Codon-NT, k = 3, 75 tokens).

    Raises:
        `ValueError`: another layout, or a k outside 2 to 8.
    """
    check_choice("layout", layout, Layout)
    if not 2 <= k <= _LONGEST_K:
        raise ValueError(f"k={k}: give 2 to {_LONGEST_K}; 4**k tokens need as many embeddings")
    kmers = ("".join(letters) for letters in product(DIGITS, repeat=k))
    return [*_SPECIAL[layout], *kmers, *DIGITS, ANY_BASE]


def build_kmer_tokenizer(
    k: int = 6,
    layout: Layout = "v2",
    *,
    case: Case = "fold",
    uracil: Uracil = "thymine",
    ambiguous: Ambiguous = "n",
    model_max_length: int | None = None,
) -> TokenizersBackend:
    """Build the tokenizer of a Nucleotide Transformer.

    A sequence is read from the left: the next k letters are one token if there is no `N` among them, otherwise the
    letters up to the `N`, and the `N`, are a token each. So an `N` shifts the frame of all that follows, and fewer than
    k letters at the end are tokens of their own. `<cls>` goes in front; nothing goes behind. Each sequence of a pair
    gets its `<cls>`: the models know no separator.

    The result is a plain `TokenizersBackend`: its saved folder loads with `AutoTokenizer` where this package is not
    installed. The ids of `A C G T N` are the original tokenizer's. What no policy reads is one `<unk>` a run of such
    characters, and blanks and line ends are left out, as in the original; `case="unknown"`, `uracil="unknown"` and
    `ambiguous="unknown"` together give its ids on every text (but for `<eos>` and `<bos>` in v1, for whose ids the
    model has no embedding).

    Args:
        k: letters of a token.
        layout: order of the vocabulary, see `list_kmer_vocabulary`.
        case: `"fold"` reads lower case as upper case (soft-masking is lost); `"unknown"` gives `<unk>`.
        uracil: `"thymine"` reads `U` as `T`; `"unknown"` gives `<unk>`.
        ambiguous: `"n"` reads the IUPAC codes for two or three bases as `N`; `"unknown"` gives `<unk>`.
        model_max_length: length in tokens, `<cls>` included, to which `truncation=True` cuts and beyond which
            transformers warns. By default 1000 (v1) or 2048 (v2); AgroNT takes 1024.

    Raises:
        `ValueError`: a policy or layout that does not exist, a k outside 2 to 8, a `model_max_length` below 1.

    Example:
        >>> tokenizer = build_kmer_tokenizer()
        >>> tokenizer.tokenize("ACGTGTACNTGCACGG")
        ['ACGTGT', 'A', 'C', 'N', 'TGCACG', 'G']
    """
    vocabulary = {token: index for index, token in enumerate(list_kmer_vocabulary(k, layout))}
    letters = read_letters(case=case, uracil=uracil, ambiguous=ambiguous)
    length = _MAX_TOKENS[layout] if model_max_length is None else model_max_length
    if length < 1:
        raise ValueError(f"model_max_length={length}: give the model's length in tokens, 1 or more")

    backend = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    backend.normalizer = letters
    pieces = Regex(f"[{DIGITS}]{{{k}}}|[{DIGITS}{ANY_BASE}]|[^{DIGITS}{ANY_BASE}]+")
    backend.pre_tokenizer = Sequence([WhitespaceSplit(), Split(pieces, behavior="isolated")])
    backend.post_processor = TemplateProcessing(
        single="<cls>:0 $A:0",
        pair="<cls>:0 $A:0 <cls>:1 $B:1",
        special_tokens=[("<cls>", vocabulary["<cls>"])],
    )
    backend.decoder = Fuse()
    # Not normalized: the names are looked for in the text as it is, or folding would rewrite `<mask>` first.
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in _SPECIAL[layout]])
    return TokenizersBackend(
        tokenizer_object=backend,
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token="<mask>",
        cls_token="<cls>",
        extra_special_tokens=list(_SPECIAL[layout][4:]),
        model_max_length=length,
        model_input_names=["input_ids", "attention_mask"],
    )


def load_kmer_tokenizer(
    pretrained_model_name_or_path: str | Path,
    *,
    case: Case = "fold",
    uracil: Uracil = "thymine",
    ambiguous: Ambiguous = "n",
    **kwargs: Any,
) -> TokenizersBackend:
    """Make the tokenizer of a published Nucleotide Transformer from its `vocab.txt`.

    `AutoTokenizer` gives transformers' `EsmTokenizer` for these, which is slow, marks special tokens one place too far,
    refuses pairs, and reads lower case as unknown.

    Args:
        pretrained_model_name_or_path: Hub id or folder.
        case, uracil, ambiguous: as in `build_kmer_tokenizer`.
        kwargs: of `transformers.utils.cached_file` (`revision`, `token`, `cache_dir`, `local_files_only` ...).

    Raises:
        `OSError`: there is no `vocab.txt`.
        `ValueError`: the vocabulary is not that of a Nucleotide Transformer.
    """
    file = cached_file(pretrained_model_name_or_path, "vocab.txt", **kwargs)
    assert file is not None  # a missing file has raised
    vocabulary = Path(file).read_text().split()
    k = max((len(token) for token in vocabulary if set(token) <= set(DIGITS)), default=0)
    for layout, special in _SPECIAL.items():
        if 2 <= k <= _LONGEST_K and vocabulary[: len(special) + 1] == [*special, "A" * k]:
            ours = list_kmer_vocabulary(k, layout)
            if vocabulary[: len(ours)] == ours:
                break
    else:
        raise ValueError(
            f"{pretrained_model_name_or_path}: vocab.txt is not that of a Nucleotide Transformer (special tokens, then "
            f"all k-mers over {DIGITS} in this order, then the letters)"
        )
    settings = cached_file(
        pretrained_model_name_or_path,
        "tokenizer_config.json",
        **{"_raise_exceptions_for_missing_entries": False, **kwargs},
    )
    length = None if settings is None else json.loads(Path(settings).read_text()).get("model_max_length")
    return build_kmer_tokenizer(k, layout, case=case, uracil=uracil, ambiguous=ambiguous, model_max_length=length)


def recognizes_published(files: PublishedFiles) -> bool:
    """Whether transformers reads k-mers as ESM's vocabulary; that of proteins has single letters and no such run."""
    tokenizer = files.tokenizer
    return isinstance(tokenizer, EsmTokenizer) and bool({"AAA", "AAAAAA"} & tokenizer.get_vocab().keys())


def load_published(files: PublishedFiles) -> TokenizersBackend:
    """Make the tokenizer from its `vocab.txt`."""
    return load_kmer_tokenizer(files.path, **files.hub)


__all__ = [
    "DIGITS",
    "build_kmer_tokenizer",
    "list_kmer_vocabulary",
    "load_kmer_tokenizer",
    "load_published",
    "recognizes_published",
]
