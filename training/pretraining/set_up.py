"""From a model and the arguments of a stage to its Trainer."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from transformers import (
    IntervalStrategy,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
)

from gengram.errors import InputError
from gengram.loading.faults import tell_faults
from gengram.progress import is_quiet, is_watched
from gengram.training.checkpoints import CheckpointSeal
from gengram.training.corpus.blocks import Blocks
from gengram.training.corpus.store import Corpus
from gengram.training.corpus.windows import Drawing
from gengram.training.objectives.build import PAIR_OPTIONS, Objective, build_objective
from gengram.training.objectives.next_sentence import PairBlocks
from gengram.training.pretraining.arguments import CorpusArguments, PretrainModelArguments
from gengram.training.pretraining.batches import BlockBatches, CountingCollator
from gengram.training.pretraining.limits import RunLimits
from gengram.training.pretraining.logs import RunLog
from gengram.training.pretraining.losses import PretrainLoss
from gengram.training.pretraining.shared_blocks import SharedBlocks
from gengram.training.pretraining.stages import Stage
from gengram.training.pretraining.trainer import BlockTrainer
from gengram.training.setup import check_optimizer

PAIRS = "next_sentence"
_SEEDS = 1 << 32  # more than there are


class Preparation(NamedTuple):
    """What is known of a run before there are weights.

    Attributes:
        model: the arguments, with the folder of a run's model in place of the run.
        tokenizer: its `model_max_length` is the longest input of the final model.
        configs: of the model, one a stage.
        task: which head, see `choose_task`.
        corpus: that is read.
        stages: see `read_stages`.
        blocks: of each stage.
        objectives: of each stage, make batches of its blocks.
    """

    model: PretrainModelArguments
    tokenizer: PreTrainedTokenizerBase
    configs: list[PreTrainedConfig]
    task: str
    corpus: Corpus
    stages: list[Stage]
    blocks: list[Blocks | PairBlocks]
    objectives: list[Objective]


def open_blocks(
    model: PretrainModelArguments, corpus: Corpus, tokenizer: PreTrainedTokenizerBase, stage: Stage
) -> tuple[Blocks | PairBlocks, Objective]:
    """Return the training blocks of a stage, and what makes batches of them.

    Raises:
        `InputError`: they are longer than every stretch of the corpus, an objective or an option that there is not, or
            what does not go together.
    """
    options = dict(model.objective_options) if isinstance(model.objective_options, dict) else {}
    of_pairs = {name: options.pop(name) for name in PAIR_OPTIONS if name in options and model.objective == PAIRS}
    # Blocks of all stages are numbered from 0: other masks need another seed.
    seed = stage.training.seed + (stage.number - 1) * _SEEDS
    objective = build_objective(model.objective, tokenizer, seed, **options)
    arguments: CorpusArguments = stage.corpus
    drawing = Drawing(
        length=arguments.window,
        strand=arguments.strand,
        order=arguments.order,
        stride=arguments.stride,
        max_n=arguments.max_n,
        haplotype_share=arguments.haplotype_share,
        groups=arguments.groups if isinstance(arguments.groups, dict) else None,
        whole_short=arguments.pack,
    )
    place = (corpus, tokenizer, arguments.block_size, stage.blocks, drawing, stage.training.seed, stage.number)
    if model.objective != PAIRS:
        return Blocks(*place, packed=arguments.pack), objective
    if arguments.pack:
        raise InputError("pairs for next_sentence fill a block: leave pack out")
    with tell_faults("objective_options"):
        return PairBlocks(*place, **of_pairs), objective


def make_trainer(
    model: PreTrainedModel,
    ready: Preparation,
    stage: Stage,
    log: RunLog,
    limits: RunLimits,
    folder: Path,
    measure: Callable[[Any], dict[str, Any]] | None,
    callbacks: Sequence[TrainerCallback] = (),
) -> BlockTrainer:
    """Return the Trainer of a stage.

    Args:
        model: as the stage begins.
        ready: the run.
        stage: of it.
        log, limits: of it.
        folder: for its checkpoints.
        measure: what an evaluation measures; None: nothing.
        callbacks: that come behind the seal of a checkpoint.

    Raises:
        `InputError`: arguments that Trainer cannot work with.
    """
    arguments = copy.copy(stage.training)
    arguments.output_dir = str(folder)
    arguments.label_names = ["labels"]
    arguments.remove_unused_columns = False
    arguments.push_to_hub = False  # Trainer's own has another card, and pickles.
    if arguments.device.type == "cpu":
        arguments.dataloader_pin_memory = False  # There is no device to copy to, only a warning for each loader.
    if measure is None:
        arguments.eval_strategy = IntervalStrategy.NO
    check_optimizer(arguments, model)
    shows_bar = is_watched() and not is_quiet()
    if not shows_bar:
        arguments.disable_tqdm = True
    batches = BlockBatches(
        stage.steps,
        arguments.blocks_per_step,
        accumulation=arguments.gradient_accumulation_steps,
        processes=arguments.world_size // arguments.context_parallel,
        process=arguments.process_index // arguments.context_parallel,
    )
    config: Any = model.config.get_text_config()
    balance = float(getattr(config, "router_aux_loss_coef", 0.0) or 0.0) if ready.task == "causal_lm" else 0.0
    if not hasattr(config, "output_router_logits"):
        balance = 0.0
    blocks = ready.blocks[stage.number - 1]
    shared = None
    if arguments.context_parallel > 1:
        shared = SharedBlocks(model, arguments.context_parallel, stage.corpus.block_size)
    with tell_faults("the training cannot be set up with these arguments"):
        trainer = BlockTrainer(
            model=model,
            args=arguments,
            data_collator=CountingCollator(ready.objectives[stage.number - 1], ready.tokenizer),
            train_dataset=blocks,
            eval_dataset=blocks if measure is not None else None,  # It is not read: `measure` has its own windows.
            processing_class=ready.tokenizer,
            batches=batches,
            loss=PretrainLoss(ready.task == "causal_lm", balance, shifted=shared is not None),
            shared=shared,
            log=log,
            measure=measure,
            callbacks=[limits, CheckpointSeal(), *callbacks, log],
        )
    trainer.pop_callback(PrinterCallback)  # It prints dictionaries, to standard output.
    log.shows_lines = not shows_bar
    return trainer


__all__ = ["Preparation", "make_trainer", "open_blocks"]
