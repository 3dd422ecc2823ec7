"""Configuration of the Nucleotide Transformers, and how the published config.json files are read."""

from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

# Keys of the published files that say nothing about the model, or that this package says by other means.
_PUBLISHED_ONLY = (
    "add_bias_fnn",
    "auto_map",
    "emb_layer_norm_before",
    "esmfold_config",
    "is_folding_model",
    "model_type",
    "use_cache",
    "vocab_list",
)


@strict
class NucleotideTransformerConfig(PreTrainedConfig):
    r"""
    An encoder of k-mers. The defaults are those of v2-50m-multi-species.

    Args:
        vocab_size (`int`, *optional*, defaults to 4107):
            Rows of the embedding: 4105 in v1 and AgroNT, 4107 in v2, 75 in Codon-NT.
        kmer_size (`int`, *optional*, defaults to 6):
            Bases of a token: 3 in Codon-NT. The encoder does not depend on it; what reads single bases does.
        gated_mlp (`bool`, *optional*, defaults to `True`):
            `down(SiLU(gate) * up)`, with gate and up the halves of one projection (v2, Codon-NT); otherwise
            `down(GELU(up))` (v1, AgroNT).
        mlp_bias (`bool`, *optional*, defaults to `False`):
            Biases of both projections of the MLP; attention always has biases.
        position_embedding_type (`"rotary"` or `"absolute"`, *optional*, defaults to `"rotary"`):
            Rotation of queries and keys (v2, Codon-NT), or learned positions (v1, AgroNT).
        max_position_embeddings (`int`, *optional*, defaults to 2050):
            Longest input in tokens, `<cls>` included, plus 2: learned positions start behind the padding's. Rotary
            models run beyond it, but were not trained there.
        rope_theta (`float`, *optional*, defaults to 10000.0):
            Base of the rotation.
        rescaling_factor (`float`, *optional*):
            Stretches the rotation to inputs that are this much longer than those of pre-training: the base becomes
            `rope_theta * factor**(d / (d - 2))` for heads of width d.
        token_dropout (`bool`, *optional*, defaults to `False`):
            Embeddings of `<mask>` are zero, and all others are scaled by `(1 - 0.12) / (1 - share of masks)`, in
            evaluation too (v1): 0.12 is the share in pre-training.
        mask_token_id (`int`, *optional*, defaults to 2):
            Read by `token_dropout`.
        cls_token_id (`int`, *optional*, defaults to 3):
            `<cls>`, first in every input: a recurrent memory puts it before each segment.

    Raises:
        ValueError: heads that do not divide the width, a head of odd width to rotate, a `rescaling_factor` without
            rotation, a special token outside the vocabulary.

    Example:

    ```python
    >>> from gengram import NucleotideTransformerConfig, NucleotideTransformerForMaskedLM

    >>> config = NucleotideTransformerConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4)
    >>> model = NucleotideTransformerForMaskedLM(config)
    ```"""

    model_type = "nucleotide_transformer"
    # Auto class -> "file.Class", as the auto_map of a checkpoint has it; registration reads it here.
    _auto_class = "AutoConfig"
    auto_classes: ClassVar[dict[str, str]] = {
        "AutoConfig": "configuration_nucleotide_transformer.NucleotideTransformerConfig",
        "AutoModel": "modeling_nucleotide_transformer.NucleotideTransformerModel",
        "AutoModelForPreTraining": "modeling_nucleotide_transformer.NucleotideTransformerForMaskedLM",
        "AutoModelForMaskedLM": "modeling_nucleotide_transformer.NucleotideTransformerForMaskedLM",
        "AutoModelForSequenceClassification": (
            "modeling_nucleotide_transformer.NucleotideTransformerForSequenceClassification"
        ),
        "AutoModelForTokenClassification": (
            "modeling_nucleotide_transformer.NucleotideTransformerForTokenClassification"
        ),
    }
    # What is gathered on its own when weights are sharded; the rest, and heads, once for the whole pass.
    base_model_fsdp_plan: ClassVar[dict[str, str]] = {"encoder.layer.*": "free_full_weight"}
    # What transformers' ESM modules ask for and no Nucleotide Transformer has.
    is_decoder: ClassVar[bool] = False
    add_cross_attention: ClassVar[bool] = False
    emb_layer_norm_before: ClassVar[bool] = False

    vocab_size: int = 4107
    kmer_size: int = 6
    hidden_size: int = 512
    num_hidden_layers: int = 12
    num_attention_heads: int = 16
    intermediate_size: int = 2048
    gated_mlp: bool = True
    mlp_bias: bool = False
    position_embedding_type: Literal["absolute", "rotary"] = "rotary"
    max_position_embeddings: int = 2050
    rope_theta: float = 10000.0
    rescaling_factor: float | None = None
    token_dropout: bool = False
    layer_norm_eps: float = 1e-12
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    initializer_range: float = 0.02
    pad_token_id: int = 1
    mask_token_id: int = 2
    cls_token_id: int | None = 3
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        # Where embeddings are tied, transformers 5.17 adds a rule for theirs under Llama's name.
        vars(self).pop("base_model_tp_plan", None)

    @property
    def base_model_tp_plan(self) -> dict[str, str]:
        """How tensor parallelism spreads the encoder."""
        if (given := vars(self).get("base_model_tp_plan")) is not None:
            return given
        layer = "encoder.layer.*"
        plan = {"embeddings.word_embeddings": "embedding_rowwise"}
        plan |= {f"{layer}.attention.self.{name}": "colwise" for name in ("query", "key", "value")}
        plan[f"{layer}.attention.output.dense"] = "rowwise"
        if self.gated_mlp and self.mlp_bias:
            # Gate and up lie in one projection, whose bias transformers would cut otherwise than its weight.
            mlp = "colwise_gather_output", "rowwise_split_input"
        else:
            mlp = "packed_colwise" if self.gated_mlp else "colwise", "rowwise"
        return plan | {f"{layer}.intermediate.dense": mlp[0], f"{layer}.output.dense": mlp[1]}

    @base_model_tp_plan.setter
    def base_model_tp_plan(self, plan: dict[str, str]):
        vars(self)["base_model_tp_plan"] = plan

    def validate_architecture(self):
        """Checks across fields; runs when a configuration is made and when it is saved."""
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} is not a multiple of num_attention_heads={self.num_attention_heads}."
            )
        if self.position_embedding_type == "rotary" and self.head_dim % 2:
            raise ValueError(
                f"Heads of width {self.head_dim} (hidden_size={self.hidden_size} over {self.num_attention_heads} "
                "heads) cannot be rotated: the width must be even."
            )
        if self.rescaling_factor is not None and (self.position_embedding_type != "rotary" or self.head_dim < 4):
            raise ValueError(
                f"rescaling_factor={self.rescaling_factor} stretches rotary positions of heads of width 4 or more; "
                f"these are {self.position_embedding_type}, of width {self.head_dim}."
            )
        if self.kmer_size < 1:
            raise ValueError(f"kmer_size={self.kmer_size}: a token has at least 1 base.")
        for field in ("pad_token_id", "mask_token_id"):
            if not 0 <= getattr(self, field) < self.vocab_size:
                raise ValueError(f"{field}={getattr(self, field)}: outside the vocabulary of {self.vocab_size} tokens.")

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def max_tokens(self) -> int:
        """Longest input in tokens, `<cls>` included: positions are counted from `pad_token_id + 1`."""
        return self.max_position_embeddings - self.pad_token_id - 1

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path, **kwargs) -> tuple[dict[str, Any], dict[str, Any]]:
        fields, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        # A model around this encoder has it as a part, which transformers takes out.
        part = any(part.get("model_type") == cls.model_type for part in fields.values() if isinstance(part, dict))
        return (fields if part else cls.read_published(fields)), kwargs

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs) -> "NucleotideTransformerConfig":
        return super().from_dict(cls.read_published(config_dict), **kwargs)

    @classmethod
    def recognizes(cls, fields: dict[str, Any]) -> bool:
        """Whether a published config.json is one of these models, which it says by no name."""
        if "features" in fields or fields.get("position_embedding_type") not in ("absolute", "rotary"):
            return False
        if fields.get("model_type") not in (None, "", "esm"):
            return False
        # v2, as published, and as its authors' code saves it again: with model_type "esm".
        if "add_bias_fnn" in fields:
            return True
        v1 = fields.get("model_type") == "esm" and fields["position_embedding_type"] == "absolute"
        return v1 and fields.get("vocab_size") == 4105

    @classmethod
    def read_published(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """
        Translate a published config.json; one that this package wrote comes back as it is.

        Args:
            fields (`dict`): its content. v1 and AgroNT say `"model_type": "esm"`; v2 and Codon-NT say none (saved again
                by their authors' code: `esm`, too), and their gated MLP is told by `add_bias_fnn` alone.

        Raises:
            ValueError: another architecture, or an ESM with parts that no Nucleotide Transformer has.
        """
        model_type = fields.get("model_type")
        if not fields or model_type == cls.model_type:
            return fields
        if model_type not in (None, "", "esm"):
            raise ValueError(
                f"This is a {model_type!r} configuration, not one of a Nucleotide Transformer (model_type "
                f"{cls.model_type!r}, or as published: 'esm' or none)."
            )
        for name in ("emb_layer_norm_before", "is_folding_model", "is_decoder", "add_cross_attention"):
            if fields.get(name):
                raise ValueError(f"{name}={fields[name]}: no Nucleotide Transformer has this; is it another ESM model?")
        gated = "add_bias_fnn" in fields
        if not gated and fields.get("position_embedding_type") == "rotary":
            raise ValueError(
                "Rotary positions without add_bias_fnn: this looks like ESM-2, a protein model. Load it with AutoModel."
            )
        # Besides 4**k k-mers there are five letters and four (v1) or six special tokens.
        k = next((k for k in range(1, 9) if fields.get("vocab_size", 0) - 4**k in (9, 11)), 6)
        kept = {name: value for name, value in fields.items() if name not in _PUBLISHED_ONLY}
        return {
            "kmer_size": k,
            **kept,
            "model_type": cls.model_type,
            "gated_mlp": gated,
            "mlp_bias": fields.get("add_bias_fnn", True),
            # transformers' ESM has learned positions where the file says nothing.
            "position_embedding_type": fields.get("position_embedding_type", "absolute"),
            "tie_word_embeddings": fields.get("tie_word_embeddings", False),
        }


__all__ = ["NucleotideTransformerConfig"]
