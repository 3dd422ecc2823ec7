"""Configuration of GENA-LM's encoders: BERT with the norms before or after, absolute or rotary positions."""

from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import BertConfig

# What a published config.json says about itself and about code that no longer imports.
_FOREIGN_KEYS = ("auto_map", "architectures", "sparse_config_cls", "sparse_attention", "model_type", "_name_or_path")


@strict
class GenaBertConfig(BertConfig):
    r"""
    BERT's configuration, its defaults those of `gena-lm-bert-base-t2t`, and what GENA-LM varies.

    A published `config.json` (its `model_type` is `bert`) is read as it is; see `read_published`.

    Args:
        pre_layer_norm (`bool`, *optional*, defaults to `True`):
            Normalise the input of attention and feed-forward (and not the sums after them, as BERT does).
        last_layer_norm (`bool`, *optional*):
            Normalise once more after the last layer. Only with `pre_layer_norm`. The default is `False`; in a published
            file without this key it is the value of `pre_layer_norm`.
        position_embedding_type (`"absolute"` or `"rotary"`, *optional*, defaults to `"absolute"`):
            A learned vector for each position, or rotated queries and keys.
        rotary_base (`float`, *optional*, defaults to 10000):
            Base of the rotation's frequencies.
        rotary_dim (`int`, *optional*):
            The first so many channels of each head are rotated. Defaults to all of them.
        add_head_dense (`int`, *optional*, defaults to 0):
            Width of the hidden layer in the head of `GenaBertForBinnedRegression`; 0: none.

    The sparse checkpoints were trained with block-sparse attention whose random blocks were never stored. They are
    computed with full attention here (decisions.md says why).
    """

    model_type = "gena_bert"
    # Auto class -> "file.Class", as the auto_map of a checkpoint has it; registration reads it here.
    _auto_class = "AutoConfig"
    auto_classes: ClassVar[dict[str, str]] = {
        "AutoConfig": "configuration_gena.GenaBertConfig",
        "AutoModel": "modeling_gena.GenaBertModel",
        "AutoModelForPreTraining": "modeling_gena.GenaBertForPreTraining",
        "AutoModelForMaskedLM": "modeling_gena.GenaBertForMaskedLM",
        "AutoModelForSequenceClassification": "modeling_gena.GenaBertForSequenceClassification",
        "AutoModelForTokenClassification": "modeling_gena.GenaBertForTokenClassification",
    }
    # How tensor parallelism spreads the encoder.
    base_model_tp_plan: ClassVar[dict[str, str]] = {
        "embeddings.word_embeddings": "embedding_rowwise",
        "encoder.layer.*.attention.self.query": "colwise",
        "encoder.layer.*.attention.self.key": "colwise",
        "encoder.layer.*.attention.self.value": "colwise",
        "encoder.layer.*.attention.output.dense": "rowwise",
        "encoder.layer.*.intermediate.dense": "colwise",
        "encoder.layer.*.output.dense": "rowwise",
    }
    # What is gathered on its own when weights are sharded; the rest, and heads, once for the whole pass.
    base_model_fsdp_plan: ClassVar[dict[str, str]] = {"encoder.layer.*": "free_full_weight"}

    vocab_size: int = 32000
    max_position_embeddings: int = 512
    pad_token_id: int | None = 3
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    pre_layer_norm: bool = True
    last_layer_norm: bool = False
    position_embedding_type: Literal["absolute", "rotary"] = "absolute"
    rotary_base: float | int = 10000
    rotary_dim: int | None = None
    add_head_dense: int = 0

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        # Where embeddings are tied, transformers 5.17 adds a rule for theirs under Llama's name.
        vars(self).pop("base_model_tp_plan", None)

    def validate_variant(self):
        """Refuse what none of GENA-LM's encoders is."""
        if self.last_layer_norm and not self.pre_layer_norm:
            raise ValueError("last_layer_norm needs pre_layer_norm: after the last layer's sum there is a norm already")
        if self.is_decoder or self.add_cross_attention:
            raise ValueError("GENA-LM is an encoder: is_decoder and add_cross_attention must be false")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} is not a multiple of num_attention_heads={self.num_attention_heads}"
            )
        if self.position_embedding_type == "rotary":
            head = self.hidden_size // self.num_attention_heads
            dim = head if self.rotary_dim is None else self.rotary_dim
            if dim % 2 or not 0 < dim <= head:
                raise ValueError(f"rotary_dim={dim}: give an even number of the head's {head} channels")

    def describe_variant(self) -> str:
        """Return the variant in words, for messages."""
        norms = "pre-LN" if self.pre_layer_norm else "post-LN"
        last = " with a last LayerNorm" if self.last_layer_norm else ""
        return f"{norms}{last}, {self.position_embedding_type} positions"

    @classmethod
    def recognizes(cls, fields: dict[str, Any]) -> bool:
        """Whether a published `config.json` that says `bert` is GENA-LM's: it has keys or code that BERT has not."""
        code = (fields.get("auto_map") or {}).values()
        own = {"pre_layer_norm", "last_layer_norm", "rotary_dim", "sparse_config_cls"} & fields.keys()
        return fields.get("model_type") == "bert" and bool(
            own or any(str(name).startswith("modeling_bert.") for name in code)
        )

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path, **kwargs) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read a configuration file, a published one with its keys as this class names them."""
        fields, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        # A model around this encoder has it as a part, which transformers takes out.
        own = any(
            part.get("model_type") == cls.model_type for part in (fields, *fields.values()) if isinstance(part, dict)
        )
        return (fields if own else cls.read_published(fields)), kwargs

    @classmethod
    def read_published(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of this class for those of a published GENA-LM `config.json`.

        Raises:
            ValueError: a configuration of another architecture, or positions that this class does not have.
        """
        if fields.get("model_type", "bert") != "bert":
            raise ValueError(
                f"this configuration is of model_type={fields['model_type']!r}; GENA-LM's BERT encoders say 'bert'. "
                "Its BigBird and modernGENA models load with transformers' BigBird and ModernBert classes."
            )
        known = {name: value for name, value in fields.items() if name not in _FOREIGN_KEYS}
        # Which head the file has: a classifier is told from a language model by it.
        known["architectures"] = [
            f"Gena{name}" for name in fields.get("architectures") or [] if str(name).startswith("BertFor")
        ] or None
        known["pre_layer_norm"] = bool(fields.get("pre_layer_norm", False))
        known["last_layer_norm"] = bool(fields.get("last_layer_norm", known["pre_layer_norm"]))
        known.setdefault("position_embedding_type", "absolute")
        if known["position_embedding_type"] not in ("absolute", "rotary"):
            raise ValueError(
                f"position_embedding_type={known['position_embedding_type']!r}: only 'absolute' and 'rotary' were ever "
                "trained; the relative forms of the original code do not run"
            )
        return known


__all__ = ["GenaBertConfig"]
