"""The tokenizer of NTv3: one token a base, nothing around them, `N` where a batch must be filled up."""

from collections.abc import Mapping
from types import MappingProxyType

from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import BPE
from transformers import TokenizersBackend

from gengram.genome.alphabet import ANY_BASE
from gengram.tokenization.policies import Ambiguous, Case, Uracil, read_letters
from gengram.tokenization.published import PublishedFiles

_SPECIAL = ("<unk>", "<pad>", "<mask>", "<cls>", "<eos>", "<bos>")

NTV3_VOCABULARY: Mapping[str, int] = MappingProxyType(
    {token: index for index, token in enumerate((*_SPECIAL, *"ATCG", ANY_BASE))}
)
"""Token to id: six special tokens, then `A` 6, `T` 7, `C` 8, `G` 9, `N` 10."""


def build_ntv3_tokenizer(
    *,
    case: Case = "fold",
    uracil: Uracil = "thymine",
    ambiguous: Ambiguous = "n",
    model_max_length: int = 2**20,
) -> TokenizersBackend:
    """Build the tokenizer of an NTv3 model; token `i` is base `i`.

    Sequences are padded with `N`, which is this tokenizer's padding token: the models read padding like everything
    else and were never trained on `<pad>`. Their inputs are multiples of 128 bases (32 for the models of five
    halvings): `tokenizer(sequences, padding=True, pad_to_multiple_of=128)`. As the padding token, `N` is a special one:
    masking for pre-training leaves it out, and so does `decode(skip_special_tokens=True)`.

    The result is a plain `TokenizersBackend`: its saved folder loads with `AutoTokenizer` where this package is not
    installed. Whatever no policy reads (blanks, gaps, any other character) is one `<unk>` a character.

    Args:
        case: `"fold"` reads lower case as upper case, as the original does; `"unknown"` gives `<unk>`.
        uracil: `"thymine"` reads `U` as `T`; `"unknown"` gives `<unk>`.
        ambiguous: `"n"` reads the IUPAC codes for two or three bases as `N`; `"unknown"` gives `<unk>`.
        model_max_length: bases to which `truncation=True` cuts and beyond which transformers warns; the models read up
            to 1 Mb (2**20).

    Raises:
        `ValueError`: a policy that does not exist, or a `model_max_length` below 1.

    Example:
        >>> tokenizer = build_ntv3_tokenizer()
        >>> tokenizer("ATCGNa")["input_ids"]
        [6, 7, 8, 9, 10, 6]
    """
    letters = read_letters(case=case, uracil=uracil, ambiguous=ambiguous)
    if model_max_length < 1:
        raise ValueError(f"model_max_length={model_max_length}: give the model's length in bases, 1 or more")
    # BPE without merges is the fastest model that emits single characters; unfused, a run of <unk> keeps its length.
    backend = Tokenizer(BPE(vocab=dict(NTV3_VOCABULARY), merges=[], unk_token="<unk>", fuse_unk=False))
    backend.normalizer = letters
    backend.decoder = Fuse()
    # Not normalized: the names are looked for in the text as it is, or folding would rewrite `<mask>` first.
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in _SPECIAL])
    return TokenizersBackend(
        tokenizer_object=backend,
        unk_token="<unk>",
        pad_token=AddedToken(ANY_BASE, special=True, normalized=False),
        mask_token="<mask>",
        cls_token="<cls>",
        eos_token="<eos>",
        bos_token="<bos>",
        extra_special_tokens=["<pad>"],
        model_max_length=model_max_length,
        model_input_names=["input_ids", "attention_mask"],
    )


def recognizes_published(files: PublishedFiles) -> bool:
    """Whether an NTv3's tokenizer is as published, remote code, and not one that was built here and saved."""
    return "auto_map" in files.tokenizer_config or files.find("tokenizer.json") is None


def load_published(files: PublishedFiles) -> TokenizersBackend:
    """Build the tokenizer that stands for the published one."""
    return build_ntv3_tokenizer()


__all__ = ["NTV3_VOCABULARY", "build_ntv3_tokenizer", "load_published", "recognizes_published"]
