"""One table of what gengram adds to transformers, and the loop that registers it (runs at `import gengram`)."""

from typing import Any

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from .adapter_targets import register_adapter_targets
from .gena.configuration_gena import GenaBertConfig
from .gena.modeling_gena import (
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
from .megatron_decoder.configuration_megatron_decoder import MegatronDecoderConfig
from .megatron_decoder.modeling_megatron_decoder import MegatronDecoderForCausalLM, MegatronDecoderModel
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
from .rmt.configuration_rmt import RmtConfig
from .rmt.modeling_rmt import RmtForMaskedLM, RmtForSequenceClassification, RmtForTokenClassification, RmtModel

# configuration -> Auto class -> model
MODELS: dict[Any, dict[Any, Any]] = {
    GengramConfig: {
        AutoModel: GengramModel,
        AutoModelForCausalLM: GengramForCausalLM,
        AutoModelForMaskedLM: GengramForMaskedLM,
        AutoModelForSequenceClassification: GengramForSequenceClassification,
        AutoModelForTokenClassification: GengramForTokenClassification,
    },
    GenaBertConfig: {
        AutoModel: GenaBertModel,
        AutoModelForPreTraining: GenaBertForPreTraining,
        AutoModelForMaskedLM: GenaBertForMaskedLM,
        AutoModelForSequenceClassification: GenaBertForSequenceClassification,
        AutoModelForTokenClassification: GenaBertForTokenClassification,
    },
    RmtConfig: {
        AutoModel: RmtModel,
        AutoModelForMaskedLM: RmtForMaskedLM,
        AutoModelForSequenceClassification: RmtForSequenceClassification,
        AutoModelForTokenClassification: RmtForTokenClassification,
    },
    MegatronDecoderConfig: {AutoModel: MegatronDecoderModel, AutoModelForCausalLM: MegatronDecoderForCausalLM},
    NucleotideTransformerConfig: {
        AutoModel: NucleotideTransformerModel,
        AutoModelForMaskedLM: NucleotideTransformerForMaskedLM,
        AutoModelForSequenceClassification: NucleotideTransformerForSequenceClassification,
        AutoModelForTokenClassification: NucleotideTransformerForTokenClassification,
    },
    SegmentNTConfig: {
        AutoModel: SegmentNTModel,
        AutoModelForTokenClassification: SegmentNTForTokenClassification,
    },
    NTv3Config: {
        AutoModel: NTv3Model,
        AutoModelForMaskedLM: NTv3ForMaskedLM,
        AutoModelForSequenceClassification: NTv3ForSequenceClassification,
        AutoModelForTokenClassification: NTv3ForTokenClassification,
    },
    NTv3PostTrainedConfig: {AutoModel: NTv3PostTrainedModel},
}


def register() -> None:
    """Make `Auto*` and PEFT know every family, and every checkpoint carry the code of its family for all heads."""
    for config_class, models in MODELS.items():
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
        config_class.register_for_auto_class()
        config_class.auto_classes = {"AutoConfig": _name(config_class)}
        for auto_class, model_class in models.items():
            auto_class.register(config_class, model_class, exist_ok=True)
            model_class.register_for_auto_class(auto_class.__name__)
            config_class.auto_classes[auto_class.__name__] = _name(model_class)
    register_adapter_targets([config_class.model_type for config_class in MODELS])


def _name(cls: type) -> str:
    """`file.Class`, as an auto_map has it: the file lies beside the checkpoint's config.json."""
    return f"{cls.__module__.rsplit('.', 1)[-1]}.{cls.__name__}"


__all__ = ["MODELS", "register"]
