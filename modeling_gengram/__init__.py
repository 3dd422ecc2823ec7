"""gengram: genomic language models as ordinary citizens of Hugging Face Transformers."""

from ._version import __version__
from .gengram.configuration_gengram import GengramConfig
from .gengram.modeling_gengram import (
    GengramForCausalLM,
    GengramForMaskedLM,
    GengramForSequenceClassification,
    GengramForTokenClassification,
    GengramModel,
)
from .gengram.motif_memory import MotifMemory
from .registration import register

register()

__all__ = [
    "GengramConfig",
    "GengramForCausalLM",
    "GengramForMaskedLM",
    "GengramForSequenceClassification",
    "GengramForTokenClassification",
    "GengramModel",
    "MotifMemory",
    "__version__",
]
