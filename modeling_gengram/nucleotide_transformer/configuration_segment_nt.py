"""Configuration of SegmentNT: a Nucleotide Transformer v2 and a U-Net that labels every base."""

from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict

from .configuration_nucleotide_transformer import NucleotideTransformerConfig

FEATURES = (
    "protein_coding_gene",
    "lncRNA",
    "exon",
    "intron",
    "splice_donor",
    "splice_acceptor",
    "5UTR",
    "3UTR",
    "CTCF-bound",
    "polyA_signal",
    "enhancer_Tissue_specific",
    "enhancer_Tissue_invariant",
    "promoter_Tissue_specific",
    "promoter_Tissue_invariant",
)
"""What the published models find, in the order of their output."""

TRAINED_TOKENS = 5001
"""Longest input of the published models' training: `<cls>` and 5000 6-mers, 30 kb."""


@strict
class SegmentNTConfig(NucleotideTransformerConfig):
    r"""
    Features of single bases. The defaults are those of the published models.

    Args:
        features (`list[str]`, *optional*):
            Names of the features, each present or absent at each base; kept as `id2label`. Defaults to the 14 of the
            published models.
        num_layers_head (`int`, *optional*, defaults to 2):
            Times that the U-Net halves the length: inputs are multiples of `2**num_layers_head` k-mers.
        kmer_size (`int`, *optional*, defaults to 6):
            Bases of a token; each token gives as many positions of output.
        rescaling_factor (`float`, *optional*, defaults to 2.44140625):
            See `NucleotideTransformerConfig` and `measure_rescaling`. It belongs to the weights: short inputs need it
            as well.
        focal_gamma (`float`, *optional*, defaults to 2.0):
            Exponent of the focal loss (arXiv:1708.02002), which weighs down what is easy; 0 is cross-entropy.
        others: see `NucleotideTransformerConfig`.

    Raises:
        ValueError: no feature, or a U-Net without a level.
    """

    model_type = "segment_nt"
    # Auto class -> "file.Class", as the auto_map of a checkpoint has it; registration reads it here.
    _auto_class = "AutoConfig"
    auto_classes: ClassVar[dict[str, str]] = {
        "AutoConfig": "configuration_segment_nt.SegmentNTConfig",
        "AutoModel": "modeling_segment_nt.SegmentNTModel",
        "AutoModelForTokenClassification": "modeling_segment_nt.SegmentNTForTokenClassification",
    }

    hidden_size: int = 1024
    num_hidden_layers: int = 29
    intermediate_size: int = 4096
    num_layers_head: int = 2
    rescaling_factor: float | None = 2.44140625
    focal_gamma: float = 2.0

    def __post_init__(self, **kwargs):
        features = kwargs.pop("features", None)
        if features is None and self.id2label is None:
            # Not transformers' LABEL_0, LABEL_1, which it does not save: they would come back as the default.
            count = kwargs.pop("num_labels", None)
            features = FEATURES if count is None else [f"feature_{index}" for index in range(count)]
        if features is not None:
            self.features = features
        super().__post_init__(**kwargs)

    def validate_head(self):
        """Checks across fields of the head."""
        if self.num_labels < 1 or self.num_layers_head < 1:
            raise ValueError(
                f"{self.num_labels} features, num_layers_head={self.num_layers_head}: each must be at least 1."
            )

    @property
    def features(self) -> list[str]:
        """Names of the features in the order of the output."""
        return [self.id2label[index] for index in range(self.num_labels)]

    @features.setter
    def features(self, names: list[str] | tuple[str, ...]):
        self.id2label = dict(enumerate(names))
        self.label2id = {name: index for index, name in self.id2label.items()}

    @property
    def length_multiple(self) -> int:
        """Bases of which the length of an input must be a multiple: 24 in the published models."""
        return self.kmer_size * 2**self.num_layers_head

    def measure_rescaling(self, length: int) -> float | None:
        """
        The `rescaling_factor` for an input: that of the configuration up to 30 kb, tokens / 2048 beyond.

        Args:
            length (`int`): of the longest input, in bp.

        Returns:
            `float` or `None`: 2048 are the tokens of pre-training (`max_tokens`); `<cls>` is counted.
        """
        tokens = length // self.kmer_size + 1
        return self.rescaling_factor if tokens <= TRAINED_TOKENS else tokens / self.max_tokens

    @classmethod
    def recognizes(cls, fields: dict[str, Any]) -> bool:
        """Whether a published config.json is one of these models, which it calls `esm`."""
        return fields.get("model_type") in (None, "", "esm") and "features" in fields

    @classmethod
    def read_published(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """
        As `NucleotideTransformerConfig.read_published`; the encoder's configuration does as well, for a new head.
        """
        if fields.get("model_type") == NucleotideTransformerConfig.model_type:
            return {**fields, "model_type": cls.model_type}
        read = super().read_published(fields)
        return {"rescaling_factor": None, **read} if read is not fields else fields


__all__ = ["FEATURES", "TRAINED_TOKENS", "SegmentNTConfig"]
