"""gengram: genomic language models as ordinary citizens of Hugging Face Transformers.

Names load where they are first used. `Auto*`, `pipeline` and PEFT know the models from this import on.
"""

from typing import TYPE_CHECKING

from gengram._version import __version__
from gengram.lazy import attach
from gengram.registration import register

if TYPE_CHECKING:
    from gengram.benchmarks.data.load import load_task
    from gengram.gena.configuration_gena import GenaBertConfig
    from gengram.gena.modeling_gena import (
        GenaBertForBinnedRegression,
        GenaBertForMaskedLM,
        GenaBertForPreTraining,
        GenaBertForSequenceClassification,
        GenaBertForTokenClassification,
        GenaBertModel,
    )
    from gengram.gengram.configuration_gengram import GengramConfig
    from gengram.gengram.modeling_gengram import (
        GengramForCausalLM,
        GengramForMaskedLM,
        GengramForPreTraining,
        GengramForSequenceClassification,
        GengramForTokenClassification,
        GengramModel,
    )
    from gengram.gengram.motif_memory import MotifMemory
    from gengram.loading.models import auto
    from gengram.nucleotide_transformer.configuration_ntv3 import NTv3Config, NTv3PostTrainedConfig
    from gengram.nucleotide_transformer.configuration_nucleotide_transformer import NucleotideTransformerConfig
    from gengram.nucleotide_transformer.configuration_segment_nt import SegmentNTConfig
    from gengram.nucleotide_transformer.modeling_ntv3 import (
        NTv3ForMaskedLM,
        NTv3ForSequenceClassification,
        NTv3ForTokenClassification,
        NTv3Model,
    )
    from gengram.nucleotide_transformer.modeling_ntv3_post_trained import NTv3PostTrainedModel
    from gengram.nucleotide_transformer.modeling_nucleotide_transformer import (
        NucleotideTransformerForMaskedLM,
        NucleotideTransformerForSequenceClassification,
        NucleotideTransformerForTokenClassification,
        NucleotideTransformerModel,
    )
    from gengram.nucleotide_transformer.modeling_segment_nt import SegmentNTForTokenClassification, SegmentNTModel
    from gengram.rmt.configuration_rmt import RmtConfig
    from gengram.rmt.modeling_rmt import (
        RmtForMaskedLM,
        RmtForSequenceClassification,
        RmtForTokenClassification,
        RmtModel,
    )

_DEFINED_IN = {
    "GenaBertConfig": "gengram.gena.configuration_gena",
    "GenaBertForBinnedRegression": "gengram.gena.modeling_gena",
    "GenaBertForMaskedLM": "gengram.gena.modeling_gena",
    "GenaBertForPreTraining": "gengram.gena.modeling_gena",
    "GenaBertForSequenceClassification": "gengram.gena.modeling_gena",
    "GenaBertForTokenClassification": "gengram.gena.modeling_gena",
    "GenaBertModel": "gengram.gena.modeling_gena",
    "GengramConfig": "gengram.gengram.configuration_gengram",
    "GengramForCausalLM": "gengram.gengram.modeling_gengram",
    "GengramForMaskedLM": "gengram.gengram.modeling_gengram",
    "GengramForPreTraining": "gengram.gengram.modeling_gengram",
    "GengramForSequenceClassification": "gengram.gengram.modeling_gengram",
    "GengramForTokenClassification": "gengram.gengram.modeling_gengram",
    "GengramModel": "gengram.gengram.modeling_gengram",
    "MotifMemory": "gengram.gengram.motif_memory",
    "NTv3Config": "gengram.nucleotide_transformer.configuration_ntv3",
    "NTv3ForMaskedLM": "gengram.nucleotide_transformer.modeling_ntv3",
    "NTv3ForSequenceClassification": "gengram.nucleotide_transformer.modeling_ntv3",
    "NTv3ForTokenClassification": "gengram.nucleotide_transformer.modeling_ntv3",
    "NTv3Model": "gengram.nucleotide_transformer.modeling_ntv3",
    "NTv3PostTrainedConfig": "gengram.nucleotide_transformer.configuration_ntv3",
    "NTv3PostTrainedModel": "gengram.nucleotide_transformer.modeling_ntv3_post_trained",
    "NucleotideTransformerConfig": "gengram.nucleotide_transformer.configuration_nucleotide_transformer",
    "NucleotideTransformerForMaskedLM": "gengram.nucleotide_transformer.modeling_nucleotide_transformer",
    "NucleotideTransformerForSequenceClassification": "gengram.nucleotide_transformer.modeling_nucleotide_transformer",
    "NucleotideTransformerForTokenClassification": "gengram.nucleotide_transformer.modeling_nucleotide_transformer",
    "NucleotideTransformerModel": "gengram.nucleotide_transformer.modeling_nucleotide_transformer",
    "RmtConfig": "gengram.rmt.configuration_rmt",
    "RmtForMaskedLM": "gengram.rmt.modeling_rmt",
    "RmtForSequenceClassification": "gengram.rmt.modeling_rmt",
    "RmtForTokenClassification": "gengram.rmt.modeling_rmt",
    "RmtModel": "gengram.rmt.modeling_rmt",
    "SegmentNTConfig": "gengram.nucleotide_transformer.configuration_segment_nt",
    "SegmentNTForTokenClassification": "gengram.nucleotide_transformer.modeling_segment_nt",
    "SegmentNTModel": "gengram.nucleotide_transformer.modeling_segment_nt",
    "auto": "gengram.loading.models",
    "load_task": "gengram.benchmarks.data.load",
}
_ROOMS = ("benchmarks", "errors", "genome", "loading", "pipelines", "registration", "tokenization", "training")
__getattr__, __dir__ = attach(__name__, _DEFINED_IN, _ROOMS)

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
    "GengramForPreTraining",
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
    "load_task",
]
