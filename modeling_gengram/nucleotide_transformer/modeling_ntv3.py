"""NTv3: convolutions halve the length of a sequence of bases, a transformer reads what is left, and back up again.

Implemented from a written description of the published models; names of weights are those of the published checkpoints.
"""

from collections import OrderedDict
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn
from transformers import initialization as init
from transformers.modeling_outputs import (
    BaseModelOutput,
    MaskedLMOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .configuration_ntv3 import NTv3Config
from .modeling_nucleotide_transformer import (
    NucleotideTransformerPreTrainedModel,
    NucleotideTransformerRotaryEmbedding,
    compute_sequence_loss,
    refuse_past,
)
from .ntv3_layers import (
    Conditions,
    NTv3Attention,
    NTv3Conv1d,
    NTv3ConvBlock,
    NTv3DeconvBlock,
    NTv3Layer,
    NTv3Modulation,
    gelu,
)


class NTv3LMHead(nn.Module):
    """GELU, any hidden layers, and a letter of the alphabet for each base."""

    def __init__(self, config: NTv3Config):
        super().__init__()
        D = config.conv_init_embed_dim
        self.hidden_layers = nn.ModuleList(nn.Linear(D, D) for _ in range(config.num_hidden_layers_head))
        self.head = nn.Linear(D, config.alphabet_size)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """[B, T, D] -> [B, T, alphabet]."""
        states = gelu(states)
        for layer in self.hidden_layers:
            states = gelu(layer(states))
        return self.head(states)


class NTv3NormedHead(nn.Module):
    """A norm and a projection."""

    def __init__(self, config: NTv3Config, outputs: int):
        super().__init__()
        self.layer_norm = nn.LayerNorm(config.conv_init_embed_dim, eps=config.layer_norm_eps)
        self.head = nn.Linear(config.conv_init_embed_dim, outputs)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """[..., D] -> [..., outputs]."""
        return self.head(self.layer_norm(states))


@dataclass
class NTv3ModelOutput(BaseModelOutput):
    """
    Args:
        last_hidden_state (`torch.Tensor` [B, T, conv_init_embed_dim]): of each base.
        after_transformer_embedding (`torch.Tensor` [B, T / 2**num_downsamples, embed_dim]): of each stretch of
            `2**num_downsamples` bp, behind the transformer.
        hidden_states (*optional*): of each convolution block [B, T / 2**i, ...] before it is halved, each layer of the
            transformer, each deconvolution block with what was added to it.
        attentions (*optional*): of each layer of the transformer.
    """

    after_transformer_embedding: torch.FloatTensor | None = None


class NTv3PreTrainedModel(NucleotideTransformerPreTrainedModel):
    """What every NTv3 can do; see `NucleotideTransformerPreTrainedModel`."""

    config: NTv3Config
    base_model_prefix = "core"
    _no_split_modules = ["NTv3ConvBlock", "NTv3Layer", "NTv3DeconvBlock"]
    _can_record_outputs = {
        "hidden_states": [
            OutputRecorder(block, capture_initial_hidden_state=False)
            for block in (NTv3ConvBlock, NTv3Layer, NTv3DeconvBlock)
        ],
        "attentions": OutputRecorder(NTv3Attention, index=1),
    }
    # Buffers of the rotation, which follow from the configuration.
    _keys_to_ignore_on_load_unexpected = [r"rotary_embedding\.(inv_freq|cos_cached|sin_cached)$"]
    _foreign_heads = ("core.lm_head.", "classifier.")

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        # LeCun's: the usual 0.02 leaves so little of a base in narrow convolutions that nothing is learnt from it.
        if isinstance(module, nn.Embedding):
            init.normal_(module.weight)
        elif isinstance(module, (nn.Linear, nn.Conv1d, nn.ConvTranspose1d)) and not isinstance(module, NTv3Modulation):
            init.normal_(module.weight, std=max(module.weight[:1].numel(), 1) ** -0.5)


class NTv3Model(NTv3PreTrainedModel):
    """The U-Net without a head."""

    _auto_class = "AutoModel"

    def __init__(self, config: NTv3Config):
        super().__init__(config)
        widths = config.widths
        self.embed_layer = nn.Embedding(config.alphabet_size, config.token_embed_dim)
        self.cond_tables = nn.ModuleList(nn.Embedding(rows, config.token_embed_dim) for rows in config.condition_sizes)
        self.stem = nn.Sequential(OrderedDict(conv=NTv3Conv1d(config.token_embed_dim, widths[0], 15)))
        self.conv_tower_blocks = nn.ModuleList(NTv3ConvBlock(config, *pair) for pair in pairwise(widths))
        self.transformer_blocks = nn.ModuleList(NTv3Layer(config) for _ in range(config.num_layers))
        self.rotary_embedding = NucleotideTransformerRotaryEmbedding(config)
        self.deconv_tower_blocks = nn.ModuleList(NTv3DeconvBlock(config, *pair) for pair in pairwise(widths[::-1]))
        self.gradient_checkpointing = False
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embed_layer

    def set_input_embeddings(self, value: nn.Module):
        self.embed_layer = value

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        species_ids: torch.LongTensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> NTv3ModelOutput:
        """
        Args:
            input_ids (`torch.LongTensor` [B, T]): one token a base, no special tokens, `N` where there is no sequence.
                The tower reads a multiple of `2**num_downsamples` bases: what T lacks is filled up with `N` on the
                right, and the outputs are those of the T bases.
            attention_mask (`torch.Tensor` [B, T], *optional*): taken and not read: convolutions and attention see
                padding, as they did in training, which is why it must be `N`.
            inputs_embeds (`torch.FloatTensor` [B, T, token_embed_dim], *optional*): embeddings instead of `input_ids`.
            species_ids (`torch.LongTensor` [B]): of post-trained models, see `NTv3PostTrainedConfig.encode_species`.

        Returns:
            `NTv3ModelOutput`.

        Raises:
            ValueError: neither ids nor embeddings, or both; no base; species for a model without, or none for one with;
                `past_key_values`, which an encoder does not have.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Give either input_ids or inputs_embeds.")
        refuse_past(kwargs)
        states = self.embed_layer(input_ids) if inputs_embeds is None else inputs_embeds
        length = states.shape[1]
        if length < 1:
            raise ValueError("The input has no bases: give at least one.")
        if short := -length % self.config.length_multiple:
            filling = torch.full((states.shape[0], short), self.config.n_token_id, device=states.device)
            states = torch.cat([states, self.embed_layer(filling).to(states.dtype)], dim=1)
        outputs = self._read(states, self._embed_conditions(species_ids), return_dict=True, **kwargs)
        if short:
            outputs.last_hidden_state = outputs.last_hidden_state[:, :length]
            if outputs.hidden_states is not None:
                # Halved as often as each of them was: the last position may be of fewer bases than the others.
                parts = [(states.shape[1] // one.shape[1], one) for one in outputs.hidden_states]
                outputs.hidden_states = tuple(one[:, : -(-length // width)] for width, one in parts)
        return outputs

    @merge_with_config_defaults
    @capture_outputs
    def _read(
        self, states: torch.Tensor, conditions: Conditions, **kwargs: Unpack[TransformersKwargs]
    ) -> NTv3ModelOutput:
        """Embeddings [B, T, token_embed_dim], T a multiple of `2**num_downsamples`, and conditions [B, E]."""
        states = gelu(self.stem(states))
        skipped: list[torch.Tensor | None] = []
        for down in self.conv_tower_blocks:
            skipped.append(states if self.config.use_skip_connection else None)
            states = nn.functional.avg_pool1d(down(states, *conditions).transpose(1, 2), 2).transpose(1, 2)
        rotation = self.rotary_embedding(torch.arange(states.shape[1], device=states.device)[None])
        for layer in self.transformer_blocks:
            states = layer(states, rotation, *conditions, **kwargs)
        bottom = states
        for up in self.deconv_tower_blocks:
            states = up(states, skipped.pop(), *conditions)
        return NTv3ModelOutput(last_hidden_state=states, after_transformer_embedding=bottom)

    def _embed_conditions(self, species_ids: torch.Tensor | None) -> Conditions:
        if (species_ids is None) == (len(self.cond_tables) > 0):
            raise ValueError(
                "Give species_ids, e.g. torch.tensor(model.config.encode_species(['human']))."
                if species_ids is None
                else "species_ids are for post-trained models; this one knows no species."
            )
        return [table(species_ids) for table in self.cond_tables]


class NTv3ForMaskedLM(NTv3PreTrainedModel):
    """Prediction of masked bases."""

    _auto_class = "AutoModelForMaskedLM"

    def __init__(self, config: NTv3Config):
        super().__init__(config)
        self.core = NTv3Model(config)
        self.core.lm_head = NTv3LMHead(config)  # inside, as the published names have it
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.core.lm_head.head

    def set_output_embeddings(self, new_embeddings: nn.Module):
        self.core.lm_head.head = new_embeddings

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> MaskedLMOutput:
        """
        Args:
            labels (`torch.LongTensor` [B, T], *optional*): ids at masked positions, -100 elsewhere.
            num_items_in_batch (`int`, *optional*): labels over accumulated batches; the loss is divided by it.
            others: see `NTv3Model.forward`.

        Returns:
            `MaskedLMOutput`: loss, logits [B, T, alphabet], hidden_states, attentions.
        """
        outputs = self.core(input_ids, attention_mask, inputs_embeds, return_dict=True, **kwargs)
        logits = self.core.lm_head(outputs.last_hidden_state)
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits, labels, vocab_size=self.config.alphabet_size, num_items_in_batch=num_items_in_batch
            )
        return MaskedLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class NTv3Classifier(NTv3PreTrainedModel):
    """What both classifiers share."""

    def __init__(self, config: NTv3Config):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.core = NTv3Model(config)
        self.classifier = NTv3NormedHead(config, config.num_labels)
        self.post_init()


class NTv3ForSequenceClassification(NTv3Classifier):
    """
    One prediction a sequence, from the mean over its bases: norm, projection.

    `config.problem_type` is `"single_label_classification"`, `"multi_label_classification"` or `"regression"`;
    if it is not set, the number and type of the labels decide, as everywhere in transformers.
    """

    _auto_class = "AutoModelForSequenceClassification"

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SequenceClassifierOutput:
        """
        Args:
            attention_mask (`torch.Tensor` [B, T], *optional*): 0 at padding, which the mean leaves out.
            labels (`torch.Tensor`, *optional*): class indices [B], 0/1 floats [B, labels] (multi-label), or floats
                [B] or [B, labels] (regression).
            others: see `NTv3ForMaskedLM.forward`.

        Returns:
            `SequenceClassifierOutput`: loss, logits [B, labels], hidden_states, attentions.
        """
        outputs = self.core(input_ids, attention_mask, inputs_embeds, return_dict=True, **kwargs)
        states = outputs.last_hidden_state
        weights = torch.ones_like(states[..., :1]) if attention_mask is None else attention_mask[..., None].to(states)
        logits = self.classifier((states * weights).sum(1) / weights.sum(1).clamp(min=1))
        loss = None
        if labels is not None:
            loss = compute_sequence_loss(self, logits, labels, num_items_in_batch)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class NTv3ForTokenClassification(NTv3Classifier):
    """One prediction a base: norm, projection."""

    _auto_class = "AutoModelForTokenClassification"

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> TokenClassifierOutput:
        """
        Args:
            labels (`torch.LongTensor` [B, T], *optional*): class indices; -100 is ignored.
            others: see `NTv3ForMaskedLM.forward`.

        Returns:
            `TokenClassifierOutput`: loss, logits [B, T, labels], hidden_states, attentions.
        """
        outputs = self.core(input_ids, attention_mask, inputs_embeds, return_dict=True, **kwargs)
        logits = self.classifier(outputs.last_hidden_state)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, self.config, num_items_in_batch=num_items_in_batch)
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


__all__ = [
    "NTv3ForMaskedLM",
    "NTv3ForSequenceClassification",
    "NTv3ForTokenClassification",
    "NTv3Model",
    "NTv3ModelOutput",
    "NTv3PreTrainedModel",
]
