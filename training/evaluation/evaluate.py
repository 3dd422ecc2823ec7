"""How good is a language model on contigs that it has never read? All that is measured at once, as flat metrics."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gengram.training.evaluation.bits_per_base import measure_bits, summarise_bits
from gengram.training.evaluation.held_out import choose_windows, thin_windows
from gengram.training.evaluation.strand_gap import summarise_strands
from gengram.training.objectives.build import build_objective

BASES = 1_000_000
"""Bases that an evaluation reads unless somebody says otherwise."""


def evaluate_corpus(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    objective: Any,
    corpus: Any,
    *,
    length: int,
    bases: int | None = BASES,
    strand_bases: int = BASES // 8,
    batch_tokens: int = 16_384,
    split: str = "validation",
) -> dict[str, float]:
    """Measure a language model on the held-out contigs of a corpus.

    The model is read as it is: its dtype and device stay, its modes come back, no random number is drawn. In a run of
    several processes all of them call it, each scores a share, and all return the same.

    Args:
        model: a causal or masked language model of any family; one that is wrapped for several devices is unwrapped.
        tokenizer: of the model.
        objective: of `gengram.training.objectives`, or its name: `"causal"`, `"masked"` ...
        corpus: `gengram.training.corpus.store.Corpus`.
        length: of a window, in bp. Compare models by the same length: with more context a base is easier to guess.
        bases: at most so many are read, in bp, the same ones each time; None: all that are held out.
        strand_bases: of these, so many are read from the other strand too; 0: none.
        batch_tokens: tokens of a batch with its padding.
        split: "validation" or "test".

    Returns:
        Names and numbers, those of `summarise_bits` and `summarise_strands`. Which names there are depends on the
        corpus and the model's architecture, not on what it has learned.

    Raises:
        `InputError`: nothing is held out; a masked model's tokenizer has no mask token; a number that is not positive.
    """
    if isinstance(objective, str):
        objective = build_objective(objective, tokenizer)
    model = extract_model_from_parallel(model, keep_fp32_wrapper=True, keep_torch_compile=True)
    windows = choose_windows(corpus, length, bases, split)
    with set_evaluating(model):
        forward = measure_bits(model, tokenizer, objective, corpus, windows, batch_tokens=batch_tokens)
        species = [corpus.contigs[contig].species for contig in windows.contig]
        metrics = summarise_bits(forward, species)
        if strand_bases:
            some = thin_windows(windows, max(1, strand_bases // length))
            sides = [
                measure_bits(
                    model, tokenizer, objective, corpus, some, batch_tokens=batch_tokens, reverse=reverse, description=name
                )
                for reverse, name in ((False, "evaluation, forward"), (True, "evaluation, other strand"))
            ]
            metrics |= summarise_strands(*sides)
    return metrics


@contextmanager
def set_evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards each module is in its own mode again, and so are random numbers."""
    modes = [(module, module.training) for module in model.modules()]
    devices = sorted({one.device.index or 0 for one in model.parameters() if one.device.type == "cuda"})
    with torch.random.fork_rng(devices), torch.no_grad():
        try:
            model.eval()
            yield
        finally:
            for module, mode in modes:
                module.training = mode


__all__ = ["BASES", "evaluate_corpus", "set_evaluating"]
