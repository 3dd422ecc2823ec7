"""How good is a language model on contigs that it has never read? All that is measured at once, as flat metrics."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gengram.progress import track
from gengram.training.corpus.store import Corpus
from gengram.training.corpus.windows import Windows
from gengram.training.evaluation.bits_per_base import measure_bits, summarise_bits
from gengram.training.evaluation.expert_balance import ExpertWatch
from gengram.training.evaluation.haplotypes import measure_haplotypes
from gengram.training.evaluation.held_out import choose_windows, spread_choice
from gengram.training.evaluation.logit_lens import LogitLens
from gengram.training.evaluation.memory_writes import MemoryWatch
from gengram.training.evaluation.scoring import WindowScorer, cut_batches
from gengram.training.evaluation.strand_gap import measure_strand_gap
from gengram.training.objectives.build import Objective, build_objective

BASES = 1_000_000
"""Bases that an evaluation reads unless somebody says otherwise."""
PROBE_BASES = 16_384
"""Of these, bases that are read to look into the model, at most."""


def evaluate_corpus(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    objective: Objective | str,
    corpus: Corpus,
    *,
    length: int,
    bases: int | None = BASES,
    paired_bases: int | None = None,
    probe_bases: int | None = None,
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
        corpus: of `open_corpus`.
        length: of a window, in bp. Compare models by the same length: with more context a base is easier to guess.
        bases: at most so many are read, in bp, the same ones each time; None: all that are held out.
        paired_bases: of these, so many are read twice, from both strands; and so many with the variants of a haplotype
            and without, where the corpus has any. None: an eighth; 0: none.
        probe_bases: of these, so many are read to see what memories write, which experts are used and what each layer
            predicts. None: a sixteenth, at most 16,384; 0: none.
        batch_tokens: tokens of a batch with its padding.
        split: "validation" or "test".

    Returns:
        Names and numbers: those of `summarise_bits`, `measure_strand_gap`, `measure_haplotypes`,
        `measure_memory_writes`, `measure_logit_lens` and `measure_expert_balance`. Which names there are depends on
        the corpus and the architecture of the model, not on what it has learned.

    Raises:
        `InputError`: nothing is held out; a masked model's tokenizer has no mask token; a number that is not positive.
    """
    if isinstance(objective, str):
        objective = build_objective(objective, tokenizer)
    model = extract_model_from_parallel(model, keep_fp32_wrapper=True, keep_torch_compile=True)
    windows = choose_windows(corpus, length, bases, split)
    scorer = WindowScorer(model, tokenizer, objective, corpus)
    with set_evaluating(model):
        metrics = summarise_bits(
            measure_bits(scorer, windows, batch_tokens=batch_tokens),
            [corpus.contigs[contig].species for contig in windows.contig],
        )
        if paired_bases is None:
            paired_bases = int(windows.length.sum()) // 8
        if paired_bases:
            some = windows.take(spread_choice(windows, max(1, paired_bases // length)))
            metrics |= measure_strand_gap(scorer, some, batch_tokens=batch_tokens)
            metrics |= measure_haplotypes(scorer, windows, paired_bases, batch_tokens=batch_tokens)
        if probe_bases is None:
            probe_bases = min(PROBE_BASES, int(windows.length.sum()) // 16)
        if probe_bases:
            some = windows.take(spread_choice(windows, max(1, probe_bases // length)))
            metrics |= look_inside(model, make_batches(scorer, some, batch_tokens))
    return metrics


def make_batches(scorer: WindowScorer, windows: Windows, batch_tokens: int) -> list[dict[str, Any]]:
    """Return what the model is called with for some windows, batch after batch."""
    chosen = [windows.get(number) for number in range(len(windows.contig))]
    encoded = [scorer.encode(window) for window in chosen]
    batches = cut_batches([len(tokens.ids) for tokens in encoded], batch_tokens)
    return [
        scorer.make_batch([chosen[place] for place in places], [encoded[place] for place in places])
        for places in batches
    ]


def look_inside(model: PreTrainedModel, batches: list[dict[str, Any]]) -> dict[str, float]:
    """Return what the measures of memories, experts and layers do, in one forward pass a batch."""
    memories, experts, lens = MemoryWatch(model), ExpertWatch(model), LogitLens(model)
    for batch in track(batches, desc="Looking inside", unit="batch", leave=False):
        with memories.watch(), experts.watch(batch.get("attention_mask")):
            states, answer = lens.look(batch)
        lens.add(batch, states, answer)
    return memories.summarise() | experts.summarise() | lens.summarise()


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
