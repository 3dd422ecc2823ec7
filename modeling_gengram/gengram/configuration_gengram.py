"""Configuration of a Gengram model: any transformers backbone plus a k-mer motif memory."""

from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import CONFIG_MAPPING, MODEL_FOR_MASKED_LM_MAPPING, AutoConfig, PreTrainedConfig

# The released code and the paper define the memory differently (docs/memory.md has the table). A preset fills the
# knobs that are not given; every knob can still be set on its own.
MEMORY_PRESETS: dict[str, dict[str, Any]] = {
    "released": {
        "include_current": True,
        "deduplicate": False,
        "gate": "signed_sqrt",
        "projection_bias": False,
        "mixer": "conv_residual",
    },
    "paper": {
        "include_current": False,
        "deduplicate": True,
        "gate": "sigmoid",
        "projection_bias": True,
        "mixer": "silu_norm",
    },
}


def _dense(**attention) -> dict[str, Any]:
    return {"hidden_size": 1280, "intermediate_size": 5120, **attention}


def _moe(**attention) -> dict[str, Any]:
    return {"hidden_size": 1024, **attention}


# Published latent-attention widths (paper, table 10): dense first, mixture of experts second.
_MLA_DENSE = {"kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 128, "v_head_dim": 256}
_MLA_MOE = {"kv_lora_rank": 256, "qk_nope_head_dim": 64, "qk_rope_head_dim": 64, "v_head_dim": 128}

# name -> (backbone model_type, backbone fields). Sizes of the paper's tables 9-12: 12 layers, 16 heads, RMSNorm,
# SwiGLU, rotary positions. DeepSeek-V3 is the transformers class with latent attention; it routes by sigmoid scores
# where Megatron uses a softmax, so the latent mixture of experts is that architecture, not those weights.
SIZES: dict[str, tuple[str, dict[str, Any]]] = {
    "0.3b-dense-mha": ("llama", _dense(num_key_value_heads=16)),
    "0.3b-dense-gqa": ("llama", _dense(num_key_value_heads=8)),
    "0.3b-dense-mla": (
        "deepseek_v3",
        _dense(num_key_value_heads=16, q_lora_rank=None, first_k_dense_replace=12, **_MLA_DENSE),
    ),
    "1.2b-moe-mha": ("mixtral", _moe(num_key_value_heads=16, intermediate_size=4096)),
    "1.2b-moe-gqa": ("mixtral", _moe(num_key_value_heads=8, intermediate_size=4096)),
    "1.2b-moe-mla": (
        "deepseek_v3",
        _moe(
            num_key_value_heads=16,
            q_lora_rank=None,
            intermediate_size=4096,
            moe_intermediate_size=4096,
            first_k_dense_replace=0,
            n_routed_experts=8,
            num_experts_per_tok=2,
            n_shared_experts=0,
            n_group=1,
            topk_group=1,
            **_MLA_MOE,
        ),
    ),
    "10b-moe-gqa": ("mixtral", {"hidden_size": 4096, "num_key_value_heads": 8, "intermediate_size": 8192}),
}
_COMMON_SIZE = {
    "vocab_size": 128,
    "num_hidden_layers": 12,
    "num_attention_heads": 16,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-5,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 12,
    "tie_word_embeddings": False,
}

# What describes a checkpoint or a model as a whole, and never an architecture.
_OWN = ("auto_map", "custom_pipelines", "quantization_config")
# Of the backbone's, what not every backbone has.
_DEFAULTS = {
    "max_position_embeddings": None,
    "tie_word_embeddings": False,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}


@strict
class GengramConfig(PreTrainedConfig):
    r"""
    A backbone and the motif memory that is written into its residual stream.

    Args:
        backbone_config (`dict` or `PreTrainedConfig`, *optional*):
            Configuration of any transformers backbone. Defaults to the 1.2B mixture of experts of the paper.
        memory_layers (`list[int]`, *optional*, defaults to `[2, 5, 9]`):
            0-based layers before which the memory is added (the paper counts from 1: "3,6,10"). Empty: no memory.
        memory_preset (`"released"` or `"paper"`, *optional*, defaults to `"released"`):
            Fills `include_current`, `deduplicate`, `gate`, `projection_bias` and `mixer` where they are not given.
        kmer_sizes (`list[int]`, *optional*, defaults to `[1, 2, 3, 4, 5, 6]`):
            Lengths k in bases; each has a table of 5**k rows.
        memory_dim (`int`, *optional*, defaults to 1024):
            Width of a table row.
        window_size (`int`, *optional*, defaults to 21):
            Window in bases over which k-mers are averaged. `None`: only the k-mer that ends at the position.
        include_current (`bool`, *optional*):
            Window `[t-W+1, t]` if true (released code), `[t-W, t-1]` if false (paper, equations 5-6).
            Not consulted without a window.
        deduplicate (`bool`, *optional*):
            Average over the set of k-mers in the window (paper, equations 7-9) instead of all occurrences.
        center_window (`bool`, *optional*, defaults to `False`):
            Window `[t-W//2, t+(W-1)//2]`, for encoders. Needs `include_current`.
        tie_reverse_complement (`bool`, *optional*, defaults to `False`):
            A k-mer and its reverse complement share one row (that of the smaller index).
        gate (`"signed_sqrt"` or `"sigmoid"`, *optional*):
            `sigmoid(sign(s) sqrt(max(|s|, 1e-6)))` or `sigmoid(s)` of the normalised score s.
        projection_bias (`bool`, *optional*):
            Biases of the key and value projections.
        mixer (`"conv_residual"`, `"silu_norm"` or `"none"`, *optional*):
            After the gate: `o + SiLU(conv(o))`, `SiLU(RMSNorm(o))` or `o`.
        conv_norm (`bool`, *optional*, defaults to `False`):
            RMSNorm before the convolution (as Engram has).
        conv_kernel_size (`int`, *optional*, defaults to 4):
            Taps of the causal depthwise convolution.
        conv_dilation (`int`, *optional*):
            Distance of its taps in tokens. Defaults to the largest k-mer size.
        conv_init (`"uniform"` or `"zeros"`, *optional*, defaults to `"uniform"`):
            PyTorch's default (released code) or zeros (Engram), which makes the convolution silent at the start.
        window_sums (`"exact"` or `"prefix"`, *optional*, defaults to `"exact"`):
            `"prefix"` takes the means as the released code does, from running sums in the weights' dtype, whose error
            grows along the sequence: for the study of weights that were trained so.
        memory_norm_eps (`float`, *optional*, defaults to 1e-05):
            Epsilon of the memory's RMSNorms; independent of the backbone's.
        base_token_ids (`list[int]`, *optional*, defaults to `[8, 5, 6, 7, 9]`):
            Token ids of A, C, G, T, N in this order; the order defines the table rows.
        pooling (`"mean"`, `"last"` or `"cls"`, *optional*, defaults to `"mean"`):
            How sequence classification reduces T tokens to one vector; padding never takes part.
        classifier_dropout (`float`, *optional*, defaults to 0.0):
            Dropout before the classification heads.

    Raises:
        ValueError: a memory layer that does not exist, a window shorter than the largest k, a token id outside the
            vocabulary, a centred window without the current base, an unknown backbone.

    Example:

    ```python
    >>> from transformers import LlamaConfig
    >>> from gengram import GengramConfig, GengramForCausalLM

    >>> backbone = LlamaConfig(vocab_size=128, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
    ...                        num_attention_heads=4)
    >>> model = GengramForCausalLM(GengramConfig(backbone_config=backbone, memory_layers=[0, 1], memory_dim=32))
    ```"""

    model_type = "gengram"
    sub_configs = {"backbone_config": AutoConfig}
    # Each memory is a unit of its own when weights are sharded; the backbone brings its own plan.
    base_model_fsdp_plan: ClassVar[dict[str, str]] = {"memory.*": "free_full_weight"}
    # Auto class -> "file.Class", as the auto_map of a checkpoint has it; registration reads it here.
    _auto_class = "AutoConfig"
    auto_classes: ClassVar[dict[str, str]] = {
        "AutoConfig": "configuration_gengram.GengramConfig",
        "AutoModel": "modeling_gengram.GengramModel",
        "AutoModelForPreTraining": "modeling_gengram.GengramForPreTraining",
        "AutoModelForCausalLM": "modeling_gengram.GengramForCausalLM",
        "AutoModelForMaskedLM": "modeling_gengram.GengramForMaskedLM",
        "AutoModelForSequenceClassification": "modeling_gengram.GengramForSequenceClassification",
        "AutoModelForTokenClassification": "modeling_gengram.GengramForTokenClassification",
    }

    backbone_config: dict[str, Any] | PreTrainedConfig | None = None
    memory_layers: list[int] | tuple[int, ...] | None = None
    memory_preset: Literal["released", "paper"] = "released"
    kmer_sizes: list[int] | tuple[int, ...] | None = None
    memory_dim: int = 1024
    window_size: int | None = 21
    include_current: bool | None = None
    deduplicate: bool | None = None
    center_window: bool = False
    tie_reverse_complement: bool = False
    gate: Literal["signed_sqrt", "sigmoid"] | None = None
    projection_bias: bool | None = None
    mixer: Literal["conv_residual", "silu_norm", "none"] | None = None
    conv_norm: bool = False
    conv_kernel_size: int = 4
    conv_dilation: int | None = None
    conv_init: Literal["uniform", "zeros"] = "uniform"
    window_sums: Literal["exact", "prefix"] = "exact"
    memory_norm_eps: float = 1e-5
    base_token_ids: list[int] | tuple[int, ...] | None = None
    pooling: Literal["mean", "last", "cls"] = "mean"
    classifier_dropout: float = 0.0

    def __post_init__(self, **kwargs):
        if self.backbone_config is None:
            self.backbone_config = _size_config("1.2b-moe-gqa")
        elif isinstance(self.backbone_config, dict):
            self.backbone_config = _read_backbone_config(self.backbone_config)
        self.memory_layers = [2, 5, 9] if self.memory_layers is None else sorted(set(self.memory_layers))
        self.kmer_sizes = [1, 2, 3, 4, 5, 6] if self.kmer_sizes is None else list(self.kmer_sizes)
        self.base_token_ids = [8, 5, 6, 7, 9] if self.base_token_ids is None else list(self.base_token_ids)
        for knob, value in MEMORY_PRESETS[self.memory_preset].items():
            if getattr(self, knob) is None:
                setattr(self, knob, value)
        if self.conv_dilation is None and self.kmer_sizes:
            self.conv_dilation = max(self.kmer_sizes)
        # transformers writes these to the sub-configurations: start from what the backbone's says.
        kwargs.setdefault("attn_implementation", self.backbone_config._attn_implementation)
        kwargs.setdefault("experts_implementation", self.backbone_config._experts_implementation)
        super().__post_init__(**kwargs)

    def validate_memory(self):
        """Checks across fields; runs when a configuration is made and when it is saved."""
        if self.backbone_config.model_type == self.model_type:
            raise ValueError("The backbone is a Gengram model itself; give its backbone_config.")
        for field in ("num_hidden_layers", "hidden_size", "vocab_size"):
            if not hasattr(self.backbone_config, field):
                raise ValueError(
                    f"{type(self.backbone_config).__name__} has no {field}: the backbone must be one stack of layers "
                    "over one vocabulary (of a composite model, take its text configuration)."
                )
        if self.memory_layers and (k := getattr(self.backbone_config, "kmer_size", 1)) > 1:
            raise ValueError(
                "The motif memory reads single bases, but a token of this backbone "
                f"({self.backbone_config.model_type}) is a k-mer of {k} bases. Take a backbone of single bases, or "
                "memory_layers=[] for none."
            )
        layers = self.num_hidden_layers
        if missing := [layer for layer in self.memory_layers if not 0 <= layer < layers]:
            raise ValueError(
                f"memory_layers={self.memory_layers}: layer {missing[0]} does not exist. The backbone "
                f"({self.backbone_config.model_type}) has layers 0..{layers - 1} (counted from 0)."
            )
        if not self.kmer_sizes or min(self.kmer_sizes) < 1 or len(set(self.kmer_sizes)) != len(self.kmer_sizes):
            raise ValueError(f"kmer_sizes={self.kmer_sizes}: give distinct lengths of at least 1 base.")
        if self.window_size is not None and self.window_size < max(self.kmer_sizes):
            raise ValueError(
                f"window_size={self.window_size} is shorter than the largest k-mer ({max(self.kmer_sizes)} bases). "
                "Use a longer window, smaller kmer_sizes, or window_size=None for the single k-mer that ends at a "
                "position."
            )
        if self.center_window and (self.window_size is None or not self.include_current):
            raise ValueError("center_window=True needs a window_size and include_current=True.")
        if self.window_sums == "prefix" and (
            self.window_size is None or self.deduplicate or self.tie_reverse_complement or not self.include_current
            or self.center_window
        ):  # fmt: skip
            raise ValueError("window_sums='prefix' is the released algorithm: it has the released window only.")
        if len(self.base_token_ids) != 5 or len(set(self.base_token_ids)) != 5:
            raise ValueError(f"base_token_ids={self.base_token_ids}: give five distinct token ids, for A, C, G, T, N.")
        if not all(0 <= token < self.vocab_size for token in self.base_token_ids):
            raise ValueError(
                f"base_token_ids={self.base_token_ids}: outside the backbone's vocabulary of {self.vocab_size} tokens."
            )
        if self.memory_dim < 1 or self.conv_kernel_size < 1 or self.conv_dilation < 1:
            raise ValueError("memory_dim, conv_kernel_size and conv_dilation must be at least 1.")

    @classmethod
    def from_size(cls, size: str, **kwargs) -> "GengramConfig":
        """
        A model of the paper by name, see `SIZES` for the names.

        Args:
            size (`str`): e.g. `"1.2b-moe-gqa"`.
            kwargs: further fields of the configuration, e.g. `memory_preset="paper"`.
        """
        return cls(backbone_config=_size_config(size), **kwargs)

    # What generation, Trainer, PEFT and the pipelines read from a configuration is the backbone's.
    def get_text_config(self, decoder=None, encoder=None) -> PreTrainedConfig:
        return self.backbone_config.get_text_config(decoder=decoder, encoder=encoder)

    # What this configuration does not have itself is the backbone's: to read, to set and to save.
    def __getattr__(self, name: str) -> Any:
        backbone = self.__dict__.get("backbone_config")
        if not isinstance(backbone, PreTrainedConfig) or name.startswith("_") or name in _OWN:
            raise AttributeError(f"{type(self).__name__} has no {name}", name=name, obj=self)
        if name in _DEFAULTS:
            return getattr(backbone, name, _DEFAULTS[name])
        try:
            return getattr(backbone, name)
        except AttributeError:
            message = f"neither {type(self).__name__} nor its backbone_config ({type(backbone).__name__}) has {name}"
            raise AttributeError(message, name=name, obj=self) from None

    def __dir__(self) -> list[str]:
        """Its own names and the backbone's."""
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
        """Whether a name is the backbone's."""
        backbone = self.__dict__.get("backbone_config")
        if not isinstance(backbone, PreTrainedConfig) or name.startswith("_") or name in _OWN:
            return False
        if name in self.__dict__ or hasattr(type(self), name):
            return False
        return name in _DEFAULTS or hasattr(backbone, name)

    # The backbone's configuration has done so itself.
    def convert_rope_params_to_dict(self, *args, **kwargs) -> dict[str, Any]:
        return kwargs

    def validate_rope(self):
        """Nothing is rotated but in the backbone."""

    def validate_architecture(self):
        """What the backbone can be is checked in its own configuration."""

    def validate_layer_type(self):
        """Likewise."""

    @property
    def use_cache(self) -> bool:
        return self.is_causal and getattr(self.backbone_config, "use_cache", False)

    @use_cache.setter
    def use_cache(self, value: bool):
        self.backbone_config.use_cache = value

    @property
    def is_causal(self) -> bool:
        """Whether a position of the backbone sees only positions to its left."""
        backbone = self.backbone_config
        if getattr(backbone, "use_bidirectional_attention", False) or getattr(backbone, "is_causal", True) is False:
            return False
        return getattr(backbone, "is_decoder", False) or type(backbone) not in MODEL_FOR_MASKED_LM_MAPPING


def _size_config(size: str) -> PreTrainedConfig:
    if size not in SIZES:
        raise ValueError(f"Unknown size {size!r}; choose one of {', '.join(SIZES)}.")
    model_type, fields = SIZES[size]
    return CONFIG_MAPPING[model_type](**{**_COMMON_SIZE, **fields})


def _read_backbone_config(fields: dict[str, Any]) -> PreTrainedConfig:
    fields = dict(fields)
    model_type = fields.pop("model_type", None)
    if model_type is None:
        raise ValueError("backbone_config has no model_type; name a transformers architecture such as 'llama'.")
    if model_type not in CONFIG_MAPPING:
        raise ValueError(
            f"The backbone architecture {model_type!r} is unknown to this transformers. If it is one of the gengram "
            "package's own, the package is needed: pip install gengram, then `import gengram` before loading."
        )
    return CONFIG_MAPPING[model_type](**fields)


__all__ = ["MEMORY_PRESETS", "SIZES", "GengramConfig"]
