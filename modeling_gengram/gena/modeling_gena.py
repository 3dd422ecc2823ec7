"""GENA-LM's BERT encoders: transformers' BERT parts, put together with the norms and positions that GENA-LM has.

Facts: AIRI-Institute/GENA_LM, src/gena_lm/modeling_bert.py. Parameter names are the published ones, so its files load
as they are; whatever a file lacks or has too much is an error here, never a freshly drawn weight.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.loss.loss_utils import ForMaskedLMLoss, fixed_cross_entropy
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import (
    BaseModelOutput,
    BaseModelOutputWithPooling,
    MaskedLMOutput,
    ModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.bert.modeling_bert import (
    BertEmbeddings,
    BertIntermediate,
    BertOnlyMLMHead,
    BertPooler,
    BertPreTrainedModel,
    BertPreTrainingHeads,
    BertSelfAttention,
    eager_attention_forward,
)
from transformers.models.gpt_neox.modeling_gpt_neox import apply_rotary_pos_emb
from transformers.utils import can_return_tuple, logging
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_gena import GenaBertConfig

logger = logging.get_logger(__name__)

# Buffers of the original code that can be computed, and the heads that another task left in the file.
_OBSOLETE = re.compile(r"(^|\.)(position_ids|token_type_ids|rotary_emb\.inv_freq|sparse_self_attention\..*)$")
_OTHER_HEADS = re.compile(r"^(cls\.|classifier\.|qa_outputs\.|bert\.pooler\.|pooler\.)")
# What a new task has to draw: its own head, and the pooler that masked language models never had.
_NEW_HEADS = re.compile(r"^(classifier\.|bert\.pooler\.|pooler\.)")
_PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")


class GenaBertEmbeddings(BertEmbeddings):
    """Word and token type, and with absolute positions the position; then norm and dropout."""

    def __init__(self, config: GenaBertConfig):
        super().__init__(config)
        if config.position_embedding_type == "rotary":
            del self.position_embeddings

    def forward(
        self,
        input_ids: torch.LongTensor | None,
        token_type_ids: torch.LongTensor | None,
        position_ids: torch.LongTensor,
        inputs_embeds: torch.Tensor | None,
    ) -> torch.Tensor:
        """Embed ids [B, T] or vectors [B, T, D] at positions [1 or B, T]: [B, T, D]."""
        embeddings = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        if token_type_ids is None:
            token_type_ids = torch.zeros(1, 1, dtype=torch.long, device=embeddings.device)
        embeddings = embeddings + self.token_type_embeddings(token_type_ids)
        if hasattr(self, "position_embeddings"):
            embeddings = embeddings + self.position_embeddings(position_ids)
        return self.dropout(self.LayerNorm(embeddings))


class GenaBertSelfAttention(BertSelfAttention):
    """BERT's attention, with rotated queries and keys where angles are given."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        rotation: tuple[torch.Tensor, torch.Tensor] | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend over [B, T, D]; `rotation`: cosine and sine [1 or B, T, rotary_dim]. Returns [B, T, D] and weights."""
        B, T, _ = hidden_states.shape
        query, key, value = (
            projection(hidden_states).view(B, T, -1, self.attention_head_size).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        if rotation is not None:
            query, key = apply_rotary_pos_emb(query, key, *rotation)
        attend: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        dropout = self.dropout.p if self.training else 0.0
        attended, weights = attend(
            self, query, key, value, attention_mask, dropout=dropout, scaling=self.scaling, **kwargs
        )
        return attended.reshape(B, T, -1), weights


class GenaBertOutput(nn.Module):
    """The end of a sub-layer: project, drop out, add the residual; with post-LN normalise the sum."""

    def __init__(self, in_features: int, config: GenaBertConfig):
        super().__init__()
        self.dense = nn.Linear(in_features, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        if not config.pre_layer_norm:
            self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, update: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        total = residual + self.dropout(self.dense(update))
        return self.LayerNorm(total) if hasattr(self, "LayerNorm") else total


class GenaBertAttention(nn.Module):
    """Attention and its output projection, under BERT's names."""

    def __init__(self, config: GenaBertConfig, layer_idx: int):
        super().__init__()
        self.self = GenaBertSelfAttention(config, layer_idx=layer_idx)
        self.output = GenaBertOutput(config.hidden_size, config)


class GenaBertLayer(GradientCheckpointingLayer):
    """Attention and feed-forward; norms before them (`pre_layer_norm`), or after them as in BERT."""

    def __init__(self, config: GenaBertConfig, layer_idx: int):
        super().__init__()
        self.attention = GenaBertAttention(config, layer_idx)
        self.intermediate = BertIntermediate(config)
        self.output = GenaBertOutput(config.intermediate_size, config)
        if config.pre_layer_norm:
            self.pre_attention_ln = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
            self.post_attention_ln = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.pre_layer_norm = config.pre_layer_norm

    def forward(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs):
        """[B, T, D] -> [B, T, D]."""
        normed = self.pre_attention_ln(hidden_states) if self.pre_layer_norm else hidden_states
        attended, _ = self.attention.self(normed, attention_mask, **kwargs)
        hidden_states = self.attention.output(attended, hidden_states)
        normed = self.post_attention_ln(hidden_states) if self.pre_layer_norm else hidden_states
        return self.output(self.intermediate(normed), hidden_states)


class GenaBertEncoder(nn.Module):
    """The layers, and the norm after the last one where there is one."""

    def __init__(self, config: GenaBertConfig):
        super().__init__()
        self.layer = nn.ModuleList([GenaBertLayer(config, index) for index in range(config.num_hidden_layers)])
        if config.last_layer_norm:
            self.last_layer_ln = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None, **kwargs) -> BaseModelOutput:
        for layer in self.layer:
            hidden_states = layer(hidden_states, attention_mask, **kwargs)
        if hasattr(self, "last_layer_ln"):
            hidden_states = self.last_layer_ln(hidden_states)
        return BaseModelOutput(last_hidden_state=hidden_states)


class GenaBertPreTrainedModel(BertPreTrainedModel):
    """What every GENA-LM encoder can do; see `PreTrainedModel`."""

    config: GenaBertConfig
    base_model_prefix = "bert"
    _no_split_modules = ["GenaBertEmbeddings", "GenaBertLayer"]
    _can_record_outputs = {"hidden_states": GenaBertLayer, "attentions": GenaBertSelfAttention}
    _keys_to_ignore_on_load_unexpected = [_OBSOLETE.pattern]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, output_loading_info: bool = False, **kwargs):
        """
        As `PreTrainedModel.from_pretrained`; published GENA-LM checkpoints load by their Hub id or folder.

        New may only be the head of a classification or regression, and the pooler before it. Left out may only be
        the heads of other tasks and buffers that can be computed.

        Raises:
            ValueError: the file does not fit the configuration: weights are missing (a LayerNorm of another variant,
                the head of a language model), left over, or the decoder is not the word embedding that it must be.
        """
        loaded: Any = super().from_pretrained(pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs)
        model, found = loaded
        missing = sorted(name for name in found["missing_keys"] if not _NEW_HEADS.match(name))
        left_over = sorted(name for name in found["unexpected_keys"] if not _OTHER_HEADS.match(name))
        if missing or left_over:
            faults = _list_names("missing", missing) + _list_names("left over", left_over)
            raise ValueError(
                f"{pretrained_model_name_or_path} is not the {cls.__name__} that its configuration describes "
                f"({model.config.describe_variant()}): {faults}Check pre_layer_norm, last_layer_norm and "
                "position_embedding_type in its config.json."
            )
        decoder, words = model.get_output_embeddings(), model.get_input_embeddings()
        if model.config.tie_word_embeddings and decoder is not None and decoder.weight is not words.weight:
            raise ValueError(
                f"{pretrained_model_name_or_path}: cls.predictions.decoder.weight differs from "
                "bert.embeddings.word_embeddings.weight, but the configuration ties them. If the decoder was trained "
                "on its own, load with tie_word_embeddings=False."
            )
        if isinstance(model, GenaBertModel) and any("pooler." in name for name in found["missing_keys"]):
            # Masked language models have none; one of random weights would look like an embedding.
            logger.info(f"{pretrained_model_name_or_path} has no pooler: pooler_output will be None")
            model.pooler = None
        return (model, found) if output_loading_info else model

    def save_pretrained(self, save_directory, **kwargs):
        """
        As `PreTrainedModel.save_pretrained`, with the code of the model and a complete `auto_map`, so that every head
        loads where the package is not installed.
        """
        if self.config.auto_classes:
            self.config.auto_map = dict(self.config.auto_classes)
        super().save_pretrained(save_directory, **kwargs)


class GenaBertModel(GenaBertPreTrainedModel):
    """
    The encoder without a head.

    Returns a `BaseModelOutputWithPooling`: `last_hidden_state` [B, T, D], after the last norm if there is one;
    `pooler_output` [B, D] of the first token, `None` where the checkpoint has no pooler; on demand `hidden_states`
    (embeddings, then each layer; the last one is `last_hidden_state`) and, with eager attention, `attentions`.
    """

    _auto_class = "AutoModel"

    def __init__(self, config: GenaBertConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.embeddings = GenaBertEmbeddings(config)
        self.encoder = GenaBertEncoder(config)
        self.pooler = BertPooler(config) if add_pooling_layer else None
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
        token_type_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPooling:
        """
        Args:
            input_ids (`torch.LongTensor` of shape `(B, T)`):
                Token ids; or `inputs_embeds`, their word vectors, of shape `(B, T, D)`.
            attention_mask (`torch.Tensor` of shape `(B, T)`, *optional*):
                1 where there is a token, 0 at padding.
            token_type_ids (`torch.LongTensor` of shape `(B, T)`, *optional*):
                0 for the first sequence of a pair, 1 for the second. Defaults to 0.
            position_ids (`torch.LongTensor` of shape `(B, T)` or `(1, T)`, *optional*):
                Positions in tokens. Defaults to 0..T-1.

        Raises:
            ValueError: not exactly one of ids and embeddings, more tokens than there are absolute positions, or keys
                and values of a past, which an encoder does not have.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        if kwargs.get("past_key_values") is not None:
            raise ValueError(
                "past_key_values: an encoder reads its input at once and has no past. So prefix tuning cannot be used; "
                "prompt tuning, LoRA and IA3 can."
            )
        given = input_ids if inputs_embeds is None else inputs_embeds
        T = given.shape[1]
        if position_ids is None:
            absolute = self.config.position_embedding_type == "absolute"
            if absolute and self.config.max_position_embeddings < T:
                raise ValueError(
                    f"the input has {T} tokens, but the model has {self.config.max_position_embeddings} positions. Cut "
                    "the sequences, or read them in segments with a recurrent memory."
                )
            position_ids = torch.arange(T, device=given.device)[None]
        hidden_states = self.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds)
        mask = create_bidirectional_mask(config=self.config, inputs_embeds=hidden_states, attention_mask=attention_mask)
        rotation = self._rotate(position_ids, hidden_states.dtype)
        encoded = self.encoder(hidden_states, mask, rotation=rotation, **kwargs).last_hidden_state
        return BaseModelOutputWithPooling(
            last_hidden_state=encoded, pooler_output=self.pooler(encoded) if self.pooler is not None else None
        )

    def _rotate(self, position_ids: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Cosine and sine of the angles `position * base**(-2i / dim)`, each [1 or B, T, dim]; None if absolute."""
        if self.config.position_embedding_type != "rotary":
            return None
        dim = self.config.rotary_dim or self.config.hidden_size // self.config.num_attention_heads
        exponents = torch.arange(0, dim, 2, device=position_ids.device, dtype=torch.float32) / dim
        angles = position_ids[..., None].float() * self.config.rotary_base**-exponents
        angles = torch.cat([angles, angles], dim=-1)
        return angles.cos().to(dtype), angles.sin().to(dtype)


class GenaBertForMaskedLM(GenaBertPreTrainedModel):
    """The encoder and BERT's head for masked tokens, its decoder tied to the word embeddings."""

    _auto_class = "AutoModelForMaskedLM"

    _tied_weights_keys = {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }
    _tp_plan = {"cls.predictions.decoder": "colwise_gather_output", "cls.predictions.bias": "colwise"}

    def __init__(self, config: GenaBertConfig):
        super().__init__(config)
        self.bert = GenaBertModel(config, add_pooling_layer=False)
        self.cls = BertOnlyMLMHead(config)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.cls.predictions.decoder

    def set_output_embeddings(self, new_embeddings: nn.Module):
        self.cls.predictions.decoder = new_embeddings
        self.cls.predictions.bias = new_embeddings.bias

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        **kwargs,
    ) -> MaskedLMOutput:
        """
        Args:
            labels (`torch.LongTensor` of shape `(B, T)`, *optional*):
                True ids of the masked tokens, -100 elsewhere; the loss is their mean cross-entropy in nats.
        """
        outputs = self.bert(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, return_dict=True, **kwargs
        )
        logits = self.cls(outputs.last_hidden_state)
        loss = None
        if labels is not None:
            loss = ForMaskedLMLoss(logits, labels, vocab_size=self.config.vocab_size, **kwargs)
        return MaskedLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


@dataclass
class GenaBertForPreTrainingOutput(ModelOutput):
    """
    Args:
        loss (`torch.Tensor` of shape `()`):
            Sum of the losses below, of those whose labels were given.
        mlm_loss, nsp_loss (`torch.Tensor` of shape `()`):
            Mean cross-entropy in nats of the masked tokens, and of the order of the two sequences.
        prediction_logits (`torch.Tensor` of shape `(B, T, vocab_size)`):
            Of the tokens.
        seq_relationship_logits (`torch.Tensor` of shape `(B, 2)`):
            Of the order: 0 as in the genome, 1 swapped.
    """

    loss: torch.Tensor | None = None
    mlm_loss: torch.Tensor | None = None
    nsp_loss: torch.Tensor | None = None
    prediction_logits: torch.Tensor | None = None
    seq_relationship_logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class GenaBertForPreTraining(GenaBertForMaskedLM):
    """
    The encoder with the heads for masked tokens and for the order of two sequences.

    GENA-LM's negatives are pairs in swapped order (label 1), not sequences from elsewhere.
    """

    _auto_class = "AutoModelForPreTraining"

    def __init__(self, config: GenaBertConfig):
        GenaBertPreTrainedModel.__init__(self, config)
        self.bert = GenaBertModel(config)
        self.cls = BertPreTrainingHeads(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        next_sentence_label: torch.LongTensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs,
    ) -> GenaBertForPreTrainingOutput:
        """
        Args:
            labels (`torch.LongTensor` of shape `(B, T)`, *optional*):
                True ids of the masked tokens, -100 elsewhere.
            next_sentence_label (`torch.LongTensor` of shape `(B,)`, *optional*):
                0: the sequences follow each other in this order; 1: they were swapped.
            num_items_in_batch (`int`, *optional*):
                Masked tokens in all micro-batches of a step, as Trainer counts them; both losses are this
                micro-batch's share of the step by its masked tokens.
        """
        outputs = self.bert(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, return_dict=True, **kwargs
        )
        tokens, order = self.cls(outputs.last_hidden_state, outputs.pooler_output)
        mlm_loss = nsp_loss = None
        if labels is not None:
            mlm_loss = ForMaskedLMLoss(tokens, labels, self.config.vocab_size, num_items_in_batch)
        if next_sentence_label is not None:
            counted = next_sentence_label if labels is None else labels
            nsp_loss = nn.functional.cross_entropy(order.float(), next_sentence_label.view(-1))
            nsp_loss = nsp_loss * _find_share(counted, num_items_in_batch)
        losses = [loss for loss in (mlm_loss, nsp_loss) if loss is not None]
        return GenaBertForPreTrainingOutput(
            loss=torch.stack(losses).sum() if losses else None,
            mlm_loss=mlm_loss,
            nsp_loss=nsp_loss,
            prediction_logits=tokens,
            seq_relationship_logits=order,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class GenaBertClassifier(GenaBertPreTrainedModel):
    """The parts of the heads: the encoder, dropout, and a linear map of D to `num_labels` values."""

    pools: bool

    def __init__(self, config: GenaBertConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.bert = GenaBertModel(config, add_pooling_layer=self.pools)
        dropout = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
        self.dropout = nn.Dropout(dropout)
        self.classifier = self.build_head(config)
        self.post_init()

    @staticmethod
    def build_head(config: GenaBertConfig) -> nn.Module:
        """Return the map from [..., D] to [..., num_labels]."""
        return nn.Linear(config.hidden_size, config.num_labels)


class GenaBertForSequenceClassification(GenaBertClassifier):
    """The encoder and a head over the pooled first token: one class, several labels, or numbers (`problem_type`)."""

    _auto_class = "AutoModelForSequenceClassification"

    pools = True

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        pos_weight: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs,
    ) -> SequenceClassifierOutput:
        """
        Args:
            labels (`torch.Tensor`, *optional*):
                int64 [B] for one class; [B, C] for several labels (0 or 1), or floats for numbers. Where
                `config.problem_type` is not set, they decide, and it is set.
            pos_weight (`torch.Tensor`, *optional*):
                Weight of the positives of several labels: [C], or [B, C].

        Returns:
            `SequenceClassifierOutput`: `logits` [B, C]; `loss` as `compute_loss` has it.
        """
        outputs = self.bert(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, return_dict=True, **kwargs
        )
        logits = self.classifier(self.dropout(outputs.pooler_output))
        loss = None
        if labels is not None:
            if self.config.problem_type is None:
                self.config.problem_type = guess_problem_type(labels, self.num_labels, dims=2)
            problem = self.config.problem_type
            loss = compute_loss(problem, logits, labels, pos_weight, num_items_in_batch=num_items_in_batch)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class GenaBertForTokenClassification(GenaBertClassifier):
    """The encoder and a head over each token: one class, several labels, or numbers (`problem_type`)."""

    _auto_class = "AutoModelForTokenClassification"

    pools = False

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        labels_mask: torch.Tensor | None = None,
        pos_weight: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs,
    ) -> TokenClassifierOutput:
        """
        Args:
            labels (`torch.Tensor`, *optional*):
                int64 [B, T] for one class a token, -100 where there is none; float [B, T, C] for several labels or for
                numbers.
            labels_mask (`torch.Tensor` of shape `(B, T)`, *optional*):
                1 or true at the tokens that have labels. Where labels are classes, -100 says the same.
            pos_weight (`torch.Tensor`, *optional*):
                Weight of the positives of several labels: [C], or [B, T, C].

        Returns:
            `TokenClassifierOutput`: `logits` [B, T, C]; `loss` as `compute_loss` has it.
        """
        outputs = self.bert(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, return_dict=True, **kwargs
        )
        logits = self.classifier(self.dropout(outputs.last_hidden_state))
        loss = None
        if labels is not None:
            problem = self.config.problem_type or guess_problem_type(labels, self.num_labels, dims=3)
            if problem != "single_label_classification":  # which goes without saying for tokens, as in transformers
                self.config.problem_type = problem
            loss = compute_loss(problem, logits, labels, pos_weight, labels_mask, num_items_in_batch)
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class GenaBertForBinnedRegression(GenaBertClassifier):
    """
    The encoder and a head for counts in bins of a sequence, after Enformer: one chosen token (a separator) a bin.

    Predictions are `softplus(logits)`, the loss is the Poisson negative log-likelihood.
    Source: downstream_tasks/enformer/enformer_model.py of GENA_LM.
    """

    pools = False

    @staticmethod
    def build_head(config: GenaBertConfig) -> nn.Module:
        if not config.add_head_dense:
            return GenaBertClassifier.build_head(config)
        return nn.Sequential(
            nn.Linear(config.hidden_size, config.add_head_dense),
            nn.Tanh(),
            nn.Linear(config.add_head_dense, config.num_labels),
        )

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        bins_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        labels_mask: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs,
    ) -> TokenClassifierOutput:
        """
        Args:
            bins_mask (`torch.BoolTensor` of shape `(B, T)`):
                True at the token of each bin; M tokens in all.
            labels (`torch.Tensor` of shape `(B, bins, C)`, *optional*):
                Counts of each bin and track.
            labels_mask (`torch.BoolTensor` of shape `(B, bins)`, *optional*):
                True at the bins that the sequences have: M in all. Defaults to all.
            num_items_in_batch (`int`, *optional*):
                Number of label values in all micro-batches of a step, as Trainer counts them, those of no bin included.

        Returns:
            `TokenClassifierOutput`: `logits` [M, C], before the softplus, in the order of the batch.

        Raises:
            ValueError: no bins, or another number of bins than of labels.
        """
        if bins_mask is None:
            raise ValueError("bins_mask is missing: it marks the token of each bin")
        outputs = self.bert(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, return_dict=True, **kwargs
        )
        logits = self.classifier(self.dropout(outputs.last_hidden_state[bins_mask.bool()]))
        loss = None
        if labels is not None:
            share = _find_share(labels, num_items_in_batch)
            labels = labels.flatten(0, 1) if labels_mask is None else labels[labels_mask.bool()]
            if labels.shape[0] != logits.shape[0]:
                raise ValueError(f"bins_mask marks {len(logits)} bins, but there are labels for {len(labels)}")
            counts = nn.functional.softplus(logits.float())
            loss = nn.functional.poisson_nll_loss(counts, labels.float(), log_input=False) * share
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


# In no Auto table, where `AutoModel` is the encoder; a checkpoint carries its code all the same.
GenaBertForBinnedRegression.register_for_auto_class("AutoModel")


def guess_problem_type(labels: torch.Tensor, num_labels: int, dims: int) -> str:
    """Return the `problem_type` that labels can only mean: whole numbers are classes, others labels, one is a number.

    Args:
        labels: of a batch.
        num_labels: C of the head.
        dims: of the logits; integer labels have one dimension less.
    """
    if not labels.is_floating_point() and labels.dim() < dims and num_labels > 1:
        return "single_label_classification"
    return "regression" if num_labels == 1 else "multi_label_classification"


def compute_loss(
    problem_type: str,
    logits: torch.Tensor,
    labels: torch.Tensor,
    pos_weight: torch.Tensor | None = None,
    labels_mask: torch.Tensor | None = None,
    num_items_in_batch: torch.Tensor | int | None = None,
) -> torch.Tensor:
    """Compute the loss of a classification or regression, of sequences or of tokens.

    - single_label_classification: mean cross-entropy in nats, labels of -100 left out.
    - multi_label_classification: binary cross-entropy, mean over everything; with a mask its sum over tokens and labels
      divided by the number of tokens (C times the mean, as GENA-LM's splice-site models were trained).
    - regression: squared error, mean over everything that is not masked.

    Args:
        problem_type: of the configuration.
        logits: float [..., C].
        labels: int64 [...], or float [..., C] or, for C = 1, [...].
        pos_weight: of positives, broadcast over [..., C].
        labels_mask: [...], nonzero where a label counts; where none does, the loss is 0.
        num_items_in_batch: number of label values in all micro-batches of a step, as Trainer counts them: masked ones
            too, so a micro-batch has its share by all of its labels.

    Raises:
        ValueError: an unknown problem type.
    """
    if problem_type not in _PROBLEM_TYPES:
        raise ValueError(f"problem_type={problem_type!r}: choose one of {', '.join(_PROBLEM_TYPES)}")
    logits = logits.float()
    # Of a model that is spread over devices, the answer is on the last one.
    labels = labels.to(logits.device)
    labels_mask = None if labels_mask is None else labels_mask.to(logits.device)
    pos_weight = None if pos_weight is None else pos_weight.to(logits.device)
    if problem_type == "single_label_classification":
        if labels_mask is not None:
            share = _find_share(labels, num_items_in_batch)
            labels = labels.masked_fill(~labels_mask.bool(), -100)
            total = nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="sum")
            return total / (labels != -100).sum().clamp(min=1) * share
        return fixed_cross_entropy(logits.flatten(0, -2), labels.flatten(), num_items_in_batch)
    targets = labels.to(logits).reshape(logits.shape)
    if problem_type == "multi_label_classification":
        losses = nn.functional.binary_cross_entropy_with_logits(
            logits, targets, pos_weight=pos_weight, reduction="none"
        )
    else:
        losses = (logits - targets).square()
    share = _find_share(labels, num_items_in_batch)
    if labels_mask is None:
        return losses.mean() * share
    kept = labels_mask.to(losses)
    by_token = losses.sum(-1) if problem_type == "multi_label_classification" else losses.mean(-1)
    return (by_token * kept).sum() / kept.sum().clamp(min=1) * share


def _find_share(labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None) -> torch.Tensor | float:
    """Share of this micro-batch in the step, by labels: Trainer does not divide the loss by the micro-batches."""
    if num_items_in_batch is None:
        return 1.0
    return (labels != -100).sum() / torch.as_tensor(num_items_in_batch, device=labels.device)


def _list_names(what: str, names: list[str], shown: int = 4) -> str:
    if not names:
        return ""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"{what} are {', '.join(names[:shown])}{more}. "


__all__ = [
    "GenaBertForBinnedRegression",
    "GenaBertForMaskedLM",
    "GenaBertForPreTraining",
    "GenaBertForPreTrainingOutput",
    "GenaBertForSequenceClassification",
    "GenaBertForTokenClassification",
    "GenaBertModel",
    "GenaBertPreTrainedModel",
    "compute_loss",
    "guess_problem_type",
]
