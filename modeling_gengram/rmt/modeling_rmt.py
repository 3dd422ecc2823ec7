"""A recurrent memory around any encoder, with the encoder's own heads.

Source: Bulatov et al. 2022, Recurrent Memory Transformer (arXiv 2207.06881), and its use in GENA-LM. A segment is read
with memory vectors among its input embeddings; what the encoder makes of them is the memory of the next segment.

Dimensions: B sequences of T tokens; a step reads R of them, S tokens each, N of them content; M memory tokens; D
hidden; C classes, labels or targets.
"""

import copy
import functools
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers import initialization as init
from transformers.modeling_outputs import ModelOutput
from transformers.utils import can_return_tuple, logging

from .configuration_rmt import RmtConfig
from .segments import Step, plan_steps

logger = logging.get_logger(__name__)

# Arguments that say where a file is.
_HUB = {"cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token"}
_PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")


@dataclass
class RmtOutput(ModelOutput):
    """
    Args:
        loss (`torch.Tensor` of shape `()`, *optional*)
        logits (`torch.Tensor` of shape `(B, C)` or `(B, T, C)`, *optional*):
            Of tokens: where they stand in the input; 0 at padding, at the tokens that segments have anew, and at what
            was cut off.
        last_hidden_state (`torch.Tensor` of shape `(B, T, D)`, *optional*): of a model without head; zeros likewise.
        memory (`torch.Tensor` of shape `(B, M, D)`): after the last segment; give it back to go on reading.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    last_hidden_state: torch.Tensor | None = None
    memory: torch.Tensor | None = None


class RmtMemory(nn.Module):
    """What the memory tokens are before the first segment: a parameter [M, D]."""

    def __init__(self, num_memory_tokens: int, hidden_size: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_memory_tokens, hidden_size))

    def forward(self, B: int) -> torch.Tensor:
        """The memory of B sequences: [B, M, D]."""
        return self.weight.expand(B, -1, -1)


class BorrowedEncoder(nn.Module):
    """
    Stands where a transformers head model has its encoder, which lies in the base model: calls and attributes are the
    encoder's.

    Args:
        owner (`RmtModel`): whose encoder it is.
    """

    def __init__(self, owner: "RmtModel"):
        super().__init__()
        self._owner = (owner,)  # In a tuple, or its weights would be listed here as well.

    def forward(self, *args, **kwargs) -> ModelOutput:
        return self._owner[0].backbone(*args, **{**kwargs, "return_dict": True})

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("_"):
                raise
            return getattr(self._owner[0].backbone, name)


class RmtPreTrainedModel(PreTrainedModel):
    """
    What every model with a recurrent memory can do; see `PreTrainedModel`.

    Args:
        config (`RmtConfig`)
        native (`PreTrainedModel`, *optional*): the encoder with its head, to build around; made from the configuration
            if not given. Its weights are used, not copied, and it stays what it is.
    """

    config: RmtConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    # Each of these is the encoder's to support or to refuse.
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    native_class: ClassVar[Any] = AutoModel
    """Auto class of the encoder with its head."""
    segment_compiler: tuple[str | None, str | Callable] | None = None
    """Mode and backend with which `compile_segments` has what reads a segment compiled."""

    def __init__(self, config: RmtConfig, native: PreTrainedModel | None = None):
        super().__init__(config)
        config.backbone_config.id2label, config.backbone_config.label2id = config.id2label, config.label2id
        self._build(self._make_native(config) if native is None else native)
        self.register_load_state_dict_pre_hook(take_old_weights)
        self.post_init()

    def _build(self, native: PreTrainedModel):
        """Take the parts of the encoder, with its head where the class has one."""
        raise NotImplementedError

    @property
    def reader(self) -> nn.Module:
        """What reads a segment: the encoder, with its head where the class has one."""
        raise NotImplementedError

    @classmethod
    def _make_native(cls, config: RmtConfig) -> PreTrainedModel:
        return cls.native_class.from_config(config.backbone_config)

    def _init_weights(self, module: nn.Module):
        if isinstance(module, RmtMemory):
            init.normal_(module.weight, std=getattr(self.config.get_text_config(), "initializer_range", 0.02))
        else:
            super()._init_weights(module)

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

    @classmethod
    def from_backbone(cls, native: PreTrainedModel, **fields) -> "RmtPreTrainedModel":
        """
        A recurrent memory around a model; its weights are used, not copied.

        Args:
            native (`PreTrainedModel`): an encoder with the head of this class, e.g. a sequence classifier.
            fields: of `RmtConfig`, e.g. `num_memory_tokens=10, segment_length=512`.

        Raises:
            ValueError: an encoder without head, for a class with one.
        """
        names = {"id2label": native.config.id2label, "problem_type": native.config.problem_type}
        config = RmtConfig(backbone_config=native.config, **{**names, **fields})
        model = cls(config, native)
        model.memory_tokens.to(native.device, native.dtype)
        model.config.dtype = native.dtype
        return model

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path,
        *args,
        config=None,
        key_mapping: dict[str, str] | None = None,
        output_loading_info: bool = False,
        **kwargs,
    ):
        """
        As `PreTrainedModel.from_pretrained`, from a checkpoint of any class of the family, names of version 0.1 too;
        new may only be the head over the encoder.

        Raises:
            ValueError: weights of the encoder or the memory tokens are missing in the checkpoint.
        """
        known = config
        if not isinstance(config, PreTrainedConfig):
            hub = {name: kwargs[name] for name in _HUB & kwargs.keys()}
            known = RmtConfig.from_pretrained(config or pretrained_model_name_or_path, **hub)
        with torch.device("meta"):
            native = cls._make_native(known)
        old_names = cls._list_old_names(native.base_model, native)
        loaded: Any = super().from_pretrained(
            pretrained_model_name_or_path,
            *args,
            config=config,
            key_mapping={**(key_mapping or {}), **old_names},
            output_loading_info=True,
            **kwargs,
        )
        model, found = loaded
        body = {id(parameter) for parameter in model.base_model.parameters()}
        names = {name for name, parameter in model.named_parameters() if id(parameter) in body}
        lacking = sorted(found["missing_keys"] & names)
        if faults := [name for name in lacking if "pooler." not in name]:
            raise ValueError(
                f"{pretrained_model_name_or_path} is no {cls.__name__}: {len(faults)} weights are missing, e.g. "
                f"{faults[0]}. To put a memory around an encoder, load the encoder and call {cls.__name__}."
                "from_backbone(encoder)."
            )
        if lacking and cls is RmtModel:
            model.backbone.pooler = None  # Nothing reads it: a checkpoint of another class may have none.
            found["missing_keys"] -= set(lacking)
        return (model, found) if output_loading_info else model

    @classmethod
    def _list_old_names(cls, encoder: PreTrainedModel, native: PreTrainedModel) -> dict[str, str]:
        """
        What weights were called in version 0.1: patterns of the beginnings of names, and what stands there now.

        Models with a head then kept `native` whole as `model`, with the encoder inside; `RmtModel` kept the encoder as
        `model`.
        """
        prefix, base = encoder.base_model_prefix, "" if issubclass(cls, RmtModel) else "model."
        inner = _list_parts(encoder)
        outer = set() if native is encoder else _list_parts(native) - {prefix}
        old = {rf"^model\.{prefix}\.": f"{base}backbone."}
        for name in sorted(outer):
            old[rf"^model\.{name}(?=\.|$)"] = f"head.{name}"
        for name in sorted(inner - outer):
            # An encoder with a backbone of its own: what lies below `model.backbone` today is not what lay there then.
            today = rf"(?!\.(?:{'|'.join(sorted(inner))})(?:\.|$))" if name == "backbone" else ""
            old[rf"^model\.{name}(?=\.|$){today}"] = f"{base}backbone.{name}"
        if base:
            old[r"^memory_tokens(?=\.|$)"] = "model.memory_tokens"
        return old

    @property
    def _checkpoint_conversion_mapping(self) -> dict[str, str]:
        """PEFT renames the weights of an adapter with it."""
        return self._list_old_names(self.base_model.backbone, self.reader)

    def save_pretrained(self, save_directory, **kwargs):
        """
        As `PreTrainedModel.save_pretrained`, in this package's layout whatever `save_original_format` says, with the
        code of the model and a complete `auto_map`. Where this package is not installed, encoders of transformers can
        be loaded, not this package's.
        """
        kwargs["save_original_format"] = False
        if self.config.auto_classes:
            self.config.auto_map = dict(self.config.auto_classes)
        super().save_pretrained(save_directory, **kwargs)

    def compile_segments(
        self, mode: str | None = "reduce-overhead", backend: str | Callable = "inductor"
    ) -> "RmtPreTrainedModel":
        """
        Read every segment by one compiled graph; where no gradients are wanted, on a GPU, by one CUDA graph.

        Segments are then all of one shape: filled up to `segment_length`, and of all sequences of the batch, also of
        those that begin later. So there is one graph for evaluation and one for training, for a size of the batch.
        Answers, losses and gradients are the same up to rounding, but for encoders whose attention depends on how far
        a segment is filled up (BigBird's block-sparse one), which see filled-up segments as they see full ones.

        Args:
            mode: of `torch.compile`; `"reduce-overhead"` records CUDA graphs. None: its default, which does not.
            backend: of `torch.compile`.

        Returns:
            The same model.
        """
        self.segment_compiler = (mode, backend)
        # transformers hooks a model's layers in its first call, which no graph can: so not in the first compiled one.
        memory = self.memory_tokens(1)
        ids = torch.full((1, self.config.segment_length), self.config.pad_token_id, device=memory.device)
        with torch.no_grad(), torch.random.fork_rng([memory.device] if memory.is_cuda else []):
            self.read_segment(ids, torch.ones_like(ids), memory)
        return self

    def read_segment(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, memory: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Read one segment of each of R sequences.

        Args:
            input_ids: int64 [R, S], `pad_token_id` where the memory goes.
            attention_mask: [R, S].
            memory: [R, M, D], after the segment before.

        Returns:
            What the encoder's head says, [R, C] or [R, S, C] (without head the hidden states [R, S, D]); and the
            memory [R, M, D].
        """
        start, M = int(self.config.cls_token_id >= 0), self.config.num_memory_tokens
        vectors = self.get_input_embeddings()(input_ids)
        vectors = torch.cat([vectors[:, :start], memory.to(vectors), vectors[:, start + M :]], dim=1)
        inputs = {"inputs_embeds": vectors, "attention_mask": attention_mask}
        if self.config.backbone_config.model_type == "gengram":
            inputs["input_ids"] = input_ids  # a motif memory reads the bases
        outputs = self.reader(**inputs, output_hidden_states=True, return_dict=True)
        hidden_states = outputs.hidden_states[-1]
        answer = hidden_states if outputs.get("logits") is None else outputs.logits
        # A model that is spread over devices answers on its last one; everything else is where the input is.
        return answer.to(input_ids.device), hidden_states[:, start : start + M].to(input_ids.device)

    def read_sequences(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        memory: torch.Tensor | None,
        digest: Callable[[Step, torch.Tensor], Any],
        pad_token_id: int | None = None,
    ) -> tuple[list[tuple[Step, Any]], torch.Tensor]:
        """
        Read the sequences of a batch, a segment of each at a time.

        Args:
            input_ids: int64 [B, T].
            attention_mask: [B, T], or None.
            memory: [B, M, D] to begin with, or None.
            digest: makes of a step and its answer (of `read_segment`) what is to be kept of it.
            pad_token_id: of what stands behind short segments, if not the configuration's.

        Returns:
            Each step and what was kept of it, and the memory after the last one, [B, M, D].
        """
        config = self.config
        dropped = [config.cls_token_id, config.sep_token_id, config.pad_token_id]
        read_segment, compiled = self.read_segment, self.segment_compiler is not None
        if torch.compiler.is_compiling():  # as a part of a larger graph
            compiled = False
        if compiled:
            read_segment = functools.partial(_run_compiled, self)
        plan = config.content_length, config.max_segments, config.segment_alignment
        steps = plan_steps(input_ids, attention_mask, dropped, *plan, whole=compiled)
        state = (self.memory_tokens(input_ids.shape[0]) if memory is None else memory).to(input_ids.device)
        if (
            config.compat is not None
            and config.bptt_depth is not None
            and config.bptt_depth < (config.max_segments or 0)
        ):
            state = state.detach()  # The original code counts empty segments before the first one.
        kept = []
        laid_out = self._lay_out_all(input_ids, steps, pad_token_id) if compiled else None

        def read(number: int, step: Step, entering: torch.Tensor):
            ids, mask = self._lay_out(input_ids, step, pad_token_id) if laid_out is None else laid_out[number]
            answer, leaving = read_segment(ids, mask, entering)
            return digest(step, answer), leaving

        for number, step in enumerate(steps):
            entering = self._cut_gradient(state[step.rows], step.distance)
            if config.recompute_segments and self.training and torch.is_grad_enabled():
                result, leaving = checkpoint(read, number, step, entering, use_reentrant=False)
            else:
                result, leaving = read(number, step, entering)
            kept.append((step, result))
            leaving = torch.where(step.begun[:, None, None], leaving, state[step.rows].to(leaving.dtype))
            whole = leaving.shape[0] == state.shape[0]
            state = leaving if whole else state.index_copy(0, step.rows, leaving.to(state.dtype))
        return kept, state

    def _lay_out_all(
        self, input_ids: torch.Tensor, steps: list[Step], pad_token_id: int | None
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Those of each step, made at once: steps that all have all sequences."""
        rows, places = (torch.cat([getattr(step, name) for step in steps]) for name in ("rows", "places"))
        begun = torch.cat([step.begun for step in steps])
        ids, mask = self._lay_out(input_ids, Step(rows, places, 0, begun), pad_token_id)
        # Copies: of a view of all, a graph would look at how many they are.
        return [(one.clone(), other.clone()) for one, other in zip(ids.chunk(len(steps)), mask.chunk(len(steps)))]

    def _lay_out(self, input_ids: torch.Tensor, step: Step, pad_token_id: int | None):
        """Ids and mask of the segments, each [R, S]: `[CLS] memory [SEP] content [SEP]`, then padding."""
        config = self.config
        R, N = step.places.shape
        pad = config.pad_token_id
        counts = (step.places >= 0).sum(1, keepdim=True)
        content = input_ids[step.rows].gather(1, step.places.clamp(min=0)) if N else step.places
        if config.compat is not None and config.content_length > N:  # the original code fills every segment up
            content = nn.functional.pad(content, (0, config.content_length - N))
        after = torch.arange(content.shape[1] + int(config.sep_token_id >= 0), device=input_ids.device)
        content = nn.functional.pad(content, (0, len(after) - content.shape[1]))
        content = content.masked_fill(after >= counts, pad if pad_token_id is None else pad_token_id)
        head = [pad] * config.num_memory_tokens
        if config.cls_token_id >= 0:
            head = [config.cls_token_id, *head]
        if config.sep_token_id >= 0:
            content = content.masked_fill(after == counts, config.sep_token_id)
            head = [*head, config.sep_token_id]
        ids = torch.cat([input_ids.new_tensor(head).expand(R, -1), content], dim=1)
        mask = torch.cat([torch.ones(R, len(head), device=ids.device), (content != pad).float()], dim=1)
        return ids, mask.long()

    def _cut_gradient(self, entering: torch.Tensor, distance: int) -> torch.Tensor:
        depth = self.config.bptt_depth
        if depth is None or distance <= depth or not torch.is_grad_enabled():
            return entering
        cut = entering.detach()
        if self.config.compat is not None:
            return cut
        # The value stays; the gradient goes to the memory tokens, which would otherwise never be trained.
        start = self.memory_tokens(cut.shape[0]).to(cut.device)
        return cut + (start - start.detach())

    def _select_content(self, step: Step, answer: torch.Tensor) -> torch.Tensor:
        """The part of an answer [R, S, C] that belongs to the content: [R, N, C]."""
        start = self.config.num_memory_tokens + self.config.num_special_tokens - int(self.config.sep_token_id >= 0)
        return answer[:, start : start + step.places.shape[1]]

    def _align(self, shape: torch.Size, kept: list[tuple[Step, torch.Tensor]]) -> torch.Tensor:
        """Put the contents [R, N, C] of the steps where they stand in the input: [B, T, C], zeros elsewhere."""
        aligned = kept[-1][1].new_zeros(*shape, kept[-1][1].shape[-1])
        for step, content in kept:
            # Added, not put: what stands behind the last token of a segment adds zeros to some place.
            content = content.masked_fill((step.places < 0)[..., None], 0)
            aligned = aligned.index_put((step.rows[:, None], step.places.clamp(min=0)), content, accumulate=True)
        return aligned


class RmtModel(RmtPreTrainedModel):
    """The encoder without a head, with a recurrent memory."""

    _auto_class = "AutoModel"

    native_class = AutoModel

    def _build(self, native: PreTrainedModel):
        self.backbone = native.base_model
        self.memory_tokens = RmtMemory(self.config.num_memory_tokens, self.config.hidden_size)

    @property
    def reader(self) -> nn.Module:
        return self.backbone

    def get_input_embeddings(self) -> nn.Module:
        return self.backbone.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module):
        self.backbone.set_input_embeddings(value)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        memory: torch.Tensor | None = None,
        **kwargs,
    ) -> RmtOutput:
        """
        Args:
            input_ids (`torch.LongTensor` of shape `(B, T)`): of any length; special tokens in it are dropped.
            attention_mask (`torch.Tensor` of shape `(B, T)`, *optional*): 0 where there is nothing.
            memory (`torch.Tensor` of shape `(B, M, D)`, *optional*): to begin with; the memory tokens if not given.

        Returns:
            `RmtOutput`: `last_hidden_state`, `memory`.

        Raises:
            TypeError: `input_ids` are missing; hidden states or attentions are asked for (`output_hidden_states`,
                `output_attentions`), pairs (`token_type_ids`), or there is another argument that does not exist.
        """
        input_ids = _require_ids(input_ids, kwargs)
        _refuse_arguments(self.config, kwargs)
        kept, memory = self.read_sequences(input_ids, attention_mask, memory, self._select_content)
        return RmtOutput(last_hidden_state=self._align(input_ids.shape, kept), memory=memory)


class RmtHeadModel(RmtPreTrainedModel):
    """The encoder with a head of its own classes: the base model, and what is left of the model with the head."""

    def _build(self, native: PreTrainedModel):
        prefix = native.base_model_prefix
        if native.base_model is native:
            raise ValueError(
                f"{type(native).__name__} has no head: give {type(self).__name__} a model of "
                f"{self.native_class.__name__}, or take RmtModel"
            )
        self.model = RmtModel(self.config, native.base_model)
        self.head = _take_head(native, BorrowedEncoder(self.model))
        # The head's ties, now between `head.*` and `model.backbone.*`.
        ties = native._tied_weights_keys or {}
        self._tied_weights_keys = {_place(name, prefix): _place(source, prefix) for name, source in ties.items()}
        # What is left of its plans of parallelism is the head's; the encoder brings its own.
        for plan in ("_tp_plan", "_ep_plan", "_pp_plan", "_fsdp_plan"):
            entries = getattr(native, plan, None) or {}
            kept = {name: rule for name, rule in entries.items() if not name.startswith(f"{prefix}.")}
            setattr(self.head, plan, kept)

    @property
    def memory_tokens(self) -> RmtMemory:
        """What the memory is before the first segment."""
        return self.model.memory_tokens

    @property
    def reader(self) -> nn.Module:
        return self.head


class RmtForSequenceClassification(RmtHeadModel):
    """The encoder with its head for sequences, and a recurrent memory: the head reads the last segment."""

    _auto_class = "AutoModelForSequenceClassification"

    native_class = AutoModelForSequenceClassification

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        memory: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        pos_weight: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs,
    ) -> RmtOutput:
        """
        Args:
            input_ids, attention_mask, memory: see `RmtModel.forward`.
            labels (`torch.Tensor`, *optional*): int64 [B], or [B, C] for several labels (0 or 1), floats for numbers.
                Where `config.problem_type` is not set, they decide, and it is set.
            pos_weight (`torch.Tensor`, *optional*): of the positives of several labels, [C] or [B, C].

        Returns:
            `RmtOutput`: `loss`, `logits` [B, C] of the last segment, `memory`.
        """
        input_ids = _require_ids(input_ids, kwargs)
        _refuse_arguments(self.config, kwargs)
        pad = 0 if self.config.compat == "gena" else None
        kept, memory = self.read_sequences(input_ids, attention_mask, memory, lambda step, answer: answer, pad)
        logits, loss = kept[-1][1], None
        if labels is not None:
            if self.config.problem_type is None:
                self.config.problem_type = guess_problem_type(labels, self.config.num_labels, dims=2)
            problem = self.config.problem_type
            weights = [
                pos_weight[step.rows] if pos_weight is not None and pos_weight.dim() == 2 else pos_weight
                for step, _ in kept
            ]
            losses = [
                measure_losses(problem, answer, labels[step.rows], weight, summed=False)
                for (step, answer), weight in zip(kept, weights)
            ]
            if self.config.segment_losses == "last":
                loss = losses[-1].mean()
            elif self.config.compat is not None:
                sizes = torch.stack([step.begun.sum() for step, _ in kept])
                totals = torch.stack([(each * step.begun).sum() for (step, _), each in zip(kept, losses)])
                loss = (totals / sizes.clamp(min=1)).sum() / (sizes > 0).sum()
            else:
                rows, begun = (torch.cat([getattr(step, name) for step, _ in kept]) for name in ("rows", "begun"))
                counts = torch.zeros(labels.shape[0], device=rows.device).index_add(0, rows, begun.float())
                loss = (torch.cat(losses) * begun / counts[rows]).sum() / labels.shape[0]
            loss = loss * _find_share(labels, num_items_in_batch)
        return RmtOutput(loss=loss, logits=logits, memory=memory)


class RmtTokenModel(RmtHeadModel):
    """What the models with an answer for each token share: losses by segment, logits where the tokens stand."""

    def _classify(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        memory: torch.Tensor | None,
        labels: torch.Tensor | None,
        labels_mask: torch.Tensor | None,
        problem: str,
        pos_weight: torch.Tensor | None,
        num_items_in_batch: torch.Tensor | int | None,
        return_logits: bool | None,
    ) -> RmtOutput:
        if return_logits is None:
            return_logits = labels is None or not self.training

        def digest(step: Step, answer: torch.Tensor) -> tuple:
            logits = self._select_content(step, answer)
            if labels is None:
                return None, None, logits
            places, rows = step.places.clamp(min=0), step.rows[:, None]
            counted = step.places >= 0
            if labels_mask is not None:
                counted = counted & labels_mask[rows, places].bool()
            targets = labels[rows, places]
            if problem == "single_label_classification":
                counted = counted & (targets != -100)
            weight = pos_weight[rows, places] if pos_weight is not None and pos_weight.dim() == 3 else pos_weight
            losses = measure_losses(problem, logits, targets, weight, summed=labels_mask is not None)
            total = torch.where(counted, losses, 0.0).sum()
            return total, counted.sum(), logits if return_logits else None

        kept, memory = self.read_sequences(input_ids, attention_mask, memory, digest)
        logits, loss = None, None
        if return_logits:
            logits = self._align(input_ids.shape, [(step, content) for step, (_, _, content) in kept])
        if labels is not None:
            totals = torch.stack([total for _, (total, _, _) in kept])
            counts = torch.stack([count for _, (_, count, _) in kept])
            if self.config.compat is not None:
                begun = torch.stack([step.begun.any() for step, _ in kept])
                loss = (totals / counts.clamp(min=1)).sum() / begun.sum()
            else:
                loss = totals.sum() / counts.sum().clamp(min=1)
            loss = loss * _find_share(labels, num_items_in_batch)
        return RmtOutput(loss=loss, logits=logits, memory=memory)


class RmtForTokenClassification(RmtTokenModel):
    """The encoder with its head for tokens, and a recurrent memory."""

    _auto_class = "AutoModelForTokenClassification"

    native_class = AutoModelForTokenClassification

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        memory: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        labels_mask: torch.Tensor | None = None,
        pos_weight: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        return_logits: bool | None = None,
        **kwargs,
    ) -> RmtOutput:
        """
        Args:
            input_ids, attention_mask, memory: see `RmtModel.forward`.
            labels (`torch.Tensor`, *optional*): int64 [B, T], -100 where there is none; or float [B, T, C].
            labels_mask (`torch.Tensor` of shape `(B, T)`, *optional*): nonzero at the tokens that have labels. With
                it, losses are summed over labels and divided by the number of tokens, as GENA-LM's are.
            pos_weight (`torch.Tensor`, *optional*): of the positives of several labels, [C] or [B, T, C].
            return_logits (`bool`, *optional*): defaults to true, but while training with labels, where nobody reads
                them and they would fill the memory.

        Returns:
            `RmtOutput`: `loss`, the mean over all tokens with labels; `logits` [B, T, C]; `memory`.
        """
        input_ids = _require_ids(input_ids, kwargs)
        _refuse_arguments(self.config, kwargs)
        problem = self.config.problem_type
        if problem is None and labels is not None:
            problem = guess_problem_type(labels, self.config.num_labels, dims=3)
            if problem != "single_label_classification":  # which goes without saying for tokens, as in transformers
                self.config.problem_type = problem
        return self._classify(
            input_ids,
            attention_mask,
            memory,
            labels,
            labels_mask,
            problem,
            pos_weight,
            num_items_in_batch,
            return_logits,
        )


class RmtForMaskedLM(RmtTokenModel):
    """The encoder with its head for masked tokens, and a recurrent memory."""

    _auto_class = "AutoModelForMaskedLM"

    native_class = AutoModelForMaskedLM

    def get_output_embeddings(self) -> nn.Module:
        return self.head.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module):
        self.head.set_output_embeddings(new_embeddings)

    def resize_token_embeddings(self, *args, **kwargs) -> nn.Embedding:
        old_rows = self.config.vocab_size
        embeddings = super().resize_token_embeddings(*args, **kwargs)
        rows = self.config.vocab_size
        # Some heads (ESM) keep the bias of the vocabulary apart from the matrix, where transformers does not find it.
        for module in self.head.modules():
            bias = module._parameters.get("bias")
            if bias is not None and not hasattr(module, "weight") and bias.shape == (old_rows,):
                resized = bias.new_zeros(rows)
                resized[: min(old_rows, rows)] = bias.data[:rows]
                module.bias = nn.Parameter(resized, requires_grad=bias.requires_grad)
        return embeddings

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        memory: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        return_logits: bool | None = None,
        **kwargs,
    ) -> RmtOutput:
        """
        Args:
            input_ids, attention_mask, memory: see `RmtModel.forward`.
            labels (`torch.LongTensor` of shape `(B, T)`, *optional*): true ids of the masked tokens, -100 elsewhere.
            return_logits (`bool`, *optional*): see `RmtForTokenClassification.forward`.

        Returns:
            `RmtOutput`: `loss`, `logits` [B, T, vocab_size], `memory`.
        """
        input_ids = _require_ids(input_ids, kwargs)
        _refuse_arguments(self.config, kwargs)
        problem = "single_label_classification"
        return self._classify(
            input_ids, attention_mask, memory, labels, None, problem, None, num_items_in_batch, return_logits
        )


def _take_head(native: PreTrainedModel, encoder: nn.Module) -> PreTrainedModel:
    """A model of the same parts with another encoder; the given one keeps its own."""
    head = copy.copy(native)
    for name, value in vars(head).items():
        if isinstance(value, (dict, set)):
            vars(head)[name] = copy.copy(value)
    setattr(head, native.base_model_prefix, encoder)
    head._tied_weights_keys, head.all_tied_weights_keys = None, {}
    return head


def _place(name: str, prefix: str) -> str:
    """What a weight of a head model is called here; `prefix`: of its encoder."""
    encoder = f"{prefix}."
    return f"model.backbone.{name.removeprefix(encoder)}" if name.startswith(encoder) else f"head.{name}"


def _list_parts(model: nn.Module) -> set[str]:
    """First parts of the names of its weights."""
    weights = (model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False))
    return {name.partition(".")[0] for name, _ in itertools.chain(*weights)}


def rename_old_weights(model: RmtPreTrainedModel, state_dict: dict[str, Any], prefix: str = "", *_) -> None:
    """
    Give the weights of a state dict, in place, the names that a model has for them today.

    Args:
        model: it takes any state dict through this.
        state_dict: names of version 0.1, which are those of the original code too, or of today.
        prefix: before the names of this model's weights; what does not begin so is left as it is.
    """
    patterns = model._checkpoint_conversion_mapping
    for name in [name for name in state_dict if name.startswith(prefix)]:
        inner = name.removeprefix(prefix)
        for pattern, replacement in patterns.items():
            renamed, count = re.subn(pattern, replacement, inner)
            if count:
                state_dict[prefix + renamed] = state_dict.pop(name)
                break


def take_old_weights(model: RmtPreTrainedModel, state_dict: dict[str, Any], prefix: str = "", *_) -> None:
    """As `rename_old_weights`, where a state dict is loaded: tells what else goes with the old names."""
    given = set(state_dict)
    rename_old_weights(model, state_dict, prefix)
    if given - set(state_dict):
        logger.warning(
            "These weights have the names, and so the order, of version 0.1. The state of an optimizer that was saved "
            "with them is kept by that order and would be given to other weights: train on with a new optimizer "
            "(without resume_from_checkpoint), from the weights."
        )


# In training the gradients of weights would lie where the next micro-batch is written to.
_WITHOUT_CUDA_GRAPHS = {"reduce-overhead": None, "max-autotune": "max-autotune-no-cudagraphs"}


@functools.lru_cache(maxsize=16)
def _compile_reader(mode: str | None, backend: str | Callable) -> Callable:
    return torch.compile(RmtPreTrainedModel.read_segment, mode=mode, backend=backend)


def _run_compiled(
    model: RmtPreTrainedModel, input_ids: torch.Tensor, attention_mask: torch.Tensor, memory: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """`read_segment` by the graph that `compile_segments` asked for."""
    assert model.segment_compiler is not None
    mode, backend = model.segment_compiler
    if torch.is_grad_enabled():
        return _compile_reader(_WITHOUT_CUDA_GRAPHS.get(mode, mode), backend)(model, input_ids, attention_mask, memory)
    if input_ids.is_cuda:
        torch.compiler.cudagraph_mark_step_begin()
    answer, leaving = _compile_reader(mode, backend)(model, input_ids, attention_mask, memory)
    # What a CUDA graph returns is written over by its next run, that of the next segment.
    return answer.clone(), leaving.clone()


def _require_ids(input_ids: torch.Tensor | None, arguments: dict[str, Any]) -> torch.Tensor:
    """
    Return the ids.

    Raises:
        TypeError: there are none, or there are embeddings.
    """
    if arguments.get("inputs_embeds") is not None:
        raise TypeError(
            "inputs_embeds: a recurrent memory lays segments out by their ids, so pass input_ids alone. What hands "
            "over embeddings, as prompt tuning does, cannot be used; LoRA and IA3 can."
        )
    if input_ids is None:
        raise TypeError("input_ids: they are missing, and a recurrent memory lays segments out by them")
    return input_ids


def _refuse_arguments(config: RmtConfig, arguments: dict[str, Any]) -> None:
    """
    Let through what says nothing, as Trainer, PEFT and the pipelines pass it: nothing, false, one text.

    Raises:
        TypeError: an argument, or a field of the configuration in its place, that would be left out of the answer.
    """
    for name in ("output_hidden_states", "output_attentions"):
        if arguments.get(name) is None and getattr(config, name, False):
            raise TypeError(
                f"config.{name}=True: a model with a recurrent memory has no such answer; set it to False, or pass "
                f"{name}=False"
            )
    for name, value in arguments.items():
        if value is None or value is False or name in ("num_items_in_batch", "return_dict"):
            continue
        if name == "past_key_values":
            raise TypeError(
                "past_key_values: a recurrent memory hands its own state from segment to segment and takes no other "
                "past. So prefix tuning cannot be used; LoRA and IA3 can."
            )
        if name != "token_type_ids":
            raise TypeError(f"{name}: a model with a recurrent memory takes no such argument")
        if not torch.compiler.is_compiling() and value.any():
            raise TypeError("token_type_ids: there are no pairs in segments, give zeros or leave them out")


def guess_problem_type(labels: torch.Tensor, num_labels: int, dims: int) -> str:
    """Return the `problem_type` that labels can only mean; `dims`: of the logits."""
    if not labels.is_floating_point() and labels.dim() < dims and num_labels > 1:
        return "single_label_classification"
    return "regression" if num_labels == 1 else "multi_label_classification"


def measure_losses(
    problem_type: str, logits: torch.Tensor, labels: torch.Tensor, pos_weight: torch.Tensor | None, summed: bool
) -> torch.Tensor:
    """
    The loss of each sequence or token: float32 [...].

    Args:
        problem_type: cross-entropy in nats for one class (0 at labels of -100) or several labels, squared error for
            `regression`.
        logits: [..., C].
        labels: int64 [...], or float [..., C] or, for C = 1, [...].
        pos_weight: of positives, broadcast over [..., C].
        summed: over C, in place of the mean.

    Raises:
        ValueError: an unknown problem type.
    """
    if problem_type not in _PROBLEM_TYPES:
        raise ValueError(f"problem_type={problem_type!r}: choose one of {', '.join(_PROBLEM_TYPES)}")
    logits = logits.float()
    if problem_type == "single_label_classification":
        losses = nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none")
        return losses.view(labels.shape)
    targets = labels.to(logits).reshape(logits.shape)
    if problem_type == "multi_label_classification":
        losses = nn.functional.binary_cross_entropy_with_logits(
            logits, targets, pos_weight=pos_weight, reduction="none"
        )
        return losses.sum(-1) if summed else losses.mean(-1)
    return (logits - targets).square().mean(-1)


def _find_share(labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None) -> torch.Tensor | float:
    """Share of this micro-batch in the step: Trainer does not divide the loss by their number."""
    return 1.0 if num_items_in_batch is None else (labels != -100).sum() / num_items_in_batch


__all__ = [
    "RmtForMaskedLM",
    "RmtForSequenceClassification",
    "RmtForTokenClassification",
    "RmtModel",
    "RmtOutput",
    "RmtPreTrainedModel",
    "rename_old_weights",
]
