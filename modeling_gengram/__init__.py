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
from .loading import auto
from .nucleotide_transformer.configuration_ntv3 import NTv3Config, NTv3PostTrainedConfig
from .nucleotide_transformer.configuration_nucleotide_transformer import NucleotideTransformerConfig
from .nucleotide_transformer.configuration_segment_nt import SegmentNTConfig
from .nucleotide_transformer.modeling_ntv3 import (
    NTv3ForMaskedLM,
    NTv3ForSequenceClassification,
    NTv3ForTokenClassification,
    NTv3Model,
)
from .nucleotide_transformer.modeling_ntv3_post_trained import NTv3PostTrainedModel
from .nucleotide_transformer.modeling_nucleotide_transformer import (
    NucleotideTransformerForMaskedLM,
    NucleotideTransformerForSequenceClassification,
    NucleotideTransformerForTokenClassification,
    NucleotideTransformerModel,
)
from .nucleotide_transformer.modeling_segment_nt import SegmentNTForTokenClassification, SegmentNTModel
from .registration import register
from .rmt.configuration_rmt import RmtConfig
from .rmt.modeling_rmt import RmtForMaskedLM, RmtForSequenceClassification, RmtForTokenClassification, RmtModel

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
    "NTv3Config",
    "NTv3ForMaskedLM",
    "NTv3ForSequenceClassification",
    "NTv3ForTokenClassification",
    "NTv3Model",
    "NTv3PostTrainedConfig",
    "NTv3PostTrainedModel",
    "NucleotideTransformerConfig",
    "NucleotideTransformerForMaskedLM",
    "NucleotideTransformerForSequenceClassification",
    "NucleotideTransformerForTokenClassification",
    "NucleotideTransformerModel",
    "RmtConfig",
    "RmtForMaskedLM",
    "RmtForSequenceClassification",
    "RmtForTokenClassification",
    "RmtModel",
    "SegmentNTConfig",
    "SegmentNTForTokenClassification",
    "SegmentNTModel",
    "__version__",
    "auto",
]
