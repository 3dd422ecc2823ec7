"""SegmentNT: a Nucleotide Transformer, and a U-Net over its k-mers that says of each base which features it is in.

Names of weights are those of the published checkpoints.
"""

import torch
from torch import nn
from transformers.modeling_outputs import TokenClassifierOutput
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple

from .configuration_segment_nt import SegmentNTConfig
from .modeling_nucleotide_transformer import NucleotideTransformerModel, NucleotideTransformerPreTrainedModel


class SegmentNTBlock(nn.Module):
    """Two convolutions of three positions, a SiLU behind each; the length stays."""

    def __init__(self, convolution: type[nn.Module], in_channels: int, out_channels: int):
        super().__init__()
        self.conv_layers = nn.ModuleList(
            convolution(channels, out_channels, kernel_size=3, padding=1) for channels in (in_channels, out_channels)
        )

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """[B, in_channels, T] -> [B, out_channels, T]."""
        for layer in self.conv_layers:
            states = nn.functional.silu(layer(states))
        return states


class SegmentNTUNet(nn.Module):
    """Down `num_layers_head` times, each half as long and twice as wide, and up again; what was on the way is added."""

    def __init__(self, config: SegmentNTConfig):
        super().__init__()
        D, depth = config.hidden_size, config.num_layers_head
        widths = [D * 2**level for level in range(depth)]
        self._downsample_blocks = nn.ModuleList(
            SegmentNTBlock(nn.Conv1d, before, after) for before, after in zip([D, *widths], widths)
        )
        self._upsample_blocks = nn.ModuleList(
            SegmentNTBlock(nn.ConvTranspose1d, before, after)
            for before, after in zip([widths[-1], *widths[::-1]], widths[::-1])
        )
        self.final_block = SegmentNTBlock(nn.Conv1d, D, D // 2 * 2)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """[B, D, n] -> [B, D // 2 * 2, n]."""
        skipped = []
        for block in self._downsample_blocks:
            skipped.append(block(states))
            states = nn.functional.avg_pool1d(skipped[-1], 2)
        for block in self._upsample_blocks:
            states = nn.functional.interpolate(block(states), scale_factor=2.0, mode="nearest")
            states = states + skipped.pop().to(states.device)  # perhaps of another one
        return self.final_block(states)


class SegmentNTPreTrainedModel(NucleotideTransformerPreTrainedModel):
    """What SegmentNT can do; see `NucleotideTransformerPreTrainedModel`."""

    config: SegmentNTConfig
    _trainable_heads = ("unet.", "fc.")
    _foreign_heads = ("lm_head.", "classifier.", "unet.", "fc.")


class SegmentNTModel(SegmentNTPreTrainedModel, NucleotideTransformerModel):
    """The encoder alone."""

    _auto_class = "AutoModel"


class SegmentNTForTokenClassification(SegmentNTPreTrainedModel):
    """Presence of each feature at each base."""

    _auto_class = "AutoModelForTokenClassification"

    def __init__(self, config: SegmentNTConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.esm = SegmentNTModel(config)
        self.unet = SegmentNTUNet(config)
        self.fc = nn.Linear(config.hidden_size // 2 * 2, config.kmer_size * 2 * config.num_labels)
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
            input_ids (`torch.LongTensor` [B, 1 + n]): `<cls>` and n k-mers, n a multiple of `2**num_layers_head`.
                Tokens of single letters (N, the end of a sequence) would be read as k-mers.
            attention_mask (`torch.Tensor` [B, 1 + n], *optional*): 0 at padding. The U-Net sees padding all the same:
                near it, a padded sequence gives other numbers than alone.
            labels (`torch.LongTensor` [B, K * n, features], *optional*): 1 present, 0 absent, -100 ignored.
            others: see `NucleotideTransformerForMaskedLM.forward`.

        Returns:
            `TokenClassifierOutput`:
            - logits [B, K * n, features, 2] for K bases a token: base p of k-mer t is row K * t + p; the probability
              that a feature is present is `logits.softmax(-1)[..., 1]`;
            - loss, the focal loss; hidden_states and attentions of the encoder.

        Raises:
            ValueError: n is no multiple of `2**num_layers_head`, or 0.
        """
        n = (input_ids if input_ids is not None else inputs_embeds).shape[1] - 1
        parts = 2**self.config.num_layers_head
        if n < 1 or n % parts:
            raise ValueError(
                f"The input has {n} k-mers behind <cls>, but the U-Net needs a multiple of {parts}: cut or pad the "
                f"sequences to a multiple of {self.config.length_multiple} bp without N."
            )
        outputs = self.esm(input_ids, attention_mask, position_ids, inputs_embeds, return_dict=True, **kwargs)
        states = self.unet(outputs.last_hidden_state[:, 1:].transpose(1, 2)).transpose(1, 2)
        logits = self.fc(states).view(states.shape[0], n * self.config.kmer_size, self.num_labels, 2)
        loss = None
        if labels is not None:
            loss = compute_focal_loss(logits, labels, self.config.focal_gamma, num_items_in_batch)
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


def compute_focal_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    gamma: float,
    num_items_in_batch: torch.Tensor | int | None = None,
) -> torch.Tensor:
    """
    Mean of `-(1 - p)**gamma * log p`, p the probability of the label (Lin et al. 2017, arXiv:1708.02002).

    Args:
        logits (`torch.Tensor` [..., 2]), labels (`torch.Tensor` int64 [...]): 0, 1, or -100 for none.
        gamma (`float`): 0 is cross-entropy.
        num_items_in_batch (`int`, *optional*): labels over accumulated batches, by which the sum is divided.

    Returns:
        `torch.Tensor`: a float32 scalar.
    """
    labels = labels.to(logits.device)
    given = labels != -100
    chosen = torch.where(given, labels, 0)[..., None]
    log_p = logits.float().log_softmax(dim=-1).gather(-1, chosen)[..., 0]
    losses = -((1 - log_p.exp()) ** gamma) * log_p
    count = given.sum() if num_items_in_batch is None else torch.as_tensor(num_items_in_batch, device=logits.device)
    return losses.masked_fill(~given, 0.0).sum() / count


__all__ = ["SegmentNTForTokenClassification", "SegmentNTModel", "SegmentNTPreTrainedModel", "compute_focal_loss"]
