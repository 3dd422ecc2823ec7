"""Post-trained NTv3: of each base, the signal of tracks and the presence of annotations, in one of the model's species.

Names of weights are those of the published checkpoints.
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, can_return_tuple

from .configuration_ntv3 import NTv3PostTrainedConfig
from .modeling_ntv3 import NTv3LMHead, NTv3Model, NTv3NormedHead, NTv3PreTrainedModel


class NTv3BigWigHead(nn.Module):
    """Signals of the tracks: norm, projection, softplus, one set of weights a species."""

    def __init__(self, config: NTv3PostTrainedConfig):
        super().__init__()
        self.species_ids = [config.species_to_token_id[name] for name in config.species_with_tracks]
        self.counts = [len(config.bigwigs_per_species[name]) for name in config.species_with_tracks]
        self.species_heads = nn.ModuleList(NTv3NormedHead(config, count) for count in self.counts)

    def forward(self, states: torch.Tensor, species_ids: torch.Tensor) -> torch.Tensor:
        """[B, T, D], int64 [B] -> [B, T, most tracks of a species], 0 beyond the tracks of a row's own species."""
        signals = states.new_zeros(*states.shape[:2], max(self.counts, default=0))
        traced = torch.compiler.is_compiling()
        present = () if traced else set(species_ids.tolist())
        for index, count, head in zip(self.species_ids, self.counts, self.species_heads):
            mine = species_ids == index
            if traced:  # a graph cannot know whose rows they are: each head reads all of them
                found = nn.functional.softplus(head(states)).to(signals.dtype)
                found = nn.functional.pad(found, (0, signals.shape[-1] - count))
                signals = torch.where(mine[:, None, None], found, signals)
            elif index in present:
                signals[mine, :, :count] = nn.functional.softplus(head(states[mine])).to(signals.dtype)
        return signals


@dataclass
class NTv3PostTrainedOutput(ModelOutput):
    """
    Args:
        loss (`torch.Tensor`, *optional*): of the masked bases.
        logits (`torch.Tensor` [B, T, alphabet]): of the letters.
        bigwig_tracks_logits (`torch.Tensor` [B, C, tracks]): signals, not negative, of the C bases in the middle
            (`config.locate_center`), in the order of `config.bigwigs_per_species[species]`; 0 beyond them.
        bed_tracks_logits (`torch.Tensor` [B, C, annotations, 2]): absent, present.
        species_logits (`torch.Tensor` [B, conditions_vocab_size[0]]): of the species.
        last_hidden_state (`torch.Tensor` [B, T, conv_init_embed_dim]): `embedding` in the published class.
        after_transformer_embedding, hidden_states, attentions: see `NTv3ModelOutput`.
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    bigwig_tracks_logits: torch.FloatTensor | None = None
    bed_tracks_logits: torch.FloatTensor | None = None
    species_logits: torch.FloatTensor | None = None
    last_hidden_state: torch.FloatTensor | None = None
    after_transformer_embedding: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None


class NTv3PostTrainedModel(NTv3PreTrainedModel):
    """The U-Net with all heads of post-training."""

    _auto_class = "AutoModel"

    config: NTv3PostTrainedConfig

    def __init__(self, config: NTv3PostTrainedConfig):
        super().__init__(config)
        self.core = NTv3Model(config)
        # Heads lie inside, as the published names have it.
        self.core.lm_head = NTv3LMHead(config)
        self.core.bigwig_head = NTv3BigWigHead(config)
        self.core.bed_head = NTv3NormedHead(config, 2 * len(config.bed_elements_names))
        self.core.conditions_heads = nn.ModuleList(nn.Linear(config.embed_dim, rows) for rows in config.condition_sizes)
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
        species_ids: torch.LongTensor | None = None,
        labels: torch.LongTensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> NTv3PostTrainedOutput:
        """
        Args:
            labels (`torch.LongTensor` [B, T], *optional*): ids at masked positions, -100 elsewhere.
            num_items_in_batch (`int`, *optional*): labels over accumulated batches; the loss is divided by it.
            others: see `NTv3Model.forward`.

        Returns:
            `NTv3PostTrainedOutput`.

        Raises:
            ValueError: as `NTv3Model.forward`; an id that is no species; a length that cannot be halved so often.
        """
        self._check_length(input_ids if input_ids is not None else inputs_embeds)
        self._check_species(species_ids)
        outputs = self.core(input_ids, attention_mask, inputs_embeds, species_ids, return_dict=True, **kwargs)
        states = outputs.last_hidden_state
        start, end = self.config.locate_center(states.shape[1])
        center = states[:, start:end]
        bed = self.core.bed_head(center)
        logits = self.core.lm_head(states)
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits, labels, vocab_size=self.config.alphabet_size, num_items_in_batch=num_items_in_batch
            )
        return NTv3PostTrainedOutput(
            loss=loss,
            logits=logits,
            bigwig_tracks_logits=self.core.bigwig_head(center, species_ids),
            bed_tracks_logits=bed.view(*bed.shape[:2], len(self.config.bed_elements_names), 2),
            species_logits=self.core.conditions_heads[0](outputs.after_transformer_embedding.mean(dim=1)),
            last_hidden_state=states,
            after_transformer_embedding=outputs.after_transformer_embedding,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def _check_length(self, given: torch.Tensor | None):
        """Nothing is filled up here: the tracks are those of the middle of what is given."""
        multiple = self.config.length_multiple
        if given is not None and given.shape[1] % multiple:
            raise ValueError(
                f"The input has {given.shape[1]} bases, but the model needs a multiple of {multiple}: cut the "
                f"sequences, or fill them up with N, tokenizer(..., padding=True, pad_to_multiple_of={multiple})."
            )

    def _check_species(self, species_ids: torch.Tensor | None):
        """Where there are no ids, `NTv3Model` says what to do; a graph that is being traced cannot look at them."""
        if species_ids is None or torch.compiler.is_compiling():
            return
        known = self.config.species_to_token_id
        if unknown := set(species_ids.tolist()) - set(known.values()):
            raise ValueError(f"species_ids {sorted(unknown)} are no species of this model: {known}.")


__all__ = ["NTv3BigWigHead", "NTv3PostTrainedModel", "NTv3PostTrainedOutput"]
