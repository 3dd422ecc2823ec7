"""Train a language model on blocks of a corpus, stage by stage: the work of `gengram pretrain`."""

import dataclasses
import math
import os
import shutil
import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from safetensors import safe_open
from transformers import PreTrainedConfig

from gengram.errors import InputError, suggest
from gengram.files import sync, tell_write_faults, write_json, write_text
from gengram.loading.checkpoints import find_model
from gengram.loading.configurations import measure_capacity
from gengram.loading.folders import read_object
from gengram.loading.models import check_finite
from gengram.phases import phase
from gengram.progress import tell
from gengram.training.checkpoints import TRAINED, check_names, clear_unusable, find_checkpoint, is_trained, mark_trained
from gengram.training.corpus.store import open_corpus
from gengram.training.objectives.build import SETTINGS
from gengram.training.pretraining.arguments import CorpusArguments, PretrainModelArguments
from gengram.training.pretraining.curves import RunCurves, find_references
from gengram.training.pretraining.limits import RunLimits
from gengram.training.pretraining.logs import COUNTS_FILE, LOG, RunLog, read_log, read_seconds
from gengram.training.pretraining.measure import check_measured, choose_measure, measure_simple
from gengram.training.pretraining.model import (
    build_model,
    change_config,
    check_sizes,
    choose_task,
    make_config,
    make_tokenizer,
)
from gengram.training.pretraining.progress import (
    MARKDOWN,
    MODEL,
    REPORT,
    check_output,
    clear_if_nothing,
    clear_run,
    name_stage,
)
from gengram.training.pretraining.publishing import CheckpointPush, check_publishing, publish_model
from gengram.training.pretraining.report import describe_run, describe_what, write_markdown
from gengram.training.pretraining.set_up import Preparation, make_trainer, open_blocks
from gengram.training.pretraining.shared_blocks import check_shared
from gengram.training.pretraining.stages import Stage, check_lengths, read_stages
from gengram.training.pretraining.trainer import BlockTrainer
from gengram.training.pretraining.trainer_arguments import PretrainArguments
from gengram.training.resume import UNFINISHED, begin_run, check_same_run
from gengram.training.trainer import run_training


def prepare(
    model_arguments: PretrainModelArguments, corpus_arguments: CorpusArguments, training_arguments: PretrainArguments
) -> Preparation:
    """Read and check everything that a run needs besides the weights; nothing is written.

    Raises:
        `InputError`: a corpus that cannot be read, a configuration, tokenizer, objective or stages that do not fit
            each other.
    """
    if model_arguments.objective not in SETTINGS:
        known = ", ".join(SETTINGS)
        raise InputError(
            f"objective={model_arguments.objective!r}: choose {known}{suggest(model_arguments.objective, SETTINGS)}"
        )
    stages = read_stages(model_arguments, corpus_arguments, training_arguments)
    if model_arguments.model_name_or_path is not None:
        found = find_model(model_arguments.model_name_or_path)
        model_arguments = dataclasses.replace(model_arguments, model_name_or_path=found)
    corpus = open_corpus(corpus_arguments.corpus)
    with phase("Loading tokenizer and configuration"):
        tokenizer = make_tokenizer(model_arguments)
        config = make_config(model_arguments, tokenizer)
    task = choose_task(config, model_arguments.objective)
    configs = []
    for stage in stages:
        config = change_config(config, stage.rope_theta, stage.max_position_embeddings)
        configs.append(config)
        check_lengths(stage, config, tokenizer)
    check_sizes(configs, task)
    tokenizer.model_max_length = measure_capacity(config, tokenizer)
    read = [open_blocks(model_arguments, corpus, tokenizer, stage) for stage in stages]
    blocks, objectives = [blocks for blocks, _ in read], [objective for _, objective in read]
    ready = Preparation(model_arguments, tokenizer, configs, task, corpus, stages, blocks, objectives)
    for stage in stages:
        check_measured(ready, stage)
    return ready


def pretrain(
    model_arguments: PretrainModelArguments, corpus_arguments: CorpusArguments, training_arguments: PretrainArguments
) -> dict[str, Any]:
    """Train a model on a corpus, save it in `output_dir` with `pretraining.json`, and return the report.

    Which blocks a step reads follows from the corpus, the arguments and the seed alone: a run that was killed and goes
    on reads what it would have read, on any number of processes.

    Args:
        model_arguments: which model, and what it learns.
        corpus_arguments: what it reads.
        training_arguments: how, in which stages, and where to.

    Returns:
        `dict`, the content of `pretraining.json`, see `describe_run`; or, of a run that a limit has stopped before its
        end, `stopped`: `reason`, `stage`, `step`, `steps` and `message`.

    Raises:
        `InputError`: whatever the user can mend. No model is left half-written. Complete checkpoints stay, with
            `unfinished.json` beside them: the run can be resumed.
    """
    output = Path(training_arguments.output_dir)
    is_main = training_arguments.process_index == 0
    resume = bool(training_arguments.resume_from_checkpoint)
    check_publishing(training_arguments)
    check_output(output, overwrite=training_arguments.overwrite, resume=resume)
    limits = RunLimits(training_arguments.max_hours)
    with limits.listening():
        ready = prepare(model_arguments, corpus_arguments, training_arguments)
        _check_shared(ready, training_arguments)
        run = describe_what(ready.model, ready.configs[0], ready.corpus, ready.stages, training_arguments)
        if resume:
            check_same_run(output, run, REPORT)
            if (output / REPORT).is_file():
                if is_main:
                    (output / UNFINISHED).unlink(missing_ok=True)
                return read_object(output / REPORT)
        training_arguments.distributed_state.wait_for_everyone()  # All have seen the folder as it was.
        if is_main:
            if not resume:
                clear_run(output)
            begin_run(output, run)
        training_arguments.distributed_state.wait_for_everyone()
        try:
            start: Path | None = None
            for stage, config in zip(ready.stages, ready.configs):
                pushes = training_arguments.push_checkpoints
                pushing = [CheckpointPush(training_arguments, run, stage.number)] if pushes else []
                stopped = _train_stage(ready, stage, config, start, limits, output, resume, pushing)
                if stopped is not None:
                    return stopped
                start = name_stage(output, stage.number) / MODEL
        except BaseException:
            if is_main:
                clear_if_nothing(output)
            raise
        assert start is not None  # There is a stage.
        simple = find_references(output, partial(measure_simple, ready))
        report = describe_run(run, ready, read_log(output / LOG), simple, _count_parameters(start), read_seconds(start))
        training_arguments.distributed_state.wait_for_everyone()
        if is_main:
            _finish(report, start, output)
            if training_arguments.push_to_hub:
                report["commit"] = publish_model(output, report, training_arguments)
    training_arguments.distributed_state.wait_for_everyone()
    return report


def _check_shared(ready: Preparation, arguments: PretrainArguments) -> None:
    """Refuse blocks that processes cannot share."""
    if arguments.context_parallel == 1:
        return
    for stage, config in zip(ready.stages, ready.configs):
        if ready.task != "causal_lm" or stage.corpus.pack:
            raise InputError("context_parallel: blocks of a causal model, of one document each, can be shared")
        check_shared(config, arguments.context_parallel, stage.corpus.block_size, arguments.world_size)


def _train_stage(
    ready: Preparation,
    stage: Stage,
    config: PreTrainedConfig,
    start: Path | None,
    limits: RunLimits,
    output: Path,
    resume: bool,
    callbacks: list[CheckpointPush],
) -> dict[str, Any] | None:
    """Train one stage and leave its model in `model`; what stopped it before, if something did."""
    folder, arguments = name_stage(output, stage.number), stage.training
    is_main, wait = arguments.process_index == 0, arguments.distributed_state.wait_for_everyone
    if resume and is_trained(folder / MODEL):
        return None
    if is_main:
        clear_unusable(folder)
        shutil.rmtree(folder / MODEL, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
    wait()
    checkpoint = find_checkpoint(folder)
    with phase("Building the model"):
        model = build_model(ready.model, config, ready.task, arguments.seed, start)
    if checkpoint is not None:
        check_names(checkpoint, model)
    log = RunLog(output / LOG, stage.number, len(ready.stages), is_main=is_main)
    log.begin(checkpoint or start)
    trainer = make_trainer(model, ready, stage, log, limits, folder, choose_measure(ready, stage), callbacks)
    if trainer.measure is not None:
        trainer.add_callback(RunCurves(output, partial(measure_simple, ready)))
    if is_main and len(ready.stages) > 1:
        tell(f"stage {stage.number} of {len(ready.stages)}: {stage.tokens:,} tokens in {stage.steps:,} steps")
    run_training(trainer, checkpoint, "blocks")
    step = trainer.state.global_step
    if limits.reason is not None and step < stage.steps:
        return _tell_stopped(limits, stage, step, len(ready.stages), output)
    if trainer.measure is not None and not _is_measured(output / LOG, stage.number, step):
        trainer.evaluate()
    _save(trainer, log, folder / MODEL)
    wait()
    if stage.number < len(ready.stages) and limits.check(arguments.device):
        return _tell_stopped(limits, stage, step, len(ready.stages), output)
    return None


@phase("Saving models")
def _save(trainer: BlockTrainer, log: RunLog, folder: Path) -> None:
    """Write the model of a stage, and the note that it is whole."""
    check_finite(trainer.model, f"step {trainer.state.global_step}")
    with tell_write_faults(folder):
        trainer.save_model(str(folder))
        trainer.accelerator.wait_for_everyone()
        if trainer.is_world_process_zero():
            # A pickle with the paths of this machine; pretraining.json says the same.
            (folder / "training_args.bin").unlink(missing_ok=True)
            log.keep(folder)
            sync(folder)
            mark_trained(folder)


def _finish(report: dict[str, Any], model: Path, output: Path) -> None:
    """Move the last stage's model to its place; the report comes last and says that all is there."""
    with tell_write_faults(output):
        for path in sorted(model.iterdir()):
            if path.name not in (TRAINED, COUNTS_FILE):  # what only a run that goes on reads
                os.replace(path, output / path.name)
        shutil.rmtree(model)
        write_text(write_markdown(report), output / MARKDOWN)
        write_json(report, output / REPORT)
    (output / UNFINISHED).unlink(missing_ok=True)


def _count_parameters(folder: Path) -> int:
    """Of a saved model; tied weights are there once."""
    total = 0
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as weights:
            names = weights.keys()
            total += sum(math.prod(weights.get_slice(name).get_shape()) for name in names)
    return total


def _is_measured(log: Path, stage: int, step: int) -> bool:
    """Whether the model of this step is measured; the log is the main process's, and lies where all can read it."""
    return any(
        line["stage"] == stage and line["step"] == step and any(name.startswith("eval_") for name in line)
        for line in read_log(log)
    )


def _tell_stopped(limits: RunLimits, stage: Stage, step: int, stages: int, output: Path) -> dict[str, Any]:
    place = f"stage {stage.number} of {stages}, " if stages > 1 else ""
    message = (
        f"stopped by {limits.reason} at {place}step {step:,} of {stage.steps:,}; a checkpoint is in "
        f"{name_stage(output, stage.number)}. Go on with the same command and --resume_from_checkpoint"
    )
    return {
        "stopped": {
            "reason": limits.reason,
            "stage": stage.number,
            "step": step,
            "steps": stage.steps,
            "message": message,
        }
    }


__all__ = ["prepare", "pretrain"]

if __name__ == "__main__":  # torchrun and accelerate launch start modules: -m gengram.training.pretraining.pretrain
    sys.exit(import_module("gengram.training.pretraining.command").pretrain())
