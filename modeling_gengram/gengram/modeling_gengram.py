"""Gengram models: a transformers backbone whose chosen layers read a k-mer motif memory.

The wrapper owns no attention, MLP or expert layer. It hands a `KmerContext` to the backbone as one keyword argument,
which transformers models forward to their layers; a hook in front of each layer takes it out and, where a memory sits,
adds the memory to the hidden states. Language-model heads are those of the backbone's own transformers classes.
"""

import functools
import inspect
from typing import Any

import torch
from torch import nn
from transformers import (
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    Cache,
    DynamicCache,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
    StaticCache,
)
from transformers import initialization as init
from transformers.masking_utils import create_masks_for_generate
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import (
    BaseModelOutput,
    CausalLMOutputWithPast,
    MaskedLMOutput,
    SequenceClassifierOutputWithPast,
    TokenClassifierOutput,
)
from transformers.utils import can_return_tuple

from .configuration_gengram import GengramConfig
from .kmer_index import INVALID_LETTER, KmerContext, find_documents
from .memory_cache import LETTERS, StaticMotifMemoryLayer, count_seen, find_memory_layer
from .merged_tables import accumulation_dtype
from .motif_memory import MotifConvolution, MotifMemory, MotifProjection, MotifTable, make_window
from .tensor_parallel import sum_norm_gradients

# The keyword argument under which the context travels through the backbone to its layers.
CONTEXT = "kmer_context"


class GengramPreTrainedModel(PreTrainedModel):
    """What every Gengram model can do; see `PreTrainedModel`."""

    config: GengramConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["MotifMemory"]
    _skip_keys_device_placement = ["past_key_values"]
    # Each of these is the backbone's to support or to refuse.
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    @classmethod
    def _can_set_experts_implementation(cls) -> bool:
        return True  # likewise

    def _init_weights(self, module: nn.Module):
        if isinstance(module, MotifTable):
            init.normal_(module.weight, mean=0.0, std=1.0)
        elif isinstance(module, MotifProjection):
            bound = module.in_features**-0.5
            init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, MotifConvolution):
            if self.config.conv_init == "zeros":
                init.zeros_(module.weight)
            else:
                bound = module.kernel_size[0] ** -0.5
                init.uniform_(module.weight, -bound, bound)
        else:
            super()._init_weights(module)

    def init_parallel_plans(self):
        super().init_parallel_plans()
        self._tp_plan = sum_norm_gradients(self._tp_plan)

    def initialize_weights(self):
        """
        As `PreTrainedModel.initialize_weights`; a model inside is initialised by its own class. (From a class that is
        not of transformers it would be done without what the model says of modules made of others.)
        """
        for part in self.children():
            if isinstance(part, PreTrainedModel):
                part.initialize_weights()
        super().initialize_weights()

    def get_input_embeddings(self) -> nn.Module:
        return self.base_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module):
        self.base_model.set_input_embeddings(value)

    def save_pretrained(self, save_directory, **kwargs):
        """
        As `PreTrainedModel.save_pretrained`, in this package's layout (never a foreign one), with the code of the
        model and a complete `auto_map`, so that every head loads where the package is not installed.
        """
        kwargs.setdefault("save_original_format", False)
        if self.config.auto_classes:
            self.config.auto_map = dict(self.config.auto_classes)
        super().save_pretrained(save_directory, **kwargs)

    @classmethod
    def from_backbone(
        cls, pretrained_model_name_or_path: str, memory: dict[str, Any] | None = None, **kwargs
    ) -> "GengramPreTrainedModel":
        """
        A trained backbone with a new memory.

        Args:
            pretrained_model_name_or_path (`str`): folder or Hub id of a checkpoint of the backbone.
            memory (`dict`, *optional*): fields of `GengramConfig`. They can also be given one by one.
            kwargs: fields of `GengramConfig` (`memory_layers=[2, 5, 9]`); everything else goes to the backbone's
                `from_pretrained` (`dtype=`, `revision=`, `attn_implementation=`).

        Raises:
            ValueError: the memory does not fit the backbone, or weights of the model are missing or of another size
                in the checkpoint; transformers would fill them with random numbers.
            OSError: the checkpoint cannot be read.
        """
        fields = set(GengramConfig.__dataclass_fields__) - {"backbone_config", "dtype"} | {"num_labels"}
        memory = {**(memory or {}), **{name: kwargs.pop(name) for name in fields & set(kwargs)}}
        native, found = cls._load_native(
            pretrained_model_name_or_path, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs
        )
        # Weights of another size are let through above and told here together with the missing ones.
        lacking = set(found["missing_keys"]) | {name for name, *_ in found["mismatched_keys"]}
        if lacking := sorted(lacking & {name for name, _ in native.named_parameters()}):
            raise ValueError(
                f"{pretrained_model_name_or_path}: the checkpoint does not fit {type(native).__name__}: {len(lacking)} "
                f"weights of the model's body are missing or of another size, e.g. {lacking[0]}"
            )
        dtype, layers = native.dtype, find_layers(native.base_model)
        model = cls(GengramConfig(backbone_config=native.config, **memory), native)
        # Only what is new moves: the backbone's own float32 buffers stay what they are.
        for index, memory_layer in model.base_model.memory.items():
            memory_layer.to(next(layers[int(index)].parameters()).device, dtype)
        if (classifier := getattr(model, "classifier", None)) is not None:
            classifier.to(next(layers[-1].parameters()).device, dtype)
        if native.can_generate() and model.can_generate():
            model.generation_config = native.generation_config
        model.config.dtype = dtype
        return model.eval()

    @classmethod
    def _load_native(cls, path: str, **kwargs) -> tuple[PreTrainedModel, dict[str, Any]]:
        """The transformers model from whose checkpoint `from_backbone` starts, and what was found in it."""
        config = AutoConfig.from_pretrained(path, **_take_hub(kwargs))
        return AutoModel.from_pretrained(path, **_without_pooler(config), **kwargs)


class GengramModel(GengramPreTrainedModel):
    """
    The backbone without a head, with the memory.

    Args:
        config (`GengramConfig`)
        backbone (`PreTrainedModel`, *optional*): an existing backbone to build around; made from the configuration
            if not given.

    Raises:
        ValueError: the backbone's layers cannot be found or do not accept keyword arguments.
    """

    _auto_class = "AutoModel"

    def __init__(self, config: GengramConfig, backbone: PreTrainedModel | None = None):
        super().__init__(config)
        if backbone is None:
            backbone = AutoModel.from_config(config.backbone_config, **_without_pooler(config.backbone_config))
        self.backbone = backbone
        self.memory = nn.ModuleDict({str(layer): MotifMemory(config, layer) for layer in config.memory_layers})
        for index, layer in enumerate(find_layers(backbone)):
            layer.register_forward_pre_hook(functools.partial(self._before_layer, index), with_kwargs=True)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.backbone.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module):
        self.backbone.set_input_embeddings(value)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        use_cache: bool | None = None,
        seq_idx: torch.Tensor | None = None,
        **kwargs,
    ) -> BaseModelOutput:
        """
        Args:
            input_ids (`torch.LongTensor` [B, T]): the memory reads them; needed also with `inputs_embeds`.
            attention_mask (`torch.Tensor` [B, T] or [B, past + T], *optional*): 0 at padding. Other shapes go to the
                backbone as they are; padding must then be a token that is not a base.
            position_ids (`torch.LongTensor` [B, T], *optional*): where they start anew, a packed document begins:
                windows, k-mers, convolution and, in bidirectional backbones, attention are cut there.
            past_key_values (`Cache`, *optional*), use_cache (`bool`, *optional*): as in the backbone.
            inputs_embeds (`torch.FloatTensor` [B, T, D], *optional*): instead of the embeddings of `input_ids`.
            seq_idx (`torch.Tensor` [B, T], *optional*): number of the packed document of each position; replaces the
                rule above and makes `position_ids` where they are not given.
            kwargs: go to the backbone.

        Returns:
            What the backbone returns.
        """
        if self.config.memory_layers and not {"block_table", "cache"}.isdisjoint(kwargs):
            raise ValueError("The motif memory has no paged cache: continuous batching is not supported, use generate.")
        if past_key_values is not None and not self.config.is_causal:
            raise ValueError(
                "past_key_values: an encoder reads its input at once and has no past. So prefix tuning cannot be used; "
                "LoRA and IA3 can."
            )
        restart = position_ids is None or seq_idx is None  # whether position_ids tell the documents as well
        if seq_idx is not None and position_ids is None:
            position_ids = count_within(seq_idx) + find_first_position(self.backbone)
        inputs = {"attention_mask": attention_mask, "position_ids": position_ids, "inputs_embeds": inputs_embeds}
        if inputs_embeds is None:
            inputs["input_ids"] = input_ids
        spread = any(memory.context_parallel is not None for memory in self.memory.values())
        if spread and (seq_idx is not None or use_cache or past_key_values is not None):
            raise ValueError("Context parallelism takes one document a row and no cache: leave seq_idx and caches out.")
        use_cache = False if spread else use_cache
        documents = None  # spread over processes, positions of pieces are not those of documents
        if not spread:
            documents = self._find_documents(input_ids, attention_mask, position_ids, seq_idx, past_key_values)
        if self.config.is_causal:
            checkpointing = self.training and any(memory.gradient_checkpointing for memory in self.memory.values())
            if use_cache is None:
                use_cache = self.config.use_cache and documents is None and not checkpointing
            if checkpointing and (use_cache or past_key_values is not None):
                raise ValueError(
                    "A cache and gradient checkpointing exclude each other: recomputed layers would write to it twice. "
                    "Call model.eval() to generate, or pass use_cache=False."
                )
            if documents is not None and (use_cache or past_key_values is not None):
                raise ValueError(
                    "Packed documents (position_ids that start anew, or seq_idx) cannot be used with a cache: "
                    "attention would see the other documents. Pass use_cache=False and no past_key_values."
                )
            if use_cache and past_key_values is None:
                past_key_values = DynamicCache(config=self.backbone.config)
            inputs["use_cache"], inputs["past_key_values"] = use_cache, past_key_values
        context = None
        if self.config.memory_layers or documents is not None:
            # transformers cuts causal attention by itself where there is no mask and position_ids tell the documents.
            cuts = documents is not None and not (self.config.is_causal and attention_mask is None and restart)
            context = self._make_context(input_ids, attention_mask, documents, past_key_values, cuts)
            if not spread and self.memory:  # spread over processes, each memory fetches letters first
                context.kmers = next(iter(self.memory.values())).index(context.kmers)
            inputs[CONTEXT] = context
        for flag in ("output_hidden_states", "output_attentions"):
            if getattr(self.config, flag, None):
                kwargs.setdefault(flag, True)

        given = {name: value for name, value in inputs.items() if value is not None}
        outputs = self.backbone(**given, return_dict=True, **kwargs)

        if context is not None and context.embedding and getattr(outputs, "hidden_states", None):
            # The first of them is recorded at the entry of layer 0, behind the hook that adds its memory.
            outputs.hidden_states = (context.embedding[0], *outputs.hidden_states[1:])
        return outputs

    def reserve_memory(self, cache: Cache, B: int) -> None:
        """
        Make what a static cache keeps for the memory, of B sequences, before the first tokens: graphs may only change
        it. Weights that are elsewhere until they are needed do not say where; it is then made with the first tokens.
        """
        place = self.get_input_embeddings().weight.device
        if not self.memory or not isinstance(cache, StaticCache) or place.type == "meta":
            return
        layer = find_memory_layer(cache, self.config.num_hidden_layers)
        if not isinstance(layer, StaticMotifMemoryLayer) or layer.past:
            return
        layer.reserve(LETTERS, torch.empty(B, 0, dtype=torch.int64, device=place), make_window(self.config).history)
        for index, memory in self.memory.items():
            weight = memory.norm_q.weight
            if memory.short_conv is not None and weight.device.type != "meta":
                gated = weight.new_empty(B, 0, len(weight), dtype=accumulation_dtype(weight.dtype))
                layer.reserve(index, gated, memory.short_conv.history)

    def _find_documents(
        self,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        position_ids: torch.Tensor | None,
        seq_idx: torch.Tensor | None,
        cache: Cache | None,
    ) -> torch.Tensor | None:
        """Number of the packed document of each position (int64 [B, T]); None where there is nothing to cut."""
        if input_ids is None or (seq_idx is None and (position_ids is None or position_ids.shape[-1] == 1)):
            return None
        if torch.compiler.is_compiling() and seq_idx is None and cache is not None:
            return None  # a step of generation, where positions count on
        if seq_idx is not None:
            documents = (torch.diff(seq_idx, dim=-1, prepend=seq_idx[:, :1]) != 0).cumsum(-1).expand_as(input_ids)
        else:
            documents = find_documents(position_ids.expand_as(input_ids))
        if torch.compiler.is_compiling():
            return documents
        cut = documents[:, -1] > 0
        real = read_padding(attention_mask, documents.shape[1], count_seen(cache))
        if seq_idx is None and real is not None:  # positions of padding may be anything: those of the others count
            previous = torch.where(real, torch.arange(real.shape[1], device=real.device), -1).cummax(1).values[:, :-1]
            positions = position_ids.expand_as(input_ids)
            follows = positions.gather(1, previous.clamp(min=0)) + 1 == positions[:, 1:]
            cut = real[:, 1:] & (previous >= 0) & ~follows
        return documents if bool(cut.any()) else None

    def _make_context(
        self,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        documents: torch.Tensor | None,
        cache: Cache | None,
        cuts_attention: bool,
    ) -> "LayerContext":
        if input_ids is None:
            raise ValueError(
                "The motif memory reads the bases: pass input_ids as well as inputs_embeds (the backbone then takes "
                "the embeddings, the memory the ids). What hands over embeddings alone, like PEFT's prompt tuning, "
                "cannot be used; LoRA and IA3 can."
            )
        attention_cut = None
        if cuts_attention:
            attention_cut = (documents[:, :, None] == documents[:, None, :])[:, None]
            attention_cut = attention_cut.tril() if self.config.is_causal else attention_cut
        real = read_padding(attention_mask, input_ids.shape[1], count_seen(cache))
        letters = find_letters(input_ids, self.config.base_token_ids, real)
        state, history = None, 0
        if cache is not None and self.config.memory_layers:
            window = make_window(self.config)
            if window.first_lag < 0:
                raise ValueError("A centred window sees bases to the right: it cannot generate with a cache.")
            state = find_memory_layer(cache, self.config.num_hidden_layers)
            letters, history = state.extend_letters(letters, window.history)
        return LayerContext(KmerContext(letters, documents, real, history, state), attention_cut)

    def _before_layer(self, index: int, layer: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """Hook in front of a backbone layer: takes the context out, adds the memory, cuts attention at documents."""
        kwargs = dict(kwargs)
        context = kwargs.pop(CONTEXT, None)
        if context is None:
            if index in self.config.memory_layers:
                raise RuntimeError(
                    f"{type(self.backbone).__name__} did not forward its keyword arguments to its layers (or was "
                    "called on its own), so the motif memory cannot reach them. Call the Gengram model; if this is "
                    "it, the backbone is not supported."
                )
            return args, kwargs
        args = list(args)
        hidden_states = args[0] if args else kwargs["hidden_states"]
        if index == 0:
            context.embedding[:] = [hidden_states]
        if index in self.config.memory_layers:
            memory = self.memory[str(index)]
            residual = memory(hidden_states, context.kmers)
            hidden_states = hidden_states + residual.to(hidden_states.device)
            if args:
                args[0] = hidden_states
            else:
                kwargs["hidden_states"] = hidden_states
        if context.attention_cut is not None:
            place = list(inspect.signature(layer.forward).parameters).index("attention_mask")
            if place < len(args):
                args[place] = self._cut_attention(args[place], context.attention_cut, hidden_states)
            else:
                kwargs["attention_mask"] = self._cut_attention(
                    kwargs.get("attention_mask"), context.attention_cut, hidden_states
                )
        return tuple(args), kwargs

    def _cut_attention(
        self, mask: torch.Tensor | None, same_document: torch.Tensor, hidden_states: torch.Tensor
    ) -> torch.Tensor:
        """The layer's attention mask [B, 1, T, T], closed between documents (transformers does so for causal masks)."""
        implementation = self.backbone.config._attn_implementation
        if implementation not in ("eager", "sdpa"):
            raise ValueError(
                f"Packed documents need attn_implementation 'sdpa' or 'eager' here, not {implementation!r} (a causal "
                "backbone takes any if no attention_mask is given and position_ids start anew)."
            )
        # Softmax is taken in float32: a lower number would be minus infinity there, and a closed row not a number.
        closed = max(torch.finfo(hidden_states.dtype).min, torch.finfo(torch.float32).min)
        if mask is None:
            if implementation == "sdpa":
                return same_document
            return torch.zeros_like(same_document, dtype=hidden_states.dtype).masked_fill(~same_document, closed)
        if mask.dtype == torch.bool:
            return mask & same_document
        return mask.masked_fill(~same_document, closed)


class LayerContext:
    """
    What travels to the layers in one forward pass.

    Args:
        kmers (`KmerContext`): for the memories.
        attention_cut (`torch.Tensor` bool [B, 1, T, T] or `None`): pairs of positions of one document.

    Attributes:
        embedding (`list`): the hidden states that entered layer 0, once they have.
    """

    def __init__(self, kmers: KmerContext, attention_cut: torch.Tensor | None = None):
        self.kmers = kmers
        self.attention_cut = attention_cut
        self.embedding: list[torch.Tensor] = []

    def to(self, device, non_blocking: bool = False) -> "LayerContext":
        """The same on another device; accelerate calls it where layers are spread over devices."""
        cut = None if self.attention_cut is None else self.attention_cut.to(device, non_blocking=non_blocking)
        moved = LayerContext(self.kmers.to(device, non_blocking), cut)
        moved.embedding = self.embedding
        return moved


class GivenOutputs(nn.Module):
    """Stands where a transformers head model has its backbone: hands over outputs that exist already."""

    def forward(self, *args, backbone_outputs: BaseModelOutput, **kwargs) -> BaseModelOutput:
        return backbone_outputs

    def get_input_embeddings(self) -> None:
        """Asked before the head gives its output embeddings; the input embeddings are in the Gengram model."""


class GengramLanguageModel(GengramPreTrainedModel):
    """
    A backbone's own language-model class around the memory: its head, its logits, its auxiliary losses.

    Args:
        config (`GengramConfig`)
        native (`PreTrainedModel`, *optional*): an existing model of the backbone's class for this task.
    """

    _native: Any = None  # the transformers Auto class that makes the model whose head is used

    def __init__(self, config: GengramConfig, native: PreTrainedModel | None = None):
        super().__init__(config)
        if native is None:
            native = self._native.from_config(config.backbone_config)
        prefix = native.base_model_prefix
        self.model = GengramModel(config, getattr(native, prefix))
        setattr(native, prefix, GivenOutputs())
        self.head = native
        # The head's ties, now between `head.*` and `model.backbone.*`.
        self._tied_weights_keys = {
            _rename(target, prefix): _rename(source, prefix)
            for target, source in (native._tied_weights_keys or {}).items()
        }
        native._tied_weights_keys, native.all_tied_weights_keys = None, {}
        # What is left of its plans of parallelism is the head's; the backbone brings its own.
        for plan in ("_tp_plan", "_ep_plan", "_pp_plan", "_fsdp_plan"):
            entries = getattr(native, plan, None) or {}
            setattr(native, plan, {name: rule for name, rule in entries.items() if not name.startswith(f"{prefix}.")})
        self.post_init()

    @classmethod
    def _load_native(cls, path: str, **kwargs) -> tuple[PreTrainedModel, dict[str, Any]]:
        return cls._native.from_pretrained(path, **kwargs)

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *args, **kwargs) -> nn.Embedding:
        old_num_tokens = self.config.vocab_size
        embeddings = super().resize_token_embeddings(new_num_tokens, *args, **kwargs)
        new_num_tokens = self.config.vocab_size
        if hasattr(self.head, "vocab_size"):
            self.head.vocab_size = new_num_tokens
        # Some heads (ESM) keep the bias of the vocabulary apart from the matrix, where transformers does not find it.
        for module in self.head.modules():
            bias = module._parameters.get("bias")
            if bias is not None and not hasattr(module, "weight") and bias.shape == (old_num_tokens,):
                resized = bias.new_zeros(new_num_tokens)
                kept = min(old_num_tokens, new_num_tokens)
                resized[:kept] = bias.data[:kept]
                module.bias = nn.Parameter(resized, requires_grad=bias.requires_grad)
        return embeddings

    def get_output_embeddings(self) -> nn.Module:
        return self.head.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module):
        self.head.set_output_embeddings(new_embeddings)


class GengramForCausalLM(GengramLanguageModel, GenerationMixin):
    """
    Next-base prediction and generation with a causal backbone.

    Raises:
        ValueError: the backbone is bidirectional, or the window is centred (both would see the base to predict).
    """

    _auto_class = "AutoModelForCausalLM"

    _native = AutoModelForCausalLM

    def __init__(self, config: GengramConfig, native: PreTrainedModel | None = None):
        if not config.is_causal:
            raise ValueError(
                f"{config.backbone_config.model_type} sees both sides of a position: it cannot be a causal language "
                "model. Use GengramForMaskedLM."
            )
        if config.center_window and config.memory_layers:
            raise ValueError("center_window=True shows the memory the bases to predict; set it to False.")
        super().__init__(config, native)
        self._limit_generation()

    @classmethod
    def from_backbone(cls, *args, **kwargs) -> "GengramForCausalLM":
        model: Any = super().from_backbone(*args, **kwargs)
        model._limit_generation()  # behind what the backbone's own generation configuration says
        return model

    def _limit_generation(self):
        """`generate` writes bases and the end: a model that reads single bases knows which tokens they are."""
        settings = self.generation_config
        if self.config.memory_layers and settings.suppress_tokens is None:
            ends = settings.eos_token_id if isinstance(settings.eos_token_id, list) else [settings.eos_token_id]
            wanted = {*self.config.base_token_ids[:4], *ends}
            settings.suppress_tokens = [token for token in range(self.config.vocab_size) if token not in wanted]

    def generate(self, inputs: torch.Tensor | None = None, *args, **kwargs):
        """
        As `GenerationMixin.generate`. A memory reads the ids of a prompt also where the backbone takes embeddings:
        `generate(input_ids, inputs_embeds=...)`.

        Raises:
            ValueError: embeddings without ids, or not one embedding an id.
        """
        ids, embeddings = kwargs.get("input_ids") if inputs is None else inputs, kwargs.get("inputs_embeds")
        if self.config.memory_layers and embeddings is not None:
            shape = None if ids is None else tuple(ids.shape)
            if shape != tuple(embeddings.shape[:2]):
                raise ValueError(
                    f"The motif memory reads the bases: generate(input_ids, inputs_embeds=...) needs the ids of all "
                    f"{embeddings.shape[0]} x {embeddings.shape[1]} embeddings, and got "
                    f"{'none' if shape is None else ' x '.join(map(str, shape))}."
                )
        return super().generate(inputs, *args, **kwargs)

    def _prepare_static_cache(self, *args, batch_size: int, prefill_chunk_size: int | None, **kwargs) -> Cache:
        cache = super()._prepare_static_cache(
            *args, batch_size=batch_size, prefill_chunk_size=prefill_chunk_size, **kwargs
        )
        if prefill_chunk_size is not None:  # transformers compiles the steps of the prompt as well
            self.model.reserve_memory(cache, batch_size)
        return cache

    def prepare_inputs_for_generation(
        self,
        input_ids: torch.LongTensor,
        next_sequence_length: int | None = None,
        past_key_values: Cache | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        is_first_iteration: bool | None = False,
        **kwargs,
    ) -> dict[str, Any]:
        """
        The inputs of the next step. Of a prompt of ids and embeddings they are both, of the same positions: also of a
        piece of it, and of candidates behind it, which have ids alone.
        """
        seen = 0 if inputs_embeds is None or past_key_values is None else int(past_key_values.get_seq_length())
        if self.config.memory_layers and inputs_embeds is not None and seen < inputs_embeds.shape[1]:
            is_first_iteration = True  # of embeddings, which transformers drops in all others
            input_ids = input_ids if next_sequence_length is None else input_ids[:, -next_sequence_length:]
            next_sequence_length = None
            given = inputs_embeds[:, seen : seen + input_ids.shape[1]]
            if (rest := input_ids[:, given.shape[1] :]).shape[1]:
                embedded = self.get_input_embeddings()(rest.to(given.device))
                given = torch.cat([given, embedded.to(given.dtype)], dim=1)
            inputs_embeds = given
        inputs = super().prepare_inputs_for_generation(
            input_ids,
            next_sequence_length=next_sequence_length,
            past_key_values=past_key_values,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            is_first_iteration=is_first_iteration,
            **kwargs,
        )
        if self.config.memory_layers and inputs.get("inputs_embeds") is not None:
            inputs["input_ids"] = input_ids.to(inputs["inputs_embeds"].device, memory_format=torch.contiguous_format)
        return inputs

    def create_masks_for_generate(self, config: PreTrainedConfig, inputs_embeds: torch.Tensor, **kwargs) -> Any:
        """
        The attention masks that `generate` makes ahead of a forward pass with a static cache. A prompt keeps its own
        [B, T], which tells the memory where padding is.
        """
        if inputs_embeds.shape[1] > 1:
            return kwargs["attention_mask"]
        create = getattr(self.head, "create_masks_for_generate", create_masks_for_generate)
        return create(config=self.config.backbone_config, inputs_embeds=inputs_embeds, **kwargs)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        seq_idx: torch.Tensor | None = None,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """
        Args:
            labels (`torch.LongTensor` [B, T], *optional*): the ids themselves; shifted here, -100 is ignored.
            logits_to_keep (`int` or `torch.Tensor`, *optional*): compute the last positions only (0: all).
            others: see `GengramModel.forward`.

        Returns:
            What the backbone's causal class returns: loss, logits [B, T, vocabulary], past_key_values,
            hidden_states, attentions; for mixtures of experts router_logits and aux_loss.
        """
        if getattr(self.config.backbone_config, "output_router_logits", False):
            kwargs.setdefault("output_router_logits", True)
        outputs = self.model(
            input_ids,
            attention_mask,
            position_ids,
            past_key_values,
            inputs_embeds,
            use_cache,
            seq_idx,
            return_dict=True,
            **kwargs,
        )
        if past_key_values is not None and attention_mask is not None and attention_mask.dim() == 2:
            # Heads of mixtures of experts take it for that of the tokens which were routed now.
            attention_mask = attention_mask[:, -outputs.last_hidden_state.shape[1] :]
        return self.head(
            backbone_outputs=outputs,
            attention_mask=attention_mask,
            labels=labels,
            logits_to_keep=logits_to_keep,
            return_dict=True,
            **kwargs,
        )


class GengramForMaskedLM(GengramLanguageModel):
    """
    Prediction of masked bases with a bidirectional backbone.

    Raises:
        ValueError: the backbone is causal.
    """

    _auto_class = "AutoModelForMaskedLM"

    _native = AutoModelForMaskedLM

    def __init__(self, config: GengramConfig, native: PreTrainedModel | None = None):
        if config.is_causal:
            raise ValueError(
                f"{config.backbone_config.model_type} sees only the left of a position: masked bases need a "
                "bidirectional backbone (modernbert, bert, esm ...). Use GengramForCausalLM."
            )
        super().__init__(config, native)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        seq_idx: torch.Tensor | None = None,
        **kwargs,
    ) -> MaskedLMOutput:
        """
        Args:
            labels (`torch.LongTensor` [B, T], *optional*): ids at masked positions, -100 elsewhere.
            others: see `GengramModel.forward`.

        Returns:
            `MaskedLMOutput`: loss, logits [B, T, vocabulary], hidden_states, attentions.
        """
        num_items = kwargs.pop("num_items_in_batch", None)
        outputs = self.model(
            input_ids,
            attention_mask,
            position_ids,
            inputs_embeds=inputs_embeds,
            seq_idx=seq_idx,
            return_dict=True,
            **kwargs,
        )
        result = self.head(backbone_outputs=outputs, attention_mask=attention_mask, return_dict=True)
        loss = None
        if labels is not None:  # here, because not every native head counts items over accumulated batches
            loss = self.loss_function(
                result.logits, labels, vocab_size=self.config.vocab_size, num_items_in_batch=num_items
            )
        return MaskedLMOutput(
            loss=loss, logits=result.logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class GengramForPreTraining(GengramPreTrainedModel):
    """
    The language model that a configuration is of: what is made or loaded by this name is a `GengramForCausalLM` where
    the backbone is causal, else a `GengramForMaskedLM`.
    """

    _auto_class = "AutoModelForPreTraining"

    def __new__(cls, config: GengramConfig, *args, **kwargs):
        return cls._choose(config)(config, *args, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *model_args, config=None, **kwargs):
        """As that of the two classes."""
        known = config
        if not isinstance(config, PreTrainedConfig):
            known = GengramConfig.from_pretrained(config or pretrained_model_name_or_path, **_take_hub(kwargs))
        chosen = cls._choose(known)
        return chosen.from_pretrained(pretrained_model_name_or_path, *model_args, config=config, **kwargs)

    @classmethod
    def from_backbone(
        cls, pretrained_model_name_or_path: str, memory: dict[str, Any] | None = None, **kwargs
    ) -> GengramPreTrainedModel:
        """As that of the two classes."""
        backbone = AutoConfig.from_pretrained(pretrained_model_name_or_path, **_take_hub(kwargs))
        chosen = cls._choose(GengramConfig(backbone_config=backbone, memory_layers=[]))
        return chosen.from_backbone(pretrained_model_name_or_path, memory, **kwargs)

    @staticmethod
    def _choose(config: GengramConfig) -> type[GengramLanguageModel]:
        return GengramForCausalLM if config.is_causal else GengramForMaskedLM


class GengramClassifier(GengramPreTrainedModel):
    """
    A backbone with memory and a linear layer over its hidden states.

    Args:
        config (`GengramConfig`)
        backbone (`PreTrainedModel`, *optional*): an existing backbone to build around.
    """

    def __init__(self, config: GengramConfig, backbone: PreTrainedModel | None = None):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.model = GengramModel(config, backbone)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()


class GengramForSequenceClassification(GengramClassifier):
    """
    One prediction a sequence, from the mean, the last or the first real token (`config.pooling`).

    `config.problem_type` is `"single_label_classification"`, `"multi_label_classification"` or `"regression"`;
    if it is not set, the number and type of the labels decide, as everywhere in transformers.
    """

    _auto_class = "AutoModelForSequenceClassification"

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        seq_idx: torch.Tensor | None = None,
        **kwargs,
    ) -> SequenceClassifierOutputWithPast:
        """
        Args:
            labels (`torch.Tensor`, *optional*): class indices [B], 0 and 1 [B, labels] (multi-label), or floats
                [B] or [B, labels] (regression).
            others: see `GengramModel.forward`. Without an attention mask, padding is told by the backbone's
                `pad_token_id`.

        Returns:
            `SequenceClassifierOutputWithPast`: loss, logits [B, labels], hidden_states, attentions.
        """
        num_items = kwargs.pop("num_items_in_batch", None)
        use_cache = False if use_cache is None and past_key_values is None else use_cache
        outputs = self.model(
            input_ids,
            attention_mask,
            position_ids,
            past_key_values,
            inputs_embeds,
            use_cache,
            seq_idx,
            return_dict=True,
            **kwargs,
        )
        hidden_states = outputs.last_hidden_state
        real = find_real_tokens(hidden_states, input_ids, attention_mask, self.config.pad_token_id)
        logits = self.classifier(self.dropout(pool_tokens(hidden_states, real, self.config.pooling)))
        loss = None
        if labels is not None:
            if self.config.problem_type is None:
                self.config.problem_type = _guess_problem_type(labels, self.num_labels)
            is_class = self.config.problem_type == "single_label_classification"
            loss = self.loss_function(
                labels=labels if is_class else labels.to(logits.dtype),
                pooled_logits=logits,
                config=self.config,
                num_items_in_batch=num_items,
            )
            if num_items is not None and not is_class:
                # transformers' loss is then a mean that leaves the other micro-batches of the step out.
                loss = loss * ((labels != -100).sum() / num_items).to(loss.device)
        return SequenceClassifierOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=getattr(outputs, "past_key_values", None),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class GengramForTokenClassification(GengramClassifier):
    """One prediction a token, that is a base."""

    _auto_class = "AutoModelForTokenClassification"

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        seq_idx: torch.Tensor | None = None,
        **kwargs,
    ) -> TokenClassifierOutput:
        """
        Args:
            labels (`torch.LongTensor` [B, T], *optional*): class indices; -100 is ignored.
            others: see `GengramModel.forward`.

        Returns:
            `TokenClassifierOutput`: loss, logits [B, T, labels], hidden_states, attentions.
        """
        num_items = kwargs.pop("num_items_in_batch", None)
        kwargs.setdefault("use_cache", False)
        outputs = self.model(
            input_ids,
            attention_mask,
            position_ids,
            inputs_embeds=inputs_embeds,
            seq_idx=seq_idx,
            return_dict=True,
            **kwargs,
        )
        logits = self.classifier(self.dropout(outputs.last_hidden_state))
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, self.config, num_items_in_batch=num_items)
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


def find_first_position(backbone: PreTrainedModel) -> int:
    """Where position_ids of a document start: behind the padding index in models that keep it free (RoBERTa, ESM)."""
    for name, module in backbone.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            return module.padding_idx + 1
    return 0


def find_letters(input_ids: torch.Tensor, base_token_ids: list[int], real: torch.Tensor | None = None) -> torch.Tensor:
    """
    Letters of single-base tokens.

    Args:
        input_ids (`torch.Tensor` int64 [B, T]), base_token_ids (`list[int]`): of A, C, G, T, N.
        real (`torch.Tensor` bool [B, T], *optional*): false at padding, which is no letter whatever its id.

    Returns:
        `torch.Tensor` int64 [B, T]: 0..4, or -1 for every other token.
    """
    letters = torch.full_like(input_ids, INVALID_LETTER, dtype=torch.int64)
    for letter, token in enumerate(base_token_ids):
        letters = torch.where(input_ids == token, letter, letters)
    return letters if real is None else letters.masked_fill(~real, INVALID_LETTER)


def find_layers(backbone: PreTrainedModel) -> nn.ModuleList:
    """
    The stack of layers of a transformers model.

    Raises:
        ValueError: no such stack, or the model or its layers take no keyword arguments, without which a k-mer context
            cannot reach them.
    """
    stacks = [
        module
        for module in backbone.modules()
        if isinstance(module, nn.ModuleList)
        and len(module) == backbone.config.num_hidden_layers
        and all(isinstance(layer, GradientCheckpointingLayer) for layer in module)
    ]
    name = type(backbone).__name__
    if len(stacks) != 1:
        raise ValueError(
            f"{name} cannot carry a motif memory: {len(stacks)} stacks of {backbone.config.num_hidden_layers} "
            "transformers layers found in it, one is needed."
        )
    for module in (backbone, stacks[0][0]):
        parameters = inspect.signature(module.forward).parameters.values()
        if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
            raise ValueError(
                f"{name} cannot carry a motif memory: {type(module).__name__}.forward takes no keyword arguments "
                "(**kwargs), so the bases cannot reach its layers."
            )
    return stacks[0]


def read_padding(attention_mask: Any, T: int, seen: int | torch.Tensor = 0) -> torch.Tensor | None:
    """
    Which of T positions are not padding.

    Args:
        attention_mask: 2-D, of these positions, or of `seen` earlier ones as well, or of a whole static cache;
            anything else does not say.

    Returns:
        `torch.Tensor` bool [B, T], false at padding, or `None`.
    """
    if not isinstance(attention_mask, torch.Tensor) or attention_mask.dim() != 2:
        return None
    if isinstance(seen, torch.Tensor):  # a mask of a static cache, or of these positions
        if attention_mask.shape[1] > T:
            attention_mask = attention_mask.index_select(1, seen + torch.arange(T, device=seen.device))
        return attention_mask.bool()
    start = seen if attention_mask.shape[1] >= seen + T else attention_mask.shape[1] - T
    return attention_mask[:, start : start + T].bool()


def find_real_tokens(
    hidden_states: torch.Tensor,
    input_ids: torch.Tensor | None,
    attention_mask: torch.Tensor | None,
    pad_token_id: int | None,
) -> torch.Tensor:
    """Bool [B, T], false at padding: from a 2-D attention mask, else from the padding id, else true everywhere."""
    B, T = hidden_states.shape[:2]
    if (real := read_padding(attention_mask, T)) is not None:
        return real
    if input_ids is not None and pad_token_id is not None:
        return input_ids != pad_token_id
    return torch.ones(B, T, dtype=torch.bool, device=hidden_states.device)


def pool_tokens(hidden_states: torch.Tensor, real: torch.Tensor, pooling: str) -> torch.Tensor:
    """
    One vector a sequence.

    Args:
        hidden_states (`torch.Tensor` [B, T, D]), real (`torch.Tensor` bool [B, T]).
        pooling (`str`): `"mean"` over real tokens (in float32 or better), `"last"` or `"cls"`: the last, the first.

    Returns:
        `torch.Tensor` [B, D].
    """
    real = real.to(hidden_states.device)
    if pooling == "mean":
        weights = real.to(torch.promote_types(hidden_states.dtype, torch.float32))[..., None]
        return ((hidden_states * weights).sum(1) / weights.sum(1).clamp(min=1)).to(hidden_states.dtype)
    T = real.shape[1]
    place = T - 1 - real.flip(1).int().argmax(1) if pooling == "last" else real.int().argmax(1)
    return hidden_states[torch.arange(hidden_states.shape[0], device=hidden_states.device), place]


def _guess_problem_type(labels: torch.Tensor, num_labels: int) -> str:
    if num_labels == 1:
        return "regression"
    many = labels.is_floating_point() or labels.dim() > 1
    return "multi_label_classification" if many else "single_label_classification"


def count_within(seq_idx: torch.Tensor) -> torch.Tensor:
    """Positions that start at 0 in each document: int64 [B, T]."""
    position = torch.arange(seq_idx.shape[1], device=seq_idx.device).expand_as(seq_idx)
    begins = torch.diff(seq_idx, dim=-1, prepend=seq_idx[:, :1] - 1) != 0
    return position - torch.where(begins, position, 0).cummax(-1).values


def _take_hub(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Those of the arguments that say where a file is."""
    hub = {"revision", "token", "cache_dir", "subfolder", "local_files_only", "force_download"}
    return {name: kwargs[name] for name in hub & set(kwargs)}


def _rename(name: str, prefix: str) -> str:
    if name.startswith(prefix + "."):
        return "model.backbone." + name[len(prefix) + 1 :]
    return "head." + name


def _without_pooler(config: PreTrainedConfig) -> dict[str, bool]:
    """The heads here pool by themselves; a pooler would only be parameters without a gradient."""
    if type(config) not in MODEL_MAPPING:
        raise ValueError(f"transformers has no base model for a {config.model_type!r} configuration.")
    accepts = "add_pooling_layer" in inspect.signature(MODEL_MAPPING[type(config)].__init__).parameters
    return {"add_pooling_layer": False} if accepts else {}


__all__ = [
    "GengramForCausalLM",
    "GengramForMaskedLM",
    "GengramForPreTraining",
    "GengramForSequenceClassification",
    "GengramForTokenClassification",
    "GengramModel",
    "GengramPreTrainedModel",
]
