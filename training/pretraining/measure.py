"""What is measured of a run: the model while it is trained, on held-out contigs, and simple models beside it."""

from collections.abc import Callable
from typing import Any

import numpy as np
from transformers import IntervalStrategy

from gengram.errors import InputError
from gengram.phases import phase
from gengram.training.corpus.store import SPLITS
from gengram.training.pretraining.set_up import Preparation
from gengram.training.pretraining.stages import Stage
from gengram.training.setup import FOLLOW_A_METRIC

HELD_OUT = "validation"
"""The split that a run is measured on; nothing here looks at the test contigs."""


def choose_measure(ready: Preparation, stage: Stage) -> Callable[[Any], dict[str, Any]] | None:
    """Return what measures a model in a stage, in windows of as many bases as a block has; None where nothing does:
    it is not asked for (`eval_bases` 0), or no contig is held out."""
    length = _find_length(ready, stage)
    if length is None:
        return None

    from gengram.training.evaluation.evaluate import evaluate_corpus

    bases = stage.training.eval_bases
    tokens = stage.training.per_device_eval_batch_size * stage.corpus.block_size
    objective = ready.objectives[0]  # The same masks in all stages, to be compared.

    def measure(model: Any) -> dict[str, Any]:
        return evaluate_corpus(
            model, ready.tokenizer, objective, ready.corpus, length=length, bases=bases, batch_tokens=tokens
        )

    return measure


def check_measured(ready: Preparation, stage: Stage) -> None:
    """Refuse a learning rate that follows the loss on held-out contigs where that is not measured.

    Raises:
        `InputError`: naming the stage.
    """
    kind, arguments = stage.training.lr_scheduler_type, stage.training
    if kind not in FOLLOW_A_METRIC:
        return
    if _find_length(ready, stage) is None or arguments.eval_strategy == IntervalStrategy.NO:
        raise InputError(
            f"stage {stage.number}: lr_scheduler_type={getattr(kind, 'value', kind)} follows the loss on held-out "
            "contigs, and that is not measured: hold out contigs of the corpus, leave eval_bases and eval_strategy as "
            "they are, or take another schedule"
        )


@phase("Measuring simple models")
def measure_simple(ready: Preparation) -> dict[str, Any] | None:
    """Return what Markov models and compressors need for the bases that the last stage is measured on, see
    `measure_references`; None where the model is not measured."""
    stage = ready.stages[-1]
    length = _find_length(ready, stage)
    if length is None:
        return None

    from gengram.training.evaluation.held_out import choose_windows
    from gengram.training.evaluation.references import measure_references

    return measure_references(ready.corpus, choose_windows(ready.corpus, length, stage.training.eval_bases, HELD_OUT))


def _find_length(ready: Preparation, stage: Stage) -> int | None:
    """The bases of the windows that a stage is measured in; None where it is not."""
    held_out = np.asarray(ready.corpus.segments.split) == SPLITS.index(HELD_OUT)
    if stage.training.eval_bases == 0 or not held_out.any():
        return None
    length = ready.blocks[stage.number - 1].source.drawing.length
    assert length is not None  # It is fitted to the block.
    return length


__all__ = ["HELD_OUT", "check_measured", "choose_measure", "measure_simple"]
