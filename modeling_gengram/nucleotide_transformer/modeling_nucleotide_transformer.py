"""Nucleotide Transformers: transformers' ESM modules, where v2 has another MLP and another rotation.

Names of weights are those of the published checkpoints. What these files have and no forward pass reads is left out:
the contact head (never trained on DNA), tables of learned positions in rotary models, and buffers.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import (
    BaseModelOutput,
    MaskedLMOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.esm.modeling_esm import (
    EsmClassificationHead,
    EsmEmbeddings,
    EsmIntermediate,
    EsmLayer,
    EsmLMHead,
    EsmSelfAttention,
    eager_attention_forward,
)
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .configuration_nucleotide_transformer import NucleotideTransformerConfig
from .rotation import rotate

# Share of `<mask>` among the tokens of pre-training, 15% selected, 80% of them masked: token dropout counts with it.
PRETRAINING_MASKS = 0.15 * 0.8


class NucleotideTransformerEmbeddings(EsmEmbeddings):
    """Word embeddings, token dropout, learned positions; zero at padding if an attention mask is given."""

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, inputs_embeds=None) -> torch.Tensor:
        """Ids int64 [B, T] or word embeddings [B, T, D] -> [B, T, D]."""
        if inputs_embeds is not None and self.token_dropout:
            # Masks cannot be told from embeddings: scaled as a sequence without any.
            inputs_embeds = inputs_embeds * (1 - PRETRAINING_MASKS)
        return super().forward(input_ids, attention_mask, position_ids, inputs_embeds)


class NucleotideTransformerRotaryEmbedding(nn.Module):
    """
    Angles of the rotation, always in float32.

    They are made anew in each call and are no buffer: in half precision a buffer's frequencies would lose the digits
    that far positions need, and a table made in inference mode could not be trained with.
    """

    def __init__(self, config: NucleotideTransformerConfig):
        super().__init__()
        self.width = config.head_dim
        self.base = config.rope_theta
        if config.rescaling_factor is not None:
            # NTK-aware scaling: the lowest frequency becomes 1/factor of itself, the highest stays.
            self.base *= config.rescaling_factor ** (self.width / (self.width - 2))

    def forward(self, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions int64 [B, T], counted from 0 -> cosines and sines, float32 [B, T, head width / 2]."""
        steps = torch.arange(0, self.width, 2, dtype=torch.float32, device=position_ids.device)
        angles = position_ids[..., None].float() / self.base ** (steps / self.width)
        return angles.cos(), angles.sin()


class NucleotideTransformerSelfAttention(EsmSelfAttention):
    """Attention of all tokens to all. ESM scales queries, not scores: in rotary models their rotation does that."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        encoder_hidden_states: None = None,
        encoder_attention_mask: None = None,
        position_embeddings: tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]] | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """[B, T, D], tables of `rotate` for queries and keys -> [B, T, D], weights [B, heads, T, T] if eager."""
        shape = (*hidden_states.shape[:-1], -1, self.attention_head_size)
        projections = (self.query, self.key, self.value)
        query, key, value = (project(hidden_states).view(shape).transpose(1, 2) for project in projections)
        if position_embeddings is None:
            query = query * self.attention_head_size**-0.5
        else:
            query, key = (rotate(x, *tables) for x, tables in zip((query, key), position_embeddings))
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        dropout = self.dropout if self.training else 0.0
        states, weights = attend(
            self, query, key, value, attention_mask, scaling=self.scaling, dropout=dropout, **kwargs
        )
        return states.reshape(*shape[:-2], -1), weights


class NucleotideTransformerIntermediate(EsmIntermediate):
    """ESM's, whose GELU, put together of five operators, reads and writes five times as much as PyTorch's."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """[B, T, D] -> [B, T, intermediate size]."""
        return nn.functional.gelu(self.dense(hidden_states))


class NucleotideTransformerGate(nn.Module):
    """`SiLU(gate) * up`, with gate and up the two halves of one projection (SwiGLU, arXiv:2002.05202)."""

    def __init__(self, config: NucleotideTransformerConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=config.mlp_bias)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """[B, T, D] -> [B, T, intermediate size]."""
        gate, up = self.dense(hidden_states).chunk(2, dim=-1)
        return nn.functional.silu(gate) * up


class NucleotideTransformerLayer(EsmLayer):
    """An ESM layer, norms first, with the MLP that the configuration names."""

    def __init__(self, config: NucleotideTransformerConfig):
        super().__init__(config)
        self.attention.self = NucleotideTransformerSelfAttention(config)
        if config.gated_mlp:
            self.intermediate = NucleotideTransformerGate(config)
        else:
            self.intermediate = NucleotideTransformerIntermediate(config)
            if not config.mlp_bias:
                self.intermediate.dense = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        if not config.mlp_bias:
            self.output.dense = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)


class NucleotideTransformerEncoder(nn.Module):
    """A stack of layers and the norm behind it."""

    def __init__(self, config: NucleotideTransformerConfig):
        super().__init__()
        self.layer = nn.ModuleList([NucleotideTransformerLayer(config) for _ in range(config.num_hidden_layers)])
        self.emb_layer_norm_after = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.gradient_checkpointing = False

    def forward(self, hidden_states: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> torch.Tensor:
        """[B, T, D] -> [B, T, D]; everything else goes to the layers."""
        for layer in self.layer:
            hidden_states = layer(hidden_states, **kwargs)
        return self.emb_layer_norm_after(hidden_states)


def refuse_past(arguments: Mapping[str, Any]) -> None:
    """Refuse keys and values of a past, which would be left out silently.

    Raises:
        ValueError: `past_key_values` are among the arguments.
    """
    if arguments.get("past_key_values") is not None:
        raise ValueError(
            "past_key_values: an encoder reads its input at once and has no past. So prefix tuning cannot be used; "
            "LoRA and IA3 can."
        )


class NucleotideTransformerPreTrainedModel(PreTrainedModel):
    """What every Nucleotide Transformer can do; see `PreTrainedModel`."""

    config: NucleotideTransformerConfig
    base_model_prefix = "esm"
    supports_gradient_checkpointing = True
    _no_split_modules = ["NucleotideTransformerEmbeddings", "NucleotideTransformerLayer"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_record_outputs = {
        "hidden_states": NucleotideTransformerLayer,
        "attentions": OutputRecorder(EsmSelfAttention, index=1, layer_name="attention"),
    }
    # In published files and read by no forward pass; the configuration says all that the last two do.
    _keys_to_ignore_on_load_unexpected = [
        r"contact_head\.regression\.(weight|bias)$",
        r"embeddings\.position_embeddings\.weight$",
        r"embeddings\.position_ids$",
        r"rotary_embeddings\.inv_freq$",
    ]
    # Heads: new where a checkpoint lacks them, left where a class has none.
    _trainable_heads: tuple[str, ...] = ("classifier.",)
    _foreign_heads: tuple[str, ...] = ("lm_head.", "classifier.")

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        if isinstance(module, EsmLMHead):
            init.zeros_(module.bias)
        elif isinstance(module, EsmEmbeddings):
            init.copy_(module.position_ids, torch.arange(module.position_ids.shape[-1]).expand((1, -1)))

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path, *args: Any, output_loading_info: bool = False, **kwargs: Any
    ) -> Any:
        """
        As `PreTrainedModel.from_pretrained`; reads published checkpoints and those of this package.

        Raises:
            ValueError: weights are missing (a new classifier may be), or some belong to another architecture;
                transformers would fill the first with random numbers and drop the second.
            RuntimeError: a weight has another shape (transformers).
        """
        loaded: Any = super().from_pretrained(pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs)
        model, found = loaded
        missing = sorted(name for name in found["missing_keys"] if not name.startswith(cls._trainable_heads))
        foreign = sorted(name for name in found["unexpected_keys"] if not name.startswith(cls._foreign_heads))
        for names, fault in ((missing, "are missing in the checkpoint"), (foreign, "have no place in the model")):
            if names:
                raise ValueError(
                    f"{pretrained_model_name_or_path}: the checkpoint does not fit {cls.__name__}: {len(names)} "
                    f"weights {fault}, e.g. {names[0]}"
                )
        return (model, found) if output_loading_info else model

    def save_pretrained(self, save_directory, **kwargs):
        """
        As `PreTrainedModel.save_pretrained`, with the code of the model and a complete `auto_map`, so that every head
        loads where the package is not installed.
        """
        if self.config.auto_classes:
            self.config.auto_map = dict(self.config.auto_classes)
        super().save_pretrained(save_directory, **kwargs)


class NucleotideTransformerModel(NucleotideTransformerPreTrainedModel):
    """The encoder without a head."""

    _auto_class = "AutoModel"

    def __init__(self, config: NucleotideTransformerConfig):
        super().__init__(config)
        self.embeddings = NucleotideTransformerEmbeddings(config)
        rotary = config.position_embedding_type == "rotary"
        self.rotary_embeddings = NucleotideTransformerRotaryEmbedding(config) if rotary else None
        self.encoder = NucleotideTransformerEncoder(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module):
        self.embeddings.word_embeddings = value

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutput:
        """
        Args:
            input_ids (`torch.LongTensor` [B, T]): `<cls>` and the k-mers.
            attention_mask (`torch.Tensor` [B, T], *optional*): 0 at padding. Learned positions skip padding by its id,
                whether or not a mask is given.
            position_ids (`torch.LongTensor` [B, T], *optional*): rows of the table of learned positions, the first
                token's being `pad_token_id + 1`; in rotary models positions from 0.
            inputs_embeds (`torch.FloatTensor` [B, T, D], *optional*): word embeddings instead of `input_ids`.

        Returns:
            `BaseModelOutput`:
            - last_hidden_state [B, T, D], behind the final norm; meaningless at padding;
            - hidden_states, if asked for, L + 1 of [B, T, D]: 0 is the embedding, i (0 < i < L) the output of layer i
              counted from 1, L is last_hidden_state;
            - attentions, if asked for (eager attention), L of [B, heads, T, T].

        Raises:
            ValueError: more tokens than there are learned positions; both or none of `input_ids` and `inputs_embeds`;
                `past_key_values`, which an encoder does not have.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Pass either input_ids or inputs_embeds.")
        refuse_past(kwargs)
        if self.rotary_embeddings is None and position_ids is None:
            self._check_length(input_ids, inputs_embeds)
        flat_mask = attention_mask if attention_mask is not None and attention_mask.dim() == 2 else None
        hidden_states = self.embeddings(input_ids, flat_mask, position_ids, inputs_embeds)
        rotation = None
        if self.rotary_embeddings is not None:
            if position_ids is None:
                position_ids = torch.arange(hidden_states.shape[1], device=hidden_states.device)[None]
            cosines, sines = self.rotary_embeddings(position_ids)
            scale = self.config.head_dim**-0.5
            rotation = (cosines * scale, sines * scale), (cosines, sines)
        hidden_states = self.encoder(
            hidden_states,
            attention_mask=create_bidirectional_mask(self.config, hidden_states, attention_mask),
            position_embeddings=rotation,
            **kwargs,
        )
        return BaseModelOutput(last_hidden_state=hidden_states)

    def _check_length(self, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None):
        """Refuse what the table of positions has no row for; here, because on a GPU the error would say nothing."""
        limit = self.config.max_tokens
        tokens = (input_ids if input_ids is not None else inputs_embeds).shape[1]
        if tokens > limit and input_ids is not None and not torch.compiler.is_compiling():  # padding takes no row
            tokens = int((input_ids != self.config.pad_token_id).sum(dim=1).max())
        if tokens > limit:
            raise ValueError(
                f"The input has {tokens} tokens, but the model has learned positions for {limit} (<cls> included): cut "
                "the sequences or read them in windows."
            )


class NucleotideTransformerForMaskedLM(NucleotideTransformerPreTrainedModel):
    """Prediction of masked k-mers."""

    _auto_class = "AutoModelForMaskedLM"

    _tied_weights_keys = {"lm_head.decoder.weight": "esm.embeddings.word_embeddings.weight"}
    _tp_plan = {"lm_head.decoder": "colwise_gather_output"}

    def __init__(self, config: NucleotideTransformerConfig):
        super().__init__(config)
        self.esm = NucleotideTransformerModel(config)
        self.lm_head = EsmLMHead(config)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head.decoder

    def set_output_embeddings(self, new_embeddings: nn.Module):
        self.lm_head.decoder = new_embeddings

    def resize_token_embeddings(self, *args, **kwargs) -> nn.Embedding:
        embeddings = super().resize_token_embeddings(*args, **kwargs)
        # transformers resizes a decoder's own bias; this head keeps it apart.
        old, rows = self.lm_head.bias, self.config.vocab_size
        if len(old) != rows:
            bias = old.new_zeros(rows)
            kept = min(len(old), rows)
            bias[:kept] = old.data[:kept]
            self.lm_head.bias = nn.Parameter(bias, requires_grad=old.requires_grad)
        return embeddings

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> MaskedLMOutput:
        """
        Args:
            labels (`torch.LongTensor` [B, T], *optional*): ids at masked positions, -100 elsewhere.
            num_items_in_batch (`int`, *optional*): labels over accumulated batches; the loss is divided by it.
            others: see `NucleotideTransformerModel.forward`.

        Returns:
            `MaskedLMOutput`: loss, logits [B, T, vocabulary], hidden_states, attentions.
        """
        outputs = self.esm(input_ids, attention_mask, position_ids, inputs_embeds, return_dict=True, **kwargs)
        logits = self.lm_head(outputs.last_hidden_state)
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits, labels, vocab_size=self.config.vocab_size, num_items_in_batch=num_items_in_batch
            )
        return MaskedLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class NucleotideTransformerForSequenceClassification(NucleotideTransformerPreTrainedModel):
    """
    One prediction a sequence, from `<cls>`: dropout, dense, tanh, dropout, projection.

    `config.problem_type` is `"single_label_classification"`, `"multi_label_classification"` or `"regression"`;
    if it is not set, the number and type of the labels decide, as everywhere in transformers.
    """

    _auto_class = "AutoModelForSequenceClassification"

    def __init__(self, config: NucleotideTransformerConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.esm = NucleotideTransformerModel(config)
        self.classifier = EsmClassificationHead(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SequenceClassifierOutput:
        """
        Args:
            labels (`torch.Tensor`, *optional*): class indices [B], 0/1 floats [B, labels] (multi-label), or floats
                [B] or [B, labels] (regression).
            others: see `NucleotideTransformerForMaskedLM.forward`.

        Returns:
            `SequenceClassifierOutput`: loss, logits [B, labels], hidden_states, attentions.
        """
        outputs = self.esm(input_ids, attention_mask, position_ids, inputs_embeds, return_dict=True, **kwargs)
        logits = self.classifier(outputs.last_hidden_state)
        loss = None
        if labels is not None:
            loss = compute_sequence_loss(self, logits, labels, num_items_in_batch)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


def compute_sequence_loss(
    model: PreTrainedModel, logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None
) -> torch.Tensor:
    """
    transformers' loss of one prediction a sequence, as this micro-batch's share of an optimizer step.

    Args:
        model: its `config.problem_type` says which loss; where there is none, labels decide, and it is set.
        logits (`torch.Tensor` [B, labels]), labels (`torch.Tensor` [B], or [B, labels]): integers of two dimensions
            are several labels, which transformers takes as floats only.
        num_items_in_batch (`int`, *optional*): label values in all micro-batches of the step, as Trainer counts them.
    """
    config = model.config
    if config.problem_type is None:
        config.problem_type = guess_problem_type(labels, config.num_labels)
    is_class = config.problem_type == "single_label_classification"
    loss = model.loss_function(
        labels=labels if is_class else labels.to(logits.dtype),
        pooled_logits=logits,
        config=config,
        num_items_in_batch=num_items_in_batch,
    )
    if num_items_in_batch is not None and not is_class:
        # transformers' loss is then a mean that leaves the other micro-batches of the step out.
        loss = loss * ((labels != -100).sum() / num_items_in_batch).to(loss.device)
    return loss


def guess_problem_type(labels: torch.Tensor, num_labels: int) -> str:
    """Return the `problem_type` that labels [B] or [B, C] can only mean."""
    if num_labels == 1:
        return "regression"
    many = labels.is_floating_point() or labels.dim() > 1
    return "multi_label_classification" if many else "single_label_classification"


class NucleotideTransformerForTokenClassification(NucleotideTransformerPreTrainedModel):
    """One prediction a token, that is a k-mer (or `<cls>`, which a label of -100 leaves out)."""

    _auto_class = "AutoModelForTokenClassification"

    def __init__(self, config: NucleotideTransformerConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.esm = NucleotideTransformerModel(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> TokenClassifierOutput:
        """
        Args:
            labels (`torch.LongTensor` [B, T], *optional*): class indices; -100 is ignored.
            others: see `NucleotideTransformerForMaskedLM.forward`.

        Returns:
            `TokenClassifierOutput`: loss, logits [B, T, labels], hidden_states, attentions.
        """
        outputs = self.esm(input_ids, attention_mask, position_ids, inputs_embeds, return_dict=True, **kwargs)
        logits = self.classifier(self.dropout(outputs.last_hidden_state))
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, self.config, num_items_in_batch=num_items_in_batch)
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


__all__ = [
    "NucleotideTransformerForMaskedLM",
    "NucleotideTransformerForSequenceClassification",
    "NucleotideTransformerForTokenClassification",
    "NucleotideTransformerModel",
    "NucleotideTransformerPreTrainedModel",
    "compute_sequence_loss",
    "guess_problem_type",
    "refuse_past",
]
