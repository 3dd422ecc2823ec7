"""Tokenizers of overlapping k-mers, as DNABERT and ProkBERT have them: every base, or every second, begins a token."""

from itertools import product
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Normalizer, Replace
from tokenizers.normalizers import Sequence as NormalizerSequence
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from transformers import TokenizersBackend
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from gengram.errors import InputError
from gengram.genome.alphabet import ANY_BASE, BASES
from gengram.progress import tell
from gengram.tokenization.policies import Ambiguous, Case, Uracil, read_letters
from gengram.tokenization.published import PublishedFiles, find_length

_NAMES = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
_LONGEST_K = 8
# Stands for the letters in front of a base until they are written there.
_OPEN = "."


class OverlappingKmerTokenizer(TokenizersBackend):
    """A tokenizer of overlapping k-mers whose offsets cover all bases of each token.

    Where this package is not installed, a saved one loads as a plain `TokenizersBackend` with the same ids, whose
    offsets are right at the end of each token only.
    """

    def _convert_encoding(self, encoding, *args, **kwargs):
        converted, encodings = super()._convert_encoding(encoding, *args, **kwargs)
        if "offset_mapping" in converted:
            k = measure_k(self.backend_tokenizer.get_vocab())
            # What has an id of its own in the text, `[MASK]`, is no k-mer.
            names = set(_NAMES.values()) - {self.unk_token}
            for offsets, each in zip(converted["offset_mapping"], encodings):
                # The library makes a new list of all tokens each time that it is asked.
                tokens = each.tokens
                for place, sequence in enumerate(each.sequence_ids):
                    if sequence is not None and tokens[place] not in names:
                        end = offsets[place][1]
                        offsets[place] = (max(end - k, 0), end)
        return converted, encodings


def build_overlapping_tokenizer(
    vocabulary: list[str],
    stride: int = 1,
    *,
    case: Case = "fold",
    uracil: Uracil = "thymine",
    ambiguous: Ambiguous = "n",
    model_max_length: int = VERY_LARGE_INTEGER,
) -> OverlappingKmerTokenizer:
    """
    Build a tokenizer that reads k-mers which overlap: `[CLS]`, the k-mers that begin at base 0, `stride`, 2 `stride`
    ... and fit into the sequence, `[SEP]`.

    The sequence is plain text, without blanks between the k-mers. A k-mer with a letter that is no base, `N` among
    them, is `[UNK]`; a sequence of fewer than k letters has no token of its own; with a stride above 1, up to
    `stride - 1` bases at the end are in no token. The result needs no code of this package where it is loaded: the
    overlapping is written with normalizers of the tokenizers library.

    Args:
        vocabulary: tokens in the order of their ids: the five special tokens and all k-mers over A, C, G, T (k = 1 to
            8; where k is 1 maybe N), see `list_overlapping_vocabulary`.
        stride: bases between the beginnings of two tokens: 1 in DNABERT, 1 or 2 (`shift`) in ProkBERT.
        case, uracil, ambiguous: as in `build_kmer_tokenizer`.
        model_max_length: in tokens, `[CLS]` and `[SEP]` included.

    Raises:
        `ValueError`: another vocabulary, a stride that is not 1 to k, a policy that does not exist.

    Example:
        >>> tokenizer = build_overlapping_tokenizer(list_overlapping_vocabulary(3))
        >>> tokenizer.tokenize("ACGTNACG")
        ['ACG', 'CGT', '[UNK]', '[UNK]', '[UNK]', 'ACG']
    """
    k = find_k(vocabulary)
    if k is None:
        raise ValueError(
            f"the vocabulary is not that of overlapping k-mers: {', '.join(_NAMES.values())} and all k-mers over "
            f"{', '.join(BASES)}, with k from 1 to {_LONGEST_K}"
        )
    if not 1 <= stride <= k:
        raise ValueError(f"stride={stride}: give 1 to {k}, or there would be bases in no token")
    ids = {token: index for index, token in enumerate(vocabulary)}
    backend = Tokenizer(WordLevel(ids, unk_token=_NAMES["unk"]))
    letters = read_letters(case=case, uracil=uracil, ambiguous=ambiguous)
    backend.normalizer = NormalizerSequence([*([letters] if letters else []), *write_kmers(k, stride)])
    backend.pre_tokenizer = split_windows(k)
    backend.post_processor = TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(name, ids[name]) for name in ("[CLS]", "[SEP]")],
    )
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in _NAMES.values()])
    return OverlappingKmerTokenizer(
        tokenizer_object=backend,
        **{f"{kind}_token": name for kind, name in _NAMES.items()},
        model_max_length=model_max_length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def list_overlapping_vocabulary(k: int = 6, digits: str = "ATCG") -> list[str]:
    """Return the tokens in the order of their ids: special tokens, then the 4**k k-mers.

    Args:
        k: letters of a token; published are 3 to 6 (DNABERT), 1 and 6 (ProkBERT).
        digits: the bases in the order of the vocabulary: `"ATCG"` is DNABERT's, `"ACGT"` ProkBERT's.
    """
    return [*_NAMES.values(), *("".join(letters) for letters in product(digits, repeat=k))]


def find_k(vocabulary: list[str]) -> int | None:
    """Return the length of the k-mers of a vocabulary of overlapping ones; None for any other vocabulary. One of single
    bases may have a token for N."""
    kmers = set(vocabulary) - set(_NAMES.values())
    k = max(map(len, kmers), default=0)
    names = len(_NAMES)
    if k == 1 and ANY_BASE in kmers:
        kmers, names = kmers - {ANY_BASE}, names + 1
    if not 1 <= k <= _LONGEST_K or len(vocabulary) != names + 4**k or len(kmers) != 4**k:
        return None
    return k if all(len(kmer) == k and set(kmer) <= set(BASES) for kmer in kmers) else None


def measure_k(vocabulary: dict[str, int]) -> int:
    """Return the length of the longest token of bases."""
    return max(len(token) for token in vocabulary if set(token) <= set(BASES))


def split_windows(k: int) -> Split:
    """Return the pre-tokenizer of what `write_kmers` writes."""
    return Split(Regex(f".{{{k}}}"), behavior="isolated")


def write_kmers(k: int, stride: int) -> list[Normalizer]:
    """Write a sequence of L bases as its k-mers, one after the other: room in front of each base, filled with the k - 1
    bases before it; then what has too few of them goes, and the k-mers between the strides."""
    steps: list[Normalizer] = [Replace(Regex(f"[^{BASES}]"), ANY_BASE)]
    if k > 1:
        steps.append(Replace(Regex(f"(?=[{BASES}{ANY_BASE}])"), _OPEN * (k - 1)))
        # Base i is at k i + k - 1 now, the room for the base d before it at k i + k - 1 - d: d (k - 1) behind that base
        # itself, and for no other room there is a base so far in front. Lower case keeps copies apart from bases.
        for d in range(1, k):
            for base in BASES:
                steps.append(Replace(Regex(rf"(?<={base}.{{{d * (k - 1) - 1}}})\{_OPEN}"), base.lower()))
        steps.append(Replace(Regex(f"^.{{1,{k * (k - 1)}}}"), ""))
        steps += [Replace(Regex(base.lower()), base) for base in BASES]
    if stride > 1:
        steps.append(Replace(Regex(rf".{{{k}}}\K.{{1,{k * (stride - 1)}}}"), ""))
    return steps


def recognizes_published(files: PublishedFiles) -> bool:
    """Whether `vocab.txt`, or a `tokenizer.json` that makes no token of DNA, has the five special tokens of BERT, all
    k-mers, and nothing else; or one saved here."""
    return files.tokenizer_config.get("tokenizer_class") == OverlappingKmerTokenizer.__name__ or bool(
        find_k(_find_vocabulary(files))
    )


def load_published(files: PublishedFiles) -> OverlappingKmerTokenizer:
    """Make the tokenizer of the vocabulary, with the stride that `tokenizer_config.json` or `config.json` gives as
    `shift`, or 1.

    Raises:
        `InputError`: a `shift` that is no number of bases from 1 to k.
    """
    settings = files.tokenizer_config
    if settings.get("tokenizer_class") == OverlappingKmerTokenizer.__name__:
        return OverlappingKmerTokenizer.from_pretrained(files.path, **files.hub)
    vocabulary = _find_vocabulary(files)
    k = find_k(vocabulary) or 0
    given: Any = next((each["shift"] for each in (settings, files.config) if each.get("shift") is not None), None)
    if given is None and files.config.get("model_type") in ("megatron-bert", "prokbert"):
        tell(
            f"{files.path}: no file says how far apart its k-mers begin ('shift'): every base begins one. "
            "ProkBERT-mini-long has a shift of 2; its newer files say so"
        )
    stride = 1 if given is None else given
    if type(stride) is not int or not 1 <= stride <= k:
        raise InputError(f"{files.path}: 'shift' is {stride!r}: its k-mers begin 1 to {k} bases apart")
    return build_overlapping_tokenizer(vocabulary, stride, model_max_length=find_length(files))


def _find_vocabulary(files: PublishedFiles) -> list[str]:
    return files.vocabulary or files.written_vocabulary


__all__ = [
    "OverlappingKmerTokenizer",
    "build_overlapping_tokenizer",
    "find_k",
    "list_overlapping_vocabulary",
    "load_published",
    "measure_k",
    "recognizes_published",
    "split_windows",
    "write_kmers",
]
