"""What is measured while a model is trained: bits per base on held-out contigs, and what the evaluation adds to it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from gengram.training.corpus.store import SPLITS
from gengram.training.pretraining.set_up import Preparation
from gengram.training.pretraining.stages import Stage

HELD_OUT = "validation"
"""The split that a run is measured on; nothing here looks at the test contigs."""


def choose_measure(ready: Preparation, stage: Stage) -> Callable[[Any], dict[str, Any]] | None:
    """Return what measures a model in a stage, in windows of as many bases as a block has; None where nothing does:
    it is not asked for (`eval_bases` 0), or no contig is held out."""
    bases = stage.training.eval_bases
    held_out = np.asarray(ready.corpus.segments.split) == SPLITS.index(HELD_OUT)
    if bases == 0 or not held_out.any():
        return None
    length = ready.blocks[stage.number - 1].source.drawing.length
    assert length is not None  # It is fitted to the block.

    from gengram.training.evaluation.evaluate import evaluate_corpus

    tokens = stage.training.per_device_eval_batch_size * stage.corpus.block_size
    objective = ready.objectives[0]  # The same masks in all stages, to be compared.

    def measure(model: Any) -> dict[str, Any]:
        return evaluate_corpus(
            model, ready.tokenizer, objective, ready.corpus, length=length, bases=bases, batch_tokens=tokens
        )

    return measure


__all__ = ["HELD_OUT", "choose_measure"]
