"""gengram: genomic language models as ordinary citizens of Hugging Face Transformers."""

from ._version import __version__
from .gena.configuration_gena import GenaBertConfig
from .gena.modeling_gena import (
    GenaBertForBinnedRegression,
    GenaBertForMaskedLM,
    GenaBertForPreTraining,
    GenaBertForSequenceClassification,
    GenaBertForTokenClassification,
    GenaBertModel,
)
from .gengram.configuration_gengram import GengramConfig
from .gengram.modeling_gengram import (
    GengramForCausalLM,
    GengramForMaskedLM,
    GengramForSequenceClassification,
    GengramForTokenClassification,
    GengramModel,
)
from .gengram.motif_memory import MotifMemory
from .nucleotide_transformer.configuration_nucleotide_transformer import NucleotideTransformerConfig
from .nucleotide_transformer.modeling_nucleotide_transformer import (
    NucleotideTransformerForMaskedLM,
    NucleotideTransformerForSequenceClassification,
    NucleotideTransformerForTokenClassification,
    NucleotideTransformerModel,
)
from .registration import register

register()

__all__ = [
    "GenaBertConfig",
    "GenaBertForBinnedRegression",
    "GenaBertForMaskedLM",
    "GenaBertForPreTraining",
    "GenaBertForSequenceClassification",
    "GenaBertForTokenClassification",
    "GenaBertModel",
    "GengramConfig",
    "GengramForCausalLM",
    "GengramForMaskedLM",
    "GengramForSequenceClassification",
    "GengramForTokenClassification",
    "GengramModel",
    "MotifMemory",
    "NucleotideTransformerConfig",
    "NucleotideTransformerForMaskedLM",
    "NucleotideTransformerForSequenceClassification",
    "NucleotideTransformerForTokenClassification",
    "NucleotideTransformerModel",
    "__version__",
]
