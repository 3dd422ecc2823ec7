"""Which encoder is fastest for a tokenizer? Its parts say so, wherever it was made."""

from transformers import PreTrainedTokenizerBase

from gengram.tokenization.encode import BulkEncoder, OtherKindError, TokenizerEncoder
from gengram.tokenization.encode_bases import BaseEncoder
from gengram.tokenization.encode_bpe import BpeEncoder
from gengram.tokenization.encode_kmers import KmerEncoder
from gengram.tokenization.encode_overlapping import OverlappingKmerEncoder
from gengram.tokenization.encode_whole_kmers import WholeKmerEncoder

_KINDS: tuple[type[BulkEncoder], ...] = (
    BaseEncoder,
    KmerEncoder,
    OverlappingKmerEncoder,
    WholeKmerEncoder,
    BpeEncoder,
)


def find_encoder(tokenizer: PreTrainedTokenizerBase) -> BulkEncoder:
    """Return what encodes many sequences as a tokenizer does, with equal ids, as fast as there is a way for its kind.

    Single bases, k-mers (without overlap, overlapping, and whole ones alone) and BPE have one of their own, wherever
    such a tokenizer was saved; every other tokenizer is called itself. Make it once and keep it: it reads the whole
    tokenizer, and does not see what is changed there later.

    Args:
        tokenizer: any of transformers.

    Example:
        >>> from gengram.tokenization import build_nucleotide_tokenizer
        >>> encode = find_encoder(build_nucleotide_tokenizer())
        >>> encode(["ACGT", "TT"], split_special_tokens=True).split()
        [array([8, 5, 6, 7], dtype=uint8), array([7, 7], dtype=uint8)]
    """
    for kind in _KINDS:
        try:
            return kind(tokenizer)
        except OtherKindError:
            continue
    return TokenizerEncoder(tokenizer)


__all__ = ["find_encoder"]
