"""What does a fine-tuned model say along a sequence of any length? Its windows, or its bases from windows that overlap.

Functions on strings and arrays; files are the business of `scan_file` and `segment_genome`.
Dimensions: W windows, C classes, labels or targets.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gengram.genome.alphabet import BASES, URACIL, reverse_complement
from gengram.genome.letters import MAX_NON_DNA
from gengram.loading.models import find_device
from gengram.pipelines.logits import LargeRowError, stream_logits
from gengram.pipelines.padding import restore_attention
from gengram.pipelines.predictions import find_missing
from gengram.pipelines.windows import WindowReader, place_windows, share_bases, stitch_windows
from gengram.tokenization.choose_encoder import find_encoder
from gengram.tokenization.coordinates import find_bases
from gengram.tokenization.encode import BulkEncoder
from gengram.training.data.strands import average_outputs
from gengram.training.problems import Problem

if TYPE_CHECKING:
    from peft import PeftModel

_DEFINITE = (BASES + URACIL + BASES.lower() + URACIL.lower()).encode()
_IS_DEFINITE = np.isin(np.arange(256), list(_DEFINITE))
_BASE = re.compile(f"[{_DEFINITE.decode()}]")


class LongWindowError(ValueError):
    """A window of bases alone has more tokens than the model takes; `index` is its number among those given."""

    def __init__(self, index: int, length: int, tokens: int, limit: int):
        super().__init__(
            f"a window of {length} bp is {tokens} tokens, but the limit is {limit} tokens: take a shorter window"
        )
        self.index = index


def scan_sequence(
    model: "PreTrainedModel | PeftModel",
    tokenizer: PreTrainedTokenizerBase,
    sequence: str,
    problem: Problem,
    *,
    window: int,
    stride: int | None = None,
    limit: int | None = None,
    max_unknown: float = MAX_NON_DNA,
    average_strands: bool = False,
    batch_size: int = 64,
) -> tuple[np.ndarray, np.ndarray]:
    """Ask a model that predicts whole sequences for each window of a longer one.

    Args:
        model: with a head for sequences, in evaluation mode.
        tokenizer: of the model.
        sequence: DNA of any length.
        problem: `single_label`, `multi_label` or `regression`.
        window, stride: bp, see `place_windows`; by default windows overlap by half.
        others: see `score_windows`.

    Returns:
        int64 [W, 2], start and end of each window, and float32 [W, C], its logits or predicted values, see
        `score_windows`.

    Raises:
        `ValueError`: a window or a stride that is none; see `score_windows`.
    """
    stride = check_stride(window, stride)
    places = place_windows(len(sequence), window, stride)
    texts = [sequence[start:end] for start, end in places.tolist()]
    return places, score_windows(
        model,
        tokenizer,
        texts,
        problem,
        limit=limit,
        max_unknown=max_unknown,
        average_strands=average_strands,
        batch_size=batch_size,
    )


def check_stride(window: int, stride: int | None = None) -> int:
    """Return the stride of windows, by default half a window: what is shorter than that lies in one as a whole.

    Raises:
        `ValueError`: no bases, or bases between the windows that none of them has.
    """
    if window < 1:
        raise ValueError(f"window={window}: give at least 1 bp")
    stride = max(1, window // 2) if stride is None else stride
    if not 1 <= stride <= window:
        raise ValueError(f"stride={stride}: give 1 to {window} bp, the window, so that no base is left out")
    return stride


def score_windows(
    model: "PreTrainedModel | PeftModel",
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    problem: Problem,
    *,
    limit: int | None = None,
    max_unknown: float = MAX_NON_DNA,
    average_strands: bool = False,
    batch_size: int = 64,
    encoder: BulkEncoder | None = None,
) -> np.ndarray:
    """Ask a model that predicts whole sequences for some.

    Args:
        model, tokenizer, problem: see `scan_sequence`.
        texts: W sequences.
        limit: tokens that the model takes; by default the tokenizer's `model_max_length`.
        max_unknown: largest share of letters other than A, C, G, T and U that a window may have to be read.
        average_strands: average with what the model says of the reverse complement, see `average_outputs`.
        batch_size: windows a forward pass.
        encoder: `find_encoder(tokenizer)`, where it is made once for many calls.

    Returns:
        `np.ndarray` float32 [W, C]: logits, of a regression values. All of a row are not a number where a window is not
        read, for its letters, because these make more tokens than the limit, or because they make none, and infinite
        where the model computes no finite number.

    Raises:
        `LongWindowError`: a window of bases alone has more tokens than the limit.
        `LargeRowError`: a window is too large for the device's memory.
    """
    limit = tokenizer.model_max_length if limit is None else limit
    unknown = np.array([count_unknown(text) for text in texts], dtype=np.int64)
    read = np.flatnonzero(unknown <= max_unknown * np.array([len(text) for text in texts]))
    encoder = encoder or find_encoder(tokenizer)
    ids = encoder([texts[row] for row in read.tolist()], split_special_tokens=True).split()
    lengths = np.array([len(one) for one in ids], dtype=np.int64)
    for row in np.flatnonzero(lengths > limit):
        if not unknown[read[row]]:
            index = int(read[row])
            raise LongWindowError(index, len(texts[index]), int(lengths[row]), limit)
    # What is shorter than a k-mer may have no token at all, and special tokens alone say nothing.
    fits = np.flatnonzero((lengths <= limit) & (lengths > tokenizer.num_special_tokens_to_add()))
    outputs = np.full((len(texts), _count_outputs(model)), np.nan, dtype=np.float32)
    if not len(fits):
        return outputs
    read = read[fits]
    strands = [[ids[row] for row in fits.tolist()]]
    if average_strands:
        turned = [reverse_complement(texts[row], keep_others=True) for row in read.tolist()]
        strands.append(encoder(turned, split_special_tokens=True).split())
    try:
        with closing(stream_logits(model, tokenizer, enumerate(strands), batch_size)) as stream:
            found, *others = (np.concatenate(one) for _, one in stream)
    except LargeRowError as error:
        error.index = int(read[error.index])
        raise
    for other in others:
        found = average_outputs(found, other, problem)
    found[find_missing(found)] = np.inf
    outputs[read] = found
    return outputs


def average_windows(places: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of all windows that cover a base, for the bases of a contig.

    Args:
        places: int64 [W, 2], start and end of each window, in any order.
        values: floats [W, C]; windows of which one is not a number are left out.

    Returns:
        int64 [steps + 1], where the mean changes (none if there is no value), and float32 [steps, C], what it is
        between; not a number where no window is.

    Example:
        >>> edges, means = average_windows(np.array([[0, 4], [2, 6], [8, 9]]), np.array([[0.0], [1.0], [0.5]]))
        >>> edges.tolist(), means[:, 0].tolist()
        ([0, 2, 4, 6, 8, 9], [0.0, 0.5, 1.0, nan, 0.5])
    """
    known = ~np.isnan(values).any(axis=1)
    places, values = places[known], values[known].astype(np.float64)
    if not len(places):
        return np.empty(0, dtype=np.int64), np.empty((0, values.shape[1]), dtype=np.float32)
    edges, bounds = np.unique(places, return_inverse=True)
    bounds = bounds.reshape(places.shape)
    sums = np.zeros((len(edges), values.shape[1]))
    np.add.at(sums, bounds[:, 0], values)
    np.subtract.at(sums, bounds[:, 1], values)
    counts = np.bincount(bounds[:, 0], minlength=len(edges)) - np.bincount(bounds[:, 1], minlength=len(edges))
    counts = counts.cumsum()[:-1, None]
    means = np.full((len(edges) - 1, values.shape[1]), np.nan)
    np.divide(sums.cumsum(axis=0)[:-1], counts, out=means, where=counts > 0)
    return edges, means.astype(np.float32)


def classify_bases(
    model: "PreTrainedModel | PeftModel",
    tokenizer: PreTrainedTokenizerBase,
    sequence: str,
    *,
    window: int,
    stride: int | None = None,
    average_strands: bool = False,
    skip_unknown: bool = False,
    may_overflow: bool = True,
    batch_size: int = 1,
    progress: str = "",
    advance: Callable[[int], Any] | None = None,
    encoder: BulkEncoder | None = None,
) -> np.ndarray:
    """Ask a model that classifies single bases for those of a sequence of any length.

    Each window is read alone. Where windows overlap, each gives the bases that are nearer to its middle, so that no
    base but those at the ends of the sequence has less than half of the overlap as context.

    Args:
        model: with a head for tokens, in evaluation mode.
        tokenizer: of the model, with a token for each base.
        sequence: DNA of any length.
        window, stride: bp; by default windows overlap by half.
        average_strands: average with what the model says of the reverse complement of the same window.
        skip_unknown: do not read windows of nothing but N and other letters that are no bases.
        may_overflow: whether numbers that are not finite are passed on.
        batch_size: windows a forward pass.
        progress: what a bar is called; none without a name.
        advance: is told after each batch of windows how many bases are done with it.
        encoder: `find_encoder(tokenizer)`, where it is made once for many calls.

    Returns:
        `np.ndarray` float32 [bp, C], logits; not a number where nothing was read.

    Raises:
        `ValueError`: a token that is not one base, a window or a stride that is none.
        `OverflowError`: the model computes a number that is not finite, and `may_overflow` is False.
    """
    stride = check_stride(window, stride)
    windows = share_bases(0, len(sequence), window, window - stride)
    if skip_unknown:
        windows = [one for one in windows if _BASE.search(sequence, one.kept_from, one.kept_to)]
    return stitch_windows(
        WindowReader(
            make=partial(_encode_bases, encoder or find_encoder(tokenizer), average_strands),
            run=partial(_compute_bases, model),
            finish=_choose_bases,
            device=find_device(model),
        ),
        sequence,
        windows,
        _count_outputs(model),
        batch_size=batch_size,
        may_overflow=may_overflow,
        progress=progress,
        advance=advance,
    )


def count_unknown(text: str) -> int:
    """Return the number of letters that are none of A, C, G, T and U, in either case."""
    return len(text.encode("ascii", "replace").translate(None, _DEFINITE))


def find_definite(text: str) -> np.ndarray:
    """Return which letters are A, C, G, T or U, in either case: booleans [bp]."""
    return _IS_DEFINITE[np.frombuffer(text.encode("ascii", "replace"), dtype=np.uint8)]


def _count_outputs(model: "PreTrainedModel | PeftModel") -> int:
    config: Any = model.config
    return int(config.num_labels)


def _encode_bases(
    encoder: BulkEncoder, both: bool, texts: list[str]
) -> tuple[list[list[np.ndarray]], dict[str, torch.Tensor]]:
    """Return which tokens are bases, of each strand and text bool [T], and the inputs, int64 [B, strands, T]."""
    strands = [texts, [reverse_complement(text, keep_others=True) for text in texts]] if both else [texts]
    all_ids, all_bases = [], []
    for some in strands:
        rows = encoder(some, split_special_tokens=True).split()
        bases = [find_bases(ids, encoder.tokenizer) for ids in rows]
        if tokens := [int(one.sum()) for one in bases if one.sum() != len(texts[0])]:
            raise ValueError(f"{len(texts[0])} bp are {tokens[0]} tokens; bases need one token each")
        all_ids.append(np.stack(rows).astype(np.int64))
        all_bases.append(bases)
    inputs = {"input_ids": torch.from_numpy(np.stack(all_ids, axis=1))}
    if "attention_mask" in encoder.tokenizer.model_input_names:
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    return all_bases, inputs


@torch.inference_mode()
def _compute_bases(model: "PreTrainedModel | PeftModel", **inputs: torch.Tensor) -> torch.Tensor:
    """Return logits, float32 [B, strands, T, C]."""
    found = []
    for strand in range(inputs["input_ids"].shape[1]):
        restore_attention(model)
        one = {name: values[:, strand].contiguous() for name, values in inputs.items()}
        found.append(model(**one, return_dict=True).logits.float())
    return torch.stack(found, dim=1)


def _choose_bases(bases: list[list[np.ndarray]], logits: np.ndarray) -> np.ndarray:
    """Return the logits of bases, of both strands their mean, float32 [B, bp, C]."""
    strands = []
    for strand, some in enumerate(bases):
        strands.append(np.stack([row[one] for row, one in zip(logits[:, strand], some)]))
    return strands[0] if len(strands) == 1 else average_outputs(strands[0], strands[1][:, ::-1], "token")


__all__ = [
    "LongWindowError",
    "average_windows",
    "check_stride",
    "classify_bases",
    "count_unknown",
    "find_definite",
    "scan_sequence",
    "score_windows",
]
