"""Features along a sequence of any length: SegmentNT in windows that overlap, put together base by base."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from gengram.genome.alphabet import reverse_complement
from gengram.loading.models import check_present, find_device
from gengram.pipelines.windows import WindowReader, share_bases, stitch_windows
from gengram.tokenization.choose_encoder import find_encoder
from gengram.tokenization.encode import BulkEncoder

from ..nucleotide_transformer.configuration_segment_nt import TRAINED_TOKENS, SegmentNTConfig
from ..nucleotide_transformer.modeling_segment_nt import SegmentNTForTokenClassification

_NOT_BASES = re.compile("[^ACGTUacgtu]+")
_BASES = re.compile("[ACGTUacgtu]+")


def segment_sequence(
    model: SegmentNTForTokenClassification,
    tokenizer: PreTrainedTokenizerBase,
    sequence: str,
    *,
    window: int = 30_000,
    overlap: int = 6_000,
    batch_size: int = 1,
    unknown: Literal["error", "skip"] = "error",
    average_strands: bool = False,
    progress: bool = False,
    advance: Callable[[int], Any] | None = None,
    encoder: BulkEncoder | None = None,
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
        average_strands: average with what the model says of the reverse complement of each window.
        progress: show a progress bar.
        advance: is told after each batch of windows how many bases are done with it.
        encoder: `find_encoder(tokenizer)`, where it is made once for many calls.

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
    windows = [
        one for start, end in stretches for one in share_bases(start, end, window, overlap, config.length_multiple)
    ]
    return stitch_windows(
        WindowReader(
            make=partial(_encode_texts, model.config.kmer_size, encoder or find_encoder(tokenizer), average_strands),
            run=partial(_compute_features, model),
            finish=_average_strands,
            device=find_device(model),
        ),
        sequence,
        windows,
        len(config.features),
        batch_size=batch_size,
        progress="Segmenting" if progress else "",
        advance=advance,
    )


def _encode_texts(
    kmer_size: int, encoder: BulkEncoder, both: bool, texts: list[str]
) -> tuple[None, dict[str, torch.Tensor]]:
    """Return the ids of texts of one length, int64 [B, strands, T]."""
    length = len(texts[0])
    strands = [texts, [reverse_complement(text) for text in texts]] if both else [texts]
    found = []
    for some in strands:
        ids, offsets = encoder(some, split_special_tokens=True)
        if (np.diff(offsets) != length // kmer_size + 1).any():
            raise ValueError(
                f"{length} bp are {offsets[1]} tokens, not <cls> and {length // kmer_size} {kmer_size}-mers: use the "
                "tokenizer of the model"
            )
        found.append(ids.reshape(len(texts), -1).astype(np.int64))
    return None, {"input_ids": torch.from_numpy(np.stack(found, axis=1))}


@torch.no_grad()
def _compute_features(model: SegmentNTForTokenClassification, input_ids: torch.Tensor) -> torch.Tensor:
    """Return probabilities, float32 [B, strands, bp, features]."""
    found = []
    for ids in input_ids.unbind(1):
        logits = model(input_ids=ids.contiguous(), return_dict=True).logits
        found.append(logits.float().softmax(dim=-1)[..., 1])
    return torch.stack(found, dim=1)


def _average_strands(_: None, found: np.ndarray) -> np.ndarray:
    return found[:, 0] if found.shape[1] == 1 else (found[:, 0] + found[:, 1, ::-1]) / 2


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


__all__ = ["check_windows", "segment_sequence"]
