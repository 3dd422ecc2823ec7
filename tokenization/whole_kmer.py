"""The tokenizer of GENERator: k-mers without overlap and nothing shorter; what is no k-mer of bases is unknown."""

from typing import Literal

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.normalizers import Normalizer, Replace
from tokenizers.normalizers import Sequence as NormalizerSequence
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from transformers import TokenizersBackend
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from gengram.errors import InputError
from gengram.genome.alphabet import BASES
from gengram.progress import tell
from gengram.tokenization.policies import Ambiguous, Case, Uracil, check_choice, read_letters
from gengram.tokenization.published import PublishedFiles, find_length

Remainder = Literal["drop_left", "unknown"]

_NAMES = {"unk": "<oov>", "bos": "<s>", "eos": "</s>", "pad": "<pad>", "mask": "<mask>"}
_LONGEST_K = 8


def build_whole_kmer_tokenizer(
    vocabulary: list[str],
    *,
    add_bos: bool = True,
    add_eos: bool = False,
    remainder: Remainder = "drop_left",
    case: Case = "fold",
    uracil: Uracil = "thymine",
    ambiguous: Ambiguous = "n",
    model_max_length: int = VERY_LARGE_INTEGER,
) -> TokenizersBackend:
    """
    Build a tokenizer that reads k letters at a time from the left; k letters of which one is no base are `<oov>`.

    A length that is no multiple of k leaves letters over. The authors' model cards leave them out at the beginning,
    since an `<oov>` at the end spoils what a causal model says there; their code reads them as `<oov>`.

    Args:
        vocabulary: tokens in the order of their ids: names in `<>`, with `<oov>`, `<s>`, `</s>`, `<pad>` and `<mask>`
            among them, and all k-mers over A, C, G, T (k = 2 to 8).
        add_bos, add_eos: put `<s>` in front, `</s>` behind.
        remainder: `"drop_left"` leaves the first letters out, unless there are fewer than k in all, which are `<oov>`;
            `"unknown"` reads the last ones as `<oov>`.
        case, uracil, ambiguous: as in `build_kmer_tokenizer`.
        model_max_length: in tokens, `<s>` and `</s>` included.

    Raises:
        `ValueError`: another vocabulary, a policy that does not exist.

    Example:
        >>> from itertools import product
        >>> tokens = ["<oov>", "<s>", "</s>", "<pad>", "<mask>", *("".join(each) for each in product("ATCG", repeat=3))]
        >>> build_whole_kmer_tokenizer(tokens).tokenize("TTACGTNAACG")
        ['ACG', '<oov>', 'ACG']
    """
    k = find_k(vocabulary)
    if k is None:
        raise ValueError(
            f"the vocabulary is not that of GENERator: names in <>, {', '.join(_NAMES.values())} among them, and all "
            f"k-mers over {', '.join(BASES)}, with k from 2 to {_LONGEST_K}"
        )
    check_choice("remainder", remainder, Remainder)
    ids = {token: index for index, token in enumerate(vocabulary)}
    backend = Tokenizer(WordLevel(ids, unk_token=_NAMES["unk"]))
    letters = read_letters(case=case, uracil=uracil, ambiguous=ambiguous)
    steps: list[Normalizer] = [] if letters is None else [letters]
    backend.normalizer = NormalizerSequence([*steps, *([drop_left(k)] if remainder == "drop_left" else [])])
    backend.pre_tokenizer = split_whole(k)
    front, behind = ([_NAMES["bos"]] if add_bos else []), ([_NAMES["eos"]] if add_eos else [])
    first, second = [*front, "$A", *behind], ["$B", *behind]
    backend.post_processor = TemplateProcessing(
        single=[f"{each}:0" for each in first],
        pair=[*(f"{each}:0" for each in first), *(f"{each}:1" for each in second)],
        special_tokens=[(name, ids[name]) for name in (*front, *behind)],
    )
    backend.decoder = Fuse()
    special = [token for token in vocabulary if token.startswith("<")]
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    return TokenizersBackend(
        tokenizer_object=backend,
        **{f"{kind}_token": name for kind, name in _NAMES.items()},
        extra_special_tokens=[name for name in special if name not in _NAMES.values()],
        model_max_length=model_max_length,
        model_input_names=["input_ids", "attention_mask"],
    )


def drop_left(k: int) -> Replace:
    """Return the normalizer that leaves out the first letters of a text that is no multiple of k long."""
    return Replace(Regex(f"^[A-Z]{{1,{k - 1}}}(?=(?:[A-Z]{{{k}}})+$)"), "")


def split_whole(k: int) -> Split:
    """Return the pre-tokenizer: k letters, those left over, and every other character."""
    return Split(Regex(f"[A-Z]{{{k}}}|[A-Z]+|[^A-Z]"), behavior="isolated")


def find_k(vocabulary: list[str]) -> int | None:
    """Return the length of the k-mers of a vocabulary like GENERator's; None for any other vocabulary."""
    special = {token for token in vocabulary if token.startswith("<") and token.endswith(">")}
    kmers = [token for token in vocabulary if token not in special]
    k = len(kmers[0]) if kmers else 0
    if not 2 <= k <= _LONGEST_K or not set(_NAMES.values()) <= special or len(kmers) != 4**k:
        return None
    return k if len(set(kmers)) == 4**k and all(len(kmer) == k and set(kmer) <= set(BASES) for kmer in kmers) else None


def recognizes_published(files: PublishedFiles) -> bool:
    """Whether `vocab.txt` has GENERator's names and all k-mers, and nothing else."""
    return find_k(files.vocabulary) is not None


def load_published(files: PublishedFiles) -> TokenizersBackend:
    """Make the tokenizer of `vocab.txt`; `tokenizer_config.json` says what is put around a sequence (by default both,
    as the first published code did).

    Raises:
        `InputError`: what it says of them is neither true nor false.
    """
    added = {}
    for name in ("add_bos_token", "add_eos_token"):
        given = files.tokenizer_config.get(name)
        if given is not None and not isinstance(given, bool):
            raise InputError(f"{files.path}: {name} in tokenizer_config.json is {given!r}: write true or false")
        added[name] = given is not False
    k = find_k(files.vocabulary)
    tell(
        f"{files.path}: its tokens are {k} bases each, read from the right end: of a sequence whose length is no "
        f"multiple of {k}, the first bases are left out, as the authors do"
    )
    return build_whole_kmer_tokenizer(
        files.vocabulary,
        add_bos=added["add_bos_token"],
        add_eos=added["add_eos_token"],
        model_max_length=find_length(files),
    )


__all__ = [
    "Remainder",
    "build_whole_kmer_tokenizer",
    "drop_left",
    "find_k",
    "load_published",
    "recognizes_published",
    "split_whole",
]
