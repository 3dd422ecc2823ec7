"""Features along a sequence of any length: SegmentNT in windows that overlap, put together base by base."""

import re
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from gengram.loading.models import check_present
from gengram.progress import track

from ..nucleotide_transformer.configuration_segment_nt import TRAINED_TOKENS, SegmentNTConfig
from ..nucleotide_transformer.modeling_segment_nt import SegmentNTForTokenClassification

_NOT_BASES = re.compile("[^ACGTUacgtu]+")
_BASES = re.compile("[ACGTUacgtu]+")


@torch.no_grad()
def segment_sequence(
    model: SegmentNTForTokenClassification,
    tokenizer: PreTrainedTokenizerBase,
    sequence: str,
    *,
    window: int = 30_000,
    overlap: int = 6_000,
    batch_size: int = 1,
    unknown: Literal["error", "skip"] = "error",
    progress: bool = False,
) -> np.ndarray:
    """Return the probability of every feature at every base.

    Each window is read alone. Where two overlap, each gives the half that is farther from its own end, so that no base
    but those at the ends of the sequence has less than `overlap / 2` of context. Windows begin in the frame of the
    first one; a last one that would reach beyond the end begins earlier, in whatever frame that is.

    Args:
        model: in evaluation mode, on any device.
        tokenizer: of the model, see `build_kmer_tokenizer`.
        sequence: DNA of at least `config.length_multiple` bp (24 in the published models).
        window: bp read at once, a multiple of `config.length_multiple`. Beyond 30 kb the model needs another
            `rescaling_factor`, see `SegmentNTConfig.measure_rescaling`.
        overlap: bp that neighbouring windows share, a multiple of twice `config.length_multiple`.
        batch_size: windows a forward pass.
        unknown: what happens to `N` and other letters, where no k-mer is whole: `"error"`, or `"skip"`: the stretches
            between them of at least `config.length_multiple` bp are read one by one, and the rest has no probability
            (not a number).
        progress: show a progress bar.

    Returns:
        `np.ndarray` float32 [bp, features], in the order of `model.config.features`.

    Raises:
        `ValueError`: a letter that is no base, a sequence that is too short, a window that does not fit the U-Net or
            the `rescaling_factor`, a tokenizer of other tokens, weights that are not in memory.
        `OverflowError`: a probability that is not a number.
    """
    config = model.config
    check_windows(config, window, overlap)
    check_present(model)
    fault = _NOT_BASES.search(sequence)
    if fault and unknown != "skip":
        raise ValueError(
            f"{fault.group()[:10]!r} at position {fault.start()} (counted from 0) is no base: no k-mer is whole there. "
            "Give a sequence without N, or unknown='skip' to read the stretches between them"
        )
    stretches = [match.span() for match in _BASES.finditer(sequence) if len(match[0]) >= config.length_multiple]
    if not stretches and unknown != "skip":
        raise ValueError(
            f"the sequence has no stretch of {config.length_multiple} bases or more; the U-Net needs as many"
        )
    probabilities = np.full((len(sequence), len(config.features)), np.nan, dtype=np.float32)
    places = [place for start, end in stretches for place in _place_windows(config, start, end, window, overlap)]
    # Windows of one length share a batch: padding would change the numbers near it.
    places.sort(key=lambda place: (place[1] - place[0], place[0]))
    for first in track(range(0, len(places), batch_size), desc="Segmenting", disable=not progress):
        lengths = [end - start for start, end, *_ in places[first : first + batch_size]]
        for length in dict.fromkeys(lengths):
            batch = [place for place in places[first : first + batch_size] if place[1] - place[0] == length]
            encoded = tokenizer([sequence[start:end] for start, end, *_ in batch], verbose=False)["input_ids"]
            if any(len(ids) != length // config.kmer_size + 1 for ids in encoded):
                raise ValueError(
                    f"{length} bp are {len(encoded[0])} tokens, not <cls> and {length // config.kmer_size} "
                    f"{config.kmer_size}-mers: use the tokenizer of the model"
                )
            logits = model(input_ids=torch.tensor(encoded, device=model.device)).logits
            found = logits.float().softmax(dim=-1)[..., 1].cpu().numpy()
            for (start, end, kept_from, kept_to), rows in zip(batch, found):
                if not np.isfinite(rows).all():
                    raise OverflowError(
                        f"the probabilities of the bases {start} to {end} (counted from 0) are not finite: the model's "
                        "numbers overflow. Load it in float32"
                    )
                probabilities[kept_from:kept_to] = rows[kept_from - start : kept_to - start]
    return probabilities


def check_windows(config: SegmentNTConfig, window: int, overlap: int) -> None:
    """Refuse windows that a model cannot read.

    Raises:
        `ValueError`: see `segment_sequence`.
    """
    multiple = config.length_multiple
    if window < multiple or window % multiple:
        raise ValueError(
            f"window={window}: give a multiple of {multiple} bp, e.g. {max(1, window // multiple) * multiple}"
        )
    if overlap < 0 or overlap % (2 * multiple) or overlap >= window:
        raise ValueError(f"overlap={overlap}: give a multiple of {2 * multiple} bp below the window of {window} bp")
    needed = config.measure_rescaling(window)
    if config.rescaling_factor is not None and needed is not None and needed > config.rescaling_factor + 1e-9:
        raise ValueError(
            f"window={window} bp are {window // config.kmer_size + 1} tokens, more than the {TRAINED_TOKENS} of "
            f"training: load the model with rescaling_factor={needed}, or take a shorter window"
        )


def _place_windows(
    config: SegmentNTConfig, begin: int, end: int, window: int, overlap: int
) -> list[tuple[int, int, int, int]]:
    """Start and end of each window of a stretch, and the bases that are kept of it."""
    length = min(window, (end - begin) // config.length_multiple * config.length_multiple)
    step = window - overlap
    starts = [*range(begin, end - length, step), end - length]
    cuts = [begin]
    for left, right in pairwise(starts):
        cuts.append((left + length + right) // 2)  # the middle of what two neighbours share
    cuts.append(end)
    return [(start, start + length, *kept) for start, kept in zip(starts, pairwise(cuts))]


__all__ = ["check_windows", "segment_sequence"]
