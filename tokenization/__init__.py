"""From DNA text to token ids and back to base coordinates.

Names load on first use: asking for a reverse complement imports no tokenizer library.
"""

from typing import TYPE_CHECKING

from gengram.lazy import attach

if TYPE_CHECKING:
    from gengram.genome.alphabet import IUPAC_BASES, reverse_complement
    from gengram.tokenization.base_tokens import list_base_tokens
    from gengram.tokenization.bpe import BpeTokenizer, load_bpe_tokenizer
    from gengram.tokenization.choose_encoder import find_encoder
    from gengram.tokenization.coordinates import assign_bases, find_tokens, locate_tokens
    from gengram.tokenization.encode import BulkEncoder, EncodedSequences
    from gengram.tokenization.encode_bases import BaseEncoder
    from gengram.tokenization.encode_bpe import BpeEncoder
    from gengram.tokenization.encode_kmers import KmerEncoder
    from gengram.tokenization.kmer import build_kmer_tokenizer, list_kmer_vocabulary, load_kmer_tokenizer
    from gengram.tokenization.ntv3 import NTV3_VOCABULARY, build_ntv3_tokenizer
    from gengram.tokenization.nucleotide import EMBEDDING_ROWS, NUCLEOTIDE_VOCABULARY, build_nucleotide_tokenizer

_DEFINED_IN = {
    "list_base_tokens": "gengram.tokenization.base_tokens",
    "BpeTokenizer": "gengram.tokenization.bpe",
    "load_bpe_tokenizer": "gengram.tokenization.bpe",
    "BpeEncoder": "gengram.tokenization.encode_bpe",
    "IUPAC_BASES": "gengram.genome.alphabet",
    "reverse_complement": "gengram.genome.alphabet",
    "assign_bases": "gengram.tokenization.coordinates",
    "find_tokens": "gengram.tokenization.coordinates",
    "locate_tokens": "gengram.tokenization.coordinates",
    "EncodedSequences": "gengram.tokenization.encode",
    "BulkEncoder": "gengram.tokenization.encode",
    "BaseEncoder": "gengram.tokenization.encode_bases",
    "KmerEncoder": "gengram.tokenization.encode_kmers",
    "find_encoder": "gengram.tokenization.choose_encoder",
    "build_kmer_tokenizer": "gengram.tokenization.kmer",
    "list_kmer_vocabulary": "gengram.tokenization.kmer",
    "load_kmer_tokenizer": "gengram.tokenization.kmer",
    "NTV3_VOCABULARY": "gengram.tokenization.ntv3",
    "build_ntv3_tokenizer": "gengram.tokenization.ntv3",
    "EMBEDDING_ROWS": "gengram.tokenization.nucleotide",
    "NUCLEOTIDE_VOCABULARY": "gengram.tokenization.nucleotide",
    "build_nucleotide_tokenizer": "gengram.tokenization.nucleotide",
}
__getattr__, __dir__ = attach(__name__, _DEFINED_IN)

__all__ = [
    "EMBEDDING_ROWS",
    "IUPAC_BASES",
    "NTV3_VOCABULARY",
    "NUCLEOTIDE_VOCABULARY",
    "BaseEncoder",
    "BpeEncoder",
    "BpeTokenizer",
    "BulkEncoder",
    "EncodedSequences",
    "KmerEncoder",
    "assign_bases",
    "build_kmer_tokenizer",
    "build_ntv3_tokenizer",
    "build_nucleotide_tokenizer",
    "find_encoder",
    "find_tokens",
    "list_base_tokens",
    "list_kmer_vocabulary",
    "load_bpe_tokenizer",
    "load_kmer_tokenizer",
    "locate_tokens",
    "reverse_complement",
]
