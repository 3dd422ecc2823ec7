"""The tokenizer of the Nucleotide Transformers: k-mers without overlap, single letters where no k-mer fits.

Others use it with their own k: Plant DNABERT, DNAGPT and DNAGemma 6, 5 ... and 1, which is one token a base.
"""

from itertools import product
from pathlib import Path
from typing import Any, Literal

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.normalizers import Normalizer
from tokenizers.pre_tokenizers import Sequence, Split, WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import EsmTokenizer, TokenizersBackend
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER
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
        k: letters of a token, 1 to 8; published are 6, 3 and 1.
        layout: `"v1"` (Nucleotide Transformer v1, AgroNT; 4105 tokens for k = 6) or `"v2"` (v2, SegmentNT, 4107 tokens;
            Codon-NT, k = 3, 75 tokens).

    Raises:
        `ValueError`: another layout, or a k outside 1 to 8.
    """
    check_choice("layout", layout, Layout)
    if not 1 <= k <= _LONGEST_K:
        raise ValueError(f"k={k}: give 1 to {_LONGEST_K}; 4**k tokens need as many embeddings")
    return [*_SPECIAL[layout], *(list_kmers(k) if k > 1 else ()), *DIGITS, ANY_BASE]


def list_kmers(k: int) -> list[str]:
    """Return the 4**k k-mers in the order of the vocabulary."""
    return ["".join(letters) for letters in product(DIGITS, repeat=k)]


def split_kmers(k: int) -> Sequence:
    """Return the pre-tokenizer: blanks left out, then k-mers, single letters, and runs of what is neither."""
    pieces = Regex(f"[{DIGITS}]{{{k}}}|[{DIGITS}{ANY_BASE}]|[^{DIGITS}{ANY_BASE}]+")
    return Sequence([WhitespaceSplit(), Split(pieces, behavior="isolated")])


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
        `ValueError`: a policy or layout that does not exist, a k outside 1 to 8, a `model_max_length` below 1.

    Example:
        >>> tokenizer = build_kmer_tokenizer()
        >>> tokenizer.tokenize("ACGTGTACNTGCACGG")
        ['ACGTGT', 'A', 'C', 'N', 'TGCACG', 'G']
    """
    vocabulary = list_kmer_vocabulary(k, layout)
    letters = read_letters(case=case, uracil=uracil, ambiguous=ambiguous)
    return _build(vocabulary, k, letters, _MAX_TOKENS[layout] if model_max_length is None else model_max_length)


def _build(vocabulary: list[str], k: int, letters: Normalizer | None, length: int, eos: str = "") -> TokenizersBackend:
    """Make the tokenizer of a vocabulary whose names begin with `<`; `eos`, one of them, goes behind a sequence."""
    if length < 1:
        raise ValueError(f"model_max_length={length}: give the model's length in tokens, 1 or more")
    ids = {token: index for index, token in enumerate(vocabulary)}
    backend = Tokenizer(WordLevel(ids, unk_token="<unk>"))
    backend.normalizer = letters
    backend.pre_tokenizer = split_kmers(k)
    first, second = (["<cls>", text, *([eos] if eos else [])] for text in ("$A", "$B"))
    backend.post_processor = TemplateProcessing(
        single=[f"{each}:0" for each in first],
        pair=[*(f"{each}:0" for each in first), *(f"{each}:1" for each in second)],
        special_tokens=[(name, ids[name]) for name in ("<cls>", *([eos] if eos else []))],
    )
    backend.decoder = Fuse()
    # Not normalized: the names are looked for in the text as it is, or folding would rewrite `<mask>` first.
    special = [token for token in vocabulary if token.startswith("<")]
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    named = {"unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>", "cls_token": "<cls>"}
    named |= {"eos_token": eos} if eos else {}
    return TokenizersBackend(
        tokenizer_object=backend,
        **named,
        extra_special_tokens=[token for token in special if token not in named.values()],
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
    """Make the tokenizer of a published Nucleotide Transformer from its `vocab.txt`, or of a model that has its rules.

    `AutoTokenizer` gives transformers' `EsmTokenizer` for these, which is slow, marks special tokens one place too far,
    refuses pairs, and reads lower case as unknown. An `eos_token` in the files goes behind each sequence.

    Args:
        pretrained_model_name_or_path: Hub id or folder.
        case, uracil, ambiguous: as in `build_kmer_tokenizer`.
        kwargs: of `transformers.utils.cached_file` (`revision`, `token`, `cache_dir`, `local_files_only` ...).

    Raises:
        `OSError`: there is no `vocab.txt`.
        `ValueError`: the vocabulary is not of this kind.
    """
    cached_file(pretrained_model_name_or_path, "vocab.txt", **kwargs)  # a missing file raises
    files = PublishedFiles(pretrained_model_name_or_path, kwargs)
    vocabulary = files.vocabulary
    k = find_k(vocabulary)
    if k is None:
        raise ValueError(
            f"{pretrained_model_name_or_path}: vocab.txt is not that of a Nucleotide Transformer (<unk>, <pad>, "
            f"<mask>, <cls>, maybe other names in <>, all k-mers over {DIGITS}, and the letters)"
        )
    letters = read_letters(case=case, uracil=uracil, ambiguous=ambiguous)
    length = files.tokenizer_config.get("model_max_length")
    eos = _find_eos(files)
    for layout in _SPECIAL:
        ours = list_kmer_vocabulary(k, layout)
        if not eos and vocabulary[: len(ours)] == ours:
            return _build(ours, k, letters, _MAX_TOKENS[layout] if length is None else length)
    if eos is None and "<eos>" in vocabulary:
        eos = "<eos>"  # As ESM has it where no file says anything.
    if eos and eos not in vocabulary:
        raise ValueError(f"{pretrained_model_name_or_path}: the eos_token {eos!r} is not in vocab.txt")
    return _build(vocabulary, k, letters, VERY_LARGE_INTEGER if length is None else length, eos or "")


def _find_eos(files: PublishedFiles) -> str | None:
    """What the files say goes behind a sequence: a token, nothing (empty), or not a word about it (None)."""
    for given in (files.tokenizer_config, files.read("special_tokens_map.json")):
        if "eos_token" in given:
            eos: Any = given["eos_token"]
            return str((eos.get("content") if isinstance(eos, dict) else eos) or "")
    return None


def find_k(vocabulary: list[str]) -> int | None:
    """Return the length of the k-mers of a vocabulary of this kind; None for any other vocabulary."""
    special = {token for token in vocabulary if token.startswith("<") and token.endswith(">")}
    bases = set(vocabulary) - special - {ANY_BASE}
    k = max(map(len, bases), default=0)
    if not 1 <= k <= _LONGEST_K or not {"<unk>", "<pad>", "<mask>", "<cls>"} <= special:
        return None
    expected = 4**k + (len(DIGITS) if k > 1 else 0)
    known = set(DIGITS) <= bases and all(len(each) in (1, k) and set(each) <= set(DIGITS) for each in bases)
    return k if known and len(bases) == expected else None


def recognizes_published(files: PublishedFiles) -> bool:
    """Whether `vocab.txt` has ESM's names and k-mers or bases, and no other file that counts; that of proteins has more
    letters."""
    if find_k(files.vocabulary) is None:
        return False
    return files.find("tokenizer.json") is None or isinstance(files.tokenizer, EsmTokenizer)


def load_published(files: PublishedFiles) -> TokenizersBackend:
    """Make the tokenizer from its `vocab.txt`."""
    return load_kmer_tokenizer(files.path, **files.hub)


__all__ = [
    "DIGITS",
    "build_kmer_tokenizer",
    "find_k",
    "list_kmer_vocabulary",
    "list_kmers",
    "load_kmer_tokenizer",
    "load_published",
    "recognizes_published",
    "split_kmers",
]
