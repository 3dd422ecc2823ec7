"""From DNA text to token ids and back to base coordinates.

Names load on first use: asking for a reverse complement imports no tokenizer library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gengram.tokenization.alphabet import IUPAC_BASES, reverse_complement
    from gengram.tokenization.bpe import BpeTokenizer, load_bpe_tokenizer
    from gengram.tokenization.coordinates import assign_bases, find_tokens, locate_tokens
    from gengram.tokenization.encode import EncodedSequences, KmerEncoder
    from gengram.tokenization.encode_bpe import BpeEncoder
    from gengram.tokenization.kmer import build_kmer_tokenizer, list_kmer_vocabulary, load_kmer_tokenizer
    from gengram.tokenization.ntv3 import NTV3_VOCABULARY, build_ntv3_tokenizer
    from gengram.tokenization.nucleotide import EMBEDDING_ROWS, NUCLEOTIDE_VOCABULARY, build_nucleotide_tokenizer

_DEFINED_IN = {
    "BpeTokenizer": "bpe",
    "load_bpe_tokenizer": "bpe",
    "BpeEncoder": "encode_bpe",
    "IUPAC_BASES": "alphabet",
    "reverse_complement": "alphabet",
    "assign_bases": "coordinates",
    "find_tokens": "coordinates",
    "locate_tokens": "coordinates",
    "EncodedSequences": "encode",
    "KmerEncoder": "encode",
    "build_kmer_tokenizer": "kmer",
    "list_kmer_vocabulary": "kmer",
    "load_kmer_tokenizer": "kmer",
    "NTV3_VOCABULARY": "ntv3",
    "build_ntv3_tokenizer": "ntv3",
    "EMBEDDING_ROWS": "nucleotide",
    "NUCLEOTIDE_VOCABULARY": "nucleotide",
    "build_nucleotide_tokenizer": "nucleotide",
}


def __getattr__(name: str) -> Any:
    if name not in _DEFINED_IN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_DEFINED_IN[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(globals().keys() | _DEFINED_IN.keys())


__all__ = [
    "EMBEDDING_ROWS",
    "IUPAC_BASES",
    "NTV3_VOCABULARY",
    "NUCLEOTIDE_VOCABULARY",
    "BpeEncoder",
    "BpeTokenizer",
    "EncodedSequences",
    "KmerEncoder",
    "assign_bases",
    "build_kmer_tokenizer",
    "build_ntv3_tokenizer",
    "build_nucleotide_tokenizer",
    "find_tokens",
    "list_kmer_vocabulary",
    "load_bpe_tokenizer",
    "load_kmer_tokenizer",
    "locate_tokens",
    "reverse_complement",
]
