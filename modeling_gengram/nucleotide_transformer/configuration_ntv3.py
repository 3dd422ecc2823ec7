"""Configurations of NTv3: a U-Net of single bases with a transformer at its bottom, without and with species."""

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


@strict
class NTv3Config(PreTrainedConfig):
    r"""
    Pre-trained NTv3. Names of fields are the published ones, and transformers' usual ones (`hidden_size`,
    `num_hidden_layers`, `num_attention_heads`, `intermediate_size`, `vocab_size`) work too. The defaults are those of
    NTv3_8M_pre.

    Args:
        alphabet_size (`int`, *optional*, defaults to 11):
            Rows of the embedding: six special tokens and `A T C G N`.
        token_embed_dim (`int`, *optional*, defaults to 16):
            Width of the embedding.
        conv_init_embed_dim (`int`, *optional*, defaults to 256):
            Channels at single-base resolution.
        embed_dim (`int`, *optional*, defaults to 256):
            Width of the transformer; between the two, channels grow by equal steps (`widths`).
        ffn_embed_dim (`int`, *optional*, defaults to 1024):
            Width of the gated MLP.
        num_layers (`int`, *optional*, defaults to 2):
            Layers of the transformer.
        attention_heads (`int`, *optional*, defaults to 8), key_size (`int`, *optional*, defaults to 32):
            Heads and the width of each.
        num_downsamples (`int`, *optional*, defaults to 7):
            Times that the convolutions halve the length, which is filled up to a multiple of `2**num_downsamples` bp.
        num_hidden_layers_head (`int`, *optional*, defaults to 0):
            Hidden layers of the masked-LM head.
        use_skip_connection (`bool`, *optional*, defaults to `True`):
            What a convolution block reads is added to what the deconvolution block of the same length writes.
        deconv_upsample_type (`"repeat+conv"` or `"conv_transpose"`, *optional*, defaults to `"repeat+conv"`):
            Twice the length by repeating each position, or by zeros between positions.
        deconv_phase (`"odd"` or `"even"`, *optional*, defaults to `"odd"`):
            Where zeros go in between: the positions that the states take.
        initializer_range (`float`, *optional*, defaults to 0.02):
            Standard deviation of new modulations by conditions; all other new weights are scaled by their inputs.
        n_token_id (`int`, *optional*, defaults to 10):
            Id of `N`, which pads: `<pad>` was never trained.

    Raises:
        ValueError: a size below 1, or heads of odd width, which cannot be rotated.

    Example:

    ```python
    >>> from gengram import NTv3Config, NTv3ForMaskedLM

    >>> model = NTv3ForMaskedLM(NTv3Config(conv_init_embed_dim=16, embed_dim=24, num_downsamples=3))
    ```"""

    model_type = "ntv3"
    attribute_map = {
        "vocab_size": "alphabet_size",
        "hidden_size": "embed_dim",
        "intermediate_size": "ffn_embed_dim",
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "attention_heads",
        "head_dim": "key_size",
    }
    # Auto class -> "file.Class", as the auto_map of a checkpoint has it; registration reads it here.
    _auto_class = "AutoConfig"
    auto_classes: ClassVar[dict[str, str]] = {
        "AutoConfig": "configuration_ntv3.NTv3Config",
        "AutoModel": "modeling_ntv3.NTv3Model",
        "AutoModelForPreTraining": "modeling_ntv3.NTv3ForMaskedLM",
        "AutoModelForMaskedLM": "modeling_ntv3.NTv3ForMaskedLM",
        "AutoModelForSequenceClassification": "modeling_ntv3.NTv3ForSequenceClassification",
        "AutoModelForTokenClassification": "modeling_ntv3.NTv3ForTokenClassification",
    }
    # How tensor parallelism spreads the transformer; convolutions are on every process.
    base_model_tp_plan: ClassVar[dict[str, str]] = {
        "embed_layer": "embedding_rowwise",
        "transformer_blocks.*.sa_layer.query_head.linear": "colwise",
        "transformer_blocks.*.sa_layer.key_head.linear": "colwise",
        "transformer_blocks.*.sa_layer.value_head.linear": "colwise",
        "transformer_blocks.*.sa_layer.mha_output": "rowwise",
        "transformer_blocks.*.fc1": "packed_colwise",
        "transformer_blocks.*.fc2": "rowwise",
    }
    # What is gathered on its own when weights are sharded; the rest, and heads, once for the whole pass.
    base_model_fsdp_plan: ClassVar[dict[str, str]] = {
        "conv_tower_blocks.*": "free_full_weight",
        "transformer_blocks.*": "free_full_weight",
        "deconv_tower_blocks.*": "free_full_weight",
    }
    # Rotation: the same in every model.
    rope_theta: ClassVar[float] = 10000.0
    rescaling_factor: ClassVar[float | None] = None

    alphabet_size: int = 11
    token_embed_dim: int = 16
    conv_init_embed_dim: int = 256
    embed_dim: int = 256
    ffn_embed_dim: int = 1024
    num_layers: int = 2
    attention_heads: int = 8
    key_size: int = 32
    num_downsamples: int = 7
    num_hidden_layers_head: int = 0
    use_skip_connection: bool = True
    deconv_upsample_type: Literal["repeat+conv", "conv_transpose"] = "repeat+conv"
    deconv_phase: Literal["odd", "even"] = "odd"
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    pad_token_id: int = 1
    mask_token_id: int = 2
    n_token_id: int = 10
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        # Where embeddings are tied, transformers 5.17 adds a rule for theirs under Llama's name.
        vars(self).pop("base_model_tp_plan", None)

    def validate_architecture(self):
        """Checks across fields; runs when a configuration is made and when it is saved."""
        for field in ("token_embed_dim", "conv_init_embed_dim", "embed_dim", "attention_heads", "num_downsamples"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field}={getattr(self, field)}: must be at least 1.")
        if self.key_size < 2 or self.key_size % 2:
            raise ValueError(f"key_size={self.key_size}: heads are rotated, their width must be even.")
        if not 0 <= self.n_token_id < self.alphabet_size:
            raise ValueError(f"n_token_id={self.n_token_id}: outside the alphabet of {self.alphabet_size} tokens.")

    @property
    def widths(self) -> list[int]:
        """Channels at each length from single bases to the transformer, `num_downsamples + 1` numbers."""
        return np.linspace(self.conv_init_embed_dim, self.embed_dim, self.num_downsamples + 1).astype(int).tolist()

    @property
    def length_multiple(self) -> int:
        """Bases, and tokens, to a multiple of which an input is filled up: 128 for 7 halvings, 32 for 5."""
        return 2**self.num_downsamples

    @property
    def condition_sizes(self) -> Sequence[int]:
        """Rows of the embedding of each condition: none in pre-trained models."""
        return ()


@strict
class NTv3PostTrainedConfig(NTv3Config):
    r"""
    Post-trained NTv3: every norm, convolution and MLP knows the species, and heads predict tracks and annotations.

    Args:
        species_to_token_id (`dict[str, int]`):
            Id of each species; ids below `num_species_special_tokens` are no species.
        bigwigs_per_species (`dict[str, list[str]]`):
            Names of the tracks of each species, in the order of the output.
        bed_elements_names (`list[str]`):
            Names of the annotations, each present or absent at each base.
        keep_target_center_fraction (`float`, *optional*, defaults to 0.375):
            Share of the input, in its middle, for which tracks and annotations are predicted.
        conditions_names (`list[str]`, *optional*, defaults to `["species"]`), conditions_vocab_size (`list[int]`,
        *optional*):
            The condition and the rows of its embedding; by default as many as the largest id asks for.
        num_species_special_tokens (`int`, *optional*, defaults to 6):
            First id of a species.
        others: see `NTv3Config`.

    Raises:
        ValueError: other conditions than the species, ids that are outside the embedding, special or used twice, tracks
            of an unknown species, no species, or a fraction outside 0 to 1.
    """

    model_type = "ntv3_posttrained"
    # Auto class -> "file.Class", as the auto_map of a checkpoint has it; registration reads it here.
    _auto_class = "AutoConfig"
    auto_classes: ClassVar[dict[str, str]] = {
        "AutoConfig": "configuration_ntv3.NTv3PostTrainedConfig",
        "AutoModel": "modeling_ntv3_post_trained.NTv3PostTrainedModel",
    }

    species_to_token_id: dict[str, int] | None = None
    bigwigs_per_species: dict[str, list[str]] | None = None
    bed_elements_names: list[str] | None = None
    keep_target_center_fraction: float = 0.375
    conditions_names: list[str] | None = None
    conditions_vocab_size: list[int] | None = None
    num_species_special_tokens: int = 6

    def __post_init__(self, **kwargs):
        # Without any, transformers could not make the default configuration with which it compares a saved one.
        self.species_to_token_id = self.species_to_token_id or {"human": self.num_species_special_tokens}
        self.bigwigs_per_species = self.bigwigs_per_species or {}
        self.bed_elements_names = self.bed_elements_names or []
        self.conditions_names = self.conditions_names or ["species"]
        self.conditions_vocab_size = self.conditions_vocab_size or [max(self.species_to_token_id.values()) + 1]
        super().__post_init__(**kwargs)

    def validate_species(self):
        """Checks across the fields of the condition and the heads."""
        if self.conditions_names != ["species"] or len(self.conditions_vocab_size) != 1:
            raise ValueError(
                f"conditions_names={self.conditions_names}: post-trained models have one condition, the species; "
                "generative models (ntv3_conditioned) are not supported."
            )
        ids = list(self.species_to_token_id.values())
        first, rows = self.num_species_special_tokens, self.conditions_vocab_size[0]
        if len(set(ids)) < len(ids) or not all(first <= index < rows for index in ids):
            raise ValueError(
                f"species_to_token_id={self.species_to_token_id}: each species needs an id of its own from {first} "
                f"to {rows - 1} (num_species_special_tokens, conditions_vocab_size)."
            )
        if unknown := self.bigwigs_per_species.keys() - self.species_to_token_id.keys():
            raise ValueError(f"bigwigs_per_species names {sorted(unknown)}, which species_to_token_id has no id for.")
        if not 0 < self.keep_target_center_fraction <= 1:
            raise ValueError(f"keep_target_center_fraction={self.keep_target_center_fraction}: give 0 to 1, without 0.")

    @property
    def condition_sizes(self) -> Sequence[int]:
        return self.conditions_vocab_size

    @property
    def species_with_tracks(self) -> list[str]:
        """In the order of the heads of the model, which is that of the ids."""
        return sorted(self.bigwigs_per_species, key=self.species_to_token_id.__getitem__)

    def encode_species(self, names: Sequence[str]) -> list[int]:
        """
        The `species_ids` of a batch.

        Raises:
            ValueError: a species that the model does not know.
        """
        if unknown := [name for name in names if name not in self.species_to_token_id]:
            raise ValueError(f"{unknown[0]!r}: this model knows {', '.join(self.species_to_token_id)}.")
        return [self.species_to_token_id[name] for name in names]

    def locate_center(self, length: int) -> tuple[int, int]:
        """First base and the one behind the last for which an input of `length` bp gets tracks and annotations."""
        kept = math.trunc(length * self.keep_target_center_fraction)  # also of a length that a graph leaves open
        start = (length - kept) // 2
        return start, start + kept


__all__ = ["NTv3Config", "NTv3PostTrainedConfig"]
