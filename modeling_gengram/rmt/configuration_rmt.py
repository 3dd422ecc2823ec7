"""Configuration of the recurrent memory: which encoder, how long a segment, how many memory tokens."""

from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

_WITHOUT_SEGMENTS = ("ntv3", "ntv3_posttrained", "segment_nt")
# Encoders of transformers whose positions are always learned; the others say so in `position_embedding_type`.
_LEARNED = ("bert", "big_bird", "electra", "roberta", "xlm-roberta")
_FROM_PADDING = ("esm", "roberta", "xlm-roberta")  # positions begin behind that of padding

# What describes a checkpoint or a model as a whole, and never an architecture.
_OWN = ("auto_map", "custom_pipelines", "quantization_config")


@strict
class RmtConfig(PreTrainedConfig):
    r"""
    An encoder that reads long sequences segment by segment and hands memory tokens from each to the next
    (Bulatov et al. 2022, Recurrent Memory Transformer; GENA-LM uses it for inputs of up to 36 kb).

    A segment is `[CLS] memory [SEP] content [SEP]`, as far as the encoder has such tokens.

    Args:
        backbone_config (`dict` or `PreTrainedConfig`):
            Configuration of the encoder.
        num_memory_tokens (`int`, *optional*, defaults to 10):
            Memory tokens M; 0: segments know nothing of each other.
        segment_length (`int`, *optional*):
            Tokens of a whole segment S, with its special and memory tokens. Defaults to the longest input that the
            encoder has positions for.
        max_segments (`int`, *optional*):
            Longer inputs are cut at their end. Defaults to no limit.
        segment_alignment (`"right"`, `"left"` or `"balanced"`, *optional*, defaults to `"right"`):
            Which segment is not full: the first, the last, or all about equally.
        bptt_depth (`int`, *optional*):
            Gradients flow back through so many segments. Defaults to all. Where they are cut, the memory tokens are
            trained as if they had been handed over there.
        segment_losses (`"last"` or `"all"`, *optional*, defaults to `"last"`):
            Loss of a sequence classification: of the last segment, or the mean over a sequence's segments.
        recompute_segments (`bool`, *optional*, defaults to `True`):
            In training keep only the memory of each segment and compute the segment once more in the backward pass:
            the same gradients, and activations of one segment instead of all.
        cls_token_id, sep_token_id, pad_token_id (`int`, *optional*):
            Tokens of a segment; they are dropped from the input. Default to the encoder's; -1: the encoder has none.
        compat (`"gena"` or `"rmt"`, *optional*):
            Do as the original code does, to compare with it: GENA_LM's or recurrent-memory-transformer's. Losses are
            means over steps, whatever their size; cut gradients do not train the memory tokens; and `"gena"` pads the
            sequences of a classification with token 0 and attends to it.

    Raises:
        ValueError: segments without content, or longer than an encoder with learned positions can hold; an encoder
            with a U-Net (NTv3, SegmentNT); no padding token.
    """

    model_type = "rmt"
    sub_configs = {"backbone_config": AutoConfig}
    keys_to_ignore_at_inference = ["memory"]
    # The encoder brings its own plan of what is gathered when weights are sharded; transformers' default names Llama's.
    base_model_fsdp_plan: ClassVar[dict[str, str]] = {}
    # Auto class -> "file.Class", as the auto_map of a checkpoint has it; registration reads it here.
    _auto_class = "AutoConfig"
    auto_classes: ClassVar[dict[str, str]] = {
        "AutoConfig": "configuration_rmt.RmtConfig",
        "AutoModel": "modeling_rmt.RmtModel",
        "AutoModelForPreTraining": "modeling_rmt.RmtForMaskedLM",
        "AutoModelForMaskedLM": "modeling_rmt.RmtForMaskedLM",
        "AutoModelForSequenceClassification": "modeling_rmt.RmtForSequenceClassification",
        "AutoModelForTokenClassification": "modeling_rmt.RmtForTokenClassification",
    }

    backbone_config: dict[str, Any] | PreTrainedConfig | None = None
    num_memory_tokens: int = 10
    segment_length: int | None = None
    max_segments: int | None = None
    segment_alignment: Literal["right", "left", "balanced"] = "right"
    bptt_depth: int | None = None
    segment_losses: Literal["last", "all"] = "last"
    recompute_segments: bool = True
    cls_token_id: int | None = None
    sep_token_id: int | None = None
    pad_token_id: int | None = None
    compat: Literal["gena", "rmt"] | None = None

    def __post_init__(self, **kwargs):
        if self.backbone_config is None:
            self.backbone_config = AutoConfig.for_model("bert")
        elif isinstance(self.backbone_config, dict):
            model_type = self.backbone_config.get("model_type")
            if model_type not in CONFIG_MAPPING:
                raise ValueError(f"backbone_config: model_type={model_type!r} is not known to transformers")
            self.backbone_config = CONFIG_MAPPING[model_type].from_dict(dict(self.backbone_config))
        text = self.backbone_config.get_text_config()
        if text.model_type in _WITHOUT_SEGMENTS:
            raise ValueError(
                f"backbone_config: {text.model_type} cannot be read in segments: its U-Net needs whole blocks; "
                "give an encoder of one vector a token, e.g. a nucleotide_transformer"
            )
        for name, others in (("cls", ("cls", "bos")), ("sep", ("sep", "eos")), ("pad", ("pad",))):
            if getattr(self, f"{name}_token_id") is None:
                known = [getattr(text, f"{other}_token_id", None) for other in others]
                setattr(self, f"{name}_token_id", next((token for token in known if token is not None), -1))
        if self.segment_length is None:
            self.segment_length = _count_positions(text) or getattr(text, "max_tokens", text.max_position_embeddings)
        kwargs.setdefault("attn_implementation", self.backbone_config._attn_implementation)
        super().__post_init__(**kwargs)
        if self.label2id is None and self.id2label is not None:
            self.label2id = {label: index for index, label in self.id2label.items()}

    def validate_segments(self):
        """Refuse segments without content, and those that the encoder cannot hold."""
        if self.backbone_config.model_type == self.model_type:
            raise ValueError("backbone_config is of a recurrent memory itself: give the encoder's")
        if self.num_memory_tokens < 0:
            raise ValueError(f"num_memory_tokens={self.num_memory_tokens}: give 0 or more")
        if self.content_length < 1:
            raise ValueError(
                f"segment_length={self.segment_length} leaves no room for content beside {self.num_memory_tokens} "
                f"memory tokens and {self.num_special_tokens} special tokens"
            )
        positions = _count_positions(self.backbone_config.get_text_config())
        if positions is not None and self.segment_length > positions:
            raise ValueError(
                f"segment_length={self.segment_length}: the encoder has learned positions for {positions} tokens, "
                "memory and special tokens included; give at most so many"
            )
        if self.bptt_depth is not None and self.bptt_depth < 0:
            raise ValueError(f"bptt_depth={self.bptt_depth}: give 0 or more segments, or leave it out for all")
        if self.max_segments is not None and self.max_segments < 1:
            raise ValueError(f"max_segments={self.max_segments}: give 1 or more")
        if self.pad_token_id < 0:
            raise ValueError("pad_token_id is missing: segments of unequal length are padded")

    @property
    def num_special_tokens(self) -> int:
        """[CLS], and [SEP] after the memory and after the content."""
        return int(self.cls_token_id >= 0) + 2 * int(self.sep_token_id >= 0)

    @property
    def content_length(self) -> int:
        """Tokens of the input in a full segment."""
        return self.segment_length - self.num_memory_tokens - self.num_special_tokens

    # What Trainer, PEFT and the pipelines read from a configuration is the encoder's.
    def get_text_config(self, decoder=None, encoder=None) -> PreTrainedConfig:
        return self.backbone_config.get_text_config(decoder=decoder, encoder=encoder)

    # What this configuration does not have itself is the encoder's: to read, to set and to save.
    def __getattr__(self, name: str) -> Any:
        backbone = self.__dict__.get("backbone_config")
        if not isinstance(backbone, PreTrainedConfig) or name.startswith("_") or name in _OWN:
            raise AttributeError(f"{type(self).__name__} has no {name}", name=name, obj=self)
        try:
            return getattr(backbone, name)
        except AttributeError:
            message = f"neither {type(self).__name__} nor its backbone_config ({type(backbone).__name__}) has {name}"
            raise AttributeError(message, name=name, obj=self) from None

    def __dir__(self) -> list[str]:
        """Its own names and the encoder's."""
        return sorted({*super().__dir__(), *dir(self.backbone_config)})

    def __setattr__(self, name: str, value: Any):
        if self._hands_on(name):
            setattr(self.backbone_config, name, value)
        else:
            super().__setattr__(name, value)

    def __delattr__(self, name: str):
        if self._hands_on(name):
            delattr(self.backbone_config, name)
        else:
            super().__delattr__(name)

    def _hands_on(self, name: str) -> bool:
        """Whether a name is the encoder's."""
        backbone = self.__dict__.get("backbone_config")
        if not isinstance(backbone, PreTrainedConfig) or name.startswith("_") or name in _OWN:
            return False
        if name in self.__dict__ or hasattr(type(self), name):
            return False
        return hasattr(backbone, name)

    # The encoder's configuration has done so itself.
    def convert_rope_params_to_dict(self, *args, **kwargs) -> dict[str, Any]:
        return kwargs

    def validate_rope(self):
        """Nothing is rotated but in the encoder."""

    def validate_architecture(self):
        """What the encoder can be is checked in its own configuration."""

    def validate_layer_type(self):
        """Likewise."""


def _count_positions(encoder: PreTrainedConfig) -> int | None:
    """Longest input in tokens where positions are learned, or None where they are computed for any length."""
    if getattr(encoder, "position_embedding_type", None) != "absolute" and encoder.model_type not in _LEARNED:
        return None
    positions = encoder.max_position_embeddings
    if encoder.model_type in _FROM_PADDING:
        return positions - encoder.pad_token_id - 1
    return getattr(encoder, "max_tokens", positions)


__all__ = ["RmtConfig"]
